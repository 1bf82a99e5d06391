"""Detects that a `with` ended without calling `__exit__`, which an interrupt can cause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from lllm.events.recorder import Recorder
from lllm.sessions.unfinished_sessions import Watch, watch_of


class EndsWithWith(Protocol):
    """A context manager whose exit methods are each an ExitOf.

    Attributes:
        recorder: Of its session.
        looked_up: What the last `with` looked up.
    """

    recorder: Recorder
    looked_up: Watch | None


class ExitOf:
    """A session's `__exit__` or `__aexit__`, as the `with` statement looks it up when it begins.

    Each `with` gets a callable that nobody else holds. An interrupt may come before its first step,
    so that the session goes on; but wherever a `with` is left, its callable is gone. No Python
    function can tell that: its own frame is held by the traceback of what was raised in it.
    """

    def __init__(self, method: Callable[..., object]) -> None:
        self._method = method

    def __get__(self, scope: EndsWithWith | None, _: object = None) -> Callable[..., object]:
        if scope is None:  # as ExitStack looks it up, just before it enters
            found = partial(self._method)
            _looking.up = watch_of(found)
        else:
            found = partial(self._method, scope)
            scope.looked_up = watch_of(found, scope.recorder.session_id)
        return found


def looked_up_for(scope: EndsWithWith) -> Watch | None:
    """Find the exit callable that the `with` which is entering a scope holds.

    Args:
        scope: What is entered.

    Returns:
        A weak reference to it; None where the scope is entered by hand.
    """
    if scope.looked_up is not None and scope.looked_up() is not None:
        return scope.looked_up
    looked_up, _looking.up = _looking.up, None  # another one's, from now on
    return None if looked_up is None or looked_up() is None else looked_up


class _Looking(threading.local):
    """The last exit callable that this thread looked up on a class."""

    up: Watch | None = None


_looking = _Looking()
