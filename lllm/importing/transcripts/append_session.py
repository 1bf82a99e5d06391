"""Appends the events of one imported session to the log, after those that the log has already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lllm.events.buffered import BufferedLog
from lllm.events.codec import salt_of
from lllm.events.digest import commitment_of_erased, seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict, StoreError
from lllm.events.ids import new_salt
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, grown, with_root
from lllm.events.model import LLMResponded, SessionStarted
from lllm.events.redaction.redact import Redact, payload
from lllm.importing.transcripts.session_events import TimedEvent

_AT_ONCE = 500  # events in one append
_BYTES_AT_ONCE = 4 << 20  # bytes of payloads in one append
_FINISHED = LLMResponded.type  # its time is that of the last line that was there


def _salt_of(first: Recorded) -> bytes:
    """Read the salt of a stream from its first event. Raises StoreError if it was erased."""
    if commitment_of_erased(first.data) is not None or first.type != SessionStarted.type:
        raise StoreError(f"session {first.stream} was erased here, and is not imported again")
    return salt_of(first)


class SessionAppender:
    """Compares the events of a session with those in the log, and appends what is new.

    Args:
        log: The log of the store.
        session_id: The session, which is also the name of its stream.
        redact: The redaction of the store.
        append: Takes the new events instead of the log, which then gets them together with others;
            None to append them at once.

    Raises:
        StoreError: The session was erased.
    """

    def __init__(
        self,
        log: BufferedLog,
        session_id: str,
        redact: Redact | None,
        append: Callable[[Sequence[NewEvent]], object] | None = None,
    ) -> None:
        self._append = append or log.append
        self._redact = redact
        self.session_id = session_id
        self._stored: Iterator[Recorded] = log.read(stream=session_id)
        self._next: Recorded | None = next(self._stored, None)
        self.was_there = self._next is not None
        """True if the log had the session before."""
        self.salt = new_salt()
        if self._next is not None:
            self.salt = _salt_of(self._next)
        self._tree = RightEdge()
        self.appended = 0
        """The number of events that were appended."""

    def append(self, events: Sequence[TimedEvent]) -> None:
        """Append those events that the log does not have.

        Args:
            events: The next events of the session, in order.

        Raises:
            StoreError: The log has other events of this session, so nothing more can be added.
            LogUnavailable: The log can't be written.
        """
        batch: list[NewEvent] = []
        size = 0
        for time, event in events:
            if self._next is not None:
                self._compare(time, event.type)
                continue
            if len(batch) == _AT_ONCE or size > _BYTES_AT_ONCE:
                self._write(batch)
                batch, size = [], 0
            data = payload(event, self._redact)
            if event.type in ENDS:
                data = with_root(data, grown(self._tree, batch))
            seq = self._tree.size + len(batch) + 1
            batch.append(
                seal(self.salt, self.session_id, seq, time, event.type, event.version, data)
            )
            size += len(data)
        if batch:
            self._write(batch)

    def _compare(self, time: int, type_: str) -> None:
        """Compare an event with the one that the log has in its place."""
        stored = self._next
        assert stored is not None
        if stored.type != type_ or (stored.time != time and type_ != _FINISHED):
            raise StoreError(
                f"it differs from what was imported of it before, from event {stored.seq} of "
                f"session {self.session_id} on; that session stays as it is"
            )
        self._tree.append(stored.digest)
        self._next = next(self._stored, None)

    def _write(self, batch: Sequence[NewEvent]) -> None:
        try:
            self._append(batch)
        except AppendConflict as error:
            raise StoreError(
                f"another process imports session {self.session_id} at this moment; import it again"
            ) from error
        self._tree = grown(self._tree, batch)
        self.appended += len(batch)
