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
_LONGEST_GOODBYE = 2.0  # seconds for what is cancelled to write that it was


def run(call: Callable[[], object]) -> object:
    """Call a function in this thread, and wait for its result.

    What is awaitable runs on an event loop of its own, in another thread where this one has a loop
    running, as in a notebook.

    Args:
        call: The function, with its arguments.

    Returns:
        What it returns, awaited.

    Raises:
        BaseException: What it raises.
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
            result.close()  # or Python warns that nobody awaited it


async def arun(call: Callable[[], object], *, is_async: bool) -> object:
    """Call a function from an event loop, and wait for its result.

    Args:
        call: The function, with its arguments.
        is_async: Whether it is an `async def`. Any other runs in a thread, so as not to hold up
            the loop.

    Returns:
        What it returns, awaited.

    Raises:
        BaseException: What it raises.
    """
    if is_async:
        return await cast(Awaitable[object], call())
    result = await to_thread(call)
    return await result if inspect.isawaitable(result) else result


def _run_beside_loop(work: Callable[[], Coroutine[object, object, object]]) -> object:
    """Run async code in another thread, and wait for it.

    Where this thread is interrupted, as a notebook's is, the code is cancelled, and waited for
    until it has written so.
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

    # A daemon: what does not heed its cancellation must not keep the program from its end.
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="lllm-event-loop", daemon=True)
    try:
        starting_threads(thread.start)  # inside: the thread may run when an interrupt ends this
        return outcome.result()
    except BaseException:
        if not outcome.done():
            stopped.set()
            for loop, task in list(running):
                with suppress(RuntimeError):  # it has just been closed
                    loop.call_soon_threadsafe(task.cancel)
            if thread.is_alive():
                wait([outcome], timeout=_LONGEST_GOODBYE)
        raise
