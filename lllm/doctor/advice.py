"""Judges the facts about a store: one remark with advice for each finding, the worst first.

Nothing is read here; the facts were gathered before. A problem needs action now, a warning needs
it soon, and a note is only information.
"""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Iterator, Sequence

import msgspec

from lllm.doctor.facts import (
    SEVERITIES,
    Checkup,
    DatabaseFacts,
    LogFacts,
    Remark,
    RowFacts,
    ViewFacts,
)
from lllm.doctor.file_systems import StoreLocation
from lllm.times import datetime_of, shown_time, suffix_of

WAL_BYTES = 100_000_000  # well above ten times the size at which lllm resets a write-ahead log


def diagnosed(found: Checkup, zone: dt.tzinfo = dt.UTC) -> Checkup:
    """Add remarks on each part of a store to its facts, the worst first.

    Args:
        found: The facts about the store.
        zone: The time zone of the times in the remarks.

    Returns:
        The same facts with remarks.
    """
    remarks = [
        *_damage(found),
        *_log(found.log),
        *_gaps(found.log, zone),
        *_rows(found),
        *_sessions(found.rows),
        *(_database(found.database) if found.database else ()),
        *(_place(found.place, found) if found.place else ()),
        *(_access(found.place) if found.place else ()),
        *_backups(found),
    ]
    remarks.sort(key=lambda remark: SEVERITIES.index(remark.severity))
    return msgspec.structs.replace(found, remarks=tuple(remarks))


def _damage(found: Checkup) -> Iterator[Remark]:
    advice = "`lllm verify` checks every event and names the damaged ones; a backup has them."
    for trouble in found.troubles:
        yield Remark("problem", "damage", trouble, advice)
    checked = found.database.quick_check if found.database else None
    for line in checked or ():
        yield Remark("problem", "damage", f"SQLite's quick check: {line}", advice)
    if not found.troubles and not checked:
        looked = "SQLite's quick check found nothing" if checked is not None else "none was met"
        further = "`lllm verify` checks every event."
        if checked is None and found.database:
            further = f"{further} `lllm doctor --thorough` checks the pages of the database."
        yield Remark("ok", "damage", f"No damage: {looked}.", further)


def _log(log: LogFacts) -> Iterator[Remark]:
    if log.held:
        yield Remark(
            "problem", "log",
            f"The log can't be written: {_counted(log.held, 'event')} of this process wait in "
            "memory.",
            "Make room on the disk, or make the store writable. They are written as soon as that "
            "works, and lost if this process ends first.",
        )  # fmt: skip
    if log.path is None and log.url is None:
        yield Remark(
            "note", "log", f"This log ({log.kind}) is in no file that lllm knows.",
            "To keep sessions in files, use SQLiteBackend or LocalFileBackend.",
        )  # fmt: skip
    if log.read_only:
        yield Remark(
            "note", "log", "It is opened to be read only: rows stay as they are.",
            "Look again where the store can be written, to have them up to date.",
        )  # fmt: skip
    if log.torn_bytes:
        yield Remark(
            "note", "log",
            f"{_counted(log.torn_bytes, 'byte')} at the end are not a complete append: it is in "
            "progress, its process died, or somebody changed the file.",
            "Run `lllm verify`, which tells which. The next append moves torn bytes aside.",
        )  # fmt: skip


def _gaps(log: LogFacts, zone: dt.tzinfo) -> Iterator[Remark]:
    if log.gaps is None:
        yield Remark(
            "note", "gaps", "The log is large, and was not searched for gaps.",
            "`lllm doctor --thorough` searches all of it.",
        )  # fmt: skip
    for gap in log.gaps or ():
        yield Remark(
            "warning", "gaps",
            f"{_counted(gap.lost, 'event')} from {_moment(gap.first_time, zone)} to "
            f"{_moment(gap.last_time, zone)} could not be written and are lost: {gap.reason}.",
            "Sessions of that time may lack events, and their cost. Watch the free space on the "
            "store's disk.",
        )  # fmt: skip
    if log.gaps == ():
        yield Remark("ok", "gaps", "No events were lost because the log could not be written.")


