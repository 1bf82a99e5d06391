"""Converts any value to JSON that keeps all of it, and converts it back.

JSON has no bytes, no NaN, no tuples and no integer keys. Its readers accept integers of at most 64
bits, and turn two adjacent surrogates into one character. Such a value is written as a marked
object, `{"$lllm": kind, ...}`, and `from_plain` restores it: a value of a standard type as it was,
any other as a read-only stand-in (`stand_ins`). A value that can't be described (a socket) is
written as a marked repr; it is never dropped and never an error. A dataclass, Struct or pydantic
model is recorded as its fields. A user's own dict with the key `$lllm` is wrapped, so that no data
can imitate a mark.

A container that occurs again is replaced by a reference, unless it is about as short as one. A
container that is nested very deeply is written separately. Then the result is `{"$lllm": "parts",
"value": ..., "parts": [...]}`, with `{"$lllm": "part", "index": 0}` in each place of a part. Only a
value that contains itself is cut, at its second occurrence, and a mark shows this.
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

_SHALLOW = 8  # levels of nesting in one part if the stack has little room
_SHORT = 64  # a form of so many JSON values of up to 16 characters is written again
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def to_plain(value: object) -> object:
    """Convert any value to its JSON form, without raising.

    Only a value that contains itself is cut.

    Args:
        value: The value, of any type.

    Returns:
        The JSON form: dicts, lists, strings, numbers, booleans and None.
    """
    try:
        return _Writer(DEEPEST).whole(value)
    except RecursionError:  # the caller has left little room on the stack, or a value raises
        return _Writer(_SHALLOW).whole(value)


class _Met:
    """A container that has been met.

    plain: its form; None while it is being written. part: the reference to it, if it is a part.
    short: True if it may be written again.
    """

    __slots__ = ("part", "plain", "short", "value")

    def __init__(self, value: object) -> None:
        self.value: Final = value  # keep it alive, since another object could get its id
        self.plain: object = None
        self.part: dict[str, object] | None = None
        self.short = False


class _Writer:
    """Writes one value with everything in it."""

    __slots__ = ("_deepest", "_met", "_parts", "_waiting")

    def __init__(self, deepest: int) -> None:
        self._deepest = deepest
        self._met: dict[int, _Met] = {}
        self._parts: list[_Met] = []
        self._waiting: list[_Met] = []  # parts that are nested too deeply to be written in place

    def whole(self, value: object) -> object:
        """Make the form of a value, with all its parts."""
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
        except Exception as error:  # a property or a model_dump of the user raised
            if isinstance(error, RecursionError) and self._deepest > _SHALLOW:
                raise  # and everything is written again
            name, members = "repr", _plain_members(opaque(value).members)
        else:
            name = form.kind
        return {MARK: name, **members}

    def _member(self, item: object, depth: int) -> object:
        """Make the form of a member of a mark; the mark's own lists never become parts."""
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

    # -- Parts

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
        """Make the whole form, with references in place of the parts."""
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
    """True if JSON returns a string unchanged."""
    return text.isascii() or _SURROGATE_PAIR.search(text) is None


def _plain_members(members: Any) -> dict[str, object]:
    return {name: _plain_text(text) for name, text in members.items()}


def _encode(value: object) -> bytes:
    """Convert a value to bytes, for digests."""
    return repr(to_plain(value)).encode("utf-8", "backslashreplace")
