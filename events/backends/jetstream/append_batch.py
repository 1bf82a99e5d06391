"""Appends events to a log in JetStream: each append is one atomic batch.

The server refuses a batch if a stream of events has grown since the writer looked at it, so two
writers never store the same place twice. A writer that is refused, or hears nothing, looks at the
streams again: what is stored already is recognised by its digest, and the rest is appended anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lllm.events.backends.jetstream.connection import NatsConnection, ServerError
from lllm.events.backends.jetstream.messages import Subjects, batch_of, decode_envelopes
from lllm.events.backends.jetstream.read_events import JetStreamReader
from lllm.events.backends.jetstream.stream_requests import store_batch
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.envelope import NewEvent, conflict
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

_WRONG_SEQUENCES = (10071, 10164)  # the server's codes: a stream of events has grown
# A batch with a gap, or too many at a time; the stream's leader is being elected, or has too
# little space for now.
_AGAIN = (10008, 10023, 10047, 10074, 10077, 10118, 10176, 10210, 10211)
_ATTEMPT = 4.0  # seconds for one attempt of several
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.3  # seconds between two attempts
_UNCLEAR = " It is not known whether the events were stored; they can be appended again."
_ENDS = 10_000  # streams of events whose ends are remembered

_Ends = dict[str, tuple[int, int]]


class BatchAppender:
    """Appends to one log.

    Args:
        connection: The connection to the cluster.
        reader: Reads the log.
        subjects: The subjects of the log.
        shown: The log's URL for messages.
    """

    def __init__(
        self, connection: NatsConnection, reader: JetStreamReader, subjects: Subjects, shown: str
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._subjects = subjects
        self._shown = shown
        self._ends: _Ends = {}  # of streams that this process appended to
        self._remembering = RobustLock()

    def append(self, events: Sequence[NewEvent], seconds: float, max_payload: int) -> Sequence[int]:
        """Append events, as `LogBackend.append` requires.

        Args:
            events: The events; at least one.
            seconds: The time after which an append without an answer is given up.
            max_payload: The longest message that the server takes, in bytes.

        Returns:
            The positions.

        Raises:
            AppendConflict: A different event has the same place.
            AppendTooLarge: The append has too many events, or too long ones.
            LogUnavailable: The server can't be reached, or does not answer in time.
        """
        begin = time.monotonic()
        until = begin + seconds
        pause, trusting, sent = _SHORTEST_PAUSE, True, threading.Event()
        while True:
            try:
                return self._attempt(events, until, max_payload, sent, trusting=trusting)
            except ServerError as error:
                if error.code in _AGAIN:
                    begin = self._connection.leave(begin)
                elif error.code not in _WRONG_SEQUENCES:
                    raise LogUnavailable(f"{self._shown}: {error}") from None
                if time.monotonic() + pause >= until:
                    raise LogUnavailable(f"{self._shown}: {error}") from None
                if error.code in _WRONG_SEQUENCES and trusting:
                    pause = 0.0
            except LogUnavailable as error:
                begin = self._connection.leave(begin)
                if time.monotonic() + pause >= until:
                    raise LogUnavailable(f"{error}{_UNCLEAR if sent.is_set() else ''}") from None
            trusting = False
            time.sleep(pause)
            pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _attempt(
        self, events: Sequence[NewEvent], until: float, max_payload: int, sent: threading.Event,
        *, trusting: bool,
    ) -> Sequence[int]:  # fmt: skip
        ends = self._ends_of(events, trusting=trusting)
        positions = self._stored(events, ends)
        new: dict[tuple[str, int], NewEvent] = {}
        for event in events:
            place = (event.stream, event.seq)
            if place in positions:
                continue
            if new.setdefault(place, event).digest != event.digest:
                raise conflict(event, self._shown)
        if new:
            messages, indexes, news = batch_of(
                self._subjects, list(new.values()), ends, max_payload
            )
            seconds = min(max(until - time.monotonic(), 0.1), _ATTEMPT + len(messages) / 100)

            async def store(client: Client) -> int:
                sent.set()
                return await store_batch(client, messages, seconds)

            first = self._connection.run(store, seconds)
            for place, index in zip(new, indexes, strict=True):
                positions[place] = first + index - 1
            self._reader.reaches(first + len(messages) - 1)
            self._remember({one: (first + at - 1, last) for one, (at, last) in news.items()})
        return [positions[event.stream, event.seq] for event in events]

    def _ends_of(self, events: Sequence[NewEvent], *, trusting: bool) -> _Ends:
        """The ends of the events' streams.

        trusting: True to believe what is remembered, and that a stream that begins now is empty.
        """
        ends: _Ends = {}
        for event in events:
            if event.stream in ends:
                continue
            known = self._ends.get(event.stream) if trusting else None
            if known is not None:
                ends[event.stream] = known
            elif trusting and event.seq == 1:
                ends[event.stream] = (0, 0)
            else:
                found = self._reader.end_of(event.stream)
                ends[event.stream] = (
                    (0, 0)
                    if found is None
                    else (found.position, decode_envelopes(found, self._shown).last)
                )
        return ends

    def _stored(
        self, events: Sequence[NewEvent], ends: Mapping[str, tuple[int, int]]
    ) -> dict[tuple[str, int], int]:
        """The positions of those events that are stored already."""
        streams = {one.stream for one in events if one.seq <= ends[one.stream][1]}
        if not streams:
            return {}
        found = {
            (stream, envelope.seq): (position, envelope.digest)
            for stream in streams
            for position, envelope in self._reader.envelopes_of(
                stream, self._before(stream, events), ends[stream][0]
            )
        }
        positions = {}
        for event in events:
            stored = found.get((event.stream, event.seq))
            if stored is not None:
                if stored[1] != event.digest:
                    raise conflict(event, self._shown)
                positions[event.stream, event.seq] = stored[0]
        return positions

    def _before(self, stream: str, events: Sequence[NewEvent]) -> int:
        """A sequence before which none of the events can be; reading a long stream takes long."""
        end, last = self._ends.get(stream, (0, 0))
        return end if last < min(one.seq for one in events if one.stream == stream) else 0

    def _remember(self, ends: Mapping[str, tuple[int, int]]) -> None:
        with self._remembering:
            for stream in ends:
                self._ends.pop(stream, None)
            self._ends.update(ends)
            while len(self._ends) > _ENDS:
                del self._ends[next(iter(self._ends))]
