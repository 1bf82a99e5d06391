"""What eight writers at once get, beside one alone; and an appender while rows are rebuilt.

Processes have a log object each, threads share one, as programs do. All set out together and append
without a pause: harder than any real load, where a writer waits for a model most of the time. A
round is one writer alone and eight together, each on a log of its own, in random order; the rates
are compared within the round, the waits of all rounds are taken together.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.generate import appends, fill
from benchmarks.measure import Bar, Figure, Spread, shown
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.envelope import NewEvent
from lllm.events.log import LogBackend

AREA = "crowd"
WRITERS = 8
_PATIENCE = 120.0  # seconds after which whoever does not come is missed
_PAUSE = 0.002  # seconds between two appends beside a rebuild
Kind = Literal["SQLite", "JSONL"]
_BACKENDS: dict[Kind, Callable[[Path], LogBackend]] = {
    "SQLite": SQLiteBackend,
    "JSONL": LocalFileBackend,
}
_P99 = Bar(15.0, "at most")
_LONGEST = Bar(200.0, "at most")
_RATE = Bar(0.8, "at least")


class Run(msgspec.Struct, frozen=True):
    """What one writer saw: when it began and ended, and what each append took, in nanoseconds of
    the clock that all processes share."""

    began: int
    ended: int
    waits: list[int]


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of many writers."""
    folder.mkdir()
    count, rounds = (300, 3) if quick else (3_000, 7)
    for kind in _BACKENDS:
        for crowd in (_Processes(), _Threads()):
            with closing(crowd):
                yield from _crowd(folder, kind, crowd, count, rounds)
    for kind in _BACKENDS:
        yield from _beside_rebuilds(folder / f"rebuild-{kind}", kind, quick=quick)


# -- eight writers


class _Crowd:
    """Writers that set out together."""

    name: str
    _executor: Executor

    def run(self, kind: Kind, path: Path, writers: int, count: int) -> list[Run]:
        """What each of them saw, appending so many events."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of threads and processes."""
        self._executor.shutdown()


class _Threads(_Crowd):
    name = "threads"

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(WRITERS)

    def run(self, kind: Kind, path: Path, writers: int, count: int) -> list[Run]:
        together = threading.Barrier(writers)
        with closing(_BACKENDS[kind](path)) as log:
            tasks = [
                self._executor.submit(_append_all, log, _events(number, count), together.wait)
                for number in range(writers)
            ]
            return [task.result(_PATIENCE) for task in tasks]


class _Processes(_Crowd):
    name = "processes"

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(WRITERS)
        self._executor = ProcessPoolExecutor(
            WRITERS, mp_context=context, initializer=_set_barrier, initargs=(barrier,)
        )

    def run(self, kind: Kind, path: Path, writers: int, count: int) -> list[Run]:
        together = writers == WRITERS
        tasks = [
            self._executor.submit(_append_in_process, kind, path, number, count, together)
            for number in range(writers)
        ]
        return [task.result(_PATIENCE) for task in tasks]


_barrier: Barrier | None = None  # of the processes that set out together; set in each of them


def _set_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _append_in_process(kind: Kind, path: Path, number: int, count: int, together: bool) -> Run:
    def wait() -> None:
        if together and _barrier is not None:
            _barrier.wait(_PATIENCE)

    with closing(_BACKENDS[kind](path)) as log:
        return _append_all(log, _events(number, count), wait)


def _events(number: int, count: int) -> list[NewEvent]:
    every = itertools.chain.from_iterable(appends(seed=number))
    return list(itertools.islice(every, count))


def _append_all(log: LogBackend, events: Sequence[NewEvent], wait: Callable[[], object]) -> Run:
    waits = []
    wait()
    began = time.perf_counter_ns()
    for event in events:
        before = time.perf_counter_ns()
        log.append([event])
        waits.append(time.perf_counter_ns() - before)
    return Run(began, time.perf_counter_ns(), waits)


def _crowd(folder: Path, kind: Kind, crowd: _Crowd, count: int, rounds: int) -> Iterator[Figure]:
    alone, together = _in_rounds(folder, kind, crowd, count, rounds)
    ratios = Spread.of(_rate(many) / _rate(one) for one, many in zip(alone, together, strict=True))
    one, many = (statistics.median(map(_rate, runs)) for runs in (alone, together))
    what = f"{WRITERS} {crowd.name} to {kind}"
    beside = f"one {one:,.0f} events/s; {WRITERS} {many:,.0f}/s"
    yield Figure(AREA, f"{what}: total rate", ratios, "x one writer", beside, _RATE)
    yield from _waits(
        what,
        [[wait for run in runs for wait in run.waits] for runs in together],
        beside=_tail([wait for runs in alone for run in runs for wait in run.waits]),
        p99=_P99,
    )


