"""The health of a log as its backend reports it: size, format and files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Unit = Literal["event", "byte", "position"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A backend's report about its log.

    Attributes:
        kind: What the kind of log is called, as "sqlite".
        path: Its file or folder, None for a log in no file.
        format: The version of the format that it is in, None where there is none or it can't be
            read.
        durability: "process" or "power", None where the backend does not say.
        bytes: Its size on the disk, None where it has none.
        events: How many there are, None where nobody counted them.
        torn_bytes: Behind the last whole append, of a write that was cut short or is under way.
        unit: What the positions of the log count.
        files: Those that an append writes, whether they are there or not.
        locks: The folder of the locks of those who write it, None where there is none.
    """

    kind: str
    path: Path | None = None
    format: int | None = None
    durability: str | None = None
    bytes: int | None = None
    events: int | None = None
    torn_bytes: int = 0
    unit: Unit = "position"
    files: tuple[Path, ...] = ()
    locks: Path | None = None
