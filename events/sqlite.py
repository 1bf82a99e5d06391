"""The log in an SQLite file, for production and for queries of one's own.

Log and rows live in the one file that the user named; beside it stands a folder `<file>-lllm` with
the locks. Positions are the rowids: AUTOINCREMENT never gives one twice, and since every append is
one exclusive transaction, they become visible in their order.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal, cast

import msgspec

from lllm.events.codec import is_utf8
from lllm.events.database import Database, Durability, Row
from lllm.events.decoding import learned
from lllm.events.errors import AppendConflict, LogDamaged, LogUnavailable
from lllm.events.liveness import Liveness
from lllm.events.record import (
    APPEND_BYTES,
    EVENT_BYTES,
    NewEvent,
    Recorded,
    refuse_too_large,
    too_large,
)
from lllm.events.shared_database import open_shared
from lllm.events.store_paths import MEMORY, sqlite_path

_Insert = Callable[[sqlite3.Connection, Sequence[NewEvent]], Sequence[int]]
_Reopen = Callable[[Path, Durability, bool], "SQLiteBackend"]

FORMAT = 1
_PAGE = 500  # events fetched at once; no statement stays open between two pages

# `data` stands last: a scan that skips an event by its type never touches its overflow pages.
_SCHEMA = (
    """CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        type TEXT NOT NULL,
        version INTEGER NOT NULL,
        digest BLOB NOT NULL,
        data TEXT NOT NULL,
        UNIQUE (stream, seq)
    )""",
    """CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'events are never changed'); END""",
    """CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
       BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END""",
)
_INTO = "INSERT INTO events (stream, seq, time, type, version, data, digest) VALUES"
_ROW = "(?, ?, ?, ?, ?, ?, ?)"
_INSERT = f"{_INTO} {_ROW}"
_FEW_LONGEST = APPEND_BYTES // EVENT_BYTES  # events that are no too long append together
_FEW = 16  # events that are appended by one statement, which commits itself
_INSERTS = {count: f"{_INTO} {', '.join([_ROW] * count)}" for count in range(2, _FEW + 1)}
_SELECT = """SELECT position, stream, seq, time, type, version, CAST(data AS BLOB), digest
             FROM events"""


_EVENTS = learned(list[Recorded])
_NEXT = f"{_SELECT} WHERE position > ? ORDER BY position LIMIT ?"


def _values(event: NewEvent) -> tuple[str, int, int, str, int, str | bytes, bytes]:
    data: str | bytes = event.data
    if len(data) > EVENT_BYTES:
        raise too_large(len(data), EVENT_BYTES, f"An event {event.type!r}")
    with suppress(UnicodeDecodeError):  # what is no text is kept as it is, too
        data = event.data.decode()
    return event.stream, event.seq, event.time, event.type, event.version, data, event.digest


class SQLiteBackend:
    """A log of events in one SQLite file.

    path: the file, made where it is missing, or ":memory:" for a log that ends with the process.
    durability: "process" survives kill -9; "power" the loss of power too, at the price of an fsync
    for each append. read_only: write nothing, not even beside the file, which may lie on a medium
    that can't be written; an append raises LogReadOnly.

    Raises LogUnavailable where the file can't be opened or made, LogTooNew where a newer lllm wrote
    it, LogError where it is not a log of lllm's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        read_only: bool = False,
    ) -> None:
        self.path: Path | Literal[":memory:"]
        self.liveness: Liveness | None = None
        file = sqlite_path(path)
        if file == MEMORY:
            self.path = ":memory:"
        else:
            self.path = Path(file).absolute()
            if os.path.isdir(self.path):  # where it may not be asked, opening tells
                raise LogUnavailable(
                    f"{self.path} is a folder, and SQLiteBackend keeps its log in a file; "
                    "LocalFileBackend keeps one in a folder."
                )
            if os.path.islink(self.path):
                # SQLite follows it, and its -wal lies beside the file itself; so do our locks.
                self.path = Path(os.path.realpath(self.path))
        self.durability = durability
        self.read_only = read_only
        self.database: Database
        if isinstance(self.path, Path):
            self.database, self.liveness = open_shared(
                self, self.path, version=FORMAT, schema=_SCHEMA, durability=durability,
                read_only=read_only,
            )  # fmt: skip
        elif read_only:
            raise LogUnavailable(
                "A log in memory is empty at first: read_only makes no sense of it."
            )
        else:
            self.database = Database(
                self.path, lock=None, version=FORMAT, schema=_SCHEMA, durability=durability
            )

    def __repr__(self) -> str:
        return f"SQLiteBackend({str(self.path)!r})"

    def __reduce__(self) -> tuple[_Reopen, tuple[Path, Durability, bool]]:
        """Into another process goes the path; the file is opened there anew."""
        if isinstance(self.path, str):
            raise TypeError("A store in memory can't go to another process; give it a file.")
        return _reopen, (self.path, self.durability, self.read_only)

    def rows_database(self) -> Database:
        """The file that projections keep their rows in: the log's own."""
        return self.database

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend."""
        positions = self._append(events, timeout=None)
        assert positions is not None
        return positions

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """See AppendsWithoutWaiting."""
        return self._append(events, timeout=0)

    def at_write(self) -> bool:
        """See KnowsNesting."""
        return self.database.at_write()

    def when_written(self, work: Callable[[], object]) -> None:
        """See KnowsNesting."""
        self.database.when_written(work)

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """See AppendsWithin."""
        return self._append(events, timeout=seconds)

    def _append(self, events: Sequence[NewEvent], *, timeout: float | None) -> Sequence[int] | None:
        if not events:
            return ()
        if len(events) > _FEW_LONGEST:
            refuse_too_large(events)
        if self.at_write():  # a signal handler, in the middle of a write: it can't wait for that
            self.when_written(partial(self.append, events))
            return ()
        try:
            if len(events) <= _FEW and timeout is None:
                if len(events) == 1:
                    return (self.database.insert(_INSERT, _values(events[0])),)
                values = tuple(chain.from_iterable(map(_values, events)))
                last = self.database.insert(_INSERTS[len(events)], values)
                return range(last - len(events) + 1, last + 1)
            return self._write(_insert, events, timeout)
        except sqlite3.IntegrityError:
            return self._write(self._insert_new, events, timeout)

    def _write(
        self, insert: _Insert, events: Sequence[NewEvent], timeout: float | None
    ) -> Sequence[int] | None:
        writing = self.database.write(timeout=timeout)
        try:
            with writing as connection:
                return None if connection is None else insert(connection, events)
        finally:
            writing.abandon()  # where an interrupt kept the `with` from doing it

    def _insert_new(
        self, connection: sqlite3.Connection, events: Sequence[NewEvent]
    ) -> Sequence[int]:
        """Insert what is not stored already. After an error that left it unclear, the events come
        again, perhaps with others behind them."""
        positions: list[int] = []
        for event in events:
            found = connection.execute(
                "SELECT position, digest FROM events WHERE stream = ? AND seq = ?",
                (event.stream, event.seq),
            ).fetchone()
            if found is None:
                positions += _insert(connection, [event])
            elif found[1] == event.digest:
                positions.append(cast(int, found[0]))
            else:
                raise AppendConflict(
                    f"Event {event.seq} of {event.stream!r} can't be stored in {self.path}: "
                    "another event stands in its place already. Only its own recorder may write "
                    "a stream."
                )
        return positions

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """See LogBackend."""
        upto = self.head() if upto is None else upto
        if stream is not None and not is_utf8(stream):
            return iter(())  # no stream is called so
        if stream is None:
            return self._all(max(after, 0), min(upto, self.head()))
        return self._pages(
            f"{_SELECT} WHERE position > ? AND position <= ? AND stream = ? "
            f"ORDER BY seq LIMIT {_PAGE}",
            after,
            (upto, stream),
        )

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """See ReadsByType."""
        marks = ", ".join("?" * len(types))
        return self._pages(
            f"{_SELECT} WHERE position > ? AND position <= ? AND type IN ({marks}) "
            f"ORDER BY position LIMIT {_PAGE}",
            after,
            (self.head() if upto is None else upto, *types),
        )

    def _all(self, after: int, upto: int) -> Iterator[Recorded]:
        """Positions have no holes. SQLite believes a damaged row that says another position, and
        would end the page there, or begin it again."""
        while after < upto:
            count = min(_PAGE, upto - after)
            rows = self.database.query(_NEXT, (after, count))
            due = list(range(after + 1, after + 1 + count))
            if [row[0] for row in rows] == due:
                yield from self._recorded(rows)
                after += count
                continue
            for row, position in zip_longest(rows, due):
                if row is None or row[0] != position:
                    raise self._damaged(position, upto if row is None else row[0])
                yield from self._recorded([row])

    def _pages(self, sql: str, after: int, parameters: tuple[object, ...]) -> Iterator[Recorded]:
        while True:
            rows = self.database.query(sql, (after, *parameters))
            yield from self._recorded(rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]
            if not isinstance(last, int) or last <= after:
                raise self._damaged(after + 1)
            after = last

    def _recorded(self, rows: Sequence[Row]) -> list[Recorded]:
        """Rows as events: SQLite's columns hold what they are not declared to hold, too."""
        try:
            return msgspec.convert(rows, _EVENTS)
        except msgspec.ValidationError:
            first = next(row for row in rows if not _is_event(row))
            raise self._damaged(first[0] if isinstance(first[0], int) else 0) from None

    def _damaged(self, position: int, found: object = None) -> LogDamaged:
        """found: the position that was found in its place."""
        return LogDamaged(
            f"{self.path} is damaged: position {position} is missing, or its row says another. "
            "Restore a backup; reading after it goes on behind the damage, and `lllm verify` tells "
            "more.",
            position=max(position, found - 1) if isinstance(found, int) else position,
        )

    def head(self) -> int:
        """See LogBackend."""
        try:
            rows = self.database.query("SELECT max(position) FROM events")
        except LogDamaged:  # in its last page
            rows = self.database.query("SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'")
        return cast(int, rows[0][0] or 0)

    def close(self) -> None:
        """See LogBackend."""
        self.database.close()


def _reopen(path: Path, durability: Durability, read_only: bool) -> SQLiteBackend:
    return SQLiteBackend(path, durability=durability, read_only=read_only)


def _insert(connection: sqlite3.Connection, events: Sequence[NewEvent]) -> Sequence[int]:
    if len(events) == 1:
        last = connection.execute(_INSERT, _values(events[0])).lastrowid
    else:
        connection.executemany(_INSERT, map(_values, events))
        last = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    assert last is not None
    return range(last - len(events) + 1, last + 1)


def _is_event(row: Row) -> bool:
    try:
        msgspec.convert(row, Recorded)
    except msgspec.ValidationError:
        return False
    return True
