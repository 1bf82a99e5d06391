"""lllm beside its peers, in one run.

Ratios are taken within a round, as everywhere here. A peer that is not there, or fails, stays in
the table with its reason.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Figure, Nanoseconds, Spread, median_shown, ratio
from benchmarks.peers.environments import PEERS, NotInstalled, interpreter
from benchmarks.peers.pairs import BARE, EVENTS, LIMITS, LLLM, OTEL, QUESTIONS, SESSIONS, Pair
from benchmarks.peers.work import Work, work
from benchmarks.peers.workers import Failed, Measured, Turn, Worker, in_rounds

AREA = "beside its peers"
_UNKNOWN = Spread(math.nan, math.nan, math.nan)
_LONG = {"append 1,000", "append 1,000 objects", "scan"}  # operations; once a round is enough
_MANY = 200  # sessions one after another, for checkpoints to fall among them

Workers = dict[str, Worker | Failed]


def figures(
    folder: Path, venvs: Path, *, quick: bool, told: Callable[[str], None]
) -> Iterator[Figure]:
    """Everything that is measured beside peers.

    folder: not there yet, for what is stored. venvs: for the environments of the peers, used
    again when they are there. told: called with what is being done, before it is.
    """
    folder.mkdir()
    with ExitStack() as stack:
        stored = 200 if quick else 1_000
        given = work(sessions=stored, scanned=5_000 if quick else 50_000)
        workers = _started(folder, venvs, given, stack, told)
        told("storing a session, beside peers")
        yield from compared(workers, (*SESSIONS, *LIMITS), rounds=10 if quick else 100, times=5)
        yield _with_checkpoints(workers, rounds=3 if quick else 10)
        told(f"filling stores with {stored:,} sessions, and asking them")
        area = f"{AREA}, {stored:,} sessions"
        yield from compared(workers, QUESTIONS, rounds=5 if quick else 30, times=3, area=area)
        told("appending and reading events, beside peers")
        yield from compared(workers, EVENTS, rounds=10 if quick else 50, times=100)
        yield _dropped(workers, bursts=2 if quick else 5)
        yield _found_again(workers)


def _started(
    folder: Path, venvs: Path, given: Work, stack: ExitStack, told: Callable[[str], None]
) -> Workers:
    workers: Workers = {}
    ours = Worker(
        LLLM, Path(sys.executable), "lllm_worker.py", folder / LLLM, given, isolated=False
    )
    workers[LLLM] = stack.enter_context(ours)
    for peer in PEERS:
        try:
            told(f"setting up {peer.name} {peer.version}")
            python = interpreter(peer, venvs)
            worker = Worker(
                peer.name, python, peer.worker, folder / peer.name, given, isolated=True
            )
            workers[peer.name] = stack.enter_context(worker)
        except (NotInstalled, Failed) as error:
            workers[peer.name] = Failed(f"{peer.name} {peer.version} was not measured: {error}")
    return workers


def compared(
    workers: Workers, pairs: Sequence[Pair], *, rounds: int, times: int, area: str = AREA
) -> Iterator[Figure]:
    """A figure for each pair, all measured in the same rounds."""
    work_of = {(LLLM, pair.ours) for pair in pairs} | {(pair.peer, pair.theirs) for pair in pairs}
    turns = [Turn(*one, _times(*one, times)) for one in sorted(work_of)]
    measured = in_rounds(workers, turns, rounds)
    for pair in pairs:
        yield _figure(workers, pair, measured, area)


def _times(worker: str, operation: str, times: int) -> int:
    return 1 if worker == "mlflow" or operation in _LONG else times


def _figure(workers: Workers, pair: Pair, measured: Measured, area: str) -> Figure:
    what = f"{pair.what} / {pair.peer}"
    unit = "x its rate" if pair.rate else "x its time"
    try:
        ours, theirs = measured.of(LLLM, pair.ours), measured.of(pair.peer, pair.theirs)
    except Failed as failure:
        return Figure(area, what, _UNKNOWN, unit, str(failure), pair.bar)
    value = ratio(theirs, ours) if pair.rate else ratio(ours, theirs)
    return Figure(area, what, value, unit, _beside(workers, pair, ours, theirs), pair.bar)


def _beside(workers: Workers, pair: Pair, ours: Nanoseconds, theirs: Nanoseconds) -> str:
    peer = _there(workers, pair.peer).name
    us = BARE if pair.ours == BARE else LLLM
    shown = f"{us} {median_shown(ours)}; {peer} {median_shown(theirs)}"
    return f"{shown} ({pair.note})" if pair.note else shown


def _with_checkpoints(workers: Workers, rounds: int) -> Figure:
    """The mean of many sessions one after another, each side checkpointing when it would."""
    what = "a session, SQLite, mean with checkpoints / lllm-core"
    means: dict[str, Nanoseconds] = {LLLM: [], "lllm-core": []}
    try:
        for _ in range(rounds):
            for name, taken in means.items():
                taken.append(sum(_there(workers, name).run("session", _MANY)) // _MANY)
    except Failed as failure:
        return Figure(AREA, what, _UNKNOWN, "x its time", str(failure))
    ours, theirs = means.values()
    beside = f"lllm {median_shown(ours)}; {_there(workers, 'lllm-core').name} "
    return Figure(AREA, what, ratio(ours, theirs), "x its time", beside + median_shown(theirs))


def _there(workers: Workers, name: str) -> Worker:
    worker = workers[name]
    if isinstance(worker, Failed):
        raise worker
    return worker


def _dropped(workers: Workers, bursts: int) -> Figure:
    """Spans of sessions that end faster than a thread writes them. lllm has no such queue."""
    what = "spans dropped of 500 sessions in a burst, BatchSpanProcessor"
    lost = []
    try:
        worker = _there(workers, OTEL)
        found_before = given_before = 0
        for _ in range(bursts):
            worker.run("burst", 1)
            found, given = worker.stored()["burst"]
            lost.append(100 - 100 * (found - found_before) / (given - given_before))
            found_before, given_before = found, given
    except Failed as failure:
        return Figure(AREA, what, _UNKNOWN, "%", str(failure))
    return Figure(AREA, what, Spread.of(lost), "%", f"{worker.name}, its defaults")


def _found_again(workers: Workers) -> Figure:
    """Whether everybody did the work: the worst of all stores, after everything."""
    shares = []
    told = []
    for name in workers:
        try:
            stored = _there(workers, name).stored()
        except Failed as failure:
            told.append(f"{name}: {failure}")
            continue
        for what, (found, given) in stored.items():
            if what == "burst" or not given:
                continue
            shares.append(100 * found / given)
            if found != given:
                told.append(f"{name}, {what}: {found:,} of {given:,}")
    beside = "; ".join(told) or "every store holds what it was given, but for that burst"
    least = Spread.of([min(shares)]) if shares else _UNKNOWN
    return Figure(AREA, "found again in the store that has least", least, "%", beside)
