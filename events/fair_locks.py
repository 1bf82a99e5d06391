"""Locks that nobody waits long for, however many want them.

A lock that is free is nobody's: whoever gives it back and wants it again has it before those that
were woken get the processor, for as long as the scheduler lets it run; with many writers that adds
up to seconds. So there are turns: who has had one, while others wait, goes behind them.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lllm.events.locks import FileLock

_PROCESS_TURN = 0.002  # seconds that a process may go on taking a lock that others wait for
_THREAD_TURN = 0.0005  # the same of a thread, which is awake sooner


class FairFileLock(FileLock):
    """A FileLock that nobody waits long for, however many want it.

    Whoever has had it for a while queues up: it takes a second lock first, which the foremost of
    those that wait holds until it has had its turn.

    Known trade-off (accepted): the foremost, suspended (SIGSTOP) just then, stops those behind it
    until it goes on, as one that is suspended while it holds the lock does.
    """

    _queue: FileLock | None = None  # for __del__, where it can't be opened

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._queue = FileLock(path.with_suffix(".queue"))
        self._turn_ends = 0.0  # by the monotonic clock

    def acquire(self, *, wait: bool = True) -> bool:
        """See FileLock; without `wait`, nobody queues."""
        now = time.monotonic()
        queue = self._queue
        if not wait or self._depth or now < self._turn_ends or queue is None:
            return FileLock.acquire(self, wait=wait)
        # Who has not had it for a while keeps nobody from it by being quick.
        if now < self._turn_ends + _PROCESS_TURN or not FileLock.acquire(self, wait=False):
            queue.acquire()
            try:
                FileLock.acquire(self)
            finally:
                queue.release()
            now = time.monotonic()
        self._turn_ends = now + _PROCESS_TURN
        return True

    def close(self) -> None:
        """Close both files, and so release the locks."""
        super().close()
        if self._queue is not None:
            self._queue.close()

    after_fork = close


class FairThreadLock:
    """A reentrant lock between the threads of one process that nobody waits long for.

    turn: seconds that a thread may go on taking it once others wait.
    """

    def __init__(self, turn: float = _THREAD_TURN) -> None:
        self._lock = threading.RLock()
        self._queue = threading.RLock()  # the collector may come in between anywhere
        self._turn = turn
        self._waiting: set[int] = set()  # threads, by their idents
        self._last = 0  # the thread that had it last,
        self._turn_ends: float | None = None  # and when its turn ends, once it has seen others wait
        # How often each thread has it or is about to: it must not queue behind who waits for it.
        self._depths: dict[int, int] = {}

    def acquire(self, *, timeout: float = -1) -> bool:
        """Take it. timeout: seconds to wait, -1 for as long as it takes. False where that was not
        enough."""
        thread = threading.get_ident()
        depth = self._depths.get(thread, 0)
        self._depths[thread] = depth + 1
        mine = False
        try:
            if depth:
                mine = self._lock.acquire(timeout=timeout)
            elif self._waiting or not self._lock.acquire(blocking=False):
                mine = self._wait(thread, timeout)
            else:
                mine = True
                if self._last != thread:
                    self._begin_turn(thread)
        except BaseException:  # Ctrl-C
            if mine:
                self._lock.release()
            self._step_back(thread)
            raise
        if not mine:
            self._step_back(thread)
        return mine

    def _begin_turn(self, thread: int) -> None:
        self._last = thread
        self._turn_ends = None

    def _wait(self, thread: int, timeout: float) -> bool:
        """Take it from others, or while others wait for it."""
        now = time.monotonic()
        if self._last == thread:
            if self._turn_ends is None:
                self._turn_ends = now + self._turn
            if now < self._turn_ends:
                return self._lock.acquire(timeout=timeout)
        mine = False
        self._waiting.add(thread)
        try:
            if not self._queue.acquire(timeout=timeout):
                return False
            try:
                left = timeout if timeout < 0 else max(0.0, now + timeout - time.monotonic())
                mine = self._lock.acquire(timeout=left)
            finally:
                self._queue.release()
            if mine:
                self._begin_turn(thread)
        except BaseException:
            if mine:
                self._lock.release()
            raise
        finally:
            self._waiting.discard(thread)
        return mine

    def release(self) -> None:
        """Give it back."""
        self._step_back(threading.get_ident())
        self._lock.release()

    def _step_back(self, thread: int) -> None:
        depth = self._depths[thread] - 1
        if depth:
            self._depths[thread] = depth
        else:
            del self._depths[thread]

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
