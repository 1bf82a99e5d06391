"""Reads what an erasure needs: the sessions below one, its replays and forks, and its holds.

The table `erasures` says how far erasures are carried out. It does not belong to a view, because it
describes the files and not the events.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.dialect import dialect_of
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.sessions import (
    SessionRow,
    definition_position,
    session_rows_where,
)
from lllm.projections.view import storable

_TABLE = """CREATE TABLE IF NOT EXISTS erasures (
    id INTEGER PRIMARY KEY CHECK (id = 0), begun BIGINT, carried_out BIGINT, unvacuumed BIGINT
)"""


class ErasureState(msgspec.Struct, frozen=True):
    """How far the erasures of a store are carried out.

    Attributes:
        begun: True if an erasure was begun and is not known to be finished.
        carried_out: The payloads are gone of all sessions whose `session.erased` event is at this
            position or before.
        unvacuumed: True if the files may still have copies of erased data, so that they need a
            VACUUM.
    """

    begun: bool = False
    carried_out: int = 0
    unvacuumed: bool = False


def erasure_state(database: RowsDatabase) -> ErasureState:
    """Read how far erasures are carried out.

    Args:
        database: The database of the rows.

    Returns:
        The stored state.
    """
    with database.snapshot() as connection:
        if not connection.execute(dialect_of(connection).has_table(), ("erasures",)).fetchone():
            return ErasureState()
        row = connection.execute("SELECT begun, carried_out, unvacuumed FROM erasures").fetchone()
    if row is None:
        return ErasureState()
    begun, carried_out, unvacuumed = row
    return ErasureState(bool(begun), int(carried_out or 0), bool(unvacuumed))


def keep_erasure_state(database: RowsDatabase, state: ErasureState) -> None:
    """Store how far erasures are carried out.

    Args:
        database: The database of the rows.
        state: The state to store.

    Raises:
        LogUnavailable: The state can't be stored.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_TABLE)
        connection.execute(
            "INSERT INTO erasures VALUES (0, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET begun ="
            " excluded.begun, carried_out = excluded.carried_out, unvacuumed = excluded.unvacuumed",
            (int(state.begun), state.carried_out, int(state.unvacuumed)),
        )


def last_erasure(connection: RowsConnection) -> int:
    """Find the position of the last `session.erased`; 0 if there is none.

    Args:
        connection: A connection to the database of the rows.

    Returns:
        The position; 0 if there is none.
    """
    sql = "SELECT max(erasure) FROM sessions WHERE erasure IS NOT NULL"
    return int(connection.execute(sql).fetchone()[0] or 0)


def erased_after(connection: RowsConnection, position: int) -> list[SessionRow]:
    """Read the sessions that were erased by later events.

    Args:
        connection: A connection to the database of the rows.
        position: The position of a `session.erased` event; 0 to read all erased sessions.

    Returns:
        The rows of the sessions.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    return session_rows_where(connection, "s.erasure > ? ORDER BY s.erasure", (position,))


def made_of(connection: RowsConnection, ids: Sequence[str]) -> list[SessionRow]:
    """Read the replays and forks of some sessions that are not erased themselves.

    Args:
        connection: A connection to the database of the rows.
        ids: The ids of the sessions.

    Returns:
        The rows of the replays and forks.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found: dict[int, SessionRow] = {}
    for session_id in map(storable, ids):
        for column in ("replays", "forks"):
            rows = session_rows_where(
                connection,
                f"s.{column} = ? AND s.{column} IS NOT NULL AND s.erased IS NULL",
                (session_id,),
            )
            found.update((row.number, row) for row in rows)
    return list(found.values())


def definitions_used_by(
    connection: RowsConnection, numbers: Collection[int]
) -> list[tuple[str, int]]:
    """Find the definitions that some sessions use and no other session does.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of the sessions.

    Returns:
        The streams and the positions of the definitions.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    select = "SELECT DISTINCT definition FROM definition_uses WHERE session"
    streams = {str(row[0]) for row in rows_by_key(connection, select, numbers)}
    alone: list[tuple[str, int]] = []
    for stream in sorted(streams):
        users = connection.execute(
            "SELECT session FROM definition_uses WHERE definition = ? LIMIT ?",
            (stream, len(numbers) + 1),
        ).fetchall()
        position = definition_position(connection, stream)
        if position is not None and {row[0] for row in users} <= set(numbers):
            alone.append((stream, position))
    return alone


@warm_msgspec
class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A legal hold that has not been released.

    Attributes:
        session: The number of the session that the hold is on.
        hold: The stream of the hold's statement, by which it is released.
        placed: The time at which it was placed, nanoseconds UTC.
        placed_by: The person or program that placed it.
        reason: The reason that was given for it.
    """

    session: int
    hold: str
    placed: int
    placed_by: str
    reason: str


def holds_on(connection: RowsConnection, numbers: Collection[int]) -> list[Hold]:
    """Read the holds on some sessions.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of the sessions.

    Returns:
        The holds.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    select = "SELECT session, hold, placed, placed_by, reason FROM holds WHERE session"
    found = convert_rows(rows_by_key(connection, select, numbers), list[Hold], "holds")
    return sorted(found, key=lambda hold: (hold.session, hold.hold))


def held_roots(connection: RowsConnection) -> set[str]:
    """Read the ids of the root sessions on which, or below which, there is a hold.

    Args:
        connection: A connection to the database of the rows.

    Returns:
        The ids.
    """
    rows = connection.execute(
        "SELECT DISTINCT root.id FROM holds AS h CROSS JOIN sessions AS s ON s.number = h.session"
        " CROSS JOIN sessions AS root ON root.number = s.root"
    )
    return {str(row[0]) for row in rows}
