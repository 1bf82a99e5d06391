"""What providers send as usage, what it means in tokens, and what it costs, worked out by hand.

Each shape names the page that documents it. Each cost is written as tokens times nano-dollars a
token (a dollar for a million tokens is 1000), from the rates that the providers publish:

    OpenAI      https://openai.com/api/pricing/ (gpt-4.1 as read on 2026-06-21)
    Anthropic   https://platform.claude.com/docs/en/about-claude/pricing
    Google      https://ai.google.dev/gemini-api/docs/pricing
    DeepSeek    https://api-docs.deepseek.com/quick_start/pricing (as read on 2026-10-27)
    xAI         https://docs.x.ai/docs/models
    Groq        https://groq.com/pricing
    Mistral     https://mistral.ai/pricing (cached input is a tenth of input)
    Moonshot    https://platform.kimi.ai/docs/pricing/chat
    Fireworks   https://fireworks.ai/pricing
    Together    https://www.together.ai/pricing
    Cerebras    https://www.cerebras.ai/pricing
    Bedrock     https://aws.amazon.com/bedrock/pricing/ (regional endpoints are a tenth dearer)

The day is pinned, so that a rate that changes later changes nothing here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from lllm.events.model import Price, Usage
from lllm.invokers.dialects.chat_completions import answer
from lllm.pricing.attempt_usage import SampledUsage, samplings_of
from lllm.pricing.price import price
from lllm.pricing.provider_bill import billed_in_usage
from lllm.pricing.usage import (
    of_chat,
    of_embeddings,
    of_messages,
    of_responses,
    unreadable,
    validation_error,
)

pytestmark = pytest.mark.money

AT = int(dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC).timestamp()) * 10**9
Raw = dict[str, object]
Reader = Callable[[object], Usage | None]


class Shape(NamedTuple):
    """One usage: who sends it, what it means, what it costs in nano-dollars."""

    name: str
    read: Reader
    provider: str
    model: str
    raw: Raw
    usage: Usage
    nanos: int
    flavor: str = "chat"  # of genai-prices' extractor
    tier: str | None = None
    status: str = "priced"


OPENAI = [
    Shape(  # https://platform.openai.com/docs/api-reference/chat/object
        "openai chat", of_chat, "openai", "gpt-4o-mini",
        {
            "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        },
        Usage(input=19, output=10), 19 * 150 + 10 * 600,
    ),
    Shape(  # https://platform.openai.com/docs/guides/prompt-caching
        "openai chat, cached", of_chat, "openai", "gpt-4o",
        {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(input=2006, output=300, cache_read=1920),
        86 * 2500 + 1920 * 1250 + 300 * 10_000,
    ),
    Shape(  # https://platform.openai.com/docs/guides/reasoning
        "openai chat, reasoning", of_chat, "openai", "o4-mini",
        {
            "prompt_tokens": 9, "completion_tokens": 461, "total_tokens": 470,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 448},
        },
        Usage(input=9, output=461, reasoning=448), 9 * 1100 + 461 * 4400,
    ),
    Shape(  # https://platform.openai.com/docs/guides/audio
        "openai chat, audio", of_chat, "openai", "gpt-audio",
        {
            "prompt_tokens": 120, "completion_tokens": 300, "total_tokens": 420,
            "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 20, "audio_tokens": 100},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "text_tokens": 50, "audio_tokens": 250,
            },
        },
        Usage(input=120, output=300, audio_in=100, audio_out=250),
        20 * 2500 + 100 * 32_000 + 50 * 10_000 + 250 * 64_000,
    ),
    Shape(  # https://platform.openai.com/docs/guides/predicted-outputs
        "openai chat, predictions", of_chat, "openai", "gpt-4.1",
        {
            "prompt_tokens": 250, "completion_tokens": 120, "total_tokens": 370,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 60, "rejected_prediction_tokens": 30,
            },
        },
        Usage(input=250, output=120), 250 * 2000 + 120 * 8000,
    ),
    Shape(  # https://platform.openai.com/docs/guides/prompt-caching, since GPT-5.6
        "openai chat, cache written", of_chat, "openai", "gpt-5.6-sol",
        {
            "prompt_tokens": 4000, "completion_tokens": 200, "total_tokens": 4200,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 2500},
            "completion_tokens_details": {"reasoning_tokens": 128},
        },
        Usage(input=4000, output=200, cache_read=1000, cache_write_5m=2500, reasoning=128),
        500 * 4000 + 1000 * 400 + 2500 * 5000 + 200 * 20_000,
    ),
    Shape(  # https://platform.openai.com/docs/guides/flex-processing
        "openai chat, flex", of_chat, "openai", "gpt-5",
        {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        Usage(input=1000, output=100), 1000 * 625 + 100 * 5000, tier="flex",
    ),
    Shape(  # https://platform.openai.com/docs/api-reference/responses/object
        "openai responses", of_responses, "openai", "gpt-4.1",
        {
            "input_tokens": 36, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 87, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 123,
        },
        Usage(input=36, output=87), 36 * 2000 + 87 * 8000, "responses",
    ),
    Shape(  # https://platform.openai.com/docs/guides/reasoning
        "openai responses, reasoning", of_responses, "openai", "o4-mini",
        {
            "input_tokens": 75, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1186, "output_tokens_details": {"reasoning_tokens": 1024},
            "total_tokens": 1261,
        },
        Usage(input=75, output=1186, reasoning=1024), 75 * 1100 + 1186 * 4400, "responses",
    ),
    Shape(  # https://platform.openai.com/docs/api-reference/embeddings/create
        "openai embeddings", of_embeddings, "openai", "text-embedding-3-small",
        {"prompt_tokens": 8, "total_tokens": 8},
        Usage(input=8), 8 * 20, "embeddings",
    ),
    Shape(  # https://learn.microsoft.com/azure/ai-foundry/openai/reference
        "azure chat", of_chat, "azure", "gpt-4o-mini-2024-07-18",
        {
            "prompt_tokens": 1400, "completion_tokens": 33, "total_tokens": 1433,
            "prompt_tokens_details": {"cached_tokens": 1280, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        Usage(input=1400, output=33, cache_read=1280), 120 * 150 + 1280 * 75 + 33 * 600,
    ),
]  # fmt: skip

ANTHROPIC = [
    Shape(  # https://platform.claude.com/docs/en/api/messages
        "anthropic messages", of_messages, "anthropic", "claude-haiku-4-5-20251001",
        {
            "input_tokens": 2095, "output_tokens": 503, "cache_creation": None,
            "cache_creation_input_tokens": None, "cache_read_input_tokens": None,
            "server_tool_use": None, "service_tier": "standard",
        },
        Usage(input=2095, output=503), 2095 * 1000 + 503 * 5000, "default",
    ),
    Shape(  # https://docs.claude.com/en/docs/build-with-claude/prompt-caching
        "anthropic messages, cached", of_messages, "anthropic", "claude-haiku-4-5",
        {
            "input_tokens": 50, "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 556, "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
        },
        Usage(input=2406, output=503, cache_read=1800, cache_write_5m=456, cache_write_1h=100),
        50 * 1000 + 1800 * 100 + 456 * 1250 + 100 * 2000 + 503 * 5000, "default",
    ),
    Shape(  # https://github.com/anthropics/anthropic-sdk-python/releases/tag/v0.105.0
        "anthropic messages, thinking", of_messages, "anthropic", "claude-sonnet-4-6",
        {
            "input_tokens": 70, "output_tokens": 900, "service_tier": "standard",
            "output_tokens_details": {"thinking_tokens": 640}, "inference_geo": "global",
        },
        Usage(input=70, output=900, reasoning=640), 70 * 3000 + 900 * 15_000, "default",
    ),
    Shape(  # https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
        "anthropic messages, compacted", of_messages, "anthropic", "claude-sonnet-4-6",
        {
            "input_tokens": 23_000, "output_tokens": 1000,
            "iterations": [
                {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
                {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            ],
        },
        Usage(input=203_000, output=4500), 203_000 * 3000 + 4500 * 15_000, "default",
    ),
    Shape(  # https://platform.claude.com/docs/en/build-with-claude/batch-processing
        "anthropic messages, batch", of_messages, "anthropic", "claude-haiku-4-5",
        {"input_tokens": 1000, "output_tokens": 200, "service_tier": "batch"},
        Usage(input=1000, output=200), 1000 * 500 + 200 * 2500, "default", tier="batch",
    ),
    Shape(  # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
        "bedrock messages", of_messages, "aws", "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        {
            "input_tokens": 12, "cache_creation_input_tokens": 2000,
            "cache_read_input_tokens": 4000, "output_tokens": 100,
        },
        Usage(input=6012, output=100, cache_read=4000, cache_write_5m=2000),
        12 * 1100 + 4000 * 110 + 2000 * 1375 + 100 * 5500, "anthropic",
    ),
    Shape(  # https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude
        "vertex messages", of_messages, "google", "claude-haiku-4-5@20251001",
        {
            "input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 40,
        },
        Usage(input=320, output=40, cache_read=300), 20 * 1000 + 300 * 100 + 40 * 5000, "anthropic",
    ),
    Shape(  # https://platform.claude.com/docs/en/api/openai-sdk
        "anthropic chat", of_chat, "anthropic", "claude-haiku-4-5",
        {
            "prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22,
            "prompt_tokens_details": None, "completion_tokens_details": None,
        },
        Usage(input=14, output=8), 14 * 1000 + 8 * 5000,
    ),
    Shape(  # https://docs.litellm.ai/docs/completion/prompt_caching
        "litellm's chat of anthropic", of_chat, "anthropic", "claude-haiku-4-5",
        {
            "prompt_tokens": 2406, "completion_tokens": 503, "total_tokens": 2909,
            "prompt_tokens_details": {
                "cached_tokens": 1800, "cache_creation_tokens": 556,
                "cache_creation_token_details": {
                    "ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100,
                },
            },
            "cache_creation_input_tokens": 556, "cache_read_input_tokens": 1800,
        },
        Usage(input=2406, output=503, cache_read=1800, cache_write_5m=456, cache_write_1h=100),
        50 * 1000 + 1800 * 100 + 456 * 1250 + 100 * 2000 + 503 * 5000,
    ),
]  # fmt: skip

OTHERS = [
    Shape(  # https://discuss.ai.google.dev/t/127400
        "google chat, thoughts", of_chat, "google", "gemini-2.5-flash",
        {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103},
        Usage(input=9, output=94, reasoning=93), 9 * 300 + 94 * 2500,
    ),
    Shape(  # https://ai.google.dev/gemini-api/docs/openai
        "google chat, cached", of_chat, "google", "gemini-2.5-flash",
        {
            "prompt_tokens": 5000, "completion_tokens": 60, "total_tokens": 5060,
            "prompt_tokens_details": {"cached_tokens": 4096, "audio_tokens": 500},
        },
        Usage(input=5000, output=60, cache_read=4096, audio_in=500),
        404 * 300 + 4096 * 30 + 500 * 1000 + 60 * 2500,
    ),
    Shape(  # https://openrouter.ai/docs/features/prompt-caching
        "openrouter chat, cached", of_chat, "openrouter", "anthropic/claude-haiku-4.5",
        {
            "prompt_tokens": 10_339, "completion_tokens": 60, "total_tokens": 10_399,
            "prompt_tokens_details": {"cached_tokens": 10_000, "cache_write_tokens": 318},
        },
        Usage(input=10_339, output=60, cache_read=10_000, cache_write_5m=318),
        21 * 1000 + 10_000 * 100 + 318 * 1250 + 60 * 5000,
    ),
    Shape(  # https://openrouter.ai/docs/use-cases/usage-accounting
        "openrouter chat, its cost", of_chat, "openrouter", "openai/gpt-4o-mini",
        {
            "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196,
            "cost": 0.0000303, "is_byok": False,
            "cost_details": {"upstream_inference_cost": 0.0000303},
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(input=194, output=2), 30_300, status="provider",
    ),
    Shape(  # https://openrouter.ai/docs/use-cases/usage-accounting
        "openrouter chat, a key of one's own", of_chat, "openrouter", "openai/gpt-4o-mini",
        {
            "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196,
            "cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19},
        },
        Usage(input=194, output=2), 19_950_000_000, status="provider",
    ),
    Shape(  # https://console.groq.com/docs/prompt-caching
        "groq chat, cached", of_chat, "groq", "openai/gpt-oss-120b",
        {
            "queue_time": 0.026, "prompt_tokens": 4641, "prompt_time": 0.009,
            "completion_tokens": 1817, "completion_time": 5.57, "total_tokens": 6458,
            "total_time": 5.58, "prompt_tokens_details": {"cached_tokens": 4608},
        },
        Usage(input=4641, output=1817, cache_read=4608),
        33 * 150 + 4608 * 75 + 1817 * 600, "default",
    ),
    Shape(  # https://console.groq.com/docs/reasoning
        "groq chat, reasoning", of_chat, "groq", "openai/gpt-oss-120b",
        {
            "prompt_tokens": 80, "completion_tokens": 240, "total_tokens": 320,
            "completion_tokens_details": {"reasoning_tokens": 200},
        },
        Usage(input=80, output=240, reasoning=200), 80 * 150 + 240 * 600, "default",
    ),
    Shape(  # https://api-docs.deepseek.com/api/create-chat-completion
        "deepseek chat", of_chat, "deepseek", "deepseek-v4-pro",
        {
            "prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 640},
            "completion_tokens_details": {"reasoning_tokens": 250},
            "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360,
        },
        Usage(input=1000, output=300, cache_read=640, reasoning=250),
        360 * 660 + 640 * 22 + 300 * 1980,
    ),
    Shape(  # https://api-docs.deepseek.com/guides/kv_cache
        "deepseek chat, hits alone", of_chat, "deepseek", "deepseek-v4-pro",
        {
            "prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300,
            "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360,
        },
        Usage(input=1000, output=300, cache_read=640), 360 * 660 + 640 * 22 + 300 * 1980,
    ),
    Shape(  # https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching
        "mistral chat", of_chat, "mistral", "mistral-small-latest",
        {
            "prompt_tokens": 801, "completion_tokens": 2, "total_tokens": 803,
            "prompt_tokens_details": {"cached_tokens": 768}, "prompt_audio_seconds": None,
        },
        Usage(input=801, output=2, cache_read=768), 33 * 150 + 768 * 15 + 2 * 600, "default",
    ),
    Shape(  # https://docs.mistral.ai/api/#tag/chat
        "mistral chat, cached beside the details", of_chat, "mistral", "mistral-small-latest",
        {
            "prompt_tokens": 801, "completion_tokens": 2, "total_tokens": 803,
            "num_cached_tokens": 768, "prompt_tokens_details": None,
        },
        Usage(input=801, output=2, cache_read=768), 33 * 150 + 768 * 15 + 2 * 600, "default",
    ),
    Shape(  # https://docs.mistral.ai/api/#tag/chat
        "mistral chat, details in the singular", of_chat, "mistral", "mistral-small-latest",
        {
            "prompt_tokens": 801, "completion_tokens": 2, "total_tokens": 803,
            "num_cached_tokens": 0, "prompt_token_details": {"cached_tokens": 768},
        },
        Usage(input=801, output=2, cache_read=768), 33 * 150 + 768 * 15 + 2 * 600, "default",
    ),
    Shape(  # https://docs.x.ai/docs/key-information/consumption-and-rate-limits
        "xai chat, reasoning beside", of_chat, "x-ai", "grok-4.20",
        {
            "prompt_tokens": 10_120, "completion_tokens": 1499, "total_tokens": 14_428,
            "prompt_tokens_details": {"cached_tokens": 128},
            "completion_tokens_details": {"reasoning_tokens": 2809},
        },
        Usage(input=10_120, output=4308, cache_read=128, reasoning=2809),
        9992 * 1250 + 128 * 200 + 4308 * 2500,
    ),
    Shape(  # https://docs.x.ai/developers/cost-tracking
        "xai chat, its cost", of_chat, "x-ai", "grok-4.20",
        {
            "prompt_tokens": 10_120, "completion_tokens": 1499, "total_tokens": 14_428,
            "prompt_tokens_details": {"cached_tokens": 128},
            "completion_tokens_details": {"reasoning_tokens": 2809},
            "cost_in_usd_ticks": 232_856_000,
        },
        Usage(input=10_120, output=4308, cache_read=128, reasoning=2809),
        9992 * 1250 + 128 * 200 + 4308 * 2500, status="provider",
    ),
    Shape(  # https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing
        "xai responses", of_responses, "x-ai", "grok-4.20",
        {
            "input_tokens": 125, "output_tokens": 48, "total_tokens": 173,
            "input_tokens_details": {"cached_tokens": 98},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(input=125, output=48, cache_read=98), 27 * 1250 + 98 * 200 + 48 * 2500, "responses",
    ),
    Shape(  # https://docs.perplexity.ai/getting-started/pricing
        "perplexity chat, its cost", of_chat, "perplexity", "sonar",
        {
            "prompt_tokens": 8, "completion_tokens": 439, "total_tokens": 447,
            "search_context_size": "low",
            "cost": {
                "input_tokens_cost": 0.000008, "output_tokens_cost": 0.000439,
                "request_cost": 0.005, "total_cost": 0.005447,
            },
        },
        Usage(input=8, output=439), 8 * 1000 + 439 * 1000 + 5_000_000, "default",
        status="provider",
    ),
    Shape(  # https://docs.perplexity.ai/getting-started/pricing
        "perplexity chat, deep research", of_chat, "perplexity", "sonar-deep-research",
        {
            "prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
            "citation_tokens": 20_016, "num_search_queries": 18, "reasoning_tokens": 73_997,
            "cost": {"total_cost": 0.409393, "currency": "USD"},
        },
        Usage(input=33, output=7163 + 73_997, reasoning=73_997),
        33 * 2000 + 7163 * 8000 + 20_016 * 2000 + 73_997 * 3000 + 18 * 5_000_000, "default",
        status="provider",
    ),
    Shape(  # https://platform.kimi.ai/docs/api/chat
        "moonshot chat", of_chat, "moonshotai", "kimi-k2.6",
        {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10},
        Usage(input=19, output=21, cache_read=10), 9 * 950 + 10 * 160 + 21 * 4000,
    ),
    Shape(  # https://docs.fireworks.ai/guides/prompt-caching
        "fireworks chat", of_chat, "fireworks", "accounts/fireworks/models/kimi-k2p5",
        {
            "prompt_tokens": 1100, "completion_tokens": 90, "total_tokens": 1190,
            "prompt_tokens_details": {"cached_tokens": 1024},
        },
        Usage(input=1100, output=90, cache_read=1024), 76 * 600 + 1024 * 100 + 90 * 3000,
    ),
    Shape(  # https://docs.together.ai/reference/chat-completions
        "together chat", of_chat, "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        {"prompt_tokens": 45, "completion_tokens": 12, "total_tokens": 57, "cached_tokens": 0},
        Usage(input=45, output=12), 45 * 880 + 12 * 880,
    ),
    Shape(  # https://inference-docs.cerebras.ai/api-reference/chat-completions
        "cerebras chat", of_chat, "cerebras", "gpt-oss-120b",
        {
            "prompt_tokens": 74, "completion_tokens": 150, "total_tokens": 224,
            "completion_tokens_details": {"reasoning_tokens": 100},
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        Usage(input=74, output=150, reasoning=100), 74 * 350 + 150 * 750,
    ),
    Shape(  # https://docs.ollama.com/api/openai-compatibility
        "ollama chat", of_chat, "ollama", "llama3.2",
        {"prompt_tokens": 26, "completion_tokens": 9, "total_tokens": 35},
        Usage(input=26, output=9), 0, status="free",
    ),
    Shape(  # https://lmstudio.ai/docs/developer/openai-compat
        "lm studio chat", of_chat, "lm-studio", "qwen3-8b",
        {
            "prompt_tokens": 26, "completion_tokens": 90, "total_tokens": 116,
            "completion_tokens_details": {"reasoning_tokens": 70},
        },
        Usage(input=26, output=90, reasoning=70), 0, status="free",
    ),
]  # fmt: skip

SHAPES = [*OPENAI, *ANTHROPIC, *OTHERS]
by_name = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def priced(shape: Shape) -> Price:
    return price(
        shape.read(shape.raw),
        provider=shape.provider, model=shape.model, at=AT,
        service_tier=shape.tier, billed=billed_in_usage(shape.raw), usage_raw=shape.raw,
    )  # fmt: skip


@by_name
def test_tokens_in_our_terms(shape: Shape) -> None:
    """Each documented usage is read by its provider's own rule of what includes what."""
    got = shape.read(shape.raw)
    assert got == shape.usage
    assert got is not None
    assert validation_error(got) is None


