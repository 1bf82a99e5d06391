"""Detects a write that begins while the same thread is inside another write, and queues it.

A signal handler runs between any two bytecodes of its thread, and so do functions that the garbage
collector calls. If the thread is inside a write at that point, a second write can neither wait for
the first nor run between its steps. It is queued, and done when the first has ended.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from threading import get_ident
from types import FrameType

_logger = logging.getLogger("lllm.store")


class Nesting:
    """Knows the threads that are inside a write, and the work that is queued until it ends.

    A write is recorded with the frame of the function that does it. An interrupt may leave the
    record behind; a record whose frame no longer runs is ignored.
    """

    def __init__(self) -> None:
        self._inside: dict[int, FrameType] = {}
        self._afterwards: deque[Callable[[], object]] = deque()

    def begin(self, frame: FrameType) -> None:
        """Note that this thread begins a write.

        Args:
            frame: The frame of a function that runs until the write has ended.
        """
        self._inside[get_ident()] = frame

    def end(self) -> None:
        """Note that this thread's write has ended, and run the queued work."""
        self._inside.pop(get_ident(), None)
        if self._afterwards:
            self.run_queued()

    def is_inside(self) -> bool:
        """True if this thread is inside a write."""
        marked = self._inside.get(get_ident())
        if marked is None:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame is marked:
                return True
            frame = frame.f_back
        self._inside.pop(get_ident(), None)
        return False

    def queue(self, work: Callable[[], object]) -> None:
        """Queue work until this thread's current write has ended.

        Args:
            work: The function; it is called once.
        """
        self._afterwards.append(work)

    def run_queued(self) -> None:
        """Run the queued work in order."""
        while self._afterwards:
            try:
                work = self._afterwards.popleft()
            except IndexError:  # another thread has taken it
                return
            try:
                work()
            except Exception as error:  # the caller that queued it has continued
                _logger.error(
                    "events that a signal handler wrote could not be stored", exc_info=error
                )
