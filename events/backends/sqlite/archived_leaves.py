"""Keeps the digests of events that left an SQLite log for an archive.

A position without a row is lost, unless it stands here. So readers ask here only where positions
are missing, and a log from which nothing was archived is read as fast as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from lllm.events.backend import DigestPage
from lllm.events.backends.sqlite.schema import ARCHIVE_FORMAT, ARCHIVED_SCHEMA
from lllm.events.digest import DIGEST_BYTES
from lllm.events.errors import LogDamaged, LogError

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.connection import Connection, Row
    from lllm.events.backends.sqlite.database import Database

_RUN = 1_024  # positions in one row, at most
_GUARDS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'events'"
_THERE = "SELECT 1 FROM sqlite_schema WHERE name = 'archived_leaves'"
_RUNS = """SELECT first, last, digests FROM archived_leaves
           WHERE first > ? AND first <= ? AND last >= ? ORDER BY first"""


def remove_rows(database: Database, leaves: Sequence[tuple[int, bytes]]) -> None:
    """Remove events and keep their digests, in one transaction; see `RemovesEvents`.

    The trigger that forbids DELETE is dropped and created again in that transaction.

    Args:
        database: The database of the log.
        leaves: The positions and digests of the events, in order.

    Raises:
        LogDamaged: An event has another digest, or is missing.
        LogUnavailable: The file can't be written.
    """
    writing = database.write()
    try:
        with writing as connection:
            assert connection is not None
            left = _still_there(connection, leaves)
            if not left:
                return
            if not connection.execute(_THERE).fetchone():
                for statement in ARCHIVED_SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={ARCHIVE_FORMAT}")
            connection.executemany("INSERT INTO archived_leaves VALUES (?, ?, ?)", _runs_of(left))
            guards = [
                (name, sql)
                for name, sql in connection.execute(_GUARDS).fetchall()
                if "BEFORE DELETE" in sql
            ]
            for name, _ in guards:
                connection.execute(f'DROP TRIGGER "{name}"')
            connection.executemany(
                "DELETE FROM events WHERE position = ?", [(position,) for position, _ in left]
            )
            for _, sql in guards:
                connection.execute(sql)
    finally:
        writing.abandon()


def _still_there(
    connection: Connection, leaves: Sequence[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Leave out the events that are removed already, and check the others."""
    left: list[tuple[int, bytes]] = []
    for position, digest in leaves:
        found = connection.execute(
            "SELECT digest FROM events WHERE position = ?", (position,)
        ).fetchone()
        if found is not None and found[0] == digest:
            left.append((position, digest))
        elif found is not None or _leaves(connection, position, position) != {position: digest}:
            raise LogDamaged(
                f"The event at position {position} is not the one that was archived; nothing was "
                "removed. `lllm verify` lists all damage.",
                position=position,
            )
    return left


def _runs_of(leaves: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """Group leaves at adjacent positions."""
    begin = 0
    for index in range(1, len(leaves) + 1):
        first, last = leaves[begin][0], leaves[index - 1][0]
        is_end = index == len(leaves) or leaves[index][0] != last + 1
        if is_end or index - begin == _RUN:
            yield first, last, b"".join(digest for _, digest in leaves[begin:index])
            begin = index


def _leaves(connection: Connection, first: int, last: int) -> dict[int, bytes]:
    if not connection.execute(_THERE).fetchone():
        return {}
    rows = connection.execute(_RUNS, (first - _RUN, last, first)).fetchall()
    return {position: digest for row in rows for position, digest in _run(row, first, last)}


def _run(row: Row, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Take the leaves of a row from one position to another."""
    first, last, digests = row
    if (
        isinstance(first, int)
        and isinstance(last, int)
        and isinstance(digests, bytes)
        and len(digests) == DIGEST_BYTES * (last - first + 1)
    ):
        for position in range(max(first, begin), min(last, end) + 1):
            at = DIGEST_BYTES * (position - first)
            yield position, digests[at : at + DIGEST_BYTES]


def leaves_between(database: Database, first: int, last: int) -> Mapping[int, bytes]:
    """Read the digests of archived events.

    Args:
        database: The database of the log.
        first: The first position.
        last: The last position; a few thousand after the first, at most.

    Returns:
        The digests by their positions; empty if none can be read.
    """
    try:
        with database.snapshot() as connection:
            return _leaves(connection, first, last)
    except LogError:
        return {}  # a damaged page: these positions are lost


def last_of_run(database: Database, first: int, upto: int) -> int:
    """Find the end of a range of positions that are all archived.

    Args:
        database: The database of the log.
        first: A position.
        upto: The last position to look at.

    Returns:
        The last position of the range; `first` - 1 if that is not archived.
    """
    last = first - 1
    for page in archived_pages(database, first - 1, upto):
        if page[0][0] != last + 1:
            break
        last = page[-1][0]
    return last


def archived_ranges(database: Database) -> list[tuple[int, int]]:
    """List the positions of all archived events.

    Args:
        database: The database of the log.

    Returns:
        The first and last position of each range, in order; empty if none can be read.
    """
    ranges: list[tuple[int, int]] = []
    for page in archived_pages(database, 0, 2**63 - 1):
        for position, _ in page:
            if ranges and ranges[-1][1] == position - 1:
                ranges[-1] = ranges[-1][0], position
            else:
                ranges.append((position, position))
    return ranges


def archived_pages(database: Database, after: int, upto: int) -> Iterator[DigestPage]:
    """Read the digests of archived events; see `KeepsLeaves`.

    Args:
        database: The database of the log.
        after: Read those after this position.
        upto: The last position to read.

    Yields:
        Pages of positions and digests, in order.
    """
    first = after - _RUN
    try:
        if not database.query(_THERE):
            return
        while True:
            rows = database.query(f"{_RUNS} LIMIT 16", (first, upto, after + 1))
            for row in rows:
                page = list(_run(row, after + 1, upto))
                if page:
                    yield page
            if len(rows) < 16:
                return
            first = cast(int, rows[-1][0])
    except LogError:
        return  # a damaged page: these positions are lost
