"""Chooses where the rows of a store are kept: beside its log, or in memory.

They are kept in memory if the log has no place for them, and if the log can't be written and has
no rows that this version of lllm can use. Then they are made from the whole log at each start.
"""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.backend import KeepsRows, LogBackend, OnServer, may_read
from lllm.events.backends.location import MEMORY
from lllm.events.backends.sqlite.database import Database
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.checkpoints import can_go_on
from lllm.projections.view import View


def rows_database(backend: LogBackend, views: Sequence[View]) -> RowsDatabase:
    """Open the database for the rows of some views.

    If the log has no place for them, they are kept in memory; also if the log is read-only and its
    rows are missing or stale, because they can't be rebuilt in the file.

    Args:
        backend: The backend of the log.
        views: All views of the store.

    Returns:
        The database for the rows.

    Raises:
        LogError: The database can't be opened.
    """
    if isinstance(backend, KeepsRows):
        database = backend.rows_database()
        if not database.read_only or can_go_on(database, views):
            return database
    elif isinstance(backend, OnServer) and may_read(backend):
        from lllm.projections.engine.postgres.database import PostgresRows

        at = backend.server
        rows = PostgresRows(at.conninfo, at.schema, at.shown, read_only=backend.read_only)
        if not rows.read_only or can_go_on(rows, views):
            return rows
        rows.close()
    return rows_in_memory()


def rows_in_memory() -> Database:
    """Make an empty database for rows in memory."""
    return Database(":memory:", lock=None, version=1)


def are_in_memory(rows: RowsDatabase) -> bool:
    """True if rows are kept in memory.

    Args:
        rows: The database of the rows.
    """
    return rows.path == MEMORY
