"""Makes and closes an invoker's SDK clients: one for all threads, one for each event loop.

A client is made when it is first needed. The connections of an event loop belong to that loop, and
are closed with it, or when the invoker is freed. The SDKs of OpenAI and Anthropic are made by the
same generator (https://www.stainless.com), so their clients are alike in everything that matters
here.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping


class SyncClient(Protocol):
    """The interface of an SDK's synchronous client."""

    def close(self) -> None:
        """Close its connections."""

    def platform_headers(self) -> Mapping[str, str]:
        """Headers that describe the machine and its Python."""


class AsyncClient(Protocol):
    """The interface of an SDK's asynchronous client."""

    async def close(self) -> None:
        """Close its connections."""

    def platform_headers(self) -> Mapping[str, str]:
        """Headers that describe the machine and its Python."""


S = TypeVar("S", bound=SyncClient)
A = TypeVar("A", bound=AsyncClient)


class Clients(Generic[S, A]):
    """Makes, keeps and closes the SDK clients of one invoker.

    Clients don't retry: they are made with max_retries=0. When a client is made, everything that
    its first call would import is imported, too, because a fork during a later import could block
    the child. Up to Python 3.11, a cached property holds a lock while it is computed
    (https://github.com/python/cpython/issues/87634), which a child would inherit. The SDK's
    resources and the processor's name for the headers are such properties, so they are computed,
    too.

    Args:
        make: A function that makes a client for threads; importing is allowed when it is called.
        make_async: A function that makes a client for an event loop.
    """

    def __init__(self, make: Callable[[], S], make_async: Callable[[], A]) -> None:
        self._make = make
        self._make_async = make_async
        self._lock = threading.RLock()  # reentrant: a signal handler may also call a model
        self._of_threads: S | None = None
        self._by_loop: dict[asyncio.AbstractEventLoop, _OfLoop[A]] = {}
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make the child use new clients, because two processes can't share a connection."""
        self._lock = threading.RLock()
        self._of_threads = None
        self._by_loop = {}

    def of_threads(self) -> S:
        """Get the client for synchronous calls, making it if needed."""
        with self._lock:
            if self._of_threads is None:
                with importing():
                    client = self._make()
                    _import_the_rest(client)
                    self._of_threads = client
            return self._of_threads

    async def of_running_loop(self) -> A:
        """Get the client for the running event loop, making it if needed."""
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            # Importing the SDK takes a second, and its TLS context more, so not on the event loop.
            found = await asyncio.to_thread(self._make_for, loop)
        await found.close_with_loop()
        return found.client

    def _make_for(self, loop: asyncio.AbstractEventLoop) -> _OfLoop[A]:
        with self._lock, importing():
            for other in [other for other in self._by_loop if other.is_closed()]:
                del self._by_loop[other]
            if loop not in self._by_loop:
                client = self._make_async()
                _import_the_rest(client)
                with suppress(ImportError):  # another version may have another name for it
                    import_module("anyio._backends._asyncio")
                self._by_loop[loop] = _OfLoop(client, self._by_loop)
            return self._by_loop[loop]

    def close(self) -> None:
        """Close the connections of the synchronous client."""
        with self._lock:
            client, self._of_threads = self._of_threads, None
        if client is not None:
            client.close()

    def close_all(self) -> None:
        """Close every connection; those of an event loop are closed when it next runs."""
        self.close()
        for loop, found in list(self._by_loop.items()):
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(found.close_soon)


def _import_the_rest(client: SyncClient | AsyncClient) -> None:
    """Import what the first call would import; see Clients."""
    import encodings.idna  # noqa: F401 - the codec that looks up hosts

    client.platform_headers()


class _OfLoop(Generic[A]):
    """The client of one event loop."""

    def __init__(self, client: A, siblings: dict[asyncio.AbstractEventLoop, _OfLoop[A]]) -> None:
        self.client = client
        self._siblings = siblings
        self._closer: AsyncGenerator[None, None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def close_with_loop(self) -> None:
        """Close the client when the loop ends.

        An async generator is left open on purpose: asyncio.run closes open async generators before
        it closes its loop (`loop.shutdown_asyncgens`).
        """
        if self._closer is None:
            self._closer = _until_closed(self.client, self._siblings)
            await anext(self._closer)

    def close_soon(self) -> None:
        """Schedule the closing of the client on its loop."""
        self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        if self._closer is not None:
            with suppress(RuntimeError):  # the loop is ending, and closes the client already
                await self._closer.aclose()


async def _until_closed(
    client: A, siblings: dict[asyncio.AbstractEventLoop, _OfLoop[A]]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        siblings.pop(asyncio.get_running_loop(), None)
        await client.close()
