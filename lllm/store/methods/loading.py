"""Find, load and follow sessions."""

from __future__ import annotations

from collections.abc import Iterator

from lllm.events import log as logs
from lllm.events.envelope import Recorded
from lllm.projections.session.call_session import TacticCallSession
from lllm.store.load_as_of import PointInTime
from lllm.store.methods.store_parts import StoreParts
from lllm.store.summaries import SessionRecord


class LoadsSessions(StoreParts):
    """Find, load and follow sessions. See LogStore."""

    def find_id(self, prefix: str) -> str:
        """Find the one session id that begins with a prefix.

        Args:
            prefix: The first characters of the id.

        Returns:
            The whole id.

        Raises:
            SessionNotFound: No session id begins with it.
            AmbiguousId: Several session ids begin with it.
        """
        return self._reader.find_id(prefix)

    def load_session(self, session_id: str, *, at: PointInTime | None = None) -> TacticCallSession:
        """Load a session with its calls, and with its child sessions at any depth.

        Args:
            session_id: The whole id.
            at: The point in time as of which to load the session: a position of the log, or a time
                as a datetime, a date or a text such as "5m" (see `lllm.times.parse_time`; without
                an offset it is UTC). None for now.

        Returns:
            The session.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.load(session_id, at=at)[1]

    def load_session_record(
        self, session_id: str, *, at: PointInTime | None = None
    ) -> SessionRecord:
        """Load a session with its tags, metadata, start and, where it failed, the traceback.

        Args:
            session_id: The whole id.
            at: The point in time as of which to load the session and its tags; see `load_session`.

        Returns:
            The session and what the store knows about it.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.load_with_events(session_id, at=at).record

    def events(self, session_id: str, *, at: PointInTime | None = None) -> Iterator[Recorded]:
        """Read the events of one session, and later events about it, such as changes of tags.

        Those of a session that was erased have no payloads; the last one says who erased it.

        Args:
            session_id: The whole id of the session, or an id that `save_error` returned.
            at: The point in time after which events are left out; see `load_session`. None for all.

        Returns:
            The events, in the order of the log.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.events(session_id, at=at)

    def follow(self, *, after: int | None = None, poll: float = 0.1) -> Iterator[Recorded]:
        """Iterate over the events of all sessions as any process writes them, without end.

        Args:
            after: Begin with the event after this position; None for events written from now on.
            poll: Seconds between two checks for new events.

        Yields:
            Each event once, in the order of the log.

        Raises:
            LogDamaged: The log ends before a position that was read, as an older copy does.
        """
        # `yield from` keeps the store open
        yield from logs.follow(self.log, after=after, poll=poll)
