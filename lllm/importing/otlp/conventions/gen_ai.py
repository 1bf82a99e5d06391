"""The conventions of OpenTelemetry for generative AI, with their present and their older names.

https://github.com/open-telemetry/semantic-conventions-genai. Also the spans of the anthropic SDK,
of Pydantic AI and of OpenLLMetry, which add names of their own.
"""

from __future__ import annotations

from decimal import Decimal

from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    first_in_list,
    json_in,
    number_in,
    seconds_in,
    text_of,
    unflattened,
)
from lllm.importing.otlp.conventions.messages import answer_of, contents_of, system_of
from lllm.importing.otlp.conventions.reading import ModelCall, SpanReading, ToolRun
from lllm.importing.otlp.conventions.token_counts import TokenNames, searches_in, usage_of
from lllm.importing.otlp.signals import Span, text_in
from lllm.pricing.amounts import nanos_of, number

_USAGE = "gen_ai.usage."
TOKENS = TokenNames(
    input=(_USAGE + "input_tokens", _USAGE + "prompt_tokens"),
    output=(_USAGE + "output_tokens", _USAGE + "completion_tokens"),
    cache_read=(
        _USAGE + "cache_read.input_tokens",
        _USAGE + "cache_read_input_tokens",  # OpenLLMetry
        _USAGE + "details.cache_read_tokens",  # Pydantic AI
    ),
    cache_write=(
        _USAGE + "cache_write.input_tokens",
        _USAGE + "cache_creation.input_tokens",  # before it was renamed
        _USAGE + "cache_creation_input_tokens",
        _USAGE + "details.cache_write_tokens",
    ),
    cache_write_1h=("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    reasoning=(
        _USAGE + "reasoning.output_tokens",
        _USAGE + "reasoning_tokens",
        _USAGE + "details.reasoning_tokens",
        "llm.usage.reasoning_tokens",
    ),
    audio_in=(_USAGE + "audio.input_tokens", _USAGE + "details.input_audio_tokens"),
    audio_out=(_USAGE + "audio.output_tokens", _USAGE + "details.output_audio_tokens"),
    total=("llm.usage.total_tokens", _USAGE + "total_tokens"),
)
_CALLS = ("chat", "text_completion", "generate_content", "embeddings", "completion", "embedding",
          "fetch_response", "rerank")  # fmt: skip
_AGENTS = ("invoke_agent", "invoke_workflow", "create_agent")
_CONTENT = (
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.prompt.", "gen_ai.completion.", "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result", "tool_arguments", "tool_response",
)  # fmt: skip
_PARAM = "gen_ai.request."


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    attributes = span.attributes
    operation = text_in(attributes, "gen_ai.operation.name") or _old_operation(attributes)
    if operation is None:
        return None
    agent = text_in(attributes, "gen_ai.agent.name", "agent_name")
    reading = SpanReading(
        "other",
        span.name,
        conversation=text_in(attributes, "gen_ai.conversation.id"),
        user=text_in(attributes, "user.id", "enduser.id"),
    )
    if operation in _CALLS:
        reading.kind, reading.call = "model", _call(attributes, operation)
        reading.content = _CONTENT
    elif operation == "execute_tool":
        reading.kind = "tool"
        reading.content = _CONTENT
        name = text_in(attributes, "gen_ai.tool.name") or span.name.removeprefix("execute_tool ")
        reading.tool = tool_run(attributes, name)
    elif operation in _AGENTS and operation != "create_agent":
        reading.kind = "agent"
        reading.name = (
            text_in(attributes, "gen_ai.workflow.name") if operation == "invoke_workflow" else agent
        ) or span.name.removeprefix(f"{operation} ")
        asked = [one for one in contents_of(attributes.get("gen_ai.input.messages"))
                 if one.role == "user"]  # fmt: skip
        reading.task = asked[-1].text if asked else None
        answer = answer_of(attributes.get("gen_ai.output.messages"))
        final = attributes.get("final_result")
        # the conversation again, which the calls have
        reading.content = ("pydantic_ai.all_messages",)
        reading.delivery = text_of(final) or (None if answer is None else answer.text)
    return reading


def tool_run(attributes: Attributes, name: str) -> ToolRun:
    """Read the run of a tool from the attributes of these conventions."""
    arguments = attributes.get("gen_ai.tool.call.arguments", attributes.get("tool_arguments"))
    result = attributes.get("gen_ai.tool.call.result", attributes.get("tool_response"))
    return ToolRun(
        name,
        text_in(attributes, "gen_ai.tool.call.id") or "",
        json_in(arguments),
        None if result is None else text_of(result),
    )


def _old_operation(attributes: Attributes) -> str | None:
    """Recognise a call of a model in spans from before `gen_ai.operation.name`."""
    kind = attributes.get("llm.request.type")  # OpenLLMetry
    if isinstance(kind, str):
        return {"completion": "text_completion", "embedding": "embeddings"}.get(kind, kind)
    if "gen_ai.request.model" in attributes and (
        "gen_ai.system" in attributes or "gen_ai.usage.prompt_tokens" in attributes
    ):
        return "chat"
    return None


def _call(attributes: Attributes, operation: str) -> ModelCall:
    model = text_in(attributes, "gen_ai.response.model") or ""
    is_embedding = operation in ("embeddings", "embedding")
    answer = answer_of(attributes.get("gen_ai.output.messages")) or answer_of(
        unflattened(attributes, "gen_ai.completion")
    )
    sent = contents_of(attributes.get("gen_ai.input.messages")) or contents_of(
        unflattened(attributes, "gen_ai.prompt")
    )
    return ModelCall(
        operation="embeddings" if is_embedding else "chat" if operation != "text_completion"
        else "completions",
        provider=text_in(attributes, "gen_ai.provider.name", "gen_ai.system") or "",
        asked=text_in(attributes, "gen_ai.request.model") or model,
        model=model,
        host=text_in(attributes, "server.address"),
        port=number_in(attributes, "server.port"),
        params={
            name.removeprefix(_PARAM): value
            for name, value in attributes.items()
            if name.startswith(_PARAM) and name not in ("gen_ai.request.model",)
        },
        sent=(*system_of(attributes.get("gen_ai.system_instructions")), *sent),
        answer=answer,
        finish_raw=first_in_list(attributes.get("gen_ai.response.finish_reasons"))
        or text_in(attributes, "anthropic.message.stop_reason"),
        response_id=text_in(attributes, "gen_ai.response.id"),
        service_tier=text_in(
            attributes, "openai.response.service_tier", "gen_ai.openai.response.service_tier",
            "anthropic.response.service_tier",
        ),
        fingerprint=text_in(
            attributes, "openai.response.system_fingerprint",
            "gen_ai.openai.response.system_fingerprint",
        ),
        usage=usage_of(attributes, TOKENS, has_output=not is_embedding),
        usage_raw=searches_in(attributes),
        billed=_billed(attributes),
        is_stream=attributes.get("gen_ai.request.stream") is True
        or attributes.get("gen_ai.is_streaming") is True,
        first_token=seconds_in(attributes, "gen_ai.response.time_to_first_chunk"),
        retries=number_in(attributes, "http.request.resend_count") or 0,
    )  # fmt: skip


def _billed(attributes: Attributes) -> int | None:
    """Read a cost that the provider stated; one that was computed locally is not taken."""
    if attributes.get("gen_ai.usage.cost.source") != "provider":
        return None
    if attributes.get("gen_ai.usage.cost.currency") not in (None, "USD"):
        return None
    dollars = number(attributes.get("gen_ai.usage.cost.amount"))
    return None if dollars is None else nanos_of(Decimal(dollars))
