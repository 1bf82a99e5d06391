"""One connection to the rows in PostgreSQL, which takes the SQL of `lllm.projections.dialect`.

psycopg, the extra `postgres`, is imported here and by `database`, `pipeline` and
`translate_errors` alone.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.types.numeric import Int8Dumper

from lllm.projections.database import Cursor, Row, Statement
from lllm.projections.dialect import POSTGRES_READS, for_psycopg
from lllm.projections.engine.postgres.pipeline import Pipeline
from lllm.projections.engine.postgres.row_inserts import INSERT, single_statements
from lllm.projections.engine.postgres.translate_errors import translated

# Reads are planned for their values: how many rows a facet has decides which index serves.
# Joins keep their order (https://www.postgresql.org/docs/current/explicit-joins.html).
_SETTINGS = {
    "join_collapse_limit": "1",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "cursor_tuple_fraction": "0.01",  # of a list, mostly the first page is read
    "lock_timeout": "10s",  # a statement that changes tables must not block readers for long
    "idle_in_transaction_session_timeout": "0",
    "bytea_output": "hex",
    "default_transaction_isolation": "read committed",
}

ANSWER_SECONDS = 60.0  # for one statement, or one batch of rows
_TIMEOUTS = {"connect_timeout": 10, "tcp_user_timeout": 30_000}  # seconds, milliseconds
_MANY = 50  # rows from which copying them to a temporary table is faster


_T = TypeVar("_T")


class _TextDumper(Dumper):
    """Sends a text; PostgreSQL has no NUL, so it is escaped, in rows as in look-ups."""

    def dump(self, obj: str) -> Buffer:
        return obj.replace("\0", "\\x00").encode()


class _BoolDumper(Int8Dumper):
    """Sends a boolean as 0 or 1, as SQLite stores it."""

    def dump(self, obj: bool) -> Buffer:
        return b"1" if obj else b"0"


class _NumericLoader(Loader):
    """Reads a sum of integers, which PostgreSQL makes a number of any size."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text else int(text)


class _BoundedConnection(psycopg.Connection[Row]):
    """A connection that is closed if the server does not answer within a deadline.

    A `statement_timeout` is kept by the server, which may be the one that hangs.
    """

    deadline: float | None = None  # seconds for one answer

    def wait(self, gen: PQGen[_T], *arguments: Any, **options: Any) -> _T:
        seconds = ANSWER_SECONDS if self.deadline is None else self.deadline
        return super().wait(self._bounded(gen, seconds), *arguments, **options)

    def _bounded(self, gen: PQGen[_T], seconds: float) -> PQGen[_T]:
        until = time.monotonic() + seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has not answered for {seconds:g} seconds"
                    )
                wanted = gen.send(ready)
        except StopIteration as end:
            result: _T = end.value
            return result