def _rows(found: Checkup) -> Iterator[Remark]:
    rows = found.rows
    mine = [view for view in rows.views if view.version is not None]
    newer = [view for view in mine if view.newer]
    behind = [view for view in mine if view.lag and not view.newer]
    if newer:
        yield Remark(
            "warning", "rows",
            f"A newer lllm built the rows of {_names(newer)}, so this one leaves them as they are: "
            f"{_lag(found, newer)} behind.",
            "Upgrade lllm here.",
        )  # fmt: skip
    if behind:
        yield Remark(
            "note" if found.log.read_only else "warning", "rows",
            f"The rows of {_names(behind)} are {_lag(found, behind)} behind the log.",
            "Another process may be updating them: look again. `lllm rebuild` builds them anew.",
        )  # fmt: skip
    if rows.rebuilding:
        yield Remark("note", "rows", "A rebuild is under way.")
    elif rows.leftovers:
        yield Remark(
            "note", "rows",
            f"A rebuild was stopped, and left {', '.join(rows.leftovers)}. They do no "
            "harm.",
            "`lllm rebuild` removes them.",
        )  # fmt: skip
    if not newer and not behind:
        yield Remark("ok", "rows", "Lists, tags and costs are up to date.")


def _names(views: Sequence[ViewFacts]) -> str:
    return ", ".join(view.name for view in views)


def _lag(found: Checkup, views: Sequence[ViewFacts]) -> str:
    return _counted(max(v.lag for v in views), found.log.unit)


def _sessions(rows: RowFacts) -> Iterator[Remark]:
    if rows.unvacuumed:
        yield Remark(
            "warning", "erasure",
            "Sessions were erased, and copies of their texts may stay in gaps of the file.",
            "`lllm vacuum` writes it anew without them; others that write wait meanwhile.",
        )  # fmt: skip
    interrupted = rows.sessions.get("interrupted", 0)
    if interrupted:
        yield Remark(
            "note", "sessions",
            f"{_counted(interrupted, 'session')} did not end, because the process died.",
            "`lllm ls --state interrupted` lists them. The events that they wrote are kept.",
        )  # fmt: skip
    if rows.elsewhere:
        yield Remark(
            "note", "sessions",
            f"{_counted(rows.elsewhere, 'session')} may be running: their process is on another "
            "machine, or it writes to the original of this copy, so it can't be checked here.",
            "Check on the machine where they run. In a copy, or after an import, they count as "
            "interrupted after a day without an event.",
        )  # fmt: skip


def _database(database: DatabaseFacts) -> Iterator[Remark]:
    if has_wal_reset_bug(database.version):
        yield Remark(
            "note", "SQLite",
            f"SQLite {database.version} has the WAL-reset bug: a commit during a checkpoint may "
            "damage the file. lllm prevents that by a lock of its own.",
            "Let no other program write the file. SQLite 3.51.3 fixes the bug; see "
            "https://sqlite.org/wal.html#walresetbug",
        )  # fmt: skip
    else:
        yield Remark("ok", "SQLite", f"SQLite {database.version} does not have the WAL-reset bug.")
    if database.journal_mode not in ("wal", "memory", ""):
        yield Remark(
            "warning", "SQLite",
            f"The file's journal mode is {database.journal_mode}, so readers and writers wait for "
            "each other.",
            "When nobody has it open, run: sqlite3 FILE 'PRAGMA journal_mode=WAL'",
        )  # fmt: skip
    if database.wal_bytes > WAL_BYTES:
        yield Remark(
            "warning", "SQLite",
            f"The write-ahead log has grown to {size(database.wal_bytes)}: a query has run for "
            "long, or a backup is in progress.",
            "End programs that keep a query open; the log shrinks by itself.",
        )  # fmt: skip


