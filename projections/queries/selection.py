"""The FROM and WHERE of a SELECT of sessions or calls, which a filter becomes."""

from __future__ import annotations

import msgspec

# SQL that is true for a session with a facet; the table, start and session are filled in. With the
# OFFSET, PostgreSQL looks each session up. It would make a join of it, take start and session for
# independent, and read and sort all sessions because it expects a single one.
HAS_FACET = (
    "EXISTS (SELECT 1 FROM {} AS other"
    " WHERE other.facet = ? AND other.started = {} AND other.session = {} LIMIT 1 OFFSET 0)"
)


class Selection(msgspec.Struct):
    """The FROM and WHERE of a SELECT, to which a query adds joins and conditions.

    Attributes:
        source: The SQL after FROM; `f.session` and `f.started` are the number and the start of each
            session.
        where: The conditions, all of which must hold.
        parameters: The values of the placeholders, in their order.
        root: The column with the number of the session's root.
        is_broad: True if it may have so many sessions that it is slow to read all of them.
        size: The greatest number of sessions that it can have, where that is known; else 0.
    """

    source: str
    where: list[str]
    parameters: list[object]
    root: str = "f.session"
    is_broad: bool = False
    size: int = 0

    def add(self, condition: str, *parameters: object) -> None:
        """Add a condition that the sessions must also meet.

        Args:
            condition: The SQL of the condition, with a question mark for each parameter.
            *parameters: The values of the question marks.
        """
        self.where.append(condition)
        self.parameters += parameters

    @property
    def sql(self) -> str:
        """The SQL after the columns of the SELECT."""
        return f"FROM {self.source} WHERE {' AND '.join(self.where)}"
