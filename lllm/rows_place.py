"""Where the rows of a store are kept: in its log's own database, or in memory."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.database import Database
from lllm.events.log import KeepsRows, LogBackend
from lllm.projections.checkpoints import can_go_on
from lllm.projections.view import View


def rows_database(backend: LogBackend, views: Sequence[View]) -> Database:
    """The database for the rows of some views.

    A log without a place for them gets one in memory; so does one that may only be read, where its
    rows are missing or stale, since they can't be built anew in their place.
    """
    if isinstance(backend, KeepsRows):
        database = backend.rows_database()
        if not database.read_only or can_go_on(database, views):
            return database
    return Database(":memory:", lock=None, version=1)
