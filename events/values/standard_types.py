"""Converts types of the standard library to a few members, and restores them.

Each type has functions for both directions. The function that restores a value is chosen by the
kind in the mark, only from this table. The members come from an untrusted log, so each is checked
before it is used.
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

_LONGEST_PATTERN = 20_000  # characters of a pattern; compiling a longer one is slow
_NATIVE = "cbBhHiIlLqQnNefd?"  # formats of a memoryview that mean the same on every machine
_SAFE_FLAGS = ~(re.DEBUG | getattr(re, "TEMPLATE", 0))  # except DEBUG, which prints


class Standard(NamedTuple):
    """The two functions that write and restore the values of one standard type.

    Attributes:
        kind: The kind in the mark; see `marks`.
        members: A function that returns the members of a value of exactly this type; None if they
            would not describe all of it.
        make: A function that restores the value; it raises an error if the members are invalid.
    """

    kind: str
    members: Callable[[Any], Members | None]
    make: Callable[[Members], object]


def _only(value: object, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return value


# -- Patterns, slices, time zones


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
    """Find a time zone in the machine's time zone database.

    Args:
        key: The name of the zone, from a log.

    Returns:
        The zone.

    Raises:
        ValueError: The database has no zone of this name. No module is searched for it then, as
            `zoneinfo` would do.
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

    The text of such a time alone would lose this.

    Args:
        value: The value, of any type.

    Returns:
        False for all other values.
    """
    if not isinstance(value, dt.datetime | dt.time):
        return False
    return value.fold == 1 or type(value.tzinfo) not in (type(None), dt.timezone)


def zoned(value: dt.datetime | dt.time) -> Members:
    """Make the members that record a time's zone, beside the text of the time.

    Args:
        value: A time for which `is_zoned` is true.

    Returns:
        The members.
    """
    members: dict[str, object] = {"value": value.isoformat()}
    zone = value.tzinfo
    if type(zone) is zoneinfo.ZoneInfo:
        members |= _key(zone) or {}
    elif zone is not None and type(zone) is not dt.timezone:
        members["key"] = str(zone)
    return members | {"fold": 1} if value.fold else members


def in_zone(time: dt.datetime | dt.time, members: Members) -> dt.datetime | dt.time:
    """Put a time, restored from its text, into the zone that its members name.

    If the machine does not know the zone, or has another offset for it, the time keeps its offset
    alone.

    Args:
        time: The time with its offset.
        members: The members that `zoned` returned.

    Returns:
        The time in its zone.
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


# -- Arrays and memory views


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


# -- Wrappers


def _wrapped(value: object) -> Members | None:
    """The content of a UserDict, UserList or UserString, if it has no other attributes."""
    own = vars(value)
    return {"data": own["data"]} if own.keys() == {"data"} else None


def _user(kind: type[Any], content: type) -> Callable[[Members], object]:
    def make(members: Members) -> object:
        data = members["data"]
        if not isinstance(data, content):
            raise TypeError(f"no {content.__name__}")
        made = kind(content())
        made.data = data  # the dict itself, not a copy
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
