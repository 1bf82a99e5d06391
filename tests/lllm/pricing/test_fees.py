"""What an answer has beside tokens that costs something: it is in the bill, or the bill says that
it does not know.

    Anthropic  https://platform.claude.com/docs/en/about-claude/pricing
    OpenAI     https://developers.openai.com/api/docs/pricing
    Google     https://ai.google.dev/gemini-api/docs/pricing

The day is pinned, so that a rate that changes later changes nothing here.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from genai_prices.data_units import unit_data
from hypothesis import given
from hypothesis import strategies as st

from lllm import LogStore, SQLiteBackend, capture
from lllm.cli import cli
from lllm.events.model import Content, Part, Price, Usage
from lllm.pricing.price import price
from lllm.pricing.usage import of_chat, of_messages, of_responses
from lllm.pricing.user_prices import PriceTable
from tests.lllm.instrumentation.asking import ASKED, claude_client
from tests.lllm.instrumentation.asking import CLAUDE as HAIKU
from tests.support import loopback_messages
from tests.support.loopback import Loopback

AT = int(dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC).timestamp()) * 10**9
CLAUDE = {"input_tokens": 100, "output_tokens": 10}
CHAT = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def claude(model: str, raw: dict[str, Any], **more: Any) -> Price:
    """What an answer of Anthropic's costs."""
    return price(of_messages(raw), provider="anthropic", model=model, at=AT, usage_raw=raw, **more)


def chat(model: str, raw: dict[str, Any], provider: str = "openai", **more: Any) -> Price:
    """What a chat completion costs."""
    return price(of_chat(raw), provider=provider, model=model, at=AT, usage_raw=raw, **more)


def responses(model: str, *items: dict[str, Any], **more: Any) -> Price:
    """What a response costs whose output has some items."""
    content = Content("assistant", tuple(Part(item["type"], data=item) for item in items))
    return price(
        of_responses(CLAUDE), provider="openai", model=model, at=AT, usage_raw=CLAUDE,
        content=content, **more,
    )  # fmt: skip


def search(kind: str | None = "search") -> dict[str, Any]:
    """An item of a web search, or of what else its tool does."""
    action = {} if kind is None else {"action": {"type": kind}}
    return {"type": "web_search_call", "status": "completed", **action}


def unpriced(got: Price, *words: str) -> None:
    """It has no price, and its reason has the words."""
    assert (got.status, got.nanos) == ("unpriced", None)
    for word in words:
        assert word in (got.reason or "")


# -- tools that the provider runs


def test_web_searches_of_claude() -> None:
    """Each search costs a cent, apart from the tokens."""
    raw = CLAUDE | {"server_tool_use": {"web_search_requests": 10, "web_fetch_requests": 3}}
    got = claude("claude-opus-4-5", raw)
    assert (got.nanos, got.parts["web_search"]) == (100_750_000, 100_000_000)
    assert got.rates["web_search"] == "0.01"


def test_searches_of_a_response() -> None:
    """Searches of the web and of files are counted in the output; opening a page is free."""
    files = {"type": "file_search_call", "status": "completed"}
    items = [search(), search("open_page"), search("find_in_page"), search(None), files]
    got = responses("gpt-5", *items)
    assert got.nanos == 22_725_000
    assert (got.parts["web_search"], got.parts["file_search"]) == (20_000_000, 2_500_000)


@pytest.mark.parametrize(
    "kind", ["code_interpreter_call", "image_generation_call", "computer_call", "shell_call",
             "a_new_tool_call"],
)  # fmt: skip
def test_a_tool_whose_fee_is_unknown(kind: str) -> None:
    """A container, an image, a tool of tomorrow: the reason names it."""
    unpriced(responses("gpt-5", {"type": kind}), kind)


@pytest.mark.parametrize(
    "kind", ["function_call", "custom_tool_call", "mcp_call", "mcp_list_tools", "reasoning",
             "message", "local_shell_call", "compaction"],
)  # fmt: skip
def test_an_item_that_costs_only_its_tokens(kind: str) -> None:
    """What the caller runs himself is not billed."""
    assert responses("gpt-5", {"type": kind}).nanos == 225_000


