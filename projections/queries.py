"""Every SELECT of the read side.

A list walks the rarest of its facets, newest first, looks the others up by key, and stops at the
limit; the order of the joins is fixed (CROSS JOIN), since only we know which facet is rarest. Money
comes from the cube where the question allows it, else from the cells of the sessions selected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import sub
from typing import Literal, NamedTuple, TypeVar

import msgspec

from lllm.events.database import Database, Row
from lllm.events.errors import ViewError
from lllm.events.model import State
from lllm.projections.costs import SUMS
from lllm.projections.tags import NO_PARTITION, Facet, numbers_in
from lllm.projections.view import storable

GroupBy = Literal["tactic", "model", "agent", "day"]
GROUPS: tuple[GroupBy, ...] = ("tactic", "model", "agent", "day")


T = TypeVar("T")
_ALL = 2**63 - 1  # rows; SQLite counts no more


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
    calls: int | None
    failed_calls: int | None
    unpriced_calls: int | None
    cost_nanos: int | None
    input_tokens: int | None
    output_tokens: int | None


_OF_TOTALS = SessionRow.__struct_fields__[-6:]  # the others stand in the row of the session
_ROW = ", ".join(
    f"{'t' if name in _OF_TOTALS else 's'}.{name}" for name in SessionRow.__struct_fields__
)
_TOTALS = "LEFT JOIN session_totals AS t ON t.session = s.number"
Cursor = tuple[int, str]  # start in nanoseconds UTC, id: the last session that was seen


def _session_rows(rows: Sequence[Row]) -> list[SessionRow]:
    return _typed(rows, list[SessionRow], "sessions")


def _typed(rows: object, kind: type[T], table: str) -> T:
    """Rows as they are meant. Raises ViewError where somebody else wrote them: SQLite types no
    columns."""
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
    """A SELECT's FROM and WHERE, and their parameters. root: the column that tells the root of
    each session."""

    source: str
    where: list[str]
    parameters: list[object]
    root: str = "f.session"

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


def _selections(connection: sqlite3.Connection, wanted: Filter) -> Iterator[_Selection]:
    """The roots that are meant, and with a tactic its outermost calls below other roots too."""
    facets: list[Facet] = [
        ("tag", storable(name), storable(value)) for name, value in wanted.tags.items()
    ]
    if wanted.state is not None:
        facets.append(("state", "", wanted.state))
    if wanted.partition is not None and wanted.partition != NO_PARTITION:
        facets.append(("partition", "", storable(wanted.partition)))
    if wanted.tactic is not None:
        facets.append(("tactic", "", storable(wanted.tactic)))
    selections = [_among_roots(connection, facets)]
    if wanted.tactic is not None:
        selections.append(_among_children(connection, facets))
    for selection in selections:
        if selection is None:
            continue
        if wanted.after is not None:
            selection.add("f.started >= ?", wanted.after)
        if wanted.before is not None:
            selection.add("f.started < ?", wanted.before)
        if wanted.partition == NO_PARTITION:
            selection.add(_WITHOUT_PARTITION, NO_PARTITION)
        yield selection


def _among_roots(connection: sqlite3.Connection, facets: Sequence[Facet]) -> _Selection | None:
    if not facets:
        return _Selection(_ROOTS, ["1"], [])
    numbers = [_numbered(connection, facet) for facet in facets]
    if not all(found.roots for found in numbers):
        return None
    numbers.sort(key=lambda found: found.roots)
    selection = _Selection("facets AS f", ["f.facet = ?"], [numbers[0].facet])
    for found in numbers[1:]:
        selection.add(_HAS.format("facets", "f.started", "f.session"), found.facet)
    return selection


def _among_children(connection: sqlite3.Connection, facets: Sequence[Facet]) -> _Selection | None:
    """Children have the tags of their root, but for those that they have themselves."""
    tags = [facet for facet in facets if facet[0] == "tag"]
    numbers = [_numbered(connection, facet) for facet in facets if facet not in tags]
    if not all(found.children for found in numbers):
        return None
    numbers.sort(key=lambda found: found.children)
    selection = _Selection("child_facets AS f", ["f.facet = ?"], [numbers[0].facet], "f.root")
    for found in numbers[1:]:
        selection.add(_HAS.format("child_facets", "f.started", "f.session"), found.facet)
    own = _HAS.format("child_facets", "f.started", "f.session")
    of_root = _HAS.format("facets", "f.root_started", "f.root")
    for facet in tags:
        tag, named = _numbered(connection, facet), _numbered(connection, ("named", facet[1], ""))
        if not (tag.roots or tag.children):
            return None
        selection.add(f"({own} OR ({of_root} AND NOT {own}))", tag.facet, tag.facet, named.facet)
    return selection


_ROOTS = "(SELECT number AS session, started FROM sessions WHERE parent IS NULL) AS f"
_HAS = (
    "EXISTS (SELECT 1 FROM {} AS other"
    " WHERE other.facet = ? AND other.started = {} AND other.session = {})"
)
_WITHOUT_PARTITION = "(SELECT partition FROM sessions WHERE number = f.session) = ?"


class _Numbered(NamedTuple):
    """The number of a facet, and how many roots and children have it; 0 where nobody ever had."""

    facet: int
    roots: int
    children: int


def _numbered(connection: sqlite3.Connection, facet: Facet) -> _Numbered:
    row = connection.execute(
        "SELECT facet, roots, children FROM facet_numbers"
        " WHERE kind = ? AND name = ? AND value = ?",
        facet,
    ).fetchone()
    return _Numbered(0, 0, 0) if row is None else _typed(row, _Numbered, "facet_numbers")


def find_session(connection: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """One session's row."""
    sql = f"SELECT {_ROW} FROM sessions AS s {_TOTALS} WHERE s.id = ?"
    found = _session_rows(connection.execute(sql, (storable(session_id),)).fetchall())
    return found[0] if found else None


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


