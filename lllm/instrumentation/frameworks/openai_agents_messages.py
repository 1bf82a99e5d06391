"""Translates the spans of the OpenAI Agents SDK to the bodies of OpenAI's APIs, which lllm reads.

A span of a Responses call has the whole response, which repeats most of the request. A span of a
Chat Completions call has the messages, the settings and the usage:
https://openai.github.io/openai-agents-python/tracing/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from lllm.events.model import Usage
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.request_bodies import CHAT, RESPONSES, CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions, responses
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.pricing.provider_hosts import biller_at
from lllm.pricing.usage import of_responses

_OFFICIAL = "https://api.openai.com/v1"
# The fields of a response that repeat the request.
_OF_REQUEST = (
    "instructions", "tools", "text", "temperature", "tool_choice", "top_p", "max_output_tokens",
    "parallel_tool_calls", "previous_response_id", "prompt", "reasoning", "truncation",
)  # fmt: skip


def _plain(value: object) -> dict[str, object]:
    """Read what the provider sent from a model of pydantic, or a dictionary, without its nulls."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        value = cast("Callable[..., object]", dump)(mode="json", exclude_unset=True)
    return {key: one for key, one in mapping(value).items() if one is not None}


def is_chat(data: object) -> bool:
    """True if a span is of Chat Completions, and not of the Responses API."""
    return getattr(data, "type", None) == "generation"


def api_of(data: object) -> str:
    """Name the format of a span's request."""
    return "openai-agents.chat" if is_chat(data) else "openai-agents.responses"


def biller_of(data: object, provider: str | None) -> Biller:
    """Find who bills a model call.

    A span of a Responses call has no address: it is taken to be that of OPENAI_BASE_URL, or
    OpenAI's own.

    Args:
        data: The data of the span.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the span tells an address.
    """
    config = mapping(getattr(data, "model_config", None))
    url = config.get("base_url")
    model = getattr(data, "model", None)
    if not url and isinstance(model, str) and "/" in model:
        return Biller(provider or model.partition("/")[0])  # as LiteLLM names its models
    told = isinstance(url, str) and bool(url)
    address = str(url) if told else os.environ.get("OPENAI_BASE_URL") or _OFFICIAL
    host, port = host_and_port(address)
    found = provider or biller_at(address, host, port)
    return Biller(found, host, port) if told else Biller(found)


def request_of(data: object, model: str) -> CapturedRequest:
    """Read a request.

    Args:
        data: The data of the span of a model call.
        model: The model to name if the span names none.

    Returns:
        The request in lllm's terms; without messages if the span has none.
    """
    if is_chat(data):
        config = mapping(getattr(data, "model_config", None))
        body = {key: one for key, one in config.items() if one is not None and key != "base_url"}
        asked = getattr(data, "input", None)
        named = getattr(data, "model", None) or model
        return CHAT.read(body | {"model": named, "messages": list(asked or [])})
    answered = _plain(getattr(data, "response", None))
    body = {key: answered[key] for key in _OF_REQUEST if key in answered}
    asked = getattr(data, "input", None)
    given = asked if isinstance(asked, str) else [_plain(one) for one in asked or ()]
    return RESPONSES.read(body | {"model": answered.get("model") or model, "input": given})


def answer_of(data: object, model: str) -> Answer | None:
    """Read a model's answer.

    Args:
        data: The data of the span of a model call.
        model: The requested model, used if the answer names none.

    Returns:
        The answer in lllm's terms; None if the span has no answer.

    Raises:
        InvokeError: The response says that it failed.
    """
    counts = _counts(data)
    if not is_chat(data):
        response = getattr(data, "response", None)
        if response is not None:
            return responses.answer(_plain(response), model=model, request_id=None)
        if counts is None:
            return None
        # The user has switched the content of traces off.
        return _counted(responses.answer({"output": []}, model=model, request_id=None), counts)
    said = items(getattr(data, "output", None))
    if not said and counts is None:
        return None
    first = _plain(said[0]) if said else {}
    if first.get("object") == "response":  # a streamed answer, in the form of the other API
        found = responses.answer(first, model=model, request_id=None)
    else:
        finish = "tool_calls" if first.get("tool_calls") else "stop"
        message = first or {"role": "assistant", "content": ""}
        choice = {"message": message, "finish_reason": finish}
        found = chat_completions.answer({"choices": [choice]}, model=model, request_id=None)
        found = msgspec.structs.replace(found, finish_raw=None)  # the span does not tell it
    return _counted(found, counts)


def _counted(answer: Answer, counts: Mapping[str, object] | None) -> Answer:
    usage = None if counts is None else _usage(counts)
    raw = None if usage is None else _provided(counts or {})
    return msgspec.structs.replace(answer, usage=usage, usage_raw=raw)


def _counts(data: object) -> Mapping[str, object] | None:
    counts = mapping(getattr(data, "usage", None))
    return counts or None


def _usage(counts: Mapping[str, object]) -> Usage | None:
    """Read the SDK's usage; None if it is 0, as it is for an answer without usage."""
    if not counts.get("input_tokens") and not counts.get("output_tokens"):
        return None
    return of_responses(_provided(counts))


def _provided(counts: Mapping[str, object]) -> dict[str, object]:
    """What the provider has counted; the number of requests is the SDK's own count."""
    return {key: one for key, one in counts.items() if key != "requests"}
