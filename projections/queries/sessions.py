"""Reads the rows of sessions by their ids and numbers, and those of whole trees of sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.model import State
from lllm.projections.database import Row, RowsConnection, RowsDatabase
from lllm.projections.dialect import ALL, dialect_of
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.view import storable


@warm_msgspec
class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """The row of one session; the table `sessions` explains its columns.

    The costs include everything below the session; they are None if no model was called.

    Attributes:
        number: The position of its first event; it is the number of the session in all tables.
        started: The start, nanoseconds UTC.
        ended: The end, nanoseconds UTC; None while the session runs.
        elapsed: The duration, nanoseconds of a monotonic clock; None while it runs.
        last_position: The position of its last event in the log.
        parent: The number of the parent session; None for a root.
        ordinal: The number of the session among its parent's children, from 1.
        task: The first line of its task.
        replays: The id of the session that it replays; None if it is not a replay.
        forks: The id of the session that it was forked from; None if it is not a fork.
        erased: The time at which its content was erased, nanoseconds UTC; None if it was not.
        erasure: The position of the event of its erasure; None if there is none.
        archived: The time at which its events left the log for an archive, nanoseconds UTC; None if
            they did not.
        archive: The path of that archive file, as it was then.
        archival: The position of the event that says so.
        cost_nanos: The cost in nano-dollars.
        wasted_nanos: The part of it for rejected and incomplete answers, in nano-dollars.
    """

    number: int
    id: str
    tactic: str
    name: str
    kind: str
    partition: str
    state: State
    started: int
    ended: int | None
    elapsed: int | None
    last_position: int | None
    root: int
    parent: int | None
    ordinal: int | None
    error_type: str | None
    error_message: str | None
    task: str | None
    agent_calls: int | None
    replays: str | None
    forks: str | None
    erased: int | None
    erased_by: str | None
    erased_reason: str | None
    erasure: int | None
    archived: int | None
    archive: str | None
    archival: int | None
    calls: int | None
    failed_calls: int | None
    unpriced_calls: int | None
    cost_nanos: int | None
    wasted_nanos: int | None
    input_tokens: int | None
    output_tokens: int | None


_OF_TOTALS = SessionRow.__struct_fields__[-7:]  # the other columns are in the row of the session
# the columns of a SessionRow, for a SELECT from `sessions AS s` that joins TOTALS
COLUMNS = ", ".join(
    f"{'t' if name in _OF_TOTALS else 's'}.{name}" for name in SessionRow.__struct_fields__
)
TOTALS = "LEFT JOIN session_totals AS t ON t.session = s.number"


def session_rows(rows: Sequence[Row]) -> list[SessionRow]:
    """Check rows that have the columns of COLUMNS, and make SessionRows of them.

    Args:
        rows: The rows that were read.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    return convert_rows(rows, list[SessionRow], "sessions")


@contextmanager
def reading(database: RowsDatabase) -> Iterator[RowsConnection]:
    """A context manager for a connection on which all queries see the same state of the rows.

    Args:
        database: The database of the rows.

    Yields:
        The connection.
    """
    with database.snapshot() as connection:
        connection.execute(dialect_of(connection).begin())
        yield connection


def find_session(connection: RowsConnection, session_id: str) -> SessionRow | None:
    """Read the row of a session by its id.

    Args:
        connection: A connection to the database of the rows.
        session_id: The complete id of the session.

    Returns:
        The row; None if there is no such session.

    Raises:
        ViewError: The row is not as lllm writes it.
    """
    return _one_session(connection, "s.id = ?", storable(session_id))


def numbered_session(connection: RowsConnection, number: int) -> SessionRow | None:
    """Read the row of a session by its number; see `find_session`."""
    return _one_session(connection, "s.number = ?", number)


def _one_session(connection: RowsConnection, where: str, value: str | int) -> SessionRow | None:
    sql = f"SELECT {COLUMNS} FROM sessions AS s {TOTALS} WHERE {where}"
    found = session_rows(connection.execute(sql, (value,)).fetchall())
    return found[0] if found else None


def session_rows_where(
    connection: RowsConnection, where: str, parameters: Sequence[object]
) -> list[SessionRow]:
    """Read the rows of the sessions that a condition selects.

    Args:
        connection: A connection to the database of the rows.
        where: The SQL condition, in which the table of sessions is `s`; it must not contain text
            from a user.
        parameters: The values of its placeholders.

    Returns:
        The rows.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    sql = f"SELECT {COLUMNS} FROM sessions AS s {TOTALS} WHERE {where}"
    return session_rows(connection.execute(sql, parameters).fetchall())


def sessions_after(connection: RowsConnection, number: int, limit: int) -> list[SessionRow]:
    """Read, in order, the sessions that began after the one with a given number.

    Args:
        connection: A connection to the database of the rows.
        number: The number of the last session that was read; 0 to begin.
        limit: The greatest number of sessions.

    Returns:
        The rows of the next sessions.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    sql = (
        f"SELECT {COLUMNS} FROM sessions AS s {TOTALS} WHERE s.number > ? ORDER BY s.number LIMIT ?"
    )
    return session_rows(connection.execute(sql, (number, limit)).fetchall())


