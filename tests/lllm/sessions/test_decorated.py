"""`@store.tactic(...)`: any function as a tactic."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import BudgetExceeded, ConfigError, LogStore, SQLiteBackend, Tactic
from lllm.events.model import Usage
from lllm.invokers.scripted import reply
from tests.support.runs import Asking, config


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def test_a_call_is_a_session(store: LogStore) -> None:
    """A call leaves a session: its first argument is the task, the others are options, and what it
    returns is the delivery."""

    @store.tactic("summarize", tags={"env": "test"})
    def summarize(text: str, words: int = 10, *, tone: str = "plain") -> str:
        """Makes it short."""
        return f"{text[:words]} ({tone})"

    assert summarize("a long text", tone="dry") == "a long tex (dry)"
    assert (summarize.__name__, summarize.__doc__) == ("summarize", "Makes it short.")
    [found] = store.list_sessions(tags={"env": "test"}, state="success")
    session = store.load_session(found.session_id)
    assert (session.tactic_name, session.task) == ("summarize", "a long text")
    assert session.options == {"tone": "dry"}
    assert session.delivery == "a long tex (dry)"


def test_what_it_raises_is_kept(store: LogStore) -> None:
    """A call that raises is a failure, with its traceback; arguments that don't fit are a TypeError
    as ever, and no session."""

    @store.tactic("breaks")
    def breaks(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        breaks(0)
    with pytest.raises(TypeError):
        breaks()  # type: ignore[call-arg] # on purpose
    [failed] = store.list_sessions()
    assert failed.state == "failure"
    assert "1 / number" in str(store.load_session_record(failed.session_id).traceback)


def test_nested_calls_are_children(store: LogStore) -> None:
    """A decorated function that another one calls, or a tactic in it, is a child of its session."""
    tactic = Asking(config(["yes"]))

    @store.tactic("inner")
    def inner(text: str) -> object:
        return tactic(text)

    @store.tactic("outer")
    def outer(text: str) -> object:
        return inner(text)

    assert outer("?") == "yes"
    [root] = store.list_sessions()
    session = store.load_session(root.session_id)
    [child] = session.sub_tactic_sessions["inner"]
    assert [one.tactic_name for one in child.sub_tactic_sessions["asking"]] == ["asking"]
    assert session.total_cost.cost == child.total_cost.cost > 0


def test_async_functions(store: LogStore) -> None:
    """A coroutine function stays one; calls that run at once are siblings, each whole."""

    @store.tactic("inner")
    async def inner(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @store.tactic("outer")
    async def outer(numbers: list[int]) -> list[int]:
        return await asyncio.gather(*map(inner, numbers))

    assert inspect.iscoroutinefunction(outer)
    assert asyncio.run(outer([1, 2, 3])) == [2, 4, 6]
    [root] = store.list_sessions()
    session = store.load_session(root.session_id)
    assert sorted(str(one.delivery) for one in session.sub_tactic_sessions["inner"]) == [
        "2", "4", "6",
    ]  # fmt: skip
    assert session.delivery == [2, 4, 6]


def test_methods_and_threads(store: LogStore) -> None:
    """The task of a method is its first argument behind self; calls in threads are sessions of
    their own."""

    class Desk:
        @store.tactic("ask")
        def ask(self, question: str) -> str:
            return question.upper()

    desk = Desk()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(desk.ask, "abcd")) == list("ABCD")
    tasks = {store.load_session(one.session_id).task for one in store.list_sessions()}
    assert tasks == set("abcd")


def test_a_budget_for_each_call(store: LogStore) -> None:
    """budget_usd goes for each call of the function, with what is called inside."""
    answer = reply("yes", usage=Usage(input=1_000_000))  # 0.15 US$
    tactic = Asking(config([answer] * 3))

    @store.tactic("frugal", budget_usd=0.10)
    def frugal(times: int) -> None:
        for _ in range(times):
            tactic("?")

    frugal(1)
    with pytest.raises(BudgetExceeded):
        frugal(2)


def test_its_path(store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short name gets the package of the nearest lllm.toml above the function's file; a path with
    `::` is taken as it is."""
    (tmp_path / "lllm.toml").write_text('[package]\nname = "my_project"\nversion = "1.0.0"\n')
    (tmp_path / "decorated_module.py").write_text(
        "def make(store, name):\n"
        "    @store.tactic(name)\n"
        "    def run(task):\n"
        "        return task\n"
        "    return run\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import decorated_module  # type: ignore[import-not-found] # written above

    try:
        decorated_module.make(store, "short")(1)
        decorated_module.make(store, "other::long")(1)
    finally:
        del sys.modules["decorated_module"]
    paths = {one.tactic_path for one in store.list_sessions()}
    assert paths == {"my_project::short", "other::long"}


def test_what_can_be_no_tactic(store: LogStore) -> None:
    """Names that are none and budgets that are none are refused, when a function is decorated."""
    for name in ("", "package::"):
        with pytest.raises(ConfigError, match="needs a name"):
            store.tactic(name)(len)
    with pytest.raises(ConfigError, match="budget_usd"):
        store.tactic("spends", budget_usd=-1)(len)


def test_a_tactic_with_its_own_store(store: LogStore) -> None:
    """A tactic that has the same store is a child, too."""

    class Inner(Tactic, register=False):
        name = "inner"

        def call(self, task: object, **_: object) -> object:
            return task

    tactic = Inner(log_store=store)

    @store.tactic("outer")
    def outer(task: str) -> object:
        return tactic(task)

    outer("x")
    [root] = store.list_sessions()
    assert "inner" in store.load_session(root.session_id).sub_tactic_sessions
