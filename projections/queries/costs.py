"""What the sessions of a filter cost: sums from the cube where the question allows it, else from
the cells and totals of the sessions selected.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress
from operator import sub
from typing import NamedTuple

from lllm.events.backends.sqlite.database import Row
from lllm.projections.days import DaysOfQuarters, shown_day
from lllm.projections.engine.row_changes import convert_rows, rows_of
from lllm.projections.queries.filters import Filter, selections
from lllm.projections.view import storable
from lllm.projections.views.costs import SUMS
from lllm.projections.views.tags import numbers_in

COLUMNS = ("tactic", "model", "agent", "day")


class Group(NamedTuple):
    """What sums are grouped by: a column of the cube, or the value of a tag."""

    column: str  # one of COLUMNS, or "" for a tag
    tag: str = ""


_AT_ONCE = 1_000  # rows whose tags are looked up together
_SUMMED = ", ".join(f"ifnull(sum(c.{name}), 0)" for name in SUMS)
Sums = dict[str, int]
NOTHING: Sums = dict.fromkeys(SUMS, 0)
Keys = tuple[str | None, ...]  # one for each group; None for sessions without the tag


def count_sessions(connection: sqlite3.Connection, wanted: Filter) -> int:
    """How many sessions a summary is about."""
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "scope", "partition", storable(wanted.tactic or ""))
        sql = f"SELECT ifnull(sum(sessions), 0) FROM session_counts WHERE {where}"
        return int(connection.execute(sql, parameters).fetchone()[0])
    tag = wanted.only_tag
    if tag is not None:
        return _of_tag(connection, wanted, *tag)[0]
    return sum(
        connection.execute(f"SELECT count(*) {selection.sql}", selection.parameters).fetchone()[0]
        for selection in selections(connection, wanted)
    )


class SessionCost(NamedTuple):
    """What a session cost, with all below it, in a quarter of an hour (since 1970) by one tactic,
    model and agent. sums: in the order of SUMS."""

    session: int
    quarter_hour: int
    tactic: str
    model: str
    agent: str
    sums: tuple[int, ...]


def costs_of(connection: sqlite3.Connection, sessions: Collection[int]) -> list[SessionCost]:
    """What some sessions, by their numbers, cost with all below them: the roots, and the outermost
    calls of each tactic, for which that is kept."""
    found = rows_of(
        connection,
        f"""SELECT c.session, c.quarter_hour, k.tactic, k.model, k.agent,
            {", ".join(f"ifnull(c.{name}, 0)" for name in SUMS)}
            FROM session_costs AS c CROSS JOIN cost_cells AS k ON k.cell = c.cell
            WHERE c.session""",
        sessions,
    )
    rows = [(*row[:5], row[5:]) for row in found]
    return convert_rows(rows, list[SessionCost], "session_costs")


def sum_costs(connection: sqlite3.Connection, wanted: Filter) -> Sums:
    """What the sessions that a filter selects cost with all below them."""
    found: dict[Keys, Sums] = {}
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
        sql = f"SELECT {_SUMMED} FROM costs AS c WHERE {where}"
        _gather(found, (), connection.execute(sql, parameters).fetchone())
    elif wanted.only_tag is not None:
        _gather(found, (), _of_tag(connection, wanted, *wanted.only_tag)[1:])
    else:
        for selection in selections(connection, wanted):
            selection.source += " CROSS JOIN session_totals AS c ON c.session = f.session"
            sql = f"SELECT {_SUMMED} {selection.sql}"
            _gather(found, (), connection.execute(sql, selection.parameters).fetchone())
    return found.get((), NOTHING)


def _of_tag(
    connection: sqlite3.Connection, wanted: Filter, name: str, value: str
) -> tuple[int, ...]:
    """How many roots have a tag, and what they cost."""
    where, parameters = _scope(wanted, "c.name", "c.partition", storable(name))
    sql = (
        f"SELECT ifnull(sum(sessions), 0), {_SUMMED} FROM tag_costs AS c"
        f" WHERE {where} AND c.value = ?"
    )
    row = connection.execute(sql, (*parameters, storable(value))).fetchone()
    return convert_rows(row, tuple[int, ...], "tag_costs")


class DividedQuarter(Exception):
    """A day of the zone asked for begins within a quarter of an hour in which something was spent,
    so that no rows can say what each day cost; the events can."""


def sum_costs_by(
    connection: sqlite3.Connection,
    wanted: Filter,
    by: Sequence[Group],
    zone: dt.tzinfo = dt.UTC,
) -> dict[Keys, Sums]:
    """The same by the tactic, model, agent and day that each attempt counts for, and by the tags
    of the selected sessions.

    zone: of the days. Raises DividedQuarter.
    """
    columns = {group.column for group in by}
    by_day, in_cube = "day" in columns, wanted.answered_by_cube and "" not in columns
    if in_cube and (not by_day or zone is dt.UTC):
        return _in_cube(connection, wanted, by)
    # Numbers are sorted faster than names, and there are few of them to be named.
    by_cell = not columns <= {"day", ""}
    cells = _cells(connection) if by_cell else {}
    fields = [*compress(("c.cell", "day_of_quarter(c.quarter_hour)"), (by_cell, by_day))]
    if by_day:
        _tell_days(connection, zone)
    if in_cube:
        found = _by_quarters(connection, wanted, fields)
    else:
        source = " CROSS JOIN session_costs AS c ON c.session = f.session"
        found = _rows(connection, wanted, source, fields, tags_of(by), _SUMMED)
    groups: dict[Keys, Sums] = {}
    for tags, row in found:
        of = cells.get(row[0], {}) if by_cell else {}
        if by_day:
            of = of | {"day": shown_day(row[len(fields) - 1])}
        keys = [tags.get(group.tag) if group.tag else of.get(group.column, "") for group in by]
        _gather(groups, (*keys,), row[len(fields) :])
    return groups


def _tell_days(connection: sqlite3.Connection, zone: dt.tzinfo) -> None:
    """Give SQL the function `day_of_quarter`. The days are looked up before, so that no code of
    Python's runs within a query: Ctrl-C would end there as an error of SQLite's."""
    days = DaysOfQuarters(zone)
    sql = "SELECT DISTINCT quarter_hour FROM quarter_hour_costs WHERE scope = ''"
    for (quarter,) in connection.execute(sql):
        days[quarter]
    if days.divided:
        raise DividedQuarter
    connection.create_function("day_of_quarter", 1, days.get, deterministic=True)


def _by_quarters(
    connection: sqlite3.Connection, wanted: Filter, fields: Sequence[str]
) -> Iterator[tuple[dict[str, str], Row]]:
    """The sums of the cube by some fields, from its quarters of an hour."""
    where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
    places = ", ".join(str(place) for place in range(1, len(fields) + 1))
    sql = (
        f"SELECT {', '.join(fields)}, {_SUMMED} FROM quarter_hour_costs AS c WHERE {where}"
        f" GROUP BY {places}"
    )
    for row in connection.execute(sql, parameters):
        yield {}, row


def _in_cube(
    connection: sqlite3.Connection, wanted: Filter, by: Sequence[Group]
) -> dict[Keys, Sums]:
    where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
    columns = ", ".join(f"c.{group.column}" for group in by)
    sql = f"SELECT {columns}, {_SUMMED} FROM costs AS c WHERE {where} GROUP BY {columns}"
    groups: dict[Keys, Sums] = {}
    for row in connection.execute(sql, parameters):
        keys = [
            shown_day(key) if group.column == "day" else str(key)
            for group, key in zip(by, row, strict=False)
        ]
        _gather(groups, (*keys,), row[len(by) :])
    return groups


def _cells(connection: sqlite3.Connection) -> dict[object, dict[str, str]]:
    found = connection.execute("SELECT cell, tactic, model, agent FROM cost_cells").fetchall()
    cells = convert_rows(found, list[tuple[object, str, str, str]], "cost_cells")
    return {cell: dict(zip(COLUMNS, names, strict=False)) for cell, *names in cells}


def sum_costs_by_tags(
    connection: sqlite3.Connection, wanted: Filter, names: Sequence[str]
) -> tuple[dict[Keys, Sums], dict[Keys, int]]:
    """The same by the values of some tags, and the sessions of each."""
    if len(names) == 1 and wanted.answered_by_cube and wanted.tactic is None:
        return _by_tag_in_cube(connection, wanted, names[0])
    groups: dict[Keys, Sums] = {}
    counts: dict[Keys, int] = {}
    source = " LEFT JOIN session_totals AS c ON c.session = f.session"
    for tags, row in _rows(connection, wanted, source, (), names, f"count(*), {_SUMMED}"):
        keys = (*map(tags.get, names),)
        counts[keys] = counts.get(keys, 0) + convert_rows(row[0], int, "facets")
        _gather(groups, keys, row[1:])
    return groups, counts


def tags_of(by: Iterable[Group]) -> list[str]:
    """The names of the tags, among some groups."""
    return [group.tag for group in by if group.tag]


def _rows(
    connection: sqlite3.Connection,
    wanted: Filter,
    source: str,
    fields: Sequence[str],
    tags: Sequence[str],
    sums: str,
) -> Iterator[tuple[dict[str, str], Row]]:
    """The sums over the sessions selected by some fields, each with the tags among `tags` that its
    sessions have; there may be several of the same tags.

    source: joins what is summed to the sessions.
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
                numbers = (*numbers_in(of_root), *numbers_in(own))  # its own come first
                yield dict(named[number] for number in numbers if number in named), (*rest,)


