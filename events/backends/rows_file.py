"""Opens the SQLite file for the rows of projections where the log itself is not in SQLite."""

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
    """Open the file for the rows of a log, as its `rows_database`; see KeepsRows.

    All stores of one process share its connections. The rows are made anew from the events where
    the file was deleted.

    Args:
        backend: Whose rows they are; when it is dropped, its share of the file is given back.
        path: The file, made where it is missing.
        lock: The file that whoever writes rows locks, None for one in a folder beside it.
        read_only: Write nothing; where there is no file, rows are kept in memory.
        mode: The permissions of what is made, None for those of what is there.

    Returns:
        The database. It is the caller's to close.

    Raises:
        LogUnavailable: It can't be opened.
        LogTooNew: A newer lllm made it.
        LogError: It is something else.
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
