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
    """The JSON form of any value at all; never raises, never cuts."""
    return _plain(value, (), 0)


def _plain(value: object, above: tuple[int, ...], depth: int) -> object:
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
    if depth >= _DEEPEST:
        return {MARK: "deep", "type": _type_name(kind)} | _repr(value)
    try:
        return _plain_container(value, (*above, id(value)), depth + 1)
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


def _plain_container(value: object, above: tuple[int, ...], depth: int) -> object:
    kind = type(value)
    if kind is list:
        return [_plain(item, above, depth) for item in cast(list[object], value)]
    if isinstance(value, dict):
        return _plain_dict(value, above, depth)
    if kind in _SEQUENCES:
        items = [_plain(item, above, depth) for item in cast(tuple[object, ...], value)]
        return {MARK: _SEQUENCES[kind], "items": items}
    if kind in (bytes, bytearray):
        data = base64.b64encode(cast(bytes, value)).decode()
        return {MARK: kind.__name__, "base64": data}
    if kind in _TEXTUAL:
        text = cast(dt.date, value).isoformat() if hasattr(value, "isoformat") else str(value)
        return {MARK: _TEXTUAL[kind][0], "value": text}
    fields = _fields(value)
    if fields is not None:
        return _plain_dict(cast(dict[object, object], fields), above, depth)
    return _opaque(value)


def _plain_dict(value: Mapping[object, object], above: tuple[int, ...], depth: int) -> object:
    if MARK not in value and all(type(key) is str and _is_exact(key) for key in value):
        return {key: _plain(item, above, depth) for key, item in value.items()}
    pairs = [[_plain(k, above, depth), _plain(v, above, depth)] for k, v in value.items()]
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
    """The value that `to_plain` was given; a marked repr, cycle or unknown mark stays as it is."""
    if type(value) is list:
        return [from_plain(item) for item in value]
    if type(value) is not dict:
        return value
    if MARK not in value:
        return {key: from_plain(item) for key, item in value.items()}
    try:
        return _unmark(value)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return value  # no writer of ours made this mark; show it


def _unmark(value: dict[str, object]) -> object:
    kind = cast(str, value[MARK])
    if kind == "dict":
        pairs = cast(list[tuple[object, object]], value["items"])
        return {from_plain(key): from_plain(item) for key, item in pairs}
    if kind in _MAKE_SEQUENCE:
        items = cast(list[object], value["items"])
        return _MAKE_SEQUENCE[kind]([from_plain(item) for item in items])
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
