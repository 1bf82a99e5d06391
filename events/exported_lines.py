"""Writes and reads events as the lines of `lllm export ID --format jsonl`.

One file may hold several exports. It may have been rewritten by other programs, as long as the
payloads are unchanged. The files of a JSONL store can be read, too, since their lines have the same
fields.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec
from msgspec import UNSET, Raw, UnsetType

from lllm.events import codec
from lllm.events.concurrency.decoders import decoder
from lllm.events.envelope import EVENT_BYTES, Recorded
from lllm.events.model import Number

_LINE_BYTES = EVENT_BYTES + EVENT_BYTES // 2  # the longest event in base64, and its other fields
# can't occur in a JSON string, where a quotation mark is escaped by a backslash
_DATA = b',"data":'


class _Fields(msgspec.Struct):
    """The fields of a line, except its position in the log that it came from."""

    stream: str
    seq: Number
    time: Number
    type: str
    version: Number
    digest: str
    data: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


_fields = decoder(_Fields)


class NoEvent(Exception):
    """A line of an imported file is not an event.

    Attributes:
        number: The number of the line, from 1.
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


def read_lines(file: BinaryIO, upto: int) -> Iterator[Recorded]:
    """Read a file of exported events.

    Args:
        file: The file, opened at its beginning.
        upto: The number of bytes to read.

    Yields:
        The events. The `position` of each is the number of its line, from 1.

    Raises:
        NoEvent: A line is not an event; empty lines are skipped.
    """
    number = 0
    while file.tell() < upto and (line := file.readline(_LINE_BYTES)):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield _event(line, number)


def _event(line: bytes, number: int) -> Recorded:
    try:
        fields, data = _read(line)
        digest = bytes.fromhex(fields.digest)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        if not line.endswith(b"\n") and not line.rstrip().endswith(b"}"):
            raise NoEvent("the file is cut off within this line", number=number) from error
        raise NoEvent(
            "this is not an event as `lllm export ID --format jsonl` writes it "
            f"({_first_line(str(error))})",
            number=number,
        ) from error
    if fields.seq < 1:
        raise NoEvent("events are numbered from 1", number=number)
    return Recorded(
        number, fields.stream, fields.seq, fields.time, fields.type, fields.version, data, digest
    )


def _read(line: bytes) -> tuple[_Fields, bytes]:
    """Parse a line to its fields and its payload. Raises ValueError."""
    try:
        fields = _fields.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # msgspec refuses lone surrogates in a payload; the standard library accepts them.
        before, found, payload = line.rstrip().partition(_DATA)
        if not found or not payload.endswith(b"}"):
            raise
        json.loads(payload[:-1])
        return _fields.decode(before + b"}"), payload[:-1]
    given = [one for one in (fields.data, fields.text, fields.base64) if one is not UNSET]
    if len(given) != 1:
        raise ValueError("it needs one of `data`, `text` and `base64`")
    [payload_] = given
    return fields, payload_.encode() if isinstance(payload_, str) else bytes(payload_)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


class ExportedLine(msgspec.Struct):
    """An event as one line of an export."""

    position: int
    stream: str
    seq: int
    time: int
    type: str
    version: int
    digest: str
    data: Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


def as_jsonl(events: Sequence[Recorded]) -> str:
    """Format events as one JSON object a line.

    `data` is the payload, byte for byte. A payload that is not JSON on one line, as in a damaged
    log, is written as a string, `text`, or as `base64`.

    Args:
        events: The events, in order.

    Returns:
        The lines as one text.
    """
    return "".join(codec.encode(_line(event)).decode() + "\n" for event in events)


def _line(event: Recorded) -> ExportedLine:
    line = ExportedLine(
        event.position, event.stream, event.seq, event.time, event.type, event.version,
        event.digest.hex(),
    )  # fmt: skip
    try:
        text = event.data.decode()
    except UnicodeDecodeError:
        line.base64 = event.data
        return line
    if _is_json(event.data):
        line.data = Raw(event.data)
    else:
        line.text = text
    return line


def _is_json(data: bytes) -> bool:
    """True if bytes are JSON that can be part of a line as they are."""
    if b"\n" in data or b"\r" in data:
        return False
    try:
        return bytes(msgspec.json.decode(data, type=Raw)) == data
    except (msgspec.DecodeError, RecursionError):
        pass  # msgspec rejects lone surrogates; the standard library accepts them
    try:
        json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return data == data.strip()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
