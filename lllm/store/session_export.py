"""Exports a session as a self-contained text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

from lllm.events import codec
from lllm.events.values.json_values import MARK, to_plain
from lllm.projections.session.annotations import Annotation
from lllm.projections.session.call_session import TacticCallSession

FORMATS = ("json", "jsonl")


_MOST_INDENTED = 64  # levels of indentation
# levels of nested sessions; Python's JSON parser allows 1,000 levels of lists and objects
_DEEPEST = 200


def as_recorded(plain: object) -> object:
    """Return a user's value in its recorded form; a `read_value` that changes nothing.

    Args:
        plain: The recorded form.

    Returns:
        The same value.
    """
    return plain


def as_json(
    session: TacticCallSession, tags: dict[str, str], annotations: Sequence[Annotation] = ()
) -> str:
    """Format a session as indented JSON, with its tags and total cost.

    If sessions are nested more deeply than JSON parsers allow, the deeper ones are put in a list at
    the end, `deeper_sessions`, and `{"$lllm": "session", "session_id": ...}` takes their place.

    Args:
        session: The session, whose values are in recorded form. The function puts their names into
            it.
        tags: The tags that the session has now.
        annotations: The annotations of the session; without any, the text has no such field.

    Returns:
        The text; it can always be encoded as UTF-8.
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
    # UTF-8 can't encode a lone surrogate; a text that has one is written with escapes.
    return text if codec.is_utf8(text) else _indented(whole, json.JSONEncoder())


def _take_deeper(session: TacticCallSession) -> list[TacticCallSession]:
    """Replace sessions that are nested too deeply by references, and return them."""
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
    # the open objects, each with the text that ends it
    open_: list[tuple[Iterator[tuple[str, object]], str]] = []
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
    if isinstance(value, tuple):  # a field of our own; a user's values are JSON already
        return list(value)
    return value if isinstance(value, (str, dict, list)) else to_plain(value)
