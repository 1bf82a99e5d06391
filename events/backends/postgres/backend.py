"""A log in a PostgreSQL database, which many machines can write to at the same time.

`schema` has the tables and says how positions are given. A schema has one log, so one database can
have several. Appends need one round trip each, and nobody waits for anybody; a thread waits for the
server at most for a deadline that the client keeps.

If a connection ends in the middle of an append, nobody knows what became of it. It is appended
again, and the log recognises the events by their digests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from lllm.events.backend import Announcements, DigestPage
from lllm.events.backends.postgres import schema as tables
from lllm.events.backends.postgres.announcements import AppendListener
from lllm.events.backends.postgres.append_call import (
    append_parameters,
    append_statement,
    refuse_too_many,
)
from lllm.events.backends.postgres.archived_leaves import ArchivedLeaves
from lllm.events.backends.postgres.binary_values import (
    decode_bigint,
    decode_bigints,
)
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.connection_pool import ConnectionPool
from lllm.events.backends.postgres.erasing import COPIES_ELSEWHERE, PayloadEraser
from lllm.events.backends.postgres.errors import ConnectionLost, ServerRefused, ServerUnreachable
from lllm.events.backends.postgres.months import Months
from lllm.events.backends.postgres.own_appends import LONGEST, OwnAppends
from lllm.events.backends.postgres.read_events import EventReader
from lllm.events.backends.postgres.server_liveness import ServerLiveness
from lllm.events.backends.postgres.server_session import ServerSession
from lllm.events.backends.postgres.server_url import parse_server_url
from lllm.events.envelope import NewEvent, Recorded, conflict
from lllm.events.errors import ConfigError, LogReadOnly, LogUnavailable
from lllm.events.reads_of_parts import StreamPart

if TYPE_CHECKING:
    from lllm.events.health import Health

TIMEOUT = 10.0  # seconds
_BYTES_A_SECOND = 1 << 20  # a long append gets a second more for each of these
_HASTY_SECONDS = 1.0  # an append that should not wait gives up after so many seconds
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds between two attempts

_Months = Literal["month"] | None
_Reopen = Callable[[str, str, float, bool, _Months, bool | None], "PostgresBackend"]


class PostgresBackend:
    """Keeps the log in a PostgreSQL database, of version 14 or newer.

    Nothing is connected before the log is used. The tables are made at the first use; `lllm schema
    --postgres` prints them. The rows of lists, tags and costs are in the same schema.

    Args:
        url: The URL of the database, as "postgresql://ada@db.example/logs". Service files, the file
            of passwords, TLS and everything else are as in libpq
            (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING).
        schema: The schema of the log; None for the URL's `?schema=`, or for "lllm".
        timeout: The seconds after which an append without an answer is given up. Long ones get a
            second more for each MiB.
        read_only: True to write nothing; an append raises LogReadOnly.
        partition_by: "month" to make the table of payloads with a partition for each month, so that
            retention drops whole ones. It is used when the log is made.
        jsonb: True to keep the payloads of sessions as jsonb, too, for dashboards, unless the store
            knows already whether it does. The store remembers it for all processes, and
            `LogStore.rebuild(jsonb=...)` changes it. False and None never begin it.

    Attributes:
        server: Where the schema of the log is.
        liveness: Tells which writing processes are alive; None if the log is read-only.

    Raises:
        ConfigError: The URL or the schema is invalid.
        MissingExtra: psycopg is not installed.
    """

    rows_in_log = False

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        timeout: float = TIMEOUT,
        read_only: bool = False,
        partition_by: _Months = None,
        jsonb: bool | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        parsed = parse_server_url(url, schema)
        by = partition_by or parsed.partition_by
        if by not in (None, "month"):
            raise ConfigError(f'partition_by is "month" or None, not {by!r}')
        quoted = tables.identifier(parsed.schema)
        self._url = url
        self.server = parsed
        self.path = parsed.shown
        self.schema = parsed.schema
        self.timeout = timeout
        self.read_only = read_only
        self.partition_by: _Months = "month" if by else None
        self.jsonb = parsed.jsonb if jsonb is None else jsonb
        self._session = ServerSession(parsed, read_only=read_only, partition_by=by)
        self._pool = ConnectionPool(self._session.connect, parsed.shown)
        self._channel = tables.identifier(f"lllm.{parsed.schema}")
        self._reader = EventReader(quoted, parsed.shown, self._pool)
        self._head = Statement(f"SELECT {quoted}.head()")
        self._seen_head = 0  # up to here, no event can appear any more
        self._may_read: bool | None = None  # None if the server was not asked yet
        literal = quoted.replace("'", "''")
        self._may_select = Statement(
            f"SELECT has_table_privilege('{literal}.events', 'SELECT')"
            f" AND has_table_privilege('{literal}.payloads', 'SELECT')"
        )
        self.liveness = (
            None if read_only else ServerLiveness(quoted, self._session.connect, self._pool.ask)
        )
        self._append_statement = append_statement(quoted)
        self._months = Months(quoted, self._pool.ask)
        self._own = OwnAppends(quoted, parsed.shown, self._pool.ask)
        self._eraser = PayloadEraser(quoted, parsed.shown, self._pool.ask, self._session.connect)
        self._archived = ArchivedLeaves(quoted, parsed.shown, self._pool.ask)

    def __repr__(self) -> str:
        return f"PostgresBackend({self.path!r})"

    def __reduce__(self) -> tuple[_Reopen, tuple[str, str, float, bool, _Months, bool | None]]:
        """Pickle the backend by its URL; another process connects anew."""
        return _reopen, (
            self._url, self.schema, self.timeout, self.read_only, self.partition_by, self.jsonb
        )  # fmt: skip

    @property
    def may_read(self) -> bool:
        """False if the role that lllm connects as may only append.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        if self._may_read is None:
            self._may_read = self._pool.ask(self._may_select, ()).get_value(0, 0) == b"\x01"
        return self._may_read

    def exists(self) -> bool:
        """True if the schema has a log.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        until = time.monotonic() + self.timeout
        connection = self._session.connect_bare(until)
        try:
            return self._session.exists(connection, until)
        finally:
            connection.close()

    # -- Appending

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, as `LogBackend.append` requires."""
        return self._append(events, self.timeout, hasty=False)

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int]:
        """Append events, but fail soon if the server does not answer; see `AppendsWithin`.

        Args:
            events: The events, in order.
            seconds: The time that the caller would wait. An answer of the server may take a second
                in any case.

        Returns:
            The positions.

        Raises:
            LogUnavailable: The server did not answer in time, or a moment ago.
        """
        hasty = seconds < _HASTY_SECONDS
        return self._append(events, max(seconds, _HASTY_SECONDS), hasty=hasty)

    def _append(self, events: Sequence[NewEvent], seconds: float, *, hasty: bool) -> Sequence[int]:
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        if not events:
            return ()
        size = refuse_too_many(events)
        parameters = append_parameters(events)
        until = time.monotonic() + seconds + size / _BYTES_A_SECOND
        try:
            return self._append_until(parameters, until, hasty=hasty)
        except ServerRefused as error:
            if error.sqlstate == tables.CONFLICT:
                raise conflict(events[int(error.detail) - 1], self.path) from None
            raise

    def _append_until(
        self, parameters: Sequence[bytes], until: float, *, hasty: bool
    ) -> Sequence[int]:
        pause = _SHORTEST_PAUSE
        unclear = False  # True if an attempt has ended without an answer
        while True:
            try:
                with self._pool.lend(until, hasty=hasty) as connection:
                    if self.liveness is not None:
                        self.liveness.make_known(connection, until)
                    found = connection.execute(self._append_statement, parameters, until)
                    connection.run_later(f"NOTIFY {self._channel}", until)
                    positions = decode_bigints(found.get_value(0, 0) or b"")
                self._own.last = max(self._own.last, *positions)
                self._months.look()
                return positions
            except ServerUnreachable as error:
                raise (_unclear(error) if unclear else error) from None
            except (ConnectionLost, ServerRefused) as error:
                if isinstance(error, ServerRefused) and not error.can_be_repeated():
                    raise
                if time.monotonic() + pause >= until:
                    raise _unclear(error) from None
                unclear = unclear or isinstance(error, ConnectionLost)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # -- Reading

    def head(self) -> int:
        """The highest position up to which no event can appear any more."""
        head = decode_bigint(self._pool.ask(self._head, ()).get_value(0, 0) or b"")
        self._seen_head = max(self._seen_head, head)
        return head

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        return self._reader.read(max(after, 0), self._upto(upto), stream)

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types; see `ReadsByType`."""
        if not types:
            return iter(())
        return self._reader.read_types(types, max(after, 0), self._upto(upto))

    def read_with_digests(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded | tuple[int, bytes]]:
        """Read the events of some types, and the digests of others; see `ReadsWithDigests`."""
        return self._reader.read_with_digests(types, max(after, 0), self._upto(upto))

    def read_streams(self, parts: Sequence[StreamPart]) -> Iterator[Recorded]:
        """Read parts of several streams; see `ReadsParts`."""
        if not parts:
            return iter(())
        ends = [part.upto for part in parts if part.upto is not None]
        head = self._upto(max(ends) if len(ends) == len(parts) else None)
        return self._reader.read_streams(
            [
                (stream, max(after, 0), head if upto is None else min(upto, head))
                for stream, after, upto in parts
            ]
        )

    def read_positions(self, positions: Sequence[int]) -> Iterator[Recorded]:
        """Read the events at some positions; see `ReadsParts`."""
        upto = self._upto(max(positions, default=0))
        return self._reader.read_positions([at for at in positions if 0 < at <= upto])

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of events; see `ReadsDigests`."""
        return self._reader.read_digests(max(after, 0), self._upto(upto))

    def _upto(self, upto: int | None) -> int:
        if upto is not None and upto <= self._seen_head:
            return upto
        head = self.head()
        if upto is None and head < self._own.last and self._own.wait(LONGEST, self.head):
            head = self.head()
        return head if upto is None else min(upto, head)

    def last_appended(self) -> int:
        """The highest position that this process has appended; see `HidesAppends`."""
        return self._own.last

    def wait_until_visible(self, seconds: float) -> bool:
        """Wait until this process can read what it has appended; see `HidesAppends`."""
        return self._own.wait(seconds, self.head)

    # -- Erasing

    @property
    def copies_elsewhere(self) -> Sequence[str]:
        """Where copies of erased payloads may be; see `RewritesTables`."""
        return COPIES_ELSEWHERE

    @property
    def why_not_erasable(self) -> str | None:
        """Why nothing can be erased with this role; None if it can.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return None if self.read_only else self._eraser.refusal()

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Erase the payloads of events; see `ErasesPayloads`."""
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        self._eraser.erase(erased)

    # -- Archiving

    @property
    def why_not_removable(self) -> str | None:
        """Why no events can leave for an archive with this role; None if they can.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return self._archived.refusal()

    def archived_leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of archived events; see `KeepsLeaves`."""
        return self._archived.pages(max(after, 0), self._upto(upto))

    def remove_events(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Remove events and keep their digests; see `RemovesEvents`."""
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        self._archived.remove(leaves)

    def tables_to_rewrite(self) -> Sequence[tuple[str, int]]:
        """The tables that a VACUUM rewrites; see `RewritesTables`."""
        return [(name, size) for _, name, size, _ in self._eraser.tables()]

    def drop_emptied(self) -> None:
        """Drop the partitions in which next to nothing is left; see `RewritesTables`."""
        self._eraser.drop_emptied()

    def vacuum(self) -> bool:
        """Rewrite the tables that have copies of erased payloads; see `ErasesPayloads`."""
        return self._eraser.vacuum()

    def announcements(self) -> Announcements:
        """Listen to the appends of all processes; see `AnnouncesAppends`."""
        return AppendListener(self._session.connect, self._channel, self.timeout)

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the size and format; see `ReportsHealth`."""
        from lllm.events.backends.postgres.health import health_of

        return health_of(self, self._pool.ask, head, read_bytes)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


def _unclear(error: LogUnavailable) -> LogUnavailable:
    return LogUnavailable(
        f"{error} It is not known whether the events were stored; they can be appended again."
    )


def _reopen(
    url: str,
    schema: str,
    timeout: float,
    read_only: bool,
    partition_by: _Months,
    jsonb: bool | None,
) -> PostgresBackend:
    return PostgresBackend(
        url, schema=schema, timeout=timeout, read_only=read_only, partition_by=partition_by,
        jsonb=jsonb,
    )  # fmt: skip
