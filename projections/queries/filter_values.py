"""Reads the values that lists can be filtered by, to suggest them to who types a filter."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows

_MOST = 100  # values of each kind
_VALUES_OF_TAG = 20
_READ = 2_000  # rows that are read to find the most frequent values


class FilterValues(msgspec.Struct, frozen=True):
    """Values that sessions of a store have; of many, some.

    Attributes:
        tactics: Paths of tactics, the most frequent first.
        models: Names of models that were requested.
        agents: Names of agents that called a model.
        tags: Tags as KEY=VALUE, by name.
        annotations: Names of annotations.
    """

    tactics: list[str]
    models: list[str]
    agents: list[str]
    tags: list[str]
    annotations: list[str]


def filter_values(connection: RowsConnection) -> FilterValues:
    """Read the values of a store; it takes a few milliseconds, however many there are.

    Args:
        connection: A connection to the database of the rows.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    tags = (
        f"{name}={value}"
        for name in _distinct(connection, _TAG_NAME)
        for value in _texts(connection, _FACETS, "tag", name, _VALUES_OF_TAG)
    )
    return FilterValues(
        tactics=_texts(connection, _FACETS, "tactic", "", _MOST),
        models=_texts(connection, _CELLS.format("model"), _MOST),
        agents=_texts(connection, _CELLS.format("agent"), _MOST),
        tags=[tag for tag, _ in zip(tags, range(_MOST), strict=False)],
        annotations=_distinct(connection, _ANNOTATION_NAME),
    )


_FACETS = (
    "SELECT value FROM (SELECT value, roots + children AS sessions FROM facet_numbers"
    f" WHERE kind = ? AND name = ? LIMIT {_READ}) AS f ORDER BY sessions DESC, value LIMIT ?"
)
_CELLS = (
    "SELECT DISTINCT {0} FROM (SELECT {0} FROM cost_cells"
    f" LIMIT {_READ}) AS c WHERE {{0}} <> '' ORDER BY {{0}} LIMIT ?"
)
_TAG_NAME = "SELECT min(name) FROM facet_numbers WHERE kind = 'tag' AND name > ?"
_ANNOTATION_NAME = "SELECT min(name) FROM annotations WHERE name > ?"


def _texts(connection: RowsConnection, sql: str, *parameters: object) -> list[str]:
    rows = connection.execute(sql, parameters).fetchall()
    return convert_rows([row[0] for row in rows], list[str], "facet_numbers")


def _distinct(connection: RowsConnection, next_name: str) -> list[str]:
    """Look the names up one after another, so that of each only one row is read."""
    return [name for name, _ in zip(_names(connection, next_name), range(_MOST), strict=False)]


def _names(connection: RowsConnection, next_name: str) -> Iterator[str]:
    name = ""
    while True:
        found = connection.execute(next_name, (name,)).fetchone()[0]
        if found is None:
            return
        name = convert_rows(found, str, "facet_numbers")
        yield name
