"""Keeps a failing log from breaking the user's program: events are held and written later.

If the backend can't write, a warning is logged once, the events stay in memory, and each later
append first tries to write them, in order. If another writer holds the log's lock and does not go
on, the first append waits up to `locks.WAIT_SECONDS` for it, and later appends do not wait. If the
held events exceed a limit, the oldest are dropped and counted, and a `log.gap` event in the log
says so. With `on_error="raise"`, appends raise instead.

Every exception of the backend leads to this, also one that its author did not expect. Only
AppendConflict and LogReadOnly are raised, because the caller has to know them. Events that are too
large for any log are left out and counted as lost.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from lllm.events.backend import (
    Announcements,
    AppendsWithin,
    AppendsWithoutWaiting,
    DigestPage,
    KeepsLeaves,
    KnowsNesting,
    LogBackend,
    read_digests,
    read_types,
    read_with_digests,
)
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict, AppendTooLarge, LogError, LogReadOnly, LogUnavailable
from lllm.events.follow import announcements
from lllm.events.ids import new_id, new_salt
from lllm.events.model import LogGap
from lllm.events.reads_of_parts import StreamPart, read_positions, read_streams
from lllm.events.statements import statement

OnError = Literal["hold", "raise"]
HELD_BYTES = 64 << 20  # bytes of payloads in memory; above it the oldest are dropped and counted
_BEHIND_ALL = 1 << 62
_RETRY_SECONDS = 0.5  # between two attempts to write a log that can't be written
_TRY_SECONDS = 0.01  # such an attempt waits this long for other writers, which may be suspended
_FIRST_TRY_SECONDS = 1.0  # the same before any writer was found to be suspended
CLOSING_SECONDS = 2.5  # the last attempt, in `close`, waits this long for them
_ENDS = frozenset({"session.succeeded", "session.failed"})


class BufferedLog:
    """A log that accepts every append, and holds the events while its backend can't write.

    Args:
        backend: The log that the events are written to.
        on_error: "hold" to hold the events and write them later; "raise" to raise LogUnavailable or
            another LogError instead.
        held_bytes: The greatest size of the held payloads together, in bytes; above it the oldest
            events are dropped.
    """

    def __init__(
        self, backend: LogBackend, *, on_error: OnError = "hold", held_bytes: int = HELD_BYTES
    ) -> None:
        if on_error not in ("hold", "raise"):
            raise ValueError(f'on_error is "hold" or "raise", not {on_error!r}')
        self.backend = backend
        self._raises = on_error == "raise"
        self._bound = held_bytes
        self._lock = RobustLock()  # reentrant: the garbage collector may end a session inside
        # Checked once: the check takes as long as a quarter of an append.
        self._nests = backend if isinstance(backend, KnowsNesting) else None
        self._unwaited = backend if isinstance(backend, AppendsWithoutWaiting) else None
        # Events that come from a place where waiting is not allowed, before they join the held
        # ones.
        self._came_between: deque[Sequence[NewEvent]] = deque()
        self._held: deque[Sequence[NewEvent]] = deque()
        self._bytes = 0
        self._lost: LogGap | None = None
        self._gap: tuple[LogGap, NewEvent] | None = None  # in the form in which it was last tried
        self.lost_ends = False  # True if sessions ended whose last event was dropped
        self._warned = False
        self._next_try = 0.0
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the held events, which the parent will write."""
        self._came_between.clear()
        self._held.clear()
        self._bytes = 0
        self._lost = None
        self.lost_ends = False

    @property
    def is_holding(self) -> bool:
        """True if events are waiting to be written."""
        return bool(self._held)

    @property
    def raises(self) -> bool:
        """True if appends raise an error when the log can't be written."""
        return self._raises

    @property
    def held(self) -> list[NewEvent]:
        """The events that are waiting to be written, in order."""
        with self._lock:
            self._take_in()
            return [event for events in self._held for event in events]

    def held_as_recorded(self) -> list[Recorded]:
        """The held events in the form that readers get.

        Their positions are higher than all positions of the log.
        """
        return [event.at(_BEHIND_ALL + number) for number, event in enumerate(self.held)]

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, or hold them if the backend can't write; see `LogBackend.append`.

        No waiting is allowed in a signal handler that interrupted a write, or in a function that
        the garbage collector calls. There the events are held, and written when that write has
        ended, or by another thread.

        Args:
            events: The events, in order.

        Returns:
            The positions; an empty sequence if the events are held.

        Raises:
            AppendConflict: A different event has the same (stream, seq).
            LogReadOnly: The log was opened for reading only.
            LogError: The log can't be written, and `on_error` is "raise".
        """
        if self._comes_between(events):
            return ()
        if self._came_between:
            self.write_held(now=True)
        if self._raises or not self._held:
            try:
                return self.backend.append(events)
            except Exception as error:
                return self._hold(events, error)
        with self._lock:
            self._add(events)
        self.write_held()
        return ()

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """Append or hold events, if that is possible without waiting for a lock.

        Args:
            events: The events, in order.

        Returns:
            The positions; None, with nothing stored or held, if it would have to wait.
        """
        if self._comes_between(events):
            return ()
        if self._held or self._came_between or self._unwaited is None:
            return None
        try:
            return self._unwaited.try_append(events)
        except Exception as error:
            return self._hold(events, error)

    def _comes_between(self, events: Sequence[NewEvent]) -> bool:
        """Hold events without taking a lock if the caller must not wait; False if it may wait."""
        nests = self._nests
        if nests is not None and nests.at_write():
            self._came_between.append(tuple(events))
            nests.when_written(self.write_held)
            return True
        if finalizer_work.by_collector():
            self._came_between.append(tuple(events))
            finalizer_work.later(self.write_held)
            return True
        return False

    def _take_in(self) -> None:
        while self._came_between:
            # after an interrupt perhaps twice; the log recognises the second
            self._add(self._came_between[0])
            self._came_between.popleft()

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """Append events unless that takes too long, or other events are already held.

        Args:
            events: The events, in order.
            seconds: The longest time to wait for other writers.

        Returns:
            The positions; None, with nothing stored, if the time was over or events are held.

        Raises:
            Exception: The backend raised it.
        """
        return None if self._held else _append_within(self.backend, events, seconds)

    def _hold(self, events: Sequence[NewEvent], error: Exception) -> Sequence[int]:
        if isinstance(error, AppendConflict | LogReadOnly):
            raise error
        if isinstance(error, AppendTooLarge) and not self._raises:
            return self._leave_out(events, error)
        if self._raises:
            raise (
                error if isinstance(error, LogError) else LogUnavailable(_error_text(error))
            ) from error
        with self._lock:
            self._add(events)
            self._next_try = time.monotonic() + _RETRY_SECONDS
            if self._warned:
                return ()
            self._warned = True
        warnings.warn(
            f"lllm can't write its log; events wait in memory until it can. {_error_text(error)}",
            RuntimeWarning,
            stacklevel=3,
        )
        return ()

    def _leave_out(self, events: Sequence[NewEvent], error: AppendTooLarge) -> Sequence[int]:
        """Count events that are too large for the log as lost."""
        with self._lock:
            self._count_lost(events, str(error))
        warnings.warn(
            f"lllm can't record {len(events)} events. {error}", RuntimeWarning, stacklevel=3
        )
        self.write_held()
        return ()

    def _add(self, events: Sequence[NewEvent]) -> None:
        self._held.append(tuple(events))
        self._bytes += _size(events)
        while self._bytes > self._bound and len(self._held) > 1:
            reason = f"the log could not be written, and {self._bound} bytes were held already"
            self._count_lost(self._drop_first(), reason)

    def _drop_first(self) -> Sequence[NewEvent]:
        dropped = self._held.popleft()
        self._bytes -= _size(dropped)
        return dropped

    def _count_lost(self, events: Sequence[NewEvent], reason: str) -> None:
        before = self._lost
        self.lost_ends = self.lost_ends or _has_end(events)
        self._lost = LogGap(
            lost=len(events) + (before.lost if before else 0),
            first_time=before.first_time if before else events[0].time,
            last_time=events[-1].time,
            reason=reason,
            salt=before.salt if before else new_salt(),
        )

    def write_held(self, *, now: bool = False, within: float | None = None) -> bool:
        """Try to write the held events; False if they still have to wait.

        Args:
            now: True to try at once; otherwise nothing is tried within half a second after a
                failure.
            within: The longest time to wait for other writers, in seconds; None for one second, or
                for 10 milliseconds after a wait in vain.

        Returns:
            True if no events are held any more.
        """
        if not self._held and self._lost is None and not self._came_between:
            return True
        if within is None:
            within = _TRY_SECONDS if self._warned else _FIRST_TRY_SECONDS
        holding = LockPair(self._lock, None, within)
        with holding as mine:
            # Inside a write of this same thread, nothing can be written.
            if not mine or holding.nested:
                return False
            self._take_in()
            if not now and time.monotonic() < self._next_try:
                return False
            until = time.monotonic() + within
            try:
                while self._held:
                    self._write_gap(until)
                    self._write_first(until)
                    self._take_in()
                self._write_gap(until)
            except Exception:  # any exception of the backend means that the log can't be written
                self._next_try = time.monotonic() + _RETRY_SECONDS
                return False
            self._bytes = 0
            self._warned = False
            return True

    def _write_first(self, until: float) -> None:
        events = self._held[0]
        try:
            self._write(events, until)
        except AppendConflict as conflict:
            # A statement or definition that another process has written meanwhile is not lost.
            if len(events) > 1 or events[0].seq > 1:
                self._count_lost(events, f"other events stand in their place: {conflict}")
        except AppendTooLarge as error:
            self._count_lost(events, str(error))
        self._drop_first()

    def _write_gap(self, until: float) -> None:
        lost = self._lost
        if lost is None:
            return
        if self._gap is None or self._gap[0] is not lost:
            stream = f"gap-{new_id(lost.last_time)}"
            self._gap = lost, statement(stream, lost, salt=lost.salt)
        self._write([self._gap[1]], until)
        self._lost = self._gap = None

    def _write(self, events: Sequence[NewEvent], until: float) -> None:
        left = max(0.0, until - time.monotonic())
        if _append_within(self.backend, events, left) is None:
            raise LogUnavailable("Other writers hold the log.")

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read the events of the backend, as `LogBackend.read` does, without the held events."""
        return self.backend.read(after=after, upto=upto, stream=stream)

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the backend's events of some types, as `ReadsByType.read_types` does."""
        return read_types(self.backend, types, after=after, upto=upto)

    def read_with_digests(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded | tuple[int, bytes]]:
        """Read the backend's events of some types, as `ReadsWithDigests` does."""
        return read_with_digests(self.backend, types, after=after, upto=upto)

    def read_streams(self, parts: Sequence[StreamPart]) -> Iterator[Recorded]:
        """Read parts of several streams of the backend, as `ReadsParts.read_streams` does."""
        return read_streams(self.backend, parts)

    def read_positions(self, positions: Sequence[int]) -> Iterator[Recorded]:
        """Read the backend's events at some positions, as `ReadsParts.read_positions` does."""
        return read_positions(self.backend, positions)

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of the backend's events, as `ReadsDigests.read_digests` does."""
        return read_digests(self.backend, after=after, upto=upto)

    def announcements(self) -> Announcements:
        """Prepare to wait for appends to the backend; see `AnnouncesAppends`."""
        return announcements(self.backend)

    def archived_leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of archived events, as `KeepsLeaves.archived_leaves` does."""
        if isinstance(self.backend, KeepsLeaves):
            return self.backend.archived_leaves(after=after, upto=upto)
        return iter(())

    def head(self) -> int:
        """The highest position of the backend; held events are not counted."""
        return self.backend.head()

    def close(self) -> None:
        """Try once more to write the held events, warn if that loses any, and close the backend.

        It waits up to CLOSING_SECONDS for other writers.
        """
        try:
            if not self.write_held(now=True, within=CLOSING_SECONDS):
                held = self.held
                self.lost_ends = self.lost_ends or _has_end(held)
                warnings.warn(
                    f"lllm could not write {len(held)} events before its log was closed; "
                    "they are lost.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        finally:
            self.backend.close()


def _append_within(
    log: LogBackend, events: Sequence[NewEvent], seconds: float
) -> Sequence[int] | None:
    if isinstance(log, AppendsWithin):
        return log.append_within(events, seconds)
    return log.append(events)


def _has_end(events: Sequence[NewEvent]) -> bool:
    return any(event.type in _ENDS for event in events)


def _size(events: Sequence[NewEvent]) -> int:
    return sum(len(event.data) for event in events)


def _error_text(error: Exception) -> str:
    return str(error) if isinstance(error, LogError) else f"{type(error).__name__}: {error}"
