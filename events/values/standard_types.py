"""Writes types of the standard library as a few members, and restores them.

Each stands here with both ways. What makes it again is chosen by the mark's kind, from this table
alone; members come as values, whoever wrote them, so each is looked at before it is used.
"""

from __future__ import annotations

import array
import datetime as dt
import math
import re
import struct
import zoneinfo
from collections import ChainMap, UserDict, UserList, UserString
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, cast

Members = Mapping[str, object]

_LONGEST_PATTERN = 20_000  # characters; compiling more takes long
_NATIVE = "cbBhHiIlLqQnNefd?"  # formats of a memoryview that mean the same everywhere
_SAFE_FLAGS = ~(re.DEBUG | getattr(re, "TEMPLATE", 0))  # DEBUG prints


class Standard(NamedTuple):
    """How values of one standard type are written and restored.

    Attributes:
        kind: The mark's.
        members: Gives the members of a value of exactly this type; None where they would not say
            all of it.
        make: Makes the value again; raises whatever the members are no value for.
    """

    kind: str
    members: Callable[[Any], Members | None]
    make: Callable[[Members], object]


def _only(value: object, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return value


# -- patterns, slices, zones


def _pattern(members: Members) -> object:
    pattern, flags = members["pattern"], _only(members["flags"], int)
    if not isinstance(pattern, str | bytes) or len(pattern) > _LONGEST_PATTERN:
        raise ValueError("no pattern to compile")
    try:
        return re.compile(pattern, flags & _SAFE_FLAGS)
    except (re.error, RecursionError) as error:
        raise ValueError("no pattern") from error


def _flags(pattern: re.Pattern[Any]) -> Members:
    return {"pattern": pattern.pattern, "flags": pattern.flags}


def _offset(zone: dt.timezone) -> Members:
    offset, *name = cast(Any, zone).__getinitargs__()
    return {"offset": offset, "name": name[0] if name else None}


def _timezone(members: Members) -> object:
    offset, name = _only(members["offset"], dt.timedelta), members["name"]
    if name is not None:
        return dt.timezone(offset, _only(name, str))
    return dt.timezone(offset) if offset else dt.UTC


def zone_named(key: object) -> dt.tzinfo:
    """Find a time zone in the machine's database.

    Args:
        key: What a log gives as its name.

    Raises:
        ValueError: It has none of that name. None is looked for then, which could import a module.
    """
    if type(key) is not str or key not in _zones():
        raise ValueError("no zone of this machine")
    return zoneinfo.ZoneInfo(key)


@cache
def _zones() -> set[str]:
    return zoneinfo.available_timezones()


def _key(zone: zoneinfo.ZoneInfo) -> Members | None:
    return None if zone.key is None else {"key": zone.key}


def is_zoned(value: object) -> bool:
    """True if a value is a time with a time zone, or the second of two ambiguous times.

    Its text alone would not say so.

    Args:
        value: Anything.
    """
    if not isinstance(value, dt.datetime | dt.time):
        return False
    return value.fold == 1 or type(value.tzinfo) not in (type(None), dt.timezone)


def zoned(value: dt.datetime | dt.time) -> Members:
    """The members that record a time with a zone, beside its text with the offset.

    Args:
        value: A time for which `is_zoned` is true.
    """
    members: dict[str, object] = {"value": value.isoformat()}
    zone = value.tzinfo
    if type(zone) is zoneinfo.ZoneInfo:
        members |= _key(zone) or {}
    elif zone is not None and type(zone) is not dt.timezone:
        members["key"] = str(zone)
    return members | {"fold": 1} if value.fold else members


def in_zone(time: dt.datetime | dt.time, members: Members) -> dt.datetime | dt.time:
    """Put a time, read from its text, into the zone that its members name.

    It gets its offset alone where the machine does not know that zone, or knows another offset.

    Args:
        time: With the offset.
        members: As `zoned` gave them.
    """
    fold = 1 if members.get("fold") == 1 else 0
    time = time.replace(fold=fold)
    if "key" not in members:
        return time
    try:
        there = time.replace(tzinfo=zone_named(members["key"]))
    except ValueError:
        return time
    return there if there.utcoffset() == time.utcoffset() else time


# -- arrays and views of memory


def _array(members: Members) -> object:
    return array.array(_only(members["typecode"], str), _only(members["items"], list))


def _view(view: memoryview) -> Members | None:
    shape = list(view.shape or ())
    if view.format == "B" and len(shape) == 1:
        return {"format": "B", "shape": shape, "data": view.tobytes()}
    if view.format not in {*_NATIVE} or not shape:
        return None
    items = list(struct.unpack(f"{math.prod(shape)}{view.format}", view.tobytes()))
    return {"format": view.format, "shape": shape, "items": items}


def _memoryview(members: Members) -> object:
    form, shape = _only(members["format"], str), _only(members["shape"], list)
    if "data" in members:
        return memoryview(_only(members["data"], bytes))
    items = _only(members["items"], list)
    if form not in {*_NATIVE} or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("no format")
    try:
        data = struct.pack(f"{len(items)}{form}", *items)
    except struct.error as error:
        raise ValueError("no items of the format") from error
    view = memoryview(data).cast("B")
    return view.cast(form) if shape == [len(items)] else view.cast(form, shape)


# -- wrappers


def _wrapped(value: object) -> Members | None:
    """What a UserDict, UserList or UserString holds, where it has nothing else."""
    own = vars(value)
    return {"data": own["data"]} if own.keys() == {"data"} else None


def _user(kind: type[Any], content: type) -> Callable[[Members], object]:
    def make(members: Members) -> object:
        data = members["data"]
        if not isinstance(data, content):
            raise TypeError(f"no {content.__name__}")
        made = kind(content())
        made.data = data  # itself, and not a copy of it
        return made

    return make


def _maps(value: ChainMap[Any, Any]) -> Members | None:
    return {"maps": list(value.maps)} if vars(value).keys() == {"maps"} else None


def _chain_map(members: Members) -> object:
    maps = _only(members["maps"], list)
    if not all(isinstance(one, Mapping) for one in maps):
        raise TypeError("no maps")
    return ChainMap(*maps)


STANDARD: dict[type, Standard] = {
    re.Pattern: Standard("pattern", _flags, _pattern),
    slice: Standard(
        "slice",
        lambda value: {"start": value.start, "stop": value.stop, "step": value.step},
        lambda members: slice(members["start"], members["stop"], members["step"]),
    ),
    dt.timezone: Standard("timezone", _offset, _timezone),
    zoneinfo.ZoneInfo: Standard("ZoneInfo", _key, lambda members: zone_named(members["key"])),
    array.array: Standard(
        "array", lambda value: {"typecode": value.typecode, "items": value.tolist()}, _array
    ),
    memoryview: Standard("memoryview", _view, _memoryview),
    UserDict: Standard("UserDict", _wrapped, _user(UserDict, dict)),
    UserList: Standard("UserList", _wrapped, _user(UserList, list)),
    UserString: Standard("UserString", _wrapped, _user(UserString, str)),
    ChainMap: Standard("ChainMap", _maps, _chain_map),
}
MAKE_STANDARD = {one.kind: one.make for one in STANDARD.values()}
