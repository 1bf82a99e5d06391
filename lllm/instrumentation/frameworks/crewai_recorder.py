"""Records the crews, flows and agents of CrewAI by the events that they emit.

Each crew, each flow of the user's, and each task is a session, a task's below its crew's. An agent
that works on a task is an agent of the task's session; one that is started alone has a session.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from lllm.events.errors import InvokeError
from lllm.events.model import ToolCall
from lllm.instrumentation.frameworks.crewai_messages import (
    answer_of,
    biller_of,
    delivery_of,
    request_of,
    tool_message,
)
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import (
    FrameworkSession,
    ObservedAgent,
    ObservedTool,
)
from lllm.instrumentation.frameworks.observed_call import ObservedCall, observed
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.invokers.dialects.provider_json import mapping
from lllm.sessions.current_session import current_tool
from lllm.sessions.session import SessionScope

_API = "crewai"
_LONGEST_NAME = 40  # characters of a task's description that name it if it has no name


class CrewEvent(Protocol):
    """An event of CrewAI, with its place in the tree of events."""

    @property
    def type(self) -> str:
        """Its kind, such as "task_started"."""

    @property
    def event_id(self) -> str:
        """Its id."""

    @property
    def parent_event_id(self) -> str | None:
        """The id of the event that began what it is inside of."""

    @property
    def started_event_id(self) -> str | None:
        """The id of the event that began what it ends; None if it ends nothing."""


class _Work:
    """Something that an event has begun.

    Attributes:
        above: The work around it; None for the outermost.
        session: The session that it is recorded in; None if it is not recorded.
        owns_session: True if the session ends with it.
        agent: The agent that model calls inside belong to; None outside of agents.
        owns_agent: True if the agent ends with it.
        wanted: The tool calls that the agent's model has asked for and that have not begun.
        call: The model call; None if it is none.
        tool: The tool call; None if it is none.
        outer_tool: The number of the tool that was running when a tool began; None for none.
        crew: The name of the crew around it; "" outside of crews.
        began: When it began, as `time.perf_counter_ns` counts.
        first_token: Nanoseconds until the first token of a stream; None while there is none.
    """

    def __init__(self, above: _Work | None) -> None:
        self.above = above
        self.session: FrameworkSession | None = None if above is None else above.session
        self.owns_session = False
        self.agent: ObservedAgent | None = None if above is None else above.agent
        self.owns_agent = False
        self.wanted: list[ToolCall] = [] if above is None else above.wanted
        self.call: ObservedCall | None = None
        self.tool: ObservedTool | None = None
        self.outer_tool: int | None = None
        self.crew: str = "" if above is None else above.crew
        self.began = time.perf_counter_ns()
        self.first_token: int | None = None

    @property
    def scope(self) -> SessionScope | None:
        """The session's scope; None if it is not recorded."""
        return None if self.session is None else self.session.scope


