"""Makes the stream of a log, and checks one that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from lllm.events.backends.jetstream.connection import ServerError, is_in_cluster
from lllm.events.backends.jetstream.stream_requests import STREAM_NOT_FOUND, call_api
from lllm.events.errors import LogError, LogTooNew, LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

FORMAT = 1
_FORMAT_KEY = "lllm.format"
_OLDEST = (2, 12)  # the first server with atomic batches
_IN_USE = 10058  # somebody else made the stream at the same time, with other settings


class StreamConfig(msgspec.Struct, frozen=True):
    """What is needed of a stream's settings."""

    subjects: Sequence[str] = ()
    retention: str = ""
    storage: str = ""
    num_replicas: int = 1
    max_age: int = 0
    max_msgs: int = -1
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    discard: str = ""
    allow_direct: bool = False
    allow_atomic: bool = False
    deny_delete: bool = False
    metadata: Mapping[str, str] = {}


class StreamState(msgspec.Struct, frozen=True):
    """How much is in a stream."""

    messages: int = 0
    bytes: int = 0
    last_seq: int = 0


class StreamCluster(msgspec.Struct, frozen=True):
    """The servers of a stream."""

    leader: str = ""


class StreamInfo(msgspec.Struct, frozen=True):
    """The server's answer about a stream.

    Attributes:
        config: Its settings.
        state: How much is in it.
        created: When it was made.
        cluster: Its servers.
    """

    config: StreamConfig
    state: StreamState
    created: str
    cluster: StreamCluster = StreamCluster()


async def stream_info(client: Client, stream: str, seconds: float) -> StreamInfo | None:
    """Ask for a stream's settings and size.

    Args:
        client: The connected client.
        stream: The name of the stream.
        seconds: The longest time to wait.

    Returns:
        The answer; None if there is no such stream.

    Raises:
        ServerError: The server refuses.
    """
    try:
        found = await call_api(client, f"STREAM.INFO.{stream}", None, seconds)
    except ServerError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise
    return msgspec.json.decode(found, type=StreamInfo)


async def make_stream(
    client: Client, stream: str, replicas: int | None, shown: str, seconds: float
) -> StreamInfo:
    """Make the stream of a log; one that exists is left as it is.

    Args:
        client: The connected client.
        stream: The name of the stream.
        replicas: How many servers keep a copy; None for three if the server is in a cluster.
        shown: The log's URL for messages.
        seconds: The longest time to wait.

    Returns:
        The stream.

    Raises:
        LogError: The server is too old, or can't make the stream.
    """
    version = client.connected_server_version
    if (version.major, version.minor) < _OLDEST:
        raise LogError(f"{shown} is NATS {version}; lllm needs 2.12 or newer.")
    request = {
        "name": stream,
        "subjects": [f"{stream}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas or (3 if is_in_cluster(client) else 1),
        "allow_direct": True,
        "allow_atomic": True,
        "deny_purge": True,
        "metadata": {_FORMAT_KEY: str(FORMAT)},
    }
    try:
        await call_api(client, f"STREAM.CREATE.{stream}", request, seconds)
    except ServerError as error:
        if error.code != _IN_USE:
            raise LogError(f"{shown}: the stream can't be made: {error}") from None
    found = await stream_info(client, stream, seconds)
    if found is None:
        raise LogUnavailable(f"{shown}: the stream is just being made.")
    return found


def check_stream(found: StreamInfo, stream: str, shown: str) -> None:
    """Check that a stream keeps what is stored in it, and stores appends whole.

    Args:
        found: The server's answer about the stream.
        stream: Its name.
        shown: The log's URL for messages.

    Raises:
        LogError: It can't keep a log.
        LogTooNew: A newer lllm made it.
    """
    config = found.config
    written = config.metadata.get(_FORMAT_KEY, "")
    if not written.isdigit():
        raise LogError(f"{shown} is a stream without a log in it. Give the log another name.")
    if int(written) > FORMAT:
        raise LogTooNew(
            f"{shown} has the format {written}, written by a newer lllm; this version reads up to "
            f"{FORMAT}. Install the newer lllm."
        )
    has_size_limit = config.max_msgs > 0 or config.max_bytes > 0
    if (
        config.retention != "limits"
        or config.max_age > 0
        or config.max_msgs_per_subject > 0
        or (has_size_limit and config.discard != "new")
    ):
        raise LogError(f"{shown}: the stream's limits would delete events. Take them away.")
    if not config.allow_atomic or not config.allow_direct:
        raise LogError(
            f"{shown}: the stream needs the settings allow_atomic and allow_direct "
            f"(nats stream edit {stream})."
        )
