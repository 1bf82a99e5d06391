"""Finds the step of a session that has a text which a search found.

A step is near its texts in the log: the request that sends a message comes soon after it, and a
result of a tool soon after its call. So only some events around each hit are read, of a session of
any length, and more of them only if these don't tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.errors import LllmError
from lllm.events.model import (
    Event,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    SessionAnnotated,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from lllm.events.reads_of_parts import StreamPart, read_positions, read_streams

_OF_ROLES = {"user": "message of the user", "system": "system prompt", "tool": "result of a tool"}
_PLACED = frozenset(
    kind.type
    for kind in (LLMFailed, LLMResponded, MessageAdded, SessionAnnotated, ToolFailed, ToolReturned)
)
_READ = _PLACED | {LLMRequested.type, ToolCalled.type}
_AROUND = (200, 2_000, 20_000)  # positions before and behind a hit; the next if one is too few
_MOST = 20_000  # events that are read in all


class HitPlace(msgspec.Struct, frozen=True):
    """The place of a text in its session.

    Attributes:
        request: The number of the attempt whose step shows it.
        part: The part of that step, as "result of find".
    """

    request: int
    part: str


def hit_places(log: LogBackend, hits: Mapping[int, str]) -> dict[int, HitPlace]:
    """Find the steps that show the texts of some events.

    Args:
        log: The log with the events.
        hits: The id of the session of each event, by the event's position.

    Returns:
        The places by position. An event outside of any step is left out. So is one whose step is
        more than 20,000 events away, or which can't be read.
    """
    try:
        events = {event.position: event for event in read_positions(log, list(hits))}
    except LllmError:
        return {}
    sought: dict[str, set[int]] = {}
    found: dict[int, HitPlace] = {}
    for position, event in events.items():
        if event.type == SessionAnnotated.type:  # it says itself which step it is about
            found |= _places_in([event], {position})
        elif event.type in _PLACED:
            sought.setdefault(event.stream, set()).add(position)
    left = _MOST
    for around in _AROUND:
        parts = [
            StreamPart(stream, after, upto)
            for stream, positions in sought.items()
            for after, upto in _windows(positions, around)
        ]
        try:
            near = list(islice(read_streams(log, parts), left))
        except LllmError:  # erased meanwhile, or damaged
            break
        left -= len(near)
        for here in _divided(near, parts):
            found |= _places_in(here, sought[here[0].stream])
        sought = {
            stream: missing
            for stream, positions in sought.items()
            if (missing := positions - found.keys())
        }
        if not sought or left <= 0:
            break
    return found


def _windows(positions: Iterable[int], around: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of positions around some; ranges that overlap are joined."""
    after = upto = -1
    for position in sorted(positions):
        begin = max(0, position - around)
        if upto >= begin:
            upto = position + around
            continue
        if upto >= 0:
            yield after, upto
        after, upto = begin, position + around
    yield after, upto


def _divided(events: Iterable[Recorded], parts: Iterable[StreamPart]) -> Iterator[list[Recorded]]:
    """Divide events into the parts that they were read as.

    What lies between two parts is not known, as the request that sent the messages of the first.
    """
    ahead = iter(parts)
    part = StreamPart("", 0, 0)
    here: list[Recorded] = []
    for event in events:
        while event.stream != part.stream or event.position > (part.upto or 0):
            part = next(ahead)
            if here:
                yield here
                here = []
        here.append(event)
    if here:
        yield here


def _places_in(events: Iterable[Recorded], positions: Collection[int]) -> dict[int, HitPlace]:
    scan = _Scan()
    for event in events:
        if event.type in _READ:
            scan.read(codec.decode(event), event.position if event.position in positions else None)
    return scan.found


class _Scan:
    """What the events of one session say about the places of some of them, as far as read.

    Attributes:
        found: The places by position.
    """

    def __init__(self) -> None:
        self.found: dict[int, HitPlace] = {}
        self._tools: dict[int, tuple[int, str]] = {}  # by the number of the tool call
        self._calls: dict[str, tuple[int, str]] = {}  # by the provider's id of the call
        self._waiting: dict[int, list[tuple[int, str]]] = {}  # by dialog, until it is sent

    def read(self, payload: Event, wanted: int | None) -> None:
        match payload:
            case LLMRequested() if payload.dialog is not None:
                for position, part in self._waiting.pop(payload.dialog, ()):
                    self.found[position] = HitPlace(payload.request, part)
            case ToolCalled():
                self._tools[payload.tool] = payload.request, payload.name
            case LLMResponded():
                for call in payload.content.tool_calls:
                    self._calls[call.id] = payload.request, call.name
        if wanted is not None:
            self._place(payload, wanted)

    def _place(self, payload: Event, position: int) -> None:
        match payload:
            case LLMResponded():
                self.found[position] = HitPlace(payload.request, "answer")
            case LLMFailed():
                self.found[position] = HitPlace(payload.request, "error")
            case ToolReturned() | ToolFailed() if payload.tool in self._tools:
                self._of_tool(position, self._tools[payload.tool])
            case MessageAdded():
                self._place_message(payload, position)
            case SessionAnnotated() if payload.step is not None:
                self.found[position] = HitPlace(payload.step, "note")

    def _place_message(self, added: MessageAdded, position: int) -> None:
        answered = self._calls.get(added.content.call_id or "")
        if answered is not None:  # the page shows a result beside its call
            self._of_tool(position, answered)
            return
        role = added.content.role
        part = _OF_ROLES.get(role, f"message of the {role}")
        self._waiting.setdefault(added.dialog, []).append((position, part))

    def _of_tool(self, position: int, tool: tuple[int, str]) -> None:
        request, name = tool
        self.found[position] = HitPlace(request, f"result of {name}")