def tags_of(
    connection: sqlite3.Connection, rows: Sequence[SessionRow]
) -> dict[int, dict[str, str]]:
    """The tags of some sessions, by number: their root's, and over them their own."""
    own = _own_tags(connection, {row.number for row in rows} | {row.root for row in rows})
    return {row.number: own.get(row.root, {}) | own.get(row.number, {}) for row in rows}


def _own_tags(
    connection: sqlite3.Connection, sessions: Collection[int]
) -> dict[int, dict[str, str]]:
    facets = {
        session: numbers_in(found)
        for session, found in _of_each(
            connection, "SELECT session, facets FROM session_tags WHERE session", sessions
        )
    }
    named = {number for numbers in facets.values() for number in numbers}
    found = _of_each(connection, "SELECT facet, name, value FROM tag_names WHERE facet", named)
    tags = {
        facet: (name, value)
        for facet, name, value in _typed(found, list[tuple[int, str, str]], "tag_names")
    }
    return {
        session: dict(tags[number] for number in numbers if number in tags)
        for session, numbers in facets.items()
    }


def _of_each(connection: sqlite3.Connection, select: str, keys: Collection[int]) -> list[Row]:
    """The rows that have some key each."""
    rows: list[Row] = []
    wanted = sorted(keys)
    for start in range(0, len(wanted), 500):  # SQLite bounds the parameters of a statement
        some = wanted[start : start + 500]
        rows += connection.execute(f"{select} IN ({', '.join('?' * len(some))})", some)
    return rows


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
        where, parameters = _scope(wanted, "scope", "partition", storable(wanted.tactic or ""))
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
        where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
        sql = f"SELECT {group}, {_SUMMED} FROM costs AS c WHERE {where} GROUP BY 1"
        _gather(groups, connection.execute(sql, parameters))
        return groups
    cells = group_by in ("tactic", "model", "agent")
    sums = "session_totals" if group_by is None else "session_costs"
    for selection in _selections(connection, wanted):
        selection.source += f" CROSS JOIN {sums} AS c ON c.session = f.session"
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
    if wanted.answered_by_cube and wanted.tactic is None:
        return _by_tag_in_cube(connection, wanted, storable(name))
    groups: dict[str | None, Sums] = {}
    counts: dict[str | None, int] = {}
    for selection in _selections(connection, wanted):
        selection.source += (
            " LEFT JOIN session_tags AS own ON own.session = f.session"
            f" LEFT JOIN session_tags AS above ON above.session = {selection.root}"
            " LEFT JOIN session_totals AS c ON c.session = f.session"
        )
        rows = connection.execute(
            f"SELECT above.facets, own.facets, count(*), {_SUMMED} {selection.sql} GROUP BY 1, 2",
            selection.parameters,
        ).fetchall()
        # A facet's number belongs to one tag: what has the same facets has the same value.
        values = _values_of(connection, storable(name))
        for of_root, own, sessions, *sums in rows:
            numbers = [*numbers_in(of_root), *numbers_in(own)]
            value = next((values[number] for number in reversed(numbers) if number in values), None)
            counts[value] = counts.get(value, 0) + sessions
            _gather(groups, [(value, *sums)])
    return groups, counts


def _values_of(connection: sqlite3.Connection, name: str) -> dict[int, str]:
    """The values that a tag has, by the number of their facet."""
    return dict(
        connection.execute(
            "SELECT facet, value FROM facet_numbers WHERE kind = 'tag' AND name = ?", (name,)
        ).fetchall()
    )


def _by_tag_in_cube(
    connection: sqlite3.Connection, wanted: Filter, name: str
) -> tuple[dict[str | None, Sums], dict[str | None, int]]:
    where, parameters = _scope(wanted, "c.name", "c.partition", name)
    groups: dict[str | None, Sums] = {}
    counts: dict[str | None, int] = {}
    sql = f"SELECT value, sum(sessions), {_SUMMED} FROM tag_costs AS c WHERE {where} GROUP BY 1"
    for value, sessions, *sums in connection.execute(sql, parameters):
        if sessions:
            counts[value] = sessions
            _gather(groups, [(value, *sums)])
    total = sum_costs(connection, wanted).get("") or NOTHING
    without = count_sessions(connection, wanted) - sum(counts.values())
    if without:
        counts[None] = without
        tagged = [sum(found[column] for found in groups.values()) for column in SUMS]
        _gather(groups, [(None, *map(sub, total.values(), tagged))])
    return groups, counts


def _scope(wanted: Filter, scope: str, partition: str, value: str) -> tuple[str, list[object]]:
    if wanted.partition is None:
        return f"{scope} = ?", [value]
    return f"{scope} = ? AND {partition} = ?", [value, storable(wanted.partition)]


def _gather(groups: dict, rows: Iterable[Row]) -> None:  # type: ignore[type-arg]
    for key, *sums in rows:
        before = groups.get(key)
        if not any(sums) and before is None and key == "":
            continue
        groups[key] = {
            name: value + (before[name] if before else 0)
            for name, value in zip(SUMS, sums, strict=True)
        }