class CrewAIRecorder:
    """Records the events of CrewAI, in the context and in the order in which they are emitted.

    Args:
        host: Begins the sessions.
    """

    def __init__(self, host: FrameworkHost) -> None:
        self.host = host
        self._works: dict[str, _Work] = {}  # by the id of the event that began it
        self._calls: dict[str, _Work] = {}  # by CrewAI's id of the call: it may fail twice
        self._takes: dict[str, Callable[[object, CrewEvent], None]] = {
            "crew_kickoff_started": self._begin_crew,
            "flow_started": self._begin_flow,
            "method_execution_started": self._begin_inside,
            "task_started": self._begin_task,
            "agent_execution_started": self._begin_agent,
            "lite_agent_execution_started": self._begin_agent,
            "llm_call_started": self._begin_call,
            "llm_stream_chunk": self._note_chunk,
            "llm_call_completed": self._answer,
            "llm_call_failed": self._fail,
            "tool_usage_started": self._begin_tool,
            "tool_usage_finished": self._end_tool,
            "tool_usage_error": self._end_tool,
        }
        for ended in (
            "crew_kickoff", "flow", "method_execution", "task", "agent_execution",
            "lite_agent_execution",
        ):  # fmt: skip
            for how in ("completed", "finished", "failed", "error", "paused"):
                self._takes[f"{ended}_{how}"] = self._end

    @property
    def is_idle(self) -> bool:
        """True if nothing that is recorded is in progress."""
        return not (self._works or self._calls)

    def take(self, source: object, event: CrewEvent) -> None:
        """Record an event.

        Args:
            source: The object that emitted it.
            event: The event.

        Raises:
            BudgetExceeded: The budget of the session is spent, and a model is about to be called.
            LogUnavailable: The log can't be written, in a store with `on_error="raise"`.
        """
        found = self._takes.get(event.type)
        if found is None:
            return
        above = self._works.get(event.parent_event_id or "")
        if above is None and not self.host.is_on and event.type.endswith("started"):
            return
        failing = event.type.endswith(("failed", "error"))
        with isolate_recording_errors(None if above is None else above.scope, failing=failing):
            found(source, event)

    def _above(self, event: CrewEvent) -> _Work | None:
        return self._works.get(event.parent_event_id or "")

    # -- crews, flows, tasks and agents

    def _begin_inside(self, _: object, event: CrewEvent) -> None:
        above = self._above(event)
        if above is not None:
            self._works[event.event_id] = _Work(above)

    def _begin_session(self, event: CrewEvent, name: str, task: object) -> _Work | None:
        session = self.host.begin(name, task=task, tags={}, metadata=None)
        if session is None:
            return None
        work = self._works[event.event_id] = _Work(self._above(event))
        work.session, work.owns_session = session, True
        work.agent, work.wanted = None, []
        session.scope.hold()
        session.scope.recorder.commit()
        return work

    def _begin_crew(self, source: object, event: CrewEvent) -> None:
        name = str(getattr(event, "crew_name", None) or getattr(source, "name", None) or "crew")
        work = self._begin_session(event, name, getattr(event, "inputs", None))
        if work is not None:
            work.crew = name

    def _begin_flow(self, source: object, event: CrewEvent) -> None:
        if type(source).__module__.partition(".")[0] == "crewai":
            self._begin_inside(source, event)  # CrewAI runs its agents as flows, too
        else:
            name = str(getattr(event, "flow_name", None) or type(source).__name__)
            self._begin_session(event, name, getattr(event, "inputs", None))

    def _begin_task(self, source: object, event: CrewEvent) -> None:
        above = self._above(event)
        description = str(getattr(source, "description", "") or "")
        named = getattr(source, "name", None) or description[:_LONGEST_NAME].strip() or "task"
        crew = "" if above is None else above.crew
        self._begin_session(event, f"{crew}::{named}" if crew else str(named), description)

    def _begin_agent(self, source: object, event: CrewEvent) -> None:
        facts = mapping(getattr(event, "agent_info", None))
        agent = getattr(event, "agent", None) or source
        role = str(facts.get("role") or getattr(agent, "role", "agent")).strip()
        above = self._above(event)
        if above is None:
            messages = getattr(event, "messages", None) or getattr(event, "task_prompt", None)
            work = self._begin_session(event, role, _last_text(messages))
        else:
            work = self._works[event.event_id] = _Work(above)
        if work is not None and work.session is not None:
            work.agent, work.owns_agent = ObservedAgent(work.session, role), True
            work.wanted = []

    def _end(self, _: object, event: CrewEvent) -> None:
        work = self._works.pop(event.started_event_id or "", None)
        if work is None or work.session is None:
            return
        error = None if event.type.endswith(("completed", "finished", "paused")) else _error(event)
        with isolate_recording_errors(work.scope, failing=error is not None):
            if work.agent is not None and work.owns_agent:
                work.agent.end(error)
            if not work.owns_session:
                work.session.scope.recorder.commit()
                return
            self._forget_inside(work)
            work.session.scope.let_go()
            output = getattr(event, "output", getattr(event, "result", None))
            if error is None and output is not None:
                work.session.scope.recorder.deliver(delivery_of(output))
            work.session.scope.leave(error)

    def _forget_inside(self, work: _Work) -> None:
        """Forget what has no end although the session around it ends."""
        for works in (self._works, self._calls):
            for key, one in list(works.items()):
                if one.session is work.session:
                    works.pop(key, None)

    # -- models

    def _begin_call(self, source: object, event: CrewEvent) -> None:
        above = self._above(event)
        session = self.host.join(_name_of(source)) if above is None else above.session
        if session is None:
            return
        work = _Work(above)
        work.session = session
        work.owns_session = above is None and session.alone
        self._calls[str(getattr(event, "call_id", event.event_id))] = work
        try:
            work.call = session.ask(
                request_of(event), biller_of(source, self.host.provider), api=_API, agent=work.agent
            )
        except BaseException as error:
            self._leave_call(event, work, error)
            raise
        observed.set((*(one for one in observed.get() if not one.is_over), work.call))
        session.scope.recorder.commit()

    def _note_chunk(self, _: object, event: CrewEvent) -> None:
        work = self._calls.get(str(getattr(event, "call_id", "")))
        if work is not None and work.first_token is None:
            work.first_token = time.perf_counter_ns() - work.began

    def _answer(self, _: object, event: CrewEvent) -> None:
        work = self._calls.get(str(getattr(event, "call_id", "")))
        if work is None or work.session is None or work.call is None:
            return
        answer = answer_of(event, work.call.model, work.first_token)
        work.session.answer(work.call, answer, work.agent)
        work.wanted[:] = answer.content.tool_calls
        self._leave_call(event, work, None)

    def _fail(self, _: object, event: CrewEvent) -> None:
        work = self._calls.get(str(getattr(event, "call_id", "")))
        if work is None or work.session is None or work.call is None:
            return
        error = _error(event)
        work.call.failed(error)
        self._leave_call(event, work, error)

    def _leave_call(self, event: CrewEvent, work: _Work, error: BaseException | None) -> None:
        self._calls.pop(str(getattr(event, "call_id", "")), None)
        observed.set(tuple(one for one in observed.get() if not one.is_over))
        if work.session is None:
            return
        if work.owns_session:
            work.session.scope.leave(error)
        else:
            work.session.scope.recorder.commit()

    # -- tools

    def _begin_tool(self, _: object, event: CrewEvent) -> None:
        above = self._above(event)
        session = self.host.joined() if above is None else above.session
        if session is None:
            return
        work = self._works[event.event_id] = _Work(above)
        work.session = session
        name = str(getattr(event, "tool_name", "tool"))
        # The event does not tell which call it is; CrewAI begins them in the order of the answer.
        call = next((one for one in work.wanted if one.name == name), None)
        if call is not None:
            work.wanted.remove(call)
        arguments = getattr(event, "tool_args", None)
        work.tool = session.call_tool(name, None if call is None else call.id, arguments)
        work.outer_tool = current_tool.get()
        session.scope.hold()
        current_tool.set(work.tool.number)
        session.scope.recorder.commit()

    def _end_tool(self, _: object, event: CrewEvent) -> None:
        work = self._works.get(event.started_event_id or "")
        if work is None or work.session is None or work.tool is None:
            return
        self._works.pop(event.started_event_id or "", None)
        if current_tool.get() == work.tool.number:
            current_tool.set(work.outer_tool)
        if event.type == "tool_usage_error":
            work.tool.failed(_error(event))
        else:
            output = getattr(event, "output", None)
            work.tool.returned(tool_message(output, work.tool.call_id))
        work.session.scope.recorder.commit()


def _error(event: CrewEvent) -> BaseException:
    """The exception that is being handled where the event is emitted, else one with its text."""
    told = getattr(event, "error", None)
    if isinstance(told, BaseException):
        return told
    raised = sys.exc_info()[1]
    if raised is not None:
        return raised
    return InvokeError(str(told or "It failed."), retryable=False)


def _name_of(model: object) -> str:
    return "LLM" if type(model).__module__.startswith("crewai.") else type(model).__name__


def _last_text(messages: object) -> object:
    if isinstance(messages, list) and messages:
        return mapping(messages[-1]).get("content")
    return messages