@pytest.mark.parametrize(
    "model", ["gpt-4o-search-preview", "gpt-4o-search-preview-2025-03-11", "gpt-5-search-api"]
)
def test_a_model_that_always_searches(model: str) -> None:
    """Its fee is counted nowhere."""
    unpriced(chat(model, CHAT), "search")


@pytest.mark.parametrize(
    ("name", "requests", "known"),
    [
        ("web_search", {"web_search_requests": 1}, True),
        ("web_fetch", {"web_fetch_requests": 1}, True),
        ("tool_search_tool_regex", {}, True),
        ("bash_code_execution", {}, False),
        ("code_execution", {"web_search_requests": 1}, True),
        ("a_new_tool", {}, False),
    ],
)
def test_blocks_of_tools_that_anthropic_runs(
    name: str, requests: dict[str, int], known: bool
) -> None:
    """Running code is billed by the hour, and free beside a search."""
    content = Content("assistant", (Part("server_tool_use", data={"name": name}),))
    got = claude("claude-opus-4-5", CLAUDE | {"server_tool_use": requests}, content=content)
    assert (got.nanos is not None) == known
    if not known:
        unpriced(got, name)


def test_code_that_the_usage_counts() -> None:
    """A count of what has no rate is named."""
    raw = CLAUDE | {"server_tool_use": {"code_execution_requests": 2}}
    unpriced(claude("claude-opus-4-5", raw), "code_execution_requests")


def test_a_search_without_a_rate() -> None:
    """A model whose searches have no listed fee is unpriced."""
    content = Content("assistant", (Part("web_search_call", data=search()),))
    got = price(Usage(input=1), provider="azure", model="gpt-4o-mini", at=AT, content=content)
    unpriced(got, "web searches")


def test_tools_beside_prices_of_ones_own() -> None:
    """A table of rates for tokens leaves the fees to the price data; it may have its own."""
    raw = CLAUDE | {"server_tool_use": {"web_search_requests": 10}}
    rates = {"input": 1, "output": 1}
    listed, own = (
        claude("claude-opus-4-5", raw, prices=PriceTable.of({"claude-opus-4-5": table}))
        for table in (rates, rates | {"web_search": 0.001})
    )
    assert (listed.nanos, own.nanos) == (100_110_000, 10_110_000)
    unknown = PriceTable.of({"my-model": rates})
    unpriced(claude("my-model", raw, prices=unknown), "web searches")


def test_what_a_provider_says_it_cost() -> None:
    """Its own word counts, also where it says nothing; a negative amount is no price."""
    said = [price(Usage(10, 5), provider="openai", model="gpt-4o-mini", at=AT, billed=nanos)
            for nanos in (0, 7, -1)]  # fmt: skip
    assert [(one.status, one.nanos) for one in said[:2]] == [("provider", 0), ("provider", 7)]
    assert (said[2].status, said[2].nanos) == ("priced", 10 * 150 + 5 * 600)


def test_audio_that_the_usage_does_not_count() -> None:
    """An answer in which somebody speaks, at a rate of its own, needs the count of its tokens."""
    spoken = Content("assistant", (Part("audio", data={"id": "audio_1"}),))
    for content, usage, is_priced in (
        (spoken, Usage(10, 5), False),
        (spoken, Usage(10, 5, audio_out=3), True),
        (Content.of("assistant", "x"), Usage(10, 5), True),
    ):
        got = price(usage, provider="openai", model="gpt-audio", at=AT, content=content)
        assert (got.nanos is not None) == is_priced, got
        assert is_priced or "are audio" in str(got.reason)


# -- several samplings


def test_an_advisor_has_the_rates_of_its_own_model() -> None:
    """The advisor's tokens are in `iterations` alone, and cost what they cost by themselves."""
    advised = {
        "type": "advisor_message", "model": "claude-opus-4-8",
        "input_tokens": 100_000, "output_tokens": 1000,
    }  # fmt: skip
    own = {"type": "message", **CLAUDE}
    for iterations in ([own, advised], [advised]):
        got = claude("claude-haiku-4-5", CLAUDE | {"iterations": iterations})
        assert got.nanos == 525_150_000
        assert got.nanos == sum(got.parts.values())
    unknown = advised | {"model": "claude-of-tomorrow-9"}
    unpriced(claude("claude-haiku-4-5", CLAUDE | {"iterations": [unknown]}), "claude-of-tomorrow-9")
    odd = advised | {"type": "a_new_kind", "model": None}
    unpriced(claude("claude-haiku-4-5", CLAUDE | {"iterations": [odd]}), "a_new_kind")


