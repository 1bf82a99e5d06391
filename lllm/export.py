"""A session as text that stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

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
    return text if _encodable(text) else json.dumps(whole, indent=2)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Line(msgspec.Struct):
    position: int
    stream: str
    seq: int
    time: int
    type: str
    version: int
    digest: str
    data: msgspec.Raw


def as_jsonl(events: Sequence[Recorded]) -> str:
    """Events as one JSON object a line; `data` is the payload, byte for byte."""
    return "".join(
        codec.encode(
            _Line(
                event.position, event.stream, event.seq, event.time, event.type, event.version,
                event.digest.hex(), msgspec.Raw(event.data),
            )
        ).decode()
        + "\n"
        for event in events
    )  # fmt: skip
