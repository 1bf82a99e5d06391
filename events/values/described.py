"""Describes a value that JSON can't express: a kind and its members.

An instance of a subclass of a standard type is read by the methods of the standard type. So the
result does not depend on methods that the subclass overrides, and its code can't return something
false, hang or fail here. Iterators and generators are not advanced.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import operator
import sys
import uuid
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from io import BytesIO, StringIO
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec

from lllm.events.values.arrays import Described, Encode, describe_array
from lllm.events.values.marks import FACTORIES, MAPPINGS, SEQUENCES
from lllm.events.values.stand_ins import NOTHING, StandIn, content_of
from lllm.events.values.standard_types import STANDARD, zoned


class Items(list[object]):
    """A list inside a mark, such as the pairs of a dict; it is not a value of the user."""


class Form(NamedTuple):
    """The form in which a value is written: a mark (see `marks`), or plain members.

    Attributes:
        kind: The kind in the mark; None if the members are written without a mark.
        members: The members, as values that are still to be converted.
    """

    kind: str | None
    members: Mapping[str, object]


def describe(value: object, kind: type, encode: Encode) -> Form:
    """Describe a value that JSON can't express, for the log.

    Args:
        value: The value. It has no exact form as JSON or as a text (such as a date has).
        kind: The type of the value.
        encode: A function that turns any value into bytes.

    Returns:
        The kind of the value and its members, from which its mark is written; see `marks`.

    Raises:
        Exception: A property of the value raised it.
    """
    exact = _EXACT.get(kind)
    if exact is not None:
        return exact(value)
    standard = STANDARD.get(kind)
    members = None if standard is None else standard.members(value)
    if standard is not None and members is not None:
        return Form(standard.kind, members)
    described = _with_type(value, kind, encode)
    if described is not None:
        return described
    fields = _fields(value, kind)
    if fields is None:
        return opaque(value)
    if isinstance(fields, dict):
        return Form(None, fields)
    return _object(kind, fields, {})


def opaque(value: object) -> Form:
    """Describe a value that can't be restored, by its repr.

    Args:
        value: The value, of any type.

    Returns:
        A mark with the repr.
    """
    members: dict[str, object] = {"type": type_name(type(value))}
    try:
        members["repr"] = str.__str__(repr(value))  # the repr may be of a subclass of str
    except Exception as error:  # a __repr__ may raise anything, RecursionError for deep values
        members["error"] = f"its repr raised {type(error).__name__}"
    return Form("repr", members)


def type_name(kind: type) -> str:
    """Return the module and the qualified name of a type.

    Args:
        kind: Any type, also one with an unusual metaclass.

    Returns:
        The name, as "app.models.Color".
    """
    try:
        return f"{kind.__module__}.{kind.__qualname__}"
    except Exception:  # a metaclass may return or raise anything
        return "?"


def pairs(items: Mapping[Any, object]) -> Items:
    """Convert a dict to a list of its keys and values.

    Args:
        items: The dict, with keys and values of any type.

    Returns:
        The pairs, in the order of the dict.
    """
    content = cast("dict[object, object]", items)
    return Items(Items(pair) for pair in dict.items(content))


# -- Exact standard types. Any: each function gets only values of its own type.


def _bytes(kind: str) -> Callable[[Any], Form]:
    return lambda value: Form(kind, {"base64": base64.b64encode(value).decode()})


def _sequence(kind: str) -> Callable[[Any], Form]:
    return lambda value: Form(kind, {"items": Items(value)})


def _mapping(kind: str) -> Callable[[Any], Form]:
    return lambda value: Form(kind, {"items": pairs(value)})


def _defaultdict(value: Any) -> Form:
    factory = value.default_factory
    if factory is None:
        return Form("defaultdict", {"items": pairs(value), "factory": None})
    name = factory.__name__ if type(factory) is type else ""
    if FACTORIES.get(name) is factory:
        return Form("defaultdict", {"items": pairs(value), "factory": name})
    return _object(type(value), dict(dict.items(value)), {"default_factory": repr(factory)})


_SOME: dict[object, object] = {}
_VIEWS = [
    type(view)
    for some in (_SOME, OrderedDict(_SOME))
    for view in (some.keys(), some.values(), some.items())
]
_EXACT: dict[type, Callable[[Any], Form]] = {
    bytes: _bytes("bytes"),
    bytearray: _bytes("bytearray"),
    **{kind: _sequence(name) for kind, name in SEQUENCES.items()},
    **{kind: _mapping(name) for kind, name in MAPPINGS.items()},
    deque: lambda value: Form("deque", {"items": Items(value), "maxlen": value.maxlen}),
    range: lambda value: Form(
        "range", {"start": value.start, "stop": value.stop, "step": value.step}
    ),
    defaultdict: _defaultdict,
    MappingProxyType: lambda value: Form("mappingproxy", {"items": pairs(dict(value))}),
    SimpleNamespace: lambda value: Form("namespace", {"items": pairs(vars(value))}),
    **{view: lambda value: _object(type(value).__name__, list(value), {}) for view in _VIEWS},
    # Reads what was written to the buffer without moving its position.
    StringIO: lambda value: _object(StringIO, value.getvalue(), {}),
    BytesIO: lambda value: _object(BytesIO, value.getvalue(), {}),
    dt.datetime: lambda value: Form("datetime", zoned(value)),
    dt.time: lambda value: Form("time", zoned(value)),
}


# -- Types that are restored as stand-ins


def _object(kind: type | str, content: object, fields: Mapping[str, object]) -> Form:
    """Describe a value with the name of its type."""
    members: dict[str, object] = {"type": kind if isinstance(kind, str) else type_name(kind)}
    if content is not NOTHING:
        members["value"] = content
    if type(content) is tuple and fields and _are(fields, content):
        return Form("object", {**members, "names": Items(fields)})  # a namedtuple
    if fields or content is NOTHING:
        members["fields"] = dict(fields)
    return Form("object", members)


def _are(fields: Mapping[str, object], items: tuple[object, ...]) -> bool:
    """True if the fields are the items under other names."""
    return len(fields) == len(items) and all(map(operator.is_, fields.values(), items))


def _with_type(value: object, kind: type, encode: Encode) -> Form | None:
    """Describe a value that is written with the name of its type; None for other values."""
    if issubclass(kind, StandIn):
        known = cast(StandIn, value)
        return _object(known.type_name, content_of(known), known.fields)
    if issubclass(kind, Enum):
        return _enum(cast(Enum, value), kind)
    described = describe_array(value, kind, encode)
    if described is not None:
        return _object(kind, *_of_subclass(value, kind, described))
    described = _of_library(value, kind)
    if described is not None:
        return _object(kind, *described)
    for base, content in _BASES.items():
        if issubclass(kind, base):
            return _object(kind, content(value), _attributes(value, kind))
    return None


def _of_subclass(value: object, kind: type, described: Described) -> Described:
    """Add the attributes of an instance of a class of the user's program.

    Types of numpy and pandas have none.
    """
    if type_name(kind).partition(".")[0] in ("numpy", "pandas"):
        return described
    return Described(described.content, {**_attributes(value, kind), **described.fields})


def _enum(value: Enum, kind: type) -> Form:
    fields: dict[str, object] = {"name": value._name_, "value": value._value_}
    for base, content in _BASES.items():
        if issubclass(kind, base):
            return _object(kind, content(value), fields)
    return _object(kind, NOTHING, fields)


def _attributes(value: object, kind: type) -> dict[str, object]:
    """The attributes of an instance itself, not those of its class."""
    fields = _fields(value, kind)
    if isinstance(fields, dict):
        return fields
    names: object = getattr(kind, "_fields", None)
    if issubclass(kind, tuple) and type(names) is tuple:
        return dict(zip(names, tuple.__iter__(cast("tuple[object, ...]", value)), strict=True))
    if hasattr(kind, "n_sequence_fields"):  # a type made in C, as time.struct_time
        return dict(
            zip(cast(Any, kind).__match_args__, cast("tuple[object, ...]", value), strict=False)
        )
    try:
        own: object = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    if type(own) is not dict:
        return {}
    wraps = issubclass(kind, UserDict | UserList | UserString)
    return {name: item for name, item in own.items() if not (wraps and name == "data")}


def _of_library(value: Any, kind: type) -> Described | None:
    """Describe a message of `email` or an address of pydantic; None for other values.

    Neither library is imported for this.
    """
    email, core = sys.modules.get("email.message"), sys.modules.get("pydantic_core")
    if email is not None and issubclass(kind, email.Message):
        headers = [(name, str(said)) for name, said in value.raw_items()]
        return Described(NOTHING, {"headers": headers, "payload": value.get_payload()})
    networks = sys.modules.get("pydantic.networks")
    urls = [getattr(core, name, None) for name in ("Url", "MultiHostUrl")]
    urls += [getattr(networks, name, None) for name in ("_BaseUrl", "_BaseMultiHostUrl")]
    if any(isinstance(url, type) and issubclass(kind, url) for url in urls):
        return Described(str(value), {})
    if kind is msgspec.Raw:
        return Described(bytes(value), {})
    if kind is msgspec.msgpack.Ext:
        return Described(NOTHING, {"code": value.code, "data": bytes(value.data)})
    return None


def _content_of_wrapper(content: type) -> Callable[[Any], object]:
    def read(value: object) -> object:
        data = vars(value)["data"]
        if type(data) is not content:
            raise TypeError(f"no {content.__name__}")
        return data

    return read


# Standard base types, subclasses first, and how a value of a user's subclass is read as the base.
_BASES: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytearray(memoryview(value)),
    dt.datetime: lambda value: dt.datetime.fromisoformat(dt.datetime.isoformat(value)),
    dt.date: lambda value: dt.date.fromisoformat(dt.date.isoformat(value)),
    dt.time: lambda value: dt.time.fromisoformat(dt.time.isoformat(value)),
    dt.timedelta: lambda value: dt.timedelta(value.days, value.seconds, value.microseconds),
    decimal.Decimal: lambda value: decimal.Decimal(decimal.Decimal.__str__(value)),
    Fraction: lambda value: Fraction(value.numerator, value.denominator),
    uuid.UUID: lambda value: uuid.UUID(uuid.UUID.__str__(value)),
    PurePath: PurePath.__str__,
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    deque: lambda value: list(deque.__iter__(value)),
    array: array.tolist,
    UserDict: _content_of_wrapper(dict),
    UserList: _content_of_wrapper(list),
    UserString: _content_of_wrapper(str),
    ChainMap: lambda _: NOTHING,  # the maps are in a field
}


# -- Types that are described by their fields


def _fields(value: object, kind: type) -> object:
    """The fields of a Struct, dataclass, attrs class or pydantic model; None for other values.

    For a model that has a single root value, that value is returned.
    """
    if issubclass(kind, msgspec.Struct):
        names: list[str] = list(kind.__struct_fields__)
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        names = [field.name for field in cast(Any, kind).__attrs_attrs__]
    elif callable(getattr(kind, "model_dump", None)):
        return cast(object, cast(Any, value).model_dump(mode="python"))
    else:
        return None
    return {name: getattr(value, name) for name in names}
