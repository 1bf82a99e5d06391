"""The only connection of a process that writes to an SQLite file, and the locks it takes first.

Every write takes a lock file before BEGIN IMMEDIATE. Waiting for the lock is fair and short, while
SQLite's own waiting sleeps and may delay a writer for seconds. The same lock excludes commits while
the write-ahead log is copied into the file.

Known trade-off (accepted): a program that writes this file without the lock is still safe, by
SQLite's own locking, but then both sides wait as SQLite does.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal

from lllm.events.backends.sqlite.connection import Connection, Row, is_busy
from lllm.events.backends.sqlite.connection_pool import Readers
from lllm.events.backends.sqlite.errors import FileErrors, raise_translated
from lllm.events.backends.sqlite.write_ahead_log import WriteAheadLog
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairThreadLock
from lllm.events.concurrency.fork_handlers import fork_begins_within
from lllm.events.concurrency.locks import FileLock, kept_waiting
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.concurrency.robust_locks import LockPair
from lllm.events.errors import LogError, LogUnavailable

_LOOK_EVERY = 16  # single inserts between two checks of the write-ahead log's size
SHORT_SECONDS = 1.0  # seconds to wait for the lock if it is useful but not required


class Writer:
    """The connection that writes to a file, its locks, and the file's write-ahead log.

    Args:
        path: The file, or ":memory:".
        readers: The pool that counts the use of the connection, so that a fork waits for it.
        connect: A function that opens the connection.
        check: A function that is called before each write; it raises if the file is no longer in
            its place.
        disconnect: A function that closes all connections to the file that are not in use.

    Attributes:
        file_lock: The lock between processes; None for a database in memory.
        connection: The connection; None until the first write.
        is_closed: True if the connection has to be closed when the current write ends.
    """

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        readers: Readers,
        *,
        connect: Callable[[], Connection],
        check: Callable[[], None],
        disconnect: Callable[[], None],
    ) -> None:
        self.path = path
        self.thread_lock = FairThreadLock()
        self.file_lock: FileLock | None = None
        self.connection: Connection | None = None
        self.is_closed = False
        self.wal = WriteAheadLog(str(path)) if isinstance(path, Path) else None
        self.use = object()  # the key that counts this connection as in use
        self.nesting = Nesting()
        self._readers = readers
        self._connect = connect
        self._check = check
        self._disconnect = disconnect
        # the first insert of a process checks the log's size; it may be the only one
        self._inserts = -1

    def after_fork(self) -> None:
        """Forget the parent's locks, and its connection if the database is a file."""
        if self.wal is not None:
            self.connection = None
        self.thread_lock = FairThreadLock()
        self.nesting = Nesting()

    # -- Locks and uses

    def locked(self, timeout: float | None = None) -> LockPair:
        """Make a context manager that holds the locks between threads and processes; see LockPair.

        Args:
            timeout: The longest time to wait for others, in seconds; None for `locks.WAIT_SECONDS`.

        Returns:
            The context manager; its value is False if the time was over.
        """
        return LockPair(self.thread_lock, self.file_lock, timeout)

    @contextmanager
    def locked_to_fork(self) -> Iterator[bool]:
        """A context manager around a fork.

        Its value is True if the lock between processes is held.
        """
        mine = self.thread_lock.acquire(timeout=0)
        locked = False
        lock = self.file_lock
        try:
            if mine and lock is not None:
                locked = lock.take(time.monotonic(), fork_begins_within())
            yield locked
        finally:
            if locked and lock is not None:
                lock.free()
            if mine:
                self.thread_lock.release()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A context manager during which a fork waits for up to a second."""
        use = object()
        under_way = self._readers.enter(use)
        try:
            yield
        finally:
            under_way.pop(use, None)

    def settle_use(self) -> None:
        """Remove a count of use that an interrupted function left behind."""
        if not self.nesting.is_inside() and self.thread_lock.acquire(timeout=0):
            self._readers.under_way.pop(self.use, None)
            self.thread_lock.release()

    def is_nested(self) -> bool:
        """True if this thread is inside a write or a fork, so that a write would never begin."""
        return self.nesting.is_inside() or self._readers.is_forking

    def refusal_of_nested(self) -> LogUnavailable:
        """Make the error for a write inside another write of the same thread."""
        return LogUnavailable(f"{self.path}: this thread is already inside a write.")

    def begin_use(self, held: LockPair | None = None) -> Connection:
        """Count the connection as in use, and prepare it.

        Args:
            held: The locks that the caller holds; None for none.

        Returns:
            The connection.

        Raises:
            LogUnavailable: This thread is forking, or the file was moved.
        """
        self._readers.enter(self.use)
        return self.ready(held)

    def end_use(self) -> None:
        """Count the connection as no longer in use."""
        self._readers.under_way.pop(self.use, None)
        if self.is_closed:
            self._disconnect()

    def ready(self, held: LockPair | None = None) -> Connection:
        """Get the connection; it is opened if needed, and freed from an interrupted write.

        Args:
            held: The locks that the caller holds; None for none.

        Returns:
            The connection.

        Raises:
            LogUnavailable: The file was moved, or the connection can't be opened.
        """
        self._check()
        connection = self.connection
        if connection is None:
            connection = self._connect()
            connection.set_up_to_write()
            self.connection = connection
        elif held is not None and connection.in_transaction and not held.nested:
            connection.execute("ROLLBACK")
        return connection

    def disconnect(self, *, checkpoint: bool) -> None:
        """Close the connection, unless a transaction is open.

        Args:
            checkpoint: True if SQLite may copy the write-ahead log; see `Connection.close_file`.
        """
        if self.connection is not None and not self.connection.in_transaction:
            self.connection.close_file(checkpoint=checkpoint)
            self.connection = None

    # -- Writing

    def insert(self, sql: str, values: Row) -> int:
        """Run one INSERT in its own transaction; see `Database.insert`."""
        if self.is_nested():
            raise self.refusal_of_nested()
        held = self.locked()
        try:
            self.nesting.begin(sys._getframe())
            try:
                try:
                    if not held.enter(sys._getframe()):
                        raise kept_waiting(self.path)
                    rowid = self._inserted(sql, values, held)
                    self._inserts += 1
                    due = self._inserts % _LOOK_EVERY == 0 and self.checkpoint_is_due()
                finally:
                    held.exit()
            except BaseException as error:
                held.exit()  # an interrupt may have prevented the same call above
                raise_translated(error, self.path)
                raise
            if due:
                self.checkpoint()
        finally:
            self.nesting.end()
        assert rowid is not None
        return rowid

    def _inserted(self, sql: str, values: Row, held: LockPair) -> int | None:
        while True:
            try:
                return self.begin_use(held).execute(sql, values).lastrowid
            except sqlite3.OperationalError as error:
                if not self.may_try_again(error, held):
                    raise
            finally:
                self.end_use()

    def may_try_again(self, error: sqlite3.OperationalError, held: LockPair) -> bool:
        """True if a program that writes without lllm's lock may release the file in time.

        Args:
            error: The error of the statement that had to wait for the file.
            held: The locks of the caller; the waiting time is counted from when they were taken.

        Returns:
            True if the caller should try the statement again.
        """
        return is_busy(error) and time.monotonic() < held.began + locks.WAIT_SECONDS

    def run_alone(self, sql: str) -> list[Row]:
        """Run a statement that can't be part of a transaction, while no other process writes.

        Args:
            sql: The SQL statement, without parameters.

        Returns:
            The rows of the statement, which may report that other connections prevented its work.

        Raises:
            LogUnavailable: The statement can't be run, or others write for too long.
        """
        if self.is_nested():
            raise self.refusal_of_nested()
        held = self.locked()
        try:
            with FileErrors(self.path):
                try:
                    self.nesting.begin(sys._getframe())
                    if not held.enter(sys._getframe()):
                        raise kept_waiting(self.path)
                    connection = self.begin_use(held)
                    with connection.waiting(SHORT_SECONDS):
                        return connection.execute(sql).fetchall()
                finally:
                    self.end_use()
                    held.exit()
        finally:
            held.exit()
            self.nesting.end()

    # -- Checkpoints

    def checkpoint_is_due(self, *, unwaited: bool = False) -> bool:
        """True if a checkpoint is due (see `WriteAheadLog.is_due`); always False in memory.

        Args:
            unwaited: True if the caller must not wait.

        Returns:
            True if the caller should run a checkpoint.
        """
        return self.wal is not None and self.wal.is_due(unwaited=unwaited)

    def checkpoint(self, timeout: float | None = None) -> None:
        """Run a checkpoint; if it fails now, the next one does the work.

        Args:
            timeout: The longest time to wait for other writers, in seconds; None for one second.
        """
        wal = self.wal
        assert wal is not None
        wal.sync()
        timeout = SHORT_SECONDS if timeout is None else timeout
        with suppress(LogError), FileErrors(self.path), self.locked(timeout) as mine:
            if not mine or self.is_closed or not wal.is_due():
                return  # another process has done it
            with self.in_use():
                wal.copy(self.ready())


class Writing:
    """A context manager for one transaction; see `Database.write`.

    Args:
        writer: The writer of the file.
        timeout: The longest time to wait for other writers, in seconds; None for
            `locks.WAIT_SECONDS`.
    """

    __slots__ = ("_connection", "_entered", "_held", "_timeout", "_writer")

    def __init__(self, writer: Writer, timeout: float | None) -> None:
        self._writer = writer
        self._timeout = timeout
        self._held = writer.locked(timeout)
        self._connection: Connection | None = None
        self._entered = False

    def __enter__(self) -> Connection | None:
        writer, frame = self._writer, sys._getframe(1)
        if writer.is_nested():
            if self._timeout is None:
                raise writer.refusal_of_nested()
            return None
        try:
            self._entered = True
            writer.nesting.begin(frame)
            if self._begin(frame):
                return self._connection
            self.abandon()
        except BaseException as error:
            self.abandon()
            raise_translated(error, writer.path)
            raise
        return None

    def _begin(self, frame: FrameType) -> bool:
        """Take the locks and begin a transaction; False if that would take longer than `timeout`.

        It waits for writers of lllm, and for programs that write without its lock file.
        """
        writer, held, wait = self._writer, self._held, self._timeout is None
        if not held.enter(frame):
            if wait:
                raise kept_waiting(writer.path)
            return False
        while True:
            try:
                connection = writer.begin_use(held)
                # set first, so that a rollback is possible after any interrupt
                self._connection = connection
                with nullcontext() if wait else connection.waiting(0):
                    connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                writer.end_use()
                if not is_busy(error) or (wait and not writer.may_try_again(error, held)):
                    raise
                if not wait:
                    return False

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        writer, connection = self._writer, self._connection
        due = False
        try:
            try:
                if connection is not None and error is None:
                    connection.execute("COMMIT")
                    due = writer.checkpoint_is_due(unwaited=self._timeout == 0)
            finally:
                self._give_back()
            if due:
                writer.checkpoint(self._timeout)
        except BaseException as raised:
            self.abandon()
            raise_translated(raised, writer.path)
            raise
        self.abandon()
        raise_translated(error, writer.path)

    def _give_back(self) -> None:
        connection = self._connection
        try:
            if connection is not None:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._writer.end_use()
            self._connection = None
        finally:
            self._held.exit()

    def abandon(self) -> None:
        """Roll back an open transaction and release the locks; calling it twice does nothing.

        An interrupt may come at the end of a `with` block, before any method of this class is
        called. A caller that must leave nothing behind calls this in a `finally` around the block.
        """
        if not self._entered:
            return
        try:
            self._give_back()
        finally:
            self._writer.nesting.end()
            self._entered = False
