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
        stream: The id of a session, or the name of the stream of a statement.
        seq: The number of the event in its stream: 1, 2, 3 ...
        time: Nanoseconds UTC, for information; the order of events does not depend on it.
        type: The event type, as "llm.responded".
        version: The version of the payload's fields.
        data: The payload, as JSON; a log stores these bytes unchanged.
        digest: The digest of the event, 32 bytes; see `lllm.events.digest`.
    """

    stream: str
    seq: int
    time: int
    type: str
    version: int
    data: bytes
    digest: bytes

    def at(self, position: int) -> Recorded:
        """Make the Recorded of this event at a position.

        Args:
            position: The position in the log.

        Returns:
            The event with its position.
        """
        return Recorded(
            position, self.stream, self.seq, self.time, self.type, self.version, self.data,
            self.digest,
        )  # fmt: skip


class Recorded(msgspec.Struct, TableRow, frozen=True, gc=False, array_like=True):
    """An event as a log stores it: a NewEvent with its position.

    Attributes:
        position: The position in the log; it grows in the order in which events become visible.
        stream: The id of a session, or the name of the stream of a statement.
        seq: The number of the event in its stream: 1, 2, 3 ...
        time: Nanoseconds UTC, for information; the order of events does not depend on it.
        type: The event type, as "llm.responded".
        version: The version of the payload's fields.
        data: The payload, as JSON.
        digest: The digest of the event, 32 bytes; see `lllm.events.digest`.
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
        """Make the NewEvent that was appended: the same event without its position."""
        return NewEvent(
            self.stream, self.seq, self.time, self.type, self.version, self.data, self.digest
        )


def too_large(count: int, limit: int, what: str) -> AppendTooLarge:
    """Make the error for an event or append that exceeds the size limit.

    Args:
        count: The size, in bytes.
        limit: The greatest size that a log accepts, in bytes.
        what: The name of the thing that is too large, with which the message begins.

    Returns:
        The error, to be raised by the caller.
    """
    return AppendTooLarge(
        f"{what} of {count:,} bytes is not stored: at most {limit:,} bytes are. Keep the content "
        "in a file of your own, and record where it lies."
    )


def refuse_too_large(events: Sequence[NewEvent]) -> None:
    """Raise an error if the payloads of an append exceed the size limit.

    Args:
        events: The events of the append.

    Raises:
        AppendTooLarge: The payloads together are longer than APPEND_BYTES.
    """
    size = sum(len(event.data) for event in events)
    if size > APPEND_BYTES:
        raise too_large(size, APPEND_BYTES, f"An append with {len(events)} events")


def conflict(event: NewEvent, log: object = None) -> AppendConflict:
    """Make the error for an event whose place in its stream has a different event.

    Args:
        event: The event that could not be appended.
        log: The path of the log; None for a log in memory.

    Returns:
        The error, to be raised by the caller.
    """
    where = "" if log is None else f" in {log}"
    return AppendConflict(
        f"Event {event.seq} of {event.stream!r} can't be stored{where}: another event stands in "
        "its place already. Only its own recorder may write a stream."
    )
