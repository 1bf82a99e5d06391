"""Appends events to the table of an SQLite log: one, a few, many, long ones, and known ones.

A few events are one statement, which needs neither BEGIN nor COMMIT of its own. If any of them is
in the log already, the statement fails; then each is looked up first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import cast

from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.long_payloads import LONGEST_TEXT, insert_by_pieces
from lllm.events.envelope import (
    APPEND_BYTES,
    EVENT_BYTES,
    NewEvent,
    conflict,
    refuse_too_large,
    too_large,
)
from lllm.events.long_texts import is_text

_Insert = Callable[[sqlite3.Connection, Sequence[NewEvent]], Sequence[int]]

_INTO = "INSERT INTO events (stream, seq, time, type, version, data, digest) VALUES"
_ROW = "(?, ?, ?, ?, ?, ?, ?)"
_INSERT = f"{_INTO} {_ROW}"
# For payloads so long that each copy matters. Bytes are passed without a copy in Python. SQLite
# keeps a value until the statement gets another, so the statement is run again with empty values.
_INSERT_LONG = f"{_INTO.removesuffix(' VALUES')} SELECT ?, ?, ?, ?, ?, CAST(? AS TEXT), ? WHERE ?"
_LONG = 1 << 20  # bytes
_NONE = ("", 0, 0, "", 0, b"", b"", False)
# so many events together are never too long for an append
_FEW_LONGEST = APPEND_BYTES // EVENT_BYTES
_FEW = 16  # up to so many events are appended by one statement, without BEGIN and COMMIT
_INSERTS = {count: f"{_INTO} {', '.join([_ROW] * count)}" for count in range(2, _FEW + 1)}


def _values(event: NewEvent) -> tuple[str, int, int, str, int, str | bytes, bytes]:
    if len(event.data) > EVENT_BYTES:
        raise too_large(len(event.data), EVENT_BYTES, f"An event {event.type!r}")
    data: str | bytes
    try:
        data = event.data.decode()
    except UnicodeDecodeError:
        data = event.data  # bytes that are not UTF-8 are stored unchanged, too
    return event.stream, event.seq, event.time, event.type, event.version, data, event.digest


def append_events(
    database: Database, events: Sequence[NewEvent], timeout: float | None, path: object
) -> Sequence[int] | None:
    """Append events in one transaction; those that the log has already are not stored twice.

    Args:
        database: The database of the log.
        events: The events, in order; at least one.
        timeout: Seconds to wait for a lock; None to wait until it is free.
        path: The name of the log in errors.

    Returns:
        The position of each event; None if the lock was not free in time.

    Raises:
        AppendConflict: A different event has the same (stream, seq).
        AppendTooLarge: An event or the append is too long.
        LogUnavailable: The log can't be written.
    """
    if len(events) > _FEW_LONGEST:
        refuse_too_large(events)
    try:
        if any(len(event.data) > _LONG for event in events):
            positions = _write(database, _insert_long, events, timeout)
            _write(database, _forget, events, 0)
            return positions
        if len(events) <= _FEW and timeout is None:
            if len(events) == 1:
                return (database.insert(_INSERT, _values(events[0])),)
            values = tuple(chain.from_iterable(map(_values, events)))
            last = database.insert(_INSERTS[len(events)], values)
            return range(last - len(events) + 1, last + 1)
        return _write(database, _insert, events, timeout)
    except sqlite3.IntegrityError:
        return _write(database, partial(_insert_new, path), events, timeout)


def _write(
    database: Database, insert: _Insert, events: Sequence[NewEvent], timeout: float | None
) -> Sequence[int] | None:
    writing = database.write(timeout=timeout)
    try:
        with writing as connection:
            return None if connection is None else insert(connection, events)
    finally:
        writing.abandon()  # in case an interrupt kept the `with` from doing it


def _insert_new(
    path: object, connection: sqlite3.Connection, events: Sequence[NewEvent]
) -> Sequence[int]:
    """Insert the events that are not stored yet.

    After an error that left it open whether events were stored, the same events come again,
    perhaps with more after them.
    """
    positions: list[int] = []
    for event in events:
        found = connection.execute(
            "SELECT position, digest FROM events WHERE stream = ? AND seq = ?",
            (event.stream, event.seq),
        ).fetchone()
        if found is None:
            positions += _insert_long(connection, [event])
        elif found[1] == event.digest:
            positions.append(cast(int, found[0]))
        else:
            raise conflict(event, path)
    return positions


def _insert_long(connection: sqlite3.Connection, events: Sequence[NewEvent]) -> Sequence[int]:
    positions: list[int] = []
    for event in events:
        if len(event.data) > EVENT_BYTES:
            raise too_large(len(event.data), EVENT_BYTES, f"An event {event.type!r}")
        if len(event.data) > LONGEST_TEXT:
            position = insert_by_pieces(connection, event)
            if position is not None:
                positions.append(position)
                continue
        if len(event.data) <= _LONG or not is_text(event.data):
            positions += _insert(connection, [event])
            continue
        row = (event.stream, event.seq, event.time, event.type, event.version, event.data,
               event.digest, True)  # fmt: skip
        try:
            last = connection.execute(_INSERT_LONG, row).lastrowid
        finally:
            connection.execute(_INSERT_LONG, _NONE)
        assert last is not None
        positions.append(last)
    return positions


def _forget(connection: sqlite3.Connection, _: Sequence[NewEvent]) -> Sequence[int]:
    """Release the cache pages that a long payload used."""
    connection.execute("PRAGMA shrink_memory")
    return ()


def _insert(connection: sqlite3.Connection, events: Sequence[NewEvent]) -> Sequence[int]:
    if len(events) == 1:
        last = connection.execute(_INSERT, _values(events[0])).lastrowid
    else:
        connection.executemany(_INSERT, map(_values, events))
        last = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    assert last is not None
    return range(last - len(events) + 1, last + 1)
