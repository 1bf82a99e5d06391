"""Runs a user's SQL on a store in PostgreSQL, in a transaction that can't write."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from lllm.events.errors import ConfigError, LogReadOnly, LogUnavailable, StoreError
from lllm.projections.engine.postgres.connection import PostgresConnection
from lllm.store.query_timeout import ADVICE, Cell

if TYPE_CHECKING:
    from lllm.events.backend import ServerAddress

_GRACE = 5.0  # seconds after the time limit in which the server says that it is over
_READING = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "SHOW")
# What is no code: strings, quoted names, dollar-quoted strings, comments, casts. Else a parameter.
_PARTS = re.compile(
    r"""E'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | (\$\w*\$).*?\1
        | --[^\n]* | /\*.*?\*/ | :: | (?<!\w):(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)


class ServerRows:
    """Iterates over the rows of a statement as the server finds them; as `TimedRows` for SQLite.

    Attributes:
        columns: The names of the columns; a repeated name gets `_2` appended.
    """

    def __init__(
        self,
        server: ServerAddress,
        sql: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        seconds: float,
    ) -> None:
        """Start to run the statement.

        Args:
            server: The database and the schema of the store.
            sql: One statement that reads: SELECT, WITH, VALUES, TABLE, EXPLAIN, or SHOW.
            parameters: The values of the parameters `:name`.
            seconds: The time limit for the statement, in seconds; 0 for no limit.

        Raises:
            ConfigError: The text is not one statement with rows, or a parameter is missing or
                unknown.
            LogReadOnly: The statement writes.
            LogUnavailable: The server can't be reached.
            StoreError: PostgreSQL can't run the statement, or it took too long.
        """
        from sqlite_utils.utils import dedupe_keys

        given = dict(parameters or {})
        statement = _for_psycopg(sql, given)
        self._seconds = seconds
        self._connection = PostgresConnection(server.conninfo, server.schema, server.shown)
        try:
            self._connection.raw.deadline = seconds + _GRACE if seconds else math.inf
            self._connection.execute("BEGIN READ ONLY")
            limit = f"SET LOCAL statement_timeout = {math.ceil(seconds * 1000)}"
            self._connection.execute(limit)
            self._cursor = self._connection.raw.cursor()
            self._rows = self._cursor.stream(statement.encode(), given)
            self._first = self._next()
            if self._first is None:  # psycopg then knows no columns
                self._cursor.execute(statement.encode(), given)
            described = self._cursor.description or []
        except BaseException:
            self.close()
            raise
        self.columns = list(dedupe_keys(column.name for column in described))

    def close(self) -> None:
        """End the statement and the connection."""
        self._connection.close()

    def __iter__(self) -> Iterator[tuple[Cell, ...]]:
        while self._first is not None:
            row, self._first = self._first, None
            yield tuple(map(_cell, row))
            self._first = self._next()

    def _next(self) -> tuple[object, ...] | None:
        try:
            return next(self._rows, None)
        except psycopg.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: psycopg.Error) -> Exception:
        said = error.diag.message_primary or str(error).strip() or type(error).__name__
        if isinstance(error, errors.QueryCanceled) and self._seconds:
            return StoreError(
                f"The query was stopped: it took longer than {self._seconds:g} seconds. Allow more "
                "with --timeout SECONDS (0 for no limit), or ask for less: `EXPLAIN` before it "
                "says which indexes it uses."
            )
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return LogReadOnly(f"{said}: `lllm query` only reads.")
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
            return StoreError(f"{said}. {ADVICE}")
        if "multiple commands" in said:
            return ConfigError("Give one statement at a time.")
        if isinstance(error, psycopg.InterfaceError) or error.sqlstate is None:
            return LogUnavailable(f"The server ended the query: {said}.")
        return StoreError(f"PostgreSQL can't run this: {said}.")


def _for_psycopg(sql: str, parameters: Mapping[str, object]) -> str:
    """Check a statement, and write its parameters `:name` as psycopg does."""
    found: set[str] = set()

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0].replace("%", "%%")
        found.add(name)
        return f"%({name})s"

    pieces, last = [], 0
    for match in _PARTS.finditer(sql):
        pieces += [sql[last : match.start()].replace("%", "%%"), part(match)]
        last = match.end()
    pieces.append(sql[last:].replace("%", "%%"))
    for name in sorted(found - parameters.keys()):
        raise ConfigError(f"The SQL has :{name}; give its value with -p {name} VALUE.")
    for name in sorted(parameters.keys() - found):
        raise ConfigError(f"The SQL has no :{name}, but a value for it was given.")
    _check_kind(sql)
    return "".join(pieces)


def _check_kind(sql: str) -> None:
    """Refuse what is no reading statement, as COPY, which a transaction that only reads allows."""
    bare = _PARTS.sub(lambda match: " " if match[0][:2] in ("--", "/*") else match[0], sql)
    word = re.match(r"[\s(]*(\w*)", bare)
    kind = word[1].upper() if word else ""
    if not kind:
        raise ConfigError("This statement has no rows to show; use SELECT.")
    if kind not in _READING:
        raise LogReadOnly(
            f"{kind} is refused: `lllm query` only reads, by {', '.join(_READING[:-1])} or "
            f"{_READING[-1]}."
        )


def _cell(value: object) -> Cell:
    """The value of a column as a text, number or bytes, as SQLite has it."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def count_rows(server: ServerAddress, name: str, seconds: float) -> int | None:
    """Count the rows of a table.

    Args:
        server: The database and the schema of the store.
        name: The name of the table, quoted.
        seconds: The time limit; 0 for none.

    Returns:
        The number; None if counting took too long, or if the role may not read the table.

    Raises:
        LogUnavailable: The server can't be reached.
    """
    try:
        with closing(ServerRows(server, f"SELECT count(*) FROM {name}", seconds=seconds)) as rows:
            for (count,) in rows:
                return count if isinstance(count, int) else None
    except StoreError:
        pass
    return None
