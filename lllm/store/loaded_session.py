"""A session together with the events that it was made from, for those who show more of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from lllm.events.envelope import Recorded
from lllm.events.model import Event, SessionStarted
from lllm.projections.queries.load_session import FoundSession
from lllm.projections.session.annotations import annotations_in
from lllm.projections.session.call_session import TacticCallSession
from lllm.store.summaries import SessionRecord
from lllm.times import datetime_of


class LoadedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session and its events, read and decoded once.

    Attributes:
        found: The facts about the session in the rows, with its tags at the time of loading.
        session: The session with those below it.
        events: The events of all of them, and the later statements about them, in log order.
        payloads: The decoded payload of each event.
        size: The bytes of the payloads of all events, also of those that were not kept.
    """

    found: FoundSession
    session: TacticCallSession
    events: Sequence[Recorded]
    payloads: Sequence[Event]
    size: int = 0

    @property
    def record(self) -> SessionRecord:
        """The session with what the store knows about it."""
        session = self.session
        return SessionRecord(
            session_id=session.session_id,
            session=session,
            task=session.task,
            tags=self.found.tags,
            metadata=session.metadata,
            timestamp=datetime_of(session.started),
            traceback=session.traceback,
            annotations=annotations_in(self.events, session.session_id),
        )

    @property
    def start(self) -> SessionStarted:
        """What was recorded when the session began."""
        return next(
            payload
            for event, payload in zip(self.events, self.payloads, strict=True)
            if event.stream == self.session.session_id and isinstance(payload, SessionStarted)
        )

    def payloads_by_session(self, kinds: Collection[type[Event]]) -> dict[str, list[Event]]:
        """Group payloads by the session, or other stream, in which they were written.

        Args:
            kinds: The types of the payloads.

        Returns:
            The payloads of these types in order, by stream; every session is there.
        """
        grouped: dict[str, list[Event]] = {row.id: [] for row in self.found.family}
        for event, payload in zip(self.events, self.payloads, strict=True):
            if type(payload) in kinds:
                grouped.setdefault(event.stream, []).append(payload)
        return grouped
