"""Records the runs of the OpenAI Agents SDK that its tracing reports.

Each trace is a session, and so is a run that a tool of another agent makes. The agents of a run,
one after the other by handoffs, are agents of its session. Spans of tasks and turns repeat the
usage of the model calls inside, so they are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Protocol

from lllm.events.errors import InvokeError
from lllm.events.model import Content, ToolCall
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import (
    FrameworkSession,
    ObservedAgent,
    ObservedTool,
)
from lllm.instrumentation.frameworks.observed_call import observed
from lllm.instrumentation.frameworks.openai_agents_messages import (
    answer_of,
    api_of,
    biller_of,
    request_of,
)
from lllm.instrumentation.frameworks.unread_call import UnreadCall
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.invokers.dialects.provider_json import mapping
from lllm.sessions.current_session import current_tool
from lllm.sessions.session import SessionScope

_DEFAULT_NAME = "Agent workflow"  # the SDK's name of a trace that the user gave none


class AgentsTrace(Protocol):
    """A trace of the SDK."""

    @property
    def trace_id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str:
        """The name of the workflow."""


class AgentsSpan(Protocol):
    """A span of the SDK."""

    @property
    def trace_id(self) -> str:
        """The id of its trace."""

    @property
    def span_id(self) -> str:
        """Its id."""

    @property
    def parent_id(self) -> str | None:
        """The id of the span around it."""

    @property
    def span_data(self) -> object:
        """What it is about."""

    @property
    def error(self) -> Mapping[str, object] | None:
        """Its error; None if it has none."""


class _Work:
    """A trace or a span in progress.

    Attributes:
        kind: The kind of the span, such as "agent"; "trace" for a trace.
        above: The work around it; None for a trace.
        session: The session that it is recorded in; None if there is none yet, or none at all.
        owns_session: True if the session ends with it.
        agent: The agent that it belongs to; None outside of agents.
        wanted: The tool calls that an agent's model has asked for and that have not begun.
        model: The model that an agent asked last; "" if none.
        answer: The text of the last answer of an agent.
        call: The model call; None if it is none.
        tool: The tool call; None if it is none.
        outer_tool: The number of the tool that was running when it began; None for none.
        handled: The exception that was being handled when it began, which is not its own.
        error: The exception that a model call inside ended with last; None after an answer.
    """

    def __init__(self, kind: str, above: _Work | None) -> None:
        self.kind = kind
        self.above = above
        self.session: FrameworkSession | None = None if above is None else above.session
        self.owns_session = False
        self.agent: ObservedAgent | None = None if above is None else above.agent
        self.wanted: list[ToolCall] = [] if above is None else above.wanted
        self.model = ""
        self.answer: str | None = None
        self.call: UnreadCall | None = None
        self.tool: ObservedTool | None = None
        self.outer_tool: int | None = None
        self.began = time.perf_counter_ns()
        self.handled = sys.exc_info()[1]

    @property
    def root(self) -> _Work:
        """The trace that it belongs to."""
        return self if self.above is None else self.above.root

    @property
    def raised(self) -> BaseException | None:
        """The exception that ends the work right now; None if it ends well."""
        error = sys.exc_info()[1]
        return None if error is self.handled else error

    @property
    def scope(self) -> SessionScope | None:
        """The session's scope; None if it is not recorded."""
        return None if self.session is None else self.session.scope


