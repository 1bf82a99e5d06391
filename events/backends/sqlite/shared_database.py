"""Shares the connections to one SQLite file between the stores of a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lllm.events.backends.sharing import Registry, Share, open_otherwise
from lllm.events.backends.sqlite.connection import Connection
from lllm.events.backends.sqlite.database import Database, Durability, Row
from lllm.events.backends.sqlite.user_sql import LentConnection
from lllm.events.backends.sqlite.write_connection import Writing
from lllm.events.concurrency.liveness import Liveness
from lllm.events.errors import LogReadOnly, LogUnavailable
from lllm.events.files.permissions import folder_mode, mode_like


class SQLiteFile:
    """An open SQLite file, and the locks that show which of its writers are alive.

    Args:
        database: The connections to the file.
        liveness: The locks beside the file that show which writers are alive.
    """

    def __init__(self, database: Database, liveness: Liveness | None) -> None:
        self.database = database
        self.liveness = liveness

    def in_place(self) -> bool:
        """True if the path still leads to this file; see `Shareable`."""
        return self.database.in_place()

    def close(self) -> None:
        """Close the connections and locks of the file; see `Shareable`."""
        self.database.close()


files: Registry[SQLiteFile] = Registry()
_READ_ONLY = ("read only",)


class SharedDatabase(Database):
    """A Database that several stores share; closing it releases only this store's share.

    Args:
        shared: The connections that the stores share.
        close: A function that releases the share.
        read_only: True to refuse writes, even if other stores may write.
    """

    def __init__(
        self, shared: Database, close: Callable[[], object], *, read_only: bool = False
    ) -> None:
        self.path = shared.path
        self.lock_folder = shared.lock_folder
        self.read_only = read_only or shared.read_only
        self._shared = shared
        self._give_back = close
        self._closed = False

    def _open(self) -> Database:
        if self._closed:
            raise LogUnavailable(f"{self.path} has been closed; open the store again.")
        return self._shared

    def _writable(self) -> Database:
        shared = self._open()
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        return shared

    def at_write(self) -> bool:
        """True if this thread is inside a write; see `Database.at_write`."""
        return self._shared.at_write()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current write has ended.

        See `Database.when_written`.
        """
        self._shared.when_written(work)

    def write(self, *, timeout: float | None = None) -> Writing:
        """Begin a write transaction; see `Database.write`."""
        return self._writable().write(timeout=timeout)

    def insert(self, sql: str, values: Row) -> int:
        """Run one INSERT in its own transaction; see `Database.insert`."""
        return self._writable().insert(sql, values)

    def vacuum(self) -> None:
        """Rewrite the file without deleted data; see `Database.vacuum`."""
        self._writable().vacuum()

    def empty_write_ahead_log(self) -> bool:
        """Copy the write-ahead log into the file and truncate it; see `Database`."""
        return self._writable().empty_write_ahead_log()

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a SELECT and return all its rows; see `Database.query`."""
        return self._open().query(sql, parameters)

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Get a connection for reading; see `Database.snapshot`."""
        return self._open().snapshot()

    def lend(self, prepare: Callable[[LentConnection], object] | None = None) -> LentConnection:
        """Open a read-only connection for a user's SQL; see `Database.lend`."""
        return self._open()._lend(self, prepare)

    def has_lent(self, connection: LentConnection) -> bool:
        """True until the connection is given back or closed; see `Database.has_lent`."""
        return not self._closed and self._shared.has_lent(connection)

    def give_back(self, connection: LentConnection) -> None:
        """Close a connection that was lent; see `Database.give_back`."""
        self._shared.give_back(connection)

    def state(self) -> tuple[int, int]:
        """Return a value that changes with every commit; see `Database.state`."""
        return self._open().state()

    def close(self) -> None:
        """Release this store's share; the last share closes every connection."""
        self._closed = True
        self._give_back()


def open_shared(
    user: object,
    path: Path,
    *,
    lock: Path | None = None,
    version: int,
    schema: Sequence[str] = (),
    durability: Durability = "process",
    read_only: bool = False,
    mode: int | None = None,
) -> tuple[SharedDatabase, Liveness | None]:
    """Open an SQLite file, sharing the connections that this process has to it.

    If other stores of this process write the file, a store that only reads shares their
    connections.

    Args:
        user: The object that opens the file; when it is garbage-collected, the share is released.
        path: The path of the file; it is created if it does not exist.
        lock: The lock file that writers take; None for one in a folder beside the file.
        version: The version of the format, which the file's header contains.
        schema: The SQL statements that create the tables of a new file.
        durability: "process": commits survive kill -9. "power": they survive a loss of power, too.
        read_only: True to write nothing.
        mode: The permissions of new files, as 0o600; None for those of existing files.

    Returns:
        The share of the database, and the locks that show which writers are alive; None for the
        second if there are none.

    Raises:
        LogError: The file can't be opened (see `Database`), or is open with another durability or
            mode.
    """
    if lock is None:
        lock = path.with_name(f"{path.name}-lllm") / "write.lock"
    writers = lock
    mode_of_new = mode_like(lock.parent, path) if mode is None else mode

    def make() -> SQLiteFile:
        database = Database(
            path, lock=writers, version=version, schema=schema, durability=durability,
            mode=mode_of_new,
        )  # fmt: skip
        return SQLiteFile(database, Liveness(writers.parent, mode=folder_mode(mode_of_new)))

    def make_read_only() -> SQLiteFile:
        from lllm.events.backends.sqlite.read_only import ReadOnlyDatabase

        database = ReadOnlyDatabase(path, writers=writers, version=version, schema=schema)
        return SQLiteFile(database, Liveness(writers.parent))

    share: Share[SQLiteFile] | None = None
    if not read_only:
        share = files.open(path, user, make, options={"durability": durability})
    else:
        share = files.opened(path, user) or files.open(
            path, user, make_read_only, options={}, key=_READ_ONLY
        )
    opened = share.thing
    if not read_only and mode is not None and opened.database.mode != mode:
        share.close()
        raise open_otherwise(path, f"mode={opened.database.mode:#o}", f"mode={mode:#o}")
    database = SharedDatabase(opened.database, share.close, read_only=read_only)
    if share.number > 1:
        try:
            opened.database.prepare_again(schema)
        except BaseException:
            share.close()
            raise
    return database, opened.liveness
