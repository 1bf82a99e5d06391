"""Turns a filter of calls into SQL that reads along one or several indexes.

The index that leaves the fewest rows is read, in the order of the list as far as the index has it;
the other conditions are checked for each row. A `+` before a condition keeps SQLite from choosing
an index for it (https://sqlite.org/optoverview.html#disqualifying_where_clause_terms).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lllm.projections.database import RowsConnection
from lllm.projections.dialect import SQLDialect, dialect_of
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.cursor_sql import CallCursor
from lllm.projections.queries.facet_numbers import tag_number
from lllm.projections.queries.filters import CallFilter, CallSort, Filter
from lllm.projections.queries.selection import Selection
from lllm.projections.queries.session_conditions_sql import LIKE, error_text, like_pattern
from lllm.projections.view import storable
from lllm.projections.views.calls import LARGEST_SIZE, size_of

_NONE = -(2**63)  # takes the place of an unknown value, so that it comes last
SORTED_BY: dict[CallSort, str] = {
    "started": "c.started",
    "elapsed": f"coalesce(c.elapsed, {_NONE})",
    "first_token": f"coalesce(c.first_token, {_NONE})",
    "cost": f"coalesce(c.cost_nanos, {_NONE})",
    "tokens": f"coalesce(c.input_tokens + c.output_tokens, {_NONE})",
}
_SIZES = {"elapsed": "elapsed_size", "cost": "cost_size"}  # the filters for which there is an index
_FEW_SESSIONS = 2_000  # the most sessions whose rows are looked up one by one
_FEW_KINDS = 100  # the most kinds that are read side by side
_FEW_ROWS = 20_000  # the most rows that are sorted in memory


class Walk(msgspec.Struct):
    """The parts of indexes to read; each selected attempt is in exactly one part.

    Attributes:
        selections: The SQL of the parts; the table `calls` is `c` in it.
        in_turn: True if all attempts of one part come before all of the next, in the order of the
            list.
        at_once: True if they are few enough to be sorted in memory, without an index in the list's
            order.
    """

    selections: Iterator[Selection] | list[Selection]
    in_turn: bool = False
    at_once: bool = False


def walk(
    connection: RowsConnection, wanted: CallFilter, sort: CallSort, cursor: CallCursor | None
) -> Walk:
    """Choose the index with which the fewest attempts have to be read.

    Args:
        connection: Reads how many there are of what.
        wanted: The filter of the attempts.
        sort: The column by which the list is sorted, the largest first.
        cursor: The cursor of the last attempt on the previous page; None for the first page.

    Returns:
        The parts to read. The conditions for the cursor are not included.
    """
    kinds, dialect = _kinds(connection, wanted), dialect_of(connection)
    if kinds == []:
        return Walk([])
    last = None if cursor is None else cursor[0]
    if wanted.session is not None:
        row = session_queries.find_session(connection, wanted.session)
        top = [row and row.number, row and row.root]
        return Walk([_of_sessions(dialect, wanted, kinds, _BELOW, top)], at_once=True)
    rare = _rare_tag(connection, wanted.of)
    if rare is not None:
        return Walk([_of_sessions(dialect, wanted, kinds, _TAGGED, [rare] * 3)], at_once=True)
    if wanted.fails:
        one = wanted.statuses is None or wanted.statuses[0] == wanted.statuses[1]
        failures = _along_index(
            dialect, wanted, kinds, _state_condition("failure", wanted.statuses)
        )
        return Walk([failures], at_once=not one)
    if wanted.of.state in ("running", "interrupted"):
        return Walk([_along_index(dialect, wanted, kinds, _state_condition("running", None))])
    if kinds is not None and _are_few(connection, kinds, sort):
        return Walk([_along_index(dialect, wanted, None, ("c.kind = ?", kind)) for kind in kinds])
    if sort in _SIZES:
        least = wanted.slower if sort == "elapsed" else None
        sizes = _sizes(connection, _SIZES[sort], last, least)
        return Walk(
            (
                _along_index(dialect, wanted, kinds, (f"c.{_SIZES[sort]} = ?", size))
                for size in sizes
            ),
            in_turn=True,
        )
    if wanted.slower is not None:
        slow = (_SLOW, size_of(wanted.slower), wanted.slower)
        if _room_beside(connection, slow) is not None:
            return Walk([_along_index(dialect, wanted, kinds, slow)], at_once=True)
    return Walk([_along_index(dialect, wanted, kinds, ("true",))])


_Condition = tuple[str, *tuple[object, ...]]  # SQL and its parameters


def _along_index(
    dialect: SQLDialect, wanted: CallFilter, kinds: Sequence[int] | None, walked: _Condition
) -> Selection:
    """Read attempts along an index that ends with their start."""
    selection = Selection("calls AS c", [], [])
    selection.add(*walked)
    _add_times(selection, wanted.of, "c.started")
    _add_others(dialect, selection, wanted, kinds)
    return selection


def _of_sessions(
    dialect: SQLDialect,
    wanted: CallFilter,
    kinds: Sequence[int] | None,
    sessions: str,
    parameters: Sequence[object],
) -> Selection:
    """Read the attempts of some sessions; `sessions` is a SELECT of their numbers."""
    source = f"({sessions}) AS f CROSS JOIN calls AS c ON c.session = f.session"
    selection = Selection(source, [], [*parameters])
    _add_times(selection, wanted.of, "+c.started")
    _add_others(dialect, selection, wanted, kinds)
    return selection


def _add_times(selection: Selection, wanted: Filter, column: str) -> None:
    if wanted.after is not None:
        selection.add(f"{column} >= ?", wanted.after)
    if wanted.before is not None:
        selection.add(f"{column} < ?", wanted.before)
    selection.add("true")


def _add_others(
    dialect: SQLDialect, selection: Selection, wanted: CallFilter, kinds: Sequence[int] | None
) -> None:
    """Add the conditions that no index covers; they are checked for each row."""
    if kinds is not None:
        selection.add(f"+c.kind IN ({', '.join(map(str, kinds))})")
    if wanted.slower is not None:
        selection.add("+c.elapsed >= ?", wanted.slower)
    if wanted.statuses is not None:
        selection.add("+c.status BETWEEN ? AND ?", *wanted.statuses)
    if wanted.error is not None:
        selection.add(dialect.contains(_ERROR_TEXT), storable(wanted.error))
    if wanted.of.state is not None:
        state = "running" if wanted.of.state == "interrupted" else wanted.of.state
        selection.add("c.state || '' = ?", state)
        if state == "running":
            runs = "=" if wanted.of.state == "running" else "<>"
            selection.add(f"{_OF_SESSION.format('state')} {runs} 'running'")
    if wanted.of.partition is not None:
        selection.add(f"{_OF_SESSION.format('partition')} = ?", storable(wanted.of.partition))


_OF_SESSION = "(SELECT {} FROM sessions WHERE number = c.session)"
_ERROR_TEXT = error_text("c.error_type", "c.error_code", "c.error_message")


def _state_condition(state: str, statuses: tuple[int, int] | None) -> _Condition:
    if statuses is None:
        return "c.state <> 'success' AND c.state = ?", state
    if statuses[0] == statuses[1]:
        return "c.status = ?", statuses[0]
    return "c.status BETWEEN ? AND ?", *statuses


# -- Kinds


def _kinds(connection: RowsConnection, wanted: CallFilter) -> list[int] | None:
    """Look up the numbers of the kinds that a filter selects; None if it selects all."""
    where: list[str] = []
    parameters: list[object] = []
    if wanted.of.tactic is not None:
        where.append("tactic = ?")
        parameters.append(storable(wanted.of.tactic))
    if wanted.provider is not None:
        where.append("lower(provider) = lower(?)")
        parameters.append(storable(wanted.provider))
    if wanted.model is not None:
        where.append(f"({' OR '.join(map(LIKE.format, ('asked', 'model')))})")
        parameters += [like_pattern(storable(wanted.model))] * 2
    if not where:
        return None
    sql = f"SELECT kind FROM call_kinds WHERE {' AND '.join(where)}"
    return [int(kind) for (kind,) in connection.execute(sql, parameters)]


def _are_few(connection: RowsConnection, kinds: Sequence[int], sort: CallSort) -> bool:
    """True if the kinds are few enough to read each of them by an index."""
    if len(kinds) > _FEW_KINDS:
        return False
    if sort not in _SIZES:
        return True
    left: int | None = _FEW_ROWS
    for kind in kinds:
        left = left and _room_beside(connection, ("c.kind = ?", kind), left)
    return left is not None


_SLOW = "c.elapsed_size >= ? AND c.elapsed >= ?"


def _room_beside(
    connection: RowsConnection, condition: _Condition, room: int | None = None
) -> int | None:
    """Subtract the number of rows under a condition from `room`; None if there are more."""
    room = _FEW_ROWS if room is None else room
    sql = f"SELECT count(*) FROM (SELECT 1 FROM calls AS c WHERE {condition[0]} LIMIT ?) AS f"
    left = room - int(connection.execute(sql, (*condition[1:], room)).fetchone()[0])
    return left if left > 0 else None


# -- Size classes


def _sizes(
    connection: RowsConnection, column: str, last: int | None, least: int | None
) -> Iterator[int]:
    """Look up the existing size classes, largest first, from that of the amount `last` on.

    Classes below that of the amount `least` are left out.
    """
    size: int | None = LARGEST_SIZE if last is None else size_of(last) + 1
    lowest = 0 if least is None else size_of(least)
    sql = f"SELECT max({column}) FROM calls WHERE {column} < ?"
    while True:
        size = connection.execute(sql, (size,)).fetchone()[0]
        if size is None or size < lowest:
            return
        yield size


# -- Sessions


_BELOW = """WITH RECURSIVE below(session) AS (
    SELECT CAST(? AS bigint) UNION
    SELECT s.number FROM below
    CROSS JOIN sessions AS s ON s.root = ? AND s.parent = below.session AND s.parent IS NOT NULL
) SELECT session FROM below"""

# The sessions with a tag, and those below a root that has it.
_TAGGED = """SELECT session FROM facets WHERE facet = ?
    UNION SELECT session FROM child_facets WHERE facet = ?
    UNION SELECT s.number FROM facets AS f
        CROSS JOIN sessions AS s ON s.root = f.session AND s.parent IS NOT NULL
        WHERE f.facet = ?"""


def _rare_tag(connection: RowsConnection, wanted: Filter) -> int | None:
    """Find the tag of a filter with the fewest sessions; None if it has many."""
    found = [tag_number(connection, name, value) for name, value in wanted.tags.items()]
    rarest = min(found, key=lambda tag: tag.roots + tag.children, default=None)
    if rarest is None or rarest.roots + rarest.children > _FEW_SESSIONS:
        return None
    return rarest.facet
