"""Runs work in a thread for an event loop; cancelling the task does not cut the work short.

A cancelled task gets its CancelledError at whatever it awaits. Where that is the writing of what
has happened already, the writing goes on, and the task hears of its cancellation afterwards.
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

    Nothing is imported for it: where asyncio is not there, it is none, and an import that is
    interrupted may stay half done.

    Args:
        error: What was raised, None for nothing.
    """
    exceptions = sys.modules.get("asyncio.exceptions")
    return exceptions is not None and isinstance(error, exceptions.CancelledError)


async def in_thread(work: Callable[[], None]) -> None:
    """Run work to its end in a thread, while the event loop continues.

    Args:
        work: What to do. It is done once more where its thread was interrupted in its middle.

    Raises:
        CancelledError: The task was cancelled. The work is done all the same, and waited for.
        BaseException: What `work` raises.
    """
    import asyncio  # late: plain code, which is most, has no use for it

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
