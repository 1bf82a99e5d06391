"""Converts a recorded value to plain JSON, without marks, for models and people.

A mark is a JSON object for a value that JSON can't express (see `marks`). A mark for a type that
JSON lacks becomes the usual JSON form: a tuple becomes a list, a date its text, an enum's member
its value, a numpy scalar a number, a frame its columns. A mark is kept if there is no such form, as
for a cycle.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import cast

from lllm.events.codec import encode
from lllm.events.values.marks import FROM_TEXT, MAKE_MAPPING, MARK, SEQUENCES

_MOST_NUMBERS = 1_000  # the most items of a range that are listed
_DIGITS = 4_000  # the most digits of a number; Python refuses to format more


def readable(plain: object) -> object:
    """Convert the result of `to_plain` to JSON values without marks.

    Args:
        plain: The recorded form of a value.

    Returns:
        The readable form; the value can't be restored from it.
    """
    if type(plain) is list:
        return [readable(item) for item in plain]
    if type(plain) is not dict:
        return plain
    if MARK in plain:
        read = _READ.get(cast(str, plain[MARK]))
        if read is not None:
            return read(plain)
    return {key: readable(item) for key, item in plain.items()}


Mark = Mapping[str, object]


def _items(mark: Mark) -> object:
    return readable(mark["items"])


def _mapping(mark: Mark) -> object:
    pairs = cast("list[tuple[object, object]]", mark["items"])
    return {_key(readable(key)): readable(item) for key, item in pairs}


def _slice(mark: Mark) -> object:
    ends = [readable(mark[name]) for name in ("start", "stop", "step")]
    return f"slice({', '.join('None' if end is None else str(end) for end in ends)})"


def _chain_map(mark: Mark) -> object:
    """The value of each key, from the first map that has the key."""
    maps = cast("list[dict[str, object]]", readable(mark["maps"]))
    return {key: value for one in reversed(maps) for key, value in one.items()}


def _key(key: object) -> str:
    return key if type(key) is str else encode(key).decode()


def _integer(mark: Mark) -> object:
    text = cast(str, mark["value"])
    return str(int(text, 16)) if len(text) < _DIGITS * 4 // 5 else text


def _text(mark: Mark) -> object:
    data = base64.b64decode(cast(str, mark["base64"]))
    return data.decode("utf-8", "surrogatepass")


def _range(mark: Mark) -> object:
    ends = [readable(mark[name]) for name in ("start", "stop", "step")]
    start, stop, step = (int(cast(str, end)) for end in ends)
    if (stop - start) // step <= _MOST_NUMBERS:
        return list(range(start, stop, step))
    return f"range({start}, {stop}, {step})"


def _object(mark: Mark) -> object:
    """The readable form of a stand-in: its content, or its fields if that says too little."""
    if "value" in mark:
        return readable(mark["value"])
    fields = cast("dict[str, object]", mark["fields"])
    if set(fields) == {"name", "value"}:  # the value of an enum's member
        return readable(fields["value"])
    return readable(fields)


_READ: dict[str, Callable[[Mark], object]] = {
    **dict.fromkeys((*SEQUENCES.values(), "deque"), _items),
    **dict.fromkeys((*MAKE_MAPPING, "defaultdict"), _mapping),
    **{kind: lambda mark: readable(mark["value"]) for kind in FROM_TEXT},
    "bytes": lambda mark: mark["base64"],
    "bytearray": lambda mark: mark["base64"],
    "float": lambda _: None,  # as JavaScript writes NaN
    "int": _integer,
    "str": _text,
    "range": _range,
    "object": _object,
    "pattern": lambda mark: readable(mark["pattern"]),
    "slice": _slice,
    "timezone": lambda mark: mark["name"] or readable(mark["offset"]),
    "ZoneInfo": lambda mark: mark["key"],
    "array": _items,
    "memoryview": lambda mark: readable(mark["items" if "items" in mark else "data"]),
    "UserDict": lambda mark: readable(mark["data"]),
    "UserList": lambda mark: readable(mark["data"]),
    "UserString": lambda mark: readable(mark["data"]),
    "ChainMap": _chain_map,
    "repr": lambda mark: readable(mark.get("repr", mark.get("error"))),
}
