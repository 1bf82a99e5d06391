"""Reads what moving sessions to an archive needs, and notes how far that is.

The table `archivals` does not belong to a view, because it describes files and not events.
"""

from __future__ import annotations

from collections.abc import Collection

from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.dialect import dialect_of
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.queries.sessions import SessionRow, session_rows_where

_TABLE = """CREATE TABLE IF NOT EXISTS archivals (
    id INTEGER PRIMARY KEY CHECK (id = 0), file TEXT
)"""


def begun_archive(database: RowsDatabase) -> str | None:
    """Read which archive file is being written, or was when a process died.

    Args:
        database: The database of the rows.

    Returns:
        The path of the file; None if no archiving is begun.
    """
    with database.snapshot() as connection:
        if not connection.execute(dialect_of(connection).has_table(), ("archivals",)).fetchone():
            return None
        row = connection.execute("SELECT file FROM archivals").fetchone()
    return None if row is None or row[0] is None else str(row[0])


def note_archive(database: RowsDatabase, file: str | None) -> None:
    """Note which archive file is being written.

    Args:
        database: The database of the rows.
        file: The path of the file; None when its sessions have left the store, or all stay.

    Raises:
        LogUnavailable: The note can't be stored.
    """
    with database.write() as connection:
        assert connection is not None
        connection.execute(_TABLE)
        connection.execute("DELETE FROM archivals")
        connection.execute("INSERT INTO archivals VALUES (0, ?)", (file,))


def archived_in(connection: RowsConnection, file: str) -> list[SessionRow]:
    """Read the sessions whose events are in an archive file.

    Args:
        connection: A connection to the database of the rows.
        file: The path of the file, as it was written.

    Returns:
        The rows of the sessions, those below others included.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    return session_rows_where(connection, "s.archive = ? AND s.archive IS NOT NULL", (file,))


def any_archived(connection: RowsConnection) -> bool:
    """True if any session is in an archive.

    Args:
        connection: A connection to the database of the rows.

    Returns:
        False if all sessions are in the store.
    """
    sql = "SELECT 1 FROM sessions WHERE archive IS NOT NULL LIMIT 1"
    return connection.execute(sql).fetchone() is not None


def definitions_of(connection: RowsConnection, numbers: Collection[int]) -> dict[int, list[str]]:
    """Find the definitions that sessions use.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of the sessions.

    Returns:
        The streams of the definitions, by the number of the session.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    select = "SELECT session, definition FROM definition_uses WHERE session"
    rows = convert_rows(
        rows_by_key(connection, select, numbers), list[tuple[int, str]], "definition_uses"
    )
    found: dict[int, list[str]] = {}
    for session, definition in sorted(rows):
        found.setdefault(session, []).append(definition)
    return found
