"""Turns a filter into SQL: the FROM and WHERE of a SELECT of the selected sessions.

The rarest facet is read, newest first, and the others are looked up: all tags at once in the row
with the session's tags, which is the fastest, and the rest by key. The order of the joins is fixed
(CROSS JOIN), because the database does not know which facet is the rarest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lllm.projections.database import RowsConnection
from lllm.projections.dialect import ALL, dialect_of
from lllm.projections.queries.facet_numbers import facet_number
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.inherited_tags_sql import among_children
from lllm.projections.queries.selection import HAS_FACET, Selection
from lllm.projections.queries.session_conditions_sql import conditions_sql
from lllm.projections.view import storable
from lllm.projections.views.tags import NO_PARTITION, Facet

BROAD = 100_000  # sessions

# the source of a selection of all root sessions
ROOTS = (
    "(SELECT number AS session, started FROM sessions"
    " WHERE parent IS NULL AND replays IS NULL) AS f"
)


def selections(connection: RowsConnection, wanted: Filter) -> Iterator[Selection]:
    """Make the SQL selections for a filter.

    Args:
        connection: A connection to the database of the rows; it reads how many sessions each facet
            has.
        wanted: The filter of the sessions.

    Yields:
        A selection of root sessions and, for a filter with a tactic, one of its outermost calls
        below other roots. No session is in both. A selection that is certainly empty is left out.
    """
    facets: list[Facet] = [
        ("tag", storable(name), storable(value)) for name, value in wanted.tags.items()
    ]
    if wanted.state is not None:
        facets.append(("state", "", wanted.state))
    if wanted.partition is not None and wanted.partition != NO_PARTITION:
        facets.append(("partition", "", storable(wanted.partition)))
    if wanted.tactic is not None:
        facets.append(("tactic", "", storable(wanted.tactic)))
    scopes = [
        _among_roots(connection, facets),
        None if wanted.tactic is None else among_children(connection, facets),
        _among_replays(connection, wanted) if wanted.replays else None,
    ]
    for selection in filter(None, scopes):
        _add_conditions(connection, selection, wanted)
        yield selection


def _add_conditions(connection: RowsConnection, selection: Selection, wanted: Filter) -> None:
    """Add what holds for sessions of every kind."""
    if wanted.after is not None:
        selection.add("f.started >= ?", wanted.after)
    if wanted.before is not None:
        selection.add("f.started < ?", wanted.before)
    for name, value in wanted.annotations.items():
        if value is None:
            selection.add(_ANNOTATED.format(""), name)
        else:
            selection.add(_ANNOTATED.format("AND value = ?"), name, value)
    dialect = dialect_of(connection)
    for condition, *parameters in conditions_sql(dialect, wanted.conditions, selection.root):
        selection.add(condition, *parameters)
    if wanted.partition == NO_PARTITION:
        selection.add(_WITHOUT_PARTITION, NO_PARTITION)


def _among_roots(connection: RowsConnection, facets: Sequence[Facet]) -> Selection | None:
    if not facets:
        return Selection(ROOTS, ["true"], [], is_broad=True, size=ALL)
    numbers = {facet: facet_number(connection, facet) for facet in facets}
    if not all(found.roots for found in numbers.values()):
        return None
    rarest, *others = sorted(numbers, key=lambda facet: numbers[facet].roots)
    selection = Selection("facets AS f", ["f.facet = ?"], [numbers[rarest].facet])
    selection.size = numbers[rarest].roots
    selection.is_broad = selection.size >= BROAD
    session = "f.session"
    tags = [numbers[facet].facet for facet in others if facet[0] == "tag"]
    if tags:
        session = "own.session"  # look-ups by this key come after those of the tags
        selection.source += " CROSS JOIN session_tags AS own ON own.session = f.session"
        has = dialect_of(connection).contains("own.facets")
        for number in tags:
            selection.add(has, f" {number} ")
    for facet in others:
        if facet[0] != "tag":
            selection.add(HAS_FACET.format("facets", "f.started", session), numbers[facet].facet)
    return selection


def _among_replays(connection: RowsConnection, wanted: Filter) -> Selection:
    """Select replays by checking each; they are few and have no facets."""
    selection = Selection(_REPLAYS, ["true"], [])
    for column, value in (
        ("tactic", wanted.tactic), ("state", wanted.state), ("partition", wanted.partition)
    ):  # fmt: skip
        if value is not None:
            selection.add(f"f.{column} = ?", storable(value))
    for name, value in wanted.tags.items():
        facet = facet_number(connection, ("tag", storable(name), storable(value))).facet
        selection.add(dialect_of(connection).contains(_OWN_TAGS), f" {facet} ")
    return selection


_REPLAYS = (
    "(SELECT number AS session, started, tactic, state, partition FROM sessions"
    " WHERE replays IS NOT NULL AND parent IS NULL) AS f"
)
_OWN_TAGS = "(SELECT facets FROM session_tags WHERE session = f.session)"
_ANNOTATED = "f.session IN (SELECT session FROM annotations WHERE name = ? {})"
_WITHOUT_PARTITION = "(SELECT partition FROM sessions WHERE number = f.session) = ?"
