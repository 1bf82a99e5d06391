"""Fetches the rows of an SQL query, and stops a query that exceeds its time limit."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from lllm.events.errors import ConfigError, LogDamaged, StoreError

if TYPE_CHECKING:
    from lllm.store.sql_database import StoreDatabase

Cell = str | int | float | bytes | None
_STEPS = 1000  # instructions of SQLite's virtual machine between two checks of the time
ADVICE = "`lllm query --schema` lists the tables and their columns."


class QueryRows(Protocol):
    """The rows of a user's SQL, from SQLite or PostgreSQL."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns, none twice."""

    def __iter__(self) -> Iterator[tuple[Cell, ...]]: ...

    def close(self) -> None:
        """End the statement."""


class TimedRows:
    """Iterates over the rows of a statement, and fetches each row when it is needed.

    Attributes:
        columns: The names of the columns; a repeated name gets `_2` appended.
    """

    def __init__(
        self,
        database: StoreDatabase,
        sql: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        seconds: float,
    ) -> None:
        """Start to run the statement.

        Args:
            database: The database to query; see `LogStore.database`.
            sql: One statement that returns rows: SELECT, WITH, VALUES, EXPLAIN, or a reading
                PRAGMA.
            parameters: The values of the parameters `:name`.
            seconds: The time limit for the database's own work, in seconds; 0 for no limit. The
                time that the caller spends on a row does not count.

        Raises:
            ConfigError: The text is not one statement with rows, or a parameter is missing or
                unknown.
            LogReadOnly: The statement writes.
            StoreError: SQLite can't run the statement, or it took too long.
            LogDamaged: A page that it needs can't be read.
        """
        from sqlite_utils.utils import dedupe_keys

        self._database = database  # keeps the database open
        self._left = self._seconds = seconds
        self._until = 0.0
        self._asks_log = bool(re.search(r"\bevents\b", sql, re.IGNORECASE))
        self._parameters = dict(parameters or {})
        _check_parameters(sql, parameters or {})
        try:
            self._begin(sql)
        except LogDamaged as damage:
            if self._asks_log or not database.use_rows_in_memory(damage):
                raise
            self._begin(sql)
        self.columns = list(dedupe_keys(column[0] for column in self._cursor.description))

    def _begin(self, sql: str) -> None:
        self._connection = self._database.conn
        if self._seconds:
            self._connection.set_progress_handler(self._is_late, _STEPS)
        self._cursor = self._connection.cursor()
        try:
            with _Clock(self):
                self._cursor.execute(sql, self._parameters)
            if self._cursor.description is None:
                raise ConfigError("This statement has no rows to show; use SELECT.")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the statement; no more rows are fetched."""
        with suppress(sqlite3.ProgrammingError):  # the store may be closed already
            self._cursor.close()
            self._connection.set_progress_handler(None, _STEPS)

    def __iter__(self) -> Iterator[tuple[Cell, ...]]:
        return self

    def __next__(self) -> tuple[Cell, ...]:
        with _Clock(self):
            row: tuple[Cell, ...] = next(self._cursor)
        return row

    def _is_late(self) -> bool:
        return time.monotonic() > self._until

    def begin(self) -> None:
        """Start the clock, because the database starts to work."""
        self._until = time.monotonic() + self._left

    def stop(self) -> None:
        """Stop the clock, because the database has found a row."""
        self._left = max(0.0, self._until - time.monotonic())

    def explain(self, error: BaseException) -> None:
        """Raise lllm's error for an error of sqlite3.

        Args:
            error: The error that was raised; errors of other kinds are ignored.

        Raises:
            ConfigError: The statement or a parameter is invalid.
            StoreError: SQLite can't run the statement, or it took too long.
            LogDamaged: A page can't be read.
        """
        if isinstance(error, LogDamaged) and not self._asks_log:
            raise LogDamaged(
                f"{error} If only lists, tags and costs are damaged, `lllm rebuild` makes them "
                "anew; `lllm verify` tells whether the log is intact.",
                position=error.position,
            ) from error.__cause__
        if isinstance(error, sqlite3.ProgrammingError | sqlite3.Warning):
            raise ConfigError(_error_text(error)) from error
        if not isinstance(error, sqlite3.Error):
            return
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT:
            raise StoreError(
                f"The query was stopped: it took longer than {self._seconds:g} seconds. Allow more "
                "with --timeout SECONDS (0 for no limit), or ask for less: `EXPLAIN QUERY PLAN` "
                "before it says which indexes it uses."
            ) from error
        raise StoreError(_error_text(error)) from error


class _Clock:
    """A `with` that measures the time the database takes."""

    def __init__(self, rows: TimedRows) -> None:
        self._rows = rows

    def __enter__(self) -> None:
        self._rows.begin()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._rows.stop()
        if error is not None:
            self._rows.explain(error)


def _check_parameters(sql: str, parameters: Mapping[str, object]) -> None:
    for name in parameters:
        if not re.search(rf"[:@$]{re.escape(name)}(?!\w)", sql):
            raise ConfigError(f"The SQL has no :{name}, but a value for it was given.")


def _error_text(error: Exception) -> str:
    text = str(error)
    if "one statement at a time" in text:
        return "Give one statement at a time."
    if missing := re.search(r"supply a value for binding parameter :?(\w+)", text):
        return f"The SQL has :{missing[1]}; give its value with -p {missing[1]} VALUE."
    if "Incorrect number of bindings" in text or "has no name" in text:
        return "Parameters have names: write :name instead of ?, and -p name VALUE."
    if text == "no such table: events":
        return (
            f"no such table: events. A store in a folder keeps its events in JSON lines, and "
            f"only its lists in SQL; `lllm events ID --json` prints them. {ADVICE}"
        )
    if text.startswith(("no such table", "no such column")):
        return f"{text}. {ADVICE}"
    return f"SQLite can't run this: {text}."
