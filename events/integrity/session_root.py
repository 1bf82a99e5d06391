"""Binds the last event of a session to all events before it.

`session.succeeded` and `session.failed` carry how many events of the session stand before them, and
the root of the Merkle tree (RFC 6962, see `merkle`) over the digests of those, in the order of the
stream. So whoever has proven that one event proves the whole session with it, and that nothing of
it is missing, however scattered it stands in the log.

Ends that an earlier lllm wrote carry neither. Nothing is claimed then, and nothing is checked.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from lllm.events import codec
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import RightEdge
from lllm.events.model import Event, SessionFailed, SessionSucceeded

ENDS = frozenset({SessionSucceeded.type, SessionFailed.type})


def grown(tree: RightEdge, events: Sequence[NewEvent | Recorded]) -> RightEdge:
    """Append events of a session to its tree, which itself is left as it is.

    Args:
        tree: Over the first events of the session.
        events: Some of them, in order. Those that the tree has already are passed over.

    Returns:
        The tree with the others appended.
    """
    longer = tree.copy()
    longer.extend(event.digest for event in events if event.seq > tree.size)
    return longer


def with_root(data: bytes, tree: RightEdge) -> bytes:
    """Put the count and the root of a session's events into the payload of its end.

    It is done to the payload as it will be stored, behind every redaction: the root is no content,
    and is known only when the end gets its place.

    Args:
        data: The payload, a JSON object with at least one member.
        tree: Over all events before it.

    Returns:
        The payload with both.
    """
    added = b',"events":%d,"root":"%b"}' % (tree.size, base64.b64encode(tree.root()))
    return b"".join((memoryview(data)[:-1], added))


def root_problem(end: Event, tree: RightEdge) -> str | None:
    """Compare what the end of a session says of the events before it with those events.

    Args:
        end: The last event, decoded.
        tree: Over all events before it.

    Returns:
        What is wrong, None for nothing.
    """
    if not isinstance(end, SessionSucceeded | SessionFailed) or None in (end.events, end.root):
        return None
    if end.events != tree.size:
        return f"it says that {end.events} events of its session stand before it, not {tree.size}"
    if end.root != tree.root():
        return (
            f"the {tree.size} events of its session before it are not those that it speaks for: "
            "its root does not fit them"
        )
    return None


def check_root(events: Sequence[Recorded]) -> None:
    """Check that a session is what its last event says, if it is whole.

    Args:
        events: Of one stream in order, each of which fits its digest.

    Raises:
        LogDamaged: The end speaks for other events.
    """
    last = events[-1] if events else None
    if last is None or last.type not in ENDS or last.seq != len(events) or events[0].seq != 1:
        return  # it has no end here, or the log lost some of it
    problem = root_problem(codec.decode(last), grown(RightEdge(), events[:-1]))
    if problem is not None:
        raise LogDamaged(
            f"Session {last.stream!r} is not what was written: of its last event (position "
            f"{last.position}), {problem}. Compare it with a backup.",
            position=last.position,
            stream=last.stream,
        )
