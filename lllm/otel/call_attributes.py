"""Makes the attributes of one attempt to call a model, in the names of the GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ has the names; those that begin with "lllm" have
no counterpart there. What is unknown is left out: an attempt without a known price has no cost.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.model import LLMFailed, LLMRequested, LLMResponded, Price, Usage
from lllm.otel.attributes import Plain

_OPERATIONS = {"embeddings": "embeddings", "completions": "text_completion"}

# The names of providers in the conventions, where lllm has another one.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "x-ai": "x_ai",
    "xai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
}

# Our names of model parameters, which are those of the providers' APIs, and those of attributes.
_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "n": "gen_ai.request.choice.count",
    "dimensions": "gen_ai.embeddings.dimension.count",
}


def operation_of(requested: LLMRequested) -> str:
    """Find the operation of an attempt: "chat", "embeddings" or "text_completion"."""
    return _OPERATIONS.get(requested.operation, "chat")


def request_attributes(requested: LLMRequested, params: Mapping[str, object]) -> dict[str, Plain]:
    """Make the attributes that are known before the answer.

    Args:
        requested: The event of the attempt.
        params: The model parameters that were sent, of the definition and of the attempt.

    Returns:
        The attributes.
    """
    resent = requested.attempt - 1
    found: dict[str, Plain] = {
        "gen_ai.operation.name": operation_of(requested),
        "gen_ai.provider.name": _PROVIDERS.get(requested.provider, requested.provider),
        "gen_ai.request.model": requested.model,
        "http.request.resend_count": resent if resent > 0 else None,
        "server.address": requested.host,
        "server.port": requested.port if requested.host else None,
        "gen_ai.request.stream": True if requested.stream else None,
        "lllm.request": requested.request,
        "lllm.attempt": requested.attempt,
        "lllm.step": requested.step,
        "lllm.dialog": requested.dialog,
        "lllm.api": requested.api,
        "lllm.region": requested.region,
        "openai.request.service_tier": requested.service_tier,
    }
    for name, attribute in _NUMBERS.items():
        value = params.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[attribute] = value
    return found | _other_params(params)


def _other_params(params: Mapping[str, object]) -> dict[str, Plain]:
    stop = params.get("stop", params.get("stop_sequences"))
    found: dict[str, Plain] = {}
    if isinstance(stop, str):
        stop = [stop]
    if isinstance(stop, list):
        found["gen_ai.request.stop_sequences"] = [one for one in stop if isinstance(one, str)]
    effort = params.get("reasoning_effort")
    for name in ("reasoning", "output_config"):
        inner = params.get(name)
        if isinstance(inner, dict):
            effort = inner.get("effort", effort)
    if isinstance(effort, str):
        found["gen_ai.request.reasoning.level"] = effort
    previous = params.get("previous_response_id")
    if isinstance(previous, str):
        found["gen_ai.request.previous_response.id"] = previous
    form = params.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if isinstance(kind, str):
        found["gen_ai.output.type"] = "json" if kind.startswith("json") else kind
    return found


def answer_attributes(ended: LLMResponded | LLMFailed) -> dict[str, Plain]:
    """Make the attributes of the answer, of its tokens and of its price.

    Args:
        ended: The event that ended the attempt.

    Returns:
        The attributes.
    """
    found: dict[str, Plain] = {"gen_ai.response.model": ended.model}
    if isinstance(ended, LLMFailed):
        wait = ended.retry_after
        found |= {
            "lllm.retry_after_seconds": None if wait is None else wait / 1e9,
            "lllm.unfinished": ended.unfinished or None,
            "lllm.cancelled": ended.cancelled or None,
        }
    else:
        first = ended.first_token
        found |= {
            "gen_ai.response.id": ended.response_id,
            "gen_ai.response.finish_reasons": [ended.finish_raw or ended.finish],
            "gen_ai.response.time_to_first_chunk": None if first is None else first / 1e9,
            "openai.response.system_fingerprint": ended.fingerprint,
        }
    found |= {
        "openai.response.service_tier": ended.service_tier,
        "lllm.request_id": ended.request_id,
    }
    return found | usage_attributes(ended.usage) | price_attributes(ended.price)


def usage_attributes(usage: Usage | None) -> dict[str, Plain]:
    """Make the attributes of token counts.

    Args:
        usage: The counts; None if they are unknown.

    Returns:
        The attributes; none if the counts are unknown. Parts that are zero are left out.
    """
    if usage is None:
        return {}
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "gen_ai.usage.input_tokens": usage.input,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read or None,
        "gen_ai.usage.cache_write.input_tokens": written or None,
        "gen_ai.usage.cache_creation.input_tokens": written or None,  # the name until mid 2026
        "lllm.usage.cache_write_1h": usage.cache_write_1h or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
        "gen_ai.usage.audio.input_tokens": usage.audio_in or None,
        "gen_ai.usage.audio.output_tokens": usage.audio_out or None,
    }


def price_attributes(price: Price | None) -> dict[str, Plain]:
    """Make the attributes of a price.

    Args:
        price: The price; None if nothing is known about it.

    Returns:
        The attributes; without a cost if it is unknown.
    """
    if price is None:
        return {}
    known = price.nanos is not None and price.status != "unpriced"
    return {
        # in US dollars; the name that backends read
        "gen_ai.usage.cost": price.nanos / 1e9 if known and price.nanos is not None else None,
        "lllm.price.status": price.status,
        "lllm.price.nanos": price.nanos if known else None,
        "lllm.price.source": price.source,
        "lllm.price.version": price.source_version,
        "lllm.price.reason": price.reason,
        "lllm.price.recorded_nanos": price.recorded,
    }
