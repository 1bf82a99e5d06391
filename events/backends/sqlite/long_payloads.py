"""Writes and reads very long payloads of an SQLite log without copying them in memory.

SQLite copies a value that it is given, copies it again into the record of its row, and holds it
once more to hand it out. So room is made in the row first, and a long payload is written into it by
pieces and read from it as it is (https://sqlite.org/c3ref/blob_open.html), in the transaction of
its append. Only a BLOB can be made as room. SQLite's JSON functions take one as they take a text;
whoever reads a payload through lllm gets bytes of either.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lllm.events.envelope import NewEvent

LONGEST_TEXT = 4 << 20  # bytes of a payload that is stored as a text
# What a SELECT gets of a payload: nothing of one that is read by pieces. Type and length stand in
# the head of a row, so that SQLite reads nothing else to tell.
DATA = f"""CASE WHEN typeof(data) = 'blob' AND length(data) > {LONGEST_TEXT}
           THEN NULL ELSE CAST(data AS BLOB) END"""
_LENGTH = "SELECT typeof(data), length(data) FROM events WHERE position = ?"
_PIECE = 1 << 20  # bytes
_CACHE = 1 << 10  # kibibytes of pages that are kept meanwhile
_INSERT = """INSERT INTO events (stream, seq, time, type, version, data, digest)
             VALUES (?, ?, ?, ?, ?, zeroblob(?), ?)"""
# What was added to the table, as by a full-text search, and needs the payload when a row is made:
# indexes that no constraint of ours made, triggers, and columns behind ours.
_ADDED = """SELECT 1 FROM sqlite_schema WHERE tbl_name = 'events' AND (
                (type = 'index' AND sql IS NOT NULL)
                OR (type = 'trigger' AND name NOT LIKE 'events\\_are\\_never\\_%' ESCAPE '\\')
            ) UNION ALL SELECT 1 FROM pragma_table_xinfo('events') WHERE cid > 7"""


def insert_by_pieces(connection: sqlite3.Connection, event: NewEvent) -> int | None:
    """Insert an event with a long payload piece by piece, in an open transaction.

    Args:
        connection: Of the log's file.
        event: With a payload of more than `LONGEST_TEXT` bytes.

    Returns:
        Its position. None, with nothing inserted, where something that a user has added to the
        table needs the payload at once.

    Raises:
        sqlite3.Error: It can't be written, or its place in the stream is taken.
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
    """Complete rows with the long payloads that `DATA` left out.

    Args:
        connection: What they were read with.
        rows: Their position stands first.
        column: Where the payload stands.

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
    if length > connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH):  # which no piece is refused by
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
    """A `with` that keeps a long payload from filling the connection's cache."""
    size = connection.execute("PRAGMA cache_size").fetchone()[0]
    connection.execute(f"PRAGMA cache_size=-{_CACHE}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size={size}")
