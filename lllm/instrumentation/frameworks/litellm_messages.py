"""Translates what LiteLLM tells its loggers to the bodies of OpenAI's APIs, which lllm reads.

LiteLLM shows a logger the answer in its own form, and before that the body that the provider sent.
That body is read where lllm knows its form: it has counts that LiteLLM leaves out.
https://docs.litellm.ai/docs/observability/custom_callback
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

import msgspec

from lllm.events.model import Content
from lllm.instrumentation import embeddings, legacy_completions
from lllm.instrumentation.frameworks.observed_call import Biller
from lllm.instrumentation.frameworks.provider_bodies import answer_in
from lllm.instrumentation.request_bodies import (
    CHAT,
    RESPONSES,
    CapturedRequest,
    of_completions,
    of_embeddings,
)
from lllm.invokers import Answer
from lllm.invokers.dialects import chat_completions, responses
from lllm.invokers.dialects.provider_json import items, mapping
from lllm.invokers.http.endpoint import host_and_port
from lllm.invokers.litellm.invoker import provider_of
from lllm.pricing.provider_hosts import biller_at

# The kinds of calls that are recorded, by LiteLLM's `call_type`, and lllm's names of them.
OPERATIONS = {
    "completion": "chat",
    "text_completion": "completion",
    "embedding": "embeddings",
    "responses": "responses",
}
# Providers that report the usage of a stream only on request; there, LiteLLM makes one up.
_ALWAYS_REPORT = (
    "anthropic", "bedrock", "bedrock_converse", "cohere", "cohere_chat", "gemini", "vertex_ai",
    "vertex_ai_beta",
)  # fmt: skip
# Parameters that are LiteLLM's own, or that may hold credentials.
_NOT_SENT = (
    "api_base", "api_key", "api_version", "base_url", "client", "extra_headers", "headers",
    "litellm_params", "max_retries", "metadata", "stream", "timeout",
)  # fmt: skip
_Reader = Callable[..., Answer]


def operation_of(kwargs: Mapping[str, object]) -> str | None:
    """Name the kind of a call; None if it is not recorded, such as a moderation."""
    kind = str(kwargs.get("call_type") or "")
    return OPERATIONS.get(kind) or OPERATIONS.get(kind.removeprefix("a"))


def function_of(kwargs: Mapping[str, object]) -> str:
    """Name the function of LiteLLM that was called, without the prefix of its async form."""
    kind = str(kwargs.get("call_type") or "call")
    return kind if kind in OPERATIONS else kind.removeprefix("a")


def request_of(kwargs: Mapping[str, object]) -> CapturedRequest:
    """Read a request.

    Args:
        kwargs: The details of the call that a logger gets.

    Returns:
        The request in lllm's terms.
    """
    given = mapping(kwargs.get("optional_params"))
    body = {key: one for key, one in given.items() if key not in _NOT_SENT and one is not None}
    body |= mapping(body.pop("extra_body", None))
    body |= {"model": str(kwargs.get("model") or ""), "stream": is_stream(kwargs)}
    operation = operation_of(kwargs)
    asked = kwargs.get("messages")
    if operation == "chat":
        return CHAT.read(body | {"messages": [_plain(one) for one in items(asked)]})
    inputs = kwargs.get("input", asked)
    if operation == "responses":
        return RESPONSES.read(body | {"input": inputs})
    read, key = (
        (of_embeddings, "input") if operation == "embeddings" else (of_completions, "prompt")
    )
    texts = [one["content"] if isinstance(one, dict) else one for one in _listed(inputs)]
    return read(body | {key: texts})


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: object) -> object:
    """Read a message that may be a model of pydantic, such as an answer that is sent back."""
    dump = getattr(value, "model_dump", None)
    return cast("Callable[..., object]", dump)(exclude_none=True) if callable(dump) else value


def is_stream(kwargs: Mapping[str, object]) -> bool:
    """True if a streamed answer is asked for."""
    given = mapping(kwargs.get("optional_params"))
    return kwargs.get("stream") is True or given.get("stream") is True


def tags_of(kwargs: Mapping[str, object]) -> dict[str, str]:
    """Read the tags and the session's id that the user gave in LiteLLM's `metadata`."""
    params = mapping(kwargs.get("litellm_params"))
    facts = mapping(params.get("metadata"))
    found = {one: "true" for one in items(facts.get("tags")) if isinstance(one, str)}
    for name in ("session_id", "trace_id"):
        if isinstance(facts.get(name), str):
            found[name] = str(facts[name])
    return found


def biller_of(kwargs: Mapping[str, object], provider: str | None) -> Biller:
    """Find who bills a call.

    Args:
        kwargs: The details of the call that a logger gets.
        provider: The provider that the user named; None to find it.

    Returns:
        The provider, and the host if the details tell an address.
    """
    params = mapping(kwargs.get("litellm_params"))
    url = str(params.get("api_base") or "")
    if not url.startswith("http"):
        named = f"{kwargs.get('custom_llm_provider') or ''}/{kwargs.get('model')}"
        return Biller(provider or provider_of(named))
    host, port = host_and_port(url)
    return Biller(provider or biller_at(url, host, port), host, port)


def provider_answer(original: object, model: str) -> Answer | None:
    """Read the body that a provider sent.

    Args:
        original: What LiteLLM keeps of the answer: the text of the body, or an object.
        model: The requested model, used if the answer names none.

    Returns:
        The answer in lllm's terms; None if the form of the body is not known.
    """
    if not isinstance(original, str) or not original.startswith("{"):
        return None
    with suppress(ValueError):  # an error, or a text that LiteLLM has put there
        return answer_in(mapping(json.loads(original)), model)
    return None


def answer_of(response: object, kwargs: Mapping[str, object], chunks: object = None) -> Answer:
    """Read an answer in LiteLLM's form.

    Args:
        response: LiteLLM's response.
        kwargs: The details of the call that a logger gets.
        chunks: The pieces of a streamed answer, as LiteLLM keeps them; None if they are not known.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The response has no answer.
    """
    model = str(kwargs.get("model") or "")
    body = mapping(_body_of(response))
    operation = operation_of(kwargs)
    found = _READERS[operation or "chat"](body, model=model, request_id=None)
    counts = mapping(found.usage_raw)
    said = operation != "embeddings" and (found.content.parts or found.content.tool_calls)
    sent = counts.get("prompt_tokens") or counts.get("input_tokens")
    answered = counts.get("completion_tokens") or counts.get("output_tokens")
    # LiteLLM fills in zeros for missing counts, but no call has an empty prompt.
    if not _is_counted(kwargs, chunks) or not sent or (said and not answered):
        found = msgspec.structs.replace(found, usage=None, usage_raw=None)
    if is_stream(kwargs):  # LiteLLM adds a price of its own to the usage of a stream
        raw = {key: one for key, one in mapping(found.usage_raw).items() if key != "cost"}
        found = msgspec.structs.replace(found, billed=None, usage_raw=raw or None)
    return found


_READERS: dict[str, _Reader] = {
    "chat": chat_completions.answer,
    "completion": legacy_completions.answer,
    "embeddings": embeddings.answer,
    "responses": responses.answer,
}


def _body_of(response: object) -> object:
    dump = getattr(response, "model_dump", None)
    if not callable(dump):
        return response
    return cast("Callable[..., object]", dump)(exclude_none=True, warnings=False)


def _is_counted(kwargs: Mapping[str, object], chunks: object) -> bool:
    """True if a usage is the provider's; LiteLLM makes up that of some streams.

    Where the pieces of the stream are not known, it is the provider's if it was asked for, or if
    the provider sends it unasked.
    """
    if not is_stream(kwargs):
        return True
    if isinstance(chunks, list):
        return any(getattr(one, "usage", None) is not None for one in chunks)
    given = mapping(kwargs.get("optional_params"))
    options = mapping(given.get("stream_options") or kwargs.get("stream_options"))
    named = str(kwargs.get("custom_llm_provider") or "")
    return options.get("include_usage") is True or named in _ALWAYS_REPORT


def partial_of(chunks: object) -> Content | None:
    """Join the texts of the pieces of a stream that was left; None if there are none."""
    texts: list[str] = []
    for one in items(chunks):
        first = next(iter(items(getattr(one, "choices", None))), None)
        text = getattr(getattr(first, "delta", None), "content", None)
        if isinstance(text, str):
            texts.append(text)
    return Content.of("assistant", "".join(texts)) if any(texts) else None
