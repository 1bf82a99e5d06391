"""What reading a whole log costs, with every event decoded: beside SELECT and msgspec."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from benchmarks.generate import fill
from benchmarks.measure import Bar, Figure, in_rounds, median_shown, ratio
from lllm import SQLiteBackend
from lllm.events import codec
from lllm.events.model import EVENTS

_PAGE = 500  # rows fetched at once, as the library does
_SELECT = (
    "SELECT position, stream, seq, time, type, version, CAST(data AS BLOB), digest FROM events"
)


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """One figure: the rate of lllm's own reading, of the bare one."""
    folder.mkdir()
    path = folder / "runs.db"
    with closing(SQLiteBackend(path)) as log:
        fill(log, 500 if quick else 4_000)
        events = log.head()
        with closing(sqlite3.connect(path)) as bare:
            decoders = {name: msgspec.json.Decoder(kind) for name, kind in EVENTS.items()}
            taken = in_rounds(
                {"scan": lambda: _scan(log), "bare": lambda: _bare(bare, decoders)},
                5 if quick else 15,
                warm_up=1,
            )
    yield Figure(
        "scan", f"reading and decoding {events:,} events",
        ratio(taken["bare"], taken["scan"]).times(100), "% of bare",
        f"SELECT and msgspec {median_shown(taken['bare'])}; log {median_shown(taken['scan'])}",
        Bar(85, "at least"),
    )  # fmt: skip


def _scan(log: SQLiteBackend) -> None:
    for event in log.read():
        codec.decode(event)


def _bare(bare: sqlite3.Connection, decoders: dict[str, msgspec.json.Decoder[object]]) -> None:
    rows = bare.execute(f"{_SELECT} ORDER BY position")
    while page := rows.fetchmany(_PAGE):
        for row in page:
            decoders[row[4]].decode(row[6])
