"""One call for each of many tasks: in threads, or on an event loop."""

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
    """The results in the order of the tasks.

    max_workers: how many run at once, None for what ThreadPoolExecutor thinks fit. fail_fast:
    whether the first error is raised and the tasks that have not begun are left; without it, an
    error stands in its task's place. What wants to stop the program is raised either way.
    """
    _check(max_workers, tasks)
    with ThreadPoolExecutor(max_workers) as pool:
        try:
            # Each thread gets what the caller's context holds, the running session among it.
            works = [partial(copy_context().run, call, task) for task in tasks]
            futures = starting_threads(lambda: [pool.submit(work) for work in works])
            if fail_fast:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            return [_outcome(future) for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future[object]) -> object:
    error = future.exception()
    return error if isinstance(error, Exception) else future.result()


async def on_loop(
    call: Callable[[object], Awaitable[object]],
    tasks: Iterable[object],
    *,
    max_workers: int | None,
    fail_fast: bool,
) -> AsyncGenerator[tuple[int, object], None]:
    """(index of the task, result) as they come; what still runs when nobody asks any more is
    cancelled. The arguments are those of `in_threads`; None is no limit."""
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
