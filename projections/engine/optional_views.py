"""Remembers in the store which optional views it has.

The search index is an optional view: it takes much space, and not every user wants it. A store has
an optional view if it has a checkpoint for it. New stores get all views. In an older store, the
next rebuild makes the view, unless it was turned off. A table of the store records which views are
turned off. The copies of payloads as jsonb are a view on request: no store gets them by itself.

All processes ask the store at each step, so one that was open before keeps up what another turned
on, and writes nothing more to what another turned off.
"""

from __future__ import annotations

from lllm.projections.database import RowsDatabase
from lllm.projections.engine.checkpoints import has_table
from lllm.projections.engine.row_tables import row_tables


def views_off(database: RowsDatabase) -> set[str]:
    """Read which views are turned off.

    Args:
        database: The database of the rows.

    Returns:
        The names of the views.

    Raises:
        LogError: The table can't be read.
    """
    if not has_table(database, "views_off"):
        return set()
    return {str(name) for (name,) in database.query("SELECT view FROM views_off")}


def turn_on(database: RowsDatabase, view: str) -> None:
    """Allow rebuilds to make the rows of a view that was turned off.

    Args:
        database: The database of the rows.
        view: The name of the view.

    Raises:
        LogError: The table can't be written.
    """
    if view in views_off(database):
        with database.write() as connection:
            assert connection is not None
            connection.execute("DELETE FROM views_off WHERE view = ?", (view,))


def turn_off(database: RowsDatabase, view: str, shown: list[str]) -> None:
    """Remove the checkpoint of a view, so that its rows are no longer updated.

    Args:
        database: The database of the rows.
        view: The name of the view.
        shown: The names of its SQL views: first those that select from others.

    Raises:
        LogError: The table can't be written.
    """
    with database.write() as connection:
        assert connection is not None
        row_tables(database).create_views_off(connection)
        connection.execute("INSERT INTO views_off VALUES (?) ON CONFLICT DO NOTHING", (view,))
        connection.execute("DELETE FROM checkpoints WHERE view = ?", (view,))
        for name in shown:
            connection.execute(f"DROP VIEW IF EXISTS {name}")
