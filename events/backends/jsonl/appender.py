"""Appends events to a JSONL log: each append is one write, made while the locks are held.

Events that are not known to be new are compared with the log first: after an error that left it
open whether they were stored, the caller appends them again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from lllm.events.backends.jsonl.line_format import pieces_of_append
from lllm.events.backends.jsonl.read_events import events_of_stream
from lllm.events.backends.jsonl.shared_folder import JSONLFolder
from lllm.events.concurrency.fair_locks import FairFileLock
from lllm.events.concurrency.locks import kept_waiting
from lllm.events.concurrency.robust_locks import LockPair
from lllm.events.envelope import NewEvent, Recorded, conflict
from lllm.events.errors import LogDamaged

_NEAR = 1 << 20  # so many bytes of other writers are read while the lock is held
# the other events of an append mostly lie in so many bytes before its last event
_BESIDE = 64 << 10
_FARTHER = 16  # each further look goes back so many times as far

Place = tuple[str, int]  # the place of an event: its stream and seq


class Appender:
    """Appends the events of one store to its JSONL folder.

    Args:
        folder: The open folder, shared by all its stores in this process.
        segment_bytes: The size in bytes from which a segment is followed by a new one; each store
            may have its own.
    """

    def __init__(self, folder: JSONLFolder, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes

    def append(
        self,
        events: Sequence[NewEvent],
        lock: Callable[[], FairFileLock],
        timeout: float | None,
        *,
        read_much: bool,
    ) -> Sequence[int] | None:
        """Store the events that the log does not have yet; see LogBackend.

        Args:
            events: The events; all of them are stored, or none.
            lock: A function that returns the lock between processes, or raises if the store is
                closed.
            timeout: The longest time to wait for other writers, in seconds, then None is returned;
                None for `locks.WAIT_SECONDS`, then an error is raised.
            read_much: True if a large amount that other processes wrote may be read first.

        Returns:
            The positions; None if it would take longer than `timeout` or `read_much` allow.

        Raises:
            AppendConflict: A different event has the same (stream, seq).
            LogUnavailable: Other writers hold the lock for too long, or the store is closed.
            OSError: The folder can't be read or written.
        """
        folder = self._folder
        while True:
            held = LockPair(folder.thread_lock, lock(), timeout)
            try:
                try:
                    if not held.enter(sys._getframe()):
                        if timeout is None:
                            raise kept_waiting(folder.path)
                        return None
                    folder.tail.segment_bytes = self._segment_bytes
                    start = folder.tail.ready()
                    segment = folder.tail.segment
                    if folder.streams.are_next(events):
                        return self._store(events, start)
                    if start - folder.streams.upto <= _NEAR:
                        folder.streams.catch_up(segment, start)
                        return self._store_new(events, start)
                finally:
                    held.exit()
            finally:
                held.exit()  # an interrupt may have prevented the `exit` above
            if not read_much:
                return None
            with folder.thread_lock:  # and no other writer waits
                folder.streams.catch_up(segment, start)

    def _store(self, events: Sequence[NewEvent], start: int) -> list[int]:
        pieces, ends = pieces_of_append(events)
        self._folder.streams.doubt(events)
        self._folder.tail.write(start, *pieces)
        self._folder.streams.note(events, start, ends)
        self._folder.tail.sync()
        self._folder.tail.note(start + ends[-1])
        return [start + end for end in ends]

    def _store_new(self, events: Sequence[NewEvent], start: int) -> list[int]:
        new, stored = self._split(events)
        if new:
            for event, position in zip(new, self._store(new, start), strict=True):
                stored[event.stream, event.seq] = position
        else:
            self._folder.tail.sync()  # the events may come again because the last fsync failed
        return [stored[event.stream, event.seq] for event in events]

    def _split(self, events: Sequence[NewEvent]) -> tuple[list[NewEvent], dict[Place, int]]:
        """Split events into new ones, and the positions of those already stored."""
        new: dict[Place, NewEvent] = {}
        stored: dict[Place, int] = {}
        known = self._known(events)
        for event in events:
            place = (event.stream, event.seq)
            found = known.get(place)
            other = found or new.get(place)
            if other is not None and other.digest != event.digest:
                raise conflict(event, self._folder.path)
            if found is None:
                new[place] = event
            else:
                stored[place] = found.position
        return list(new.values()), stored

    def _known(self, events: Sequence[NewEvent]) -> dict[Place, Recorded]:
        """Find the stored events at the places of some events, reading each stream once."""
        wanted: dict[str, set[int]] = {}
        for event in events:
            wanted.setdefault(event.stream, set()).add(event.seq)
        known: dict[Place, Recorded] = {}
        for stream, seqs in wanted.items():
            last, position = self._folder.streams.last(stream)
            seqs = {seq for seq in seqs if seq <= last}
            span = 1 if seqs == {last} else _BESIDE
            while True:
                one_by_one = self._read_on(stream, max(0, position - span), position)
                found = {(stream, one.seq): one for one in one_by_one if one.seq in seqs}
                if len(found) == len(seqs) or span >= position:
                    break
                span *= _FARTHER
            known |= found
        return known

    def _read_on(self, stream: str, after: int, upto: int) -> Iterator[Recorded]:
        """Read all readable events of a stream, skipping damage."""
        while True:
            try:
                yield from events_of_stream(self._folder.path, stream, after, upto)
                return
            except LogDamaged as damage:
                after = damage.position
