"""Says where rows are kept: by the log itself, if it has a place for them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lllm.events.backends.sqlite.database import Database


@runtime_checkable
class KeepsRows(Protocol):
    """A log that has a place for the rows of projections; for others they live in memory.

    Attributes:
        rows_in_log: True if the events stand in the same database, so that one look at it tells
            whether there is anything new.
    """

    rows_in_log: bool

    def rows_database(self) -> Database:
        """Open the database that the rows are kept in.

        Returns:
            The same database at every call.
        """
