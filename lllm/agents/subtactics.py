"""Binds the sub-tactics in a tactic's attributes to one running call.

Context variables do not reach the threads of a ThreadPoolExecutor or another process, so a call
does not rely on them. It runs on a copy of its tactic, in whose attributes each tactic is replaced
by a copy that is bound to the running session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

T = TypeVar("T")

_SEARCHED = 256  # items; a larger container holds data, and searching it would take time
_DEEPEST = 3  # levels of nested containers


def bind_all(
    attributes: Mapping[str, object], kind: type[T], bind: Callable[[T], T]
) -> dict[str, object]:
    """Replace all objects of one kind in attributes, also inside lists, tuples and dicts.

    Args:
        attributes: The attributes, by name.
        kind: The class of the objects to replace.
        bind: A function that returns the replacement of an object.

    Returns:
        The new attributes. Containers without replaced objects stay the same objects.
    """

    def replaced(value: object, depth: int) -> object:
        if isinstance(value, kind):
            return bind(value)
        if type(value) in (list, tuple):
            given = cast(Sequence[object], value)
            if depth < _DEEPEST and len(given) <= _SEARCHED:
                items = [replaced(item, depth + 1) for item in given]
                if any(new is not old for new, old in zip(items, given, strict=True)):
                    return items if type(value) is list else tuple(items)
        elif type(value) is dict:
            entries = cast(dict[object, object], value)
            if depth < _DEEPEST and len(entries) <= _SEARCHED:
                made = {key: replaced(item, depth + 1) for key, item in entries.items()}
                if any(made[key] is not entries[key] for key in made):
                    return made
        return value

    return {name: replaced(value, 0) for name, value in attributes.items()}
