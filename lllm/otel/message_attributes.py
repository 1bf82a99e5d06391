"""Writes messages as the attributes of a span, only where the user asked for them.

Each attribute is JSON in the form of the GenAI conventions, and at most as long as the user allows.
A text that is too long is cut, and the oldest messages are left out; both say so in their place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from lllm.events.model import AgentDefined, Content, Part, ToolCall
from lllm.otel.attributes import cut, json_text

_Json = dict[str, object]


def input_messages(messages: Sequence[Content], most: int) -> str:
    """Write the messages that were sent to a model.

    Args:
        messages: The messages, oldest first.
        most: The greatest number of bytes.

    Returns:
        A JSON array. If the messages are too long, the first one says how many older ones are left
        out.
    """
    kept: list[str] = []
    room = most
    for number, message in enumerate(reversed(messages)):
        text = json_text(_message(message, most))
        room -= len(text.encode()) + 1
        if room < 0 and kept:
            left = len(messages) - number
            note = (
                f"[lllm: {left:,} earlier {'message is' if left == 1 else 'messages are'} left out]"
            )
            kept.append(json_text(_text_message("system", note)))
            break
        kept.append(text)
    return f"[{','.join(reversed(kept))}]"


def output_messages(message: Content, finish: str | None, most: int) -> str:
    """Write the answer of a model.

    Args:
        message: The answer.
        finish: Why the model stopped; None if that is unknown.
        most: The greatest number of bytes.

    Returns:
        A JSON array with one message.
    """
    written = _message(message, most)
    if finish is not None:
        written["finish_reason"] = finish
    return json_text([written])


def definition_attributes(definition: AgentDefined, most: int) -> dict[str, str | None]:
    """Write the system prompt and the tools of an agent.

    Args:
        definition: The definition of the agent.
        most: The greatest number of bytes of each.

    Returns:
        The attributes.
    """
    system = [{"type": "text", "content": cut(definition.system, most)}]
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.schema,
        }
        for tool in definition.tools
    ]
    return {
        "gen_ai.system_instructions": json_text(system) if definition.system else None,
        "gen_ai.tool.definitions": _whole_or_names(tools, most) if tools else None,
    }


def value_text(value: object, most: int) -> str:
    """Write arguments or a result of a tool: a text as it is, other values as JSON."""
    return cut(value if isinstance(value, str) else json_text(value), most)


def _whole_or_names(tools: list[_Json], most: int) -> str:
    """Write tools; if that is too long, without what is longest, so that the JSON stays valid."""
    text = json_text(tools)
    if len(text.encode()) <= most:
        return text
    note = f"[lllm: descriptions and parameters with {len(text.encode()):,} bytes are left out]"
    return json_text(
        [{"type": "function", "name": tool["name"], "description": note} for tool in tools]
    )


def _text_message(role: str, text: str) -> _Json:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _message(message: Content, most: int) -> _Json:
    """Make the JSON of a message; all its texts together have at most `most` bytes."""
    parts: list[_Json] = []
    room = most
    for part in message.parts:
        written = _part(part, message, max(room, 0))
        room -= len(json_text(written).encode())
        parts.append(written)
    parts += [_tool_call(call, max(room, 0)) for call in message.tool_calls]
    return {"role": message.role, "parts": parts}


def _part(part: Part, message: Content, most: int) -> _Json:
    text = None if part.text is None else cut(part.text, most)
    if message.role == "tool":
        response = text if text is not None else f"[lllm: {part.kind} is not sent]"
        return {"type": "tool_call_response", "id": message.call_id, "response": response}
    if part.kind in ("text", "reasoning", "refusal") and text is not None:
        return {"type": "reasoning" if part.kind == "reasoning" else "text", "content": text}
    found: _Json = {"type": "file" if part.blob else part.kind, "modality": part.kind}
    if part.mime is not None:
        found["mime_type"] = part.mime
    if part.blob is not None:
        found["file_id"] = part.blob
    if text is not None:
        found["content"] = text
    elif part.data is not None:
        found["content"] = "[lllm: the content is in the log and not sent]"
    return found


def _tool_call(call: ToolCall, most: int) -> _Json:
    arguments: object = cut(call.arguments, most)
    if arguments == call.arguments:
        with suppress(ValueError, RecursionError):  # otherwise it is sent as the model wrote it
            arguments = json.loads(call.arguments)
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}
