"""Prepares objects for a fork: pauses them before it, and resets them in the child.

The child gets a copy of the memory and of the open files, but only one thread: the one that forked.
An object with a descriptor, a lock or a connection is reset in the child (`register_after_fork`).
An object that must be idle at the moment of the fork is paused before it (`pause_at_fork`).
"""

from __future__ import annotations

import logging  # noqa: F401 - first: its own hook must be called after ours, see below
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
    """Call `thing.after_fork()` in every forked child, while the object lives.

    Args:
        thing: The object; it is not kept alive by this.
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
            True if `resume` has to be called after the fork.
        """

    def resume(self) -> None:
        """Continue after the fork; called in the same thread of the parent."""


class _Paused(threading.local):
    """The objects that a fork of this thread has paused, and its deadline."""

    def __init__(self) -> None:
        self.things: list[Pausable] = []
        self.until = 0.0  # a time of the monotonic clock


_paused = _Paused()
_INNERMOST = 9
_pausable: dict[int, LiveSet[Pausable]] = {}  # objects to pause, by their order
_LONGEST_PAUSE = 1.0  # a fork waits at most so many seconds, for all objects together


def pause_at_fork(thing: Pausable, order: int = _INNERMOST) -> None:
    """Pause an object before each fork of the process, while the object lives.

    Args:
        thing: The object; it is not kept alive by this.
        order: Objects with a lower number are paused first. A lock that is held while other locks
            are taken needs a lower number than those; otherwise the fork would hold a lock that it
            waits for.
    """
    _pausable.setdefault(order, LiveSet()).add(thing)


def fork_begins_within() -> float:
    """The seconds that a `pause` may still wait; the fork happens then in any case."""
    return max(0.0, _paused.until - time.monotonic())


def _pause_all() -> None:
    _paused.until = time.monotonic() + _LONGEST_PAUSE
    _resume_all()  # left over from an interrupted fork
    for thing in chain(*(_pausable[order] for order in sorted(_pausable))):
        _paused.things.append(thing)  # added first: an interrupt may come as soon as it pauses
        if not thing.pause():
            _paused.things.pop()


def _resume_all() -> None:
    while _paused.things:
        _paused.things[0].resume()  # after an interrupt it may run twice, which does nothing
        del _paused.things[:1]


# The hook that is registered last is called first. The hook of `logging` takes a lock that every
# logger needs; if it came before ours, threads that we wait for could not continue.
os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_tell_all)
