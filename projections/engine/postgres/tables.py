"""Makes and removes the PostgreSQL tables of views, one set for each generation of rows.

As in SQLite, a view with the plain name selects from the current generation. It is replaced and
not dropped where its columns allow that, so that grants and other views on it stay.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from lllm.events.backends.postgres.server_session import MAKING_LOCK
from lllm.events.errors import LogError
from lllm.projections.database import RowsConnection, RowsDatabase, Statement
from lllm.projections.engine.postgres.literals import literal
from lllm.projections.engine.postgres.readable import drop_dependent
from lllm.projections.engine.postgres.readable import make_readable as make_readable
from lllm.projections.engine.postgres.search_index import (
    create_index,
    finishing_statements,
    tables_of_index,
)
from lllm.projections.engine.postgres.search_index import index_differences as index_differences
from lllm.projections.engine.postgres.search_index import index_statements as index_statements
from lllm.projections.table_names import generation_table
from lllm.projections.view import Table, View

_logger = logging.getLogger("lllm.store")

# Texts are compared by their bytes, as in SQLite, whatever the language of the database is.
_TYPES = {
    "INTEGER": "bigint", "TEXT": 'text COLLATE "C"', "REAL": "double precision", "BLOB": "bytea",
    "JSON": "jsonb",
}  # fmt: skip
_UNAWAITED: Statement = ("SET LOCAL synchronous_commit = off", [()])
_COMMIT: Statement = ("COMMIT", [()])
_INDEX_MEMORY = "128MB"  # for making an index
_MAKING = f"SELECT pg_advisory_xact_lock({MAKING_LOCK}, hashtext('lllm'))"


class _Bulk(Protocol):
    """What a connection to PostgreSQL does besides; see `PostgresConnection`."""

    def execute_all(self, statements: Sequence[Statement]) -> None:
        """Run statements without waiting between them."""

    def execute_long(self, sql: str) -> None:
        """Run a statement that takes as long as it takes."""


def _bulk(connection: RowsConnection) -> _Bulk:
    return cast(_Bulk, connection)  # `connection` imports psycopg, which is an extra


def begin_making(connection: RowsConnection) -> None:
    """Wait for others that make schemas or tables: of two that make the same one, one would fail.

    Args:
        connection: A connection with an open transaction, until whose end others wait.
    """
    connection.execute(_MAKING)


def create_checkpoints(connection: RowsConnection) -> None:
    """Create the table of checkpoints, if it is missing.

    Args:
        connection: A connection with an open transaction.
    """
    begin_making(connection)
    connection.execute(
        'CREATE TABLE IF NOT EXISTS checkpoints (view text COLLATE "C" PRIMARY KEY,'
        " version bigint, generation bigint, position bigint, known text)"
    )


def create_views_off(connection: RowsConnection) -> None:
    """Create the table of the views that are turned off, if it is missing.

    Args:
        connection: A connection with an open transaction.
    """
    begin_making(connection)
    connection.execute('CREATE TABLE IF NOT EXISTS views_off (view text COLLATE "C" PRIMARY KEY)')


def move_checkpoints_aside(database: RowsDatabase) -> None:
    """Make an empty table of checkpoints in place of one that can't be read.

    Args:
        database: The database of the rows.

    Raises:
        LogError: The table can't be dropped.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute("DROP TABLE checkpoints")
        create_checkpoints(connection)


def create_tables(connection: RowsConnection, view: View, generation: int) -> None:
    """Create the empty tables for one generation of a view; `finish_tables` makes most indexes.

    Args:
        connection: A connection with an open transaction.
        view: The view that the tables belong to.
        generation: The number of the new generation, from 1.
    """
    for table in view.tables:
        if table.search is not None:
            create_index(connection, table, generation)
        name = generation_table(table.name, generation)
        columns = ", ".join(f"{column} {_TYPES[kind]}" for column, kind in table.columns.items())
        connection.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))")
        for index in table.indexes:
            if index.unique:
                connection.execute(index.create(name))


def write_changes(connection: RowsConnection, statements: Iterable[Statement]) -> None:
    """Write the changes of a batch and commit them, without waiting between the statements.

    The commit does not wait for the disk or for standbys: rows and checkpoint come from the log,
    and can be made again.

    Args:
        connection: A connection with an open transaction.
        statements: The statements and their parameters.
    """
    _bulk(connection).execute_all([_UNAWAITED, *statements, _COMMIT])


def fill_tables(database: RowsDatabase, statements: Iterable[Statement]) -> None:
    """Write changes to tables that are not shown yet.

    Args:
        database: The database of the rows.
        statements: The statements and their parameters.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_UNAWAITED[0])
        for sql, rows in statements:
            connection.executemany(sql, rows)


def finish_tables(database: RowsDatabase, view: View, generation: int) -> None:
    """Make the indexes of the tables of a view, which have been filled.

    Args:
        database: The database of the rows.
        view: The view that the tables belong to.
        generation: The generation that was filled.

    Raises:
        LogError: An index can't be made.
    """
    with database.write() as connection:
        assert connection is not None
        bulk = _bulk(connection)
        connection.execute(f"SET LOCAL maintenance_work_mem = '{_INDEX_MEMORY}'")
        for table in view.tables:
            name = generation_table(table.name, generation)
            for index in table.indexes:
                if not index.unique:
                    bulk.execute_long(index.create(name))
            # else the planner knows nothing of it for a minute
            bulk.execute_long(f"ANALYZE {name}")
            if table.search is not None:
                for sql in finishing_statements(table, generation):
                    bulk.execute_long(sql)


def remove_deleted_words(database: RowsDatabase, table: Table, generation: int) -> None:
    """Do nothing: deleted rows of an index are hidden like all others, until the vacuum.

    Args:
        database: The database of the rows.
        table: A table with `search`.
        generation: The generation of its rows.
    """


def show_generation(connection: RowsConnection, view: View, generation: int) -> None:
    """Make the plain names of a view's tables refer to one generation.

    Args:
        connection: A connection with an open transaction.
        view: The view that the tables belong to.
        generation: The generation to show.
    """
    for table in view.tables:
        name = generation_table(table.name, generation)
        shown = _columns(connection, table.name)
        if shown and shown != _columns(connection, name):
            drop_dependent(connection, table.name)
            connection.execute(f"DROP VIEW {table.name}")
        connection.execute(f"CREATE OR REPLACE VIEW {table.name} AS SELECT * FROM {name}")
        connection.execute(f"COMMENT ON VIEW {table.name} IS {literal(table.about)}")


def _columns(connection: RowsConnection, name: str) -> list[tuple[str, str]]:
    """Read the names and types of the columns of a table or view; empty if there is none."""
    return connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (name,),
    ).fetchall()


def table_names(database: RowsDatabase) -> list[str]:
    """List the names of all tables in the schema of the rows.

    Args:
        database: The database of the rows.

    Returns:
        The names.
    """
    sql = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema"
    return [str(row[0]) for row in database.query(sql)]


def drop_generation(database: RowsDatabase, table: Table, generation: int) -> None:
    """Drop one generation of a table; if something still uses it, it stays, unused.

    Args:
        database: The database of the rows.
        table: The table of a view.
        generation: The generation to drop.
    """
    name = generation_table(table.name, generation)
    try:
        with database.write() as connection:
            assert connection is not None
            if table.search is not None:
                connection.execute(
                    f"DROP TABLE IF EXISTS {', '.join(tables_of_index(table, generation))}"
                )
            connection.execute(f"DROP TABLE IF EXISTS {name}")
    except LogError as error:
        _logger.warning("the old table %s stays in the database: %s", name, error)
