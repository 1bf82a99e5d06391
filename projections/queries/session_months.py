"""Tells in which month each selected session belongs, and which months changed since a position.

A session belongs to the month (UTC) in which its top-level session began, so that everything of one
run is in one month, whatever is recorded about it later.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from lllm.projections.database import RowsConnection
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.session_filter_sql import selections
from lllm.projections.queries.sessions import (
    SessionRow,
    family,
    numbered_session,
    session_rows_where,
)

DAY = 86_400_000_000_000  # nanoseconds
_BEGIN = dt.date(1970, 1, 1).toordinal()


def month_of(started: int) -> str:
    """Find the month of a time.

    Args:
        started: The time, nanoseconds UTC.

    Returns:
        The month in UTC, as "2026-11".
    """
    return _month(started // DAY)


@lru_cache(maxsize=10_000)
def _month(day: int) -> str:
    try:
        return dt.date.fromordinal(_BEGIN + day).strftime("%Y-%m")
    except (ValueError, OverflowError):  # only a forged event has such a time
        return "0001-01" if day < 0 else "9999-12"


def selected_by_month(connection: RowsConnection, wanted: Filter) -> dict[str, array[int]]:
    """Find the sessions that a filter selects, without those below them.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.

    Returns:
        The numbers of the sessions, sorted, by month.
    """
    found: dict[str, array[int]] = {}
    for selection in selections(connection, wanted):
        selection.source += (
            " CROSS JOIN sessions AS m ON m.number = f.session"
            " CROSS JOIN sessions AS r ON r.number = m.root"
        )
        sql = f"SELECT f.session, r.started {selection.sql}"
        for number, started in connection.execute(sql, selection.parameters):
            found.setdefault(month_of(started), array("q")).append(number)
    return {month: array("q", sorted(numbers)) for month, numbers in sorted(found.items())}


def families_of(connection: RowsConnection, numbers: Sequence[int]) -> list[SessionRow]:
    """Read some sessions and all sessions below them.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of the sessions, a few hundred at most.

    Returns:
        Their rows, sorted by number.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    marks = ", ".join("?" * len(numbers))
    rows = session_rows_where(connection, f"s.number IN ({marks})", numbers)
    roots = [row.number for row in rows if row.parent is None]
    if roots:
        marks = ", ".join("?" * len(roots))
        where = f"s.root IN ({marks}) AND s.parent IS NOT NULL"
        rows += session_rows_where(connection, where, roots)
    for row in rows[: len(numbers)]:
        if row.parent is not None and row.root not in roots:
            rows += family(connection, row)[1:]
    return sorted({row.number: row for row in rows}.values(), key=lambda row: row.number)


def count_between(connection: RowsConnection, first: int, last: int) -> int:
    """Count the sessions that began in a range of positions, selected or not.

    Args:
        connection: A connection to the database of the rows.
        first: The first position.
        last: The last position.

    Returns:
        The number of sessions.
    """
    sql = "SELECT count(*) FROM sessions WHERE number >= ? AND number <= ?"
    return int(connection.execute(sql, (first, last)).fetchone()[0])


def changed_months(
    connection: RowsConnection, after: int, goes_on: Callable[[Collection[str]], set[str]]
) -> set[str]:
    """Find the months of which sessions have changed since a position of the log.

    Args:
        connection: A connection to the database of the rows.
        after: The position.
        goes_on: A function that returns which of some unended sessions have events after that.

    Returns:
        The months in which a top-level session began that changed, or below which one did: it
        began, went on, ended, was tagged, erased, archived, or imported again.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    unended = connection.execute(
        "SELECT id, root FROM sessions"
        " WHERE last_position IS NULL AND state IN ('running', 'interrupted')"
    )
    root_of = dict(convert_rows(unended.fetchall(), list[tuple[str, int]], "sessions"))
    roots = {root_of[one] for one in goes_on(root_of)}
    sql = f"SELECT r.number, r.started FROM sessions AS r WHERE r.number IN ({_CHANGED})"
    found = connection.execute(sql, [after] * _CHANGED.count("?"))
    rows = convert_rows(found.fetchall(), list[tuple[int, int]], "sessions")
    months = {month_of(started) for _, started in rows}
    for number in roots - {number for number, _ in rows}:
        row = numbered_session(connection, number)
        if row is not None:
            months.add(month_of(row.started))
    return months


_CHANGED = """
    SELECT root FROM sessions
    WHERE number > ? OR last_position > ? OR erasure > ? OR archival > ?
    UNION SELECT s.root FROM statements AS t CROSS JOIN sessions AS s ON s.number = t.session
    WHERE t.position > ?
"""


def definitions_until(connection: RowsConnection, position: int) -> list[tuple[str, str]]:
    """List the definitions of agents that the log met up to a position, in order.

    Args:
        connection: A connection to the database of the rows.
        position: The position.

    Returns:
        The agent's name and the stream of each definition.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    sql = "SELECT name, stream FROM definitions WHERE position <= ? ORDER BY position"
    found = connection.execute(sql, (position,)).fetchall()
    return convert_rows(found, list[tuple[str, str]], "definitions")
