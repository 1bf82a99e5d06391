"""Removes the tables of generations of rows that are no longer used."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lllm.projections.engine.projector import Projector
from lllm.projections.engine.row_tables import row_tables
from lllm.projections.view import Table, View


def remove_unused(projector: Projector, views: Sequence[View]) -> None:
    """Drop every generation of some views that is not in use.

    Args:
        projector: The projector of the rows, which knows the generations in use.
        views: The views whose old tables are removed.

    Raises:
        LogError: The tables can't be removed.
    """
    tables = row_tables(projector.database)
    found, names = projector.checkpoints(), tables.table_names(projector.database)
    for view in views:
        shown = found[view.name].generation if view.name in found else 0
        for table in view.tables:
            for number in generations_in(table, names):
                if number != shown:
                    tables.drop_generation(projector.database, table, number)


def generations_in(table: Table, names: Sequence[str]) -> list[int]:
    """Find the existing generations of a table.

    Args:
        table: The table of a view.
        names: The names of all tables in the file.

    Returns:
        The numbers of the generations.
    """
    pattern = re.compile(rf"{table.name}_v(\d+)", re.ASCII)
    return [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
