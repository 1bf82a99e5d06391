"""The rows of a store in a schema of a PostgreSQL database.

Reads use the connections of a small pool; one connection writes, and holds the locks between
processes (`locks`). In a forked child, both connect anew.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.locks import kept_waiting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.errors import LogReadOnly, LogUnavailable
from lllm.projections.database import Row
from lllm.projections.engine.postgres.connection import PostgresConnection, quoted
from lllm.projections.engine.postgres.literals import literal
from lllm.projections.engine.postgres.locks import AdvisoryLock
from lllm.projections.engine.postgres.tables import begin_making, table_names
from lllm.projections.engine.postgres.vacuum import rewrite_tables

_OF_ROWS = re.compile(r"\w+_v\d+(_search(_totals)?)?", re.ASCII)
_IDLE = 4  # connections that are kept open for the next reads
_LOCK_KEY = "hashtextextended(current_schema || '/' || CAST(? AS text), 0)"


class _Writer:
    """The only connection of this process that writes rows."""

    def __init__(self, database: PostgresRows) -> None:
        self._database = database
        self.threads = RobustLock()
        self._connection: PostgresConnection | None = None
        self._held: set[str] = set()  # names of locks

    def ready(self) -> PostgresConnection:
        """Connect, if necessary; the caller holds `threads`."""
        found = self._connection
        if found is not None and found.is_usable():
            return found
        if self._held:
            raise LogUnavailable(
                f"{self._database.path}: the connection was lost, and with it the lock to write "
                "rows; try again."
            )
        if found is not None:
            found.close()
        self._connection = self._database.connect(writes=True)
        return self._connection

    def alone(self, timeout: float | None) -> LockPair:
        """Keep other threads from using the connection."""
        return LockPair(self.threads, None, timeout, reentrant=False)

    def take_lock(self, name: str) -> bool:
        with self.alone(None) as mine:
            if not mine:
                return False
            sql = f"SELECT pg_try_advisory_lock({_LOCK_KEY})"
            if not self.ready().execute(sql, (name,)).fetchone()[0]:
                return False
            self._held.add(name)
            return True

    def free_lock(self, name: str) -> None:
        with self.alone(None) as mine:
            found = self._connection
            if not mine or name not in self._held:
                return
            self._held.discard(name)
            if found is not None and found.is_usable():
                with suppress(LogUnavailable):  # a connection that ended has no locks
                    key = _LOCK_KEY.replace("?", literal(name))
                    found.send_ahead(f"SELECT pg_advisory_unlock({key})")

    def after_fork(self) -> PostgresConnection | None:
        """Forget the parent's connection; the caller keeps it, since closing it would end it."""
        found, self._connection = self._connection, None
        self._held, self.threads = set(), RobustLock()
        return found

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Transaction:
    """A context manager for one transaction; see `RowsTransaction`."""

    def __init__(self, database: PostgresRows, writer: _Writer, timeout: float | None) -> None:
        self._database = database
        self._writer = writer
        self._held = writer.alone(timeout)
        self._waits = timeout is None
        self._connection: PostgresConnection | None = None

    def __enter__(self) -> PostgresConnection | None:
        # The lock is held by the function with the `with`: it is free again when that has ended.
        if not self._held.enter(sys._getframe(1)):
            if self._waits:
                raise kept_waiting(self._database.path)
            return None
        try:
            self._database.writing_thread = threading.get_ident()
            self._connection = self._writer.ready()
            self._connection.begin()
        except BaseException:
            self.abandon()
            raise
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        try:
            if self._connection is not None and error is None:
                self._connection.commit()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Roll back what is not committed, and let other threads write."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end_transaction()
        if self._held.first:
            self._database.writing_thread = None
        self._held.exit()


