"""Runs work in a thread for an event loop; cancelling the task does not stop the work.

A cancelled task gets a CancelledError at its current `await`. If it awaits the writing of events
that have already happened, the writing is completed first, and then the task is cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from lllm.events.concurrency import workers

if TYPE_CHECKING:
    import asyncio


def is_cancelled_task(error: BaseException | None) -> bool:
    """True if an exception is asyncio's CancelledError.

    asyncio is not imported for this: if it is not loaded, the exception is not of this class, and
    an interrupted import may stay half done.

    Args:
        error: The exception; None if there is none.

    Returns:
        False for other exceptions and for None.
    """
    exceptions = sys.modules.get("asyncio.exceptions")
    return exceptions is not None and isinstance(error, exceptions.CancelledError)


async def in_thread(work: Callable[[], None]) -> None:
    """Run work to its end in a thread, while the event loop continues.

    Args:
        work: The function to run. It is called again if its thread was interrupted in the middle.

    Raises:
        CancelledError: The task was cancelled; the work was completed first.
        BaseException: `work` raised it.
    """
    import asyncio  # imported late: synchronous programs do not need it

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(_set_done, done)

    job = workers.Job(work, tell)
    workers.add(job)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if not done.done():
            workers.again(job)
            timer = loop.call_later(workers.LOOK_SECONDS, look)

    timer = loop.call_later(workers.LOOK_SECONDS, look)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not job.is_over:
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as error:
                cancelled = error
    finally:
        timer.cancel()
    if cancelled is not None:
        raise cancelled
    if job.error is not None:
        raise job.error


def _set_done(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
