"""What the invokers have in common that call models by a provider's own SDK.

The SDK sends and waits; it never tries again, because each attempt is an event of its own. Which
of its clients are made, and which of their methods are called, an `Sdk` says; what comes back goes
through an `Exchange`.
"""

from __future__ import annotations

import weakref
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from lllm.events.concurrency import deferred
from lllm.events.concurrency.fork import register_after_fork
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

# Clients that a forked child got from its parent. They are kept, untouched: closing one could wait
# for a lock that a thread of the parent held, and the connections are the parent's to close.
_inherited: list[object] = []


class StreamedResponse(Response, Protocol):
    """An HTTP answer that is still coming."""

    def iter_bytes(self) -> Iterator[bytes]: ...


class AsyncPieces(Response, Protocol):
    """The same on an event loop."""

    def iter_bytes(self) -> AsyncIterator[bytes]: ...


class Sdk(Protocol[S, A]):
    """How one SDK is used. It knows no invoker, so that one can go while its clients are closed."""

    def client(self) -> S:
        """A new client. Raises ConfigError where there is no key that can be sent."""

    def async_client(self) -> A:
        """The same for an event loop."""

    def credentials(self, client: S | A) -> tuple[str | None, ...]:
        """What a client was made with and must not be told."""

    def ask(self, client: S, body: Body) -> Whole: ...
    async def aask(self, client: A, body: Body) -> Whole: ...
    def open(self, client: S, body: Body) -> AbstractContextManager[StreamedResponse]: ...
    def aopen(self, client: A, body: Body) -> AbstractAsyncContextManager[AsyncPieces]: ...


class SdkInvoker(Generic[S, A]):
    """Calls models by an SDK, in threads and on event loops.

    Threads share a client, each event loop has its own, closed with the loop. A key given by hand
    travels with a pickle; one of the environment does not, the other process reads its own.
    """

    host: str | None
    port: int | None

    def __init__(
        self, sdk: Sdk[S, A], access: Access, dialect: Dialect, *, model_prefix: str = ""
    ) -> None:
        """model_prefix: what is cut from a model's name before it is sent."""
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
        # Closing waits for locks, which the collector must not.
        self._closer = weakref.finalize(self, deferred.close_later, self._clients.close_all)
        self._closer.atexit = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """The child makes clients of its own."""
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
        """Close the connections of the threads; a later call opens new ones."""
        self._clients.close()

    # -- calls

    def invoke(self, request: Request) -> Answer:
        """Ask, and wait for the answer.

        Raises InvokeError where the call fails, and ConfigError where it can't be made: there is
        no key, or `params` sets what lllm decides.
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
        """The same on an asyncio event loop."""
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
        """`invoke`, with on_text called for each piece of the answer's text as it comes.

        What on_text raises ends the stream, and is raised. Raises InvokeError, with what had come,
        for a stream that fails or ends too early.
        """
        client = self._clients.of_threads()
        body, exchange = self._prepared(request, client, stream=True)
        with closing(self._texts(client, body, exchange)) as texts:
            for text in texts:
                on_text(text)
        return exchange.ended()

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """The same on an asyncio event loop; on_text is called on it."""
        client = await self._clients.of_running_loop()
        body, exchange = self._prepared(request, client, stream=True)
        async with aclosing(self._atexts(client, body, exchange)) as texts:
            async for text in texts:
                on_text(text)
        return exchange.ended()

    def _texts(self, client: S, body: Body, exchange: Exchange) -> Generator[str, None, None]:
        # A generator, so that what on_text raises is not taken for a failure of the stream.
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
            chunk = b""  # it may hold a secret, and a traceback shows the names of its frames
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
