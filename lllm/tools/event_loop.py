"""Calls a user's function, `def` or `async def`, from sync and async code."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, cast

from lllm.events.concurrency.late_imports import importing
from lllm.events.concurrency.thread_starts import starting_threads, to_thread

if TYPE_CHECKING:
    import asyncio

_NOT_BEGUN = inspect.CORO_CREATED
_LONGEST_GOODBYE = 2.0  # seconds for a cancelled function to record its end


def run(call: Callable[[], object]) -> object:
    """Call a function in this thread, and wait for its result.

    An awaitable result is run on a new event loop; in another thread if this thread already runs a
    loop, as in a notebook.

    Args:
        call: The function, with its arguments.

    Returns:
        The result of the function, awaited if it is awaitable.

    Raises:
        BaseException: The error of the function.
    """
    result = call()
    if not inspect.isawaitable(result):
        return result
    with importing():
        import asyncio

    async def awaited() -> object:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited())
    try:
        return _run_beside_loop(awaited)
    finally:
        if inspect.iscoroutine(result) and inspect.getcoroutinestate(result) == _NOT_BEGUN:
            result.close()  # otherwise Python warns that it was never awaited


async def arun(call: Callable[[], object], *, is_async: bool) -> object:
    """Call a function from an event loop, and wait for its result.

    Args:
        call: The function, with its arguments.
        is_async: True for an `async def`. Any other function runs in a thread, so that it does not
            block the loop.

    Returns:
        The result of the function, awaited if it is awaitable.

    Raises:
        BaseException: The error of the function.
    """
    if is_async:
        return await cast(Awaitable[object], call())
    result = await to_thread(call)
    return await result if inspect.isawaitable(result) else result


def _run_beside_loop(work: Callable[[], Coroutine[object, object, object]]) -> object:
    """Run async code in another thread, and wait for it.

    If this thread is interrupted, as a notebook's can be, the code is cancelled, and this waits
    until it has recorded that.
    """
    import asyncio

    outcome: Future[object] = Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[object]]] = []
    stopped = threading.Event()

    async def main() -> object:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        if stopped.is_set():
            raise asyncio.CancelledError
        return await work()

    def run() -> None:
        try:
            result = asyncio.run(main())
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    # A daemon, because code that ignores its cancellation must not keep the program alive.
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="lllm-event-loop", daemon=True)
    try:
        # inside the `try`: the thread may run already when an interrupt ends this
        starting_threads(thread.start)
        return outcome.result()
    except BaseException:
        if not outcome.done():
            stopped.set()
            for loop, task in list(running):
                with suppress(RuntimeError):  # the loop may just have been closed
                    loop.call_soon_threadsafe(task.cancel)
            if thread.is_alive():
                wait([outcome], timeout=_LONGEST_GOODBYE)
        raise
