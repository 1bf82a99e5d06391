"""A pool of connections with which the threads of a process read one SQLite file.

Each connection is used by one thread at a time and then kept for the next. A fork waits until no
connection is in use, including the writer's, but not forever. Nothing here waits for a lock,
because signal handlers and the garbage collector can start and end reads at any bytecode of any
thread.
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
from lllm.events.backends.sqlite.errors import raise_translated
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fair_locks import FairThreadLock
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lllm.events.backends.sqlite.user_sql import LentConnection

_POLL = 0.0005  # seconds between two checks whether the reads, or the fork, have ended
_serials = count(1)


class Readers:
    """The free connections of the pool, and the count of reads in progress.

    Args:
        path: The file, for the texts of errors.
        connect: A function that opens a connection.
        drop: A function that closes a connection that is no longer needed.
        check: A function that is called before each read; it raises if the file is no longer in its
            place.
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
        # connections that are lent to users for their own queries
        self.lent: set[LentConnection] = set()
        self.under_way: dict[object, int] = {}  # and the threads of these reads
        self._shut_by = 0  # the thread that forks; no read may begin meanwhile

    def renew(self) -> deque[Connection]:
        """Stop using all present connections; those in use are closed when they are returned.

        Returns:
            The connections that nobody uses at the moment, which the caller has to close.
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
        """True if this thread is forking, so that waiting for the fork would never end."""
        return self._shut_by == get_ident()

    def enter(self, use: object) -> dict[object, int]:
        """Count a read as begun, as soon as reads are allowed.

        Args:
            use: A unique object that identifies the read.

        Returns:
            The dict that counts the read; the caller removes `use` from it at the end.

        Raises:
            LogUnavailable: This thread is forking, so it would wait for itself.
        """
        me = get_ident()
        while True:
            under_way = self.under_way
            under_way[use] = me  # count first, then check: `shut` does it in the opposite order
            if not self._shut_by:
                return under_way
            under_way.pop(use, None)
            if self._shut_by == me:
                raise LogUnavailable(f"{self.path} can't be read while this thread forks.")
            time.sleep(_POLL)

    def after_fork(self) -> None:
        """Forget the reads of other threads, which continue only in the parent."""
        self.free = deque()
        self.lent = set()
        self.under_way = {}
        self._shut_by = 0

    def wait(self, seconds: float) -> bool:
        """Wait until no read is in progress; `shut` has prevented new ones.

        Args:
            seconds: The longest time to wait, in seconds.

        Returns:
            True if no read is in progress.
        """
        until, me = time.monotonic() + seconds, get_ident()
        while (threads := list(self.under_way.values())) and time.monotonic() < until:
            if me in threads:
                return False  # this thread forks during a read of its own
            time.sleep(_POLL)
        return not threads


class Reading:
    """A context manager that provides a connection for reading.

    It is a class and not a generator because it is entered for every query; generators took longer
    than the query itself.

    Args:
        readers: The pool of the file.
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
    """A context manager that gives one thread at a time an in-memory database's only connection.

    Args:
        connected: A function that returns the connection.
        lock: The lock that excludes other threads.
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
