"""Sends recorded requests to the live model too, and compares the shapes of both answers.

The code continues with the recorded answer. So every later request is the recorded one, too, and
each live answer is checked independently of the others.
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
    """Calls the live model, although the recording has answered the code."""

    invoke: Invoke

    def run(self) -> object:
        """Call the live model, and return its answer or its error; see `Effect`."""
        try:
            return self.invoke.run()
        except Exception as error:  # it is reported; the code continues with the recorded answer
            return error

    async def arun(self) -> object:
        """Await the live model, and return its answer or its error; see `Effect`."""
        try:
            return await self.invoke.arun()
        except Exception as error:
            return error


class VerifiedShapes:
    """Compares the shapes of live answers with recorded ones.

    Args:
        recording: The recorded session to verify.

    Attributes:
        differences: One text for each live answer that failed or has another shape, with its place
            and both shapes.

    Raises:
        ConfigError: The session has calls of captured clients, which can't be verified.
    """

    def __init__(self, recording: RecordedSession) -> None:
        if any(session.captured for session in recording.family()):
            raise ConfigError(
                f"Session {recording.session_id} can't be verified: it has calls of captured "
                "clients, whose live answers are not compared. Record it anew instead."
            )
        self.differences: list[str] = []

    def verified(self, steps: Steps[T], place: ReplayPlace) -> Steps[T]:
        """Also ask the live model for each answer that comes from the log.

        Args:
            steps: The effects of the agent call: its model calls, tools and waits.
            place: The place of the agent call in the session.

        Returns:
            The same steps, with a live model call added after each answered one.
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
    """Describe the shape of an answer: its tool calls, the types of their arguments, its text.

    Args:
        content: The answer of a model.

    Returns:
        The names of types, in the structure of the answer. A text that is a JSON object or array
        is described by the shape of its JSON.
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
    """Make a shape in which the items of a list are compared one by one, by their number."""
    return {str(number): shape for number, shape in enumerate(shapes, 1)}


def alike(recorded: Shape, live: Shape) -> bool:
    """True if two shapes match; lists match if each live item matches any recorded item.

    An empty list matches every list.

    Args:
        recorded: The shape of the recorded answer.
        live: The shape of the live answer.
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
