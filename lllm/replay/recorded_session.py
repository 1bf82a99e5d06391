"""Holds a recorded session so that a replay can look up its parts by place, not by time.

The events of a session and of those below it are read once. For each request, only its dialog and
its last message are kept, as in the log, so that memory grows with the number of events alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from lllm.events.envelope import Recorded
from lllm.events.errors import ReplayError
from lllm.events.model import (
    AgentDefined,
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    DialogOpened,
    DrawnKind,
    Event,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Origin,
    Price,
    RetryScheduled,
    SessionEdited,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
    ToolCalled,
    ToolFailed,
    ToolReturned,
    ValueDrawn,
)
from lllm.replay.outcome import first_price
from lllm.replay.recorded_agents import (
    MessageEvent,
    RecordedAttempt,
    RecordedCall,
    RecordedTool,
)
from lllm.replay.recorded_clients import ClientAttempt, ClientCall


@dataclass(eq=False, slots=True)
class _Dialog:
    opened: DialogOpened
    parent: _Dialog | None
    own: list[tuple[int, MessageEvent]] = field(default_factory=list)
    _sorted: bool = False

    def messages(self, upto: int) -> list[tuple[int, MessageEvent]]:
        if not self._sorted:
            self.own.sort(key=_ordinal)  # the log has concurrent tools in the order of their ends
            self._sorted = True
        shared = [] if self.parent is None else self.parent.messages(self.opened.upto or 0)
        return [message for message in (*shared, *self.own) if message[0] <= upto]


def _ordinal(message: tuple[int, MessageEvent]) -> int:
    return message[0]


@dataclass(eq=False, slots=True)
class RecordedValue:
    """A recorded time, id or random number that the code drew, as with `lllm.now()`."""

    drawn: ValueDrawn
    position: int
    """The position of the event in the log."""


@dataclass(eq=False, slots=True)
class SentRequest:
    """One recorded request to a model, with everything that was sent."""

    requested: LLMRequested
    definition: AgentDefined | None
    """The tools and settings that the request shares with others; None if it has none."""
    messages: list[Content]
    """The whole conversation that was sent, oldest first."""


@dataclass(eq=False)
class RecordedSession:
    """One recorded session, with the sessions below it."""

    session_id: str
    started: SessionStarted
    began: int
    """The time of the start in nanoseconds UTC since 1970."""
    end: SessionSucceeded | SessionFailed | None = None
    ended: int | None = None
    """The time of the end in nanoseconds UTC since 1970; None if the session has no end."""
    first: int = 0
    """The position of the session's first event in the log."""
    last: Recorded | None = None
    """The last event of the session; None before any event was read."""
    edits: dict[tuple[int, int, int], SessionEdited] = field(default_factory=dict)
    """The changes that a fork made, by the numbers of the agent call, the step and the attempt."""
    children: list[RecordedSession] = field(default_factory=list)
    calls: dict[tuple[str, str], list[RecordedCall]] = field(default_factory=dict)
    """The agent calls by the agent's name and the dialog's alias, in the order of the calls."""
    parent: RecordedSession | None = None
    """The session that called this one; None if that session is not part of the replay."""
    captured: dict[int, ClientCall] = field(default_factory=dict)
    """The calls of captured clients, which belong to no agent, by the number of their step."""
    tools: dict[int, RecordedTool] = field(default_factory=dict)
    values: dict[tuple[DrawnKind, int | None], list[RecordedValue]] = field(default_factory=dict)
    """The drawn values by kind and by the tool that drew them (None: no tool), in order."""
    calls_in_tool: dict[int, list[RecordedCall]] = field(default_factory=dict)
    """The agent calls that were made within a tool, by the number of the tool."""
    children_in_tool: dict[int, list[RecordedSession]] = field(default_factory=dict)
    """The sessions that began within a tool, by the number of the tool."""
    clients_in_tool: dict[int, list[ClientCall]] = field(default_factory=dict)
    """The calls of captured clients that began while a tool ran, by the number of the tool."""
    _dialogs: dict[int, _Dialog] = field(default_factory=dict)
    _calls: dict[int, RecordedCall] = field(default_factory=dict)
    _requests: dict[int, RecordedAttempt] = field(default_factory=dict)
    _of_clients: dict[int, ClientAttempt] = field(default_factory=dict)
    _open_tools: set[int] = field(default_factory=set)

    @property
    def tactic_path(self) -> str:
        """The stable path of the session's tactic."""
        return self.started.tactic_path

    @property
    def forked(self) -> Origin:
        """The `origin` of a fork that continues this session after its last event."""
        return Origin(self.session_id, "fork", None if self.last is None else self.last.seq)

    @property
    def stopped_by(self) -> RecordedSession | None:
        """The first session below whose error ended this one; None if no such error did."""
        end = self.end
        if not isinstance(end, SessionFailed):
            return None
        for child in self.children:
            failed = child.end
            if isinstance(failed, SessionFailed) and not failed.cancelled:
                error = failed.error
                if (error.type, error.message) == (end.error.type, end.error.message):
                    return child
        return None

    @property
    def may_be_cut_off(self) -> bool:
        """True if another call of the same parent failed, and its error ended the parent.

        The timing of the threads then decides how far this session gets before it is stopped.
        """
        beside = None if self.parent is None else self.parent.stopped_by
        if beside is None or beside is self:
            return False
        return self.ended is None or self.ended > beside.began

    @property
    def is_stopped(self) -> bool:
        """True if the session was cancelled, or its process ended before the session did."""
        return self.end is None or (isinstance(self.end, SessionFailed) and self.end.cancelled)

    def messages(self, requested: LLMRequested) -> list[tuple[int, MessageEvent]]:
        """The messages that a request sent, in order: their numbers, and their events."""
        dialog = self._dialogs.get(requested.dialog or 0)
        return [] if dialog is None else dialog.messages(requested.upto or 0)

    def sent(self, request: int) -> SentRequest | None:
        """Find everything that a request sent.

        Args:
            request: The number of the request in the session.

        Returns:
            The request; None if the session has no request with this number.
        """
        definition: AgentDefined | None
        attempt, of_client = self._requests.get(request), self._of_clients.get(request)
        if attempt is not None:
            requested, definition = attempt.requested, attempt.definition
        elif of_client is not None:
            requested = of_client.requested
            definition = self.captured[requested.step].definition
        else:
            return None
        return SentRequest(
            requested, definition, [event.content for _, event in self.messages(requested)]
        )

    def attempts(self) -> Iterator[RecordedAttempt]:
        """Iterate over all attempts of the session's agents, in their order."""
        return iter(self._requests.values())

    @property
    def message_count(self) -> int:
        """The number of messages in the session's dialogs; a shared one is counted once."""
        return sum(len(dialog.own) for dialog in self._dialogs.values())

    def agent_calls(self) -> Iterator[RecordedCall]:
        """Iterate over all calls of the session's agents, in their order."""
        return iter(self._calls.values())

    def family(self) -> Iterator[RecordedSession]:
        """Iterate over this session and all sessions below it."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += reversed(one.children)

    def prices(self) -> Iterator[Price]:
        """Iterate over the known prices of all attempts in this session and below it."""
        for one in self.family():
            ends = [attempt.end for attempt in one.attempts()]
            ends += [attempt.end for attempt in one._of_clients.values()]
            for end in ends:
                if end is not None and end.price is not None:
                    yield end.price

    # -- reading

    def take(self, event: Recorded, payload: Event, definitions: dict[str, AgentDefined]) -> None:
        """Add the next event of the session.

        Args:
            event: The event as it was recorded.
            payload: The decoded payload of the event.
            definitions: The definitions of agents that were read so far, by their id.

        Raises:
            ReplayError: The event refers to something that the recording does not have.
        """
        self.first = self.first or event.position
        self.last = event
        taking = _TAKING.get(type(payload))
        if isinstance(payload, AgentStarted):
            self._begin_call(event, payload, definitions)
        elif isinstance(payload, LLMRequested) and payload.call is None:
            self._ask_client(event, payload, definitions)
        elif isinstance(payload, LLMRequested):
            self._request(event, payload, definitions)
        elif taking is not None:
            taking(self, event, payload)

    def _ended(self, event: Recorded, end: SessionSucceeded | SessionFailed) -> None:
        self.end, self.ended = end, event.time

    def _opened(self, _: Recorded, opened: DialogOpened) -> None:
        above = self._dialogs.get(opened.parent) if opened.parent is not None else None
        self._dialogs[opened.dialog] = _Dialog(opened, above)

    def _added(self, _: Recorded, added: MessageAdded) -> None:
        self._say(added.dialog, added)

    def _ended_call(self, event: Recorded, end: AgentSucceeded | AgentFailed) -> None:
        call = self._call(end.call)
        call.end, call.ended = end, event.position

    def _edited(self, _: Recorded, edited: SessionEdited) -> None:
        self.edits[edited.call, edited.step, edited.attempt] = edited
        tool = self.tools.get(edited.tool or 0)
        if tool is not None:
            tool.is_edited = True

    def _drawn(self, event: Recorded, drawn: ValueDrawn) -> None:
        value = RecordedValue(drawn, event.position)
        self.values.setdefault((drawn.kind, drawn.tool), []).append(value)

    def _retried(self, _: Recorded, retry: RetryScheduled) -> None:
        attempt = self._requests.get(retry.request)
        if attempt is not None and retry.kind == "llm_recall":
            attempt.retry = retry

    def _called_tool(self, _: Recorded, called: ToolCalled) -> None:
        tool = self.tools[called.tool] = RecordedTool(called)
        self._open_tools.add(called.tool)
        attempt = self._requests.get(called.request)
        if attempt is not None:
            attempt.tools.append(tool)

    def _say(self, dialog: int | None, event: MessageEvent) -> None:
        found = self._dialogs.get(dialog or 0)
        if found is None:
            raise self._broken(f"dialog {dialog} never began")
        found.own.append((event.message, event))

    def _begin_call(
        self, event: Recorded, started: AgentStarted, definitions: dict[str, AgentDefined]
    ) -> None:
        dialog = self._dialogs.get(started.dialog)
        if dialog is None:
            raise self._broken(f"dialog {started.dialog} never began")
        definition = definitions.get(started.definition)
        if definition is None:
            raise self._broken(f"the definition of agent {started.agent!r} is missing")
        alias = dialog.opened.alias
        calls = self.calls.setdefault((started.agent, alias), [])
        call = RecordedCall(self, started, alias, len(calls) + 1, definition, event.position)
        calls.append(call)
        self._calls[started.call] = call
        if started.parent_tool is not None:
            self.calls_in_tool.setdefault(started.parent_tool, []).append(call)

    def _call(self, number: int) -> RecordedCall:
        if number not in self._calls:
            raise self._broken(f"agent call {number} never began")
        return self._calls[number]

    def _request(
        self, event: Recorded, requested: LLMRequested, definitions: dict[str, AgentDefined]
    ) -> None:
        call = self._call(requested.call or 0)
        definition = definitions.get(requested.definition or "", call.definition)
        attempt = RecordedAttempt(call, requested, definition, event.position)
        self._requests[requested.request] = attempt
        call.attempts[requested.step, requested.attempt] = attempt

    def _ask_client(
        self, event: Recorded, requested: LLMRequested, definitions: dict[str, AgentDefined]
    ) -> None:
        call = self.captured.get(requested.step)
        if call is None:
            defined = definitions.get(requested.definition or "")
            if defined is None and requested.definition is not None:
                raise self._broken(f"the definition of request {requested.request} is missing")
            call = self.captured[requested.step] = ClientCall(requested.step, defined)
            for tool in self._open_tools:
                self.clients_in_tool.setdefault(tool, []).append(call)
        attempt = ClientAttempt(requested, event.position)
        call.attempts[requested.attempt] = self._of_clients[requested.request] = attempt

    def _end_request(self, event: Recorded, end: LLMResponded | LLMFailed) -> None:
        attempt = self._requests.get(end.request) or self._of_clients.get(end.request)
        if attempt is None:
            raise self._broken(f"request {end.request} never began")
        price = first_price(end.price)
        attempt.end = end if price is end.price else msgspec.structs.replace(end, price=price)
        attempt.after = max(event.time - self.began, 0)
        if isinstance(attempt, ClientAttempt):
            attempt.ended = event.time
        if isinstance(end, LLMResponded):
            self._say(attempt.requested.dialog, end)

    def _end_tool(self, event: Recorded, end: ToolReturned | ToolFailed) -> None:
        tool = self.tools.get(end.tool)
        if tool is None:
            raise self._broken(f"tool {end.tool} never began")
        tool.end, tool.ended = end, event.position
        self._open_tools.discard(end.tool)
        attempt = self._requests.get(tool.called.request)
        if attempt is not None:
            self._say(attempt.requested.dialog, end)

    def _broken(self, why: str) -> ReplayError:
        return ReplayError(f"Session {self.session_id} can't be replayed: in its events, {why}.")


_TAKING: dict[type, Callable[..., None]] = {
    SessionSucceeded: RecordedSession._ended,
    SessionFailed: RecordedSession._ended,
    DialogOpened: RecordedSession._opened,
    MessageAdded: RecordedSession._added,
    SessionEdited: RecordedSession._edited,
    ValueDrawn: RecordedSession._drawn,
    AgentSucceeded: RecordedSession._ended_call,
    AgentFailed: RecordedSession._ended_call,
    LLMResponded: RecordedSession._end_request,
    LLMFailed: RecordedSession._end_request,
    RetryScheduled: RecordedSession._retried,
    ToolCalled: RecordedSession._called_tool,
    ToolReturned: RecordedSession._end_tool,
    ToolFailed: RecordedSession._end_tool,
}
