"""`store.link()`: a session goes on in other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from lllm import BudgetExceeded, ConfigError, LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.sessions.session_link import SessionLink


def work(link: SessionLink, number: int) -> str:
    """What another process does: a session below the linked one."""
    with link.session("my::part", tags={"number": str(number)}, task=number) as recorder:
        return recorder.session_id


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_pool_of_processes(tmp_path: Path, kind: str, method: str) -> None:
    """What the processes do is below the session."""
    backend = SQLiteBackend if kind == "sqlite" else LocalFileBackend
    context = multiprocessing.get_context(method)
    with LogStore(backend(tmp_path / "store")) as store:
        with (
            ProcessPoolExecutor(2, mp_context=context) as pool,
            store.session("my::all", tags={"env": "test"}) as recorder,
        ):
            link = store.link()
            assert link.session_id == recorder.session_id
            ids = list(pool.map(work, [link] * 4, range(4)))
        [session] = store.list_sessions(tags={"env": "test"})
        children = store.children([session.session_id])[session.session_id]
        assert {one.session_id for one in children.first} == set(ids)
        assert {one.state for one in children.first} == {"success"}
        assert {one.task for one in children.first} == {"0", "1", "2", "3"}
        assert len(store.load_session(session.session_id).sub_tactic_sessions["part"]) == 4


def test_a_link_outlives_its_session(tmp_path: Path) -> None:
    """A job that a queue starts later is below the session all the same."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with store.session("my::all"):
            sent = pickle.dumps(store.link())
        work(pickle.loads(sent), 1)
        [session] = store.list_sessions()
        assert store.children([session.session_id])[session.session_id].count == 1


def test_a_budget(tmp_path: Path) -> None:
    """What is left of the session's budget bounds the sessions of the link."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with store.session("my::all", budget_usd=0.0):
            link = pickle.loads(pickle.dumps(store.link()))
        with pytest.raises(BudgetExceeded):
            link.session("my::part").budget.check("a call")


def test_where_there_is_no_link(tmp_path: Path) -> None:
    """Outside of sessions, in another store's session and in memory, an error says what to do."""
    with LogStore(SQLiteBackend(tmp_path / "a.db")) as store, LogStore(MemoryBackend()) as memory:
        with pytest.raises(ConfigError, match=r"inside `with store.session"):
            store.link()
        with memory.session("my::all"):
            with pytest.raises(ConfigError, match="another store"):
                store.link()
            with pytest.raises(ConfigError, match="in memory"):
                memory.link()
        with store.session("my::all"):
            link = store.link()
        with pytest.raises(ValueError, match="name"):
            link.session("")
