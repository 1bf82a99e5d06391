"""What is asked of the rows of sessions: lists, single ones, families, tags, who runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec

from lllm.events.backends.sqlite.database import Database, Row
from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.model import State
from lllm.projections.engine.row_changes import convert_rows, rows_of
from lllm.projections.queries.filters import Filter, selections
from lllm.projections.view import storable
from lllm.projections.views.tags import numbers_in

_ALL = 2**63 - 1  # rows; SQLite counts no more


@warm_msgspec
class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """What the rows say of one session; times are nanoseconds (UTC, or elapsed)."""

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
    calls: int | None
    failed_calls: int | None
    unpriced_calls: int | None
    cost_nanos: int | None
    wasted_nanos: int | None
    input_tokens: int | None
    output_tokens: int | None


_OF_TOTALS = SessionRow.__struct_fields__[-7:]  # the others stand in the row of the session
_ROW = ", ".join(
    f"{'t' if name in _OF_TOTALS else 's'}.{name}" for name in SessionRow.__struct_fields__
)
_TOTALS = "LEFT JOIN session_totals AS t ON t.session = s.number"
# The last session that was seen: its start in nanoseconds UTC and its id; or, among the dearest,
# its nano-dollars and its number.
Cursor = tuple[int, str]
CostCursor = tuple[int, int]


def _session_rows(rows: Sequence[Row]) -> list[SessionRow]:
    return convert_rows(rows, list[SessionRow], "sessions")


@contextmanager
def reading(database: Database) -> Iterator[sqlite3.Connection]:
    """A connection on which all queries see one state of the rows."""
    with database.snapshot() as connection:
        connection.execute("BEGIN")
        yield connection


# -- sessions


def list_sessions(
    connection: sqlite3.Connection, wanted: Filter, limit: int | None, cursor: Cursor | None
) -> list[SessionRow]:
    """The sessions that a filter selects, newest first by (start, id)."""
    rows: list[Row] = []
    for selection in selections(connection, wanted):
        selection.source += f" CROSS JOIN sessions AS s ON s.number = f.session {_TOTALS}"
        if cursor is not None:
            started, session_id = cursor
            selection.add("f.started <= ?", started)
            selection.add("(f.started < ? OR s.id < ?)", started, storable(session_id))
        sql = f"SELECT {_ROW} {selection.sql} ORDER BY f.started DESC, s.id DESC LIMIT ?"
        rows += connection.execute(
            sql, (*selection.parameters, -1 if limit is None else min(limit, _ALL))
        )
    found = _session_rows(rows)
    found.sort(key=lambda row: (row.started, row.id), reverse=True)
    return found if limit is None else found[:limit]


def most_expensive_sessions(
    connection: sqlite3.Connection, wanted: Filter, limit: int | None, cursor: CostCursor | None
) -> list[SessionRow]:
    """The sessions that a filter selects, the most expensive first; of those that cost the same,
    the one that began last.

    Known trade-off (accepted): every session selected is looked at. An index by cost would be
    written anew for each batch of a rebuild, since costs come in parts.
    """
    rows: list[Row] = []
    for selection in selections(connection, wanted):
        selection.source += " LEFT JOIN session_totals AS t ON t.session = f.session"
        if cursor is not None:
            selection.add("(ifnull(t.cost_nanos, 0), f.session) < (?, ?)", *cursor)
        # First the numbers alone: what is sorted and mostly left out is not read.
        sql = f"""SELECT {_ROW} FROM (
                SELECT f.session AS number, ifnull(t.cost_nanos, 0) AS nanos {selection.sql}
                ORDER BY nanos DESC, f.session DESC LIMIT ?
            ) AS f CROSS JOIN sessions AS s ON s.number = f.number {_TOTALS}"""
        rows += connection.execute(
            sql, (*selection.parameters, -1 if limit is None else min(limit, _ALL))
        )
    found = _session_rows(rows)
    found.sort(key=lambda row: (row.cost_nanos or 0, row.number), reverse=True)
    return found if limit is None else found[:limit]


def find_session(connection: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """One session's row."""
    return _one_session(connection, "s.id = ?", storable(session_id))


def numbered_session(connection: sqlite3.Connection, number: int) -> SessionRow | None:
    """The row of the session with a number."""
    return _one_session(connection, "s.number = ?", number)


def _one_session(connection: sqlite3.Connection, where: str, value: str | int) -> SessionRow | None:
    sql = f"SELECT {_ROW} FROM sessions AS s {_TOTALS} WHERE {where}"
    found = _session_rows(connection.execute(sql, (value,)).fetchall())
    return found[0] if found else None


