"""What calls cost: what was wasted, in groups within groups, and at other prices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from lllm import ConfigError, LocalFileBackend, LogStore, Runtime, SQLiteBackend
from lllm.events.model import (
    Content,
    Error,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    Price,
    Usage,
)
from lllm.invokers.scripted import cut_off, rate_limited, reply
from lllm.pricing.cost_summary import CostGroup
from lllm.pricing.repricing import OtherPrices, Repricing
from tests.support.histories import Attempt, History
from tests.support.runs import MODEL, Asking, config

pytestmark = pytest.mark.money

# US dollars for a million tokens in, cached and out: 0.15, 0.075 and 0.60 of gpt-4o-mini, 2.50,
# 1.25 and 10.00 of gpt-4o (https://platform.openai.com/docs/pricing).
USED = Usage(input=1_000, output=100, cache_read=400)
AS_MINI = 600 * 150 + 400 * 75 + 100 * 600  # nano-dollars
AS_4O = 600 * 2_500 + 400 * 1_250 + 100 * 10_000


@pytest.fixture(params=["sqlite", "jsonl"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of each kind."""
    kinds = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}
    with LogStore(kinds[request.param](tmp_path / "logs"), runtime=Runtime()) as store:
        yield store


def nanos(dollars: float) -> int:
    return round(dollars * 10**9)


def flat(groups: list[CostGroup]) -> dict[tuple[str | None, ...], int]:
    """The nano-dollars of all groups, by the keys that lead to each."""
    found: dict[tuple[str | None, ...], int] = {}
    for group in groups:
        found[(group["key"],)] = nanos(group["total_cost_usd"])
        found |= {(group["key"], *keys): cost for keys, cost in flat(group["groups"]).items()}
    return found


# -- waste


def test_what_was_thrown_away_is_wasted(store: LogStore) -> None:
    """An answer that was refused or cut off is in the total, and counted as wasted wherever costs
    are: in the call of the agent, the session, its line in a list, and the sums."""
    script = [
        cut_off("It is", usage=USED),
        rate_limited(),
        reply("no", usage=Usage(input=10, output=10)),
        reply("", usage=USED, finish="length"),
    ]
    asking = Asking(config(script), log_store=store)
    session = asking("?", return_session=True)
    (call,) = session.agent_sessions["a"]
    history = History(store)
    history.attempt(
        history.start("other", "", {}, None), Attempt(MODEL, "b", 5_000, False, USED, refused=True)
    )
    thrown = [trace for traces in call.invoke_traces.values() for trace in traces if trace.wasted]
    assert nanos(call.wasted_cost.cost) == AS_MINI
    assert call.wasted_cost.prompt_tokens == USED.input
    assert session.wasted_cost == call.wasted_cost
    assert len(thrown) == 2
    assert nanos(session.total_cost.cost) == AS_MINI + 10 * 150 + 10 * 600
    other, line = store.list_sessions()
    assert (line.wasted_cost, nanos(other.wasted_cost)) == (call.wasted_cost.cost, 5_000)
    assert nanos(store.load_session(other.session_id).wasted_cost.cost) == 5_000
    summary = store.export_cost_summary(group_by="agent")
    assert nanos(summary["wasted_cost_usd"]) == AS_MINI + 5_000
    assert {one["key"]: nanos(one["wasted_cost_usd"]) for one in summary["groups"]} == {
        "a": AS_MINI,
        "b": 5_000,
    }


@pytest.mark.parametrize(
    ("usage", "price", "unpriced"),
    [
        (None, None, 0),
        (USED, None, 1),
        (None, Price("unpriced", reason="cut off"), 1),
        (USED, Price("unpriced", reason="unknown"), 1),
        (USED, Price("priced", nanos=7), 0),
        (None, Price("provider", nanos=7), 0),
    ],
)
def test_failed_calls_that_used_something(
    store: LogStore, usage: Usage | None, price: Price | None, unpriced: int
) -> None:
    """A failed call without a price is unpriced where anybody says that it used something, and
    nothing where nobody does; the session and the sums agree."""
    history = History(store)
    session = history.start("t", "", {}, None)
    asked = LLMRequested(request=1, step=1, attempt=1, provider="p", api="a", model="m", digest="")
    error = Error("E", "m")
    failed = LLMFailed(request=1, asked="m", error=error, usage=usage, price=price, elapsed=1)
    session.recorder.stage(asked)
    session.recorder.stage(failed)
    session.recorder.commit()
    for summary in (store.export_cost_summary(), store.export_cost_summary(prices="current")):
        assert summary["failed_calls"] == 1
        assert summary["recorded_cost_usd"] == (7e-9 if price and price.nanos else 0)
    summary = store.export_cost_summary()
    assert summary["unpriced_calls"] == unpriced
    assert summary["wasted_cost_usd"] == summary["total_cost_usd"]
    loaded = store.load_session(session.id)
    assert loaded.total_cost.unpriced_calls == unpriced
    assert loaded.wasted_cost.cost == summary["total_cost_usd"]


