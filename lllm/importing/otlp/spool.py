"""Keeps requests on disk from their acknowledgement until all that they bring is in the log."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ConfigError, LogUnavailable
from lllm.events.files.own_files import open_own

_FORMAT = 1
_SCHEMA = "CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL)"  # noqa: E501


class Spool:
    """A file with requests that were acknowledged; one process uses it at a time.

    What `put` has returned for survives the death of the process.

    Args:
        path: The file; it is made where there is none, readable by its owner alone.
        power: True if requests are to survive a loss of power, too.

    Raises:
        ConfigError: Another process uses the file, or a later version of lllm wrote it.
        LogUnavailable: The file can't be written.
    """

    def __init__(self, path: Path, *, power: bool = False) -> None:
        self.path = path
        self._lock = ThreadLock()
        os.close(open_own(path, os.O_RDWR | os.O_CREAT))
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0
        )
        try:
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(f"PRAGMA synchronous={'FULL' if power else 'NORMAL'}")
            [(version,)] = self._database.execute("PRAGMA user_version")
            if version > _FORMAT:
                raise ConfigError(f"A later version of lllm wrote {path}; use that version.")
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(_SCHEMA)
            self._database.execute(f"PRAGMA user_version={_FORMAT}")
            self._database.execute("COMMIT")
            [(self.size,)] = self._database.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM requests"
            )
        except sqlite3.Error as error:
            self._database.close()
            if "locked" in str(error):
                raise ConfigError(
                    f"Another process receives into {path}. Use that one, or name another file "
                    "with --spool."
                ) from error
            raise LogUnavailable(f"{path} can't be used: {error}.") from error
        except ConfigError:
            self._database.close()
            raise

    def put(self, kind: str, body: bytes) -> int:
        """Keep a request.

        Args:
            kind: What it is, as "traces protobuf".
            body: The request.

        Returns:
            Its number.

        Raises:
            LogUnavailable: It can't be kept, as where the disk is full.
        """
        with self._lock.held():
            try:
                cursor = self._database.execute(
                    "INSERT INTO requests (kind, body) VALUES (?, ?)", (kind, body)
                )
            except sqlite3.Error as error:
                raise LogUnavailable(f"{self.path} can't be written: {error}.") from error
            self.size += len(body)
            return int(cursor.lastrowid or 0)

    def remove(self, numbers: Collection[int]) -> None:
        """Remove requests whose content is in the log; a failure is made good at the next start."""
        if not numbers:
            return
        places = [(number,) for number in numbers]
        with self._lock.held(), suppress(sqlite3.Error):
            self._database.execute("BEGIN IMMEDIATE")
            for place in places:
                found = self._database.execute(
                    "DELETE FROM requests WHERE id = ? RETURNING length(body)", place
                ).fetchall()
                self.size -= sum(size for (size,) in found)
            self._database.execute("COMMIT")

    def kept(self) -> Iterator[tuple[int, str, bytes]]:
        """Read the requests that are there, oldest first: number, kind and body of each."""
        last = 0
        while True:
            with self._lock.held():
                row = self._database.execute(
                    "SELECT id, kind, body FROM requests WHERE id > ? ORDER BY id LIMIT 1", (last,)
                ).fetchone()
            if row is None:
                return
            last = row[0]
            yield row

    def close(self) -> None:
        """Close the file; if nothing is in it, it is removed."""
        with self._lock.held():
            [(left,)] = self._database.execute("SELECT count(*) FROM requests")
            self._database.close()
        if not left:
            for name in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
                Path(name).unlink(missing_ok=True)
