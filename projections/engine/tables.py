"""Names and creates the SQLite tables of views, one set for each generation of rows.

The names of a view's tables contain the number of their generation (`sessions_v3`). An SQL view
with the plain name selects from the current generation, so that a rebuild can fill the next one
beside it.
"""

from __future__ import annotations

import sqlite3

from lllm.projections.engine.search_index import create_index
from lllm.projections.table_names import generation_table
from lllm.projections.view import View


def create_tables(connection: sqlite3.Connection, view: View, generation: int) -> None:
    """Create the empty tables and indexes for one generation of a view.

    Args:
        connection: A connection with an open transaction.
        view: The view that the tables belong to.
        generation: The number of the new generation, from 1.
    """
    for table in view.tables:
        name = generation_table(table.name, generation)
        columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
        # A single integer key is the rowid itself; with another key, the table is stored in its
        # order.
        rowid = len(table.key) == 1 and table.columns[table.key[0]] == "INTEGER"
        connection.execute(
            f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))"
            + ("" if rowid else " WITHOUT ROWID")
        )
        for index in table.indexes:
            connection.execute(
                f"CREATE {'UNIQUE ' if index.unique else ''}INDEX "
                f"{name}_by_{'_'.join(index.columns)} ON {name} ({', '.join(index.columns)})"
                + (f" WHERE {index.where}" if index.where else "")
            )
        if table.search is not None:
            create_index(connection, table, generation)


def show_generation(connection: sqlite3.Connection, view: View, generation: int) -> None:
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
