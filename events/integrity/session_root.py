"""Binds the last event of a session to all events before it.

`session.succeeded` and `session.failed` contain the number of events before them in the session,
and the root of the Merkle tree (RFC 6962, see `merkle`) over the digests of these events, in the
order of the stream. A proof of that one event is therefore a proof of the whole session: no event
of it is missing, wherever in the log its events are.

Last events that an earlier version of lllm wrote have neither, so nothing is checked for them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from lllm.events import codec
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import RightEdge
from lllm.events.model import Event, SessionFailed, SessionSucceeded

_FEW = 8  # leaves that are appended faster one by one
ENDS = frozenset({SessionSucceeded.type, SessionFailed.type})


def grown(tree: RightEdge, events: Sequence[NewEvent | Recorded]) -> RightEdge:
    """Append events of a session to a copy of its tree.

    Args:
        tree: The tree over the first events of the session; it is not changed.
        events: Events of the session, in order. Those that the tree already has are skipped.

    Returns:
        The new tree.
    """
    longer = tree.copy()
    new = [event.digest for event in events if event.seq > tree.size]
    if len(new) > _FEW:
        longer.extend(new)
    else:
        for digest in new:
            longer.append(digest)
    return longer


def with_root(data: bytes, tree: RightEdge) -> bytes:
    """Add the number and the root of a session's events to the payload of its last event.

    This is done after redaction, to the payload that will be stored: the root is not content, and
    is known only when the event gets its place in the stream.

    Args:
        data: The payload, a JSON object with at least one member.
        tree: The tree over all events before the last one.

    Returns:
        The payload with both members.
    """
    added = b',"events":%d,"root":"%b"}' % (tree.size, base64.b64encode(tree.root()))
    return b"".join((memoryview(data)[:-1], added))


def root_problem(end: Event, tree: RightEdge) -> str | None:
    """Compare the number and root in the last event of a session with the events before it.

    Args:
        end: The last event, decoded.
        tree: The tree over all events before it.

    Returns:
        What is wrong, as a part of a sentence; None if they match or the event has none.
    """
    if not isinstance(end, SessionSucceeded | SessionFailed) or None in (end.events, end.root):
        return None
    if end.events != tree.size:
        return (
            f"it says that {end.events} events of its session come before it, but there are "
            f"{tree.size}"
        )
    if end.root != tree.root():
        return f"its root does not match the {tree.size} events of its session before it"
    return None


class RootCheck:
    """Checks the events of a session, read in parts, against the root in its last event."""

    def __init__(self) -> None:
        self._tree = RightEdge()
        self._first = self._count = 0
        self._last: Recorded | None = None  # it is no leaf of the tree if it ends the session

    def add(self, events: Sequence[Recorded]) -> None:
        """Take the next part of the events.

        Args:
            events: Events of one stream in order, at least one, each of which matches its digest.
        """
        self._first = self._first or events[0].seq
        before = events[:-1] if self._last is None else [self._last, *events[:-1]]
        self._tree = grown(self._tree, before)
        self._last = events[-1]
        self._count += len(events)

    def end(self) -> None:
        """Check the root, after the last event.

        Raises:
            LogDamaged: The number or the root does not match.
        """
        last = self._last
        if last is None or last.type not in ENDS or last.seq != self._count or self._first != 1:
            return  # it has no last event here, or the log lost some of its events
        problem = root_problem(codec.decode(last), self._tree)
        if problem is not None:
            raise LogDamaged(
                f"Session {last.stream!r} is not what was written: of its last event (position "
                f"{last.position}), {problem}. Compare it with a backup.",
                position=last.position,
                stream=last.stream,
            )


def check_root(events: Sequence[Recorded]) -> None:
    """Check the events of a session against the number and root in its last event.

    Args:
        events: The events of one stream in order, each of which matches its digest.

    Raises:
        LogDamaged: The number or the root does not match.
    """
    if events:
        check = RootCheck()
        check.add(events)
        check.end()
