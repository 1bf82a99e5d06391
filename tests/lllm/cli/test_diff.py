"""`lllm diff A B` and `store.diff`: where two sessions first differ, and what each took."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lllm import Edit, LogStore, ReplayPlace, SessionNotFound, SQLiteBackend, tool
from lllm.cli import main
from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import Recorded
from lllm.events.exported_lines import as_jsonl
from lllm.invokers.scripted import bad_request, tool_call
from lllm.projections.session.invoke_cost import nanos
from lllm.replay.session_diff import SessionDiff
from tests.support import ROOT
from tests.support.replayed import Program, asks, record


@tool(description="Takes a note.")
def note(text: str) -> str:
    """A tool."""
    return f"noted {text}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[LogStore]:
    """A store."""
    with LogStore(SQLiteBackend(path)) as opened:
        yield opened


def asking(tactic: Any, task: object) -> object:
    """One question."""
    return asks(tactic, task)


def twice(tactic: Any, task: object) -> object:
    """Two questions in one dialog."""
    one = tactic.agents["a"]
    one.open()
    one.receive(task)
    first = one.respond().content
    one.receive(f"and then? {first}")
    return [first, one.respond().content]


def noting(*answers: Any) -> list[Any]:
    """A note, then answers."""
    return [tool_call("note", {"text": "1"}), *(answers or ("done",))]


def compared(store: LogStore, a: str, b: str) -> SessionDiff:
    """How they differ, and that the other way round they differ at the same place."""
    found, other = store.diff(a, b), store.diff(b, a)
    assert found.same == other.same
    if found.first is not None and other.first is not None:
        assert found.first.place == other.first.place
    assert [one.place for one in found.differences] == [one.place for one in other.differences]
    return found


def test_runs_that_are_the_same(store: LogStore) -> None:
    """Two runs of the same are the same, whatever their ids, times, tags and calls' ids are; so is
    a replay, which cost nothing."""
    one, other = (
        record(Program(asking, noting(), tools=[note], log_store=store), tags={"n": name})
        for name in "ab"
    )
    found = compared(store, one, other)
    assert found.same
    assert (found.first, found.delivery, found.steps) == (None, "", 7)
    assert nanos(found.a.cost) == nanos(found.b.cost) > 0
    program = Program(asking, tools=[note], log_store=store)
    replayed = program.replay(one, return_session=True).session_id
    found = compared(store, one, replayed)
    assert found.same
    assert (found.b.cost, found.b.recorded_cost) == (0, found.a.cost)


EDITS: dict[str, tuple[dict[str, Any], Any, str, tuple[str, ...], int | None]] = {
    "prompt": ({"system_prompt": "Other."}, None, "request", ("system prompt",), 1),
    "model": ({"model": "gpt-4o"}, None, "request", ("model",), 1),
    "parameter": ({"model_args": {"seed": 1}}, None, "request", ("params",), 1),
    "tools": ({"tools": []}, noting(), "request", ("tools",), 1),
    "answer": ({}, noting("other"), "answer", ("answer",), 2),
    "arguments": ({}, [tool_call("note", {"text": "2"}), "done"], "answer", ("answer",), 1),
    "failure": ({}, [tool_call("note", {"text": "1"}), bad_request()], "answer",
                ("answer", "error"), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_what_differs(store: LogStore, name: str) -> None:
    """The first step that differs is found, and what of it does."""
    agent, script, kind, differs, step = EDITS[name]
    one = record(Program(asking, noting(), tools=[note], log_store=store))
    given = {"tools": [note], "log_store": store, **agent}
    other = record(Program(asking, script or noting(), **given))
    found = compared(store, one, other)
    assert found.first is not None
    assert (found.first.kind, found.first.differs) == (kind, differs)
    assert found.first.place.step == step
    assert found.first.diff.startswith("--- A\n+++ B\n")
    assert not any(later.diff for later in found.differences[1:])


def test_a_fork_differs_from_its_origin(store: LogStore) -> None:
    """A fork differs first where it was changed."""
    one = record(Program(twice, ["one", "two"], log_store=store))
    fork = Program(twice, ["new"], log_store=store).fork(
        one, at=ReplayPlace(respond=2), edit=Edit(message="why?"), return_session=True
    )
    found = compared(store, one, fork.session_id)
    assert found.first is not None
    assert (found.first.place.respond, found.first.differs) == (2, ("messages",))
    assert found.first.diff == "--- A\n+++ B\n [assistant]\n one\n [user]\n-and then? one\n+why?"
    assert found.delivery == '--- A\n+++ B\n [\n   "one",\n-  "two"\n+  "new"\n ]'
    assert nanos(found.b.cost + found.b.recorded_cost) > nanos(found.b.cost) > 0
    assert found.b.messages == found.a.messages + 1


def test_the_place_of_a_difference_is_a_point(store: LogStore) -> None:
    """A session can be forked where it first differs from another one."""
    one, other = (record(Program(twice, ["one", name], log_store=store)) for name in ("x", "y"))
    first = store.diff(one, other).first
    assert first is not None
    assert Program(twice, ["z"], log_store=store).fork(one, at=first.place) == ["one", "z"]


def test_more_and_less(store: LogStore) -> None:
    """A step that only one of them has, another task, and sessions below."""

    class Sub(Program, register=False):
        name = "sub"

    def run(*tasks: str, last: bool = False) -> str:
        def do(tactic: Any, _: object) -> object:
            told = [tactic.sub(task) for task in tasks]
            return [*told, *([asks(tactic, "last")] if last else [])]

        program = Program(do, ["end"], log_store=store)
        vars(program)["sub"] = Sub(asking, lambda request: request.messages[-1].text,
                                   log_store=store)  # fmt: skip
        return record(program)

    one = run("1", "2")
    assert compared(store, one, run("1", "2")).same
    found = compared(store, one, run("2", "1"))
    assert [later.kind for later in found.differences] == ["end"]
    found = compared(store, one, run("1", "3"))
    assert found.first is not None
    assert (found.first.kind, found.first.differs) == ("session", ("task",))
    assert (found.first.place.tactic, found.first.place.child) == ("sub", 2)
    found = store.diff(one, run("1"))
    assert found.first is not None
    assert (found.first.kind, found.first.only_in) == ("session", "a")
    assert (found.a.sessions, found.b.sessions) == (3, 2)
    found = store.diff(one, run("1", "2", last=True))
    assert found.first is not None
    assert (found.first.kind, found.first.only_in) == ("request", "b")
    assert found.first.place.agent == "a"
    other = record(Program(asking, ["x"], log_store=store), "other")
    assert store.diff(other, one).differences[0].differs[0] == "task"


def out_of(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    """What a command ends with, and prints."""
    code = main(["diff", *command])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_command(
    store: LogStore, path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It shows where they differ first, how the deliveries do, and what each took; it takes short
    ids and files, and ends with 0 where they are the same and 1 where they differ."""
    one, other = (record(Program(twice, ["one", name], log_store=store)) for name in ("x", "y"))
    code, out, err = out_of(capsys, "--store", str(path), one[:20], other)
    assert (code, err) == (1, "")
    assert out.splitlines()[:8] == [
        f"A {one}  program  ✓ success",
        f"B {other}  program  ✓ success",
        "",
        "First difference: tactic 'program', agent 'a', dialog 'main', respond 2, step 1, "
        "attempt 1",
        "The answer of the model differs.",
        "  --- A", "  +++ B", "   [assistant]",
    ]  # fmt: skip
    assert "1 more step differs; --json has all." in out
    assert 'The deliveries differ:\n  --- A\n  +++ B\n   [\n     "one",\n  -  "x"' in out
    table = {line.split("  ")[0]: line.split() for line in out.splitlines()[-10:]}
    assert table["messages"][1:] == ["5", "5", "="]
    assert table["model calls"][2:] == ["2", "2", "="]
    assert table["cost"][1] == table["cost"][2]
    files = []
    for name in (one, other):
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text(store.export_session(name, "jsonl"))
    code, from_files, _ = out_of(capsys, *map(str, files))
    assert code == 1
    assert from_files == out
    code, out, _ = out_of(capsys, "--store", str(path), one, str(files[0]))
    assert code == 0
    assert "The sessions are the same, in all of their 6 steps." in out
    code, out, _ = out_of(capsys, "--json", "--store", str(path), one, other)
    found = json.loads(out)
    assert (code, found["same"], found["first"]["kind"]) == (1, False, "answer")
    assert found["first"]["place"]["respond"] == 2
    assert [later["kind"] for later in found["differences"]] == ["answer", "end"]
    assert found["a"]["cost"] == found["b"]["cost"] > 0
    assert "-x" in found["first"]["diff"]


