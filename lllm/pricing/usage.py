"""Reads a provider's usage as a Usage, and validates it.

APIs differ in which counts include others, and each provider of an API has its own variations; the
rules stand beside the fields that they concern. The fields of a usage identify its author, even
behind a proxy, so the provider's name is not needed.

A missing or null detail counts as 0; the totals are required. If any count is not a whole number,
the whole usage is None: an unknown cost is better than a guessed one.

The extractors of genai-prices are not used, because they do not handle proxies and custom
providers, accept floats, and miss some counts; a test names every difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import add

from msgspec.structs import astuple, replace

from lllm.events.model import Usage
from lllm.pricing.amounts import fits_event
from lllm.pricing.usage_details import with_details

# The names for prompt tokens read from a cache, in the prompt's details or beside them. A usage
# may have several of them, which are equal or 0.
_CACHED = (
    "cached_tokens",  # OpenAI and most others; Moonshot has it outside of the details:
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
    "cache_creation_input_tokens",  # LiteLLM and Qwen:
    # https://www.alibabacloud.com/help/en/model-studio/context-cache
)
_LIFETIMES = ("cache_creation_token_details", "cache_creation")  # LiteLLM's, and Qwen's
# Only Perplexity has these: https://docs.perplexity.ai/api-reference/chat-completions-post
_PERPLEXITYS = ("citation_tokens", "num_search_queries", "search_context_size")


class UnreadableUsageError(ValueError):
    """A usage has something other than a whole number for a count of tokens."""


def of_chat(raw: object) -> Usage | None:
    """Read a usage of Chat Completions; its input and output counts include all details.

    https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The usage in lllm's terms; None if it can't be read (`unreadable` says why).
    """
    return _of_openai(raw, "prompt_tokens", "completion_tokens")


def of_responses(raw: object) -> Usage | None:
    """Read a usage of the Responses API; its input and output counts include all details.

    https://platform.openai.com/docs/api-reference/responses/object#responses/object-usage

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The usage in lllm's terms; None if it can't be read (`unreadable` says why).
    """
    return _of_openai(raw, "input_tokens", "output_tokens")


def of_messages(raw: object) -> Usage | None:
    """Read a usage of Anthropic's Messages API, also on Bedrock and Vertex.

    Its input count excludes tokens that were read from the cache or written to it:
    https://docs.claude.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The usage in lllm's terms; None if it can't be read (`unreadable` says why).
    """
    try:
        usage = message_usage(raw)
        # Anthropic counts the tokens of a context compaction separately from the answer's:
        # https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
        iterations = raw.get("iterations") if isinstance(raw, dict) else None
        for one in iterations if isinstance(iterations, list) else ():
            if _mapping(one).get("type") == "compaction":
                usage = added(usage, message_usage(one))
    except UnreadableUsageError:
        return None
    return usage


def of_embeddings(raw: object) -> Usage | None:
    """Read a usage of embeddings, which have no output.

    https://platform.openai.com/docs/api-reference/embeddings/create. Voyage sends only a total:
    https://docs.voyageai.com/reference/embeddings-api

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The usage in lllm's terms; None if it can't be read (`unreadable` says why).
    """
    try:
        whole = _mapping(raw)
        asked = whole.get("prompt_tokens")
        return Usage(input=_count(whole.get("total_tokens") if asked is None else asked))
    except UnreadableUsageError:
        return None


def of_generate_content(raw: object) -> Usage | None:
    """Read a usage of Google's generateContent, on the Gemini API or on Vertex.

    Thoughts are not among the candidates' tokens, and the results of tools that Google runs are not
    among the prompt's; cached tokens are:
    https://ai.google.dev/api/generate-content#UsageMetadata

    Args:
        raw: The usage as the provider sent it.

    Returns:
        The usage in lllm's terms; None if it can't be read (`unreadable` says why).
    """
    try:
        whole = _mapping(with_details(raw))
        thoughts = _greatest([whole], "thoughtsTokenCount")
        going_in = _mapping(whole.get("prompt_tokens_details"))
        coming_out = _mapping(whole.get("completion_tokens_details"))
        return Usage(
            input=_count(whole.get("promptTokenCount"))
            + _greatest([whole], "toolUsePromptTokenCount"),
            output=_greatest([whole], "candidatesTokenCount") + thoughts,
            cache_read=_greatest([whole], "cachedContentTokenCount"),
            reasoning=thoughts,
            audio_in=_greatest([going_in], "audio_tokens"),
            audio_out=_greatest([coming_out], "audio_tokens"),
        )
    except UnreadableUsageError:
        return None


def unreadable(raw: object) -> str:
    """Explain why a provider's usage can't be read.

    Args:
        raw: The usage as the provider sent it; None if it sent none.

    Returns:
        A sentence for a log or an event.
    """
    if raw is None:
        return "The provider sent no usage that could be read."
    for name, value in _counts_in(raw):
        try:
            _count(value)
        except UnreadableUsageError:
            return f"The usage can't be read: {name[:40]} is {_quoted(value)}, no number of tokens."
    return "The usage can't be read: it lacks the tokens that went in, or those that came out."


def _quoted(value: object) -> str:
    """Describe a value that should have been a number of tokens."""
    if isinstance(value, str | float | bool):
        return repr(value)[:40]
    return "below zero" if isinstance(value, int) else f"a {type(value).__name__}"


def validation_error(usage: Usage) -> str | None:
    """Find a contradiction or an impossible count in a usage.

    Args:
        usage: The usage in lllm's terms; a user's own invoker may return anything.

    Returns:
        A sentence; None if the usage is valid.
    """
    if within_limits(usage) is None:
        return "The usage has counts that are no whole numbers, or beyond all that a call can use."
    if min(astuple(usage)) < 0:
        return "The usage has negative counts."
    for inner, name, outer, whole in (
        (_cached(usage), "cached", usage.input, "input"),
        (usage.audio_in, "audio", usage.input, "input"),
        (usage.audio_out, "audio", usage.output, "output"),
        (usage.reasoning, "reasoning", usage.output, "output"),
    ):
        if inner > outer:
            return f"The usage counts {inner} {name} tokens among {outer} of {whole}."
    return None


def within_limits(usage: Usage | None) -> Usage | None:
    """Return the usage if an event can hold its counts, else None.

    The bounds are those of `events.model.Amount`: larger numbers could be written, but not read
    again.

    Args:
        usage: The usage in lllm's terms; None if unknown.

    Returns:
        The same usage; None if a count is too large, in which case its price says so.
    """
    return usage if usage is None or fits_event(*astuple(usage)) else None


def _of_openai(raw: object, inward: str, outward: str) -> Usage | None:
    """Read a usage of one of OpenAI's two APIs, which use different names."""
    try:
        whole = _mapping(with_details(raw))
        usage = _as_counted(whole, inward, outward)
        total = _greatest([whole], "total_tokens")
    except UnreadableUsageError:
        return None
    return _with_uncounted(usage, max(0, total - usage.input - usage.output), whole)


