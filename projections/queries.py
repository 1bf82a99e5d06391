"""Every SELECT of the read side.

A list walks the rarest of its facets, newest first, looks the others up by key, and stops at the
limit; the order of the joins is fixed (CROSS JOIN), since only we know which facet is rarest. Money
comes from the cube where the question allows it, else from the cells of the sessions selected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeVar

import msgspec

from lllm.events.database import Database, Row
from lllm.events.errors import ViewError
from lllm.events.model import State
from lllm.projections.costs import SUMS
from lllm.projections.tags import Facet
from lllm.projections.view import storable

GroupBy = Literal["tactic", "model", "agent", "day"]
GROUPS: tuple[GroupBy, ...] = ("tactic", "model", "agent", "day")


T = TypeVar("T")
_ALL = 2**63 - 1  # rows; SQLite counts no more


class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """What the session table says of one session; times are nanoseconds (UTC, or elapsed)."""

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
    calls: int | None
    failed_calls: int | None
    unpriced_calls: int | None
    cost_nanos: int | None
    input_tokens: int | None
    output_tokens: int | None


_ROW = ", ".join(f"s.{name}" for name in SessionRow.__struct_fields__)
Cursor = tuple[int, str]  # start in nanoseconds UTC, id: the last session that was seen


def _session_row(row: Row) -> SessionRow:
    """A row, typed. Raises ViewError where somebody else wrote it: SQLite types no columns."""
    return _typed(row, SessionRow, "sessions")


def _typed(rows: object, kind: type[T], table: str) -> T:
    try:
        return msgspec.convert(rows, kind)
    except msgspec.ValidationError as error:
        raise ViewError(
            f"A row of the table {table} is not as lllm writes it ({error}); `lllm rebuild`, or "
            "LogStore.rebuild(), makes it anew."
        ) from error


class Filter(msgspec.Struct, frozen=True):
    """Which sessions are meant; every condition that is given must hold.

    after, before: nanoseconds UTC of the start; `after` is included, `before` is not.
    """

    tags: dict[str, str] = {}
    state: str | None = None
    tactic: str | None = None
    partition: str | None = None
    after: int | None = None
    before: int | None = None

    @property
    def answered_by_cube(self) -> bool:
        """Whether sums over all sessions of a tactic and partition are what is asked for."""
        return not self.tags and self.state is None and self.after is None and self.before is None


class _Selection(msgspec.Struct):
    """A SELECT's FROM and WHERE, and their parameters."""

    source: str
    where: list[str]
    parameters: list[object]

    def add(self, condition: str, *parameters: object) -> None:
        self.where.append(condition)
        self.parameters += parameters

    @property
    def sql(self) -> str:
        return f"FROM {self.source} WHERE {' AND '.join(self.where)}"


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
    for selection in _selections(connection, wanted):
        selection.source += " CROSS JOIN sessions AS s ON s.number = f.session"
        if cursor is not None:
            started, session_id = cursor
            selection.add("f.started <= ?", started)
            selection.add("(f.started < ? OR s.id < ?)", started, storable(session_id))
        sql = f"SELECT {_ROW} {selection.sql} ORDER BY f.started DESC, s.id DESC LIMIT ?"
        rows += connection.execute(
            sql, (*selection.parameters, -1 if limit is None else min(limit, _ALL))
        )
    found = [_session_row(row) for row in rows]
    found.sort(key=lambda row: (row.started, row.id), reverse=True)
    return found if limit is None else found[:limit]


def _selections(connection: sqlite3.Connection, wanted: Filter) -> Iterator[_Selection]:
    """The roots that are meant, and with a tactic its outermost calls below other roots too."""
    facets: list[Facet] = [
        ("tag", storable(name), storable(value)) for name, value in wanted.tags.items()
    ]
    if wanted.state is not None:
        facets.append(("state", "", wanted.state))
    if wanted.partition is not None:
        facets.append(("partition", "", storable(wanted.partition)))
    if wanted.tactic is None:
        scopes: list[tuple[str, list[Facet]]] = [("root", facets or [("all", "", "")])]
    else:
        facets.append(("tactic", "", storable(wanted.tactic)))
        scopes = [("root", facets), ("child", facets)]
    for scope, among in scopes:
        selection = _select(connection, scope, among)
        if selection is None:
            continue
        if wanted.after is not None:
            selection.add("f.started >= ?", wanted.after)
        if wanted.before is not None:
            selection.add("f.started < ?", wanted.before)
        yield selection