@by_name
def test_what_it_costs(shape: Shape) -> None:
    """Each costs what a pocket calculator says, to the nano-dollar."""
    got = priced(shape)
    assert (got.status, got.nanos) == (shape.status, shape.nanos)
    if got.status == "priced":
        assert sum(got.parts.values()) == got.nanos


def test_how_many_there_are() -> None:
    """At least 25 shapes of 8 providers are covered."""
    assert len(SHAPES) >= 25
    assert len({shape.provider for shape in SHAPES}) >= 8


# Where genai-prices' extractor says something else than we do, and why ours is right. What it says
# of the others must agree; a version that is corrected says the same as we do.
DIFFERENCES: dict[str, tuple[set[str], str]] = {
    "anthropic messages, compacted": (
        {"input", "output"}, "It leaves out what the compaction used, which is billed, too.",
    ),
    "litellm's chat of anthropic": (
        {"cache_read", "cache_write", "cache_write_1h"}, "LiteLLM's answers are in no extractor.",
    ),
    "google chat, thoughts": (
        {"output", "reasoning"}, "The total has 93 tokens that neither count has: the thoughts.",
    ),
    "deepseek chat, hits alone": (
        {"cache_read"}, "It reads only the details, which older answers don't have.",
    ),
    "mistral chat, cached beside the details": (
        {"cache_read"}, "It reads only prompt_tokens_details, one of three places for it.",
    ),
    "mistral chat, details in the singular": (
        {"cache_read"}, "The same.",
    ),
    "perplexity chat, deep research": (
        {"output"}, "It adds citation tokens to the output, where no model has said them.",
    ),
    "moonshot chat": (
        {"cache_read"}, "It reads only the details; the documented place is beside them.",
    ),
}  # fmt: skip
COMPARED = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning",
            "audio_in", "audio_out")  # fmt: skip


