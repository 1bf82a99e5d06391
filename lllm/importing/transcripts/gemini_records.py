"""Reads the messages in the recordings of Gemini CLI.

The types are in its source:
https://github.com/google-gemini/gemini-cli/blob/main/packages/core/src/services/chatRecordingTypes.ts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from lllm.events.model import Content, Part, ToolCall
from lllm.importing.transcripts.transcript_json import number_in, time_of
from lllm.instrumentation.generate_content_bodies import FORM
from lllm.invokers import Answer
from lllm.invokers.dialects import generate_content
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text

NAME = "gemini-cli"
# What Gemini CLI writes as messages of the user, beside what the user asks.
OWN_TEXTS = ("<session_context>", "<hook_context>", "<state_snapshot>", "/", "?")
_DONE = ("success", "error", "cancelled")
_TOKENS = {
    "promptTokenCount": "input", "candidatesTokenCount": "output",
    "cachedContentTokenCount": "cached", "thoughtsTokenCount": "thoughts",
    "toolUsePromptTokenCount": "tool", "totalTokenCount": "total",
}  # fmt: skip


class GeminiMessage(NamedTuple):
    """One message of a recording.

    Attributes:
        time: Its time, nanoseconds UTC.
        id: Its id, which stays when it is written again.
        kind: Its type, as "gemini".
        record: The JSON object.
    """

    time: int
    id: str
    kind: str
    record: Mapping[str, object]

    @property
    def tools(self) -> list[Mapping[str, object]]:
        """The tool calls, with their results as far as these are known."""
        return [mapping(one) for one in items(self.record.get("toolCalls"))]


def message_of(record: Mapping[str, object]) -> GeminiMessage | None:
    """Read a message; None for records of another kind, and for a wrong time."""
    time, name, kind = time_of(record.get("timestamp")), record.get("id"), record.get("type")
    if time is None or not isinstance(name, str) or not isinstance(kind, str):
        return None
    return GeminiMessage(time, name, kind, record)


def question_in(message: GeminiMessage) -> str:
    """Read what the user asked; "" if the message is something else."""
    said = said_in(message) if message.kind == "user" else ""
    return "" if said.lstrip().startswith(OWN_TEXTS) else said


def _pieces(value: object) -> list[object]:
    """Read what Google's library calls a part list: a text, a part, or a list of these."""
    several = value if isinstance(value, list) else [value]
    return [{"text": one} if isinstance(one, str) else one for one in several if one]


def contents_of(message: GeminiMessage) -> list[Content]:
    """Read what a message says; results of tools are messages of their own."""
    pieces = _pieces(message.record.get("content"))
    if message.kind == "gemini":
        return [answer_of(message, "").content]
    found = FORM.each({"role": "user", "parts": pieces})
    return [one for one in found if one.parts]


def said_in(message: GeminiMessage) -> str:
    """Read the text of a message that is not of the model."""
    return "".join(one.text for one in contents_of(message) if one.role == "user")


def is_call(message: GeminiMessage) -> bool:
    """True if a message came from the model; Gemini CLI adds others itself, without tokens."""
    return bool(message.record.get("tokens") or message.record.get("model"))


def is_of_call_before(message: GeminiMessage) -> bool:
    """True if a message has only the tools that the message before it called."""
    others = ("content", "thoughts", "tokens")
    return bool(message.tools) and not any(message.record.get(name) for name in others)


def answer_of(message: GeminiMessage, model: str) -> Answer:
    """Give a message the form of an answer of generateContent."""
    pieces = _pieces(message.record.get("content"))
    if not any("functionCall" in mapping(one) or mapping(one).get("thought") for one in pieces):
        thoughts = [_thought(mapping(one)) for one in items(message.record.get("thoughts"))]
        calls = [{"functionCall": _called(one)} for one in message.tools]
        pieces = [*thoughts, *pieces, *calls]
    body: dict[str, object] = {
        "candidates": [{"content": {"role": "model", "parts": pieces}}],
        "modelVersion": text(message.record.get("model")) or model,
    }
    tokens = mapping(message.record.get("tokens"))
    if number_in(tokens.get("input")) or number_in(tokens.get("output")):  # zeros stand for unknown
        body["usageMetadata"] = {
            name: tokens[own] for name, own in _TOKENS.items() if own in tokens
        }
    answer = generate_content.answer(body, model=model, request_id=None)
    return msgspec.structs.replace(
        answer,
        finish="tool_calls" if answer.content.tool_calls else "stop",
        response_id=f"{NAME}:{message.id}",
    )


def _thought(thought: Mapping[str, object]) -> dict[str, object]:
    subject, about = text(thought.get("subject")), text(thought.get("description")) or ""
    return {"text": f"**{subject}** {about}" if subject else about, "thought": True}


def _called(tool: Mapping[str, object]) -> dict[str, object]:
    return {name: tool.get(name) for name in ("id", "name", "args")}


def tool_call_of(tool: Mapping[str, object]) -> ToolCall:
    """Read the call of a tool."""
    return ToolCall(
        text(tool.get("id")) or "", text(tool.get("name")) or "", arguments_text(tool.get("args"))
    )


def is_over(tool: Mapping[str, object]) -> bool:
    """True if a tool has ended."""
    return bool(tool.get("result")) or tool.get("status") in _DONE


def result_of(tool: Mapping[str, object]) -> Content:
    """Read the result of a tool; it was cut at 50 KB by Gemini CLI."""
    call_id = text(tool.get("id")) or ""
    found = tool.get("result")
    if isinstance(found, str):
        return Content("tool", (Part("text", found),), call_id=call_id)
    told = FORM.each({"role": "user", "parts": _pieces(found)})
    parts = tuple(part for one in told for part in one.parts)
    if not parts and (shown := text(tool.get("resultDisplay"))):
        parts = (Part("text", shown),)
    return Content("tool", parts, call_id=call_id)