def _select(
    connection: sqlite3.Connection, scope: str, facets: Sequence[Facet]
) -> _Selection | None:
    numbers: list[tuple[int, int]] = []  # (sessions, facet)
    inherited: list[tuple[int | None, int | None, str]] = []  # a tag of its own, its root's, name
    for facet in facets:
        found = _facet(connection, scope, facet)
        if scope == "child" and facet[0] == "tag":
            above = _facet(connection, "root", facet)
            if found is None and above is None:
                return None
            inherited.append((found and found[1], above and above[1], facet[1]))
        elif found is None:
            return None
        else:
            numbers.append(found)
    numbers.sort()
    selection = _Selection("facets AS f", ["f.facet = ?"], [numbers[0][1]])
    for _, number in numbers[1:]:
        selection.add(_HAS.format("f.started", "f.session"), number)
    of_root, own = _HAS.format("f.root_started", "f.root"), _HAS.format("f.started", "f.session")
    for numbers_of_tag in inherited:
        selection.add(f"({own} OR ({of_root} AND NOT {_OWN_TAG}))", *numbers_of_tag)
    return selection


_OWN_TAG = "EXISTS (SELECT 1 FROM session_tags WHERE session = f.session AND name = ?)"
_HAS = (
    "EXISTS (SELECT 1 FROM facets AS other"
    " WHERE other.facet = ? AND other.started = {} AND other.session = {})"
)