class PostgresConnection:
    """A connection to the rows.

    Args:
        conninfo: The connection string of libpq.
        schema: The schema of the tables.
        shown: What messages call the database, without a password.
        writes: True for the connection that writes rows, by the same few statements.

    Raises:
        LogUnavailable: The server can't be reached.
    """

    engine = "postgres"

    def __init__(self, conninfo: str, schema: str, shown: str, *, writes: bool = False) -> None:
        self._shown = shown
        self._writes = writes
        self._begins = False  # a transaction begins with the next statement
        self._owes_result = False  # of a statement that was sent ahead
        self._staging: dict[tuple[str, str], str] = {}  # temporary tables
        self._made = 0
        with self._translating():
            given = conninfo_to_dict(conninfo)
            bounded = make_conninfo("", **{**_TIMEOUTS, **given})
            self.raw = _BoundedConnection.connect(bounded, autocommit=True)
        self._pipeline = Pipeline(self.raw.pgconn)
        adapters = self.raw.adapters
        adapters.register_dumper(int, Int8Dumper)
        adapters.register_dumper(bool, _BoolDumper)
        adapters.register_dumper(str, _TextDumper)
        adapters.register_loader("numeric", _NumericLoader)
        try:
            settings = {"search_path": quoted(schema), **_SETTINGS}
            if writes:
                # After a ROLLBACK, DROP or ALTER, psycopg deallocates all prepared statements of
                # the connection, if it has prepared any: those of the pipeline, too.
                self.raw.prepare_threshold = None
                settings["plan_cache_mode"] = "auto"
            calls = ", ".join(["set_config(?, ?, false)"] * len(settings))
            self.execute(f"SELECT {calls}", [word for one in settings.items() for word in one])
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run a statement, with `?` in place of each parameter.

        Args:
            sql: The statement, in the common form.
            parameters: The values.

        Returns:
            Its rows, all of which are in memory.

        Raises:
            LogUnavailable: The connection is lost.
            NoSuchTable: There is no such table or column.
            LogError: The statement failed.
        """
        with self._translating():
            self._begin_now()
            if sql == POSTGRES_READS:
                self._send_ahead(sql)
                return self.raw.cursor()
            return self.raw.execute(for_psycopg(sql).encode(), tuple(parameters))

    def begin(self) -> None:
        """Begin a transaction, together with the next statement."""
        self._begins = True

    def send_ahead(self, sql: str) -> None:
        """Send a statement, whose result is awaited before the next one is sent.

        Args:
            sql: The statement, of whose rows nothing is needed.

        Raises:
            LogError: The connection is lost.
        """
        with self._translating():
            self._await_result()
            self._send_ahead(sql)

    def _send_ahead(self, sql: str) -> None:
        self.raw.pgconn.send_query(sql.encode())
        self._owes_result = True
        self.raw.pgconn.flush()

    def _await_result(self) -> None:
        """Wait for the result of the statement that was sent ahead, if there is one."""
        if not self._owes_result:
            return
        self._owes_result = False
        connection = self.raw.pgconn
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        while connection.flush() or connection.is_busy():
            if not poll.poll(ANSWER_SECONDS * 1000):
                connection.finish()
                raise psycopg.OperationalError(
                    f"the server has not answered for {ANSWER_SECONDS:g} seconds"
                )
            connection.consume_input()
        while (result := connection.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.OperationalError(result.get_error_message())

    def _begin_now(self) -> None:
        self._await_result()
        if self._begins:
            self._begins = False
            self.raw.execute(b"BEGIN")

    def commit(self) -> None:
        """Commit what was written since `begin`, if that has not been done.

        Raises:
            LogError: It is not known whether it was committed.
        """
        if not self._begins and self.raw.info.transaction_status != TransactionStatus.IDLE:
            self.execute("COMMIT")

    def execute_long(self, sql: str) -> None:
        """Run a statement that takes as long as it takes.

        Args:
            sql: The statement.

        Raises:
            LogError: As for `execute`.
        """
        self.raw.deadline = math.inf
        try:
            self.execute(sql)
        finally:
            self.raw.deadline = None

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> None:
        """Run a statement once for each row of parameters, without waiting between them.

        Many rows to insert are copied: to the table itself, or, if rows that are there have to be
        changed, to a temporary table first, from which one statement inserts them. So they must
        have different keys.

        Args:
            sql: The statement, in the common form.
            parameters: The values of each execution.

        Raises:
            DuplicateRow: Two rows have the same value in a unique index.
            OverflowError: A number has more than 64 bits.
            LogError: As for `execute`.
        """
        rows = list(parameters)
        insert = INSERT.fullmatch(sql) if len(rows) >= _MANY else None
        with self._translating(), self.raw.cursor() as cursor:
            self._begin_now()
            if insert is None:
                cursor.executemany(for_psycopg(sql).encode(), rows)
                return
            table, columns, action = insert.groups()
            if not action:
                self._copy(cursor, table, columns, rows)
                return
            staged = self._staged(table, columns)
            self._copy(cursor, staged, columns, rows)
            inserted = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}{action}"
            cursor.execute(inserted.encode())
            cursor.execute(f"TRUNCATE {staged}".encode())  # what is erased later is nowhere else

    def _copy(
        self, cursor: psycopg.Cursor[Row], table: str, columns: str, rows: Iterable[Any]
    ) -> None:
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def execute_all(self, statements: Sequence[Statement]) -> None:
        """Run statements in order, without waiting for the result of one before the next is sent.

        The last one may be a COMMIT.

        Args:
            statements: The statements in the common form, with the parameters of each execution.

        Raises:
            DuplicateRow: Two rows have the same value in a unique index.
            OverflowError: A number has more than 64 bits.
            LogError: As for `execute`.
        """
        first = [("BEGIN", ())] if self._begins else []
        self._begins = False
        with self._translating():
            self._await_result()
            self._pipeline.run([*first, *single_statements(statements)], ANSWER_SECONDS)

    def _staged(self, table: str, columns: str) -> str:
        """Make an empty temporary table for some columns of a table, or find it."""
        name = self._staging.get((table, columns))
        if name is None:
            self._made += 1
            name = f"pg_temp.staged_{self._made}"
            self.execute(f"CREATE TEMP TABLE {name} AS SELECT {columns} FROM {table} WITH NO DATA")
            self._staging[table, columns] = name
        return name

    def is_usable(self) -> bool:
        """True if the idle connection is open; the server sends nothing before it closes one."""
        try:
            self._await_result()
        except psycopg.Error:
            self.close()
        if self.raw.closed:
            return False
        poll = select.poll()
        poll.register(self.raw.fileno(), select.POLLIN)
        return not poll.poll(0)

    def end_transaction(self) -> None:
        """Roll back what is not committed; a lost connection is closed."""
        self._begins = False
        self._staging = {}  # the transaction may have made some of them
        try:
            self._await_result()
            if self.raw.info.transaction_status == TransactionStatus.IDLE:
                return
            if self._writes:
                self.raw.rollback()
            else:
                self._send_ahead("ROLLBACK")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translated(error, self._shown) from error


def quoted(name: str) -> str:
    """Quote a name for SQL.

    Args:
        name: The name of a schema, for example.

    Returns:
        The name in double quotes.
    """
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
