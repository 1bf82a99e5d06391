"""Restores lines of a JSONL log that an editor or another tool has rewritten.

Editors, `sed`, `jq` and file transfers can change the form of JSON but not its content: line ends,
spaces, the order of fields, the encoding of the text. A line counts as restored only if the digest
of its event matches again.
"""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Iterator

import msgspec

from lllm.events import codec
from lllm.events.backends.jsonl import line_format
from lllm.events.digest import leaf_digest
from lllm.events.envelope import APPEND_BYTES, NewEvent, Recorded
from lllm.events.model import Unknown

_GZIP = b"\x1f\x8b"
_WITH_HEADER = 31  # zlib's value for the gzip format


class Restored(msgspec.Struct):
    """The result of restoring the lines in some bytes.

    Attributes:
        content: Complete appends, in the form in which they were written.
        lost: The number of lines from which no event could be restored.
        changed: True if `content` differs from the bytes that were given.
    """

    content: bytes
    lost: int
    changed: bool


def restore(content: bytes, salt_of: Callable[[str], bytes]) -> Restored:
    """Restore the original lines of a log from lines that a tool has rewritten.

    Args:
        content: The bytes; they begin at the start of an append.
        salt_of: A function that returns the salt of a stream whose first event is not in `content`.

    Returns:
        The restored bytes and how many lines were lost.
    """
    salts: dict[str, bytes] = {}
    found: list[tuple[NewEvent, int]] = []
    lost = 0
    for line in _plain_text(content).split(b"\n"):
        if not line.strip(b" \t\r\0"):
            continue
        one = _event_of(line, salts, salt_of)
        if one is None:
            lost += 1
        else:
            found.append(one)
    written = b"".join(line_format.encode_append(append)[0] for append in _appends(found))
    return Restored(written, lost, written != content)


def _plain_text(content: bytes) -> bytes:
    if content.startswith(_GZIP):
        try:
            content = zlib.decompressobj(_WITH_HEADER).decompress(content, APPEND_BYTES)
        except zlib.error:
            return content
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace").encode(errors="replace")
    for begin, encoding in ((b"{\0", "utf-16-le"), (b"\0{", "utf-16-be")):
        if content.startswith(begin):
            return content.decode(encoding, errors="replace").encode(errors="replace")
    return content


def _event_of(
    line: bytes, salts: dict[str, bytes], salt_of: Callable[[str], bytes]
) -> tuple[NewEvent, int] | None:
    """Decode the event of a line, and the number of events of its append that follow."""
    found = line_format.said_by(line.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\0"))
    if found is None:
        return None
    event, more = found
    for data in _payloads(event):
        salt = salts.get(event.stream)
        if salt is None:
            one = Recorded(0, event.stream, event.seq, event.time, event.type, event.version, data,
                           event.digest)  # fmt: skip
            salt = codec.salt_of(one) if event.seq == 1 else salt_of(event.stream)
        try:
            digest = leaf_digest(
                salt, event.stream, event.seq, event.time, event.type, event.version, data
            )
        except UnicodeEncodeError:
            return None
        if digest == event.digest:
            salts[event.stream] = salt
            return msgspec.structs.replace(event, data=data), more
    return None


def _payloads(event: NewEvent) -> Iterator[bytes]:
    """Yield the possible original forms of a payload that another tool rewrote."""
    yield event.data
    values = codec.values(event.data)
    if values is None:
        return
    one = Recorded(0, event.stream, event.seq, event.time, event.type, event.version, event.data,
                   event.digest)  # fmt: skip
    known = codec.decode(one)
    if not isinstance(known, Unknown):
        yield codec.encode(known)
    try:
        yield codec.encode(values)
        yield json.dumps(values, separators=(",", ":")).encode()
        yield json.dumps(values).encode()
    except (ValueError, RecursionError, TypeError):
        return


def _appends(found: list[tuple[NewEvent, int]]) -> Iterator[list[NewEvent]]:
    """Group events into appends; the events of an incomplete append stay separate."""
    append: list[NewEvent] = []
    due: int | None = None
    for event, more in found:
        if due is not None and more != due:
            yield from ([one] for one in append)
            append = []
        append.append(event)
        due = more - 1 if more else None
        if not more:
            yield append
            append = []
    yield from ([one] for one in append)
