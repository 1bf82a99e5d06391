"""A session as text that stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from lllm.events import codec
from lllm.events.plain import to_plain
from lllm.events.record import Recorded
from lllm.projections.call_session import TacticCallSession

FORMATS = ("json", "jsonl")


def as_json(session: TacticCallSession, tags: dict[str, str]) -> str:
    """The loaded session as indented JSON, with its tags and total cost."""
    fields = to_plain(session)
    assert isinstance(fields, dict)
    whole = fields | {"tags": to_plain(tags), "total_cost": to_plain(session.total_cost)}
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    # A lone surrogate has no UTF-8; where there is one, the text says so with escapes.
    return text if codec.is_utf8(text) else json.dumps(whole, indent=2)


class _Line(msgspec.Struct):
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
    """Events as one JSON object a line. `data` is the payload, byte for byte; where that is no JSON
    on one line, as in a damaged log, it is kept in a string, `text`, or in `base64`."""
    return "".join(codec.encode(_line(event)).decode() + "\n" for event in events)


def _line(event: Recorded) -> _Line:
    line = _Line(
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
    """Whether bytes are JSON that can stand in a line of others as it is."""
    if b"\n" in data or b"\r" in data:
        return False
    try:
        return bytes(msgspec.json.decode(data, type=Raw)) == data
    except (msgspec.DecodeError, RecursionError):
        pass  # msgspec takes no lone surrogates, which the standard library does
    try:
        json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return data == data.strip()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
