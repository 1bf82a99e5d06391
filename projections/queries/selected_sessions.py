"""Tells, while the log is read, which events belong to the sessions that a filter selects.

Only the numbers of the selected sessions are kept, eight bytes each. For other sessions, the row is
read when an event of the session is met, and cached for a while.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.queries import session_tags
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.session_filter_sql import selections
from lllm.projections.queries.sessions import SessionRow

_REMEMBERED = 10_000  # cached sessions; more than run at the same time


class SelectedSession(NamedTuple):
    """How the events of a session are counted in a sum.

    Attributes:
        tactic: The path of the session's own tactic.
        tags: The tags of the selected session that it is, or is below.
    """

    tactic: str
    tags: dict[str, str]


class SelectedSessions:
    """The sessions that a filter selects at this moment, and all sessions below them.

    Args:
        database: The database of the rows.
        connection: The connection with which the selected sessions are read, once.
        wanted: The filter of the sessions.
        with_tags: True to read the tags of the sessions, too.

    Attributes:
        numbers: The numbers of the selected sessions, sorted.
        place: A function that returns the SelectedSession of a session id; None if the session is
            neither selected nor below one that is. Recent results are cached.
    """

    def __init__(
        self,
        database: RowsDatabase,
        connection: RowsConnection,
        wanted: Filter,
        *,
        with_tags: bool,
    ) -> None:
        found = array("q")
        for selection in selections(connection, wanted):
            rows = connection.execute(f"SELECT f.session {selection.sql}", selection.parameters)
            found.extend(row[0] for row in rows)
        self.numbers = array("q", sorted(found))
        self._database = database
        self._with_tags = with_tags
        self.place = lru_cache(maxsize=_REMEMBERED)(self._place)

    def _place(self, session_id: str) -> SelectedSession | None:
        with self._database.snapshot() as connection:
            row = session_queries.find_session(connection, session_id)
            top = None if row is None else self._above(connection, row)
            if row is None or top is None:
                return None
            tags = session_tags.tags_of(connection, [top])[top.number] if self._with_tags else {}
            return SelectedSession(row.tactic, tags)

    def _above(self, connection: RowsConnection, row: SessionRow) -> SessionRow | None:
        """Find the selected session that a session is, or is below."""
        # No selected session is below another, so the first that is found is the only one.
        found: SessionRow | None = row
        if row.number not in self and row.root in self:
            return session_queries.numbered_session(connection, row.root)
        while found is not None and found.number not in self:
            above = found.parent
            if above is None or above >= found.number:  # a forged row may be its own ancestor
                return None
            found = session_queries.numbered_session(connection, above)
        return found

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self.numbers, number)
        return at < len(self.numbers) and self.numbers[at] == number

    def families(self) -> Iterator[SessionRow]:
        """Read the selected sessions and all sessions below them.

        Yields:
            Their rows, one selected session with those below it after another.

        Raises:
            ViewError: A row is not as lllm writes it.
        """
        for number in self.numbers:
            with self._database.snapshot() as connection:
                row = session_queries.numbered_session(connection, number)
                family = [] if row is None else session_queries.family(connection, row)
            yield from family
