"""Leaves the volatile parts of a request out of a comparison: times, ids, random numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from lllm.events.errors import ConfigError
from lllm.events.redaction.user_patterns import Pattern

Ignore: TypeAlias = str | re.Pattern[str] | Pattern

MARK = "(ignored)"


class Ignored:
    """Removes the parts of JSON values that a comparison leaves out.

    Args:
        given: Key paths such as "params.seed" or "messages.*.parts.0.text", in which `*` stands
            for any key or number; and patterns, whose matches are removed from every text.

    Raises:
        ConfigError: One of them is neither a key path nor a pattern.
    """

    def __init__(self, given: Iterable[Ignore]) -> None:
        self._paths: list[tuple[str, ...]] = []
        self._patterns: list[re.Pattern[str]] = []
        for one in [given] if isinstance(given, str | re.Pattern | Pattern) else given:
            if isinstance(one, Pattern):
                self._patterns.append(re.compile(one.regex))
            elif isinstance(one, re.Pattern):
                self._patterns.append(one)
            elif isinstance(one, str) and one and all(one.split(".")):
                self._paths.append(tuple(one.split(".")))
            else:
                raise ConfigError(
                    "ignore is a list of key paths, as 'params.seed', and of patterns, as "
                    f"re.compile('[0-9]+'); {one!r} is neither."
                )

    def __bool__(self) -> bool:
        return bool(self._paths or self._patterns)

    def without(self, value: object, *path: str) -> object:
        """Replace the ignored parts of a JSON value by a mark.

        Args:
            value: The JSON value; it is not changed.
            *path: The keys that lead to the value in a request, such as "messages", "0".

        Returns:
            The value with `MARK` in place of each ignored part.
        """
        if not self:
            return value
        paths = [one for one in self._paths if _begins(one, path)]
        return self._without(value, paths, len(path))

    def _without(self, value: object, paths: Sequence[tuple[str, ...]], depth: int) -> object:
        if any(len(path) <= depth for path in paths):
            return MARK
        if isinstance(value, str):
            for pattern in self._patterns:
                value = pattern.sub(MARK, value)
            return value
        if isinstance(value, dict):
            return {
                key: self._without(item, _below(paths, depth, str(key)), depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self._without(item, _below(paths, depth, str(number)), depth + 1)
                for number, item in enumerate(value)
            ]
        return value


def _begins(wanted: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return all(one in ("*", key) for one, key in zip(wanted, path, strict=False))


def _below(paths: Sequence[tuple[str, ...]], depth: int, key: str) -> list[tuple[str, ...]]:
    return [path for path in paths if path[depth] in ("*", key)]
