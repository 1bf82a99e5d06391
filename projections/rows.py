"""The rows of all views, in SQLite.

A view's changes are gathered and merged in memory (`Changes`), then written in bulk. The tables of
a view carry the number of their generation (`sessions_v3`); an SQL view of the plain name stands in
front of the current one, so that a rebuild can fill the next generation beside it.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping

from lllm.events.database import Value
from lllm.projections.view import Key, Table, View

_Read = Callable[[str, Key], list[tuple[Value, ...]]]  # a SELECT and its parameters


def physical(table: str, generation: int) -> str:
    """The name of the table that holds the rows of one generation."""
    return f"{table}_v{generation}"


class _Change:
    """What a batch does to one row: whether what was stored goes (`deleted`), whether the row is
    there in the end (`kept`), and which columns are set or added to."""

    __slots__ = ("adds", "deleted", "kept", "puts")

    def __init__(self) -> None:
        self.deleted = False
        self.kept = True
        self.puts: dict[str, Value] = {}
        self.adds: dict[str, int] = {}


class _TableChanges:
    """The changes to one table, and the statements that write them."""

    def __init__(self, table: Table, generation: int) -> None:
        self.table = table
        self.name = physical(table.name, generation)
        self.changes: defaultdict[Key, _Change] = defaultdict(_Change)
        self.stored: dict[Key, dict[str, Value] | None] = {}
        self.columns = tuple(name for name in table.columns if name not in table.key)
        where = " AND ".join(f"{name} = ?" for name in table.key)
        selected = ", ".join(self.columns) or "1"
        self.select = f"SELECT {selected} FROM {self.name} WHERE {where}"
        self.delete = f"DELETE FROM {self.name} WHERE {where}"

    def write(self, connection: sqlite3.Connection) -> None:
        gone: list[Key] = []
        # Rows that change the same columns are written by one statement.
        groups: defaultdict[tuple[tuple[str, ...], tuple[str, ...]], list[Key]] = defaultdict(list)
        for key, change in self.changes.items():
            puts, adds = change.puts, change.adds
            if change.deleted:
                gone.append(key)
                if not change.kept:
                    continue
            groups[tuple(puts), tuple(adds)].append((*key, *puts.values(), *adds.values()))
        if gone:
            connection.executemany(self.delete, gone)
        for (puts_of, adds_of), values in groups.items():
            connection.executemany(self._upsert(puts_of, adds_of), values)

    def _upsert(self, puts: tuple[str, ...], adds: tuple[str, ...]) -> str:
        columns = (*self.table.key, *puts, *adds)
        sets = [f"{name} = excluded.{name}" for name in puts]
        sets += [f"{name} = ifnull({name}, 0) + excluded.{name}" for name in adds]
        action = f"UPDATE SET {', '.join(sets)}" if sets else "NOTHING"
        marks = ", ".join("?" * len(columns))
        return (
            f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(self.table.key)}) DO {action}"
        )


class Changes:
    """The Rows of one batch: nothing is written before `write`.

    views: each with the generation whose rows it changes. read: answers a SELECT by key.
    """

    def __init__(self, views: Mapping[View, int], read: _Read) -> None:
        self._read = read
        self._tables = {
            table.name: _TableChanges(table, generation)
            for view, generation in views.items()
            for table in view.tables
        }

    def get(self, table: str, key: Key) -> Mapping[str, Value] | None:
        """See Rows."""
        changes = self._tables[table]
        change = changes.changes.get(key)
        row = None if change is not None and change.deleted else self._stored(changes, key)
        if change is None:
            return row
        if not change.kept:
            return None
        merged = dict.fromkeys(changes.columns) | (row or {}) | change.puts
        for name, delta in change.adds.items():
            before = merged[name]
            merged[name] = (before if isinstance(before, int) else 0) + delta
        return merged

    def _stored(self, changes: _TableChanges, key: Key) -> dict[str, Value] | None:
        if key not in changes.stored:
            rows = self._read(changes.select, key)
            changes.stored[key] = (
                dict(zip(changes.columns, rows[0], strict=False)) if rows else None
            )
        return changes.stored[key]

    def put(self, table: str, key: Key, **columns: Value) -> None:
        """See Rows."""
        change = self._tables[table].changes[key]
        change.kept = True
        change.puts.update(columns)
        if change.adds:
            for name in columns:
                change.adds.pop(name, None)

    def add(self, table: str, key: Key, **deltas: int) -> None:
        """See Rows."""
        change = self._tables[table].changes[key]
        change.kept = True
        adds = change.adds
        for name, delta in deltas.items():
            if name in change.puts:
                before = change.puts[name]
                change.puts[name] = (before if isinstance(before, int) else 0) + delta
            else:
                adds[name] = adds.get(name, 0) + delta

    def delete(self, table: str, key: Key) -> None:
        """See Rows."""
        change = self._tables[table].changes[key]
        change.deleted = True
        change.kept = False
        change.puts = {}
        change.adds = {}

    def write(self, connection: sqlite3.Connection) -> None:
        """Write everything, inside the caller's transaction."""
        for changes in self._tables.values():
            if changes.changes:
                changes.write(connection)


def create_tables(connection: sqlite3.Connection, view: View, generation: int) -> None:
    """Make the empty tables and indexes of one generation of a view."""
    for table in view.tables:
        name = physical(table.name, generation)
        columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
        # A single integer key is the rowid itself; any other key is the table's own order.
        rowid = len(table.key) == 1 and table.columns[table.key[0]] == "INTEGER"
        connection.execute(
            f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({', '.join(table.key)}))"
            + ("" if rowid else " WITHOUT ROWID")
        )
        for index in table.indexes:
            connection.execute(
                f"CREATE {'UNIQUE ' if index.unique else ''}INDEX "
                f"{name}_by_{'_'.join(index.columns)} ON {name} ({', '.join(index.columns)})"
                + (f" WHERE {index.where}" if index.where else "")
            )


def show_generation(connection: sqlite3.Connection, view: View, generation: int) -> None:
    """Let the plain names of a view's tables stand for one generation."""
    for table in view.tables:
        connection.execute(f"DROP VIEW IF EXISTS {table.name}")
        connection.execute(
            f"CREATE VIEW {table.name} AS SELECT * FROM {physical(table.name, generation)}"
        )
