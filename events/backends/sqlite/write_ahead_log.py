"""Decides when an SQLite file's write-ahead log is copied into the file (a checkpoint).

SQLite's automatic checkpoints are off. lllm's checkpoints run under the lock that writers take,
which is necessary with SQLite before 3.51.3 (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress

from lllm.events.backends.sqlite.connection import Connection
from lllm.events.files.open_files import sync_open_file

# Bytes of write-ahead log from which it is copied into the database. With 8 writers a copy makes 8
# appends wait; at 12 kB an append, this limit keeps these below one in a hundred.
_CHECKPOINT_BYTES = 16 << 20
_UNWAITED = 4  # a caller that must not wait copies it only at so many times the size


class WriteAheadLog:
    """Decides when the write-ahead log of a file is copied, and copies it.

    Args:
        file: The path of the database that the write-ahead log belongs to.

    Attributes:
        checkpoint_at: The size in bytes from which the write-ahead log is copied into the file.
        path: The file of the database.
    """

    def __init__(self, file: str) -> None:
        self.path = f"{file}-wal"
        self.checkpoint_at = _CHECKPOINT_BYTES
        self._descriptor = -1  # SQLite's write-ahead log file, as it was last seen

    def is_due(self, *, unwaited: bool = False) -> bool:
        """True if the write-ahead log is long enough for a checkpoint.

        Args:
            unwaited: True if the caller must not wait, and so leaves the checkpoint to others for
                longer.

        Returns:
            True if the caller should run a checkpoint.
        """
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return False
        return size >= (self.checkpoint_at * _UNWAITED if unwaited else self.checkpoint_at)

    def sync(self) -> None:
        """Flush the write-ahead log to the disk, while other processes keep writing.

        A checkpoint needs this flush first, and it takes longer than the copy. SQLite would do it
        under the lock.
        """
        self._descriptor = sync_open_file(self.path, self._descriptor)

    def copy(self, connection: Connection) -> None:
        """Run a checkpoint without waiting for readers; the caller holds the lock.

        Args:
            connection: The connection that writes.
        """
        size = os.stat(self.path).st_size
        with connection.waiting(0), suppress(sqlite3.OperationalError):
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self.checkpoint_at = size + _CHECKPOINT_BYTES if busy else _CHECKPOINT_BYTES
