"""Defines the interface of a log backend, and the optional abilities that one can add.

To write a backend, implement the four methods of `LogBackend`; `lllm.testing` has the suite that it
must pass. Whatever else a backend can do is a small protocol of its own below. Each is optional: a
backend without it works too, more slowly or with less said about it. No module asks a backend for
its class.

To have `LogStore.open` and the command line open a backend by a path or URL, describe it by a
`BackendKind` and name that under the entry-point group `lllm.backends`; see `lllm.events.backends`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.database import Database
    from lllm.events.concurrency.liveness import Liveness
    from lllm.events.damage import Readable
    from lllm.events.health import Health
    from lllm.events.integrity.repair import Repaired

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
        """Store all of `events` or none.

        Events that stand in the log already, each with the same digest, are not stored twice. An
        empty append stores nothing.

        Args:
            events: What is stored, in this order.

        Returns:
            The position of each event. Where a signal handler interrupted a write of the same
            thread, its events are stored when that has ended, and no positions are returned.

        Raises:
            AppendConflict: Another event has the same (stream, seq).
            LogUnavailable: Nothing could be stored.
        """

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read the events of a range of positions, in order.

        No lock or transaction is held while the caller looks at one.

        Args:
            after: The position to begin behind, 0 for the beginning.
            upto: The last position that is read, None for the head now.
            stream: The one stream to read, None for all.

        Raises:
            LogDamaged: What is stored is not what was written.
        """

    def head(self) -> int:
        """The highest position up to which events can be read; 0 for an empty log."""

    def close(self) -> None:
        """Close all files and connections; closing twice does nothing."""


@runtime_checkable
class AppendsWithoutWaiting(Protocol):
    """A log with an append that returns at once instead of waiting for a lock."""

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """Append without waiting for a lock.

        Args:
            events: As of `append`.

        Returns:
            The positions, or None, at once and with nothing stored, where it would have to wait.
        """


@runtime_checkable
class KnowsNesting(Protocol):
    """A log that can tell if the current thread is already inside a write to it.

    An append by a signal handler is queued then.
    """

    def at_write(self) -> bool:
        """True if this thread is inside a write to the log."""

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue work until this thread's current write has ended.

        Args:
            work: Called once, in whichever thread.
        """


@runtime_checkable
class AppendsWithin(Protocol):
    """A log with an append that gives up when other writers hold the lock for too long."""

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """Append, but give up if other writers hold the lock for too long.

        Args:
            events: As of `append`.
            seconds: How long to wait for others.

        Returns:
            The positions, or None where nothing is stored because others took longer.
        """


@runtime_checkable
class KnowsWriters(Protocol):
    """A log that can tell whether the process behind a session is alive."""

    @property
    def liveness(self) -> Liveness | None:
        """The locks that tell which writers are alive; None where processes can't share the log."""


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A log that can detect that its last events are missing."""

    def check_end(self) -> None:
        """Check that the last events of the log are still there.

        Raises:
            LogDamaged: The log ends before what was acknowledged.
        """


@runtime_checkable
class ReadsByType(Protocol):
    """A log that can read only the events of given types."""

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types, in order.

        Args:
            types: As "llm.responded".
            after: As of `read`.
            upto: As of `read`.
        """


@runtime_checkable
class ReadsDigests(Protocol):
    """A log that can read the digests of events without the events."""

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of all events, in order.

        Args:
            after: As of `read`.
            upto: As of `read`.
        """


@runtime_checkable
class ReadsPastDamage(Protocol):
    """A log that can continue reading after a damaged place."""

    def readable(self) -> Readable:
        """Prepare to read all readable events, and a Damage for each unreadable part.

        Raises:
            LogError: It can't be read at all.
        """


DigestPage = Sequence[tuple[int, bytes]]  # positions and digests, in the order of the log
DIGESTS_AT_ONCE = 2_048

Progress = Callable[[int, int], None]  # told how far some work is, and how far it will go


@runtime_checkable
class CopiesFiles(Protocol):
    """A log that backs itself up by copying its files."""

    @property
    def path(self) -> Path | str:
        """The file or folder of the log; a str if it is in neither."""

    def copy_to(self, copy: Path, progress: Progress | None) -> tuple[int, int]:
        """Copy the log as it is at one moment, while others write to it.

        Args:
            copy: Where the file or folder is made. Nothing is there yet.
            progress: Called as the copy grows, with bytes copied and bytes to copy.

        Returns:
            The position of the last event in the copy, and the size of the copy in bytes.
        """


@runtime_checkable
class ErasesPayloads(Protocol):
    """A log that can erase payloads on purpose; everything else about an event stays.

    Nothing else changes an event that was appended.
    """

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Overwrite the payloads of some events, for good.

        Whatever crashes meanwhile, each of them is then read as it was or as it is given here; what
        was begun is undone, or finished when the log is next opened to be written.

        Args:
            erased: The events as they are afterwards (`envelope.erase`), in the order of the log; a
                few hundred at most.

        Raises:
            LogUnavailable: They can't be written.
        """

    def vacuum(self) -> bool:
        """Remove the copies that files may still hold of what was erased.

        Returns:
            False where a reader keeps an older state of a file in use, so that it has to be done
            again.

        Raises:
            LogUnavailable: A file can't be written.
        """


