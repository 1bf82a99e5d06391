"""Locks between threads that are released even if an interrupt skips the release.

An exception from outside, such as that of Ctrl-C, may come between any two steps: between taking a
lock and the `try` that would release it, or inside the release. So every lock knows the function
that took it. If that function has returned, the lock was left behind, and the next function that
wants it uses a new lock in its place. An RLock knows its owner from the moment it is taken, which
no separate variable could record reliably.
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
from lllm.events.concurrency.locks import ProcessLock
from lllm.events.concurrency.thread_frames import thread_frames

Claims = tuple[FrameType | None, ...]

_LOOK_SECONDS = 0.05  # seconds between two checks whether the lock was left behind
_OWNER = re.compile(r"owner=(\d+)")
# The flags of generators and coroutines, which may continue later while no thread runs them.
_STOPPING = 0x20 | 0x80 | 0x100 | 0x200  # inspect.CO_GENERATOR and its kin

FREE, HELD, NESTED = 0, 1, 2  # the results of `enter`; true if the lock is held


class RobustLock:
    """A reentrant lock between the threads of one process.

    In a `with` statement it is held by the function that contains the statement. `acquire` and
    `release` are for code that takes the lock in one function and releases it in another; such code
    has to handle an interrupt in between itself.
    """

    def __init__(self) -> None:
        self._renew()
        register_after_fork(self)

    def _renew(self) -> None:
        # The last one is in use; those before it were left behind.
        self._locks = {0: threading.RLock()}
        # the frames of threads that hold it, or are about to take it
        self._claims: dict[int, Claims] = {}
        self._turns = 0

    def after_fork(self) -> None:
        """Make a new lock in the child, where the holder of the old one may not exist."""
        self._renew()

    def enter(self, frame: FrameType | None, timeout: float = -1) -> int:
        """Acquire the lock for a function, identified by its stack frame.

        Args:
            frame: The frame of the function; None for `acquire` without a function.
            timeout: The longest time to wait, in seconds; -1 for no limit.

        Returns:
            FREE if the time was over, NESTED if this thread already holds the lock, otherwise HELD.
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
            frame: The frame that was passed to `enter`.
        """
        thread = threading.get_ident()
        claims = self._claims.get(thread, ())
        if claims == (frame,):
            self._release()
            self._claims.pop(thread, None)
        elif frame in claims:
            # Later entries belong to functions that have ended.
            rest = claims[: _last_index(claims, frame)]
            if not rest:
                self._release()
            self._claims[thread] = rest

    def is_outermost(self, frame: FrameType | None) -> bool:
        """True if the `exit` of this function will release the lock.

        Args:
            frame: The frame that was passed to `enter`.

        Returns:
            False if an outer function of the thread holds the lock, too.
        """
        claims = self._claims.get(threading.get_ident(), ())
        return claims == (frame,) or (frame in claims and _last_index(claims, frame) == 0)

    def _release(self) -> None:
        lock = self._locks[len(self._locks) - 1]
        while lock._is_owned():  # type: ignore[attr-defined]
            lock.release()

    def _take(self, frame: FrameType | None, timeout: float) -> bool:
        """Acquire the lock, waiting for its holders."""
        del frame  # a subclass with turns claims another lock at the same time
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

        The order of the checks matters, because other threads continue meanwhile. A working thread
        claims the lock before it takes it, counts the turn, and gives up its claim after it has
        released the lock. If a thread owns the lock in two checks and neither finds a claim, the
        count shows if there was a turn in between.
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
        """Acquire the lock until `release` is called.

        Args:
            timeout: The longest time to wait, in seconds; -1 for no limit.

        Returns:
            False if the time was over.
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
    """A lock between threads for code that takes and releases it in one function.

    It is held with `with lock.held():`.
    """

    def held(self) -> RobustLock:
        """A context manager that holds the lock, also across a fork inside it."""
        return self


class ForkSafeLock(ThreadLock):
    """A lock that a fork waits for, so that the child finds no half-finished work under it.

    Args:
        order: The order in which locks are taken before a fork, as for `pause_at_fork`.
    """

    def __init__(self, order: int) -> None:
        super().__init__()
        pause_at_fork(self, order)

    def pause(self) -> bool:
        """Take the lock before a fork, when no other thread holds it."""
        return self.acquire(timeout=fork_begins_within())

    def resume(self) -> None:
        """Release the lock after the fork."""
        self.release()


def _last_index(claims: Claims, frame: FrameType | None) -> int:
    return len(claims) - 1 - claims[::-1].index(frame)


def _owner(lock: threading.RLock) -> int | None:
    """The thread that holds an RLock; None if no thread does, or if it is unknown."""
    found = _OWNER.search(repr(lock))
    return (int(found[1]) or None) if found else None


def is_over(frame: FrameType | None, thread: int) -> bool:
    """True if a function call in a thread has returned or raised.

    The check has no side effects. `frame.clear()`, which would also tell, ends a waiting generator
    and empties the frames of tracebacks.

    Args:
        frame: The frame of the function; None for a function that is over.
        thread: The ident of the thread.

    Returns:
        False if the function still runs, or may continue.
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
    # The thread continues meanwhile. If a generator in it stops at this moment, it has no caller
    # any
    # more, and the frames after it were not seen.
    return outermost is None or not outermost.f_code.co_flags & _STOPPING


class LockPair:
    """A context manager that holds two locks: one between threads and one between processes.

    Its value is False if the locks could not be taken. `enter` and `exit` are for functions that
    must release the locks wherever they are interrupted: a second `exit`, in an outer `try`,
    completes the first.

    Args:
        between_threads: The lock between threads, which is taken first.
        between_processes: The lock between processes; None for none.
        timeout: The longest time to wait for both, in seconds; None for `locks.WAIT_SECONDS`.
        reentrant: True if a thread that holds the locks may take them again.
    """

    __slots__ = (
        "_between_processes", "_between_threads", "_entered", "_frame", "_reentrant", "_timeout",
        "began",
    )  # fmt: skip

    def __init__(
        self,
        between_threads: RobustLock,
        between_processes: ProcessLock | None,
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
        """Acquire both locks for a function; False if they were not free in time.

        Args:
            frame: The frame of the function.

        Returns:
            True if the locks are held.
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
