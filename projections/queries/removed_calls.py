"""Counts the calls of sessions that were archived or erased, whose own rows are gone."""

from __future__ import annotations

import msgspec

from lllm.projections.database import RowsConnection
from lllm.projections.days import QUARTER_HOUR
from lllm.projections.queries.filters import CallFilter
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.session_conditions_sql import LIKE, like_pattern
from lllm.projections.view import storable

_GONE = ("s.archive IS NOT NULL", "s.erasure IS NOT NULL AND s.archive IS NULL")


def removed_calls(connection: RowsConnection, wanted: CallFilter) -> int:
    """Count the calls of archived and erased sessions.

    Only their sums are left: by tactic, requested model and quarter of an hour. So the filter's
    times count to the quarter, and its state, errors, provider and durations are not regarded.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the calls.

    Returns:
        The number of attempts, those in sessions below included.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    where, parameters = _conditions(wanted)
    needed = {storable(name): storable(value) for name, value in wanted.of.tags.items()}.items()
    count = 0
    for gone in _GONE:
        sql = f"""SELECT t.tags, sum(c.calls + c.failed_calls)
            FROM sessions AS s
            JOIN session_totals AS t ON t.session = s.number
            JOIN session_costs AS c ON c.session = s.number
            JOIN cost_cells AS k ON k.cell = c.cell
            WHERE {" AND ".join([gone, *where])} GROUP BY t.tags"""
        found = connection.execute(sql, parameters).fetchall()
        for tags, calls in convert_rows(found, list[tuple[str | None, int]], "session_costs"):
            if not needed or needed <= _tags_in(tags).items():
                count += calls
    return count


def _conditions(wanted: CallFilter) -> tuple[list[str], list[object]]:
    where: list[str] = ["s.parent IS NULL"]
    parameters: list[object] = []
    of = wanted.of
    for condition, value in (
        ("k.tactic = ?", None if of.tactic is None else storable(of.tactic)),
        ("s.partition = ?", None if of.partition is None else storable(of.partition)),
        ("c.quarter_hour >= ?", None if of.after is None else of.after // QUARTER_HOUR),
        ("c.quarter_hour < ?", None if of.before is None else -(-of.before // QUARTER_HOUR)),
        (LIKE.format("k.model"), None if wanted.model is None else like_pattern(wanted.model)),
    ):
        if value is not None:
            where.append(condition)
            parameters.append(value)
    return where, parameters


def _tags_in(text: str | None) -> dict[str, str]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        return {}  # lllm never writes such a row