def _tags_among(
    connection: sqlite3.Connection, rows: Sequence[Row], names: Sequence[str]
) -> dict[int, tuple[str, str]]:
    """The tags of some names among the facets that rows begin with, by the facets' numbers."""
    numbers = {number for row in rows for facets in row[:2] for number in numbers_in(facets)}
    found = rows_of(connection, "SELECT facet, name, value FROM tag_names WHERE facet", numbers)
    tags = convert_rows(found, list[tuple[int, str, str]], "tag_names")
    return {facet: (name, value) for facet, name, value in tags if name in names}


def _by_tag_in_cube(
    connection: sqlite3.Connection, wanted: Filter, name: str
) -> tuple[dict[Keys, Sums], dict[Keys, int]]:
    where, parameters = _scope(wanted, "c.name", "c.partition", name)
    groups: dict[Keys, Sums] = {}
    counts: dict[Keys, int] = {}
    sql = f"SELECT value, sum(sessions), {_SUMMED} FROM tag_costs AS c WHERE {where} GROUP BY 1"
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


def _scope(wanted: Filter, scope: str, partition: str, value: str) -> tuple[str, list[object]]:
    if wanted.partition is None:
        return f"{scope} = ?", [value]
    return f"{scope} = ? AND {partition} = ?", [value, storable(wanted.partition)]


def _gather(groups: dict[Keys, Sums], keys: Keys, sums: Iterable[object]) -> None:
    """Add sums to those of a group."""
    before = groups.get(keys, NOTHING)
    found = convert_rows([*sums], list[int], "costs")
    groups[keys] = {name: before[name] + value for name, value in zip(SUMS, found, strict=True)}
