"""Detects that a `with` ended without a call of `__exit__`, which an interrupt can cause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from lllm.events.recorder import Recorder
from lllm.sessions.unfinished_sessions import Watch, watch_of


class EndsWithWith(Protocol):
    """A context manager whose exit methods are ExitOf objects.

    Attributes:
        recorder: The recorder of its session.
        looked_up: A weak reference to the exit callable that the last `with` looked up.
    """

    recorder: Recorder
    looked_up: Watch | None


class ExitOf:
    """A session's `__exit__` or `__aexit__`, as the `with` statement looks it up when it begins.

    Each `with` gets a callable that nothing else refers to. An interrupt may come before its first
    step, so that the session does not end; but when a `with` is left, its callable is freed. A
    Python function could not detect that, because the traceback of an exception keeps its own frame
    alive.
    """

    def __init__(self, method: Callable[..., object]) -> None:
        self._method = method

    def __get__(self, scope: EndsWithWith | None, _: object = None) -> Callable[..., object]:
        if scope is None:  # looked up on the class, as ExitStack does just before it enters
            found = partial(self._method)
            _looking.up = watch_of(found)
        else:
            found = partial(self._method, scope)
            scope.looked_up = watch_of(found, scope.recorder.session_id)
        return found


def looked_up_for(scope: EndsWithWith) -> Watch | None:
    """Find the exit callable of the `with` that is entering a scope.

    Args:
        scope: The context manager that is entered.

    Returns:
        A weak reference to the callable; None if the scope is entered without a `with`.
    """
    if scope.looked_up is not None and scope.looked_up() is not None:
        return scope.looked_up
    looked_up, _looking.up = _looking.up, None  # the next look-up belongs to another `with`
    return None if looked_up is None or looked_up() is None else looked_up


class _Looking(threading.local):
    """The last exit callable that this thread looked up on a class."""

    up: Watch | None = None


_looking = _Looking()
