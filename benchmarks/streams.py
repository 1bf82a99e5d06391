"""What memory a long streamed answer takes above the bare client: at its peak, and left afterwards.

Each answer is read in a process of its own, by the official SDK, captured and not captured. What
Python counts (tracemalloc) and what the system says (resident memory) are taken in different
processes, since counting takes memory, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Bar, Figure, Spread

AREA = "stream"
# Small pieces take as long as the SDK takes with them: some ten seconds for 50 MB.
_STREAMS = (
    ("chat", 100_000, "sqlite"), ("chat", 100_000, "jsonl"), ("responses", 100_000, "sqlite"),
    ("anthropic", 100_000, "sqlite"), ("chat", 1_000, "sqlite"), ("anthropic", 1_000, "sqlite"),
)  # fmt: skip
_TRACED = ("chat", 100_000, "sqlite")  # counting what Python allocates takes many times as long
_LONGEST = 300  # seconds for one answer, before something must be wrong


def figures(*, quick: bool) -> Iterator[Figure]:
    """Peak and rest for each kind of stream, size of its pieces and kind of log."""
    megabytes = 10 if quick else 50
    for stream in _STREAMS:
        for counted in ("resident", "traced") if stream == _TRACED else ("resident",):
            yield from _figures(megabytes, stream, counted)


def _figures(megabytes: int, stream: tuple[str, int, str], counted: str) -> Iterator[Figure]:
    kind, piece, log = stream
    bare, captured = (
        _measured(kind, megabytes, piece, how, counted, log) for how in ("bare", "captured")
    )
    what = f"{megabytes} MB, {kind} in pieces of {piece // 1_000} kB, {log}, {counted}"
    above = (captured["peak"] - bare["peak"]) / 1e6 / megabytes
    yield Figure(AREA, f"{what}: peak above the bare client", _one(above), "x body",
                 f"bare {bare['peak'] / 1e6:.0f}; captured {captured['peak'] / 1e6:.0f} MB",
                 Bar(2.1, "at most"))  # fmt: skip
    left = (captured["left"] - bare["left"]) / 1e6
    yield Figure(AREA, f"{what}: left afterwards", _one(left), "MB", "", Bar(2, "at most"))


def _one(value: float) -> Spread:
    return Spread(value, value, value)


def _measured(
    kind: str, megabytes: int, piece: int, how: str, counted: str, log: str
) -> dict[str, int]:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream_worker", kind, str(megabytes), str(piece), how,
         counted, log],
        check=True, capture_output=True, timeout=_LONGEST,
    ).stdout  # fmt: skip
    found: dict[str, int] = json.loads(told)
    return found
