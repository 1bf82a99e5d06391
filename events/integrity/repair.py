"""Repairs a damaged log as far as its backend can.

Each file that is changed is copied first, and the copy is kept beside it, so a repair loses
nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lllm.events.backend import CanBeRepaired, LogBackend
from lllm.events.integrity.verify import verify


class Mended(msgspec.Struct, frozen=True):
    """A file that a repair has changed.

    Attributes:
        path: The path of the file.
        copy: The copy of the file before the repair. If an SQLite file had a write-ahead log, its
            copy is beside this one, under the same name with "-wal".
        bytes_before: The size before the repair, in bytes.
        bytes_after: The size after the repair, in bytes.
        lost: The number of lines from which no event could be restored; only the copy has them.
        lost_positions: The first and the last position of each range of events that could not be
            read.
        events: The number of events in the new file; None if the file holds only a part of the log.
    """

    path: Path
    copy: Path
    bytes_before: int
    bytes_after: int
    lost: int = 0
    lost_positions: tuple[tuple[int, int], ...] = ()
    events: int | None = None


class Repaired(msgspec.Struct, frozen=True):
    """The result of a repair.

    Attributes:
        mended: The files that were changed.
        left: Damage that can't be repaired. Nothing was changed there, and everything around it can
            be read.
        set_aside: The files with the bytes of unfinished writes.
        begun: The new file in which the log continues if its end is lost; None otherwise.
        not_copied: The names of the user's own tables and the like that could not be copied into a
            rebuilt file; only the copy has them.
        schema_lost: True if it is unknown whether there were any such tables.
    """

    mended: tuple[Mended, ...] = ()
    left: tuple[str, ...] = ()
    set_aside: tuple[Path, ...] = ()
    begun: Path | None = None
    not_copied: tuple[str, ...] = ()
    schema_lost: bool = False


def repair(log: LogBackend) -> Repaired:
    """Repair a log that no other store or process uses. The log may be closed afterwards.

    Args:
        log: The log, opened for writing.

    Returns:
        A report of the changes. Damage that can't be repaired is in its `left`.

    Raises:
        LogUnavailable: Others use the log, or its files can't be written.
    """
    if isinstance(log, CanBeRepaired):
        return log.repair()
    return Repaired(left=tuple(damage.what for damage in verify(log).damages))
