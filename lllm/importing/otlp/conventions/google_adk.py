"""The spans of Google's Agent Development Kit, which have the requests and answers as JSON.

https://github.com/google/adk-python/blob/main/src/google/adk/telemetry/tracing.py
"""

from __future__ import annotations

from lllm.events.model import Content, Usage
from lllm.importing.otlp.conventions import gen_ai
from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    json_in,
    number_in,
    object_in,
    objects_in,
    text_of,
)
from lllm.importing.otlp.conventions.messages import answer_of, contents_of
from lllm.importing.otlp.conventions.reading import ModelCall, SpanReading, ToolRun
from lllm.importing.otlp.conventions.token_counts import usage_of
from lllm.importing.otlp.signals import Span, text_in

_VENDOR = "gcp.vertex.agent."
_CONTENT = (
    _VENDOR + "llm_request", _VENDOR + "llm_response", _VENDOR + "tool_call_args",
    _VENDOR + "tool_response",
)  # fmt: skip


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    attributes = span.attributes
    if not any(name.startswith(_VENDOR) for name in attributes):
        return None
    if _VENDOR + "llm_request" in attributes or span.name == "call_llm":
        reading = SpanReading("model", span.name, call=_call(attributes))
    elif _VENDOR + "tool_response" in attributes and span.name.startswith("execute_tool"):
        name = text_in(attributes, "gen_ai.tool.name") or span.name.removeprefix("execute_tool ")
        reading = SpanReading("tool", span.name, tool=_tool(attributes, name))
    else:
        found = gen_ai.read(span)
        reading = found if found is not None else SpanReading("other", span.name)
    reading.content += _CONTENT
    reading.conversation = text_in(attributes, "gen_ai.conversation.id", _VENDOR + "session_id")
    return reading


def _tool(attributes: Attributes, name: str) -> ToolRun:
    run = gen_ai.tool_run(attributes, name)
    if run.arguments is None:
        run.arguments = json_in(attributes.get(_VENDOR + "tool_call_args"))
    if run.result is None:
        response = attributes.get(_VENDOR + "tool_response")
        run.result = None if response is None else text_of(response)
    return run


def _call(attributes: Attributes) -> ModelCall:
    request = object_in(attributes.get(_VENDOR + "llm_request"))
    response = object_in(attributes.get(_VENDOR + "llm_response"))
    config = object_in(request.get("config"))
    instruction = config.get("system_instruction")
    system = (Content.of("system", instruction),) if isinstance(instruction, str) else ()
    counts = object_in(response.get("usage_metadata"))
    said = response.get("content")
    model = text_in(attributes, "gen_ai.request.model") or text_in(request, "model") or ""
    answered = text_in(response, "model_version") or text_in(attributes, "gen_ai.response.model")
    return ModelCall(
        operation="chat",
        provider="google",
        asked=model,
        model=answered or model,
        params={name: value for name, value in config.items() if name != "system_instruction"},
        sent=(*system, *contents_of(objects_in(request.get("contents")))),
        answer=answer_of([said]) if isinstance(said, dict) else None,
        finish_raw=text_in(response, "finish_reason"),
        response_id=text_in(attributes, "gen_ai.response.id")
        or text_in(response, "interaction_id", "response_id"),
        usage=_usage(counts) if counts else usage_of(attributes, gen_ai.TOKENS),
    )


def _usage(counts: Attributes) -> Usage | None:
    """Read Google's counts: thoughts stand beside the answer, cached tokens in the prompt.

    https://ai.google.dev/api/generate-content#UsageMetadata
    """
    prompt, came_out = (
        number_in(counts, "prompt_token_count"),
        number_in(counts, "candidates_token_count"),
    )
    thoughts = number_in(counts, "thoughts_token_count") or 0
    if prompt is None or (came_out is None and not thoughts):
        return None
    if not prompt and not came_out:
        return None
    return Usage(
        input=prompt + (number_in(counts, "tool_use_prompt_token_count") or 0),
        output=(came_out or 0) + thoughts,
        cache_read=number_in(counts, "cached_content_token_count") or 0,
        reasoning=thoughts,
    )
