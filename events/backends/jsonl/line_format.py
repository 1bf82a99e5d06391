"""Encodes and decodes the lines of a JSONL log: one line for each event.

    {"stream":"...","seq":1,"time":...,"type":"...","version":1,"digest":"...","data":{...},"more":0}

`stream` stands first, so that a reader of one stream can skip the lines of others after their first
bytes. `more` stands last: it is the number of events of the same append that follow. JSON has no
raw newline inside a value, so a file that ends in `,"more":0}` and a newline ends in a complete
append; any other end is a write that was cut short.

`data` is the payload, byte for byte. A payload that can't stand in a line as it is (not valid JSON,
with a line break, or with spaces around it) is stored as a string in `text`, or in `base64` if it
is not UTF-8.

The line of an erased event keeps its length, since positions are offsets. In place of `digest` and
payload it has `erased`: the commitment to the payload and the digest, in base85 (the alphabet of
RFC 1924, 40 characters each), and spaces up to the old length. If the line is too short for both,
it has the commitment alone, from which the digest can be computed.
"""

from __future__ import annotations

import base64
import re
from binascii import hexlify
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec

from lllm.events.concurrency.decoders import decoder
from lllm.events.digest import commitment_of_erased, erased_payload, leaf_of_commitment
from lllm.events.envelope import APPEND_BYTES, EVENT_BYTES, NewEvent, Recorded, too_large
from lllm.events.long_texts import is_text

STREAM = b'{"stream":"'  # the beginning of every line
WHOLE = b',"more":0}\n'  # the end of every append
_ENVELOPE = b'{"stream":%b,"seq":%d,"time":%d,"type":%b,"version":%d,'
_LONG = 1 << 20  # a payload of at least so many bytes is not copied into its line
_MORE = re.compile(rb',"more":(\d{1,9})\}\Z')

_encode = msgspec.json.Encoder().encode
_decode_raw = decoder(msgspec.Raw).decode

Line = tuple[int, bytes]  # the position of an event, and its line without the newline


# the largest number that fits the 8 bytes in a digest
_Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Line(msgspec.Struct, kw_only=True):
    """The fields of a line, in the order in which they are written."""

    stream: str
    seq: _Number
    time: _Number
    type: str
    version: _Number
    digest: str | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    base64: bytes | msgspec.UnsetType = msgspec.UNSET
    erased: str | msgspec.UnsetType = msgspec.UNSET
    more: int

    @property
    def payload(self) -> bytes:
        """The bytes of the payload.

        Raises:
            ValueError: The line has no payload.
        """
        if self.data is not msgspec.UNSET:
            return bytes(self.data)
        if self.text is not msgspec.UNSET:
            return self.text.encode()
        if self.base64 is not msgspec.UNSET:
            return self.base64
        raise ValueError("it has no data")


_decode_line = decoder(_Line).decode
_BASE85 = 40  # characters of base85 for 32 bytes


def encode_append(events: Sequence[NewEvent]) -> tuple[bytes, list[int]]:
    """Encode the events of one append as lines.

    Args:
        events: All events of the append.

    Returns:
        The lines, and for each line the offset of its end, in bytes from the start of the append.

    Raises:
        AppendTooLarge: A line, or the whole append, is too long.
    """
    pieces, ends = pieces_of_append(events)
    return b"".join(pieces), ends


def pieces_of_append(events: Sequence[NewEvent]) -> tuple[list[bytes], list[int]]:
    """Encode the lines of one append in pieces, so that a long payload is not copied.

    Args:
        events: All events of the append.

    Returns:
        The pieces, to be written one after another, and for each line the offset of its end.

    Raises:
        AppendTooLarge: A line, or the whole append, is too long.
    """
    pieces: list[bytes] = []
    short: list[bytes] = []
    ends = []
    end = 0
    for more, event in zip(range(len(events) - 1, -1, -1), events, strict=True):
        begun, ended = _begun(event, hexlify(event.digest)), b',"more":%d}\n' % more
        line = (begun, *_payload(event.data), ended)
        length = sum(map(len, line))
        if length > EVENT_BYTES:
            raise too_large(length, EVENT_BYTES, f"An event {event.type!r}")
        end += length
        ends.append(end)
        for part in line:
            if len(part) > _LONG:
                pieces += (b"".join(short), part)
                short.clear()
            else:
                short.append(part)
    if end > APPEND_BYTES:
        raise too_large(end, APPEND_BYTES, f"An append with {len(events)} events")
    pieces.append(b"".join(short))
    return pieces, ends


def _begun(event: NewEvent | _Line, digest: bytes) -> bytes:
    """Encode a line up to its payload."""
    return b'%b"digest":"%b",' % (_envelope(event), digest)


def _envelope(event: NewEvent | Recorded | _Line) -> bytes:
    """Encode a line up to its digest."""
    return _ENVELOPE % (
        _encode(event.stream), event.seq, event.time, _encode(event.type), event.version,
    )  # fmt: skip


