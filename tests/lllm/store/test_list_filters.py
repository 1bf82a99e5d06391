"""Lists by what sessions cost, how long they took, what failed in them, and what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.generate import fill
from lllm import LogStore, SQLiteBackend
from lllm.events.model import Usage
from lllm.invokers.scripted import cut_off, rate_limited
from lllm.projections.queries import session_filter_sql, session_lists
from tests.support.runs import Asking, config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """One session without a call, one with a call below it, one that failed, and a long one."""
    with LogStore(SQLiteBackend(tmp_path_factory.mktemp("filters") / "runs.db")) as opened:
        with opened.session("shop::idle", task="Nothing to do, ÄRGER"):
            pass
        with opened.session("shop::desk", task="Where is my Kettle? 100 %_"):
            Asking(config([rate_limited(), "answer " * 500]), log_store=opened)("a long question")
        with pytest.raises(ValueError, match="Broken"), opened.session("shop::desk", task="b"):
            raise ValueError("Broken Pipe")
        Asking(config(["yes"]), log_store=opened)("c")
        yield opened


def asked(store: LogStore, **filters: object) -> list[str | None]:
    """The tasks of the sessions that fit, and that sums count as many."""
    found = [one.task for one in store.list_sessions(**filters)]  # type: ignore[arg-type]
    assert store.export_cost_summary(**filters)["session_count"] == len(found)  # type: ignore[arg-type]
    return found


IDLE, DESK, FAILED, PLAIN = "Nothing to do, ÄRGER", "Where is my Kettle? 100 %_", "b", "c"


def test_models_and_agents_of_calls_below_count(store: LogStore) -> None:
    assert asked(store, model="GPT-4o*") == [PLAIN, DESK]
    assert asked(store, agent="a") == [PLAIN, DESK]
    assert asked(store, model="gpt-4o-mini", agent="b") == []
    assert asked(store, model="gpt-4o-min_") == []


def test_errors_of_sessions_and_of_attempts_below(store: LogStore) -> None:
    assert asked(store, error="broken pipe") == [FAILED]
    assert asked(store, error="valueERROR") == [FAILED]
    assert asked(store, error=429) == asked(store, error="4xx") == [DESK]
    assert asked(store, error="RATE_limit") == [DESK]
    assert asked(store, error="kettle") == []


def test_texts_of_rows(store: LogStore) -> None:
    assert asked(store, text="kettle") == [DESK]
    assert asked(store, text="%_") == [DESK]
    assert asked(store, text="ÄRGER") == [IDLE]
    assert asked(store, text="broken") == [FAILED]
    assert asked(store, text="shop::") == [FAILED, DESK, IDLE]


def test_costs_and_durations(store: LogStore) -> None:
    by_task = {one.task: one for one in store.list_sessions()}
    dear, cheap = by_task[DESK].total_cost, by_task[PLAIN].total_cost
    assert dear > cheap > 0
    assert asked(store, min_cost=dear) == [DESK]
    assert asked(store, max_cost=cheap) == [PLAIN, FAILED, IDLE]
    assert asked(store, min_cost=cheap, max_cost=cheap) == [PLAIN]
    took = sorted(by_task.values(), key=lambda one: one.elapsed or 0)
    assert asked(store, slower=took[-1].elapsed) == [took[-1].task]
    assert asked(store, faster=took[0].elapsed) == [took[0].task]
    assert asked(store, slower="1h") == []
    assert len(asked(store, faster="1h")) == 4
    with store.session("shop::open", task="still running"):
        assert "still running" not in asked(store, faster="1h")


def test_conditions_hold_below_a_tactic(store: LogStore) -> None:
    assert len(store.list_sessions(tactic_path="asking")) == 2
    (one,) = store.list_sessions(tactic_path="asking", error=429)
    assert one.failed_calls == 1
    (by_tag,) = store.export_cost_summary(error=429, group_by="tactic")["groups"]
    assert by_tag["key"] == "asking"


def test_each_order_and_its_opposite(store: LogStore) -> None:
    by_task = store.list_sessions(sort="task", text="shop::desk")
    assert [one.task for one in by_task] == [DESK, FAILED]
    assert store.list_sessions(sort="tokens", limit=1)[0].task == DESK
    assert store.list_sessions(sort="calls", limit=1)[0].task == DESK
    (longest, *_) = store.list_sessions(sort="elapsed", limit=1)
    assert longest.elapsed == max(one.elapsed or 0 for one in store.list_sessions())
    assert store.list_sessions(sort="state", limit=1)[0].state == "failure"
    assert store.list_sessions(reverse=True, limit=1)[0].task == IDLE


def test_where_money_was_wasted(tmp_path: Path) -> None:
    """In the session or below it; a failed attempt that cost nothing wasted nothing."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        with opened.session("shop::desk", task="above"):
            given = config([cut_off("half of it", usage=Usage(input=900, output=90)), "whole"])
            Asking(given, log_store=opened)("below")
        Asking(config([rate_limited(), "yes"]), log_store=opened)("free")
        assert asked(opened, wasted=True) == ["above"]
        assert asked(opened, wasted=True, tactic_path="asking") == ["below"]
        (row,) = opened.export_dataset(wasted=True)
        assert row.task == "above"


