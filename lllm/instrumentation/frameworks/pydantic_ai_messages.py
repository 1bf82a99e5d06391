"""Translates the messages of Pydantic AI to the bodies of Chat Completions, which lllm reads.

https://ai.pydantic.dev/api/messages/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from lllm.events.model import Content, Usage
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.request_bodies import CHAT, CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.pricing.provider_hosts import biller_at

_TOLD = ("tool-return", "retry-prompt")  # the parts that answer a tool call
# Pydantic AI's names of finish reasons, where Chat Completions have another one.
_FINISH = {"tool_call": "tool_calls"}


def request_of(context: object, instructions: str | None) -> CapturedRequest:
    """Read a request.

    Args:
        context: Pydantic AI's ModelRequestContext.
        instructions: The instructions of the agent; None for none.

    Returns:
        The request in lllm's terms.
    """
    given = getattr(context, "messages", ())
    messages: list[dict[str, object]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for one in given:
        messages += _sent(one) if getattr(one, "kind", None) == "request" else [_said(one)]
    params = getattr(context, "model_request_parameters", None)
    tools = [
        *(getattr(params, "function_tools", None) or ()),
        *(getattr(params, "output_tools", None) or ()),
    ]
    settings = mapping(getattr(context, "model_settings", None))
    body = {key: value for key, value in settings.items() if key not in _OF_CLIENT}
    body |= {
        "model": str(getattr(getattr(context, "model", None), "model_name", "")),
        "messages": messages,
        "stream": getattr(context, "streaming", False) is True,
    }
    if tools:
        body["tools"] = [_tool(one) for one in tools]
    return CHAT.read(body)


_OF_CLIENT = ("timeout", "extra_headers", "extra_body")  # may hold secrets; not sent as such


def instructions_of(context: object) -> str | None:
    """Read the instructions of a request, which are the latest message's.

    Args:
        context: Pydantic AI's ModelRequestContext.

    Returns:
        The instructions; None if there are none.
    """
    for one in reversed(getattr(context, "messages", ())):
        if getattr(one, "kind", None) == "request":
            found = getattr(one, "instructions", None)
            return found if isinstance(found, str) and found else None
    return None


def _tool(tool: object) -> dict[str, object]:
    function = {
        "name": getattr(tool, "name", ""),
        "description": getattr(tool, "description", None),
        "parameters": getattr(tool, "parameters_json_schema", {}),
        "strict": getattr(tool, "strict", None),
    }
    return {"type": "function", "function": function}


def _sent(message: object) -> list[dict[str, object]]:
    """Read the parts of a request, each of which is a message."""
    return [found for part in getattr(message, "parts", ()) if (found := _sent_part(part))]


def _sent_part(part: object) -> dict[str, object] | None:
    kind, content = getattr(part, "part_kind", None), getattr(part, "content", None)
    if kind == "system-prompt":
        return {"role": "system", "content": content}
    if kind in _TOLD and getattr(part, "tool_name", None) is not None:
        call_id = getattr(part, "tool_call_id", "")
        return {"role": "tool", "content": told_text(part), "tool_call_id": call_id}
    if kind in ("retry-prompt", "retry-feedback"):
        return {"role": "user", "content": told_text(part)}
    if kind != "user-prompt":
        return None  # Pydantic AI's own notes, which are not sent as messages
    if isinstance(content, str):
        return {"role": "user", "content": content}
    pieces: list[object] = []
    for one in content if isinstance(content, Sequence) else ():
        text = one if isinstance(one, str) else getattr(one, "content", None)
        if isinstance(text, str):
            pieces.append({"type": "text", "text": text})
        else:
            data = mapping(to_plain(one))
            pieces.append({**data, "type": str(getattr(one, "kind", "other"))})
    return {"role": "user", "content": pieces}


def told_text(part: object) -> str:
    """Read the text that a model gets of a part that answers a tool call, or asks to try again."""
    for name in ("model_response_str", "model_response"):
        read = getattr(part, name, None)
        if callable(read):
            return str(read())
    return str(getattr(part, "content", ""))


def _said(message: object) -> dict[str, object]:
    """Read an answer as a message of Chat Completions."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[object] = []
    for part in getattr(message, "parts", ()):
        kind, content = getattr(part, "part_kind", None), getattr(part, "content", None)
        if kind == "text":
            texts.append(str(content))
        elif kind == "thinking" and content:
            thoughts.append(str(content))
        elif kind == "tool-call":
            calls.append(_call(part))
    body: dict[str, object] = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        body["reasoning"] = "\n".join(thoughts)
    if calls:
        body["tool_calls"] = calls
    return body


