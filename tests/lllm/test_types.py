"""What a user's type checker says of a project on lllm: nothing, and the right types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

_PROJECT = """
from __future__ import annotations

from typing import assert_type

import msgspec

from lllm import LogStore, Message, Prompt, SQLiteBackend, Tactic, TacticCallSession, tool
from lllm.logging import sqlite_store


class Verdict(msgspec.Struct):
    score: int


@tool(description="Doubles a number.")
def double(n: int) -> int:
    return 2 * n


def number(text: str) -> float:
    return float(text)


judge = Prompt("judge", "Judge {text}", format=Verdict)
assert_type(judge, Prompt[Verdict])
assert_type(Prompt("plain", "Hello."), Prompt[None])
assert_type(Prompt("number", "Which?", parser=number), Prompt[float])
assert_type(double(2), int)


class Judge(Tactic, register=False):
    name = "judge"
    agent_group = ["judge"]

    def call(self, task: str) -> int:
        agent = self.agents["judge"]
        agent.open("main")
        answer = agent.respond(prompt=judge, prompt_args={"text": task})
        assert_type(answer, Message[Verdict])
        assert_type(answer.parsed.score, int)
        agent.receive_prompt(judge, {"text": task})
        again: int = agent.respond().parsed.score
        return again


class Strict(Judge, register=False):
    def call(self, task: str) -> bool:
        return super().call(task) > 3


class Words(Tactic, register=False):
    name = "words"

    async def call(self, task: str, limit: int = 3) -> list[str]:
        agent = self.agents["a"]
        answer = await agent.arespond(prompt=judge)
        return [answer.content] * answer.parsed.score


class Report(Tactic, register=False):
    name = "report"

    def __init__(self, store: LogStore) -> None:
        super().__init__({}, log_store=store)
        self.judge = Judge({})

    def call(self, task: dict[str, str]) -> tuple[int, list[str]]:
        return self.judge(task["text"]), Words({})("x")


def use(store: LogStore, flag: bool) -> None:
    assert_type(Judge(log_store=store)("x"), int)
    assert_type(Strict()("x", tags={"a": "b"}), bool)
    assert_type(Words()("x", limit=4), list[str])
    assert_type(Report(store)({"text": "x"}), tuple[int, list[str]])
    assert_type(Judge()("x", return_session=True), TacticCallSession)
    assert_type(Judge()("x", return_session=flag), object)
    assert_type(Judge().bcall(["x"], max_workers=2), list[int])
    assert_type(Words().bcall(["x"]), list[list[str]])
    assert_type(Judge().bcall(["x"], return_session=True), list[TacticCallSession])
    assert_type(Judge().bcall(["x"], return_sessions=True), list[TacticCallSession])
    for one in store.list_sessions(state="failure", limit=1):
        if one.state == "success":
            print(one.total_cost)
    with store.session("job") as recorder:
        recorder.deliver(1)


async def use_async() -> None:
    assert_type(await Judge().acall("x"), int)
    assert_type(await Words().acall("x"), list[str])
    assert_type(await Words().acall("x", return_session=True), TacticCallSession)
    async for index, result in Words().ccall(["x"]):
        assert_type(index, int)
        assert_type(result, list[str])


use(LogStore(SQLiteBackend("runs.db")), flag=True)
use(sqlite_store("runs.db", partition="mine"), flag=False)
"""

_LESSON = """
from lllm import LogStore, SQLiteBackend, Tactic


class MyTactic(Tactic, register=False):
    name = "mine"

    def call(self, task, **kwargs):
        return self.agents["a"].respond().content


tactic = MyTactic({}, log_store=LogStore(backend=SQLiteBackend(path="./runs.db")))
session = tactic("x", return_session=True)
print(session.total_cost.cost, session.agent_call_count)
print(tactic("x").upper())
"""

_STAR = """
from lllm import *

store: LogStore = LogStore(NoOpBackend())
lag: int = store.lag
"""

_WRONG = """
from lllm import LogStore, Tactic


class Judge(Tactic, register=False):
    name = "judge"

    def call(self, task: str) -> int:
        return 1


def use(store: LogStore) -> None:
    wrong: str = Judge()("x")
    store.list_sessions(state="succeeded")
    Judge()("x", return_session=True).upper()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel lays it out, with the project beside it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "lllm", site / "lllm")
    for floor in ("events", "projections"):
        shutil.copytree(ROOT / floor, site / "lllm" / floor)
    for name, text in (
        ("project", _PROJECT),
        ("lesson", _LESSON),
        ("star", _STAR),
        ("wrong", _WRONG),
    ):
        (site / f"{name}.py").write_text(text)
    return site


def lines_with_errors(checked: subprocess.CompletedProcess[str]) -> set[tuple[str, str]]:
    found = re.findall(r"(\w+)\.py:(\d+)(?::\d+)?[:\s].*error", checked.stdout)
    assert found or checked.returncode == 0, checked.stdout + checked.stderr
    return set(found)


_EXPECTED = {
    ("wrong", str(number))
    for number, line in enumerate(_WRONG.splitlines(), 1)
    if line.startswith("    ") and ("wrong:" in line or "succeeded" in line or "upper" in line)
}


@pytest.mark.slow
def test_mypy_strict(site: Path) -> None:
    """mypy --strict knows what each call returns, accepts Lesson 7's bare Tactic, and tells wrong
    uses."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", ".cache"]
    options = ["--python-executable", sys.executable, "--follow-imports", "silent"]
    strict = subprocess.run(
        [*command, *options, "--strict", "project.py", "star.py", "wrong.py"],
        cwd=site, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lines_with_errors(strict) == _EXPECTED
    lesson = subprocess.run(
        [*command, *options, "lesson.py"], cwd=site, capture_output=True, text=True, check=False
    )
    assert lines_with_errors(lesson) == set()


@pytest.mark.slow
def test_pyright_strict(site: Path) -> None:
    """pyright says the same."""
    config = {
        "include": ["project.py", "wrong.py", "lesson.py", "star.py"],
        "strict": ["project.py", "wrong.py"],
        "pythonVersion": "3.11",
    }
    (site / "pyrightconfig.json").write_text(json.dumps(config))
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
        cwd=site, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lines_with_errors(checked) == _EXPECTED
