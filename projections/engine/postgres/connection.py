"""One connection to the rows in PostgreSQL, which takes the SQL of `lllm.projections.dialect`.

Only this module and `database` import psycopg, the extra `postgres`.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.types.numeric import Int8Dumper

from lllm.events.errors import LogError, LogUnavailable, ViewError
from lllm.projections.database import Cursor, DuplicateRow, NoSuchTable
from lllm.projections.dialect import for_psycopg

# Reads are planned for their values: how many rows a facet has decides which index serves.
# Joins keep their order (https://www.postgresql.org/docs/current/explicit-joins.html).
_SETTINGS = {
    "join_collapse_limit": "1",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "lock_timeout": "10s",  # a statement that changes tables must not block readers for long
    "idle_in_transaction_session_timeout": "0",
    "bytea_output": "hex",
    "default_transaction_isolation": "read committed",
}


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


class PostgresConnection:
    """A connection to the rows.

    Args:
        conninfo: The connection string of libpq.
        schema: The schema of the tables.
        shown: What messages call the database, without a password.

    Raises:
        LogUnavailable: The server can't be reached.
    """

    engine = "postgres"

    def __init__(self, conninfo: str, schema: str, shown: str) -> None:
        self._shown = shown
        with self._translating():
            self.raw = psycopg.connect(conninfo, autocommit=True)
        adapters = self.raw.adapters
        adapters.register_dumper(int, Int8Dumper)
        adapters.register_dumper(bool, _BoolDumper)
        adapters.register_dumper(str, _TextDumper)
        adapters.register_loader("numeric", _NumericLoader)
        try:
            settings = {"search_path": quoted(schema), **_SETTINGS}
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
            return self.raw.execute(for_psycopg(sql).encode(), tuple(parameters))

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> None:
        """Run a statement once for each row of parameters, without waiting between them.

        Args:
            sql: The statement, in the common form.
            parameters: The values of each execution.

        Raises:
            DuplicateRow: Two rows have the same value in a unique index.
            OverflowError: A number has more than 64 bits.
            LogError: As for `execute`.
        """
        with self._translating(), self.raw.cursor() as cursor:
            cursor.executemany(for_psycopg(sql).encode(), parameters)

    def is_usable(self) -> bool:
        """True if the idle connection is open; the server sends nothing before it closes one."""
        if self.raw.closed:
            return False
        poll = select.poll()
        poll.register(self.raw.fileno(), select.POLLIN)
        return not poll.poll(0)

    def end_transaction(self) -> None:
        """Roll back what is not committed; a lost connection is closed."""
        try:
            self.raw.rollback()
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
            raise _translation(error, self._shown) from error


def quoted(name: str) -> str:
    """Quote a name for SQL.

    Args:
        name: The name of a schema, for example.

    Returns:
        The name in double quotes.
    """
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _translation(error: psycopg.Error, shown: str) -> Exception:
    what = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, errors.UniqueViolation):
        return DuplicateRow(what)
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return NoSuchTable(f"{shown}: {what}.")
    if isinstance(error, errors.NumericValueOutOfRange):
        return OverflowError(what)
    if isinstance(error, errors.DatatypeMismatch | errors.InvalidTextRepresentation):
        return ViewError(
            f"A view gives a column a value that its type does not allow, which SQLite ignores and "
            f"PostgreSQL does not: {what}."
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return LogUnavailable(
            f"{shown}: {what}. The role may not do this with the rows; grant it what is missing, "
            "or connect as the owner of the schema."
        )
    if isinstance(error, errors.LockNotAvailable):
        return LogUnavailable(f"{shown}: another session keeps a table of the rows locked: {what}.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return LogUnavailable(f"{shown}: {what}.")
    return LogError(f"{shown}: {what}.")
