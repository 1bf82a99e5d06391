"""Reads a damaged log: every readable event, and a note for each damaged place.

The readers that everything else uses stop at damage, so that nobody mistakes half a session for a
whole one. Here it is noted, and the reading goes on behind it.

How logs in files are read is said beside each backend.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.events.backend import LogBackend, ReadsPastDamage
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged


class Damage(msgspec.Struct, frozen=True):
    """A place in a log that differs from how it was written.

    Attributes:
        position: Where; of several, the last, so that reading `after` it goes on behind the damage.
        stream: The session or statement, "" where nobody can tell.
        seq: Which event of it, 0 where that can't be told or there are several.
        what: What is wrong, for people.
    """

    position: int
    stream: str
    seq: int
    what: str

    @classmethod
    def of(cls, event: Recorded, what: str, *, position: int | None = None) -> Damage:
        """Describe the damage of one event, whose fields may have any value.

        Args:
            event: As it is stored.
            what: What is wrong, for people.
            position: Where; None for the event's own.
        """
        at = event.position if position is None else position
        return cls(at, str(event.stream), event.seq if type(event.seq) is int else 0, what)


class Readable:
    """Iterates over a log in order: its events, and a Damage in place of each unreadable part.

    Args:
        log: The log.

    Attributes:
        upto: The position that is read to, the end of the log when this is made.
        torn_bytes: How many bytes of a write that was cut short stand at the end. This and the next
            are known when all is read.
        set_aside: The files that such bytes were moved to before.
        lost_end: That the log ends before what was acknowledged, None where it does not.
        last_begin: The position that the log's last file begins at.

    Raises:
        LogError: It can't be read at all.
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


def readable(log: LogBackend) -> Readable:
    """Prepare to read all of a damaged log that is readable, as well as its backend can.

    Args:
        log: Any backend.

    Raises:
        LogError: The log can't be read at all.
    """
    return log.readable() if isinstance(log, ReadsPastDamage) else Readable(log)