def sessions_after(connection: sqlite3.Connection, number: int, limit: int) -> list[SessionRow]:
    """The sessions with the next numbers, at any depth: in the order in which they began."""
    sql = f"SELECT {_ROW} FROM sessions AS s {_TOTALS} WHERE s.number > ? ORDER BY s.number LIMIT ?"
    return _session_rows(connection.execute(sql, (number, limit)).fetchall())


def ids_of(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, str]:
    """The ids of the sessions with some numbers."""
    found = rows_of(connection, "SELECT number, id FROM sessions WHERE number", numbers)
    return dict(convert_rows(found, list[tuple[int, str]], "sessions"))


def count_all(connection: sqlite3.Connection) -> int:
    """How many sessions there are, at any depth."""
    return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


def ids_beginning(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """The ids that begin with a prefix."""
    begins = storable(prefix)
    rows = connection.execute(
        "SELECT id FROM sessions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (begins, begins + "\U0010ffff", limit),
    )
    return [row[0] for row in rows]


def family(connection: sqlite3.Connection, row: SessionRow) -> list[SessionRow]:
    """A session and all below it, in the order in which they began."""
    rows = connection.execute(
        f"""WITH RECURSIVE below(number) AS (
                SELECT ? UNION
                SELECT s.number FROM below
                CROSS JOIN sessions AS s ON s.root = ? AND s.parent = below.number
                    AND s.parent IS NOT NULL
            )
            SELECT {_ROW} FROM below CROSS JOIN sessions AS s ON s.number = below.number {_TOTALS}
            ORDER BY s.number""",
        (row.number, row.root),
    )
    return _session_rows(rows.fetchall())


class HasRoot(Protocol):
    """The numbers of a session and of its root."""

    @property
    def number(self) -> int: ...
    @property
    def root(self) -> int: ...


def tags_of(connection: sqlite3.Connection, rows: Sequence[HasRoot]) -> dict[int, dict[str, str]]:
    """The tags of some sessions, by number: their root's, and over them their own."""
    own = _own_tags(connection, {row.number for row in rows} | {row.root for row in rows})
    return {
        row.number: own[row.number] if row.number == row.root else own[row.root] | own[row.number]
        for row in rows
    }


def _own_tags(
    connection: sqlite3.Connection, sessions: Collection[int]
) -> dict[int, dict[str, str]]:
    found = rows_of(connection, "SELECT session, facets FROM session_tags WHERE session", sessions)
    facets = [
        (session, numbers_in(written))
        for session, written in convert_rows(found, list[tuple[int, object]], "session_tags")
    ]
    named = {number for _, numbers in facets for number in numbers}
    found = rows_of(connection, "SELECT facet, name, value FROM tag_names WHERE facet", named)
    tags = {
        facet: (name, value)
        for facet, name, value in convert_rows(found, list[tuple[int, str, str]], "tag_names")
    }
    own: dict[int, dict[str, str]] = {session: {} for session in sessions}
    for session, numbers in facets:
        own[session] = dict([tags[number] for number in numbers if number in tags])
    return own


def statements_about(
    connection: sqlite3.Connection, rows: Sequence[SessionRow]
) -> list[tuple[int, str]]:
    """Where others said something about these sessions later: positions and streams, in order."""
    found: list[tuple[int, str]] = []
    for row in rows:
        found += connection.execute(
            "SELECT position, stream FROM statements WHERE session = ?", (row.number,)
        )
    return sorted(convert_rows(found, list[tuple[int, str]], "statements"))


def definition_position(connection: sqlite3.Connection, stream: str) -> int | None:
    """Where in the log an agent's definition stands."""
    row = connection.execute(
        "SELECT position FROM definitions WHERE stream = ?", (storable(stream),)
    ).fetchone()
    return None if row is None else convert_rows(row[0], int, "definitions")


@warm_msgspec
class Running(NamedTuple):
    """A session that has not ended, and the lock of the process that writes it."""

    id: str
    number: int
    owner: str
    host: str


def running(connection: sqlite3.Connection) -> list[Running]:
    """The sessions that have not ended."""
    rows = connection.execute(
        "SELECT s.id, s.number, r.owner, r.host FROM running AS r"
        " CROSS JOIN sessions AS s ON s.number = r.session"
    )
    return convert_rows(rows.fetchall(), list[Running], "running")
