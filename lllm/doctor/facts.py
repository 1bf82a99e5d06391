"""The facts that an examination of a store gathers.

`lllm.doctor.examine` gathers them, and `lllm.doctor.advice` turns them into remarks.
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
        severity: The urgency: "problem", "warning", "note" or "ok".
        about: The part of the store that the remark is about, such as "disk".
        says: A sentence that says what was found.
        advice: A sentence that says what to do; "" if nothing.
    """

    severity: Severity
    about: str
    says: str
    advice: str = ""


class Gap(msgspec.Struct, frozen=True):
    """Events that could not be written; only their number is known.

    Attributes:
        position: The position of the log.gap event that reports them.
        lost: The number of lost events.
        first_time: The time of the first lost event, nanoseconds UTC.
        last_time: The time of the last lost event, nanoseconds UTC.
        reason: The reason why they could not be written.
    """

    position: int
    lost: int
    first_time: int
    last_time: int
    reason: str


class LogFacts(Health, frozen=True, kw_only=True):
    """Facts about the log: its backend's health report, and the findings of a search.

    Attributes:
        read_only: True if the log was opened read-only.
        head: The highest position.
        gaps: The gaps in the log; None if the log was not searched.
        erased: The number of sessions that were erased on purpose; None if the log was not
            searched.
        held: The number of events of this process that wait in memory to be written.
    """

    read_only: bool
    head: int
    gaps: tuple[Gap, ...] | None
    erased: int | None
    held: int


class ViewFacts(msgspec.Struct, frozen=True):
    """Facts about the rows of one view.

    Attributes:
        name: The name of the view.
        version: The version of the view in this program; None if it has no such view.
        built_by: The version of the view that built the rows; None if there are none.
        generation: The number of times that the rows were rebuilt.
        position: The position up to which the rows follow the log.
        lag: The number of positions between there and the head of the log.
        newer: True if a newer lllm built the rows; this one can't update them.
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
        oldest: The start of the oldest session that was not erased, in nanoseconds UTC; None if
            there is none.
        older: The number of top-level sessions that are older than 183 days and not erased.
        held: The number of these sessions that a legal hold protects.
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
        bytes: The size of their file; None if they have no file of their own.
        lag: The number of positions by which they were behind before this examination.
        views: The facts about each view.
        sessions: The number of sessions at any depth, by state.
        elsewhere: The number of running sessions whose process can't be checked, because it is on
            another machine, or this store is a copy.
        leftovers: Tables that a stopped rebuild left.
        rebuilding: True if a rebuild is under way.
        age: How long ago the content was recorded.
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
        version: The version of SQLite.
        journal_mode: The journal mode; "" if the file is opened as immutable, which hides it.
        wal_bytes: The size of the write-ahead log.
        quick_check: The errors that SQLite's quick check found; None if it was not run.
    """

    version: str
    journal_mode: str
    wal_bytes: int
    quick_check: tuple[str, ...] | None


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """The result of examining a store.

    Attributes:
        log: Facts about the log.
        rows: Facts about the rows.
        database: Facts about the file of the rows; None if they are in memory.
        place: Facts about the folder of the store; None if it has no files.
        stopped_backups: The paths of unfinished backups beside the store.
        troubles: The errors that occurred during the examination.
        remarks: The findings, the worst first.
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
            severity: The severity to count.

        Returns:
            The number of remarks with that severity.
        """
        return sum(remark.severity == severity for remark in self.remarks)