def _as_counted(whole: Mapping[str, object], inward: str, outward: str) -> Usage:
    """Read the counts without any correction."""
    # Mistral also uses the singular.
    details = (f"{inward}_details", "prompt_token_details")
    going_in = [whole, *[_mapping(whole.get(name)) for name in details]]
    coming_out = _mapping(whole.get(f"{outward}_details"))
    written, for_an_hour = _writes(going_in, *_WRITTEN)
    return Usage(
        input=_count(whole.get(inward)),
        output=_count(whole.get(outward)),
        cache_read=_greatest(going_in, *_CACHED),
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        # Databricks and Perplexity have it outside of the details.
        reasoning=_greatest([whole, coming_out], "reasoning_tokens"),
        audio_in=_greatest(going_in[1:], "audio_tokens"),
        audio_out=_greatest([coming_out], "audio_tokens"),
    )


def _with_uncounted(usage: Usage, beside: int, whole: Mapping[str, object]) -> Usage:
    """Add tokens that some providers exclude from their input or output count.

    `beside` is the total minus input and output.
    """
    if not beside and not usage.reasoning:
        return usage
    if not usage.reasoning and beside == _cached(usage):
        # a gateway to Anthropic, whose input excludes cached tokens
        return replace(usage, input=usage.input + beside)
    if usage.reasoning in (0, beside):
        # xAI's output excludes reasoning, but its total includes it:
        # https://docs.x.ai/docs/key-information/consumption-and-rate-limits
        # Google does the same, and sends no details: https://discuss.ai.google.dev/t/127400
        return replace(usage, output=usage.output + beside, reasoning=beside)
    if any(name in whole for name in _PERPLEXITYS):
        # in neither the output nor the total
        return replace(usage, output=usage.output + usage.reasoning)
    return usage


def _cached(usage: Usage) -> int:
    """Count the tokens read from a cache or written to one."""
    return usage.cache_read + usage.cache_write_5m + usage.cache_write_1h


def message_usage(raw: object) -> Usage:
    """Read Anthropic's counts, of a whole answer or of one iteration.

    Args:
        raw: A usage, or an iteration in a usage, as the provider sent it.

    Returns:
        The usage in lllm's terms.

    Raises:
        UnreadableUsageError: A count is missing, or is not a whole number.
    """
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


def added(one: Usage, other: Usage) -> Usage:
    """Add two usages, count by count."""
    return Usage(*map(add, astuple(one), astuple(other)))


def _writes(places: Sequence[Mapping[str, object]], *names: str) -> tuple[int, int]:
    """Count the tokens written to a cache, and how many of them are cached for an hour."""
    written = _greatest(places, *names)
    lifetimes = [_mapping(place.get(name)) for place in places for name in _LIFETIMES]
    for_an_hour = _greatest(lifetimes, "ephemeral_1h_input_tokens")
    known = for_an_hour + _greatest(lifetimes, "ephemeral_5m_input_tokens")
    if 0 < written < known:
        raise UnreadableUsageError
    return written or known, for_an_hour


def _greatest(places: Sequence[Mapping[str, object]], *names: str) -> int:
    """Read a count that may have several names; 0 if it is missing or null."""
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
    raise UnreadableUsageError


def _mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    if value:  # servers in PHP write an empty object as []
        raise UnreadableUsageError
    return {}


def _counts_in(raw: object) -> Iterator[tuple[str, object]]:
    """Yield the fields of a usage and its details that are token counts by name."""
    whole = raw if isinstance(raw, dict) else {}
    for place in (whole, *whole.values()):
        for name, value in place.items() if isinstance(place, dict) else ():
            if value is not None and str(name).endswith(("_tokens", "TokenCount")):
                yield str(name), value
