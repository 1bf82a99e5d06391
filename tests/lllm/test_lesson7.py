"""Every call of the lesson on logging and costs, with its names, arguments and fields."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import cast

import pytest

from lllm import LocalFileBackend, LogStore, NoOpBackend, SQLiteBackend, Tactic, tool
from lllm.invokers.scripted import ScriptedInvoker, reply, tool_call
from lllm.logging import ColoredFormatter, local_store, noop_store, setup_logging, sqlite_store
from lllm.projections.session.call_session import TacticCallSession


@tool(description="Look a word up.")
def lookup(word: str) -> str:
    """A tool that finds everything."""
    return f"{word} is a word"


class MyTactic(Tactic, register=False):
    """Two agents; a task that says so fails."""

    name = "analyzer"
    agent_group = ("extractor", "writer")

    def call(self, task: object, **_: object) -> object:
        """Extract, then write."""
        extractor = self.agents["extractor"]
        extractor.open("main")
        extractor.receive(str(task))
        facts = extractor.respond().content
        if task == "bad":
            raise RuntimeError("cannot analyse this")
        writer = self.agents["writer"]
        writer.open("main")
        writer.receive(facts)
        return writer.respond().content


def answer(request: object) -> object:
    """A scripted model: the extractor looks a word up first, the writer answers."""
    name = request.agent  # type: ignore[attr-defined] # a Request; the seam is tested elsewhere
    said = request.messages[-1]  # type: ignore[attr-defined]
    if name == "extractor" and said.role == "user":
        return tool_call("lookup", {"word": "log"})
    return reply(f"{name} says so")


CONFIG = {
    "global": {"model_name": "gpt-4o-mini", "invoker": ScriptedInvoker(answer)},
    "agent_configs": [
        {"name": "extractor", "system_prompt": "You extract facts.", "tools": [lookup]},
        {"name": "writer", "system_prompt": "You write."},
    ],
}


@pytest.fixture(params=["local", "sqlite", pytest.param("jetstream", marks=pytest.mark.slow)])
def lesson_store(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    """The lesson's two stores, and one on a server."""
    if request.param == "jetstream":
        from tests.support.nats import new_stream, server

        return LogStore.open(server().url(new_stream()))
    if request.param == "local":
        return LogStore(backend=LocalFileBackend(path=str(tmp_path / "logs")))
    return LogStore(backend=SQLiteBackend(path=str(tmp_path / "runs.db")))


def test_attaching_a_store_saves_every_call(lesson_store: LogStore) -> None:
    """From the moment a store is attached, every call is in it."""
    tactic = MyTactic(CONFIG, log_store=lesson_store)
    assert tactic("task") == "writer says so"
    assert len(lesson_store.list_sessions()) == 1


def test_without_a_store_there_is_one_warning() -> None:
    """A tactic without a LogStore warns once, and works."""
    tactic = MyTactic(CONFIG)
    with pytest.warns(UserWarning, match="log_store"):
        assert tactic("task") == "writer says so"
    assert tactic("task") == "writer says so"  # another warning would be an error


def test_convenience_factories(tmp_path: Path) -> None:
    """The factories make the backend and the store in one call."""
    for store, kind in (
        (local_store(str(tmp_path / "logs")), LocalFileBackend),
        (sqlite_store(str(tmp_path / "runs.db")), SQLiteBackend),
        (noop_store(), NoOpBackend),
    ):
        assert isinstance(store, LogStore)
        assert isinstance(store.backend, kind)
        MyTactic(CONFIG, log_store=store)("task")
        assert len(store.list_sessions()) == (0 if kind is NoOpBackend else 1)
        store.close()


def test_listing_by_tag_state_and_tactic(lesson_store: LogStore) -> None:
    """Tags given at call time, the state and the tactic filter a list that is newest first."""
    tactic = MyTactic(CONFIG, log_store=lesson_store)
    tactic("one", tags={"env": "prod", "experiment": "v2", "user": "alice"})
    tactic("two", tags={"env": "prod", "experiment": "v1"})
    tactic("three", tags={"experiment": "v2"})
    sessions = lesson_store.list_sessions(
        tags={"experiment": "v2"}, state="success", tactic_path="analyzer", limit=50
    )
    assert len(sessions) == 2
    for s in sessions:
        assert s.session_id
        assert s.state == "success"
        assert isinstance(s.total_cost, float)
        assert s.total_cost > 0
        assert s.timestamp.tzinfo is dt.UTC
    assert sessions[0].timestamp > sessions[1].timestamp
    assert lesson_store.list_sessions(state="failure") == []
    assert lesson_store.list_sessions(state="running") == []