EXTRACTING = {provider.id: provider for provider in providers if provider.extractors}


def theirs(shape: Shape) -> tuple[int, ...]:
    """The counts that genai-prices extracts."""
    raw = {"model": shape.model, "usage": shape.raw}
    said = EXTRACTING[shape.provider].extract_usage(raw, api_flavor=shape.flavor)[1]
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "output_reasoning",
             "input_audio", "output_audio")  # fmt: skip
    return tuple(int(said.reported_value(f"{name}_tokens")) for name in names)


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape.provider in EXTRACTING], ids=lambda one: one.name
)
def test_where_genai_prices_says_otherwise(shape: Shape) -> None:
    """Our counts are those of genai-prices' extract_usage, but for the differences that are listed
    with their reason."""
    usage = shape.usage
    ours = (
        usage.input, usage.output, usage.cache_read, usage.cache_write_5m + usage.cache_write_1h,
        usage.cache_write_1h, usage.reasoning, usage.audio_in, usage.audio_out,
    )  # fmt: skip
    counted = zip(COMPARED, ours, theirs(shape), strict=True)
    differ = {name for name, one, other in counted if one != other}
    known, _ = DIFFERENCES.get(shape.name, (set(), ""))
    assert differ <= known


def test_a_float_is_no_count_of_ours() -> None:
    """genai-prices takes 12.5 tokens; we say that we don't know."""
    raw = {"prompt_tokens": 12.5, "completion_tokens": 1}
    said = EXTRACTING["openai"].extract_usage({"usage": raw}, api_flavor="chat")[1]
    assert said.input_tokens == 12.5
    assert of_chat(raw) is None


