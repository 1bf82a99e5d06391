"""Opens an SQLite file for the rows of projections, for logs that are not in SQLite themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.database import Database

FORMAT = 1


def open_rows(
    backend: object,
    path: Path,
    *,
    lock: Path | None = None,
    read_only: bool = False,
    mode: int | None = None,
) -> Database:
    """Open the file for the rows of a log; a backend's `rows_database` can return it.

    All stores of a process share the connections to the file. If the file was deleted, the rows are
    built again from the events.

    Args:
        backend: The backend whose rows they are; when it is garbage-collected, its share of the
            file is released.
        path: The file; created if it does not exist.
        lock: The file that processes lock while they write rows; None for a file in a folder beside
            `path`.
        read_only: True to write nothing; if the file does not exist, rows are then kept in memory.
        mode: The permissions of new files, as 0o660; None for the permissions of existing ones.

    Returns:
        The database; the caller has to close it.

    Raises:
        LogUnavailable: The file can't be opened.
        LogTooNew: A newer lllm wrote the file.
        LogError: The file is not a database of rows.
    """
    from lllm.events.backends.sqlite.database import Database
    from lllm.events.backends.sqlite.shared_database import open_shared

    if read_only and not path.exists():
        return Database(":memory:", lock=None, version=FORMAT)
    mode = None if read_only else mode
    database, _ = open_shared(
        backend, path, lock=lock, version=FORMAT, read_only=read_only, mode=mode
    )
    return database
