"""Remembers in the store which optional views it has.

The search index is an optional view: it takes much space, and not every user wants it. A store has
an optional view if it has a checkpoint for it. New stores get all views. In an older store, the
next rebuild makes the view, unless it was turned off. A table of the store records which views are
turned off.
"""

from __future__ import annotations

from lllm.events.backends.sqlite.database import Database

_TABLE = "CREATE TABLE IF NOT EXISTS views_off (view TEXT PRIMARY KEY) WITHOUT ROWID"


def views_off(database: Database) -> set[str]:
    """Read which views are turned off.

    Args:
        database: The database of the rows.

    Returns:
        The names of the views.

    Raises:
        LogError: The table can't be read.
    """
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = 'views_off'"):
        return set()
    return {str(name) for (name,) in database.query("SELECT view FROM views_off")}


def turn_on(database: Database, view: str) -> None:
    """Allow rebuilds to make the rows of a view again.

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


def turn_off(database: Database, view: str, tables: list[str]) -> None:
    """Remove the checkpoint of a view, so that its rows are no longer updated.

    Args:
        database: The database of the rows.
        view: The name of the view.
        tables: The names of its tables, which are unused afterwards.

    Raises:
        LogError: The table can't be written.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_TABLE)
        connection.execute("INSERT OR IGNORE INTO views_off VALUES (?)", (view,))
        connection.execute("DELETE FROM checkpoints WHERE view = ?", (view,))
        for table in tables:
            connection.execute(f"DROP VIEW IF EXISTS {table}")
