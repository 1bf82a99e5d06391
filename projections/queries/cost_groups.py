"""Sums the costs of sessions by tactic, model, agent, day, or the values of tags."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from operator import sub
from typing import NamedTuple

from lllm.projections.database import Row, RowsConnection
from lllm.projections.days import DaysOfQuarters, day_text
from lllm.projections.dialect import dialect_of
from lllm.projections.queries.costs import (
    NOTHING,
    SUMMED,
    Sums,
    answered_by_cube,
    count_sessions,
    cube_scope,
    plus,
    sum_costs,
    with_partition,
)
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.session_filter_sql import selections
from lllm.projections.queries.session_tags import tags_by_number
from lllm.projections.views.costs import SUMS
from lllm.projections.views.tags import numbers_in

COLUMNS = ("tactic", "model", "agent", "day")
_AT_ONCE = 1_000  # rows whose tags are looked up at once
Keys = tuple[str | None, ...]  # one value for each group; None for sessions without the tag


class Group(NamedTuple):
    """A way to group costs: by a column of the cube, or by the value of a tag.

    Attributes:
        column: One of COLUMNS; "" to group by a tag.
        tag: The name of the tag; "" to group by a column.
    """

    column: str
    tag: str = ""


class DividedQuarter(Exception):
    """Raised if the rows can't give the costs of each day in a time zone; only the events can.

    A day of that zone begins in the middle of a quarter of an hour that has costs.
    """


def sum_costs_by(
    connection: RowsConnection,
    wanted: Filter,
    by: Sequence[Group],
    zone: dt.tzinfo = dt.UTC,
) -> dict[Keys, Sums]:
    """Sum the costs of sessions, including everything below them, by groups.

    An attempt counts for its own tactic, model, agent and day. It counts for the tags of the
    selected session that it belongs to, directly or below it.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.
        by: The columns and tags to group by.
        zone: The time zone in which days are counted.

    Returns:
        The sums, named as those of `sum_costs`, by one key for each group.

    Raises:
        DividedQuarter: The rows can't tell the days of this zone apart.
        ViewError: A row is not as lllm writes it.
    """
    columns = {group.column for group in by}
    by_day, in_cube = "day" in columns, answered_by_cube(wanted) and "" not in columns
    if in_cube and (not by_day or zone is dt.UTC):
        return _sums_of_cube(connection, wanted, by)
    # Numbers are sorted faster than names, and only the few in the result have to be named.
    by_cell = not columns <= {"day", ""}
    cells = _names_of_cells(connection) if by_cell else {}
    day = _day_of(connection, zone) if by_day else ""
    fields = [*compress(("c.cell", day), (by_cell, by_day))]
    if in_cube:
        found = _sums_of_quarters(connection, wanted, fields)
    else:
        source = " CROSS JOIN session_costs AS c ON c.session = f.session"
        found = _sums_of_sessions(connection, wanted, source, fields, tag_names(by), SUMMED)
    groups: dict[Keys, Sums] = {}
    for tags, row in found:
        of = cells.get(row[0], {}) if by_cell else {}
        if by_day:
            of = of | {"day": day_text(row[len(fields) - 1])}
        keys = [tags.get(group.tag) if group.tag else of.get(group.column, "") for group in by]
        _gather(groups, (*keys,), row[len(fields) :])
    return groups


def _day_of(connection: RowsConnection, zone: dt.tzinfo) -> str:
    """Make the SQL for the day in a time zone of the column `c.quarter_hour`."""
    days = DaysOfQuarters(zone)
    sql = "SELECT DISTINCT quarter_hour FROM quarter_hour_costs WHERE scope = ''"
    for (quarter,) in connection.execute(sql):
        days[quarter]
    if days.divided:
        raise DividedQuarter
    return dialect_of(connection).day_of(connection, "c.quarter_hour", days)


def _sums_of_quarters(
    connection: RowsConnection, wanted: Filter, fields: Sequence[str]
) -> Iterator[tuple[dict[str, str], Row]]:
    """Sum the quarters of an hour of the cube by some fields."""
    where, parameters = cube_scope(wanted)
    places = ", ".join(str(place) for place in range(1, len(fields) + 1))
    sql = (
        f"SELECT {', '.join(fields)}, {SUMMED} FROM quarter_hour_costs AS c WHERE {where}"
        f" GROUP BY {places}"
    )
    for row in connection.execute(sql, parameters):
        yield {}, row


def _sums_of_cube(
    connection: RowsConnection, wanted: Filter, by: Sequence[Group]
) -> dict[Keys, Sums]:
    where, parameters = cube_scope(wanted)
    columns = ", ".join(f"c.{group.column}" for group in by)
    sql = f"SELECT {columns}, {SUMMED} FROM costs AS c WHERE {where} GROUP BY {columns}"
    groups: dict[Keys, Sums] = {}
    for row in connection.execute(sql, parameters):
        keys = [
            day_text(key) if group.column == "day" else str(key)
            for group, key in zip(by, row, strict=False)
        ]
        _gather(groups, (*keys,), row[len(by) :])
    return groups


def _names_of_cells(connection: RowsConnection) -> dict[object, dict[str, str]]:
    found = connection.execute("SELECT cell, tactic, model, agent FROM cost_cells").fetchall()
    cells = convert_rows(found, list[tuple[object, str, str, str]], "cost_cells")
    return {cell: dict(zip(COLUMNS, names, strict=False)) for cell, *names in cells}


def sum_costs_by_tags(
    connection: RowsConnection, wanted: Filter, names: Sequence[str]
) -> tuple[dict[Keys, Sums], dict[Keys, int]]:
    """Sum the costs of sessions, including everything below them, by the values of tags.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the sessions.
        names: The names of the tags.

    Returns:
        The sums, named as those of `sum_costs`, and the number of sessions, both by one value for
        each name; None stands for sessions without the tag.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    if len(names) == 1 and answered_by_cube(wanted) and wanted.tactic is None:
        return _sums_of_tag(connection, wanted, names[0])
    groups: dict[Keys, Sums] = {}
    counts: dict[Keys, int] = {}
    source = " LEFT JOIN session_totals AS c ON c.session = f.session"
    sums = f"count(*), {SUMMED}"
    for tags, row in _sums_of_sessions(connection, wanted, source, (), names, sums):
        keys = (*map(tags.get, names),)
        counts[keys] = counts.get(keys, 0) + convert_rows(row[0], int, "facets")
        _gather(groups, keys, row[1:])
    return groups, counts


