"""Records the runs of LangChain and LangGraph that its callbacks report.

Each outermost run is a session, and so is an agent that runs inside another one. Nodes of a graph
and agents that call a model are agents of their session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import (
    FrameworkSession,
    ObservedAgent,
    ObservedTool,
)
from lllm.instrumentation.frameworks.langchain_messages import (
    answer_of,
    biller_of,
    readable,
    request_of,
    request_of_text,
    tool_message,
)
from lllm.instrumentation.frameworks.observed_call import ObservedCall, observed
from lllm.instrumentation.frameworks.running_code import (
    generator_of,
    is_async_generator,
    is_awaited,
)
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.instrumentation.request_bodies import CapturedRequest
from lllm.invokers.dialects.provider_json import mapping
from lllm.sessions.current_session import current_tool
from lllm.sessions.session import SessionScope

_API = "langchain"
# Marks that LangChain itself gives to runs; they are no tags of the user's.
_OWN_TAGS = ("seq:step:", "graph:step:", "map:key:", "langsmith:")
_OWN_METADATA = ("ls_", "lc_", "langgraph_", "checkpoint_", "__pregel", "thread_id")
_MODULES = ("langchain", "langgraph")
# Exceptions by which LangGraph leaves a node on purpose: an interrupt, a jump to another graph.
_JUMPS = frozenset({"GraphBubbleUp", "GraphInterrupt", "ParentCommand"})


class _Run:
    """A run of LangChain that has begun.

    Attributes:
        session: The session that it is recorded in; None if it is not recorded.
        is_root: True if the session was begun for this run.
        agent: The agent that model calls inside belong to; None outside of agents.
        owns_agent: True if the agent ends with this run.
        agent_name: LangChain's name of the agent; None outside of LangChain's agents.
        node: The node of the graph; None outside of graphs.
        call: The model call; None if the run is none.
        tool: The tool call; None if the run is none.
        outer_tool: The number of the tool that was running when a tool began; None for none.
        began: When it began, as `time.perf_counter_ns` counts.
        first_token: Nanoseconds until the first token; None while there is none.
    """

    def __init__(self, session: FrameworkSession | None, above: _Run | None) -> None:
        self.session = session
        self.is_root = False
        self.agent: ObservedAgent | None = None if above is None else above.agent
        self.owns_agent = False
        self.agent_name: str | None = None if above is None else above.agent_name
        self.node: str | None = None if above is None else above.node
        self.call: ObservedCall | None = None
        self.tool: ObservedTool | None = None
        self.outer_tool: int | None = None
        self.began = time.perf_counter_ns()
        self.first_token: int | None = None


class Ended(msgspec.Struct, frozen=True):
    """How a session ends: with an error, or None for success."""

    error: BaseException | None


class Unwritten(msgspec.Struct, frozen=True):
    """A session with staged events, and how it ended if it is over."""

    session: FrameworkSession
    ended: Ended | None

    def write(self) -> None:
        """Write the events."""
        if self.ended is None:
            self.session.scope.recorder.commit()
        else:
            self.session.scope.leave(self.ended.error)

    async def awrite(self) -> None:
        """Write the events without blocking the event loop."""
        if self.ended is None:
            await self.session.scope.recorder.acommit()
        else:
            await self.session.scope.aleave(self.ended.error)


class LangChainRecorder:
    """The callback handler that records runs.

    LangChain calls it in the context of the run. On an event loop it stages events, and a
    LangChainCommitter writes them without blocking the loop; elsewhere it writes them itself.

    Args:
        host: Begins the sessions.

    Attributes:
        host: Begins the sessions.
        unwritten: The sessions with staged events, by run; and how a session ended that is over.
    """

    run_inline = True  # in the context of the run, so that its session is current there

    def __init__(self, host: FrameworkHost) -> None:
        self.host = host
        self.unwritten: dict[object, Unwritten] = {}
        self._runs: dict[object, _Run] = {}

    # -- chains: runs of graphs, nodes, agents and everything else that has steps

    def on_chain_start(
        self,
        serialized: Mapping[str, object] | None,
        inputs: object,
        *,
        run_id: object,
        parent_run_id: object = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        name: str | None = None,
        **_: object,
    ) -> None:
        """Begin a run: a session, if it is the outermost one or an agent inside of another."""
        above = self._runs.get(parent_run_id)
        facts = mapping(metadata)
        with isolate_recording_errors(_scope_of(above)):
            if above is not None and not _begins_agent(facts, above):
                run = _Run(above.session, above)
                self._begin_node(run, facts, name)
            else:
                begun = self.host.begin(
                    name or _class_name(serialized), task=readable(inputs),
                    tags=_tags_of(tags, facts), metadata=_metadata_of(facts),
                )  # fmt: skip
                run = _Run(begun, None)
                run.is_root = begun is not None
                self._begin_agent(run, facts)
            self._runs[run_id] = run
            if run.session is not None:
                _hold(run.session)
                if run.is_root:
                    self._write(run_id, run.session)

    def _begin_agent(self, run: _Run, facts: Mapping[str, object]) -> None:
        name = facts.get("lc_agent_name")
        run.agent_name = name if isinstance(name, str) else None
        if run.agent_name and run.session is not None:
            run.agent, run.owns_agent = ObservedAgent(run.session, run.agent_name), True

    def _begin_node(self, run: _Run, facts: Mapping[str, object], name: str | None) -> None:
        """Let a node of a graph be an agent, unless it is inside of one of LangChain's agents."""
        node = facts.get("langgraph_node")
        if run.agent_name or not isinstance(node, str) or run.session is None:
            return
        if node == name and node != run.node:
            run.node = node
            run.agent, run.owns_agent = ObservedAgent(run.session, node), True

    def on_chain_end(self, outputs: object, *, run_id: object, **_: object) -> None:
        """End a run that succeeded."""
        self._end(run_id, None, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: object, **_: object) -> None:
        """End a run that raised."""
        self._end(run_id, error, None)

    def _end(self, run_id: object, error: BaseException | None, outputs: object) -> None:
        run = self._runs.pop(run_id, None)
        if run is None or run.session is None:
            return
        session = run.session
        with isolate_recording_errors(session.scope, failing=error is not None):
            if run.agent is not None and run.owns_agent:
                run.agent.end(None if _is_jump(error) else error)
            if not run.is_root:
                return
            session.scope.let_go()
            if outputs is not None:
                session.scope.recorder.deliver(readable(outputs))
            self._write(run_id, session, Ended(error))

    # -- models

    def on_chat_model_start(
        self,
        serialized: Mapping[str, object],
        messages: Sequence[Sequence[object]],
        *,
        run_id: object,
        parent_run_id: object = None,
        metadata: Mapping[str, object] | None = None,
        invocation_params: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Record that a chat model is asked."""
        facts = mapping(metadata)
        self._ask(
            run_id, parent_run_id, serialized, facts,
            lambda: request_of(messages[0], mapping(invocation_params), facts),
        )  # fmt: skip

    def on_llm_start(
        self,
        serialized: Mapping[str, object],
        prompts: Sequence[str],
        *,
        run_id: object,
        parent_run_id: object = None,
        metadata: Mapping[str, object] | None = None,
        invocation_params: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Record that a model that continues a text is asked."""
        facts = mapping(metadata)
        self._ask(
            run_id, parent_run_id, serialized, facts,
            lambda: request_of_text(prompts[0], mapping(invocation_params), facts),
        )  # fmt: skip

    def _ask(
        self,
        run_id: object,
        parent_run_id: object,
        serialized: Mapping[str, object],
        facts: Mapping[str, object],
        read: Callable[[], CapturedRequest],
    ) -> None:
        above = self._runs.get(parent_run_id)
        with isolate_recording_errors(_scope_of(above)):
            session = self.host.join(_class_name(serialized)) if above is None else above.session
            if session is None:
                return
            run = self._runs[run_id] = _Run(session, above)
            run.is_root = above is None and session.alone
            _hold(session)
            try:
                run.call = session.ask(
                    read(), biller_of(serialized, facts, self.host.provider),
                    api=_API, agent=run.agent,
                )  # fmt: skip
            except BaseException as error:
                self._end(run_id, error, None)
                raise
            observed.set((*(one for one in observed.get() if not one.is_over), run.call))
            self._write(run_id, session)

    def on_llm_new_token(self, token: object, *, run_id: object, **_: object) -> None:  # noqa: ARG002
        """Note when the first token of a stream comes."""
        run = self._runs.get(run_id)
        if run is not None and run.first_token is None:
            run.first_token = time.perf_counter_ns() - run.began

    def on_llm_end(self, response: object, *, run_id: object, **_: object) -> None:
        """Record the answer of a model."""
        run = self._runs.get(run_id)
        if run is None or run.session is None or run.call is None:
            self._runs.pop(run_id, None)
            return
        with isolate_recording_errors(run.session.scope):
            answer = answer_of(_generation_of(response), run.call.model, run.first_token)
            run.session.answer(run.call, answer, run.agent)
        self._leave_call(run_id, run, None)

    def on_llm_error(
        self, error: BaseException, *, run_id: object, response: object = None, **_: object
    ) -> None:
        """Record that a model failed."""
        run = self._runs.get(run_id)
        if run is None or run.session is None or run.call is None:
            self._runs.pop(run_id, None)
            return
        with isolate_recording_errors(run.session.scope, failing=True):
            partial = None
            if run.first_token is not None:
                partial = answer_of(_generation_of(response), run.call.model, None).content
            run.call.failed(error, partial)
        self._leave_call(run_id, run, error)

    def _leave_call(self, run_id: object, run: _Run, error: BaseException | None) -> None:
        call, session = run.call, run.session
        observed.set(tuple(one for one in observed.get() if one is not call and not one.is_over))
        if run.is_root:
            self._end(run_id, error, None)
        elif session is not None:
            self._runs.pop(run_id, None)
            with isolate_recording_errors(session.scope, failing=error is not None):
                self._write(run_id, session)

    # -- tools

    def on_tool_start(
        self,
        serialized: Mapping[str, object] | None,
        input_str: str,
        *,
        run_id: object,
        parent_run_id: object = None,
        inputs: Mapping[str, object] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        **_: object,
    ) -> None:
        """Record that a tool is about to run."""
        above = self._runs.get(parent_run_id)
        with isolate_recording_errors(_scope_of(above)):
            session = above.session if above is not None else self.host.joined()
            if session is None:
                return
            run = self._runs[run_id] = _Run(session, above)
            called = str(mapping(serialized).get("name") or name or "tool")
            arguments: object = input_str if inputs is None else dict(inputs)
            _hold(session)
            run.tool = session.call_tool(called, tool_call_id, arguments)
            run.outer_tool = current_tool.get()
            current_tool.set(run.tool.number)
            self._write(run_id, session)

    def on_tool_end(self, output: object, *, run_id: object, **_: object) -> None:
        """Record the result of a tool."""
        run = self._left_tool(run_id)
        if run is None or run.tool is None or run.session is None:
            return
        with isolate_recording_errors(run.session.scope):
            run.tool.returned(tool_message(output, run.tool.call_id))
            self._write(run_id, run.session)

    def on_tool_error(self, error: BaseException, *, run_id: object, **_: object) -> None:
        """Record the failure of a tool."""
        run = self._left_tool(run_id)
        if run is None or run.tool is None or run.session is None:
            return
        with isolate_recording_errors(run.session.scope, failing=True):
            run.tool.failed(error)
            self._write(run_id, run.session)

    def _left_tool(self, run_id: object) -> _Run | None:
        run = self._runs.pop(run_id, None)
        if run is not None and run.tool is not None and current_tool.get() == run.tool.number:
            current_tool.set(run.outer_tool)
        return run

    # -- writing

    def _write(self, run_id: object, session: FrameworkSession, ended: Ended | None = None) -> None:
        """Write what is staged; on an event loop, let the committer write it."""
        unwritten = Unwritten(session, ended)
        if is_awaited(_MODULES):
            self.unwritten[run_id] = unwritten
        else:
            unwritten.write()


def _begins_agent(facts: Mapping[str, object], above: _Run) -> bool:
    """True if a run is an agent of LangChain's that runs inside of another run."""
    name = facts.get("lc_agent_name")
    return isinstance(name, str) and bool(name) and name != above.agent_name


def _is_jump(error: BaseException | None) -> bool:
    return any(kind.__name__ in _JUMPS for kind in type(error).__mro__)


def _class_name(serialized: Mapping[str, object] | None) -> str:
    facts = mapping(serialized)
    path = facts.get("id")
    last = path[-1] if isinstance(path, list) and path else None
    return str(facts.get("name") or last or "run")


def _tags_of(tags: Sequence[str] | None, facts: Mapping[str, object]) -> dict[str, str]:
    found = {one: "true" for one in tags or () if not one.startswith(_OWN_TAGS)}
    thread = facts.get("thread_id")
    return found if thread is None else found | {"thread_id": str(thread)}


def _metadata_of(facts: Mapping[str, object]) -> dict[str, object] | None:
    return {key: one for key, one in facts.items() if not key.startswith(_OWN_METADATA)} or None


def _generation_of(response: object) -> object:
    """The first answer in LangChain's result; None if there is none."""
    answers = getattr(response, "generations", None)
    first = answers[0] if isinstance(answers, list) and answers else None
    return first[0] if isinstance(first, list) and first else None


def _scope_of(run: _Run | None) -> SessionScope | None:
    return None if run is None or run.session is None else run.session.scope


def _hold(session: FrameworkSession) -> None:
    """Make the session current for the code of the run.

    If the run is a generator, the user's code runs between its steps, in the same context. While a
    generator waits, its session is not current. Nobody can tell that of an asynchronous generator,
    so there the session is current in the tasks that the run starts, and not in the user's.
    """
    generator = generator_of(_MODULES)
    if generator is None or not is_async_generator(generator):
        session.scope.hold(generator)
