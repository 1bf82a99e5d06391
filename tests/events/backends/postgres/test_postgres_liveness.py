"""A session whose process died on any machine is interrupted, and none whose process lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from lllm import LogStore, PostgresBackend
from lllm.events.backends.postgres import server_liveness
from lllm.events.backends.postgres.connection import Statement
from lllm.testing.writers import fork
from tests.support import ROOT
from tests.support.postgres import Server, new_schema, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

SILENCE = 2
WRITER = """
import socket, sys, time
socket.gethostname = lambda: "another-machine"
from lllm import LogStore
store = LogStore.open(sys.argv[1])
with store.session("tests::far"):
    print("running", flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is two seconds."""
    monkeypatch.setattr(server_liveness, "SILENCE", SILENCE)
    monkeypatch.setattr(server_liveness, "_EVERY", 0.3)
    monkeypatch.setattr(server_liveness, "_AGAIN", 0.1)
    monkeypatch.setattr(server_liveness, "_FRESH", 0.0)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + HANG
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def known(log: PostgresBackend, schema: str) -> dict[str, bool]:
    """The processes that the server knows: whether the lock of each is held."""
    held = (
        "SELECT owner, EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
        f" AND classid = '{schema}.writers'::regclass::oid AND objid = number::oid)"
        f" FROM {schema}.writers"
    )
    found = log._pool.ask(Statement(held), ())
    return {
        (found.get_value(row, 0) or b"").decode(): found.get_value(row, 1) == b"\x01"
        for row in range(found.ntuples)
    }


def states(store: LogStore, path: str | None = None) -> list[str]:
    """The states of the root sessions, or of those of a tactic, newest first."""
    return [one.state for one in store.list_sessions(tactic_path=path)]


def test_a_process_on_another_machine(capfd: pytest.CaptureFixture[str]) -> None:
    """While it lives, its session runs; when it was killed, the session is interrupted."""
    schema = new_schema()
    url = server().url(schema)
    with LogStore.open(url) as store:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"running\n"
        eventually(lambda: list(known(store.backend, schema).values()) == [True])
        time.sleep(SILENCE + 0.5)
        assert states(store) == ["running"]  # its words come every 20 seconds, but its lock is held
        writer.send_signal(signal.SIGKILL)
        writer.wait(HANG)
        writer.stdout.close()
        eventually(lambda: states(store) == ["interrupted"])
        assert known(store.backend, schema) == {}
    assert capfd.readouterr().err == ""


def test_a_process_whose_connection_ends(own: Server) -> None:
    """A lock that is free for a moment, or a server that restarts, is no verdict."""
    schema = new_schema()
    url = own.url(schema)
    with LogStore.open(url) as store, LogStore.open(url) as other:
        with store.session("tests::lives"):
            eventually(lambda: list(known(other.backend, schema).values()) == [True])
            for _ in range(3):
                own.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE '%writer_lives%' AND pid != pg_backend_pid()"
                )
                assert states(other) == ["running"]
                eventually(lambda: list(known(other.backend, schema).values()) == [True])
            own.restart()
            assert states(other) == ["running"]
            eventually(lambda: list(known(other.backend, schema).values()) == [True])
        assert states(other) == ["success"]
    assert known(PostgresBackend(url), schema) == {}


@pytest.fixture(scope="module")
def own() -> Server:
    """A server that a test may restart."""
    made = Server()
    yield made
    made.remove()


@pytest.mark.parametrize("change", ["restart", "promotion"])
def test_time_to_connect_again(own: Server, change: str) -> None:
    """Nobody is dead before a server that restarts, or takes over, was up for a while."""
    schema = new_schema()
    log = PostgresBackend(own.url(schema))
    assert log.liveness is not None
    log.head()
    owner = "pg-" + "0" * 32
    add = f"INSERT INTO {schema}.writers (owner, seen) VALUES ('{owner}', now() - interval '1 h')"
    own.run(add)
    eventually(lambda: log.liveness.is_dead(owner, "far"))
    if change == "restart":
        own.restart()
    else:  # what was copied to the standby knows nothing of its timeline
        own.run(f"DELETE FROM {schema}.timelines")
    assert not log.liveness.is_dead(owner, "far")
    assert log.liveness.can_tell(owner, "far")
    eventually(lambda: log.liveness.is_dead(owner, "far"))
    log.liveness.forget(owner)
    assert log.liveness.is_elsewhere(owner)
    log.close()


def test_a_wrong_verdict_is_undone() -> None:
    """What the owner writes next shows that it lives."""
    schema = new_schema()
    url = server().url(schema)
    with LogStore.open(url) as store, LogStore.open(url) as other:
        with store.session("tests::lives") as recorder:
            eventually(lambda: len(known(other.backend, schema)) == 1)
            other._reader.interrupt([recorder.session_id])
            assert states(other) == ["interrupted"]
        assert states(other) == ["success"]


def test_a_child_is_another_process() -> None:
    """A forked child is known by a name of its own, which dies with it."""
    schema = new_schema()
    with LogStore.open(server().url(schema)) as store:
        with store.session("tests::parent"):
            eventually(lambda: list(known(store.backend, schema).values()) == [True])

            def child() -> None:
                with suppress(SystemExit), store.session("tests::child"):
                    eventually(lambda: len(known(store.backend, schema)) == 2)
                    os._exit(0)

            assert fork(child) == 0
            eventually(lambda: states(store, "tests::child") == ["interrupted"])
            assert states(store) == ["running"]
        assert states(store) == ["success"]


def test_a_server_that_is_away_makes_nobody_wait() -> None:
    """The name of a process is made at once; the server hears of it when it can be reached."""
    log = PostgresBackend("postgresql://ada@127.0.0.1:1/nowhere")
    assert log.liveness is not None
    log.liveness.use()
    began = time.monotonic()
    assert log.liveness.owner() == log.liveness.owner()
    log.liveness.close()
    assert time.monotonic() - began < HANG


def test_a_process_is_known_before_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is killed before its thread has said a word would seem to live for ever."""
    monkeypatch.setattr(server_liveness.ServerLiveness, "_live", lambda *_: None)
    schema = new_schema()
    with LogStore.open(server().url(schema)) as store, store.session("p::runs"):
        own = store.backend.liveness
        with LogStore.open(server().url(schema)) as other:
            assert other.backend.liveness.can_tell(own.owner(), "")
