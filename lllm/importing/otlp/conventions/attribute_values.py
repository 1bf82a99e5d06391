"""Reads values of attributes: numbers, JSON in texts, and lists that were flattened into names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

import msgspec

Attributes = Mapping[str, object]


def json_in(value: object) -> object:
    """Read JSON from a text; any other value, and a text that is not JSON, is returned as it is."""
    if not isinstance(value, str):
        return value
    try:
        return cast(object, msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeError):
        try:
            return cast(object, json.loads(value))
        except (ValueError, RecursionError):
            return value


def object_in(value: object) -> Attributes:
    """Read a JSON object; an empty one for anything else."""
    found = json_in(value)
    return found if isinstance(found, dict) else {}


def objects_in(value: object) -> list[Attributes]:
    """Read a list of JSON objects; what is no object is left out."""
    found = json_in(value)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def text_of(value: object) -> str:
    """Write a value as a text: a text as it is, anything else as JSON, None as ""."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def number_in(attributes: Attributes, *names: str) -> int | None:
    """Read the first whole number of some attributes; None if there is none."""
    for name in names:
        value = attributes.get(name)
        is_text = isinstance(value, str) and value.isdecimal()  # a 64-bit number of JavaScript
        if is_text or (isinstance(value, float) and value.is_integer()):
            value = int(cast(str, value))
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def seconds_in(attributes: Attributes, name: str, unit: int = 10**9) -> int | None:
    """Read a duration as nanoseconds; `unit` is the number of nanoseconds in one."""
    value = attributes.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return round(value * unit)
    return None


def first_in_list(value: object) -> str | None:
    """Read the first text of a list, or a text itself; None if there is none."""
    found = json_in(value) if isinstance(value, str) and value.startswith("[") else value
    if isinstance(found, list):
        found = found[0] if found else None
    return found if isinstance(found, str) else None


def unflattened(attributes: Attributes, prefix: str) -> object:
    """Rebuild a value from attributes such as `prefix.0.role` and `prefix.0.content`.

    Args:
        attributes: The attributes.
        prefix: How their names begin, without the last dot.

    Returns:
        Dicts, and lists where all keys are numbers; None if there is no such attribute.
    """
    tree: dict[str, object] = {}
    start = prefix + "."
    for name, value in attributes.items():
        if not name.startswith(start):
            continue
        *parents, last = name[len(start) :].split(".")
        place = tree
        for key in parents:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = place[key] = {"": inner}
            place = inner
        place[last] = value
    return _listed(tree) if tree else None


def _listed(value: object) -> object:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(inner) for key, inner in value.items()}
