"""The only connection of a process that writes to an SQLite file, and the locks it takes first.

Every write takes a lock file before BEGIN IMMEDIATE: waiting for it is fair and short, where
SQLite's own waiting sleeps and may starve a writer for seconds. The same lock excludes commits
while the write-ahead log is copied into the file.

Known trade-off (accepted): a program that writes this file without the lock is still safe, by
SQLite's own locking, but waits and is waited for as SQLite does it.
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
from lllm.events.backends.sqlite.file_header import FileErrors, raise_translated
from lllm.events.backends.sqlite.write_ahead_log import WriteAheadLog
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairThreadLock
from lllm.events.concurrency.fork_handlers import fork_begins_within
from lllm.events.concurrency.locks import FileLock, kept_waiting
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.concurrency.robust_locks import LockPair
from lllm.events.errors import LogError, LogUnavailable

_LOOK_EVERY = 16  # single inserts, between two looks at the write-ahead log's size
SHORT_SECONDS = 1.0  # that is waited for the lock where it is only better to have it


class Writer:
    """The writing connection, its locks, and the write-ahead log of its file.

    Args:
        path: The file, or ":memory:".
        readers: Where the use of the connection is counted, so that a fork waits for it.
        connect: Makes the connection.
        check: Asked before each write whether the file is still in its place.
        disconnect: Closes all connections to the file that nobody uses.

    Attributes:
        file_lock: The lock between processes, None where nobody else writes.
        connection: The connection, None until the first write.
        is_closed: Whether the connection is to be closed when a write ends.
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
        self.use = object()  # counts the connection as one in use
        self.nesting = Nesting()
        self._readers = readers
        self._connect = connect
        self._check = check
        self._disconnect = disconnect
        self._inserts = -1  # the first of a process looks at the log's size; it may be its last

    def after_fork(self) -> None:
        """Forget the parent's locks, and its connection if the database is a file."""
        if self.wal is not None:
            self.connection = None
        self.thread_lock = FairThreadLock()
        self.nesting = Nesting()

    # -- locks and uses

    def locked(self, timeout: float | None = None) -> LockPair:
        """A `with` that holds the locks between threads and processes; see LockPair.

        Args:
            timeout: Seconds to wait for others, None for as long as anybody waits.
        """
        return LockPair(self.thread_lock, self.file_lock, timeout)

    @contextmanager
    def locked_to_fork(self) -> Iterator[bool]:
        """A `with` around a fork; its value is True if the lock between processes is held."""
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
        """A `with` during which a fork waits for up to a second."""
        use = object()
        under_way = self._readers.enter(use)
        try:
            yield
        finally:
            under_way.pop(use, None)

    def settle_use(self) -> None:
        """Undo a count of use that an interrupt left behind."""
        if not self.nesting.is_inside() and self.thread_lock.acquire(timeout=0):
            self._readers.under_way.pop(self.use, None)
            self.thread_lock.release()

    def is_nested(self) -> bool:
        """True if this thread is inside a write or fork, and would wait for itself."""
        return self.nesting.is_inside() or self._readers.is_forking

    def refusal_of_nested(self) -> LogUnavailable:
        """Make the error for a write inside another write of the same thread."""
        return LogUnavailable(f"{self.path}: this thread is at a write already.")

    def begin_use(self, held: LockPair | None = None) -> Connection:
        """Count the connection as in use, and prepare it.

        Args:
            held: The locks that its user holds.

        Raises:
            LogUnavailable: This thread forks, or the file was moved.
        """
        self._readers.enter(self.use)
        return self.ready(held)

    def end_use(self) -> None:
        """Count the connection as no longer in use."""
        self._readers.under_way.pop(self.use, None)
        if self.is_closed:
            self._disconnect()

    def ready(self, held: LockPair | None = None) -> Connection:
        """Get the connection, opened if needed, without leftovers of an interrupted write.

        Args:
            held: The locks that its user holds.

        Raises:
            LogUnavailable: The file was moved, or the connection can't be made.
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
            checkpoint: Whether it may copy the write-ahead log; see Connection.close_file.
        """
        if self.connection is not None and not self.connection.in_transaction:
            self.connection.close_file(checkpoint=checkpoint)
            self.connection = None

    # -- writing

    def insert(self, sql: str, values: Row) -> int:
        """See Database."""
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
                held.exit()  # an interrupt may have come where the first one begins
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
            error: What the statement raised that had to wait for it.
            held: The locks, since which the time counts.
        """
        return is_busy(error) and time.monotonic() < held.began + locks.WAIT_SECONDS

    def run_alone(self, sql: str) -> list[Row]:
        """Run a statement that can't be part of a transaction, while no other writer writes.

        Args:
            sql: The statement.

        Returns:
            Its rows; what it returns where it failed because others read is for the caller to see.

        Raises:
            LogUnavailable: It can't be run, or others write for too long.
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

    # -- checkpoints

    def checkpoint_is_due(self, *, unwaited: bool = False) -> bool:
        """See WriteAheadLog.is_due; always False in memory."""
        return self.wal is not None and self.wal.is_due(unwaited=unwaited)

    def checkpoint(self, timeout: float | None = None) -> None:
        """Run a checkpoint; if that fails now, the next checkpoint does the work.

        Args:
            timeout: Seconds to wait for other writers, None for a second.
        """
        wal = self.wal
        assert wal is not None
        wal.sync()
        timeout = SHORT_SECONDS if timeout is None else timeout
        with suppress(LogError), FileErrors(self.path), self.locked(timeout) as mine:
            if not mine or self.is_closed or not wal.is_due():
                return  # another was faster
            with self.in_use():
                wal.copy(self.ready())


class Writing:
    """A `with` around one transaction; see Database.write.

    Args:
        writer: What writes.
        timeout: Seconds to wait for other writers, None for as long as anybody waits.
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
        """Take the locks and begin a transaction; False where it would wait for longer than it may.

        It waits for writers of ours, or for a program that writes without our lock file.
        """
        writer, held, wait = self._writer, self._held, self._timeout is None
        if not held.enter(frame):
            if wait:
                raise kept_waiting(writer.path)
            return False
        while True:
            try:
                connection = writer.begin_use(held)
                self._connection = connection  # to roll back on, whatever comes between
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
        """Roll back an open transaction and release the locks; twice does nothing.

        An interrupt may come where a `with` ends and before anything of this class is called, so
        whoever must leave nothing behind calls this in a `finally` around it.
        """
        if not self._entered:
            return
        try:
            self._give_back()
        finally:
            self._writer.nesting.end()
            self._entered = False
