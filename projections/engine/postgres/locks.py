"""Locks between the processes that keep rows in PostgreSQL up to date, on any machine.

A lock is held by the connection that writes the rows. If that connection is lost, the lock is
lost with it, and so is the transaction: nobody writes rows without the lock.
"""

from __future__ import annotations

import time
from typing import Protocol

from lllm.events.concurrency.locks import WAIT_SECONDS

_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between two tries


class HoldsLocks(Protocol):
    """The connection that writes rows."""

    def take_lock(self, name: str) -> bool:
        """Take a lock; False if another connection holds it."""

    def free_lock(self, name: str) -> None:
        """Release a lock, if it is held."""


class AdvisoryLock:
    """A lock with a name; it excludes no threads of one process.

    Args:
        writer: The connection that holds the lock.
        name: The name, as "rebuild.lock".
        path: What messages call it.
    """

    def __init__(self, writer: HoldsLocks, name: str, path: str) -> None:
        self.path = path
        self._writer = writer
        self._name = name
        self._may_be_held = False

    def acquire(self, *, wait: bool = True) -> bool:
        """Acquire the lock; see `ProcessLock`.

        Args:
            wait: True to wait until the lock is free.

        Returns:
            False if `wait` is False and another process holds the lock.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        while not self.take(time.monotonic(), WAIT_SECONDS if wait else 0):
            if not wait:
                return False
        return True

    def take(self, began: float, timeout: float) -> bool:
        """Acquire the lock within a time limit.

        Args:
            began: The start of the wait, a time of the monotonic clock.
            timeout: The longest time to wait, in seconds.

        Returns:
            False if other processes held the lock all the time.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        pause = _SHORTEST
        self._may_be_held = True
        while not self._writer.take_lock(self._name):
            left = began + timeout - time.monotonic()
            if left <= 0:
                self._may_be_held = False
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST)
        return True

    def free(self) -> None:
        """Release what `take` acquired or was about to acquire."""
        if self._may_be_held:
            self._may_be_held = False  # from now on, another thread may hold a lock of this name
            self._writer.free_lock(self._name)

    def close(self) -> None:
        """Release the lock."""
        self.free()
