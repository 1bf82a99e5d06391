"""Fair locks: waiters take turns, so none of them waits long.

With an ordinary lock, a writer that releases it and wants it again often gets it before the waiting
writers are scheduled. With many writers they can wait for seconds. So writers take turns: one that
has had its turn queues behind those that wait.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import FrameType

from lllm.events.concurrency.locks import FileLock, poll_after
from lllm.events.concurrency.robust_locks import RobustLock

_PROCESS_TURN = 0.002  # seconds for which a process may keep taking a lock that others wait for
_THREAD_TURN = 0.0005  # the same for a thread, which wakes up faster
# seconds between two attempts, of the next in line and of others
_FOREMOST_POLL, _POLL = 0.0001, 0.0005
_QUEUE_SECONDS = 0.1  # after this time the next in line counts as suspended
_UNQUEUED_SECONDS = 1.0  # for this time no process queues behind a suspended one


class FairFileLock(FileLock):
    """A FileLock whose waiters take turns, so that none waits long.

    A process that has had the lock for a while has to queue: it first takes a second lock, which
    the next in line holds until it has had its turn. If that takes too long, the next in line may
    be suspended, and the others no longer wait behind it.

    Args:
        path: The file that is locked.
        turn: The seconds for which a process may keep taking the lock while others wait.
        patience: The seconds after which the next in line counts as suspended.

    Raises:
        OSError: The file can't be opened.
    """

    _queue: FileLock | None = None  # for __del__, if the file could not be opened

    def __init__(
        self, path: Path, *, turn: float = _PROCESS_TURN, patience: float = _QUEUE_SECONDS
    ) -> None:
        super().__init__(path)
        self._turn = turn
        self._patience = patience
        self._queue = FileLock(path.with_suffix(".queue"))
        self._queued = False  # perhaps wrong after an interrupt
        self._turn_ends = 0.0  # a time of the monotonic clock
        self._unqueued_until = 0.0

    def acquire(self, *, wait: bool = True) -> bool:
        """Acquire the lock, as `FileLock.acquire` does; with `wait=False` it does not queue."""
        if not wait or self._depth:
            return FileLock.acquire(self, wait=wait)
        return self.take(time.monotonic(), float("inf"))

    def take(self, began: float, timeout: float) -> bool:
        """Acquire the lock within a time limit, as `FileLock.take` does."""
        if timeout <= 0:
            return super().take(began, timeout)
        self._depth = 0
        # A process that has not had it for a while may take it at once, without queueing.
        ended = began - self._turn_ends
        if not (0 <= ended < self._turn) and FileLock.acquire(self, wait=False):
            if ended >= 0:
                self._turn_ends = began + self._turn
            return True
        return self._wait(began, began + timeout)

    def free(self) -> None:
        """Release the lock, as `FileLock.free` does, and the place in the queue."""
        super().free()
        self._leave_queue()

    def _wait(self, began: float, until: float) -> bool:
        """Wait for the lock, behind the others in the queue."""
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
        """Close both files, which releases the locks."""
        super().close()
        if self._queue is not None:
            self._queue.close()

    after_fork = close


class FairThreadLock(RobustLock):
    """A RobustLock whose waiters take turns, so that none waits long.

    Args:
        turn: The seconds for which a thread may keep taking the lock while others wait.
    """

    def __init__(self, turn: float = _THREAD_TURN) -> None:
        self._turn = turn
        super().__init__()

    def _renew(self) -> None:
        super()._renew()
        self._queue = RobustLock()
        self._waiting: set[int] = set()  # idents of threads
        self._last = 0  # the thread that had the lock last,
        # and the end of its turn, set when it has seen others wait
        self._turn_ends: float | None = None

    def exit(self, frame: FrameType | None) -> None:
        """Release the lock, as `RobustLock.exit` does, and end the thread's turn."""
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
        """Remove threads from the queue that were interrupted while they waited."""
        for thread in list(self._waiting):
            if not self._is_claimed(thread):
                self._waiting.discard(thread)
