"""Opens a store as a read-only database of sqlite-utils, for a user's SQL.

Imported when somebody asks for one: sqlite-utils takes a while to load.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import TYPE_CHECKING

import sqlite_utils

from lllm.events.backend import KeepsRows
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.user_sql import LentConnection
from lllm.events.concurrency import finalizer_work
from lllm.events.errors import LogDamaged, StoreError
from lllm.store.read_model import ReadModel

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore

_ABOUT = {
    "events": "The log itself, and the only truth: every event, in the order of its position. data "
    "is JSON text, to be taken apart with data ->> 'field'; time is nanoseconds UTC.",
    "checkpoints": "How far the rows of each view have come in the log.",
}
_FRESH = "rows_in_memory"  # the schema of rows that can't stand in the file


class StoreDatabase(sqlite_utils.Database):
    """A read-only sqlite-utils database with the tables of a store.

    For one thread at a time. The connection to the file is made when it is needed: after a fork, or
    when the file on a read-only medium has changed, another takes its place.

    Attributes:
        about: What each table is for, by its name.
    """

    def __init__(self, store: LogStore, file: Database, rows: Database, place: ReadModel) -> None:
        """See `LogStore.database`.

        Args:
            store: Kept open for as long as this is in use.
            file: The database that the store keeps its rows in.
            rows: The same, or one in memory where those of the file can't be used.
            place: Where the store keeps its rows.

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
        self._lent = self._connect()
        super().__init__(self._lent, recursive_triggers=False, execute_plugins=False)

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection for reading; raises an error of sqlite3 once it is closed."""
        if self._file.path != ":memory:" and not self._closed:
            with self._file.snapshot():  # which notices a file that has changed
                there = self._lent.is_lent
            if not there:
                self._lent = self._connect()
        return self._lent

    @conn.setter
    def conn(self, connection: sqlite3.Connection) -> None:
        """Set by sqlite-utils, to what it was given."""

    def use_rows_in_memory(self, damage: LogDamaged) -> bool:
        """Use rows rebuilt in memory, because a page of the stored ones can't be read.

        What is still being read ends.

        Args:
            damage: What told of it.

        Returns:
            False where that was done before.

        Raises:
            LogError: `damage`, where it is no damage of a page.
        """
        if self._rows.path == ":memory:":
            return False
        self._lent.finish()
        if self._dropped.detach() is not None:
            self._file.give_back(self._lent)
        self._rows = self._place.in_memory(damage)
        self._lent = self._connect()
        return True

    def _connect(self) -> LentConnection:
        file, rows = self._file, self._rows
        if file.path != ":memory:":
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
        if self._file.path == ":memory:":
            self._lent.close()
        elif self._dropped.detach() is not None and self._lent.is_lent:
            self._lent.finish()
            self._file.give_back(self._lent)


def _put_before(lent: LentConnection, rows: Database) -> None:
    """Make the names of the views' tables refer to a copy of the rows in memory.

    SQLite looks for a name among the temporary ones first.
    """
    with rows.snapshot() as connection:
        content = connection.serialize()
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
    lent.execute(f"ATTACH ':memory:' AS {_FRESH}")
    lent.deserialize(content, name=_FRESH)
    for (name,) in tables:
        lent.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {_FRESH}.{name}")


def open_database(store: LogStore, place: ReadModel) -> StoreDatabase:
    """Open the database of a store's own file.

    Args:
        store: Kept open for as long as the database is in use.
        place: Its rows, which are up to date.

    Returns:
        The database.

    Raises:
        StoreError: The store keeps nothing in a file.
        LogUnavailable: The file can't be read.
    """
    backend = store.backend
    file = backend.rows_database() if isinstance(backend, KeepsRows) else None
    if file is None or (file.path == ":memory:" and not store.read_only):
        raise StoreError(
            f"{store!r} has no file that SQL could read. Keep the log in one, with "
            "SQLiteBackend('runs.db') or LocalFileBackend('logs'), and ask that store."
        )
    return place.ask(lambda rows: StoreDatabase(store, file, rows, place))
