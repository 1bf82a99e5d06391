"""Removes the tables of generations of rows that are no longer used."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from lllm.events.backends.sqlite.unreadable_positions import is_unreadable_page
from lllm.events.errors import LogError
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.search_index import drop_index
from lllm.projections.table_names import generation_table
from lllm.projections.view import Table, View

_logger = logging.getLogger("lllm.store")

_CHUNK = 5_000  # rows that are removed in one transaction
_DROPPED = 100_000  # a table of at most so many rows is dropped at once, in some 20 ms


def remove_unused(projector: Projector, views: Sequence[View]) -> None:
    """Drop every generation of some views that is not in use.

    Args:
        projector: The projector of the rows, which knows the generations in use.
        views: The views whose old tables are removed.

    Raises:
        LogError: The tables can't be removed.
    """
    found, names = projector.checkpoints(), table_names(projector)
    for view in views:
        shown = found[view.name].generation if view.name in found else 0
        for table in view.tables:
            for number in generations_in(table, names):
                if number != shown:
                    _drop_if_possible(projector, table, number)


def table_names(projector: Projector) -> list[str]:
    """List the names of all tables in the file of the rows.

    Args:
        projector: The projector of the rows.

    Returns:
        The names.
    """
    sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return [str(row[0]) for row in projector.database.query(sql)]


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


def _drop_if_possible(projector: Projector, table: Table, generation: int) -> None:
    """Drop a table; if a damaged page prevents this, the table stays, unused."""
    name = generation_table(table.name, generation)
    try:
        if table.search is not None:
            drop_index(projector.database, table, generation)
        _drop(projector, name)
    except LogError as error:
        if not is_unreadable_page(error):
            raise
        _logger.warning("the old table %s stays in the file: a page of it is damaged", name)


def _drop(projector: Projector, name: str) -> None:
    """Drop a table in chunks, so that no other writer waits long."""
    columns = _key_of(projector, name)
    key, marks = ", ".join(columns), ", ".join("?" * len(columns))
    many = f"SELECT 1 FROM {name} LIMIT 1 OFFSET {_DROPPED}"
    bound = f"SELECT {key} FROM {name} ORDER BY {key} LIMIT 1 OFFSET {_CHUNK}"
    while projector.database.query(many):
        with projector.database.write() as connection:
            assert connection is not None
            first_kept = connection.execute(bound).fetchone()
            connection.execute(f"DELETE FROM {name} WHERE ({key}) < ({marks})", first_kept)
    with projector.database.write() as connection:
        assert connection is not None
        connection.execute(f"DROP TABLE {name}")


def _key_of(projector: Projector, name: str) -> list[str]:
    """Read the key columns of a stored table, which an older version may have defined."""
    rows = projector.database.query(
        f"SELECT name FROM pragma_table_info('{name}') WHERE pk ORDER BY pk"
    )
    return [str(row[0]) for row in rows]
