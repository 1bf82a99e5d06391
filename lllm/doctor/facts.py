"""The facts that an examination of a store gathers.

`lllm.doctor.examine` gathers the facts, and `lllm.doctor.advice` makes remarks of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lllm.doctor.file_systems import StoreLocation
from lllm.events.health import Health

Severity = Literal["ok", "note", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note", "ok")  # the worst first


class Remark(msgspec.Struct, frozen=True):
    """One finding about a store, good or bad.

    Attributes:
        severity: How soon somebody must act.
        about: The part of the store.
        says: What was found.
        advice: What to do, "" for nothing.
    """

    severity: Severity
    about: str
    says: str
    advice: str = ""


class Gap(msgspec.Struct, frozen=True):
    """Events that could not be written, and are only counted.

    Attributes:
        position: Of the event that says so.
        lost: How many.
        first_time: When the first was to be written, nanoseconds UTC.
        last_time: When the last was.
        reason: Why they could not be.
    """

    position: int
    lost: int
    first_time: int
    last_time: int
    reason: str


class LogFacts(Health, frozen=True, kw_only=True):
    """Facts about the log: what its backend reports of it, and what was found in it.

    Attributes:
        read_only: True if it was opened so.
        head: The highest position.
        gaps: Events that are lost; None where looking for them was not asked for.
        erased: Sessions that were erased on purpose; None like `gaps`.
        held: Events that wait in this process.
    """

    read_only: bool
    head: int
    gaps: tuple[Gap, ...] | None
    erased: int | None
    held: int


class ViewFacts(msgspec.Struct, frozen=True):
    """Facts about the rows of one view.

    Attributes:
        name: Of the view.
        version: Of the view here, None where this program does not have it.
        built_by: The version that built the rows, None where there are none.
        generation: How often they were built anew.
        position: The checkpoint, up to which they tell.
        lag: How far that is behind the head.
        newer: True if a newer lllm built them, which only it can go on with.
    """

    name: str
    version: int | None
    built_by: int | None
    generation: int
    position: int
    lag: int
    newer: bool = False


class AgeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the age of what a store holds.

    Attributes:
        oldest: When the oldest session began whose content is there, nanoseconds UTC; None if there
            is none.
        older: How many top-level sessions are older than 183 days, and not erased.
        held: How many of these a legal hold keeps.
        growth: Bytes a day that the log grew by, on average of the last week; None where nobody
            can tell.
    """

    oldest: int | None = None
    older: int = 0
    held: int = 0
    growth: int | None = None


class RowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the rows for lists, tags and costs.

    Attributes:
        bytes: Of a file of their own, None where they have none.
        lag: How far they were behind before this look brought them up to date.
        views: Each view.
        sessions: How many at any depth, by state.
        elsewhere: Of the running ones those whose process nobody here can ask after: it runs on
            another machine, or this store is a copy.
        leftovers: Tables that a stopped rebuild left.
        rebuilding: True if a rebuild is under way.
        age: How old the content is.
        unvacuumed: True if copies of what was erased may stay in the files until a VACUUM.
    """

    bytes: int | None
    lag: int
    views: tuple[ViewFacts, ...]
    sessions: dict[str, int]
    elsewhere: int
    leftovers: tuple[str, ...]
    rebuilding: bool
    age: AgeFacts = AgeFacts()
    unvacuumed: bool = False


class DatabaseFacts(msgspec.Struct, frozen=True):
    """Facts about the SQLite file.

    Attributes:
        version: Of SQLite.
        journal_mode: "" where the file is read as one that never changes, which does not tell it.
        wal_bytes: Of the write-ahead log.
        quick_check: What that said was wrong, None where it was not asked.
    """

    version: str
    journal_mode: str
    wal_bytes: int
    quick_check: tuple[str, ...] | None


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """The result of examining a store.

    Attributes:
        log: Of its log.
        rows: Of its rows.
        database: Of the file that rows are in, None where they are in memory.
        place: Where its files lie, None where it has none.
        stopped_backups: What backups that were killed left beside the store.
        troubles: What went wrong while it was looked at.
        remarks: What all that means, the worst first.
    """

    log: LogFacts
    rows: RowFacts
    database: DatabaseFacts | None
    place: StoreLocation | None
    stopped_backups: tuple[str, ...]
    troubles: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()

    def count(self, severity: Severity) -> int:
        """Count the remarks of a severity.

        Args:
            severity: Which.

        Returns:
            How many.
        """
        return sum(remark.severity == severity for remark in self.remarks)
