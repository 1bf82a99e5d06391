"""Turns a filter into SQL that finds child sessions, which inherit the tags of their root.

A child has no facet for a tag of its root. It is found by its tactic, and has a tag if it or its
root has that facet. A value of its own for the tag takes the place of the root's.
"""

from __future__ import annotations

from collections.abc import Sequence

from lllm.projections.database import RowsConnection
from lllm.projections.queries.facet_numbers import facet_number
from lllm.projections.queries.selection import HAS_FACET, Selection
from lllm.projections.views.tags import Facet


def among_children(connection: RowsConnection, facets: Sequence[Facet]) -> Selection | None:
    """Make the selection of child sessions for the facets of a filter.

    Args:
        connection: A connection to the database of the rows.
        facets: The facets that all selected sessions must have; one of them is not a tag.

    Returns:
        The selection; None if no child session has all of the facets.
    """
    tags = [facet for facet in facets if facet[0] == "tag"]
    numbers = [facet_number(connection, facet) for facet in facets if facet not in tags]
    if not all(found.children for found in numbers):
        return None
    numbers.sort(key=lambda found: found.children)
    selection = Selection("child_facets AS f", ["f.facet = ?"], [numbers[0].facet], "f.root")
    for found in numbers[1:]:
        selection.add(HAS_FACET.format("child_facets", "f.started", "f.session"), found.facet)
    own = HAS_FACET.format("child_facets", "f.started", "f.session")
    of_root = HAS_FACET.format("facets", "f.root_started", "f.root")
    for facet in tags:
        tag = facet_number(connection, facet)
        named = facet_number(connection, ("named", facet[1], ""))
        if not (tag.roots or tag.children):
            return None
        selection.add(f"({own} OR ({of_root} AND NOT {own}))", tag.facet, tag.facet, named.facet)
    return selection
