"""What the page of a store takes in a browser, and what open tabs cost who writes to the store."""

from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.browser import NoBrowser, started_browser, visited
from benchmarks.measure import Bar, Figure, Spread
from benchmarks.web_server import Page, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_PAINTED = Bar(400, "at most")
_SLOWED = Bar(10, "at most")
_TABS = 3
_PAIRS, _PAIRS_QUICK = 20, 3
_APPENDS, _APPENDS_QUICK = 1_000, 100  # in one half of a pair
_DRAWN = 2_000  # samples of the pairs, for the interval


def figures(path: Path, area: str, ids: tuple[str, str], *, quick: bool) -> Iterator[Figure]:
    """First paints of the list and of sessions, and the appends of a writer beside open tabs.

    Args:
        path: The store.
        area: The area of the figures.
        ids: A session of about 200 events, and a long one.
        quick: True for fewer rounds.
    """
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(started_browser())
        except NoBrowser as error:
            yield Figure(area, "first paint in a browser", Spread.of([math.nan]), "ms", str(error))
            return
        page = stack.enter_context(serving(path))
        yield from _painted(browser, page, area, ids, 3 if quick else 15)
        pairs, count = (_PAIRS_QUICK, _APPENDS_QUICK) if quick else (_PAIRS, _APPENDS)
        yield _beside_tabs(browser, page, area, path, pairs, count)


def _painted(
    browser: Browser, page: Page, area: str, ids: tuple[str, str], rounds: int
) -> Iterator[Figure]:
    """Each page in a fresh profile; a session is loaded anew, since another was looked at."""
    usual, long = ids
    addresses = {
        "the list": ("/", "tbody tr"),
        "a session of 186 events": (f"/sessions/{usual}", "main"),
        "the long session": (f"/sessions/{long}", "details.step"),
    }
    taken: dict[str, list[float]] = {name: [] for name in addresses}
    used: dict[str, list[float]] = {name: [] for name in addresses}
    steps: list[float] = []  # milliseconds until the steps of the long session are visible
    for number in range(-1, rounds):
        for name, (address, selector) in addresses.items():
            before = page.cpu()
            with visited(browser, page.url(address), selector) as (tab, visit):
                tab.wait_for_load_state("load")  # of the rest, which would slow the next page
            if number >= 0 and selector == "details.step":
                steps.append(visit.seen / 1e6)
            if number >= 0:
                taken[name].append(visit.painted)
                used[name].append(page.cpu() - before)
    for name, values in taken.items():
        beside = f"{statistics.mean(used[name]) * 1e3:.0f} ms CPU of the server"
        bar = _PAINTED if name == "the long session" else None
        yield Figure(area, f"first paint of {name}", Spread.of(values), "ms", beside, bar)
    yield Figure(area, "steps of the long session, when they are seen", Spread.of(steps), "ms")


def _beside_tabs(
    browser: Browser, page: Page, area: str, path: Path, pairs: int, count: int
) -> Figure:
    """By how much open tabs slow the slowest appends of another process, pair by pair."""
    chance = random.Random(1)
    slowed: list[float] = []
    alone: list[float] = []
    context = browser.new_context()
    tabs = [context.new_page() for _ in range(_TABS)]

    def measured(*, with_tabs: bool) -> float:
        for tab in tabs:
            tab.goto(page.url("/") if with_tabs else "about:blank")
            if with_tabs:
                tab.wait_for_selector("#live.on")
        return _p99(path, count)

    for number in range(-1, pairs):
        order = chance.sample((True, False), k=2)
        found = {with_tabs: measured(with_tabs=with_tabs) for with_tabs in order}
        if number >= 0:
            slowed.append(100 * (found[True] / found[False] - 1))
            alone.append(found[False])
    context.close()
    low, high = _interval(slowed)
    return Figure(
        area, f"{_TABS} open tabs: p99 of an append by another process, longer by",
        Spread(statistics.median(slowed), low, high), "%",
        f"{pairs} pairs of {count:,} appends, 95 % interval of the median; alone "
        f"{statistics.median(alone) / 1e6:.2f} ms; {os.cpu_count()} cores for all",
        _SLOWED,
    )  # fmt: skip


def _p99(path: Path, count: int) -> float:
    """What the slowest of a hundred appends of another process takes, in nanoseconds."""
    command = [sys.executable, "-m", "benchmarks.paced_writer", str(path), str(count)]
    written = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(written.stdout)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval that has the median of such pairs in 95 of 100 cases, by resampling."""
    chance = random.Random(1)
    medians = sorted(
        statistics.median(chance.choices(values, k=len(values))) for _ in range(_DRAWN)
    )
    return medians[_DRAWN * 25 // 1000], medians[_DRAWN * 975 // 1000]
