"""Defines the interface of a log backend, and the optional abilities that one can add.

To write a backend, implement the four methods of `LogBackend`; `lllm.testing` has the suite that it
must pass. Each further ability is a small protocol below. All of them are optional: a backend
without one works too, more slowly or with fewer details in reports. No module checks the class of a
backend.

`LogStore.open` and the command line can open a backend by its path or URL if a `BackendKind`
describes it and is registered in the entry-point group `lllm.backends`; see `lllm.events.backends`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.database import Database
    from lllm.events.concurrency.liveness import WriterLiveness
    from lllm.events.damage import Readable
    from lllm.events.health import Health
    from lllm.events.integrity.repair import Repaired


@runtime_checkable
class LogBackend(Protocol):
    """An append-only log of events.

    1. When `append` returns, its events survive the death of the process. 2. A reader never sees a
    hole that is filled later, half of an append, or an event twice. 3. Any number of threads and
    processes may append; after a fork the child may append, too. 4. A crash in the middle of a
    write never costs more than that write.
    """

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Store all of `events`, or none of them.

        Events that are in the log already, with the same digest, are not stored twice. An empty
        append stores nothing.

        Args:
            events: The events to store, in this order.

        Returns:
            The position of each event. If a signal handler calls this inside a write of the same
            thread, its events are stored when that write has ended, and an empty sequence is
            returned.

        Raises:
            AppendConflict: A different event has the same (stream, seq).
            LogUnavailable: The log can't be written; nothing was stored.
        """

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read the events of a range of positions, in order.

        No lock or transaction is held while the caller handles an event.

        Args:
            after: Read the events after this position; 0 for the beginning.
            upto: The last position to read; None for the current head.
            stream: The stream to read; None for all streams.

        Returns:
            The events, in order of their positions.

        Raises:
            LogDamaged: A stored event differs from what was written.
        """

    def head(self) -> int:
        """The highest position up to which events can be read; 0 for an empty log."""

    def close(self) -> None:
        """Close all files and connections; closing twice does nothing."""


@runtime_checkable
class AppendsWithoutWaiting(Protocol):
    """A log with an append that returns at once instead of waiting for a lock."""

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """Append events if that is possible without waiting for a lock.

        Args:
            events: The events to store, as for `LogBackend.append`.

        Returns:
            The positions; None, with nothing stored, if it would have to wait.
        """


@runtime_checkable
class KnowsNesting(Protocol):
    """A log that can tell if the current thread is already inside a write to it.

    An append by a signal handler that interrupted a write is queued until that write has ended.
    """

    def at_write(self) -> bool:
        """True if the current thread is inside a write to the log."""

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current write has ended.

        Args:
            work: The function; it is called once, in any thread.
        """


@runtime_checkable
class AppendsWithin(Protocol):
    """A log with an append that has a time limit for waiting for other writers."""

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """Append events, but give up if other writers hold the lock for too long.

        Args:
            events: The events to store, as for `LogBackend.append`.
            seconds: The longest time to wait for other writers.

        Returns:
            The positions; None, with nothing stored, if the time was over first.
        """


@runtime_checkable
class KnowsWriters(Protocol):
    """A log that can tell whether the process that writes a session is alive."""

    @property
    def liveness(self) -> WriterLiveness | None:
        """The locks that show which writers are alive; None if processes can't share the log."""


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A log that can detect that its last events are missing."""

    def check_end(self) -> None:
        """Check that the last events of the log are still there.

        Raises:
            LogDamaged: The log ends before an event that was acknowledged.
        """


@runtime_checkable
class HidesAppends(Protocol):
    """A log in which an append that is under way hides later ones, even from who appended them."""

    def last_appended(self) -> int:
        """The highest position that this process has appended; 0 if there is none."""

    def wait_until_visible(self, seconds: float) -> bool:
        """Wait until this process can read what it has appended.

        Args:
            seconds: The longest time to wait.

        Returns:
            False if it is still hidden.

        Raises:
            LogUnavailable: The log can't be read.
        """


@runtime_checkable
class ReadsByType(Protocol):
    """A log that can read only the events of given types."""

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types, in order.

        Args:
            types: The event types, as "llm.responded".
            after: Read the events after this position; 0 for the beginning.
            upto: The last position to read; None for the current head.

        Returns:
            The events, in order of their positions.
        """


