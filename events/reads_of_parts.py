"""Reads several streams, or events at several positions, at once from logs that can.

A log on a server answers one question for all of them; from another log, they are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded


class StreamPart(NamedTuple):
    """A part of a stream.

    Attributes:
        stream: The name of the stream.
        after: The part begins after this position.
        upto: The last position of the part; None for the current head.
    """

    stream: str
    after: int
    upto: int | None


@runtime_checkable
class ReadsParts(Protocol):
    """A log that can read several streams, or events at several positions, at once."""

    def read_streams(self, parts: Sequence[StreamPart]) -> Iterator[Recorded]:
        """Read parts of several streams.

        Args:
            parts: The parts, in any order.

        Returns:
            The events of the first part in their order, then those of the second, and so on.
        """

    def read_positions(self, positions: Sequence[int]) -> Iterator[Recorded]:
        """Read the events at some positions.

        Args:
            positions: The positions; there may be no event at some of them.

        Returns:
            The events, in order of their positions.
        """


def read_streams(log: LogBackend, parts: Sequence[StreamPart]) -> Iterator[Recorded]:
    """Read parts of several streams from any log.

    Args:
        log: The backend, of any class.
        parts: The parts, in any order.

    Returns:
        The events of the first part in their order, then those of the second, and so on.

    Raises:
        LogDamaged: A stored event differs from what was written; the events before it were yielded.
    """
    if isinstance(log, ReadsParts):
        return log.read_streams(parts)
    return (
        event
        for part in parts
        for event in log.read(after=part.after, upto=part.upto, stream=part.stream)
    )


def read_positions(log: LogBackend, positions: Sequence[int]) -> Iterator[Recorded]:
    """Read the events at some positions of any log.

    Args:
        log: The backend, of any class.
        positions: The positions; there may be no event at some of them.

    Returns:
        The events, in order of their positions.

    Raises:
        LogDamaged: A stored event differs from what was written; the events before it were yielded.
    """
    if isinstance(log, ReadsParts):
        return log.read_positions(positions)
    return (event for at in sorted(set(positions)) for event in log.read(after=at - 1, upto=at))