# -- nonsense

READERS: list[tuple[Reader, str, str]] = [
    (of_chat, "prompt_tokens", "completion_tokens"),
    (of_responses, "input_tokens", "output_tokens"),
    (of_messages, "input_tokens", "output_tokens"),
]
NO_COUNTS: list[object] = ["12", "", 1.0, 1.5, -1, True, float("nan"), [], [1], {"tokens": 1}]
NO_COUNTS.append(pytest.param(-(10**5000), id="huge"))  # which no one can print


@pytest.mark.parametrize(("read", "inward", "outward"), READERS)
@pytest.mark.parametrize("wrong", [*NO_COUNTS, None])
def test_a_total_that_is_no_number_of_tokens(
    read: Reader, inward: str, outward: str, wrong: object
) -> None:
    """A total that is a string, null, negative, a float or a bool makes the call unpriced, and the
    reason says which."""
    for name in (inward, outward):
        raw = {inward: 5, outward: 5, name: wrong}
        usage = read(raw)
        assert usage is None
        got = price(usage, provider="openai", model="gpt-4o-mini", at=AT, usage_raw=raw)
        assert (got.status, got.nanos) == ("unpriced", None)
        assert got.reason is not None
        assert ("it lacks" if wrong is None else name) in got.reason


@pytest.mark.parametrize("wrong", [*NO_COUNTS[:7], [1]])
@pytest.mark.parametrize(
    ("read", "place"),
    [
        (of_chat, ("prompt_tokens_details", "cached_tokens")),
        (of_chat, ("completion_tokens_details", "reasoning_tokens")),
        (of_chat, ("prompt_cache_hit_tokens",)),
        (of_chat, ("total_tokens",)),
        (of_responses, ("input_tokens_details", "cached_tokens")),
        (of_messages, ("cache_read_input_tokens",)),
        (of_messages, ("cache_creation", "ephemeral_1h_input_tokens")),
    ],
)
def test_a_detail_that_is_no_number_of_tokens(
    read: Reader, place: tuple[str, ...], wrong: object
) -> None:
    """So does a detail; one that is missing or null is none."""
    totals: Raw = {
        "prompt_tokens": 5, "completion_tokens": 5, "input_tokens": 5, "output_tokens": 5,
    }  # fmt: skip

    def with_detail(value: object) -> Raw:
        return totals | {place[0]: {place[1]: value} if place[1:] else value}

    assert read(with_detail(wrong)) is None
    assert place[-1] in unreadable(with_detail(wrong))
    assert read(with_detail(None)) == read(totals) == Usage(input=5, output=5)