@runtime_checkable
class ReadsDigests(Protocol):
    """A log that can read the digests of events without reading their payloads."""

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of all events, in order.

        Args:
            after: Read the digests after this position; 0 for the beginning.
            upto: The last position to read; None for the current head.

        Returns:
            Pages of positions and digests, in order.
        """


@runtime_checkable
class ReadsWithDigests(Protocol):
    """A log that can read the payloads of some types, and of the other events only the digests."""

    def read_with_digests(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded | tuple[int, bytes]]:
        """Read all events in order, but not the payloads of all types.

        Args:
            types: The types that are read as a whole, as "llm.responded".
            after: Read the events after this position; 0 for the beginning.
            upto: The last position to read; None for the current head.

        Returns:
            The events of these types, and the position and digest of each other event.
        """


@runtime_checkable
class ReadsPastDamage(Protocol):
    """A log that can continue reading after a damaged place."""

    def readable(self) -> Readable:
        """Prepare to read all readable events, and a Damage for each unreadable part.

        Returns:
            An iterator over the events and the damage.

        Raises:
            LogError: The log can't be read at all.
        """


class Announcements(Protocol):
    """Tells when there may be new events in a log; a context manager.

    Attributes:
        silence: Seconds without an announcement, after which one should look at the log anyway.
    """

    silence: float

    def __enter__(self) -> Announcements:
        """Begin to listen; what is appended from now on is announced."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None, /,
    ) -> None:  # fmt: skip
        """Stop listening."""

    def wait(self, seconds: float) -> bool:
        """Wait until there may be new events.

        Args:
            seconds: The longest time to wait.

        Returns:
            True if something was announced; False if the time was over first.
        """


@runtime_checkable
class AnnouncesAppends(Protocol):
    """A log that tells its readers when something is appended, by any process."""

    def announcements(self) -> Announcements:
        """Prepare to listen to appends.

        Returns:
            A context manager, in which the appends are announced.
        """


DigestPage = Sequence[tuple[int, bytes]]  # some positions and their digests, in order
DIGESTS_AT_ONCE = 2_048

Progress = Callable[[int, int], None]  # called with what is done and what there is to do


@runtime_checkable
class CopiesFiles(Protocol):
    """A log that backs itself up by copying its files."""

    @property
    def path(self) -> Path | str:
        """The file or folder of the log; a text that describes it if it is in neither."""

    def copy_to(self, copy: Path, progress: Progress | None) -> tuple[int, int]:
        """Copy the log as it is at one moment; others may write to it meanwhile.

        Args:
            copy: The path of the new file or folder; nothing exists there yet.
            progress: A function that is called with the bytes copied so far and the bytes to copy;
                None for no reports.

        Returns:
            The position of the last event in the copy, and the size of the copy in bytes.
        """


