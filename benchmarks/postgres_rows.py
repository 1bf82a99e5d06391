"""What rows in PostgreSQL cost: all anew, one session more, lists, sums, loading, the first page.

The server is as that of `postgres_logs`. A rebuild is held beside that of the same events in an
SQLite file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import get_args

from benchmarks.generate import fill, one_session
from benchmarks.measure import (
    Bar,
    Figure,
    Operation,
    Spread,
    in_rounds,
    median_shown,
    milliseconds,
)
from benchmarks.reads import asked_for, list_of
from lllm import LogStore, PostgresBackend, SQLiteBackend
from lllm.events.backends.postgres.server_url import parse_server_url
from lllm.projections.queries.filters import SessionSort

AREA = "postgres"
_SETTINGS = {
    "fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}  # fmt: skip
_BUILT, _BUILT_QUICK = 10_000, 1_000  # sessions of a rebuild, about 28 events each
_READ, _READ_QUICK = (100_000, 1_000_000), (2_000,)  # small sessions of lists
_LONG = 16  # agents of the session that is loaded, for about 200 events
_NEWEST = """
    SELECT * FROM sessions AS s LEFT JOIN session_totals AS t ON t.session = s.number
    WHERE s.parent IS NULL AND s.replays IS NULL ORDER BY s.started DESC LIMIT 50"""
_PAGE = """
import time
import lllm.events.backends.postgres.backend
import lllm.projections.engine.postgres.database
import lllm.store.log_store
from lllm import LogStore
began = time.perf_counter()
with LogStore.open({url!r}) as store:
    assert len(store.list_sessions(limit=50)) == 50
    print(time.perf_counter() - began)
"""


def figures(*, quick: bool) -> Iterator[Figure]:
    """Everything that a reader waits for."""
    from tests.support.postgres import Server, new_schema  # an installed lllm has no tests

    server = Server(_SETTINGS)
    try:
        yield _rebuilt(server.url(new_schema()), _BUILT_QUICK if quick else _BUILT, quick=quick)
        for roots in _READ_QUICK if quick else _READ:
            url = server.url(new_schema())
            yield from figures_of(url, roots, _made(url, roots), quick=quick)
    finally:
        server.remove()


def _made(url: str, roots: int) -> str:
    """Fill a new store; returns the id of a session of many events in it."""
    log = PostgresBackend(url)
    try:
        fill(log, roots, shape="small")
        return one_session(log, 0, agents=_LONG)
    finally:
        log.close()


def figures_of(url: str, roots: int, long: str, *, quick: bool) -> Iterator[Figure]:
    """What the readers of one store wait for.

    roots: how many top-level sessions it has. long: the id of a session of about 200 events.
    """
    area = f"{AREA} rows, {roots:,} sessions"
    with LogStore.open(url) as store:
        yield _catching_up(store, area, 30 if quick else 200)
        yield from _lists(url, area, _of_every_kind(store, roots), 20 if quick else 100)
        yield from _sums_and_loading(store, area, long, 20 if quick else 100)
    yield _first_page(url, area, 3 if quick else 10)


def _rebuilt(url: str, roots: int, *, quick: bool) -> Figure:
    with tempfile.TemporaryDirectory(prefix="lllm-rebuilt-") as folder:
        file = SQLiteBackend(Path(folder) / "runs.db")
        backend = PostgresBackend(url)
        events = fill(file, roots).events
        fill(backend, roots)
        with LogStore(file) as one, LogStore(backend) as other:
            for store in (one, other):
                store.rebuild(search=False)
            operations = {"SQLite": one.rebuild, "PostgreSQL": other.rebuild}
            taken = in_rounds(operations, 3 if quick else 5, warm_up=1)
    rates = Spread.of(events * 1e9 / one for one in taken["PostgreSQL"])
    beside = f"{median_shown(taken['PostgreSQL'])}; in SQLite {median_shown(taken['SQLite'])}"
    what = f"rebuild of all rows but those of searches, {events:,} events"
    return Figure(AREA, what, rates, "events/s", beside, Bar(60_000, "at least"))


def _catching_up(store: LogStore, area: str, rounds: int) -> Figure:
    numbers = count(1)

    def catch_up() -> None:
        store.list_sessions(limit=0)

    def between() -> None:
        catch_up()
        one_session(store.backend, next(numbers))

    between()
    taken = in_rounds({"one": catch_up}, rounds, between=between)["one"]
    what = "catching up with one session, and its words"
    return Figure(area, what, milliseconds(taken), "ms", bar=Bar(4, "at most"))


def _of_every_kind(store: LogStore, roots: int) -> Mapping[str, Operation]:
    """Lists by start for each filter and pair, and in every other order."""
    asked = asked_for(roots)
    lists = {name: list_of(store, one) for name, one in asked.items()}
    for name in ("no filter", "a tag of 80 %", "a tag and a state"):
        for sort in get_args(SessionSort):
            if sort != "started":
                lists[f"{name}, by {sort}"] = partial(
                    store.list_sessions, limit=50, sort=sort, **asked[name]
                )
    return lists


def _lists(url: str, area: str, lists: Mapping[str, Operation], rounds: int) -> Iterator[Figure]:
    """Each list, and in the same rounds its largest part, a SELECT that psycopg has prepared."""
    import psycopg

    at = parse_server_url(url)
    with psycopg.connect(at.conninfo, autocommit=True) as connection:
        connection.execute("SELECT set_config('search_path', %s, false)", (at.schema,))
        newest = partial(connection.execute, _NEWEST, prepare=True)
        taken = in_rounds({**lists, "bare": lambda: newest().fetchall()}, rounds)
    beside = f"the newest 50 rows by hand {median_shown(taken['bare'])}"
    for name in lists:
        what = f"list_sessions(limit=50): {name}"
        yield Figure(area, what, milliseconds(taken[name]), "ms", beside, Bar(3, "at most"))


def _sums_and_loading(store: LogStore, area: str, long: str, rounds: int) -> Iterator[Figure]:
    taken = in_rounds(
        {
            "export_cost_summary()": store.export_cost_summary,
            "export_cost_summary(group_by='model')": lambda: store.export_cost_summary(
                group_by="model"
            ),
            "load_session, about 200 events": lambda: store.load_session(long),
        },
        rounds,
    )
    for what, times in taken.items():
        bar = Bar(5 if what.startswith("load") else 10, "at most")
        yield Figure(area, what, milliseconds(times), "ms", bar=bar)


def _first_page(url: str, area: str, rounds: int) -> Figure:
    run = [sys.executable, "-c", _PAGE.format(url=url)]
    seconds = []
    for _ in range(rounds):
        time.sleep(0.1)
        seconds.append(float(subprocess.run(run, check=True, capture_output=True).stdout))
    what = "opening the store in a process that has imported lllm, and the first page"
    return Figure(area, what, Spread.of(seconds).times(1e3), "ms", bar=Bar(50, "at most"))
