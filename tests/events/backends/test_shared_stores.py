"""Stores of one place in one process: opened by many, dropped without close, closed by the last."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, LogUnavailable, SQLiteBackend
from lllm.events.concurrency import finalizer_work
from lllm.events.errors import LogError, LogReadOnly
from lllm.events.log import LogBackend
from lllm.testing.writers import batch
from tests.conftest import OpenBackend
from tests.support import ROOT
from tests.support.echo import echo

HANG = 60  # seconds

_HANDLER = """
import asyncio, gc, os, sys, threading, time
sys.setswitchinterval(1e-6)
from lllm import Tactic
from lllm.logging import local_store, sqlite_store

path, kind, way, calls = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
if way == "collected":
    gc.set_threshold(50, 2, 2)
if way == "frozen":
    gc.freeze()

class T(Tactic, register=False):
    name = "t"
    def call(self, task, **_):
        return task

class Knot:
    pass

def handler(x):
    store = {"sqlite": sqlite_store, "jsonl": local_store}[kind](path)
    if way != "counted":
        store.knot = Knot()
        store.knot.store = store  # a cycle: only the collector ends it
    return T(log_store=store)(x)

def some(number):
    for call in range(number):
        assert handler(str(call)) == str(call)

if way == "threads":
    threads = [threading.Thread(target=some, args=(calls // 4,)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
elif way == "asyncio":
    async def main():
        await asyncio.gather(*(asyncio.to_thread(some, calls // 4) for _ in range(4)))
    asyncio.run(main())
else:
    some(calls)
gc.unfreeze()
gc.collect()
from lllm.events.concurrency import finalizer_work
finalizer_work.settle()
if os.path.isdir("/proc/self/fd"):
    assert len(os.listdir("/proc/self/fd")) < 30, os.listdir("/proc/self/fd")
assert threading.active_count() < 10
"""


def run(program: str, *args: object) -> str:
    """What a program prints that must end well, and in time."""
    command = [sys.executable, "-c", program, *map(str, args)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=HANG, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
@pytest.mark.parametrize("way", ["counted", "collected", "frozen", "threads", "asyncio"])
def test_a_store_for_each_call(tmp_path: Path, kind: str, way: str) -> None:
    """A program that opens a store for each call and closes none neither hangs nor leaks, and loses
    nothing."""
    path = tmp_path / "log"
    run(_HANDLER, path, kind, way, 120)
    backend = SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)
    with LogStore(backend) as store:
        sessions = store.list_sessions()
        assert len(sessions) == 120
        assert {session.state for session in sessions} == {"success"}


def test_a_finalizer_does_not_wait(open_backend: OpenBackend) -> None:
    """A store that is dropped where this thread holds its lock is closed later, by another."""
    store, other = LogStore(open_backend()), LogStore(open_backend())
    database = other._rows.database
    with database.write():
        del store
        gc.collect()
    finalizer_work.settle()
    echo(other)("still works")
    assert len(other.list_sessions()) == 1
    other.close()


def descriptors() -> int:
    """How many this process has open, once what earlier tests dropped is closed."""
    gc.collect()
    finalizer_work.settle()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_many_stores_of_a_path_take_no_more_descriptors(open_backend: OpenBackend) -> None:
    """A hundred stores of one path share the files that one has open."""
    before = descriptors()
    stores = [LogStore(open_backend())]
    echo(stores[0])("task")
    of_one = descriptors()
    stores += [LogStore(open_backend()) for _ in range(99)]
    for store in stores:
        echo(store)("task")
        assert store.list_sessions(limit=1)
    # A few connections more, where rows were brought up while somebody read.
    assert descriptors() <= of_one + 8
    for store in stores:
        store.close()
    assert descriptors() == before


def test_closing_one_leaves_the_others(open_backend: OpenBackend) -> None:
    """A closed store says so where another of its path goes on; closing it twice does nothing."""
    store, other = LogStore(open_backend()), LogStore(open_backend())
    echo(store)("task")
    store.close()
    store.close()
    uses: list[Callable[[], object]] = [
        store.list_sessions,
        lambda: list(store.backend.read()),
        store.backend.head,
        lambda: store.backend.append(batch("a", 0)),
    ]
    for use in uses:
        with pytest.raises(LogUnavailable, match="has been closed; open the store again"):
            use()
    echo(other)("task")
    assert len(other.list_sessions()) == 2
    other.close()


def test_closing_one_while_others_work(open_backend: OpenBackend) -> None:
    """Stores that are opened, dropped and closed by some threads disturb none that works in
    another."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def come_and_go(close: bool) -> None:
        try:
            while not stop.is_set():
                store = LogStore(open_backend())
                echo(store)("theirs")
                if close:
                    store.close()
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go, args=(close,)) for close in (True, False)]
        with LogStore(open_backend()) as store:
            for thread in threads:
                thread.start()
            for _ in range(30):
                echo(store)("mine")
            stop.set()
            for thread in threads:
                thread.join(HANG)
            found = store.list_sessions()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    assert {session.state for session in found} == {"success"}


@pytest.mark.parametrize("backend", [SQLiteBackend, LocalFileBackend])
def test_another_durability_is_an_error(
    tmp_path: Path, backend: type[SQLiteBackend] | type[LocalFileBackend]
) -> None:
    """What is open with one durability can't be opened with another; the error says both."""
    first = backend(tmp_path / "log", durability="power")
    with pytest.raises(LogError, match=r"durability='power'.*durability='process'"):
        backend(tmp_path / "log")
    first.close()
    backend(tmp_path / "log").close()


def test_a_path_is_known_by_its_file(tmp_path: Path) -> None:
    """Another way to the same file shares; another file at the same path does not."""
    first = SQLiteBackend(tmp_path / "runs.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "runs.db")
    second = SQLiteBackend(tmp_path / "link.db")
    assert second.liveness is first.liveness
    (tmp_path / "runs.db").rename(tmp_path / "old.db")
    third = SQLiteBackend(tmp_path / "runs.db")
    assert third.liveness is not first.liveness
    assert third.head() == 0
    for backend in (first, second, third):
        backend.close()


@pytest.fixture
def read_only(open_backend: OpenBackend, tmp_path: Path) -> Iterator[Callable[[], LogBackend]]:
    """Opens the same log to be read only."""
    if isinstance(opened := open_backend(), SQLiteBackend):
        yield lambda: SQLiteBackend(tmp_path / "runs.db", read_only=True)
    else:
        yield lambda: LocalFileBackend(tmp_path / "logs", read_only=True)
    opened.close()


def test_a_reader_beside_a_writer(
    open_backend: OpenBackend, read_only: Callable[[], LogBackend]
) -> None:
    """A store that only reads sees what another of this process writes, and writes nothing."""
    with LogStore(open_backend()) as writer:
        echo(writer)("task")
        assert len(writer.list_sessions()) == 1
        reader = LogStore(read_only())
        assert len(reader.list_sessions()) == 1
        with pytest.raises(LogReadOnly):
            reader.save_error(ValueError())
        reader.close()
        echo(writer)("task")
        assert len(writer.list_sessions()) == 2


def test_what_is_dropped_is_closed(open_backend: OpenBackend) -> None:
    """A store that is dropped gives its files back without anybody doing anything more."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    before = descriptors()
    store = LogStore(open_backend())
    echo(store)("task")
    del store
    gc.collect()
    until = time.monotonic() + HANG
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < until:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before
