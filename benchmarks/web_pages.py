"""What the web page of a store takes: its start, its memory, and each page until it is there whole.

`lllm web` runs in a process of its own, as for a user, and is asked over HTTP. Beside each time
stands the processor time that the server used for it, which a busy machine changes less. A browser
needs some more to draw; see `lllm/web` for what it is sent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from benchmarks.generate import fill, one_session
from benchmarks.measure import Bar, Figure, Operation, Spread, in_rounds, milliseconds
from benchmarks.web_server import Page, serving
from lllm import LogStore, SQLiteBackend
from lllm.web.app import STATIC

AREA = "web"
RARE = "zanzibar"  # a word that no generated text has
COMMON = "refunds region"
_PAGES = {"rows": "x-lllm-part"}
_LONG, _LONG_QUICK = 2_730, 270  # agents of the long session, for about 30,000 events or 3,000
_START = Bar(600, "at most")
_MEMORY = Bar(80, "at most")
_LIST, _FILTER, _COST, _LIVE = (Bar(limit, "at most") for limit in (150, 200, 300, 300))
_SESSION = Bar(150, "at most")
_RARE, _COMMON = Bar(30, "at most"), Bar(150, "at most")
_OWN = Bar(100, "at most")
# The filters and orders that a list is asked for; user-500 has few sessions, prod has most.
PAIRS = {
    "failures": "state=failure",
    "a tactic, the dearest": "tactic=shop%3A%3Aanalyzer&sort=cost",
    "a tag of 80 %": "tag=env%3Dprod",
    "a tag of 80 %, the dearest": "tag=env%3Dprod&sort=cost",
    "a rare tag": "tag=user%3Duser-500",
    "two tags": "tag=env%3Dprod&tag=experiment%3Dv1",
    "two tags and a state": "tag=env%3Dprod&tag=experiment%3Dv1&state=failure",
    "a tactic and a state": "tactic=lab%3A%3Aresearcher&state=failure",
    "a week": "after=2026-01-08&before=2026-01-15",
    "a week, the dearest": "after=2026-01-08&before=2026-01-15&sort=cost",
    "a tactic and a tag in a week": "tactic=shop%3A%3Aanalyzer&tag=env%3Dprod&after=2026-01-08",
    "all, the dearest": "sort=cost",
}


def make(path: Path, sessions: int, *, quick: bool) -> tuple[str, str]:
    """Make a store of so many small sessions, one of about 200 events, and a long one.

    Returns the ids of the last two.
    """
    with closing(SQLiteBackend(path)) as log:
        fill(log, sessions, shape="small", halves=True)
        usual = one_session(log, 0, agents=16)
        long = one_session(log, 1, agents=_LONG_QUICK if quick else _LONG)
    with LogStore(SQLiteBackend(path)) as store:
        for number in range(5):
            with store.session("shop::analyzer", task=f"a letter from {RARE}, {number}"):
                pass
        store.list_sessions(limit=1)
    return usual, long


def figures(path: Path, sessions: int, ids: tuple[str, str], *, quick: bool) -> Iterator[Figure]:
    """All that is measured of the page of a store that `make` made."""
    rounds = 5 if quick else 30
    area = f"{AREA}, {sessions:,} sessions"
    yield _of_starting(path, area, 3 if quick else 10)
    with serving(path) as page:
        for _ in range(5):
            page.get("/")
        yield Figure(
            area, "memory, when lists were shown", Spread.of([page.memory()]), "MB", bar=_MEMORY
        )
        yield from _of_pages(page, area, _questions(ids), rounds)
        yield from _live(page, path, area, rounds)
        yield Figure(
            area, "memory, the most in all of this", Spread.of([page.memory("VmHWM")]), "MB",
            f"with the session of {_events(path, ids[1]):,} events",
        )  # fmt: skip
    yield _own_files(area)


def _of_starting(path: Path, area: str, rounds: int) -> Figure:
    taken, used = [], []
    for number in range(-1, rounds):  # the first start compiles the modules
        with serving(path) as page:
            if number >= 0:
                taken.append(page.started)
                used.append(page.cpu())
    beside = f"{statistics.mean(used) * 1e3:.0f} ms CPU"
    return Figure(
        area, "start to the first answer, a list", milliseconds(taken), "ms", beside, _START
    )


def _questions(ids: tuple[str, str]) -> dict[str, tuple[str, Bar | None]]:
    usual, long = ids
    return {
        "list": ("/", _LIST),
        **{f"list: {name}": (f"/?{query}", _FILTER) for name, query in PAIRS.items()},
        "sums of the list": ("/sums", None),
        "session of 186 events": (f"/sessions/{usual}", _SESSION),
        "long session, again": (f"/sessions/{long}", None),
        "costs by tactic": ("/cost", _COST),
        "costs by model": ("/cost?by=model", _COST),
        "health": ("/health", None),
        "calls, the slowest": ("/calls?sort=elapsed", None),
        "search: one rare word": (f"/search?q={RARE}", _RARE),
        "search: two common words": (f"/search?q={quote(COMMON)}", _COMMON),
        # last, since it is the only one that loads the session anew: another was looked at
        # until all of it is there; a browser paints its heading earlier (`web_browser`)
        "long session": (f"/sessions/{long}", None),
    }


def _of_pages(
    page: Page, area: str, questions: Mapping[str, tuple[str, Bar | None]], rounds: int
) -> Iterator[Figure]:
    used: dict[str, list[float]] = {name: [] for name in questions}
    sizes: dict[str, int] = {}
    usual = questions["session of 186 events"][0]

    def asked(name: str, address: str) -> Operation:
        def ask() -> None:
            before = page.cpu()
            sizes[name] = len(page.get(address))
            used[name].append(page.cpu() - before)

        return ask

    operations = {
        name: asked(name, address)
        for name, (address, _) in questions.items()
        if not name.startswith("long session")
    }
    taken = in_rounds(operations, rounds, warm_up=1)
    anew, again = [], []
    for _ in range(max(3, rounds // 3)):
        page.get(usual)  # so that the long one is loaded anew
        for name, times in (("long session", anew), ("long session, again", again)):
            began = time.perf_counter_ns()
            asked(name, questions[name][0])()
            times.append(time.perf_counter_ns() - began)
    taken |= {"long session": anew, "long session, again": again}
    for name, (_, bar) in questions.items():
        beside = f"{statistics.mean(used[name]) * 1e3:.0f} ms CPU, {sizes[name] / 1e3:,.0f} kB"
        yield Figure(area, name, milliseconds(taken[name]), "ms", beside, bar)


def _live(page: Page, path: Path, area: str, rounds: int) -> Iterator[Figure]:
    """From an append by another process until the list that shows it is there."""
    with page.listening() as wait, closing(SQLiteBackend(path)) as log:
        taken = []
        for number in range(rounds):
            time.sleep(0.05 + 0.013 * (number % 10))  # at any moment between two looks
            began = time.perf_counter_ns()
            session = one_session(log, 10 + number)
            wait()
            text = page.get("/", {_PAGES["rows"]: "rows"})
            taken.append(time.perf_counter_ns() - began)
            assert session in text
    yield Figure(
        area, "an append, until the list with it is there", milliseconds(taken), "ms", bar=_LIVE
    )


def _own_files(area: str) -> Figure:
    sizes = [file.stat().st_size for file in STATIC.iterdir()]
    return Figure(
        area, "the page's own files", Spread.of([sum(sizes) / 1e3]), "kB",
        f"{len(sizes)} files", _OWN,
    )  # fmt: skip


def _events(path: Path, session_id: str) -> int:
    with LogStore(SQLiteBackend(path)) as store:
        return sum(1 for _ in store.events(session_id))
