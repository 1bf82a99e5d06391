"""The file that says which lines of a JSONL log are just being overwritten, and with what.

It is complete and on the disk before the first of them is touched, and holds no payload.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lllm.events.concurrency.decoders import decoder
from lllm.events.envelope import Recorded
from lllm.events.files.own_files import read_own


class NotedLine(msgspec.Struct, array_like=True):
    """A line that is being overwritten.

    Attributes:
        event: The event as it is afterwards.
        begin: Where the line begins in its segment, in bytes.
        length: Of it, without the newline, in bytes.
        more: How many events of its append follow.
    """

    event: Recorded
    begin: int
    length: int
    more: int


_decode = decoder(list[NotedLine]).decode


def intent_of(folder: Path) -> Path:
    """The file that says which lines are just being overwritten.

    Args:
        folder: The folder of the log.
    """
    return folder / "locks" / "erasing.json"


def noted_event(folder: Path, position: int) -> Recorded | None:
    """Find an event whose line is just being overwritten; None if there is none.

    Args:
        folder: The folder of the log.
        position: Of the event.
    """
    noted = read_intent(intent_of(folder)) or ()
    return next((one.event for one in noted if one.event.position == position), None)


def read_intent(intent: Path) -> list[NotedLine] | None:
    """Read which lines are being overwritten; None if none are.

    Args:
        intent: The file.
    """
    try:
        return _decode(read_own(intent))
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # it is complete before it gets its name
