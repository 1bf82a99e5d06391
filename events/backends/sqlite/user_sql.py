"""Read-only connections with which users run their own SQL on a database of lllm.

Such a connection refuses every statement that does more than read. Each statement counts as a read
in progress from its first step to its last row, as lllm's own reads do: a fork waits for it, a
moved file is noticed, and a file on a read-only medium is kept unchanged meanwhile. Between two
statements the connection may be closed, for example before a fork; `Database.lend` then makes
another.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.events.backends.sqlite.connection import Connection
from lllm.events.backends.sqlite.errors import raise_translated
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.weak_sets import LiveSet
from lllm.events.errors import LogReadOnly, LogUnavailable

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.database import Database

# The actions that a statement may take, from https://sqlite.org/c3ref/c_alter_table.html.
_ASKING = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_TRANSACTION,
}  # fmt: skip
# Pragmas that only read, with or without an argument (https://sqlite.org/pragma.html).
_TELLING = {
    "collation_list", "compile_options", "database_list", "foreign_key_check", "foreign_key_list",
    "function_list", "index_info", "index_list", "index_xinfo", "integrity_check", "module_list",
    "pragma_list", "quick_check", "table_info", "table_list", "table_xinfo",
}  # fmt: skip
# Pragmas that read without an argument, and change something with one.
_TELLING_ALONE = {
    "application_id", "auto_vacuum", "cache_size", "data_version", "encoding", "foreign_keys",
    "freelist_count", "journal_mode", "max_page_count", "page_count", "page_size", "query_only",
    "recursive_triggers", "schema_version", "synchronous", "temp_store", "user_version",
}  # fmt: skip
_NAMES = {
    getattr(sqlite3, f"SQLITE_{name.replace(' ', '_')}"): name
    for name in (
        "ALTER TABLE", "ANALYZE", "ATTACH", "CREATE INDEX", "CREATE TABLE", "CREATE TEMP INDEX",
        "CREATE TEMP TABLE", "CREATE TEMP TRIGGER", "CREATE TEMP VIEW", "CREATE TRIGGER",
        "CREATE VIEW", "CREATE VTABLE", "DELETE", "DETACH", "DROP INDEX", "DROP TABLE",
        "DROP TEMP INDEX", "DROP TEMP TABLE", "DROP TEMP TRIGGER", "DROP TEMP VIEW", "DROP TRIGGER",
        "DROP VIEW", "DROP VTABLE", "INSERT", "PRAGMA", "REINDEX", "UPDATE",
    )
}  # fmt: skip


class LentCursor(sqlite3.Cursor):
    """A cursor whose statement counts as a read in progress until its last row is fetched."""

    connection: LentConnection

    def execute(self, sql: str, parameters: Any = ()) -> LentCursor:
        """Run a statement that reads; see `sqlite3.Cursor.execute`.

        Raises:
            LogReadOnly: The statement does more than read.
        """
        lent = self.connection
        lent.begin(self)
        try:
            super().execute(sql, parameters)
        except BaseException as error:
            lent.end(self)
            lent.explain(error)
            raise
        if self.description is None:
            lent.end(self)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any]) -> LentCursor:
        """Refuse to run; see `sqlite3.Cursor.executemany`, which is for statements that write.

        Raises:
            LogReadOnly: Always.
        """
        del parameters
        raise self.connection.refusal(sql.split(None, 1)[0].upper() if sql.split() else "This")

    def executescript(self, sql_script: str) -> LentCursor:
        """Refuse to run; see `sqlite3.Cursor.executescript`, which returns no rows.

        Raises:
            LogReadOnly: Always.
        """
        del sql_script
        raise self.connection.refusal("a script")

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except BaseException as error:
            self.connection.end(self)
            self.connection.explain(error)
            raise

    def fetchone(self) -> Any:
        """Fetch the next row; see `sqlite3.Cursor.fetchone`."""
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Fetch the next rows; see `sqlite3.Cursor.fetchmany`."""
        wanted = self.arraysize if size is None else size
        return [row for _, row in zip(range(wanted), self, strict=False)]

    def fetchall(self) -> list[Any]:
        """Fetch all remaining rows; see `sqlite3.Cursor.fetchall`."""
        return list(self)

    def close(self) -> None:
        """Close the cursor, which ends its statement."""
        super().close()
        self.connection.end(self)


class _ReadingCursor(LentCursor):
    """A cursor with unread rows; its statement ends when the cursor is dropped.

    It is a separate class so that a cursor that was read to its end has no finalizer: an exception
    that a signal handler raises in a finalizer (Ctrl-C) is lost.
    """

    def __del__(self) -> None:
        if isinstance(getattr(self, "connection", None), LentConnection):
            self.connection.end(self)


def _as_text(text: bytes) -> str:
    """Decode a text of a database that may be damaged or forged."""
    return text.decode(errors="backslashreplace")


