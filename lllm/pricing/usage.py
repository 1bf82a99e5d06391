"""Tokens in our terms, from a usage as a provider sent it.

Each API counts in its own way what includes what, and every provider of a dialect has its accent;
the rules stand beside the fields that they are about. A usage says by its own fields who wrote it,
which holds behind a proxy too, so nobody is asked for the provider's name.

A detail that is missing or null is none; the totals must be there. What is no whole number of
tokens makes the whole usage None: a bill that guesses is worse than one that says it doesn't know.

These rules, and not genai-prices' extractors, because those know neither a proxy nor a provider of
one's own, take floats, and miss some of what is counted here; a test names every difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import reduce
from operator import add, sub
from typing import NamedTuple

from msgspec.structs import astuple, replace

from lllm.events.model import Usage
from lllm.pricing.billing import EXACT, nanos_of, number
from lllm.pricing.usage_details import with_details

# Where a prompt's tokens read from a cache are counted, in the prompt's details or beside them.
# Several may stand in one usage, and say the same or, unused, 0.
_CACHED = (
    "cached_tokens",  # OpenAI and most; beside the details with Moonshot:
    # https://platform.kimi.ai/docs/api/chat
    "num_cached_tokens",  # Mistral: https://docs.mistral.ai/api/#tag/chat
    "prompt_cache_hit_tokens",  # DeepSeek: https://api-docs.deepseek.com/guides/kv_cache
    "cache_read_input_tokens",  # LiteLLM and Databricks for Claude, Perplexity's Agent API
)
_WRITTEN = (
    # https://platform.openai.com/docs/guides/prompt-caching,
    # https://openrouter.ai/docs/use-cases/usage-accounting
    "cache_write_tokens",
    "cache_creation_tokens",  # LiteLLM: https://docs.litellm.ai/docs/completion/prompt_caching
    "cache_creation_input_tokens",  # LiteLLM, too, and Qwen:
    # https://www.alibabacloud.com/help/en/model-studio/context-cache
)
_LIFETIMES = ("cache_creation_token_details", "cache_creation")  # LiteLLM's, and Qwen's
# Only Perplexity has these: https://docs.perplexity.ai/api-reference/chat-completions-post
_PERPLEXITYS = ("citation_tokens", "num_search_queries", "search_context_size")
# xAI counts money in ticks, 10**10 to a US dollar: https://docs.x.ai/developers/cost-tracking
_TICK = -10


class _Unreadable(ValueError):
    """What should be a number of tokens is something else."""


def of_chat(raw: object) -> Usage | None:
    """Of Chat Completions, where input and output include all their details:
    https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage"""
    return _of_details(raw, "prompt_tokens", "completion_tokens")


def of_responses(raw: object) -> Usage | None:
    """Of the Responses API, where input and output include all their details:
    https://platform.openai.com/docs/api-reference/responses/object#responses/object-usage"""
    return _of_details(raw, "input_tokens", "output_tokens")


def of_messages(raw: object) -> Usage | None:
    """Of Anthropic's Messages, on Bedrock and Vertex too, whose input leaves out what was read from
    or written to the cache:
    https://docs.claude.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance"""
    try:
        usage = _message(raw)
        # Anthropic counts what a compaction of the context used beside the answer's own tokens:
        # https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
        iterations = raw.get("iterations") if isinstance(raw, dict) else None
        for one in iterations if isinstance(iterations, list) else ():
            if _mapping(one).get("type") == "compaction":
                usage = _sum(usage, _message(one))
    except _Unreadable:
        return None
    return usage


class SampledUsage(NamedTuple):
    """One time that a model was asked, of the several that one attempt may have been. model: None
    for the one that answered. usage: what it used."""

    model: str | None
    usage: Usage


