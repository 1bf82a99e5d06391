"""Many threads, many processes and forks on one store: no error, nothing lost or doubled."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.envelope import Recorded
from lllm.events.log import LogBackend
from lllm.events.model import Event
from lllm.projections.engine.session_contexts import Contexts
from lllm.projections.view import ViewEvent
from tests.conftest import OpenBackend
from tests.support.echo import Echo, echo

CALLS = 12
Open = Callable[[str], LogBackend]


def backend_at(path: str) -> LogBackend:
    """The log at a path, in whichever process."""
    return SQLiteBackend(path) if path.endswith(".db") else LocalFileBackend(path)


def work(path: str, worker: int) -> None:
    """What each process does."""
    with LogStore(backend_at(path)) as store:
        tactic = echo(store)
        for number in range(CALLS):
            assert (
                tactic(f"{worker}.{number}", tags={"worker": str(worker)}) == f"{worker}.{number}"
            )
            store.list_sessions(limit=1)


def check(store: LogStore, workers: int) -> None:
    """Every call is there once, each stream is whole, and the rows are those of a rebuild."""
    sessions = store.list_sessions()
    assert {one.state for one in sessions} == {"success"}
    assert Counter(one.tags["worker"] for one in sessions) == {
        str(n): CALLS for n in range(workers)
    }
    seqs: Counter[str] = Counter()
    for event in store.backend.read():
        seqs[event.stream] += 1
        assert event.seq == seqs[event.stream]
    deliveries = [store.load_session(one.session_id).delivery for one in sessions]
    assert sorted(map(str, deliveries)) == sorted(
        f"{worker}.{number}" for worker in range(workers) for number in range(CALLS)
    )
    assert store.rebuild(check=True).difference is None


@pytest.fixture(params=["sqlite", "jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the log is, as every process knows it."""
    return str(tmp_path / ("runs.db" if request.param == "sqlite" else "logs"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_eight_processes(path: str, method: str) -> None:
    """Eight processes write and read one store at once, spawned or forked."""
    if method == "spawn":
        processes = [
            multiprocessing.get_context("spawn").Process(target=work, args=(path, n))
            for n in range(8)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 8
    else:
        pids = [_forked(lambda n=n: work(path, n)) for n in range(8)]
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    with LogStore(backend_at(path)) as store:
        check(store, 8)


def _forked(task: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task()
            status = 0
        finally:
            os._exit(status)
    return pid


def test_eight_threads(store: LogStore) -> None:
    """Eight threads share one store and one tactic."""
    tactic = echo(store)
    barrier = threading.Barrier(8)

    def run(worker: int) -> None:
        barrier.wait()
        for number in range(CALLS):
            tactic(f"{worker}.{number}", tags={"worker": str(worker)})
            store.list_sessions(limit=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    check(store, 8)


def test_fork_in_the_middle(store: LogStore) -> None:
    """A child forked while the parent's threads write can write to the same store object, and both
    go on."""
    tactic = echo(store)
    stop = threading.Event()
    numbers = iter(range(CALLS))

    def write() -> None:
        for number in numbers:
            tactic(f"0.{number}", tags={"worker": "0"})
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    pids = []
    for worker in range(1, 4):
        pids.append(_forked(lambda n=worker: _write(tactic, n)))
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 3
    thread.join()
    check(store, 4)


def _write(tactic: Echo, worker: int) -> None:
    for number in range(CALLS):
        tactic(f"{worker}.{number}", tags={"worker": str(worker)})


@pytest.mark.slow
def test_a_rebuild_while_others_write(path: str) -> None:
    """Rebuilds go on beside a process that writes, and end with the same rows."""
    writer = multiprocessing.get_context("spawn").Process(target=work, args=(path, 0))
    writer.start()
    with LogStore(backend_at(path)) as store:
        while writer.is_alive():
            store.rebuild()
            assert store.rebuild(check=True).difference is None
        writer.join()
        assert writer.exitcode == 0
        check(store, 1)


def test_a_store_in_memory_is_shared_by_threads() -> None:
    """SQLite's :memory: serves every thread of the process."""
    with LogStore(SQLiteBackend(":memory:")) as store:
        tactic = echo(store)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: _write(tactic, n), range(8)))
        check(store, 8)


def test_the_same_store_opened_twice_in_one_process(open_backend: OpenBackend) -> None:
    """Two stores on one file in one process see each other's sessions."""
    with LogStore(open_backend()) as one, LogStore(open_backend()) as other:
        _write(echo(one), 0)
        _write(echo(other), 1)
        check(one, 2)
        check(other, 2)


def test_a_child_outlives_its_parents_store(path: str) -> None:
    """What a forked child appends stays, also when the parent closes its store meanwhile."""
    store = LogStore(backend_at(path))
    echo(store)("parent")
    begun, go_on = os.pipe(), os.pipe()

    def child() -> None:
        echo(store)("child")
        os.write(begun[1], b"x")
        os.read(go_on[0], 1)
        for number in range(3):
            echo(store)(f"child {number}")

    pid = _forked(child)
    os.read(begun[0], 1)
    store.close()
    os.write(go_on[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    with LogStore(backend_at(path)) as again:
        assert len(again.list_sessions()) == 5
    for end in (*begun, *go_on):
        os.close(end)


def test_a_session_that_the_collector_ends(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ends inside a batch of the projector, as the collector may end it, is counted
    once."""
    tactic = echo(store)
    feed = Contexts.view_event
    nested = iter([lambda: tactic("nested")])

    def view_event(contexts: Contexts, event: Recorded, payload: Event) -> ViewEvent:
        for call in nested:
            call()
        return feed(contexts, event, payload)

    monkeypatch.setattr(Contexts, "view_event", view_event)  # in the middle of a batch
    tactic("outer")
    assert [one.calls for one in store.list_sessions()] == [1, 1]
    assert store.export_cost_summary()["calls"] == 2
