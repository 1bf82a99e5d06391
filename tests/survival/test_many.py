"""Many writers at once: no error, nothing lost or doubled, and nobody waits long."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from lllm import InvokeError, LogStore
from lllm.invokers import Request
from lllm.invokers.openai import OpenAIInvoker
from lllm.pricing import genai_prices as price_data
from lllm.testing.writers import event
from tests.support.echo import echo
from tests.survival import crowd
from tests.survival.figures import Figures
from tests.survival.ledger import audit, entries
from tests.survival.places import KINDS, Kind, Place
from tests.survival.scale import Scale, asked_for
from tests.survival.writers import processes, strict

pytestmark = pytest.mark.slow

_PAYLOAD = b'"' + b"x" * 60_000 + b'"'


def many_processes(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Processes begun in every way write one store at once."""
    figures = Figures(f"{scale.processes} processes {kind}", rounds=1, faults=scale.processes)
    place, ledger = Place(kind, folder), folder / "ledger"
    gathering = processes().Process(target=crowd.gather, args=(place, ledger, scale.processes))
    gathering.start()
    gathering.join(2 * crowd.PATIENCE)
    gathering.kill()  # where it hangs; what it waited for ends by itself
    gathering.join()
    told = entries(ledger)
    assert gathering.exitcode == 0
    gathering.close()
    with place.store() as store:
        audit(store.backend, told, figures)
        all_succeeded(store)
        mine = store.list_sessions(tactic_path="outer")
        assert sum("pid" in one.tags for one in mine) == scale.processes * crowd.CALLS
    return figures.whole()


