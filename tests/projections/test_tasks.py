"""What a list says of what was asked: the first line of the task, else what a user said first."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.model import Content, MessageAdded
from lllm.projections.engine import projector
from lllm.projections.views.task_summary import TASK_LENGTH
from tests.lllm.cli.test_cli import Run, on_terminal
from tests.support.histories import History
from tests.support.runs import Asking, config


@pytest.fixture(params=["runs.db", "runs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of either kind."""
    path = tmp_path / request.param
    made = SQLiteBackend(path) if path.suffix else LocalFileBackend(path)
    with LogStore(made) as opened:
        yield opened


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def say(history: History, number: int, text: str, why: str = "user") -> None:
    """A message in a session's dialog."""
    recorder = history.sessions[number].recorder
    content = Content.of("system" if why == "system" else "user", text)
    recorder.stage(
        MessageAdded(message=recorder.ordinal("message"), dialog=1, content=content, why=why)
    )
    recorder.commit()


TASKS: list[tuple[object, str | None]] = [
    ("How many?", "How many?"),
    ("\n  How many?  \r\nAnd why?\n", "How many?"),
    ({"order": "A-17", "day": dt.date(2026, 1, 31)}, '{"order":"A-17","day":"2026-01-31"}'),
    (("a", 1), '["a",1]'),
    (0, "0"),
    ("x" * 300, "x" * (TASK_LENGTH - 1) + "…"),
    ("x" * TASK_LENGTH, "x" * TASK_LENGTH),
    ("\udc80 odd", "\\udc80 odd"),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("task", "line"), TASKS)
def test_the_first_line_of_a_task(store: LogStore, task: object, line: str | None) -> None:
    """A text's first line that says something, or the JSON of what is no text; a long one is cut.
    The record has the task whole."""
    with store.session("script", task=task) as recorder:
        pass
    assert [one.task for one in store.list_sessions()] == [line]
    assert store.load_session_record(recorder.session_id).task == task


def test_tasks_of_tactics(store: LogStore) -> None:
    """The task of a tactic, and the first argument of a function that is one."""
    Asking(config(["x"]), log_store=store)("Of a tactic")

    @store.tactic("summarize")
    def summarize(text: str, words: int = 20) -> str:
        return text[:words]

    summarize("Of a function", words=3)
    assert [one.task for one in store.list_sessions()] == ["Of a function", "Of a tactic"]


@pytest.mark.parametrize("batch", [1, 2, 400])
def test_what_a_user_said_first(
    store: LogStore, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Without a task it is the first that a user says, whenever a list is asked for and wherever a
    batch of events ends; who has a task keeps it."""
    monkeypatch.setattr(projector, "BATCH", batch)
    history = History(store)
    history.start("a", "", {}, None)
    say(history, 0, "Be brief.", "system")
    assert [one.task for one in store.list_sessions()] == [None]
    say(history, 0, "  ")
    say(history, 0, "How many?\nNow.")
    say(history, 0, "And why?")
    assert [one.task for one in store.list_sessions()] == ["How many?"]
    say(history, 0, "Thanks.")
    assert [one.task for one in store.list_sessions()] == ["How many?"]
    with store.session("b", task="Mine"):
        pass
    assert store.list_sessions()[0].task == "Mine"
    assert store.rebuild(check=True).difference is None


def test_a_secret_in_a_task_is_not_in_the_rows(store: LogStore) -> None:
    """Rows are made of what the log has, from which secrets are cut."""
    key = "sk-" + "proj-" + "a1B2" * 12
    with store.session("script", task=f"Use {key} for it."):
        pass
    [found] = store.list_sessions()
    assert found.task is not None
    assert key not in found.task
    assert "[redacted" in found.task


def test_agent_calls_are_counted(store: LogStore) -> None:
    """A summary's agent_call_count is that of the session, whatever its batches."""
    for number in range(2):
        Asking(config(lambda _: "x"), log_store=store)(str(number))
        for one in store.list_sessions():
            assert one.agent_call_count == store.load_session(one.session_id).agent_call_count == 1
    with store.session("script"):
        pass
    assert store.list_sessions()[0].agent_call_count == 0
    assert store.rebuild(check=True).difference is None


def test_rows_of_before_are_built_anew(tmp_path: Path) -> None:
    """A store whose rows had no tasks has them when it is opened."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store, store.session("script", task="Old"):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessions_v1 SET task = NULL")
        connection.execute("UPDATE checkpoints SET version = 2 WHERE view = 'sessions'")
    with LogStore(SQLiteBackend(path)) as store:
        assert [one.task for one in store.list_sessions()] == ["Old"]


# -- on a terminal


def test_ls_shows_tasks_and_reasons(tmp_path: Path, run: Run) -> None:
    """A list shows what was asked and the first line of what went wrong, in a pipe whole, on a
    terminal cut to its width; what could harm the terminal is an escape."""
    path = tmp_path / "runs.db"
    asked = "Write \x1b[31m" + "a very long text " * 8
    with LogStore(SQLiteBackend(path)) as store:
        with store.session("good", task=asked):
            pass
        with pytest.raises(ValueError, match="no"), store.session("bad", task={"n": 1}):
            raise ValueError("no good\nat all")
    bad, good = run("ls", "--store", path).splitlines()[1:]
    assert bad.endswith('{"n":1}' + bad.partition('{"n":1}')[2])
    assert bad.rstrip().endswith("ValueError: no good")
    assert asked.rstrip().replace("\x1b", "\\x1b") in good
    for columns in (80, 220):
        shown = on_terminal(columns, "ls", "--store", path, NO_COLOR="1")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert max(len(line.rstrip()) for line in plain.splitlines()) <= columns
        assert "ValueError: no good" in plain
        assert "Write \\x1b[31ma very" in plain
        assert "…" in plain
        assert "at all" not in plain
    [first, second] = json.loads(run("ls", "--json", "--store", path))
    assert (first["task"], first["agent_call_count"]) == ('{"n":1}', 0)
    assert second["task"] == asked.rstrip()
