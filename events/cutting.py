"""Secrets cut out of the JSON values of a payload, wherever in them they stand.

It works on decoded values, not on the JSON text: whatever a pattern fits, what is written is JSON
again, and numbers, salts, ids and digests stay as they are. Texts are searched, keys of objects
too, and the bytes and odd strings that `plain` writes as base64. Of a key or header and its value
(`{"aws_secret_access_key": "..."}`, `["authorization", "..."]`) one may tell what the other is.

A whole number is cut where all its digits are a secret, as of a card, and it came from a user, a
tool or a model.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import msgspec

from lllm.events.model import Event
from lllm.events.plain import MARK
from lllm.events.secret_patterns import Pattern, may_hold_key

# What lllm itself made, and what it finds its events by.
_OURS = frozenset({
    "salt", "owner", "host", "about", "digest", "definition", "origin", "producer", "traceparent",
    "kind", "state", "finish", "usage", "price", "cost", "limits",
})  # fmt: skip
_COUNTS = "usage_raw"  # of tokens, and times: no number in it is anybody's
_IN_BASE64 = frozenset({"bytes", "bytearray", "str"})
_MARKED_BASE64 = re.compile(rb'"base64":"([^"]+)')


def payload_may_hold_key(data: bytes) -> bool:
    """Whether an API key may stand in a payload, or in the bytes that it holds as base64.

    It is asked of every event: a microsecond for a payload of 700 bytes.
    """
    if may_hold_key(data):
        return True
    if 36 not in data or b'"$lllm":' not in data:  # 36 is "$": to look for one byte costs nothing
        return False
    return any(may_hold_key(_decoded(found[1])) for found in _MARKED_BASE64.finditer(data))


def _decoded(text: bytes | str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""  # no writer of ours made it


def cut(
    kind: type[Event], payload: dict[str, object], patterns: Sequence[Pattern], found: Counter[str]
) -> dict[str, object]:
    """A payload with marks for secrets, which `found` counts by the name of their pattern."""
    knife = _Knife(patterns, found)
    return {
        name: _ancestors(value, knife) if name == "ancestors"
        else value if name in _OURS
        else knife.value(value, numbers=name in _given(kind))
        for name, value in payload.items()
    }  # fmt: skip


def _ancestors(value: object, knife: _Knife) -> object:
    """Their paths are a user's words, their ids are not."""
    if type(value) is not list:
        return value
    return [
        item | {"tactic_path": knife.value(item.get("tactic_path"), numbers=False)}
        if type(item) is dict else item
        for item in value
    ]  # fmt: skip


@cache
def _given(kind: type[Event]) -> frozenset[str]:
    """The fields that hold whatever somebody gave."""
    fields = msgspec.structs.fields(kind)
    return frozenset(field.name for field in fields if field.type is object) - {_COUNTS}


class _Knife:
    """Some patterns, at work on one payload."""

    def __init__(self, patterns: Sequence[Pattern], found: Counter[str]) -> None:
        self._patterns = patterns
        self._pairing = [pattern for pattern in patterns if pattern.has_surroundings]
        self._found = found

    def value(self, value: object, *, numbers: bool) -> object:
        """Any JSON value without secrets. numbers: whether a number may be one."""
        if type(value) is str:
            return self.text(value)
        if type(value) is dict:
            return self._object(value, numbers)
        if type(value) is list:
            return self._list(value, numbers)
        if type(value) is int and numbers:
            return self._number(value)
        return value

    def text(self, text: str) -> str:
        """A text without secrets."""
        for pattern in self._patterns:
            text = pattern.cut(text, self._found)
        return text

    def _number(self, number: int) -> object:
        digits = str(number)
        for pattern in self._patterns:
            if pattern.is_all(digits):
                self._found[pattern.name] += 1
                return pattern.mark
        return number

    def _list(self, items: list[object], numbers: bool) -> list[object]:
        cut = [self.value(item, numbers=numbers) for item in items]
        if self._pairing and len(cut) == 2 and type(cut[0]) is str and type(cut[1]) is str:
            cut[1] = self._named(cut[0], cut[1])  # a header, or an item of a dict
        return cut

    def _object(self, value: dict[str, object], numbers: bool) -> dict[str, object]:
        kind, inside = value.get(MARK), value.get("base64")
        if type(kind) is str and kind in _IN_BASE64 and type(inside) is str:
            return value | {"base64": self._base64(inside)}
        cut: dict[str, object] = {}
        for key, item in value.items():
            if key == MARK:
                cut[key] = item
                continue
            new = self.value(item, numbers=numbers)
            if self._pairing and type(new) is str:
                new = self._named(key, new)
            cut[_unused(self.text(key), cut)] = new
        return cut

    def _named(self, name: str, text: str) -> str:
        """A text, searched behind what it is called."""
        before = f"{name}="
        whole = before + text
        for pattern in self._pairing:
            whole = pattern.cut(whole, self._found, behind=len(before))
        return whole[len(before) :]

    def _base64(self, text: str) -> str:
        data = _decoded(text)
        try:
            encoding, inside = "utf-8", data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            encoding, inside = "latin-1", data.decode("latin-1")
        cut = self.text(inside)
        if cut == inside:
            return text
        return base64.b64encode(cut.encode(encoding, "surrogatepass")).decode()


def _unused(key: str, taken: dict[str, object]) -> str:
    """A key for an object that may have it already: two secrets leave the same mark."""
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key} {number}"
    return free