@runtime_checkable
class ErasesPayloads(Protocol):
    """A log that can erase payloads on purpose; everything else of an event stays.

    No other operation changes an event after its append.
    """

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Overwrite the payloads of some events, permanently.

        After a crash, each event is read either as it was or as erased. An unfinished erasure is
        undone, or finished when the log is next opened for writing.

        Args:
            erased: The erased events, as `digest.erase` makes them, in the order of the log; a few
                hundred at most.

        Raises:
            LogUnavailable: The events can't be overwritten.
        """

    def vacuum(self) -> bool:
        """Remove copies of erased data that the files may still have.

        Returns:
            False if a reader still uses an older state of a file, so that this has to be repeated
            later.

        Raises:
            LogUnavailable: A file can't be written.
        """


@runtime_checkable
class LeavesCopies(ErasesPayloads, Protocol):
    """A log on servers that may have copies of erased payloads in other places."""

    @property
    def copies_elsewhere(self) -> Sequence[str]:
        """The places that may have copies, as texts."""


@runtime_checkable
class RewritesTables(LeavesCopies, Protocol):
    """A log on a server that others use, too: a VACUUM makes them wait, so it is run only if asked.

    Until then, an erasure is pending.
    """

    def drop_emptied(self) -> None:
        """Drop whole tables in which next to nothing is left, as far as that makes nobody wait.

        Raises:
            LogUnavailable: The server can't be reached.
        """

    def tables_to_rewrite(self) -> Sequence[tuple[str, int]]:
        """List the tables of payloads that a VACUUM would rewrite, and lock meanwhile.

        Returns:
            Their names, and their sizes in bytes.

        Raises:
            LogUnavailable: The server can't be reached.
        """


@runtime_checkable
class KeepsLeaves(Protocol):
    """A log that keeps the digests of events that left it for an archive."""

    def archived_leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of events that left the log.

        Args:
            after: Read those after this position; 0 for the beginning.
            upto: The last position to read; None for the current head.

        Returns:
            Pages of positions and digests, in order.
        """


