"""A connection to a NATS cluster: requests, atomic batches, and reads of a range of messages.

nats-py has no atomic batches and no batched direct reads, so their headers and requests are made
here, as the server's designs describe them
(https://github.com/nats-io/nats-architecture-and-design, ADR-50 and ADR-31).
"""

from __future__ import annotations

import importlib.util
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lllm.events.backends.jetstream.client_loop import CLIENT_LOOP, finish
from lllm.events.backends.jetstream.server_url import JetStreamURL
from lllm.events.concurrency.decoders import decoder
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import LogError, LogUnavailable, MissingExtra

if TYPE_CHECKING:
    import asyncio

    from nats.aio.client import Client
    from nats.aio.msg import Msg

T = TypeVar("T")
_logger = logging.getLogger("lllm.store")

NOT_FOUND, STREAM_NOT_FOUND = 10037, 10059  # the server's error codes
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


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message of a stream.

    Attributes:
        position: Its sequence in the stream.
        subject: Its subject.
        data: Its content.
    """

    position: int
    subject: str
    data: bytes


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message that is to be stored.

    Attributes:
        subject: Its subject.
        data: Its content.
        after: The sequence of the last message of the subject; None if it does not matter.
    """

    subject: str
    data: bytes
    after: int | None = None


class _Fault(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    seq: int = 0
    count: int = 0
    error: _Fault | None = None


class _Message(msgspec.Struct):
    seq: int
    subject: str
    data: bytes = b""  # base64 in JSON


class _Got(msgspec.Struct):
    message: _Message | None = None
    error: _Fault | None = None


_decode_answer = decoder(_Answer).decode
_decode_got = decoder(_Got).decode


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
        self._trouble = ""  # why the last attempt to connect failed
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
            if self._client is None and self._trouble:
                what = f"{what}; connecting failed: {self._trouble}"
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
        self._trouble = ""
        return client

    async def _note(self, error: Exception) -> None:
        _logger.debug("NATS: %r", error)
        self._trouble = (str(error) or type(error).__name__).removeprefix("nats: ")


async def call_api(client: Client, api: str, request: object, seconds: float) -> bytes:
    """Call the server's API for streams.

    Args:
        client: The connected client.
        api: The name of the call, as "STREAM.INFO.runs".
        request: The request, which is sent as JSON.
        seconds: The longest time to wait.

    Returns:
        The answer, in JSON.

    Raises:
        ServerError: The server refuses.
    """
    found = await client.request(f"$JS.API.{api}", msgspec.json.encode(request), timeout=seconds)
    fault = _decode_answer(found.data).error
    if fault is not None:
        raise ServerError(fault.err_code, fault.description)
    return found.data


async def last_message(client: Client, stream: str, subject: str, seconds: float) -> Stored | None:
    """Read the last message of a subject, as the leader of the stream knows it.

    Args:
        client: The connected client.
        stream: The name of the stream.
        subject: The subject, with wildcards or without.
        seconds: The longest time to wait.

    Returns:
        The message; None if there is none.

    Raises:
        ServerError: The server refuses.
    """
    try:
        found = await call_api(
            client, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}, seconds
        )
    except ServerError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    message = _decode_got(found).message
    assert message is not None
    return Stored(message.seq, message.subject, message.data)


async def store_message(
    client: Client,
    subject: str,
    data: bytes,
    seconds: float,
    headers: dict[str, str] | None = None,
) -> None:
    """Store one message.

    Args:
        client: The connected client.
        subject: The subject, which a stream has to take.
        data: The content.
        seconds: The longest time to wait.
        headers: What else the server is told, such as the message's time to live.

    Raises:
        ServerError: The server refuses; nothing was stored.
    """
    found = await client.request(subject, data, timeout=seconds, headers=headers)
    fault = _decode_answer(found.data).error
    if fault is not None:
        raise ServerError(fault.err_code, fault.description)


async def store_batch(client: Client, messages: Sequence[Outgoing], seconds: float) -> int:
    """Store messages, all or none of them.

    Args:
        client: The connected client.
        messages: The messages, in order.
        seconds: The longest time to wait.

    Returns:
        The sequence of the first message; the others follow without gaps.

    Raises:
        ServerError: The server refuses; nothing was stored.
    """
    batch = secrets.token_hex(16)
    for number, message in enumerate(messages, 1):
        headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if message.after is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(message.after)
        if number < len(messages):
            await client.publish(message.subject, message.data, headers=headers)
        else:
            headers["Nats-Batch-Commit"] = "1"
            found = await client.request(
                message.subject, message.data, timeout=seconds, headers=headers
            )
    answer = _decode_answer(found.data)
    if answer.error is not None:
        raise ServerError(answer.error.err_code, answer.error.description)
    if answer.count != len(messages):
        raise LogUnavailable(f"the server stored {answer.count} messages of {len(messages)}")
    return answer.seq - len(messages) + 1


async def read_messages(
    client: Client, stream: str, request: Mapping[str, object]
) -> tuple[Sequence[Stored], int]:
    """Read messages from any replica of a stream, which may be behind the others.

    Args:
        client: The connected client.
        stream: The name of the stream.
        request: What to read: `seq`, `batch`, `max_bytes`, `next_by_subj`; or `multi_last`.

    Returns:
        The messages, in order; and for `multi_last` the last sequence that the replica has.
    """
    import asyncio

    found: list[Stored] = []
    ended = asyncio.Event()
    status, upto = "", 0

    async def take(message: Msg) -> None:
        nonlocal status, upto
        headers = message.headers or {}
        if "Status" in headers:
            status = headers["Status"]
            upto = int(headers.get("Nats-UpTo-Sequence", 0))
            ended.set()
        else:
            found.append(
                Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)
            )

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=take)
    try:
        await client.publish(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox
        )
        await ended.wait()
    finally:
        await subscription.unsubscribe()
    if status not in ("204", "404"):  # the end of the batch; nothing is there
        raise LogUnavailable(f"the server answered a read with the status {status}")
    return found, upto


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
