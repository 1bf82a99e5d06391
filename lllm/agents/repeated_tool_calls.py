"""Runs a tool call only once: a repeated call is answered with the result of the first one.

A call is repeated if the model asked for the same tool with the same arguments before, within one
`respond()`. `@tool(repeat=True)` runs a tool each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from lllm.events import codec

CallKey = tuple[str, bytes]  # the name of a tool, and its arguments as JSON
T = TypeVar("T")
_SAME = "This call was made before, with this result, and is not made again: {}"


class EarlierResult(NamedTuple):
    """The result of an earlier call.

    Attributes:
        tool: The number of that call within the session.
        text: Its result, as the model got it.
    """

    tool: int
    text: str

    @property
    def message(self) -> str:
        """The text that answers the repeated call."""
        return _SAME.format(self.text)


class EarlierResults:
    """The results of the tool calls within one `respond()`."""

    def __init__(self) -> None:
        self._of: dict[CallKey, EarlierResult] = {}

    def keep(self, key: CallKey | None, tool: int, text: str) -> None:
        """Keep the result of a call.

        Args:
            key: The key of the call; None if a repeated call shall run again.
            tool: The number of the call within the session.
            text: Its result, as the model got it.
        """
        if key is not None:
            self._of[key] = EarlierResult(tool, text)

    def find(self, key: CallKey | None) -> EarlierResult | None:
        """Find the result of an earlier call.

        Args:
            key: The key of the call that is asked for now; None if it shall run.

        Returns:
            The result; None if the call has to run.
        """
        return None if key is None else self._of.get(key)


def call_key(name: str, arguments: object) -> CallKey:
    """Make the key that a call shares with its repetitions.

    Args:
        name: The name of the tool.
        arguments: The arguments in their recorded form.
    """
    return name, codec.encode(arguments)


def first_of_each(
    calls: Sequence[T], key: Callable[[T], CallKey | None]
) -> tuple[list[T], list[T]]:
    """Split calls that could run at the same time into those that run, and their repetitions.

    Args:
        calls: The calls, in order.
        key: A function that returns the key of a call; calls without a key always run.

    Returns:
        The first call with each key, and the repetitions, which wait for its result.
    """
    first: list[T] = []
    repeated: list[T] = []
    keys = set[CallKey]()
    for call in calls:
        own = key(call)
        if own in keys:
            repeated.append(call)
            continue
        first.append(call)
        if own is not None:
            keys.add(own)
    return first, repeated
