"""The processes of a soak: writers, a reader, a tail, a rebuilder, on one log.

Each does its work in a loop until it is told to stop, and sends a sample every few seconds: how
much it did, how long that took it, and the memory it holds. What it says last is how many events it
wrote or saw in all, or why it could not go on.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import cycle
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from benchmarks.generate import appends
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.log import LogBackend

Role = Literal["writer", "reader", "tail", "rebuilder"]
Kind = Literal["sqlite", "jsonl"]


class Place(msgspec.Struct, frozen=True):
    """The log of a soak. head: behind which its writers write, and the tail looks."""

    kind: Kind
    path: Path
    head: int


class Sample(msgspec.Struct, frozen=True):
    """What one process did since its last sample.

    at: seconds since the soak began. count: events written or seen, questions, rebuilds. seconds:
    that it took. p99, longest: milliseconds of one step; for the tail, from the writing of an event
    to the seeing. resident: MB of memory.
    """

    role: Role
    number: int
    at: float
    count: int
    seconds: float
    p99: float
    longest: float
    resident: float


class Ended(msgspec.Struct, frozen=True):
    """A process stopped as it was told. count: all that it did, as in a sample."""

    role: Role
    number: int
    count: int


class Failed(msgspec.Struct, frozen=True):
    """A process could not go on."""

    role: Role
    number: int
    why: str


News: TypeAlias = Sample | Ended | Failed


class _Worker(Protocol):
    """pause: seconds between two steps."""

    pause: float

    def step(self) -> tuple[int, Sequence[int]]:
        """Do one thing; how much was done, and nanoseconds that were waited for."""


def opened(kind: Kind, path: Path) -> LogBackend:
    """The log of a soak."""
    return SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)


def work(
    role: Role, number: int, place: Place, every: float, news: Queue[News], stop: Event
) -> None:
    """Run one process of a soak. every: seconds between two samples."""
    try:
        with ExitStack() as closed:
            worker = _worker(role, number, place, closed)
            count = _loop(worker, role, number, every, news.put, stop)
        news.put(Ended(role, number, count))
    except BaseException:
        news.put(Failed(role, number, traceback.format_exc()))


def _worker(role: Role, number: int, place: Place, closed: ExitStack) -> _Worker:
    log = opened(place.kind, place.path)
    if role == "writer":
        return _Writer(closed.enter_context(closing(log)), number)
    if role == "tail":
        return _Tail(closed.enter_context(closing(log)), place.head)
    store = closed.enter_context(LogStore(log))
    return _Reader(store) if role == "reader" else _Rebuilder(store)


def _loop(
    worker: _Worker,
    role: Role,
    number: int,
    every: float,
    send: Callable[[Sample], None],
    stop: Event,
) -> int:
    total = count = 0
    waits: list[int] = []
    since = time.time()
    last_time = False
    while not last_time:
        last_time = stop.is_set()  # one step more: the tail sees what was written until now
        done, waited = worker.step()
        total += done
        count += done
        waits += waited
        now = time.time()
        if waits and (now - since >= every or last_time):
            p99, longest = _p99(waits) * 1e-6, max(waits) * 1e-6
            send(Sample(role, number, now, count, now - since, p99, longest, resident()))
            count, waits, since = 0, [], now
        if not last_time:
            stop.wait(worker.pause)
    return total


class _Writer:
    """Appends sessions one after another, each moment when its Recorder would."""

    pause = 0.002

    def __init__(self, log: LogBackend, number: int) -> None:
        self._log = log
        self._appends = appends(seed=number)

    def step(self) -> tuple[int, Sequence[int]]:
        events = next(self._appends)
        began = time.perf_counter_ns()
        self._log.append(events)
        return len(events), (time.perf_counter_ns() - began,)


class _Reader:
    """Asks one question after another."""

    pause = 0.05

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._questions = cycle((
            lambda: store.list_sessions(limit=50),
            lambda: store.list_sessions(tags={"env": "prod", "user": "user-30"}, limit=50),
            lambda: store.list_sessions(state="failure", tactic_path="lab::judge", limit=50),
            lambda: store.export_cost_summary(group_by="model"),
            lambda: store.export_cost_summary(tags={"experiment": "v7"}),
            self._load,
        ))  # fmt: skip

    def _load(self) -> object:
        return self._store.load_session(self._store.list_sessions(limit=1)[0].session_id)

    def step(self) -> tuple[int, Sequence[int]]:
        question = next(self._questions)
        began = time.perf_counter_ns()
        question()
        return 1, (time.perf_counter_ns() - began,)


class _Tail:
    """Sees every event, in order."""

    pause = 0.02

    def __init__(self, log: LogBackend, position: int) -> None:
        self._log = log
        self._position = position

    def step(self) -> tuple[int, Sequence[int]]:
        delays = []
        for event in self._log.read(after=self._position):
            if event.position <= self._position:
                raise RuntimeError(f"position {event.position} came behind {self._position}")
            self._position = event.position
            delays.append(time.time_ns() - event.time)
        return len(delays), delays


class _Rebuilder:
    """Makes all rows anew, again and again."""

    pause = 15.0

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def step(self) -> tuple[int, Sequence[int]]:
        began = time.perf_counter_ns()
        self._store.rebuild()
        return 1, (time.perf_counter_ns() - began,)


def resident() -> float:
    """MB of memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux
        told = subprocess.run(
            ("ps", "-o", "rss=", "-p", str(os.getpid())), capture_output=True, check=True
        )
        return int(told.stdout) / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _p99(waits: Sequence[int]) -> float:
    if len(waits) < 2:
        return float(waits[0])
    return statistics.quantiles(waits, n=100, method="inclusive")[98]