def test_traces_say_how_their_price_was_made(store: LogStore) -> None:
    """A trace has the rates, the parts, and which version of which prices they are from."""
    session = Asking(config([reply("x", usage=USED)]), log_store=store)("?", return_session=True)
    (trace,) = session.agent_sessions["a"][0].invoke_traces[1]
    assert trace.rates["input"] == "0.00000015"
    assert trace.parts == {"input": 90_000, "cache_read": 30_000, "output": 60_000}
    assert sum(trace.parts.values()) == AS_MINI
    assert trace.price_source == "genai-prices"
    assert trace.price_version


# -- groups within groups


def test_groups_within_groups(store: LogStore) -> None:
    """Each group has those within it, the dearest first; sessions are counted where only tags stand
    above."""
    history = History(store)
    for tactic, env, model, cost in (
        ("t", "x", "m", 1), ("t", "x", "n", 2), ("u", "x", "m", 4), ("t", "y", "m", 8),
    ):  # fmt: skip
        attempt = Attempt(model, "a", cost, False, USED)
        history.attempt(history.start(tactic, "", {"env": env}, None), attempt)
    history.start("t", "", {"env": "z"}, None)
    summary = store.export_cost_summary(group_by=["tactic", "tag:env", "model"])
    assert flat(summary["groups"]) == {
        ("t",): 11, ("t", "y"): 8, ("t", "y", "m"): 8, ("t", "x"): 3, ("t", "x", "n"): 2,
        ("t", "x", "m"): 1, ("u",): 4, ("u", "x"): 4, ("u", "x", "m"): 4,
    }  # fmt: skip
    assert [group["key"] for group in summary["groups"][0]["groups"]] == ["y", "x"]
    by_env = store.export_cost_summary(group_by=("tag:env", "model"))["groups"]
    assert [(one["key"], one["session_count"], len(one["groups"])) for one in by_env] == [
        ("y", 1, 1), ("x", 3, 2), ("z", 1, 0),
    ]  # fmt: skip
    assert {one["session_count"] for group in by_env for one in group["groups"]} == {None}
    days = store.export_cost_summary(group_by=["day", "tactic"])["groups"]
    dt.date.fromisoformat(str(days[0]["key"]))
    assert flat(days[0]["groups"]) == {("t",): 11, ("u",): 4}


@pytest.mark.parametrize("group_by", ["colour", "tag:", ["model", "model"], ["tactic", "x"], [5]])
def test_groups_that_can_not_be(store: LogStore, group_by: list[str]) -> None:
    """A group that there isn't, or one that is asked for twice, is refused with those there are."""
    with pytest.raises(ValueError, match="group_by"):
        store.export_cost_summary(group_by=group_by)


# -- the most expensive


def test_a_list_by_cost(store: LogStore) -> None:
    """Filters hold in a list by cost too; children count for the call that they are below."""
    history = History(store)
    for number, cost in enumerate((5, 30, 20, 30)):
        root = history.start("t", "", {"odd": str(number % 2)}, None)
        child = history.start("u", "", {}, root)
        history.attempt(child, Attempt(MODEL, "a", cost, False, USED))
    roots = history.sessions[::2]
    found = store.list_sessions(sort="cost")
    assert [one.session_id for one in found] == [roots[n].id for n in (3, 1, 2, 0)]
    assert [nanos(one.total_cost) for one in found] == [30, 30, 20, 5]
    odd = store.list_sessions(sort="cost", tags={"odd": "1"}, limit=1)
    assert [one.session_id for one in odd] == [roots[3].id]
    below = store.list_sessions(sort="cost", tactic_path="u", tags={"odd": "0"})
    assert [nanos(one.total_cost) for one in below] == [20, 5]