def erased_line(event: Recorded, more: int, length: int) -> tuple[bytes, int, bytes]:
    """Encode the line of an erased event in the length of the original line.

    Args:
        event: The erased event, as `digest.erase` makes it.
        more: The number of events of the same append that follow.
        length: The length of the original line without its newline, in bytes.

    Returns:
        The beginning of the line, the number of spaces after it, and the end of the line.

    Raises:
        ValueError: The event does not fit into the line, because it still has its payload, or the
            line is another's.
    """
    committed = commitment_of_erased(event.data)
    if committed is None:
        raise ValueError(f"event {event.seq} of {event.stream!r} has its payload")
    begin, end = b'%b"erased":"' % _envelope(event), b'","more":%d}' % more
    for kept in (committed + event.digest, committed):
        text = base64.b85encode(kept)
        room = length - len(begin) - len(text) - len(end)
        if room >= 0:
            return begin + text, room, end
    raise ValueError(f"the line of event {event.seq} of {event.stream!r} is too short")


def _payload(data: bytes) -> tuple[bytes, ...]:
    """Encode the field with the payload, in pieces."""
    if not is_text(data):
        return b'"base64":"', base64.b64encode(data), b'"'
    if b"\n" not in data:
        try:
            # otherwise there are spaces around it
            if len(memoryview(_decode_raw(data))) == len(data):
                return b'"data":', data
        except (msgspec.DecodeError, RecursionError):
            pass  # not JSON, or nested too deeply to check
    return b'"text":', _encode(data.decode())


