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

# Bytes of pages that a connection keeps at most: a rebuild writes all over many tables, and a list
# of three tags in a million sessions looks all over one.
_WRITER_CACHE, _READER_CACHE = 16 << 20, 8 << 20
_TRY_MILLISECONDS = 50  # to wait in one piece inside of SQLite, where a fork can't begin
_OTHER_COLUMNS = 1 << 20  # bytes of a row beside its payload, at most


class Connection(sqlite3.Connection):
    """An SQLite connection with a serial number, which no other connection has.

    Attributes:
        serial: The number of one to read with; no other gets it, before or after.
    """

    serial = 0

    def set_up(self, durability: Durability) -> None:
        """Configure durability and caching, and distrust the contents of the file.

        Args:
            durability: As of Database.
        """
        bound_rows(self)
        self.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        if durability == "power":  # macOS: fsync leaves the data in the drive's cache
            self.execute("PRAGMA fullfsync=ON")
        self.execute("PRAGMA wal_autocheckpoint=0")
        self.execute(f"PRAGMA cache_size=-{_READER_CACHE >> 10}")
        # What is deleted is overwritten with zeros: rows hold what users may have to erase.
        self.execute("PRAGMA secure_delete=ON")
        self.execute("PRAGMA trusted_schema=OFF")  # https://sqlite.org/security.html
        self.execute("PRAGMA cell_size_check=ON")

    def set_up_to_write(self) -> None:
        """Configure the only writing connection of the process."""
        self.execute(f"PRAGMA cache_size=-{_WRITER_CACHE >> 10}")
        self.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """A `with` that sets how long SQLite waits for locks of others.

        Args:
            seconds: 0 to wait for nothing.
        """
        self.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        try:
            yield
        finally:
            self.execute(f"PRAGMA busy_timeout={_TRY_MILLISECONDS}")

    def close_file(self, *, checkpoint: bool) -> None:
        """Close the connection.

        Args:
            checkpoint: Whether it may copy the write-ahead log into the file, if it is the last one
                to close, which takes a while. Python before 3.12 can't keep it from doing so.
        """
        if not checkpoint and sys.version_info >= (3, 12):
            self.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        self.close()


def connect(path: Path | str, factory: type[Connection], *, uri: bool = False) -> Connection:
    """Open a connection that several threads can use, without automatic transactions.

    Args:
        path: The file, ":memory:", or a URI.
        factory: Its class.
        uri: Whether `path` is a URI (https://sqlite.org/uri.html).
    """
    return sqlite3.connect(
        path, timeout=locks.WAIT_SECONDS, isolation_level=None, check_same_thread=False,
        factory=factory, uri=uri,
    )  # fmt: skip


def bound_rows(connection: sqlite3.Connection) -> None:
    """Make SQLite refuse rows longer than any event before it reads them into memory.

    It knows by the row's header (https://sqlite.org/limits.html).

    Args:
        connection: The connection that reads.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, EVENT_BYTES + _OTHER_COLUMNS)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """True if SQLite gave up waiting for another connection.

    Args:
        error: What a statement raised.
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
