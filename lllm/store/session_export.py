"""Exports a session as a self-contained text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.values.json_values import MARK, to_plain
from lllm.projections.session.annotations import Annotation
from lllm.projections.session.call_session import TacticCallSession

FORMATS = ("json", "jsonl")


_MOST_INDENTED = 64  # levels
_DEEPEST = 200  # levels of sessions; Python's reader of JSON follows 1,000 of lists and objects


def as_recorded(plain: object) -> object:
    """Convert a user's value to its form in the event.

    Args:
        plain: That form.

    Returns:
        The same.
    """
    return plain


def as_json(
    session: TacticCallSession, tags: dict[str, str], annotations: Sequence[Annotation] = ()
) -> str:
    """Format a session as indented JSON, with its tags and total cost.

    Sessions that stand below each other in more levels than readers of JSON follow are members of a
    list at its end, `deeper_sessions`, and named where they belong by
    `{"$lllm": "session", "session_id": ...}`.

    Args:
        session: With the values in it as they are recorded. The names are put into it.
        tags: Those that it has now.
        annotations: What was judged of it; left out where nothing was.

    Returns:
        The text, which UTF-8 can hold.
    """
    whole: dict[str, object] = {"tags": tags, "total_cost": session.total_cost}
    if annotations:
        whole["annotations"] = [
            {**_fields(one), "timestamp": one.timestamp.isoformat()} for one in annotations
        ]
    deeper = _take_deeper(session)
    if deeper:
        whole["deeper_sessions"] = deeper
    whole = {**_fields(session), **whole}
    text = _indented(whole, json.JSONEncoder(ensure_ascii=False))
    # A lone surrogate has no UTF-8; where there is one, the text says so with escapes.
    return text if codec.is_utf8(text) else _indented(whole, json.JSONEncoder())


def _take_deeper(session: TacticCallSession) -> list[TacticCallSession]:
    """Replace sessions that are nested too deeply by their names, and return them."""
    deeper: list[TacticCallSession] = []
    waiting = [(session, 1)]
    while waiting:
        one, level = waiting.pop()
        for name, below in one.sub_tactic_sessions.items():
            if level < _DEEPEST:
                waiting += [(inner, level + 1) for inner in below]
                continue
            deeper += below
            waiting += [(inner, 1) for inner in below]
            names = [{MARK: "session", "session_id": inner.session_id} for inner in below]
            one.sub_tactic_sessions[name] = cast("list[TacticCallSession]", names)
    return deeper


def _fields(struct: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _indented(value: object, encoder: json.JSONEncoder) -> str:
    """Format a value like `json.dumps`, however deeply it is nested."""
    text: list[str] = []
    open_: list[tuple[Iterator[tuple[str, object]], str]] = []  # what is being written, its end
    member: tuple[str, object] | None = ("", value)
    while True:
        if member is not None:
            key, node = member[0], _json(member[1])
            if node and isinstance(node, (dict, list)):
                members, (begin, end) = (
                    _members(node, encoder),
                    "{}" if type(node) is dict else "[]",
                )
                text.append(key + begin)
                open_.append((members, end))
                separator = ""
            else:
                text.append(key + encoder.encode(node))
                separator = ","
        if not open_:
            return "".join(text)
        member = next(open_[-1][0], None)
        if member is None:
            _, end = open_.pop()
            text.append(_new_line(len(open_)) + end)
            separator = ","
        else:
            text.append(separator + _new_line(len(open_)))


def _members(
    node: dict[object, object] | list[object], encoder: json.JSONEncoder
) -> Iterator[tuple[str, object]]:
    if isinstance(node, list):
        return (("", item) for item in node)
    return ((f"{encoder.encode(str(key))}: ", item) for key, item in node.items())


def _new_line(level: int) -> str:
    return "\n" + "  " * min(level, _MOST_INDENTED)


def _json(value: object) -> object:
    """Convert a Struct to its fields, and numbers that JSON readers reject to recorded forms."""
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, tuple):  # a field of ours; values of a user's are JSON
        return list(value)
    return value if isinstance(value, (str, dict, list)) else to_plain(value)


class ExportedLine(msgspec.Struct):
    """An event as one line of an export; `lllm.importing.exported_lines` reads it back."""

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

    `data` is the payload, byte for byte. Where that is no JSON on one line, as in a damaged log, it
    is kept in a string, `text`, or in `base64`.

    Args:
        events: In their order.

    Returns:
        The text.
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
        pass  # msgspec takes no lone surrogates, which the standard library does
    try:
        json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return data == data.strip()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
