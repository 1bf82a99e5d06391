"""Lists the sessions that a filter selects, sorted by their start or by another value."""

from __future__ import annotations

from lllm.projections.database import Row, RowsConnection
from lllm.projections.dialect import ALL
from lllm.projections.queries.cursor_sql import (
    SortedCursor,
    StartCursor,
    begin_behind_start,
    begin_behind_value,
)
from lllm.projections.queries.filters import Filter, SessionSort
from lllm.projections.queries.selection import Selection
from lllm.projections.queries.session_filter_sql import ROOTS, selections
from lllm.projections.queries.sessions import COLUMNS, TOTALS, SessionRow, session_rows

LARGEST = 1_000  # sums of all sessions, among which those of a list are looked for first


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
        rows += connection.execute(sql, (*selection.parameters, most)).fetchall()
    found = session_rows(rows)
    found.sort(key=lambda row: (row.started, row.id), reverse=not oldest_first)
    return found if limit is None else found[:limit]


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

    Known trade-off (accepted): every selected session is read, or of very many those with the
    largest sums. Costs and calls of a session are added in parts, so an index by them would be
    rewritten for each batch of a rebuild, and each further index makes all writing slower.

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
    for selection in selections(connection, wanted):
        if falling and by in _NUMBERS and selection.is_broad and not in_time and limit:
            largest = _among_largest(connection, selection, limit, cursor, by)
            if len(largest) == limit:
                rows += largest
                continue
        sorted_by = _SORTED_BY[by]
        if selection.source == ROOTS and by not in _OF_TOTALS and not in_time:
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
