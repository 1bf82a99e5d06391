"""A lock on a file: it dies with the process that holds it, and waits its turn in the kernel.

flock, not POSIX record locks: those are lost when any descriptor of the file is closed. flock
belongs to the open file, so a forked child must close what it inherited, or the lock would outlive
its owner. `after_fork` is how locks, and all that holds one, hear of it. A lock between threads is
inherited, too, with nobody there to give it back; ThreadLock is one that is not.
"""

from __future__ import annotations

import logging  # noqa: F401 - first: its own hook must be called behind ours, see below
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from lllm.events.own_files import close_own, file_id, is_at, leads_to, open_own

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_POLL = 0.0005  # seconds between two tries of a lock that is waited for with a timeout


class ForkAware(Protocol):
    """Something that must not go on in a forked child as it was in the parent."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there."""


_fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def tell_after_fork(thing: ForkAware) -> None:
    """Have `thing.after_fork()` called in every child that is forked while it lives."""
    _fork_aware.add(thing)


def _tell_all() -> None:
    for thing in list(_fork_aware):
        thing.after_fork()


class Pausable(Protocol):
    """Something that must be at rest while its process forks."""

    def pause(self) -> bool:
        """Called before a fork, in the thread that forks; whether `resume` shall follow."""

    def resume(self) -> None:
        """Called after the fork, in the same thread of the parent."""


_pausable: weakref.WeakKeyDictionary[Pausable, int] = weakref.WeakKeyDictionary()


class _Paused(threading.local):
    """What a fork of this thread has made pause, and until when it waits for that."""

    def __init__(self) -> None:
        self.things: list[Pausable] = []
        self.until = 0.0  # by the monotonic clock


_paused = _Paused()
_INNERMOST = 9
_LONGEST_PAUSE = 1.0  # seconds that a fork waits, for everything together


def rest_during_fork(thing: Pausable, order: int = _INNERMOST) -> None:
    """Have `thing` pause at each fork while it lives.

    order: the lower pauses first. What is held while others are taken must be lower than those, or
    the fork would hold what it waits for.
    """
    _pausable[thing] = order


def fork_begins_within() -> float:
    """Seconds that a `pause` may still wait; the fork goes on then, whatever is still under way."""
    return max(0.0, _paused.until - time.monotonic())


def _pause_all() -> None:
    _paused.until = time.monotonic() + _LONGEST_PAUSE
    # keyrefs() is one list of a dict's keys, made at once; other threads may add some meanwhile.
    alive = [thing for ref in _pausable.keyrefs() if (thing := ref()) is not None]
    _paused.things = []
    for thing in sorted(alive, key=_pausable.__getitem__):
        if thing.pause():  # one by one: Ctrl-C may come while another is waited for
            _paused.things.append(thing)


def _resume_all() -> None:
    for thing in _paused.things:
        thing.resume()
    _paused.things = []


# What registers last is called first. logging's hook takes the lock that every logger needs; taken
# before ours, threads that we wait for could not go on.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_tell_all)


class ThreadLock:
    """A reentrant lock between the threads of one process. A forked child has one of its own, free:
    whoever held its parent's is not there."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Leave the parent's lock to the parent."""
        self._lock = threading.RLock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A `with` that holds it, also across a fork inside."""
        with self._lock:
            yield


class RestingLock(ThreadLock):
    """One that a fork waits for a while, so that no child finds half done what it guards.

    order: see rest_during_fork.
    """

    def __init__(self, order: int) -> None:
        super().__init__()
        rest_during_fork(self, order)

    def pause(self) -> bool:
        """Wait until no other thread holds it."""
        return self._lock.acquire(timeout=fork_begins_within())

    def resume(self) -> None:
        """The fork is over."""
        self._lock.release()


class FileLock:
    """An exclusive lock between processes on `path`. Not reentrant, and not a lock between the
    threads of one process: hold a threading.Lock around it."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it where it is missing. Raises OSError where that can't be."""
        self.path = path
        self._depth = 0
        self._fd: int | None = None  # for __del__, where the next line raises
        self._fd = open_own(path, os.O_RDWR | os.O_CREAT)
        self._opened = file_id(self._fd)
        tell_after_fork(self)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False, at once, where `wait` is False and someone holds it."""
        if self._fd is None or not (self._depth or leads_to(self._fd, self._opened)):
            # Closed, by whomever, or inherited through a fork: a lock of this process's own.
            self._fd = open_own(self.path, os.O_RDWR | os.O_CREAT)
            self._opened = file_id(self._fd)
        if not self._depth and not _lock(self._fd, wait):
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._depth:
            self._depth -= 1
            if not self._depth and self._fd is not None:
                _unlock(self._fd)

    def in_place(self) -> bool:
        """True if the path leads to the file that is open, or none is open."""
        return self._fd is None or is_at(self.path, self._opened)

    def inode(self) -> int:
        """The number of the locked file in its file system; a copy of the file has another."""
        if self._fd is None:
            return 0
        return os.fstat(self._fd).st_ino

    def close(self) -> None:
        """Close the file, and so release the lock."""
        if self._fd is not None:
            close_own(self._fd, self._opened)
            self._fd = None
            self._depth = 0

    after_fork = close  # the parent's lock is not the child's to keep alive

    def __del__(self) -> None:
        self.close()


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on a file; False where there is none, or nobody can know."""
    if not path.exists():
        return False
    with suppress(OSError):
        lock = FileLock(path)
        try:
            return not lock.acquire(wait=False)
        finally:
            lock.close()
    return False


class ThreadsLock(Protocol):
    """A lock between the threads of one process, as `threading` has them."""

    def acquire(self, *, timeout: float = -1) -> bool:
        """Take it; False where it could not be had within so many seconds, -1 for no limit."""

    def release(self) -> None:
        """Give it back."""


class Held:
    """A `with` that holds a lock between threads and one between processes; its value is False
    where they could not be had.

    timeout: seconds to wait, None for as long as it takes.
    """

    __slots__ = ("_between_processes", "_between_threads", "_mine", "_timeout")

    def __init__(
        self,
        between_threads: ThreadsLock,
        between_processes: FileLock | None,
        timeout: float | None = None,
    ) -> None:
        self._between_threads = between_threads
        self._between_processes = between_processes
        self._timeout = timeout
        self._mine = False

    def __enter__(self) -> bool:
        timeout, lock = self._timeout, self._between_processes
        began = 0.0 if timeout is None else time.monotonic()
        if not self._between_threads.acquire(timeout=-1 if timeout is None else timeout):
            return False
        try:
            self._mine = lock is None or acquired(lock, timeout, began)
        finally:
            if not self._mine:
                self._between_threads.release()
        return self._mine

    def __exit__(self, *_: object) -> None:
        if self._mine:
            try:
                if self._between_processes is not None:
                    self._between_processes.release()
            finally:
                self._between_threads.release()


def acquired(lock: FileLock, timeout: float | None, began: float) -> bool:
    """Whether a lock could be had within so many seconds of a time by the monotonic clock."""
    if timeout is None:
        return lock.acquire()
    while not lock.acquire(wait=False):
        if time.monotonic() - began >= timeout:
            return False
        time.sleep(_POLL)
    return True


if sys.platform == "win32":

    def _lock(fd: int, wait: bool) -> bool:
        os.lseek(fd, 0, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
            else:
                return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:

    def _lock(fd: int, wait: bool) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
