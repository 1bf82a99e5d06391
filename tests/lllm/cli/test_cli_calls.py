"""`lllm calls`: attempts to call a model on a terminal, in a pipe, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.cli.open_store import open_store
from lllm.events.model import Usage
from lllm.store.call_records import CallRecord
from tests.lllm.cli.test_cli import Run, on_terminal
from tests.support.histories import Attempt, History


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four attempts in two sessions: a slow one, a 429, one without a price, and one
    that still runs."""
    path = tmp_path_factory.mktemp("calls") / "runs.db"
    usage = Usage(input=1_200, output=300)
    with LogStore(SQLiteBackend(path)) as store:
        history = History(store)
        first = history.start("p::nightly", "", {"env": "prod"}, None)
        slow = Attempt("gpt-4o", "one", 12_345_678, False, usage, elapsed=12 * 10**9,
                       first_token=5 * 10**8)  # fmt: skip
        history.attempt(first, slow)
        history.attempt(
            first, Attempt("gpt-4o", "one", 9_000, True, None, status=429, elapsed=10**8)
        )
        second = history.start("ask", "", {}, None)
        history.attempt(second, Attempt("house-model", "", None, False, usage, elapsed=2 * 10**9))
        history.attempt(second, Attempt("house-model", "", None, False, None, ended=False))
    return path


@pytest.fixture(scope="module")
def session_ids(path: Path) -> Iterator[list[str]]:
    """The ids of the sessions, in the order in which they began."""
    with open_store(str(path)) as store:
        yield [one.session_id for one in reversed(store.list_sessions())]


