"""Work that an event loop must not wait for and a cancellation must not cut short.

A cancelled task gets its CancelledError at whatever it awaits. Where that is the writing of what
has happened already, the writing goes on, and the task hears of its cancellation afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context


def is_cancelled_task(error: BaseException | None) -> bool:
    """Whether an exception is asyncio's CancelledError.

    Nothing is imported for it: where asyncio is not there, it is none, and an import that is
    interrupted may stay half done.
    """
    exceptions = sys.modules.get("asyncio.exceptions")
    return exceptions is not None and isinstance(error, exceptions.CancelledError)


async def in_thread(work: Callable[[], None]) -> None:
    """Do some work in a thread, to its end; the event loop goes on meanwhile.

    Raises what `work` raises; CancelledError, once the work is done, where the task was cancelled.
    """
    import asyncio  # late: plain code, which is most, has no use for it

    # Not asyncio.to_thread: its task is among those that a loop cancels when it shuts down.
    done = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        done.exception()  # seen, or asyncio complains that nobody looked
        raise cancelled
    done.result()
