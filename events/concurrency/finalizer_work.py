"""Queues work that a finalizer must not do itself; a short-lived thread does it.

The garbage collector runs finalizers at any bytecode of any thread, also while the thread holds a
lock. A finalizer that waits for a lock may therefore wait for its own thread. So finalizers only
append to a queue. To use it: `weakref.finalize(thing, finalizer_work.close_later, close)`.

Closing functions run after all other queued work: a stream and its store may be dropped together,
and the end of the stream has to be written to the store first.

The thread ends when the queue is empty, so that a later fork has one thread less. If no thread can
be started (when the interpreter ends), `settle` does the work at exit.
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
_LONGEST = 5.0  # `settle` waits so many seconds for the thread to finish
_POLL = 0.001  # seconds between two checks whether a collection has ended

Work = Callable[[], object]


class _Queue:
    """The queued work, and the thread that does it."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()  # append and popleft are atomic and take no lock
        self.closings: deque[Work] = deque()  # run when no other work is queued
        self._turn = _thread.allocate_lock()  # never waited for without a timeout
        self._worker = 0  # the thread that does the work now
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
        # not threading.Thread, whose `start` waits until the new thread runs
        if self and not self._turn.locked():
            # no thread can be started; the next `settle` does the work
            with suppress(RuntimeError):
                _thread.start_new_thread(self.work, (0.0,))

    def work(self, patience: float) -> None:
        """Do the queued work.

        Give up if another thread does it for more than `patience` seconds.
        """
        until = time.monotonic() + patience
        # Checked again after the turn is released, for work that was queued in between.
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
            # a running collection may queue work that has to be done before closing
            time.sleep(_POLL)
        for queue in (self.waiting, self.closings):
            with suppress(IndexError):
                return queue.popleft()
        return None

    def _do_all(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # there is no caller who could get the error
                _logger.error(
                    "an object that was garbage-collected could not be closed", exc_info=error
                )
            del work  # the work may refer to dropped objects

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

    It waits for nothing, so finalizers and signal handlers may call it.

    Args:
        work: The function; it is called once.
    """
    _queue.waiting.append(work)
    _queue.start()


def close_later(work: Work) -> None:
    """Run a closing function soon, after all other queued work.

    Args:
        work: The function; it is called once.
    """
    _queue.closings.append(work)
    _queue.start()


def catch_up() -> None:
    """Do the queued work in this thread, unless another does it; for when no thread could start.

    Nothing is done during a garbage collection, which may have interrupted any code.
    """
    if _queue and not _collection.is_mine:
        _queue.work(0.0)


def settle() -> None:
    """Wait until the work queued so far is done, for at most five seconds."""
    _queue.wait(_LONGEST)


def by_collector() -> bool:
    """True if the garbage collector is running this code, possibly inside other code.

    Returns:
        False in all other code.
    """
    return _collection.is_mine


class _Collection:
    """Knows if the garbage collector is running, and in which thread.

    The collector calls each function in `gc.callbacks` when it starts and stops. An exception that
    a signal handler raises there (Ctrl-C) is lost, so no Python code may run there. The callbacks
    are methods of built-in types: they remove a key from a dict at the start and set it at the end,
    and record the thread.
    """

    def __init__(self) -> None:
        # the last collection is still running
        self._phases: dict[str, object] = {"start": None, "stop": None}
        self._here = threading.local()
        gc.callbacks.extend(
            (self._phases.pop, self._phases.setdefault, partial(setattr, self._here))
        )

    def after_fork(self) -> None:
        """Forget a collection in a thread that does not exist in the child."""
        if not self.is_mine:
            self._phases["stop"] = self._phases.pop("stop")

    @property
    def goes_on(self) -> bool:
        """True while any thread collects garbage."""
        # in one step: another thread may start a collection
        return list(self._phases)[-1] == "start"

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