def test_a_table_in_a_pipe(path: Path, run: Run, session_ids: list[str]) -> None:
    """A line for each attempt, the newest first: whose it is, its state, time, tokens, cost, and
    what went wrong."""
    lines = run("calls", "--store", path).splitlines()
    assert re.split("  +", lines[0]) == [
        "SESSION", lines[0][28:48].strip(), "CALL", "MODEL", "TOOK", "FIRST", "IN", "OUT", "COST",
        "ERROR",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == [session_ids[n] for n in (1, 1, 0, 0)]
    running, unpriced, limited, slow = lines[1:]
    assert re.search(r"▸  #2 step 2 +house-model", running)
    assert re.search(r"✓  #1 step 1 +house-model +2.0 s +1,200 +300 +unpriced$", unpriced)
    assert re.search(
        r"✗  #2 one · step 2, attempt 1 +gpt-4o +100 ms +\$0.000009 +429 E: m$", limited
    )
    assert re.search(r"✓  #1 one · step 1 +gpt-4o +12.0 s +500 ms +1,200 +300 +\$0.0123$", slow)


@pytest.mark.parametrize(
    ("options", "models"),
    [
        (["--error", "429"], ["gpt-4o"]),
        (["--error", "e: "], []),
        (["--error", "M"], ["gpt-4o"]),
        (["--model", "house-*"], ["house-model", "house-model"]),
        (["--provider", "scripted", "--limit", "1"], ["house-model"]),
        (["--slower", "5s"], ["gpt-4o"]),
        (["--state", "running"], ["house-model"]),
        (["--tag", "env=prod"], ["gpt-4o", "gpt-4o"]),
        (["--tactic", "ask"], ["house-model", "house-model"]),
        (["--sort", "elapsed", "--limit", "2"], ["gpt-4o", "house-model"]),
        (["--sort", "cost", "--limit", "1"], ["gpt-4o"]),
        (["--after", "1h", "--before", "now"], ["house-model", "house-model", "gpt-4o", "gpt-4o"]),
        (["--before", "2020-01-01"], []),
    ],
)
def test_filters(path: Path, run: Run, options: list[str], models: list[str]) -> None:
    """Every filter and order of list_calls is an option."""
    found = json.loads(run("calls", "--json", "--store", path, *options, code=int(not models)))
    assert [one["asked"] for one in found] == models


def test_a_session_is_named_by_a_prefix(path: Path, run: Run, session_ids: list[str]) -> None:
    """--session takes what other commands take for an ID; one that no session has is said."""
    found = json.loads(run("calls", "--json", "--store", path, "--session", session_ids[0][:-1]))
    assert {one["session_id"] for one in found} == {session_ids[0]}
    run("calls", "--store", path, "--session", "zzz", code=1)
    assert "zzz" in run.err


def test_pages(path: Path, run: Run) -> None:
    """A list that is cut says how to go on, and so each attempt is seen once."""
    seen: list[str] = []
    options: list[str] = []
    for _ in range(4):
        seen += run(
            "calls", "--sort", "cost", "--limit", 1, "--store", path, *options
        ).splitlines()[1:]
        options = ["--cursor", run.err.split()[-1]] if "--cursor" in run.err else []
    assert len({*seen}) == 4
    assert not options


def test_csv(path: Path, run: Run) -> None:
    """--csv has a column for each field of a CallRecord, amounts and times exact, and survives what
    is in texts."""
    with open_store(str(path)) as store:
        history = History(store)
        session = history.start('a,"b"\nc', "", {'"': "x,\ny"}, None)
        history.attempt(session, Attempt("m", "", 1, False, Usage(input=1), elapsed=1))
        listed = store.list_calls()
    rows = list(csv.DictReader(io.StringIO(run("calls", "--csv", "--store", path))))
    assert list(rows[0]) == list(CallRecord.__struct_fields__)
    assert rows[0]["tactic_path"] == 'a,"b"\nc'
    assert json.loads(rows[0]["tags"]) == {'"': "x,\ny"}
    assert (rows[0]["cost"], rows[0]["elapsed"]) == ("0.000000001", "0.000000001")
    assert [row["cost"] for row in rows[1:]] == ["", "", "0.000009000", "0.012345678"]
    assert [row["status"] for row in rows] == ["", "", "", "429", ""]
    assert [row["wasted"] for row in rows] == ["false", "false", "false", "true", "false"]
    assert [row["timestamp"] for row in rows] == [one.timestamp.isoformat() for one in listed]
    run("calls", "--csv", "--json", "--store", path, code=2)
    assert "not both" in run.err


def test_nothing(path: Path, tmp_path: Path, run: Run) -> None:
    """Where no attempt fits, that is said, and it is another thing than a store without any."""
    run("calls", "--store", path, "--error", "418", code=1)
    assert "No call of a model matches" in run.err
    with LogStore(SQLiteBackend(tmp_path / "empty.db")):
        pass
    run("calls", "--store", tmp_path / "empty.db", code=1)
    assert "no calls of a model yet" in run.err
    run("calls", "--store", path, "--slower", "soon", code=2)
    assert "500ms" in run.err


def test_terminals(path: Path, session_ids: list[str]) -> None:
    """A table of 150 columns; on 80 two lines for each attempt, none wider, and whole ids."""
    for columns in (80, 150):
        shown = on_terminal(columns, "calls", "--session", session_ids[0], "--store", path)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert max(len(line.rstrip()) for line in plain.splitlines()) <= columns
        assert plain.split().count(session_ids[0]) == 2
        assert ("MODEL" in plain) == (columns == 150)
        assert "429 E: m" in plain
        assert "12.0 s" in plain


def test_they_are_summed_up(run: Run, path: Path) -> None:
    out = run("calls", "--by", "model", "--store", path)
    assert re.search(r"^gpt-4o +2 +1 \(50.0 %\) +1 +0 +12.0 s", out, re.MULTILINE)
    assert re.search(r"^total +5 +1 \(20.0 %\)", out, re.MULTILINE)
    found = json.loads(run("calls", "--by", "tactic", "--json", "--store", path))
    assert {one["key"] for one in found["groups"]} >= {"p::nightly", "ask"}
    run("calls", "--by", "day", "--model", "x", "--store", path, code=1)
    assert "No call of a model matches." in run.err
    run("calls", "--by", "day", "--slower", "5s", "--store", path, code=2)
    assert "are of lists" in run.err
