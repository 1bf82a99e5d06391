"""Writes the tables of a store as Parquet files, and later only the months that have changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lllm.analytics.arrow_batches import TableRow, batch_of, schema_of
from lllm.analytics.columns import TABLES, TableName
from lllm.analytics.parquet_folder import FORMAT, ExportManifest, ParquetFolder
from lllm.analytics.store_tables import StoreTables
from lllm.events.backend import LogBackend, archived_leaves
from lllm.events.codec import encode
from lllm.events.errors import LogDamaged, StoreError
from lllm.events.files.own_files import make_new, sync
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.skip_damage import skip_corrupt_events_of
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.session_months import (
    changed_months,
    definitions_until,
    selected_by_month,
)
from lllm.projections.queries.sessions import reading
from lllm.store.read_model import ReadModel

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

Progress = Callable[[int, int], object]

_GROUP_ROWS = 100_000  # rows of a row group
# Columns whose values seldom repeat: looking each up in a dictionary would only take time.
_MOSTLY_UNIQUE = frozenset(
    (
        "text", "reasoning", "arguments", "result", "task", "started", "ended", "elapsed_ns",
        "first_token_ns", "time", "call_id", "response_id", "provider_request_id",
    )
)  # fmt: skip
_GROUP_BYTES = 64 << 20  # bytes of values from which it is full


class ExportedParquet(msgspec.Struct, frozen=True):
    """What an export to Parquet files did.

    Attributes:
        path: The folder.
        written: The months that were written, as "2026-11".
        unchanged: The months that were left as they were.
        removed: The months that were removed, because no session is selected there any more.
        rows: The number of rows that were written to each table.
    """

    path: Path
    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    rows: dict[str, int]


def export_parquet(
    log: LogBackend, rows: ReadModel, wanted: Filter, path: Path, progress: Progress | None
) -> ExportedParquet:
    """Write all tables to a folder; see `LogStore.export_parquet`.

    Args:
        log: The log.
        rows: The rows of the store, which are up to date.
        wanted: The filter of the sessions.
        path: The folder.
        progress: A function that is called with the number of sessions so far and in all.

    Returns:
        What was written.

    Raises:
        StoreError: The folder belongs to another store or other filters, or can't be written.
    """
    folder = ParquetFolder(path)
    with folder.locked():
        # What follows may be in the rows already, and is read again the next time.
        position = max(log.head() - rows.lag(), 0)
        before = folder.manifest()
        manifest = ExportManifest(
            format=FORMAT,
            store=_first_digest(log),
            filters=msgspec.to_builtins(wanted),
            position=position,
            last=_digest_at(log, position),
            definitions=rows.ask(lambda database: _definitions(database, position)),
        )
        if before is not None:
            _refuse_other(log, path, before, manifest)
        selected = rows.ask(lambda database: _selected(database, wanted))
        changed = _changed(log, rows, before)
        there = folder.months()
        due = [month for month in selected if month not in there or changed is None
               or month in changed]  # fmt: skip
        gone = sorted(there - selected.keys())
        written = _Months(folder, StoreTables(log, rows, tuple(TABLES)), progress)
        written.sessions = sum(len(selected[month]) for month in due)
        try:
            if before is None:  # from now on the folder is one of an export, also if this is killed
                folder.write_manifest(msgspec.structs.replace(manifest, position=0, last=None))
            for month in due:
                written.write(month, selected[month])
            for month in gone:
                folder.remove(month)
            folder.write_manifest(manifest)
        except OSError as error:
            raise StoreError(
                f"{path} can't be written: {error.strerror or error}. The months that were not "
                "done are as they were before."
            ) from error
    return ExportedParquet(
        path,
        tuple(due),
        tuple(month for month in selected if month not in due),
        tuple(gone),
        {table: written.rows[table] for table in TABLES},
    )


class _Months:
    """Writes months, and counts what it has written.

    Attributes:
        sessions: How many sessions there are to write.
        rows: The number of rows of each table.
    """

    def __init__(
        self, folder: ParquetFolder, tables: StoreTables, progress: Progress | None
    ) -> None:
        self.sessions = 0
        self.rows: Counter[TableName] = Counter()
        self._folder = folder
        self._tables = tables
        self._progress = progress
        self._done = 0

    def write(self, month: str, numbers: Sequence[int]) -> None:
        draft = self._folder.draft(month)
        with ExitStack() as stack:
            files = {table: _TableFile(draft, table, stack) for table in TABLES}

            def flush(table: TableName, rows: list[TableRow]) -> None:
                files[table].add(rows)
                self.rows[table] += len(rows)

            self._tables.read(numbers, flush, self._report)
            for file in files.values():
                file.finish()
        self._folder.publish(month)

    def _report(self, sessions: int) -> None:
        self._done += sessions
        if self._progress is not None:
            self._progress(self._done, self.sessions)


class _TableFile:
    """A Parquet file that is being written; rows are collected to row groups."""

    def __init__(self, folder: Path, table: TableName, stack: ExitStack) -> None:
        import pyarrow.parquet

        self._schema = schema_of(table)
        self._file: FileIO = stack.enter_context(make_new(folder / f"{table}.parquet"))
        self._writer: pyarrow.parquet.ParquetWriter = stack.enter_context(
            pyarrow.parquet.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",
                use_dictionary=[name for name in self._schema.names if name not in _MOSTLY_UNIQUE],
            )
        )
        self._batches: list[pyarrow.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, rows: list[TableRow]) -> None:
        batch = batch_of(self._schema, rows)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow

        table = pyarrow.Table.from_batches(self._batches, schema=self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._batches, self._rows, self._bytes = [], 0, 0

    def finish(self) -> None:
        """Write what is left, and wait until all is on the disk."""
        if self._batches:
            self._write()
        self._writer.close()
        sync(self._file)


# -- What the folder has, and what has changed since


def _selected(database: RowsDatabase, wanted: Filter) -> Mapping[str, Sequence[int]]:
    with reading(database) as connection:
        return selected_by_month(connection, wanted)


def _changed(log: LogBackend, rows: ReadModel, before: ExportManifest | None) -> set[str] | None:
    """The months that have changed since an export; None for all."""
    if before is None or before.format != FORMAT or before.position == 0:
        return None
    position, known = before.position, before.definitions

    def going_on(session_ids: Collection[str]) -> set[str]:
        return {
            one
            for one in session_ids
            if next(skip_corrupt_events_of(log, one, position), None) is not None
        }

    def read(database: RowsDatabase) -> set[str] | None:
        if _definitions(database, position) != known:
            return None
        with reading(database) as connection:
            return changed_months(connection, position, going_on)

    return rows.ask(read)


def _definitions(database: RowsDatabase, position: int) -> str:
    with reading(database) as connection:
        found = definitions_until(connection, position)
    return hashlib.sha256(encode(found)).hexdigest()


def _first_digest(log: LogBackend) -> str:
    """The digest of the first event, which stays when that is erased; "" without one."""
    head = log.head()
    first = next(archived_leaves(log, upto=head), None)
    try:
        for event in log.read(upto=head if first is None else first[0]):
            return event.digest.hex()
    except LogDamaged:  # `lllm verify` reports it; here any store is taken for the same then
        return ""
    return "" if first is None else first[1].hex()


def _digest_at(log: LogBackend, position: int) -> str | None:
    """The digest of the event at a position, which stays when that is erased or archived."""
    try:
        for event in log.read(after=position - 1, upto=position):
            return event.digest.hex()
    except LogDamaged:
        return None
    for _, digest in archived_leaves(log, after=position - 1, upto=position):
        return digest.hex()
    return None


def _refuse_other(log: LogBackend, path: Path, before: ExportManifest, now: ExportManifest) -> None:
    """Raise StoreError if a folder has the export of something else."""
    head = log.head()
    is_other = bool(before.store and now.store and before.store != now.store)
    if before.last is not None and before.position <= head:
        is_other |= _digest_at(log, before.position) not in (before.last, None)
    if is_other:
        raise StoreError(f"{path} has the export of another store; name another folder.")
    if before.position > head:
        raise StoreError(
            f"{path} has the export of a later state of this store, up to position "
            f"{before.position:,}, and the store ends at {head:,}. Remove the folder, or name "
            "another one."
        )
    if before.filters != now.filters:
        names = [name for name, value in before.filters.items() if now.filters.get(name) != value]
        raise StoreError(
            f"{path} has the export of other filters ({', '.join(names)}); name another folder. "
            "A time such as 7d is another filter each time; without one, a second export writes "
            "only the months that have changed."
        )