def test_each_sampling_has_its_own_tier() -> None:
    """Three requests of 90,000 tokens are no long one; what can't be told apart is unpriced."""
    one = {"type": "message", "input_tokens": 90_000, "output_tokens": 100}
    whole = {"input_tokens": 270_000, "output_tokens": 300}
    got = claude("claude-sonnet-4-5", whole | {"iterations": [one] * 3})
    assert got.nanos == 270_000 * 3000 + 300 * 15_000
    searched = whole | {"server_tool_use": {"web_search_requests": 2}}
    unpriced(claude("claude-sonnet-4-5", searched), "long requests")
    compacted = {"type": "compaction", "input_tokens": 30_000, "output_tokens": 10}
    between = whole | {"iterations": [one, compacted]}  # of the rest, nobody says how it was asked
    unpriced(claude("claude-sonnet-4-5", between), "long requests")
    assert claude("claude-sonnet-4-5", whole).nanos == 270_000 * 6000 + 300 * 22_500
    # Where no tier can be told apart, nothing stands in the way.
    assert claude("claude-opus-4-8", searched).nanos == 270_000 * 5000 + 300 * 25_000 + 2 * 10**7


# -- other kinds of tokens


def test_tokens_of_images() -> None:
    """They have a rate of their own; a usage that does not tell them apart has no price."""
    raw = {"prompt_tokens": 0, "completion_tokens": 1290, "total_tokens": 1290}
    told = raw | {"completion_tokens_details": {"image_tokens": 1290}}
    assert chat("gemini-2.5-flash-image", told, "google").nanos == 38_700_000
    unpriced(chat("gemini-2.5-flash-image", raw, "google"), "image")
    mixed = raw | {"completion_tokens_details": {"image_tokens": 1000, "text_tokens": 290}}
    got = chat("gemini-2.5-flash-image", mixed, "google")
    assert got.parts == {"image_out": 30_000_000, "output": 290 * 2500}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("prompt_tokens_details", "image_tokens"),
        ("prompt_tokens_details", "video_tokens"),
        ("prompt_tokens_details", "audio_tokens"),
        ("completion_tokens_details", "image_tokens"),
        ("completion_tokens_details", "video_tokens"),
        ("completion_tokens_details", "audio_tokens"),
        (None, "citation_tokens"),
        (None, "num_search_queries"),
    ],
)
def test_a_kind_of_token_without_a_rate(place: str | None, name: str) -> None:
    """deepseek-v4-pro sees and draws nothing, so nobody knows what that would cost."""
    raw = CHAT | ({name: 5} if place is None else {place: {name: 5}})
    unpriced(chat("deepseek-v4-pro", raw, "deepseek"))


def test_what_deep_research_counts() -> None:
    """Citations and searches have rates, beside the thoughts'."""
    raw = {
        "prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
        "citation_tokens": 20_016, "num_search_queries": 18, "reasoning_tokens": 73_997,
    }  # fmt: skip
    nanos = 33 * 2000 + 7163 * 8000 + 20_016 * 2000 + 73_997 * 3000 + 18 * 5_000_000
    assert chat("sonar-deep-research", raw, "perplexity").nanos == nanos


