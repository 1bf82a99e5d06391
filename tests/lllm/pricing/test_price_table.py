"""Prices that a user gives: what they say, what they win over, and what can't be a price."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lllm import BudgetExceeded, ConfigError, InvokeError, LogStore, NoOpBackend, SQLiteBackend
from lllm.events.model import Content, LLMResponded, Price, Usage
from lllm.invokers import Answer
from lllm.pricing.price import price
from lllm.pricing.user_prices import PriceTable
from lllm.sessions.attempt import Attempt
from tests.support.runs import MODEL, Asking, called, config, payloads

pytestmark = pytest.mark.money

AT = 1_790_000_000_000_000_000
RATES: dict[str, Any] = {"input": 0.5, "output": "1.50", "cache_read": Decimal("0.05")}
USAGE = Usage(input=1000, output=100, cache_read=400)
COST = 600 * 500 + 400 * 50 + 100 * 1500  # nano-dollars, by RATES


def by(given: object, usage: Usage | None = USAGE, **more: Any) -> Price:
    """The price of a call of `my-model` of `acme`."""
    table = PriceTable.of(given)
    asked: dict[str, Any] = {"provider": "acme", "model": "my-model", "at": AT} | more
    return price(usage, prices=table, **asked)


def test_rates_are_dollars_for_a_million_tokens() -> None:
    """Tokens times the rates given, as floats, text or decimals, are the cost to the
    nano-dollar."""
    got = by({"my-model": RATES})
    assert (got.status, got.source, got.nanos) == ("priced", "user", COST)
    assert got.parts == {"input": 300_000, "cache_read": 20_000, "output": 150_000}
    assert got.rates == {
        "input": "0.0000005", "cache_read": "0.00000005", "output": "0.0000015",
    }  # fmt: skip


def test_every_unit_has_its_rate() -> None:
    """Each kind of token that has a rate is billed by it, and a request by its own."""
    rates = {
        "input": 1, "output": 2, "cache_read": 3, "cache_write": 4, "cache_write_1h": 5,
        "audio_in": 6, "audio_out": 7, "reasoning": 8, "request": "0.25",
    }  # fmt: skip
    usage = Usage(
        input=100, output=100, cache_read=10, cache_write_5m=20, cache_write_1h=30,
        reasoning=40, audio_in=5, audio_out=15,
    )  # fmt: skip
    assert by({"my-model": rates}, usage).parts == {
        "input": 35 * 1000,
        "cache_read": 10 * 3000,
        "cache_write": 20 * 4000 + 30 * 5000,
        "audio_in": 5 * 6000,
        "output": 45 * 2000 + 40 * 8000,
        "audio_out": 15 * 7000,
        "request": 250_000_000,
    }


def test_what_has_no_rate_is_billed_as_the_whole() -> None:
    """Cached, audio and reasoning tokens without a rate cost what input and output cost."""
    usage = Usage(input=100, output=100, cache_read=10, cache_write_1h=20, audio_in=5, reasoning=40)
    assert by({"my-model": {"input": 1, "output": 2}}, usage).parts == {
        "input": 100 * 1000, "output": 100 * 2000,
    }  # fmt: skip


@pytest.mark.parametrize("free", [0, 0.0, "0", Decimal(0), "free"])
def test_a_model_may_be_free(free: object) -> None:
    """A model given as 0 or "free" costs nothing, and its price says that the user said so; the
    usage may be missing."""
    for usage in (USAGE, None):
        got = by({"my-model": free}, usage)
        assert (got.status, got.nanos, got.source) == ("free", 0, "user")
        assert got.reason is not None


def test_rates_of_zero_are_a_price() -> None:
    """Rates that are written as 0 are priced, at nothing."""
    got = by({"my-model": {"input": 0, "output": 0}})
    assert (got.status, got.nanos) == ("priced", 0)


def test_it_wins() -> None:
    """A user's price wins over the price data, over a provider's own cost and over a local model;
    not over the caller who knows that the call was free."""
    table = {"gpt-4o-mini": RATES, "ollama/llama3": RATES}
    assert by(table, provider="openai", model="gpt-4o-mini").nanos == COST
    assert by(table, provider="openrouter", model="gpt-4o-mini", billed=7).nanos == COST
    assert by(table, provider="ollama", model="llama3").nanos == COST
    assert by(table, model="gpt-4o-mini", free="It came from a cache.").status == "free"


def test_what_it_does_not_name_is_priced_without_it() -> None:
    """A model that the table does not name is priced as if there were no table."""
    for table in ({"other": RATES}, {}, lambda *_: None):
        assert by(table, provider="openai", model="gpt-4o-mini").source == "genai-prices"
        assert by(table, billed=7) == Price("provider", nanos=7, source="acme")
        assert by(table).status == "unpriced"


def test_a_usage_that_it_can_do_nothing_with() -> None:
    """Without a usage that makes sense rates say nothing: the provider's own cost stands, or the
    call is unpriced."""
    for table in ({"my-model": RATES}, lambda *_: 1):
        for usage in (None, Usage(input=1, cache_read=2), Usage(input=-1)):
            assert by(table, usage, billed=7).status == "provider"
            assert by(table, usage).status == "unpriced"


def test_names() -> None:
    """A name is a model's or "provider/model", which is the nearer one; "*" at the end stands for
    whatever begins like it, the longest beginning first, after all exact names."""
    table = {
        "acme/m": "free", "m": RATES, "m-*": {"input": 1, "output": 1},
        "m-large-*": {"input": 2, "output": 2}, "beta/*": {"input": 3, "output": 3},
        "m-large-7": {"input": 4, "output": 4},
    }  # fmt: skip

    def rate(provider: str, model: str) -> str | None:
        return by(table, provider=provider, model=model).rates.get("output")

    assert by(table, model="m").status == "free"
    assert rate("beta", "m") == "0.0000015"
    assert rate("acme", "m-small") == "0.000001"
    assert rate("acme", "m-large-8") == "0.000002"
    assert rate("beta", "other") == "0.000003"
    assert rate("acme", "m-large-7") == "0.000004"
    assert rate("acme", "M") is None


def test_a_model_that_answers_under_another_name() -> None:
    """Where another name answers than was asked, the entry of the answering one counts, else that
    of the one asked."""
    table = {"gpt-4o-mini": RATES, "gpt-4o-mini-2024-07-18": "free"}
    named = by(table, model="gpt-4o-mini-2024-07-18", asked="gpt-4o-mini")
    unnamed = by(table, model="gpt-4o-mini-2030-01-01", asked="gpt-4o-mini")
    assert (named.status, unnamed.nanos) == ("free", COST)


def test_the_version_of_a_table() -> None:
    """Equal prices have the same version however they are written, others another."""
    one = by({"my-model": {"input": 0.5, "output": 1.5}})
    same = by({"my-model": {"output": "1.50", "input": Decimal("0.5")}})
    other = by({"my-model": {"input": 0.5, "output": 1.6}})
    assert one.source_version is not None
    assert one.source_version == same.source_version != other.source_version


# -- functions


@pytest.mark.parametrize(
    ("dollars", "nanos"),
    [(0.000435, 435_000), (Decimal("0.0000000015"), 2), (1, 10**9), (0, 0), (5e-10, 0)],
)
def test_a_function_says_dollars(dollars: Any, nanos: int) -> None:
    """A function of model, usage and provider returns US dollars, rounded half-even to
    nano-dollars, whatever the thread's decimal context is."""
    seen = []

    def prices(model: str, usage: Usage, provider: str) -> Any:
        seen.append((model, usage, provider))
        return dollars

    with localcontext() as context:
        context.prec = 2
        got = by(prices)
    assert (got.status, got.nanos, got.source) == ("priced", nanos, "user")
    assert seen == [("my-model", USAGE, "acme")]


