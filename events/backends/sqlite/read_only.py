"""Reads an SQLite file and never writes to it, also on a read-only medium.

SQLite needs two more files beside a file in WAL mode, and creates them even to read it. If a writer
has created them, they are used. If not, the file is read as one that does not change (`immutable`):
lllm's writers are excluded by a shared lock on their lock file, and before each read the file is
checked; if it has changed, or if there is a writer now, it is opened again. Changes in a
write-ahead log that no process has open can only be read from a writable place, so another process
copies the files to a temporary folder: see `open_files`.

Sources: https://sqlite.org/wal.html#read_only_databases and
https://sqlite.org/uri.html#uriimmutable
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lllm.events.backends.sqlite.connection import Connection, Row, bound_rows, connect
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.backends.sqlite.file_header import is_ours
from lllm.events.backends.sqlite.write_connection import Writing
from lllm.events.concurrency import locks
from lllm.events.errors import LogReadOnly, LogUnavailable
from lllm.events.files.open_files import copy_by_another_process
from lllm.events.files.own_files import open_own

# Seconds that a reader waits for writers; the second if they have the file open already.
_PATIENCE, _SHARED_PATIENCE = 1.0, 0.2
_UNAWAITED_SECONDS = 5.0  # seconds in which no read waits, after one has waited in vain
_POLL = 0.0005  # seconds between two attempts

_Look = tuple[int, ...]  # values that differ when the file has changed


class ReadOnlyDatabase(Database):
    """This process's connections to an SQLite file that it reads and never writes.

    Args:
        path: The path of the SQLite file.
        writers: The lock file that writers of the file lock.
        version: The newest format that this version of lllm can read.
        schema: The SQL statements that create the tables of a new file.

    Raises:
        LogUnavailable: The file does not exist or can't be read.
        LogTooNew: A newer lllm wrote the file.
        LogError: The file is not a database of lllm.
    """

    read_only = True

    def __init__(
        self, path: Path, *, writers: Path, version: int, schema: Sequence[str] = ()
    ) -> None:
        if not path.is_file():
            raise LogUnavailable(f"There is no {path} to be read.")
        self._writers = writers
        self._seen: _Look | None = None
        self._unawaited_until = 0.0  # a time of the monotonic clock
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        super().__init__(path, lock=None, version=version, schema=schema)

    def _prepare(self, schema: Sequence[str]) -> None:
        with self.snapshot() as connection:
            if not is_ours(connection, self.path, self._version, schema):
                raise LogUnavailable(f"{self.path} is empty: no log was ever written to it.")

    def write(self, *, timeout: float | None = None) -> Writing:
        """Raise an error, since this database can't be written.

        Raises:
            LogReadOnly: Always.
        """
        del timeout
        raise LogReadOnly(f"{self.path} was opened to be read only.")

    def insert(self, sql: str, values: Row) -> int:
        """Raise an error, since this database can't be written.

        Raises:
            LogReadOnly: Always.
        """
        del sql, values
        raise LogReadOnly(f"{self.path} was opened to be read only.")

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Get a connection for reading; see `Database.snapshot`."""
        lock = _SharedLock(self._writers, self._patience())
        self._unawaited_until = lock.unawaited_until or self._unawaited_until
        try:
            shared = self._look()
            with super().snapshot() as connection:
                if shared:
                    # The connection holds the lock that keeps writers away.
                    with FileErrors(self.path):
                        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                    lock.release()
                yield connection
        finally:
            lock.release()

    def _patience(self) -> float:
        """The seconds to wait for writers.

        The wait only serves to keep writers from changing the file while it is opened as
        `immutable`.
        """
        if time.monotonic() < self._unawaited_until:
            return 0.0
        return _SHARED_PATIENCE if os.path.exists(f"{self.path}-shm") else _PATIENCE

    def _look(self) -> bool:
        """Check the file for changes and drop outdated connections.

        True if writers have it open.
        """
        with FileErrors(self.path), self._writer.thread_lock:
            found = os.stat(self.path)
            shared = os.path.exists(f"{self.path}-shm")
            look = (shared, found.st_ino, *(() if shared else (found.st_size, found.st_mtime_ns)))
            if look != self._seen:
                self._seen = look
                free = self._readers.renew()
                while free:  # a thread that is beginning to read may still take one
                    free.pop().close()
                self._drop_copy()
            return shared

    def _connect(self, factory: type[Connection] = Connection) -> Connection:
        if self._closed:
            raise LogUnavailable(f"{self.path} has been closed; open the store again.")
        path, how = Path(self.path), "immutable=1"
        if os.path.exists(f"{path}-shm"):
            how = "mode=ro"
        elif self._changes_wait():
            path, how = self._copied(), "mode=rw"
        connection = connect(f"{path.as_uri()}?{how}", factory, uri=True)
        bound_rows(connection)
        return connection

    def _changes_wait(self) -> bool:
        try:
            return os.stat(f"{self.path}-wal").st_size > 0
        except FileNotFoundError:
            return False

    def _copied(self) -> Path:
        with self._writer.thread_lock:
            if self._copy is None:
                self._copy = tempfile.TemporaryDirectory(prefix="lllm-read-only-")
                for suffix in ("", "-wal"):
                    copy = Path(self._copy.name, f"copy{suffix}")
                    copy_by_another_process(f"{self.path}{suffix}", copy)
            return Path(self._copy.name, "copy")

    def _rest(self) -> None:
        self._disconnect()

    def close(self) -> None:
        """Close every connection."""
        super().close()
        self._drop_copy()

    def _drop_copy(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None


class _SharedLock:
    """A shared lock that keeps lllm's writers from committing.

    If there is no lock file, nothing is locked. A writer that holds the lock for long is suspended,
    and is not waited for.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._file = -1
        self.unawaited_until = 0.0  # if the writer did not release it
        with suppress(OSError):
            self._file = open_own(path, os.O_RDONLY)
            began = time.monotonic()
            while not self._taken():
                waited = time.monotonic() - began
                if waited >= patience:
                    self.unawaited_until = began + waited + _UNAWAITED_SECONDS
                    break
                time.sleep(locks.poll_after(waited, _POLL))

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release the lock; doing so twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