@pytest.mark.parametrize("raw", [None, "", [], "12", 5, {}, {"usage": {}}])
def test_no_usage_at_all(raw: object) -> None:
    """What is no usage is none, for every dialect."""
    assert [read(raw) for read in (of_chat, of_responses, of_messages, of_embeddings)] == [None] * 4
    assert billed_in_usage(raw) is None


def test_details_that_are_no_object() -> None:
    """Details of another type are nonsense, but for the empty list of a server written in PHP."""
    totals = {"prompt_tokens": 5, "completion_tokens": 5}
    assert of_chat(totals | {"prompt_tokens_details": []}) == Usage(input=5, output=5)
    assert of_chat(totals | {"prompt_tokens_details": [{"cached_tokens": 1}]}) is None


def test_writes_that_contradict_their_sum() -> None:
    """Writes to the cache that are more than their own sum are nonsense."""
    raw = {
        "input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 6},
    }  # fmt: skip
    assert of_messages(raw) is None
    assert of_messages(raw | {"cache_creation_input_tokens": None}) == Usage(
        input=12, output=1, cache_write_5m=5, cache_write_1h=6
    )


def test_cached_tokens_that_an_input_leaves_out() -> None:
    """Where the total shows that the input leaves out what was cached, they are added to it."""
    raw = {
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 900},
    }  # fmt: skip
    assert of_chat(raw) == Usage(input=1000, output=10, cache_read=900)
    one = raw | {"total_tokens": 111, "prompt_tokens_details": {"cached_tokens": 1}}
    assert of_chat(one) == Usage(input=101, output=10, cache_read=1)