def samplings_of(usage: Usage, raw: object) -> tuple[list[SampledUsage], bool]:
    """The times that models were asked for one answer, and whether each is known: a usage of
    Anthropic's may list them as `iterations`, those of an advisor, another model's, are in nothing
    else:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool

    usage: all that the answering model used. Raises ValueError, which says what it is, for one that
    can't be read.
    """
    iterations = raw.get("iterations") if isinstance(raw, dict) else None
    if not isinstance(iterations, list) or not iterations:
        return [SampledUsage(None, usage)], False
    turns: list[Usage] = []
    compacted: list[Usage] = []
    others: list[SampledUsage] = []
    for one in iterations:
        place = one if isinstance(one, dict) else {}
        kind, model = place.get("type"), place.get("model")
        try:
            used = _message(place)
        except _Unreadable:
            raise ValueError("an iteration of the usage that can't be read") from None
        if kind in ("message", "compaction") and model is None:
            (turns if kind == "message" else compacted).append(used)
        elif isinstance(model, str) and kind in ("message", "advisor_message"):
            others.append(SampledUsage(model, used))
        elif used != Usage():
            raise ValueError(f"an iteration of the kind {str(kind)[:40]!r} in the usage")
    rest = _without(usage, compacted)
    known = _alike(_without(rest, turns), Usage())
    if not known:
        turns = [rest]
    own = [SampledUsage(None, used) for used in (*turns, *compacted)]
    return [*own, *others], known


def _without(whole: Usage, parts: Sequence[Usage]) -> Usage:
    return Usage(*map(sub, astuple(whole), astuple(reduce(_sum, parts, Usage()))))


def _alike(one: Usage, other: Usage) -> bool:
    """But for reasoning, which an iteration does not count apart."""
    return replace(one, reasoning=0) == replace(other, reasoning=0)


def of_embeddings(raw: object) -> Usage | None:
    """Of an embedding, which has no output:
    https://platform.openai.com/docs/api-reference/embeddings/create; Voyage counts a total alone:
    https://docs.voyageai.com/reference/embeddings-api"""
    try:
        whole = _mapping(raw)
        asked = whole.get("prompt_tokens")
        return Usage(input=_count(whole.get("total_tokens") if asked is None else asked))
    except _Unreadable:
        return None


def unreadable(raw: object) -> str:
    """Why there is no usage in what a provider sent, as a sentence."""
    if raw is None:
        return "The provider sent no usage that could be read."
    for name, value in _counts_in(raw):
        try:
            _count(value)
        except _Unreadable:
            return f"The usage can't be read: {name[:40]} is {_shown(value)}, no number of tokens."
    return "The usage can't be read: it lacks the tokens that went in, or those that came out."


def _shown(value: object) -> str:
    if isinstance(value, str | float | bool):
        return repr(value)[:40]
    return "below zero" if isinstance(value, int) else f"a {type(value).__name__}"


def billed_of(raw: object) -> int | None:
    """Nano-dollars that a provider itself says a call cost; None where its usage says nothing of
    it, or nonsense."""
    whole = raw if isinstance(raw, dict) else {}
    ticks = number(whole.get("cost_in_usd_ticks"))
    if ticks is not None:
        return nanos_of(ticks.scaleb(_TICK, EXACT))
    cost = whole.get("cost")
    if isinstance(cost, dict):
        # https://docs.perplexity.ai/getting-started/pricing
        cost = cost.get("total_cost") if cost.get("currency") in (None, "USD") else None
    dollars = number(cost)
    if dollars is None:
        return None
    return nanos_of(EXACT.add(dollars, _upstream(whole)))


def billed_by(headers: Mapping[str, str]) -> int | None:
    """Nano-dollars that a gateway says in a header: LiteLLM's,
    https://docs.litellm.ai/docs/proxy/response_headers. A cost of nothing is what it says, too, of
    a model that it does not know the price of, so that says nothing."""
    try:
        dollars = number(float(headers.get("x-litellm-response-cost") or ""))
    except ValueError:
        return None
    return nanos_of(dollars) if dollars else None


