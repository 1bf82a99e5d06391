"""Asks the live model what a recording has, and compares the shapes of both answers.

The recorded answer is the one that the code goes on with, so that every request is the recorded
one, and each answer is checked by itself.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TypeAlias, TypeVar

import msgspec

from lllm.agents.effects import Effect, Invoke, Steps, carried_out
from lllm.events.errors import ConfigError
from lllm.events.model import Content
from lllm.invokers import Answer
from lllm.replay.divergence import ReplayPlace
from lllm.replay.recorded_session import RecordedSession

T = TypeVar("T")
Shape: TypeAlias = "str | dict[str, Shape] | list[Shape]"


class _AskLive(msgspec.Struct, frozen=True):
    """Calls the model, whatever answers the code."""

    invoke: Invoke

    def run(self) -> object:
        """See Effect."""
        try:
            return self.invoke.run()
        except Exception as error:  # it is told, and the recorded answer goes on
            return error

    async def arun(self) -> object:
        """See Effect."""
        try:
            return await self.invoke.arun()
        except Exception as error:
            return error


class VerifiedShapes:
    """Compares the shapes of live answers with recorded ones.

    Args:
        recording: What is verified.

    Attributes:
        differences: Where a shape is another one, and which, in words.

    Raises:
        ConfigError: It has calls of captured clients, which can't be verified.
    """

    def __init__(self, recording: RecordedSession) -> None:
        if any(session.captured for session in recording.family()):
            raise ConfigError(
                f"Session {recording.session_id} can't be verified: it has calls of captured "
                "clients, whose live answers are not compared. Record it anew instead."
            )
        self.differences: list[str] = []

    def verified(self, steps: Steps[T], place: ReplayPlace) -> Steps[T]:
        """Ask the live model what is answered from the log.

        Args:
            steps: What an agent call does.
            place: Where it stands.

        Returns:
            The same steps; behind each answered call of the model comes a live one.
        """
        return carried_out(steps, partial(self._ask_both, place))

    def _ask_both(self, place: ReplayPlace, effect: Effect) -> Steps[object]:
        result = yield effect
        if isinstance(effect, Invoke) and isinstance(result, Answer):
            live = yield _AskLive(msgspec.structs.replace(effect, on_text=None))
            self._compare(result.content, live, effect, place)
        return result

    def _compare(self, recorded: Content, live: object, effect: Invoke, place: ReplayPlace) -> None:
        where = msgspec.structs.replace(place, step=effect.step, attempt=effect.attempt)
        if not isinstance(live, Answer):
            self.differences.append(f"At {where}: {type(live).__name__}: {live}")
            return
        then, now = shape_of(recorded), shape_of(live.content)
        if not alike(then, now):
            self.differences.append(
                f"At {where}, the answer's shape differs.\n- recorded: {_shape_text(then)}\n"
                f"+ live:     {_shape_text(now)}"
            )


def shape_of(content: Content) -> Shape:
    """The shape of an answer: tools with the types of their arguments, and what its text is.

    Args:
        content: The answer.

    Returns:
        Names of types, in the structure of the answer. Text that is a JSON object or array has the
        shape of that.
    """
    tools: list[Shape] = [
        {"tool": call.name, "arguments": _of_text(call.arguments)} for call in content.tool_calls
    ]
    return {"text": _of_text(content.text), "tools": _each(tools)}


def _of_text(text: str) -> Shape:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict | list):
        return _of_value(value)
    return "text" if text.strip() else "nothing"


def _of_value(value: object) -> Shape:
    if isinstance(value, dict):
        return {str(key): _of_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_of_value(item) for item in value]
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    return "number" if isinstance(value, int | float) else "string"


def _each(shapes: list[Shape]) -> Shape:
    """A list whose items have places of their own."""
    return {str(number): shape for number, shape in enumerate(shapes, 1)}


def alike(recorded: Shape, live: Shape) -> bool:
    """Compare shapes; lists are alike if each live item is like a recorded one, or one is empty.

    Args:
        recorded: The shape that is wanted.
        live: The other one.
    """
    if isinstance(recorded, dict) and isinstance(live, dict):
        return recorded.keys() == live.keys() and all(
            alike(shape, live[key]) for key, shape in recorded.items()
        )
    if isinstance(recorded, list) and isinstance(live, list):
        if not recorded or not live:
            return True
        return all(any(alike(shape, item) for shape in recorded) for item in live)
    return recorded == live


def _shape_text(shape: Shape) -> str:
    return json.dumps(shape, ensure_ascii=False)
