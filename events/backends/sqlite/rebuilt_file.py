"""Builds an undamaged SQLite log from the pages of a damaged one.

SQLite finds rows from the root of a table downwards, so one unreadable page in the middle hides all
pages below it, and without the schema SQLite finds nothing. But rows are in leaf pages, and an
event can be recognised by its form: its columns, and a digest of 32 bytes. So all pages are
searched. Rows that match their digest are preferred. Rows that don't, or can't be checked because
the salt is lost, are kept if they have a payload, and `lllm verify` names them.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from lllm.events import codec
from lllm.events.backends.sqlite.file_header import APPLICATION_ID
from lllm.events.backends.sqlite.pages import Cell, Pages, Value, kinds_of, values_of
from lllm.events.backends.sqlite.schema import NEW_FORMAT, SCHEMA
from lllm.events.digest import leaf_digest
from lllm.events.envelope import EVENT_BYTES, Recorded
from lllm.events.files.open_files import copy_by_another_process
from lllm.events.files.own_files import make_database

_INTEGERS = {1, 2, 3, 4, 5, 6, 8, 9}  # serial types, as are the two below
_DIGEST = 12 + 2 * 32
_COUNTER = 13 + 2 * len("events")  # the table's name, in a row of sqlite_sequence
_OTHER_COLUMNS = 1 << 20  # bytes of a row without its payload, at most

_FOUND = """CREATE TABLE found (position INTEGER, stream TEXT, seq INTEGER, time INTEGER,
            type TEXT, version INTEGER, digest BLOB, data)"""
_EVENT = "position, stream, seq, time, type, version, CAST(data AS BLOB), digest"
_INTO = """INSERT OR IGNORE INTO events (position, stream, seq, time, type, version, digest, data)
           SELECT position, stream, seq, time, type, version, digest, data FROM found
           WHERE rowid = ?"""


class Salvaged(NamedTuple):
    """The result of reading the pages of a damaged file.

    Attributes:
        events: The number of events that were found.
        head: The last position of the log.
        gaps: The first and the last position of each range of lost positions.
    """

    events: int
    head: int
    gaps: tuple[tuple[int, int], ...]


def copy_of(path: Path, folder: Path) -> Path:
    """Copy a database and its write-ahead log byte by byte; both may be open.

    Args:
        path: The path of the database.
        folder: The folder for the copies.

    Returns:
        The path of the copied file.

    Raises:
        LogUnavailable: A file can't be copied.
    """
    copy = folder / "copy"
    wal = Path(f"{path}-wal")
    copy_by_another_process(str(path), copy)
    if wal.exists():
        copy_by_another_process(str(wal), Path(f"{copy}-wal"))
    return copy


def salvage(copy: Path, target: Path, *, head: int = 0) -> Salvaged:
    """Build a log from the readable pages of a damaged one.

    Args:
        copy: A copy of the file; the copy of its write-ahead log is beside it.
        target: The path of the file to create.
        head: The last position of the log, as far as it is known.

    Returns:
        What was found.

    Raises:
        OSError: A file can't be read or written.
        sqlite3.Error: The new file can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="lllm-salvage-", dir=target.parent) as folder:
        best: sqlite3.Connection | None = None
        most = -1
        for number, size in enumerate(_sizes(copy)):
            found = sqlite3.connect(Path(folder, f"found-{number}"), isolation_level=None)
            count, counter = _find(copy, size, found)
            if count > most:
                if best is not None:
                    best.close()
                best, most, said = found, count, counter
            else:
                found.close()
        assert best is not None
        with closing(best):
            return _make(best, target, head or said)


def _sizes(copy: Path) -> list[int]:
    with closing(Pages(copy, Path(f"{copy}-wal"))) as pages:
        return pages.sizes()


def _find(copy: Path, page_size: int, found: sqlite3.Connection) -> tuple[int, int]:
    """Collect all rows that look like events, and the last position that was given out.

    SQLite keeps that position in a row of the table sqlite_sequence.
    """
    for setting in ("journal_mode=OFF", "synchronous=OFF"):
        found.execute(f"PRAGMA {setting}")
    found.execute(_FOUND)
    count = counter = 0
    found.execute("BEGIN")
    with closing(Pages(copy, Path(f"{copy}-wal"), page_size=page_size)) as pages:
        for number in range(1, pages.count + 1):
            for cell in pages.cells(number):
                row = _event_in(pages, cell)
                if row is not None:
                    found.execute(f"INSERT INTO found VALUES ({', '.join('?' * 8)})", row)
                    count += 1
                else:
                    counter = max(counter, _counter_in(cell))
    found.execute("COMMIT")
    return count, counter


