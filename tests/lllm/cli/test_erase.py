"""The commands that erase, hold and retain: what they ask, say and end with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lllm import LogStore
from lllm.cli import main
from lllm.cli.program import cli
from lllm.logging import sqlite_store

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store with nothing in it."""
    with sqlite_store(tmp_path / "runs.db") as opened:
        yield opened


@pytest.fixture
def run(store: LogStore, tmp_path: Path) -> Run:
    """Runs a command on the store."""
    assert store.list_sessions() == []

    def command(*arguments: str, typed: str = "") -> Result:
        given = [arguments[0], "--store", str(tmp_path / "runs.db"), *arguments[1:]]
        return CliRunner().invoke(cli, given, input=typed, prog_name="lllm")

    return command


def record(store: LogStore, text: str = "a task", **tags: str) -> str:
    """A finished session."""
    with store.session("p::desk", task=text, tags=tags) as own:
        own.deliver(text)
    return own.session_id


def test_it_asks_first(store: LogStore, run: Run) -> None:
    """With a count and the reason that stays; no is no."""
    gone = record(store)
    asked = run("erase", gone, "--reason", "asked for", typed="n\n")
    assert asked.exit_code == 1
    assert "1 session:" in asked.output
    assert "This reason stays in the log for good: asked for" in asked.output
    assert store.load_session(gone).task == "a task"
    done = run("erase", gone, "--reason", "asked for", "--by", "ada", typed="y\n")
    assert done.exit_code == 0, done.output
    assert "Erased: 1 session, 2 payloads." in done.output
    assert "backups" in done.output
    assert "Pending" not in done.output
    assert "erased on" in run("ls").output
    shown = run("show", gone)
    assert "by ada because: asked for" in str(shown.exception)


def test_by_filter(store: LogStore, run: Run) -> None:
    """All that fit are erased; a hold, and what fits nothing, are said."""
    ids = [record(store, customer="x") for _ in range(3)]
    held = run("hold", ids[0], "--reason", "case 7", "--by", "court")
    assert held.output.startswith("held-")
    assert "court: case 7" in run("hold", ids[0], "--list").output
    erased = run(
        "erase", "--tag", "customer=x", "--reason", "r", "--yes", "--json", "--defer-vacuum"
    )
    report = json.loads(erased.output)
    assert (len(report["sessions"]), report["held"], report["pending"]) == (2, [ids[0]], True)
    assert "Done" in run("vacuum").output
    assert run("release", ids[0], "--reason", "over").output.endswith("1 lifted.\n")
    assert run("erase", ids[0], "--reason", "r", "--yes").exit_code == 0
    assert run("erase", "--tag", "customer=x", "--reason", "r", "--yes").exception is not None


def test_exit_codes(store: LogStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 for a session that there is not, that runs or is held; 2 for a question that is none."""
    at = ["--store", str(tmp_path / "runs.db"), "--reason", "r", "--yes"]
    assert main(["erase", "01jd4rz9k2m8q4w6x0v3c5b7n9", *at]) == 1
    assert main(["erase", *at]) == 2
    with store.session("p::runs") as own:
        assert main(["erase", own.session_id, *at]) == 1
    assert "still running" in capsys.readouterr().err
    store.hold(own.session_id, reason="case 7", by="court")
    assert main(["erase", own.session_id, *at]) == 1
    assert "court placed a legal hold on it (case 7)" in capsys.readouterr().err


def test_retain(store: LogStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run says what would go; with --yes it goes, but for what is held."""
    with monkeypatch.context() as long_ago:
        import time

        now = time.time_ns()
        long_ago.setattr("time.time_ns", lambda: now - 200 * 86_400 * 10**9)
        ids = [record(store) for _ in range(3)]
    record(store)
    store.hold(ids[0], reason="case 7")
    dry = run("retain", "--days", "183").output
    assert "2 sessions, not erased: this was a dry run; 1 more are held, 0 still run." in dry
    assert store.load_session(ids[1]).task == "a task"
    done = run("retain", "--days", "183", "--yes", "--json")
    assert len(json.loads(done.output)["erasure"]["sessions"]) == 2
    erased = {one.session_id: one.erased for one in store.list_sessions() if one.erased}
    assert set(erased) == set(ids[1:])
    assert all("older than 183 days" in why for why in erased.values())
