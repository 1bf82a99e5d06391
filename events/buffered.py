"""Keeps a failing log from breaking the user's program: events are held and written later.

Where the backend can't write, a warning says so once, the events wait in memory, and every later
append tries again, in order. Where another writer holds the log's lock and is frozen, the first
append waits for it, as long as `locks.WAIT_SECONDS`, and none after it. Past a bound the oldest are
dropped and counted, and the log says so with a `log.gap`. `on_error="raise"` is for those who would
rather stop.

Whatever the backend raises is taken for a reason to wait, also what its author did not foresee;
only AppendConflict and LogReadOnly are answers, which whoever appends has to know. What is too
large for any log is left out, and counted.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from lllm.events.backend import (
    AppendsWithin,
    AppendsWithoutWaiting,
    DigestPage,
    KnowsNesting,
    LogBackend,
    read_digests,
    read_types,
)
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict, AppendTooLarge, LogError, LogReadOnly, LogUnavailable
from lllm.events.ids import new_id, new_salt
from lllm.events.model import LogGap
from lllm.events.statements import statement

OnError = Literal["hold", "raise"]
HELD_BYTES = 64 << 20  # of payloads in memory, before the oldest are dropped and counted
_BEHIND_ALL = 1 << 62
_RETRY_SECONDS = 0.5  # between two tries of a log that can't be written
_TRY_SECONDS = 0.01  # that such a try waits for other writers: one of them may be frozen
_FIRST_TRY_SECONDS = 1.0  # the same while none is known to be
CLOSING_SECONDS = 2.5  # that the last try waits for them
_ENDS = frozenset({"session.succeeded", "session.failed"})


class BufferedLog:
    """A log that accepts every append, and holds the events while its backend can't write.

    Args:
        backend: The log that is written to.
        on_error: "hold" as said above; "raise" to have LogUnavailable, or another LogError, raised
            instead.
        held_bytes: How many bytes of payloads may wait.
    """

    def __init__(
        self, backend: LogBackend, *, on_error: OnError = "hold", held_bytes: int = HELD_BYTES
    ) -> None:
        if on_error not in ("hold", "raise"):
            raise ValueError(f'on_error is "hold" or "raise", not {on_error!r}')
        self.backend = backend
        self._raises = on_error == "raise"
        self._bound = held_bytes
        self._lock = RobustLock()  # reentrant: the collector may end a session inside
        # Asked once: it takes as long as a quarter of an append.
        self._nests = backend if isinstance(backend, KnowsNesting) else None
        self._unwaited = backend if isinstance(backend, AppendsWithoutWaiting) else None
        # From where nothing may be waited for, before they are held.
        self._came_between: deque[Sequence[NewEvent]] = deque()
        self._held: deque[Sequence[NewEvent]] = deque()
        self._bytes = 0
        self._lost: LogGap | None = None
        self._gap: tuple[LogGap, NewEvent] | None = None  # as it was tried to be written
        self.lost_ends = False  # whether sessions ended without their end in the log
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
        """True if appends raise when the log can't be written."""
        return self._raises

    @property
    def held(self) -> list[NewEvent]:
        """The events that are waiting to be written, in order."""
        with self._lock:
            self._take_in()
            return [event for events in self._held for event in events]

    def held_as_recorded(self) -> list[Recorded]:
        """The held events in the form that readers get.

        Their positions are behind all that a log has given.
        """
        return [event.at(_BEHIND_ALL + number) for number, event in enumerate(self.held)]

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend; for events that are held, no position is returned.

        In a signal handler that interrupted a write, and in what the garbage collector ends,
        nothing may be waited for: the events are held, and written when the write has ended, or by
        another thread.
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
        """See AppendsWithoutWaiting."""
        if self._comes_between(events):
            return ()
        if self._held or self._came_between or self._unwaited is None:
            return None
        try:
            return self._unwaited.try_append(events)
        except Exception as error:
            return self._hold(events, error)

    def _comes_between(self, events: Sequence[NewEvent]) -> bool:
        """Hold events without locking if the caller must not wait; False if it may."""
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
            self._add(self._came_between[0])  # twice, after an interrupt, which the log recognizes
            self._came_between.popleft()

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """See AppendsWithin; also None if other events are already held.

        Raises:
            Exception: Whatever the backend raises.
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
            now: Try even if the last try was a moment ago.
            within: Seconds to wait for other writers, for all of it; None for a second, or next to
                none where they were waited for in vain.
        """
        if not self._held and self._lost is None and not self._came_between:
            return True
        if within is None:
            within = _TRY_SECONDS if self._warned else _FIRST_TRY_SECONDS
        holding = LockPair(self._lock, None, within)
        with holding as mine:
            # In the middle of a write of this thread's own, nothing can be written.
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
            except Exception:  # whatever keeps the log from being written
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
            # A statement or definition that another process made meanwhile is no loss.
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
        """See LogBackend; held events are not included."""
        return self.backend.read(after=after, upto=upto, stream=stream)

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """See ReadsByType."""
        return read_types(self.backend, types, after=after, upto=upto)

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """See ReadsDigests."""
        return read_digests(self.backend, after=after, upto=upto)

    def head(self) -> int:
        """See LogBackend."""
        return self.backend.head()

    def close(self) -> None:
        """Try once more to write the held events, warn if that loses any, and close.

        Where others hold the log, it waits for some seconds.
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