def tag_names(by: Iterable[Group]) -> list[str]:
    """List the names of the tags among some groups, in order.

    Args:
        by: The columns and tags to group by.

    Returns:
        The names, in the order of the groups.
    """
    return [group.tag for group in by if group.tag]


def _sums_of_sessions(
    connection: RowsConnection,
    wanted: Filter,
    source: str,
    fields: Sequence[str],
    tags: Sequence[str],
    sums: str,
) -> Iterator[tuple[dict[str, str], Row]]:
    """Sum the selected sessions by some fields and by their values of `tags`.

    `source` is the SQL that joins the summed table to the sessions. The result may have several
    sums for the same tags.
    """
    facets = ("above.facets", "mine.facets") if tags else ()
    selected = (*facets, *fields)
    places = ", ".join(str(place) for place in range(1, len(selected) + 1))
    for selection in selections(connection, wanted):
        if tags:
            selection.source += (
                " LEFT JOIN session_tags AS mine ON mine.session = f.session"
                f" LEFT JOIN session_tags AS above ON above.session = {selection.root}"
            )
        selection.source += source
        sql = f"SELECT {', '.join((*selected, sums))} {selection.sql} GROUP BY {places}"
        cursor = connection.execute(sql, selection.parameters)
        while rows := cursor.fetchmany(_AT_ONCE):
            if not tags:
                yield from (({}, row) for row in rows)
                continue
            named = _tags_among(connection, rows, tags)
            for of_root, own, *rest in rows:
                # the session's own tags come first
                numbers = (*numbers_in(of_root), *numbers_in(own))
                yield dict(named[number] for number in numbers if number in named), (*rest,)


def _tags_among(
    connection: RowsConnection, rows: Sequence[Row], names: Sequence[str]
) -> dict[int, tuple[str, str]]:
    """Find the tags among the facets at the beginning of rows, by the numbers of the facets."""
    numbers = {number for row in rows for facets in row[:2] for number in numbers_in(facets)}
    tags = tags_by_number(connection, numbers)
    return {number: tag for number, tag in tags.items() if tag[0] in names}


def _sums_of_tag(
    connection: RowsConnection, wanted: Filter, name: str
) -> tuple[dict[Keys, Sums], dict[Keys, int]]:
    where, parameters = with_partition(wanted, "c.name", name)
    groups: dict[Keys, Sums] = {}
    counts: dict[Keys, int] = {}
    sql = f"SELECT value, sum(sessions), {SUMMED} FROM tag_costs AS c WHERE {where} GROUP BY 1"
    for found, number, *sums in connection.execute(sql, parameters):
        value, sessions = convert_rows((found, number), tuple[str, int], "tag_costs")
        if sessions:
            counts[(value,)] = sessions
            _gather(groups, (value,), sums)
    total = sum_costs(connection, wanted)
    without = count_sessions(connection, wanted) - sum(counts.values())
    if without:
        counts[(None,)] = without
        tagged = [sum(found[column] for found in groups.values()) for column in SUMS]
        _gather(groups, (None,), map(sub, total.values(), tagged))
    return groups, counts


def _gather(groups: dict[Keys, Sums], keys: Keys, amounts: Iterable[object]) -> None:
    groups[keys] = plus(groups.get(keys, NOTHING), amounts)
