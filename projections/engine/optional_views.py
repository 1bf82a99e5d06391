"""Remembers in the store which optional views it has.

A view that costs much and that not everybody wants is optional: the search index. A store has it
where it has a checkpoint of it. New stores get all views. Of a store from before, the next rebuild
makes it, unless it was turned off; that is kept in the store too, in a table of its own.
"""

from __future__ import annotations

from lllm.events.backends.sqlite.database import Database

_TABLE = "CREATE TABLE IF NOT EXISTS views_off (view TEXT PRIMARY KEY) WITHOUT ROWID"


def views_off(database: Database) -> set[str]:
    """Read which views are turned off.

    Args:
        database: Where the rows are.

    Returns:
        The names of the views.

    Raises:
        LogError: The table can't be read.
    """
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = 'views_off'"):
        return set()
    return {str(name) for (name,) in database.query("SELECT view FROM views_off")}


def turn_on(database: Database, view: str) -> None:
    """Let rebuilds make the rows of a view again.

    Args:
        database: Where the rows are.
        view: The name of the view.

    Raises:
        LogError: That can't be written.
    """
    if view in views_off(database):
        with database.write() as connection:
            assert connection is not None
            connection.execute("DELETE FROM views_off WHERE view = ?", (view,))


def turn_off(database: Database, view: str, tables: list[str]) -> None:
    """Forget that a view has rows, so that nobody keeps them up any more.

    Args:
        database: Where the rows are.
        view: The name of the view.
        tables: The names of its tables, which are then unused.

    Raises:
        LogError: That can't be written.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_TABLE)
        connection.execute("INSERT OR IGNORE INTO views_off VALUES (?)", (view,))
        connection.execute("DELETE FROM checkpoints WHERE view = ?", (view,))
        for table in tables:
            connection.execute(f"DROP VIEW IF EXISTS {table}")
