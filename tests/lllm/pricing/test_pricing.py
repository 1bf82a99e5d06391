"""Pricing: usage to nano-dollars, by the bundled data of genai-prices.

The rates that the hand-worked examples stand on are read from that data and asserted beside them,
so that a newer version that changes one fails in the line that names it.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal, getcontext, localcontext
from typing import TYPE_CHECKING

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from lllm.events.model import Price, Usage
from lllm.pricing.local_models import local_provider
from lllm.pricing.price import price
from lllm.projections.session.invoke_cost import dollars, nanos

pytestmark = pytest.mark.money

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 10**9


AT = ns("2026-11-01T12:00")


def mini(usage: Usage | None) -> Price:
    return price(usage, provider="openai", model="gpt-4o-mini", at=AT)


def test_each_component_is_tokens_times_rate() -> None:
    """800 uncached at $0.15, 200 cached at $0.075 and 500 out at $0.60 a million are $0.000435."""
    got = mini(Usage(input=1000, output=500, cache_read=200))
    assert got.rates == {
        "input": "0.00000015",
        "cache_read": "0.000000075",
        "output": "0.0000006",
    }
    assert got.parts == {"input": 120_000, "cache_read": 15_000, "output": 300_000}
    assert got.nanos == 435_000
    assert (got.status, got.source) == ("priced", "genai-prices")
    assert got.source_version


def test_cache_writes_have_rates_by_lifetime() -> None:
    """Writes for 5 minutes and for an hour are one component, each at its own rate."""
    usage = Usage(input=1000, output=0, cache_read=100, cache_write_5m=200, cache_write_1h=300)
    got = price(usage, provider="anthropic", model="claude-haiku-4-5", at=AT)
    assert got.rates["input"] == "0.000001"
    assert got.rates["cache_write"] == "0.00000125"
    assert got.rates["cache_write_1h"] == "0.000002"
    assert got.parts == {
        "input": 400 * 1000,
        "cache_read": 100 * 100,
        "cache_write": 200 * 1250 + 300 * 2000,
    }


def test_audio_has_its_own_components() -> None:
    """Audio tokens, in and out, leave the text components where the model has a rate for them."""
    usage = Usage(input=1000, output=500, audio_in=600, audio_out=400)
    got = price(usage, provider="openai", model="gpt-realtime", at=AT)
    rate = {name: Decimal(text) for name, text in got.rates.items()}
    assert got.parts == {
        "input": 400 * rate["input"] * 10**9,
        "audio_in": 600 * rate["audio_in"] * 10**9,
        "output": 100 * rate["output"] * 10**9,
        "audio_out": 400 * rate["audio_out"] * 10**9,
    }
    assert rate["audio_in"] > rate["input"]


def test_audio_that_must_be_cached_is_priced_as_cached() -> None:
    """Where cached and audio tokens together exceed the input, the overlap is cached audio."""
    usage = Usage(input=100, cache_read=60, audio_in=70)
    got = price(usage, provider="openai", model="gpt-realtime", at=AT)
    rate = {name: Decimal(text) * 10**9 for name, text in got.rates.items()}
    assert got.parts["audio_in"] == 40 * rate["audio_in"]
    assert got.parts["cache_read"] == 30 * rate["cache_read"] + 30 * rate["cache_audio_read"]
    assert "input" not in got.parts


def test_cached_tokens_without_a_rate_are_priced_as_input() -> None:
    """Cached tokens of a model without such a price cost what input costs."""
    usage = Usage(input=1000, cache_read=400)
    got = price(usage, provider="openai", model="gpt-4o-audio-preview", at=AT)
    assert got.parts == {"input": 1000 * 2500}


def test_audio_without_a_rate_is_unpriced() -> None:
    """Audio costs many times what text does, so its tokens have no price where no rate is known."""
    usage = Usage(input=1000, audio_in=300)
    got = price(usage, provider="openai", model="gpt-4o-audio-preview", at=AT)
    assert (got.status, got.nanos) == ("unpriced", None)
    assert "300 tokens of audio that went in" in (got.reason or "")


def test_tiers_count_for_all_tokens() -> None:
    """Past a tier's threshold every token has the tier's rate, at it none has."""
    at_edge, past = (
        price(Usage(input=tokens), provider="google", model="gemini-2.5-pro", at=AT)
        for tokens in (200_000, 200_001)
    )
    assert (at_edge.rates["input"], past.rates["input"]) == ("0.00000125", "0.0000025")
    assert (at_edge.nanos, past.nanos) == (200_000 * 1250, 200_001 * 2500)


def test_rates_depend_on_when() -> None:
    """The rates are those of the moment: DeepSeek's were lower at night."""
    day, night = (
        price(Usage(input=10**6), provider="deepseek", model="deepseek-reasoner", at=ns(when))
        for when in ("2025-03-01T12:00", "2025-03-01T20:00")
    )
    assert (day.nanos, night.nanos) == (550_000_000, 135_000_000)


