"""Converts any value to JSON that keeps all of it, and converts it back.

JSON has no bytes, no NaN, no tuples and no integer keys, and its readers take integers of 64 bits
at most and two surrogates side by side for one character. Such a value is written as a marked
object, `{"$lllm": kind, ...}`, and `from_plain` makes the value again: one of a standard type as it
was, any other as a read-only stand-in (`stand_ins`). What has no faithful form (a socket) is
written as a marked repr, never dropped and never an error. A dataclass, Struct or pydantic model is
recorded as its fields. A user's own dict with the key `$lllm` is wrapped, so that no data can pass
for a mark.

A container that is met again is referred to, unless it is about as short as that, and one that is
nested very deeply is written apart: then the whole is
`{"$lllm": "parts", "value": ..., "parts": [...]}`, with `{"$lllm": "part", "index": 0}` wherever a
part belongs. Only a value that holds itself is cut, where it comes round, and a mark says so.
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any, Final, cast

from lllm.events.values.described import Items, describe, opaque, type_name
from lllm.events.values.from_marks import from_plain
from lllm.events.values.marks import DEEPEST, MARK, TEXT_OF
from lllm.events.values.standard_types import is_zoned

__all__ = ["MARK", "from_plain", "to_plain"]

_SHALLOW = 8  # levels in one piece where the stack has no room for more
_SHORT = 64  # JSON values, of up to 16 characters each, that are written again
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def to_plain(value: object) -> object:
    """Convert any value to its JSON form. Never raises; only endless values are cut.

    Args:
        value: Anything.
    """
    try:
        return _Writer(DEEPEST).whole(value)
    except (
        RecursionError
    ):  # whoever calls has left little of the stack, or a value of theirs raises
        return _Writer(_SHALLOW).whole(value)


class _Met:
    """A container that was met.

    plain: its form; None while it is being written. part: the reference to it, where it is written
    apart. short: whether it may be written again.
    """

    __slots__ = ("part", "plain", "short", "value")

    def __init__(self, value: object) -> None:
        self.value: Final = value  # kept, since the next one in its place would have its id
        self.plain: object = None
        self.part: dict[str, object] | None = None
        self.short = False


class _Writer:
    """Writes one value with all that is in it."""

    __slots__ = ("_deepest", "_met", "_parts", "_waiting")

    def __init__(self, deepest: int) -> None:
        self._deepest = deepest
        self._met: dict[int, _Met] = {}
        self._parts: list[_Met] = []
        self._waiting: list[_Met] = []  # parts that are too deep to be written where they are met

    def whole(self, value: object) -> object:
        """The form of a value, with all parts that are written apart."""
        plain = self._plain(value, 0)
        while self._waiting:
            met = self._waiting.pop()
            met.plain = None
            met.plain = self._contained(met.value, 1)
        return self._with_parts(plain) if self._parts else plain

    def _plain(self, value: object, depth: int) -> object:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return _plain_text(cast(str, value))
        if kind is int:
            integer = cast(int, value)
            return integer if -(2**63) <= integer < 2**64 else {MARK: "int", "value": hex(integer)}
        if kind is float:
            number = cast(float, value)
            return number if math.isfinite(number) else {MARK: "float", "value": repr(number)}
        met = self._met.get(id(value))
        if met is not None:
            return self._again(met)
        if kind in TEXT_OF and not is_zoned(value):
            name, text_of = TEXT_OF[kind]
            return {MARK: name, "value": _plain_text(text_of(value))}
        met = self._met[id(value)] = _Met(value)
        if depth >= self._deepest:
            met.plain = ()
            self._waiting.append(met)
            return self._refer(met)
        met.plain = plain = self._contained(value, depth + 1)
        return plain

    def _contained(self, value: object, depth: int) -> object:
        kind = type(value)
        try:
            if kind is list:
                return [self._plain(item, depth) for item in cast("list[object]", value)]
            if kind is dict:
                return self._dict(cast("dict[object, object]", value), depth)
            form = describe(value, kind, _encode)
            if form.kind is None:
                return self._dict(cast("dict[object, object]", form.members), depth)
            members: dict[str, object] = {}
            for member, item in form.members.items():
                members[member] = self._member(item, depth)
        except Exception as error:  # a property or a model_dump of the user's that raises
            if isinstance(error, RecursionError) and self._deepest > _SHALLOW:
                raise  # and all of it is written again
            name, members = "repr", _plain_members(opaque(value).members)
        else:
            name = form.kind
        return {MARK: name, **members}

    def _member(self, item: object, depth: int) -> object:
        """What stands in a mark: its own lists are never written apart."""
        if type(item) is Items:
            return [self._member(inner, depth + 1) for inner in item]
        return self._plain(item, depth)

    def _dict(self, value: dict[object, object], depth: int) -> object:
        for key in value:
            if type(key) is not str or key == MARK or not _is_exact(key):
                items = [
                    [self._plain(key, depth), self._plain(item, depth)]
                    for key, item in value.items()
                ]
                return {MARK: "dict", "items": items}
        return {key: self._plain(item, depth) for key, item in value.items()}

    # -- what is written apart

    def _again(self, met: _Met) -> object:
        if met.plain is None:
            return {MARK: "cycle", "type": type_name(type(met.value))}
        if met.part is not None:
            return met.part
        if met.short or _is_short(met.plain):
            met.short = True
            return met.plain
        return self._refer(met)

    def _refer(self, met: _Met) -> dict[str, object]:
        met.part = {MARK: "part", "index": len(self._parts)}
        self._parts.append(met)
        return met.part

    def _with_parts(self, plain: object) -> object:
        """The whole, with references in the place of parts."""
        references = {id(met.plain): met.part for met in self._parts}
        seen: set[int] = set()
        waiting: list[object] = [plain, *(met.plain for met in self._parts)]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            for place, inner in _members(node):
                if type(inner) is list or type(inner) is dict:
                    reference = references.get(id(inner))
                    if reference is None:
                        waiting.append(inner)
                    else:
                        cast(Any, node)[place] = reference
        value = references.get(id(plain), plain)
        return {MARK: "parts", "value": value, "parts": [met.plain for met in self._parts]}


def _members(node: object) -> list[tuple[Any, object]]:
    """The items of a JSON list or object, with their keys."""
    return list(node.items()) if type(node) is dict else list(enumerate(cast(Any, node)))


def _is_short(plain: object) -> bool:
    """True if a form is short enough to be written again."""
    size = 0
    waiting = [plain]
    while waiting:
        node = waiting.pop()
        size += 1 + (len(node) if type(node) is str or type(node) is list else 0) // 16
        if size > _SHORT:
            return False
        if type(node) is list:
            waiting += node
        elif type(node) is dict:
            for key, inner in node.items():
                size += len(key) // 16
                waiting.append(inner)
            if len(waiting) > _SHORT:
                return False
    return True


def _plain_text(text: str) -> object:
    if _is_exact(text):
        return text
    data = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    return {MARK: "str", "base64": data}


def _is_exact(text: str) -> bool:
    """True if JSON gives a string back as it is."""
    return text.isascii() or _SURROGATE_PAIR.search(text) is None


def _plain_members(members: Any) -> dict[str, object]:
    return {name: _plain_text(text) for name, text in members.items()}


def _encode(value: object) -> bytes:
    """Write a value as bytes, for digests."""
    return repr(to_plain(value)).encode("utf-8", "backslashreplace")
