"""The page of lllm beside other viewers of sessions, with the same content in all of them.

Each viewer is a server of its own on this machine, and is looked at in the same browser, in turns.
Requests to other hosts are refused at once, so that nobody waits for them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.browser import NoBrowser, NothingSeen, Visit, started_browser, visited
from benchmarks.measure import Figure, Spread, milliseconds
from benchmarks.peers.environments import NotInstalled
from benchmarks.viewers.conversations import Conversation, conversations, write_transcripts
from benchmarks.viewers.servers import NotAnswering, Viewer, viewers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AREA = "viewers"
_ROWS = 20  # rows at the top of a list that are read
# What of a row's text is inside of the window and of all that scrolls around it.
_IN_SIGHT = """(rows) => rows.map((row) => {
    const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
    let text = '';
    while (walker.nextNode()) {
        const range = document.createRange();
        range.selectNodeContents(walker.currentNode);
        const box = range.getBoundingClientRect();
        let left = 0, right = innerWidth;
        for (let at = walker.currentNode.parentElement; at; at = at.parentElement) {
            if (getComputedStyle(at).overflowX !== 'visible' && at !== document.body) {
                const around = at.getBoundingClientRect();
                left = Math.max(left, around.left);
                right = Math.min(right, around.right);
            }
        }
        if (box.width && box.left < right && box.right > left) {
            text += ' ' + walker.currentNode.textContent;
        }
    }
    return text;
})"""


def figures(folder: Path, venvs: Path | None, sessions: int, *, rounds: int) -> Iterator[Figure]:
    """lllm beside agentsview and Phoenix.

    Args:
        folder: A folder for all that is stored.
        venvs: The folder of the environments of the peers; None to measure lllm alone.
        sessions: How many sessions each viewer is given.
        rounds: How often each page is opened.
    """
    area = f"{AREA}, {sessions:,} sessions"
    folder.mkdir()
    transcripts = folder / "transcripts"
    write_transcripts(transcripts, sessions)
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(started_browser())
        except NoBrowser as error:
            yield _not_measured(area, "pages in a browser", str(error))
            return
        there: list[Viewer] = []
        for name, start in viewers(stack, folder, transcripts, sessions, venvs):
            try:
                there.append(start())
            except (NotInstalled, NotAnswering) as error:
                yield _not_measured(area, name, str(error))
        yield from _of_starting(area, there)
        yield from _of_pages(area, browser, there, list(conversations(sessions)), rounds)
        for viewer in there:
            value = Spread.of([viewer.memory()])
            yield Figure(area, f"memory after that: {viewer.name}", value, "MB")


def _not_measured(area: str, what: str, reason: str) -> Figure:
    return Figure(area, what, Spread.of([math.nan]), "", reason)


def _of_starting(area: str, there: list[Viewer]) -> Iterator[Figure]:
    for viewer in there:
        what = f"taking in all sessions, with the first start: {viewer.name}"
        yield Figure(area, what, Spread.of([viewer.taken_in]), "s")
    for viewer in there:
        what = f"start to the first answer, when all are there: {viewer.name}"
        yield Figure(area, what, Spread.of([viewer.started]), "s")


def _of_pages(
    area: str, browser: Browser, there: list[Viewer], said: list[Conversation], rounds: int
) -> Iterator[Figure]:
    newest = said[-1]
    whole = next(one for one in reversed(said) if one.answer is not None)
    lists: defaultdict[str, list[Visit]] = defaultdict(list)
    sessions: defaultdict[str, list[Visit]] = defaultdict(list)
    rows: dict[str, list[str]] = {}
    newest_row, end = f"text=Question {newest.number}:", f"text={str(whole.answer)[-40:]}"
    for number in range(-1, rounds):  # the first round fills the servers' caches
        for viewer in there if number % 2 else there[::-1]:
            try:
                with visited(browser, viewer.home, newest_row) as (page, visit):
                    if number < 0:
                        rows[viewer.name] = _rows_in_sight(page, viewer)
                with visited(browser, viewer.session(whole), end) as (_, opened):
                    pass
            except NothingSeen as error:
                yield _not_measured(area, f"pages: {viewer.name}", str(error))
                there = [one for one in there if one is not viewer]
                continue
            if number >= 0:
                lists[viewer.name].append(visit)
                sessions[viewer.name].append(opened)
    for what, visits in (("list to its rows", lists), ("session by its address", sessions)):
        for viewer in there:
            yield _seen(area, f"{what}: {viewer.name}", visits[viewer.name])
    for viewer in there:
        yield _loaded(area, viewer, lists[viewer.name])
    for viewer in there:
        yield from _shown(area, viewer, rows[viewer.name])


def _seen(area: str, what: str, visits: list[Visit]) -> Figure:
    paint = Spread.of(visit.painted for visit in visits).median
    beside = f"first paint {paint:.0f} ms" if visits else ""
    return Figure(area, what, milliseconds([visit.seen for visit in visits]), "ms", beside)


def _loaded(area: str, viewer: Viewer, visits: list[Visit]) -> Figure:
    hosts = sorted({host for visit in visits for host in visit.foreign})
    asked = f"asks {', '.join(hosts)}" if hosts else "asks no other host"
    beside = f"{Spread.of(visit.requests for visit in visits).median:.0f} requests; {asked}"
    loaded = Spread.of(visit.bytes / 1e3 for visit in visits)
    return Figure(area, f"loaded for the list until its rows: {viewer.name}", loaded, "kB", beside)


def _rows_in_sight(page: Page, viewer: Viewer) -> list[str]:
    page.wait_for_timeout(1_000)  # a list may be filled in steps
    rows = page.locator(viewer.rows).evaluate_all(_IN_SIGHT)
    return [str(row) for row in rows if "Question" in row][:_ROWS]


def _shown(area: str, viewer: Viewer, rows: list[str]) -> Iterator[Figure]:
    """How many rows say in words, not scrolled sideways, a cost, and that a session failed."""
    costs = sum("$" in row for row in rows)
    failures = [row for row in rows if "9:" in row.partition("Question")[2][:8]]
    told = sum(any(word in row.lower() for word in ("fail", "error", "✗")) for row in failures)
    for what, part, all_rows in (
        ("rows in sight that show a cost", costs, len(rows)),
        ("failed ones in sight that say so in words", told, len(failures)),
    ):
        value = Spread.of([100 * part / all_rows if all_rows else math.nan])
        yield Figure(area, f"{what}: {viewer.name}", value, "%", f"{part} of {all_rows}")