def test_loading_a_full_session(lesson_store: LogStore) -> None:
    """A loaded session breaks down by agent, call, tool interrupt, retry and cost."""
    MyTactic(CONFIG, log_store=lesson_store)("task")
    session_id = lesson_store.list_sessions()[0].session_id
    session = lesson_store.load_session(session_id)
    seen = {}
    for agent_name, calls in session.agent_sessions.items():
        for call in calls:
            seen[agent_name] = (
                len(call.interrupts),
                call.exception_retries_count,
                call.cost.cost > 0,
            )
    assert seen == {"extractor": (1, 0, True), "writer": (0, 0, True)}
    assert session.tactic_name == "analyzer"
    assert session.tactic_path == "analyzer"
    assert session.state == "success"
    assert session.sub_tactic_sessions == {}
    assert session.delivery == "writer says so"
    assert session.total_cost.cost > 0


def test_cost_summary(lesson_store: LogStore) -> None:
    """A summary counts the sessions of a tactic and tag, and their cost in dollars."""
    tactic = MyTactic(CONFIG, log_store=lesson_store)
    tactic("one", tags={"env": "prod"})
    tactic("two", tags={"env": "test"})
    summary = lesson_store.export_cost_summary(tactic_path="analyzer", tags={"env": "prod"})
    one = lesson_store.list_sessions(tags={"env": "prod"})[0]
    assert f"Sessions: {summary['session_count']}" == "Sessions: 1"
    assert f"${summary['total_cost_usd']:.9f}" == f"${one.total_cost:.9f}"


def test_cost_of_a_single_session(lesson_store: LogStore) -> None:
    """`return_session=True` gives the session, with its cost and tokens."""
    tactic = MyTactic(CONFIG, log_store=lesson_store)
    session = cast(TacticCallSession, tactic("task", return_session=True))
    assert session.total_cost.cost > 0
    assert session.total_cost.prompt_tokens > 0
    assert session.total_cost.completion_tokens > 0


def test_debugging_a_failed_session(lesson_store: LogStore) -> None:
    """A call that raises leaves its full Python traceback in the record."""
    tactic = MyTactic(CONFIG, log_store=lesson_store)
    with pytest.raises(RuntimeError, match="cannot analyse this"):
        tactic("bad", tags={"a": "b"}, metadata={"ticket": 7})
    sessions = lesson_store.list_sessions(state="failure", limit=1)
    record = lesson_store.load_session_record(sessions[0].session_id)
    assert record.session_id == sessions[0].session_id
    assert record.traceback is not None
    assert record.traceback.startswith("Traceback (most recent call last)")
    assert 'raise RuntimeError("cannot analyse this")' in record.traceback
    assert record.tags == {"a": "b"}
    assert record.metadata == {"ticket": 7}
    assert record.timestamp == sessions[0].timestamp
    assert record.session.state == "failure"


def test_exporting_a_session(lesson_store: LogStore, tmp_path: Path) -> None:
    """A session is exported as JSON text that a file can hold."""
    MyTactic(CONFIG, log_store=lesson_store)("task")
    session_id = lesson_store.list_sessions()[0].session_id
    json_str = lesson_store.export_session(session_id, format="json")
    dump = tmp_path / "session_dump.json"
    with open(dump, "w") as f:
        f.write(json_str)
    assert json.loads(dump.read_text())["session_id"] == session_id


@pytest.mark.usefixtures("logging_as_before")
def test_terminal_logging() -> None:
    """setup_logging takes a level by name; ColoredFormatter is there for one's own handlers."""
    setup_logging(level="DEBUG")
    setup_logging(level="WARNING")
    assert ColoredFormatter() is not None