def _in_rounds(
    folder: Path, kind: Kind, crowd: _Crowd, count: int, rounds: int
) -> tuple[list[list[Run]], list[list[Run]]]:
    """The runs of one writer alone, and of all together, round by round."""
    chance = random.Random(1)
    found: dict[int, list[list[Run]]] = {1: [], WRITERS: []}
    order = list(found)
    for number in range(-1, rounds):  # the first one warms up
        chance.shuffle(order)
        for writers in order:
            path = folder / f"{kind}-{crowd.name}-{number}-{writers}"
            # As many events alone as together: a log's checkpoints fall on both alike.
            runs = crowd.run(kind, path, writers, count * WRITERS // writers)
            _check_all_there(kind, path, count * WRITERS)
            if number >= 0:
                found[writers].append(runs)
    return found[1], found[WRITERS]


def _check_all_there(kind: Kind, path: Path, count: int) -> None:
    with closing(_BACKENDS[kind](path)) as log:
        stored = sum(1 for _ in log.read())
    if stored != count:
        raise RuntimeError(f"{path.name}: {count} events were appended, {stored} are stored")


def _rate(runs: Sequence[Run]) -> float:
    """Events a second, of all writers together."""
    elapsed = max(run.ended for run in runs) - min(run.began for run in runs)
    return sum(len(run.waits) for run in runs) * 1e9 / elapsed


def _waits(
    what: str, rounds: Sequence[Sequence[int]], *, beside: str, p99: Bar
) -> Iterator[Figure]:
    yield Figure(
        AREA, f"{what}: p99 of one append", Spread.of(map(_p99, rounds)).times(1e-6), "ms",
        beside, p99,
    )  # fmt: skip
    longest = [max(waits) for waits in rounds]
    worst = max(longest) / 1e6
    yield Figure(
        AREA, f"{what}: longest wait", Spread(worst, min(longest) / 1e6, worst), "ms",
        f"in {sum(map(len, rounds)):,} appends; the quartiles are the rounds' range", _LONGEST,
    )  # fmt: skip


def _tail(waits: Sequence[int]) -> str:
    return f"one alone {shown(_p99(waits))}, longest {shown(max(waits))}"


def _p99(waits: Sequence[int]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[98]


# -- beside a rebuild


def _beside_rebuilds(folder: Path, kind: Kind, *, quick: bool) -> Iterator[Figure]:
    """One process appends at a steady pace while another makes all rows anew, again and again."""
    folder.mkdir()
    path = folder / "log"
    log = _BACKENDS[kind](path)
    fill(log, 1_000 if quick else 10_000)
    log.close()
    context = multiprocessing.get_context("spawn")
    rebuilding, stop = context.Event(), context.Event()
    other = context.Process(target=_rebuild_until, args=(kind, path, rebuilding, stop))
    rounds: list[list[int]] = []
    with closing(_BACKENDS[kind](path)) as log:
        alone = _paced(log, _events(1, 500 if quick else 2_000))
        other.start()
        if not rebuilding.wait(_PATIENCE):
            raise RuntimeError("the process that rebuilds did not begin")
        for number in range(3 if quick else 7):
            rounds.append(_paced(log, _events(2 + number, 500 if quick else 3_000)))
        stop.set()
        other.join(_PATIENCE)
    if other.exitcode != 0:
        raise RuntimeError(f"the process that rebuilds ended with {other.exitcode}")
    yield from _waits(
        f"an append to {kind} beside a rebuild", rounds, beside=_tail(alone), p99=Bar(20, "at most")
    )


def _paced(log: LogBackend, events: Sequence[NewEvent]) -> list[int]:
    waits = []
    for event in events:
        before = time.perf_counter_ns()
        log.append([event])
        waits.append(time.perf_counter_ns() - before)
        time.sleep(_PAUSE)
    return waits


def _rebuild_until(kind: Kind, path: Path, rebuilding: Event, stop: Event) -> None:
    with LogStore(_BACKENDS[kind](path)) as store:
        while not stop.is_set():
            store.rebuild(progress=lambda *_: rebuilding.set())
