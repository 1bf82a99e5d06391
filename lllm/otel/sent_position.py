"""Stores, beside the rows, up to which position of the log each receiver has everything.

The table belongs to no view, so a rebuild leaves it as it is. If it is lost with its file, the
whole log is sent again, with the same ids.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Annotated

import msgspec

from lllm.events.concurrency.locks import ProcessLock
from lllm.events.errors import LogReadOnly
from lllm.otel.delivery import Counts
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.checkpoints import has_table

TABLE = "otel_sent"
# Both engines understand these types.
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (name text PRIMARY KEY, position bigint, spans bigint,"
    " logs bigint, rejected bigint, time bigint)"
)
_COLUMNS = ("position", "spans", "logs", "rejected", "time")

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class SentPosition(msgspec.Struct, frozen=True):
    """What one receiver has of a store.

    Attributes:
        name: The name of the receiver: its address, unless the user gave another one.
        position: The last position of the log up to which it has everything.
        spans: The number of spans that it accepted so far, repeated ones included.
        logs: The number of log records that it accepted so far.
        rejected: The number of spans and log records that it refused for good.
        time: When it last accepted something, nanoseconds UTC; 0 for never.
    """

    name: str
    position: _Count = 0
    spans: _Count = 0
    logs: _Count = 0
    rejected: _Count = 0
    time: _Count = 0

    def after(self, position: int, counts: Counts) -> SentPosition:
        """Make what is stored after more was sent.

        Args:
            position: The position up to which everything is sent now.
            counts: What was sent since this.

        Returns:
            The new entry.
        """
        sent = counts.spans + counts.logs
        return SentPosition(
            self.name, position, self.spans + counts.spans, self.logs + counts.logs,
            self.rejected + counts.rejected, time.time_ns() if sent else self.time,
        )  # fmt: skip


def read_sent(database: RowsDatabase, name: str | None = None) -> list[SentPosition]:
    """Read what receivers have of a store.

    Args:
        database: The database of the rows.
        name: The name of a receiver; None for all.

    Returns:
        The entries, by name. An entry that lllm never writes is left out.
    """
    if not has_table(database, TABLE):
        return []
    rows = database.query(f"SELECT name, {', '.join(_COLUMNS)} FROM {TABLE} ORDER BY name")
    found = []
    for row in rows:
        values = dict(zip(SentPosition.__struct_fields__, row, strict=True))
        try:
            entry = msgspec.convert(values, SentPosition)
        except msgspec.ValidationError:
            continue
        if name is None or entry.name == name:
            found.append(entry)
    return found


def store_sent(database: RowsDatabase, sent: SentPosition) -> None:
    """Store what a receiver has of a store.

    Args:
        database: The database of the rows.
        sent: The entry, which replaces the earlier one of the same name.

    Raises:
        LogReadOnly: The rows can't be written.
        LogError: The table can't be written.
    """
    if database.read_only:
        raise LogReadOnly(
            f"{database.path} was opened for reading only, and what was sent is remembered in it."
        )
    values = (sent.name, *(getattr(sent, column) for column in _COLUMNS))
    with database.write() as connection:
        assert connection is not None
        connection.execute(_CREATE)
        connection.execute(
            f"INSERT INTO {TABLE} (name, {', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT (name) DO UPDATE SET "
            f"{', '.join(f'{column} = excluded.{column}' for column in _COLUMNS)}",
            values,
        )


def sender_lock(database: RowsDatabase, name: str) -> ProcessLock | None:
    """Make the lock that lets one process at a time send to a receiver.

    Args:
        database: The database of the rows.
        name: The name of the receiver.

    Returns:
        The lock, which the caller closes; None if no other process reaches the rows.

    Raises:
        LogUnavailable: The lock can't be opened.
    """
    return database.process_lock(f"otel-{sha256(name.encode()).hexdigest()[:16]}.lock")