def _upstream(whole: Mapping[str, object]) -> Decimal:
    """What the provider behind OpenRouter bills to a key of the user's own, which `is_byok` tells;
    `cost` is only what OpenRouter itself takes then:
    https://openrouter.ai/docs/use-cases/usage-accounting"""
    if whole.get("is_byok") is not True:
        return Decimal(0)
    details = whole.get("cost_details")
    named = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    return number(named) or Decimal(0)


def _of_details(raw: object, inward_name: str, outward_name: str) -> Usage | None:
    """Of the two dialects of OpenAI, which differ in names."""
    try:
        whole = _mapping(with_details(raw))
        # Mistral has the singular, too.
        details = [f"{inward_name}_details", "prompt_token_details"]
        inward = [whole, *[_mapping(whole.get(name)) for name in details]]
        outward = _mapping(whole.get(f"{outward_name}_details"))
        asked, said = _count(whole.get(inward_name)), _count(whole.get(outward_name))
        cached = _greatest(inward, *_CACHED)
        written, for_an_hour = _writes(inward, *_WRITTEN)
        # Databricks and Perplexity count it beside the details.
        reasoning = _greatest([whole, outward], "reasoning_tokens")
        audio_in = _greatest(inward[1:], "audio_tokens")
        audio_out = _greatest([outward], "audio_tokens")
        beside = max(0, _greatest([whole], "total_tokens") - asked - said)
    except _Unreadable:
        return None
    if reasoning == 0 and beside == cached + written:
        asked += beside  # a gateway to Anthropic whose input leaves them out, as Anthropic's does
    elif reasoning in (0, beside):
        # xAI's output leaves out reasoning, the total has it:
        # https://docs.x.ai/docs/key-information/consumption-and-rate-limits
        # Google's does the same, and gives no details: https://discuss.ai.google.dev/t/127400
        said, reasoning = said + beside, beside
    elif any(name in whole for name in _PERPLEXITYS):
        said += reasoning  # which neither output nor total has
    return Usage(
        input=asked,
        output=said,
        cache_read=cached,
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
    )


def _message(raw: object) -> Usage:
    """Of one answer, or one part of it, as Anthropic counts."""
    whole = _mapping(raw)
    cached = _greatest([whole], "cache_read_input_tokens")
    written, for_an_hour = _writes([whole], "cache_creation_input_tokens")
    return Usage(
        input=_count(whole.get("input_tokens")) + cached + written,
        output=_count(whole.get("output_tokens")),
        cache_read=cached,
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        reasoning=_greatest([_mapping(whole.get("output_tokens_details"))], "thinking_tokens"),
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(*map(add, astuple(one), astuple(other)))


def _writes(places: Sequence[Mapping[str, object]], *names: str) -> tuple[int, int]:
    """Tokens written to a cache, and those among them that stay for an hour."""
    written = _greatest(places, *names)
    lifetimes = [_mapping(place.get(name)) for place in places for name in _LIFETIMES]
    for_an_hour = _greatest(lifetimes, "ephemeral_1h_input_tokens")
    known = for_an_hour + _greatest(lifetimes, "ephemeral_5m_input_tokens")
    if 0 < written < known:
        raise _Unreadable
    return written or known, for_an_hour


def _greatest(places: Sequence[Mapping[str, object]], *names: str) -> int:
    """One count that may stand under several names, and be missing or null: then it is 0."""
    found = [0]
    for place in places:
        for name in names:
            value = place.get(name)
            if value is not None:
                found.append(_count(value))
    return max(found)


def _count(value: object) -> int:
    if type(value) is int and value >= 0:  # a bool is an int, too
        return value
    raise _Unreadable


def _mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    if value:  # PHP servers write an empty object as []
        raise _Unreadable
    return {}


def _counts_in(raw: object) -> Iterator[tuple[str, object]]:
    """What is named as a number of tokens in a usage, and in its details."""
    whole = raw if isinstance(raw, dict) else {}
    for place in (whole, *whole.values()):
        for name, value in place.items() if isinstance(place, dict) else ():
            if value is not None and str(name).endswith("_tokens"):
                yield str(name), value
