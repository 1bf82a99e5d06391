"""What the sessions of a filter cost: sums from the cube where the question allows it, else from
the cells and totals of the sessions selected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import sub
from typing import Literal, TypeVar

from lllm.events.database import Row
from lllm.projections.costs import SUMS
from lllm.projections.rows import rows_of, typed
from lllm.projections.selection import Filter, selections
from lllm.projections.tags import numbers_in
from lllm.projections.view import storable

GroupBy = Literal["tactic", "model", "agent", "day"]
GROUPS: tuple[GroupBy, ...] = ("tactic", "model", "agent", "day")

_SUMMED = ", ".join(f"ifnull(sum(c.{name}), 0)" for name in SUMS)
Sums = dict[str, int]
NOTHING: Sums = dict.fromkeys(SUMS, 0)
K = TypeVar("K", str, str | None)


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


def sum_costs(connection: sqlite3.Connection, wanted: Filter) -> Sums:
    """What the sessions that a filter selects cost with all below them."""
    found: dict[str, Sums] = {}
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
        sql = f"SELECT {_SUMMED} FROM costs AS c WHERE {where}"
        _gather(found, "", connection.execute(sql, parameters).fetchone())
    elif wanted.only_tag is not None:
        _gather(found, "", _of_tag(connection, wanted, *wanted.only_tag)[1:])
    else:
        for selection in selections(connection, wanted):
            selection.source += " CROSS JOIN session_totals AS c ON c.session = f.session"
            sql = f"SELECT {_SUMMED} {selection.sql}"
            _gather(found, "", connection.execute(sql, selection.parameters).fetchone())
    return found.get("", NOTHING)


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
    return typed(row, tuple[int, ...], "tag_costs")


def sum_costs_by(
    connection: sqlite3.Connection, wanted: Filter, group_by: GroupBy
) -> dict[str, Sums]:
    """The same by the tactic, model, agent or day that each attempt counts for."""
    groups: dict[str, Sums] = {}
    if wanted.answered_by_cube:
        where, parameters = _scope(wanted, "c.scope", "c.partition", storable(wanted.tactic or ""))
        sql = f"SELECT c.{group_by}, {_SUMMED} FROM costs AS c WHERE {where} GROUP BY 1"
        for key, *sums in connection.execute(sql, parameters):
            _gather(groups, _shown(group_by, key), sums)
        return groups
    # Numbers are sorted faster than names, and there are few of them to be named.
    names = None if group_by == "day" else _cells(connection, group_by)
    column = "day" if names is None else "cell"
    for selection in selections(connection, wanted):
        selection.source += " CROSS JOIN session_costs AS c ON c.session = f.session"
        sql = f"SELECT c.{column}, {_SUMMED} {selection.sql} GROUP BY 1"
        for key, *sums in connection.execute(sql, selection.parameters):
            _gather(groups, _shown(group_by, key) if names is None else names.get(key, ""), sums)
    return groups


def _cells(connection: sqlite3.Connection, column: GroupBy) -> dict[object, str]:
    found = connection.execute(f"SELECT cell, {column} FROM cost_cells").fetchall()
    return dict(typed(found, list[tuple[object, str]], "cost_cells"))


def _shown(group_by: GroupBy, key: object) -> str:
    if group_by != "day" or not isinstance(key, int):
        return str(key)
    return f"{key // 10_000}-{key // 100 % 100:02}-{key % 100:02}"


def sum_costs_by_tag(
    connection: sqlite3.Connection, wanted: Filter, name: str
) -> tuple[dict[str | None, Sums], dict[str | None, int]]:
    """The same by the value of a tag (None: sessions without it), and the sessions of each."""
    if wanted.answered_by_cube and wanted.tactic is None:
        return _by_tag_in_cube(connection, wanted, storable(name))
    rows: list[Row] = []
    for selection in selections(connection, wanted):
        selection.source += (
            " LEFT JOIN session_tags AS own ON own.session = f.session"
            f" LEFT JOIN session_tags AS above ON above.session = {selection.root}"
            " LEFT JOIN session_totals AS c ON c.session = f.session"
        )
        sql = f"SELECT above.facets, own.facets, count(*), {_SUMMED} {selection.sql} GROUP BY 1, 2"
        rows += connection.execute(sql, selection.parameters)
    # A facet's number belongs to one tag: what has the same facets has the same value.
    values = _values_of(connection, rows, storable(name))
    groups: dict[str | None, Sums] = {}
    counts: dict[str | None, int] = {}
    for of_root, own, sessions, *sums in rows:
        numbers = [*numbers_in(of_root), *numbers_in(own)]
        value = next((values[number] for number in reversed(numbers) if number in values), None)
        counts[value] = counts.get(value, 0) + typed(sessions, int, "facets")
        _gather(groups, value, sums)
    return groups, counts


def _values_of(connection: sqlite3.Connection, rows: Sequence[Row], name: str) -> dict[int, str]:
    """The values of a tag among the facets that some rows begin with, by the facets' numbers."""
    numbers = {number for row in rows for facets in row[:2] for number in numbers_in(facets)}
    found = rows_of(connection, "SELECT facet, name, value FROM tag_names WHERE facet", numbers)
    tags = typed(found, list[tuple[int, str, str]], "tag_names")
    return {facet: value for facet, named, value in tags if named == name}


def _by_tag_in_cube(
    connection: sqlite3.Connection, wanted: Filter, name: str
) -> tuple[dict[str | None, Sums], dict[str | None, int]]:
    where, parameters = _scope(wanted, "c.name", "c.partition", name)
    groups: dict[str | None, Sums] = {}
    counts: dict[str | None, int] = {}
    sql = f"SELECT value, sum(sessions), {_SUMMED} FROM tag_costs AS c WHERE {where} GROUP BY 1"
    for found, number, *sums in connection.execute(sql, parameters):
        value, sessions = typed((found, number), tuple[str, int], "tag_costs")
        if sessions:
            counts[value] = sessions
            _gather(groups, value, sums)
    total = sum_costs(connection, wanted)
    without = count_sessions(connection, wanted) - sum(counts.values())
    if without:
        counts[None] = without
        tagged = [sum(found[column] for found in groups.values()) for column in SUMS]
        _gather(groups, None, map(sub, total.values(), tagged))
    return groups, counts


def _scope(wanted: Filter, scope: str, partition: str, value: str) -> tuple[str, list[object]]:
    if wanted.partition is None:
        return f"{scope} = ?", [value]
    return f"{scope} = ? AND {partition} = ?", [value, storable(wanted.partition)]


def _gather(groups: dict[K, Sums], key: K, sums: Iterable[object]) -> None:
    """Add sums to those of a group."""
    before = groups.get(key, NOTHING)
    found = typed([*sums], list[int], "costs")
    groups[key] = {name: before[name] + value for name, value in zip(SUMS, found, strict=True)}
