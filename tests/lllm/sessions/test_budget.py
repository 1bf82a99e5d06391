"""What a call may spend on models.

gpt-4o-mini costs 0.15 US$ for a million tokens of input (https://openai.com/api/pricing/), so each
scripted answer here costs 0.15 US$.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from lllm import BudgetExceeded, ConfigError, LogStore, SQLiteBackend, Tactic
from lllm.events.model import Price, SessionStarted, Usage
from lllm.invokers.scripted import ScriptedReply, reply
from lllm.sessions.budget import Budget
from tests.support.runs import config, payloads

pytestmark = pytest.mark.money

ANSWER: ScriptedReply = reply("yes", usage=Usage(input=1_000_000))


class Asks(Tactic, register=False):
    """Asks its agent so many times; counts the answers."""

    name = "asks"
    answers = 0

    def call(self, task: Any, **_: object) -> object:
        """One dialog for each question."""
        agent = self.agents["a"]
        for number in range(task):
            agent.open(f"dialog-{number}")
            agent.receive("?")
            agent.respond()
            type(self).answers += 1
        return "done"


class AsyncAsks(Tactic, register=False):
    """Asks all at once."""

    name = "async-asks"

    async def call(self, task: Any, **_: object) -> object:
        """One after another, on an event loop."""
        agent = self.agents["a"]
        for number in range(task):
            agent.open(f"dialog-{number}")
            agent.receive("?")
            await agent.arespond()
        return "done"


class Calls(Tactic, register=False):
    """Calls a sub-tactic for each number of its task."""

    name = "calls"

    def __init__(self, sub: Tactic, **options: Any) -> None:
        super().__init__(None, **options)
        self.sub = sub

    def call(self, task: Any, **_: object) -> object:
        """One after another."""
        return [self.sub(number) for number in task]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store of one test."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def asks(store: LogStore | None = None, budget_usd: float | None = None) -> Asks:
    """The tactic, with a script that always answers."""
    Asks.answers = 0
    return Asks(config(lambda _: ANSWER), log_store=store, budget_usd=budget_usd)


def test_the_call_after_the_one_that_crosses_it(store: LogStore) -> None:
    """The call that crosses the budget is answered; the next is not made, and the session fails
    with what was spent and what was allowed."""
    with pytest.raises(BudgetExceeded, match="gpt-4o-mini did not happen") as caught:
        asks(store, 0.20)(5)
    assert (caught.value.spent_usd, caught.value.limit_usd) == (0.30, 0.20)
    assert "0.3 US$ of a budget of 0.2 US$" in str(caught.value)
    assert Asks.answers == 2
    (summary,) = store.list_sessions()
    assert (summary.state, summary.calls, summary.total_cost) == ("failure", 2, 0.30)
    assert summary.error is not None
    assert summary.error.startswith("lllm.events.errors.BudgetExceeded: 0.3 US$")
    assert summary.failed_calls == 0


def test_a_budget_of_one_call(store: LogStore) -> None:
    """A budget given with the call stands for the tactic's; each call has its own."""
    tactic = asks(store, 0.15)
    assert tactic(3, budget_usd=10) == "done"
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            tactic(3)
    with pytest.raises(BudgetExceeded):
        tactic(1, budget_usd=0)
    assert tactic.bcall([1, 1, 1]) == ["done", "done", "done"]


def test_sub_tactics_spend_from_their_callers(store: LogStore) -> None:
    """What a sub-tactic spends, its caller has spent; its own budget holds, too."""
    caller = Calls(asks(), log_store=store, budget_usd=0.40)
    with pytest.raises(BudgetExceeded) as caught:
        caller([1, 1, 1, 1])
    assert caught.value.limit_usd == 0.40
    assert Asks.answers == 3
    tight = Calls(asks(budget_usd=0.10), log_store=store, budget_usd=10)
    with pytest.raises(BudgetExceeded) as caught:
        tight([1, 2])
    assert caught.value.limit_usd == 0.10


def test_a_store_of_its_own(store: LogStore, tmp_path: Path) -> None:
    """A sub-tactic that is recorded elsewhere spends its caller's money all the same."""
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other:
        caller = Calls(asks(other), log_store=store, budget_usd=0.20)
        with pytest.raises(BudgetExceeded):
            caller([1, 1, 1])
    assert Asks.answers == 2


def test_sessions_without_a_tactic(store: LogStore) -> None:
    """Tactics called inside a session of the store spend its budget."""
    tactic = asks(store)

    def script() -> None:
        with store.session("my::script", budget_usd=0.20):
            for _ in range(5):
                tactic(1)

    with pytest.raises(BudgetExceeded):
        script()
    assert Asks.answers == 2


def test_on_an_event_loop(store: LogStore) -> None:
    """The same for calls on an event loop."""
    tactic = AsyncAsks(config(lambda _: ANSWER), log_store=store, budget_usd=0.20)
    with pytest.raises(BudgetExceeded):
        asyncio.run(tactic.acall(5))
    assert store.list_sessions()[0].calls == 2


def test_agents_at_the_same_time_share_it(store: LogStore) -> None:
    """Whatever is under way when the budget is crossed ends; nothing is begun after it."""
    together = threading.Barrier(3)

    def answer(_: object) -> ScriptedReply:
        together.wait(10)
        return ANSWER

    class Fans(Tactic, register=False):
        name = "fans"

        def call(self, task: Any, **_: object) -> object:
            """Three at once, so many times."""
            return self.sub.bcall([task] * 3, max_workers=3, fail_fast=False)

    fans = Fans(log_store=store, budget_usd=0.10)
    fans.sub = Asks(config(answer))  # type: ignore[attr-defined] # any attribute will do
    results = fans(2)
    assert isinstance(results, list)
    assert [type(one) for one in results] == [BudgetExceeded] * 3
    (summary,) = store.list_sessions()
    assert (summary.calls, summary.total_cost) == (3, 0.45)


