"""Restores values from the JSON form that `json_values` made.

Nothing in a log is trusted. A mark with unknown or invalid content is kept as it is and is never an
error. No module is imported and no constructor is called because a log names it. The time needed is
proportional to the length of the data.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections import defaultdict, deque
from collections.abc import Callable
from typing import cast

from lllm.events.values.marks import DEEPEST, FACTORIES, FROM_TEXT, MAKE_MAPPING, MARK
from lllm.events.values.stand_ins import NOTHING, stand_in
from lllm.events.values.standard_types import MAKE_STANDARD, in_zone

# The errors for an invalid value; a warning, in a program that turns warnings into errors.
_REFUSED = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, MemoryError, Warning,
)  # fmt: skip
_SUSPICIOUS = 1_000  # from so many keys on, their hashes are checked
_MOST_HASHED = 100_000  # the most values inside the keys of one set or dict


def from_plain(value: object) -> object:
    """Restore the value from which `to_plain` made the JSON form.

    A value of a standard type is restored as it was, any other as a read-only stand-in. A mark (a
    JSON object for a value that JSON lacks; see `marks`) stays as it is if it is a repr, a cycle or
    unknown, and so does everything that is nested deeper than `to_plain` writes.

    Args:
        value: The JSON form that `to_plain` returned.

    Returns:
        The value.
    """
    return _value(value, 0, None)


class _Parts:
    """The parts that are stored outside of a value, restored in the order of their references.

    A part that contains itself is cut there. `to_plain` writes no such part, except for values more
    than `DEEPEST` levels deep.
    """

    def __init__(self, mark: dict[str, object], depth: int) -> None:
        self._made: dict[int, object] = {}
        plain = _list(mark["parts"])
        for index in _in_order(plain, _referred(mark["value"])):
            self._made[index] = _value(plain[index], depth, self)

    def get(self, mark: dict[str, object]) -> object:
        index = mark.get("index")
        if type(index) is not int:
            return mark
        return self._made.get(index, {MARK: "cycle", "type": "?"})


def _in_order(plain: list[object], first: list[int]) -> list[int]:
    """The indexes of parts, each after those that it refers to.

    Args:
        plain: The JSON forms of the parts.
        first: The parts that the value itself refers to; a part that contains itself is cut where
            it is met again from there.
    """
    order: list[int] = []
    needs: dict[int, list[int]] = {}
    for start in [*(one for one in first if 0 <= one < len(plain)), *range(len(plain))]:
        waiting = [start]
        while waiting:
            index = waiting[-1]
            if index not in needs:
                found = _referred(plain[index])
                needs[index] = [one for one in found if 0 <= one < len(plain)]
            while needs[index] and needs[index][-1] in needs:
                needs[index].pop()  # it is restored by then, or contains itself
            if needs[index]:
                waiting.append(needs[index].pop())
            else:
                waiting.pop()
                order.append(index)
    return list(dict.fromkeys(order))


def _referred(plain: object) -> list[int]:
    """The indexes of the parts that a part refers to."""
    found: list[int] = []
    waiting = [plain]
    while waiting:
        node = waiting.pop()
        if type(node) is list:
            waiting += node
        elif type(node) is dict:
            kind, index = node.get(MARK), node.get("index")
            if kind == "part" and type(index) is int:
                found.append(index)
            elif kind != "parts":
                waiting += node.values()
    return found


def _value(value: object, depth: int, parts: _Parts | None) -> object:
    if depth > 2 * DEEPEST:
        return value
    if type(value) is list:
        return [_value(item, depth + 1, parts) for item in value]
    if type(value) is not dict:
        return value
    if MARK not in value:
        return {key: _value(item, depth + 1, parts) for key, item in value.items()}
    try:
        return _unmark(value, depth + 1, parts)
    except _REFUSED:
        return value  # lllm did not write this mark; keep it visible


def _unmark(mark: dict[str, object], depth: int, parts: _Parts | None) -> object:
    kind = cast(str, mark[MARK])
    if kind in FROM_TEXT:
        made = FROM_TEXT[kind](_text(mark["value"]))
        return in_zone(made, mark) if isinstance(made, dt.datetime | dt.time) else made
    if kind in ("bytes", "bytearray", "str"):
        return _from_base64(kind, cast(str, mark["base64"]))
    if kind == "int":
        return int(cast(str, mark["value"]), 16)
    if kind == "float":
        return float(cast(str, mark["value"]))
    if kind == "part" and parts is not None:
        return parts.get(mark)
    if kind == "parts":
        return _value(mark["value"], depth, _Parts(mark, depth))
    make = _MAKE.get(kind)
    if make is not None:
        return make(mark, depth, parts)
    standard = MAKE_STANDARD.get(kind)
    if standard is None:
        return mark
    return standard({name: _value(item, depth, parts) for name, item in mark.items()})


def _text(text: object) -> str:
    """The text in a mark; the text is a mark itself if it has lone surrogates, as a path may."""
    value = _value(text, 0, None)
    if type(value) is not str:
        raise TypeError("no text")
    return value


def _list(items: object) -> list[object]:
    if type(items) is not list:
        raise TypeError("no list")
    return items


def _from_base64(kind: str, text: str) -> object:
    data = base64.b64decode(text, validate=True)
    if kind == "str":
        return data.decode("utf-8", "surrogatepass")
    return bytearray(data) if kind == "bytearray" else data


Make = Callable[[dict[str, object], int, _Parts | None], object]


def _items(mark: dict[str, object], depth: int, parts: _Parts | None) -> list[object]:
    return [_value(item, depth, parts) for item in _list(mark["items"])]


def _set(mark: dict[str, object], depth: int, parts: _Parts | None) -> set[object]:
    return set(_told_apart(_items(mark, depth, parts)))


def _dict(mark: dict[str, object], depth: int, parts: _Parts | None) -> dict[object, object]:
    pairs = [_list(pair) for pair in _list(mark["items"])]
    keys = _told_apart([_value(key, depth, parts) for key, _ in pairs])
    return dict(zip(keys, (_value(item, depth, parts) for _, item in pairs), strict=True))


def _mapping(make: Callable[[dict[object, object]], object]) -> Make:
    return lambda mark, depth, parts: make(_dict(mark, depth, parts))


def _told_apart(keys: list[object]) -> list[object]:
    """Return the keys of a set or dict, if a set of them can be made in reasonable time.

    Raises:
        ValueError: Too many keys have the same hash, or the keys contain too much. Such data is
            made on purpose to take forever.
    """
    _check_size(keys)
    if len(keys) > _SUSPICIOUS and 2 * len(set(map(hash, keys))) < len(keys):
        raise ValueError("their hashes are the same")
    return keys


def _check_size(keys: list[object]) -> None:
    """Refuse tuples and slices whose hashes would take too long to compute."""
    level, seen = [key for key in keys if isinstance(key, tuple | slice)], 0
    for _ in range(2 * DEEPEST):
        if not level:
            return
        level = [
            inner for key in level for inner in _inside(key) if isinstance(inner, tuple | slice)
        ]
        seen += len(level)
        if seen > _MOST_HASHED:
            break
    raise ValueError("they hold too much")


def _inside(key: tuple[object, ...] | slice) -> tuple[object, ...]:
    return key if isinstance(key, tuple) else (key.start, key.stop, key.step)


def _defaultdict(mark: dict[str, object], depth: int, parts: _Parts | None) -> object:
    name = mark["factory"]
    factory = None if name is None else FACTORIES[cast(str, name)]
    return defaultdict(factory, _dict(mark, depth, parts))


def _deque(mark: dict[str, object], depth: int, parts: _Parts | None) -> object:
    items, maxlen = _items(mark, depth, parts), mark["maxlen"]
    if maxlen is not None and (type(maxlen) is not int or maxlen < len(items)):
        raise ValueError("more items than it holds")
    return deque(items, maxlen)


def _range(mark: dict[str, object], depth: int, parts: _Parts | None) -> object:
    start, stop, step = (_value(mark[name], depth, parts) for name in ("start", "stop", "step"))
    return range(cast(int, start), cast(int, stop), cast(int, step))


def _object(mark: dict[str, object], depth: int, parts: _Parts | None) -> object:
    content = _value(mark["value"], depth, parts) if "value" in mark else NOTHING
    fields = _value(mark.get("fields", {}), depth, parts)
    if type(fields) is not dict:
        raise TypeError("no fields")
    if "names" in mark:
        names = [_text(name) for name in _list(mark["names"])]
        fields = dict(zip(names, cast("tuple[object, ...]", content), strict=True))
    return stand_in(_text(mark["type"]), content, fields)


_MAKE: dict[str, Make] = {
    "tuple": lambda mark, depth, parts: tuple(_items(mark, depth, parts)),
    "set": _set,
    "frozenset": lambda mark, depth, parts: frozenset(_set(mark, depth, parts)),
    **{kind: _mapping(make) for kind, make in MAKE_MAPPING.items()},
    "defaultdict": _defaultdict,
    "deque": _deque,
    "range": _range,
    "object": _object,
}
