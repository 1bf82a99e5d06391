"""Translates the events of CrewAI to the bodies of Chat Completions, which lllm reads.

https://docs.crewai.com/en/concepts/event-listener
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from lllm.events.model import Content, Usage
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.request_bodies import CHAT, CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.invokers.litellm.invoker import provider_of
from lllm.pricing.provider_hosts import biller_at

# The options of a call that its event has.
_OPTIONS = (
    "temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "n",
)  # fmt: skip
_OWN = ("cache_breakpoint",)  # marks of CrewAI's in messages, which it does not send
_URLS = ("base_url", "api_base")
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "STOP": "stop", "completed": "stop",
    "tool_use": "tool_calls", "max_tokens": "length", "MAX_TOKENS": "length",
}  # fmt: skip


def request_of(event: object) -> CapturedRequest:
    """Read a request.

    Args:
        event: CrewAI's LLMCallStartedEvent.

    Returns:
        The request in lllm's terms.
    """
    body: dict[str, object] = {
        name: value for name in _OPTIONS if (value := getattr(event, name, None)) is not None
    }
    if stops := getattr(event, "stop_sequences", None):
        body["stop"] = stops
    if tools := getattr(event, "tools", None):
        body["tools"] = _unquoted(to_plain(tools))
    given = getattr(event, "messages", None)
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else items(given)
    body |= {
        "model": str(getattr(event, "model", "") or ""),
        "messages": [_sent(one) for one in messages],
        "stream": getattr(event, "stream", None) is True,
    }
    return CHAT.read(body)


def _sent(message: object) -> dict[str, object]:
    """Read a message as CrewAI sends it."""
    found = {key: value for key, value in mapping(message).items() if key not in _OWN}
    if found.get("role") == "tool":
        found.pop("name", None)
    if found.get("tool_calls"):
        found["tool_calls"] = _unquoted(to_plain(found["tool_calls"]))
    return found


def _unquoted(value: object) -> object:
    """Undo what CrewAI does to values deep inside of an event, which become texts of `repr`."""
    if isinstance(value, dict):
        return {key: _unquoted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unquoted(one) for one in value]
    if isinstance(value, str) and value[:1] in _QUOTES and value[-1:] in _QUOTES:
        with suppress(ValueError, SyntaxError):  # a text that only looks like one
            return to_plain(ast.literal_eval(value))
    return value


_QUOTES = ("'", '"', "{", "}", "[", "]")


def biller_of(model: object, provider: str | None) -> Biller:
    """Find who bills a language model.

    Args:
        model: CrewAI's LLM.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the model names one.
    """
    url = next((one for name in _URLS if (one := getattr(model, name, None))), None)
    if not isinstance(url, str) or not url.startswith("http"):
        named = f"{getattr(model, 'provider', '') or ''}/{getattr(model, 'model', '')}"
        return Biller(provider or provider_of(named))
    host, port = host_and_port(url)
    return Biller(provider or biller_at(url, host, port), host, port)


def answer_of(event: object, model: str, first_token: int | None) -> Answer:
    """Read a model's answer.

    Args:
        event: CrewAI's LLMCallCompletedEvent.
        model: The requested model; CrewAI does not tell which one answered.
        first_token: Nanoseconds from the request to the first token of a stream.

    Returns:
        The answer in lllm's terms.
    """
    response = getattr(event, "response", None)
    calls = _calls(response)
    message: dict[str, object] = {"role": "assistant", "content": None}
    if calls:
        message["tool_calls"] = calls
    else:
        message["content"] = response if isinstance(response, str) else _text(response)
    reason = getattr(event, "finish_reason", None)
    body = {
        "id": getattr(event, "response_id", None),
        "choices": [{"message": message, "finish_reason": _FINISH.get(str(reason), reason)}],
    }
    found = chat_completions.answer(body, model=model, request_id=None)
    counts = mapping(getattr(event, "usage", None))
    return msgspec.structs.replace(
        found,
        finish_raw=None if reason is None else str(reason),
        usage=_usage(counts),
        usage_raw=None,  # CrewAI keeps no usage as the provider sent it
        first_token=first_token,
    )


def _text(response: object) -> str:
    dump = getattr(response, "model_dump_json", None)  # an answer in the form of a class
    return str(dump()) if callable(dump) else str(response)


def _calls(response: object) -> list[object]:
    """Read the tool calls of an answer: dictionaries or objects of an SDK."""
    found: list[object] = []
    for one in response if isinstance(response, list) else ():
        dump = getattr(one, "model_dump", None)
        call = mapping(dump() if callable(dump) else one)
        function = mapping(call.get("function"))
        name = function.get("name") or call.get("name")
        if not name:
            continue
        arguments = function.get("arguments", call.get("input", call.get("arguments")))
        found.append(
            {
                "id": call.get("id") or call.get("call_id") or "",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return found


def _usage(counts: Mapping[str, object]) -> Usage | None:
    """Read CrewAI's usage; None if it is 0, as it is for an answer without usage."""
    sent = _count(counts, "prompt_tokens") or _count(counts, "input_tokens")
    answered = _count(counts, "completion_tokens") or _count(counts, "output_tokens")
    if not sent and not answered:
        return None
    return Usage(
        input=sent,
        output=answered,
        cache_read=_count(counts, "cached_prompt_tokens"),
        cache_write_5m=_count(counts, "cache_creation_tokens"),
        reasoning=_count(counts, "reasoning_tokens"),
    )


def _count(counts: Mapping[str, object], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0


def tool_message(output: object, call_id: str) -> Content:
    """Make the message that a model gets from a tool."""
    return Content("tool", Content.of("tool", str(output)).parts, call_id=call_id)


def delivery_of(output: object) -> object:
    """Read what a crew, a task or an agent returns: its fields if it has some, else its text."""
    structured = getattr(output, "pydantic", None) or getattr(output, "json_dict", None)
    if structured is not None:
        dump = getattr(structured, "model_dump", None)
        return dump() if callable(dump) else structured
    raw = getattr(output, "raw", None)
    return raw if isinstance(raw, str) else output