@runtime_checkable
class CanBeRepaired(Protocol):
    """A log that can repair its damaged files."""

    def repair(self) -> Repaired:
        """Repair the log as far as possible; each changed file is copied first.

        The log may be closed afterwards.

        Raises:
            LogUnavailable: Others use it.
        """


@runtime_checkable
class KeepsRows(Protocol):
    """A log that stores the rows of projections; without this ability they are kept in memory.

    Attributes:
        rows_in_log: True if the events stand in the same database, so that one look at it tells
            whether there is anything new.
    """

    rows_in_log: bool

    def rows_database(self) -> Database:
        """The database that stores the rows; every call returns the same one.

        `lllm.events.log.open_rows` makes one in a file.

        Raises:
            LogError: It can't be opened.
        """


@runtime_checkable
class ReportsHealth(Protocol):
    """A log that can tell its size, format and files."""

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the state of the log up to the position `head`.

        Args:
            head: The highest position that is looked at.
            read_bytes: How much may be read to count the events, None for all there is.
        """


class OpensLog(Protocol):
    """Opens the logs of one kind."""

    def __call__(self, location: str, *, read_only: bool | None, make: bool) -> LogBackend:
        """Open the log at a location.

        Args:
            location: A path, or a URL as the user wrote it.
            read_only: True to write nothing; None to find out whether this user may write.
            make: Make a log where there is none. Where this is False and there is none, raise
                StoreError.
        """


class BackendKind(msgspec.Struct, frozen=True, kw_only=True):
    """Recognises the paths and URLs of one kind of log, and opens them.

    A path is recognised by names alone. Nobody opens a file to look into it: closing it would take
    away the locks that SQLite holds on it in the same process
    (https://sqlite.org/howtocorrupt.html, 2.2).

    Attributes:
        name: What the kind is called, as "sqlite".
        open: Opens the log at a location.
        schemes: Of its URLs, in lower case, as "postgresql".
        suffixes: Of its paths, as ".db".
        marks: Patterns (those of `glob`) for names of files; a folder with one of them in it is a
            log of this kind.
    """

    name: str
    open: OpensLog
    schemes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def persists(log: LogBackend) -> bool:
    """False if a log has an attribute `persists` that says it stores nothing.

    Args:
        log: Any backend.
    """
    return bool(getattr(log, "persists", True))


def read_types(
    log: LogBackend, types: Collection[str], *, after: int = 0, upto: int | None = None
) -> Iterator[Recorded]:
    """Read the events of some types, from any log, whether or not it can select them itself.

    Args:
        log: Any backend.
        types: As "llm.responded".
        after: The position to begin behind.
        upto: The last position that is read, None for the head now.

    Raises:
        LogDamaged: What is stored is not what was written.
    """
    if isinstance(log, ReadsByType):
        return log.read_types(types, after=after, upto=upto)
    return (event for event in log.read(after=after, upto=upto) if event.type in types)


def read_digests(
    log: LogBackend, *, after: int = 0, upto: int | None = None
) -> Iterator[DigestPage]:
    """Read the digests of all events, from any log, whether or not it can read them alone.

    Args:
        log: Any backend.
        after: The position to begin behind.
        upto: The last position that is read, None for the head now.

    Yields:
        Some positions and digests at a time; none twice.

    Raises:
        LogDamaged: What is stored is not what was written. What stands before it was given.
    """
    if isinstance(log, ReadsDigests):
        return log.read_digests(after=after, upto=upto)
    return digest_pages(log.read(after=after, upto=upto))


def digest_pages(events: Iterator[Recorded]) -> Iterator[DigestPage]:
    """Take the positions and digests of events.

    Args:
        events: The events, which may end with LogDamaged.

    Yields:
        Some of them at a time.

    Raises:
        LogDamaged: As the events, behind what was read.
    """
    page: list[tuple[int, bytes]] = []
    try:
        for event in events:
            page.append((event.position, event.digest))
            if len(page) == DIGESTS_AT_ONCE:
                yield page
                page = []
    except LogDamaged:
        if page:
            yield page
        raise
    if page:
        yield page


def follow(
    log: LogBackend,
    *,
    after: int | None = None,
    poll: float = 0.1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Recorded]:
    """Iterate over events as they are written, without end.

    Args:
        log: Any backend.
        after: The position to begin behind, None for the head now.
        poll: Seconds between two looks.
        stop: Asked between looks; the iterator ends when it says yes.

    Raises:
        LogDamaged: The log ends before a position that it was read to. It was replaced by an older
            copy, and what comes would be taken for what was seen.
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