@pytest.mark.parametrize("beyond", [-5, 0, 1, 2])
def test_a_total_beyond_its_parts(beyond: int) -> None:
    """What a total has beyond input and output is reasoning that the output leaves out; a total
    that has less says nothing."""
    raw = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 + beyond}
    hidden = max(beyond, 0)
    assert of_chat(raw) == Usage(input=100, output=10 + hidden, reasoning=hidden)


def test_one_token_too_many() -> None:
    """Writes to the cache may be one token, and not one more than their own sum."""
    raw = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 1}
    lifetimes = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0}
    assert of_messages(raw | {"cache_creation": lifetimes}) == Usage(
        input=2, output=1, cache_write_5m=1
    )
    assert of_messages(raw | {"cache_creation": lifetimes | {"ephemeral_1h_input_tokens": 1}}) is (
        None
    )


def test_an_embedding_that_counts_once() -> None:
    """The input of an embedding stands under either name; where they differ, it is the prompt's."""
    assert of_embeddings({"prompt_tokens": 3}) == Usage(input=3)
    assert of_embeddings({"total_tokens": 4}) == Usage(input=4)
    assert of_embeddings({"prompt_tokens": 3, "total_tokens": 4}) == Usage(input=3)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (-1, "below zero"),
        ({}, "a dict"),
        ([1], "a list"),
        (True, "True"),
        ("x" * 50, "'" + "x" * 39),
    ],
)
def test_how_a_wrong_number_is_told(wrong: object, shown: str) -> None:
    """A reason names what should be a number of tokens, shortly, and no null before it."""
    name = "y" * 50 + "_tokens"
    assert unreadable({"input_tokens": None, name: wrong}) == (
        f"The usage can't be read: {'y' * 40} is {shown}, no number of tokens."
    )


