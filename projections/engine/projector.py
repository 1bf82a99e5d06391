"""Brings the rows of all views up to date with the log.

Views pull: a read first catches up to the head of the log, in one pass for all views. Each batch is
read and applied in memory, then written in one short transaction with the checkpoint, so that every
event counts exactly once and appenders never wait long. One process projects at a time; a lock file
says which.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from pathlib import Path

from lllm.events import codec
from lllm.events.backend import KnowsItsEnd, LogBackend
from lllm.events.backends.sqlite.database import Database, Value
from lllm.events.backends.sqlite.file_header import FileErrors
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency.fork import register_after_fork
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.errors import LogDamaged, ViewError
from lllm.projections.engine.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    advance,
    has_checkpoints,
    is_stale,
    read_checkpoints,
)
from lllm.projections.engine.row_changes import Changes
from lllm.projections.engine.rows_location import KeepsRows
from lllm.projections.engine.session_contexts import COLUMNS, Contexts
from lllm.projections.engine.skip_damage import skip_corrupt_events
from lllm.projections.engine.tables import generation_table
from lllm.projections.view import View, ViewEvent, check_names

_logger = logging.getLogger("lllm.store")

BATCH = 400  # events applied in one transaction; the commit stays below about 10 ms
_AT_ONCE = 2_000  # events decoded at once; with large messages they take some memory
_UNAWAITED_SECONDS = 5.0  # in which nobody waits, after somebody has in vain
_PATIENCE = 0.05  # seconds that a write waits at least, of whoever need not catch up just now
_PART = 2_000  # rows written in one transaction where they need not be visible at once


class _KeptWaiting(Exception):
    """Others hold the rows' database for longer than this write may wait."""


class _Alone(LockPair):
    """Holds the lock of whoever projects, on a file that is open meanwhile.

    Not reentrant: the collector may end a session inside.
    """

    __slots__ = ("_file",)

    def __init__(self, threads: RobustLock, lock: Path | None, timeout: float | None) -> None:
        self._file = None
        if lock is not None:
            with FileErrors(lock):
                self._file = FileLock(lock)
        super().__init__(threads, self._file, timeout, reentrant=False)

    def exit(self) -> None:
        """See LockPair."""
        super().exit()
        if self._file is not None:
            self._file.close()


