"""Manages one open SQLite file, so that threads, processes and forks can share it.

Reads use the connections of a pool (`connection_pool`); one connection writes (`writer`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

from lllm.events.backends.sqlite.connection import Connection, connect
from lllm.events.backends.sqlite.connection import Durability as Durability
from lllm.events.backends.sqlite.connection import Row as Row
from lllm.events.backends.sqlite.connection import Value as Value
from lllm.events.backends.sqlite.connection_pool import Readers, Reading, ReadingInMemory
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.backends.sqlite.file_header import (
    APPLICATION_ID,
    is_ours,
    missing_guards,
    refuse_others,
    refuse_parts,
)
from lllm.events.backends.sqlite.replaced_file import OpenedFile
from lllm.events.backends.sqlite.schema import NEW_FORMAT
from lllm.events.backends.sqlite.user_sql import LentConnection
from lllm.events.backends.sqlite.write_connection import SHORT_SECONDS, Writer, Writing
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairFileLock
from lllm.events.concurrency.fork_handlers import (
    fork_begins_within,
    pause_at_fork,
    register_after_fork,
)
from lllm.events.concurrency.locks import FileLock, kept_waiting
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import check_database, make_database, make_folder
from lllm.events.files.permissions import FILE_MODE, folder_mode

_OPENING_SECONDS = 0.2  # seconds to wait for the lock when opening an existing file


class Database:
    """The connections of this process to one SQLite file, or to a private database in memory.

    Args:
        path: The file, or ":memory:".
        lock: The lock file that every writer takes first; None for a database in memory.
        version: The version of the format, which the file's header contains.
        schema: The SQL statements that create the tables of a new file.
        durability: "process": commits survive kill -9. "power": they survive a loss of power, too.
        mode: The permissions of a new file and of the files beside it, as 0o600.

    Raises:
        LogUnavailable: The file can't be opened.
        LogTooNew: A newer lllm wrote the file.
        LogError: The file is not a database of lllm.
    """

    engine = "sqlite"
    read_only = False

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        *,
        lock: Path | None,
        version: int,
        schema: Sequence[str] = (),
        durability: Durability = "process",
        mode: int = FILE_MODE,
    ) -> None:
        if durability not in ("process", "power"):
            raise ValueError(f'durability is "process" or "power", not {durability!r}')
        self.path = path
        self.mode = mode
        self.lock_folder = lock.parent if lock is not None else None
        self._version = version
        self._durability = durability
        self._closed = False
        self._inherited: list[object] = []
        self._torn = False  # the parent had an open transaction at the fork
        self._file = OpenedFile(os.fspath(path))
        self._readers = Readers(
            Path(path), connect=self._connect, drop=self._drop, check=self._file.check
        )
        self._writer = Writer(
            path, self._readers, connect=self._connect, check=self._file.check,
            disconnect=self._disconnect,
        )  # fmt: skip
        pause_at_fork(self)
        register_after_fork(self)
        with FileErrors(self.path):
            try:
                self._open_file(lock, schema)
            except BaseException:
                self.close()  # the caller never gets this object and could not close it
                raise

    def _open_file(self, lock: Path | None, schema: Sequence[str]) -> None:
        """Check the file, create what is missing, and connect."""
        file = self.path if isinstance(self.path, Path) else None
        if file is not None:
            check_database(file)
            refuse_parts(file)
            if lock is None or not lock.parent.exists():
                refuse_others(file)  # if there is a lock, another process may be creating the file
        if lock is not None:
            make_folder(
                lock.parent, parents=True, durable=self._durability == "power",
                mode=folder_mode(self.mode),
            )  # fmt: skip
            self._writer.file_lock = FairFileLock(lock)
            if file is not None:
                make_database(file, mode=self.mode)
        self._prepare(schema)

    def pause(self) -> bool:
        """Before a fork: wait for other threads to leave SQLite, and close all connections.

        Threads that wait for a lock of lllm's are not in SQLite, and are not waited for.

        SQLite notes in memory which file locks this process holds, and the child gets a copy of
        these notes. With open connections, the child would believe that it holds locks which only
        the parent holds
        (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).

        Returns:
            True if all connections are closed.
        """
        self._readers.shut()
        self._writer.settle_use()
        if self.path != ":memory:" and self._readers.wait(fork_begins_within()):
            with suppress(OSError, sqlite3.Error):
                self._rest()
        return True

    def _rest(self) -> None:
        """Close all connections, while none is in use.

        The last connection that is closed runs a checkpoint, with exclusive access to the file. So
        the lock is taken first if it is free, so that no other process waits inside SQLite;
        otherwise it is done without the lock.
        """
        with self._writer.locked_to_fork() as locked:
            self._disconnect(checkpoint=locked)

    def resume(self) -> None:
        """Allow reads and writes again after the fork."""
        self._readers.open_again()
        self._writer.nesting.run_queued()

    def after_fork(self) -> None:
        """Abandon the parent's connections; closing them here could release the parent's locks."""
        self._torn = self._torn or (self.path != ":memory:" and bool(self._readers.under_way))
        self._inherited += [self._writer.connection, *self._readers.free, *self._readers.lent]
        self._writer.after_fork()
        self._readers.after_fork()

    # -- Opening

    def _connect(self, factory: type[Connection] = Connection) -> Connection:
        if self._closed:
            raise LogUnavailable(f"{self.path} has been closed; open the store again.")
        if self._torn:
            raise LogUnavailable(
                f"{self.path} can't be used in this process: when it was forked, a transaction was "
                "open, and stayed so for more than a second. SQLite takes this process for its "
                "owner. Fork before such a transaction begins, or start the process anew (spawn)."
            )
        connection = connect(self.path, factory)
        try:
            connection.set_up(self._durability)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, schema: Sequence[str]) -> None:
        # The holder of the lock may be suspended; an existing file can be opened without the lock.
        writer = self._writer
        with writer.locked(_OPENING_SECONDS) as mine, writer.in_use():
            if self._is_ready(schema, make=mine):
                return
        with writer.locked() as mine, writer.in_use():
            if not self._is_ready(schema, make=mine):
                raise kept_waiting(self.path)

    def _is_ready(self, schema: Sequence[str], *, make: bool) -> bool:
        before = self._file.found()
        connection = self._writer.ready()
        with connection.waiting(locks.WAIT_SECONDS):
            if not is_ours(connection, self.path, self._version, schema):
                if not make:
                    return False
                self._create(connection, schema)
            if make:
                self._add_guards(connection, schema)
        if self.path != ":memory:":
            self._file.note(before)
        return True

    def prepare_again(self, schema: Sequence[str]) -> None:
        """Check that a file is still the same log, when it is opened again after it was closed.

        Args:
            schema: The SQL statements that create the tables of a new file.

        Raises:
            LogError: The same errors as from opening the file.
        """
        with self.snapshot() as connection:
            ours = is_ours(connection, self.path, self._version, schema)
        if not ours and not self.read_only:
            self._prepare(schema)

    def in_place(self) -> bool:
        """True if the paths of the file and of its lock still lead to the open files."""
        try:
            self._file.check()
        except LogUnavailable:
            return False
        lock = self._writer.file_lock
        return lock is None or lock.in_place()

    def _create(self, connection: sqlite3.Connection, schema: Sequence[str]) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={NEW_FORMAT}")
        connection.execute("COMMIT")

    def _add_guards(self, connection: sqlite3.Connection, schema: Sequence[str]) -> None:
        missing = missing_guards(connection, schema)
        if not missing:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in missing:
                connection.execute(statement)
            connection.execute("COMMIT")
        # for example on a full disk, on which the log can still be read
        except sqlite3.OperationalError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def process_lock(self, name: str) -> FileLock | None:
        """Open a lock file beside the database.

        Args:
            name: The name of the file, as "rebuild.lock".

        Returns:
            The lock, which the caller closes; None for a database that no other process reaches.

        Raises:
            LogUnavailable: The lock file can't be opened.
        """
        if self.lock_folder is None:
            return None
        path = self.lock_folder / name
        with FileErrors(path):
            return FileLock(path)

    # -- Writing

    def at_write(self) -> bool:
        """True if this thread is inside a write, so that a second write would wait for itself.

        This happens in a signal handler, and in functions that the garbage collector calls.
        `nested_writes` describes what such a caller can do.
        """
        return self._writer.is_nested()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current write has ended.

        Args:
            work: The function; it is called once.
        """
        self._writer.nesting.queue(work)

    def write(self, *, timeout: float | None = None) -> Writing:
        """Begin a write transaction, which excludes all other writers.

        The transaction is committed at the end of the `with` block, and rolled back if the block
        raises.

        Args:
            timeout: The longest time to wait for other writers, in seconds; then the connection is
                None. With None, the limit is `locks.WAIT_SECONDS`, and then LogUnavailable is
                raised.

        Returns:
            A context manager whose value is the connection. Entering or leaving it raises
            LogUnavailable if the transaction can't be begun or committed.
        """
        return Writing(self._writer, timeout)

    def insert(self, sql: str, values: Row) -> int:
        """Run one INSERT in its own transaction.

        Args:
            sql: The INSERT statement, with `?` in place of each value.
            values: The values of all rows, one row after another.

        Returns:
            The rowid of the last row.

        Raises:
            LogUnavailable: The file can't be written.
        """
        return self._writer.insert(sql, values)

    def vacuum(self) -> None:
        """Rewrite the file without deleted data; other writers wait meanwhile.

        Raises:
            LogUnavailable: The file can't be written, or there is no space for a copy.
        """
        self._writer.run_alone("VACUUM")

    def empty_write_ahead_log(self) -> bool:
        """Copy the write-ahead log into the file and truncate it.

        Returns:
            False if a reader still needs it.

        Raises:
            LogUnavailable: The file can't be written.
        """
        return self._writer.run_alone("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    # -- Reading

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a SELECT and return all its rows.

        Args:
            sql: The SELECT statement, with `?` in place of each value.
            parameters: The values for the `?`, in order.

        Returns:
            The rows.

        Raises:
            LogUnavailable: The file can't be read.
            LogDamaged: SQLite met a damaged page.
        """
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Get a connection for reading; between BEGIN and COMMIT it sees one state of the file.

        Returns:
            A context manager whose value is the connection. Entering it raises LogUnavailable if
            the file can't be read.
        """
        if self.path == ":memory:":
            return ReadingInMemory(self._in_memory, self._writer.thread_lock)
        return Reading(self._readers)

    def state(self) -> tuple[int, int]:
        """Return a value that changes with every commit, by any process.

        It may also change when nothing was committed.

        Returns:
            A value to compare with an earlier one.
        """
        with self.snapshot() as connection:
            if self.path == ":memory:":
                return 0, connection.total_changes
            # Changes when other connections commit: https://sqlite.org/pragma.html#pragma_data_version
            return connection.serial, connection.execute("PRAGMA data_version").fetchone()[0]

    def lend(self, prepare: Callable[[LentConnection], object] | None = None) -> LentConnection:
        """Open a read-only connection for a user's SQL; see `user_sql`.

        Args:
            prepare: A function that creates temporary tables and views in the connection before it
                becomes read-only; None for none.

        Returns:
            The connection; the user gives it back with `give_back`.

        Raises:
            LogUnavailable: The file can't be read, or the database is in memory.
        """
        return self._lend(self, prepare)

    def _lend(
        self, lender: Database, prepare: Callable[[LentConnection], object] | None
    ) -> LentConnection:
        if self.path == ":memory:":
            raise LogUnavailable("A database in memory has one connection, which can't be lent.")
        with self.snapshot():  # as for every read: no fork can begin, and the file is in its place
            lent = self._connect(LentConnection)
            assert isinstance(lent, LentConnection)
            if prepare is not None:
                prepare(lent)
            lent.lend(self.path, lender)
            self._readers.lent.add(lent)
        return lent

    def has_lent(self, connection: LentConnection) -> bool:
        """True until the connection is given back, or closed because the file was opened again.

        Args:
            connection: A connection that `lend` returned.

        Returns:
            True while the connection can be used.
        """
        return connection in self._readers.lent

    def give_back(self, connection: LentConnection) -> None:
        """Close a connection that was lent; doing so twice does nothing.

        Args:
            connection: A connection that `lend` returned.
        """
        self._readers.lent.discard(connection)
        if connection.idle:
            self._drop(connection)

    def _in_memory(self) -> Connection:
        if self._writer.connection is None:
            raise LogUnavailable("This store in memory has been closed.")
        return self._writer.connection

    # -- Closing

    def _drop(self, connection: Connection) -> None:
        with self._writer.locked(SHORT_SECONDS):  # the last connection to close checkpoints
            connection.close()
            if self._closed and self._writer.file_lock is not None:
                self._writer.file_lock.close()

    def close(self) -> None:
        """Close every connection; the last one runs a checkpoint, under the lock."""
        if self._closed:
            return
        self._closed = self._writer.is_closed = True
        with self._writer.locked(SHORT_SECONDS) as mine:
            if mine or not self._readers.under_way:
                self._disconnect()
            if mine and self._writer.file_lock is not None:
                # not earlier: closing a connection may run a checkpoint
                self._writer.file_lock.close()

    def _disconnect(self, *, checkpoint: bool = True) -> None:
        free = self._readers.renew()
        while free:  # a thread that is beginning to read may still take one
            free.pop().close_file(checkpoint=checkpoint)
        self._writer.disconnect(checkpoint=checkpoint)