class PostgresRows:
    """The rows of a store in PostgreSQL; see `RowsDatabase`.

    Args:
        conninfo: The connection string of libpq; it may contain a password.
        schema: The schema of the tables; made if it is missing.
        shown: The address for messages, without a password.
        read_only: True to write nothing.

    Attributes:
        path: The address for messages.
        lock_folder: None: locks are held by connections.
        writing_thread: The thread that is inside a write.

    Raises:
        LogUnavailable: The server can't be reached.
    """

    engine = "postgres"
    lock_folder = None

    def __init__(self, conninfo: str, schema: str, shown: str, *, read_only: bool = False) -> None:
        self.path = shown
        self.read_only = read_only
        self.writing_thread: int | None = None
        self._conninfo = conninfo
        self._schema = schema
        self._writer = _Writer(self)
        self._free: list[PostgresConnection] = []
        self._inherited: list[object] = []
        self._closed = False
        self._has_copies = False  # after a VACUUM: somebody could still see what was deleted
        register_after_fork(self)
        if not read_only:
            try:
                self.read_only = not self._prepare()
            except BaseException:
                self.close()  # the caller never gets this object and could not close it
                raise

    def _prepare(self) -> bool:
        """Make the schema if it is missing; False if the role may not write rows in it."""
        schema = quoted(self._schema)
        with self.snapshot() as connection:
            exists, may_make = connection.execute(
                "SELECT to_regnamespace(?) IS NOT NULL,"
                " has_database_privilege(current_database(), 'CREATE')",
                (schema,),
            ).fetchone()
            if not exists and may_make:
                connection.execute("BEGIN")
                begin_making(connection)
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute("COMMIT")
            elif not exists:
                return False
            may_write: bool = connection.execute(
                "SELECT has_schema_privilege(?, 'USAGE') AND has_schema_privilege(?, 'CREATE') AND"
                " coalesce(has_table_privilege(to_regclass('checkpoints'), 'UPDATE'), true)",
                (self._schema, self._schema),
            ).fetchone()[0]
            return may_write

    def connect(self, *, writes: bool = False) -> PostgresConnection:
        """Make a connection.

        Args:
            writes: True for the connection that writes rows.

        Returns:
            The connection, which the caller closes.

        Raises:
            LogUnavailable: The server can't be reached, or the rows were closed.
        """
        if self._closed:
            raise LogUnavailable(f"{self.path} has been closed; open the store again.")
        return PostgresConnection(self._conninfo, self._schema, self.path, writes=writes)

    def after_fork(self) -> None:
        """Leave the parent's connections alone; ending them here would end them there."""
        self._inherited += [*self._free, self._writer.after_fork()]
        self._free = []
        self.writing_thread = None

    # -- Reading

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a SELECT and return all its rows; see `RowsDatabase.query`."""
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[PostgresConnection]:
        """Lend a connection for reading; see `RowsDatabase.snapshot`.

        Yields:
            The connection. What was begun on it ends with the block.
        """
        connection = self._take()
        try:
            yield connection
        finally:
            connection.end_transaction()
            if not connection.raw.closed and len(self._free) < _IDLE and not self._closed:
                self._free.append(connection)
            else:
                connection.close()

    def _take(self) -> PostgresConnection:
        while True:
            try:
                found = self._free.pop()
            except IndexError:
                return self.connect()
            if found.is_usable():
                return found
            found.close()

    def state(self) -> object:
        """Return a value that equals no other: the server has no cheap sign of a commit."""
        return object()

    # -- Writing

    def write(self, *, timeout: float | None = None) -> _Transaction:
        """Begin a transaction; see `RowsDatabase.write`.

        Args:
            timeout: The longest time to wait for other threads, in seconds; None for
                `locks.WAIT_SECONDS`.

        Returns:
            A context manager whose value is the connection; None if the time was over.

        Raises:
            LogReadOnly: The rows are read only.
        """
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        return _Transaction(self, self._writer, timeout)

    def at_write(self) -> bool:
        """True if this thread is inside a write."""
        return self.writing_thread == threading.get_ident()

    def vacuum(self) -> None:
        """Rewrite the tables of rows without deleted ones; each is locked meanwhile.

        Raises:
            LogUnavailable: A table is in use for too long, or there is no space for a copy.
        """
        names = [name for name in table_names(self) if _OF_ROWS.fullmatch(name)]
        with self._writer.alone(None) as mine:
            if not mine:
                raise kept_waiting(self.path)
            self._has_copies = not rewrite_tables(self._writer.ready(), names)

    def empty_write_ahead_log(self) -> bool:
        """Do nothing: the server's own log, its standbys and backups are out of reach.

        Returns:
            False if the last VACUUM had to keep what others can still see.
        """
        return not self._has_copies

    def process_lock(self, name: str) -> AdvisoryLock:
        """Make a lock between the processes that use these rows, on any machine.

        Args:
            name: The name, as "rebuild.lock".

        Returns:
            The lock, which the caller closes.
        """
        return AdvisoryLock(self._writer, name, f"{self.path} ({name})")

    def __del__(self) -> None:
        with suppress(AttributeError):  # of a URL that could not be read
            self.close()

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        while self._free:
            self._free.pop().close()
        self._writer.close()
