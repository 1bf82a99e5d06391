"""A log in memory, which is also the shortest example of how every backend must behave."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.envelope import NewEvent, Recorded, conflict
from lllm.events.health import Health


class MemoryBackend:
    """A log that is lost when its process ends; a forked child continues with a copy."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []  # the event at position n is the nth in the list
        self._places: dict[tuple[str, int], Recorded] = {}
        self._lock = threading.Lock()
        self._nesting = Nesting()
        register_after_fork(self)

    def __repr__(self) -> str:
        return f"MemoryBackend({len(self._events)} events)"

    def after_fork(self) -> None:
        """Make a new lock: another thread of the parent may have held the old one.

        The list itself is consistent: each append changes it in one step.
        """
        self._lock = threading.Lock()
        self._nesting = Nesting()
        self._places = {(event.stream, event.seq): event for event in self._events}

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events to the list, as `LogBackend.append` requires."""
        if self.at_write():
            self.when_written(partial(self.append, events))
            return ()
        try:
            self._nesting.begin(sys._getframe())
            return self._append(events)
        finally:
            self._nesting.end()

    def at_write(self) -> bool:
        """True if the current thread is inside an append; see `KnowsNesting`."""
        return self._nesting.is_inside()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current append has ended; see `KnowsNesting`."""
        self._nesting.queue(work)

    def _append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        with self._lock:
            new: dict[tuple[str, int], Recorded] = {}
            positions = []
            for event in events:
                place = (event.stream, event.seq)
                stored = self._places.get(place) or new.get(place)
                if stored is None:
                    position = len(self._events) + len(new) + 1
                    stored = new[place] = event.at(position)
                elif stored.digest != event.digest:
                    raise conflict(event)
                positions.append(stored.position)
            self._events += list(new.values())  # in one step: readers take no lock
            self._places |= new
            return positions

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append without waiting; see `AppendsWithoutWaiting`. The lock is never held for long."""
        return self.append(events)

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        last = self.head() if upto is None else min(upto, self.head())
        found = (self._events[index] for index in range(max(after, 0), last))
        return (event for event in found if stream is None or event.stream == stream)

    def head(self) -> int:
        """The number of events, which is the position of the last one."""
        return len(self._events)

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Replace events by erased ones; see `ErasesPayloads`."""
        with self._lock:
            for event in erased:
                self._events[event.position - 1] = event
                self._places[event.stream, event.seq] = event

    def vacuum(self) -> bool:
        """Do nothing, because there are no files."""
        return True

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the number of events; see `ReportsHealth`."""
        del read_bytes
        return Health(kind="MemoryBackend", events=head, unit="event")

    def close(self) -> None:
        """Do nothing: the events stay readable."""
