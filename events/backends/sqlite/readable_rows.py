"""Reads a damaged SQLite log: every readable event, and a note for each damaged place.

Events are numbered 1, 2, 3 ..., so a row that was removed leaves a gap, also at the end: SQLite
remembers the last number that it gave out (https://sqlite.org/autoinc.html). SQLite trusts the
content of a page; a row with a wrong position is found here because its neighbours contradict it.
If a page can't be read, `unreadable_positions` finds the next readable position, and rows that
SQLite can't reach are read from the pages themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, cast

import msgspec

from lllm.events.backends.sqlite.archived_leaves import archived_ranges
from lllm.events.backends.sqlite.database import Row, Value
from lllm.events.backends.sqlite.unreadable_positions import (
    end_of_gap,
    of_a_part,
    positions,
    steps_behind,
)
from lllm.events.concurrency.background import InBackground
from lllm.events.damage import Damage, Readable
from lllm.events.envelope import Recorded
from lllm.events.errors import LogError

if TYPE_CHECKING:
    from lllm.events.backends.sqlite.backend import SQLiteBackend

_ROW = """SELECT position, stream, seq, time, type, version, CAST(data AS BLOB), digest
          FROM events WHERE position"""
_PAGE = 1_000  # rows that are read at once
# Without an upper bound: a damaged position would end the result and hide the rows after it.
_ROWS = f"{_ROW} >= ? ORDER BY position LIMIT {_PAGE + 1}"  # one more row, to know what follows
_ONE_ROW = f"{_ROW} = ?"
_BEHIND = f"{_ROW} > ? ORDER BY position LIMIT {_PAGE}"
_INDEX = "events INDEXED BY sqlite_autoindex_events_1"  # the index of UNIQUE (stream, seq)
_LAST = (
    "SELECT ifnull(max(position), 0) FROM events",
    "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'",
    f"SELECT ifnull(max(position), 0) FROM {_INDEX}",
)
_NAMES = f"SELECT CAST(stream AS BLOB), seq FROM {_INDEX} WHERE position BETWEEN ? AND ?"
# Goes from the index to the rows; the other direction would take as long again.
_UNINDEXED = """SELECT t.position, t.stream, t.seq FROM events AS t NOT INDEXED
    WHERE t.position BETWEEN ? AND ? AND NOT EXISTS (
        SELECT 1 FROM events AS i INDEXED BY sqlite_autoindex_events_1
        WHERE i.stream = t.stream AND i.seq = t.seq AND i.position = t.position)"""
_RANGE = 10_000  # positions that are looked up in the index at once, in some ten milliseconds
_NAMED = 50  # runs of unreadable rows that are looked up; each reads the whole index
_SHOWN = 3  # the most streams that are named when rows of several can't be read


class ReadableRows(Readable):
    """Iterates over the readable events and the damage of an SQLite log.

    Args:
        log: The log to read.

    Raises:
        LogError: The log can't be read at all.
    """

    def __init__(self, log: SQLiteBackend) -> None:
        self._log: SQLiteBackend = log
        self._database = log.database
        self._salvaged = log.salvaged
        self._damage = log.damage
        self._due = 1  # the position that comes next if nothing is missing
        self._look = 1  # the position to read next
        self._is_whole = True
        self._named = 0
        self._archived = archived_ranges(log.database) if log.damage is None else []
        super().__init__(log)

    def _last(self) -> int:
        """Find the last position from any readable part of the file.

        The event at this position may itself be lost.
        """
        found = []
        for sql in _LAST:
            try:
                found.append(cast(int, self._database.query(sql)[0][0]))
            except LogError as error:
                unreadable = of_a_part(error)
            if len(found) == 2:
                break
        if not found:
            raise unreadable
        return max(found)

    def __iter__(self) -> Iterator[Recorded | Damage]:
        if self._damage is not None:
            self._is_whole = False
            yield Damage(0, "", 0, str(self._damage))
        with InBackground(self._unindexed) as unindexed:
            while self._look <= self.upto:
                yield from self._next()
            self._look_for_archived()
            if self._due <= self.upto:
                yield self._missing(self.upto)
            if self._is_whole:  # otherwise the same damage would be reported again
                for damages in unindexed.results():
                    yield from damages

    def _pass_archived(self) -> None:
        """Go on behind positions whose events left the log for an archive."""
        self._due = self._behind_archived(self._due)

    def _look_for_archived(self) -> None:
        """Go on behind events that were archived since the reading began, too."""
        if self._log.damage is None:
            self._archived = archived_ranges(self._database)
        self._pass_archived()

    def _behind_archived(self, position: int) -> int:
        """Find the first position from `position` on that is not archived."""
        index = bisect_right(self._archived, position, key=itemgetter(0)) - 1
        if index >= 0 and position <= self._archived[index][1]:
            return self._archived[index][1] + 1
        return position

    def _next(self) -> Iterator[Recorded | Damage]:
        self._pass_archived()
        try:
            rows = self._database.query(_ROWS, (self._look,))
        except LogError as error:
            of_a_part(error)
            return self._one_by_one()
        if not rows:
            self._look = self.upto + 1
        behind = rows.pop()[0] if len(rows) > _PAGE else None
        if [row[0] for row in rows] == list(range(self._due, self._due + len(rows))):
            rows = rows[: self.upto + 1 - self._due]  # others keep appending
            self._due += len(rows)
            self._look = max(self._look, self._due)
            return starmap(Recorded, rows)
        found = list(self._in_order(rows, behind))
        if self._due <= self._look:  # these rows have wrong positions, which would not lead forward
            return chain(found, self._one_by_one())
        self._look = self._due
        return iter(found)

    def _in_order(self, rows: list[Row], behind: Value = None) -> Iterator[Recorded | Damage]:
        """Iterate over rows in file order, with a Damage for each missing or misplaced one.

        `behind` is the position of the row after them, if there is one.
        """
        following = [*(row[0] for row in rows[1:]), behind]
        for event, next_position in zip(starmap(Recorded, rows), following, strict=False):
            if self._due > self.upto:
                return  # others keep appending
            self._pass_archived()
            if event.position > self._due:
                self._look_for_archived()
            if event.position != self._due:
                is_followed = next_position == self._behind_archived(self._due + 1)
                yield self._disorder(event, is_followed=is_followed)
                if is_followed:
                    event = msgspec.structs.replace(event, position=self._due)
            if event.position <= self.upto:
                self._due = max(self._due, event.position + 1)
            yield event

    def _disorder(self, event: Recorded, *, is_followed: bool) -> Damage:
        """Describe the damage of a row that is out of order.

        `is_followed` is true if the row after it has the position that would follow the correct
        one.
        """
        self._is_whole = False
        if is_followed:
            what = f"its row says that it stands at position {event.position}"
            return Damage.of(event, what, position=self._due)
        if self._due < event.position <= self.upto:
            return self._missing(event.position - 1)
        return Damage.of(event, f"it stands behind position {self._due - 1}")

    def _one_by_one(self) -> Iterator[Recorded | Damage]:
        """Read rows one at a time, through the first that can't be read."""
        self._is_whole = False
        for _ in range(_PAGE):
            position = self._look
            if position > self.upto:
                return
            self._look += steps_behind(position - self._due)
            try:
                rows = self._database.query(_ONE_ROW, (position,))
            except LogError as error:
                if position > self._due:
                    yield self._missing(position - 1)
                self._look = self._due = end_of_gap(self._is_bad, position, self.upto)
                yield from self._from_pages(position, self._due - 1, of_a_part(error))
                return
            yield from self._in_order(rows)

    def _from_pages(self, first: int, last: int, error: LogError) -> Iterator[Recorded | Damage]:
        """Read positions that SQLite can't read from the file's pages."""
        due, after, found = first, first - 1, 0
        while self._salvaged is not None and after < last:
            rows = self._salvaged.query(_BEHIND, (after,), upto=self.upto)
            for event in starmap(Recorded, rows):
                if event.position > last:
                    break
                due = self._behind_archived(due)
                if event.position > due:
                    yield self._unreadable(due, event.position - 1, error)
                yield event
                found += 1
                due = event.position + 1
            after = cast(int, rows[-1][0]) if rows else last
        due = self._behind_archived(due)
        if due <= last:
            yield self._unreadable(due, last, error)
        if found:
            what = (
                f"{found} of the {positions(first, last).rpartition(' ')[0]} can't be reached by "
                f"SQLite ({error.__cause__}), and were read from their pages; `lllm repair` makes "
                "a whole file"
            )
            yield Damage(last, "", 0, what)

    def _is_bad(self, position: int) -> bool:
        try:
            self._database.query(_ONE_ROW, (position,))
        except LogError as error:
            of_a_part(error)
            return True
        return False

    def _missing(self, last: int) -> Damage:
        self._is_whole = False
        first, self._due = self._due, last + 1
        return Damage(last, "", 0, f"{positions(first, last)} missing from the log")

    def _unreadable(self, first: int, last: int, error: LogError) -> Damage:
        names: list[tuple[str, int]] = []
        if self._named < _NAMED:
            self._named += 1
            names = self._names(first, last)
        streams = sorted({stream for stream, _ in names})
        what = f"{positions(first, last)} not readable: {error.__cause__}"
        if len(streams) > 1:
            more = f" and {len(streams) - _SHOWN} more" if len(streams) > _SHOWN else ""
            what += f"; lost are events of {', '.join(map(repr, streams[:_SHOWN]))}{more}"
        stream = streams[0] if len(streams) == 1 else ""
        return Damage(last, stream, names[0][1] if len(names) == 1 else 0, what)

    def _names(self, first: int, last: int) -> list[tuple[str, int]]:
        """Find the streams of some positions in the index, which may be undamaged."""
        try:
            rows = self._database.query(_NAMES, (first, last))
        except LogError as error:
            of_a_part(error)
            return []
        return [(cast(bytes, name).decode(errors="backslashreplace"), cast(int, seq))
                for name, seq in rows]  # fmt: skip

    def _unindexed(self) -> Iterator[list[Damage]]:
        """Find rows that are missing from the index by stream, some thousand positions at a time.

        Without its index entry, an event would be missing when its session is loaded.
        """
        for first in range(1, self.upto + 1, _RANGE):
            try:
                rows = self._database.query(_UNINDEXED, (first, min(first + _RANGE - 1, self.upto)))
            except LogError as error:
                why = of_a_part(error).__cause__
                yield [Damage(0, "", 0, f"the index by session is not readable: {why}")]
                return
            what = "the index by session does not lead to it"
            yield [
                Damage(cast(int, position), str(stream), cast(int, seq), what)
                for position, stream, seq in rows
            ]
