"""Lists the sessions that a filter selects, sorted by their start or by another value."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.projections.database import Row, RowsConnection
from lllm.projections.dialect import ALL, POSTGRESQL, dialect_of
from lllm.projections.queries.cursor_sql import (
    SortedCursor,
    StartCursor,
    begin_behind_start,
    begin_behind_value,
)
from lllm.projections.queries.filters import Filter, SessionSort
from lllm.projections.queries.selection import HAS_FACET, Selection
from lllm.projections.queries.session_filter_sql import ROOTS, selections
from lllm.projections.queries.sessions import COLUMNS, TOTALS, SessionRow, session_rows
from lllm.projections.view import storable

LARGEST = 1_000  # sums of all sessions, among which those of a list are looked for first
IN_ORDER = 20_000  # sessions in the order of an index, among which they are


def list_sessions(
    connection: RowsConnection,
    wanted: Filter,
    limit: int | None,
    cursor: StartCursor | None,
    *,
    oldest_first: bool = False,
) -> list[SessionRow]:
    """List the sessions that a filter selects, by start and id.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.
        limit: The greatest number of sessions; None for all.
        cursor: The cursor of the last session on the previous page; None for the first page.
        oldest_first: True to begin with the oldest; False to begin with the newest.

    Returns:
        The rows.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    rows: list[Row] = []
    order = "f.started, s.id" if oldest_first else "f.started DESC, s.id DESC"
    for selection in selections(connection, wanted):
        selection.source += f" CROSS JOIN sessions AS s ON s.number = f.session {TOTALS}"
        begin_behind_start(selection, cursor, oldest_first=oldest_first)
        sql = f"SELECT {COLUMNS} {selection.sql} ORDER BY {order} LIMIT ?"
        most = ALL if limit is None else min(limit, ALL)
        rows += _asked(connection, sql, (*selection.parameters, most))
    found = session_rows(rows)
    found.sort(key=lambda row: (row.started, row.id), reverse=not oldest_first)
    return found if limit is None else found[:limit]


def _asked(connection: RowsConnection, sql: str, parameters: Sequence[object]) -> list[Row]:
    return connection.execute(*dialect_of(connection).asked_again(sql, parameters)).fetchall()


