"""Starts threads safely in programs that raise exceptions into threads from outside.

`threading.Thread.start` waits until the new thread runs, and so do executors, which start threads.
Up to Python 3.11 a new thread bears the number of its creator at first, so that what somebody
raises in the creator (PyThreadState_SetAsyncExc) may end the new one before its first step; then
`start` waits for ever. Here the creator is a thread that nobody else knows of.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_SECONDS = 0.05  # until the creator has begun, or another one is started
_BEARS_CREATORS_NUMBER = sys.version_info < (3, 12)


def starting_threads(work: Callable[[], T]) -> T:
    """Run a short function that starts threads, safely, and wait for it.

    Args:
        work: Called once.

    Returns:
        What it returns.

    Raises:
        BaseException: What it raises.
    """
    if not _BEARS_CREATORS_NUMBER:
        return work()
    begun = _thread.allocate_lock()
    over = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        if not begun.acquire(blocking=False):
            return
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            over.set()

    while not over.is_set():
        if not begun.locked():
            try:
                _thread.start_new_thread(do, ())
            except RuntimeError:  # too many threads, or the interpreter ends
                do()
        over.wait(_LOOK_SECONDS)
    if errors:
        raise errors[0]
    return results[0]


async def to_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `asyncio.to_thread`, with threads that are started safely.

    Args:
        function: Called in the thread.
        *args: Its arguments.
        **kwargs: Its named arguments.

    Returns:
        What it returns.

    Raises:
        RuntimeError: It raised StopIteration, which no future can carry: before Python 3.12 whoever
            awaits it would wait for ever.
        BaseException: What else it raises.
    """
    import asyncio  # late: plain code has no use for it

    def call() -> T:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            raise RuntimeError("A function that ran in a thread raised StopIteration.") from error

    loop = asyncio.get_running_loop()
    run = partial(copy_context().run, call)
    # The loop waits meanwhile, so that this is as if it did it itself.
    return await starting_threads(lambda: loop.run_in_executor(None, run))