class LentConnection(Connection):
    """A read-only connection for a user's SQL, for one thread at a time."""

    _database: Database | None = None
    _refused = ""
    _use: AbstractContextManager[Connection] | None = None

    def lend(self, path: Path | str, database: Database | None) -> None:
        """From now on, allow only statements that read.

        Args:
            path: The name of the store in the texts of errors.
            database: The database that lends the connection; None for a private copy in memory.
        """
        self._path = path
        self._pid = os.getpid()
        self._statements: LiveSet[LentCursor] = LiveSet()  # statements with unread rows
        self.text_factory = _as_text
        # Also refuses BEGIN IMMEDIATE, which would make writers wait.
        self.execute("PRAGMA query_only=ON")
        self.set_authorizer(self._authorize)
        self._database = database  # from here on, statements are counted

    @property
    def is_lent(self) -> bool:
        """True until the connection is given back, or closed by lllm."""
        return self._database is not None and self._database.has_lent(self)

    @property
    def idle(self) -> bool:
        """True if no statement is in progress."""
        return self._use is None

    def _authorize(
        self, action: int, first: str | None, second: str | None, _: str | None, __: str | None
    ) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            name = str(first).lower()
            fine = name in _TELLING or (name in _TELLING_ALONE and second is None)
        else:
            loads = action == sqlite3.SQLITE_FUNCTION and str(second).lower() == "load_extension"
            fine = action in _ASKING and not loads
        if fine:
            return sqlite3.SQLITE_OK
        self._refused = _NAMES.get(action, "This statement")
        if action == sqlite3.SQLITE_PRAGMA:
            self._refused = f"PRAGMA {first}"
        elif action == sqlite3.SQLITE_FUNCTION:
            self._refused = f"{second}()"
        elif str(first).startswith("sqlite_"):
            self._refused = "A change of the schema"
        return sqlite3.SQLITE_DENY

    def refusal(self, what: str) -> LogReadOnly:
        """Make the error for a statement that does more than read.

        Args:
            what: The kind of the statement, with which the message begins.

        Returns:
            The error, to be raised by the caller.
        """
        return LogReadOnly(
            f"{what} is refused: a store is only read by SQL, {self._path} too. To change or keep "
            "something, export it to a database of your own: `lllm export --lists "
            "mine.db`, or `store.export_lists('mine.db')`."
        )

    def explain(self, error: BaseException) -> None:
        """Raise lllm's error for an error of a statement, if lllm has one for it.

        Args:
            error: The error that the statement raised.

        Raises:
            LogReadOnly: The statement does more than read.
            LogDamaged: The statement met a damaged page.
        """
        if not isinstance(error, sqlite3.Error):
            return
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._refused or code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
            raise self.refusal(self._refused or "A statement that writes") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise_translated(error, self._path)

    def begin(self, cursor: LentCursor) -> None:
        """Count a statement as in progress.

        Args:
            cursor: The cursor of the statement.

        Raises:
            LogUnavailable: The database can't be read any more.
        """
        self._refused = ""
        database = self._database
        if database is None:
            return
        if self._use is None:
            use = database.snapshot()
            use.__enter__()
            self._use = use
        self._statements.add(cursor)
        cursor.__class__ = _ReadingCursor
        if not database.has_lent(self):
            self.end(cursor)
            raise LogUnavailable(
                f"{self._path}: this connection was closed, by a fork, or since the "
                "file was opened anew. Ask for another: store.database()."
            )

    def finish(self) -> None:
        """End every statement, including those with unread rows."""
        for cursor in list(self._statements):
            cursor.close()
        if self.in_transaction:
            self.execute("ROLLBACK")

    def end(self, cursor: LentCursor) -> None:
        """Count a statement as ended; ending it twice does nothing.

        Args:
            cursor: The cursor of the statement.
        """
        cursor.__class__ = LentCursor
        database, use = self._database, self._use
        if database is None or use is None:
            return
        self._statements.discard(cursor)
        if self._statements or self._pid != os.getpid():
            return
        there = database.has_lent(self)
        if there and self.in_transaction:
            return
        self._use = None
        use.__exit__(None, None, None)
        if not there:  # it was in use when the others were closed
            give_back = partial(database.give_back, self)
            if finalizer_work.by_collector():
                finalizer_work.later(give_back)
            else:
                give_back()

    def cursor(self, factory: object = None) -> LentCursor:  # type: ignore[override]
        """Make a cursor; it is always a LentCursor."""
        del factory
        return super().cursor(LentCursor)

    def execute(self, sql: str, parameters: Any = ()) -> LentCursor:
        """Run a statement that reads, in a LentCursor."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> LentCursor:
        """Refuse to run, as `LentCursor.executemany` does."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str) -> LentCursor:
        """Refuse to run, as `LentCursor.executescript` does."""
        return self.cursor().executescript(sql_script)
