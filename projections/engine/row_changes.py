"""Collects the changes that views make to their rows, and writes them in bulk."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import compress

import msgspec

from lllm.events.envelope import Recorded
from lllm.projections.database import NoSuchTable, Row, RowsConnection, Statement, Value
from lllm.projections.engine.sqlite.search_index import index_statements
from lllm.projections.table_names import generation_table, search_table
from lllm.projections.view import Key, Table, View

_KNOWN = 20_000  # rows of one table that are cached from batch to batch
_KEPT = 2_000  # of these, while nothing is brought up to date
_REMEMBERED = 100_000  # keys of one new table, some 60 bytes each

_NO_PUTS: dict[str, Value] = {}  # shared by changes without columns, and never changed
_NO_ADDS: dict[str, int] = {}

# Makes the statements that change an index, from its name, deleted texts and new texts.
IndexStatements = Callable[[str, Mapping[Key, str], Mapping[Key, str]], Iterator[Statement]]
_Read = Callable[[str, Key], list[Row]]  # runs a SELECT with parameters


class _Change(msgspec.Struct, gc=False):
    """The change of a batch to one row.

    puts, adds: the columns that are set or added to. deleted: the stored row is deleted first.
    kept: the row exists in the end.
    """

    puts: dict[str, Value]
    adds: dict[str, int]
    deleted: bool = False
    kept: bool = True

    def put(self, columns: dict[str, Value]) -> None:
        self.kept = True
        if self.adds:
            self.adds = {name: delta for name, delta in self.adds.items() if name not in columns}
        self.puts = self.puts | columns if self.puts else columns

    def add(self, deltas: dict[str, int]) -> None:
        self.kept = True
        if not self.adds and self.puts.keys().isdisjoint(deltas):
            self.adds = deltas
            return
        puts, adds = self.puts, dict(self.adds)
        for name, delta in deltas.items():
            if name in puts:
                puts[name] = _as_number(puts[name]) + delta
            else:
                adds[name] = adds.get(name, 0) + delta
        self.adds = adds

    def applied_to(self, row: Mapping[str, Value]) -> dict[str, Value]:
        """Apply the change to a row of all columns."""
        return {
            **row,
            **self.puts,
            **{name: _as_number(row[name]) + delta for name, delta in self.adds.items()},
        }


class _Keys:
    """The keys of a table's changed rows by their first column, for `delete_under`.

    Keys are sorted when they are first asked for, since most batches never ask.
    """

    def __init__(self) -> None:
        self._new: list[Key] = []
        self._under: defaultdict[Value, list[Key]] = defaultdict(list)
        self.add = self._new.append

    def under(self, first: Value) -> Sequence[Key]:
        for key in self._new:
            self._under[key[0]].append(key)
        self._new.clear()
        return self._under.get(first, ())

    def clear(self) -> None:
        self._new.clear()
        self._under.clear()


class _NewKeys:
    """Tells which keys a table can't have yet, because it was empty and all rows are written here.

    Rows with such a key need not be looked up, and are inserted without looking for a conflict.

    Args:
        table: A table that is empty.
    """

    def __init__(self, table: Table) -> None:
        # Most tables have the number of a session first, which grows.
        self._grows = table.columns[table.key[0]] == "INTEGER"
        self._highest = -(2**63)
        self._seen: set[int] | None = None if self._grows else set()  # hashes of keys

    def __contains__(self, key: Key) -> bool:
        if self._seen is not None:
            return hash(key) not in self._seen
        first = key[0]
        return self._grows and isinstance(first, int) and first > self._highest

    def discard(self, keys: Iterable[Key]) -> None:
        """Note the keys of rows that are written now."""
        if self._grows:
            firsts = (key[0] for key in keys if isinstance(key[0], int))
            self._highest = max(self._highest, max(firsts, default=self._highest))
        elif self._seen is not None:
            self._seen.update(map(hash, keys))
            if len(self._seen) > _REMEMBERED:
                self._seen = None


class _SetChanges:
    """The changes to a table whose rows are only a key: the keys that exist in the end."""

    def __init__(self, table: Table, generation: int, *, empty: bool) -> None:
        self._new = _NewKeys(table) if empty else None
        self.name = generation_table(table.name, generation)
        self.kept: dict[Key, bool] = {}
        self._keys = _Keys()
        where = " AND ".join(f"{name} = ?" for name in table.key)
        marks = ", ".join("?" * len(table.key))
        columns = ", ".join(table.key)
        self._select = f"SELECT 1 FROM {self.name} WHERE {where}"
        self._select_shown = f"SELECT 1 FROM {table.name} WHERE {where}"
        self._under = f"SELECT {columns} FROM {self.name} WHERE {table.key[0]} = ?"
        self._delete = f"DELETE FROM {self.name} WHERE {where}"
        self._insert_new = f"INSERT INTO {self.name} ({columns}) VALUES ({marks})"
        self._insert = f"{self._insert_new} ON CONFLICT ({columns}) DO NOTHING"

    def get(self, key: Key, read: _Read) -> Mapping[str, Value] | None:
        kept = self.kept.get(key)
        if kept is None:
            is_new = self._new is not None and key in self._new
            kept = not is_new and bool(read(self._select, key))
        return _NO_PUTS if kept else None

    def shown(self, key: Key, read: _Read) -> Mapping[str, Value] | None:
        return _NO_PUTS if read(self._select_shown, key) else None

    def put(self, key: Key, _: dict[str, Value]) -> None:
        self.kept[key] = True
        self._keys.add(key)

    def add(self, key: Key, _: dict[str, int]) -> None:
        self.kept[key] = True
        self._keys.add(key)

    def delete(self, key: Key) -> None:
        self.kept[key] = False

    def delete_under(self, first: Value, read: _Read) -> None:
        for key in (*read(self._under, (first,)), *self._keys.under(first)):
            self.delete(key)

    def statements(self) -> Iterator[Statement]:
        there = list(compress(self.kept, self.kept.values()))
        gone = [key for key, kept in self.kept.items() if not kept]
        self.kept = {}
        self._keys.clear()
        if gone:
            yield self._delete, gone
        if self._new is not None:
            new = [key for key in there if key in self._new]
            there = [key for key in there if key not in self._new]
            self._new.discard(new)
            if new:
                yield self._insert_new, _in_order(new)
        if there:
            yield self._insert, _in_order(there)

    def forget(self) -> None:
        self.kept = {}
        self._keys.clear()

    def trim(self) -> None:
        """Do nothing: nothing is cached."""


class _RowChanges:
    """The changes to one table, and the statements that write them.

    known: the rows that were read, with every change so far. They stay in the cache when the
    changes are written, since no other process writes the table meanwhile.
    """

    def __init__(self, table: Table, generation: int, *, empty: bool) -> None:
        self._new = _NewKeys(table) if empty else None
        self.name = generation_table(table.name, generation)
        self.changes: dict[Key, _Change] = {}
        self.known: dict[Key, dict[str, Value] | None] = {}
        self._keys = _Keys()
        self._key = table.key
        columns = tuple(name for name in table.columns if name not in table.key)
        self._empty: dict[str, Value] = dict.fromkeys(columns)
        where = " AND ".join(f"{name} = ?" for name in table.key)
        select = f"SELECT {', '.join(columns) or 1} FROM"
        self._select = f"{select} {self.name} WHERE {where}"
        self._select_shown = f"{select} {table.name} WHERE {where}"
        self._under = f"SELECT {', '.join(table.key)} FROM {self.name} WHERE {table.key[0]} = ?"
        self._delete = f"DELETE FROM {self.name} WHERE {where}"
        self._insert_new = (
            f"INSERT INTO {self.name} ({', '.join((*table.key, *columns))})"
            f" VALUES ({', '.join('?' * len(table.columns))})"
        )
        self._upserts: dict[tuple[str, ...], str] = {}

    def get(self, key: Key, read: _Read) -> Mapping[str, Value] | None:
        try:
            return self.known[key]
        except KeyError:
            row = self.known[key] = self._find(key, read)
            return row

    def shown(self, key: Key, read: _Read) -> Mapping[str, Value] | None:
        found = read(self._select_shown, key)
        return dict(zip(self._empty, found[0], strict=True)) if found else None

    def put(self, key: Key, columns: dict[str, Value]) -> None:
        change = self.changes.get(key)
        if change is None:
            self.changes[key] = _Change(columns, _NO_ADDS)
            self._keys.add(key)
        else:
            change.put(columns)
        if self.known and key in self.known:
            self.known[key] = {**(self.known[key] or self._empty), **columns}

    def add(self, key: Key, deltas: dict[str, int]) -> None:
        change = self.changes.get(key)
        if change is None:
            self.changes[key] = _Change(_NO_PUTS, deltas)
            self._keys.add(key)
        else:
            change.add(deltas)
        if self.known and key in self.known:
            row = self.known[key] or self._empty
            summed = {name: _as_number(row[name]) + delta for name, delta in deltas.items()}
            self.known[key] = {**row, **summed}

    def delete(self, key: Key) -> None:
        if key not in self.changes:
            self._keys.add(key)
        self.changes[key] = _Change(_NO_PUTS, _NO_ADDS, deleted=True, kept=False)
        self.known[key] = None

    def delete_under(self, first: Value, read: _Read) -> None:
        pending = [key for key in self._keys.under(first) if self.changes[key].kept]
        for key in (*read(self._under, (first,)), *pending):
            self.delete(key)

    def _find(self, key: Key, read: _Read) -> dict[str, Value] | None:
        """Read a stored row with all changes since; None if it was deleted."""
        change = self.changes.get(key)
        if change is None:
            return self._stored(key, read)
        if self._empty.keys() == change.puts.keys():
            return change.applied_to(self._empty)  # the stored row will be deleted
        return change.applied_to(self._stored(key, read) or self._empty)

    def _stored(self, key: Key, read: _Read) -> dict[str, Value] | None:
        if self._new is not None and key in self._new:
            return None
        stored = read(self._select, key)
        return dict(zip(self._empty, stored[0], strict=False)) if stored else None

    def statements(self) -> Iterator[Statement]:
        gone: list[Key] = []
        new: list[Key] = []
        # Rows with changes to the same columns are written by one statement.
        groups: defaultdict[tuple[tuple[str, ...], tuple[str, ...]], list[Key]] = defaultdict(list)
        for key, change in self.changes.items():
            puts, adds = change.puts, change.adds
            if change.deleted:
                gone.append(key)
                if not change.kept:
                    continue
            elif self._new is not None and key in self._new:
                new.append((*key, *{**self._empty, **puts, **adds}.values()))
                continue
            groups[(*puts,), (*adds,)].append((*key, *puts.values(), *adds.values()))
        if self._new is not None:
            self._new.discard(self.changes)
        self.changes = {}
        self._keys.clear()
        if len(self.known) > _KNOWN:
            self.known = {}
        if gone:
            yield self._delete, gone
        if new:
            yield self._insert_new, _in_order(new)
        for (puts_of, adds_of), rows in groups.items():
            yield self._upsert(puts_of, adds_of), _in_order(rows)

    def forget(self) -> None:
        self.changes = {}
        self.known = {}
        self._keys.clear()

    def trim(self) -> None:
        """Keep few rows in memory."""
        if len(self.known) > _KEPT:
            self.known = {}

    def _upsert(self, puts: tuple[str, ...], adds: tuple[str, ...]) -> str:
        found = self._upserts.get((*puts, "+", *adds))
        if found is None:
            columns = (*self._key, *puts, *adds)
            sets = [f"{name} = excluded.{name}" for name in puts]
            sets += [f"{name} = coalesce({self.name}.{name}, 0) + excluded.{name}" for name in adds]
            action = f"UPDATE SET {', '.join(sets)}" if sets else "NOTHING"
            found = self._upserts[(*puts, "+", *adds)] = (
                f"INSERT INTO {self.name} ({', '.join(columns)}) "
                f"VALUES ({', '.join('?' * len(columns))}) "
                f"ON CONFLICT ({', '.join(self._key)}) DO {action}"
            )
        return found


class _SearchedChanges(_RowChanges):
    """The changes to a table with a search index; a text goes to the index and not to a column."""

    def __init__(
        self, table: Table, generation: int, write_index: IndexStatements, *, empty: bool
    ) -> None:
        super().__init__(table, generation, empty=empty)
        self._write_index = write_index
        self._text_name = str(table.search)
        self._index = search_table(table.name, generation)
        self._added: dict[Key, str] = {}
        self._gone: dict[Key, str] = {}

    def put(self, key: Key, columns: dict[str, Value]) -> None:
        text = columns.pop(self._text_name, None)
        if text is not None:
            self._added[key] = str(text)
        super().put(key, columns)

    def take_out(self, key: Key, text: str | None, read: _Read) -> None:
        """Delete a row and the words of its text, if the row is there."""
        if self.get(key, read) is None:
            return
        if self._added.pop(key, None) is None and text is not None:
            self._gone[key] = text
        self.delete(key)

    def statements(self) -> Iterator[Statement]:
        yield from super().statements()
        added, gone = self._added, self._gone
        self._added, self._gone = {}, {}
        yield from self._write_index(self._index, gone, added)

    def forget(self) -> None:
        super().forget()
        self._added, self._gone = {}, {}


def _changes_of(
    table: Table, generation: int, write_index: IndexStatements, *, empty: bool
) -> _SetChanges | _RowChanges:
    if table.search is not None:
        return _SearchedChanges(table, generation, write_index, empty=empty)
    if {*table.columns} == {*table.key}:
        return _SetChanges(table, generation, empty=empty)
    return _RowChanges(table, generation, empty=empty)


class Changes:
    """Collects the changed rows of a batch; `statements` turns them into SQL.

    Args:
        generations: The generation of the rows of each view, which nobody else may write meanwhile.
        read_stream: A function that reads a stream of the log.
        write_index: Makes the statements that change a search index; see `RowTables`.
        empty: True if the tables are empty, and all their rows are written by this object.

    Attributes:
        connection: The connection with which rows are read.
        generations: The generation of each view's rows; no other process may write these rows
            meanwhile.
    """

    connection: RowsConnection

    def __init__(
        self,
        generations: Mapping[View, int],
        read_stream: Callable[[str], Iterator[Recorded]],
        write_index: IndexStatements = index_statements,
        *,
        empty: bool = False,
    ) -> None:
        self.generations = generations
        self._read_stream = read_stream
        self._tables = {
            table.name: _changes_of(table, generation, write_index, empty=empty)
            for view, generation in generations.items()
            for table in view.tables
        }

    def _read(self, select: str, key: Key) -> list[Row]:
        return self.connection.execute(select, key).fetchall()

    def get(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """Read a row, including all changes so far; see `Rows.get`."""
        return self._tables[table].get(key, self._read)

    def shown(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """Read a row of the generation that users see; see `ReadsRow`."""
        try:
            return self._tables[table].shown(key, self._read)
        except (sqlite3.OperationalError, NoSuchTable):
            # there is no such table yet, or another version of the view defined its columns
            return None

    def put(self, table: str, key: Key, **columns: Value) -> None:
        """Set some columns of a row; see `Rows.put`."""
        self._tables[table].put(key, columns)

    def add(self, table: str, key: Key, **deltas: int) -> None:
        """Add numbers to integer columns of a row; see `Rows.add`."""
        self._tables[table].add(key, deltas)

    def delete(self, table: str, key: Key, *, text: str | None = None) -> None:
        """Remove a row, if it is there; see `Rows.delete`."""
        changes = self._tables[table]
        if isinstance(changes, _SearchedChanges):
            changes.take_out(key, text, self._read)
        else:
            changes.delete(key)

    def events(self, stream: str) -> Iterator[Recorded]:
        """Read a stream of the log; see `Rows.events`."""
        return self._read_stream(stream)

    def delete_under(self, table: str, first: Value) -> None:
        """Remove all rows whose key begins with a value; see `Rows.delete_under`."""
        self._tables[table].delete_under(first, self._read)

    def drop(self, view: View) -> None:
        """Forget the changes of one view since the last write.

        Args:
            view: The view, which has raised an error.
        """
        for table in view.tables:
            self._tables[table.name].forget()

    def forget(self) -> None:
        """Forget all changes and cached rows, because they may be out of date."""
        for changes in self._tables.values():
            changes.forget()

    def trim(self) -> None:
        """Cache few rows; to be called when all changes are written."""
        for changes in self._tables.values():
            changes.trim()

    def statements(self) -> Iterator[Statement]:
        """Make the SQL statements for all changes, and forget the changes.

        Yields:
            The SQL of each statement and the parameters of its executions, to be run in this order.
        """
        for changes in self._tables.values():
            yield from changes.statements()


def _in_order(rows: list[Key]) -> list[Key]:
    """Sort rows in the order of their table, so that each page is written once."""
    with suppress(TypeError):  # a column with both texts and numbers
        rows.sort()
    return rows


def _as_number(value: Value) -> int:
    return value if isinstance(value, int) else 0
