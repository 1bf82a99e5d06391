"""Reads a damaged log: every readable event, and a note for each damaged place.

Other readers stop at the first damage, so that nobody takes half a session for a whole one. This
one reports the damage and continues after it.

Logs in files know better where they continue; each file-based backend has a reader of its own.
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
        position: The position of the damage, or of the last of several damaged events; a read
            `after` it continues after the damage.
        stream: The session or statement that is damaged; "" if it is unknown.
        seq: The number of the damaged event in its stream; 0 if it is unknown, or if there are
            several.
        what: What is wrong, as a text for users.
    """

    position: int
    stream: str
    seq: int
    what: str

    @classmethod
    def of(cls, event: Recorded, what: str, *, position: int | None = None) -> Damage:
        """Make the Damage for one event, whose fields may have values of any type.

        Args:
            event: The event as it is stored.
            what: What is wrong, as a text for users.
            position: The position of the damage; None for the event's own position.

        Returns:
            The description of the damage.
        """
        at = event.position if position is None else position
        return cls(at, str(event.stream), event.seq if type(event.seq) is int else 0, what)


class Readable:
    """Iterates over a log in order: its events, and a Damage in place of each unreadable part.

    Args:
        log: The log to read.

    Attributes:
        upto: The position at which the reading ends: the end of the log when this object was made.
        torn_bytes: The bytes of an unfinished write at the end of the log. This attribute and those
            below are set when the iteration is finished.
        set_aside: The files to which the bytes of earlier unfinished writes were moved.
        lost_end: The error if the log ends before an acknowledged event; None if it does not.
        last_begin: The position at which the last file of the log begins.

    Raises:
        LogError: The log can't be read at all.
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
                    raise  # the error does not say where the log continues
                after = damage.position
                yield Damage(after, damage.stream, 0, str(damage))


def readable(log: LogBackend) -> Readable:
    """Prepare to read all events of a damaged log that are readable.

    The backend's own reader is used if it has one.

    Args:
        log: The backend, of any class.

    Returns:
        An iterator over the events and the damage.

    Raises:
        LogError: The log can't be read at all.
    """
    return log.readable() if isinstance(log, ReadsPastDamage) else Readable(log)