def test_iterations_beside_their_sum() -> None:
    """What was compacted is a sampling of its own; where the answer's iterations are not the rest,
    the rest is one sampling, and not known."""
    raw = {
        "iterations": [
            {"type": "compaction", "input_tokens": 50, "output_tokens": 5},
            {"type": "message", "input_tokens": 10, "output_tokens": 1},
            {"type": "advisor_message", "model": "m", "input_tokens": 7, "output_tokens": 2},
        ]
    }
    compacted, turn = (
        SampledUsage(None, Usage(input=50, output=5)),
        SampledUsage(None, Usage(input=10, output=1)),
    )
    advisor = SampledUsage("m", Usage(input=7, output=2))
    assert samplings_of(Usage(input=60, output=6), raw) == ([turn, compacted, advisor], True)
    rest = SampledUsage(None, Usage(input=11, output=1))
    assert samplings_of(Usage(input=61, output=6), raw) == ([rest, compacted, advisor], False)
    thought = Usage(input=60, output=6, reasoning=3)
    assert samplings_of(thought, raw) == ([turn, compacted, advisor], True)
    assert samplings_of(turn.usage, {"iterations": []}) == ([turn], False)
    unknown = {"type": "z" * 50, "input_tokens": 1, "output_tokens": 0}
    with pytest.raises(ValueError, match=f"of the kind '{'z' * 40}' in the usage"):
        samplings_of(turn.usage, {"iterations": [unknown]})