def sorted_sessions(
    connection: RowsConnection,
    wanted: Filter,
    limit: int | None,
    cursor: SortedCursor | None,
    *,
    by: SessionSort,
    falling: bool,
) -> list[SessionRow]:
    """List the sessions that a filter selects, by another value than their start.

    Known trade-off (accepted): in SQLite, every selected session is read, or of very many those
    with the largest sums. Costs and calls of a session are added in parts, so an index by them
    would be rewritten for each batch of a rebuild, and each further index makes all writing slower.
    In PostgreSQL, indexes are made after a rebuild, so there is one for each order.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.
        limit: The greatest number of sessions; None for all.
        cursor: The cursor of the last session on the previous page; None for the first page.
        by: The value to sort by; any but "started".
        falling: True if the largest value comes first.

    Returns:
        The rows; of sessions with equal values, the newer comes first if `falling`, else the older.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    rows: list[Row] = []
    direction = "DESC" if falling else "ASC"
    in_time = wanted.after is not None or wanted.before is not None
    is_postgres = dialect_of(connection) is POSTGRESQL
    for selection in selections(connection, wanted):
        if is_postgres and not in_time and limit:
            if in_order_is_faster(connection, selection, limit):
                first = _in_order(connection, selection, wanted, limit, cursor, by, falling=falling)
                if len(first) == limit:
                    rows += first
                    continue
        elif falling and by in _NUMBERS and selection.is_broad and not in_time and limit:
            largest = _among_largest(connection, selection, limit, cursor, by)
            if len(largest) == limit:
                rows += largest
                continue
        sorted_by = _SORTED_BY[by]
        if selection.source == ROOTS and not is_postgres and by not in _OF_TOTALS and not in_time:
            selection.source, sorted_by = _EVERY_ROOT, sorted_by.replace("v.", "f.")
        else:
            selection.source += _TOTALS_ROW if by in _OF_TOTALS else _SESSION_ROW
        begin_behind_value(selection, cursor, sorted_by, falling=falling)
        # First the values alone: rows that are sorted and then left out are not read.
        sql = f"""SELECT {COLUMNS} FROM (
                SELECT f.session AS number, {sorted_by} AS value {selection.sql}
                ORDER BY value {direction}, f.session {direction} LIMIT ?
            ) AS f CROSS JOIN sessions AS s ON s.number = f.number {TOTALS}"""
        most = ALL if limit is None else min(limit, ALL)
        rows += connection.execute(sql, (*selection.parameters, most)).fetchall()
    found = session_rows(rows)
    found.sort(key=lambda row: (sort_value(row, by), row.number), reverse=falling)
    return found if limit is None else found[:limit]


def _among_largest(
    connection: RowsConnection,
    selection: Selection,
    limit: int,
    cursor: SortedCursor | None,
    by: SessionSort,
) -> list[Row]:
    """Look for the sessions with the largest numbers among those of all sessions.

    Reading all sums takes a third of the time of reading all sessions and looking up their sums.
    The result is the page if it has `limit` rows, since all other sessions have smaller numbers.
    """
    sorted_by = _SORTED_BY[by]
    sessions, joined, others = selection.source.partition(" CROSS JOIN ")
    joins = joined + others
    behind, values = "", cursor or ()
    if cursor is not None:
        behind = f"AND ({sorted_by}, v.session) < (?, ?)"
    sql = f"""SELECT {COLUMNS} FROM (
            SELECT f.session AS number, v.value
            FROM (
                SELECT v.session, {sorted_by} AS value FROM {_NUMBERS[by]} AS v
                WHERE {sorted_by} > 0 {behind} ORDER BY value DESC, v.session DESC LIMIT ?
            ) AS v CROSS JOIN sessions AS d ON d.number = v.session
            CROSS JOIN {sessions} ON f.session = d.number AND f.started = d.started {joins}
            WHERE {" AND ".join(selection.where)}
            ORDER BY v.value DESC, f.session DESC LIMIT ?
        ) AS f CROSS JOIN sessions AS s ON s.number = f.number {TOTALS}"""
    most = max(LARGEST, 4 * limit)
    return connection.execute(sql, (*values, most, *selection.parameters, limit)).fetchall()


def in_order_is_faster(connection: RowsConnection, selection: Selection, limit: int) -> bool:
    """True if a page is full sooner than all selected sessions are read.

    If every n-th session is among the selected ones, a page is full after n times its sessions.
    """
    if selection.size >= ALL:
        return True
    sql = "SELECT coalesce(sum(sessions), 0) FROM session_counts WHERE scope = ''"
    every = int(connection.execute(sql).fetchone()[0])
    return selection.size**2 >= limit * every


def _in_order(
    connection: RowsConnection,
    selection: Selection,
    wanted: Filter,
    limit: int,
    cursor: SortedCursor | None,
    by: SessionSort,
    *,
    falling: bool,
) -> list[Row]:
    """Look for root sessions in the order of a PostgreSQL index, until a page is full.

    Every root session has a row of sums. The result is the page if it has `limit` rows; else, there
    may be more of them behind those that were looked at.
    """
    value, direction = _SORTED_BY[by], "DESC" if falling else "ASC"
    inner, outer = f"{value} {direction}, ", f"f.value {direction}, "
    table, number, where = ("session_totals", "v.session", ["true"])
    if by not in _OF_TOTALS:
        table, number, where = "sessions", "v.number", [_ROOT]
    given: list[object] = []
    only = {"state": wanted.state, "tactic": wanted.tactic}.get(by)
    if only is not None:
        inner = outer = ""  # they are all alike
        where.append(f"{value} = ?")
        given.append(storable(only))
    if cursor is not None:
        where.append(f"({value}, {number}) {'<' if falling else '>'} (?, ?)")
        given += (storable(cursor[0]) if isinstance(cursor[0], str) else cursor[0], cursor[1])
    source, joined, others = selection.source.partition(" CROSS JOIN ")
    conditions = selection.where
    if source != ROOTS:  # the facet is looked up, as all others are
        conditions = [HAS_FACET.format("facets", "f.started", "f.session"), *conditions[1:]]
    sql = f"""SELECT {COLUMNS} FROM (
            SELECT f.session AS number, f.value
            FROM (
                SELECT d.number AS session, d.started, v.value
                FROM (
                    SELECT {number} AS session, {value} AS value FROM {table} AS v
                    WHERE {" AND ".join(where)}
                    ORDER BY {inner}{number} {direction} LIMIT {IN_ORDER}
                ) AS v CROSS JOIN sessions AS d ON d.number = v.session
                WHERE d.parent IS NULL AND d.replays IS NULL
            ) AS f {joined}{others}
            WHERE {" AND ".join(conditions)}
            ORDER BY {outer}f.session {direction} LIMIT ?
        ) AS f CROSS JOIN sessions AS s ON s.number = f.number {TOTALS}"""
    return _asked(connection, sql, (*given, *selection.parameters, limit))


_ROOT = "v.parent IS NULL AND v.replays IS NULL"
_OF_TOTALS = ("cost", "calls", "tokens")
_TOTALS_ROW = " LEFT JOIN session_totals AS v ON v.session = f.session"
_SESSION_ROW = " CROSS JOIN sessions AS v ON v.number = f.session"
# The same sessions as ROOTS. But the condition does not suit the index of their starts, so the
# table is read in its order, in half the time of looking up each of its rows.
_EVERY_ROOT = (
    "(SELECT number AS session, started, elapsed, state, tactic, task FROM sessions"
    " WHERE coalesce(parent, 0) = 0 AND replays IS NULL) AS f"
)
# Where the numbers of all sessions are. Many have equal durations and calls; with the newest first,
# those that come later are not among the largest, and SQLite need not sort them in.
_NUMBERS: dict[SessionSort, str] = {
    "cost": "session_totals",
    "tokens": "session_totals",
    "calls": (
        "(SELECT session, calls, failed_calls FROM session_totals"
        f" ORDER BY session DESC LIMIT {ALL})"
    ),
    "elapsed": (
        f"(SELECT number AS session, elapsed FROM sessions ORDER BY number DESC LIMIT {ALL})"
    ),
}
_SORTED_BY: dict[SessionSort, str] = {
    "cost": "coalesce(v.cost_nanos, 0)",
    "elapsed": "coalesce(v.elapsed, -1)",
    "calls": "coalesce(v.calls, 0) + coalesce(v.failed_calls, 0)",
    "tokens": "coalesce(v.input_tokens, 0) + coalesce(v.output_tokens, 0)",
    "state": "v.state",
    "tactic": "v.tactic",
    "task": "coalesce(v.task, '')",
}


def sort_value(row: SessionRow, by: SessionSort) -> int | str:
    """Compute the value by which `sorted_sessions` sorts a row.

    Args:
        row: The row.
        by: What to sort by; any but "started".
    """
    if by == "cost":
        return row.cost_nanos or 0
    if by == "elapsed":
        return -1 if row.elapsed is None else row.elapsed
    if by == "calls":
        return (row.calls or 0) + (row.failed_calls or 0)
    if by == "tokens":
        return (row.input_tokens or 0) + (row.output_tokens or 0)
    return str(getattr(row, by) or "")
