"""Opens a store as a read-only database of sqlite-utils, for a user's SQL.

It is imported only when it is used, because loading sqlite-utils takes time.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import TYPE_CHECKING

import sqlite_utils

from lllm.events.backend import KeepsRows, OnServer
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.user_sql import LentConnection
from lllm.events.concurrency import finalizer_work
from lllm.events.errors import LogDamaged, StoreError
from lllm.projections.database import RowsDatabase
from lllm.projections.readable_view import readable_views_of
from lllm.store.read_model import ReadModel
from lllm.store.rows_place import are_in_memory

if TYPE_CHECKING:
    from lllm.store.methods.store_parts import StoreParts

_ABOUT = {
    "events": "The log itself, from which all other tables are built: every event, by position. "
    "data is JSON text; read a field with data ->> 'field'. time is nanoseconds UTC.",
    "checkpoints": "The position up to which the rows of each view follow the log.",
}
_FRESH = "rows_in_memory"  # the schema for rows in memory


class StoreDatabase(sqlite_utils.Database):
    """A read-only sqlite-utils database with the tables of a store.

    It is for one thread at a time. The connection to the file is opened when it is needed, and is
    replaced after a fork, or when a file on a read-only medium has changed.

    Attributes:
        about: The purpose of each table, by its name.
        readable: The SQL views for people.
    """

    def __init__(self, store: StoreParts, file: Database, rows: Database, place: ReadModel) -> None:
        """See `LogStore.database`.

        Args:
            store: The store; it is kept open as long as this database is in use.
            file: The database in which the store keeps its rows.
            rows: The same, or a database in memory if the rows in the file can't be used.
            place: The rows of the store.

        Raises:
            LogUnavailable: The file can't be read.
        """
        self._store = store
        self._file = file
        self._rows = rows
        self._place = place
        self._closed = False
        self.about = _ABOUT | {
            table.name: table.about for view in place.views for table in view.tables
        }
        self.readable = [one for view in place.views for one in readable_views_of(view)]
        self.about |= {one.name: one.about for one in self.readable}
        self._lent = self._connect()
        super().__init__(self._lent, recursive_triggers=False, execute_plugins=False)

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection for reading; raises an error of sqlite3 after `close`."""
        if not are_in_memory(self._file) and not self._closed:
            with self._file.snapshot():  # detects that the file has changed
                there = self._lent.is_lent
            if not there:
                self._lent = self._connect()
        return self._lent

    @conn.setter
    def conn(self, connection: sqlite3.Connection) -> None:
        """Set the connection, as sqlite-utils does in its constructor."""

    def use_rows_in_memory(self, damage: LogDamaged) -> bool:
        """Use rows rebuilt in memory, because a page of the stored ones can't be read.

        Queries that are in progress end.

        Args:
            damage: The error that reported the damage.

        Returns:
            False if the rows were in memory already.

        Raises:
            LogError: `damage` itself, if it is not about a damaged page.
        """
        if are_in_memory(self._rows):
            return False
        self._lent.finish()
        if self._dropped.detach() is not None:
            self._file.give_back(self._lent)
        in_memory = self._place.in_memory(damage)
        assert isinstance(in_memory, Database)
        self._rows = in_memory
        self._lent = self._connect()
        return True

    def _connect(self) -> LentConnection:
        file, rows = self._file, self._rows
        if not are_in_memory(file):
            lent = file.lend(None if rows is file else lambda lent: _put_before(lent, rows))
            self._dropped = weakref.finalize(
                self, finalizer_work.later, lambda: file.give_back(lent)
            )
            self._dropped.atexit = False
            return lent
        copy = sqlite3.connect(":memory:", factory=LentConnection, isolation_level=None)
        with rows.snapshot() as connection:
            connection.backup(copy)
        copy.lend(":memory:", None)
        return copy

    def close(self) -> None:
        """Close the connection; the store stays open. Closing twice does nothing."""
        self._closed = True
        if are_in_memory(self._file):
            self._lent.close()
        elif self._dropped.detach() is not None and self._lent.is_lent:
            self._lent.finish()
            self._file.give_back(self._lent)


def _put_before(lent: LentConnection, rows: Database) -> None:
    """Make the names of the views' tables refer to a copy of the rows in memory.

    SQLite looks up a name among the temporary tables first.
    """
    with rows.snapshot() as connection:
        content = connection.serialize()
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
    lent.execute(f"ATTACH ':memory:' AS {_FRESH}")
    lent.deserialize(content, name=_FRESH)
    for (name,) in tables:
        lent.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {_FRESH}.{name}")


def open_database(store: StoreParts, place: ReadModel) -> StoreDatabase:
    """Open the database of a store's own file.

    Args:
        store: The store; it is kept open as long as the database is in use.
        place: The rows of the store, which must be up to date.

    Returns:
        The database, ready for queries.

    Raises:
        StoreError: The store has no file for rows.
        LogUnavailable: The file can't be read.
    """
    backend = store.backend
    if isinstance(backend, OnServer):
        raise StoreError(
            f"{store!r} is in PostgreSQL, and database() is for SQLite. Query it with `lllm "
            "query`, psql or psycopg; `lllm backup copy.db` makes an SQLite file of it."
        )
    file = backend.rows_database() if isinstance(backend, KeepsRows) else None
    if file is None or (are_in_memory(file) and not store.read_only):
        raise StoreError(
            f"{store!r} has no file that SQL could read. Keep the log in one, with "
            "SQLiteBackend('runs.db') or LocalFileBackend('logs'), and query that store."
        )

    def opened(rows: RowsDatabase) -> StoreDatabase:
        assert isinstance(rows, Database)  # the file or in memory
        return StoreDatabase(store, file, rows, place)

    return place.ask(opened)
