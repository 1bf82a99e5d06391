"""Copies an SQLite log for a backup.

The file is copied page by page within one read transaction. Without the transaction, SQLite starts
the copy again whenever another process commits (https://sqlite.org/backup.html), and would never
finish beside busy writers. Known trade-off (accepted): until the copy is done, the write-ahead log
can't be emptied and grows with every commit.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from lllm.events.backend import Progress
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.read_events import HEADS
from lllm.events.errors import LogError
from lllm.events.files.copying import apart_from_original, finish
from lllm.events.files.own_files import make_database

_PAGES = 1000  # pages that are copied between two reports of progress


def copy_database(database: Database, copy: Path, progress: Progress | None) -> tuple[int, int]:
    """Copy a database as it is at this moment; others may write to it meanwhile.

    Args:
        database: The open database to copy.
        copy: The file to create.
        progress: A function that is called with the bytes copied so far and the bytes to copy; None
            for no reports.

    Returns:
        The position of the last event, and the size of the copy in bytes.

    Raises:
        CopyFailed: The copy can't be written.
        LogError: The copy differs from the original.
        LogUnavailable: The original can't be read.
    """
    with database.snapshot() as source, apart_from_original():
        source.execute("BEGIN")
        position = _last_position(source)
        page: int = source.execute("PRAGMA page_size").fetchone()[0]

        def report(_status: int, rest: int, pages: int) -> None:
            if progress is not None:
                progress((pages - rest) * page, pages * page)

        make_database(copy)
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            # An incomplete copy is deleted, so nothing needs to be rolled back.
            target.execute("PRAGMA journal_mode=OFF")
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target, pages=_PAGES, progress=report)
        _check_copy(source, copy)
    finish(Path(database.path), copy)
    return position, copy.stat().st_size


def _last_position(connection: sqlite3.Connection) -> int:
    for sql in HEADS:
        try:
            found: int = connection.execute(sql).fetchone()[0] or 0
            return found
        # the original has a damaged page, and the copy has the same
        except sqlite3.DatabaseError as error:
            damage = error
    raise damage


def _check_copy(source: sqlite3.Connection, copy: Path) -> None:
    """Check that a copy has the same format, size and last position as the original.

    Raises:
        LogError: They differ.
    """
    # Immutable: SQLite creates no files beside the copy.
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as copied:
        for pragma in ("application_id", "user_version", "page_count"):
            sql = f"PRAGMA {pragma}"
            if source.execute(sql).fetchone() != copied.execute(sql).fetchone():
                raise LogError(f"The copy in {copy.parent} has another {pragma}; try again.")
        if _last_position(source) != _last_position(copied):
            raise LogError(f"The copy in {copy.parent} lacks events of the original; try again.")
