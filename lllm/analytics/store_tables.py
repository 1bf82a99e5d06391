"""Reads the tables for analysts from a store, some hundred sessions at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import cast

import msgspec

from lllm.analytics.arrow_batches import TableRow
from lllm.analytics.columns import TABLES, TableName
from lllm.analytics.event_rows import AddRow, EventRows, types_of
from lllm.analytics.fewer_collections import collect_young, fewer_collections
from lllm.analytics.row_tables import cost_row, session_row, tag_rows
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.projections.database import RowsDatabase
from lllm.projections.dialect import ALL
from lllm.projections.engine.skip_damage import skip_corrupt_events, skip_corrupt_events_of
from lllm.projections.queries import session_tags
from lllm.projections.queries.costs import SessionCost, costs_of
from lllm.projections.queries.session_months import (
    count_between,
    definitions_until,
    families_of,
)
from lllm.projections.queries.sessions import SessionRow, ids_of, reading
from lllm.store.read_model import ReadModel

PAGE = 400  # selected sessions that are read together
_DENSE = 3  # read all events of a range if one of so many sessions there is wanted
_OVERHANG = 8  # a range goes on for one of so many parts, for the sessions that began at its end

Flush = Callable[[TableName, list[TableRow]], object]

_ROWS = 2_000  # rows from which a table is full; with more, garbage collections take longer
_CHARACTERS = 16 << 20  # of long texts, likewise
_LONG = ("text", "reasoning", "arguments", "result")  # columns whose texts may be long


class _Filling:
    """Rows of one table that are collected, and passed on when there are many of them.

    Attributes:
        add: A function that takes a row.
    """

    def __init__(self, table: TableName, flush: Flush) -> None:
        self._rows: list[TableRow] = []
        self._table = table
        self._flush = flush
        self._characters = 0
        names = [column.name for column in TABLES[table]]
        self._long = [names.index(name) for name in _LONG if name in names]
        self.add: AddRow = self._add_long if self._long else self._add

    def _add(self, row: TableRow) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self.pass_on()

    def _add_long(self, row: TableRow) -> None:
        for place in self._long:
            text = row[place]
            if text is not None:
                self._characters += len(cast(str, text))
        self._rows.append(row)
        if len(self._rows) >= _ROWS or self._characters >= _CHARACTERS:
            self.pass_on()

    def pass_on(self) -> None:
        """Pass on the rows that there are."""
        if self._rows:
            rows, self._rows, self._characters = self._rows, [], 0
            self._flush(self._table, rows)


class _Page(msgspec.Struct):
    """What the store's rows say about some sessions and all sessions below them."""

    families: list[SessionRow]
    ids: dict[int, str]
    tags: dict[int, dict[str, str]]
    costs: list[SessionCost]
    between: int


class StoreTables:
    """Reads tables from a store.

    Args:
        log: The log, whose damaged events are left out.
        rows: The rows of the store, which are up to date.
        tables: The names of the tables to read.
    """

    def __init__(self, log: LogBackend, rows: ReadModel, tables: Collection[TableName]) -> None:
        self._log = log
        self._rows = rows
        self._tables = tuple(tables)
        self._types = types_of(tables)
        self._versions = rows.ask(_definition_numbers)

    def read(self, numbers: Sequence[int], flush: Flush, done: Callable[[int], object]) -> None:
        """Read the rows of sessions and all sessions below them.

        Args:
            numbers: The numbers of the sessions, sorted; none of them is below another.
            flush: A function that is called with the name of a table, and some of its rows.
            done: A function that is called with the number of sessions that were read.
        """
        filling = {table: _Filling(table, flush) for table in self._tables}
        add = {table: one.add for table, one in filling.items()}
        with fewer_collections():
            self._read_pages(numbers, add, done)
        for one in filling.values():
            one.pass_on()

    def _read_pages(
        self,
        numbers: Sequence[int],
        add: Mapping[TableName, AddRow],
        done: Callable[[int], object],
    ) -> None:
        for start in range(0, len(numbers), PAGE):
            some = list(numbers[start : start + PAGE])
            page = self._rows.ask(lambda rows, some=some: self._page(rows, some))  # type: ignore[misc]
            self._add_rows(page, add)
            if self._types:
                self._add_events(page, add)
            done(len(some))
            collect_young()

    def _page(self, database: RowsDatabase, numbers: Sequence[int]) -> _Page:
        with reading(database) as connection:
            families = families_of(connection, numbers)
            known = {row.number: row.id for row in families}
            above = {number for row in families for number in (row.root, row.parent) if number}
            ids = known | ids_of(connection, above - known.keys())
            tags: dict[int, dict[str, str]] = {}
            if "tags" in self._tables:
                of = known.keys() | {row.root for row in families}
                tags = session_tags.own_tags(connection, of)
            costs = costs_of(connection, numbers) if "costs" in self._tables else []
            between = 0
            if self._types and families:
                first, last = families[0].number, _end_of_range(families)
                between = count_between(connection, first, last)
            return _Page(families, ids, tags, costs, between)

    def _add_rows(self, page: _Page, add: Mapping[TableName, AddRow]) -> None:
        for row in page.families:
            if "sessions" in add:
                add["sessions"](session_row(row, page.ids))
            if "tags" in add:
                for tag in tag_rows(row, page.ids, page.tags):
                    add["tags"](tag)
        for cell in page.costs:
            add["costs"](cost_row(cell, page.ids[cell.session]))

    def _add_events(self, page: _Page, add: Mapping[TableName, AddRow]) -> None:
        sessions = {
            row.id: EventRows(
                (row.id, page.ids.get(row.root, row.id), row.tactic), row.state, add,
                self._versions.get,
            )
            for row in page.families
            if row.erased is None and row.archived is None
        }  # fmt: skip
        find = sessions.get
        for event in self._events(page, sessions):
            session = find(event.stream)
            if session is not None:
                session.take(event)
        for session in sessions.values():
            session.finish()

    def _events(self, page: _Page, sessions: Collection[str]) -> Iterator[Recorded]:
        """Read the events of sessions; those of each stream are in order.

        Sessions that are next to each other in the log are read with one pass over it. What lies
        behind that range is read session by session.
        """
        wanted = [row for row in page.families if row.id in sessions]
        if not wanted:
            return iter(())
        first, last = page.families[0].number, min(_end_of_range(page.families), self._log.head())
        dense = page.between <= _DENSE * len(wanted)

        def behind() -> Iterator[Iterator[Recorded]]:
            for row in wanted:
                after = last if dense else row.number - 1
                if row.last_position is None or row.last_position > after:
                    yield skip_corrupt_events_of(self._log, row.id, after)

        of_range = skip_corrupt_events(self._log, self._types, first - 1, last) if dense else ()
        return chain(of_range, chain.from_iterable(behind()))


def _end_of_range(families: Sequence[SessionRow]) -> int:
    """The last position of sessions, but of the few that go on for long after the others."""
    first, last = families[0].number, families[-1].number
    ends = [row.last_position for row in families if row.last_position is not None]
    return max(last, min(max(ends, default=last), last + (last - first) // _OVERHANG + 1_000))


def _definition_numbers(database: RowsDatabase) -> dict[str, int]:
    """Number the definitions of each agent in the order in which the log met them, from 1."""
    counts: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    with reading(database) as connection:
        for name, stream in definitions_until(connection, ALL):
            counts[name] += 1
            numbers[stream] = counts[name]
    return numbers
