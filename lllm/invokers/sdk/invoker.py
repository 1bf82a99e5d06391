"""The base class of invokers that call models with a provider's own SDK.

The SDK sends and waits; it never retries, because each attempt is an event. An `Sdk` object makes
the SDK's clients and calls their methods; the HTTP answers are read by an `Exchange`.
"""

from __future__ import annotations

import weakref
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.invokers.sdk.clients import AsyncClient, Clients, SyncClient
from lllm.invokers.sdk.exchange import Exchange, Response, Whole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from lllm.invokers import Answer, OnText, Request
    from lllm.invokers.dialects.dialect import Dialect
    from lllm.invokers.http.endpoint import Access

__all__ = ["AsyncPieces", "Body", "Sdk", "SdkInvoker", "StreamedResponse", "Whole"]

S = TypeVar("S", bound=SyncClient)
A = TypeVar("A", bound=AsyncClient)

Body = dict[str, object]

# The clients that a forked child got from its parent. They are kept and not closed: closing one
# could wait for a lock that a thread of the parent held, and their connections belong to the
# parent.
_inherited: list[object] = []


class StreamedResponse(Response, Protocol):
    """The interface of an HTTP answer whose body is read in pieces."""

    def iter_bytes(self) -> Iterator[bytes]:
        """Read the body, piece by piece."""


class AsyncPieces(Response, Protocol):
    """The interface of an HTTP answer whose body is read in pieces on an event loop."""

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Read the body, piece by piece."""


class Sdk(Protocol[S, A]):
    """The way to use one SDK. It must not refer to its invoker, which could not be freed."""

    def client(self) -> S:
        """Make a new client. Raises ConfigError if there is no usable key."""

    def async_client(self) -> A:
        """Make a new client for an event loop. Raises ConfigError if there is no usable key."""

    def credentials(self, client: S | A) -> tuple[str | None, ...]:
        """List the secrets with which a client was made."""

    def ask(self, client: S, body: Body) -> Whole:
        """Send a request, and wait for the complete answer."""

    async def aask(self, client: A, body: Body) -> Whole:
        """Send a request on an event loop, and wait for the complete answer."""

    def open(self, client: S, body: Body) -> AbstractContextManager[StreamedResponse]:
        """Send a request, and wait for the answer to begin."""

    def aopen(self, client: A, body: Body) -> AbstractAsyncContextManager[AsyncPieces]:
        """Send a request on an event loop, and wait for the answer to begin."""


class SdkInvoker(Generic[S, A]):
    """Calls models with an SDK, in threads and on event loops.

    Threads share a client. Each event loop has its own, which is closed with the loop. A key that
    was given is pickled along; a process that unpickles an invoker without one reads its own
    environment.

    Args:
        sdk: The way to use the SDK.
        access: The base URL of the requests, and the key for it.
        dialect: The dialect of the API there.
        model_prefix: A prefix that is removed from the model's name before it is sent.
    """

    host: str | None
    port: int | None

    def __init__(
        self, sdk: Sdk[S, A], access: Access, dialect: Dialect, *, model_prefix: str = ""
    ) -> None:
        self.provider = access.provider
        self.api = dialect.name
        self.host, self.port = access.host, access.port
        self._sdk = sdk
        self._access = access
        self._dialect = dialect
        self._model_prefix = model_prefix
        self._begin()

    def _begin(self) -> None:
        self._clients = Clients(self._sdk.client, self._sdk.async_client)
        # Closing waits for locks, which the garbage collector must not do.
        self._closer = weakref.finalize(self, finalizer_work.close_later, self._clients.close_all)
        self._closer.atexit = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make the child use new clients."""
        self._closer.detach()
        _inherited.append(self._clients)
        self._begin()

    def __getstate__(self) -> dict[str, object]:
        ours = ("_clients", "_closer")
        return {name: value for name, value in vars(self).items() if name not in ours}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._begin()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(provider={self.provider!r}, host={self.host!r}, port={self.port})"

    def close(self) -> None:
        """Close the connections of threads; a later call opens new ones."""
        self._clients.close()

    # -- calls

    def invoke(self, request: Request) -> Answer:
        """Call the model, and wait for its answer.

        Args:
            request: The request to send.

        Returns:
            The answer of the model.

        Raises:
            InvokeError: The call failed.
            ConfigError: There is no key, or `params` sets an option that lllm decides.
        """
        client = self._clients.of_threads()
        body, exchange = self._prepared(request, client, stream=False)
        try:
            response = self._sdk.ask(client, body)
        except Exception as error:
            failure = exchange.failure(error)
        else:
            return exchange.answered(response)
        raise failure

    async def ainvoke(self, request: Request) -> Answer:
        """Call the model on an asyncio event loop, as `invoke` does."""
        client = await self._clients.of_running_loop()
        body, exchange = self._prepared(request, client, stream=False)
        try:
            response = await self._sdk.aask(client, body)
        except Exception as error:
            failure = exchange.failure(error)
        else:
            return exchange.answered(response)
        raise failure

    def stream(self, request: Request, on_text: OnText) -> Answer:
        """Call the model, and pass on the text of its answer as it arrives.

        Args:
            request: The request to send.
            on_text: A function that is called with each piece of text; an error that it raises ends
                the stream, and is raised.

        Returns:
            The whole answer.

        Raises:
            InvokeError: The stream failed or ended too early; the error has the part that arrived.
            ConfigError: There is no key, or `params` sets an option that lllm decides.
        """
        client = self._clients.of_threads()
        body, exchange = self._prepared(request, client, stream=True)
        with closing(self._texts(client, body, exchange)) as texts:
            for text in texts:
                on_text(text)
        return exchange.ended()

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """Stream an answer on an asyncio event loop; on_text is called on the loop."""
        client = await self._clients.of_running_loop()
        body, exchange = self._prepared(request, client, stream=True)
        async with aclosing(self._atexts(client, body, exchange)) as texts:
            async for text in texts:
                on_text(text)
        return exchange.ended()

    def _texts(self, client: S, body: Body, exchange: Exchange) -> Generator[str, None, None]:
        # A generator, so that an error of on_text is not mistaken for a failure of the stream.
        try:
            with self._sdk.open(client, body) as response:
                exchange.opened(response)
                for chunk in response.iter_bytes():
                    yield from exchange.feed(chunk)
                    if exchange.done:
                        break  # some servers leave the connection open
                text = exchange.rest(response)
            if text:
                yield text
            return
        except Exception as error:
            if exchange.complete:
                return
            chunk = b""  # it may hold a secret, and a traceback may show local variables
            failure = exchange.failure(error)
        raise failure

    async def _atexts(self, client: A, body: Body, exchange: Exchange) -> AsyncGenerator[str, None]:
        try:
            async with self._sdk.aopen(client, body) as response:
                exchange.opened(response)
                async for chunk in response.iter_bytes():
                    for text in exchange.feed(chunk):
                        yield text
                    if exchange.done:
                        break
                text = exchange.rest(response)
            if text:
                yield text
            return
        except Exception as error:
            if exchange.complete:
                return
            chunk = b""
            failure = exchange.failure(error)
        raise failure

    def _prepared(self, request: Request, client: S | A, *, stream: bool) -> tuple[Body, Exchange]:
        model = request.model.removeprefix(self._model_prefix)
        body = self._dialect.payload(msgspec.structs.replace(request, model=model), stream=stream)
        secrets = self._access.secrets(*self._sdk.credentials(client))
        return body, Exchange(self._access, self._dialect, model, secrets)