def _call(part: object) -> dict[str, object]:
    arguments = getattr(part, "args", None)
    text = arguments if isinstance(arguments, str) else json.dumps(to_plain(arguments or {}))
    return {
        "id": getattr(part, "tool_call_id", ""),
        "type": "function",
        "function": {"name": getattr(part, "tool_name", ""), "arguments": text},
    }


def answer_of(response: object, model: str) -> Answer:
    """Read a model's answer.

    Args:
        response: Pydantic AI's ModelResponse.
        model: The requested model, used if the answer names none.

    Returns:
        The answer in lllm's terms.
    """
    reason = getattr(response, "finish_reason", None)
    details = mapping(getattr(response, "provider_details", None))
    message = _said(response)
    body = {
        "id": getattr(response, "provider_response_id", None),
        "model": getattr(response, "model_name", None) or model,
        "choices": [{"message": message, "finish_reason": _FINISH.get(str(reason), reason)}],
        "service_tier": details.get("service_tier"),
        "system_fingerprint": details.get("system_fingerprint"),
    }
    found = chat_completions.answer(body, model=model, request_id=None)
    raw = details.get("finish_reason", reason)
    return msgspec.structs.replace(
        found,
        finish_raw=None if raw is None else str(raw),
        usage=_usage(getattr(response, "usage", None)),
        usage_raw=None,  # Pydantic AI keeps no usage as the provider sent it
    )


def _usage(counts: object) -> Usage | None:
    """Read Pydantic AI's usage; None if it is 0, as it is for an answer without usage."""

    def count(name: str) -> int:
        found = getattr(counts, name, None)
        return found if isinstance(found, int) else 0

    if not count("input_tokens") and not count("output_tokens"):
        return None
    hour = count("cache_write_1h_tokens")
    return Usage(
        input=count("input_tokens"),
        output=count("output_tokens"),
        cache_read=count("cache_read_tokens"),
        cache_write_5m=max(count("cache_write_tokens") - hour, 0),
        cache_write_1h=hour,
        reasoning=count("output_reasoning_tokens") or _detail(counts, "reasoning_tokens"),
        audio_in=count("input_audio_tokens"),
        audio_out=count("output_audio_tokens"),
    )


def _detail(counts: object, name: str) -> int:
    found = mapping(getattr(counts, "details", None)).get(name)
    return found if isinstance(found, int) else 0


def biller_of(model: object, provider: str | None) -> Biller:
    """Find who bills a model.

    Args:
        model: Pydantic AI's model.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the model names one.
    """
    url = getattr(model, "base_url", None)
    if not isinstance(url, str) or not url.startswith("http"):
        return Biller(provider or str(getattr(model, "system", "")).partition("-")[0])
    host, port = host_and_port(url)
    return Biller(provider or biller_at(url, host, port), host, port)


def tool_message(name: str, call_id: str, value: object, made_by: type[object]) -> Content:
    """Make the message that a model gets from a tool.

    Args:
        name: The tool's name.
        call_id: The id of the call.
        value: What the tool returned.
        made_by: Pydantic AI's ToolReturnPart, which knows how a value is sent.

    Returns:
        The message.
    """
    returned = getattr(value, "return_value", value)  # a ToolReturn has more than the value
    make = made_by(tool_name=name, content=returned, tool_call_id=call_id)  # type: ignore[call-arg]
    return Content("tool", Content.of("tool", told_text(make)).parts, call_id=call_id)


def task_of(prompt: object) -> object:
    """Read the prompt of a run as the task of its session: its texts."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    return [one for one in items(prompt) if isinstance(one, str)] or None


def arguments_of(given: object) -> object:
    """Read the validated arguments of a tool, as plain values."""
    return dict(given) if isinstance(given, Mapping) else given
