"""What is asked of a stream's servers: API calls, atomic batches, and reads of a range of messages.

nats-py has no atomic batches and no batched direct reads, so their headers and requests are made
here, as the server's designs describe them
(https://github.com/nats-io/nats-architecture-and-design, ADR-50 and ADR-31).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from lllm.events.backends.jetstream.connection import ServerError
from lllm.events.concurrency.decoders import decoder
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

NOT_FOUND, STREAM_NOT_FOUND = 10037, 10059  # the server's error codes


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
