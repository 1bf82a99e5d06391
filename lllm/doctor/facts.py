"""What a look at a store finds: facts, gathered by `lllm.doctor.examine`, and remarks, which
`lllm.doctor.checks` makes of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from lllm.doctor.file_systems import StoreLocation
from lllm.events.health import Unit

Severity = Literal["ok", "note", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")  # the worst first


class Remark(msgspec.Struct, frozen=True):
    """One thing that is as it should be, or is not. about: the part of the store. advice: what to
    do, "" for nothing."""

    severity: Severity
    about: str
    says: str
    advice: str = ""


class Gap(msgspec.Struct, frozen=True):
    """Events that could not be written, and were counted. Times are nanoseconds UTC."""

    position: int
    lost: int
    first_time: int
    last_time: int
    reason: str


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The log.

    kind: as "sqlite" or "jsonl", or the class of another backend. path: None for a log in memory.
    bytes: on the disk; an SQLite file holds the rows too. events: how many; for SQLite the highest
    position, which counts them; None where counting them was not asked for. gaps, erased: None
    where looking for them was not. held: events that wait in this process. torn_bytes: behind the
    last whole append, of a write that was cut short or is under way. unit: what positions count.
    """

    kind: str
    path: str | None
    format: int | None
    durability: str | None
    read_only: bool
    bytes: int | None
    head: int
    events: int | None
    gaps: tuple[Gap, ...] | None
    erased: int | None
    held: int
    torn_bytes: int = 0
    unit: Unit = "position"


class ViewFacts(msgspec.Struct, frozen=True):
    """The rows of one view.

    version: of the view here, None where this program does not have it. built_by: the version that
    built the rows, None where there are none. position: the checkpoint, up to which they tell; lag:
    how far that is behind the head. newer: whether a newer lllm built them, which only it can go on
    with.
    """

    name: str
    version: int | None
    built_by: int | None
    generation: int
    position: int
    lag: int
    newer: bool = False


class RowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the log for lists, tags and costs.

    bytes: of a file of their own, None where they have none. lag: how far they were behind before
    this look brought them up to date. sessions: how many at any depth, by state. elsewhere: of the
    running ones those whose process nobody here can ask after: it runs on another machine, or this
    store is a copy. leftovers: tables that a stopped rebuild left; rebuilding: one is under way.
    """

    bytes: int | None
    lag: int
    views: tuple[ViewFacts, ...]
    sessions: dict[str, int]
    elsewhere: int
    leftovers: tuple[str, ...]
    rebuilding: bool


class DatabaseFacts(msgspec.Struct, frozen=True):
    """The SQLite file. journal_mode: "" where the file is read as one that never changes, which
    does not tell it. quick_check: what that said was wrong, None where it was not asked."""

    version: str
    journal_mode: str
    wal_bytes: int
    quick_check: tuple[str, ...] | None


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a store. troubles: what went wrong while it was looked at.
    stopped_backups: what backups that were killed left beside the store."""

    log: LogFacts
    rows: RowFacts
    database: DatabaseFacts | None
    place: StoreLocation | None
    stopped_backups: tuple[str, ...]
    troubles: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many remarks are of a severity."""
        return sum(remark.severity == severity for remark in self.remarks)
