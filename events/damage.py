"""Reading a log around its damage: every event that can still be had, and a note on what can't.

The readers that everything else uses stop at damage, so that nobody mistakes half a session for a
whole one. Here it is noted, and the reading goes on behind it.

A JSONL log says itself where it goes on; an append with a broken line is lost as a whole. What may
stand behind its last whole append is said in `torn`. How an SQLite log is read is said in
`damaged_rows`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import msgspec

from lllm.events import segments, torn
from lllm.events.errors import LogDamaged
from lllm.events.jsonl import LocalFileBackend
from lllm.events.log import LogBackend
from lllm.events.own_files import open_to_read
from lllm.events.record import Recorded

_LOOKS = (0.02, 0.2, 0)  # seconds until a write that may be under way is looked at again


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

    upto: the position that is read to, the end of the log when this is made. Known when all is
    read: torn_bytes, how many bytes of a write that was cut short stand at the end; set_aside, the
    files that such bytes were moved to before; lost_end, that the log ends before what was
    acknowledged, and last_begin, the position that its last file begins at.
    """

    def __init__(self, log: LogBackend) -> None:
        self._log = log
        self.upto = self._last()
        self.torn_bytes = 0
        self.set_aside: tuple[str, ...] = ()
        self.lost_end: Damage | None = None
        self.last_begin = 0

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
        self._lines = log

    def __iter__(self) -> Iterator[Recorded | Damage]:
        yield from super().__iter__()
        with segments.Translated(self._folder):
            damage = self._look_at_tail()
        if damage is not None:
            yield damage

    def _look_at_tail(self) -> Damage | None:
        self.set_aside = tuple(map(str, torn.files_set_aside(self._folder)))
        found = segments.segments_of(self._folder)
        if not found:
            self._look_at_end()
            return None
        self.last_begin = found[-1].begin
        for wait in _LOOKS:  # a process may be in the middle of a write
            with open_to_read(found[-1].path) as file:
                size = file.seek(0, os.SEEK_END)
                end = segments.whole_end(file)  # which may be further: others go on appending
                state = torn.tail_state(file, end, size)
            if state.kind == "none":
                self._look_at_end()
                return None
            time.sleep(wait)
        if state.kind != "damaged":
            self.torn_bytes = size - end
            return None
        error = torn.damaged_tail(found[-1], end, size)
        return Damage(error.position, "", 0, str(error))

    def _look_at_end(self) -> None:
        try:
            self._lines.check_end()
        except LogDamaged as error:
            self.lost_end = Damage(error.position, "", 0, str(error))
