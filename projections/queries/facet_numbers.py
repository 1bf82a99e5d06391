"""Looks up the number of a facet, such as a tag, and how many sessions have it."""

from __future__ import annotations

from typing import NamedTuple

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows
from lllm.projections.view import storable
from lllm.projections.views.tags import Facet


@warm_msgspec
class FacetNumber(NamedTuple):
    """The number of a facet, and how many root and child sessions have it."""

    facet: int
    roots: int
    children: int


def facet_number(connection: RowsConnection, facet: Facet) -> FacetNumber:
    """Look up the number of a facet, and how many sessions have it.

    Args:
        connection: A connection to the database of the rows.
        facet: The kind, name and value of the facet, in the form that rows store.

    Returns:
        The numbers; zeros if no session has the facet.

    Raises:
        ViewError: The row is not as lllm writes it.
    """
    row = connection.execute(
        "SELECT facet, roots, children FROM facet_numbers"
        " WHERE kind = ? AND name = ? AND value = ?",
        facet,
    ).fetchone()
    return FacetNumber(0, 0, 0) if row is None else convert_rows(row, FacetNumber, "facet_numbers")


def tag_number(connection: RowsConnection, name: str, value: str) -> FacetNumber:
    """Look up the number of a tag by the user's name and value; see `facet_number`."""
    return facet_number(connection, ("tag", storable(name), storable(value)))
