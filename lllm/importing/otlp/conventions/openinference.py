"""The conventions of OpenInference, which Phoenix and its instrumentation packages use.

https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

from collections.abc import Iterator

from lllm.events.model import Content
from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    json_in,
    object_in,
    objects_in,
    text_of,
    unflattened,
)
from lllm.importing.otlp.conventions.messages import answer_of, contents_of
from lllm.importing.otlp.conventions.reading import ModelCall, SpanReading, ToolRun
from lllm.importing.otlp.conventions.token_counts import TokenNames, usage_of, usage_of_answer
from lllm.importing.otlp.signals import Span, text_in

_COUNT = "llm.token_count."
TOKENS = TokenNames(
    input=(_COUNT + "prompt",),
    output=(_COUNT + "completion",),
    cache_read=(_COUNT + "prompt_details.cache_read",),
    cache_write=(_COUNT + "prompt_details.cache_write",),
    reasoning=(_COUNT + "completion_details.reasoning",),
    audio_in=(_COUNT + "prompt_details.audio",),
    audio_out=(_COUNT + "completion_details.audio",),
    total=(_COUNT + "total",),
)
_CONTENT = (
    "llm.input_messages.", "llm.output_messages.", "input.value", "output.value",
    "embedding.embeddings.", "llm.prompts.", "message.tool_calls.",
)  # fmt: skip
_TOOL_CONTENT = ("input.value", "output.value", "tool.parameters")


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    attributes = span.attributes
    kind = attributes.get("openinference.span.kind")
    if not isinstance(kind, str):
        return None
    reading = SpanReading(
        "other",
        span.name,
        conversation=text_in(attributes, "session.id"),
        user=text_in(attributes, "user.id"),
    )
    if kind in ("LLM", "EMBEDDING"):
        reading.kind, reading.content = "model", _CONTENT
        reading.call = _call(attributes, is_embedding=kind == "EMBEDDING")
        reading.call.first_token = next(
            (one.time - span.start for one in span.events if "First Token" in one.name), None
        )
    elif kind == "TOOL":
        reading.kind, reading.content = "tool", _TOOL_CONTENT
        reading.tool = _tool(attributes, span.name)
    else:
        if kind == "AGENT":
            reading.kind = "agent"
            reading.name = text_in(attributes, "agent.name") or span.name
        reading.task = text_in(attributes, "input.value")
        reading.delivery = text_in(attributes, "output.value")
    return reading


def _call(attributes: Attributes, *, is_embedding: bool) -> ModelCall:
    whole = _answer_of_api(object_in(attributes.get("output.value")))
    params = object_in(
        attributes.get("llm.invocation_parameters")
        or attributes.get("embedding.invocation_parameters")
    )
    asked, model = (
        text_in(params, "model"),
        text_in(whole, "model", "model_version", "modelVersion"),
    )
    named = text_in(attributes, "llm.model_name", "embedding.model_name") or ""
    stated = usage_of_answer(whole.get("usage"))
    return ModelCall(
        operation="embeddings" if is_embedding else "chat",
        provider=text_in(attributes, "llm.provider", "llm.system") or "",
        asked=asked or named,
        model=model or named,
        params={name: value for name, value in params.items() if name != "model"},
        sent=_sent(attributes, is_embedding=is_embedding),
        answer=_answer(attributes),
        finish_raw=text_in(attributes, "llm.finish_reason"),
        response_id=text_in(whole, "id", "response_id", "responseId"),
        service_tier=text_in(whole, "service_tier"),
        fingerprint=text_in(whole, "system_fingerprint"),
        usage=stated or usage_of(attributes, TOKENS, has_output=not is_embedding),
        usage_raw=whole.get("usage") if stated is not None else None,
        is_stream=params.get("stream") is True,
    )


def _answer_of_api(output: Attributes) -> Attributes:
    """Find what the API answered: the output itself, or what LangChain keeps of it."""
    generations = output.get("generations")
    if not isinstance(generations, list):
        return output
    first = generations[0] if generations else None
    first = first[0] if isinstance(first, list) and first else first
    message = object_in(object_in(first).get("message"))
    inner = object_in(message.get("kwargs") or message.get("data")) or message
    facts = object_in(inner.get("response_metadata"))
    return {**facts, "model": facts.get("model_name"), "usage": facts.get("token_usage")}


def _sent(attributes: Attributes, *, is_embedding: bool) -> tuple[Content, ...]:
    if is_embedding:
        texts = objects_in(unflattened(attributes, "embedding.embeddings"))
        said = [object_in(one.get("embedding")).get("text") for one in texts]
        return contents_of([{"role": "user", "content": [one for one in said if one]}])
    found = contents_of(list(_messages(attributes, "llm.input_messages")))
    return found or contents_of(
        [
            {"role": "user", "content": one}
            for one in _listed(unflattened(attributes, "llm.prompts"))
            if isinstance(one, str)
        ]
    )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _answer(attributes: Attributes) -> Content | None:
    return answer_of(list(_messages(attributes, "llm.output_messages")))


def _messages(attributes: Attributes, prefix: str) -> Iterator[dict[str, object]]:
    """Rebuild the messages, in the form of OpenAI's API."""
    for one in objects_in(unflattened(attributes, prefix)):
        message = object_in(one.get("message"))
        pieces = [
            _piece(object_in(piece.get("message_content")))
            for piece in objects_in(message.get("contents"))
        ]
        calls = [object_in(call.get("tool_call")) for call in objects_in(message.get("tool_calls"))]
        yield {
            "role": message.get("role"),
            "content": pieces or message.get("content"),
            "tool_calls": calls,
            "tool_call_id": message.get("tool_call_id"),
        }


def _piece(content: Attributes) -> Attributes:
    if isinstance(content.get("text"), str):
        return {"type": content.get("type") or "text", "text": content["text"]}
    return content


def _tool(attributes: Attributes, name: str) -> ToolRun:
    given = attributes.get("tool.parameters")
    sent = json_in(attributes.get("input.value"))
    arguments = sent if isinstance(sent, dict) else json_in(given) if given else sent
    result = attributes.get("output.value")
    said = object_in(result)
    if "content" in said and "tool_call_id" in said:  # a ToolMessage of LangChain
        result = said["content"]
    call_id = text_in(attributes, "tool_call.id", "tool.id") or text_in(said, "tool_call_id")
    return ToolRun(
        text_in(attributes, "tool.name") or name,
        call_id or "",
        arguments,
        None if result is None else text_of(result),
    )
