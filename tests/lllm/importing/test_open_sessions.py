"""A session without an end, seen from a store that its process does not write: neither running for
ever, nor dead because nobody here can look for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import ImportRefused, LogStore
from lllm.events.backends.memory import MemoryBackend
from lllm.events.concurrency.liveness import host
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id
from lllm.events.model import SessionStarted, SessionSucceeded
from lllm.logging import sqlite_store
from lllm.projections.queries import running_sessions
from lllm.projections.queries import sessions as session_queries

DAY = 24 * 3600 * 10**9


@pytest.fixture
def here(tmp_path: Path) -> Iterator[LogStore]:
    """The store that is imported into."""
    with sqlite_store(tmp_path / "here.db") as store:
        yield store


def states(store: LogStore) -> list[str]:
    """Of the sessions at the top, newest first."""
    return [one.state for one in store.list_sessions()]


def events_of(began: int, ended: int | None, *, on: str, owner: str) -> list[NewEvent]:
    """The events of a session of another process, at some times in nanoseconds UTC."""
    salt, stream = b"s" * 32, new_id(began)
    started = SessionStarted(
        tactic_path="p::one", name="one", owner=owner, host=on, pid=1, salt=salt
    )
    written = [(began, started), (ended, SessionSucceeded(elapsed=1))]
    return [
        seal(salt, stream, seq, at, event.type, event.version, encode(event))
        for seq, (at, event) in enumerate(written, 1)
        if at is not None
    ]


def encode(event: object) -> bytes:
    """A payload as it is written."""
    from lllm.events import codec

    return codec.encode(event)


OWNER = "0123456789abcdef-1f"


@pytest.mark.parametrize("on", [host(), "another-host"])
def test_one_that_may_go_on(here: LogStore, on: str) -> None:
    """It is running while it was heard of within a day, and interrupted after that; its own end,
    which comes with another import, counts."""
    now = time.time_ns()
    for silence, state in ((DAY // 2, "running"), (2 * DAY, "interrupted")):
        events = events_of(now - silence, now, on=on, owner=OWNER)
        log = MemoryBackend()
        log.append(events[:1])
        here.import_sessions(log)
        assert states(here)[0 if state == "running" else -1] == state
        head = here.log.head()
        assert here.import_sessions(log).events == 0
        assert here.log.head() == head
        log.append(events)
        assert here.import_sessions(log).events == 1
        assert set(states(here)) == {"success"}


def test_one_that_was_heard_of_lately(here: LogStore) -> None:
    """What counts is its last event, not when it began."""
    now = time.time_ns()
    began, ended = events_of(now - 3 * DAY, now - 100, on="another-host", owner=OWNER)
    later = seal(b"s" * 32, began.stream, 2, now - 100, "session.tagged", 1, b"{}")
    del ended
    log = MemoryBackend()
    log.append([began, later])
    here.import_sessions(log)
    assert states(here) == ["running"]


def test_one_of_another_host_that_writes_this_store(here: LogStore) -> None:
    """Its lock lies beside this store, so it is left alone however long it is silent."""
    with here.session("p::mine"):
        [mine] = running(here)
    events = events_of(time.time_ns() - 9 * DAY, None, on="another-host", owner=mine)
    here.backend.append(events)
    assert sorted(states(here)) == ["running", "success"]


def running(store: LogStore) -> list[str]:
    """The locks of those who run in a store."""
    store.list_sessions()
    with session_queries.reading(store._rows.database) as connection:
        return [one.owner for one in running_sessions.running(connection)]


def test_one_that_is_known_to_run(here: LogStore, tmp_path: Path) -> None:
    """Of a store beside this one it can be told: then nothing of it is imported yet."""
    with sqlite_store(tmp_path / "origin.db") as origin:
        with origin.session("p::done"):
            pass
        with origin.session("p::outer") as outer, origin.session("p::inner") as inner:
            with pytest.raises(
                ImportRefused, match=f"{inner.session_id} is still running|still"
            ) as caught:
                here.import_sessions(tmp_path / "origin.db")
            assert f"{tmp_path / 'origin.db'}, position " in str(caught.value)
            assert [one.tactic_path for one in here.list_sessions()] == ["p::done"]
        here.import_sessions(tmp_path / "origin.db")
        assert here.load_session(outer.session_id) == origin.load_session(outer.session_id)


CRASH = """
import os, signal, sys
from lllm.logging import sqlite_store
store = sqlite_store(sys.argv[1])
with store.session("p::crashed"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("found_there", [True, False])
def test_one_whose_process_died(here: LogStore, tmp_path: Path, found_there: bool) -> None:
    """It is interrupted here as well, whether somebody found it there before or not, and that is
    said once, whoever says it again."""
    path = tmp_path / "origin.db"
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False, env={**os.environ})
    if found_there:
        with sqlite_store(path) as origin:
            assert states(origin) == ["interrupted"]
    assert here.import_sessions(path).sessions == 1
    assert states(here) == ["interrupted"]
    with sqlite_store(path) as origin:
        assert states(origin) == ["interrupted"]
    assert here.import_sessions(path).events == 0
    assert [one.type for one in here.log.read()] == ["session.started", "session.interrupted"]
