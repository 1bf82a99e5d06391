"""Reads from their rows what was judged of sessions, for lists of sessions."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows, rows_by_key


@warm_msgspec
class AnnotationRow(NamedTuple):
    """The row of one annotation; the table `annotations` explains its columns."""

    session: int
    name: str
    step: int
    said_by: str
    value: str
    comment: str | None
    time: int


def annotations_of(connection: RowsConnection, sessions: Collection[int]) -> list[AnnotationRow]:
    """Read the annotations of sessions.

    Args:
        connection: A connection to the database of the rows.
        sessions: The numbers of the sessions.

    Returns:
        The rows, in the order in which they were said last.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found = rows_by_key(
        connection,
        "SELECT session, name, step, said_by, value, comment, time FROM annotations WHERE session",
        sessions,
    )
    return sorted(convert_rows(found, list[AnnotationRow], "annotations"), key=lambda row: row.time)
