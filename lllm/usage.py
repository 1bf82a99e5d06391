"""Tokens in our terms, from a usage as a provider sent it.

Each API counts in its own way what includes what, and every provider of a dialect has its accent;
the rules stand beside the fields that they are about. A detail that is missing or null is none; the
totals must be there. What is no whole number of tokens makes the whole usage None: a bill that
guesses is worse than one that says it doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.model import Usage


def of_chat(raw: object) -> Usage | None:
    """Of Chat Completions, where input and output include all their details:
    https://platform.openai.com/docs/api-reference/chat/object#chat-object-usage"""
    whole = _mapping(raw)
    inward = _mapping(whole.get("prompt_tokens_details"))
    outward = _mapping(whole.get("completion_tokens_details"))
    counts = _counts(
        whole.get("prompt_tokens"),
        whole.get("completion_tokens"),
        # DeepSeek counts hits of its cache beside the prompt's details:
        # https://api-docs.deepseek.com/guides/kv_cache
        _first(inward.get("cached_tokens"), whole.get("prompt_cache_hit_tokens")),
        _first(inward.get("cache_write_tokens")),
        _first(outward.get("reasoning_tokens")),
        _first(inward.get("audio_tokens")),
        _first(outward.get("audio_tokens")),
    )
    if counts is None:
        return None
    asked, said, cached, written, reasoning, audio_in, audio_out = counts
    if whole.get("total_tokens") == asked + said + reasoning:
        said += reasoning  # xAI counts reasoning beside the completion, not in it
    return Usage(
        input=asked,
        output=said,
        cache_read=cached,
        cache_write_5m=written,
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
    )


def of_responses(raw: object) -> Usage | None:
    """Of the Responses API, where input and output include all their details:
    https://platform.openai.com/docs/api-reference/responses/object#responses/object-usage"""
    whole = _mapping(raw)
    inward = _mapping(whole.get("input_tokens_details"))
    outward = _mapping(whole.get("output_tokens_details"))
    counts = _counts(
        whole.get("input_tokens"),
        whole.get("output_tokens"),
        _first(inward.get("cached_tokens")),
        _first(inward.get("cache_write_tokens")),
        _first(outward.get("reasoning_tokens")),
    )
    if counts is None:
        return None
    asked, said, cached, written, reasoning = counts
    return Usage(
        input=asked, output=said, cache_read=cached, cache_write_5m=written, reasoning=reasoning
    )


def of_messages(raw: object) -> Usage | None:
    """Of Anthropic's Messages, whose input leaves out what was read from or written to the cache:
    https://docs.claude.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance"""
    whole = _mapping(raw)
    created = _mapping(whole.get("cache_creation"))
    outward = _mapping(whole.get("output_tokens_details"))
    counts = _counts(
        whole.get("input_tokens"),
        whole.get("output_tokens"),
        _first(whole.get("cache_read_input_tokens")),
        _first(whole.get("cache_creation_input_tokens")),
        _first(created.get("ephemeral_1h_input_tokens")),
        _first(outward.get("thinking_tokens")),
    )
    if counts is None:
        return None
    asked, said, cached, written, for_an_hour, reasoning = counts
    return Usage(
        input=asked + cached + written,
        output=said,
        cache_read=cached,
        cache_write_5m=written - for_an_hour,
        cache_write_1h=for_an_hour,
        reasoning=reasoning,
    )


def of_embeddings(raw: object) -> Usage | None:
    """Of an embedding, which has no output."""
    counts = _counts(_mapping(raw).get("prompt_tokens"))
    return None if counts is None else Usage(input=counts[0])


def _counts(*values: object) -> list[int] | None:
    """The values, None where one is no number of tokens."""
    counts = [value for value in values if type(value) is int and value >= 0]
    return counts if len(counts) == len(values) else None


def _first(*values: object) -> object:
    return next((value for value in values if value is not None), 0)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
