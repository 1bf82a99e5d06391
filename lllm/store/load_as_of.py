"""Loads a session as it was at a position of the log or at a time.

A position is exact: it means the log as it was then. A time refers to the clocks of the writers, to
the microsecond: of each stream, the events before its first later event count.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import StoreError
from lllm.events.model import SessionStarted, SessionTagged
from lllm.projections.queries.load_session import FoundSession
from lllm.projections.view import storable
from lllm.times import Moment, datetime_of, nanoseconds_of

PointInTime = int | Moment
_MICROSECOND = 1_000  # nanoseconds


class Until:
    """Selects the events that were written before a point in time.

    Args:
        at: A position of the log; or a datetime, date or text as for `lllm.times.nanoseconds_of`,
            in UTC if it has no offset.

    Raises:
        TypeError: `at` has another type.
        ValueError: `at` is a text that is not a time.
    """

    def __init__(self, at: PointInTime) -> None:
        if isinstance(at, bool):
            raise TypeError("at is a position of the log or a time, not a bool")
        self.position = at if isinstance(at, int) else None
        self._time = 0 if isinstance(at, int) else nanoseconds_of(at) // _MICROSECOND

    def __str__(self) -> str:
        if self.position is not None:
            return f"position {self.position}"
        return datetime_of(self._time * _MICROSECOND).isoformat().replace("+00:00", "Z")

    def narrowed(self, found: FoundSession) -> FoundSession:
        """Leave out events after a position, so that they are not read.

        Args:
            found: The places of a session's events in the log.

        Returns:
            The same places up to the position; unchanged if `at` is a time.
        """
        upto = self.position
        if upto is None:
            return found
        return msgspec.structs.replace(
            found,
            family=[
                msgspec.structs.replace(row, last_position=min(upto, row.last_position or upto))
                for row in found.family
                if row.number <= upto
            ],
            statements=[one for one in found.statements if one[0] <= upto],
        )

    def of(self, events: Sequence[Recorded]) -> list[Recorded]:
        """Select the events that were written before the point in time.

        Args:
            events: Events of sessions, in the order of the log.

        Returns:
            The selected events, in the same order.
        """
        if self.position is not None:
            return [event for event in events if event.position <= self.position]
        later: set[str] = set()
        selected: list[Recorded] = []
        for event in events:
            if event.stream not in later and event.time // _MICROSECOND <= self._time:
                selected.append(event)
            else:
                later.add(event.stream)
        return selected

    def not_begun(self, found: FoundSession) -> StoreError:
        """Make the error for a session that began later.

        Args:
            found: The facts about the session.

        Returns:
            The error to raise.
        """
        row = found.row
        began = datetime_of(row.started).isoformat().replace("+00:00", "Z")
        return StoreError(
            f"Session {row.id} had not begun at {self}: it began at position {row.number}, {began}."
        )


def tags_in(events: Sequence[Recorded], session_id: str) -> dict[str, str]:
    """Read a session's own tags from events.

    Args:
        events: The events of the session and later events about it, in the order of the log.
        session_id: The id of the session.

    Returns:
        The tags that the session has after the last of these events.
    """
    tags: dict[str, str] = {}
    for event in events:
        if event.type == SessionStarted.type and event.stream == session_id:
            started = codec.decode(event)
            if isinstance(started, SessionStarted) and event.seq == 1:
                tags = {storable(name): storable(value) for name, value in started.tags.items()}
        elif event.type == SessionTagged.type:
            change = codec.decode(event)
            if isinstance(change, SessionTagged) and change.about == session_id:
                for name in change.removed:
                    tags.pop(storable(name), None)
                tags |= {storable(name): storable(value) for name, value in change.set.items()}
    return tags