def ids_of(connection: RowsConnection, numbers: Collection[int]) -> dict[int, str]:
    """Read the ids of sessions.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of the sessions.

    Returns:
        The id of each session that exists, by its number.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found = rows_by_key(connection, "SELECT number, id FROM sessions WHERE number", numbers)
    return dict(convert_rows(found, list[tuple[int, str]], "sessions"))


def numbers_of(connection: RowsConnection, session_ids: Collection[str]) -> dict[int, str]:
    """Look up the numbers of sessions by their ids.

    Args:
        connection: A connection to the database of the rows.
        session_ids: The complete ids.

    Returns:
        The id of each session that exists, by its number.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found: dict[int, str] = {}
    for session_id in session_ids:
        row = connection.execute(
            "SELECT number FROM sessions WHERE id = ?", (storable(session_id),)
        ).fetchone()
        if row is not None:
            found[convert_rows(row[0], int, "sessions")] = session_id
    return found


def count_all(connection: RowsConnection) -> int:
    """Count all sessions, including child sessions.

    Args:
        connection: A connection to the database of the rows.

    Returns:
        The number of sessions.
    """
    return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


def ids_beginning(connection: RowsConnection, prefix: str, limit: int) -> list[str]:
    """Find the session ids that begin with a prefix.

    Args:
        connection: A connection to the database of the rows.
        prefix: The beginning of an id, in small letters.
        limit: The greatest number of ids.

    Returns:
        The ids, sorted.
    """
    begins = storable(prefix)
    rows = connection.execute(
        "SELECT id FROM sessions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (begins, begins + "\U0010ffff", limit),
    )
    return [row[0] for row in rows]


def family(connection: RowsConnection, row: SessionRow) -> list[SessionRow]:
    """Read a session and all sessions below it.

    Args:
        connection: A connection to the database of the rows.
        row: The row of the session.

    Returns:
        Their rows, in the order of their starts.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    rows = connection.execute(
        f"""WITH RECURSIVE below(number) AS (
                SELECT CAST(? AS bigint) UNION
                SELECT s.number FROM below
                CROSS JOIN sessions AS s ON s.root = ? AND s.parent = below.number
                    AND s.parent IS NOT NULL
            )
            SELECT {COLUMNS} FROM below CROSS JOIN sessions AS s ON s.number = below.number {TOTALS}
            ORDER BY s.number""",
        (row.number, row.root),
    )
    return session_rows(rows.fetchall())


def children_of(
    connection: RowsConnection, session_id: str, limit: int | None
) -> tuple[int, list[SessionRow]]:
    """Read the sessions that a session called directly.

    Args:
        connection: A connection to the database of the rows.
        session_id: The complete id of the session.
        limit: The greatest number of rows; None for all.

    Returns:
        How many there are, and the rows of the first of them, in the order of their starts.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    sql = "SELECT root, number FROM sessions WHERE id = ?"
    found = connection.execute(sql, (storable(session_id),)).fetchone()
    where = "root = ? AND parent = ? AND parent IS NOT NULL"
    count = 0
    if found is not None:
        sql = f"SELECT count(*) FROM sessions WHERE {where}"
        count = int(connection.execute(sql, found).fetchone()[0])
    if found is None or count == 0:
        return 0, []
    sql = f"""SELECT {COLUMNS} FROM sessions AS s {TOTALS}
        WHERE s.root = ? AND s.parent = ? AND s.parent IS NOT NULL ORDER BY s.number LIMIT ?"""
    rows = connection.execute(sql, (*found, ALL if limit is None else min(limit, ALL)))
    return count, session_rows(rows.fetchall())


def definition_position(connection: RowsConnection, stream: str) -> int | None:
    """Find the position of an agent's definition in the log.

    Args:
        connection: A connection to the database of the rows.
        stream: The name of the definition's stream.

    Returns:
        The position; None if the log has no such definition.

    Raises:
        ViewError: The row is not as lllm writes it.
    """
    row = connection.execute(
        "SELECT position FROM definitions WHERE stream = ?", (storable(stream),)
    ).fetchone()
    return None if row is None else convert_rows(row[0], int, "definitions")
