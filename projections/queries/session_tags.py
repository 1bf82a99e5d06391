"""Reads the tags of sessions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows, rows_by_key
from lllm.projections.views.tags import numbers_in


class HasRoot(Protocol):
    """A row that has the numbers of a session and of its root session."""

    @property
    def number(self) -> int:
        """The number of the session."""

    @property
    def root(self) -> int:
        """The number of the root session; a root's own number."""


def tags_of(connection: RowsConnection, rows: Sequence[HasRoot]) -> dict[int, dict[str, str]]:
    """Read the tags of sessions, including those inherited from their roots.

    Args:
        connection: A connection to the database of the rows.
        rows: The rows of the sessions.

    Returns:
        The tags by the number of the session: those of its root, overridden by its own.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    own = own_tags(connection, {row.number for row in rows} | {row.root for row in rows})
    return {
        row.number: own[row.number] if row.number == row.root else own[row.root] | own[row.number]
        for row in rows
    }


def own_tags(connection: RowsConnection, sessions: Collection[int]) -> dict[int, dict[str, str]]:
    """Read the tags of sessions, without those of their roots.

    Args:
        connection: A connection to the database of the rows.
        sessions: The numbers of the sessions.

    Returns:
        The tags by the number of the session.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    select = "SELECT session, facets FROM session_tags WHERE session"
    found = rows_by_key(connection, select, sessions)
    facets = [
        (session, numbers_in(written))
        for session, written in convert_rows(found, list[tuple[int, object]], "session_tags")
    ]
    tags = tags_by_number(connection, {number for _, numbers in facets for number in numbers})
    own: dict[int, dict[str, str]] = {session: {} for session in sessions}
    for session, numbers in facets:
        own[session] = dict(sorted(tags[number] for number in numbers if number in tags))
    return own


def tags_by_number(
    connection: RowsConnection, numbers: Collection[int]
) -> dict[int, tuple[str, str]]:
    """Find the names and values of tags by their numbers.

    Args:
        connection: A connection to the database of the rows.
        numbers: The numbers of facets; those that are not tags are ignored.

    Returns:
        The name and value of each tag, by its number.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found = rows_by_key(connection, "SELECT facet, name, value FROM tag_names WHERE facet", numbers)
    tags = convert_rows(found, list[tuple[int, str, str]], "tag_names")
    return {number: (name, value) for number, name, value in tags}
