"""A lock on a file, which the system releases when the process that holds it dies.

It uses flock, not POSIX record locks, which are released when any descriptor of the file is closed.
flock belongs to the open file, so a forked child has to close the inherited descriptor, or the lock
would outlive its owner; `after_fork` does this for locks and for objects that hold one. A lock
between threads is inherited, too, without a thread that would release it; ThreadLock is reset in
the child.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import (
    FileId,
    close_own,
    file_id,
    has_mark,
    is_at,
    mark_descriptor,
    open_own,
)
from lllm.events.files.permissions import mode_like

# An append waits so many seconds for other writers. A process that holds the lock for longer is
# suspended (SIGSTOP, a debugger, a paused container), perhaps forever.
WAIT_SECONDS = 30.0
_POLL, _LONGEST_POLL = 0.0005, 0.05  # seconds between two attempts to take a lock


class ProcessLock(Protocol):
    """A lock between processes, which excludes no threads of one process; see `FileLock`."""

    @property
    def path(self) -> Path | str:
        """What messages call it."""

    def acquire(self, *, wait: bool = ...) -> bool:
        """Acquire the lock; False if `wait` is False and another process holds it."""

    def take(self, began: float, timeout: float) -> bool:
        """Acquire the lock within a time limit; False if it was not free in time."""

    def free(self) -> None:
        """Release what `take` acquired or was about to acquire."""

    def close(self) -> None:
        """Release the lock and what it needs to be held."""


class FileLock:
    """An exclusive, not reentrant file lock between processes. A missing file is created.

    It does not exclude other threads of the same process: hold a thread lock around it.

    Args:
        path: The path of the file to lock.

    Raises:
        OSError: The file can't be opened.
    """

    _opened: FileId | None = None
    _mark = -1  # no descriptor, if an interrupt came during the opening

    def __init__(self, path: Path) -> None:
        self.path = path
        self._depth = 0
        self._fd: int | None = None  # for __del__, if the next line raises
        self._open()
        register_after_fork(self)

    def _open(self) -> None:
        """Open the file; everybody who can write in its folder may lock it."""
        mode = mode_like(self.path.parent)
        self._fd = fd = open_own(self.path, os.O_RDWR | os.O_CREAT, mode=mode)
        self._opened = file_id(fd)
        self._mark = mark_descriptor(fd)

    def acquire(self, *, wait: bool = True) -> bool:
        """Acquire the lock.

        Args:
            wait: True to wait until the lock is free, without a time limit.

        Returns:
            False if `wait` is False and another process holds the lock.
        """
        if self._fd is None or not (self._depth or has_mark(self._fd, self._mark)):
            # The descriptor was closed, or inherited through a fork: open a lock of this process's
            # own.
            self._open()
        fd = self._fd
        if not self._depth and (fd is None or not _lock(fd, wait)):
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._depth:
            self._depth -= 1
            if not self._depth and self._fd is not None:
                _unlock(self._fd)

    def in_place(self) -> bool:
        """False if the path of the open lock file now leads to another file."""
        return self._fd is None or is_at(self.path, self._opened)

    def take(self, began: float, timeout: float) -> bool:
        """Acquire the lock within a time limit, for LockPair; also after an interrupt.

        Args:
            began: The start of the wait, a time of the monotonic clock.
            timeout: The longest time to wait, in seconds.

        Returns:
            False if other processes held the lock all the time.
        """
        self._depth = 0
        return FileLock.acquire(self, wait=False) or self._wait(began, began + timeout)

    def free(self) -> None:
        """Release what `take` acquired or was about to acquire."""
        self._depth = 0
        if self._fd is not None:
            _unlock(self._fd)

    def _wait(self, began: float, until: float) -> bool:
        while (now := time.monotonic()) < until:
            time.sleep(min(poll_after(now - began, _POLL), until - now))
            if FileLock.acquire(self, wait=False):
                return True
        return False

    def inode(self) -> int:
        """The inode number of the locked file, which differs in a copy of the file."""
        if self._fd is None:
            return 0
        return os.fstat(self._fd).st_ino

    def read_content(self, count: int) -> bytes:
        """Read the first bytes of the file.

        Args:
            count: The greatest number of bytes.

        Returns:
            The bytes.

        Raises:
            OSError: The file can't be read.
        """
        return b"" if self._fd is None else os.pread(self._fd, count, 0)

    def write_content(self, data: bytes) -> None:
        """Write bytes at the beginning of the file.

        Args:
            data: The bytes to write; what the file has behind them stays.

        Raises:
            OSError: The file can't be written.
        """
        if self._fd is not None:
            os.pwrite(self._fd, data, 0)

    def close(self) -> None:
        """Close the file, which releases the lock."""
        fd, self._fd = self._fd, None
        self._depth = 0
        if fd is not None:
            close_own(fd, self._opened)

    after_fork = close  # the child must not keep the parent's lock alive

    def __del__(self) -> None:
        self.close()


def poll_after(waited: float, shortest: float) -> float:
    """The seconds until the next attempt to take a lock; they grow with the time already waited.

    Args:
        waited: The seconds waited so far.
        shortest: The seconds between the first attempts.

    Returns:
        The seconds to wait.
    """
    return min(max(shortest, waited / 50), _LONGEST_POLL)


def kept_waiting(path: Path | str) -> LogUnavailable:
    """Make the error for a writer that waited too long for other writers.

    Args:
        path: The log or database that could not be written.

    Returns:
        The error, to be raised by the caller.
    """
    return LogUnavailable(
        f"{path}: another program has held the lock on it for {WAIT_SECONDS:g} seconds. It "
        "may be suspended, or stopped in a debugger; let it go on, or end it."
    )


def is_held(path: Path) -> bool:
    """True if any process holds the lock of a file.

    Args:
        path: The path of the lock file.

    Returns:
        False if none does, if there is no file, or if it can't be found out.
    """
    if not path.exists():
        return False
    with suppress(OSError):
        lock = FileLock(path)
        try:
            return not lock.acquire(wait=False)
        finally:
            lock.close()
    return False


def _lock(fd: int, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)
