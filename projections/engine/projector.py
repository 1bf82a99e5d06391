"""Brings the rows of all views up to date with the log.

Rows are brought up to date when they are read: a read first catches up to the head of the log, in
one pass for all views. Each batch is applied in memory and then written in one short transaction
with the checkpoint. So every event counts exactly once, and appends never wait long. Only one
process catches up at a time; it holds a lock file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from lllm.events.backend import HidesAppends, KeepsRows, KnowsItsEnd, LogBackend
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.locks import ProcessLock
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.errors import LogDamaged, ViewError
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.apply_events import Batches
from lllm.projections.engine.checkpoints import (
    Checkpoint,
    has_checkpoints,
    is_stale,
    read_checkpoints,
)
from lllm.projections.engine.optional_views import views_off
from lllm.projections.engine.row_tables import row_tables
from lllm.projections.engine.session_contexts import stored_contexts
from lllm.projections.table_names import check_names
from lllm.projections.view import View

_logger = logging.getLogger("lllm.store")

BATCH = 400  # events that are applied in one transaction; its commit takes less than about 10 ms
_UNAWAITED_SECONDS = 5.0  # for so many seconds no read waits, after one has waited in vain
_PATIENCE = 0.05  # the least time that a write waits, in seconds


class _Alone(LockPair):
    """Holds the lock that lets one process at a time project, with its file open meanwhile."""

    __slots__ = ("_lock",)

    def __init__(
        self, threads: RobustLock, lock: ProcessLock | None, timeout: float | None
    ) -> None:
        self._lock = lock
        # Not reentrant: the garbage collector may end a session inside.
        super().__init__(threads, lock, timeout, reentrant=False)

    def exit(self) -> None:
        """Release the lock, as `LockPair.exit` does, and close its file."""
        super().exit()
        if self._lock is not None:
            self._lock.close()


class Projector:
    """Keeps the rows of all views of one log up to date.

    Args:
        log: The log that the events are read from.
        database: The database of the rows.
        views: The views to keep up to date.
        optional: The views that a store need not have; see `optional_views`.
        on_request: Those of them that a store has only if somebody asked for them.

    Attributes:
        rebuilding: The lock, between threads, that a rebuild holds.
        rows_in_log: True if the rows are in the log's own database.
        writing_seconds: How long writes of rows have taken so far; other writers waited meanwhile.

    Raises:
        ViewError: Two views have a name or a table in common.
    """

    def __init__(
        self,
        log: LogBackend,
        database: RowsDatabase,
        views: Sequence[View],
        optional: Collection[View] = (),
        on_request: Collection[View] = (),
    ) -> None:
        self.log = log
        self.database = database
        self.views = tuple(views)
        self._optional = frozenset(view.name for view in optional)
        self._on_request = frozenset(view.name for view in on_request)
        check_names(self.views)
        self._threads = RobustLock()
        self.rebuilding = RobustLock()
        # views that raised, which get no events until the store is opened again
        self._stopped: set[View] = set()
        self._backend = log.backend if isinstance(log, BufferedLog) else log
        self.rows_in_log = (
            isinstance(self._backend, KeepsRows)
            and self._backend.rows_in_log
            and self._backend.rows_database() is database
        )
        # the state of log and rows at which there was nothing to do
        self._idle: tuple[object, ...] | None = None
        self._unawaited_until = 0.0  # a time of the monotonic clock
        self.writing_seconds = 0.0
        self.batches = Batches(log, database)
        if not database.read_only and not has_checkpoints(database):
            with database.write() as connection:
                assert connection is not None
                row_tables(database).create_checkpoints(connection)
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make the child read the state of the database again."""
        self._idle = None

    # -- State

    @property
    def stopped(self) -> frozenset[View]:
        """The views that raised; their rows are not updated until the store is opened again."""
        return frozenset(self._stopped)

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Read the position up to which each view is built, also views that are not registered."""
        return read_checkpoints(self.database)

    def stale(self) -> list[View]:
        """Find the views whose rows have to be rebuilt.

        Returns:
            The views that have no rows yet, whose rows an older version built, or whose rows
            include events that the log has lost, as after a loss of power. If the end of the log is
            missing, it may be restored, so rows that include it are kept then. Optional views are
            included only in a new store, or if they have rows.
        """
        found, head = self.checkpoints(), self.log.head()
        is_new = not found and self.database.path != ":memory:"
        meant = self._always_wanted() if is_new else self.present(found)
        stale = {view.name for view in meant if is_stale(view, found.get(view.name))}
        ahead = {name for name, at in found.items() if at.position > head} - stale
        if ahead and (lost := self.lost_end()) is not None:
            _logger.error("%s The lists, tags and costs stay as they were.", lost)
            ahead = set()
        return [view for view in self.views if view.name in stale | ahead]

    def _always_wanted(self) -> list[View]:
        return [view for view in self.views if view.name not in self._on_request]

    def lost_end(self) -> LogDamaged | None:
        """Check if the last events of the log are missing.

        Returns:
            The damage; None if the end is there, or if this log can't tell.
        """
        try:
            if isinstance(self._backend, KnowsItsEnd):
                self._backend.check_end()
        except LogDamaged as damage:
            return damage
        return None

    def buildable(self, *, check: bool = False, asked: Collection[View] = ()) -> list[View]:
        """Find the views that this version may build.

        It leaves out views whose rows a newer version has built.

        Args:
            check: True to find only the views that have rows, for a comparison.
            asked: Views that are built by name; without that, a view that a store has only on
                request is left out if it has no rows.

        Returns:
            The views.
        """
        found, off = self.checkpoints(), views_off(self.database)
        off |= self._on_request - {view.name for view in asked}
        return [
            view
            for view in self.views
            if (view.name in found or not (check or view.name in off))
            and (view.name not in found or not found[view.name].ahead_of(view))
        ]

    def present(self, found: Mapping[str, Checkpoint]) -> list[View]:
        """List all views except optional ones that have no rows.

        Args:
            found: The checkpoints of the store.

        Returns:
            The views.
        """
        return [
            view for view in self.views if view.name in found or view.name not in self._optional
        ]

    def lag(self) -> int:
        """Count how many positions the rows are behind the head of the log."""
        found = self.checkpoints()
        views = self.present(found)
        positions = [found[view.name].position for view in views if view.name in found]
        if len(positions) < len(views):
            return self._end()
        return max(self._end() - min(positions, default=0), 0)

    def _end(self) -> int:
        """The head of the log, or what this process has appended behind it."""
        head = self.log.head()
        if isinstance(self._backend, HidesAppends):
            return max(head, self._backend.last_appended())
        return head

    # -- Catching up

    def _head_with_own(self, timeout: float) -> int:
        """The head of the log; first wait a moment for what this process has appended behind it."""
        head = self.log.head()
        if timeout <= 0 or not isinstance(self._backend, HidesAppends):
            return head
        if head < self._backend.last_appended() and self._backend.wait_until_visible(timeout):
            return self.log.head()
        return head

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Bring every view up to the current head of the log.

        Args:
            timeout: The longest time to wait for another process that is catching up, and for each
                write, in seconds.

        Returns:
            False if the time was over, or if the rows can't be written. The rows are then those of
            the checkpoint.

        Raises:
            LogDamaged: The log is damaged, and where it continues is unknown.
            LogError: The rows can't be read or written.
        """
        if timeout == 0 and isinstance(self.log, BufferedLog) and self.log.is_holding:
            return True  # new events may wait: the next read catches up
        head = None if self.rows_in_log else self._head_with_own(timeout)
        # takes a third of the time of checking both log and rows
        state = (self.database.state(), head)
        if state == self._idle:
            return True
        if head is None:
            head = self.log.head()
        if not self._behind(self.checkpoints(), head):
            self._idle = state
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
            alone.exit()  # in case an interrupt kept the `with` from doing it
        if not done and timeout:
            # The process that holds the lock may be suspended, so the next reads try only once.
            self._unawaited_until = time.monotonic() + _UNAWAITED_SECONDS
        return done

    def remove_deleted_words(self) -> None:
        """Remove deleted words from all search indexes, where they are still stored.

        Raises:
            LogError: The indexes can't be written.
        """
        found = self.checkpoints()
        for view in self.views:
            for table in view.tables:
                if table.search is not None and view.name in found:
                    generation = found[view.name].generation
                    row_tables(self.database).remove_deleted_words(self.database, table, generation)

    def alone(self, timeout: float | None = None) -> LockPair:
        """Take the lock with which one process at a time catches up.

        Args:
            timeout: The longest time to wait, in seconds; None for `locks.WAIT_SECONDS`.

        Returns:
            A context manager; its value is False if the time was over.
        """
        return _Alone(self._threads, self.database.process_lock("project.lock"), timeout)

    def _behind(self, found: Mapping[str, Checkpoint], head: int) -> bool:
        return any(
            view.name not in found
            or found[view.name].position < head
            or is_stale(view, found[view.name])
            for view in self.present(found)
            if view not in self._stopped
        )

    def pull(self, head: int, timeout: float | None = None) -> bool:
        """Apply the log to every view whose rows this version can continue.

        The caller holds the lock (`alone`).

        Args:
            head: The position up to which events are applied.
            timeout: The longest time that each write waits for other writers, in seconds; None for
                `locks.WAIT_SECONDS`, after which an error is raised.

        Returns:
            False if the time was over; the next call continues.

        Raises:
            LogDamaged: The log is damaged, and where it continues is unknown.
            LogError: The rows can't be read or written.
        """
        found = self.checkpoints()
        ready = {
            view: found[view.name]
            for view in self.views
            if view not in self._stopped
            # Rows that a newer version built are only continued by that version.
            and view.name in found
            and found[view.name].version == view.version
            and not found[view.name].ahead_of(view)
        }
        if not ready:
            return True
        contexts = stored_contexts(self.database)
        batches = self.batches.apply(ready, head, contexts, BATCH, self._stop)
        for batch in batches:
            began = time.monotonic()
            written = batch.write(timeout)
            self.writing_seconds += time.monotonic() - began
            if not written:
                return False
        return True

    def _stop(self, view: View, error: ViewError) -> None:
        """Stop updating a view that raised, so that the others can continue."""
        self._stopped.add(view)
        _logger.error(
            "%s Its rows are no longer updated; those of the other views are.",
            error,
            exc_info=error,
        )