def many_threads(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Threads share one store and one tactic."""
    figures = Figures(f"{scale.threads} threads {kind}", rounds=1)
    place, ledger = Place(kind, folder), folder / "ledger"
    with strict(), crowd.watched(place, ledger) as store:
        tactic = echo(store)
        together = threading.Barrier(scale.threads)

        def call(number: int) -> None:
            together.wait()
            assert tactic(f"task {number}") == f"task {number}"

        with ThreadPoolExecutor(scale.threads) as pool:
            list(pool.map(call, range(scale.threads)))
        audit(store.backend, entries(ledger), figures)
        assert all_succeeded(store) == scale.threads
    return figures.whole()


def many_coroutines(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Coroutines on one event loop, all of their sessions open at the same time."""
    figures = Figures(f"{scale.coroutines} coroutines {kind}", rounds=1)
    place, ledger = Place(kind, folder), folder / "ledger"
    with strict(), crowd.watched(place, ledger) as store:

        async def call(number: int, all_open: asyncio.Barrier) -> None:
            async with store.session("survival::coroutine") as recorder:
                await all_open.wait()
                recorder.deliver(await echo_tactic.acall(f"task {number}"))

        async def run() -> None:
            all_open = asyncio.Barrier(scale.coroutines)
            await asyncio.gather(*(call(n, all_open) for n in range(scale.coroutines)))

        echo_tactic = echo(store)
        asyncio.run(run())
        audit(store.backend, entries(ledger), figures)
        assert all_succeeded(store) == scale.coroutines
    return figures.whole()


def all_succeeded(store: LogStore) -> int:
    """How many calls are listed; each of them succeeded, and the rows are those of a rebuild."""
    listed = store.list_sessions()
    assert {one.state for one in listed} == {"success"}
    assert store.rebuild(check=True).difference is None
    return len(listed)


# -- a reader who stays


def sit(place: Place, sitting: Event, leave: Event) -> None:
    """Read the first event, and stay there, in a transaction of SQLite's or in the log's cursor."""
    cursor = iter(place.backend().read())
    next(cursor)
    connection = sqlite3.connect(place.path) if place.kind == "sqlite" else None
    if connection is not None:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM events").fetchone()
    sitting.set()
    leave.wait()
    assert len(list(cursor)) >= 1
    if connection is not None:
        connection.close()


def sitting_reader(scale: Scale, folder: Path, kind: Kind) -> Figures:
    """Append beside a reader that stays in the middle of the log, and after it has gone."""
    figures = Figures(f"{scale.sitting:.0f} s reader {kind}", rounds=1, faults=1)
    place, ledger = Place(kind, folder, segment_bytes=4 << 20), folder / "ledger"
    context = processes()
    sitting, leave = context.Event(), context.Event()
    with strict(), crowd.watched(place, ledger) as store:
        echo(store)("first")
        reader = context.Process(target=sit, args=(place, sitting, leave))
        reader.start()
        sitting.wait()
        numbers = itertools.count(1)
        until = time.monotonic() + scale.sitting
        while time.monotonic() < until or wal_bytes(place) < 28 << 20:
            store.log.append([event("long", next(numbers), _PAYLOAD)])
            time.sleep(scale.sitting / 2_000)  # what it costs a minute is bounded, too
            if kind == "jsonl" and time.monotonic() >= until:
                break
        largest = wal_bytes(place)
        leave.set()
        reader.join()
        assert reader.exitcode == 0
        for _ in range(800):  # 48 MB: more than two checkpoints apart
            store.log.append([event("long", next(numbers), _PAYLOAD)])
        after = wal_bytes(place)
        echo(store)("last")
        assert kind == "jsonl" or after < 20 << 20 < largest
        audit(store.backend, entries(ledger), figures)
        assert len(store.list_sessions()) == 2
        if kind == "sqlite":
            figures.note = f"write-ahead log {largest >> 20} MB, then {after >> 20} MB"
    return figures.whole()


def wal_bytes(place: Place) -> int:
    """The size of SQLite's write-ahead log."""
    wal = place.path.with_name("runs.db-wal")
    return wal.stat().st_size if wal.exists() else 0


# -- the tests


def fork_beside_an_import(module: str, use: Callable[[], object]) -> None:
    """Fork while a thread imports a module for the first time; the child needs it, too."""
    assert module not in sys.modules
    thread = threading.Thread(target=use)
    thread.start()
    while module not in sys.modules:  # which it is as soon as its import begins
        time.sleep(0)
    pid = crowd.forked(use)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    thread.join()
    sys.exit(code != 0)


def read_the_prices() -> None:
    """Read the data that the first price needs."""
    price_data.make_ready()


def call_a_model() -> None:
    """Call one by the SDK, which nobody serves."""
    with pytest.raises(InvokeError):
        _unserved.invoke(Request("gpt-4o-mini", ()))


def call_a_model_on_a_loop() -> None:
    """The same on an event loop."""
    with pytest.raises(InvokeError):
        asyncio.run(_unserved.ainvoke(Request("gpt-4o-mini", ())))


_unserved = OpenAIInvoker(base_url="http://127.0.0.1:1", api_key="none")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("genai_prices.data", read_the_prices),
        ("openai", call_a_model),
        ("anyio._backends._asyncio", call_a_model_on_a_loop),
    ],
)
def test_a_fork_beside_a_first_import(module: str, use: Callable[[], None]) -> None:
    """A child that is forked while another thread reads the price data, or calls a model, for the
    first time can do so, too: it does not wait for a thread that it has not."""
    code = (
        "from tests.survival import crowd, test_many\n"
        "crowd.PATIENCE = 15\n"
        f"test_many.fork_beside_an_import({module!r}, test_many.{use.__name__})"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.parametrize("kind", KINDS)
def test_processes_begun_in_every_way(tmp_path: Path, kind: Kind) -> None:
    """Spawned, forked, pooled, forked in the middle of a session or behind an open store: all
    processes write at once, and nothing is locked, lost or doubled."""
    assert many_processes(asked_for(), tmp_path, kind).acknowledged > 0


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_threads(tmp_path: Path, kind: Kind) -> None:
    """Two hundred threads share one store."""
    assert many_threads(asked_for(), tmp_path, kind).acknowledged > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_coroutines(tmp_path: Path, kind: Kind) -> None:
    """A thousand sessions are open at once on one event loop, and all of them succeed."""
    assert many_coroutines(asked_for(), tmp_path, kind).acknowledged > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_stays_stops_nobody(tmp_path: Path, kind: Kind) -> None:
    """Appends go on beside a reader in the middle of a cursor; what grew meanwhile shrinks when it
    has gone."""
    assert sitting_reader(asked_for(), tmp_path, kind).acknowledged > 0