def test_a_service_tier_has_its_rates() -> None:
    """Flex is half the price of gpt-5; a tier that nobody knows the rates of has none."""
    usage = Usage(input=1000)
    standard, flex, other = (
        price(usage, provider="openai", model="gpt-5", at=AT, service_tier=tier).nanos
        for tier in (None, "flex", "no-such-tier")
    )
    assert (standard, flex, other) == (1_250_000, 625_000, None)


def test_a_batch_and_a_fast_answer_have_theirs() -> None:
    """So do Anthropic's batches and its fast mode, which are no service tiers to genai-prices."""
    batch, standard, fast = (
        price(Usage(input=1000), provider="anthropic", model=model, at=AT, service_tier=tier)
        for model, tier in (
            ("claude-haiku-4-5", "batch"),
            ("claude-haiku-4-5", "standard"),
            ("claude-opus-4-8", "fast"),
        )
    )
    assert (batch.nanos, standard.nanos) == (500_000, 1_000_000)
    assert (fast.nanos, fast.status) == (10_000_000, "priced")


def test_the_date_from_which_rates_hold() -> None:
    """A price names the date from which its rates hold, where the data says one, also for the rates
    of a tier."""

    def effective(model: str, when: str, tier: str | None = None) -> str | None:
        got = price(Usage(input=1), provider="openai", model=model, at=ns(when), service_tier=tier)
        return got.effective

    assert effective("o3", "2025-06-09T23:59") is None
    assert effective("o3", "2025-06-10T00:00") == "2025-06-10"
    assert effective("gpt-4o-mini", "2026-11-01T12:00") is None
    assert effective("gpt-5", "2026-11-01T12:00", "flex") == "2026-10-12"
    assert effective("gpt-5", "2026-10-11T12:00", "flex") is None
    assert effective("gpt-5.6-sol", "2026-11-01T12:00", "flex") == "2026-10-12"
    assert effective("gpt-5.6-sol", "2026-11-01T12:00") == "2026-08-21"


def test_a_request_may_have_a_fee() -> None:
    """A fee for the request is a part of its own."""
    got = price(Usage(input=10, output=10), provider="perplexity", model="sonar", at=AT)
    assert got.rates["request"] == "0.012"
    assert got.parts["request"] == 12_000_000


def test_rounding_is_half_even_once_a_component() -> None:
    """Half a nano-dollar goes to the even neighbour, whatever the thread's decimal context is."""
    with localcontext() as context:
        context.prec = 2
        one, three = (
            price(
                Usage(input=tokens, cache_read=tokens),
                provider="openai", model="gpt-5", at=AT, service_tier="flex",
            )
            for tokens in (1, 3)
        )  # fmt: skip
        assert getcontext().prec == 2
    assert one.rates["cache_read"] == "0.0000000625"
    assert (one.parts, three.parts) == ({"cache_read": 62}, {"cache_read": 188})
    assert (nanos(0.0000000005), nanos(0.0000000015)) == (0, 2)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("scripted", "gpt-4o-mini"),
        ("scripted", "GPT-4o-mini"),
        ("vercel", "openai/gpt-4o-mini"),
        ("", "openai/gpt-4o-mini"),
        ("openrouter", "openai/gpt-4o-mini"),
        ("OpenAI", "openai/gpt-4o-mini"),
        ("azure", "gpt-4o-mini"),
        ("litellm", "openai/gpt-4o-mini"),
        ("openai", "gpt-4o-mini-2024-07-18"),
    ],
)
def test_a_model_is_found_by_many_names(provider: str, model: str) -> None:
    """A gateway or a script names no provider; the model may carry its vendor, a date, capitals."""
    assert price(Usage(input=1000), provider=provider, model=model, at=AT).nanos == 150_000


