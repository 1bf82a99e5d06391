"""The Chat Completions dialect: writes a Request as JSON, and reads JSON as an Answer.

Many providers use it with variations, so any optional field may be missing, null or of another
type, and only an answer without a message is refused. Nothing here uses the network. The fields are
those of https://platform.openai.com/docs/api-reference/chat/object; the page of another provider is
given where it differs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lllm.events.model import Content, Part, ToolCall, ToolDefinition
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.answers import answer_without, build_answer, use_of
from lllm.invokers.dialects.dialect import (
    data_of,
    more_of,
    not_carried,
    refuse_params,
    schema_name,
)
from lllm.invokers.dialects.provider_json import arguments_text, items, mapping, text
from lllm.pricing.usage import of_chat

if TYPE_CHECKING:
    from collections.abc import Mapping

_FINISH: dict[object, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",  # the older name
    "content_filter": "content_filter",
}
THOUGHTS = ("reasoning_content", "reasoning")  # the names of DeepSeek and vLLM, and of OpenRouter
_OF_MESSAGE = (
    "role", "content", "refusal", "tool_calls", "function_call", "audio", *THOUGHTS,
)  # fmt: skip
_OF_CHOICE = ("index", "message", "finish_reason")
_OF_ANSWER = (
    "id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint",
    "error", "x_groq",
)  # fmt: skip
# Params that a Request has its own fields for, or that would give more than one message.
_NOT_PARAMS = ("model", "messages", "tools", "stream", "n")


def payload(request: Request, *, stream: bool = False) -> dict[str, object]:
    """Make the body of the HTTP request.

    Params are passed on unchanged, and win over `output_schema`. A streamed request asks for its
    usage, unless params have `stream_options`; the value None omits that field, for servers that
    refuse it.

    Args:
        request: The request to send.
        stream: True to request a streamed answer.

    Returns:
        The body, ready to be encoded as JSON.

    Raises:
        ConfigError: A param belongs to a field of the Request, or is not supported.
        InvokeError: A part of a message has no form in this dialect.
    """
    refuse_params(request, *_NOT_PARAMS)
    body: dict[str, object] = {
        "model": request.model,
        "messages": [_message(content) for content in request.messages],
    }
    if request.output_schema is not None:
        form = {"name": schema_name(request.output_schema), "schema": request.output_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    body.update(request.params)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
    if stream:
        body["stream"] = True
        body.setdefault("stream_options", {"include_usage": True})
    if not stream or body["stream_options"] is None:
        body.pop("stream_options", None)  # refused by servers if the answer is not streamed
    return body


def _tool(tool: ToolDefinition) -> dict[str, object]:
    function: dict[str, object] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
    }
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _message(content: Content) -> dict[str, object]:
    if content.role == "assistant":
        return _assistant(content)
    message: dict[str, object] = {"role": content.role}
    if content.call_id is not None:
        message["tool_call_id"] = content.call_id
    if all(part.kind == "text" for part in content.parts):
        message["content"] = content.text
    else:
        message["content"] = [_part(part) for part in content.parts]
    return message


def _assistant(content: Content) -> dict[str, object]:
    # Reasoning is left out, because the dialect has no field to send it back.
    message: dict[str, object] = {"role": "assistant", "content": content.text or None}
    refusals = [part.text or "" for part in content.parts if part.kind == "refusal"]
    if refusals:
        message["refusal"] = "".join(refusals)
    for part in content.parts:
        if part.kind == "audio" and isinstance(part.data, dict) and "id" in part.data:
            message["audio"] = {"id": part.data["id"]}
    if content.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in content.tool_calls
        ]
    elif message["content"] is None and not refusals and "audio" not in message:
        message["content"] = ""  # null is only allowed if the message has something else
    return message


def _part(part: Part) -> dict[str, object]:
    if part.kind == "text":
        return {"type": "text", "text": part.text or ""}
    if isinstance(part.data, dict):
        return part.data  # already in the provider's form
    data = data_of(part)
    if isinstance(data, str) and part.kind == "image":
        is_url = data.startswith(("http://", "https://", "data:"))
        url = data if is_url else f"data:{part.mime or 'image/png'};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(data, str) and part.kind == "audio":
        kind = (part.mime or "audio/wav").partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
    raise not_carried(part, "Chat Completions")


def answer(body: object, *, model: str, request_id: str | None) -> Answer:
    """Read an Answer from a provider's JSON.

    Args:
        body: The provider's answer, decoded from JSON.
        model: The requested model, used if the answer names none.
        request_id: The provider's id of the request; None if it sent none.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The body has no message; a retry may help. The error has the usage, because it
            is billed.
    """
    whole = mapping(body)
    use = use_of(whole, of_chat)
    choices = [mapping(one) for one in items(whole.get("choices"))]
    choice = choices[0] if choices else {}
    message = mapping(choice.get("message"))
    if not message:
        raise answer_without("message", use, request_id)
    parts = (
        *_parts(message),
        *more_of(choice, _OF_CHOICE),
        *(_other_choice(other) for other in choices[1:]),
        *more_of(whole, _OF_ANSWER),
    )
    finish_raw = text(choice.get("finish_reason"))
    return build_answer(
        whole,
        Content("assistant", parts, _tool_calls(message)),
        use,
        finish=_FINISH.get(finish_raw, "other"),
        finish_raw=finish_raw,
        model=model,
        request_id=request_id,
        fingerprint=text(whole.get("system_fingerprint")),
    )


def _parts(message: Mapping[str, object]) -> tuple[Part, ...]:
    parts = []
    content = message.get("content")
    thoughts = (text(message.get(name)) for name in THOUGHTS)
    thought = next(filter(None, thoughts), None) or thought_of(content)
    if thought:
        parts.append(Part("reasoning", thought))
    if words := text_of(content):
        parts.append(Part("text", words))
    refusal = text(message.get("refusal"))
    if refusal:
        parts.append(Part("refusal", refusal))
    audio = mapping(message.get("audio"))
    if audio:
        parts.append(Part("audio", text(audio.get("transcript")), data=dict(audio)))
    parts += [Part(text(one.get("type")) or "other", data=one) for one in others_of(content)]
    return (*parts, *more_of(message, _OF_MESSAGE))


def _other_choice(choice: Mapping[str, object]) -> Part:
    """Keep a further choice as a part, because an agent uses only the first one."""
    return Part("choice", text_of(mapping(choice.get("message")).get("content")) or None, choice)


def text_of(content: object) -> str:
    """Read the text of a message's `content`.

    Mistral sends a list of pieces if the message has citations or reasoning
    (https://docs.mistral.ai/capabilities/reasoning).

    Args:
        content: A text, or a list of pieces.

    Returns:
        The text; "" for none.
    """
    pieces = content if isinstance(content, list) else [{"text": content}]
    return "".join(text(mapping(piece).get("text")) or "" for piece in pieces)


def thought_of(content: object) -> str:
    """Read the reasoning from a message's `content`, which some Mistral models put there.

    Args:
        content: A text, or a list of pieces; see `text_of`.

    Returns:
        The reasoning; "" for none.
    """
    return "".join(text_of(mapping(piece).get("thinking")) for piece in items(content))


def others_of(content: object) -> list[dict[str, object]]:
    """List the pieces of a message's `content` that are neither text nor reasoning.

    Args:
        content: A text, or a list of pieces; see `text_of`.

    Returns:
        The pieces, unchanged.
    """
    return [
        piece
        for piece in items(content)
        if isinstance(piece, dict) and more_of(piece, ("type", "text", "thinking"))
    ]


def _tool_calls(message: Mapping[str, object]) -> tuple[ToolCall, ...]:
    found = []
    for number, call in enumerate(items(message.get("tool_calls")), 1):
        asked = mapping(call)
        function = mapping(asked.get("function")) or mapping(asked.get("custom"))
        arguments = arguments_text(function.get("arguments", function.get("input")))
        name = text(function.get("name")) or ""
        found.append(ToolCall(text(asked.get("id")) or f"call_{number}", name, arguments))
    if older := mapping(message.get("function_call")):
        name, given = text(older.get("name")) or "", older.get("arguments")
        # It has no id: its result is identified by the name.
        found.append(ToolCall(name, name, given if isinstance(given, str) else json.dumps(given)))
    return tuple(found)