def test_bad_use(
    store: LogStore, path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whatever can't be compared is exit code 2 and one line, never that they differ."""
    one = record(Program(asking, ["x"], log_store=store))
    with pytest.raises(SessionNotFound):
        store.diff(one, "gone")
    broken = tmp_path / "broken.jsonl"
    broken.write_text(store.export_session(one, "jsonl")[:-40])
    cases = {
        "id beginning 'gone'": (one, "gone"),
        "can't be read": (one, str(tmp_path / "gone.jsonl")),
        "the file is cut off": (one, str(broken)),
        "Missing argument 'B'": (one,),
    }
    for message, given in cases.items():
        code, out, err = out_of(capsys, "--store", str(path), *given)
        assert (code, out) == (2, ""), message
        assert message in err
        assert err.count("\n") == 1
    code, _, err = out_of(capsys, one, one)
    assert (code, "Which store?" in err) == (2, True)


def test_what_is_not_known(
    store: LogStore, path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A call whose price nobody knows is no call for nothing, and events of a newer lllm are left
    out and counted."""
    agent = {"model": "nobody-knows", "log_store": store}
    one, other = (record(Program(asking, [name], **agent)) for name in "xy")
    _, out, _ = out_of(capsys, "--store", str(path), one, other)
    assert re.search(r"^cost +1 unpriced +1 unpriced$", out, re.M)
    assert re.search(r"^unpriced calls +1 +1 +=$", out, re.M)
    file = tmp_path / "newer.jsonl"
    events = [*store.log.read(stream=one)]
    salt = codec.salt_of(events[0])
    last = events[-1]
    newer = seal(salt, one, last.seq + 1, last.time, "llm.dreamt", 1, b"{}")
    lines = as_jsonl([Recorded(999, *msgspec.structs.astuple(newer))])
    file.write_text(store.export_session(one, "jsonl") + lines)
    found = store.diff(one, file)
    assert (found.same, found.a.unknown_events, found.b.unknown_events) == (True, 0, 1)
    _, out, _ = out_of(capsys, "--store", str(path), one, str(file))
    assert re.search(r"^events of a newer lllm +0 +1 +\+1$", out, re.M)


def test_long_texts(store: LogStore, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a long line that part is shown which differs, of many lines the first; what is left out is
    said, and --full shows it. What could harm a terminal is escaped."""
    long = "word " * 2_000
    one = record(Program(asking, [f"{long}this{long}"], log_store=store))
    other = record(Program(asking, [f"{long}that\x1b[31m{long}"], log_store=store))
    code, out, _ = out_of(capsys, "--store", str(path), one, other)
    assert code == 1
    assert max(map(len, out.splitlines())) < 300
    assert "this" in out
    assert "that\\x1b[31m" in out
    assert "-(+9,9" in out
    assert "characters; --full shows all)" in out
    _, full, _ = out_of(capsys, "--full", "--store", str(path), one, other)
    assert f"{long}this{long}".strip() in full
    lines = "\n".join(str(number) for number in range(100))
    many = record(Program(asking, [lines], log_store=store))
    _, out, _ = out_of(capsys, "--store", str(path), one, many)
    assert "… (+74 lines; --full shows all)" in out
    _, full, _ = out_of(capsys, "--full", "--store", str(path), one, many)
    assert "+99" in full


def test_colours_are_for_terminals(store: LogStore, path: Path) -> None:
    """A pipe gets no escape sequence; a terminal does, and lines that fit it."""
    one, other = (record(Program(asking, [name], log_store=store)) for name in "xy")
    command = [sys.executable, "-m", "lllm", "diff", "--store", str(path), one, other]
    piped = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert piped.returncode == 1
    assert b"\x1b" not in piped.stdout
    reader, writer = os.pipe()
    os.close(reader)  # who reads has seen enough
    left = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(writer)
    assert (left.returncode, left.stderr) == (1, b"")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=slave, cwd=ROOT, env=environment) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 1 << 16):
                shown += piece
        except OSError:  # the end of a terminal
            pass
        os.close(master)
    assert process.returncode == 1
    assert b"\x1b[31m" in shown
    assert b"\x1b[32m" in shown
