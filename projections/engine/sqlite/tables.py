"""Makes and removes the SQLite tables of views, one set for each generation of rows.

The names of a view's tables contain the number of their generation (`sessions_v3`). An SQL view
with the plain name selects from the current generation, so that a rebuild can fill the next one
beside it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence

from lllm.events.backends.sqlite.unreadable_positions import is_unreadable_page
from lllm.events.errors import LogError
from lllm.projections.database import RowsConnection, RowsDatabase, Statement
from lllm.projections.engine.sqlite.search_index import (
    create_index,
    drop_index,
    finish_index,
)
from lllm.projections.engine.sqlite.search_index import index_differences as index_differences
from lllm.projections.engine.sqlite.search_index import index_statements as index_statements
from lllm.projections.engine.sqlite.search_index import (
    remove_deleted_words as remove_deleted_words,
)
from lllm.projections.readable_view import readable_views_of
from lllm.projections.table_names import generation_table
from lllm.projections.view import Table, View

_logger = logging.getLogger("lllm.store")

_PART = 2_000  # rows that are written in one transaction if they need not become visible together
_CHUNK = 5_000  # rows that are removed in one transaction
_DROPPED = 100_000  # a table of at most so many rows is dropped at once, in some 20 ms

_CHECKPOINTS = """CREATE TABLE IF NOT EXISTS checkpoints (
    view TEXT PRIMARY KEY, version INTEGER, generation INTEGER, position INTEGER, known TEXT
) WITHOUT ROWID"""
_TYPES = {"JSON": "TEXT"}  # SQLite would make numbers of some texts
_VIEWS_OFF = "CREATE TABLE IF NOT EXISTS views_off (view TEXT PRIMARY KEY) WITHOUT ROWID"


def create_checkpoints(connection: RowsConnection) -> None:
    """Create the table of checkpoints, if it is missing.

    Args:
        connection: A connection with an open transaction.
    """
    connection.execute(_CHECKPOINTS)


def create_views_off(connection: RowsConnection) -> None:
    """Create the table of the views that are turned off, if it is missing.

    Args:
        connection: A connection with an open transaction.
    """
    connection.execute(_VIEWS_OFF)


def move_checkpoints_aside(database: RowsDatabase) -> None:
    """Make an empty table of checkpoints in place of a damaged one.

    SQLite can't delete a table that it can't read, so the old one is renamed.

    Args:
        database: The database of the rows.

    Raises:
        LogError: The table can't be renamed.
    """
    with database.write() as connection:
        assert connection is not None
        names = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        numbers = itertools.count(1)
        aside = next(name for n in numbers if (name := f"checkpoints_damaged_{n}") not in names)
        connection.execute(f"ALTER TABLE checkpoints RENAME TO {aside}")
        create_checkpoints(connection)


def create_tables(connection: RowsConnection, view: View, generation: int) -> None:
    """Create the empty tables and indexes for one generation of a view.

    Args:
        connection: A connection with an open transaction.
        view: The view that the tables belong to.
        generation: The number of the new generation, from 1.
    """
    for table in view.tables:
        name = generation_table(table.name, generation)
        columns = ", ".join(
            f"{column} {_TYPES.get(kind, kind)}" for column, kind in table.columns.items()
        )
        # A single integer key is the rowid itself; with another key, the table is stored in its
        # order.
        rowid = len(table.key) == 1 and table.columns[table.key[0]] == "INTEGER"
        connection.execute(
            f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))"
            + ("" if rowid else " WITHOUT ROWID")
        )
        for index in table.indexes:
            if not index.postgres:
                connection.execute(index.create(name))
        if table.search is not None:
            create_index(connection, table, generation)


def write_changes(connection: RowsConnection, statements: Iterable[Statement]) -> None:
    """Write the changes of a batch.

    Args:
        connection: A connection with an open transaction.
        statements: The statements and their parameters.
    """
    for sql, rows in statements:
        connection.executemany(sql, rows)


def fill_tables(database: RowsDatabase, statements: Iterable[Statement]) -> None:
    """Write changes to tables that are not shown yet, in several short transactions.

    Args:
        database: The database of the rows.
        statements: The statements and their parameters.
    """
    for sql, rows in statements:
        for start in range(0, len(rows), _PART):
            with database.write() as connection:
                assert connection is not None
                connection.executemany(sql, rows[start : start + _PART])


def finish_tables(database: RowsDatabase, view: View, generation: int) -> None:
    """Merge the search indexes of the tables of a view, which have been filled.

    Args:
        database: The database of the rows.
        view: The view that the tables belong to.
        generation: The generation that was filled.

    Raises:
        LogError: An index can't be written.
    """
    for table in view.tables:
        if table.search is not None:
            finish_index(database, table, generation)


def show_generation(connection: RowsConnection, view: View, generation: int) -> None:
    """Make the plain names of a view's tables refer to one generation.

    Args:
        connection: A connection with an open transaction.
        view: The view that the tables belong to.
        generation: The generation to show.
    """
    for table in view.tables:
        connection.execute(f"DROP VIEW IF EXISTS {table.name}")
        connection.execute(
            f"CREATE VIEW {table.name} AS SELECT * FROM {generation_table(table.name, generation)}"
        )


def make_readable(connection: RowsConnection, views: Sequence[View]) -> None:
    """Make the SQL views for people as this version of lllm defines them.

    They select from the plain names, which refer to the shown generation of other views, too.

    Args:
        connection: A connection with an open transaction.
        views: The views of the store; those that are not shown are left out.
    """
    names: dict[str, set[str]] = {"table": set(), "view": set()}
    for kind, name in connection.execute("SELECT type, name FROM sqlite_master"):
        names.setdefault(str(kind), set()).add(str(name))
    tables = names["table"]
    for view in views:
        if not {table.name for table in view.tables} <= names["view"]:
            continue
        for readable in readable_views_of(view):
            if readable.name in tables or (readable.needs and readable.needs not in tables):
                continue  # a table of the user's, which is none of our business
            connection.execute(f"DROP VIEW IF EXISTS {readable.name}")
            connection.execute(f"CREATE VIEW {readable.name} AS {readable.select}")


def table_names(database: RowsDatabase) -> list[str]:
    """List the names of all tables in the file of the rows.

    Args:
        database: The database of the rows.

    Returns:
        The names.
    """
    sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return [str(row[0]) for row in database.query(sql)]


def drop_generation(database: RowsDatabase, table: Table, generation: int) -> None:
    """Drop one generation of a table; if a damaged page prevents this, it stays, unused.

    Args:
        database: The database of the rows.
        table: The table of a view.
        generation: The generation to drop.

    Raises:
        LogError: The table can't be removed.
    """
    name = generation_table(table.name, generation)
    try:
        if table.search is not None:
            drop_index(database, table, generation)
        _drop(database, name)
    except LogError as error:
        if not is_unreadable_page(error):
            raise
        _logger.warning("the old table %s stays in the file: a page of it is damaged", name)


def _drop(database: RowsDatabase, name: str) -> None:
    """Drop a table in chunks, so that no other writer waits long."""
    columns = _key_of(database, name)
    key, marks = ", ".join(columns), ", ".join("?" * len(columns))
    many = f"SELECT 1 FROM {name} LIMIT 1 OFFSET {_DROPPED}"
    bound = f"SELECT {key} FROM {name} ORDER BY {key} LIMIT 1 OFFSET {_CHUNK}"
    while database.query(many):
        with database.write() as connection:
            assert connection is not None
            first_kept = connection.execute(bound).fetchone()
            connection.execute(f"DELETE FROM {name} WHERE ({key}) < ({marks})", first_kept)
    with database.write() as connection:
        assert connection is not None
        connection.execute(f"DROP TABLE {name}")


def _key_of(database: RowsDatabase, name: str) -> list[str]:
    """Read the key columns of a stored table, which an older version may have defined."""
    rows = database.query(f"SELECT name FROM pragma_table_info('{name}') WHERE pk ORDER BY pk")
    return [str(row[0]) for row in rows]
