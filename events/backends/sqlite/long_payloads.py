"""Writes and reads very long payloads of an SQLite log without copying them in memory.

SQLite copies a value that is inserted, copies it again into the record of the row, and holds
another copy when it is read. So the row is first created with room for the payload. The payload is
then written into it, and read from it, in pieces (https://sqlite.org/c3ref/blob_open.html), in the
transaction of its append. This works for BLOBs only. SQLite's JSON functions accept a BLOB like a
text, and lllm returns bytes for both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lllm.events.envelope import NewEvent

LONGEST_TEXT = 4 << 20  # a payload of at most so many bytes is stored as a text
# The SQL for the payload: NULL for one that is read in pieces. The type and the length are in the
# header of a row, so SQLite need not read more of it.
DATA = f"""CASE WHEN typeof(data) = 'blob' AND length(data) > {LONGEST_TEXT}
           THEN NULL ELSE CAST(data AS BLOB) END"""
_LENGTH = "SELECT typeof(data), length(data) FROM events WHERE position = ?"
_PIECE = 1 << 20  # bytes
_CACHE = 1 << 10  # kibibytes of pages that are cached meanwhile
_INSERT = """INSERT INTO events (stream, seq, time, type, version, data, digest)
             VALUES (?, ?, ?, ?, ?, zeroblob(?), ?)"""
# Counts user-made additions to the table that need the payload when a row is inserted, as for a
# full-text search: indexes other than those of our constraints, triggers, and further columns.
_ADDED = """SELECT 1 FROM sqlite_schema WHERE tbl_name = 'events' AND (
                (type = 'index' AND sql IS NOT NULL)
                OR (type = 'trigger' AND name NOT LIKE 'events\\_are\\_never\\_%' ESCAPE '\\')
            ) UNION ALL SELECT 1 FROM pragma_table_xinfo('events') WHERE cid > 7"""


def insert_by_pieces(connection: sqlite3.Connection, event: NewEvent) -> int | None:
    """Insert an event with a long payload piece by piece, in an open transaction.

    Args:
        connection: The connection to the log's file.
        event: An event whose payload has more than `LONGEST_TEXT` bytes.

    Returns:
        The position of the event. None, with nothing inserted, if the user has added something to
        the table that needs the whole payload at once.

    Raises:
        sqlite3.Error: The row can't be written, or its (stream, seq) exists already.
    """
    if connection.execute(_ADDED).fetchone() is not None:
        return None
    row = (event.stream, event.seq, event.time, event.type, event.version, len(event.data),
           event.digest)  # fmt: skip
    with _few_pages_kept(connection):
        position = connection.execute(_INSERT, row).lastrowid
        assert position is not None
        data = memoryview(event.data)
        with connection.blobopen("events", "data", position) as blob:
            for at in range(0, len(data), _PIECE):
                blob.write(data[at : at + _PIECE])
    return position


def filled(
    connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]], column: int
) -> list[tuple[object, ...]]:
    """Complete rows with the long payloads that the SQL of `DATA` left out.

    Args:
        connection: The connection that read the rows.
        rows: The rows; the first column of each is its position.
        column: The index of the payload's column.

    Returns:
        The rows with all payloads.

    Raises:
        sqlite3.Error: A page can't be read.
    """
    return [
        row if row[column] is not None
        else (*row[:column], _payload(connection, row[0]), *row[column + 1 :])
        for row in rows
    ]  # fmt: skip


def _payload(connection: sqlite3.Connection, position: object) -> bytes | None:
    """Read the payload of a row; None if it is missing, which is damage."""
    if not isinstance(position, int):
        return None
    kind, length = connection.execute(_LENGTH, (position,)).fetchone() or (None, 0)
    if kind != "blob":
        return None
    # SQLite applies this limit to whole values only, so it is checked here
    if length > connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH):
        error = sqlite3.DataError("string or blob too big")
        error.sqlite_errorcode = sqlite3.SQLITE_TOOBIG
        raise error
    with (
        _few_pages_kept(connection),
        connection.blobopen("events", "data", position, readonly=True) as blob,
    ):
        return blob.read()


@contextmanager
def _few_pages_kept(connection: sqlite3.Connection) -> Iterator[None]:
    """A context manager that keeps a long payload from filling the connection's cache."""
    size = connection.execute("PRAGMA cache_size").fetchone()[0]
    connection.execute(f"PRAGMA cache_size=-{_CACHE}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size={size}")