def test_cursors_of_another_order(store: LogStore) -> None:
    """A cursor of one order is refused in the other, and so is an order that there isn't."""
    History(store).start("t", "", {}, None)
    newest, dearest = store.list_sessions()[0].cursor, store.list_sessions(sort="cost")[0].cursor
    with pytest.raises(ValueError, match="not a cursor of a list by cost"):
        store.list_sessions(sort="cost", cursor=newest)
    with pytest.raises(ValueError, match="not a cursor of a list by started"):
        store.list_sessions(cursor=dearest)
    for cursor in ("cost.1", "cost.x.1", f"cost.{2**63}.1", ""):
        with pytest.raises(ValueError, match="not a cursor"):
            store.list_sessions(sort="cost", cursor=cursor)
    with pytest.raises(ValueError, match="sort is one of started, cost"):
        store.list_sessions(sort="length")  # type: ignore[arg-type] # what is tested


# -- other prices


@pytest.fixture
def worked(store: LogStore) -> LogStore:
    """A store with calls of all kinds: two answers, one of them refused, and one cut off."""
    script = [cut_off("It", usage=USED), reply("yes", usage=USED)]
    Asking(config(script), log_store=store)("?", tags={"env": "x"})
    history = History(store)
    session = history.start("other", "", {}, None)
    history.attempt(session, Attempt(MODEL, "b", AS_MINI, False, USED, refused=True))
    history.attempt(session, Attempt(MODEL, "b", None, True, None))
    for number in range(9):  # so that a tag is of few
        history.start("idle", "", {"n": str(number)}, None)
    return store


def test_current_prices_of_what_was_priced_today(worked: LogStore) -> None:
    """With the same price data as when the calls were made, current prices change nothing, however
    the sessions are chosen and grouped."""
    head = worked.log.head()
    for filters in ({}, {"tactic_path": "other"}, {"tags": {"env": "x"}}, {"state": "running"}):
        for by in (None, ["tactic", "model"], ["tag:env", "day"], ["agent"]):
            then = worked.export_cost_summary(group_by=by, **filters)  # type: ignore[arg-type] # one filter at a time
            now = worked.export_cost_summary(group_by=by, prices="current", **filters)  # type: ignore[arg-type] # one filter at a time
            assert now["prices"] == "current"
            assert now == then | {"prices": "current"}
    assert worked.log.head() == head


def test_as_another_model(worked: LogStore) -> None:
    """Every call is priced as the model given, wasted ones as wasted, and what was recorded stands
    beside it; nothing in the log changes."""
    summary = worked.export_cost_summary(as_model="gpt-4o", group_by=["tactic", "model"])
    assert nanos(summary["total_cost_usd"]) == 3 * AS_4O
    assert nanos(summary["wasted_cost_usd"]) == 2 * AS_4O
    assert nanos(summary["recorded_cost_usd"]) == 3 * AS_MINI
    assert (summary["as_model"], summary["unpriced_calls"]) == ("gpt-4o", 0)
    assert flat(summary["groups"])["asking", MODEL] == 2 * AS_4O
    of_few = worked.export_cost_summary(as_model="gpt-4o", tags={"env": "x"})
    assert nanos(of_few["total_cost_usd"]) == 2 * AS_4O
    assert nanos(worked.export_cost_summary()["total_cost_usd"]) == 3 * AS_MINI


