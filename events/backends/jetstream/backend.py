"""A log in a stream of NATS JetStream, which survives the loss of any of its servers.

`messages` says how an append is stored. An append returns when most replicas have it, and is all
or nothing. Positions are sequences of the stream; they have gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.events.backend import DigestPage
from lllm.events.backends.jetstream.announcements import EnvelopeListener
from lllm.events.backends.jetstream.append_batch import BatchAppender
from lllm.events.backends.jetstream.connection import NatsConnection, require_nats
from lllm.events.backends.jetstream.durability import durability_of
from lllm.events.backends.jetstream.erasing import COPIES_ELSEWHERE, MessageEraser
from lllm.events.backends.jetstream.lease_liveness import LeaseLiveness
from lllm.events.backends.jetstream.messages import Subjects
from lllm.events.backends.jetstream.read_events import JetStreamReader
from lllm.events.backends.jetstream.server_url import parse_jetstream_url
from lllm.events.backends.jetstream.stream_setup import (
    FORMAT,
    StreamInfo,
    check_stream,
    make_stream,
    stream_info,
)
from lllm.events.backends.rows_file import open_rows
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogReadOnly, LogUnavailable
from lllm.events.health import Health

if TYPE_CHECKING:
    from nats.aio.client import Client

    from lllm.events.backends.sqlite.database import Database

TIMEOUT = 10.0  # seconds
_BYTES_A_SECOND = 1 << 20  # a long append gets a second more for each of these
_LEAST_SECONDS = 1.0

_Settings = tuple[str, int | None, Path | None, float, bool]
_Reopen = Callable[[str, _Settings], "JetStreamBackend"]


class JetStreamBackend:
    """Keeps the log in a stream of NATS JetStream, of version 2.12 or newer.

    Nothing is connected before the log is used, and the stream is made at the first use. The rows
    of lists, tags and costs are kept in memory, or in an SQLite file of this machine.

    An append is at most 1,000 messages: one for each event, or for each part of a payload that is
    longer than the server's `max_payload`; and one for each stream of events. A longer append is
    refused with `AppendTooLarge`; nothing of it is stored.

    Args:
        url: The URL of the servers and the stream, as "nats://one:4222,two:4222/runs".
        stream: The name of the stream; None for the URL's, or for "lllm".
        replicas: How many servers keep a copy, if the stream is made: 1, 3 or 5. None for the
            URL's, or for 3 in a cluster and 1 otherwise.
        rows: The SQLite file for the rows; None for the URL's, or for memory.
        timeout: The seconds after which an append without an answer is given up. Long ones get a
            second more for each MiB.
        read_only: True to write nothing; an append raises LogReadOnly.

    Attributes:
        liveness: Tells which writing processes are alive; None if the log is read-only.
        copies_elsewhere: The places that may have copies of erased payloads for a while.

    Raises:
        ConfigError: The URL or the name of the stream is invalid.
        MissingExtra: nats-py is not installed.
    """

    rows_in_log = False
    copies_elsewhere: Sequence[str] = COPIES_ELSEWHERE

    def __init__(
        self,
        url: str,
        *,
        stream: str | None = None,
        replicas: int | None = None,
        rows: Path | str | None = None,
        timeout: float = TIMEOUT,
        read_only: bool = False,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        require_nats()
        parsed = parse_jetstream_url(url, stream)
        self._url = url
        self.path = parsed.shown
        self.stream = parsed.stream
        self.replicas = replicas or parsed.replicas
        self.rows = parsed.rows if rows is None else Path(rows)
        self._monitors, self._sync = parsed.monitors, parsed.sync
        self.timeout = timeout
        self.read_only = read_only
        self._connection = NatsConnection(parsed)
        subjects = self._subjects = Subjects(parsed.stream)
        self._reader = JetStreamReader(self._connection, subjects, parsed.shown, timeout)
        self._appender = BatchAppender(self._connection, self._reader, subjects, parsed.shown)
        self._eraser = MessageEraser(
            self._connection, self._reader, subjects, parsed.shown, timeout
        )
        self.liveness = (
            None if read_only else LeaseLiveness(parsed.stream, self.replicas, self._connection)
        )
        self._rows: Database | None = None
        self._preparing = RobustLock()
        self._max_payload = 0  # 0 if the stream was not checked yet

    def __repr__(self) -> str:
        return f"JetStreamBackend({self.path!r})"

    def __reduce__(self) -> tuple[_Reopen, tuple[str, _Settings]]:
        """Pickle the backend by its URL; another process connects anew."""
        settings = (self.stream, self.replicas, self.rows, self.timeout, self.read_only)
        return _reopen, (self._url, settings)

    def _ready(self) -> int:
        """Make the stream, or check it, at the first use.

        Returns:
            The longest message that the server takes, in bytes.
        """
        if not self._max_payload:
            with self._preparing:
                if not self._max_payload:
                    self._prepare()
        return self._max_payload

    def _prepare(self) -> None:
        async def run(client: Client) -> tuple[StreamInfo | None, int]:
            found = await stream_info(client, self.stream, self.timeout)
            if found is None and not self.read_only:
                found = await make_stream(
                    client, self.stream, self.replicas, self.path, self.timeout
                )
            return found, client.max_payload

        found, max_payload = self._connection.ask(run, self.timeout)
        if found is None:
            raise LogUnavailable(f"There is no log in {self.path} to be read.")
        check_stream(found, self.stream, self.path)
        self._max_payload = max_payload

    def _info(self) -> StreamInfo | None:
        async def run(client: Client) -> StreamInfo | None:
            return await stream_info(client, self.stream, self.timeout)

        return self._connection.ask(run, self.timeout)

    def exists(self) -> bool:
        """True if the stream exists.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return self._info() is not None

    # -- Appending

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, as `LogBackend.append` requires."""
        return self._append(events, self.timeout)

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int]:
        """Append events, but fail soon if the server does not answer; see `AppendsWithin`.

        Args:
            events: The events, in order.
            seconds: The time that the caller would wait. An answer of the server may take a second
                in any case.

        Returns:
            The positions.

        Raises:
            LogUnavailable: The server did not answer in time.
        """
        return self._append(events, max(seconds, _LEAST_SECONDS))

    def _append(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int]:
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        if not events:
            return ()
        seconds += sum(len(event.data) for event in events) / _BYTES_A_SECOND
        max_payload = self._ready()
        if self.liveness is not None:
            self.liveness.make_known(seconds)
        return self._appender.append(events, seconds, max_payload)

    # -- Reading

    def head(self) -> int:
        """The position of the last event whose append is complete."""
        self._ready()
        return self._reader.head()

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        head = self.head()
        return self._reader.read(max(after, 0), head if upto is None else min(upto, head), stream)

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of events without their payloads; see `ReadsDigests`."""
        head = self.head()
        return self._reader.read_digests(max(after, 0), head if upto is None else min(upto, head))

    def announcements(self) -> EnvelopeListener:
        """Listen to appends; see `AnnouncesAppends`."""
        self._ready()
        return EnvelopeListener(self._connection, self._subjects, self.timeout)

    def leader(self) -> str:
        """The name of the server that leads the stream; empty if there is none now.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        found = self._info()
        return "" if found is None else found.cluster.leader

    # -- Erasing

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Overwrite payloads and delete their messages; see `ErasesPayloads`.

        Raises:
            LogReadOnly: The log was opened to be read only.
            LogUnavailable: The server can't be reached.
        """
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        if erased:
            self._eraser.erase(erased)

    def vacuum(self) -> bool:
        """Do nothing: the messages were overwritten when they were erased."""
        return True

    # -- Rows and state

    def rows_database(self) -> Database:
        """The database of the rows; see `KeepsRows`."""
        if self._rows is None:
            if self.rows is None:
                from lllm.events.backends.sqlite.database import Database

                self._rows = Database(":memory:", lock=None, version=1)
            else:
                self._rows = open_rows(self, self.rows, read_only=self.read_only)
        return self._rows

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the size of the log; see `ReportsHealth`."""
        del head, read_bytes
        found = self._info()
        return Health(
            kind="JetStream", url=self.path, format=FORMAT,
            durability=durability_of(self._monitors, declared=self._sync),
            bytes=None if found is None else found.state.bytes,
        )  # fmt: skip

    def close(self) -> None:
        """Close the connection, and the file of the rows."""
        self._connection.close()
        if self._rows is not None:
            self._rows.close()
            self._rows = None


def _reopen(url: str, settings: _Settings) -> JetStreamBackend:
    stream, replicas, rows, timeout, read_only = settings
    return JetStreamBackend(
        url, stream=stream, replicas=replicas, rows=rows, timeout=timeout, read_only=read_only
    )
