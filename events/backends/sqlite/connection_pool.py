"""A pool of connections with which the threads of a process read one SQLite file.

Each is used by one thread at a time and kept for the next. A fork waits a while until none is in
use, that of the writer among them. Nothing here waits for a lock, since signal handlers and the
garbage collector may read, and end reads, at any bytecode of any thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from functools import partial
from itertools import count
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING

from lllm.events.backends.sqlite.connection import Connection
from lllm.events.backends.sqlite.file_header import raise_translated
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fair_locks import FairThreadLock
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lllm.events.backends.sqlite.user_sql import LentConnection

_POLL = 0.0005  # seconds between two looks at whether the uses have ended, or the fork
_serials = count(1)


class Readers:
    """The free connections of the pool, and a count of the reads in progress.

    Args:
        path: The file, for errors.
        connect: Makes a connection.
        drop: Closes one that nobody is to use again.
        check: Asked before each read whether the file is still in its place.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Callable[[], Connection],
        drop: Callable[[Connection], None],
        check: Callable[[], None],
    ) -> None:
        self.path = path
        self.connect = connect
        self.drop = drop
        self.check = check
        self.free: deque[Connection] = deque()
        self.lent: set[LentConnection] = set()  # to users, for questions of their own
        self.under_way: dict[object, int] = {}  # and the threads that do them
        self._shut_by = 0  # the thread that forks, while no use may begin

    def renew(self) -> deque[Connection]:
        """Replace all connections; those in use are closed when they are given back.

        Returns:
            Those that were free, and those that were lent and are idle, for the caller to close.
        """
        before, self.free = self.free, deque()
        lent, self.lent = self.lent, set()
        before.extend(connection for connection in lent if connection.idle)
        return before

    def shut(self) -> None:
        """Prevent new reads until `open_again`."""
        self._shut_by = get_ident()

    def open_again(self) -> None:
        """Allow new reads."""
        self._shut_by = 0

    @property
    def is_forking(self) -> bool:
        """True if this thread is forking and would thus wait for itself."""
        return self._shut_by == get_ident()

    def enter(self, use: object) -> dict[object, int]:
        """Count a read as begun, once reads are allowed.

        Args:
            use: What it is known by.

        Returns:
            Where it is counted, and must be taken out again.

        Raises:
            LogUnavailable: This thread would wait for itself: it is in the middle of a fork.
        """
        me = get_ident()
        while True:
            under_way = self.under_way
            under_way[use] = me  # first, and then the look: whoever shuts does it the other way
            if not self._shut_by:
                return under_way
            under_way.pop(use, None)
            if self._shut_by == me:
                raise LogUnavailable(f"{self.path} can't be read while this thread forks.")
            time.sleep(_POLL)

    def after_fork(self) -> None:
        """Forget the reads of other threads, which only the parent continues."""
        self.free = deque()
        self.lent = set()
        self.under_way = {}
        self._shut_by = 0

    def wait(self, seconds: float) -> bool:
        """Wait until no read is in progress, while new reads are prevented.

        Args:
            seconds: How long to wait at most.

        Returns:
            Whether none is.
        """
        until, me = time.monotonic() + seconds, get_ident()
        while (threads := list(self.under_way.values())) and time.monotonic() < until:
            if me in threads:
                return False  # it forks in the middle of its own
            time.sleep(_POLL)
        return not threads


class Reading:
    """A `with` that provides a connection for reading.

    It is a class rather than a generator, because it is entered for every query, and four
    generators took longer than the query.

    Args:
        readers: The connections of the file.
    """

    __slots__ = ("_connection", "_free", "_readers", "_under_way")

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def __enter__(self) -> Connection:
        readers = self._readers
        self._under_way = readers.enter(self)
        try:
            readers.check()
            self._free = readers.free
            try:
                self._connection = self._free.pop()
            except IndexError:
                self._connection = readers.connect()
                self._connection.serial = next(_serials)
        except BaseException as error:
            self._under_way.pop(self, None)
            raise_translated(error, readers.path)
            raise
        return self._connection

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        readers, connection = self._readers, self._connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if self._free is readers.free:
                self._free.append(connection)
            elif finalizer_work.by_collector():
                finalizer_work.later(partial(readers.drop, connection))
            else:
                readers.drop(connection)
        except (sqlite3.Error, OSError) as failed:
            connection.close()
            error = error or failed
        finally:
            self._under_way.pop(self, None)
        raise_translated(error, readers.path)


class ReadingInMemory:
    """A `with` that provides the only connection of an in-memory database to one thread.

    Args:
        connected: Gives the connection.
        lock: What keeps the others out.
    """

    __slots__ = ("_connected", "_connection", "_lock", "_within")

    def __init__(self, connected: Callable[[], Connection], lock: FairThreadLock) -> None:
        self._connected = connected
        self._lock = lock

    def __enter__(self) -> Connection:
        self._lock.acquire()
        try:
            self._connection = self._connected()
            self._within = self._connection.in_transaction
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if self._connection.in_transaction and not self._within:
                self._connection.execute("ROLLBACK")
        finally:
            self._lock.release()
        raise_translated(error, ":memory:")
