"""Repairs a damaged log as far as its backend can.

A copy of each file that is changed is kept beside it, so nothing is lost by a repair.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lllm.events.backend import CanBeRepaired, LogBackend
from lllm.events.integrity.verify import verify


class Mended(msgspec.Struct, frozen=True):
    """A file that was repaired.

    Attributes:
        path: The file.
        copy: Where it is kept as it was. The write-ahead log of an SQLite file, if it had one, is
            beside it under the same name with "-wal".
        bytes_before: Its size before.
        bytes_after: Its size now.
        lost: Lines that no event could be made of, which are in the copy alone.
        lost_positions: The first and the last of each run of events that could not be read.
        events: How many are in the new file, None where only a part of the log is in it.
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
        left: Damage that can't be mended; nothing was changed there, and all around it can be read.
        set_aside: Files with what writes that were cut short have left.
        begun: The file that the log goes on in, where its end is missing; what is lost stood in
            front of it.
        not_copied: What is not of lllm's, in a file that was made anew, and is in the copy alone.
        schema_lost: True if nobody can tell whether there was any such.
    """

    mended: tuple[Mended, ...] = ()
    left: tuple[str, ...] = ()
    set_aside: tuple[Path, ...] = ()
    begun: Path | None = None
    not_copied: tuple[str, ...] = ()
    schema_lost: bool = False


def repair(log: LogBackend) -> Repaired:
    """Repair a log while nobody else uses it. The log may be closed afterwards.

    Args:
        log: The log, not opened to be read only.

    Returns:
        What was done. A log that nothing can be done about has its damages in `left`.

    Raises:
        LogUnavailable: Others use it, or its files can't be written.
    """
    if isinstance(log, CanBeRepaired):
        return log.repair()
    return Repaired(left=tuple(damage.what for damage in verify(log).damages))
