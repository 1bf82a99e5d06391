"""Fair locks: waiters take turns, so none of them waits long.

A lock that is free is nobody's: whoever gives it back and wants it again has it before those that
were woken get the processor, for as long as the scheduler lets it run; with many writers that adds
up to seconds. So there are turns: who has had one, while others wait, goes behind them.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import FrameType

from lllm.events.concurrency.locks import FileLock, poll_after
from lllm.events.concurrency.robust_locks import RobustLock

_PROCESS_TURN = 0.002  # seconds that a process may go on taking a lock that others wait for
_THREAD_TURN = 0.0005  # the same of a thread, which is awake sooner
_FOREMOST_POLL, _POLL = 0.0001, 0.0005  # seconds between two tries, of who is next and of others
_QUEUE_SECONDS = 0.1  # that who is next may take; it is frozen then, or the lock's holder is
_UNQUEUED_SECONDS = 1.0  # in which nobody queues behind who was found frozen


class FairFileLock(FileLock):
    """A FileLock whose waiters take turns, so that none waits long.

    Whoever has had it for a while queues up: it takes a second lock first, which the foremost of
    those that wait holds until it has had its turn. Where that takes long, the foremost may be
    frozen, and nobody waits behind it.

    Args:
        path: The file that is locked.
        turn: Seconds that a process may go on taking it once others wait.
        patience: Seconds that the foremost may take, before those behind it take it for frozen.

    Raises:
        OSError: The file can't be opened.
    """

    _queue: FileLock | None = None  # for __del__, where it can't be opened

    def __init__(
        self, path: Path, *, turn: float = _PROCESS_TURN, patience: float = _QUEUE_SECONDS
    ) -> None:
        super().__init__(path)
        self._turn = turn
        self._patience = patience
        self._queue = FileLock(path.with_suffix(".queue"))
        self._queued = False  # perhaps; an interrupt may have come between
        self._turn_ends = 0.0  # by the monotonic clock
        self._unqueued_until = 0.0

    def acquire(self, *, wait: bool = True) -> bool:
        """See FileLock; without `wait`, the caller does not queue."""
        if not wait or self._depth:
            return FileLock.acquire(self, wait=wait)
        return self.take(time.monotonic(), float("inf"))

    def take(self, began: float, timeout: float) -> bool:
        """See FileLock."""
        if timeout <= 0:
            return super().take(began, timeout)
        self._depth = 0
        # Who has not had it for a while keeps nobody from it by being quick.
        ended = began - self._turn_ends
        if not (0 <= ended < self._turn) and FileLock.acquire(self, wait=False):
            if ended >= 0:
                self._turn_ends = began + self._turn
            return True
        return self._wait(began, began + timeout)

    def free(self) -> None:
        """See FileLock."""
        super().free()
        self._leave_queue()

    def _wait(self, began: float, until: float) -> bool:
        """Wait for the lock, after the others that queue for it."""
        try:
            return self._queue_up(began, until)
        finally:
            self._leave_queue()

    def _queue_up(self, began: float, until: float) -> bool:
        queue = self._queue
        now, foremost = began, False
        patience = began
        if began >= self._turn_ends and began >= self._unqueued_until and queue is not None:
            patience += self._patience
        while True:
            if not foremost and queue is not None and patience > began:
                self._queued = True
                foremost = queue.take(now, 0)
            if (foremost or now >= patience) and FileLock.acquire(self, wait=False):
                now = time.monotonic()
                if not foremost and patience > began:
                    self._unqueued_until = now + _UNQUEUED_SECONDS
                if began >= self._turn_ends:
                    self._turn_ends = now + self._turn
                return True
            if now >= until:
                return False
            pause = poll_after(now - began, _FOREMOST_POLL if foremost else _POLL)
            time.sleep(min(pause, until - now))
            now = time.monotonic()

    def _leave_queue(self) -> None:
        if self._queued and self._queue is not None:
            self._queue.free()
            self._queued = False

    def close(self) -> None:
        """Close both files, and so release the locks."""
        super().close()
        if self._queue is not None:
            self._queue.close()

    after_fork = close


class FairThreadLock(RobustLock):
    """A RobustLock whose waiters take turns, so that none waits long.

    Args:
        turn: Seconds that a thread may go on taking it once others wait.
    """

    def __init__(self, turn: float = _THREAD_TURN) -> None:
        self._turn = turn
        super().__init__()

    def _renew(self) -> None:
        super()._renew()
        self._queue = RobustLock()
        self._waiting: set[int] = set()  # threads, by their idents
        self._last = 0  # the thread that had it last,
        self._turn_ends: float | None = None  # and when its turn ends, once it has seen others wait

    def exit(self, frame: FrameType | None) -> None:
        """See RobustLock."""
        if self._waiting:
            self._stop_waiting(frame)
        super().exit(frame)

    def _take(self, frame: FrameType | None, timeout: float) -> bool:
        thread = threading.get_ident()
        if self._waiting or not self._locks[len(self._locks) - 1].acquire(blocking=False):
            return self._wait_in_turn(thread, frame, timeout)
        self._turns += 1
        if self._last != thread:
            self._begin_turn(thread)
        return True

    def _begin_turn(self, thread: int) -> None:
        self._last = thread
        self._turn_ends = None

    def _wait_in_turn(self, thread: int, frame: FrameType | None, timeout: float) -> bool:
        """Wait for the lock, taking turns with other waiters."""
        now = time.monotonic()
        if self._last == thread:
            if self._turn_ends is None:
                self._turn_ends = now + self._turn
            if now < self._turn_ends:
                return self._wait(timeout)
        self._waiting.add(thread)
        try:
            if not self._queue.enter(frame, timeout):
                return False
            if len(self._waiting) > 1:
                self._forget_interrupted()
            left = timeout if timeout < 0 else max(0.0, now + timeout - time.monotonic())
            if not self._wait(left):
                return False
            self._begin_turn(thread)
            return True
        finally:
            self._stop_waiting(frame)

    def _stop_waiting(self, frame: FrameType | None) -> None:
        thread = threading.get_ident()
        if thread in self._waiting:
            self._queue.exit(frame)
            self._waiting.discard(thread)

    def _forget_interrupted(self) -> None:
        """Forget threads that were interrupted while they waited."""
        for thread in list(self._waiting):
            if not self._is_claimed(thread):
                self._waiting.discard(thread)