def _facet(connection: sqlite3.Connection, scope: str, facet: Facet) -> tuple[int, int] | None:
    """How many sessions a facet has, and its number."""
    row = connection.execute(
        "SELECT sessions, facet FROM facet_names"
        " WHERE scope = ? AND kind = ? AND name = ? AND value = ?",
        (scope, *facet),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def find_session(connection: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """One session's row."""
    sql = f"SELECT {_ROW} FROM sessions AS s WHERE s.id = ?"
    found = connection.execute(sql, (storable(session_id),)).fetchone()
    return None if found is None else _session_row(found)


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
            SELECT {_ROW} FROM below CROSS JOIN sessions AS s ON s.number = below.number
            ORDER BY s.number""",
        (row.number, row.root),
    )
    return [_session_row(found) for found in rows]


def tags_of(
    connection: sqlite3.Connection, rows: Sequence[SessionRow]
) -> dict[int, dict[str, str]]:
    """The tags of some sessions, by number: their root's, and over them their own."""
    numbers = sorted({row.number for row in rows} | {row.root for row in rows})
    own: dict[int, dict[str, str]] = {number: {} for number in numbers}
    for start in range(0, len(numbers), 500):  # SQLite bounds the parameters of a statement
        some = numbers[start : start + 500]
        marks = ", ".join("?" * len(some))
        found = connection.execute(
            f"SELECT session, name, value FROM session_tags WHERE session IN ({marks})", some
        ).fetchall()
        for session, name, value in _typed(found, list[tuple[int, str, str]], "session_tags"):
            own[session][name] = value
    return {row.number: own[row.root] | own[row.number] for row in rows}


def statements_about(
    connection: sqlite3.Connection, rows: Sequence[SessionRow]
) -> list[tuple[int, str]]:
    """Where others said something about these sessions later: positions and streams, in order."""
    found: list[tuple[int, str]] = []
    for row in rows:
        found += connection.execute(
            "SELECT position, stream FROM statements WHERE session = ?", (row.number,)
        )
    return sorted(_typed(found, list[tuple[int, str]], "statements"))


def definition_position(connection: sqlite3.Connection, stream: str) -> int | None:
    """Where in the log an agent's definition stands."""
    row = connection.execute(
        "SELECT position FROM definitions WHERE stream = ?", (storable(stream),)
    ).fetchone()
    return None if row is None else _typed(row[0], int, "definitions")


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
    return _typed(rows.fetchall(), list[Running], "running")


# -- costs

_SUMMED = ", ".join(f"ifnull(sum(c.{name}), 0)" for name in SUMS)
Sums = dict[str, int]
NOTHING: Sums = dict.fromkeys(SUMS, 0)


def count_sessions(connection: sqlite3.Connection, wanted: Filter) -> int:
    """How many sessions a summary is about."""
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "scope", "partition")
        sql = f"SELECT ifnull(sum(sessions), 0) FROM session_counts WHERE {where}"
        return int(connection.execute(sql, parameters).fetchone()[0])
    return sum(
        connection.execute(f"SELECT count(*) {selection.sql}", selection.parameters).fetchone()[0]
        for selection in _selections(connection, wanted)
    )


def sum_costs(
    connection: sqlite3.Connection, wanted: Filter, group_by: GroupBy | None = None
) -> dict[str, Sums]:
    """What the sessions that a filter selects cost with all below them, by group ("" without)."""
    if group_by == "day":
        group = "printf('%d-%02d-%02d', c.day / 10000, c.day / 100 % 100, c.day % 100)"
    else:
        group = "''" if group_by is None else f"c.{group_by}"
    groups: dict[str, Sums] = {}
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "c.scope", "c.partition")
        sql = f"SELECT {group}, {_SUMMED} FROM costs AS c WHERE {where} GROUP BY 1"
        _gather(groups, connection.execute(sql, parameters))
        return groups
    cells = group_by in ("tactic", "model", "agent")
    for selection in _selections(connection, wanted):
        selection.source += " CROSS JOIN session_costs AS c ON c.session = f.session"
        if cells:
            selection.source += " CROSS JOIN cost_cells AS cell ON cell.cell = c.cell"
            group = f"cell.{group_by}"
        sql = f"SELECT {group}, {_SUMMED} {selection.sql} GROUP BY 1"
        _gather(groups, connection.execute(sql, selection.parameters))
    return groups


def sum_costs_by_tag(
    connection: sqlite3.Connection, wanted: Filter, name: str
) -> tuple[dict[str | None, Sums], dict[str | None, int]]:
    """The same by the value of a tag (None: sessions without it), and the sessions of each."""
    groups: dict[str | None, Sums] = {}
    counts: dict[str | None, int] = {}
    value = (
        "ifnull((SELECT value FROM session_tags WHERE session = f.session AND name = ?),"
        " (SELECT value FROM session_tags WHERE session = f.root AND name = ?))"
    )
    for selection in _selections(connection, wanted):
        parameters = (storable(name), storable(name), *selection.parameters)
        for found, sessions in connection.execute(
            f"SELECT {value}, count(*) {selection.sql} GROUP BY 1", parameters
        ):
            counts[found] = counts.get(found, 0) + sessions
        selection.source += " CROSS JOIN session_costs AS c ON c.session = f.session"
        sql = f"SELECT {value}, {_SUMMED} {selection.sql} GROUP BY 1"
        _gather(groups, connection.execute(sql, parameters))
    return groups, counts


def _scope(wanted: Filter, scope: str, partition: str) -> tuple[str, list[object]]:
    tactic = storable(wanted.tactic or "")
    if wanted.partition is None:
        return f"{scope} = ?", [tactic]
    return f"{scope} = ? AND {partition} = ?", [tactic, storable(wanted.partition)]


def _gather(groups: dict, rows: sqlite3.Cursor) -> None:  # type: ignore[type-arg]
    for key, *sums in rows:
        before = groups.get(key)
        if not any(sums) and before is None and key == "":
            continue
        groups[key] = {
            name: value + (before[name] if before else 0)
            for name, value in zip(SUMS, sums, strict=True)
        }