@pytest.mark.parametrize("largest", [3, 1_000])
def test_the_largest_of_many_are_those_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """The short way to the dearest of very many sessions leads to the same, page by page."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as many:
        fill(many.backend, 60, shape="usual", seed=3)
        for number in range(3):
            with many.session("shop::idle", tags={"env": "prod"}, task=f"costs nothing {number}"):
                pass
        filters: list[dict[str, object]] = [
            {}, {"tags": {"env": "prod"}}, {"tags": {"env": "prod", "experiment": "v1"}},
            {"tactic_path": "shop::lookup"}, {"state": "failure"}, {"text": "shop"},
            {"tags": {"env": "prod"}, "state": "success", "min_cost": 0.001}, {"replays": True},
        ]  # fmt: skip
        asked = [(one, sort) for one in filters for sort in ("cost", "calls", "tokens", "elapsed")]
        monkeypatch.setattr(session_filter_sql, "BROAD", 1 << 40)
        monkeypatch.setattr(session_lists, "LARGEST", 0)
        usual = [pages_of(many, sort, filters) for filters, sort in asked]
        monkeypatch.setattr(session_filter_sql, "BROAD", 0)
        monkeypatch.setattr(session_lists, "LARGEST", largest)
        for (one, sort), expected in zip(asked, usual, strict=True):
            assert pages_of(many, sort, one) == expected, (one, sort)
            assert len(set(expected)) == len(expected)


@pytest.mark.parametrize("sort", ["elapsed", "state", "tactic", "task"])
def test_an_order_of_all_has_each_top_level_session_once(tmp_path: Path, sort: str) -> None:
    """Sorted by a value of theirs, either way, pages have all that a list by start has."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as many:
        fill(many.backend, 40, shape="usual", seed=3)
        with many.session("shop::running"):
            every = many.list_sessions()
            values = [one.tactic_path if sort == "tactic" else getattr(one, sort) for one in every]
            in_order = sorted(value or (-1 if sort == "elapsed" else "") for value in values)
            there = pages_of(many, sort, {})
            back = pages_of(many, sort, {"reverse": True})
        assert there == back[::-1]
        assert sorted(there) == sorted(one.session_id for one in every)
        of_id = dict(zip((one.session_id for one in every), values, strict=True))
        found = [of_id[one] or (-1 if sort == "elapsed" else "") for one in there]
        assert found in (in_order, in_order[::-1])


def pages_of(store: LogStore, sort: str, filters: dict[str, object]) -> list[str]:
    """All sessions of a list, in pages of seven."""
    found: list[str] = []
    cursor = None
    while page := store.list_sessions(sort=sort, limit=7, cursor=cursor, **filters):  # type: ignore[arg-type]
        found += [one.session_id for one in page]
        cursor = page[-1].cursor
    return found


@pytest.mark.parametrize(
    ("filters", "error", "says"),
    [
        ({"min_cost": -1}, ValueError, "min_cost"),
        ({"max_cost": float("nan")}, ValueError, "max_cost"),
        ({"max_cost": "1"}, TypeError, "max_cost"),
        ({"slower": "soon"}, ValueError, "soon"),
        ({"error": ""}, ValueError, "error is"),
        ({"sort": "task", "cursor": "state.x.1"}, ValueError, "cursor"),
        ({"sort": "calls", "cursor": "calls.x.1"}, ValueError, "cursor"),
        ({"sort": "task", "cursor": f"task.x.{2**63}"}, ValueError, "cursor"),
    ],
)
def test_what_can_not_be_is_told(
    store: LogStore, filters: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        store.list_sessions(**filters)  # type: ignore[arg-type]