def has_wal_reset_bug(version: str) -> bool:
    """True if an SQLite version has the bug that can damage a file at a checkpoint.

    These are 3.7.0 to 3.51.2, but for 3.44.6 and 3.50.7
    (https://sqlite.org/wal.html#walresetbug).

    Args:
        version: The version of SQLite, such as "3.45.1".

    Returns:
        True if the version has the bug.
    """
    numbers = tuple(int(part) for part in version.split("."))
    mended = numbers[:2] == (3, 44) and numbers >= (3, 44, 6)
    mended |= numbers[:2] == (3, 50) and numbers >= (3, 50, 7)
    return (3, 7, 0) <= numbers < (3, 51, 3) and not mended


def _place(place: StoreLocation, found: Checkup) -> Iterator[Remark]:
    room = size(place.free_bytes)
    if place.free_bytes < WAL_BYTES:
        yield Remark(
            "problem" if place.free_bytes < WAL_BYTES // 10 else "warning", "disk",
            f"{room} are free beside the store.",
            "Make room. When the disk is full, events wait in memory, and are finally lost.",
        )  # fmt: skip
    else:
        yield Remark("ok", "disk", f"{room} are free beside the store.")
    if place.networked:
        yield Remark(
            "warning", "disk",
            f"The store lies on a network file system ({place.file_system}), where locks may not "
            "hold, and SQLite's write-ahead log works for the processes of one machine only "
            "(https://sqlite.org/wal.html).",
            "Move it to a local disk; `lllm backup` makes a copy there.",
        )  # fmt: skip
    if not place.writable and not found.log.read_only:
        yield Remark(
            "warning", "disk", f"This user can't write {place.folder}, or a file in it.",
            "Give the users that log here write permission for the folder and all files in it.",
        )  # fmt: skip


def _access(place: StoreLocation) -> Iterator[Remark]:
    group, all_users = place.folder_mode & stat.S_IWGRP, place.folder_mode & stat.S_IWOTH
    if group or all_users:
        who = "Everybody" if all_users else "The folder's group"
        yield Remark(
            "warning" if all_users else "note", "access",
            f"{who} on this machine may make and remove files in {place.folder} "
            f"({place.folder_mode:04o}), those of the store among them.",
            f"chmod {'go' if group and all_users else 'o' if all_users else 'g'}-w on the folder, "
            "unless you share it.",
        )  # fmt: skip
    for mode in sorted(set(place.file_modes)):
        if mode & 0o006:
            yield Remark(
                "warning", "access",
                f"Everybody on this machine may {'write' if mode & 0o002 else 'read'} files of the "
                f"store (mode {mode:04o}), and they hold what people said.",
                "lllm leaves what is there as it is: chmod o-rw on the store's files.",
            )  # fmt: skip
        elif mode & 0o060:
            yield Remark("ok", "access", f"Files of the store are their group's too ({mode:04o}).")
        else:
            yield Remark("ok", "access", f"Files of the store are their owner's ({mode:04o}).")


def _backups(found: Checkup) -> Iterator[Remark]:
    for path in found.stopped_backups:
        yield Remark(
            "note", "backup", f"A backup was stopped, and left {path}.",
            "Remove it, or make the backup again: that does.",
        )  # fmt: skip


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Format a number of bytes for people.

    Args:
        count: The number of bytes.

    Returns:
        A text such as "1.5 MB".
    """
    for unit, factor in (("GB", 1_000_000_000), ("MB", 1_000_000)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return _counted(count, "byte")


def _moment(time: int, zone: dt.tzinfo) -> str:
    try:
        moment = datetime_of(time, zone)
        return shown_time(moment, zone, seconds=True) + suffix_of(moment)
    except OverflowError:  # the clock was set to an impossible time
        return f"{time} ns"
