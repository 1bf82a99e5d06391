"""`lllm replay` runs recorded sessions through today's code, and judges it by its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from lllm import ConfigError, LogStore
from lllm.cli import cli, main
from lllm.logging import sqlite_store
from lllm.replay.target import load_target

LLLM = Path(sys.executable).with_name("lllm")

DESK = """
import os
from lllm import Tactic
from lllm.invokers.scripted import ScriptedInvoker

PROMPT = "You are precise."
ENDING = "{answer}"


class Desk(Tactic):
    name = "desk"

    def call(self, task, louder=False):
        print("this is no output of the command")
        if task == "die":
            os._exit(0)
        reader = self.agents["reader"]
        reader.open()
        reader.receive(task)
        answer = reader.respond().content
        if task == "fail":
            raise ValueError(answer)
        return ENDING.format(answer=answer).upper() if louder else ENDING.format(answer=answer)


def make(answers=(), store=None):
    agent = {
        "name": "reader", "model_name": "gpt-4o-mini", "system_prompt": PROMPT,
        "invoker": ScriptedInvoker(answers),
    }
    return Desk({"agent_configs": [agent]}, log_store=store)
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the code of a desk, and a store of what it did."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desk.py").write_text(DESK)
    with sqlite_store(tmp_path / "runs.db") as store:
        record(store, "one", "two", "fail")
    return tmp_path


def record(store: LogStore, *tasks: str) -> None:
    """Sessions of the desk, in a namespace of its own."""
    names: dict[str, object] = {"__name__": "recorded_desk"}
    exec(compile(DESK.replace("os._exit(0)", "pass"), "recorded_desk", "exec"), names)
    make = names["make"]
    assert callable(make)
    for number, task in enumerate(tasks):
        tactic = make([f"answer {number}"], store)
        try:
            tactic(task, louder=task == "two", tags={"task": task})
        except ValueError as error:
            assert str(error) == f"answer {number}"  # noqa: PT017  # it is recorded


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a replay, and what it prints."""
    code = main(["replay", "--store", "runs.db", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def edit(folder: Path, old: str, new: str, file: str = "desk.py") -> None:
    """Change the code."""
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def test_the_same_code_is_the_same(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Sessions that succeeded and one that failed come out as they were: exit code 0, and nothing
    is written into the store. What the code prints is not on stdout."""
    with sqlite_store(desk / "runs.db") as store:
        before = store.log.head()
    code, out, err = run(capfd, "--using", "desk:make", "--jobs", 2)
    assert (code, out) == (0, "3 sessions: 3 same, 0 diverged, 0 failed.\n")
    assert err.count("this is no output of the command") == 3
    with sqlite_store(desk / "runs.db") as store:
        assert store.log.head() == before
    assert not (desk / "__pycache__").exists()


