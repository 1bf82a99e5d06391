"""What questions cost, in stores of a thousand to a million sessions.

Lists are asked for by each filter and by pairs and triples of tags, the rarer one first and last.
Where 50 sessions that fit come early, or the rarest filter has few sessions, a list is answered at
once; two halves of all sessions that never meet are the worst case: every session of one of them
must be looked up in the other before it is known that there is none.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypedDict

from benchmarks.generated_tags import APART, HALVES, USER, user_of_at_most
from benchmarks.measure import Bar, Figure, Operation, in_rounds, median_shown, milliseconds
from lllm import CallRecord, LogStore

_TACTIC = "shop::analyzer"
_MILLISECOND = Bar(1.0, "at most")
_CALLS = Bar(10.0, "at most")
_CUBE = Bar(3.0, "at most")
_BY_VALUE = Bar(50.0, "at most")
_MANY = 10_000  # sessions of a tag whose cost is asked for
_OF_MANY = Bar(25.0, "at most")
_LOAD = Bar(1.5, "at most")
_WORST = Bar(150.0, "at most")


class Asked(TypedDict, total=False):
    """What a list is asked for."""

    tags: Mapping[str, str]
    state: str
    tactic_path: str


def asked_for(roots: int) -> dict[str, Asked]:
    """Each filter, and pairs and triples of them, in a store of so many sessions."""
    rare = {USER: user_of_at_most(1_000, roots)}
    return {
        "no filter": {},
        "state": {"state": "failure"},
        "tactic": {"tactic_path": _TACTIC},
        "a tag of at most 1,000 sessions": {"tags": rare},
        "a tag of 80 %": {"tags": {"env": "prod"}},
        "two tags, the rare one first": {"tags": {**rare, "env": "prod"}},
        "two tags, the rare one second": {"tags": {"env": "prod", **rare}},
        "two common tags": {"tags": {"env": "prod", "experiment": "v1"}},
        "a tag and a state": {"tags": {"experiment": "v1"}, "state": "success"},
        "a tag and a tactic": {"tags": {"experiment": "v1"}, "tactic_path": _TACTIC},
        "three tags": {"tags": {"env": "prod", "experiment": "v1", **rare}},
    }


def figures(store: LogStore, path: Path, roots: int, long: str, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of reading one store.

    roots: how many top-level sessions it has. long: the id of a session of about 200 events.
    """
    store.list_sessions(limit=1)  # catches up
    area = f"read, {roots:,} sessions"
    yield from _of_lists(store, path, area, roots, 30 if quick else 200)
    yield from _of_calls(store, area, 30 if quick else 200)
    yield from _of_costs(store, area, roots, 30 if quick else 200)
    yield _of_loading(store, area, long, 50 if quick else 300)
    worst = HALVES if _count(store, HALVES[0]) else APART
    yield _of_the_worst(store, area, worst, 5 if quick else 20)


def _of_lists(store: LogStore, path: Path, area: str, roots: int, rounds: int) -> Iterator[Figure]:
    newest = "SELECT * FROM sessions WHERE parent IS NULL ORDER BY started DESC LIMIT 50"
    lists = asked_for(roots)
    with closing(sqlite3.connect(path)) as bare:
        operations = {name: list_of(store, asked) for name, asked in lists.items()}
        operations["bare"] = lambda: bare.execute(newest).fetchall()
        taken = in_rounds(operations, rounds)
    beside = f"the newest 50 rows by hand {median_shown(taken['bare'])}"
    for name, asked in lists.items():
        found = len(store.list_sessions(limit=50, **asked))
        yield Figure(
            area, f"list_sessions(limit=50): {name} ({found} found)", milliseconds(taken[name]),
            "ms", beside, _MILLISECOND,
        )  # fmt: skip


def list_of(store: LogStore, asked: Asked) -> Operation:
    """The list that one filter selects."""
    return lambda: store.list_sessions(limit=50, **asked)


def _of_calls(store: LogStore, area: str, rounds: int) -> Iterator[Figure]:
    newest = store.list_calls(limit=1)[0].timestamp
    week = newest - dt.timedelta(days=7)
    asked: dict[str, Callable[[], list[CallRecord]]] = {
        "the newest": lambda: store.list_calls(limit=50),
        "the slowest": lambda: store.list_calls(limit=50, sort="elapsed"),
        "the 429s of the last week": lambda: store.list_calls(limit=50, error=429, after=week),
        "those of one model": lambda: store.list_calls(limit=50, model="gpt-4o"),
        "those of a tag of 80 %": lambda: store.list_calls(limit=50, tags={"env": "prod"}),
    }
    taken = in_rounds(dict(asked), rounds)
    for name, times in taken.items():
        found = len(asked[name]())
        yield Figure(
            area, f"list_calls(limit=50): {name} ({found} found)", milliseconds(times), "ms",
            bar=_CALLS,
        )  # fmt: skip


def _of_the_worst(
    store: LogStore, area: str, apart: tuple[tuple[str, str], tuple[str, str]], rounds: int
) -> Figure:
    tags = dict(apart)
    smaller = min(_count(store, tag) for tag in apart)
    bar = _WORST if apart == HALVES else Bar(max(1.0, smaller / 1_000), "at most")
    taken = in_rounds({"worst": list_of(store, {"tags": tags})}, rounds)["worst"]
    assert not store.list_sessions(tags=tags, limit=1)
    return Figure(
        area, f"list_sessions(limit=50): two tags that never meet, {smaller:,} sessions or more",
        milliseconds(taken), "ms", bar=bar,
    )  # fmt: skip


def _count(store: LogStore, tag: tuple[str, str]) -> int:
    return store.export_cost_summary(tags=dict([tag]))["session_count"]


def _of_costs(store: LogStore, area: str, roots: int, rounds: int) -> Iterator[Figure]:
    asked: dict[str, tuple[Operation, Bar | None]] = {
        f"cost by {group_by}": (_cost(store, {}, group_by), bar)
        for group_by, bar in (
            ("tactic", _CUBE), ("model", _CUBE), ("day", _CUBE), (f"tag:{USER}", _BY_VALUE),
        )
    }  # fmt: skip
    asked["cost by day of another zone"] = (
        lambda: store.export_cost_summary(group_by="day", tz="Asia/Kathmandu"), None
    )  # fmt: skip
    many = {USER: user_of_at_most(_MANY, roots)}
    if roots > _MANY:
        of_many = f"of a tag of {_count(store, *many.items()):,} sessions"
        asked[f"cost {of_many}"] = (_cost(store, many, None), _OF_MANY)
        asked[f"cost by model {of_many}"] = (_cost(store, many, "model"), _OF_MANY)
    taken = in_rounds({name: operation for name, (operation, _) in asked.items()}, rounds)
    for name, times in taken.items():
        yield Figure(area, name, milliseconds(times), "ms", bar=asked[name][1])


def _cost(store: LogStore, tags: Mapping[str, str], group_by: str | None) -> Operation:
    return lambda: store.export_cost_summary(tags=tags, group_by=group_by)


def _of_loading(store: LogStore, area: str, long: str, rounds: int) -> Figure:
    events = len(list(store.events(long)))
    taken = in_rounds({"load": lambda: store.load_session(long)}, rounds)["load"]
    return Figure(
        area, f"load_session, {events} events, digests checked", milliseconds(taken), "ms",
        bar=_LOAD,
    )  # fmt: skip
