"""A recorded session as a replay asks it: by place, in one step, whatever came when.

The events of a session and of those below it are read once. What a request sent is told by its
dialog and its last message, as in the log, so that memory grows with the events alone.
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
            self.own.sort(key=_ordinal)  # tools that ran at once stand in the log as they ended
            self._sorted = True
        shared = [] if self.parent is None else self.parent.messages(self.opened.upto or 0)
        return [message for message in (*shared, *self.own) if message[0] <= upto]


def _ordinal(message: tuple[int, MessageEvent]) -> int:
    return message[0]


@dataclass(eq=False, slots=True)
class RecordedValue:
    """A time, an id or a random number that the code drew."""

    drawn: ValueDrawn
    position: int
    """Of its event in the log."""


@dataclass(eq=False)
class RecordedSession:
    """One session, with those below it."""

    session_id: str
    started: SessionStarted
    began: int
    """Nanoseconds UTC."""
    end: SessionSucceeded | SessionFailed | None = None
    ended: int | None = None
    """Nanoseconds UTC; None where it has no end."""
    first: int = 0
    """The position of the first of its events in the log."""
    last: Recorded | None = None
    """The last of them."""
    edits: dict[tuple[int, int, int], SessionEdited] = field(default_factory=dict)
    """What a fork changed, by agent call, step and attempt."""
    children: list[RecordedSession] = field(default_factory=list)
    calls: dict[tuple[str, str], list[RecordedCall]] = field(default_factory=dict)
    """By agent and alias of the dialog, in their order."""
    parent: RecordedSession | None = None
    """The session above, where it is replayed, too."""
    captured: dict[int, ClientCall] = field(default_factory=dict)
    """Calls of captured clients, which belong to no agent, by step."""
    tools: dict[int, RecordedTool] = field(default_factory=dict)
    values: dict[tuple[DrawnKind, int | None], list[RecordedValue]] = field(default_factory=dict)
    """What the code drew, by kind and the tool that it was drawn in, in the order of the log."""
    calls_in_tool: dict[int, list[RecordedCall]] = field(default_factory=dict)
    """What ran within a tool of this session: its agents,"""
    children_in_tool: dict[int, list[RecordedSession]] = field(default_factory=dict)
    """sessions below it,"""
    clients_in_tool: dict[int, list[ClientCall]] = field(default_factory=dict)
    """and captured clients that were asked while it was open."""
    _dialogs: dict[int, _Dialog] = field(default_factory=dict)
    _calls: dict[int, RecordedCall] = field(default_factory=dict)
    _requests: dict[int, RecordedAttempt] = field(default_factory=dict)
    _of_clients: dict[int, ClientAttempt] = field(default_factory=dict)
    _open_tools: set[int] = field(default_factory=set)

    @property
    def tactic_path(self) -> str:
        """The stable path of its tactic."""
        return self.started.tactic_path

    @property
    def forked(self) -> Origin:
        """The origin of a fork that has all of these events."""
        return Origin(self.session_id, "fork", None if self.last is None else self.last.seq)

    @property
    def stopped_by(self) -> RecordedSession | None:
        """The first call below it whose error ended it; None where it ended of itself."""
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
        """True where the error of a call beside it, of the same parent, ended that one.

        How far it gets before that stops it is up to the threads.
        """
        beside = None if self.parent is None else self.parent.stopped_by
        if beside is None or beside is self:
            return False
        return self.ended is None or self.ended > beside.began

    @property
    def is_stopped(self) -> bool:
        """True where its process ended before it, or somebody stopped it."""
        return self.end is None or (isinstance(self.end, SessionFailed) and self.end.cancelled)

    def messages(self, requested: LLMRequested) -> list[tuple[int, MessageEvent]]:
        """What a request sent: the messages' numbers and the events that carry them, in order."""
        dialog = self._dialogs.get(requested.dialog or 0)
        return [] if dialog is None else dialog.messages(requested.upto or 0)

    def attempts(self) -> Iterator[RecordedAttempt]:
        """All attempts of its agents, in their order."""
        return iter(self._requests.values())

    @property
    def message_count(self) -> int:
        """How many messages entered its dialogs."""
        return sum(len(dialog.own) for dialog in self._dialogs.values())

    def agent_calls(self) -> Iterator[RecordedCall]:
        """All calls of its agents, in their order."""
        return iter(self._calls.values())

    def family(self) -> Iterator[RecordedSession]:
        """This session and all below it."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += reversed(one.children)

    def prices(self) -> Iterator[Price]:
        """What each attempt of it and below it cost."""
        for one in self.family():
            ends = [attempt.end for attempt in one.attempts()]
            ends += [attempt.end for attempt in one._of_clients.values()]
            for end in ends:
                if end is not None and end.price is not None:
                    yield end.price

    # -- reading

    def take(self, event: Recorded, payload: Event, definitions: dict[str, AgentDefined]) -> None:
        """Add the next event of the session."""
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
