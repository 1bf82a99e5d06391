"""Follows new events as they are written: of all sessions, or of one and its descendants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from lllm.cli.render.session_tree import family
from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.model import SessionStarted
from lllm.store.log_store import LogStore

_WINDOW = 1 << 14  # positions that are searched first; in a JSONL log, positions are bytes
_ALL = 1 << 62  # events; no log has more


class FollowedSessions:
    """A session and its descendants, including those that begin later.

    Args:
        store: The store that has the session.
        session_id: The id of the session.

    Raises:
        SessionNotFound: The store has no such session.
    """

    def __init__(self, store: LogStore, session_id: str) -> None:
        self._ids = {one.session_id for one in family(store.load_session(session_id))}

    def concerns(self, event: Recorded) -> bool:
        """True if an event belongs to one of the sessions, or is about one.

        Args:
            event: The next event of the log; each one must be passed, in order.

        Returns:
            True if the event should be shown.
        """
        if event.stream in self._ids:
            return True
        payload = codec.decode(event)
        if isinstance(payload, SessionStarted):
            if any(above.session_id in self._ids for above in payload.ancestors):
                self._ids.add(event.stream)
                return True
            return False
        return getattr(payload, "about", None) in self._ids


def follow(store: LogStore, lines: int, only: FollowedSessions | None) -> Iterator[Recorded]:
    """Iterate over the last events, then over new ones, without end.

    Args:
        store: The store to follow.
        lines: The number of past events to begin with.
        only: The sessions whose events are returned; None for all.

    Yields:
        The events, in the order of the log.
    """
    head = store.log.head()
    yield from _last_events(store, head, lines, only)
    for event in store.follow(after=head):
        if only is None or only.concerns(event):
            yield event


def _last_events(
    store: LogStore, head: int, lines: int, only: FollowedSessions | None
) -> Iterator[Recorded]:
    window = _WINDOW
    while lines:
        after = max(0, head - window)
        found: deque[Recorded] = deque(maxlen=min(lines, _ALL))
        for event in store.log.read(after=after, upto=head):
            if only is None or only.concerns(event):
                found.append(event)
        if len(found) == lines or after == 0:
            yield from found
            return
        window *= 8