class Projector:
    """The views of one log and the database of their rows.

    lock: the lock file that says who projects; None where no other process can.

    Raises ViewError where two views have a name or a table in common.
    """

    def __init__(
        self, log: LogBackend, database: Database, views: Sequence[View], lock: Path | None
    ) -> None:
        self.log = log
        self.database = database
        self.views = tuple(views)
        check_names(self.views)
        self._threads = RobustLock()
        self.rebuilding = RobustLock()
        self._stopped: set[View] = set()  # those that raised, until the store is opened again
        # The state of log and rows in which there was nothing to do, and what rows are changed by.
        backend = log.backend if isinstance(log, BufferedLog) else log
        self._in_one = (
            isinstance(backend, KeepsRows)
            and backend.rows_in_log
            and backend.rows_database() is database
        )
        self._even: tuple[object, ...] | None = None
        self._unawaited_until = 0.0  # by the monotonic clock
        self._changes: Changes | None = None
        self._lock = lock
        if not database.read_only and not has_checkpoints(database):
            with database.write() as connection:
                assert connection is not None
                connection.execute(CHECKPOINTS)
        register_after_fork(self)

    def after_fork(self) -> None:
        """What stands in the database is asked anew."""
        self._even = None

    # -- where things stand

    def checkpoints(self) -> dict[str, Checkpoint]:
        """What is stored of each view, of this library's or another's."""
        return read_checkpoints(self.database)

    def stale(self) -> list[View]:
        """The views whose rows can't be gone on with: there are none yet, an older version built
        them, or they tell of events that the log has lost, as with the loss of power.

        Where the end of the log is missing, somebody may put it back: rows stay as they are then.
        """
        found, head = self.checkpoints(), self.log.head()
        stale = {view.name for view in self.views if is_stale(view, found.get(view.name))}
        ahead = {name for name, at in found.items() if at.position > head} - stale
        if ahead and (lost := self.lost_end()) is not None:
            _logger.error("%s The lists, tags and costs stay as they were.", lost)
            ahead = set()
        return [view for view in self.views if view.name in stale | ahead]

    def lost_end(self) -> LogDamaged | None:
        """What the log says, where its end is missing."""
        log = self.log.backend if isinstance(self.log, BufferedLog) else self.log
        try:
            if isinstance(log, KnowsItsEnd):
                log.check_end()
        except LogDamaged as damage:
            return damage
        return None

    def buildable(self) -> list[View]:
        """The views whose rows no newer version of lllm has built."""
        found = self.checkpoints()
        return [
            view
            for view in self.views
            if view.name not in found or not found[view.name].ahead_of(view)
        ]

    def lag(self) -> int:
        """How far the rows are behind the head of the log, in positions."""
        found = self.checkpoints()
        positions = [found[view.name].position for view in self.views if view.name in found]
        if len(positions) < len(self.views):
            return self.log.head()
        return max(self.log.head() - min(positions, default=0), 0)

    # -- catching up

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Bring every view up to the head of the log as it is now.

        timeout: seconds to wait for another process that is catching up, and for each write.
        Returns False where that took longer, or the rows may not be written: they are then those of
        the checkpoint.
        """
        if timeout == 0 and isinstance(self.log, BufferedLog) and self.log.is_holding:
            return True  # what has just happened waits, too; who reads catches up
        head = None if self._in_one else self.log.head()
        state = (self.database.state(), head)  # a third of what looking at log and rows costs
        if state == self._even:
            return True
        if head is None:
            head = self.log.head()
        if not self._behind(self.checkpoints(), head):
            self._even = state
            return True
        if self.database.read_only or self.database.at_write():
            return False
        if time.monotonic() < self._unawaited_until:
            timeout = 0
        alone = self.alone(timeout)
        try:
            with alone as mine:
                done = mine and self.pull(head, max(timeout, _PATIENCE))
        finally:
            alone.exit()  # where an interrupt kept the `with` from doing it
        if not done and timeout:
            # Whoever is at it may be frozen. The next reads look whether it goes on, and no more.
            self._unawaited_until = time.monotonic() + _UNAWAITED_SECONDS
        return done

    def alone(self, timeout: float | None = None) -> LockPair:
        """A `with` that holds the lock of whoever projects; its value is False where `timeout`
        seconds were not enough."""
        return _Alone(self._threads, self._lock, timeout)

    def _behind(self, found: Mapping[str, Checkpoint], head: int) -> bool:
        return any(
            view.name not in found
            or found[view.name].position < head
            or is_stale(view, found[view.name])
            for view in self.views
            if view not in self._stopped
        )

    def pull(self, head: int, timeout: float | None = None) -> bool:
        """Apply the log to every view whose rows this library can go on with; needs the lock.

        timeout: seconds that each write waits for others, None for as long as anybody does. Returns
        False where they took longer: the rest is left to the next.
        """
        found = self.checkpoints()
        ready = {
            view: found[view.name]
            for view in self.views
            if view not in self._stopped
            # Rows that a newer version built are its own to go on with.
            and view.name in found
            and found[view.name].version == view.version
            and not found[view.name].ahead_of(view)
        }
        if ready and min(at.position for at in ready.values()) < head:
            contexts = self.contexts()
            try:
                for _ in self.feed(
                    ready, head, contexts, BATCH, failed=self._stop, timeout=timeout
                ):
                    pass
            except _KeptWaiting:
                return False
        return True

    def _stop(self, view: View, error: ViewError) -> None:
        """A view of a user's own may raise anything; that is no reason for the others to wait."""
        self._stopped.add(view)
        _logger.error("%s It stays where it is; the other views go on.", error, exc_info=error)

    def feed(
        self,
        views: Mapping[View, Checkpoint],
        upto: int,
        contexts: Contexts,
        batch: int,
        unseen: bool = False,
        failed: Callable[[View, ViewError], None] | None = None,
        timeout: float | None = None,
    ) -> Iterator[int]:
        """Apply the log to `views`, from their checkpoints up to a position, a batch at a time.

        unseen: nobody reads these rows yet, so a batch need not become visible at once and with its
        position: it may be large, and is written in parts that keep nobody waiting. failed: told of
        a view that raises, which is then left where it was. timeout: see `pull`. Yields the
        position reached after each batch is written. Raises ViewError where a view raises and
        nobody is to be told.
        """
        views = dict(views)
        generations = {view: at.generation for view, at in views.items()}
        start = min(at.position for at in views.values())
        types = sorted({name for view in views for name in view.types} | {"session.started"})
        events = skip_corrupt_events(self.log, types, start, upto)
        changes = self._changes_of(generations)
        reached = start
        while reached < upto:
            taken = 0
            while taken < batch and (some := list(islice(events, min(_AT_ONCE, batch - taken)))):
                taken += len(some)
                reached = some[-1].position
                happened = [contexts.happened(event, codec.decode(event)) for event in some]
                with self.database.snapshot() as changes.connection:
                    failures = _apply(views, changes, happened)
                for view, error in failures:
                    if failed is None:
                        raise error
                    failed(view, error)
                    changes.drop(view)
                    del views[view], generations[view]
            if taken < batch:
                reached = upto
            with _told_as_damage(reached):
                if unseen:
                    self._write_in_parts(changes)
                else:
                    self._write(changes, generations, reached, timeout)
            yield reached

    def _write(
        self,
        changes: Changes,
        generations: Mapping[View, int],
        reached: int,
        timeout: float | None,
    ) -> None:
        writing = self.database.write(timeout=timeout)
        try:
            with writing as connection:
                if connection is None:
                    raise _KeptWaiting
                for sql, rows in changes.statements():
                    connection.executemany(sql, rows)
                advance(connection, generations, reached)
        finally:
            writing.abandon()  # where an interrupt kept the `with` from doing it

    def _write_in_parts(self, changes: Changes) -> None:
        for sql, rows in changes.statements():
            for start in range(0, len(rows), _PART):
                with self.database.write() as connection:
                    assert connection is not None
                    connection.executemany(sql, rows[start : start + _PART])

    def _changes_of(self, generations: Mapping[View, int]) -> Changes:
        """The empty changes of some views; the statements for the last ones that were asked for
        are made already."""
        changes = self._changes
        if changes is None or changes.generations != generations:
            changes = self._changes = Changes(dict(generations))
        changes.forget()
        return changes

    def contexts(self, generation: int | None = None) -> Contexts:
        """The sessions that a pass over the log meets, by the rows that are shown.

        generation: by those that a rebuild is making instead.
        """
        table = "sessions" if generation is None else generation_table("sessions", generation)

        def find(column: str, value: Value) -> Sequence[Value] | None:
            sql = f"SELECT {COLUMNS} FROM {table} WHERE {column} = ?"
            rows = self.database.query(sql, (value,))
            return rows[0] if rows else None

        return Contexts(find)


