"""Reads what an erasure has to know: the family of a session, what was made of it, and its holds.

The table `erasures` says how far erasures are carried out. It is no view: it tells of the files and
not of the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from lllm.events.backends.sqlite.database import Database
from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.sessions import SessionRow, session_rows_where
from lllm.projections.view import storable

_TABLE = """CREATE TABLE IF NOT EXISTS erasures (
    id INTEGER PRIMARY KEY CHECK (id = 0), begun INTEGER, carried_out INTEGER, unvacuumed INTEGER
)"""


class ErasureState(msgspec.Struct, frozen=True):
    """How far the erasures of a store are carried out.

    Attributes:
        begun: One was begun, and is not known to be finished.
        carried_out: The payloads of all sessions are gone whose `session.erased` stands at this
            position or before.
        unvacuumed: The files may still hold copies of what was erased: they need a VACUUM.
    """

    begun: bool = False
    carried_out: int = 0
    unvacuumed: bool = False


def erasure_state(database: Database) -> ErasureState:
    """Read how far erasures are carried out.

    Args:
        database: Of the rows.
    """
    with database.snapshot() as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'erasures'").fetchone():
            return ErasureState()
        row = connection.execute("SELECT begun, carried_out, unvacuumed FROM erasures").fetchone()
    if row is None:
        return ErasureState()
    begun, carried_out, unvacuumed = row
    return ErasureState(bool(begun), int(carried_out or 0), bool(unvacuumed))


def keep_erasure_state(database: Database, state: ErasureState) -> None:
    """Store how far erasures are carried out.

    Args:
        database: Of the rows.
        state: What to store.

    Raises:
        LogUnavailable: It can't be stored.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_TABLE)
        connection.execute(
            "INSERT OR REPLACE INTO erasures VALUES (0, ?, ?, ?)",
            (int(state.begun), state.carried_out, int(state.unvacuumed)),
        )


def last_erasure(connection: sqlite3.Connection) -> int:
    """Find the position of the last `session.erased`; 0 if there is none.

    Args:
        connection: Reads the rows.
    """
    sql = "SELECT max(erasure) FROM sessions WHERE erasure IS NOT NULL"
    return int(connection.execute(sql).fetchone()[0] or 0)


def erased_after(connection: sqlite3.Connection, position: int) -> list[SessionRow]:
    """Read the sessions that were erased by later events.

    Args:
        connection: Reads the rows.
        position: Of a `session.erased`, 0 for all.

    Raises:
        ViewError: Somebody else wrote a row.
    """
    return session_rows_where(connection, "s.erasure > ? ORDER BY s.erasure", (position,))


def made_of(connection: sqlite3.Connection, ids: Sequence[str]) -> list[SessionRow]:
    """Read the sessions that are replays or forks of some sessions, and are not erased.

    Args:
        connection: Reads the rows.
        ids: The ids of the sessions.

    Raises:
        ViewError: Somebody else wrote a row.
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


@warm_msgspec
class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A legal hold that is not released.

    Attributes:
        session: The number of the session that it is on.
        hold: The stream that says it, by which it is released.
        placed: When, nanoseconds UTC.
        placed_by: Who placed it.
        reason: Why.
    """

    session: int
    hold: str
    placed: int
    placed_by: str
    reason: str


def holds_on(connection: sqlite3.Connection, numbers: Collection[int]) -> list[Hold]:
    """Read the holds on some sessions.

    Args:
        connection: Reads the rows.
        numbers: The numbers of the sessions.

    Raises:
        ViewError: Somebody else wrote a row.
    """
    select = "SELECT session, hold, placed, placed_by, reason FROM holds WHERE session"
    return convert_rows(rows_by_key(connection, select, numbers), list[Hold], "holds")


def held_roots(connection: sqlite3.Connection) -> set[str]:
    """Read the ids of the top-level sessions that a hold keeps, theirs or one below them.

    Args:
        connection: Reads the rows.
    """
    rows = connection.execute(
        "SELECT DISTINCT root.id FROM holds AS h CROSS JOIN sessions AS s ON s.number = h.session"
        " CROSS JOIN sessions AS root ON root.number = s.root"
    )
    return {str(row[0]) for row in rows}
