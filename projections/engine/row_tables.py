"""What each database engine does in its own way to keep the tables of views.

One module for each engine has these functions: `sqlite.tables` and `postgres.tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from lllm.projections.database import RowsConnection, RowsDatabase, Statement
from lllm.projections.engine.postgres import tables as postgres_tables
from lllm.projections.engine.sqlite import tables as sqlite_tables
from lllm.projections.view import Key, Table, View


class RowTables(Protocol):
    """Makes, shows and removes tables; the functions in `sqlite.tables` say how."""

    def create_checkpoints(self, connection: RowsConnection) -> None:
        """Create the table of checkpoints, if it is missing."""

    def create_views_off(self, connection: RowsConnection) -> None:
        """Create the table of the views that are turned off, if it is missing."""

    def move_checkpoints_aside(self, database: RowsDatabase) -> None:
        """Make an empty table of checkpoints in place of a damaged one."""

    def create_tables(self, connection: RowsConnection, view: View, generation: int) -> None:
        """Create the empty tables for one generation of a view."""

    def write_changes(self, connection: RowsConnection, statements: Iterable[Statement]) -> None:
        """Write the last changes of the caller's transaction; it may be committed with them."""

    def fill_tables(self, database: RowsDatabase, statements: Iterable[Statement]) -> None:
        """Write changes to tables that are not shown yet."""

    def finish_tables(self, database: RowsDatabase, view: View, generation: int) -> None:
        """Make the indexes that were not made before the tables of a view were filled."""

    def index_statements(
        self, index: str, gone: Mapping[Key, str], added: Mapping[Key, str], /
    ) -> Iterator[Statement]:
        """Make the statements that change a search index."""

    def remove_deleted_words(self, database: RowsDatabase, table: Table, generation: int) -> None:
        """Remove deleted words from a search index where it still has them, hidden."""

    def index_differences(
        self, connection: RowsConnection, table: Table, generations: Sequence[int]
    ) -> Iterator[tuple[str, dict[str, int] | None, dict[str, int] | None]]:
        """Compare two generations of a search index."""

    def show_generation(self, connection: RowsConnection, view: View, generation: int) -> None:
        """Make the plain names of a view's tables refer to one generation."""

    def make_readable(self, connection: RowsConnection, views: Sequence[View]) -> None:
        """Make the SQL views for people, of all views that are shown."""

    def table_names(self, database: RowsDatabase) -> list[str]:
        """List the names of all tables beside which a new one is made."""

    def drop_generation(self, database: RowsDatabase, table: Table, generation: int) -> None:
        """Drop one generation of a table and of its search index."""


def row_tables(database: RowsDatabase) -> RowTables:
    """Find the functions for the engine of a database.

    Args:
        database: The database of the rows.

    Returns:
        The module of its engine.
    """
    return postgres_tables if database.engine == "postgres" else sqlite_tables
