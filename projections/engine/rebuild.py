"""Rebuilds the rows of views beside the old ones, while others read and write.

The next generation of tables is filled in short transactions. Then one transaction shows it in
place of the old generation, which is emptied in chunks. A rebuild can be stopped at any point: the
tables that it leaves disturb nothing, and the next rebuild removes them. With `check`, nothing is
replaced: the stored rows are compared with rows built from the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.concurrency.locks import ProcessLock, kept_waiting
from lllm.projections.database import RowsConnection, Value
from lllm.projections.dialect import dialect_of
from lllm.projections.engine.apply_events import Batches
from lllm.projections.engine.checkpoints import Checkpoint, replace_damaged, store_checkpoint
from lllm.projections.engine.optional_views import turn_off
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.row_tables import RowTables, row_tables
from lllm.projections.engine.session_contexts import stored_contexts
from lllm.projections.engine.unused_tables import generations_in, remove_unused
from lllm.projections.readable_view import readable_views_of
from lllm.projections.table_names import generation_table
from lllm.projections.view import Table, View

_logger = logging.getLogger("lllm.store")

Progress = Callable[[int, int], None]  # called with the position reached and the position to reach

# events of a batch: sums of one row are added up first, and each page is written once
_BATCH = 30_000


class Difference(msgspec.Struct, frozen=True):
    """The first row in which the stored and the rebuilt rows differ.

    Attributes:
        view: The name of the view.
        table: The name of its table.
        key: The values of the key columns; in a search index, the word.
        stored: All columns of the stored row; None if there is none.
        rebuilt: All columns of the row built from the events; None if there is none.
    """

    view: str
    table: str
    key: dict[str, Value]
    stored: Mapping[str, Value] | None
    rebuilt: Mapping[str, Value] | None

    def __str__(self) -> str:
        where = ", ".join(f"{name}={value!r}" for name, value in self.key.items())
        return f"{self.table} at {where}: stored {self.stored}, rebuilt {self.rebuilt}"


class Rebuilt(msgspec.Struct, frozen=True):
    """The result of a rebuild.

    Attributes:
        views: The names of the views that were built or compared. Views whose rows a newer lllm
            built are left out.
        position: The position up to which the log was read.
        difference: The first difference that a check found; None if there is none.
    """

    views: tuple[str, ...]
    position: int
    difference: Difference | None = None


def rebuild(
    projector: Projector,
    views: Sequence[View] | None = None,
    *,
    check: bool = False,
    stale: bool = False,
    progress: Progress | None = None,
) -> Rebuilt:
    """Rebuild the rows of views from the log, or compare them with the log.

    Rows that a newer lllm built are not changed. A second rebuild waits for the first.

    Args:
        projector: The projector of the rows.
        views: The views to rebuild; None for all.
        check: True to compare the rows and replace nothing.
        stale: True to build only the views whose rows have to be rebuilt (`Projector.stale`). After
            waiting for another rebuild, there are none.
        progress: A function that is called after each batch with the position reached and the
            position to reach; None for no reports.

    Returns:
        Which views were built or compared, and the first difference.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
        LogError: The rows can't be read or written.
        ViewError: A view raised an error.
    """
    lost = None if stale else projector.lost_end()
    if lost is not None:
        _logger.error("%s The rows are built from what is there.", lost)
    with projector.rebuilding, only_rebuild(projector.database.process_lock("rebuild.lock")):
        if not check:
            replace_damaged(projector.database)
        among = projector.views if views is None else views
        can = projector.stale() if stale else projector.buildable(check=check, asked=views or ())
        meant = tuple(view for view in among if view in can)
        if not meant:
            return Rebuilt((), 0)
        building = _begin(projector, meant)
        try:
            return (_compare if check else _replace)(projector, building, progress)
        finally:
            remove_unused(projector, meant)


def discard(projector: Projector, view: View) -> None:
    """Remove the rows of an optional view, and turn it off.

    Args:
        projector: The projector of the rows.
        view: The optional view to remove.

    Raises:
        LogError: The rows can't be removed.
    """
    with projector.rebuilding, only_rebuild(projector.database.process_lock("rebuild.lock")):
        with projector.alone() as mine:
            if not mine:
                raise kept_waiting(projector.database.path)
            names = [readable.name for readable in readable_views_of(view)]
            names += [table.name for table in view.tables]
            turn_off(projector.database, view.name, names)
        remove_unused(projector, (view,))


@contextmanager
def only_rebuild(lock: ProcessLock | None) -> Iterator[None]:
    """Keep all other processes from a rebuild during a `with` block.

    Args:
        lock: The lock of a running rebuild; None if no other process uses the rows.

    Raises:
        LogUnavailable: Another rebuild takes too long.
    """
    if lock is None:
        yield
        return
    try:
        with FileErrors(lock.path):
            lock.acquire()
        yield
    finally:
        lock.close()


class _Building:
    """The views that are being rebuilt, and the generation and position of each."""

    def __init__(self, projector: Projector, generations: dict[View, int]) -> None:
        self.generations = generations
        self.position = 0
        self._batches = Batches(projector.log, projector.database, empty=True)
        of_sessions = next((g for view, g in generations.items() if view.name == "sessions"), None)
        self._contexts = stored_contexts(projector.database, of_sessions)

    def feed(self, upto: int, progress: Progress | None) -> None:
        """Build the new rows up to a position."""
        if upto <= self.position:
            return
        starts = {
            view: Checkpoint(view.version, generation, self.position, "")
            for view, generation in self.generations.items()
        }
        for batch in self._batches.apply(starts, upto, self._contexts, _BATCH):
            batch.write_unseen()
            self.position = batch.position
            if progress is not None:
                progress(batch.position, upto)


def _begin(projector: Projector, views: Sequence[View]) -> _Building:
    remove_unused(projector, views)
    tables = row_tables(projector.database)
    found, names = projector.checkpoints(), tables.table_names(projector.database)
    generations = {
        view: 1 + max(
            [found[view.name].generation if view.name in found else 0]
            + [number for table in view.tables for number in generations_in(table, names)]
        )
        for view in views
    }  # fmt: skip
    with projector.database.write() as connection:
        assert connection is not None
        for view, generation in generations.items():
            tables.create_tables(connection, view, generation)
    return _Building(projector, generations)


def _replace(projector: Projector, building: _Building, progress: Progress | None) -> Rebuilt:
    tables = row_tables(projector.database)
    building.feed(projector.log.head(), progress)
    for view, generation in building.generations.items():
        tables.finish_tables(projector.database, view, generation)
    with projector.alone() as mine:
        if not mine:
            raise kept_waiting(projector.database.path)
        # Few events came meanwhile; no other process catches up until the new rows are shown.
        building.feed(projector.log.head(), progress)
        with projector.database.write() as connection:
            assert connection is not None
            for view, generation in building.generations.items():
                tables.show_generation(connection, view, generation)
                store_checkpoint(connection, view, generation, building.position)
            tables.make_readable(connection, projector.views)
    return Rebuilt(tuple(view.name for view in building.generations), building.position)


def _compare(projector: Projector, building: _Building, progress: Progress | None) -> Rebuilt:
    tables = row_tables(projector.database)
    building.feed(projector.log.head(), progress)
    with ExitStack() as stack:
        with projector.alone() as mine:
            if not mine:
                raise kept_waiting(projector.database.path)
            projector.pull(projector.log.head())
            found = projector.checkpoints()
            positions = {found[view.name].position for view in building.generations}
            building.feed(max(positions), progress)
            connection = stack.enter_context(projector.database.snapshot())
            # The snapshot begins while old and new rows are at the same position, and outlasts the
            # lock.
            connection.execute(dialect_of(connection).begin())
            connection.execute("SELECT count(*) FROM checkpoints").fetchone()
        difference = next(
            (
                difference
                for view, generation in building.generations.items()
                for table in view.tables
                for difference in _differences(
                    tables, connection, view, table, found[view.name].generation, generation
                )
            ),
            None,
        )
    names = tuple(view.name for view in building.generations)
    return Rebuilt(names, building.position, difference)


def _differences(
    tables: RowTables, connection: RowsConnection, view: View, table: Table, old: int, new: int
) -> Iterator[Difference]:
    columns = list(table.columns)
    listed = ", ".join(columns)
    stored, rebuilt = generation_table(table.name, old), generation_table(table.name, new)
    sides = [(stored, rebuilt), (rebuilt, stored)]
    for one, other in sides[1:] if table.is_glossary else sides:
        row = connection.execute(
            f"SELECT {listed} FROM {one} EXCEPT SELECT {listed} FROM {other} "
            f"ORDER BY {', '.join(table.key)} LIMIT 1"
        ).fetchone()
        if row is None:
            continue
        key = {name: row[columns.index(name)] for name in table.key}
        rows = [_row(connection, name, columns, key) for name in (stored, rebuilt)]
        yield Difference(view.name, table.name, key, rows[0], rows[1])
    if table.search is not None:
        for word, *of_word in tables.index_differences(connection, table, (old, new)):
            yield Difference(view.name, table.name, {"word": word}, *of_word)


def _row(
    connection: RowsConnection, table: str, columns: Sequence[str], key: dict[str, Value]
) -> dict[str, Value] | None:
    where = " AND ".join(f"{name} = ?" for name in key)
    row = connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {where}", tuple(key.values())
    ).fetchone()
    return None if row is None else dict(zip(columns, row, strict=True))