@pytest.mark.parametrize(
    ("usage", "provider", "model", "reason"),
    [
        (None, "openai", "gpt-4o-mini", "no usage"),
        (Usage(input=1), "openai", "my-own-model", "no model 'my-own-model'"),
        (Usage(input=1), "localhost", "llama3", "no model 'llama3'"),
        (Usage(input=1), "groq", "gpt-4o-mini", "of provider 'groq'"),
        (Usage(input=1), "openrouter", "deepseek-chat:free", "without a price"),
        (Usage(input=1, output=1), "openai", "text-embedding-3-small", "for output tokens"),
        (Usage(input=1), "openai", "", "no model ''"),
        (Usage(input=5, cache_read=6), "openai", "gpt-4o-mini", "6 cached tokens among 5"),
        (Usage(input=5, cache_write_5m=6), "openai", "gpt-4o-mini", "6 cached tokens among 5"),
        (Usage(input=5, audio_in=6), "openai", "gpt-4o-mini", "6 audio tokens among 5"),
        (Usage(output=5, audio_out=6), "openai", "gpt-4o-mini", "6 audio tokens among 5"),
        (Usage(output=5, reasoning=6), "openai", "gpt-4o-mini", "6 reasoning tokens among 5"),
        (Usage(input=-1), "openai", "gpt-4o-mini", "negative"),
    ],
)
def test_what_cannot_be_priced_says_why(
    usage: Usage | None, provider: str, model: str, reason: str
) -> None:
    """An unknown price is unpriced with its reason, and never zero."""
    got = price(usage, provider=provider, model=model, at=AT)
    assert (got.status, got.nanos, got.parts) == ("unpriced", None, {})
    assert got.reason is not None
    assert reason in got.reason


def test_a_price_that_is_missing_says_what_to_do() -> None:
    """The reason of a model that is not listed names the version of the data, and how to give
    prices of one's own."""
    got = price(Usage(input=1), provider="acme", model="my-model", at=AT)
    assert got.reason == (
        f"genai-prices {got.source_version} lists no model 'my-model' of provider 'acme'. Say what "
        'it costs with LogStore(..., prices={\'my-model\': {"input": ..., "output": ...}}) in US '
        "dollars for a million tokens, or 0 if it costs nothing."
    )


@pytest.mark.parametrize("provider", ["ollama", "lm-studio"])
@pytest.mark.parametrize("usage", [Usage(input=10, output=10), None])
def test_a_model_of_ones_own_machine_is_free(provider: str, usage: Usage | None) -> None:
    """A model served by Ollama or LM Studio costs nothing; those that Ollama passes on to its own
    servers do."""
    got = price(usage, provider=provider, model="llama3.2", at=AT)
    assert (got.status, got.nanos) == ("free", 0)
    assert provider in str(got.reason)
    for model in ("gpt-oss:120b-cloud", "glm-4.6:cloud"):
        assert price(usage, provider=provider, model=model, at=AT).status == "unpriced"


