"""Replays are in no list, count or sum unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli import cli
from lllm.cli.render.formats import money
from tests.support.replayed import Program, asks, record


def outer(tactic: Any, task: object) -> object:
    """One question, and another in a sub-tactic."""
    return [asks(tactic, task), tactic.sub(task)]


def made(store: LogStore, script: Any) -> Program:
    """A tactic with a sub-tactic of the same kind."""

    class Sub(Program, register=False):
        name = "sub"

    tactic = Program(outer, script, log_store=store)
    vars(tactic)["sub"] = Sub(lambda self, task: asks(self, task), script, log_store=store)
    return tactic


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_replays_are_listed_where_they_are_asked_for(tmp_path: Path, kind: str) -> None:
    """Lists, filters, counts, sums, calls and exports know nothing of replays; with replays=True
    they are listed by the same filters, and each says what it replays. So it is after a rebuild,
    and in batches as small as can be."""
    path = tmp_path / ("runs.db" if kind == "sqlite" else "logs")
    backend = SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)
    with LogStore(backend) as store:
        recorded = record(made(store, lambda _: "hi"), tags={"env": "prod"})
        asked = (
            store.list_sessions, lambda: store.list_sessions(tags={"env": "prod"}),
            lambda: store.list_sessions(tactic_path="sub"), store.list_calls,
            lambda: store.list_sessions(sort="cost", state="success"),
            lambda: store.export_cost_summary(group_by=["tactic", "tag:env"]),
            lambda: store.export_cost_summary(prices="current", group_by="model"),
            lambda: store.export_cost_summary(tactic_path="sub"),
        )  # fmt: skip
        before = [ask() for ask in asked]
        with store.replay(recorded) as replay:
            assert made(store, None)("task", tags={"env": "prod"}) == ["hi", "hi"]
        assert [ask() for ask in asked] == before
        store.tag(str(replay.session_id), {"env": "test"})
        for _ in range(2):
            assert [ask() for ask in asked] == before
            both = store.list_sessions(replays=True)
            assert [one.session_id for one in both] == [replay.session_id, recorded]
            assert [one.replays for one in both] == [recorded, None]
            assert (both[0].total_cost, both[0].calls) == (0, both[1].calls)
            assert both[0].tags == {"env": "test"}
            for filters, count in (
                ({"tags": {"env": "test"}}, 1), ({"tags": {"env": "prod"}}, 1),
                ({"state": "failure"}, 0), ({"tactic_path": "program"}, 2),
                ({"partition": ""}, 2), ({"partition": "x"}, 0), ({"after": "1h"}, 2),
            ):  # fmt: skip
                found = store.list_sessions(replays=True, **filters)
                assert len(found) == count, filters
            assert store.list_sessions(replays=True, limit=1, cursor=both[0].cursor) == both[1:]
            assert store.rebuild(check=True).difference is None
            store.rebuild()
        assert store.load_session(str(replay.session_id)).delivery == ["hi", "hi"]
        assert store.find_id(str(replay.session_id)[:24]) == replay.session_id
        exported = store.export_lists(tmp_path / "lists.db")
        assert exported.sessions == 2
    run = CliRunner().invoke(cli, ["ls", "--store", str(path), "--json"])
    assert str(replay.session_id) not in run.output
    run = CliRunner().invoke(cli, ["ls", "--store", str(path), "--json", "--replays"])
    assert str(replay.session_id) in run.output
    for width in (300, 80):
        options = ["ls", "--store", str(path), "--replays"]
        run = CliRunner().invoke(cli, options, env={"COLUMNS": str(width)})
        assert run.output.count(f"replay of {recorded}") == 1
    assert "FROM" not in CliRunner().invoke(cli, ["ls", "--store", str(path)]).output
    cost = both[1].total_cost
    shown = CliRunner().invoke(cli, ["show", "--store", str(path), str(replay.session_id)])
    assert f"replays {recorded} · which cost {money(cost)}" in shown.output
    shown = CliRunner().invoke(cli, ["show", "--store", str(path), recorded])
    assert "replays" not in shown.output
