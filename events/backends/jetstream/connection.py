"""A connection to a NATS cluster, for all threads; it leaves a server that does not answer."""

from __future__ import annotations

import importlib.util
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from lllm.events.backends.jetstream.client_loop import CLIENT_LOOP, finish
from lllm.events.backends.jetstream.server_url import JetStreamURL
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import LogError, LogUnavailable, MissingExtra

if TYPE_CHECKING:
    import asyncio

    from nats.aio.client import Client

T = TypeVar("T")
_logger = logging.getLogger("lllm.store")

_CONNECT_SECONDS = 2  # for one server of several
_RECONNECT_SECONDS = 0.1  # between two attempts
_ATTEMPT = 2.0  # seconds for one attempt of several
_PAUSE = 0.1  # seconds between two
_SILENCE = 1.0  # seconds after which a server that does not do what it is asked is left
_NOT_NOW = (10008, 10009, 10118)  # the server's codes: there is no leader yet
_GRACE = 1.0  # seconds by which the thread's answer may be later than the time that it was given
_PENDING_BYTES = 16 << 20  # what waits to be sent


class ServerError(LogError):
    """The server refused a request.

    Attributes:
        code: The server's number for the reason.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class NatsConnection:
    """The connection of one log, made at the first use, and anew in a forked child.

    Args:
        url: Where the log is.
    """

    def __init__(self, url: JetStreamURL) -> None:
        self._url = url
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None
        self._of_parent: list[object] = []
        self._since = 0.0  # when the client was connected; a time of `time.monotonic`
        self._troubles: dict[str, None] = {}  # why the last attempt to connect failed
        self._avoided = ""  # the server that was left because it did not answer
        register_after_fork(self)

    def after_fork(self) -> None:
        """Connect anew in a forked child; what the parent uses is left alone."""
        self._of_parent += [self._client, self._connecting]
        self._client = self._connecting = None

    # -- From any thread

    def start(self, work: Callable[[Client], Awaitable[T]], seconds: float) -> Future[T]:
        """Begin something with the connection; `result` waits for it.

        Args:
            work: A function that is called with the client, in its thread.
            seconds: The longest time that it may take.

        Returns:
            The result, to be waited for.

        Raises:
            LogUnavailable: The thread of the client can't be started.
        """
        return CLIENT_LOOP.start(self.within(work, seconds))

    def run(self, work: Callable[[Client], Awaitable[T]], seconds: float) -> T:
        """Do something with the connection, and wait for the result.

        Args:
            work: A function that is called with the client, in its thread.
            seconds: The longest time that it may take.

        Returns:
            The result.

        Raises:
            LogUnavailable: The server can't be reached, or does not answer in time.
            ServerError: The server refuses.
        """
        return self.result(self.start(work, seconds), seconds)

    def ask(self, work: Callable[[Client], Awaitable[T]], seconds: float) -> T:
        """Do something that can be repeated, again and again until there is an answer.

        A request that meets a server without a leader of the stream is never answered.

        Args:
            work: A function that is called with the client, in its thread.
            seconds: The longest time that it may take in all.

        Returns:
            The result.

        Raises:
            LogUnavailable: The server can't be reached, or does not answer in time.
            ServerError: The server refuses.
        """
        begin = time.monotonic()
        until = begin + seconds
        while True:
            left = until - time.monotonic()
            try:
                return self.run(work, max(min(left, _ATTEMPT), 0.1))
            except LogUnavailable:
                begin = self.leave(begin)
                if left < _ATTEMPT:
                    raise
            except ServerError as error:
                if error.code in _NOT_NOW:
                    begin = self.leave(begin)
                if error.code not in _NOT_NOW or left < _PAUSE:
                    raise
            time.sleep(_PAUSE)

    def leave(self, since: float) -> float:
        """Use another server from now on if this one has not done what was asked for a while.

        A server that is cut off from the others answers each ping, but can do nothing else.

        Args:
            since: When it was asked first; a time of `time.monotonic`.

        Returns:
            The time from which the server in use is to be judged.
        """
        now = time.monotonic()
        if now - since < _SILENCE:
            return since
        with suppress(LogUnavailable):
            CLIENT_LOOP.run(self.leave_within(since), _GRACE)
        return now

    def result(self, future: Future[T], seconds: float) -> T:
        """Wait for what `start` has begun.

        Args:
            future: What it returned.
            seconds: The time that it was given.

        Returns:
            The result.

        Raises:
            LogUnavailable: The server can't be reached, or does not answer in time.
            ServerError: The server refuses.
        """
        return finish(future, seconds + _GRACE)

    def close(self) -> None:
        """Close the connection; it is made again if it is needed."""
        with suppress(LogUnavailable):
            CLIENT_LOOP.run(self._close(), 2.0)

    # -- In the thread of the client

    async def within(self, work: Callable[[Client], Awaitable[T]], seconds: float) -> T:
        """Do something with the connection, from a coroutine in the thread of the client.

        Args:
            work: A function that is called with the client.
            seconds: The longest time that it may take.

        Returns:
            The result.

        Raises:
            LogUnavailable: The server can't be reached, or does not answer in time.
            ServerError: The server refuses.
        """
        import asyncio

        from nats.errors import Error

        try:
            async with asyncio.timeout(seconds):
                return await work(await self._connected())
        except LogError:
            raise
        except (Error, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            what = str(error) or f"no answer within {seconds:.1f} s"
            if self._client is None and self._troubles:
                what = f"{what}; connecting failed: {', '.join(self._troubles)}"
            raise LogUnavailable(f"{self._url.shown}: {what.removeprefix('nats: ')}") from error

    async def leave_within(self, since: float) -> None:
        """Use another server from now on, as `leave`, from a coroutine in the client's thread.

        Args:
            since: When this one was asked; a time of `time.monotonic`. One that was connected to
                later is not left.
        """
        client = self._client
        if client is not None and self._since < since:
            connected = client.connected_url
            self._avoided = "" if connected is None else connected.netloc
            await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.close()
            except Exception as error:  # it may be that of the connection, which was lost
                _logger.debug("%s was not closed: %r", self._url.shown, error)

    async def _connected(self) -> Client:
        import asyncio

        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
                self._since = time.monotonic()
            return self._client

    async def _connect(self) -> Client:
        with importing():
            from nats.aio.client import Client

        client, url = Client(), self._url
        self._troubles.clear()
        servers = random.sample(url.servers, len(url.servers))
        servers.sort(key=lambda one: one.rpartition("/")[2] == self._avoided)
        connecting: Coroutine[object, object, None] = client.connect(
            servers=servers,
            dont_randomize=True,
            error_cb=self._note,
            name="lllm",
            connect_timeout=_CONNECT_SECONDS,
            reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=_PENDING_BYTES,
            user=url.user,
            password=url.password,
            user_credentials=None if url.creds is None else str(url.creds),
        )
        try:
            await connecting
            # The first request makes the subscription of all answers. Two first ones at a time
            # would make two, and the answers to one of them would be lost.
            await client.request("$JS.API.INFO", timeout=_CONNECT_SECONDS)
        except BaseException:
            await client.close()
            raise
        self._troubles.clear()
        return client

    async def _note(self, error: Exception) -> None:
        _logger.debug("NATS: %r", error)
        self._troubles[(str(error) or type(error).__name__).removeprefix("nats: ")] = None


def require_nats() -> None:
    """Raise an error if nats-py is not installed.

    Raises:
        MissingExtra: It is not installed.
    """
    if importlib.util.find_spec("nats") is None:
        raise MissingExtra(
            "A log in NATS JetStream needs the library 'nats-py', which is not installed. It is in "
            'an extra: pip install "lllm[nats]"'
        )


def is_in_cluster(client: Client) -> bool:
    """True if the server that a client is connected to belongs to a cluster.

    Args:
        client: The connected client.
    """
    return bool(client._server_info.get("cluster"))