def _event_in(pages: Pages, cell: Cell) -> list[Value] | None:
    header = kinds_of(cell.local)
    if header is None or cell.size > EVENT_BYTES + _OTHER_COLUMNS:
        return None
    kinds, begin = header
    if len(kinds) != 8 or not _is_event(kinds) or cell.rowid < 1:
        return None
    payload = pages.payload(cell)
    values = None if payload is None else values_of(payload, kinds, begin)
    return None if values is None else [cell.rowid, *values[1:]]


def _is_event(kinds: list[int]) -> bool:
    position, stream, seq, time, type_, version, digest, data = kinds
    texts = all(kind > 13 and kind % 2 for kind in (stream, type_))
    numbers = all(kind in _INTEGERS for kind in (seq, time, version))
    return position == 0 and texts and numbers and digest == _DIGEST and data >= 12


def _counter_in(cell: Cell) -> int:
    header = kinds_of(cell.local)
    if header is None or len(header[0]) != 2 or header[0][0] != _COUNTER:
        return 0
    values = values_of(cell.local, *header)
    if values is None or values[0] != "events" or not isinstance(values[1], int):
        return 0
    return values[1]


def _make(found: sqlite3.Connection, target: Path, head: int) -> Salvaged:
    found.execute("CREATE INDEX by_position ON found (position)")
    found.execute("CREATE INDEX by_stream ON found (stream, seq)")
    make_database(target)
    with closing(sqlite3.connect(target, isolation_level=None)) as made:
        for statement in SCHEMA:
            made.execute(statement)
        made.execute(f"PRAGMA application_id={APPLICATION_ID}")
        made.execute(f"PRAGMA user_version={NEW_FORMAT}")
    found.execute("ATTACH ? AS made", (str(target),))
    for setting in ("journal_mode=OFF", "synchronous=OFF"):
        found.execute(f"PRAGMA made.{setting}")
    found.execute("BEGIN")
    doubtful: list[int] = []
    salts = lru_cache(maxsize=1024)(partial(_salts, found))
    for same in _by_position(found):
        fits, others = _judged(salts, same)
        doubtful += others if fits is None else []
        if fits is not None:
            found.execute(_INTO, (fits,))
    for rowid in doubtful:  # last, so that none replaces a row that matches its digest
        found.execute(_INTO, (rowid,))
    events, last = found.execute("SELECT count(*), ifnull(max(position), 0) FROM events").fetchone()
    head = max(head, last)
    found.execute("DELETE FROM made.sqlite_sequence")
    found.execute("INSERT INTO made.sqlite_sequence VALUES ('events', ?)", (head,))
    found.execute("COMMIT")
    gaps = tuple(_gaps(found, head))
    found.execute("DETACH made")
    with closing(sqlite3.connect(target)) as made:
        made.execute("PRAGMA journal_mode=WAL")
    return Salvaged(events, head, gaps)


_Row = tuple[int, Recorded]


def _by_position(found: sqlite3.Connection) -> Iterator[list[_Row]]:
    """Group candidates by position; the same event may be found in several pages."""
    rows = found.execute(f"SELECT rowid, {_EVENT} FROM found ORDER BY position, rowid")
    for _, same in groupby(rows, key=lambda row: row[1]):
        yield [(row[0], Recorded(*row[1:])) for row in same]


def _judged(salts: Callable[[str], list[bytes]], same: list[_Row]) -> tuple[int | None, list[int]]:
    """Choose the candidate that matches its digest, if any, and the others that have a payload."""
    others = []
    for rowid, event in same:
        try:
            own = [codec.salt_of(event)] if event.seq == 1 else salts(event.stream)
            if any(_fits(event, salt) for salt in own):
                return rowid, []
            msgspec.json.decode(event.data)
        except (TypeError, ValueError, AttributeError, RecursionError):
            continue
        others.append(rowid)
    return None, others


def _salts(found: sqlite3.Connection, stream: str) -> list[bytes]:
    rows = found.execute(f"SELECT {_EVENT} FROM found WHERE stream = ? AND seq = 1", (stream,))
    firsts = [Recorded(*row) for row in rows]
    salts = [codec.salt_of(first) for first in firsts]
    return [salt for first, salt in zip(firsts, salts, strict=True) if _fits(first, salt)]


def _fits(event: Recorded, salt: bytes) -> bool:
    return event.digest == leaf_digest(
        salt, event.stream, event.seq, event.time, event.type, event.version, event.data
    )


def _gaps(found: sqlite3.Connection, head: int) -> Iterator[tuple[int, int]]:
    due = 1
    for (position,) in found.execute("SELECT position FROM events ORDER BY position"):
        if position > due:
            yield due, position - 1
        due = position + 1
    if due <= head:
        yield due, head
