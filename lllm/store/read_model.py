"""Opens the rows of a store: in the database of its log, or in memory.

Rows can be rebuilt from the log at any time. So if a page of them can't be read, they are rebuilt
in memory for as long as the store is open, and the file is left unchanged. `lllm rebuild` rebuilds
them in the file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from lllm.events.backend import KeepsRows, LogBackend, OnServer, may_read
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.sqlite.unreadable_positions import is_unreadable_page
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.errors import LogDamaged, LogError, LogUnavailable, StoreError
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.optional_views import turn_on, views_off
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.rebuild import Progress, Rebuilt, discard, rebuild
from lllm.projections.engine.sqlite.search_index import has_full_text_search
from lllm.projections.queries.search import no_full_text_search
from lllm.projections.view import View
from lllm.projections.views.annotations import AnnotationsView
from lllm.projections.views.calls import CallsView
from lllm.projections.views.costs import CostsView
from lllm.projections.views.holds import HoldsView
from lllm.projections.views.merkle import MerkleView
from lllm.projections.views.messages import MessagesView
from lllm.projections.views.payloads import PayloadsView
from lllm.projections.views.sessions import SessionsView
from lllm.projections.views.tags import TagsView
from lllm.store.rows_place import are_in_memory, rows_database, rows_in_memory

_logger = logging.getLogger("lllm.store")

_WRITING_SHARE = 1 / 200  # of the time, for which writers wait for one who spares them
_LONGEST_REST = 2.0  # seconds

T = TypeVar("T")


def own_views() -> tuple[View, ...]:
    """List the views of lllm that every store has.

    Returns:
        All of them but the search index.
    """
    return (
        SessionsView(), TagsView(), CostsView(), CallsView(), HoldsView(), AnnotationsView(),
        MerkleView(),
    )  # fmt: skip


class ReadModel:
    """The rows of a store's views, and the projector that brings them up to date.

    Args:
        backend: The backend of the log, which may have a place for rows.
        log: The log from which the events are read.
        views: The user's own views, in addition to lllm's.

    Attributes:
        views: All views, lllm's and the user's.
        database: The database with the rows; in memory if a page in the file is damaged.
        projector: The projector that brings the rows up to date.
        spares_writers: True in a process that only looks: while others append all the time, it
            brings rows up to date seldom, so that they hardly ever wait for it.

    Raises:
        LogError: The rows can't be written, for another reason than a damaged page.
    """

    def __init__(self, backend: LogBackend, log: LogBackend, views: Sequence[View]) -> None:
        # Who may not read the log has the rows of an empty one; `lag` tells.
        self._head = log.head
        self._may_not_read = not may_read(backend)
        self._log = MemoryBackend() if self._may_not_read else log
        always = (*own_views(), *views)
        self._search: tuple[View, ...] = (MessagesView(),) if has_full_text_search() else ()
        self.views: tuple[View, ...] = (*always, *self._search)
        self._on_request: tuple[View, ...] = ()
        self._says_jsonb = backend.jsonb if isinstance(backend, OnServer) else None
        self._moving = threading.Lock()
        self.spares_writers = False
        self._resting_until = 0.0  # a time of the monotonic clock
        self._reached = 0  # what the rows included when they were last brought up to date
        register_after_fork(self)
        # the database with the damage, while rows are in memory
        self._left: RowsDatabase | None = None
        try:
            self.database = rows_database(backend, always)
            if self.database.engine == "postgres":  # which needs no FTS5
                self._search = (MessagesView(),)
                self._on_request = (PayloadsView(),)
                self.views = (*always, *self._on_request, *self._search)
            self.projector = self._projector_of(self.database)
        except LogDamaged as damage:
            left = backend.rows_database() if isinstance(backend, KeepsRows) else None
            self._move_to_memory(damage, left)

    def after_fork(self) -> None:
        """Make a new lock, because another thread of the parent may have held the old one."""
        self._moving = threading.Lock()

    def build_stale(self) -> None:
        """Rebuild the rows that this version of lllm can't update."""
        try:
            if not self.database.read_only and self.projector.stale():
                self.rebuild(stale=True)
            self._heed_jsonb()
        except LogError as error:
            self._leave(self.database, error)

    def _heed_jsonb(self) -> None:
        """Keep payloads as jsonb if the URL asks for it and the store knows no answer yet.

        What the store knows counts for all processes. If each process did what its URL says, they
        would build and remove the same rows in turn.
        """
        asked, name = self._says_jsonb, PayloadsView.name
        if asked is None or not self._on_request or self._may_not_read:
            return
        is_on = name in self.projector.checkpoints()
        if asked is is_on or self.database.read_only:
            return
        if asked and name not in views_off(self.database):
            self.jsonb_on()
            return
        _logger.warning(
            "%s: the address says jsonb=%s, but this was turned %s for the store, which counts. "
            "`lllm rebuild --jsonb %s` changes it; leave jsonb= out of the address then.",
            self.database.path, _switch(asked), _switch(is_on), _switch(asked),
        )  # fmt: skip

    def ask(self, question: Callable[[RowsDatabase], T]) -> T:
        """Run a query on the rows; if a page of them is damaged, on rows rebuilt in memory.

        Args:
            question: A function of the database; it may be called a second time with another one.

        Returns:
            The result of the function.

        Raises:
            LogError: The rows can't be read. Other errors of the function are raised unchanged.
        """
        database = self.database
        try:
            return question(database)
        except LogError as error:
            self._leave(database, error)
        return question(self.database)

    def check_readable(self) -> None:
        """Raise LogUnavailable if the role that lllm connects as may not read the log."""
        if self._may_not_read:
            raise LogUnavailable(
                "The role that lllm connects as may write to this store, and not read it. The last "
                "lines of `lllm schema --postgres` say what a role needs that reads."
            )

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Bring the rows up to date with the log.

        Args:
            timeout: Seconds to wait if another process is updating them.

        Returns:
            False if another process was still updating them after that time, or if it is too early
            to do so again (`spares_writers`).

        Raises:
            LogError: The log can't be read, or the rows can't be written.
        """
        return self._catch_up_unless_resting(timeout) is True

    def _catch_up_unless_resting(self, timeout: float = 1.0) -> bool | None:
        """As `catch_up`; None if it is too early."""
        if not self.spares_writers:
            return self._catch_up(timeout)
        if time.monotonic() < self._resting_until:
            return None
        before = self.projector.writing_seconds
        try:
            return self._catch_up(timeout)
        finally:
            taken = self.projector.writing_seconds - before
            self._resting_until = time.monotonic() + min(taken / _WRITING_SHARE, _LONGEST_REST)

    def _catch_up(self, timeout: float) -> bool:
        database = self.database
        try:
            return self.projector.catch_up(timeout=timeout)
        except LogError as error:
            self._leave(database, error)
        return self.projector.catch_up(timeout=timeout)

    def end_rest(self) -> None:
        """Let the next read bring the rows up to date at once, as after a write of this process."""
        self._resting_until = 0.0

    def caught_up_to(self) -> int:
        """Bring the rows up to date, unless it is too early, and tell what they include.

        Returns:
            A position whose event the rows include, with all before it; the head of the log if the
            rows can't be written.

        Raises:
            LogError: The log can't be read, or the rows can't be written.
        """
        head = self._head()
        if self._catch_up_unless_resting() is not None:
            self._reached = head
        return self._reached

    def lag(self) -> int:
        """Count how many positions the rows are behind the head of the log."""
        return self._head() if self._may_not_read else self.projector.lag()

    def rebuild(
        self, *, stale: bool = False, check: bool = False, progress: Progress | None = None
    ) -> Rebuilt:
        """Rebuild the rows; see `lllm.projections.engine.rebuild`.

        Damaged rows in the file, which were replaced by rows in memory, are rebuilt and used again.

        Args:
            stale: True to rebuild only views that this version of lllm can't update.
            check: True to change nothing, and only compare.
            progress: Called with the current and the final position; None for no reports.

        Returns:
            What was rebuilt; with `check`, also the first difference.

        Raises:
            LogError: The log can't be read, or the rows can't be written.
        """
        if not stale:  # as an opening store does, for which the rows may be empty
            self.check_readable()
        database, projector = self.database, self.projector
        if self._left is not None:
            database, projector = self._left, self._projector_of(self._left)
        built = rebuild(projector, stale=stale, check=check, progress=progress)
        before, self._left = self.database, None
        self.projector, self.database = projector, database
        if before is not database:
            before.close()  # a query that is still using it is repeated on `database`
        return built

    def search_on(self, *, progress: Progress | None = None) -> Rebuilt:
        """Build the search index anew, and keep it up from now on.

        Args:
            progress: A function that is called with the progress, as in `rebuild`.

        Returns:
            What was built.

        Raises:
            SearchUnavailable: This Python's SQLite has no full-text search.
            LogError: The log can't be read, or the rows can't be written.
        """
        if not self._search:
            raise no_full_text_search()
        self.catch_up()
        turn_on(self.database, self._search[0].name)
        return rebuild(self.projector, self._search, progress=progress)

    def search_off(self) -> Rebuilt:
        """Remove the search index, and keep none from now on.

        Returns:
            That nothing was built.

        Raises:
            LogError: The rows can't be written.
        """
        discard(self.projector, MessagesView())
        return Rebuilt((), 0)

    def jsonb_on(self, *, progress: Progress | None = None) -> Rebuilt:
        """Copy all payloads as jsonb, and keep the copies up from now on.

        Args:
            progress: A function that is called with the progress, as in `rebuild`.

        Returns:
            What was built.

        Raises:
            StoreError: The rows are not in PostgreSQL.
            LogError: The log can't be read, or the rows can't be written.
        """
        self._check_jsonb()
        self.catch_up()
        turn_on(self.database, PayloadsView.name)
        return rebuild(self.projector, self._on_request, progress=progress)

    def jsonb_off(self) -> Rebuilt:
        """Remove the payloads as jsonb, and keep none from now on.

        Returns:
            That nothing was built.

        Raises:
            StoreError: The rows are not in PostgreSQL.
            LogError: The rows can't be written.
        """
        self._check_jsonb()
        discard(self.projector, PayloadsView())
        return Rebuilt((), 0)

    def _check_jsonb(self) -> None:
        self.check_readable()
        if not self._on_request:
            raise StoreError(
                f"{self.database.path} keeps no payloads as jsonb: only a store in PostgreSQL can. "
                "In SQLite, the payloads in the table `events` are JSON texts."
            )

    def with_search(self, database: RowsDatabase) -> RowsDatabase:
        """Build the search index of rows in memory when it is first asked for.

        Args:
            database: The rows that are asked.

        Returns:
            The same, which have an index now, unless they are in a file without one.

        Raises:
            SearchUnavailable: This Python's SQLite has no full-text search.
            LogError: The log or the rows can't be read.
        """
        if not self._search:
            raise no_full_text_search()
        if database is self.database and are_in_memory(database):
            with self._moving:
                if self._search[0].name not in self.projector.checkpoints():
                    rebuild(self.projector, self._search)
        return database

    def close(self) -> None:
        """Close the rows, and the damaged file that they replace."""
        self.database.close()
        if self._left is not None:
            self._left.close()

    def in_memory(self, damage: LogError) -> RowsDatabase:
        """Rebuild the rows in memory, because a page of the stored ones can't be read.

        Args:
            damage: The error that reported the damage.

        Returns:
            The database in memory.

        Raises:
            LogError: `damage` itself, if it is not about a damaged page.
        """
        if not are_in_memory(self.database):
            self._leave(self.database, damage)
        return self.database

    def _leave(self, database: RowsDatabase, error: LogError) -> None:
        """Switch to rows in memory if `database` has a damaged page; raise any other error.

        If another thread has switched already, the query is only repeated.
        """
        if database is not self.database:
            return
        if not is_unreadable_page(error) or are_in_memory(database):
            raise error
        with self._moving:
            if self.database is database:  # otherwise another thread has switched already
                self._move_to_memory(error, database)

    def _move_to_memory(self, damage: LogError, left: RowsDatabase | None) -> None:
        _logger.error(
            "%s A part of the lists, tags and costs can't be read: they are rebuilt in memory, "
            "for which the whole log is read. `lllm rebuild` rebuilds them in the file.",
            damage,
        )
        database = rows_in_memory()
        projector = self._projector_of(database)
        optional = (*self._search, *self._on_request)
        rebuild(projector, [view for view in self.views if view not in optional])
        self._left = left
        self.projector, self.database = projector, database

    def _projector_of(self, database: RowsDatabase) -> Projector:
        optional = (*self._search, *self._on_request)
        return Projector(self._log, database, self.views, optional, self._on_request)


def _switch(is_on: bool) -> str:
    return "on" if is_on else "off"
