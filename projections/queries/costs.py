"""Sums the costs of sessions, from the pre-aggregated cube or from the rows of sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from lllm.projections.database import RowsConnection
from lllm.projections.queries.archivals import any_archived
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.session_filter_sql import selections
from lllm.projections.view import storable
from lllm.projections.views.costs import SUMS

SUMMED = ", ".join(f"coalesce(sum(c.{name}), 0)" for name in SUMS)
Sums = dict[str, int]
NOTHING: Sums = dict.fromkeys(SUMS, 0)


def count_sessions(connection: RowsConnection, wanted: Filter) -> int:
    """Count the sessions that a cost summary includes.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.

    Returns:
        The number of selected sessions; sessions below them are not counted.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    if answered_by_cube(wanted):
        where, parameters = cube_scope(wanted)
        sql = f"SELECT coalesce(sum(c.sessions), 0) FROM session_counts AS c WHERE {where}"
        return int(connection.execute(sql, parameters).fetchone()[0])
    tag = _only_tag(wanted)
    if tag is not None:
        return _of_tag(connection, wanted, *tag)[0]
    return sum(
        connection.execute(f"SELECT count(*) {selection.sql}", selection.parameters).fetchone()[0]
        for selection in selections(connection, wanted)
    )


def answered_by_cube(wanted: Filter) -> bool:
    """True if the pre-aggregated `costs` table can answer this filter.

    Args:
        wanted: The filter of the sessions.

    Returns:
        False if the costs have to be summed over single sessions.
    """
    times = (wanted.state, wanted.after, wanted.before)
    return not wanted.tags and times == (None, None, None) and not wanted.reads_sessions


def _only_tag(wanted: Filter) -> tuple[str, str] | None:
    """The only tag of a filter that the pre-aggregated `tag_costs` table can answer; else None."""
    others = (wanted.tactic, wanted.state, wanted.after, wanted.before)
    if wanted.reads_sessions or len(wanted.tags) != 1 or others != (None, None, None, None):
        return None
    return next(iter(wanted.tags.items()))


class SessionCost(NamedTuple):
    """The cost of a session and everything below it in one quarter of an hour.

    There is one for each tactic, model and agent.

    Attributes:
        session: The number of the session.
        quarter_hour: The number of the quarter of an hour, counted from 1970-01-01 UTC.
        tactic: The path of the tactic that called the model.
        model: The model that was requested.
        agent: The agent that called the model; "" outside of agents.
        sums: The numbers in the order of SUMS: counts of calls and tokens, and nano-dollars.
    """

    session: int
    quarter_hour: int
    tactic: str
    model: str
    agent: str
    sums: tuple[int, ...]


def costs_of(connection: RowsConnection, sessions: Collection[int]) -> list[SessionCost]:
    """Read the costs of sessions, including everything below them, cell by cell.

    Args:
        connection: A connection to the database of the rows.
        sessions: The numbers of roots, or of outermost calls of a tactic; other sessions have no
            cells.

    Returns:
        The cells of all of them.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found = rows_by_key(
        connection,
        f"""SELECT c.session, c.quarter_hour, k.tactic, k.model, k.agent,
            {", ".join(f"coalesce(c.{name}, 0)" for name in SUMS)}
            FROM session_costs AS c CROSS JOIN cost_cells AS k ON k.cell = c.cell
            WHERE c.session""",
        sessions,
    )
    rows = [(*row[:5], row[5:]) for row in found]
    return convert_rows(rows, list[SessionCost], "session_costs")


def sum_costs(connection: RowsConnection, wanted: Filter) -> Sums:
    """Sum the costs of sessions, including everything below them.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.

    Returns:
        The sums by the names of SUMS: counts of calls and tokens, and amounts in nano-dollars.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    if answered_by_cube(wanted):
        where, parameters = cube_scope(wanted)
        sql = f"SELECT {SUMMED} FROM costs AS c WHERE {where}"
        return plus(NOTHING, connection.execute(sql, parameters).fetchone())
    tag = _only_tag(wanted)
    if tag is not None:
        return plus(NOTHING, _of_tag(connection, wanted, *tag)[1:])
    found = NOTHING
    for selection in selections(connection, wanted):
        selection.source += " CROSS JOIN session_totals AS c ON c.session = f.session"
        sql = f"SELECT {SUMMED} {selection.sql}"
        found = plus(found, connection.execute(sql, selection.parameters).fetchone())
    return found


def _of_tag(connection: RowsConnection, wanted: Filter, name: str, value: str) -> tuple[int, ...]:
    """Read the number of root sessions with a tag, and what they cost."""
    where, parameters = with_partition(wanted, "c.name", storable(name))
    sql = (
        f"SELECT coalesce(sum(sessions), 0), {SUMMED} FROM tag_costs AS c"
        f" WHERE {where} AND c.value = ?"
    )
    row = connection.execute(sql, (*parameters, storable(value))).fetchone()
    return convert_rows(row, tuple[int, ...], "tag_costs")


def cube_scope(wanted: Filter) -> tuple[str, list[object]]:
    """Make the SQL condition for the rows of the table `costs` that a filter selects.

    Args:
        wanted: The filter of the sessions.

    Returns:
        The condition, in which the table is `c`, and the values of its placeholders.
    """
    return with_partition(wanted, "c.scope", storable(wanted.tactic or ""))


def with_partition(wanted: Filter, column: str, value: str) -> tuple[str, list[object]]:
    """Make the SQL condition for the value of a column and for the filter's partition.

    Args:
        wanted: The filter of the sessions.
        column: The name of the column.
        value: The value that the column must have.

    Returns:
        The condition, and the values of its placeholders.
    """
    if wanted.partition is None:
        return f"{column} = ?", [value]
    return f"{column} = ? AND c.partition = ?", [value, storable(wanted.partition)]


def archived_costs(connection: RowsConnection, wanted: Filter) -> tuple[int, int]:
    """Count the selected sessions whose events left the log, and sum what they cost.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.

    Returns:
        The number of sessions, without those below them, and their cost in nano-dollars.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    count = nanos = 0
    if any_archived(connection):
        for selection in selections(connection, wanted):
            selection.source += (
                " CROSS JOIN sessions AS a ON a.number = f.session AND a.archive IS NOT NULL"
                " LEFT JOIN session_totals AS c ON c.session = a.number"
            )
            row = connection.execute(
                f"SELECT count(*), coalesce(sum(c.cost_nanos), 0) {selection.sql}",
                selection.parameters,
            ).fetchone()
            found = convert_rows(row, tuple[int, int], "sessions")
            count, nanos = count + found[0], nanos + found[1]
    return count, nanos


def plus(before: Sums, amounts: Iterable[object]) -> Sums:
    """Add amounts to existing sums.

    Args:
        before: The sums so far.
        amounts: The values of a row, in the order of SUMS.

    Returns:
        New sums.

    Raises:
        ViewError: An amount is not as lllm writes it.
    """
    added = convert_rows([*amounts], list[int], "costs")
    return {name: before[name] + amount for name, amount in zip(SUMS, added, strict=True)}
