"""The processes that write while they are harmed: what they do, and when they die.

They are forked by multiprocessing's fork server, which has imported lllm and has no threads and no
store: a fresh process costs ten milliseconds, not half a second.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FrameType

import msgspec

from lllm import LogStore, Tactic, tool
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker, rate_limited, tool_call
from tests.survival.ledger import Ledger
from tests.survival.places import Place


@cache
def processes() -> ForkServerContext:
    """Starts processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.survival.writers", "tests.survival.postgres_work"])
    return context


# -- when they die


class Death(msgspec.Struct, frozen=True):
    """When a process is killed, by the first of these that comes.

    seconds: after it began. events: that it was told are stored. calls: into C, by any of its
    threads. steps: calls that reach the disk, or SQLite; a kill there falls between two of them,
    where time hardly ever would.
    """

    seconds: float = 60.0
    events: int | None = None
    calls: int | None = None
    steps: int | None = None


def any_death(chance: random.Random) -> Death:
    """One that may come anywhere, from the opening of the store to the middle of everything."""
    match chance.randrange(5):
        case 0:
            return Death(seconds=chance.uniform(0.01, 0.3))
        case 1:
            return Death(events=chance.randint(1, 150))
        case 2:
            return Death(calls=int(10 ** chance.uniform(1, 4.7)))
        case _:
            return Death(steps=int(10 ** chance.uniform(1, 3.5)))


_STEPS = frozenset({
    "execute", "executemany", "write", "truncate", "open", "close", "flock", "fsync", "rename",
    "replace", "unlink", "mkdir",
})  # fmt: skip


def die_at(number: int, among: Collection[str] | None) -> None:
    """Kill this process at a call into C, or at the return from one, counted over its threads.

    among: the names of the functions that count, None for all.
    """
    counted = itertools.count(1)

    def profile(_frame: FrameType, what: str, function: object) -> None:
        if (
            what in ("c_call", "c_return")
            and (among is None or getattr(function, "__name__", "") in among)
            and next(counted) == number
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)


# -- what they run


@tool(description="Look a word up.")
def lookup(word: str) -> str:
    """A long answer, so that appends span pages."""
    return word * 200


def _answer(request: Request) -> Reply:
    said = request.messages[-1]
    if said.role != "user":
        return "done " * 20
    if len(request.messages) == 1 and said.text.startswith("again"):
        return rate_limited(0)
    return tool_call("lookup", {"word": said.text[:20]})


class Inner(Tactic, register=False):
    """Asks one agent, which runs a tool."""

    name = "inner"

    def call(self, task: object, **_: object) -> object:
        """One question."""
        agent = self.agents["worker"]
        agent.open("main")
        agent.receive(str(task))
        return agent.respond().content


class Outer(Inner, register=False):
    """Asks, and has two sub-tactics ask in threads of their own."""

    name = "outer"

    def __init__(self, config: dict[str, object], *, log_store: LogStore) -> None:
        super().__init__(config, log_store=log_store)
        self.inner = Inner(config)

    def call(self, task: object, **options: object) -> object:
        """Three questions."""
        own = super().call(task, **options)
        with ThreadPoolExecutor(2) as pool:
            return [own, *pool.map(self.inner, ["left", "right"])]


def outer(store: LogStore) -> Outer:
    """The tactic on a store."""
    agent: dict[str, object] = {
        "name": "worker",
        "model_name": "gpt-4o-mini",
        "tools": [lookup],
        "invoker": ScriptedInvoker(_answer),
    }
    return Outer({"agent_configs": [agent]}, log_store=store)


# -- jobs, each for ever


def calling(store: LogStore) -> None:
    """Threads that call a tactic, while another one tags, saves errors and lists."""
    tactic = outer(store)

    def call() -> None:
        for number in itertools.count():
            tactic(f"task {number}", tags={"number": str(number)})

    def look() -> None:
        while True:
            for one in store.list_sessions(limit=3):
                store.tag(one.session_id, {"seen": "yes"})
            store.save_error(ValueError("nothing"))

    _together(call, call, look)


def looping(store: LogStore) -> None:
    """Coroutines that call a tactic on one event loop."""

    async def call() -> None:
        tactic = outer(store).inner
        tactic.log_store = store
        while True:
            await asyncio.gather(*(tactic.acall(f"task {n}") for n in range(20)))

    asyncio.run(call())


def rebuilding(store: LogStore) -> None:
    """A thread that calls, beside rebuilds and their checks without end."""
    tactic = outer(store)

    def call() -> None:
        while True:
            tactic("task")

    def rebuild() -> None:
        while True:
            store.rebuild()
            assert store.rebuild(check=True).difference is None

    _together(call, rebuild)


def catching_up(store: LogStore) -> None:
    """Writes far ahead of the rows, then lists."""
    tactic = outer(store)
    while True:
        with store._rows.projector.alone():  # no session that ends has its rows follow
            for number in range(15):
                tactic(f"task {number}")
        store.list_sessions()


Job = Callable[[LogStore], None]
JOBS: tuple[Job, ...] = (calling, calling, looping, rebuilding, catching_up)


def _together(*work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        done = [pool.submit(one) for one in work]
        for future in done:
            future.result()


# -- how they begin


@contextmanager
def strict() -> Iterator[None]:
    """What would only warn, of a log that can't be written, is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Python 3.12 warns of forks beside threads; that is what some checks are about.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


def work(job: Job, place: Place, ledger_path: Path, death: Death) -> None:
    """The life of one process that is to be killed."""
    ledger = Ledger(ledger_path, dies_at=death.events)
    with _crash_of(ledger_path).open("w") as crash, ledger.complaining(), strict():
        faulthandler.enable(crash)
        if death.calls is not None:
            die_at(death.calls, None)
        if death.steps is not None:
            die_at(death.steps, _STEPS)
        backend = place.backend()
        ledger.watch(backend)
        job(LogStore(backend))


def killed(job: Job, place: Place, ledger_path: Path, death: Death) -> None:
    """Run a process until it is dead.

    Raises AssertionError where it ended in any other way.
    """
    process = processes().Process(target=work, args=(job, place, ledger_path, death), daemon=False)
    process.start()
    process.join(death.seconds)
    process.kill()
    process.join()
    crash = _crash_of(ledger_path)
    told = crash.read_text() if crash.exists() else ""
    assert process.exitcode == -signal.SIGKILL, (
        f"{job.__name__} ended with {process.exitcode}\n{told}"
    )
    process.close()


def _crash_of(ledger: Path) -> Path:
    return ledger.with_suffix(".crash")  # where the threads stood when the interpreter crashed