class Sneaky(Exception):
    """Can't even say what it is."""

    def __str__(self) -> str:
        raise ValueError


class Shy:
    """Has no repr."""

    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "wrong", ["1.5", True, float("nan"), float("inf"), -1, 1e300, 10**400, [], Shy(), object()]
)
def test_a_function_that_returns_nonsense(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is no number of dollars leaves the call unpriced, for a reason that is told, and warned
    of once."""
    _unpriced_and_warned(lambda *_: wrong, "returned", caplog)


@pytest.mark.parametrize("error", [KeyError("m"), RecursionError(), Sneaky()])
def test_a_function_that_raises(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """So does a function that raises, or takes other arguments."""

    def prices(*_: object) -> float:
        raise error

    _unpriced_and_warned(prices, f"raised {type(error).__name__}", caplog)
    _unpriced_and_warned(lambda _: 1.0, "raised TypeError", caplog)


def _unpriced_and_warned(prices: object, told: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    table = PriceTable.of(prices)
    with caplog.at_level(logging.INFO, "lllm"):
        for _ in range(3):
            got = by(table, billed=7)
            assert (got.status, got.nanos, got.source) == ("unpriced", None, "user")
            assert told in str(got.reason)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_wish_to_stop_is_no_fault() -> None:
    """Ctrl-C inside the function stops the program, as anywhere."""

    def prices(*_: object) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by(prices)


# -- what can't be a price


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"m": {"input": 1}}, ["'m'", "'output'", "Write 0"]),
        ({"m": {"output": 1}}, ["'m'", "'input'"]),
        ({"m": {}}, ["'m'", "'input'"]),
        ({"m": {"input": 1, "output": 1, "cached": 1}}, ["'m'", "'cached'", "cache_read"]),
        ({"m": {"input": 1, "output": 1, 5: 1}}, ["'m'", "5"]),
        ({"m": {"input": -1, "output": 1}}, ["'m'", "'input'", "-1"]),
        ({"m": {"input": 1, "output": float("nan")}}, ["'m'", "'output'", "nan"]),
        ({"m": {"input": 1, "output": float("inf")}}, ["'m'", "'output'", "inf"]),
        ({"m": {"input": "a lot", "output": 1}}, ["'m'", "'input'", "'a lot'"]),
        ({"m": {"input": "NaN", "output": 1}}, ["'m'", "'input'", "'NaN'"]),
        ({"m": {"input": "-1", "output": 1}}, ["'m'", "'input'", "'-1'"]),
        ({"m": {"input": None, "output": 1}}, ["'m'", "'input'", "None"]),
        ({"m": {"input": True, "output": 1}}, ["'m'", "'input'", "True"]),
        ({"m": {"input": 10**9, "output": 1}}, ["'m'", "'input'", "million tokens"]),
        ({"m": {"input": "1e999999999", "output": 1}}, ["'m'", "'input'"]),
        ({"m": {"input": "1e-999999", "output": 1}}, ["'m'", "'input'"]),
        ({"m": {"input": 1, "output": 1, "request": "x"}}, ["'m'", "'request'", "each call"]),
        ({"m": 0.5}, ["'m'", "0.5", "rates"]),
        ({"m": None}, ["'m'", "None"]),
        ({"m": "cheap"}, ["'m'", "'cheap'"]),
        ({"": RATES}, ["''"]),
        ({5: RATES}, ["5"]),
        ("free", ["'free'", "dict"]),
        ([("m", RATES)], ["dict", "function"]),
        (5, ["5", "dict"]),
    ],
)
def test_what_can_be_no_price(given: Any, told: list[str]) -> None:
    """A table with a missing or unknown unit, or with what is no price, is refused when the store
    is made, and the error names model and unit."""
    with pytest.raises(ConfigError) as caught:
        LogStore(NoOpBackend(), prices=given)
    for words in told:
        assert words in str(caught.value)


# -- in a store


def answered(store: LogStore, model: str = MODEL, **reply: Any) -> LLMResponded:
    """The event of a call whose model answers so, with USAGE."""
    text = Content.of("assistant", "Hi.")
    answer = Answer(text, "stop", model, usage=USAGE, **reply)
    session = called(Asking(config([answer]), log_store=store))
    (event,) = [
        event for event in payloads(store, session.session_id) if isinstance(event, LLMResponded)
    ]
    assert session.total_cost.cost == store.list_sessions()[0].total_cost
    return event


def test_a_store_prices_by_them(tmp_path: Path) -> None:
    """What a store writes of a call is priced by the prices it was given, a provider's own cost
    and another name of the model notwithstanding."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), prices={MODEL: RATES}) as store:
        assert answered(store, billed=5).price.nanos == COST
        assert answered(store, f"{MODEL}-2030-01-01").price.nanos == COST
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        assert answered(store, billed=5).price.nanos == 5


def test_a_store_that_keeps_nothing_prices_by_them() -> None:
    """So is the session that a call returns where its store keeps nothing."""
    store = LogStore(NoOpBackend(), prices=lambda *_: 0.25)
    session = called(Asking(config(["Hi."]), log_store=store))
    assert session.total_cost.cost == 0.25


def test_a_budget_is_spent_by_them(tmp_path: Path) -> None:
    """A budget counts what the user says that a call costs."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"), prices=lambda *_: 0.25)
    tactic = Asking(config(lambda _: "Hi."), log_store=store)
    with store, store.session("test::session", budget_usd=0.2):
        tactic("first")
        with pytest.raises(BudgetExceeded, match=r"0\.25 US\$ of a budget of 0\.2 "):
            tactic("second")


def test_an_answer_cut_off_is_priced_by_them() -> None:
    """What had come of an answer that was cut off costs what the user says."""
    attempt = Attempt(1, "a", "acme", "my-model", 0, PriceTable.of({"my-model": RATES}))
    partial = Content.of("assistant", "Hi")
    error = InvokeError("cut", retryable=True, partial=partial, usage=USAGE)
    assert attempt.failed(error).price == by({"my-model": RATES})


def test_prices_travel_with_a_store(tmp_path: Path) -> None:
    """A store that is sent into another process prices there by the same table."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), prices={"my-*": RATES, "m": 0}) as store:
        sent = tmp_path / "store.pickle"
        sent.write_bytes(pickle.dumps(store))
        code = (
            "import pickle, pathlib, sys\n"
            "with pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()) as store:\n"
            "    free = store.prices.price(None, provider='acme', model='m')\n"
            "    print(store.prices.version, free.status)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, str(sent)], check=True, capture_output=True, text=True
        ).stdout
        assert store.prices is not None
        assert told.split() == [store.prices.version, "free"]


def test_a_table_may_be_made_once() -> None:
    """A PriceTable is taken as it is, for several stores."""
    table = PriceTable.of({"m": 0})
    assert PriceTable.of(table) is table
    assert LogStore(NoOpBackend(), prices=table).prices is table
    assert (repr(table), LogStore(NoOpBackend()).prices) == ("PriceTable(1 models)", None)


rates = st.decimals(0, 10**6, allow_nan=False, places=9).filter(
    lambda rate: rate == 0 or rate.adjusted() >= -9
)


MOST = 10**15  # nano-dollars that an event can hold for one call: a million US dollars
DEAR = {"input": Decimal(10**6), "output": Decimal(10**6)}


@example(DEAR, 10**6, 0, 0)
@example(DEAR, 10**6, 1, 0)
@example(DEAR | {"cache_read": Decimal(10**6)}, 10**6, 10**6, 50)
@given(
    st.fixed_dictionaries({"input": rates, "output": rates}, optional={"cache_read": rates}),
    st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 100),
)  # fmt: skip
def test_any_bill_can_be_checked(
    given_rates: dict[str, Decimal], into: int, out: int, percent: int
) -> None:
    """For any table and usage each part is tokens times rate, rounded half-even, and the parts are
    the sum; a sum that no event can hold is unpriced and says so."""
    cached = into * percent // 100
    got = by({"my-model": given_rates}, Usage(input=into, output=out, cache_read=cached))
    cache_rate = given_rates.get("cache_read")
    expected = {
        "input": Fraction(given_rates["input"]) * (into if cache_rate is None else into - cached),
        "cache_read": Fraction(0 if cache_rate is None else cache_rate) * cached,
        "output": Fraction(given_rates["output"]) * out,
    }
    # Python rounds half to even.
    parts = {name: round(dollars * 1000) for name, dollars in expected.items()}
    if sum(parts.values()) > MOST:
        assert (got.status, got.nanos) == ("unpriced", None)
        assert "more than a call can cost" in (got.reason or "")
    else:
        assert (got.status, got.nanos) == ("priced", sum(parts.values()))
        assert {name: got.parts.get(name, 0) for name in parts} == parts
