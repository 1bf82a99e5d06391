"""Applies events to views in memory, batch by batch, and writes the changed rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, compress, islice

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged, ViewError
from lllm.events.integrity.leaves import leaves_of
from lllm.events.model import Erased
from lllm.projections.database import DuplicateRow, RowsDatabase
from lllm.projections.engine.checkpoints import Checkpoint, advance
from lllm.projections.engine.row_changes import Changes
from lllm.projections.engine.row_tables import row_tables
from lllm.projections.engine.session_contexts import Contexts
from lllm.projections.engine.skip_damage import (
    OtherEvent,
    events_and_digests,
    skip_corrupt_events,
    skip_corrupt_events_of,
)
from lllm.projections.view import ERASED, View, ViewEvent, takes_digests

_AT_ONCE = 2_000  # events that are decoded at once; with large messages they take some memory


class Batch(msgspec.Struct, frozen=True):
    """The row changes that a batch of events makes, not yet written.

    Attributes:
        database: The database of the rows.
        changes: The changes to the rows of all views.
        generations: The views that applied the batch, and the generation of their rows.
        position: The position of the log that the batch reaches.
        written: Called with the position when everything is written.
    """

    database: RowsDatabase
    changes: Changes
    generations: Mapping[View, int]
    position: int
    written: Callable[[int], None]

    def write(self, timeout: float | None) -> bool:
        """Write the changed rows and their checkpoint in one transaction.

        Args:
            timeout: The longest time to wait for other writers, in seconds; None for
                `locks.WAIT_SECONDS`, after which LogUnavailable is raised.

        Returns:
            False if the time was over; nothing is written then.

        Raises:
            LogDamaged: The log has a second beginning of the same session.
            ViewError: A row has a number beyond the limits of lllm.
        """
        writing = self.database.write(timeout=timeout)
        try:
            with _errors_named(self.position), writing as connection:
                if connection is None:
                    return False
                statements = chain(
                    self.changes.statements(), [advance(self.generations, self.position)]
                )
                row_tables(self.database).write_changes(connection, statements)
        finally:
            writing.abandon()  # in case an interrupt kept the `with` from doing it
        self.written(self.position)
        return True

    def write_unseen(self) -> None:
        """Write rows that are not shown yet, and need not become visible together.

        Raises:
            LogDamaged: The log has a second beginning of the same session.
            ViewError: A row has a number beyond the limits of lllm.
        """
        with _errors_named(self.position):
            row_tables(self.database).fill_tables(self.database, self.changes.statements())
        self.written(self.position)


class Batches:
    """Applies the events of a log to views, batch by batch.

    Args:
        log: The log that the events are read from.
        database: The database of the rows.
        empty: True if the tables are empty, and nobody else writes them.
    """

    def __init__(self, log: LogBackend, database: RowsDatabase, *, empty: bool = False) -> None:
        self._log = log
        self._database = database
        self._empty = empty
        self._changes: Changes | None = None
        # the position that was written last: rows at it are those that the changes have cached
        self._reached: int | None = None

    def apply(
        self,
        views: Mapping[View, Checkpoint],
        upto: int,
        contexts: Contexts,
        size: int,
        failed: Callable[[View, ViewError], None] | None = None,
    ) -> Iterator[Batch]:
        """Apply events to views; write each batch before asking for the next.

        Args:
            views: The views, each with the checkpoint of its rows.
            upto: The position at which to stop.
            contexts: Finds the session of each event.
            size: The greatest number of events in a batch.
            failed: A function that is called with a view that raised, and its error; the view gets
                no further events. None to raise the error.

        Yields:
            The batches; the last one reaches `upto`.

        Raises:
            ViewError: A view raised, and `failed` is None.
            LogDamaged: The log is damaged, and where it continues is unknown.
        """
        views = dict(views)
        generations = {view: at.generation for view, at in views.items()}
        position = min(at.position for at in views.values())
        types = sorted({name for view in views for name in view.types} | {"session.started"})
        read = events_and_digests if any(map(takes_digests, views)) else skip_corrupt_events
        events = read(self._log, types, position, upto)
        changes = self._changes_of(generations, {at.position for at in views.values()})
        while position < upto:
            self._reached = None
            taken = 0
            while taken < size and (some := list(islice(events, min(_AT_ONCE, size - taken)))):
                taken += len(some)
                position = some[-1].position
                decoded = [
                    contexts.view_event(event, codec.decode(event))
                    for event in some
                    if type(event) is Recorded
                ]
                with self._database.snapshot() as changes.connection:
                    failures = _apply(views, changes, decoded) if decoded else []
                    failures += _apply_digests(views, changes, some)
                for view, error in failures:
                    if failed is None:
                        raise error
                    failed(view, error)
                    changes.drop(view)
                    del views[view], generations[view]
            if taken < size:
                position = upto
            yield Batch(self._database, changes, generations, position, self._note_written)

    def _note_written(self, position: int) -> None:
        self._reached = position

    def _read_stream(self, stream: str) -> Iterator[Recorded]:
        return skip_corrupt_events_of(self._log, stream, 0)

    def _changes_of(self, generations: Mapping[View, int], positions: Collection[int]) -> Changes:
        """Make empty changes, or reuse those of the last batch.

        Their cached rows are reused if nobody has written rows since.
        """
        changes = self._changes
        if changes is None or changes.generations != generations:
            changes = self._changes = Changes(
                dict(generations),
                self._read_stream,
                row_tables(self._database).index_statements,
                empty=self._empty,
            )
        elif self._empty or positions != {self._reached}:
            changes.forget()
        else:
            changes.trim()
        return changes


def _apply(
    views: Mapping[View, Checkpoint], changes: Changes, batch: Sequence[ViewEvent]
) -> list[tuple[View, ViewError]]:
    """Pass each view the events that it needs; return the views that raised, with their errors."""
    types = [one.event.type for one in batch]
    first = batch[0].event.position
    failures: list[tuple[View, ViewError]] = []
    for view, at in views.items():
        wanted = list(compress(batch, map(frozenset(view.types).__contains__, types)))
        if ERASED not in view.types:
            wanted = [one for one in wanted if not isinstance(one.payload, Erased)]
        if at.position >= first:
            wanted = [one for one in wanted if one.event.position > at.position]
        if wanted:
            try:
                view.apply(changes, wanted)
            except Exception as error:  # a user's view may raise anything
                failures.append((view, _view_error(view, *_ends(wanted), error)))
    return failures


def _apply_digests(
    views: Mapping[View, Checkpoint], changes: Changes, batch: Sequence[Recorded | OtherEvent]
) -> list[tuple[View, ViewError]]:
    """Pass the digests of all events to the views that take them; return the views that raised."""
    failures: list[tuple[View, ViewError]] = []
    for view, at in views.items():
        if takes_digests(view):
            digests = leaves_of((event.position, event.digest) for event in batch)
            if at.position >= digests[0][0]:
                digests = [one for one in digests if one[0] > at.position]
            try:
                view.apply_digests(changes, digests, changes.shown)
            except Exception as error:  # as in `_apply`
                first, last = batch[0].position, batch[-1].position
                failures.append((view, _view_error(view, first, last, error)))
    return failures


def _ends(batch: Sequence[ViewEvent]) -> tuple[int, int]:
    return batch[0].event.position, batch[-1].event.position


def _view_error(view: View, first: int, last: int, error: Exception) -> ViewError:
    made = ViewError(
        f"The view {view.name!r} could not take the events from position {first} to {last}: "
        f"{type(error).__name__}: {error}."
    )
    made.__cause__ = error
    return made


@contextmanager
def _errors_named(upto: int) -> Iterator[None]:
    """A context manager that turns errors while rows are written into lllm's errors."""
    try:
        yield
    except (sqlite3.IntegrityError, DuplicateRow) as error:
        raise LogDamaged(
            f"Up to position {upto} of the log, a session begins that has begun already ({error}). "
            "Restore the log from a backup.",
            position=upto,
        ) from error
    except OverflowError as error:
        raise ViewError(
            "The rows of a view have a number larger than lllm ever writes. Rebuild them with "
            "`lllm rebuild` or LogStore.rebuild()."
        ) from error
