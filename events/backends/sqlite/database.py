"""One SQLite file, opened so that threads, processes and forks can share it.

Every write takes a lock file before BEGIN IMMEDIATE: waiting for it is fair and short, where
SQLite's own waiting sleeps and may starve a writer for seconds. The same lock excludes commits
while the write-ahead log is checkpointed, which SQLite before 3.51.3 needs
(https://sqlite.org/wal.html#walresetbug); so automatic checkpoints are off and ours run under it.

Known trade-off (accepted): a program that writes this file without the lock is still safe, by
SQLite's own locking, but waits and is waited for as SQLite does it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal

from lllm.events.backends.sqlite.connections import (
    Connection,
    Readers,
    Reading,
    ReadingInMemory,
    bound_rows,
)
from lllm.events.backends.sqlite.file_header import (
    APPLICATION_ID,
    FileErrors,
    is_ours,
    raise_translated,
    refuse_others,
    refuse_parts,
)
from lllm.events.backends.sqlite.lent_connection import LentConnection
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairFileLock, FairThreadLock
from lllm.events.concurrency.fork import fork_begins_within, pause_at_fork, register_after_fork
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.nesting import Nesting
from lllm.events.concurrency.robust_locks import LockPair
from lllm.events.errors import LogError, LogUnavailable
from lllm.events.files.open_files import sync_open_file
from lllm.events.files.own_files import check_database, make_database, make_folder
from lllm.events.files.permissions import FILE_MODE, folder_mode

Durability = Literal["process", "power"]
Value = str | int | float | bytes | None
Row = tuple[Value, ...]

# Of write-ahead log, before it is copied into the database. With 8 writers a copy makes 8 appends
# wait; at 12 kB an append, this keeps them below one in a hundred.
_CHECKPOINT_BYTES = 16 << 20
_UNWAITED = 4  # times as much, before one who must not wait copies it
# Bytes of pages that a connection keeps at most: a rebuild writes all over many tables, and a list
# of three tags in a million sessions looks all over one.
_WRITER_CACHE, _READER_CACHE = 16 << 20, 8 << 20
_LOOK_EVERY = 16  # single inserts, between two looks at the write-ahead log's size
_TRY_MILLISECONDS = 50  # to wait in one piece inside of SQLite, where a fork can't begin
_SHORT_SECONDS = 1.0  # that is waited for the lock where it is only better to have it
_OPENING_SECONDS = 0.2  # the same to open what is there already


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
        self._synchronous = "FULL" if durability == "power" else "NORMAL"
        self._closed = False
        self._thread_lock = FairThreadLock()
        self._file_lock: FileLock | None = None
        self._writer: Connection | None = None
        self._inherited: list[object] = []
        self._torn = False  # a transaction of the parent's was open at the fork
        self._writing_use = object()  # counts the writer's connection as one in use
        self._nesting = Nesting()
        self._checkpoint_at = _CHECKPOINT_BYTES
        self._file, self._wal = os.fspath(path), f"{path}-wal"
        self._opened: tuple[int, int] | None = None  # the file, as the system knows it
        self._readers = Readers(
            Path(path), connect=self._connect, drop=self._drop, check=self._check_place
        )
        self._wal_descriptor = -1  # SQLite's, as it was last seen
        self._inserts = -1  # the first of a process looks; it may be its last
        pause_at_fork(self)
        register_after_fork(self)
        with FileErrors(self.path):
            if isinstance(path, Path):
                check_database(path)
                refuse_parts(path)
            if isinstance(path, Path) and (lock is None or not lock.parent.exists()):
                refuse_others(path)  # where there is a lock, somebody may just be making the file
            if lock is not None:
                make_folder(
                    lock.parent, parents=True, durable=durability == "power",
                    mode=folder_mode(mode),
                )  # fmt: skip
                self._file_lock = FairFileLock(lock)
            try:
                if isinstance(path, Path) and lock is not None:
                    make_database(path, mode=mode)
                self._prepare(schema)
            except BaseException:
                self.close()  # nobody gets this object, so nobody else could
                raise

    def pause(self) -> bool:
        """Let other threads end what they do inside of SQLite, and close all connections, to fork.

        Threads that only wait for a lock are not waited for.

        SQLite notes in memory which locks this process holds, and the child gets a copy of the
        notes: it would take itself for a holder of locks that it does not hold
        (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
        """
        self._readers.shut()
        if not self._nesting.is_inside() and self._thread_lock.acquire(timeout=0):
            # Nobody writes: where the writer's connection counts as in use, an interrupt left that.
            self._readers.under_way.pop(self._writing_use, None)
            self._thread_lock.release()
        if self.path != ":memory:" and self._readers.wait(fork_begins_within()):
            with suppress(OSError, sqlite3.Error):
                self._rest()
        return True

    def _rest(self) -> None:
        """Close all connections; nobody uses one.

        The last one that is closed checkpoints, and has the file to itself then. So the lock is
        taken where it can be had, to make nobody wait inside of SQLite, and done without otherwise.
        """
        mine = self._thread_lock.acquire(timeout=0)
        locked = False
        try:
            lock = self._file_lock
            if mine and lock is not None:
                locked = lock.take(time.monotonic(), fork_begins_within())
            self._disconnect(checkpoint=locked)
        finally:
            if locked and lock is not None:
                lock.free()
            if mine:
                self._thread_lock.release()

    def resume(self) -> None:
        """The fork is over."""
        self._readers.open_again()
        self._nesting.run_queued()

    def after_fork(self) -> None:
        """Leave the parent's connections alone: closing one here could take its locks away."""
        self._torn = self._torn or (self.path != ":memory:" and bool(self._readers.under_way))
        self._inherited += [self._writer, *self._readers.free, *self._readers.lent]
        if self.path != ":memory:":
            self._writer = None
        self._thread_lock = FairThreadLock()
        self._readers.after_fork()
        self._nesting = Nesting()

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
        connection = sqlite3.connect(
            self.path, timeout=locks.WAIT_SECONDS, isolation_level=None, check_same_thread=False,
            factory=factory,
        )  # fmt: skip
        try:
            bound_rows(connection)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            if self._synchronous == "FULL":  # macOS: fsync leaves the data in the drive's cache
                connection.execute("PRAGMA fullfsync=ON")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA cache_size=-{_READER_CACHE >> 10}")
            connection.execute("PRAGMA trusted_schema=OFF")  # https://sqlite.org/security.html
            connection.execute("PRAGMA cell_size_check=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, schema: Sequence[str]) -> None:
        # Whoever has the lock may be frozen; to open what is there, nobody has to be waited for.
        with self._locked(_OPENING_SECONDS) as mine, self._in_use():
            if self._is_ready(schema, make=mine):
                return
        with self._locked() as mine, self._in_use():
            if not self._is_ready(schema, make=mine):
                raise kept_waiting(self.path)

    def _is_ready(self, schema: Sequence[str], *, make: bool) -> bool:
        # As it is before it is opened: a repair may put another file there meanwhile.
        before = _identity(self._file) if os.path.exists(self._file) else None
        connection = self._writing()
        with _waiting(connection, int(locks.WAIT_SECONDS * 1000)):
            if not is_ours(connection, self.path, self._version, schema):
                if not make:
                    return False
                self._create(connection, schema)
        if self.path != ":memory:":
            self._opened = before or _identity(self._file)
        return True

    def prepare_again(self, schema: Sequence[str]) -> None:
        """See that a file that is opened once more still is what it was.

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
        """True if the path leads to the file that is open, and the lock's to the lock that is."""
        try:
            self._check_place()
        except LogUnavailable:
            return False
        return self._file_lock is None or self._file_lock.in_place()

    def _create(self, connection: sqlite3.Connection, schema: Sequence[str]) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={self._version}")
        connection.execute("COMMIT")

    # -- writing

    def _locked(self, timeout: float | None = None) -> LockPair:
        return LockPair(self._thread_lock, self._file_lock, timeout)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """A `with` in which no fork begins, or only after a second."""
        use = object()
        under_way = self._readers.enter(use)
        try:
            yield
        finally:
            under_way.pop(use, None)

    def at_write(self) -> bool:
        """True in the middle of a write of this thread, where another write would wait for itself.

        That is in a signal handler, and in what the garbage collector ends; see `nesting` for what
        can be done.
        """
        return self._nesting.is_inside() or self._readers.is_forking

    def when_written(self, work: Callable[[], object]) -> None:
        """Have some work done when the write that is under way in this thread has ended.

        Args:
            work: Called once.
        """
        self._nesting.queue(work)

    def write(self, *, timeout: float | None = None) -> Writing:
        """Begin a transaction that nobody else writes beside.

        It is committed at the end of the `with`, and rolled back when anything is raised.

        Args:
            timeout: Seconds to wait for other writers; the connection is None where they took
                longer. With None, it is an error where they take longer than `locks.WAIT_SECONDS`.

        Returns:
            A `with`, whose value is the connection. Entering or leaving it raises LogUnavailable
            where the transaction can't be begun or committed.
        """
        return Writing(self, timeout)

    def _at_write_already(self) -> LogUnavailable:
        return LogUnavailable(f"{self.path}: this thread is at a write already.")

    def _end_use(self) -> None:
        """The writer's connection is not in use any more."""
        self._readers.under_way.pop(self._writing_use, None)
        if self._closed:
            self._disconnect()

    def insert(self, sql: str, values: Row) -> int:
        """Run one INSERT, a transaction of its own.

        Args:
            sql: The statement.
            values: The values of all its rows, one after another.

        Returns:
            The rowid of its last row.

        Raises:
            LogUnavailable: That can't be done.
        """
        if self.at_write():
            raise self._at_write_already()
        held = self._locked()
        try:
            self._nesting.begin(sys._getframe())
            try:
                try:
                    if not held.enter(sys._getframe()):
                        raise kept_waiting(self.path)
                    rowid = self._inserted(sql, values, held)
                    self._inserts += 1
                    due = self._inserts % _LOOK_EVERY == 0 and self._checkpoint_is_due()
                finally:
                    held.exit()
            except BaseException as error:
                held.exit()  # an interrupt may have come where the first one begins
                raise_translated(error, self.path)
                raise
            if due:
                self._checkpoint()
        finally:
            self._nesting.end()
        assert rowid is not None
        return rowid

    def _inserted(self, sql: str, values: Row, held: LockPair) -> int | None:
        while True:
            try:
                self._readers.enter(self._writing_use)
                return self._writing(held).execute(sql, values).lastrowid
            except sqlite3.OperationalError as error:  # a program that writes without our lock file
                if not _is_busy(error) or time.monotonic() >= held.began + locks.WAIT_SECONDS:
                    raise
            finally:
                self._end_use()

    def _writing(self, held: LockPair | None = None) -> Connection:
        self._check_place()
        writer = self._writer
        if writer is None:
            writer = self._connect()
            writer.execute(f"PRAGMA cache_size=-{_WRITER_CACHE >> 10}")
            writer.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")
            self._writer = writer
        elif held is not None and writer.in_transaction and not held.nested:
            writer.execute("ROLLBACK")  # what an interrupt left
        return writer

    def _checkpoint_is_due(self, *, unwaited: bool = False) -> bool:
        """True if the write-ahead log is long enough to be copied into the database.

        With `unwaited`, only if it is so long that even somebody who must not wait has to do it.
        """
        if self.path == ":memory:":
            return False
        try:
            size = os.stat(self._wal).st_size
        except FileNotFoundError:
            return False
        return size >= (self._checkpoint_at * _UNWAITED if unwaited else self._checkpoint_at)

    def _checkpoint(self, timeout: float | None = None) -> None:
        """Copy the write-ahead log into the database. Where that can't be, the next one tries.

        SQLite waits first until that log is on the disk, which takes longer than all the rest. So
        it is put there before the lock is taken, while others go on.
        """
        self._wal_descriptor = sync_open_file(self._wal, self._wal_descriptor)
        timeout = _SHORT_SECONDS if timeout is None else timeout
        with suppress(LogError), FileErrors(self.path), self._locked(timeout) as mine:
            if not mine or self._closed or not self._checkpoint_is_due():
                return  # another was faster
            with self._in_use():
                connection = self._writing()
                size = os.stat(self._wal).st_size
                # No reader is waited for.
                with _impatient(connection), suppress(sqlite3.OperationalError):
                    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                    self._checkpoint_at = size + _CHECKPOINT_BYTES if busy else _CHECKPOINT_BYTES

    # -- reading

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Give all rows of a SELECT. Nothing stays open behind it.

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
        """Give a connection to read with; between BEGIN and COMMIT it sees one state of the file.

        Returns:
            A `with`, whose value is the connection. Entering it raises LogUnavailable where the
            file can't be read.
        """
        if self.path == ":memory:":
            return ReadingInMemory(self._in_memory, self._thread_lock)
        return Reading(self._readers)

    def state(self) -> tuple[int, int]:
        """Give something that differs after every commit, by whichever process.

        It may differ without one, too.
        """
        with self.snapshot() as connection:
            if self.path == ":memory:":
                return 0, connection.total_changes
            # Counts what other connections commit: https://sqlite.org/pragma.html#pragma_data_version
            return connection.serial, connection.execute("PRAGMA data_version").fetchone()[0]

    def lend(self, prepare: Callable[[LentConnection], object] | None = None) -> LentConnection:
        """Give a connection for a user's own questions; see `lent_connection`. Give it back.

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
        """True until a connection is given back, or closed because the file is opened anew.

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
        if self._writer is None:
            raise LogUnavailable("This store in memory has been closed.")
        return self._writer

    def _drop(self, connection: Connection) -> None:
        with self._locked(_SHORT_SECONDS):  # the last connection to close checkpoints
            connection.close()
            if self._closed and self._file_lock is not None:
                self._file_lock.close()

    def close(self) -> None:
        """Close every connection; the last one to close checkpoints, under the lock."""
        if self._closed:
            return
        self._closed = True
        with self._locked(_SHORT_SECONDS) as mine:
            if mine or not self._readers.under_way:
                self._disconnect()
            if mine and self._file_lock is not None:
                self._file_lock.close()  # no sooner: closing a connection checkpoints

    # -- the file itself

    def _check_place(self) -> None:
        """Look whether the path still leads to the file that is open.

        Raises:
            LogUnavailable: It does not.
        """
        if self._opened is None:
            return
        try:
            there = _identity(self._file)
        except FileNotFoundError:
            raise LogUnavailable(
                f"{self.path} was deleted or moved while it was open. Put it back, or open the "
                "store again."
            ) from None
        if there != self._opened:
            raise LogUnavailable(
                f"{self.path} was deleted or moved while it was open, and another file stands in "
                "its place. Open the store again to use that."
            )

    def _disconnect(self, *, checkpoint: bool = True) -> None:
        free = self._readers.renew()
        while free:  # a thread that is just beginning to read may take one still
            _close(free.pop(), checkpoint=checkpoint)
        if self._writer is not None and not self._writer.in_transaction:
            _close(self._writer, checkpoint=checkpoint)
            self._writer = None


class Writing:
    """A `with` around one transaction; see Database.write.

    Args:
        database: What is written to.
        timeout: Seconds to wait for other writers, None for as long as anybody waits.
    """

    __slots__ = ("_connection", "_database", "_entered", "_held", "_timeout")

    def __init__(self, database: Database, timeout: float | None) -> None:
        self._database = database
        self._timeout = timeout
        self._held = database._locked(timeout)
        self._connection: Connection | None = None
        self._entered = False

    def __enter__(self) -> Connection | None:
        database, frame = self._database, sys._getframe(1)
        if database.at_write():
            if self._timeout is None:
                raise database._at_write_already()
            return None
        try:
            self._entered = True
            database._nesting.begin(frame)
            if self._begin(frame):
                return self._connection
            self.abandon()
        except BaseException as error:
            self.abandon()
            raise_translated(error, database.path)
            raise
        return None

    def _begin(self, frame: FrameType) -> bool:
        """Take the locks and begin a transaction; False where it would wait for longer than it may.

        It waits for writers of ours, or for a program that writes without our lock file.
        """
        database, held, wait = self._database, self._held, self._timeout is None
        if not held.enter(frame):
            if wait:
                raise kept_waiting(database.path)
            return False
        while True:
            try:
                database._readers.enter(database._writing_use)
                connection = database._writing(held)
                self._connection = connection  # to roll back on, whatever comes between
                with nullcontext() if wait else _impatient(connection):
                    connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                database._end_use()
                late = time.monotonic() >= held.began + locks.WAIT_SECONDS
                if not _is_busy(error) or (wait and late):
                    raise
                if not wait:
                    return False

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        database, connection = self._database, self._connection
        due = False
        try:
            try:
                if connection is not None and error is None:
                    connection.execute("COMMIT")
                    due = database._checkpoint_is_due(unwaited=self._timeout == 0)
            finally:
                self._give_back()
            if due:
                database._checkpoint(self._timeout)
        except BaseException as raised:
            self.abandon()
            raise_translated(raised, database.path)
            raise
        self.abandon()
        raise_translated(error, database.path)

    def _give_back(self) -> None:
        connection = self._connection
        try:
            if connection is not None:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._database._end_use()
            self._connection = None
        finally:
            self._held.exit()

    def abandon(self) -> None:
        """Roll back what is not committed, and let others write; doing so twice does nothing.

        An interrupt may come where a `with` ends and before anything of this class is called, so
        whoever must leave nothing behind calls this in a `finally` around it.
        """
        if not self._entered:
            return
        try:
            self._give_back()
        finally:
            self._database._nesting.end()
            self._entered = False


def kept_waiting(path: Path | str) -> LogUnavailable:
    """The error of who waited for other writers as long as anybody does.

    Args:
        path: What is written to.
    """
    return LogUnavailable(
        f"{path}: another program has held the lock on it for {locks.WAIT_SECONDS:g} seconds. It "
        "may be suspended, or stopped in a debugger; let it go on, or end it."
    )


def _identity(file: str) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino


@contextmanager
def _impatient(connection: sqlite3.Connection) -> Iterator[None]:
    """What others hold is not waited for."""
    with _waiting(connection, 0):
        yield


@contextmanager
def _waiting(connection: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    """SQLite waits so long for others."""
    connection.execute(f"PRAGMA busy_timeout={milliseconds}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _close(connection: Connection, *, checkpoint: bool) -> None:
    """Close a connection.

    The last one that is closed copies the write-ahead log into the file, which takes a while; not
    so without `checkpoint`, which Python before 3.12 can't say.
    """
    if not checkpoint and sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
    connection.close()
