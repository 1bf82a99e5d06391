"""The benchmark's comparison: everybody does the same work, and nobody who fails is hidden."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.measure import Bar
from benchmarks.peers.comparisons import compared
from benchmarks.peers.environments import NotInstalled, Peer, interpreter
from benchmarks.peers.pairs import LLLM, Pair
from benchmarks.peers.work import work
from benchmarks.peers.workers import Failed, Turn, Worker, in_rounds
from lllm import LogStore, SQLiteBackend

WORK = work(sessions=10, scanned=10)
ECHO = """
import json
class Worker:
    def __init__(self, folder, work):
        (folder / "given.json").write_text(json.dumps(work))
        self.operations = {"nothing": lambda: lambda: None, "error": self.error, "end": self.end}
    def error(self):
        raise ValueError("no such column: price")
    def end(self):
        import os, sys
        print("out of disk", file=sys.stderr, flush=True)
        os._exit(3)
    def stored(self):
        return {"nothing": (1, 2)}
"""
Start = Callable[[str, str], Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker by its name and its file, or the text of one."""
    with ExitStack() as stack:

        def started(name: str, source: str) -> Worker:
            if not source.endswith(".py"):
                written = tmp_path / f"{name}.py"
                written.write_text(source)
                source = str(written)
            worker = Worker(
                LLLM, Path(sys.executable), source, tmp_path / name, WORK, isolated=False
            )
            return stack.enter_context(worker)

        yield started


def test_work() -> None:
    """The work is one session of two agents, four calls of a model that answered, two tools and
    one retry, in plain JSON and the same at every call."""
    assert json.loads(json.dumps(WORK)) == WORK == work(sessions=10, scanned=10)
    kinds = Counter(event["type"] for moment in WORK["session"] for event in moment)
    assert kinds["agent.succeeded"] == kinds["tool.returned"] == 2
    assert kinds["llm.responded"] == 4
    assert kinds["llm.failed"] == kinds["retry.scheduled"] == 1
    spans = Counter(event["span"] for moment in WORK["session"] for event in moment)
    assert spans["opens"] == spans["closes"]


def test_same_content(start: Start, tmp_path: Path) -> None:
    """Every worker gets the same content, to the letter."""
    for name in ("one", "other"):
        start(name, ECHO)
    given = {(tmp_path / name / "given.json").read_text() for name in ("one", "other")}
    assert given == {json.dumps(WORK)}


def test_our_worker(start: Start, tmp_path: Path) -> None:
    """lllm's worker does everything that it is asked for, and stores the session it was given."""
    ours = start("ours", "lllm_worker.py")
    for operation in sorted(ours.operations):
        (taken,) = ours.run(operation, 1)
        assert taken > 0
    ours.rest()
    stored = ours.stored()
    assert stored["session"] == stored["events"] == stored["session at once, files"] == (1, 1)
    ours.close()
    with LogStore(SQLiteBackend(tmp_path / "ours" / "lllm-session.db")) as store:
        (summary,) = store.list_sessions()
        session = store.load_session(summary.session_id)
    assert session.delivery == WORK["session"][-1][-1]["fields"]["delivery"]
    (writer,) = session.agent_sessions["writer"]
    assert writer.llm_recalls_count == 1
    (researcher,) = session.agent_sessions["researcher"]
    assert len(researcher.interrupts) == 2


def test_one_that_fails(start: Start) -> None:
    """A worker that can't do a thing says why, once, and the others are measured on."""
    workers: dict[str, Worker | Failed] = {
        "well": start("well", ECHO),
        "ill": start("ill", ECHO),
        "dying": start("dying", ECHO),
        "absent": Failed("absent 1.0 was not measured: no such version"),
    }
    turns = [
        Turn("well", "nothing", 3),
        Turn("ill", "error", 1),
        Turn("dying", "end", 1),
        Turn("absent", "nothing", 1),
    ]
    measured = in_rounds(workers, turns, rounds=4)
    assert len(measured.of("well", "nothing")) == 4
    for name, operation, reason in (
        ("ill", "error", "ValueError: no such column: price"),
        ("dying", "end", "out of disk"),
        ("absent", "nothing", "absent 1.0 was not measured: no such version"),
    ):
        with pytest.raises(Failed, match=reason):
            measured.of(name, operation)


def test_one_that_can_not_start(start: Start) -> None:
    """A worker whose library is not there says so."""
    with pytest.raises(Failed, match="No module named 'not_there'"):
        start("lost", "import not_there\n")


def test_absent_peer_is_shown(start: Start) -> None:
    """The figure of a peer that is not there has no value, and its reason; its bar is not met."""
    pair = Pair("a session", "nothing", "peer", "nothing", bar=Bar(2, "at most"))
    workers: dict[str, Worker | Failed] = {
        LLLM: start("ours", ECHO),
        "peer": Failed("no such version"),
    }
    (figure,) = compared(workers, (pair,), rounds=1, times=1)
    assert math.isnan(figure.value.median)
    assert figure.beside == "no such version"
    assert figure.met is False


def test_can_not_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that can't be installed is told by the installer's own words, and tried again."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho 'ERROR: no space left' >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    for _ in range(2):
        with pytest.raises(NotInstalled, match="no space left"):
            interpreter(Peer("some", "1.0", "some_worker.py"), tmp_path / "venvs")
