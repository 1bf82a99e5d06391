"""What exporting a store to Parquet files costs, in time of one core: beside reading its log."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.generate import fill
from benchmarks.measure import Bar, Figure, Spread
from lllm import LogStore, SQLiteBackend
from lllm.events import codec

_SECONDS = 10**9
# Linux: not ru_maxrss, which begins with what the benchmark's process had when it forked.
_EXPORT = """
import re, resource, sys, lllm

def peak():
    try:
        with open("/proc/self/status") as status:
            return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]) * 1024
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

store = lllm.LogStore.open(sys.argv[1])
store.to_arrow("tags")
before = peak()
store.export_parquet(sys.argv[2])
print(before, peak())
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Three figures: the rate of a whole export, of one without changes, and its memory."""
    folder.mkdir()
    path, tables = folder / "runs.db", folder / "tables"
    with closing(SQLiteBackend(path)) as log:
        events = fill(log, 1_000 if quick else 20_000).events
    with LogStore(SQLiteBackend(path)) as store:
        store.list_sessions(limit=1)
        store.to_arrow("tags")  # loads pyarrow, which is not measured

        def whole() -> None:
            shutil.rmtree(tables, ignore_errors=True)
            store.export_parquet(tables)

        def scanned() -> None:
            for event in store.backend.read():
                codec.decode(event)

        rounds = [(_took(whole), _took(scanned)) for _ in range(3 if quick else 7)]
        again = [_took(lambda: store.export_parquet(tables)) for _ in range(5)]
    rates = Spread.of(events * _SECONDS / export for export, _ in rounds)
    beside = Spread.of(export / scan for export, scan in rounds)
    yield Figure(
        "parquet", f"export of {events:,} events, one core", rates, "events/s",
        f"{beside.median:.1f} times reading and decoding the log", Bar(100_000, "at least"),
    )  # fmt: skip
    yield Figure(
        "parquet", "a second export, nothing changed", Spread.of(one / 10**6 for one in again),
        "ms", "time of one core",
    )  # fmt: skip
    yield _memory(path, folder / "again", events)


def _took(operation: Callable[[], object]) -> int:
    """Nanoseconds that this process was running."""
    began = time.process_time_ns()
    operation()
    return time.process_time_ns() - began


def _memory(path: Path, tables: Path, events: int) -> Figure:
    command = [sys.executable, "-c", _EXPORT, str(path), str(tables)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    return Figure(
        "parquet", f"memory for {events:,} events, besides libraries",
        Spread.of([(after - before) / 2**20]), "MiB", "peak of a new process",
        Bar(400, "at most"),
    )  # fmt: skip