def decode(position: int, line: bytes) -> Recorded:
    """Decode the event of one line.

    An event has exactly one form as a line: the fields in order, no spaces, the digest in lower
    case, and one way to escape texts. Another form is an error, because the digest does not cover
    the form of the line.

    Args:
        position: The position of the event in the log.
        line: The line with its newline.

    Returns:
        The event.

    Raises:
        ValueError: The line differs from what `encode_append` would write.
    """
    try:
        found = _decode_line(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if found.digest is msgspec.UNSET:
        event = _erased_event(found)
        if _encode(found) != line:
            raise ValueError("it says an erased event, but is not written as lllm writes one")
        return event.at(position)
    data = bytes(found.data) if found.data is not msgspec.UNSET else found.payload
    digest = bytes.fromhex(found.digest)
    given = (found.data is not msgspec.UNSET) + (found.text is not msgspec.UNSET)
    if (
        not _is_written_so(found, line)
        or digest.hex() != found.digest
        or given + (found.base64 is not msgspec.UNSET) != 1
    ):
        raise ValueError("it says an event, but is not written as lllm writes one")
    return Recorded(
        position, found.stream, found.seq, found.time, found.type, found.version, data, digest
    )


def _erased_event(found: _Line) -> NewEvent:
    """Decode the event of a line without a digest.

    Raises:
        ValueError: The line has no erased event.
    """
    given = (found.data, found.text, found.base64)
    if found.erased is msgspec.UNSET or any(one is not msgspec.UNSET for one in given):
        raise ValueError("it has no digest")
    text = found.erased.rstrip(" ").encode()
    if len(text) not in (_BASE85, 2 * _BASE85):
        raise ValueError("it is no commitment, and no commitment with a digest")
    kept = base64.b85decode(text)
    committed = kept[:32]
    digest = kept[32:] or leaf_of_commitment(
        committed, found.stream, found.seq, found.time, found.type, found.version
    )
    return NewEvent(
        found.stream, found.seq, found.time, found.type, found.version,
        erased_payload(committed), digest,
    )  # fmt: skip


def _is_written_so(found: _Line, line: bytes) -> bool:
    """True if a line is byte for byte what `encode_append` would write."""
    if len(line) <= _LONG or found.data is msgspec.UNSET:
        return _encode(found) == line  # formatting would take three times as long
    data = memoryview(found.data)  # the longest part is compared without copying it
    begun = b'%b"data":' % _begun(found, str(found.digest).encode())
    end = b',"more":%d}' % found.more
    return (
        len(line) == len(begun) + len(data) + len(end)
        and line.startswith(begun)
        and line.endswith(end)
        and memoryview(line)[len(begun) : -len(end)] == data
    )


def stream_prefix(stream: str) -> bytes:
    """Make the bytes with which every line of a stream begins, and no line of another.

    Args:
        stream: The name of the stream.

    Returns:
        The beginning of the lines.
    """
    return b'{"stream":%b,"seq":' % _encode(stream)


def type_field(type_: str) -> bytes:
    """Encode an event type in the form that `type_of` returns, for comparison.

    Args:
        type_: The event type, as "llm.responded".

    Returns:
        The encoded type.
    """
    return _encode(type_)[1:-1]


def type_of(line: bytes) -> bytes:
    """Find the event type of a line without decoding the line.

    The first match in the line is the field itself: inside a stream's name the quotes would be
    escaped.

    Args:
        line: A complete line of the log, in bytes.

    Returns:
        The type, encoded as in the line.
    """
    begin = line.find(b',"type":"') + 9
    return line[begin : line.find(b'","version":', begin)]


def stream_of(line: bytes) -> str:
    """Find the stream that a line belongs to.

    Args:
        line: A line, damaged or not.

    Returns:
        The name of the stream; "" if a damaged line does not tell.
    """
    end = line.find(b'","seq":')
    if not line.startswith(STREAM) or end < 0:
        return ""
    try:
        return msgspec.json.decode(line[len(STREAM) - 1 : end + 1], type=str)
    except ValueError:
        return ""


# The parts of a line up to its payload: literal bytes, or a pattern.
_HEAD: tuple[bytes | re.Pattern[bytes], ...] = (
    STREAM, re.compile(rb'(?:[^"\\]|\\.)*'), b'","seq":', re.compile(rb"-?\d*"),
    b',"time":', re.compile(rb"-?\d*"), b',"type":"', re.compile(rb'(?:[^"\\]|\\.)*'),
    b'","version":', re.compile(rb"-?\d*"), b',"digest":"', re.compile(rb"[0-9a-f]{0,64}"), b'","',
)  # fmt: skip
_CUT_NUMBER = re.compile(rb"[-+.eE0-9]*\Z")


def is_beginning(line: bytes) -> bool:
    """True if some bytes are the beginning of a line, but not a complete line.

    Args:
        line: The bytes from the start of a line.
    """
    at = 0
    for part in _HEAD:
        if isinstance(part, bytes):
            if not line.startswith(part, at):
                rest = line[at:]
                return part.startswith(rest) or rest == b"\\"
            at += len(part)
        else:
            match = part.match(line, at)
            at = match.end() if match else at
    payload = line[at:]
    if not any(
        payload.startswith(field) or field.startswith(payload)
        for field in (b'data":', b'text":"', b'base64":"')
    ):
        return False
    # A number that is cut may lack its digits, while a text that is cut is only shorter.
    cut = line[: _CUT_NUMBER.search(line, max(at, len(line) - 400)).start()]  # type: ignore[union-attr] # the pattern also matches nothing
    try:
        _decode_raw(cut)
    except RecursionError:
        return True  # nested too deeply to check
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    return False


class Append(NamedTuple):
    """The lines of one append, and an error if they are damaged.

    Attributes:
        lines: The lines, one for each event, in order.
        damage: What is wrong with them, as a text for users; "" if nothing is.
    """

    lines: list[Line]
    damage: str = ""


def appends(lines: Iterable[Line], *, sealed: bool) -> Iterator[Append]:
    """Group lines into appends.

    Args:
        lines: The lines, in order.
        sealed: True if no lines can follow, so an incomplete last append is damaged; False if the
            caller has cut the lines, so an incomplete append is returned without an error.

    Yields:
        The appends, in order.
    """
    group: list[Line] = []
    damage = ""
    due: int | None = None  # the number that `more` of the next line must be
    for line in lines:
        more = _more(line[1])
        if more is None:
            # If the append is known to continue, its rest is lost with the broken line.
            damage, more = "this is not the line of an event", due
        elif due is not None and more != due:
            yield Append(group, damage or f"{due + 1} more events of this append are missing")
            group, damage = [], ""
        group.append(line)
        del line  # a long append is freed when its reader is done with it
        if more:
            due = more - 1
        else:
            yield Append(group, damage)
            group, damage, due = [], "", None
    if group:
        yield Append(group, damage or ("the rest of this append is missing" if sealed else ""))


def said_by(line: bytes) -> tuple[NewEvent, int] | None:
    """Decode the event of a line that another tool may have reformatted.

    Args:
        line: A line, damaged or not.

    Returns:
        The event, and the number of events of its append that follow; None if the line has no
        event.
    """
    try:
        found = _decode_line(line)
        if found.digest is msgspec.UNSET:
            return _erased_event(found), found.more
        data, digest = found.payload, bytes.fromhex(found.digest)
    except (ValueError, RecursionError):
        return None
    event = NewEvent(found.stream, found.seq, found.time, found.type, found.version, data, digest)
    return event, found.more


def more_of(line: bytes) -> int | None:
    """Find out how many events of the same append follow a line.

    Args:
        line: A line, damaged or not.

    Returns:
        The number; None if the line is incomplete.
    """
    try:
        decode(0, line)
    except ValueError:
        return None
    return _more(line)


def _more(line: bytes) -> int | None:
    if not line.startswith(STREAM):
        return None
    if line.endswith(b',"more":0}'):
        return 0
    match = _MORE.search(line, max(0, len(line) - 20))
    return int(match[1]) if match else None
