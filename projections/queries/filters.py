"""Which sessions a filter selects, as the FROM and WHERE of a SELECT.

The rarest facet is walked, newest first, and the others are looked up: tags all at once in the row
that a session has of its tags, which is the quickest to find, the rest by key. The order of the
joins is fixed (CROSS JOIN), since only we know which facet is rarest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.engine.row_changes import convert_rows
from lllm.projections.view import storable
from lllm.projections.views.tags import NO_PARTITION, Facet


class Filter(msgspec.Struct, frozen=True):
    """Which sessions are meant; every condition that is given must hold.

    after, before: nanoseconds UTC of the start; `after` is included, `before` is not.
    """

    tags: dict[str, str] = {}
    state: str | None = None
    tactic: str | None = None
    partition: str | None = None
    after: int | None = None
    before: int | None = None

    @property
    def answered_by_cube(self) -> bool:
        """Whether sums over all sessions of a tactic and partition are what is asked for."""
        return not self.tags and self.state is None and self.after is None and self.before is None

    @property
    def only_tag(self) -> tuple[str, str] | None:
        """The one tag that all of the filter is, but for a partition; None for other filters."""
        if len(self.tags) != 1 or self.tactic is not None:
            return None
        others = (self.state, self.after, self.before)
        return next(iter(self.tags.items())) if others == (None, None, None) else None


class Selection(msgspec.Struct):
    """A SELECT's FROM and WHERE, and their parameters. root: the column that tells the root of
    each session."""

    source: str
    where: list[str]
    parameters: list[object]
    root: str = "f.session"

    def add(self, condition: str, *parameters: object) -> None:
        self.where.append(condition)
        self.parameters += parameters

    @property
    def sql(self) -> str:
        return f"FROM {self.source} WHERE {' AND '.join(self.where)}"


def selections(connection: sqlite3.Connection, wanted: Filter) -> Iterator[Selection]:
    """The roots that are meant, and with a tactic its outermost calls below other roots too."""
    facets: list[Facet] = [
        ("tag", storable(name), storable(value)) for name, value in wanted.tags.items()
    ]
    if wanted.state is not None:
        facets.append(("state", "", wanted.state))
    if wanted.partition is not None and wanted.partition != NO_PARTITION:
        facets.append(("partition", "", storable(wanted.partition)))
    if wanted.tactic is not None:
        facets.append(("tactic", "", storable(wanted.tactic)))
    scopes = [_among_roots(connection, facets)]
    if wanted.tactic is not None:
        scopes.append(_among_children(connection, facets))
    for selection in scopes:
        if selection is None:
            continue
        if wanted.after is not None:
            selection.add("f.started >= ?", wanted.after)
        if wanted.before is not None:
            selection.add("f.started < ?", wanted.before)
        if wanted.partition == NO_PARTITION:
            selection.add(_WITHOUT_PARTITION, NO_PARTITION)
        yield selection


def _among_roots(connection: sqlite3.Connection, facets: Sequence[Facet]) -> Selection | None:
    if not facets:
        return Selection(_ROOTS, ["1"], [])
    numbers = {facet: numbered(connection, facet) for facet in facets}
    if not all(found.roots for found in numbers.values()):
        return None
    rarest, *others = sorted(numbers, key=lambda facet: numbers[facet].roots)
    selection = Selection("facets AS f", ["f.facet = ?"], [numbers[rarest].facet])
    session = "f.session"
    tags = [numbers[facet].facet for facet in others if facet[0] == "tag"]
    if tags:
        session = "own.session"  # what is looked up by it comes behind the tags
        selection.source += " CROSS JOIN session_tags AS own ON own.session = f.session"
        for number in tags:
            selection.add("instr(own.facets, ?)", f" {number} ")
    for facet in others:
        if facet[0] != "tag":
            selection.add(_HAS.format("facets", "f.started", session), numbers[facet].facet)
    return selection


def _among_children(connection: sqlite3.Connection, facets: Sequence[Facet]) -> Selection | None:
    """Children have the tags of their root, but for those that they have themselves."""
    tags = [facet for facet in facets if facet[0] == "tag"]
    numbers = [numbered(connection, facet) for facet in facets if facet not in tags]
    if not all(found.children for found in numbers):
        return None
    numbers.sort(key=lambda found: found.children)
    selection = Selection("child_facets AS f", ["f.facet = ?"], [numbers[0].facet], "f.root")
    for found in numbers[1:]:
        selection.add(_HAS.format("child_facets", "f.started", "f.session"), found.facet)
    own = _HAS.format("child_facets", "f.started", "f.session")
    of_root = _HAS.format("facets", "f.root_started", "f.root")
    for facet in tags:
        tag, named = numbered(connection, facet), numbered(connection, ("named", facet[1], ""))
        if not (tag.roots or tag.children):
            return None
        selection.add(f"({own} OR ({of_root} AND NOT {own}))", tag.facet, tag.facet, named.facet)
    return selection


_ROOTS = "(SELECT number AS session, started FROM sessions WHERE parent IS NULL) AS f"
_HAS = (
    "EXISTS (SELECT 1 FROM {} AS other"
    " WHERE other.facet = ? AND other.started = {} AND other.session = {})"
)
_WITHOUT_PARTITION = "(SELECT partition FROM sessions WHERE number = f.session) = ?"


@warm_msgspec
class Numbered(NamedTuple):
    """The number of a facet, and how many roots and children have it; 0 where nobody ever had."""

    facet: int
    roots: int
    children: int


def numbered(connection: sqlite3.Connection, facet: Facet) -> Numbered:
    row = connection.execute(
        "SELECT facet, roots, children FROM facet_numbers"
        " WHERE kind = ? AND name = ? AND value = ?",
        facet,
    ).fetchone()
    return Numbered(0, 0, 0) if row is None else convert_rows(row, Numbered, "facet_numbers")
