"""Sorts the events of one session by the steps that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    DialogOpened,
    Erased,
    Error,
    Event,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    RetryScheduled,
    SessionEdited,
    SessionFailed,
    SessionInterrupted,
    SessionStarted,
    SessionSucceeded,
    ToolCalled,
    ToolFailed,
    ToolReturned,
    Unknown,
)

ToolEnd = ToolReturned | ToolFailed
AgentEnd = AgentSucceeded | AgentFailed
ModelEnd = LLMResponded | LLMFailed


class EndedSession(msgspec.Struct, frozen=True, gc=False):
    """All that is known about a session that has ended.

    Attributes:
        id: The id of the session.
        events: Its events, in order.
        tags: Its own tags, as they are now.
        interrupted: The statement that its process died; None if it ended by itself.
    """

    id: str
    events: Sequence[Recorded]
    tags: Mapping[str, str]
    interrupted: SessionInterrupted | None = None


class SessionSteps:
    """The steps of one session.

    Args:
        session: The session; its first event is `started`.
        started: The payload of that event.
        with_messages: True to keep its messages.

    Attributes:
        session: The session.
        started: The payload of its first event.
        began: When it began, nanoseconds UTC.
        ended: When it ended; at its last event, if it did not end by itself.
        error: Why it failed; None if it succeeded.
        finish: Its last event, if that is its end.
        agents: When each call of an agent began, and its events, by number.
        requests: When each attempt to call a model began, and its event, by number.
        answers: The end of each attempt that has one.
        refused: Why answers were rejected, by the number of the attempt.
        tools: When each tool call began, and its events, by number.
        changes: Retries, and changes of a fork, which become log records.
        unknown: The number of events that this version of lllm can't read.
        erased: The number of events whose payload was erased.
    """

    def __init__(
        self, session: EndedSession, started: SessionStarted, *, with_messages: bool
    ) -> None:
        self.session = session
        self.started = started
        self.began = max(session.events[0].time, 0)
        self.ended = max(self.began, session.events[-1].time)
        self.error: Error | None = None
        self.finish: SessionSucceeded | SessionFailed | None = None
        self.agents: dict[int, tuple[int, AgentStarted, AgentEnd | None]] = {}
        self.requests: dict[int, tuple[int, LLMRequested]] = {}
        self.answers: dict[int, ModelEnd] = {}
        self.refused: dict[int, str] = {}
        self.tools: dict[int, tuple[int, ToolCalled, ToolEnd | None]] = {}
        self.changes: list[tuple[Recorded, RetryScheduled | SessionEdited]] = []
        self.unknown = 0
        self.erased = 0
        self._with_messages = with_messages
        self._dialogs: dict[int, tuple[DialogOpened | None, list[tuple[int, Content]]]] = {}
        for event in session.events[1:]:
            payload = codec.decode(event)
            handle = _HANDLERS.get(type(payload))
            if handle is not None:
                handle(self, event, payload)
        if session.interrupted is not None:
            self.error = Error("interrupted", "The process ended before the session did.")

    def sent(self, requested: LLMRequested) -> list[Content]:
        """Find the messages that an attempt sent, oldest first, if messages are kept."""
        found: list[tuple[int, Content]] = []
        dialog, upto, seen = requested.dialog, requested.upto or 0, set[int]()
        while dialog is not None and dialog in self._dialogs and dialog not in seen:
            seen.add(dialog)
            opened, own = self._dialogs[dialog]
            found += [one for one in own if one[0] <= upto]
            dialog = None if opened is None else opened.parent
            upto = upto if opened is None else min(upto, opened.upto or 0)
        return [content for _, content in sorted(found, key=itemgetter(0))]

    # -- Events

    def _requested(self, event: Recorded, payload: LLMRequested) -> None:
        self.requests[payload.request] = event.time, payload

    def _responded(self, _: Recorded, payload: LLMResponded) -> None:
        self.answers[payload.request] = payload
        self._say(payload.request, payload.message, payload.content)

    def _model_failed(self, _: Recorded, payload: LLMFailed) -> None:
        self.answers[payload.request] = payload

    def _refused(self, _: Recorded, payload: LLMRefused) -> None:
        self.refused[payload.request] = payload.reason

    def _added(self, _: Recorded, payload: MessageAdded) -> None:
        self._keep(payload.dialog, payload.message, payload.content)

    def _opened(self, _: Recorded, payload: DialogOpened) -> None:
        self._dialogs[payload.dialog] = payload, []

    def _agent_started(self, event: Recorded, payload: AgentStarted) -> None:
        self.agents[payload.call] = event.time, payload, None

    def _agent_ended(self, _: Recorded, payload: AgentEnd) -> None:
        if payload.call in self.agents:
            began, started, _end = self.agents[payload.call]
            self.agents[payload.call] = began, started, payload

    def _tool_called(self, event: Recorded, payload: ToolCalled) -> None:
        self.tools[payload.tool] = event.time, payload, None

    def _tool_ended(self, _: Recorded, payload: ToolEnd) -> None:
        if payload.tool in self.tools:
            began, called, _end = self.tools[payload.tool]
            self.tools[payload.tool] = began, called, payload
            self._say(called.request, payload.message, payload.content)

    def _changed(self, event: Recorded, payload: RetryScheduled | SessionEdited) -> None:
        self.changes.append((event, payload))

    def _succeeded(self, _: Recorded, payload: SessionSucceeded) -> None:
        self.finish = payload
        self.ended = self.began + max(payload.elapsed, 0)

    def _failed(self, _: Recorded, payload: SessionFailed) -> None:
        self.finish = payload
        self.error = payload.error
        self.ended = self.began + max(payload.elapsed, 0)

    def _unknown(self, _: Recorded, __: Unknown) -> None:
        self.unknown += 1

    def _erased(self, _: Recorded, __: Erased) -> None:
        self.erased += 1

    # -- Messages

    def _say(self, request: int, message: int, content: Content) -> None:
        """Keep a message in the dialog that an attempt sent."""
        found = self.requests.get(request)
        if found is not None and found[1].dialog is not None:
            self._keep(found[1].dialog, message, content)

    def _keep(self, dialog: int, message: int, content: Content) -> None:
        if self._with_messages:
            self._dialogs.setdefault(dialog, (None, []))[1].append((message, content))


_Handler = Callable[[SessionSteps, Recorded, Any], None]  # Any: each takes its own event
_HANDLERS: dict[type[Event], _Handler] = {
    LLMRequested: SessionSteps._requested,
    LLMResponded: SessionSteps._responded,
    LLMFailed: SessionSteps._model_failed,
    LLMRefused: SessionSteps._refused,
    MessageAdded: SessionSteps._added,
    DialogOpened: SessionSteps._opened,
    AgentStarted: SessionSteps._agent_started,
    AgentSucceeded: SessionSteps._agent_ended,
    AgentFailed: SessionSteps._agent_ended,
    ToolCalled: SessionSteps._tool_called,
    ToolReturned: SessionSteps._tool_ended,
    ToolFailed: SessionSteps._tool_ended,
    RetryScheduled: SessionSteps._changed,
    SessionEdited: SessionSteps._changed,
    SessionSucceeded: SessionSteps._succeeded,
    SessionFailed: SessionSteps._failed,
    Unknown: SessionSteps._unknown,
    Erased: SessionSteps._erased,
}
