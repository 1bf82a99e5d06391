"""Replaces secrets in the JSON values of a payload by marks, at any depth.

It works on decoded values and not on the JSON text, so the result is always JSON again. It searches
texts, keys of objects, and bytes that `json_values` writes as base64. If a key or header stands
beside its value (`{"aws_secret_access_key": "..."}`, `["authorization", "..."]`, `{"name":
"cookie", "value": "..."}`), the key can show that the value is a secret.

Known secrets are replaced in every text of a payload except the salt, which is random bytes made by
lllm. A user's pattern might match an id or digest by chance, and then events could not be found by
it. So these patterns skip values that have the exact form of lllm's own ids, digests and
enumerations, in the fields where they belong. A whole number is replaced if all its digits match a
user's pattern, such as a card number, and it came from a user, a tool or a model.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import msgspec

from lllm.events.model import Event
from lllm.events.redaction.base64_and_hex import decoded, readable
from lllm.events.redaction.cut_text import cut_member, cut_secrets
from lllm.events.redaction.secret_prefilter import may_hold_secret
from lllm.events.redaction.user_patterns import Pattern
from lllm.events.values.json_values import MARK

_ID = r"[0-9a-z]{26}"
_DIGEST = r"[0-9a-f]{64}"
# Fields that lllm itself fills, and the form in which a user's patterns skip them.
_OURS = {
    name: re.compile(form)
    for name, form in {
        "about": rf"(?:definition-{_DIGEST}|[a-z]{{0,12}}-?{_ID})",
        "owner": r"[0-9A-Za-z._-]{1,80}",
        "host": r"[0-9A-Za-z._:-]{1,255}",
        "session_id": _ID,
        "session": _ID,
        "digest": _DIGEST,
        "definition": rf"definition-{_DIGEST}",
        "traceparent": r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
        "kind": r"tactic|session|exception|llm_recall",
        "state": r"success|failure|running|interrupted",
        "finish": r"stop|tool_calls|length|content_filter|other",
    }.items()
}
_STRUCTS = frozenset({"usage", "price", "limits", "cost", "producer"})
_COUNTS = "usage_raw"  # fields with token counts and times, which never contain a user's number
_IN_BASE64 = frozenset({"bytes", "bytearray", "str"})
_MARKED_BASE64 = re.compile(rb'"base64":"([^"]+)')


def payload_may_hold_secret(data: bytes) -> bool:
    """True if a payload, or base64 in it, may contain a known secret.

    It is called for every event, so it searches the JSON without decoding it.

    Args:
        data: The payload, as bytes of JSON.

    Returns:
        False if the payload contains no known secret.
    """
    if may_hold_secret(data):
        return True
    if 36 not in data or b'"$lllm":' not in data:  # 36 is "$": searching one byte is fast
        return False
    inside = [
        decoded(found[1].decode()).replace(b"\0", b"") for found in _MARKED_BASE64.finditer(data)
    ]
    # One may be the name and the other its value: `(b"authorization", b"...")`.
    return bool(inside) and may_hold_secret(b'": "'.join(inside))


def cut(
    kind: type[Event], payload: dict[str, object], patterns: Sequence[Pattern], found: Counter[str]
) -> dict[str, object]:
    """Replace the matches of a user's patterns in a payload by marks.

    Args:
        kind: The class of the event.
        payload: The payload as JSON values, which are not changed.
        patterns: The patterns, in the order in which they are applied.
        found: A counter of the marks, by the name of their pattern; it is increased.

    Returns:
        A new payload.
    """
    knife = _Knife(_Patterns(patterns, found))
    return {
        name: _ours_kept(name, value, knife) if name in _OURS or name in ("ancestors", "origin")
        else value if (name in _STRUCTS and name != "price") or name == "salt"
        else knife.value(value, numbers=name in _given(kind))
        for name, value in payload.items()
    }  # fmt: skip


def cut_known(payload: dict[str, object], found: Counter[str]) -> dict[str, object]:
    """Replace the known secrets in a payload by marks.

    Args:
        payload: The payload as JSON values, which are not changed.
        found: A counter of the marks, by the name of their kind; it is increased.

    Returns:
        A new payload.
    """
    knife = _Knife(_Known(found))
    return {
        name: value if name == "salt" else knife.member(name, value, numbers=False)
        for name, value in payload.items()
    }


def _ours_kept(name: str, value: object, knife: _Knife) -> object:
    """The fields that lllm itself fills and that are kept, such as ids.

    Paths are not among them, since users choose them.
    """
    if type(value) is list:
        return [_ours_kept(name, item, knife) for item in value]
    if type(value) is dict:
        return {key: _ours_kept(key, item, knife) for key, item in value.items()}
    form = _OURS.get(name)
    if form is not None and type(value) is str and form.fullmatch(value):
        return value
    return knife.value(value, numbers=False)


@cache
def _given(kind: type[Event]) -> frozenset[str]:
    """The fields whose content comes from a user."""
    fields = msgspec.structs.fields(kind)
    return frozenset(field.name for field in fields if field.type is object) - {_COUNTS}


class _Cuts(Protocol):
    """Replaces one kind of secrets in texts, members and numbers by marks."""

    def text(self, text: str) -> str:
        """Replace the secrets in a text."""

    def member(self, name: str, text: str) -> str:
        """Replace the secrets in the value of a member with this name."""

    def number(self, number: int) -> object:
        """Return a mark if a number is a secret, else the number."""


class _Known:
    """Replaces the secrets that lllm knows."""

    def __init__(self, found: Counter[str]) -> None:
        self._found = found

    def text(self, text: str) -> str:
        return cut_secrets(text, self._found)

    def member(self, name: str, text: str) -> str:
        return cut_member(name, text, self._found)

    def number(self, number: int) -> object:
        return number


class _Patterns:
    """Replaces the matches of a user's patterns."""

    def __init__(self, patterns: Sequence[Pattern], found: Counter[str]) -> None:
        self._patterns = patterns
        self._pairing = [pattern for pattern in patterns if pattern.has_surroundings]
        self._found = found

    def text(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.cut(text, self._found)
        return text

    def member(self, name: str, text: str) -> str:
        before = f"{name}="
        whole = before + self.text(text)
        for pattern in self._pairing:
            whole = pattern.cut(whole, self._found, behind=len(before))
        return whole[len(before) :]

    def number(self, number: int) -> object:
        digits = str(number)
        for pattern in self._patterns:
            if pattern.is_all(digits):
                self._found[pattern.name] += 1
                return pattern.mark
        return number


# the names in a header object, as HAR and others write it
_NAMES, _VALUES = ("name", "key", "header"), "value"


class _Knife:
    """Walks through a payload and replaces the secrets in each value."""

    def __init__(self, cuts: _Cuts) -> None:
        self._cuts = cuts

    def value(self, value: object, *, numbers: bool) -> object:
        """Replace secrets in a JSON value; `numbers` is true if a number may be a secret."""
        if type(value) is str:
            return self._cuts.text(value)
        if type(value) is dict:
            return self._object(value, numbers)
        if type(value) is list:
            return self._list(value, numbers)
        if type(value) is int and numbers:
            return self._cuts.number(value)
        return value

    def member(self, name: str, value: object, *, numbers: bool) -> object:
        """Replace secrets in the value of a member."""
        if type(value) is str:
            return self._cuts.member(name, value)
        if type(value) is list:
            return [
                self._cuts.member(name, item) if type(item) is str else item
                for item in self._list(value, numbers)
            ]
        if type(value) is dict:
            kind, inside = value.get(MARK), value.get("base64")
            if type(kind) is str and kind in _IN_BASE64 and type(inside) is str:
                text, encoding = readable(decoded(inside))
                return value | _in_base64(inside, text, self._cuts.member(name, text), encoding)
            if kind == "tuple" and len(value) == 2:
                return value | {"items": self.member(name, value.get("items"), numbers=numbers)}
        return self.value(value, numbers=numbers)

    def _list(self, items: list[object], numbers: bool) -> list[object]:
        """Replace secrets in a list.

        A pair may be a header, or an item of a dict. The element after a command line option is its
        value.
        """
        cut: list[object] = []
        for at, item in enumerate(items):
            name = _text_of(items[at - 1]) if at else None
            if name is not None and (len(items) == 2 or name.startswith("--")):
                cut.append(self.member(name.lstrip("-"), item, numbers=numbers))
            else:
                cut.append(self.value(item, numbers=numbers))
        return cut

    def _object(self, value: dict[str, object], numbers: bool) -> dict[str, object]:
        kind, inside = value.get(MARK), value.get("base64")
        if type(kind) is str and kind in _IN_BASE64 and type(inside) is str:
            text, encoding = readable(decoded(inside))
            return value | _in_base64(inside, text, self._cuts.text(text), encoding)
        cut: dict[str, object] = {}
        for key, item in value.items():
            if key == MARK and type(item) is str and item.isalpha() and len(item) < 12:
                cut[key] = item
                continue
            new = self.member(key, item, numbers=numbers)
            cut[_unused(self._cuts.text(key), cut)] = new
        if _VALUES in cut:
            for label in _NAMES:
                if type(name := cut.get(label)) is str:
                    cut[_VALUES] = self.member(name, cut[_VALUES], numbers=numbers)
        return cut


def _text_of(value: object) -> str | None:
    """The text of a value that is a str or encoded bytes; None for other values."""
    if type(value) is str:
        return value
    if type(value) is dict and type(inside := value.get("base64")) is str and len(inside) < 200:
        return readable(decoded(inside))[0]
    return None


def _in_base64(was: str, text: str, cut: str, encoding: str) -> dict[str, object]:
    if cut == text:
        return {"base64": was}
    return {"base64": base64.b64encode(cut.encode(encoding, "surrogatepass")).decode()}


def _unused(key: str, taken: dict[str, object]) -> str:
    """Find an unused key for an object in which two secret keys get the same mark."""
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key} {number}"
    return free
