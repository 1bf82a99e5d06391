"""Reading a log around its damage: every event that can still be had, and a note on what can't.

The readers that everything else uses stop at damage, so that nobody mistakes half a session for a
whole one. Here it is noted, and the reading goes on behind it.

A JSONL log says itself where it goes on; an append with a broken line is lost as a whole. Behind
its last whole append may stand a write that was cut short, which nobody was told is stored: that is
no damage. A line that has its end and is no event can't come from there. How an SQLite log is read
is said in `damaged_rows`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from lllm.events import lines, segments
from lllm.events.errors import LogDamaged
from lllm.events.jsonl import LocalFileBackend
from lllm.events.log import LogBackend
from lllm.events.own_files import open_to_read
from lllm.events.record import Recorded

_TAIL = 1 << 20  # bytes behind the last whole append that are looked at


class Damage(msgspec.Struct, frozen=True):
    """Something in a log that is not as it was written.

    position: where; of several, the last, so that reading `after` it goes on behind the damage.
    stream: the session or statement, "" where nobody can tell. seq: which event of it, 0 where
    that can't be told or there are several. what: what is wrong, for people.
    """

    position: int
    stream: str
    seq: int
    what: str

    @classmethod
    def of(cls, event: Recorded, what: str, *, position: int | None = None) -> Damage:
        """Damage of one event, whose fields may hold anything. position: None for its own."""
        at = event.position if position is None else position
        return cls(at, str(event.stream), event.seq if type(event.seq) is int else 0, what)


class Readable:
    """The events of a log that can be read, in order, with a Damage for what can't be, where it
    stands.

    upto: the position that is read to, the end of the log when this is made. torn_bytes: how many
    bytes stand behind the last whole append, known when all is read.
    """

    def __init__(self, log: LogBackend) -> None:
        self._log = log
        self.upto = self._last()
        self.torn_bytes = 0

    def _last(self) -> int:
        return self._log.head()

    def __iter__(self) -> Iterator[Recorded | Damage]:
        after = 0
        while True:
            try:
                yield from self._log.read(after=after, upto=self.upto)
                return
            except LogDamaged as damage:
                if damage.position <= after:
                    raise  # it does not say where the log goes on
                after = damage.position
                yield Damage(after, damage.stream, 0, str(damage))


class ReadableLines(Readable):
    """The same of a JSONL log, with its tail."""

    def __init__(self, log: LocalFileBackend) -> None:
        super().__init__(log)
        self._folder = log.path

    def __iter__(self) -> Iterator[Recorded | Damage]:
        yield from super().__iter__()
        with segments.Translated(self._folder):
            damage = self._look_at_tail()
        if damage is not None:
            yield damage

    def _look_at_tail(self) -> Damage | None:
        found = segments.segments_of(self._folder)
        if not found:
            return None
        with open_to_read(found[-1].path) as file:
            size = file.seek(0, os.SEEK_END)
            end = segments.whole_end(file)  # which may be further: others go on appending
            self.torn_bytes = max(0, size - end)
            tail = segments.read_at(file, end, min(self.torn_bytes, _TAIL))
        position = found[-1].begin + end
        for line in tail.split(b"\n")[:-1]:
            position += len(line) + 1
            try:
                lines.decode(position, line)
            except (ValueError, RecursionError) as error:
                return Damage(
                    position, lines.stream_of(line), 0,
                    f"{found[-1].path} ends in {self.torn_bytes} bytes that are no whole append, "
                    f"and with a line that was written to its end and is no event: {error}. "
                    "Copy the file before anything is appended, which cuts them off.",
                )  # fmt: skip
        return None