def test_a_total_with_more_than_its_parts() -> None:
    """Tokens that are in the total alone have no rate."""
    raw = CHAT | {"total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 5}}
    unpriced(chat("gpt-4o-mini", raw), "40 tokens", "total_tokens")


# -- regions and tiers


def test_inference_in_the_us() -> None:
    """All tokens cost a tenth more; searches do not."""
    raw = CLAUDE | {"inference_geo": "us", "server_tool_use": {"web_search_requests": 1}}
    assert claude("claude-opus-4-8", raw).nanos == 750_000 * 11 // 10 + 10_000_000
    for plain in ("global", "not_available", None):
        assert claude("claude-opus-4-8", CLAUDE | {"inference_geo": plain}).nanos == 750_000
    unpriced(claude("claude-opus-4-8", CLAUDE | {"inference_geo": "eu"}), "'eu'")


@pytest.mark.parametrize(
    ("provider", "model", "host", "known"),
    [
        ("openai", "gpt-5.6-sol", "eu.api.openai.com", False),
        ("openai", "gpt-5.6-sol", "us.api.openai.com", False),
        ("openai", "gpt-5.6-sol", "api.openai.com", True),
        ("google", "claude-haiku-4-5", "us-east5-aiplatform.googleapis.com", False),
        ("google", "claude-haiku-4-5", "aiplatform.eu.rep.googleapis.com", False),
        ("google", "claude-haiku-4-5", "aiplatform.googleapis.com", True),
        ("google", "gemini-2.5-flash", "generativelanguage.googleapis.com", True),
        ("x-ai", "grok-4", "us.api.x.ai", False),
        ("x-ai", "grok-4", "api.x.ai", True),
    ],
)
def test_hosts_of_a_region(provider: str, model: str, host: str | None, known: bool) -> None:
    """Where some models cost more, the plain rates are not taken."""
    got = price(Usage(input=1000), provider=provider, model=model, at=AT, host=host)
    assert (got.nanos is not None) == known
    if not known:
        unpriced(got, str(host))


def test_what_a_price_takes_for_granted() -> None:
    """A deployment on Azure is billed as a global one, and its price says so."""
    got = price(Usage(input=1000), provider="azure", model="gpt-4o", at=AT)
    assert got.nanos == 2_500_000
    assert "global deployment" in str(got.reason)
    assert price(Usage(input=1000), provider="openai", model="gpt-4o", at=AT).reason is None


@pytest.mark.parametrize(
    ("provider", "model", "tier", "known"),
    [
        ("openai", "gpt-5", "priority", True),
        ("openai", "gpt-5", "default", True),
        ("openai", "gpt-5", "scale", False),
        ("openai", "gpt-4o", "flex", False),
        ("azure", "gpt-4o", "priority", False),
        ("anthropic", "claude-haiku-4-5", "priority", False),
        ("anthropic", "claude-haiku-4-5", "fast", False),
        ("groq", "llama-3.3-70b-versatile", "on_demand", True),
        ("groq", "llama-3.3-70b-versatile", "performance", False),
    ],
)
def test_a_service_tier_without_rates(provider: str, model: str, tier: str, known: bool) -> None:
    """A tier that has no rates for a model is not billed as the plain one."""
    got = price(Usage(input=1000), provider=provider, model=model, at=AT, service_tier=tier)
    assert (got.nanos is not None) == known
    if not known:
        unpriced(got, repr(tier))


# -- who bills


@pytest.mark.parametrize(
    "provider", ["localhost", "127.0.0.1", "proxy.example.com", "openai.example.com", "my-proxy",
                 "llm-openai:8000"],
)  # fmt: skip
@pytest.mark.parametrize("model", ["gpt-4o-mini", "openai/gpt-4o-mini", "claude-haiku-4-5"])
def test_a_famous_name_at_an_unknown_host(provider: str, model: str) -> None:
    """Nobody knows who bills there, and how."""
    unpriced(price(Usage(input=1000), provider=provider, model=model, at=AT), provider, "prices=")


def test_a_provider_by_its_address() -> None:
    """A host that the price data knows is the provider's."""
    got = price(Usage(input=13, output=369), provider="api.z.ai", model="glm-4.7", at=AT)
    assert got.nanos == 819_600


# -- in sums


def test_fees_of_tools_stand_apart(server: Loopback, tmp_path: Path) -> None:
    """A session, a summary and its groups, live or rebuilt, say what of a cost are fees of tools;
    `lllm show` and `lllm cost` show it."""
    usage = CLAUDE | {"server_tool_use": {"web_search_requests": 10}}
    server.answers(loopback_messages.replies(loopback_messages.says("Found."), usage=usage))
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        client = capture(claude_client(server), log_store=store, provider="anthropic")
        client.messages.create(model=HAIKU, max_tokens=10, messages=ASKED)
        [listed] = store.list_sessions()
        cost = store.load_session(listed.session_id).total_cost
        assert (cost.tool_cost, cost.cost) == (0.1, 0.10015)
        assert (cost.prompt_cost, cost.completion_cost) == (0.0001, 0.00005)
        assert (cost + cost).tool_cost == 0.2
        for _ in range(2):
            summary = store.export_cost_summary(group_by="model")
            assert summary["tool_cost_usd"] == summary["groups"][0]["tool_cost_usd"] == 0.1
            assert summary["total_cost_usd"] == 0.10015
            store.rebuild()
        anew = store.export_cost_summary(as_model="claude-opus-4-8")
        assert (anew["total_cost_usd"], anew["tool_cost_usd"]) == (0.10075, 0.1)
    shown = [
        CliRunner().invoke(cli, [*words, "--store", str(tmp_path / "runs.db")]).output
        for words in (["cost"], ["show", listed.session_id])
    ]
    assert "TOOLS" in shown[0]
    assert "$0.1000 for tools" in shown[1]


# -- properties

_NAMES = st.from_regex(r"[a-z_]{3,20}", fullmatch=True)
_PRICED: list[tuple[str, str, Any, dict[str, int]]] = [
    ("openai", "gpt-4o-mini", of_chat, CHAT),
    ("openai", "gpt-5", of_responses, CLAUDE),
    ("anthropic", "claude-opus-4-5", of_messages, CLAUDE),
]
# What is known to say nothing of money; all names that a test finds must be other ones.
_KNOWN = (
    "tokens", "_ms", "_latency", "_per_sec", "_per_second", "_time", "ttft", "created", "cost",
    "service_tier", "inference_geo", "speed", "iterations", "requests", "num_search_queries",
    "prompt_audio_seconds", "image_pixels", "server_tool_use", "estimated_cost", "market_cost",
)  # fmt: skip


@given(
    st.sampled_from(_PRICED),
    _NAMES.filter(lambda name: not name.endswith(_KNOWN)),
    st.lists(_NAMES, max_size=2),
    st.one_of(st.integers(1, 10**6), st.floats(0.01, 10**6), st.integers(-5, -1)),
)
def test_an_unknown_number_is_named(
    known: tuple[str, str, Any, dict[str, int]], name: str, above: list[str], count: float
) -> None:
    """Whatever number a usage has that nobody here knows makes the attempt unpriced, wherever it
    stands; zero and null say that nothing was used."""
    provider, model, read, raw = known

    def with_it(value: object) -> dict[str, Any]:
        inner: Any = {name: value}
        for place in above:
            inner = {f"x_{place}": inner}
        return raw | inner

    def priced(value: object) -> Price:
        whole = with_it(value)
        return price(read(whole), provider=provider, model=model, at=AT, usage_raw=whole)

    unpriced(priced(count), name)
    for nothing in (0, 0.0, None, False, "", [], {}):
        assert priced(nothing).nanos == priced(None).nanos is not None


@pytest.mark.parametrize("unit", sorted(unit_data))
@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5", "gpt-audio"])
def test_every_unit_of_the_price_data(unit: str, model: str) -> None:
    """A usage that counts any unit of genai-prices, under its own name, costs more than without
    it, or is unpriced with the unit's name; but for what our own terms have, and what is part of
    it."""
    plain = chat(model, CHAT)
    got = chat(model, CHAT | {unit: 7})
    ours = {"input_tokens", "output_tokens", "cache_write_tokens"}
    if unit in ours:
        assert got.nanos is not None
    elif got.nanos is None:
        unpriced(got, unit)
    else:
        assert plain.nanos is not None
        assert got.nanos > plain.nanos


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_tokens_details": {"text_tokens": 90, "cached_tokens": 10}},
        {"completion_tokens_details": {"accepted_prediction_tokens": 5, "text_tokens": 5}},
        {"queue_time": 0.02, "prompt_time": 0.1, "completion_time": 1.2, "total_time": 1.3},
        {"ttft_ms": 20, "e2e_latency": 0.2, "tokens_per_second": 80.5},
        {"estimated_cost": 0.1, "cost_details": {"x": 1}, "is_byok": True, "kind": "chat"},
    ],
)
def test_numbers_that_say_nothing_of_money(more: dict[str, Any]) -> None:
    """Times, and parts of what is counted, are known."""
    assert chat("gpt-4o-mini", CHAT | more).nanos is not None


def test_a_usage_that_contains_itself() -> None:
    """An invoker of one's own may give anything."""
    raw: dict[str, Any] = dict(CHAT)
    raw["more"] = raw
    assert chat("gpt-4o-mini", raw).nanos is not None
