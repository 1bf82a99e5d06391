"""Reads the events of a log in JetStream.

Any replica answers a read, also one that is behind. So what there is to read is asked of the
leader first, and a read is repeated until it has reached that, at another server after a while.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from lllm.events.backend import DigestPage
from lllm.events.backends.jetstream.connection import NatsConnection
from lllm.events.backends.jetstream.messages import (
    Envelopes,
    StoredEnvelope,
    Subjects,
    decode_envelopes,
    events_of,
    recorded,
)
from lllm.events.backends.jetstream.stream_requests import Stored, last_message, read_messages
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged, LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

_PAGE = 1_000  # messages
_PAGE_BYTES = 8 << 20
_ERASED_AT_ONCE = 500
_PAGE_SECONDS = 4.0  # for a page, which is asked for again then
_PAUSE = 0.02  # seconds before a replica that is behind is asked again
_LEADER_SECONDS = 2.0  # after which the log is believed to be shorter than before


class _Erased(msgspec.Struct, frozen=True):
    """An event whose payload is missing."""

    position: int
    stream: str
    envelope: StoredEnvelope


_Found = Recorded | _Erased
_position = attrgetter("position")


class JetStreamReader:
    """Reads one log.

    Args:
        connection: The connection to the cluster.
        subjects: The subjects of the log.
        shown: The log's URL for messages.
        timeout: Seconds for an answer.
    """

    def __init__(
        self, connection: NatsConnection, subjects: Subjects, shown: str, timeout: float
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._shown = shown
        self._timeout = timeout
        self._end = 0  # the sequence of the last envelopes that are known to be stored

    def reaches(self, sequence: int) -> None:
        """Note that a message with envelopes is stored.

        Args:
            sequence: Its sequence.
        """
        self._end = max(self._end, sequence)

    def head(self) -> int:
        """The position of the last event whose append is complete; 0 if there is none.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        begin = time.monotonic()
        while True:
            last = self._last(self._subjects.all_envelopes)
            end = 0 if last is None else last.position
            # A leader that others have replaced answers, too, until it hears of that.
            if end < self._end and time.monotonic() < begin + _LEADER_SECONDS:
                time.sleep(_PAUSE)
                continue
            if last is None:
                return 0
            envelopes = decode_envelopes(last, self._shown)
            if envelopes.at == envelopes.of:
                self._end = end
                return self._last_position(last, envelopes)
            if time.monotonic() > begin + self._timeout:
                raise LogUnavailable(f"{self._shown}: an append is not complete")
            time.sleep(_PAUSE)  # the append is just being stored

    def _last_position(self, last: Stored, envelopes: Envelopes) -> int:
        """The position of the last event of an append, which may be one of another stream."""
        first = envelopes.first_sequence(last.position)
        return max(
            first + one.index - 1
            for message in [last, *self._others(first, last)]
            for one in decode_envelopes(message, self._shown).events
        )

    def _others(self, first: int, last: Stored) -> Sequence[Stored]:
        """The other envelopes of the append that a message ends."""
        envelopes = decode_envelopes(last, self._shown)
        payloads = max(one.index + one.parts - 1 for one in envelopes.events)
        if payloads == envelopes.at - 1:
            return ()
        return [
            one
            for one in self._messages(first, last.position, self._subjects.all_envelopes)
            if one.position < last.position
        ]

    def _last(self, subject: str) -> Stored | None:
        async def look(client: Client) -> Stored | None:
            return await last_message(client, self._subjects.root, subject, self._timeout)

        return self._connection.ask(look, self._timeout)

    def _last_of(self, subject: str) -> Stored | None:
        """The last message of a subject, from a replica that is not behind what is known."""
        until = time.monotonic() + _LEADER_SECONDS

        async def look(client: Client) -> tuple[Sequence[Stored], int]:
            request = {"multi_last": [subject], "batch": 1}
            return await read_messages(client, self._subjects.root, request)

        while time.monotonic() < until:
            found, upto = self._connection.ask(look, self._timeout)
            if not found:
                return self._last(subject)
            if upto >= self._end:
                return found[-1]
            time.sleep(_PAUSE)
        return self._last(subject)  # the nearest replica stays behind: ask the leader

    def end_of(self, stream: str) -> Stored | None:
        """The last envelopes of a stream of events; None if there are none.

        Args:
            stream: The name of the stream.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return self._last_of(f"{self._subjects.of_stream(stream)}.e")

    def envelopes_of(
        self, stream: str, after: int, last: int
    ) -> Iterator[tuple[int, StoredEnvelope]]:
        """Read the envelopes of a stream of events.

        Args:
            stream: The name of the stream.
            after: Read the messages after this sequence.
            last: The sequence of its last message with envelopes.

        Yields:
            Their positions, and the envelopes.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        if after >= last:
            return
        for message in self._messages(after + 1, last, f"{self._subjects.of_stream(stream)}.e"):
            found = decode_envelopes(message, self._shown)
            first = found.first_sequence(message.position)
            for one in found.events:
                yield first + one.index - 1, one

    def parts_of(self, streams: Collection[str]) -> Mapping[int, int]:
        """Count the messages of the payloads of some streams of events.

        Args:
            streams: The names of the streams.

        Returns:
            The numbers, by the positions of the events.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        ends = {stream: self.end_of(stream) for stream in streams}
        return {
            position: one.parts
            for stream, end in ends.items()
            if end is not None
            for position, one in self.envelopes_of(stream, 0, end.position)
        }

    def _messages(self, first: int, last: int, subject: str | None) -> Iterator[Stored]:
        """Read messages from one sequence to another that is known to exist."""
        asked = time.monotonic()
        until = asked + self._timeout
        pending = self._page(first, subject)
        while True:
            try:
                page = self._connection.result(pending, _PAGE_SECONDS)
            except LogUnavailable:
                if time.monotonic() > until:
                    raise
                page = ()  # the server may have died
            if page:
                asked = time.monotonic()
                until = asked + self._timeout
                first = page[-1].position + 1
                if first <= last:
                    pending = self._page(first, subject)  # while the caller handles this one
                yield from page
                if first > last:
                    return
            else:  # the replica is behind
                if time.monotonic() > until:
                    raise LogUnavailable(f"{self._shown}: no replica has message {last}")
                asked = self._connection.leave(asked)
                time.sleep(_PAUSE)
                pending = self._page(first, subject)

    def _page(self, first: int, subject: str | None) -> Future[Sequence[Stored]]:
        request: dict[str, object] = {"seq": first, "batch": _PAGE, "max_bytes": _PAGE_BYTES}
        if subject is not None:
            request["next_by_subj"] = subject

        async def look(client: Client) -> Sequence[Stored]:
            return (await read_messages(client, self._subjects.root, request))[0]

        return self._connection.start(look, _PAGE_SECONDS)

    def read(self, after: int, upto: int, stream: str | None) -> Iterator[Recorded]:
        """Read events in order.

        Args:
            after: Read the events after this position.
            upto: The last position to read; not above the head.
            stream: The stream to read; None for all.

        Yields:
            The events.

        Raises:
            LogDamaged: An event can't be read.
            LogUnavailable: The server can't be reached.
        """
        if after >= upto:
            return
        if stream is None:
            subject, end = None, self._end
        else:
            last = self.end_of(stream)
            subject = f"{self._subjects.of_stream(stream)}.>"
            end = 0 if last is None else last.position
        if end <= after:
            return
        for append in self._appends(after, end, subject, whole=stream is None):
            events = [one for one in append if after < one.position <= upto]
            yield from self._with_erased(events)
            if append and append[-1].position >= upto:
                return

    def _appends(
        self, after: int, last: int, subject: str | None, *, whole: bool
    ) -> Iterator[list[_Found]]:
        """Read the events of one append after the other."""
        payloads: dict[int, bytes] = {}
        found: list[_Found] = []
        for message in self._messages(max(after, 0) + 1, last, subject):
            kind = message.subject[-2:]
            if kind == ".p":
                payloads[message.position] = message.data
            elif kind == ".e":
                envelopes = decode_envelopes(message, self._shown)
                found += _put_together(message, envelopes, payloads)
                if not whole or envelopes.at == envelopes.of:
                    found.sort(key=_position)
                    yield found
                    found, payloads = [], {}

    def read_digests(self, after: int, upto: int) -> Iterator[DigestPage]:
        """Read the digests of events; no payload is read for that.

        Args:
            after: Read those after this position.
            upto: The last position to read; not above the head.

        Yields:
            Their positions and digests, in order, by appends.

        Raises:
            LogDamaged: An envelope can't be read.
            LogUnavailable: The server can't be reached.
        """
        if after >= upto:
            return
        page: list[tuple[int, bytes]] = []
        for message in self._messages(after + 1, self._end, self._subjects.all_envelopes):
            envelopes = decode_envelopes(message, self._shown)
            first = envelopes.first_sequence(message.position)
            page += [(first + one.index - 1, one.digest) for one in envelopes.events]
            if envelopes.at == envelopes.of:
                page.sort()
                last = page[-1][0]
                yield [one for one in page if after < one[0] <= upto]
                if last >= upto:
                    return
                page = []

    def _with_erased(self, events: Sequence[_Found]) -> Iterator[Recorded]:
        missing = [one for one in events if isinstance(one, _Erased)]
        erased = self._erased([one.position for one in missing]) if missing else {}
        for one in events:
            if isinstance(one, _Erased):
                yield recorded(one.position, one.stream, one.envelope, erased[one.position])
            else:
                yield one

    def _erased(self, positions: Sequence[int]) -> Mapping[int, bytes]:
        found: dict[int, bytes] = {}
        asked = time.monotonic()
        until = asked + self._timeout
        while True:
            left = [one for one in positions if one not in found]
            if not left:
                return found
            names = [self._subjects.erased(one) for one in left[:_ERASED_AT_ONCE]]

            async def look(client: Client, names: Sequence[str] = names) -> Sequence[Stored]:
                request = {"multi_last": names, "batch": _PAGE}
                return (await read_messages(client, self._subjects.root, request))[0]

            page = self._connection.ask(look, self._timeout)
            found |= {int(one.subject.rpartition(".")[2]): one.data for one in page}
            if not page:
                if time.monotonic() > until:
                    found[left[0]] = self._erased_one(left[0])
                asked = self._connection.leave(asked)  # the replica may be behind
                time.sleep(_PAUSE)

    def _erased_one(self, position: int) -> bytes:
        """What the leader has of an erased event."""
        one = self._last(self._subjects.erased(position))
        if one is None:
            raise LogDamaged(
                f"{self._shown}: the payload of the event at {position} is missing, and nothing "
                "says that it was erased.",
                position=position,
            )
        return one.data


def _put_together(
    message: Stored, envelopes: Envelopes, payloads: Mapping[int, bytes]
) -> Iterator[_Found]:
    for one in events_of(message, envelopes, payloads):
        yield one if isinstance(one, Recorded) else _Erased(one[0], envelopes.stream, one[1])
