"""How things are measured here, so that two figures can be compared.

Operations that are compared run in the same rounds, each once a round, in an order that is drawn
anew every time: whatever else the machine does meets all of them alike. A ratio is taken within a
round, and shown as the median over the rounds with the quartiles beside it. What has to be done
between two rounds (checkpoints, fresh files) is done where no clock runs.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import msgspec

Operation = Callable[[], object]
Nanoseconds = list[int]


class Spread(msgspec.Struct, frozen=True):
    """The median of some measurements, and the quartiles below and above it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(median, low, high)

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


class Bar(msgspec.Struct, frozen=True):
    """What a figure is held against."""

    limit: float
    side: Literal["at most", "at least"]

    def met_by(self, value: float) -> bool:
        """Whether a figure is on the right side."""
        return value <= self.limit if self.side == "at most" else value >= self.limit


class Figure(msgspec.Struct, frozen=True):
    """One line of the result.

    value: in `unit`. beside: what was measured in the same rounds, as text. bar: None where nothing
    was promised.
    """

    area: str
    what: str
    value: Spread
    unit: str
    beside: str = ""
    bar: Bar | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met, by the median."""
        return None if self.bar is None else self.bar.met_by(self.value.median)


def in_rounds(
    operations: Mapping[str, Operation],
    rounds: int,
    *,
    between: Operation | None = None,
    warm_up: int = 3,
    seed: int = 1,
) -> dict[str, Nanoseconds]:
    """Run every operation once a round, in random order; returns what each took in each round.

    between: run after each round, untimed. warm_up: rounds that are not counted.
    """
    chance = random.Random(seed)
    order = list(operations)
    taken: dict[str, Nanoseconds] = {name: [] for name in operations}
    with settled():
        for number in range(-warm_up, rounds):
            chance.shuffle(order)
            for name in order:
                operation = operations[name]
                began = time.perf_counter_ns()
                operation()
                elapsed = time.perf_counter_ns() - began
                if number >= 0:
                    taken[name].append(elapsed)
            if between is not None:
                between()
    return taken


@contextmanager
def settled() -> Iterator[None]:
    """The garbage collector runs as it does for users, but does not walk what is ours."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ratio(over: Sequence[int], under: Sequence[int]) -> Spread:
    """How many times as long the one took as the other, round by round."""
    return Spread.of(one / other for one, other in zip(over, under, strict=True))


def milliseconds(taken: Sequence[int]) -> Spread:
    """Measurements in nanoseconds, in milliseconds."""
    return Spread.of(taken).times(1e-6)


def shown(nanoseconds: float) -> str:
    """A time for people."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def median_shown(taken: Sequence[int]) -> str:
    """The median of measurements in nanoseconds, for people."""
    return shown(statistics.median(taken))


def in_digits(value: float) -> str:
    """A figure for people, to three digits or to the whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