def test_what_nobody_knows_the_price_of(store: LogStore) -> None:
    """Calls without a known price spend nothing, and the error says that there were some."""
    answers = [reply("?", usage=None), ANSWER, ANSWER]
    tactic = Asks(config(answers), log_store=store, budget_usd=0.10)
    with pytest.raises(BudgetExceeded, match="What 1 more cost is not known"):
        tactic(3)


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), "1", True, 10**7])
def test_what_is_no_budget(budget: Any) -> None:
    """A budget is a number of US dollars; anything else is a ConfigError, before anything runs."""
    with pytest.raises(ConfigError, match="budget_usd is a number of US dollars"):
        asks(budget_usd=budget)
    with pytest.raises(ConfigError, match="budget_usd"):
        asks()(1, budget_usd=budget)


def test_the_error_travels() -> None:
    """An error from a worker process has what it had there."""
    error = BudgetExceeded("spent", spent_usd=0.3, limit_usd=0.2)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.spent_usd, again.limit_usd) == ("spent", 0.3, 0.2)


# -- what nobody knows the price of

UNPRICED: ScriptedReply = reply("yes", usage=None)


def unpriced(store: LogStore, **budget: Any) -> Asks:
    """The tactic, with answers whose price nobody knows."""
    Asks.answers = 0
    return Asks(config(lambda _: UNPRICED), log_store=store, **budget)


def test_the_first_unpriced_attempt_warns(store: LogStore) -> None:
    """A budget can't count what has no price: it says so, once for each call of a tactic."""
    tactic = unpriced(store, budget_usd=1)
    with pytest.warns(UserWarning, match=r"budget of 1 US\$ has no known price") as warned:
        assert tactic(3) == "done"
    assert len(warned) == 1
    assert unpriced(store)(2) == "done"  # without a budget there is nothing to count


def test_an_unpriced_attempt_may_stop(store: LogStore) -> None:
    """With budget_unpriced="stop" no call of a model follows it, for the tactic, one call, or a
    session; sub-tactics stop with their caller."""
    for tactic, options in (
        (unpriced(store, budget_usd=1, budget_unpriced="stop"), {}),
        (unpriced(store), {"budget_usd": 1, "budget_unpriced": "stop"}),
    ):
        Asks.answers = 0
        with (
            pytest.warns(UserWarning, match="no known price"),
            pytest.raises(BudgetExceeded, match="is not known"),
        ):
            tactic(3, **options)
        assert Asks.answers == 1
    Asks.answers = 0
    with (
        pytest.warns(UserWarning, match="no known price"),
        pytest.raises(BudgetExceeded, match="is not known"),
        store.session("my::script", budget_usd=1, budget_unpriced="stop"),
    ):
        unpriced(store)(3)
    assert Asks.answers == 1
    assert unpriced(store, budget_unpriced="stop")(2) == "done"  # no budget, nothing to stop


def test_what_budget_unpriced_may_be(store: LogStore) -> None:
    """Another word is refused when the tactic is made or called."""
    wrong: Any = "ignore"
    with pytest.raises(ConfigError, match="budget_unpriced"):
        unpriced(store, budget_unpriced=wrong)
    with pytest.raises(ConfigError, match="budget_unpriced"):
        asks(store)(1, budget_unpriced=wrong)


def test_another_process_stops_as_well() -> None:
    """A budget that travels takes along what it does at an unpriced attempt, and that one was."""
    budget = Budget(1, unpriced="stop")
    with pytest.warns(UserWarning, match="no known price"):
        budget.spend(Price("unpriced", reason="nobody knows"))
    with pytest.raises(BudgetExceeded, match="is not known"):
        pickle.loads(pickle.dumps(budget)).check("it")
    pickle.loads(pickle.dumps(Budget(1))).check("it")


def test_another_process_warns_as_well() -> None:
    """One that does not stop says so in the other process, and does not count what was before."""
    budget = Budget(10**9)
    with pytest.warns(UserWarning, match="no known price"):
        budget.spend(Price("unpriced", reason="nobody knows"))
    there: Budget = pickle.loads(pickle.dumps(budget))
    assert (there.limit, there.unpriced) == (10**9, 0)
    with pytest.warns(UserWarning, match="no known price"):
        there.spend(Price("unpriced", reason="nobody knows"))


def test_a_warning_that_is_made_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """`python -W error` makes no answer fail: what would be a warning is logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Budget(10**9).spend(Price("unpriced", reason="nobody knows"))
    assert "no known price" in caplog.text
    assert "nobody knows" in caplog.text


def test_what_a_budget_does_not_see() -> None:
    """The error of a budget that is spent says which calls it could not count."""
    above = Budget(1)
    budget = Budget(None, above)
    assert budget.misses("/images/generations")
    assert not Budget().misses("/images/generations")
    budget.check("it")
    budget.misses("/audio/speech")
    budget.spend(Price("priced", nanos=1))
    with pytest.raises(BudgetExceeded, match=r"It does not see what calls to /images/generations, "
                       r"/audio/speech cost\."):  # fmt: skip
        budget.check("it")


def test_the_budget_is_in_the_log(store: LogStore) -> None:
    """A session says what it may spend, in nano-dollars; one without a limit says nothing."""
    asks(store, 0.5)(1)
    asks(store)(1)
    listed = store.list_sessions()
    found = [payloads(store, one.session_id)[0] for one in reversed(listed)]
    assert [one.budget for one in found if isinstance(one, SessionStarted)] == [500_000_000, None]
