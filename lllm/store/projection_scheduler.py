"""Brings rows up to date when sessions end, at most ten times a second.

Bringing the rows up to date after each session took 44 % of the time of a short one. So the first
session that ends is followed at once. Those that end within a tenth of a second after it are
handled together, by a thread or by the next reader. Only programs that can't bring rows up to date
themselves see the difference: readers of a read-only store, or of the tables by plain SQL.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import ThreadLock

_EVERY = 0.1  # seconds

_logger = logging.getLogger("lllm.store")


class CatchesUp(Protocol):
    """An object that brings rows up to date: a Projector, or a ReadModel that has one."""

    def catch_up(self, *, timeout: float) -> bool:
        """Bring the rows up to date; see `Projector.catch_up`."""


class _Later:
    """Work that a thread does after a delay, unless it is cancelled.

    It is not a threading.Timer, whose `start` waits until the new thread runs: an exception that is
    set in the starting thread (PyThreadState_SetAsyncExc) may then be raised in the new one before
    its first step, and the work would be lost. `finished` is set when it is done or cancelled.
    """

    def __init__(self, seconds: float, work: Callable[[], object]) -> None:
        """Raises RuntimeError if no thread can be started."""
        self._seconds = seconds
        self._work = work
        self.finished = threading.Event()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        if not self.finished.wait(self._seconds):
            self._work()
            self.finished.set()

    def cancel(self) -> None:
        """Cancel the work, if it has not begun."""
        self.finished.set()


class CatchUp:
    """Brings rows up to date when sessions of this process end.

    Args:
        rows: The object that brings the rows up to date.
    """

    def __init__(self, rows: CatchesUp) -> None:
        self._rows = rows
        self._next = 0.0  # on the monotonic clock
        self._later: _Later | None = None
        # Reentrant, because the garbage collector may end a session or close the store in between.
        self._lock = ThreadLock()
        self._at_it = ThreadLock()
        self._is_due = False  # a session ended that no run has included yet
        self._closed = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the scheduled work, because the parent's thread does it."""
        self._later = None

    def session_ended(self) -> None:
        """Bring rows up to date now, or soon if that was done just before."""
        now = time.monotonic()
        with self._lock.held():
            if self._closed:
                return  # also at the interpreter's exit, when no new thread can start
            if self._later is not None:
                return  # the scheduled run will include this session
            if now < self._next and self._start_later(self._next - now):
                return
            self._next = now + _EVERY
        self._catch_up()

    def _start_later(self, seconds: float) -> bool:
        try:
            self._later = _Later(seconds, self._run)
            self._is_due = True
        except RuntimeError:  # the interpreter exits, or there are too many threads
            return False
        return True

    def _run(self) -> None:
        with self._lock.held():
            self._later = None
            self._next = time.monotonic() + _EVERY
        with self._at_it.held():
            if not self._closed:
                self._is_due = False
                self._catch_up()

    def _catch_up(self) -> None:
        if not self._caught_up():
            # Another one is running, and may have begun before the session ended.
            with self._lock.held():
                if self._later is None and not self._closed:
                    self._start_later(_EVERY)

    def _caught_up(self) -> bool:
        try:
            return self._rows.catch_up(timeout=0)
        except Exception as error:  # a user's view may raise anything
            if not self._closed:
                _logger.warning("the rows could not follow the log: %s", error)
        return True

    def close(self) -> None:
        """Do the scheduled work now."""
        with self._at_it.held():  # after a run that began before the last session ended
            with self._lock.held():
                later, self._later = self._later, None
                self._closed = True
            if later is not None:
                later.cancel()
            if self._is_due:
                self._caught_up()
