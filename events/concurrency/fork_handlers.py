"""Prepares objects for a fork: pauses them before it, and resets them in the child.

The child gets a copy of the memory and of the open files, and one thread: the one that forked.
What holds a descriptor, a lock or a connection is told in the child (`register_after_fork`), and
what must be at rest at the moment of the fork is asked to pause before it (`pause_at_fork`).
"""

from __future__ import annotations

import logging  # noqa: F401 - first: its own hook must be called behind ours, see below
import os
import threading
import time
from itertools import chain
from typing import Protocol

from lllm.events.concurrency.weak_sets import LiveSet


class ForkAware(Protocol):
    """An object that must be reset in a forked child."""

    def after_fork(self) -> None:
        """Reset the object in a forked child, before anything else runs there."""


_fork_aware: LiveSet[ForkAware] = LiveSet()


def register_after_fork(thing: ForkAware) -> None:
    """Call `thing.after_fork()` in every child that is forked while it lives.

    Args:
        thing: It is not kept alive by this.
    """
    _fork_aware.add(thing)


def _tell_all() -> None:
    for thing in _fork_aware:
        thing.after_fork()


class Pausable(Protocol):
    """An object that must be idle while its process forks."""

    def pause(self) -> bool:
        """Become idle before a fork; called in the thread that forks.

        Returns:
            Whether `resume` is to be called after it.
        """

    def resume(self) -> None:
        """Continue after the fork; called in the same thread of the parent."""


class _Paused(threading.local):
    """The objects that a fork of this thread has paused, and its deadline."""

    def __init__(self) -> None:
        self.things: list[Pausable] = []
        self.until = 0.0  # by the monotonic clock


_paused = _Paused()
_INNERMOST = 9
_pausable: dict[int, LiveSet[Pausable]] = {}  # by their order
_LONGEST_PAUSE = 1.0  # seconds that a fork waits, for everything together


def pause_at_fork(thing: Pausable, order: int = _INNERMOST) -> None:
    """Pause an object at each fork while it lives.

    Args:
        thing: It is not kept alive by this.
        order: The lower pauses first. What is held while others are taken must be lower than those,
            or the fork would hold what it waits for.
    """
    _pausable.setdefault(order, LiveSet()).add(thing)


def fork_begins_within() -> float:
    """Seconds that a `pause` may still wait before the fork happens anyway."""
    return max(0.0, _paused.until - time.monotonic())


def _pause_all() -> None:
    _paused.until = time.monotonic() + _LONGEST_PAUSE
    _resume_all()  # what an interrupt left of the last fork
    for thing in chain(*(_pausable[order] for order in sorted(_pausable))):
        _paused.things.append(thing)  # first: an interrupt may come as soon as it pauses
        if not thing.pause():
            _paused.things.pop()


def _resume_all() -> None:
    while _paused.things:
        _paused.things[0].resume()  # twice does nothing, after an interrupt
        del _paused.things[:1]


# What registers last is called first. logging's hook takes the lock that every logger needs; taken
# before ours, threads that we wait for could not go on.
os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_tell_all)