# -- what the provider says that it cost


@pytest.mark.parametrize(
    ("raw", "nanos"),
    [
        ({"cost": 0.95}, 950_000_000),
        ({"cost": 0}, 0),
        ({"cost": 1}, 1_000_000_000),
        ({"cost": 5e-10}, 0),  # half a nano-dollar goes to the even neighbour
        ({"cost": 1.5e-9}, 2),
        ({"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": 2}}, 3 * 10**9),
        ({"cost": 0.1, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, 10**8),
        ({"cost": 0.1, "is_byok": False, "cost_details": {"upstream_inference_cost": 9}}, 10**8),
        ({"cost": 0.1, "cost_details": {"upstream_inference_cost": 0.1}}, 10**8),
        ({"cost": 0.1, "cost_details": {"upstream_inference_cost": 0.3}}, 10**8),
        ({"cost": 0.1, "is_byok": None, "cost_details": {"upstream_inference_cost": 9}}, 10**8),
        ({"cost": 0.1, "cost_details": None}, 10**8),
        ({"cost_in_usd_ticks": 37_756_000}, 3_775_600),
        ({"cost_in_usd_ticks": 25}, 2),
        ({"cost_in_usd_ticks": 0}, 0),
        ({"cost": {"total_cost": 0.012609}}, 12_609_000),
        ({"cost": {"total_cost": 1, "currency": "EUR"}}, None),
        ({"cost": {}}, None),
        ({"cost": None}, None),
        ({"cost": "0.95"}, None),
        ({"cost": -0.95}, None),
        ({"cost": True}, None),
        ({"cost": float("nan")}, None),
        ({"cost": float("inf")}, None),
        ({"cost": 10**9}, None),  # a thousand times what an event can hold
        ({"cost": 10**400}, None),
        ({"cost_in_usd_ticks": "37756000"}, None),
        ({"cost_in_usd_ticks": -1}, None),
        ({"prompt_tokens": 1}, None),
    ],
)  # fmt: skip
def test_what_a_provider_bills(raw: Raw, nanos: int | None) -> None:
    """A cost that the provider names is taken to the nano-dollar, and nonsense is none."""
    assert billed_in_usage(raw) == nanos


def test_an_answer_brings_its_bill() -> None:
    """A chat completion whose usage names its cost is priced by the provider."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.000012}
    body = {"choices": [{"message": {"role": "assistant", "content": "Hi."}}], "usage": usage}
    assert answer(body, model="m", request_id=None).billed == 12_000


# -- whatever comes

counts = st.one_of(st.integers(-2, 3000), st.integers(-(10**30), 10**30))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), counts, st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = sorted(
    {name for shape in SHAPES for name in shape.raw}
    | {
        name
        for shape in SHAPES
        for details in shape.raw.values()
        for name in (details if isinstance(details, dict) else ())
    }
)
places = st.dictionaries(st.sampled_from(NAMES), st.one_of(counts, anything), max_size=8)
usages = st.dictionaries(
    st.sampled_from(NAMES), st.one_of(counts, counts, places, st.lists(places), anything)
)


@given(st.one_of(usages, anything), st.sampled_from(SHAPES))
def test_nothing_that_comes_raises(raw: object, shape: Shape) -> None:
    """Whatever a provider sends is read, or not; it is priced, or says why not; nothing raises, and
    the parts of a bill are its sum."""
    for read in (of_chat, of_responses, of_messages, of_embeddings):
        got = price(
            read(raw), provider=shape.provider, model=shape.model, at=AT,
            billed=billed_in_usage(raw), usage_raw=raw,
        )  # fmt: skip
        assert (got.nanos is None) == (got.status == "unpriced")
        assert got.reason or got.status in ("priced", "provider")
        if got.status == "priced":
            assert got.nanos == sum(got.parts.values())


@given(st.sampled_from(SHAPES), st.data())
def test_one_wrong_field_never_raises(shape: Shape, data: st.DataObject) -> None:
    """Nor does a documented usage with one field that went wrong."""
    name = data.draw(st.sampled_from(sorted(shape.raw)))
    raw = shape.raw | {name: data.draw(st.one_of(counts, anything))}
    usage = shape.read(raw)
    assert usage is None or all(type(count) is int for count in (usage.input, usage.output))
    unreadable(raw)
    billed_in_usage(raw)