@runtime_checkable
class RemovesEvents(KeepsLeaves, Protocol):
    """A log that can remove whole events, whose digests stay: for archives.

    The digests keep their places in the log's Merkle tree: `read_digests` yields them between those
    of the other events, and `read` leaves the events out.
    """

    def remove_events(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Remove some events, all or none of them; those that are removed already are passed over.

        Args:
            leaves: The positions and digests of the events, in order; a few thousand at most.

        Raises:
            LogDamaged: An event at one of the positions has another digest.
            LogUnavailable: The log can't be written.
        """


@runtime_checkable
class CanBeRepaired(Protocol):
    """A log that can repair its damaged files."""

    def repair(self) -> Repaired:
        """Repair the log as far as possible; each file is copied before it is changed.

        The log may be closed afterwards.

        Returns:
            A report of what was repaired.

        Raises:
            LogUnavailable: Another program is using the log.
        """


@runtime_checkable
class KeepsRows(Protocol):
    """A log that stores the rows of projections; for other logs they are kept in memory.

    Attributes:
        rows_in_log: True if the rows are in the same database as the events, so one query tells
            whether there are new events.
    """

    rows_in_log: bool

    def rows_database(self) -> Database:
        """The database that stores the rows; every call returns the same object.

        `lllm.events.log.open_rows` opens one in a file.

        Raises:
            LogError: The database can't be opened.
        """


class ServerAddress(Protocol):
    """Where a schema in a PostgreSQL database is."""

    @property
    def conninfo(self) -> str:
        """The connection string of libpq; it may contain a password."""

    @property
    def schema(self) -> str:
        """The name of the schema."""

    @property
    def shown(self) -> str:
        """The address for messages, without a password."""


@runtime_checkable
class OnServer(Protocol):
    """A log in PostgreSQL, in whose schema the rows of projections are kept, too.

    Attributes:
        read_only: True to write nothing.
        jsonb: True to keep payloads as jsonb, too, if the store does not know whether it does.
    """

    read_only: bool
    jsonb: bool | None

    @property
    def server(self) -> ServerAddress:
        """The schema of the log."""


@runtime_checkable
class ReportsHealth(Protocol):
    """A log that can report its size, format and files."""

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the state of the log up to the position `head`.

        Args:
            head: The last position that the report covers.
            read_bytes: How many bytes may be read to count the events; None for no limit.

        Returns:
            The report.
        """


class OpensLog(Protocol):
    """Opens a log of one kind; a function of this form is `BackendKind.open`."""

    def __call__(self, location: str, *, read_only: bool | None, make: bool) -> LogBackend:
        """Open the log at a location.

        Args:
            location: A path or URL, as the user wrote it.
            read_only: True to write nothing; False to write; None to write if this user may.
            make: True to create the log if it does not exist.

        Returns:
            The open log.

        Raises:
            StoreError: There is no log, and `make` is False.
        """


class BackendKind(msgspec.Struct, frozen=True, kw_only=True):
    """Recognises the paths and URLs of one kind of log, and opens them.

    A path is recognised by names alone, and no file is opened to look into it: closing the file
    would release the locks that SQLite holds on it in the same process
    (https://sqlite.org/howtocorrupt.html, section 2.2).

    Attributes:
        name: The name of the kind, as "sqlite".
        open: A function that opens the log at a path or URL.
        schemes: The schemes of its URLs in lower case, as "postgresql".
        suffixes: The suffixes of its paths, as ".db".
        marks: File name patterns as in `glob`; a folder that contains a matching file is a log of
            this kind.
    """

    name: str
    open: OpensLog
    schemes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def persists(log: LogBackend) -> bool:
    """False if the backend has an attribute `persists` that is false: it stores nothing.

    Args:
        log: The backend, of any class.

    Returns:
        True if events that are appended can be read again.
    """
    return bool(getattr(log, "persists", True))


def may_read(log: LogBackend) -> bool:
    """False if the backend has an attribute `may_read` that is false: it may only be written to.

    Args:
        log: The backend, of any class.

    Returns:
        True if the events of others can be read.
    """
    return bool(getattr(log, "may_read", True))


def read_types(
    log: LogBackend, types: Collection[str], *, after: int = 0, upto: int | None = None
) -> Iterator[Recorded]:
    """Read the events of some types from any log, also from one that can't select them itself.

    Args:
        log: The backend, of any class.
        types: The event types, as "llm.responded".
        after: Read the events after this position; 0 for the beginning.
        upto: The last position to read; None for the current head.

    Returns:
        The events, in order of their positions.

    Raises:
        LogDamaged: A stored event differs from what was written.
    """
    if isinstance(log, ReadsByType):
        return log.read_types(types, after=after, upto=upto)
    return (event for event in log.read(after=after, upto=upto) if event.type in types)


def read_digests(
    log: LogBackend, *, after: int = 0, upto: int | None = None
) -> Iterator[DigestPage]:
    """Read the digests of all events from any log, also from one that can't read them alone.

    Args:
        log: The backend, of any class.
        after: Read the digests after this position; 0 for the beginning.
        upto: The last position to read; None for the current head.

    Yields:
        Pages of positions and digests, in order, each event once.

    Raises:
        LogDamaged: A stored event differs from what was written; the digests before it were
            yielded.
    """
    if isinstance(log, ReadsDigests):
        return log.read_digests(after=after, upto=upto)
    return digest_pages(log.read(after=after, upto=upto))


def read_with_digests(
    log: LogBackend, types: Collection[str], *, after: int = 0, upto: int | None = None
) -> Iterator[Recorded | tuple[int, bytes]]:
    """Read the events of some types, and the digests of all others, from any log.

    Args:
        log: The backend, of any class.
        types: The types that are read as a whole, as "llm.responded".
        after: Read the events after this position; 0 for the beginning.
        upto: The last position to read; None for the current head.

    Returns:
        The events of these types, and the position and digest of each other event, in order.

    Raises:
        LogDamaged: A stored event differs from what was written.
    """
    if isinstance(log, ReadsWithDigests):
        return log.read_with_digests(types, after=after, upto=upto)
    return (
        event if event.type in types else (event.position, event.digest)
        for event in log.read(after=after, upto=upto)
    )


def archived_leaves(log: LogBackend, *, after: int = 0, upto: int) -> Iterator[tuple[int, bytes]]:
    """Read the digests of events that left a log, from any log.

    Args:
        log: The backend, of any class.
        after: Read those after this position; 0 for the beginning.
        upto: The last position to read.

    Yields:
        Their positions and digests, in order; nothing if the log keeps none.
    """
    if isinstance(log, KeepsLeaves):
        for page in log.archived_leaves(after=after, upto=upto):
            yield from page


def digest_pages(events: Iterator[Recorded]) -> Iterator[DigestPage]:
    """Collect the positions and digests of events into pages.

    Args:
        events: The events; iterating over them may raise LogDamaged.

    Yields:
        Pages of positions and digests, in order.

    Raises:
        LogDamaged: Raised by `events`; the digests before it were yielded.
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