def _apply(
    views: Mapping[View, Checkpoint], changes: Changes, happened: Sequence[ViewEvent]
) -> list[tuple[View, ViewError]]:
    """Hand each view what it wants; returns those that raised."""
    kinds = [one.event.type for one in happened]
    first = happened[0].event.position
    failures: list[tuple[View, ViewError]] = []
    for view, at in views.items():
        mine = list(compress(happened, map(frozenset(view.types).__contains__, kinds)))
        if at.position >= first:
            mine = [one for one in mine if one.event.position > at.position]
        if mine:
            try:
                view.apply(changes, mine)
            except Exception as error:  # a user's view may raise anything
                failures.append((view, _told(view, mine, error)))
    return failures


@contextmanager
def _told_as_damage(upto: int) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise LogDamaged(
            f"Up to position {upto} of the log, a session begins that has begun already ({error}). "
            "Restore the log from a backup.",
            position=upto,
        ) from error
    except OverflowError as error:
        raise ViewError(
            "The rows of a view hold a number beyond all that lllm writes; `lllm rebuild`, or "
            "LogStore.rebuild(), makes them anew."
        ) from error


def _told(view: View, batch: Sequence[ViewEvent], error: Exception) -> ViewError:
    told = ViewError(
        f"The view {view.name!r} could not take the events from position "
        f"{batch[0].event.position} to {batch[-1].event.position}: {type(error).__name__}: {error}."
    )
    told.__cause__ = error
    return told