@pytest.mark.parametrize(
    ("host", "port", "provider"),
    [
        ("localhost", 11434, "ollama"),
        ("LOCALHOST", 11434, "ollama"),
        ("127.0.0.1", 11434, "ollama"),
        ("127.8.9.10", 1234, "lm-studio"),
        ("::1", 1234, "lm-studio"),
        ("localhost", 8000, None),
        ("localhost", 4000, None),
        ("192.168.0.2", 11434, None),
        ("ollama.com", 11434, None),
        ("localhost.example.com", 11434, None),
        ("localhost", None, None),
        (None, None, None),
    ],
)
def test_what_is_certainly_local(host: str | None, port: int | None, provider: str | None) -> None:
    """Only a server on this machine, at the port that Ollama or LM Studio use, is theirs."""
    assert local_provider(host, port) == provider


def test_no_tokens_cost_nothing() -> None:
    """A known model that used no tokens is priced, at zero."""
    assert (mini(Usage()).status, mini(Usage()).nanos) == ("priced", 0)


MODELS = [(provider, model) for provider in providers for model in provider.models]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usages that make sense: what is within is at most the whole."""
    total = st.one_of(st.integers(0, 3000), st.integers(0, 2_000_000))
    entered, left = draw(total), draw(total)
    read = draw(st.integers(0, entered))
    short = draw(st.integers(0, entered - read))
    long = draw(st.integers(0, entered - read - short))
    audio_in = draw(st.integers(0, entered - short - long))
    reasoning = draw(st.integers(0, left))
    audio_out = draw(st.integers(0, left - reasoning))
    return Usage(entered, left, read, short, long, reasoning, audio_in, audio_out)


def theirs(usage: Usage, provider: Provider, model: ModelInfo, tier: str | None) -> Decimal:
    writes = usage.cache_write_5m + usage.cache_write_1h
    cached_audio = max(0, usage.cache_read + writes + usage.audio_in - usage.input)
    given = TheirUsage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=writes,
        cache_write_5m_tokens=usage.cache_write_5m,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.audio_in,
        cache_audio_read_tokens=cached_audio,
        output_audio_tokens=usage.audio_out,
        output_reasoning_tokens=usage.reasoning,
    )
    when = dt.datetime.fromtimestamp(AT / 10**9, dt.UTC)
    context = {"service_tier": tier} if tier else None
    calculated = model.calc_price(
        given, provider, genai_request_timestamp=when, price_context=context
    )
    return calculated.total_price


def check(usage: Usage, provider: Provider, model: ModelInfo, tier: str | None) -> bool:
    """Whether it is priced; if so, it agrees with genai-prices."""
    got = price(usage, provider=provider.id, model=model.id, at=AT, service_tier=tier)
    found = provider.find_model(model.id)
    if got.nanos is None or found is not model:
        return False
    assert got.nanos == sum(got.parts.values())
    off = abs(got.nanos - theirs(usage, provider, model, tier) * 10**9)
    assert off <= Decimal("0.5") * len(got.parts)
    return True


@given(usages(), st.sampled_from(MODELS), st.sampled_from([None, "flex", "priority", "default"]))
def test_the_parts_sum_to_what_genai_prices_says(
    usage: Usage, listed: tuple[Provider, ModelInfo], tier: str | None
) -> None:
    """For any usage and model the sum is genai-prices' total, but for the rounding of the parts."""
    check(usage, *listed, tier)


def test_every_listed_model_agrees() -> None:
    """So it is for one usage with everything in it but audio, on every model there is, and with
    audio on all that have a rate for it."""
    usage = Usage(250_001, 9_999, 40_003, 1_001, 2_003, 777)
    assert sum(check(usage, *listed, None) for listed in MODELS) > 1000
    heard = Usage(250_001, 9_999, 40_003, 1_001, 2_003, 777, 5_005, 333)
    assert sum(check(heard, *listed, None) for listed in MODELS) > 10


def test_dollars_and_nanos_are_inverse() -> None:
    """A float of dollars holds a bill of a million exactly enough to come back."""
    assert dollars(435_000) == 0.000435
    assert nanos(0.000435) == 435_000
    assert nanos(dollars(1_234_567_890_123_456)) == 1_234_567_890_123_456


def test_importing_it_loads_no_price_data() -> None:
    """genai-prices is imported when the first price is asked for."""
    code = "import sys, lllm.pricing.price; assert 'genai_prices' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
