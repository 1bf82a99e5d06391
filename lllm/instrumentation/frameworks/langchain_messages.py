"""Translates what LangChain's callbacks get to the bodies of Chat Completions, which lllm reads.

Usage is read from `usage_metadata`, whose fields LangChain documents:
https://reference.langchain.com/python/langchain_core/messages/#langchain_core.messages.ai.UsageMetadata
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from lllm.events.model import Content, Usage
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.request_bodies import CHAT, CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions
from lllm.invokers.dialects.provider_json import mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.pricing.provider_hosts import biller_at

# The names that LangChain's packages give to providers, where genai-prices has another one.
_PROVIDERS = {
    "amazon_bedrock": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "xai": "x-ai",
}
# The fields of LangChain's models that hold the base URL.
_URLS = ("openai_api_base", "anthropic_api_url", "base_url", "azure_endpoint", "endpoint_url")
# Entries of `invocation_params` that say nothing beside the others.
_KNOWN = ("model", "model_name", "model_id", "_type", "stream", "tools")
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "STOP": "stop",
    "completed": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
_FROM_CACHE = "served from LangChain's cache"


def _convert(messages: object) -> object:
    """Convert messages with LangChain's own function."""
    found = importlib.import_module("langchain_core.messages.utils")
    convert = cast("Callable[[object], object]", found.convert_to_openai_messages)
    return convert(messages)


def request_of(
    messages: Sequence[object], params: Mapping[str, object], metadata: Mapping[str, object]
) -> CapturedRequest:
    """Read a request to a chat model.

    Args:
        messages: LangChain's messages.
        params: The `invocation_params` of the callback.
        metadata: The metadata of the run, which names the model.

    Returns:
        The request in lllm's terms.
    """
    return _request(_convert(list(messages)), params, metadata)


def request_of_text(
    prompt: str, params: Mapping[str, object], metadata: Mapping[str, object]
) -> CapturedRequest:
    """Read a request to a model that continues a text; see `request_of`."""
    return _request([{"role": "user", "content": prompt}], params, metadata)


def _request(
    messages: object, params: Mapping[str, object], metadata: Mapping[str, object]
) -> CapturedRequest:
    named = (metadata.get("ls_model_name"), *(params.get(name) for name in _KNOWN[:3]))
    body = {key: value for key, value in params.items() if key not in _KNOWN and value is not None}
    body |= {
        "model": next((name for name in named if isinstance(name, str) and name), ""),
        "messages": messages,
        "stream": params.get("stream") is True,
    }
    if params.get("tools"):
        body["tools"] = params["tools"]
    return CHAT.read(body)


def biller_of(
    serialized: Mapping[str, object], metadata: Mapping[str, object], provider: str | None
) -> Biller:
    """Find who bills a model.

    Args:
        serialized: The model as LangChain describes it to its callbacks.
        metadata: The metadata of the run.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the model names one.
    """
    named = str(metadata.get("ls_provider") or "")
    known = _PROVIDERS.get(named, named)
    fields = mapping(serialized.get("kwargs"))
    url = next((one for one in map(fields.get, _URLS) if isinstance(one, str) and one), None)
    if url is None:
        return Biller(provider or known)
    host, port = host_and_port(url)
    return Biller(provider or biller_at(url, host, port), host, port)


def answer_of(generation: object, model: str, first_token: int | None) -> Answer:
    """Read a model's answer.

    Args:
        generation: LangChain's generation: a message, or a text.
        model: The requested model, used if the answer names none.
        first_token: Nanoseconds from the request to the first token of a stream.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The generation has neither a message nor a text.
    """
    message = getattr(generation, "message", None)
    facts = mapping(getattr(message, "response_metadata", None))
    facts = {**mapping(getattr(generation, "generation_info", None)), **facts}
    if message is None:
        said: object = {"role": "assistant", "content": getattr(generation, "text", None)}
    else:
        said = _convert(message)
    reason = facts.get("finish_reason", facts.get("stop_reason", facts.get("status")))
    counts = mapping(getattr(message, "usage_metadata", None))
    body = {
        "id": facts.get("id"),
        "model": facts.get("model_name") or facts.get("model") or model,
        "choices": [{"message": said, "finish_reason": _FINISH.get(str(reason), reason)}],
        "service_tier": facts.get("service_tier"),
        "system_fingerprint": facts.get("system_fingerprint"),
    }
    found = chat_completions.answer(body, model=model, request_id=None)
    from_cache = counts.get("total_cost") == 0  # LangChain sets it for an answer of its cache alone
    return msgspec.structs.replace(
        found,
        finish_raw=None if reason is None else str(reason),
        usage=_usage(counts),
        usage_raw=facts.get("token_usage") or facts.get("usage") or dict(counts) or None,
        free=_FROM_CACHE if from_cache else None,
        first_token=first_token,
    )


def _usage(counts: Mapping[str, object]) -> Usage | None:
    """Read LangChain's usage; None if there is none, or if it is 0 for an answer."""
    sent, answered = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    if not sent and not answered:
        return None
    taken = mapping(counts.get("input_token_details"))
    given = mapping(counts.get("output_token_details"))
    hour = _count(taken, "ephemeral_1h_input_tokens")
    return Usage(
        input=sent,
        output=answered,
        cache_read=_count(taken, "cache_read"),
        cache_write_5m=_count(taken, "ephemeral_5m_input_tokens") + _count(taken, "cache_creation"),
        cache_write_1h=hour,
        reasoning=_count(given, "reasoning"),
        audio_in=_count(taken, "audio"),
        audio_out=_count(given, "audio"),
    )


def _count(counts: Mapping[str, object], name: str) -> int:
    """Read a count; OpenAI's are prefixed with the service tier, as in "flex_cache_read"."""
    for key in (name, f"flex_{name}", f"priority_{name}"):
        value = counts.get(key)
        if isinstance(value, int):
            return value
    return 0


def tool_message(output: object, call_id: str) -> Content:
    """Read the message that a model gets from a tool.

    Args:
        output: What the tool returned: a ToolMessage, or any value.
        call_id: The id of the call.

    Returns:
        The message.
    """
    if getattr(output, "type", None) == "tool":
        body = mapping(_convert(output))
        return CHAT.read({"messages": [body]}).contents[0]
    return Content("tool", Content.of("tool", str(output)).parts, call_id=call_id)


def readable(value: object) -> object:
    """Make a value that a chain gets or returns readable as a task or a delivery.

    Args:
        value: Any value: a state of a graph, a message, a prompt or a list of messages.

    Returns:
        The text of the last message where the value has messages; else the value itself, with the
        messages inside as texts.
    """
    if isinstance(value, Mapping):
        return _readable_mapping(value)
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(one, str) for one in value):
            return value[1]  # LangChain's short form of a message: its role and its text
        return [readable(one) for one in value]
    to_messages = getattr(value, "to_messages", None)
    if callable(to_messages):  # a prompt
        return readable({"messages": to_messages()})
    if hasattr(value, "response_metadata"):  # a message
        return str(getattr(value, "text", ""))
    return value


def _readable_mapping(value: Mapping[object, object]) -> object:
    if "role" in value and "content" in value:
        return value["content"]
    messages = value.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return {str(key): readable(one) for key, one in value.items()}
    last = readable(messages[-1])
    rest = {str(key): readable(one) for key, one in value.items() if key != "messages"}
    return {"messages": last, **rest} if rest else last
