"""Calls a tactic for each of many tasks: in threads, or on an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial

from lllm.events.concurrency.thread_starts import starting_threads


def in_threads(
    call: Callable[[object], object],
    tasks: Iterable[object],
    *,
    max_workers: int | None,
    fail_fast: bool,
) -> list[object]:
    """Make one call for each task, in several threads.

    Args:
        call: A function that is called with each task.
        tasks: The tasks.
        max_workers: The number of threads; None for the default of ThreadPoolExecutor.
        fail_fast: True to raise the first error and skip the tasks that have not begun; False to
            return each error in place of its task's result.

    Returns:
        The results in the order of the tasks.

    Raises:
        TypeError: `tasks` is a str.
        ValueError: `max_workers` is less than 1.
        BaseException: With `fail_fast`, the error of a call. Without, only an error that is not an
            Exception, such as KeyboardInterrupt.
    """
    _check(max_workers, tasks)
    with ThreadPoolExecutor(max_workers) as pool:
        try:
            # Each thread gets the caller's context, which includes the current session.
            works = [partial(copy_context().run, call, task) for task in tasks]
            futures = starting_threads(lambda: [pool.submit(work) for work in works])
            if fail_fast:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            return [_result_or_error(future) for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result_or_error(future: Future[object]) -> object:
    error = future.exception()
    return error if isinstance(error, Exception) else future.result()


async def on_loop(
    call: Callable[[object], Awaitable[object]],
    tasks: Iterable[object],
    *,
    max_workers: int | None,
    fail_fast: bool,
) -> AsyncGenerator[tuple[int, object], None]:
    """Make one call for each task, on the event loop.

    Calls that are still running when the generator is closed are cancelled.

    Args:
        call: An async function that is called with each task.
        tasks: The tasks.
        max_workers: The number of calls at the same time; None for no limit.
        fail_fast: True to raise the first error; False to yield each error in place of a result.

    Yields:
        The index of a task and its result, in the order in which they end.

    Raises:
        TypeError: `tasks` is a str.
        ValueError: `max_workers` is less than 1.
        BaseException: With `fail_fast`, the error of a call. Without, only an error that is not an
            Exception.
    """
    import asyncio

    _check(max_workers, tasks)
    limit = nullcontext() if max_workers is None else asyncio.Semaphore(max_workers)

    async def one(index: int, task: object) -> tuple[int, object]:
        async with limit:
            try:
                return index, await call(task)
            except Exception as error:
                if fail_fast:
                    raise
                return index, error

    running = [asyncio.ensure_future(one(index, task)) for index, task in enumerate(tasks)]
    try:
        for future in asyncio.as_completed(running):
            yield await future
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _check(max_workers: int | None, tasks: Iterable[object]) -> None:
    if isinstance(tasks, str):
        raise TypeError(f"tasks is a list of tasks; {tasks!r} is one task")
    if max_workers is not None and max_workers < 1:
        raise ValueError(f"max_workers is at least 1, not {max_workers}")
