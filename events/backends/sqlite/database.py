"""One SQLite file, opened so that threads, processes and forks can share it.

Everybody reads with a connection of a pool (`connection_pool`); one connection writes (`writer`).
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
from lllm.events.backends.sqlite.file_header import (
    APPLICATION_ID,
    FileErrors,
    is_ours,
    refuse_others,
    refuse_parts,
)
from lllm.events.backends.sqlite.replaced_file import OpenedFile
from lllm.events.backends.sqlite.user_sql import LentConnection
from lllm.events.backends.sqlite.writer import SHORT_SECONDS, Writer, Writing
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairFileLock
from lllm.events.concurrency.fork_handlers import (
    fork_begins_within,
    pause_at_fork,
    register_after_fork,
)
from lllm.events.concurrency.locks import kept_waiting
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import check_database, make_database, make_folder
from lllm.events.files.permissions import FILE_MODE, folder_mode

_OPENING_SECONDS = 0.2  # to wait for the lock, to open what is there already


class Database:
    """The connections of this process to one SQLite file, or to a private one in memory.

    Args:
        path: The file, or ":memory:".
        lock: The lock file that every writer of it takes first, None where nobody else writes.
        version: The version of the format, kept in the header.
        schema: Statements that make a new file.
        durability: "process" survives kill -9, "power" the loss of power too.
        mode: The permissions of a new file, and of what is made beside it.

    Raises:
        LogUnavailable: The file can't be opened.
        LogTooNew: A newer lllm made it.
        LogError: It is something else.
    """

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
        self._torn = False  # a transaction of the parent's was open at the fork
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
                self.close()  # nobody gets this object, so nobody else could
                raise

    def _open_file(self, lock: Path | None, schema: Sequence[str]) -> None:
        """Check the file, create what is missing, and connect."""
        file = self.path if isinstance(self.path, Path) else None
        if file is not None:
            check_database(file)
            refuse_parts(file)
            if lock is None or not lock.parent.exists():
                refuse_others(file)  # where there is a lock, somebody may just be making the file
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

        Threads that only wait for a lock are not waited for.

        SQLite notes in memory which locks this process holds, and the child gets a copy of the
        notes: it would take itself for a holder of locks that it does not hold
        (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
        """
        self._readers.shut()
        self._writer.settle_use()
        if self.path != ":memory:" and self._readers.wait(fork_begins_within()):
            with suppress(OSError, sqlite3.Error):
                self._rest()
        return True

    def _rest(self) -> None:
        """Close all connections, while none is in use.

        The last one that is closed checkpoints, and has the file to itself then. So the lock is
        taken where it can be had, to make nobody wait inside of SQLite, and done without otherwise.
        """
        with self._writer.locked_to_fork() as locked:
            self._disconnect(checkpoint=locked)

    def resume(self) -> None:
        """Let reads and writes go on after the fork."""
        self._readers.open_again()
        self._writer.nesting.run_queued()

    def after_fork(self) -> None:
        """Abandon the parent's connections: closing them here could release its locks."""
        self._torn = self._torn or (self.path != ":memory:" and bool(self._readers.under_way))
        self._inherited += [self._writer.connection, *self._readers.free, *self._readers.lent]
        self._writer.after_fork()
        self._readers.after_fork()

    # -- opening

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
        # Whoever has the lock may be frozen; to open what is there, nobody has to be waited for.
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
        if self.path != ":memory:":
            self._file.note(before)
        return True

    def prepare_again(self, schema: Sequence[str]) -> None:
        """Check that a file that is opened again is still the same log.

        Args:
            schema: Statements that make a new file.

        Raises:
            LogError: What opening it raises.
        """
        with self.snapshot() as connection:
            ours = is_ours(connection, self.path, self._version, schema)
        if not ours and not self.read_only:
            self._prepare(schema)

    def in_place(self) -> bool:
        """True if the paths of the file and its lock still lead to what is open."""
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
        connection.execute(f"PRAGMA user_version={self._version}")
        connection.execute("COMMIT")

    # -- writing

    def at_write(self) -> bool:
        """True if this thread is inside a write, so that a second one would wait for itself.

        That is in a signal handler, and in what the garbage collector ends; see `nested_writes` for
        what can be done.
        """
        return self._writer.is_nested()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue work until this thread's current write has ended.

        Args:
            work: Called once.
        """
        self._writer.nesting.queue(work)

    def write(self, *, timeout: float | None = None) -> Writing:
        """Begin a write transaction, which excludes all other writers.

        It is committed at the end of the `with`, and rolled back when anything is raised.

        Args:
            timeout: Seconds to wait for other writers; the connection is None where they took
                longer. With None, it is an error where they take longer than `locks.WAIT_SECONDS`.

        Returns:
            A `with`, whose value is the connection. Entering or leaving it raises LogUnavailable
            where the transaction can't be begun or committed.
        """
        return Writing(self._writer, timeout)

    def insert(self, sql: str, values: Row) -> int:
        """Run one INSERT in its own transaction.

        Args:
            sql: The statement.
            values: The values of all its rows, one after another.

        Returns:
            The rowid of its last row.

        Raises:
            LogUnavailable: That can't be done.
        """
        return self._writer.insert(sql, values)

    def vacuum(self) -> None:
        """Write the file anew, without what was deleted; other writers wait meanwhile.

        Raises:
            LogUnavailable: The file can't be written, or there is no space for a copy.
        """
        self._writer.run_alone("VACUUM")

    def empty_write_ahead_log(self) -> bool:
        """Copy the write-ahead log into the file and cut it to nothing.

        Returns:
            False where a reader still needs it.

        Raises:
            LogUnavailable: The file can't be written.
        """
        return self._writer.run_alone("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    # -- reading

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a SELECT.

        Args:
            sql: The statement.
            parameters: For its placeholders.

        Raises:
            LogUnavailable: The file can't be read.
            LogDamaged: A page that it needs is damaged.
        """
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Get a connection for reading; between BEGIN and COMMIT it sees one state of the file.

        Returns:
            A `with`, whose value is the connection. Entering it raises LogUnavailable where the
            file can't be read.
        """
        if self.path == ":memory:":
            return ReadingInMemory(self._in_memory, self._writer.thread_lock)
        return Reading(self._readers)

    def state(self) -> tuple[int, int]:
        """Return a value that changes with every commit, by any process.

        It may differ without one, too.
        """
        with self.snapshot() as connection:
            if self.path == ":memory:":
                return 0, connection.total_changes
            # Counts what other connections commit: https://sqlite.org/pragma.html#pragma_data_version
            return connection.serial, connection.execute("PRAGMA data_version").fetchone()[0]

    def lend(self, prepare: Callable[[LentConnection], object] | None = None) -> LentConnection:
        """Get a read-only connection for a user's SQL, to be given back; see `user_sql`.

        Args:
            prepare: Makes what is temporary in it, as long as it takes more than questions.

        Raises:
            LogUnavailable: The file can't be read, or is in memory.
        """
        return self._lend(self, prepare)

    def _lend(
        self, lender: Database, prepare: Callable[[LentConnection], object] | None
    ) -> LentConnection:
        if self.path == ":memory:":
            raise LogUnavailable("A database in memory has one connection, which can't be lent.")
        with self.snapshot():  # as for any read: no fork begins, and the file is in its place
            lent = self._connect(LentConnection)
            assert isinstance(lent, LentConnection)
            if prepare is not None:
                prepare(lent)
            lent.lend(self.path, lender)
            self._readers.lent.add(lent)
        return lent

    def has_lent(self, connection: LentConnection) -> bool:
        """True until the connection is given back, or closed because the file is reopened.

        Args:
            connection: One that was lent.
        """
        return connection in self._readers.lent

    def give_back(self, connection: LentConnection) -> None:
        """Close a connection that was lent; doing so twice does nothing.

        Args:
            connection: One that was lent.
        """
        self._readers.lent.discard(connection)
        if connection.idle:
            self._drop(connection)

    def _in_memory(self) -> Connection:
        if self._writer.connection is None:
            raise LogUnavailable("This store in memory has been closed.")
        return self._writer.connection

    # -- closing

    def _drop(self, connection: Connection) -> None:
        with self._writer.locked(SHORT_SECONDS):  # the last connection to close checkpoints
            connection.close()
            if self._closed and self._writer.file_lock is not None:
                self._writer.file_lock.close()

    def close(self) -> None:
        """Close every connection; the last one to close checkpoints, under the lock."""
        if self._closed:
            return
        self._closed = self._writer.is_closed = True
        with self._writer.locked(SHORT_SECONDS) as mine:
            if mine or not self._readers.under_way:
                self._disconnect()
            if mine and self._writer.file_lock is not None:
                self._writer.file_lock.close()  # no sooner: closing a connection checkpoints

    def _disconnect(self, *, checkpoint: bool = True) -> None:
        free = self._readers.renew()
        while free:  # a thread that is just beginning to read may take one still
            free.pop().close_file(checkpoint=checkpoint)
        self._writer.disconnect(checkpoint=checkpoint)
