"""Reads the messages of opencode and their parts.

A message of the assistant has one or more steps, each a call of the model, between parts
`step-start` and `step-finish`; the latter says what the step used. The types are in the source:
https://github.com/anomalyco/opencode/blob/dev/packages/opencode/src/session/message-v2.ts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lllm.events.model import Content, Error, Part, ToolCall, Usage
from lllm.importing.otlp.provider_names import provider_name
from lllm.importing.transcripts.session_events import CallSite
from lllm.importing.transcripts.transcript_json import number_in
from lllm.invokers import Answer
from lllm.invokers.dialects.provider_json import arguments_text, mapping, text

NAME = "opencode"
_APIS = {"anthropic": "messages", "openai": "responses", "google": "generate_content"}
_LAST_TIME = 9_000_000_000_000  # milliseconds since 1970, in the year 2255
_DEFAULT_TITLES = ("New session - ", "Child session - ")


class OpencodeFacts(NamedTuple):
    """What opencode knows of a session.

    Attributes:
        id: Its id.
        parent: The id of the session whose tool began it; "" for none.
        folder: The folder that it works in; None if unknown.
        title: Its title; None if it has none yet.
        version: The version of opencode.
        updated: When it was last changed, nanoseconds UTC.
    """

    id: str
    parent: str
    folder: str | None
    title: str | None
    version: str
    updated: int


def nanos_of(milliseconds: object) -> int | None:
    """Read a time in milliseconds since 1970, as nanoseconds UTC; None for anything else."""
    if isinstance(milliseconds, float) and milliseconds.is_integer():
        milliseconds = int(milliseconds)
    if not isinstance(milliseconds, int) or not 0 < milliseconds < _LAST_TIME:
        return None
    return milliseconds * 1_000_000


def title_in(title: object) -> str | None:
    """Read a title; None for the one that a session has before it gets its own."""
    found = text(title)
    return None if not found or found.startswith(_DEFAULT_TITLES) else found


class OpencodeMessage(NamedTuple):
    """A message with its parts.

    Attributes:
        time: When it was made, nanoseconds UTC.
        id: Its id.
        info: The message.
        parts: Its parts, in order.
    """

    time: int
    id: str
    info: Mapping[str, object]
    parts: list[Mapping[str, object]]

    @property
    def is_final(self) -> bool:
        """True if opencode will not change it any more."""
        if self.info.get("role") == "user":
            return bool(self.parts)
        return self.ended is not None or bool(self.info.get("error"))

    @property
    def ended(self) -> int | None:
        """When an answer was complete, nanoseconds UTC; None if it is not."""
        return nanos_of(mapping(self.info.get("time")).get("completed"))


class OpencodeStep:
    """One call of the model within a message: the parts that it answered, and what it used."""

    def __init__(self) -> None:
        self.parts: list[Mapping[str, object]] = []
        self.used: Mapping[str, object] | None = None


def question_in(message: OpencodeMessage) -> str:
    """Read what the user wrote; "" if opencode wrote the message."""
    said = [
        text(one.get("text")) or ""
        for one in message.parts
        if one.get("type") == "text" and not one.get("synthetic") and not one.get("ignored")
    ]
    return "".join(said) if message.info.get("role") == "user" else ""


def part_of(part: Mapping[str, object]) -> Part | None:
    """Read a part of a message; None for those that the model does not see, and for tools."""
    kind = part.get("type")
    if kind in ("text", "reasoning"):
        return None if part.get("ignored") else Part(str(kind), text(part.get("text")) or "")
    if kind == "file":
        media = (text(part.get("mime")) or "").partition("/")[0]
        known = media if media in ("image", "audio", "video") else "file"
        return Part(known, data={key: part[key] for key in _FILE if part.get(key)})
    if kind in ("agent", "subtask"):
        return Part(str(kind), data={key: part[key] for key in _AGENT if part.get(key)})
    return None


_FILE = ("mime", "filename", "url")
_AGENT = ("name", "agent", "prompt", "description", "command")


def steps_of(message: OpencodeMessage) -> list[OpencodeStep]:
    """Divide the parts of an answer by the calls of the model."""
    steps: list[OpencodeStep] = []
    is_open = False
    for one in message.parts:
        kind = one.get("type")
        if kind == "step-start" or (not is_open and kind in ("text", "reasoning", "tool")):
            steps.append(OpencodeStep())
            is_open = True
        if not steps:
            continue
        if kind == "step-finish":
            steps[-1].used = {**mapping(one.get("tokens")), "cost": one.get("cost")}
            is_open = False
        elif kind in ("text", "reasoning", "tool", "file"):
            steps[-1].parts.append(one)
    steps = [one for one in steps if one.parts or one.used is not None]
    if len(steps) == 1 and steps[0].used is None:  # versions whose steps don't say it
        steps[0].used = {**mapping(message.info.get("tokens")), "cost": message.info.get("cost")}
    return steps


def end_of(step: OpencodeStep, began: int, completed: int | None) -> int:
    """Find when a call had been answered: before its tools ran, and with its last part."""
    tools, parts = [], []
    for one in step.parts:
        if one.get("type") == "tool":
            tools.append(nanos_of(mapping(mapping(one.get("state")).get("time")).get("start")))
        else:
            parts.append(nanos_of(mapping(one.get("time")).get("end")))
    known = [one for one in tools or parts if one is not None]
    found = (min if tools else max)(known) if known else completed
    return max(began, found or began)


def site_of(info: Mapping[str, object]) -> CallSite:
    """Say which API an answer came from."""
    provider = provider_name(text(info.get("providerID")) or "", None, None)
    return CallSite(provider, _APIS.get(provider, "chat.completions"))


def answer_of(
    message: OpencodeMessage, step: OpencodeStep, number: int, provider: str, model: str
) -> Answer:
    """Put together what the model answered in a step.

    Args:
        message: The message.
        step: The step.
        number: The number of the step in the message, from 1.
        provider: The provider that bills.
        model: The model.
    """
    parts = tuple(found for one in step.parts if (found := part_of(one)) is not None)
    calls = tuple(tool_call_of(one) for one in step.parts if one.get("type") == "tool")
    used = {} if step.used is None else step.used
    usage = _usage(used, provider)
    # A fork copies messages under new ids, and keeps their times and tokens.
    name = (message.time, message.ended, number, model, used.get("input"), used.get("output"))
    return Answer(
        content=Content("assistant", parts, calls),
        finish="tool_calls" if calls else "stop",
        model=model,
        response_id=f"{NAME}:" + ":".join(map(str, name)),
        usage_raw=None if usage is None else _raw(usage, used.get("cost")),
        usage=usage,
    )


def _usage(used: Mapping[str, object], provider: str) -> Usage | None:
    """Read what a call used; None if it is unknown.

    The input excludes what the cache has. The output excludes the reasoning where a total says so;
    versions that wrote no total took both from the AI SDK, in which only Google's output
    excluded it.
    """
    cache = mapping(used.get("cache"))
    read, written = number_in(cache.get("read")), number_in(cache.get("write"))
    given, output = number_in(used.get("input")), number_in(used.get("output"))
    reasoning, total = number_in(used.get("reasoning")), number_in(used.get("total"))
    everything = given + read + written
    counts = (read, written, given, output, reasoning)
    if not any(counts) or min(counts) < 0:
        return None
    beside = total >= everything + output + reasoning if total else provider == "google"
    return Usage(
        input=everything,
        output=output + (reasoning if beside else 0),
        cache_read=read,
        cache_write_5m=written,
        reasoning=reasoning,
    )


def _raw(usage: Usage, cost: object) -> dict[str, object]:
    """Write a usage in OpenAI's form, with the dollars that opencode estimated."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        "cost": cost,
    }


def tool_call_of(part: Mapping[str, object]) -> ToolCall:
    """Read the call of a tool."""
    return ToolCall(
        text(part.get("callID")) or "",
        text(part.get("tool")) or "",
        arguments_text(mapping(part.get("state")).get("input")),
    )


def error_of(failure: Mapping[str, object]) -> Error:
    """Read an error."""
    about = mapping(failure.get("data"))
    status = about.get("statusCode")
    return Error(
        text(failure.get("name")) or "UnknownError",
        text(about.get("message")) or "opencode does not say why.",
        status=status if isinstance(status, int) else None,
    )
