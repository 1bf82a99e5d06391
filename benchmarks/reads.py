"""What questions cost, at a thousand sessions and at a hundred thousand.

Two tags are asked for in several ways: the rarer one first, last, both common, and two common ones
that never meet, for which a list must look at every session of the rarer of them before it knows
that there is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.generate import APART
from benchmarks.measure import Bar, Figure, Operation, in_rounds, median_shown, milliseconds
from lllm import LogStore

AREA = "read"
_TACTIC = "shop::analyzer"
_APART = "two common ones that never meet"
_LISTS = {
    "the first tag rare": {"user": "user-30", "env": "prod"},
    "the second tag rare": {"env": "prod", "user": "user-30"},
    "both tags common": {"env": "prod", "experiment": "v1"},
    "one of 5 %, one of 12 %": {"env": "dev", "experiment": "v2"},
    _APART: dict(APART),
}
_BAR = Bar(2.0, "at most")


def figures(store: LogStore, path: Path, roots: int, long: str, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of reading one store.

    roots: how many top-level sessions it has. long: the id of a session of many events.
    """
    store.list_sessions(limit=1)  # catches up
    area = f"{AREA}, {roots:,} sessions"
    rounds = 50 if quick else 300
    yield from _lists(store, path, area, rounds)
    yield from _others(store, area, long, rounds)


def _lists(store: LogStore, path: Path, area: str, rounds: int) -> Iterator[Figure]:
    newest = "SELECT * FROM sessions WHERE parent IS NULL ORDER BY number DESC LIMIT 50"
    with closing(sqlite3.connect(path)) as bare:
        operations = {name: _list(store, tags) for name, tags in _LISTS.items()}
        operations["bare"] = lambda: bare.execute(newest).fetchall()
        taken = in_rounds(operations, rounds)
    beside = f"the newest 50 rows by hand {median_shown(taken['bare'])}"
    for name, tags in _LISTS.items():
        found = len(store.list_sessions(tags=tags, limit=50))
        yield Figure(
            area, f"two tags, limit=50: {name} ({found} found)", milliseconds(taken[name]), "ms",
            beside, None if name == _APART else _BAR,
        )  # fmt: skip


def _list(store: LogStore, tags: dict[str, str]) -> Operation:
    return lambda: store.list_sessions(tags=tags, limit=50)


def _others(store: LogStore, area: str, long: str, rounds: int) -> Iterator[Figure]:
    events = len(list(store.events(long)))
    taken = in_rounds(
        {
            "list_sessions(limit=50)": lambda: store.list_sessions(limit=50),
            'list_sessions(state="failure", limit=50)': lambda: store.list_sessions(
                state="failure", limit=50
            ),
            "list_sessions(tactic_path=..., limit=50)": lambda: store.list_sessions(
                tactic_path=_TACTIC, limit=50
            ),
            "export_cost_summary(tactic_path=...)": lambda: store.export_cost_summary(
                tactic_path=_TACTIC
            ),
            'export_cost_summary(group_by="model")': lambda: store.export_cost_summary(
                group_by="model"
            ),
            f"load_session, {events} events": lambda: store.load_session(long),
        },
        rounds,
    )
    for name, times in taken.items():
        yield Figure(area, name, milliseconds(times), "ms")
