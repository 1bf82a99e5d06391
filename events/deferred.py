"""Work that a finalizer must not do itself: it is queued, and a short-lived thread does it.

The garbage collector runs finalizers at any bytecode of any thread, also while that thread holds a
lock. A finalizer that waited for a lock could wait for its own thread. So finalizers only append to
a queue. `weakref.finalize(thing, deferred.later, work)` is the whole pattern.

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

from lllm.events.locks import tell_after_fork

_logger = logging.getLogger("lllm.store")
_LONGEST = 5.0  # seconds that `settle` waits for the thread to finish

Work = Callable[[], object]
_collecting = threading.local()


class _Queue:
    """The work that waits, and who does it."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()  # append and popleft are atomic and take no lock
        self._turn = _thread.allocate_lock()  # only ever tried, or waited for with a timeout
        self._worker = 0  # the thread that has the turn
        tell_after_fork(self)

    def after_fork(self) -> None:
        """What the parent dropped, the parent ends."""
        self.waiting = deque()
        self._turn = _thread.allocate_lock()
        self._worker = 0

    def start(self) -> None:
        """Have the waiting work done by a thread; waits for nothing."""
        # Not threading.Thread: its `start` waits until the new thread runs.
        if self.waiting and not self._turn.locked():
            with suppress(RuntimeError):  # no more threads; the next `settle` does it
                _thread.start_new_thread(self.work, (0.0,))

    def work(self, patience: float) -> None:
        """Do the waiting work, unless another thread is at it for over `patience` seconds."""
        until = time.monotonic() + patience
        # Work that is queued behind the last look is seen here, once the turn was given back.
        while self.waiting and self._worker != threading.get_ident():
            if not self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
                return
            try:
                self._worker = threading.get_ident()
                self._do_all()
            finally:
                self._worker = 0
                self._turn.release()

    def _do_all(self) -> None:
        while True:
            try:
                work = self.waiting.popleft()
            except IndexError:
                return
            try:
                work()
            except Exception as error:  # nobody is there to hear it
                _logger.error("what was dropped could not be ended", exc_info=error)
            del work  # it may hold what was dropped

    def wait(self, patience: float) -> None:
        """Do the waiting work, and wait for what another thread has begun."""
        until = time.monotonic() + patience
        self.work(patience)
        if self._worker == threading.get_ident():
            return
        if self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
            self._turn.release()
        self.work(max(0.0, until - time.monotonic()))


_queue = _Queue()


def later(work: Work) -> None:
    """Have some work done soon, in another thread. Waits for nothing, so that finalizers and signal
    handlers may call it."""
    _queue.waiting.append(work)
    _queue.start()


def catch_up() -> None:
    """Do what waits, unless another thread is at it; for ordinary operations, where no thread could
    be started."""
    if _queue.waiting:
        _queue.work(0.0)


def settle() -> None:
    """Wait until what was queued so far is done, for five seconds at most."""
    _queue.wait(_LONGEST)


def by_collector() -> bool:
    """Whether this code is run by the garbage collector, which came upon something."""
    return getattr(_collecting, "now", False)


def _watch(phase: str, _: object) -> None:
    _collecting.now = phase == "start"


gc.callbacks.append(_watch)
atexit.register(settle)
