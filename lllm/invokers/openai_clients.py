"""The SDK's clients of one invoker: one for all threads, one for each event loop.

A client is made when it is first needed, and closed where it lives: the connections of an event
loop belong to it, and are closed with it, or when the invoker is gone.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, TypedDict

from lllm.events.importing import importing
from lllm.events.locks import tell_after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import openai


class Options(TypedDict):
    """What both kinds of client are made with."""

    base_url: str
    api_key: str
    timeout: float
    organization: str | None
    project: str | None
    max_retries: int


class Clients:
    """Makes, keeps and closes them. `options` is asked when a client is made."""

    def __init__(self, options: Callable[[], Options]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._of_threads: openai.OpenAI | None = None
        self._by_loop: dict[asyncio.AbstractEventLoop, _OfLoop] = {}
        tell_after_fork(self)

    def after_fork(self) -> None:
        """A child makes clients of its own: two processes can't read from one connection."""
        self._lock = threading.Lock()
        self._of_threads = None
        self._by_loop = {}

    def of_threads(self) -> openai.OpenAI:
        """The client for calls that wait."""
        with self._lock:
            if self._of_threads is None:
                with importing():
                    import openai

                    client = openai.OpenAI(**self._options())
                    _import_the_rest(client)
                    self._of_threads = client
            return self._of_threads

    async def of_running_loop(self) -> openai.AsyncOpenAI:
        """The client of the event loop that runs this."""
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            # To import the SDK takes a second, its TLS context some time more: not on the loop.
            found = await asyncio.to_thread(self._make_for, loop)
        await found.close_with_loop()
        return found.client

    def _make_for(self, loop: asyncio.AbstractEventLoop) -> _OfLoop:
        with importing():
            import openai

        with self._lock, importing():
            for other in [other for other in self._by_loop if other.is_closed()]:
                del self._by_loop[other]
            if loop not in self._by_loop:
                client = openai.AsyncOpenAI(**self._options())
                _import_the_rest(client)
                with suppress(ImportError):  # another version may name it otherwise
                    import_module("anyio._backends._asyncio")
                self._by_loop[loop] = _OfLoop(client, self._by_loop)
            return self._by_loop[loop]

    def close(self) -> None:
        """Close the connections of the threads."""
        with self._lock:
            client, self._of_threads = self._of_threads, None
        if client is not None:
            client.close()

    def close_all(self) -> None:
        """Close every connection, those of a loop as soon as it runs."""
        self.close()
        for loop, found in list(self._by_loop.items()):
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(found.close_soon)


def _import_the_rest(client: openai.OpenAI | openai.AsyncOpenAI) -> None:
    """Import now what the first call would import, when no fork waits for it.

    The SDK imports a resource when it is first asked for. Up to Python 3.11 a cached property has a
    lock, held while it is worked out (https://github.com/python/cpython/issues/87634), which a
    child would inherit, too: the resources are such, and the processor that the headers tell of.
    """
    import encodings.idna  # noqa: F401 - the codec that looks up hosts

    client.chat.completions.with_raw_response  # noqa: B018 - asking for it is what imports it
    client.platform_headers()


class _OfLoop:
    """The client of one event loop."""

    def __init__(
        self, client: openai.AsyncOpenAI, siblings: dict[asyncio.AbstractEventLoop, _OfLoop]
    ) -> None:
        self.client = client
        self._siblings = siblings
        self._closer: AsyncGenerator[None, None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def close_with_loop(self) -> None:
        """Have the client closed when the loop ends.

        asyncio.run closes the asynchronous generators that are still open before it closes its
        loop (`loop.shutdown_asyncgens`), so one is left open on purpose.
        """
        if self._closer is None:
            self._closer = _until_closed(self.client, self._siblings)
            await anext(self._closer)

    def close_soon(self) -> None:
        """Begin to close the client, on its loop."""
        self._closing = asyncio.ensure_future(self._close())

    async def _close(self) -> None:
        if self._closer is not None:
            with suppress(RuntimeError):  # the loop ends just now, and is closing it already
                await self._closer.aclose()


async def _until_closed(
    client: openai.AsyncOpenAI, siblings: dict[asyncio.AbstractEventLoop, _OfLoop]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        siblings.pop(asyncio.get_running_loop(), None)
        await client.close()
