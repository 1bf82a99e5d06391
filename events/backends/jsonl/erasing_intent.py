"""The file that records which lines of a JSONL log are being overwritten, and by what.

It is complete and synced to the disk before the first line is touched, and contains no payload.
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
        event: The event without its payload, as it is being written.
        begin: The offset of the line in its segment, in bytes.
        length: The length of the line without its newline, in bytes.
        more: The number of events of the same append that follow.
    """

    event: Recorded
    begin: int
    length: int
    more: int


_decode = decoder(list[NotedLine]).decode


def intent_of(folder: Path) -> Path:
    """Make the path of the file that records the lines being overwritten.

    Args:
        folder: The folder of the log.

    Returns:
        The path; the file need not exist.
    """
    return folder / "locks" / "erasing.json"


def noted_event(folder: Path, position: int) -> Recorded | None:
    """Find an event whose line is being overwritten.

    Args:
        folder: The folder of the log.
        position: The position of the event.

    Returns:
        The erased event; None if its line is not being overwritten.
    """
    noted = read_intent(intent_of(folder)) or ()
    return next((one.event for one in noted if one.event.position == position), None)


def read_intent(intent: Path) -> list[NotedLine] | None:
    """Read which lines are being overwritten.

    Args:
        intent: The path of the file.

    Returns:
        The lines; None if none are being overwritten.
    """
    try:
        return _decode(read_own(intent))
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # it is complete before it gets its name
