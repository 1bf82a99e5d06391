"""What it takes to erase one session of a store, many of them, and to write the file anew."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.generate import fill
from benchmarks.measure import Bar, Figure, Spread, milliseconds
from lllm import LogStore, SQLiteBackend

AREA = "erase"
_REASON = "measured"


def figures(folder: Path, sessions: int, *, quick: bool) -> Iterator[Figure]:
    """Single sessions of a store, a tenth of it by tag, and the VACUUM behind them."""
    folder.mkdir()
    path = folder / "runs.db"
    log = SQLiteBackend(path)
    fill(log, sessions, shape="small")
    with LogStore(log) as store:
        listed = store.list_sessions(limit=sessions // 2)
        many = sessions // 10
        for one in listed[:many]:
            store.tag(one.session_id, {"measured": "yes"})
        store.list_sessions(limit=1)
        taken = [_one(store, one.session_id) for one in listed[-(5 if quick else 30) :]]
        what = f"erase one session of {sessions:,}, beside the VACUUM"
        yield Figure(AREA, what, milliseconds(taken), "ms", bar=Bar(100, "at most"))
        began = time.perf_counter()
        report = store.erase(tags={"measured": "yes"}, reason=_REASON, defer_vacuum=True)
        took = time.perf_counter() - began
        what = f"erase {many:,} of {sessions:,} sessions by tag"
        yield Figure(AREA, what, Spread.of([took]), "s", f"{report.events:,} payloads")
        began = time.perf_counter()
        store.vacuum()
        took = time.perf_counter() - began
        beside = f"{os.stat(path).st_size / 1e6:,.0f} MB"
        what = "VACUUM, with the merge of the search index"
        yield Figure(AREA, what, Spread.of([took]), "s", beside)


def _one(store: LogStore, session_id: str) -> int:
    began = time.perf_counter_ns()
    store.erase_session(session_id, reason=_REASON, defer_vacuum=True)
    return time.perf_counter_ns() - began