class OpenAIAgentsRecorder:
    """The trace processor that records runs.

    The SDK calls it in the context of the run, on its event loop. It logs what a processor raises,
    so an error of lllm never ends a run.

    Args:
        host: Begins the sessions.
    """

    def __init__(self, host: FrameworkHost) -> None:
        self.host = host
        self._traces: dict[str, tuple[AgentsTrace, _Work]] = {}
        self._spans: dict[str, _Work] = {}

    # -- traces

    def on_trace_start(self, trace: AgentsTrace) -> None:
        """Note a trace; its session begins with its first agent."""
        if self.host.is_on:
            self._traces[trace.trace_id] = trace, _Work("trace", None)

    def on_trace_end(self, trace: AgentsTrace) -> None:
        """End the session of a trace."""
        _, work = self._traces.pop(trace.trace_id, (None, None))
        if work is not None:
            for span_id, inner in list(self._spans.items()):  # of a stream that was left
                if inner.root is work:
                    self._spans.pop(span_id, None)
            self._leave(work, work.raised)

    def _leave(self, work: _Work, error: BaseException | None) -> None:
        session = work.session
        if session is None or not work.owns_session:
            return
        with isolate_recording_errors(session.scope, failing=error is not None):
            session.scope.let_go()
            if work.answer is not None and error is None:
                session.scope.recorder.deliver(work.answer)
            session.scope.leave(error)

    # -- spans

    def on_span_start(self, span: AgentsSpan) -> None:
        """Begin an agent, a model call, a tool or a handoff."""
        trace, root = self._traces.get(span.trace_id, (None, None))
        if trace is None or root is None:
            return
        kind = str(getattr(span.span_data, "type", ""))
        above = self._spans.get(span.parent_id or "", root)
        work = self._spans[span.span_id] = _Work(kind, above)
        with isolate_recording_errors(work.scope):
            if kind == "agent":
                self._begin_agent(work, trace, root, span.span_data)
            elif kind in ("response", "generation"):
                self._begin_call(work)
            elif kind == "function":
                self._begin_tool(work, str(getattr(span.span_data, "name", "tool")))
            elif kind == "handoff" and work.wanted:
                self._begin_tool(work, work.wanted[0].name)

    def on_span_end(self, span: AgentsSpan) -> None:
        """End what has begun with the span."""
        work = self._spans.pop(span.span_id, None)
        if work is None:
            return
        error = work.raised
        with isolate_recording_errors(work.scope, failing=error is not None):
            if work.kind == "agent" and work.agent is not None and work.session is not None:
                work.agent.end(error)
                work.session.scope.recorder.commit()
            elif work.call is not None:
                self._end_call(work, work.call, span, error)
            elif work.tool is not None:
                self._end_tool(work, work.tool, span, error)
        if work.kind in ("agent", "task"):
            self._leave(work, error)

    # -- agents

    def _begin_agent(self, work: _Work, trace: AgentsTrace, root: _Work, data: object) -> None:
        name = str(getattr(data, "name", "agent"))
        owner = _owner_of(work) or root
        if owner.session is None or not owner.owns_session:
            named = trace.name if owner is root and trace.name != _DEFAULT_NAME else name
            self._begin_session(owner, named, trace)
        work.wanted = []
        work.session = owner.session
        if owner.session is not None:
            owner.session.scope.hold()
            work.agent = ObservedAgent(owner.session, name)

    def _begin_session(self, owner: _Work, name: str, trace: AgentsTrace) -> None:
        group = getattr(trace, "group_id", None)
        metadata = getattr(trace, "metadata", None)
        session = self.host.begin(
            name, task=None, tags={} if group is None else {"group_id": str(group)},
            metadata=dict(metadata) if isinstance(metadata, Mapping) and metadata else None,
        )  # fmt: skip
        owner.session, owner.owns_session = session, session is not None
        if session is not None:
            session.scope.recorder.commit()

    # -- models

    def _begin_call(self, work: _Work) -> None:
        if work.session is None:
            return
        work.call = UnreadCall(work.session, work.agent)
        observed.set((*(one for one in observed.get() if not one.is_over), work.call))

    def _end_call(
        self, work: _Work, call: UnreadCall, span: AgentsSpan, error: BaseException | None
    ) -> None:
        agent = _agent_work(work)
        data = span.span_data
        asked = request_of(data, agent.model)
        agent.model = asked.model
        made = call.end(asked, biller_of(data, self.host.provider), api=api_of(data))
        observed.set(tuple(one for one in observed.get() if one is not call and not one.is_over))
        session = work.session
        if session is None:
            return
        try:
            answer = None if error is not None else answer_of(data, asked.model)
        except InvokeError as failure:
            error, answer = failure, None
        if answer is None:
            made.failed(error or (_unanswered() if span.error is None else _error_of(span)))
        else:
            session.answer(made, answer, work.agent)
            agent.wanted[:] = answer.content.tool_calls
            _answered(work, answer.content.text)
        session.scope.recorder.commit()

    # -- tools

    def _begin_tool(self, work: _Work, name: str) -> None:
        """Stage a tool call: the first one of this name that the model asked for.

        The SDK does not tell which one it is, and begins them in the order of the answer.
        """
        if work.session is None:
            return
        call = next((one for one in work.wanted if one.name == name), None)
        if call is not None:
            work.wanted.remove(call)
        arguments = None if call is None else _decoded(call.arguments)
        work.tool = work.session.call_tool(name, None if call is None else call.id, arguments)
        work.session.scope.hold()
        work.outer_tool = current_tool.get()
        current_tool.set(work.tool.number)
        work.session.scope.recorder.commit()

    def _end_tool(
        self, work: _Work, tool: ObservedTool, span: AgentsSpan, error: BaseException | None
    ) -> None:
        if current_tool.get() == tool.number:
            current_tool.set(work.outer_tool)
        data = span.span_data
        output = getattr(data, "output", None)
        if error is not None:
            tool.failed(error)
        elif span.error is not None:
            # The SDK has told the model of the error, and may hide it in its traces.
            told = None if output is None else str(output)
            tool.failed(_error_of(span, told), None if told is None else _told(tool, told))
        elif work.kind == "handoff":
            told = json.dumps({"assistant": getattr(data, "to_agent", None)})
            tool.returned(_told(tool, told))
        else:
            tool.returned(_told(tool, "" if output is None else str(output)))
        if work.session is not None:
            work.session.scope.recorder.commit()

    # -- the rest of the SDK's interface

    def shutdown(self) -> None:
        """Do nothing: nothing waits to be written."""

    def force_flush(self) -> None:
        """Do nothing: nothing waits to be written."""


def _owner_of(work: _Work) -> _Work | None:
    """Find the run inside of a tool that an agent belongs to; None for a run that is in none."""
    outermost: _Work | None = None
    one: _Work | None = work
    while one is not None and one.kind != "function":
        outermost = one if one.kind in ("agent", "task") else outermost
        one = one.above
    return None if one is None else outermost


def _agent_work(work: _Work) -> _Work:
    one: _Work | None = work
    while one is not None and one.kind != "agent":
        one = one.above
    return one or work


def _answered(work: _Work, text: str) -> None:
    """Note an answer as what its session delivers so far; that of a guardrail is no delivery."""
    one: _Work | None = work
    while one is not None and not one.owns_session:
        one = None if one.kind == "guardrail" else one.above
    if one is not None:
        one.answer = text


def _error_of(span: AgentsSpan, told: str | None = None) -> BaseException:
    """Make an exception of the error of a span, with the text that the model was told of it."""
    error = mapping(span.error)
    detail = mapping(error.get("data")).get("error")
    return RuntimeError(told or str(detail or error.get("message")))


def _unanswered() -> InvokeError:
    return InvokeError("The call ended without an answer.", retryable=False)


def _told(tool: ObservedTool, text: str) -> Content:
    return Content("tool", Content.of("tool", text).parts, call_id=tool.call_id)


def _decoded(arguments: object) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
