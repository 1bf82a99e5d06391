"""Starts threads safely in programs that raise exceptions into threads from outside.

`threading.Thread.start` waits until the new thread runs, and so do executors, which start threads.
Up to Python 3.11 a new thread has the ident of its creator at first. An exception that other code
raises in the creator (PyThreadState_SetAsyncExc) may then end the new thread before its first step,
and `start` waits forever. Here the creator is a thread that no other code knows.
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

_LOOK_SECONDS = 0.05  # seconds for the creator to begin, before another one is started
_BEARS_CREATORS_NUMBER = sys.version_info < (3, 12)


def starting_threads(work: Callable[[], T]) -> T:
    """Run a short function that starts threads, in a thread that nothing can interrupt.

    Args:
        work: The function; it is called once.

    Returns:
        The result of the function.

    Raises:
        BaseException: The function raised it.
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
            except RuntimeError:  # there are too many threads, or the interpreter ends
                do()
        over.wait(_LOOK_SECONDS)
    if errors:
        raise errors[0]
    return results[0]


async def to_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread, like `asyncio.to_thread`, but start the thread safely.

    Args:
        function: The function to run.
        *args: The positional arguments of the function.
        **kwargs: The keyword arguments of the function.

    Returns:
        The result of the function.

    Raises:
        RuntimeError: The function raised StopIteration, which a future can't carry; before Python
            3.12 its awaiter would wait forever.
        BaseException: The function raised it.
    """
    import asyncio  # imported late: synchronous programs do not need it

    def call() -> T:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            raise RuntimeError("A function that ran in a thread raised StopIteration.") from error

    loop = asyncio.get_running_loop()
    run = partial(copy_context().run, call)
    # The event loop waits meanwhile, as if it started the thread itself.
    return await starting_threads(lambda: loop.run_in_executor(None, run))
