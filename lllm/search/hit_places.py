"""Finds the step of a session that has a text which a search found, and names it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import LllmError
from lllm.events.model import (
    AgentStarted,
    Event,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    SessionAnnotated,
    State,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from lllm.projections.session.step_names import step_name
from lllm.search.hits import SearchHit

_OF_ROLES = {"user": "message of the user", "system": "system prompt", "tool": "result of a tool"}
_READ = frozenset(
    kind.type
    for kind in (
        AgentStarted, LLMFailed, LLMRequested, LLMResponded, MessageAdded, SessionAnnotated,
        ToolCalled, ToolFailed, ToolReturned,
    )
)  # fmt: skip


_MOST = 20_000  # events that are read to name the places of hits


class HitPlace(msgspec.Struct, frozen=True):
    """The place of a text in its session.

    Attributes:
        request: The number of the attempt whose step shows it; None if it stands outside of steps.
        name: The name of that step and the part of it, as "#4 writer · step 2, result of find";
            "" if it stands outside of steps.
    """

    request: int | None = None
    name: str = ""


def names_of_places(
    hits: Sequence[SearchHit], events_of: Callable[[str], Iterator[Recorded]]
) -> dict[int, str]:
    """Name the places of hits as `lllm show` and the page of their session name them.

    Args:
        hits: The hits of a search.
        events_of: Reads the events of a session, as `LogStore.events`.

    Returns:
        The names by the position of the hit, as "#4 writer · step 2, answer". A hit outside of any
        step is left out. So are hits whose sessions come behind 20,000 events of others.
    """
    positions: dict[str, list[int]] = {}
    for hit in hits:
        positions.setdefault(hit.session_id, []).append(hit.position)
    names: dict[int, str] = {}
    left = _MOST
    for session_id, wanted in positions.items():
        try:
            events = list(islice(events_of(session_id), left + 1))
        except LllmError:  # an error outside of any session, or erased meanwhile
            continue
        left -= len(events)
        if left < 0:
            break
        found = hit_places(events, wanted)
        names.update((position, place.name) for position, place in found.items())
    return names


def hit_places(events: Iterable[Recorded], positions: Collection[int]) -> dict[int, HitPlace]:
    """Find the places of some events of a session.

    Args:
        events: The events of the session and those about it, in the order of the log.
        positions: The positions of the events to find.

    Returns:
        The places by position.
    """
    scan = _Scan()
    for event in events:
        if event.type in _READ:
            scan.read(codec.decode(event), event.position if event.position in positions else None)
    return scan.places()


class _Scan:
    """What the events of one session say about its steps, as far as they were read."""

    def __init__(self) -> None:
        self._agents: dict[int, str] = {}
        self._requests: dict[int, LLMRequested] = {}
        self._failed: set[int] = set()
        self._tools: dict[int, tuple[int, str]] = {}  # by the number of the tool call
        self._calls: dict[str, tuple[int, str]] = {}  # by the provider's id of the call
        self._waiting: dict[int, list[tuple[int, str]]] = {}  # by dialog, until it is sent
        self._found: dict[int, tuple[int, str]] = {}  # request and part, by position

    def read(self, payload: Event, wanted: int | None) -> None:
        match payload:
            case AgentStarted():
                self._agents[payload.call] = payload.agent
            case LLMRequested():
                self._requests[payload.request] = payload
                if payload.dialog is not None:
                    for position, part in self._waiting.pop(payload.dialog, ()):
                        self._found[position] = payload.request, part
            case ToolCalled():
                self._tools[payload.tool] = payload.request, payload.name
            case LLMResponded():
                for call in payload.content.tool_calls:
                    self._calls[call.id] = payload.request, call.name
            case LLMFailed():
                self._failed.add(payload.request)
        if wanted is not None:
            self._place(payload, wanted)

    def _place(self, payload: Event, position: int) -> None:
        match payload:
            case LLMResponded():
                self._found[position] = payload.request, "answer"
            case LLMFailed():
                self._found[position] = payload.request, "error"
            case ToolReturned() | ToolFailed() if payload.tool in self._tools:
                self._of_tool(position, self._tools[payload.tool])
            case MessageAdded():
                answered = self._calls.get(payload.content.call_id or "")
                if answered is not None:  # the page shows a result beside its call
                    self._of_tool(position, answered)
                else:
                    role = payload.content.role
                    part = _OF_ROLES.get(role, f"message of the {role}")
                    self._waiting.setdefault(payload.dialog, []).append((position, part))
            case SessionAnnotated() if payload.step is not None:
                self._found[position] = payload.step, "note"

    def _of_tool(self, position: int, tool: tuple[int, str]) -> None:
        request, name = tool
        self._found[position] = request, f"result of {name}"

    def places(self) -> dict[int, HitPlace]:
        found: dict[int, HitPlace] = {}
        for position, (number, part) in self._found.items():
            request = self._requests.get(number)
            if request is None:
                continue
            agent = self._agents.get(request.call or 0, "")
            state: State = "failure" if number in self._failed else "success"
            name = step_name(number, request.step, request.attempt, state, agent)
            found[position] = HitPlace(number, f"{name}, {part}")
        return found
