"""A writer that is frozen in the middle of an append: nobody else is stopped, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, LogUnavailable, SQLiteBackend
from lllm.cli import main
from lllm.events.concurrency import locks
from lllm.events.concurrency.fair_locks import FairFileLock
from lllm.events.concurrency.locks import FileLock
from tests.support.echo import echo

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}
HANG = 20.0  # seconds that nothing here takes, however slow the machine

# Stops itself where an append has its locks, and begun to write.
_FREEZING = """
import os, signal, sys
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backends.sqlite import write_connection
from lllm.events.backends.jsonl import active_segment
from tests.support.echo import echo

def stop(*arguments, **named):
    setattr(*place, before)
    print("frozen", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return before(*arguments, **named)

kind, path = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[sys.argv[1]], sys.argv[2]
store = LogStore(kind(path))
tactic = echo(store)
tactic("before")
jsonl = sys.argv[1] == "jsonl"
place = (active_segment.Tail, "write") if jsonl else (write_connection.Writer, "ready")
before = getattr(*place)
setattr(*place, stop)
tactic("frozen")
"""


@contextmanager
def frozen(kind: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped in the middle of an append to a log."""
    command = [sys.executable, "-c", _FREEZING, kind, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"frozen\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_append_waits_and_no_other(kind: str, tmp_path: Path) -> None:
    """Where a writer is frozen, one append waits, one warning says so, later ones wait no more;
    once it goes on, all is written in order."""
    path = tmp_path / "log"
    LogStore(KINDS[kind](path)).close()
    with frozen(kind, path) as process:
        began = time.monotonic()
        store = LogStore(KINDS[kind](path))
        tactic = echo(store)
        with pytest.warns(RuntimeWarning, match="events wait in memory") as told:
            tactic("one")
        assert "has held the lock" in str(told[0].message)
        assert len(told) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for number in range(20):
                assert tactic(f"more {number}") == f"more {number}"
            assert asyncio.run(tactic.acall("async")) == "async"
        assert store.log.held
        assert time.monotonic() - began < HANG
        process.send_signal(signal.SIGCONT)
        process.wait(HANG)
        assert store.log.write_held(now=True, within=HANG)
        tasks = [str(store.load_session(s.session_id).task) for s in store.list_sessions()]
        mine = ["one", *(f"more {number}" for number in range(20)), "async"]
        assert [task for task in reversed(tasks) if task in mine] == mine
        assert store.rebuild(check=True).difference is None
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_readers_do_not_wait(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lists are answered while a writer is frozen, by stores that may write, too, and by the
    command."""
    path = tmp_path / "log"
    with LogStore(KINDS[kind](path)) as store:
        echo(store)("seen")
    with frozen(kind, path), warnings.catch_warnings():
        warnings.simplefilter("error")
        began = time.monotonic()
        for read_only in (False, True):
            with LogStore(KINDS[kind](path, read_only=read_only)) as store:
                listed = store.list_sessions()
                assert "seen" in {store.load_session(one.session_id).task for one in listed}
                assert store.lag >= 0
        assert main(["ls", "--store", str(path)]) == 0
        assert "echo" in capsys.readouterr().out
        assert time.monotonic() - began < HANG


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_those_who_would_rather_stop(kind: str, tmp_path: Path) -> None:
    """With on_error="raise" the wait ends with LogUnavailable."""
    path = tmp_path / "log"
    LogStore(KINDS[kind](path)).close()
    with frozen(kind, path):
        store = LogStore(KINDS[kind](path), on_error="raise")
        with pytest.raises(LogUnavailable, match="has held the lock"):
            echo(store)("one")
        store.close()


_ENDING = """
import sys, warnings
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.concurrency import locks
from tests.support.echo import echo
locks.WAIT_SECONDS = 0.5
warnings.simplefilter("ignore")
kind, path = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[sys.argv[1]], sys.argv[2]
store = LogStore(kind(path))
tactic = echo(store)
if sys.argv[3] == "begun":
    scope = store.session("begun")
    scope.__enter__()
print("ready", flush=True)
sys.stdin.readline()
tactic("unwritten")
if sys.argv[3] == "begun":
    scope.leave(None)
print("called", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_end_does_not_wait_for_ever(kind: str, tmp_path: Path) -> None:
    """A process ends while another one is frozen, and the session whose end it could not write is
    interrupted for those who come later."""
    path = tmp_path / "log"
    LogStore(KINDS[kind](path)).close()
    command = [sys.executable, "-c", _ENDING, kind, str(path), "begun"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        with frozen(kind, path):
            process.stdin.write(b"go\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"called\n"
            process.wait(HANG)
            assert process.stderr is not None
            assert process.stderr.read() == b""
    with LogStore(KINDS[kind](path)) as store:
        states = {one.tactic_path: one.state for one in store.list_sessions()}
        assert states["begun"] == "interrupted"
        assert "running" not in states.values()


def test_the_foremost_is_frozen(tmp_path: Path) -> None:
    """Whoever is next and frozen stops nobody behind it."""
    lock, queue = FairFileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
    queue.acquire()
    began = time.monotonic()
    for _ in range(200):
        lock._turn_ends = time.monotonic()
        assert lock.take(time.monotonic(), HANG)
        lock.free()
    assert time.monotonic() - began < HANG
    queue.close()
    lock.close()


def test_a_foreign_writer_of_the_file(tmp_path: Path) -> None:
    """A program that writes SQLite's file without lllm's lock is waited for as long, no longer."""
    store = LogStore(SQLiteBackend(tmp_path / "log"))
    tactic = echo(store)
    tactic("before")
    foreign = sqlite3.connect(tmp_path / "log", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match="events wait in memory"):
        tactic("meanwhile")
    tactic("again")
    assert time.monotonic() - began < HANG
    foreign.execute("ROLLBACK")
    foreign.close()
    assert store.log.write_held(now=True, within=HANG)
    assert len(store.list_sessions(state="success")) == 3
    store.close()


def test_locks_are_never_broken(tmp_path: Path) -> None:
    """Whoever waits for a lock in vain has not taken it from its holder."""
    one, other = FileLock(tmp_path / "a"), FileLock(tmp_path / "a")
    assert one.take(time.monotonic(), 0)
    assert not other.take(time.monotonic(), 0.05)
    one.free()
    assert other.take(time.monotonic(), 0)
    for lock in (one, other):
        lock.close()
    assert os.path.exists(tmp_path / "a")
