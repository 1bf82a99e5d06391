"""Many processes at once on one store, begun in every way that Python knows.

All of it starts from a process of the fork server, which has no threads: what follows may fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from lllm import LogStore
from tests.survival.ledger import Ledger
from tests.survival.places import Place
from tests.survival.writers import outer, strict

CALLS = 2  # of each process; each is three sessions and some fifteen appends
PATIENCE = 60  # seconds after which a process that hangs is a failure


def watched(place: Place, ledger: Path) -> LogStore:
    """A store whose every append is noted."""
    backend = place.backend()
    Ledger(ledger).watch(backend)
    return LogStore(backend)


def call(store: LogStore) -> None:
    """What each process does."""
    tactic = outer(store)
    for number in range(CALLS):
        tactic(f"task {number}", tags={"pid": str(os.getpid())})
        store.list_sessions(limit=1)


def open_and_call(place: Place, ledger: Path) -> None:
    """The same, by a process that knows only where the store is."""
    with Ledger(ledger).complaining(), strict(), watched(place, ledger) as store:
        call(store)


def use(store: LogStore, ledger: Path) -> None:
    """The same, by a process that has inherited the store."""
    with Ledger(ledger).complaining(), strict():
        call(store)


def by_multiprocessing(method: str, place: Place, ledger: Path, count: int) -> Callable[[], None]:
    """multiprocessing.Process, spawned or forked."""
    context: BaseContext = multiprocessing.get_context(method)
    started: list[BaseProcess] = []
    for _ in range(count):
        process = context.Process(target=open_and_call, args=(place, ledger))  # type: ignore[attr-defined] # every context has one
        process.start()
        started.append(process)

    def wait() -> None:
        for process in started:
            process.join()
            assert process.exitcode == 0

    return wait


def by_pool(place: Place, ledger: Path, count: int) -> Callable[[], None]:
    """ProcessPoolExecutor, whose workers are there for several tasks."""
    pool = ProcessPoolExecutor(count)
    tasks = [pool.submit(open_and_call, place, ledger) for _ in range(count)]

    def wait() -> None:
        for task in tasks:
            task.result()
        pool.shutdown()

    return wait


def by_fork(store: LogStore, ledger: Path, count: int) -> Callable[[], None]:
    """os.fork of a process that has the store open already, as gunicorn does with --preload."""
    pids = [forked(lambda: use(store, ledger)) for _ in range(count)]

    def wait() -> None:
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count

    return wait


def in_the_middle(store: LogStore, ledger: Path, count: int) -> None:
    """os.fork inside an open session, while threads of this process write, too."""
    stop = threading.Event()
    wrong: list[BaseException] = []

    def write() -> None:
        tactic = outer(store)
        try:
            while not stop.is_set():
                tactic("beside the forks")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    with store.session("survival::forking") as recorder:
        pids = [forked(lambda: use(store, ledger)) for _ in range(count)]
        recorder.deliver("the parent's, still")
    stop.set()
    for thread in threads:
        thread.join()
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count
    assert wrong == []


def forked(work: Callable[[], object]) -> int:
    """The id of a child that does some work and ends at once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(PATIENCE)
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def gather(place: Place, ledger: Path, count: int) -> None:
    """So many processes at once, in all ways; waits for all of them."""
    with Ledger(ledger).complaining(), strict(), watched(place, ledger) as preloaded:
        share = count // 5
        waits = [
            by_multiprocessing("fork", place, ledger, share),
            by_pool(place, ledger, share),
            by_multiprocessing("spawn", place, ledger, share),
            by_fork(preloaded, ledger, share),
        ]
        in_the_middle(preloaded, ledger, count - 4 * share)
        for wait in waits:
            wait()
