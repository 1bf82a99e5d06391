"""Whatever a user passes, as JSON that says all of it, and back again.

JSON has no bytes, no NaN, no tuples and no integer keys, and its readers take integers of 64 bits
at most and two surrogates side by side for one character. Such a value is written as a marked
object, `{"$lllm": kind, ...}`, and `from_plain` makes the value again. What has no faithful form
(a socket, a cycle) is written as a marked repr, never dropped and never an error. A dataclass,
Struct or pydantic model is recorded as its fields. A user's own dict with the key `$lllm` is
wrapped, so that no data can pass for a mark.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import math
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol, cast, runtime_checkable

import msgspec

MARK = "$lllm"
_SUSPICIOUS = 1_000  # keys, from which on their hashes are looked at
_AGAIN = 10_000  # containers that are written once more
_DEEPEST = 100  # levels of nesting; far below what a JSON decoder refuses to follow

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

# Values with a text form that says everything: how they are written, and read again.
_TEXTUAL: dict[type, tuple[str, Callable[[str], object]]] = {
    dt.datetime: ("datetime", dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.fromisoformat),
    dt.time: ("time", dt.time.fromisoformat),
    decimal.Decimal: ("decimal", decimal.Decimal),
    uuid.UUID: ("uuid", uuid.UUID),
    complex: ("complex", complex),
}
_FROM_TEXT = dict(_TEXTUAL.values())
_SEQUENCES: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAKE_SEQUENCE: dict[str, Callable[[list[object]], object]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


@runtime_checkable
class _PydanticModel(Protocol):
    """What a pydantic model can do for us, without importing pydantic."""

    def model_dump(self, *, mode: str = ...) -> dict[str, object]:
        """Its fields."""


def to_plain(value: object) -> object:
    """The JSON form of any value at all; never raises, and cuts only what goes on without end."""
    return _plain(value, (), _Met())


class _Met:
    """The containers that were met on the way. Values that meet again on many paths, as the nodes
    of a graph do, have more paths than anybody could write down."""

    __slots__ = ("again", "kept")

    def __init__(self) -> None:
        # Kept, since the next one made in the place of one that is gone would have its id.
        self.kept: dict[int, object] = {}
        self.again = 0

    def too_often(self, value: object) -> bool:
        """Whether so much was written twice already that this, too, would be too much."""
        if id(value) not in self.kept:
            self.kept[id(value)] = value
            return False
        self.again += 1
        return self.again > _AGAIN


def _plain(value: object, above: tuple[int, ...], met: _Met) -> object:
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
    if id(value) in above:
        return {MARK: "cycle", "type": _type_name(kind)}
    if len(above) >= _DEEPEST:
        return {MARK: "deep", "type": _type_name(kind)} | _repr(value)
    if met.too_often(value):
        return {MARK: "again", "type": _type_name(kind)}
    try:
        return _plain_container(value, (*above, id(value)), met)
    except Exception:  # a property, a model_dump or an iterator of the user's that raises
        return _opaque(value)


def _plain_text(text: str) -> object:
    if _is_exact(text):
        return text
    data = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    return {MARK: "str", "base64": data}


def _is_exact(text: str) -> bool:
    """Whether JSON gives a string back as it is."""
    return text.isascii() or _SURROGATE_PAIR.search(text) is None


def _plain_container(value: object, above: tuple[int, ...], met: _Met) -> object:
    kind = type(value)
    if kind is list:
        return [_plain(item, above, met) for item in cast(list[object], value)]
    if isinstance(value, dict):
        return _plain_dict(value, above, met)
    if kind in _SEQUENCES:
        items = [_plain(item, above, met) for item in cast(tuple[object, ...], value)]
        return {MARK: _SEQUENCES[kind], "items": items}
    if kind in (bytes, bytearray):
        data = base64.b64encode(cast(bytes, value)).decode()
        return {MARK: kind.__name__, "base64": data}
    if kind in _TEXTUAL:
        text = cast(dt.date, value).isoformat() if hasattr(value, "isoformat") else str(value)
        return {MARK: _TEXTUAL[kind][0], "value": text}
    fields = _fields(value)
    if fields is not None:
        return _plain_dict(cast(dict[object, object], fields), above, met)
    return _opaque(value)


def _plain_dict(value: Mapping[object, object], above: tuple[int, ...], met: _Met) -> object:
    if MARK not in value and all(type(key) is str and _is_exact(key) for key in value):
        return {key: _plain(item, above, met) for key, item in value.items()}
    pairs = [[_plain(k, above, met), _plain(v, above, met)] for k, v in value.items()]
    return {MARK: "dict", "items": pairs}


def _fields(value: object) -> dict[str, object] | None:
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, _PydanticModel):
        return dict(value.model_dump(mode="python"))
    return None


def _opaque(value: object) -> dict[str, object]:
    return {MARK: "repr", "type": _type_name(type(value))} | _repr(value)


def _repr(value: object) -> dict[str, object]:
    try:
        return {"repr": str.__str__(repr(value))}  # which may be of a subclass of str
    except Exception as error:  # a __repr__ may raise anything; RecursionError on deep values
        return {"error": f"its repr raised {type(error).__name__}"}


def _type_name(kind: type) -> str:
    try:
        return f"{kind.__module__}.{kind.__qualname__}"
    except Exception:  # a metaclass may do as it likes
        return "?"


def from_plain(value: object) -> object:
    """The value that `to_plain` was given; a marked repr, cycle or unknown mark stays as it is, and
    so does what is nested deeper than `to_plain` goes."""
    return _value(value, 0)


def _value(value: object, depth: int) -> object:
    if depth > 2 * _DEEPEST:
        return value
    if type(value) is list:
        return [_value(item, depth + 1) for item in value]
    if type(value) is not dict:
        return value
    if MARK not in value:
        return {key: _value(item, depth + 1) for key, item in value.items()}
    try:
        return _unmark(value, depth + 1)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return value  # no writer of ours made this mark; show it


def _told_apart(keys: list[object]) -> list[object]:
    """The keys of a set or dict. Raises ValueError where so many have one hash that making it would
    take for ever, which somebody meant."""
    if len(keys) > _SUSPICIOUS and 2 * len(set(map(hash, keys))) < len(keys):
        raise ValueError("their hashes are the same")
    return keys


def _unmark(value: dict[str, object], depth: int) -> object:
    kind = cast(str, value[MARK])
    if kind == "dict":
        pairs = cast(list[tuple[object, object]], value["items"])
        keys = _told_apart([_value(key, depth) for key, _ in pairs])
        return dict(zip(keys, (_value(item, depth) for _, item in pairs), strict=True))
    if kind in _MAKE_SEQUENCE:
        items = cast(list[object], value["items"])
        made = [_value(item, depth) for item in items]
        return _MAKE_SEQUENCE[kind](made if kind == "tuple" else _told_apart(made))
    if kind in ("bytes", "bytearray"):
        data = base64.b64decode(cast(str, value["base64"]), validate=True)
        return bytearray(data) if kind == "bytearray" else data
    if kind == "str":
        data = base64.b64decode(cast(str, value["base64"]), validate=True)
        return data.decode("utf-8", "surrogatepass")
    if kind == "int":
        return int(cast(str, value["value"]), 16)
    if kind == "float":
        return float(cast(str, value["value"]))
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind](cast(str, value["value"]))
    return value
