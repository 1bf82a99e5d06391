"""Marks for values that JSON can't express, and the types that are restored from them.

A mark is an object `{"$lllm": kind, ...}`. The tables below say how a value of each type is
written, and which of lllm's functions restores it: a log names a kind, and never a module or a
constructor. The meaning of a kind never changes, because logs are stored for long.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import msgspec

MARK = "$lllm"
DEEPEST = 100  # the most levels of nesting in one part, far below the limits of JSON decoders


def _exact(value: dt.timedelta) -> dt.timedelta:
    return dt.timedelta(value.days, value.seconds, value.microseconds)


_ADDRESSES: tuple[type, ...] = (
    IPv4Address, IPv4Network, IPv4Interface, IPv6Address, IPv6Network, IPv6Interface,
)  # fmt: skip
# Types with an exact text form: how the text is made (by the type itself, not by a subclass) and
# read again. Any: each function gets only values of its own type.
TEXT_OF: dict[type, tuple[str, Callable[[Any], str]]] = {
    dt.datetime: ("datetime", dt.datetime.isoformat),
    dt.date: ("date", dt.date.isoformat),
    dt.time: ("time", dt.time.isoformat),
    decimal.Decimal: ("decimal", decimal.Decimal.__str__),
    uuid.UUID: ("uuid", uuid.UUID.__str__),
    complex: ("complex", complex.__repr__),
    dt.timedelta: ("timedelta", lambda value: str(msgspec.to_builtins(_exact(value)))),
    Fraction: ("fraction", Fraction.__str__),
    PosixPath: ("PosixPath", PurePath.__str__),
    PurePosixPath: ("PurePosixPath", PurePath.__str__),
    PureWindowsPath: ("PureWindowsPath", PurePath.__str__),
    **{kind: (kind.__name__, str) for kind in _ADDRESSES},
}


def _fraction(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")  # "1e999999999" would take forever
    return Fraction(int(numerator), int(denominator or "1"))


FROM_TEXT: dict[str, Callable[[str], object]] = {
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
    "complex": complex,
    "timedelta": lambda text: msgspec.convert(text, dt.timedelta),
    "fraction": _fraction,
    "PosixPath": PosixPath,
    "WindowsPath": PureWindowsPath,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    **{kind.__name__: kind for kind in _ADDRESSES},
}

# Containers that are written as their items.
SEQUENCES: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}

# Dicts that are written as pairs; `dict` itself only if JSON can't express it.
MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", Counter: "Counter"}


def _counter(content: dict[object, object]) -> Counter[object]:
    counter: Counter[object] = Counter()
    for key, count in content.items():  # Counter.update would add, and counts may be of any type
        counter[key] = cast(int, count)
    return counter


def _namespace(content: dict[object, object]) -> SimpleNamespace:
    # raises TypeError if it is not a mapping
    return SimpleNamespace(**cast("dict[str, object]", content))


MAKE_MAPPING: dict[str, Callable[[dict[object, object]], object]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": _counter,
    "mappingproxy": MappingProxyType,
    "namespace": _namespace,
}

# The factories with which a defaultdict is restored.
FACTORIES: dict[str, Callable[[], object]] = {
    kind.__name__: kind
    for kind in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
