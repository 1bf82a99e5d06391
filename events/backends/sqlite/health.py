"""Reports the size, format and files of an SQLite log."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lllm.events.errors import LogError
from lllm.events.health import Health

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.backend import SQLiteBackend


def health_of(log: SQLiteBackend, head: int) -> Health:
    """Make the report of `ReportsHealth` for an SQLite log.

    Args:
        log: The log to report on.
        head: The highest position, which is the number of events.

    Returns:
        The report.
    """
    format_ = None
    with suppress(LogError, ValueError):
        format_ = int(str(log.database.query("PRAGMA user_version")[0][0]))
    path = None if isinstance(log.path, str) else log.path
    return Health(
        kind="sqlite",
        path=path,
        format=format_,
        durability=log.durability,
        bytes=None if path is None else os.stat(path).st_size,
        events=head,
        unit="event",
        files=() if path is None else (path,),
        locks=None if path is None else path.with_name(f"{path.name}-lllm"),
    )
