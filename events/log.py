"""The contract of every log, and what can be asked of one beyond it.

A log is four methods, so that anyone can write a backend; `lllm.testing` holds the suite that it
must pass. What a log can do besides (say where rows live, append without waiting, read by type,
tell who is alive) is a small protocol of its own, and everything works without it, only slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

from lllm.events.database import Database
from lllm.events.errors import LogDamaged
from lllm.events.liveness import Liveness
from lllm.events.record import NewEvent, Recorded

__all__ = [
    "AppendsWithin",
    "AppendsWithoutWaiting",
    "KeepsRows",
    "KnowsItsEnd",
    "KnowsNesting",
    "KnowsWriters",
    "LogBackend",
    "NewEvent",
    "ReadsByType",
    "Recorded",
    "follow",
    "read_types",
]

_SHORTER_LOOKS = 3  # in a row, until a log is taken for one that has lost its end


@runtime_checkable
class LogBackend(Protocol):
    """An append-only log of events.

    1. When `append` returns, its events survive the death of the process.
    2. A reader never sees a hole that is filled later, half of an append, or an event twice.
    3. Any number of threads and processes may append; after a fork the child may go on.
    4. A crash in the middle of a write never costs more than that write.
    """

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Store all of `events` or none, and return their positions.

        Events that stand in the log already, each with the same digest, are not stored twice:
        their positions are returned. An empty append stores nothing. Where a signal handler
        interrupted a write of the same thread, its events are stored when that has ended, and no
        positions are returned.

        Raises AppendConflict where another event has the same (stream, seq), and LogUnavailable
        where nothing could be stored.
        """

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """The events with `after` < position <= `upto` (None: the head now), in order, of one
        stream or all. No lock or transaction is held while the caller looks at one.

        Raises LogDamaged where what is stored is not what was written.
        """

    def head(self) -> int:
        """The highest position that is safe to read, 0 in an empty log."""

    def close(self) -> None:
        """Let go of files and connections; closing twice does nothing."""


@runtime_checkable
class AppendsWithoutWaiting(Protocol):
    """A log that can say at once that it would have to wait, so that an event loop needn't."""

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """As `append`, but None, at once and with nothing stored, where it would wait."""


@runtime_checkable
class KnowsNesting(Protocol):
    """A log that can tell that its thread is in the middle of a write to it: an append by a signal
    handler is queued then."""

    def at_write(self) -> bool:
        """True in the middle of a write of this thread."""

    def when_written(self, work: Callable[[], object]) -> None:
        """Have some work done when that write has ended."""


@runtime_checkable
class AppendsWithin(Protocol):
    """A log that can be told how long to wait for other writers, one of which may be frozen."""

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """As `append`, but None, with nothing stored, where others take longer than so many
        seconds."""


@runtime_checkable
class KeepsRows(Protocol):
    """A log that has a place for the rows of projections; for others they live in memory."""

    def rows_database(self) -> Database:
        """The database that the rows are kept in, the same at every call."""


@runtime_checkable
class KnowsWriters(Protocol):
    """A log that can tell whether the process behind a session is alive."""

    @property
    def liveness(self) -> Liveness | None:
        """The locks of its writers; None where it can't be shared between processes."""


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A log that can tell that its end is missing."""

    def check_end(self) -> None:
        """Raises LogDamaged where the log ends before what was acknowledged."""


@runtime_checkable
class ReadsByType(Protocol):
    """A log that skips the events nobody asked for without handing them over."""

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """As `read`, of the given types only."""


def read_types(
    log: LogBackend, types: Collection[str], *, after: int = 0, upto: int | None = None
) -> Iterator[Recorded]:
    """The events of some types, by the log's own ability or by looking at each."""
    if isinstance(log, ReadsByType):
        return log.read_types(types, after=after, upto=upto)
    return (event for event in log.read(after=after, upto=upto) if event.type in types)


def follow(
    log: LogBackend,
    *,
    after: int | None = None,
    poll: float = 0.1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Recorded]:
    """The events as they come, without end.

    after: the position to begin behind, None for the head now. poll: seconds between looks.
    stop: asked between looks; the iterator ends when it says yes.

    Raises LogDamaged where the log ends before a position that it was read to: it was replaced by
    an older copy, and what comes would be taken for what was seen.
    """
    position = log.head() if after is None else after
    shorter = 0  # looks in a row
    while True:
        seen = position
        for event in log.read(after=position):
            position = event.position
            yield event
        if stop():
            return
        if position == seen:
            # Within a write the head may be lower for a moment.
            head = log.head()
            shorter = shorter + 1 if head < position else 0
            if shorter > _SHORTER_LOOKS:
                raise LogDamaged(
                    f"{log!r} was read up to position {position}, and ends at {head} now: its end "
                    "was deleted, or an older copy was put in its place. Put it back, or read it "
                    "from the beginning.",
                    position=position,
                )
            time.sleep(poll)
