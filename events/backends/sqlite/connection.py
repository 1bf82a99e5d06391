"""Configures, locks and closes one connection to an SQLite file."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lllm.events.concurrency import locks
from lllm.events.envelope import EVENT_BYTES

Durability = Literal["process", "power"]
Value = str | int | float | bytes | None
Row = tuple[Value, ...]

# Bytes of pages that a connection caches at most. A rebuild writes to all parts of many tables, and
# a list by three tags in a million sessions reads all parts of one.
_WRITER_CACHE, _READER_CACHE = 16 << 20, 8 << 20
_TRY_MILLISECONDS = 50  # the length of one wait inside SQLite, during which a fork can't begin
_OTHER_COLUMNS = 1 << 20  # bytes of a row without its payload, at most


class Connection(sqlite3.Connection):
    """An SQLite connection with a serial number that no other connection of the process has.

    Attributes:
        engine: The database engine, for code that serves several.
        serial: The number of a connection for reading; it is never used again.
    """

    engine = "sqlite"
    serial = 0

    def set_up(self, durability: Durability) -> None:
        """Set durability and cache size, and make SQLite distrust the contents of the file.

        Args:
            durability: "process" or "power", as for Database.
        """
        bound_rows(self)
        self.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        if durability == "power":  # macOS: fsync alone leaves the data in the drive's cache
            self.execute("PRAGMA fullfsync=ON")
        self.execute("PRAGMA wal_autocheckpoint=0")
        self.execute(f"PRAGMA cache_size=-{_READER_CACHE >> 10}")
        # Deleted data is overwritten with zeros, because rows have data that users may have to
        # erase.
        self.execute("PRAGMA secure_delete=ON")
        self.execute("PRAGMA trusted_schema=OFF")  # https://sqlite.org/security.html
        self.execute("PRAGMA cell_size_check=ON")

    def set_up_to_write(self) -> None:
        """Configure the only writing connection of the process."""
        self.execute(f"PRAGMA cache_size=-{_WRITER_CACHE >> 10}")
        self.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """A context manager that sets how long SQLite waits for other processes' locks.

        Args:
            seconds: The longest time to wait, in seconds; 0 for no wait.
        """
        self.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        try:
            yield
        finally:
            self.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")

    def close_file(self, *, checkpoint: bool) -> None:
        """Close the connection.

        Args:
            checkpoint: True if SQLite may copy the write-ahead log into the file when this is the
                last open connection, which takes a while. Python before 3.12 can't prevent the
                copy.
        """
        if not checkpoint and sys.version_info >= (3, 12):
            self.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        self.close()


def connect(path: Path | str, factory: type[Connection], *, uri: bool = False) -> Connection:
    """Open a connection that several threads can use, without automatic transactions.

    Args:
        path: The path of the file, ":memory:", or a URI.
        factory: The class of the connection.
        uri: True if `path` is a URI (https://sqlite.org/uri.html).

    Returns:
        The open connection.
    """
    return sqlite3.connect(
        path, timeout=locks.WAIT_SECONDS, isolation_level=None, check_same_thread=False,
        factory=factory, uri=uri,
    )  # fmt: skip


def bound_rows(connection: sqlite3.Connection) -> None:
    """Make SQLite refuse rows that are longer than any event, before it loads them into memory.

    SQLite finds the length in the header of the row (https://sqlite.org/limits.html).

    Args:
        connection: The connection that reads.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, EVENT_BYTES + _OTHER_COLUMNS)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """True if SQLite gave up waiting for another connection.

    Args:
        error: The error that a statement raised.

    Returns:
        True for SQLITE_BUSY, the error of a lock that another connection holds.
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
