"""Notes the highest position of a JSONL log, so that lost events at its end are found.

A log whose last file was deleted, emptied or replaced by an older copy looks like a complete log
that is shorter. The next append would reuse positions that were acknowledged. So each append notes
where it ended, in the file of the write lock, which is open and locked anyway. A process that finds
the log shorter than the note writes nothing until the file is restored or `repair` has begun a new
file after it.

If the file ends in an incomplete append, as after a crash or a loss of power, those bytes are moved
aside and writing continues; see `torn_tail`.

The note is written after the events: if a process dies in between, it is lower than the log's end,
never higher. After a loss of power it can be higher, when the disk has the note but not events that
were never synced. So a note of events that were not synced names the boot of the machine, and is
ignored after the next boot; a note of synced events is always valid. If there is no note (a store
of an older lllm, a deleted lock folder), the position of the rows is used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lllm.events.backends.jsonl.complete_end import end_of
from lllm.events.backends.sqlite.database import Database
from lllm.events.concurrency.locks import FileLock
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import read_own

_LENGTH = 58
_LOOKS = (0.002, 0.02, 0)  # seconds until apparent damage is checked again
_NOTE = re.compile(rb"(\d{20})(?: ([0-9a-f-]{36}))?\n")


class HighWater:
    """Reads and writes the note of a log's highest position, which is kept in the log's lock file.

    The lock must be held while the note is read or written.

    Args:
        lock: The lock of the processes that append.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def read(self) -> int | None:
        """Read the highest position that the log has given out.

        The note is ignored if the machine was restarted after unsynced events were noted.

        Returns:
            The position; 0 if the note is ignored; None if there is no note.
        """
        note = self._note()
        return None if note is None else note.counts

    def lost_with_power(self, end: int) -> int:
        """Compute how many bytes at the end of the log a loss of power destroyed.

        Args:
            end: The position where the log ends.

        Returns:
            The number of bytes; 0 if none are known to be lost.
        """
        note = self._note()
        return 0 if note is None or note.counts else max(0, note.position - end)

    def _note(self) -> _Note | None:
        try:
            return _read(self._lock.read_content(_LENGTH))
        except OSError:
            return None

    def in_place(self) -> bool:
        """True if the open lock file is still the one at its path."""
        return self._lock.in_place() and bool(self.read())

    def write(self, position: int, *, synced: bool) -> None:
        """Note the highest position of the log.

        If this fails, as on a full disk, the old note stays and is too low. That is no error: the
        events are in the log already.

        Args:
            position: The position where the log ends.
            synced: True if everything up to there is on the disk.
        """
        start = b"" if synced else machine_start()
        try:  # `suppress` would take as long as half the write
            self._lock.write_content(
                b"%020d %b\n" % (position, start) if start else b"%020d\n" % position
            )
        except OSError:
            return


class _Note(NamedTuple):
    position: int
    start: bytes  # the id of the boot; empty if the events are synced

    @property
    def counts(self) -> int:
        return self.position if self.start in (b"", machine_start()) else 0


@cache
def machine_start() -> bytes:
    """Read the id of the machine's current boot; empty on systems other than Linux.

    Source: https://man7.org/linux/man-pages/man4/random.4.html, boot_id.

    Returns:
        The id, as text in bytes.
    """
    try:
        found = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
    return found if len(found) == 36 else b""


def noted_in(lock: Path) -> int | None:
    """Read the note from a lock file that other processes may hold; see `HighWater.read`.

    Args:
        lock: The path of the log's lock file.

    Returns:
        The position; 0 if the note is ignored; None if there is no note.
    """
    try:
        note = _read(read_own(lock))
    except OSError:
        return None
    return None if note is None else note.counts


def reached_by(rows: Database) -> int:
    """Read the position up to which the rows of a log are built.

    Args:
        rows: The database of the rows.

    Returns:
        The position, in bytes.

    Raises:
        LogError: The rows can't be read.
    """
    if not rows.query("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'"):
        return 0
    found = rows.query("SELECT max(position) FROM checkpoints")[0][0]
    return found if isinstance(found, int) else 0


def check_end(folder: Path, lock: Path, reached_by_rows: Callable[[], int]) -> None:
    """Check that a log is at least as long as when it was last written.

    Args:
        folder: The folder of the log.
        lock: The lock file with the note.
        reached_by_rows: A function that returns the position of the rows; called if there is no
            note.

    Raises:
        LogDamaged: The log is shorter than that.
        OSError: The log can't be read.
    """
    for wait in _LOOKS:  # the note may be read while it is being written
        noted = noted_in(lock)
        reached = reached_by_rows() if noted is None else noted
        end = end_of(folder)
        behind = end.segment is not None and end.position < end.segment.begin + end.size
        if end.position >= reached or behind:
            return  # bytes after the last complete append are reported as torn or damaged
        time.sleep(wait)
    raise lost_end(folder, end.segment and end.segment.path, end.position, reached)


def _read(content: bytes) -> _Note | None:
    found = _NOTE.match(content)
    return _Note(int(found[1]), found[2] or b"") if found else None


def lost_end(folder: Path, file: Path | None, end: int, reached: int) -> LogDamaged:
    """Make the error for a log that ends before events that were acknowledged.

    Args:
        folder: The folder of the log.
        file: The last file of the log; None if there is none.
        end: The position where the log ends.
        reached: The highest position that was given out.

    Returns:
        The error, to be raised by the caller.
    """
    where = f"{file} ends" if file else f"no file of it is left in {folder}: it ends"
    return LogDamaged(
        f"The end of a log is missing: {where} at position {end}, and events up to position "
        f"{reached} were acknowledged. A file was deleted, emptied or replaced by an older copy. "
        "Put it back, or restore a backup; if there is none, `lllm repair --store "
        f"{folder}` continues the log after position {reached}. Until then nothing can be "
        "appended, but the remaining events can be read.",
        position=reached,
    )
