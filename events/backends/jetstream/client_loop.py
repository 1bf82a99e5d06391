"""Runs the client of NATS, which is asyncio only, in one thread of the process.

The user's own event loop is never used: whoever calls waits for the thread as for any server. A
forked child makes a thread and connections of its own when it first needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from typing import TYPE_CHECKING, TypeVar

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.concurrency.thread_starts import starting_threads
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class ClientLoop:
    """An event loop in a thread; it is started at its first use and lives as the process."""

    def __init__(self) -> None:
        self._lock = RobustLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._of_parent: list[asyncio.AbstractEventLoop] = []
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the loop of the parent, but keep it from being closed.

        Closing it would take the parent's sockets out of the parent's selector, too.
        """
        if self._loop is not None:
            self._of_parent.append(self._loop)
        self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            with importing():
                import asyncio

            with self._lock:
                loop = self._loop
                if loop is None:
                    loop = asyncio.new_event_loop()
                    thread = threading.Thread(
                        target=loop.run_forever, name="lllm-nats", daemon=True
                    )
                    try:
                        starting_threads(thread.start)
                    except RuntimeError as error:  # there are too many, or the interpreter ends
                        loop.close()
                        raise LogUnavailable(f"no thread can be started: {error}") from error
                    self._loop = loop
        return loop

    def start(self, work: Coroutine[object, object, T]) -> Future[T]:
        """Begin a coroutine in the thread.

        Args:
            work: The coroutine.

        Returns:
            Its result, to be waited for.

        Raises:
            LogUnavailable: The thread can't be started.
        """
        try:
            loop = self._started()
        except LogUnavailable:
            work.close()
            raise
        import asyncio

        return asyncio.run_coroutine_threadsafe(work, loop)

    def run(self, work: Coroutine[object, object, T], seconds: float) -> T:
        """Run a coroutine in the thread, and wait for its result.

        Args:
            work: The coroutine.
            seconds: The longest time to wait.

        Returns:
            Its result.

        Raises:
            LogUnavailable: The thread can't be started, or the time was over.
        """
        return finish(self.start(work), seconds)


def finish(future: Future[T], seconds: float) -> T:
    """Wait for what `ClientLoop.start` has begun.

    Args:
        future: What it returned.
        seconds: The longest time to wait.

    Returns:
        The result.

    Raises:
        LogUnavailable: The time was over.
    """
    try:
        return future.result(max(seconds, 0.0))
    except WaitTimeout:
        raise LogUnavailable(f"no answer within {seconds:.1f} s") from None
    finally:
        future.cancel()


CLIENT_LOOP = ClientLoop()
