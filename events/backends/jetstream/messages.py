"""The messages that an append is stored as.

    runs.<stream of events>.p   a payload, or a part of a long one, for each event in order
    runs.<stream of events>.e   then the envelopes, one message for each stream of the append

An append is one atomic batch, so its messages follow each other without gaps. The position of an
event is the sequence of its payload, or of the payload's first part. As the envelopes come last,
an envelope that a reader sees says that its payloads are there, or were erased.

A payload is deleted when it is erased, and `runs.=x.<position>` has what takes its place.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from lllm.events.backends.jetstream.stream_requests import Outgoing, Stored
from lllm.events.concurrency.decoders import decoder
from lllm.events.envelope import NewEvent, Recorded, refuse_too_large
from lllm.events.errors import AppendTooLarge, LogDamaged

MESSAGES = 1_000  # of one batch: a limit of the server
_HEADERS = 2_048  # bytes of a message that are kept for its headers and its subject
_PLAIN = re.compile("[A-Za-z0-9_-]{1,200}")
_LONGEST_TOKEN = 200


class StoredEnvelope(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All of an event but its payload.

    Attributes:
        index: The number of the payload's first message in the batch, from 1.
        parts: The number of messages of the payload.
        seq: The number of the event in its stream.
        time: Nanoseconds UTC.
        type: The event type.
        version: The version of the payload's fields.
        digest: The digest of the event.
    """

    index: int
    parts: int
    seq: int
    time: int
    type: str
    version: int
    digest: bytes


class Envelopes(msgspec.Struct, frozen=True, gc=False):
    """The envelopes of one stream in one append.

    Attributes:
        stream: The name of the stream of events.
        at: The number of this message in the batch, from 1.
        of: The number of messages of the batch.
        last: The highest number of an event in the stream, up to here.
        events: The envelopes.
    """

    stream: str
    at: int
    of: int
    last: int
    events: Sequence[StoredEnvelope]

    def first_sequence(self, sequence: int) -> int:
        """The sequence of the batch's first message.

        Args:
            sequence: The sequence of this message.
        """
        return sequence - self.at + 1


_encode = msgspec.json.Encoder().encode
_decoder = decoder(Envelopes)


class Subjects:
    """The subjects of one log.

    Args:
        root: The first part of all of them: the name of the log's stream.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.all = f"{root}.>"
        self.all_envelopes = f"{root}.*.e"

    def of_stream(self, stream: str) -> str:
        """The first two parts of a stream's subjects; two streams never have the same.

        Args:
            stream: The name of a stream of events.
        """
        if _PLAIN.fullmatch(stream):
            return f"{self.root}.{stream}"
        data = stream.encode("utf-8", "surrogatepass")
        token = base64.urlsafe_b64encode(data).decode().rstrip("=")
        if len(token) > _LONGEST_TOKEN:
            token = f"={hashlib.sha256(data).hexdigest()}"
        return f"{self.root}.={token}"

    def erased(self, position: int) -> str:
        """The subject of what takes the place of an erased payload.

        Args:
            position: The position of the event.
        """
        return f"{self.root}.=x.{position}"


def batch_of(
    subjects: Subjects,
    events: Sequence[NewEvent],
    ends: Mapping[str, tuple[int, int]],
    max_payload: int,
) -> tuple[Sequence[Outgoing], Sequence[int], Mapping[str, tuple[int, int]]]:
    """Make the messages of an append.

    Args:
        subjects: The subjects of the log.
        events: The events; none of them is stored.
        ends: For each of their streams the sequence of its last envelopes and its highest number
            of an event; 0 if there are none.
        max_payload: The longest message that the server takes, in bytes.

    Returns:
        The messages; the number of each event's first message, from 1; and for each stream the
        number of its envelopes, and its highest number of an event.

    Raises:
        AppendTooLarge: There are too many messages, or too long ones.
    """
    refuse_too_large(events)
    longest = max(max_payload - _HEADERS, 1_024)
    messages: list[Outgoing] = []
    envelopes: dict[str, list[StoredEnvelope]] = {}
    indexes = []
    for event in events:
        index = len(messages) + 1
        subject = f"{subjects.of_stream(event.stream)}.p"
        for begin in range(0, max(len(event.data), 1), longest):
            messages.append(Outgoing(subject, event.data[begin : begin + longest]))
        indexes.append(index)
        envelopes.setdefault(event.stream, []).append(
            StoredEnvelope(
                index, len(messages) - index + 1, event.seq, event.time, event.type, event.version,
                event.digest,
            )
        )  # fmt: skip
    count = len(messages) + len(envelopes)
    if count > MESSAGES:
        raise AppendTooLarge(
            f"An append with {len(events):,} events is not stored: it would be {count:,} messages, "
            f"and NATS stores at most {MESSAGES:,} at once. An event is one message, or one for "
            f"each {longest:,} bytes; each stream of events adds one. Append fewer at a time."
        )
    news = {}
    for stream, own in envelopes.items():
        after, last = ends[stream]
        last = max(last, *(one.seq for one in own))
        at = len(messages) + 1
        data = _encode(Envelopes(stream, at, count, last, own))
        if len(data) > longest:
            raise AppendTooLarge(
                f"An append with {len(events):,} events is not stored: their envelopes are "
                f"{len(data):,} bytes, and the server takes {longest:,}. Append fewer at a time, "
                "or raise the server's max_payload."
            )
        messages.append(Outgoing(f"{subjects.of_stream(stream)}.e", data, after))
        news[stream] = (at, last)
    return messages, indexes, news


def decode_envelopes(message: Stored, log: str) -> Envelopes:
    """Decode the envelopes in a message.

    Args:
        message: The message.
        log: The name of the log, for an error.

    Raises:
        LogDamaged: They can't be decoded.
    """
    try:
        return _decoder.decode(message.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogDamaged(
            f"{log}, message {message.position}: its envelopes can't be read ({error}).",
            position=message.position,
        ) from None


def events_of(
    message: Stored, envelopes: Envelopes, payloads: Mapping[int, bytes]
) -> Iterator[Recorded | tuple[int, StoredEnvelope]]:
    """Put envelopes and payloads together.

    Args:
        message: The message with the envelopes.
        envelopes: The envelopes.
        payloads: The messages with payloads, by their sequences.

    Yields:
        The events; for one whose payload is missing, its position and its envelope.
    """
    first = envelopes.first_sequence(message.position)
    for one in envelopes.events:
        position = first + one.index - 1
        try:
            data = b"".join([payloads[position + part] for part in range(one.parts)])
        except KeyError:
            yield position, one
        else:
            yield recorded(position, envelopes.stream, one, data)


def recorded(position: int, stream: str, one: StoredEnvelope, data: bytes) -> Recorded:
    """Make an event of its parts.

    Args:
        position: Its position.
        stream: The name of its stream.
        one: Its envelope.
        data: Its payload.
    """
    return Recorded(position, stream, one.seq, one.time, one.type, one.version, data, one.digest)
