"""The spans of Vercel's AI SDK, versions 4 to 6. Version 7 follows OpenTelemetry's conventions.

An outer span, such as `ai.generateText`, has the sums of its calls; the spans of the calls end in
`.doGenerate`, `.doStream` or `.doEmbed`. https://ai-sdk.dev/docs/ai-sdk-core/telemetry
"""

from __future__ import annotations

from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    first_in_list,
    json_in,
    object_in,
    objects_in,
    seconds_in,
    text_of,
)
from lllm.importing.otlp.conventions.messages import answer_of, contents_of
from lllm.importing.otlp.conventions.reading import ModelCall, SpanReading, ToolRun
from lllm.importing.otlp.conventions.token_counts import TokenNames, usage_of
from lllm.importing.otlp.signals import Span, text_in

TOKENS = TokenNames(
    input=("ai.usage.inputTokens", "ai.usage.promptTokens", "gen_ai.usage.input_tokens",
           "ai.usage.tokens"),
    output=("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens"),
    cache_read=("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens",
                "gen_ai.usage.cache_read.input_tokens"),
    cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",
                 "gen_ai.usage.cache_creation.input_tokens"),
    reasoning=("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
    total=("ai.usage.totalTokens",),
)  # fmt: skip
_CALLS = (".doGenerate", ".doStream", ".doEmbed")
_CONTENT = (
    "ai.prompt", "ai.response.text", "ai.response.toolCalls", "ai.response.object",
    "ai.response.reasoning", "ai.value", "ai.embedding", "ai.toolCall.args", "ai.toolCall.result",
)  # fmt: skip


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    attributes = span.attributes
    operation = text_in(attributes, "ai.operationId")
    if operation is None:
        return None
    reading = SpanReading(
        "other",
        text_in(attributes, "ai.telemetry.functionId", "resource.name") or span.name,
        conversation=text_in(
            attributes, "ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.session_id"
        ),
        user=text_in(attributes, "ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id"),
    )
    if operation.endswith(_CALLS):
        reading.kind, reading.content = "model", _CONTENT
        reading.call = _call(attributes, is_embedding=operation.endswith(".doEmbed"))
        reading.call.is_stream = operation.endswith(".doStream")
    elif operation == "ai.toolCall":
        reading.kind, reading.content = "tool", _CONTENT
        result = attributes.get("ai.toolCall.result")
        reading.tool = ToolRun(
            text_in(attributes, "ai.toolCall.name") or span.name,
            text_in(attributes, "ai.toolCall.id") or "",
            json_in(attributes.get("ai.toolCall.args")),
            None if result is None else text_of(json_in(result)),
        )
    else:
        reading.task = _asked(attributes.get("ai.prompt"))
        reading.delivery = text_in(attributes, "ai.response.text", "ai.response.object")
    return reading


def _asked(prompt: object) -> str | None:
    found = object_in(prompt)
    if isinstance(found.get("prompt"), str):
        return str(found["prompt"])
    asked = [one for one in contents_of(found.get("messages", [])) if one.role == "user"]
    return asked[-1].text if asked else None


def _call(attributes: Attributes, *, is_embedding: bool) -> ModelCall:
    asked = text_in(attributes, "ai.model.id", "gen_ai.request.model") or ""
    said = text_in(attributes, "ai.response.text", "ai.response.object")
    calls = objects_in(attributes.get("ai.response.toolCalls"))
    thought = text_in(attributes, "ai.response.reasoning")
    pieces: list[object] = [{"type": "reasoning", "content": thought}] if thought else []
    if said:
        pieces.append({"type": "text", "text": said})
    answer = answer_of([{"role": "assistant", "content": pieces, "tool_calls": calls}])
    values = attributes.get("ai.values", attributes.get("ai.value"))
    sent = contents_of(attributes.get("ai.prompt.messages"))
    return ModelCall(
        operation="embeddings" if is_embedding else "chat",
        provider=text_in(attributes, "ai.model.provider", "gen_ai.system") or "",
        asked=asked,
        model=text_in(attributes, "ai.response.model", "gen_ai.response.model") or asked,
        params={
            name.removeprefix("ai.settings."): value
            for name, value in attributes.items()
            if name.startswith("ai.settings.")
        },
        sent=sent or contents_of(text_of(values)),
        answer=answer,
        finish_raw=text_in(attributes, "ai.response.finishReason")
        or first_in_list(attributes.get("gen_ai.response.finish_reasons")),
        response_id=text_in(attributes, "ai.response.id", "gen_ai.response.id"),
        usage=usage_of(attributes, TOKENS, has_output=not is_embedding),
        first_token=seconds_in(attributes, "ai.response.msToFirstChunk", 10**6),
    )
