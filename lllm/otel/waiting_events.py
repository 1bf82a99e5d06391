"""Collects the events of sessions from the log, until each session ends.

The log is read once, from its beginning to its end. The events of sessions that have not ended wait
in memory. When there are too many, those of the oldest session are dropped, and read again from the
log at its end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.model import AgentDefined, SessionInterrupted, SessionStarted
from lllm.projections.engine.skip_damage import skip_corrupt_events_of

_WAITING_BYTES = 64 << 20  # of payloads
_EVENT_BYTES = 200  # of an event's other fields, about
_DEFINITIONS = 1_000  # that are remembered
_ENDS = frozenset({"session.succeeded", "session.failed"})


class WaitingEvents:
    """The events of sessions that have not ended.

    Args:
        log: The log that they are read from.
        most: The greatest size of the events in memory, in bytes.
    """

    def __init__(self, log: LogBackend, most: int = _WAITING_BYTES) -> None:
        self._log = log
        self._most = most
        self._waiting: OrderedDict[str, list[Recorded]] = OrderedDict()
        self._bytes = 0
        self._definitions: OrderedDict[str, AgentDefined | None] = OrderedDict()

    def take(self, event: Recorded) -> list[Recorded] | None:
        """Add an event of a session.

        Args:
            event: The next event of the log.

        Returns:
            All events of the session if this one ends it; otherwise None.
        """
        if event.seq == 1 and event.type == SessionStarted.type:
            self._drop(event.stream)
            self._waiting[event.stream] = [event]
        elif event.stream in self._waiting:
            self._waiting[event.stream].append(event)
        elif event.type in _ENDS:
            return list(self._read(event.stream, event.position))
        else:
            return None
        self._bytes += len(event.data) + _EVENT_BYTES
        if event.type in _ENDS:
            return self._drop(event.stream)
        while self._bytes > self._most and self._waiting:
            self._drop(next(iter(self._waiting)))
        return None

    def interrupted(self, statement: Recorded, payload: SessionInterrupted) -> list[Recorded]:
        """Find the events of a session that was interrupted.

        Args:
            statement: The event that says so.
            payload: Its payload.

        Returns:
            The events up to then. If the session goes on after all, its end has all of them.
        """
        return self._drop(payload.about) or list(self._read(payload.about, statement.position))

    def forget(self, session_id: str) -> None:
        """Forget a session that was erased."""
        self._drop(session_id)

    def start_of(self, session_id: str) -> SessionStarted | None:
        """Read the first event of a session; None if it was erased or is not in the log."""
        waiting = self._waiting.get(session_id)
        first = waiting[0] if waiting else next(self._read(session_id), None)
        payload = None if first is None else codec.decode(first)
        return payload if isinstance(payload, SessionStarted) else None

    def definition(self, stream: str) -> AgentDefined | None:
        """Read the definition of an agent; None if it was erased or is not in the log."""
        if stream not in self._definitions:
            first = next(self._read(stream), None)
            payload = None if first is None else codec.decode(first)
            found = payload if isinstance(payload, AgentDefined) else None
            self._definitions[stream] = found
            if len(self._definitions) > _DEFINITIONS:
                self._definitions.popitem(last=False)
        return self._definitions[stream]

    def _read(self, stream: str, upto: int | None = None) -> Iterator[Recorded]:
        for event in skip_corrupt_events_of(self._log, stream, 0):
            if upto is not None and event.position > upto:
                return
            yield event

    def _drop(self, stream: str) -> list[Recorded]:
        events = self._waiting.pop(stream, [])
        self._bytes -= sum(len(event.data) + _EVENT_BYTES for event in events)
        return events
