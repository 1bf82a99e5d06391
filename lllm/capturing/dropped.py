"""Streams that nobody holds any more: their calls are ended in a thread of its own.

The garbage collector may come upon a stream in the middle of anything, of the writing of an event
too, whose lock it would then wait for in the thread that holds it. So nothing is written there.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

_logger = logging.getLogger("lllm.invoker")
_LONGEST = 5.0  # seconds that the end of the process waits for what was dropped

_collecting = threading.local()


class _Ends:
    """What is to be ended, and the thread that does it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.queue: SimpleQueue[Callable[[], None]] = SimpleQueue()  # its put may interrupt itself
        threading.Thread(target=self._work, name="lllm-dropped-streams", daemon=True).start()

    def _work(self) -> None:
        while True:
            work = self.queue.get()
            try:
                work()
            except Exception as error:  # a log that can't be written, where nobody is there to hear
                _logger.error("a dropped stream could not be recorded", exc_info=error)
            del work  # or it would hold the stream until the next one


_ends: _Ends | None = None
_beginning = threading.Lock()


def make_ready() -> None:
    """Have the thread run; before the first stream, since the collector can begin no thread."""
    global _ends
    with _beginning:
        if _ends is None:
            gc.callbacks.append(_watch)
            atexit.register(settle)
        if _ends is None or _ends.pid != os.getpid():
            _ends = _Ends()


def _watch(phase: str, _: object) -> None:
    _collecting.now = phase == "start"


def by_collector() -> bool:
    """Whether this code is run by the garbage collector, which came upon something."""
    return getattr(_collecting, "now", False)


def later(work: Callable[[], None]) -> None:
    """Have some work done by the thread. Waits for nothing."""
    if _ends is not None and _ends.pid == os.getpid():
        _ends.queue.put(work)


def settle() -> None:
    """Wait until what was dropped so far is ended."""
    if _ends is not None and _ends.pid == os.getpid():
        done = threading.Event()
        _ends.queue.put(done.set)
        done.wait(_LONGEST)


def _forget() -> None:
    global _beginning
    _beginning = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
