"""Appends sessions from exported files and other stores to a store.

Each source is read twice, in its own order: first to check all of it, then to copy the sessions
that passed. So nothing of a session is copied if anything is wrong with it. If a program is killed
in between, the next import completes the part that it left. A log recognises the events that it
has, so repeating an import adds nothing.

A session that comes before one that it refers to, such as its parent, waits for another round, in
which the other has been copied from whichever source has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import lru_cache

import msgspec

from lllm.events.backend import Progress
from lllm.events.buffered import BufferedLog
from lllm.events.damage import Damage
from lllm.events.envelope import Recorded
from lllm.events.errors import AppendConflict, ImportRefused, LogReadOnly, StoreError
from lllm.events.model import SessionStarted
from lllm.importing.already_stored import KnownEvents
from lllm.importing.refusals import SAID_BY_MANY, StreamChecks
from lllm.importing.sources import Given, Source, open_source
from lllm.importing.stream_notes import StreamNotes
from lllm.store.read_model import ReadModel
from lllm.store.session_reader import SessionReader

_AT_ONCE = 500  # events in one append
_BYTES_AT_ONCE = 4 << 20  # bytes of payloads in one append, during which other writers wait
_LATELY = 4_096  # streams whose verdict is kept in memory
_REPORTED = 1_024  # events between two reports of progress


class ImportedSessions(msgspec.Struct, frozen=True):
    """The result of an import.

    Attributes:
        sessions: The number of sessions, at any depth, that the store did not have.
        events: The number of events, including those of definitions, errors and tags.
        known: The number of sessions that the store had already, completely or in part.
    """

    sessions: int
    events: int
    known: int


def merge(
    log: BufferedLog,
    rows: ReadModel,
    reader: SessionReader,
    given: Sequence[Given],
    progress: Progress | None = None,
) -> ImportedSessions:
    """Append all events of the given sources that a store does not have.

    Args:
        log: The log of the store.
        rows: The rows of the store.
        reader: The reader that brings the rows up to date.
        given: The sources to import; see `open_source`.
        progress: Called with the amount of all sources that is done, and the total amount; since
            each is read twice, that is twice their size. None for no reports.

    Returns:
        The numbers of sessions and events that were added.

    Raises:
        ImportRefused: Something was not imported; everything else was.
        StoreError: A source does not exist, or can't be imported at all.
        LogError: A source can't be read, or the store can't be written.
    """
    if rows.database.read_only or getattr(log.backend, "read_only", False):
        raise LogReadOnly(f"{log.backend!r} was opened to be read only; nothing is imported.")
    with ExitStack() as stack:
        sources = [stack.enter_context(closing(open_source(one, log.backend))) for one in given]
        merging = _Merging(log, rows, reader, progress, 2 * sum(one.size for one in sources))
        waiting = sources
        while waiting:
            again = [one for one in waiting if merging.take(one, awaiting=True)]
            if len(again) == len(waiting):  # no source has what they wait for
                for one in again:
                    merging.take(one, awaiting=False)
                break
            waiting = again
    reader.catch_up()
    return merging.result()


class _Merging:
    """An import in progress, source by source."""

    def __init__(
        self,
        log: BufferedLog,
        rows: ReadModel,
        reader: SessionReader,
        progress: Progress | None,
        total: int,
    ) -> None:
        self._log = log
        self._rows = rows
        self._reader = reader
        self._progress = progress
        self._total = total
        self._done = 0
        self._sessions = self._events = self._known = 0
        self._read: set[str] = set()  # the names of the sources that were read before
        self._refused: dict[str, None] = {}
        self._restored: set[str] = set()  # sessions that were archived and come back

    def result(self) -> ImportedSessions:
        """The sum of all sources. Raises ImportRefused if something was refused."""
        if not self._refused:
            return ImportedSessions(self._sessions, self._events, self._known)
        first, *others = self._refused
        more = f" And {len(others):,} more." if others else ""
        raise ImportRefused(
            f"{first}{more} What else there was is imported: {self._sessions:,} sessions.",
            refused=tuple(self._refused),
            sessions=self._sessions,
            events=self._events,
            known=self._known,
        )

    def take(self, source: Source, *, awaiting: bool) -> bool:
        """Check a source, and copy what passes the check.

        Args:
            source: The source to check and copy.
            awaiting: True to leave sessions for another round if something that they refer to is
                missing.

        Returns:
            True if something was left for another round.

        Raises:
            StoreError: Nothing of the source can be imported.
            LogError: The source can't be read, or the store can't be written.
        """
        self._reader.catch_up()
        with closing(StreamNotes()) as notes:
            known = KnownEvents(self._log, self._rows)
            checks = StreamChecks(known, notes, awaiting=awaiting)
            try:
                for event in self._told(source):
                    checks.take(event)
            except StoreError as error:
                self._refused[str(error)] = None
                return False
            dead = checks.refuse_living(source.lives)
            self._copy(source, notes, known)
            self._reader.interrupt(dead)
            self._read.add(source.name)
            for refusal in notes.refusals():
                self._refused[
                    f"{source.name}, {source.place} {refusal.place}: {refusal.why}. Nothing of "
                    f"{refusal.root} was imported."
                ] = None
            return notes.some_await()

    def _told(self, source: Source) -> Iterable[Recorded | Damage]:
        """Read a source, and report progress."""
        for number, event in enumerate(source.read(), 1):
            yield event
            if self._progress is not None and number % _REPORTED == 0:
                self._progress(min(self._done + source.reached(), self._total), self._total)
        self._done += source.size

    def _copy(self, source: Source, notes: StreamNotes, known: KnownEvents) -> None:
        verdict = lru_cache(_LATELY)(notes.verdict)
        batch: list[Recorded] = []
        size = 0
        for event in self._told(source):
            if isinstance(event, Damage):
                continue
            wanted = verdict(event.stream)
            if wanted is None or event.position < wanted[1]:
                continue
            if event.seq <= wanted[0]:
                is_first = event.seq == 1 and event.type == SessionStarted.type
                self._known += is_first and source.name not in self._read
                continue
            if batch and (len(batch) == _AT_ONCE or size + len(event.data) > _BYTES_AT_ONCE):
                self._append(batch, notes)
                batch, size = [], 0
            if event.seq == 1 and event.type == SessionStarted.type:
                self._make_room(event.stream, known)
            batch.append(event)
            size += len(event.data)
        if batch:
            self._append(batch, notes)

    def _make_room(self, session_id: str, known: KnownEvents) -> None:
        """Say that a session that was archived, and all below it, come back."""
        if session_id in self._restored:
            return
        statements = known.restored(session_id)
        if statements:
            self._log.backend.append(statements)
            self._restored |= known.family(session_id)

    def _append(self, events: Sequence[Recorded], notes: StreamNotes) -> None:
        backend = self._log.backend
        head = backend.head()
        try:
            positions = backend.append([event.without_position() for event in events])
        except AppendConflict as conflict:
            if len(events) > 1:
                for event in events:
                    self._append([event], notes)
            elif events[0].type not in SAID_BY_MANY:
                notes.refuse(events[0].stream, events[0].position, str(conflict).rstrip("."))
            return
        for event, position in zip(events, positions, strict=True):
            if position > head:
                self._events += 1
                self._sessions += event.seq == 1 and event.type == SessionStarted.type
