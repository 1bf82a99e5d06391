"""Queues work that a finalizer must not do itself; a short-lived thread does it.

The garbage collector runs finalizers at any bytecode of any thread, also while that thread holds a
lock. A finalizer that waited for a lock could wait for its own thread. So finalizers only append to
a queue. `weakref.finalize(thing, deferred.close_later, close)` is the whole pattern.

What is closed comes behind what else waits: a stream and its store may be dropped together, and
the end of the stream is written to the store.

The thread ends when the queue is empty, so that a program that forks later has one thread less.
Where none can be started (at the end of the interpreter), `settle` does the work at exit.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from lllm.events.concurrency.fork_handlers import register_after_fork

_logger = logging.getLogger("lllm.store")
_LONGEST = 5.0  # seconds that `settle` waits for the thread to finish
_POLL = 0.001  # seconds between two looks at whether a collection has ended

Work = Callable[[], object]


class _Queue:
    """The queued work, and the thread that does it."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()  # append and popleft are atomic and take no lock
        self.closings: deque[Work] = deque()  # done when nothing else waits
        self._turn = _thread.allocate_lock()  # only ever tried, or waited for with a timeout
        self._worker = 0  # the thread that has the turn
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the queued work, which the parent does."""
        self.waiting = deque()
        self.closings = deque()
        self._turn = _thread.allocate_lock()
        self._worker = 0
        _collection.after_fork()

    def start(self) -> None:
        """Start a thread for the queued work, without waiting."""
        # Not threading.Thread: its `start` waits until the new thread runs.
        if self and not self._turn.locked():
            with suppress(RuntimeError):  # no more threads; the next `settle` does it
                _thread.start_new_thread(self.work, (0.0,))

    def work(self, patience: float) -> None:
        """Do the queued work; gives up if another thread does it for over `patience` seconds."""
        until = time.monotonic() + patience
        # Work that is queued behind the last look is seen here, once the turn was given back.
        while self and self._worker != threading.get_ident():
            if not self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
                return
            try:
                self._worker = threading.get_ident()
                self._do_all()
            finally:
                self._worker = 0
                self._turn.release()

    def __bool__(self) -> bool:
        return bool(self.waiting or self.closings)

    def _next(self) -> Work | None:
        """Take the next work from the queue."""
        until = time.monotonic() + _LONGEST
        while self and not self.waiting and _collection.is_of_another and time.monotonic() < until:
            time.sleep(_POLL)  # what is collected now may bring work for what is to be closed
        for queue in (self.waiting, self.closings):
            with suppress(IndexError):
                return queue.popleft()
        return None

    def _do_all(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # nobody is there to hear it
                _logger.error("what was dropped could not be ended", exc_info=error)
            del work  # it may hold what was dropped

    def wait(self, patience: float) -> None:
        """Do the queued work, and wait for work that another thread has begun."""
        until = time.monotonic() + patience
        self.work(patience)
        if self._worker == threading.get_ident():
            return
        if self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
            self._turn.release()
        self.work(max(0.0, until - time.monotonic()))


_queue = _Queue()


def later(work: Work) -> None:
    """Run a function soon, in another thread.

    This waits for nothing, so that finalizers and signal handlers may call it.

    Args:
        work: Called once.
    """
    _queue.waiting.append(work)
    _queue.start()


def close_later(work: Work) -> None:
    """Run a closing function soon, after all other queued work.

    Args:
        work: Called once.
    """
    _queue.closings.append(work)
    _queue.start()


def catch_up() -> None:
    """Run the queued work here, unless a thread is doing so; for when no thread could start.

    Nothing is done in a collection, which may have interrupted anything.
    """
    if _queue and not _collection.is_mine:
        _queue.work(0.0)


def settle() -> None:
    """Wait until the work queued so far is done, for five seconds at most."""
    _queue.wait(_LONGEST)


def by_collector() -> bool:
    """True if the garbage collector is running this code, possibly inside other code."""
    return _collection.is_mine


class _Collection:
    """Knows if the garbage collector is running, and in which thread.

    The collector calls each of `gc.callbacks` as it starts and stops. What a signal handler raises
    there (Ctrl-C) is lost, so no Python code may run there. These are methods of built-in types: a
    phase is taken out of a dict and put in at its end, and noted for the thread.
    """

    def __init__(self) -> None:
        self._phases: dict[str, object] = {"start": None, "stop": None}  # the last goes on
        self._here = threading.local()
        gc.callbacks.extend(
            (self._phases.pop, self._phases.setdefault, partial(setattr, self._here))
        )

    def after_fork(self) -> None:
        """Forget a collection in a thread that is not in the child."""
        if not self.is_mine:
            self._phases["stop"] = self._phases.pop("stop")

    @property
    def goes_on(self) -> bool:
        """True while any thread collects garbage."""
        return list(self._phases)[-1] == "start"  # in one step: another thread may begin

    @property
    def is_mine(self) -> bool:
        """True while this thread collects garbage."""
        return self.goes_on and getattr(self._here, "start", None) is self._phases["start"]

    @property
    def is_of_another(self) -> bool:
        """True while another thread collects garbage."""
        return self.goes_on and not self.is_mine


_collection = _Collection()
atexit.register(settle)