def test_a_changed_prompt(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Diverged sessions are grouped by where; JSON and JUnit have each of them. Filters choose."""
    edit(desk, "precise", "exact")
    report = desk / "report.xml"
    code, out, _ = run(capfd, "--using", "desk:make", "--jobs", 1, "--json", "--junit", report)
    told = json.loads(out)
    assert (code, told["sessions"], told["same"], told["diverged"]) == (1, 3, 0, 3)
    [group] = told["groups"]
    assert (group["kind"], group["differs"], len(group["sessions"])) == (
        "changed", ["system prompt"], 3,
    )  # fmt: skip
    place = "tactic 'desk', agent 'reader', dialog 'main', respond 1, step 1, attempt 1"
    assert group["where"] == place
    assert "-You are precise.\n+You are exact." in group["diff"]
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "3", "0")
    assert {case.get("name") for case in suite} == {*group["sessions"]}
    assert all("+You are exact." in (case[0].text or "") for case in suite)


def test_erased_sessions_are_left_out(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They can never be replayed again, and must not keep the others from a verdict; one that is
    named has failed."""
    with sqlite_store(desk / "runs.db") as store:
        [erased, *_] = store.list_sessions()
        store.erase_session(erased.session_id, by="me", reason="asked for")
    code, out, _ = run(capfd, "--using", "desk:make", "--jobs", 1)
    assert (code, out) == (0, "2 sessions: 2 same, 0 diverged, 0 failed. 1 more erased.\n")
    code, out, _ = run(capfd, "--using", "desk:make", "--jobs", 1, erased.session_id)
    assert code == 125
    assert "was erased" in out


@pytest.mark.slow
def test_archived_sessions_are_replayed(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """From the folder of archives and from one file, all or by their ids; nothing is written."""
    with sqlite_store(desk / "runs.db") as store:
        ids = [one.session_id for one in store.list_sessions()]
        [file] = store.archive(before="2100-01-01", to=desk / "old", by="ada").files
    before = Path(file).read_bytes()

    def replay(place: object, *arguments: str) -> tuple[int, str]:
        chosen = ["--using", "desk:make", "--jobs", "1", *arguments]
        code = main(["replay", "--store", str(place), *chosen])
        return code, capfd.readouterr().out

    assert replay("old") == (0, "3 sessions: 3 same, 0 diverged, 0 failed.\n")
    assert replay(file, ids[1][:-2]) == (0, "1 session: 1 same, 0 diverged, 0 failed.\n")
    assert replay("old", "--tag", "task=fail")[0] == 0
    assert "archived" in replay("runs.db", ids[0])[1]
    edit(desk, "precise", "exact")
    assert replay("old")[0] == 1
    assert [one.name for one in (desk / "old").iterdir()] == [Path(file).name]
    assert Path(file).read_bytes() == before


def test_named_sessions_and_files(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Sessions are named by the beginnings of their ids, or as exported files, which need no store;
    each once, and in the order given."""
    with sqlite_store(desk / "runs.db") as store:
        ids = [one.session_id for one in store.list_sessions()]
        (desk / "one.jsonl").write_text(store.export_session(ids[-1], "jsonl"))
    chosen = ["--using", "desk:make", "--jobs", 1, "--json"]
    code, out, err = run(capfd, ids[1], ids[0][:-2], ids[1], "one.jsonl", *chosen)
    told = json.loads(out)
    assert (code, told["same"]) == (0, 3), err
    assert [one["session_id"] for one in told["results"]] == [ids[1], ids[0], "one.jsonl"]
    (desk / "runs.db").rename(desk / "away.db")
    assert main(["replay", "one.jsonl", "--using", "desk:make", "--jobs", "1"]) == 0
    assert capfd.readouterr().out == "1 session: 1 same, 0 diverged, 0 failed.\n"
    (desk / "one.jsonl").write_text("{}")
    assert main(["replay", "one.jsonl", "--using", "desk:make", "--jobs", "1"]) == 125
    assert "one.jsonl can't be replayed: in line 1" in capfd.readouterr().out


@pytest.mark.slow
def test_parts_that_are_ignored(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """--ignore leaves out key paths, and what patterns between slashes fit."""
    edit(desk, "precise", "exact")
    chosen = ["--using", "desk:make", "--jobs", 1, "--tag", "task=one"]
    for ignored in ("messages.0.parts.*.text", "/precise|exact/"):
        code, out, _ = run(capfd, *chosen, "--ignore", "params.seed", "--ignore", ignored)
        assert (code, out) == (0, "1 session: 1 same, 0 diverged, 0 failed.\n"), ignored
    assert run(capfd, *chosen, "--ignore", "/inexact/")[0] == 1


def test_another_end(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Equal requests and another delivery, or another error, are a divergence, too."""
    edit(desk, 'ENDING = "{answer}"', 'ENDING = "{answer}!"')
    edit(desk, "raise ValueError", "raise KeyError")
    code, out, _ = run(capfd, "--using", "desk:make", "--jobs", 1)
    assert code == 1
    assert out.startswith("3 sessions: 0 same, 3 diverged, 0 failed.\n\ndiverged 2 sessions: end ")
    assert '-  "delivery": "answer 0",\n' not in out
    assert '  -  "delivery": "ANSWER 1",\n  +  "delivery": "ANSWER 1!",\n' in out
    assert "diverged 1 session: end (error) at tactic 'desk'" in out


@pytest.mark.slow
def test_what_is_no_verdict(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bad usage, code that can't be imported, and no session that fits: 125, and one line."""
    (desk / "broken.py").write_text("import sys\nsys.exit(0)\n")
    (desk / "nothing.py").write_text("make = 3\nimport os\ndef dies(): os._exit(0)\n")
    for arguments, told in (
        ([], "Missing option '--using'"),
        (["--using", "desk:make", "--jobs", "0"], "--jobs"),
        (["--using", "desk:make", "--junit", "no/folder.xml"], "no/folder.xml"),
        (["--using", "broken:make"], "SystemExit: 0 ("),
        (["--using", "nothing:dies"], "terminated abruptly"),
        (["--using", "desk:make", "--ignore", "/[/"], "/[/ is not a pattern"),
        (["--using", "desk:make", "--ignore", "a..b"], "key paths"),
        (["--using", "desk:make", "01", "--state", "success"], "not both"),
        (["--using", "desk:make", "nowhere"], "nowhere"),
        (["--using", "desk:make", "--tag", "task=three", "--tactic", "desk"], "No session of 'de"),
    ):
        code, out, err = run(capfd, *arguments)
        assert (code, out) == (125, ""), arguments
        assert told in err
        assert err.startswith("lllm: ")
        assert err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("desk", "my_module:make_tactic"),
        ("nowhere:make", "No module named 'nowhere'$"),
        ("desk:other", "no attribute 'other'"),
        ("desk:PROMPT", "'You are precise.' is neither"),
        ("desk:Desk.call", "missing 2 required"),
    ],
)
def test_code_that_can_not_be_used(
    desk: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    """What is wrong with the code is told in one sentence, whatever importing it raised."""
    monkeypatch.syspath_prepend(desk)
    monkeypatch.delitem(sys.modules, "desk", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(ConfigError, match=told):
        load_target(name)


@pytest.mark.slow
def test_a_session_that_can_not_be_replayed(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It fails alone, even where it ends its process, which must not pass for success."""
    with sqlite_store(desk / "runs.db") as store:
        record(store, "die", "five")
    capfd.readouterr()
    code, out, _ = run(capfd, "--using", "desk:make", "--jobs", 2)
    assert code == 125
    assert out.startswith("5 sessions: 4 same, 0 diverged, 1 failed.\n\nfailed ")
    assert "The code ended its process." in out


def test_functions(tmp_path: Path, capfd: pytest.CaptureFixture[str],
                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A function under @store.tactic is taken as it is, its arguments are those of then but for the
    task, which its store redacts, and that `redact` is the comparison's, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text(
        "from lllm import LogStore, SQLiteBackend\n"
        "store = LogStore(SQLiteBackend('runs.db'), redact=[lambda type, data: {**data, 'task': 0}"
        " if 'task' in data else data])\n"
        "@store.tactic('sums')\n"
        "async def total(first, *others, scale=1, **named):\n"
        "    return (first or 1) * scale + sum(others) + sum(named.values())\n"
    )
    program = "import asyncio, plain; asyncio.run(plain.total(1, 2, 3, scale=4, five=5))"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    code, out, err = run(capfd, "--using", "plain:total", "--jobs", 1, "--json")
    [result] = json.loads(out)["results"]
    assert (code, result["verdict"]) == (0, "same"), err
    edit(tmp_path, "sum(others)", "len(others)", file="plain.py")
    code, out, err = run(capfd, "--using", "plain:total", "--jobs", 1, "--json")
    [result] = json.loads(out)["results"]
    assert (code, result["kind"], result["differs"]) == (1, "end", ["delivery"]), err
    assert '-  "delivery": 14,' in result["diff"]


@pytest.mark.slow
def test_git_bisect_finds_the_commit(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`git bisect run lllm replay ...` names the commit that changed a prompt, over commits that
    change nothing and one that can't be imported."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=desk, check=True, capture_output=True, text=True,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        )  # fmt: skip
        return done.stdout

    def commit(message: str) -> None:
        git("add", "desk.py")
        git("commit", "-q", "-m", message)

    git("init", "-q")
    commit("first")
    for message, old, new in (
        ("a comment", "\n\n\nclass", "\n\n\n# The desk.\nclass"),
        ("does not parse", "def make(", "def make(("),
        ("parses again", "def make((", "def make("),
        ("another prompt", "precise", "concise"),
        (
            "a docstring",
            "def make(answers=(), store=None):",
            "def make(answers=(), store=None):  #",
        ),
        ("the end", "# The desk.", "# A desk."),
    ):
        edit(desk, old, new)
        commit(message)
    git("bisect", "start", "HEAD", "HEAD~6")
    command = [str(LLLM), "replay", "--store", "runs.db", "--using", "desk:make", "--jobs", "1"]
    told = git("bisect", "run", *command)
    assert "is the first bad commit" in told
    assert git("show", "-s", "--format=%s", "refs/bisect/bad").strip() == "another prompt"
    del capfd


def test_help_is_no_verdict() -> None:
    """--help works as for any command."""
    result = CliRunner().invoke(cli, ["replay", "--help"])
    assert result.exit_code == 0
    assert "git bisect run" in result.output
