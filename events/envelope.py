"""The envelope around each event: its stream, number, time and digest, and how large it may be."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.errors import AppendConflict, AppendTooLarge

EVENT_BYTES = 256 << 20  # the longest event: of its payload, or of its line in a JSONL log
APPEND_BYTES = 1 << 30  # the longest append


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event before a log has given it a position.

    Attributes:
        stream: A session's id, or the name of a statement about one.
        seq: 1, 2, 3 ... in the stream.
        time: Nanoseconds UTC; information, never order.
        type: As "llm.responded".
        version: Of the payload's fields.
        data: The payload, JSON, kept verbatim.
        digest: 32 bytes; see `lllm.events.digest`.
    """

    stream: str
    seq: int
    time: int
    type: str
    version: int
    data: bytes
    digest: bytes

    def at(self, position: int) -> Recorded:
        """Make the Recorded for a position.

        Args:
            position: Its place in the log.
        """
        return Recorded(
            position, self.stream, self.seq, self.time, self.type, self.version, self.data,
            self.digest,
        )  # fmt: skip


class Recorded(msgspec.Struct, TableRow, frozen=True, gc=False, array_like=True):
    """An event as a log stores it: a NewEvent with its position.

    Attributes:
        position: The place in the log. It grows in the order in which events become visible.
        stream: As of NewEvent.
        seq: As of NewEvent.
        time: As of NewEvent.
        type: As of NewEvent.
        version: As of NewEvent.
        data: As of NewEvent.
        digest: As of NewEvent.
    """

    position: int
    stream: str
    seq: int
    time: int
    type: str
    version: int
    data: bytes
    digest: bytes

    def without_position(self) -> NewEvent:
        """Make the NewEvent without the position."""
        return NewEvent(
            self.stream, self.seq, self.time, self.type, self.version, self.data, self.digest
        )


def too_large(count: int, limit: int, what: str) -> AppendTooLarge:
    """Make the error for an event or append that exceeds the size limit.

    Args:
        count: Its bytes.
        limit: The bytes that a log takes.
        what: What it is, as a sentence begins with it.
    """
    return AppendTooLarge(
        f"{what} of {count:,} bytes is not stored: at most {limit:,} bytes are. Keep the content "
        "in a file of your own, and record where it lies."
    )


def refuse_too_large(events: Sequence[NewEvent]) -> None:
    """Raise an error if the payloads of an append exceed the size limit.

    Args:
        events: What is to be appended.

    Raises:
        AppendTooLarge: They are.
    """
    size = sum(len(event.data) for event in events)
    if size > APPEND_BYTES:
        raise too_large(size, APPEND_BYTES, f"An append with {len(events)} events")


def conflict(event: NewEvent, log: object = None) -> AppendConflict:
    """Make the error for an event whose place in its stream has a different event.

    Args:
        event: What was to be appended.
        log: The path of the log, None for one in memory.
    """
    where = "" if log is None else f" in {log}"
    return AppendConflict(
        f"Event {event.seq} of {event.stream!r} can't be stored{where}: another event stands in "
        "its place already. Only its own recorder may write a stream."
    )
