"""The health of a log as its backend reports it: size, format and files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Unit = Literal["event", "byte", "position"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's report about its log.

    Attributes:
        kind: The name of the kind of log, as "sqlite".
        path: The file or folder of the log; None if it has none.
        url: The URL of a log on a server, without a password; None for any other log.
        format: The version of the log's format; None if there is none, or if it can't be read.
        durability: "process" or "power"; None if the backend does not report it.
        bytes: The size of the log on the disk, in bytes; None if it is not on a disk.
        events: The number of events; None if they were not counted.
        torn_bytes: The number of bytes after the last complete append, from a write that was cut
            short or is still running.
        unit: The unit of the log's positions: "byte" or "event".
        files: The files that an append writes, whether they exist or not.
        locks: The folder with the locks of the writers; None if there is none.
    """

    kind: str
    path: Path | None = None
    url: str | None = None
    format: int | None = None
    durability: str | None = None
    bytes: int | None = None
    events: int | None = None
    torn_bytes: int = 0
    unit: Unit = "position"
    files: tuple[Path, ...] = ()
    locks: Path | None = None
