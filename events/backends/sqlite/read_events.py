"""Reads events from an SQLite file: all in order, those of one stream, or those of some types.

If a page can't be read, the events before it are returned, and then LogDamaged names the positions
that are lost with it; a read `after` the last of these continues after the damage. If a damaged
page only leads to other pages, or belongs only to an index, no event is lost, but reading is
slower: see `salvaged_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Literal, cast

import msgspec

from lllm.events.backend import DIGESTS_AT_ONCE, DigestPage, digest_pages
from lllm.events.backends.sqlite.archived_leaves import (
    archived_pages,
    last_of_run,
    leaves_between,
)
from lllm.events.backends.sqlite.database import Database, Row
from lllm.events.backends.sqlite.long_payloads import DATA, filled
from lllm.events.backends.sqlite.salvaged_rows import SalvagedRows
from lllm.events.backends.sqlite.unreadable_positions import end_of_gap, of_a_part, positions
from lllm.events.codec import is_utf8
from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.digest import DIGEST_BYTES
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged, LogError

# a column, and the size in bytes from which its values are not cached by a connection
_DATA, _LONG = 6, 1 << 20
_SEQ, _BEFORE_ALL = 2, -(1 << 63)  # a column, and a value below all of its
_MOST_LOST = 1 << 18  # positions that one damage counts
_PAGE = 500  # events that are fetched by one statement

_SELECT = f"""SELECT position, stream, seq, time, type, version, {DATA}, digest
              FROM events"""


_EVENTS = warm_msgspec(list[Recorded])
_NEXT = f"{_SELECT} WHERE position > ? ORDER BY position LIMIT ?"
_DIGESTS = "SELECT position, digest FROM events WHERE position > ? ORDER BY position LIMIT ?"
_ONE = f"{_SELECT} WHERE position = ?"
# Uses the index of UNIQUE (stream, seq), which is in other pages of the file than the rows.
_OF_STREAM = """SELECT 1 FROM events INDEXED BY sqlite_autoindex_events_1
                WHERE stream = ? AND position BETWEEN ? AND ?"""
HEADS = (  # the last position, from any part of the file that is readable
    "SELECT max(position) FROM events",
    "SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'",
    "SELECT max(position) FROM events INDEXED BY sqlite_autoindex_events_1",
)


class ReadsEventRows:
    """The methods of SQLiteBackend that read events.

    Attributes:
        path: The file, or ":memory:".
        database: The connections to the file.
        salvaged: The rows that are recovered from pages that SQLite can't read; None for a log in
            memory.
    """

    path: Path | Literal[":memory:"]
    database: Database
    salvaged: SalvagedRows | None  # the rows that SQLite can't reach; None for a log in memory

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        upto = self.head() if upto is None else upto
        if stream is not None and not is_utf8(stream):
            return iter(())  # no stream can have this name
        if stream is None:
            return self._all(max(after, 0), min(upto, self.head()))
        return self._pages(
            f"{_SELECT} WHERE position > ? AND seq > ? AND position <= ? AND stream = ? "
            f"ORDER BY seq LIMIT {_PAGE}",
            (after, _BEFORE_ALL),
            (upto, stream),
            lambda after: self._of_stream(stream, after, min(upto, self.head())),
        )

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types; see `ReadsByType`."""
        marks = ", ".join("?" * len(types))
        last = self.head() if upto is None else upto
        return self._pages(
            f"{_SELECT} WHERE position > ? AND position <= ? AND type IN ({marks}) "
            f"ORDER BY position LIMIT {_PAGE}",
            (after,),
            (last, *types),
            lambda after: (one for one in self._all(after, last) if one.type in types),
        )

    def read_digests(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read digests without reading payloads; see `ReadsDigests`."""
        last = self.head() if upto is None else upto
        after = max(after, 0)
        while after < last:
            count = min(DIGESTS_AT_ONCE, last - after)
            try:
                rows = self.database.query(_DIGESTS, (after, count))
            except LogError as error:
                of_a_part(error)
                yield from self._digests_one_by_one(after, after + count, last)
            else:
                if not _are_digests(rows, after, count):
                    rows = self._with_archived(rows, after, after + count)
                if _are_digests(rows, after, count):
                    yield cast(DigestPage, rows)
                else:
                    yield from self._digests_up_to_damage(rows, after, count, last)
            after += count

    def _with_archived(self, rows: Sequence[Row], after: int, last: int) -> list[Row]:
        """Add the digests of archived events to those of a range of positions."""
        archived = leaves_between(self.database, after + 1, last)
        if not archived:
            return list(rows)
        known = [row for row in rows if isinstance(row[0], int) and row[0] <= last]
        return sorted([*known, *archived.items()], key=itemgetter(0))

    def _digests_up_to_damage(
        self, rows: Sequence[Row], after: int, count: int, upto: int
    ) -> Iterator[DigestPage]:
        """Take the digests before the first that is missing."""
        page: list[tuple[int, bytes]] = []
        for row, position in zip_longest(rows, range(after + 1, after + 1 + count)):
            if row is None or row[0] != position or not _are_digests([row], position - 1, 1):
                if page:
                    yield page
                raise self._damaged(position, upto if row is None else row[0])
            page.append((position, cast(bytes, row[1])))
        yield page

    def _digests_one_by_one(self, after: int, last: int, upto: int) -> Iterator[DigestPage]:
        """Read digests near a damaged page, from the pages themselves if SQLite can't read them."""
        for position in range(after + 1, last + 1):
            try:
                rows = self.database.query(_DIGESTS, (position - 1, 1))
                if not _are_digests(rows, position - 1, 1):
                    rows = self._with_archived(rows, position - 1, position)
                whole = _are_digests(rows, position - 1, 1)
            except LogError as error:
                of_a_part(error)
                whole = False
            if whole:
                yield cast(DigestPage, rows)
            else:
                yield from digest_pages(self._one_by_one(position - 1, position, upto))

    def _query(self, sql: str, parameters: tuple[object, ...]) -> list[Row]:
        with self.database.snapshot() as connection:
            rows = connection.execute(sql, parameters).fetchall()
            if None in map(itemgetter(_DATA), rows):
                rows = filled(connection, rows, _DATA)
            if any(isinstance(data := row[_DATA], bytes) and len(data) > _LONG for row in rows):
                connection.execute("PRAGMA shrink_memory")
        return rows

    def _all(self, after: int, upto: int) -> Iterator[Recorded]:
        """Read the events of a range of positions, and check that none is missing.

        SQLite trusts a damaged row that has a wrong position, and would end the page there or start
        it again.
        """
        after = max(after, 0)
        while after < upto:
            count = min(_PAGE, upto - after)
            try:
                rows = self._query(_NEXT, (after, count))
            except LogError as error:
                of_a_part(error)
                yield from self._around(after, count, upto)
                after += count
                continue
            due = list(range(after + 1, after + 1 + count))
            if [row[0] for row in rows] == due:
                yield from self._recorded(rows)
                after += count
                continue
            archived = leaves_between(self.database, after + 1, after + count)
            due = [position for position in due if position not in archived]
            behind = rows[len(due)][0] if len(rows) > len(due) else None
            for row, position in zip_longest(rows[: len(due)], due):
                if row is None or row[0] != position:
                    raise self._damaged(position, upto if row is None else row[0])
                yield from self._recorded([row])
            if isinstance(behind, int) and behind <= after + count:
                raise self._damaged(behind)  # an event and its digest, or one twice
            after += count
            if not due:  # a long range may be archived
                behind = rows[0][0] if rows else None
                end = behind - 1 if isinstance(behind, int) else upto
                after = max(after, last_of_run(self.database, after + 1, min(end, upto)))

    def _around(self, after: int, count: int, upto: int) -> Iterator[Recorded]:
        """Read events near a damaged page, from the pages themselves or one at a time."""
        rows = self._from_pages(_NEXT, (after, count), upto)
        if [row[0] for row in rows] == list(range(after + 1, after + 1 + count)):
            return iter(self._recorded(rows))  # nothing of it was archived
        return self._one_by_one(after, after + count, upto)

    def _from_pages(self, sql: str, parameters: tuple[int, ...], upto: int) -> list[Row]:
        whole = sql.replace(DATA, "CAST(data AS BLOB)")
        return [] if self.salvaged is None else self.salvaged.query(whole, parameters, upto=upto)

    def _one_by_one(self, after: int, last: int, upto: int) -> Iterator[Recorded]:
        """Read events one at a time, up to the first one that can't be read.

        LogDamaged then names all positions after it that can't be read either. The log ends at
        `upto`.
        """
        for position in range(after + 1, last + 1):
            try:
                rows = self._query(_ONE, (position,))
                why: object = "there is no row"
            except LogError as error:
                why = of_a_part(error).__cause__
                rows = self._from_pages(_ONE, (position,), upto)
            if not rows and not leaves_between(self.database, position, position):
                end = self._end_of_gap(position, upto) - 1
                raise LogDamaged(
                    f"{self.path} is damaged: {positions(position, end)} not readable ({why}). "
                    "Restore a backup. A read after this position continues after the damage; "
                    "`lllm verify` lists all damage.",
                    position=end,
                    lost=_lost(position, end),
                )
            yield from self._recorded(rows)

    def _end_of_gap(self, first: int, upto: int) -> int:
        """Find the first readable position after a lost one."""
        found = self._from_pages(_NEXT, (first, 1), upto)
        last = min(cast(int, found[0][0]) - 1, upto) if found else upto
        return end_of_gap(self._is_lost, first, last)

    def _is_lost(self, position: int) -> bool:
        try:
            found = self._query(_ONE, (position,))
            return not found and not leaves_between(self.database, position, position)
        except LogError as error:
            of_a_part(error)
            return True

    def _of_stream(self, stream: str, after: int, upto: int) -> Iterator[Recorded]:
        """Read the events of one stream without the index, which may be damaged.

        Damage of rows that the index assigns to another stream is skipped.
        """
        while after < upto:
            try:
                for event in self._all(after, upto):
                    after = event.position
                    if event.stream == stream:
                        yield event
                return
            except LogDamaged as damage:
                if self._may_be_of(stream, after + 1, damage.position):
                    raise LogDamaged(
                        str(damage), position=damage.position, stream=stream, lost=damage.lost
                    ) from damage.__cause__
                after = damage.position

    def _may_be_of(self, stream: str, first: int, last: int) -> bool:
        try:
            return bool(self.database.query(_OF_STREAM, (stream, first, last)))
        except LogError as error:
            of_a_part(error)
            return True

    def _pages(
        self,
        sql: str,
        bounds: tuple[int, ...],
        parameters: tuple[object, ...],
        around: Callable[[int], Iterator[Recorded]],
    ) -> Iterator[Recorded]:
        """Read the events of a statement, some at a time.

        The first parameters of the statement are the bounds: the position of the last event that
        was read, and its number in its stream. With the number, the index of streams leads to the
        next page; without it, each page would be searched from the begin of the stream.

        If the statement meets a damaged page of the file, `around` is called with the last position
        and continues the reading.
        """
        while True:
            after = bounds[0]
            try:
                rows = self._query(sql, (*bounds, *parameters))
            except LogError as error:
                of_a_part(error)
                yield from around(after)
                return
            yield from self._recorded(rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]
            if not isinstance(last, int) or last <= after:
                raise self._damaged(after + 1)
            bounds = (last, cast(int, rows[-1][_SEQ]))[: len(bounds)]

    def _recorded(self, rows: Sequence[Row]) -> Iterable[Recorded]:
        """Make events from rows, whose columns may have values of any type."""
        try:
            return msgspec.convert(rows, _EVENTS)
        except msgspec.ValidationError:
            return self._up_to_damage(rows)

    def _up_to_damage(self, rows: Sequence[Row]) -> Iterator[Recorded]:
        """Make events from the rows before the first invalid row."""
        for row in rows:
            if not _is_event(row):
                raise self._damaged(row[0] if isinstance(row[0], int) else 0)
            yield msgspec.convert(row, Recorded)

    def _damaged(self, position: int, found: object = None) -> LogDamaged:
        """Make the error for an unreadable position.

        `found` is the position that was found instead.
        """
        last = max(position, found - 1) if isinstance(found, int) else position
        return LogDamaged(
            f"{self.path} is damaged: position {position} is missing, or its row says another. "
            "Restore a backup. A read after this position continues after the damage; `lllm "
            "verify` lists all damage.",
            position=last,
            lost=_lost(position, last),
        )

    def archived_leaves(self, *, after: int = 0, upto: int | None = None) -> Iterator[DigestPage]:
        """Read the digests of archived events; see `KeepsLeaves`."""
        return archived_pages(self.database, after, self.head() if upto is None else upto)

    def head(self) -> int:
        """The highest position in the log."""
        for sql in HEADS[:-1]:
            try:
                return cast(int, self.database.query(sql)[0][0] or 0)
            except LogError as error:
                # the damaged page may be the table's last, or the one with the counter
                of_a_part(error)
        return cast(int, self.database.query(HEADS[-1])[0][0] or 0)


def _lost(first: int, last: int) -> range:
    """The lost positions between two.

    The second may be forged and far beyond the end of the log.
    """
    return range(first, min(last, first + _MOST_LOST) + 1)


def _are_digests(rows: Sequence[Row], after: int, count: int) -> bool:
    """True if rows have the next positions and valid digests, and none is missing."""
    if [row[0] for row in rows] != list(range(after + 1, after + 1 + count)):
        return False
    digests = [row[1] for row in rows]
    return {*map(type, digests)} == {bytes} and {*map(len, cast(list[bytes], digests))} == {
        DIGEST_BYTES
    }


def _is_event(row: Row) -> bool:
    try:
        msgspec.convert(row, Recorded)
    except msgspec.ValidationError:
        return False
    return True
