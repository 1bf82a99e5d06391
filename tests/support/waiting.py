"""Threads that stop where they have to wait for another, so that a test can tell that they do."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

HANG = 30.0  # seconds after which something that should end never will
_WAITS = {"_wait", "_queue_up", "_lock"}  # functions in which one of lllm's own locks is waited for
_STANDS_STILL = 0.1  # seconds; a lock of Python's own shows by nothing else


class Lock(Protocol):
    """Any of the locks in use."""

    def acquire(self) -> object: ...
    def release(self) -> None: ...


class Running:
    """Some work in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._result: object = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def waits(self) -> bool:
        """Whether it comes to wait for a lock; False where it ends before."""
        before, since = None, time.monotonic()
        while self._thread.is_alive():
            frame = sys._current_frames().get(self._thread.ident or 0)
            if frame is not None and _is_at_lock(frame):
                return True
            place = (id(frame), frame.f_lasti) if frame is not None else None
            if place is None or place != before:
                before, since = place, time.monotonic()
            elif time.monotonic() - since > _STANDS_STILL:
                return True
            time.sleep(0.001)
        return False

    def end(self) -> object:
        """What it returned, when it has ended. Raises what it raised."""
        self._thread.join(HANG)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._result


def _is_at_lock(frame: FrameType) -> bool:
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_name in _WAITS and at.f_code.co_filename.endswith("locks.py"):
            return True
        at = at.f_back
    return False


class Stop:
    """A step that stops in its middle until it is let go on."""

    def __init__(self) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()

    def here(self) -> None:
        """Stop, the first time."""
        if not self._reached.is_set():
            self._reached.set()
            assert self._go_on.wait(HANG)

    @contextmanager
    def reached_by(self, work: Callable[[], object]) -> Iterator[Running]:
        """A `with` in which some work of another thread has stopped here; it ends behind it."""
        running = Running(work)
        try:
            assert self._reached.wait(HANG)
            yield running
        finally:
            self.go_on()
        running.end()

    def go_on(self) -> None:
        """Let it go on."""
        self._go_on.set()

    def must_wait(
        self, running: Running, lock: Lock, state: Callable[[], object] = lambda: None
    ) -> None:
        """Assert that what has stopped here waits for a lock, before it changes something."""
        lock.acquire()
        try:
            before = state()  # which nobody changes now, but who does not wait for the lock
            self.go_on()
            assert running.waits(), "it goes on while another thread is in the middle of its step"
            assert state() == before, "something was done before it waits"
        finally:
            lock.release()


def waits_for(
    lock: Lock, work: Callable[[], object], state: Callable[[], object] = lambda: None
) -> object:
    """Assert that work in another thread waits while a lock is held, and ends when it is free.

    state: what must not have changed while it waits. Returns what the work returned.
    """
    stop = Stop()

    def stopped() -> object:
        stop.here()
        return work()

    with stop.reached_by(stopped) as running:
        stop.must_wait(running, lock, state)
    return running.end()
