"""Builds a session object from the events of its session alone.

`fold` has no side effects. The session that a call returns with `return_session=True`, and the one
that a store loads, are both its result, so they are always the same. Events that this version of
lllm can't read are skipped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lllm.events import codec, model
from lllm.events.envelope import Recorded
from lllm.events.model import Content, Event
from lllm.events.values.json_values import from_plain
from lllm.projections.session.call_session import (
    AgentCallSession,
    InvokeTrace,
    TacticCallSession,
    ToolInterrupt,
)
from lllm.projections.session.invoke_cost import InvokeCost, dollars

ReadValue = Callable[[object], object]


def fold(
    events: Iterable[Recorded], session_id: str, read_value: ReadValue = from_plain
) -> TacticCallSession | None:
    """Build a session, with those below it, from its events.

    Args:
        events: The events in the order of the log; those of other sessions, and definitions of
            other agents, are ignored.
        session_id: The id of the session.
        read_value: A function that converts the recorded JSON of tasks, deliveries and other values
            of the user.

    Returns:
        The session; None if there is no event of its start.
    """
    decoded = ((event, codec.decode(event)) for event in events)
    return fold_decoded(decoded, session_id, read_value)


def fold_decoded(
    events: Iterable[tuple[Recorded, Event]], session_id: str, read_value: ReadValue = from_plain
) -> TacticCallSession | None:
    """Build a session from events whose payloads are decoded already; see `fold`.

    Args:
        events: The events in the order of the log, each with its payload.
        session_id: The id of the session.
        read_value: As in `fold`.

    Returns:
        The session; None if there is no event of its start.
    """
    folds: dict[str, _Fold] = {}
    children: list[tuple[str, _Fold]] = []
    for event, payload in events:
        one = folds.get(event.stream)
        if isinstance(payload, model.SessionStarted):
            if one is not None or event.seq != 1:
                continue  # a second start of the same session is ignored
            folds[event.stream] = _Fold(event, payload, read_value)
            if payload.ancestors:
                children.append((payload.ancestors[-1].session_id, folds[event.stream]))
        elif isinstance(payload, model.SessionInterrupted):
            if payload.about in folds:
                folds[payload.about].interrupted = True
        elif one is not None:
            one.take(event, payload)
    _nest(folds, children)
    for one in folds.values():
        one.close()
    return folds[session_id].session if session_id in folds else None


def _nest(folds: Mapping[str, _Fold], children: Iterable[tuple[str, _Fold]]) -> None:
    """Put each session into its parent."""
    above: dict[str, str] = {}
    for parent, child in children:
        session = child.session
        if parent in folds and not _is_above(session.session_id, parent, above):
            above[session.session_id] = parent
            siblings = folds[parent].session.sub_tactic_sessions
            siblings.setdefault(session.tactic_name, []).append(session)


def _is_above(session_id: str, other: str | None, above: Mapping[str, str]) -> bool:
    """True if two sessions are the same, or the first is an ancestor of the second."""
    while other is not None and other != session_id:
        other = above.get(other)
    return other is not None


class _Fold:
    """Builds one session, event by event."""

    def __init__(
        self, event: Recorded, started: model.SessionStarted, read_value: ReadValue
    ) -> None:
        self._read = read_value
        self.session = TacticCallSession(
            session_id=event.stream,
            tactic_name=started.name,
            tactic_path=started.tactic_path,
            task=read_value(started.task),
            options=read_value(started.options),
            metadata=read_value(started.metadata),
            partition=started.partition,
            started=event.time,
        )
        self.interrupted = False
        self._seq = event.seq
        self._calls: dict[int, AgentCallSession] = {}
        self._traces: dict[int, InvokeTrace] = {}
        # by the number of the request
        self._steps: dict[int, tuple[AgentCallSession | None, int]] = {}
        self._tools: dict[int, ToolInterrupt] = {}
        self._answers: dict[int, Content] = {}

    def take(self, event: Recorded, payload: Event) -> None:
        if event.seq > self._seq:
            self.session.missing_events += event.seq - self._seq - 1
            self._seq = event.seq
        handle = _HANDLERS.get(type(payload))
        if handle is not None:
            handle(self, event, payload)
        elif isinstance(payload, model.Unknown):
            self.session.unknown_events += 1

    def close(self) -> None:
        if self.session.state != "running" or not self.interrupted:
            return
        self.session.state = "interrupted"
        for call in self._calls.values():
            if call.state == "running":
                call.state = "interrupted"

    def _succeeded(self, _: Recorded, payload: model.SessionSucceeded) -> None:
        self.session.state = "success"
        self.session.delivery = self._read(payload.delivery)
        self.session.elapsed = payload.elapsed

    def _failed(self, _: Recorded, payload: model.SessionFailed) -> None:
        self.session.state = "failure"
        self.session.error = payload.error
        self.session.cancelled = payload.cancelled
        self.session.delivery = self._read(payload.delivery)
        self.session.elapsed = payload.elapsed

    def _agent_started(self, event: Recorded, payload: model.AgentStarted) -> None:
        call = AgentCallSession(
            agent_name=payload.agent,
            call=payload.call,
            dialog=payload.dialog,
            definition=payload.definition,
            started=event.time,
        )
        self._calls[payload.call] = call
        self.session.agent_sessions.setdefault(payload.agent, []).append(call)

    def _agent_succeeded(self, _: Recorded, payload: model.AgentSucceeded) -> None:
        call = self._calls.get(payload.call)
        if call is not None:
            answer = self._answers.get(payload.answer)
            text = answer.text if answer else None
            call.state = "success"
            call.delivery = text if payload.parsed is None else self._read(payload.parsed)
            call.elapsed = payload.elapsed

    def _agent_failed(self, _: Recorded, payload: model.AgentFailed) -> None:
        call = self._calls.get(payload.call)
        if call is not None:
            call.state = "failure"
            call.error = payload.error
            call.elapsed = payload.elapsed

    def _requested(self, event: Recorded, payload: model.LLMRequested) -> None:
        call = self._calls.get(payload.call) if payload.call is not None else None
        trace = InvokeTrace(
            request=payload.request,
            step=payload.step,
            attempt=payload.attempt,
            provider=payload.provider,
            asked=payload.model,
            started=event.time,
        )
        self._traces[payload.request] = trace
        self._steps[payload.request] = (call, payload.step)
        if call is None:
            self.session.invoke_traces.append(trace)
        else:
            call.invoke_traces.setdefault(payload.step, []).append(trace)

    def _responded(self, _: Recorded, payload: model.LLMResponded) -> None:
        self._answers[payload.message] = payload.content
        trace = self._traces.get(payload.request)
        if trace is not None:
            trace.state = "success"
            trace.model = payload.model
            trace.content = payload.content
            trace.finish = payload.finish
            trace.first_token = payload.first_token
            _bill(trace, payload)

    def _request_failed(self, _: Recorded, payload: model.LLMFailed) -> None:
        trace = self._traces.get(payload.request)
        if trace is not None:
            trace.state = "failure"
            trace.wasted = True
            trace.error = payload.error
            trace.content = payload.partial
            _bill(trace, payload)

    def _refused(self, _: Recorded, payload: model.LLMRefused) -> None:
        trace = self._traces.get(payload.request)
        if trace is not None:
            trace.wasted = True

    def _tool_called(self, event: Recorded, payload: model.ToolCalled) -> None:
        tool = ToolInterrupt(
            tool=payload.tool,
            id=payload.call_id,
            name=payload.name,
            arguments=self._read(payload.arguments),
            started=event.time,
        )
        self._tools[payload.tool] = tool
        call, step = self._steps.get(payload.request, (None, 0))
        if payload.request not in self._steps:
            self.session.interrupts.append(tool)
        elif call is not None:
            call.interrupts.setdefault(step, []).append(tool)

    def _tool_ended(self, _: Recorded, payload: model.ToolReturned | model.ToolFailed) -> None:
        tool = self._tools.get(payload.tool)
        if tool is None:
            return
        tool.told = payload.content.text
        tool.elapsed = payload.elapsed
        if isinstance(payload, model.ToolFailed):
            tool.state = "failure"
            tool.error = payload.error
        else:
            tool.state = "success"
            tool.value = self._read(payload.value)
            tool.repeats = payload.repeats

    def _retried(self, _: Recorded, payload: model.RetryScheduled) -> None:
        call, step = self._steps.get(payload.request, (None, 0))
        if call is not None:
            retries = call.exception_retries if payload.kind == "exception" else call.llm_recalls
            retries.setdefault(step, []).append(payload.reason)


def _bill(trace: InvokeTrace, payload: model.LLMResponded | model.LLMFailed) -> None:
    trace.usage = payload.usage
    trace.usage_raw = payload.usage_raw
    trace.cost = InvokeCost.of(payload.usage, payload.price)
    trace.elapsed = payload.elapsed
    if payload.price is not None:
        trace.price = payload.price.status
        trace.price_source = payload.price.source
        trace.price_version = payload.price.source_version
        trace.price_effective = payload.price.effective
        trace.price_reason = payload.price.reason
        trace.rates = payload.price.rates
        trace.parts = payload.price.parts
        recorded = payload.price.recorded
        trace.recorded_cost = None if recorded is None else dollars(recorded)


_HANDLERS: dict[type, Callable[..., None]] = {
    model.SessionSucceeded: _Fold._succeeded,
    model.SessionFailed: _Fold._failed,
    model.AgentStarted: _Fold._agent_started,
    model.AgentSucceeded: _Fold._agent_succeeded,
    model.AgentFailed: _Fold._agent_failed,
    model.LLMRequested: _Fold._requested,
    model.LLMResponded: _Fold._responded,
    model.LLMFailed: _Fold._request_failed,
    model.LLMRefused: _Fold._refused,
    model.ToolCalled: _Fold._tool_called,
    model.ToolReturned: _Fold._tool_ended,
    model.ToolFailed: _Fold._tool_ended,
    model.RetryScheduled: _Fold._retried,
}
