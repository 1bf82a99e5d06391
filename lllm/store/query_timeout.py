"""Fetches the rows of an SQL query, and stops a query that exceeds its time limit."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from lllm.events.errors import ConfigError, LogDamaged, StoreError

if TYPE_CHECKING:
    from lllm.store.sql_database import StoreDatabase

Cell = str | int | float | bytes | None
_STEPS = 1000  # of SQLite's virtual machine, between two looks at the clock
_ADVICE = "`lllm query --schema` lists the tables and their columns."


class TimedRows:
    """Iterates over the rows of a statement, fetching each when it is asked for.

    Attributes:
        columns: Their names, the second of a name with `_2` behind it.
    """

    def __init__(
        self,
        database: StoreDatabase,
        sql: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        seconds: float,
    ) -> None:
        """Begin to answer.

        Args:
            database: What is asked; see `LogStore.database`.
            sql: One statement that has rows: SELECT, WITH, VALUES, EXPLAIN, or a PRAGMA that tells.
            parameters: The values of its `:name`s.
            seconds: How long the database may work; what is done with a row in between does not
                count. 0 for as long as it takes.

        Raises:
            ConfigError: It is not one statement with rows, or a parameter is missing or is none.
            LogReadOnly: It writes.
            StoreError: SQLite can't answer it, or took too long.
            LogDamaged: A page that it needs can't be read.
        """
        from sqlite_utils.utils import dedupe_keys

        self._database = database  # which would be closed, were nobody to hold it
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
                raise ConfigError("This statement has no rows to show; ask with SELECT.")
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
        """Start the clock, because the database begins to work."""
        self._until = time.monotonic() + self._left

    def stop(self) -> None:
        """Stop the clock, because the database has found a row."""
        self._left = max(0.0, self._until - time.monotonic())

    def explain(self, error: BaseException) -> None:
        """Raise lllm's error for an error of sqlite3.

        Args:
            error: What was raised; any other is left to its way.

        Raises:
            ConfigError: The statement or a parameter can't be.
            StoreError: SQLite can't answer it, or took too long.
            LogDamaged: A page can't be read.
        """
        if isinstance(error, LogDamaged) and not self._asks_log:
            raise LogDamaged(
                f"{error} Where only lists, tags and costs are damaged, `lllm rebuild` makes them "
                "anew; `lllm verify` says whether the log is whole.",
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
            raise ConfigError(f"The SQL has no :{name}, which a value is given for.")


def _error_text(error: Exception) -> str:
    text = str(error)
    if "one statement at a time" in text:
        return "Ask one statement at a time."
    if missing := re.search(r"supply a value for binding parameter :?(\w+)", text):
        return f"The SQL has :{missing[1]}; give its value with -p {missing[1]} VALUE."
    if "Incorrect number of bindings" in text or "has no name" in text:
        return "Parameters have names: write :name instead of ?, and -p name VALUE."
    if text == "no such table: events":
        return (
            "no such table: events. A folder of JSON lines keeps its events in these files, and "
            f"only its lists in SQL; `lllm events ID --json` prints them. {_ADVICE}"
        )
    if text.startswith(("no such table", "no such column")):
        return f"{text}. {_ADVICE}"
    return f"SQLite can't answer this: {text}."
