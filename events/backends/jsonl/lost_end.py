"""Notes the highest position that a JSONL log has given, so that lost events at its end are found.

A log whose last file was deleted, emptied or replaced by an older copy looks like a whole one that
is shorter: the next append would give positions again that were acknowledged. So each append notes
where it ended in the file of the write lock, which is open and locked anyway. Who finds the log's
end below that writes nothing, until somebody has put the file back or `repair` has begun another
behind it.

Where the end of the file is no whole append, as a crash or the loss of power leaves it, that is
moved aside instead, and writing goes on there; see `torn_tail`.

The note is written after the events: when a process dies it may be lower than the log's end, never
higher. Where power is lost, it may be on the disk and events that nobody has synced are not, so it
names the start of the machine that it belongs to, and counts no longer after the next one; a note
of synced events always does. Where there is none (a store of an older lllm, a removed lock folder),
the rows tell how far they have come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lllm.events.backends.jsonl.segments import end_of
from lllm.events.backends.sqlite.database import Database
from lllm.events.concurrency.locks import FileLock
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import read_own

_LENGTH = 58
_LOOKS = (0.002, 0.02, 0)  # seconds until what looks like damage is looked at again
_NOTE = re.compile(rb"(\d{20})(?: ([0-9a-f-]{36}))?\n")


class HighWater:
    """Reads and writes the highest position of a log, which is kept in its lock file.

    It may be read and written while the lock is held.

    Args:
        lock: The lock of those who append.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def read(self) -> int | None:
        """Read the highest position that the log has given; None if none is noted.

        It is 0 where the machine was started again since events were noted that nobody had synced.
        """
        note = self._note()
        return None if note is None else note.counts

    def lost_with_power(self, end: int) -> int:
        """How many bytes at the end of the log a power failure lost, if that is known.

        Args:
            end: The position where the log ends.
        """
        note = self._note()
        return 0 if note is None or note.counts else max(0, note.position - end)

    def _note(self) -> _Note | None:
        try:
            return _read(self._lock.read_content(_LENGTH))
        except OSError:
            return None

    def in_place(self) -> bool:
        """True if the open note is the file that other processes find by its path."""
        return self._lock.in_place() and bool(self.read())

    def write(self, position: int, *, synced: bool) -> None:
        """Note the highest position of the log.

        Where that can't be, as on a full disk, the note stays too low: the events are in the log
        already.

        Args:
            position: Where the log ends.
            synced: Whether all up to there is on the disk.
        """
        start = b"" if synced else machine_start()
        try:  # `suppress` takes as long as half the write
            self._lock.write_content(
                b"%020d %b\n" % (position, start) if start else b"%020d\n" % position
            )
        except OSError:
            return


class _Note(NamedTuple):
    position: int
    start: bytes  # of the machine, empty where that does not matter

    @property
    def counts(self) -> int:
        return self.position if self.start in (b"", machine_start()) else 0


@cache
def machine_start() -> bytes:
    """An id of the machine's current boot; empty on systems other than Linux.

    Source: https://man7.org/linux/man-pages/man4/random.4.html, boot_id.
    """
    try:
        found = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""
    return found if len(found) == 36 else b""


def noted_in(lock: Path) -> int | None:
    """Read the note in a lock file that others may hold; see `HighWater.read`.

    Args:
        lock: The lock file.
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

    Raises:
        LogError: They can't be read.
    """
    if not rows.query("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'"):
        return 0
    found = rows.query("SELECT max(position) FROM checkpoints")[0][0]
    return found if isinstance(found, int) else 0


def check_end(folder: Path, lock: Path, reached_by_rows: Callable[[], int]) -> None:
    """Check that a log ends at the position it had when it was last written.

    Args:
        folder: Of the log.
        lock: The file with the note.
        reached_by_rows: Asked where nothing is noted.

    Raises:
        LogDamaged: It ends before that.
        OSError: It can't be read.
    """
    for wait in _LOOKS:  # a note that is just being written may be read half
        noted = noted_in(lock)
        reached = reached_by_rows() if noted is None else noted
        end = end_of(folder)
        behind = end.segment is not None and end.position < end.segment.begin + end.size
        if end.position >= reached or behind:
            return  # what stands behind whole appends is torn or damaged, and told as such
        time.sleep(wait)
    raise lost_end(folder, end.segment and end.segment.path, end.position, reached)


def _read(content: bytes) -> _Note | None:
    found = _NOTE.match(content)
    return _Note(int(found[1]), found[2] or b"") if found else None


def lost_end(folder: Path, file: Path | None, end: int, reached: int) -> LogDamaged:
    """Make the error for a log that ends before events that were acknowledged.

    Args:
        folder: Of the log.
        file: Its last file, None where there is none.
        end: The position where it ends.
        reached: The highest position that was given.
    """
    where = f"{file} ends" if file else f"no file of it is left in {folder}: it ends"
    return LogDamaged(
        f"The end of a log is missing: {where} at position {end}, and events up to position "
        f"{reached} were acknowledged. A file was deleted, emptied or replaced by an older copy. "
        "Put it back, or restore a backup; where there is none, `lllm repair --store "
        f"{folder}` goes on behind position {reached}. Until then nothing is written, and what is "
        "there can be read.",
        position=reached,
    )
