"""Events as they come: the last few first, of all sessions or of one and those below it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from lllm.cli.render.session_tree import family
from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import SessionNotFound
from lllm.events.model import SessionStarted
from lllm.store.log_store import LogStore

_WINDOW = 1 << 14  # positions of the first look back, which are bytes in a JSONL log
_ALL = 1 << 62  # events; no log has more


class FollowedSessions:
    """A session and those below it, also those that begin later.

    Raises SessionNotFound.
    """

    def __init__(self, store: LogStore, session_id: str) -> None:
        self._ids = {one.session_id for one in family(store.load_session(session_id))}

    def concerns(self, event: Recorded) -> bool:
        """Whether an event is of one of them, or says something about one."""
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
    """The last events, then those that come, without end.

    lines: how many of the last. only: the sessions that are meant, None for all.
    """
    head = store.log.head()
    yield from _last(store, head, lines, only)
    for event in store.follow(after=head):
        if only is None or only.concerns(event):
            yield event


def _last(
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


def session_or_error(store: LogStore, prefix: str) -> str:
    """The id of a session from its beginning, or of an error that `save_error` gave as it is.

    Raises SessionNotFound, AmbiguousId.
    """
    if prefix.startswith("error-"):
        if not any(True for _ in store.log.read(stream=prefix)):
            raise SessionNotFound(f"No error {prefix!r} in {store.backend!r}.")
        return prefix
    return store.find_id(prefix)