@pytest.mark.parametrize("others", [1, 30])
def test_only_the_chosen_are_priced_anew(store: LogStore, others: int) -> None:
    """Sessions that were not selected do not count, whether they are few or most, nor do those that
    begin or end between the ones that were."""
    history = History(store)
    tactics = ["other"] * (others // 2) + ["chosen", "other", "chosen"] + ["other"] * (others // 2)
    roots = [history.start(tactic, "", {}, None) for tactic in tactics]
    below = [history.start("child", "", {}, root) for root in roots]
    for session in (*below, *roots):
        history.attempt(session, Attempt(MODEL, "a", AS_MINI, False, USED, refused=True))
    for tactic, count in (("chosen", 4), ("other", 2 * tactics.count("other"))):
        summary = store.export_cost_summary(tactic_path=tactic, as_model="gpt-4o")
        assert nanos(summary["total_cost_usd"]) == count * AS_4O
        assert nanos(summary["wasted_cost_usd"]) == count * AS_4O
        assert nanos(summary["recorded_cost_usd"]) == count * AS_MINI


def a_dollar_in_two_out(_: str, usage: Usage, __: str) -> Decimal:
    return Decimal(usage.input + 2 * usage.output) / 10**6


def test_a_table_of_prices(worked: LogStore) -> None:
    """A table or function prices what it names, and the rest is priced as today."""
    tables: tuple[OtherPrices, ...] = (
        {MODEL: {"input": 1, "output": "2"}},
        a_dollar_in_two_out,
    )
    for table in tables:
        summary = worked.export_cost_summary(prices=table)
        assert nanos(summary["total_cost_usd"]) == 3 * (1_000 * 1_000 + 100 * 2_000)
        assert summary["prices"] == "given"
    other = worked.export_cost_summary(prices={"another": {"input": 1, "output": 1}})
    assert nanos(other["total_cost_usd"]) == 3 * AS_MINI
    house = {"house": {"input": 3, "output": 0}}
    as_house = worked.export_cost_summary(prices=house, as_model="house")
    assert nanos(as_house["total_cost_usd"]) == 3 * 1_000 * 3_000


@pytest.mark.parametrize(
    ("prices", "as_model"),
    [
        ("yesterday's", None),
        ({"m": {"input": 1}}, None),
        (5, None),
        ("recorded", "no-such-model"),
        ("current", ""),
    ],
)
def test_prices_that_can_not_be(store: LogStore, prices: OtherPrices, as_model: str | None) -> None:
    """Prices that are none, and a model that nobody knows the price of, are refused before the log
    is read."""
    with pytest.raises(ConfigError):
        store.export_cost_summary(prices=prices, as_model=as_model)


def test_the_prices_of_the_store_are_todays(tmp_path: Path) -> None:
    """What the store was given as prices counts among today's."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path), runtime=Runtime()) as store:
        Asking(config([reply("x", usage=USED, model="house")]), log_store=store)("?")
        assert store.export_cost_summary()["unpriced_calls"] == 1
    with LogStore(SQLiteBackend(path), prices={"house": {"input": 2, "output": 0}}) as store:
        summary = store.export_cost_summary(prices="current")
        assert (nanos(summary["total_cost_usd"]), summary["unpriced_calls"]) == (2_000_000, 0)


ANSWER = LLMResponded(
    request=1, message=1, content=Content.of("assistant", "x"), finish="stop", asked="o3",
    model="o3", usage=USED, price=Price("priced", nanos=1), elapsed=1,
)  # fmt: skip


def nanoseconds(day: str) -> int:
    return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 10**9


def test_another_model_on_the_day_of_the_call() -> None:
    """Without other prices, another model costs what it did when the call was made; o3 became
    cheaper on 2025-06-10, as genai-prices has it."""
    before, after = nanoseconds("2025-06-01"), nanoseconds("2025-06-20")
    then = Repricing("recorded", "o3", None)
    now = Repricing("current", "o3", None)
    for pricing, began, dollars in ((then, before, 10), (then, after, 2), (now, before, 2)):
        price = pricing.of(ANSWER, "openai", began)
        assert price is not None
        assert price.parts["input"] == 600 * dollars * 1_000


def test_what_was_free() -> None:
    """An answer from a cache costs nothing at any price; a model of one's own does not, unless
    another is asked for or the table names it."""
    cached = msgspec.structs.replace(ANSWER, price=Price("free", nanos=0, reason="from a cache"))
    local = msgspec.structs.replace(
        ANSWER, model="llama", asked="llama", price=Price("free", nanos=0, reason="own machine")
    )
    as_mini = Repricing("current", MODEL, None)
    table = Repricing({"*": {"input": 1, "output": 0}}, None, None)
    for pricing, answer, provider, cost in (
        (as_mini, cached, "openai", 0),
        (table, cached, "openai", 0),
        (as_mini, local, "ollama", AS_MINI),
        (table, local, "ollama", 1_000_000),
        (Repricing("current", None, None), local, "ollama", 0),
    ):
        price = pricing.of(answer, provider, 0)
        assert price is not None
        assert price.nanos == cost


def test_calls_without_a_price_stay_without(store: LogStore) -> None:
    """What can't be priced counts as unpriced at other prices too, and its recorded cost stays
    beside it."""
    history = History(store)
    session = history.start("t", "", {}, None)
    history.attempt(session, Attempt("unknown", "a", 9, False, USED))
    history.attempt(session, Attempt(MODEL, "a", 9, False, None))
    summary = store.export_cost_summary(prices="current")
    assert (summary["total_cost_usd"], summary["unpriced_calls"]) == (0, 2)
    assert nanos(summary["recorded_cost_usd"]) == 18


def test_refused_answers_that_were_never_given(store: LogStore) -> None:
    """A refusal of an answer that is not in the log wastes nothing at other prices."""
    session = History(store).start("t", "", {}, None)
    session.recorder.stage(LLMRefused(request=9, asked="m", cost=4, reason="?"))
    session.recorder.commit()
    assert nanos(store.export_cost_summary()["wasted_cost_usd"]) == 4
    assert store.export_cost_summary(prices="current")["wasted_cost_usd"] == 0
