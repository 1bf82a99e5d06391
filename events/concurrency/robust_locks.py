"""Locks between threads that are released even if an interrupt skips the release.

Ctrl-C, or any other exception from outside, may come between any two steps, also between taking a
lock and the `try` that would give it back, or in the middle of giving it back. So every lock knows
which function asked for it: where that has returned, whatever is still locked was left behind, and
the next that wants the lock begins with a new one in its place. An RLock says who has it from the
very moment that it is taken; nothing that is noted beside it could.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from types import FrameType, TracebackType

from lllm.events.concurrency import locks
from lllm.events.concurrency.fork_handlers import (
    fork_begins_within,
    pause_at_fork,
    register_after_fork,
)
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.thread_frames import thread_frames

Claims = tuple[FrameType | None, ...]

_LOOK_SECONDS = 0.05  # between two looks at whether a lock that is waited for was left behind
_OWNER = re.compile(r"owner=(\d+)")
# Of functions that stop in their middle: those that no thread runs may go on later.
_STOPPING = 0x20 | 0x80 | 0x100 | 0x200  # inspect.CO_GENERATOR and its kin

FREE, HELD, NESTED = 0, 1, 2  # what `enter` returns; true where the lock is had


class RobustLock:
    """A reentrant lock between the threads of one process.

    As a `with`, it is held by the function that the `with` stands in. `acquire` and `release` are
    for who takes it in one function and gives it back in another; an interrupt in between is theirs
    to mind.
    """

    def __init__(self) -> None:
        self._renew()
        register_after_fork(self)

    def _renew(self) -> None:
        # The last is the lock; those before it were left behind.
        self._locks = {0: threading.RLock()}
        self._claims: dict[int, Claims] = {}  # of threads that hold it, or are about to
        self._turns = 0

    def after_fork(self) -> None:
        """Make a new lock, since its holder does not exist in the child."""
        self._renew()

    def enter(self, frame: FrameType | None, timeout: float = -1) -> int:
        """Acquire the lock for a function's stack frame.

        Args:
            frame: The function's.
            timeout: Seconds to wait, -1 for as long as it takes.

        Returns:
            FREE where that was not enough, NESTED where this thread has it already, else HELD.
        """
        thread = threading.get_ident()
        before = self._claims.get(thread, ())
        if before:
            alive = tuple(claim for claim in before if not is_over(claim, thread))
            self._claims[thread] = (*alive, frame)
            number = len(self._locks) - 1
            if self._locks[number]._is_owned():  # type: ignore[attr-defined] # of every RLock
                if alive:
                    return NESTED
                self._locks.setdefault(number + 1, threading.RLock())
        else:
            self._claims[thread] = (frame,)
        try:
            if self._take(frame, timeout):
                return HELD
        except BaseException:
            self.exit(frame)
            raise
        self.exit(frame)
        return FREE

    def exit(self, frame: FrameType | None) -> None:
        """Release what `enter` acquired; doing so twice does nothing.

        Args:
            frame: As of `enter`.
        """
        thread = threading.get_ident()
        claims = self._claims.get(thread, ())
        if claims == (frame,):
            self._release()
            self._claims.pop(thread, None)
        elif frame in claims:
            # What came behind it has been left by now.
            rest = claims[: _last_index(claims, frame)]
            if not rest:
                self._release()
            self._claims[thread] = rest

    def is_outermost(self, frame: FrameType | None) -> bool:
        """True if `exit` of this function is the one that releases the lock.

        Args:
            frame: As of `enter`.
        """
        claims = self._claims.get(threading.get_ident(), ())
        return claims == (frame,) or (frame in claims and _last_index(claims, frame) == 0)

    def _release(self) -> None:
        lock = self._locks[len(self._locks) - 1]
        while lock._is_owned():  # type: ignore[attr-defined]
            lock.release()

    def _take(self, frame: FrameType | None, timeout: float) -> bool:
        """Acquire the lock, waiting for its holders."""
        del frame  # what waits in turns claims another lock with it
        if self._locks[len(self._locks) - 1].acquire(blocking=False):
            self._turns += 1
            return True
        return timeout != 0 and self._wait(timeout)

    def _wait(self, timeout: float) -> bool:
        until = None if timeout < 0 else time.monotonic() + timeout
        while True:
            number = len(self._locks) - 1
            lock = self._locks[number]
            left = _LOOK_SECONDS if until is None else until - time.monotonic()
            if lock.acquire(timeout=max(0.0, min(left, _LOOK_SECONDS))):
                self._turns += 1
                return True
            if self._left_behind(lock):
                self._locks.setdefault(number + 1, threading.RLock())
            elif left <= 0:
                return False

    def _left_behind(self, lock: threading.RLock) -> bool:
        """True if the lock is held for a function that has ended.

        The order matters, since the others go on meanwhile. A thread that is at work claims the
        lock before it takes it, counts the turn, and gives up its claim after the lock: where it
        has the lock between two looks that find no claim, there was a turn.
        """
        turns = self._turns
        owner = _owner(lock)
        return (
            owner is not None
            and not self._is_claimed(owner)
            and _owner(lock) == owner
            and not self._is_claimed(owner)
            and turns == self._turns
        )

    def _is_claimed(self, thread: int) -> bool:
        return not all(is_over(claim, thread) for claim in self._claims.get(thread, ()))

    def acquire(self, *, timeout: float = -1) -> bool:
        """Acquire the lock until `release`.

        Args:
            timeout: Seconds to wait, -1 for as long as it takes.

        Returns:
            False where that was not enough.
        """
        return self.enter(None, timeout) != FREE

    def release(self) -> None:
        """Release the lock."""
        self.exit(None)

    def __enter__(self) -> None:
        self.enter(sys._getframe(1))

    def __exit__(self, *_: object) -> None:
        self.exit(sys._getframe(1))


class ThreadLock(RobustLock):
    """A lock that is held with `with lock.held():`."""

    def held(self) -> RobustLock:
        """A `with` that holds the lock, also across a fork inside it."""
        return self


class ForkSafeLock(ThreadLock):
    """A lock that a fork waits for, so that a child finds nothing half done under it.

    Args:
        order: As of pause_at_fork.
    """

    def __init__(self, order: int) -> None:
        super().__init__()
        pause_at_fork(self, order)

    def pause(self) -> bool:
        """Wait until no other thread holds the lock."""
        return self.acquire(timeout=fork_begins_within())

    def resume(self) -> None:
        """Continue after the fork."""
        self.release()


def _last_index(claims: Claims, frame: FrameType | None) -> int:
    return len(claims) - 1 - claims[::-1].index(frame)


def _owner(lock: threading.RLock) -> int | None:
    """The thread that holds an RLock; None if nobody does, or it is unknown."""
    found = _OWNER.search(repr(lock))
    return (int(found[1]) or None) if found else None


def is_over(frame: FrameType | None, thread: int) -> bool:
    """True if a function call in some thread has returned or raised.

    This only looks: to ask the frame itself, with `frame.clear()`, ends a generator that is waiting
    and empties the frames of tracebacks.

    Args:
        frame: The function's; None for one that is over.
        thread: The thread's number.
    """
    if frame is None or frame.f_code.co_flags & _STOPPING:
        return False
    mine = thread == threading.get_ident()
    running = sys._getframe(1) if mine else thread_frames().get(thread)
    outermost = None
    while running is not None:
        if running is frame:
            return False
        outermost, running = running, running.f_back
    # The thread goes on meanwhile. A generator in it that stops just now has no caller any more,
    # and what is behind it was not seen.
    return outermost is None or not outermost.f_code.co_flags & _STOPPING


class LockPair:
    """A `with` that holds two locks: one between threads and one between processes.

    Its value is False where they could not be had. `enter` and `exit` are for functions that must
    give the locks back wherever they are interrupted: `exit`, once more in an outer `try`, does
    what the first one could not.

    Args:
        between_threads: Taken first.
        between_processes: Taken behind it, None for none.
        timeout: Seconds to wait for both, None for as long as anybody waits, `locks.WAIT_SECONDS`.
        reentrant: Whether a thread that has them can have them again.
    """

    __slots__ = (
        "_between_processes", "_between_threads", "_entered", "_frame", "_reentrant", "_timeout",
        "began",
    )  # fmt: skip

    def __init__(
        self,
        between_threads: RobustLock,
        between_processes: FileLock | None,
        timeout: float | None = None,
        *,
        reentrant: bool = True,
    ) -> None:
        self._reentrant = reentrant
        self._between_threads = between_threads
        self._between_processes = between_processes
        self._timeout = timeout
        self._frame: FrameType | None = None
        self._entered = FREE
        self.began = 0.0

    @property
    def nested(self) -> bool:
        """True if this thread already held the locks before."""
        return self._entered == NESTED

    @property
    def first(self) -> bool:
        """True if the locks are held now and were not held before."""
        return self._frame is not None and self._entered == HELD

    def enter(self, frame: FrameType) -> bool:
        """Acquire both locks for a function; False if they were not available.

        Args:
            frame: The function's.
        """
        timeout, between_processes = self._timeout, self._between_processes
        if timeout is None:
            timeout = locks.WAIT_SECONDS
        self.began = time.monotonic()
        self._frame = frame
        try:
            self._entered = self._between_threads.enter(frame, timeout)
            if self._entered == FREE:
                return False
            if self._entered == NESTED:
                if self._reentrant:
                    return True
            elif between_processes is None or between_processes.take(self.began, timeout):
                return True
        except BaseException:
            self.exit()
            raise
        self.exit()
        return False

    def exit(self) -> None:
        """Release the held locks; doing so twice does nothing."""
        frame = self._frame
        if frame is None:
            return
        if self._between_processes is not None and self._between_threads.is_outermost(frame):
            self._between_processes.free()
        self._between_threads.exit(frame)
        self._frame = None

    def __enter__(self) -> bool:
        return self.enter(sys._getframe(1))

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        try:
            self.exit()
        except BaseException:
            self.exit()
            raise
