"""What writing costs: an append beside the bare operation, and a whole session beside no log.

The bare operation is Python's own sqlite3 with the same statement on the same table, index and
triggers: a second log, made by the same library, that is written to directly. Both are checkpointed
between the rounds, since the copying of a full write-ahead log into the database would fall on one
of them in every few thousand appends; what it costs on average is a figure of its own.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.generate import MESSAGE_BYTES
from benchmarks.measure import Bar, Figure, Nanoseconds, Spread, in_rounds, median_shown, ratio
from lllm.events import codec
from lllm.events.jsonl import LocalFileBackend
from lllm.events.lines import encode_append
from lllm.events.locks import FileLock
from lllm.events.model import Content, Event, MessageAdded
from lllm.events.record import NewEvent, seal
from lllm.events.recorder import new_id, new_salt
from lllm.events.sqlite import SQLiteBackend

AREA = "append"
BATCH = 1_000
_CHECKPOINTED_AFTER = 500  # rounds; well before the log checkpoints by itself
_INSERT = (
    "INSERT INTO events (stream, seq, time, type, version, data, digest)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
Row = tuple[str, int, int, str, int, str, bytes]


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of writing."""
    yield from _one_event(folder / "one", rounds=2_000 if quick else 20_000)
    yield from _batches(folder / "batch", rounds=30 if quick else 200)
    yield _with_checkpoints(folder / "checkpoints", appends=5_000 if quick else 50_000)
    yield _jsonl(folder / "jsonl", rounds=2_000 if quick else 20_000)


class _Source:
    """Events of a session that goes on for ever, with messages of the usual size."""

    def __init__(self) -> None:
        self.stream = new_id()
        self.salt = new_salt()
        self._seq = count(1)
        chance = random.Random(1)
        words = ["order", "refund", "table", "answer", "source", "region", "quarter", "because", "version", "risk"]
        self._texts = [
            " ".join(chance.choices(words, k=MESSAGE_BYTES // 7)) for _ in range(100)
        ]

    def payload(self) -> MessageAdded:
        """The next event, as its Struct."""
        text = self._texts[next(self._seq) % len(self._texts)]
        return MessageAdded(message=1, dialog=1, content=Content.of("user", text), why="user")

    def sealed(self, event: Event, seq: int) -> NewEvent:
        """An event as its Recorder hands it to the log."""
        data = codec.encode(event)
        return seal(
            self.salt, self.stream, seq, time.time_ns(), event.type, event.version, data
        )


def _row(event: NewEvent) -> Row:
    return (
        event.stream, event.seq, event.time, event.type, event.version, event.data.decode(),
        event.digest,
    )  # fmt: skip


class _Pair(msgspec.Struct):
    """A log, and another one whose table is written to directly."""

    log: SQLiteBackend
    bare: sqlite3.Connection
    paths: tuple[Path, Path]

    def checkpoint(self) -> None:
        """Empty both write-ahead logs."""
        for path in self.paths:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _pair(folder: Path) -> Iterator[_Pair]:
    folder.mkdir()
    paths = (folder / "log.db", folder / "bare.db")
    SQLiteBackend(paths[1]).close()
    log = SQLiteBackend(paths[0])
    bare = sqlite3.connect(paths[1], isolation_level=None)
    bare.execute("PRAGMA synchronous=NORMAL")
    bare.execute("PRAGMA wal_autocheckpoint=0")
    try:
        yield _Pair(log, bare, paths)
    finally:
        bare.close()
        log.close()


def _insert(bare: sqlite3.Connection, row: Row) -> None:
    bare.execute("BEGIN IMMEDIATE")
    bare.execute(_INSERT, row)
    bare.execute("COMMIT")


def _one_event(folder: Path, rounds: int) -> Iterator[Figure]:
    source = _Source()
    with _pair(folder) as pair:
        seqs = count(1)
        queue: list[tuple[list[NewEvent], Row, Event, int]] = []

        def prepare() -> None:
            seq = 2 * next(seqs)
            if seq % (2 * _CHECKPOINTED_AFTER) == 0:
                pair.checkpoint()
            event = source.payload()
            queue[:] = [([source.sealed(event, seq)], _row(source.sealed(event, seq)), event, seq)]

        prepare()
        taken = in_rounds(
            {
                "bare": lambda: _insert(pair.bare, queue[0][1]),
                "append": lambda: pair.log.append(queue[0][0]),
                "Struct": lambda: pair.log.append([source.sealed(queue[0][2], queue[0][3] + 1)]),
            },
            rounds,
            between=prepare,
        )
    beside = f"bare BEGIN IMMEDIATE + INSERT + COMMIT {median_shown(taken['bare'])}"
    yield Figure(
        AREA, "one event to SQLite", ratio(taken["append"], taken["bare"]), "x bare",
        f"{beside}; append {median_shown(taken['append'])}", Bar(1.6, "at most"),
    )  # fmt: skip
    yield Figure(
        AREA, "the same from its Struct: encode, seal, append",
        ratio(taken["Struct"], taken["bare"]), "x bare", median_shown(taken["Struct"]),
    )  # fmt: skip


def _batches(folder: Path, rounds: int) -> Iterator[Figure]:
    source = _Source()
    with _pair(folder) as pair:
        starts = count(1, BATCH)
        payloads: list[MessageAdded] = []
        rows: list[Row] = []
        first = [0]

        def prepare() -> None:
            pair.checkpoint()
            first[0] = next(starts)
            payloads[:] = [source.payload() for _ in range(BATCH)]
            rows[:] = [
                _row(source.sealed(event, seq)) for seq, event in enumerate(payloads, first[0])
            ]

        def from_structs() -> None:
            pair.log.append(
                [source.sealed(event, seq) for seq, event in enumerate(payloads, first[0])]
            )

        def bare() -> None:
            pair.bare.execute("BEGIN IMMEDIATE")
            pair.bare.executemany(_INSERT, rows)
            pair.bare.execute("COMMIT")

        prepare()
        taken = in_rounds({"bare": bare, "Structs": from_structs}, rounds, between=prepare)
    yield Figure(
        AREA, f"{BATCH:,} events from their Structs",
        ratio(taken["bare"], taken["Structs"]).times(100), "% of bare",
        f"bare executemany {median_shown(taken['bare'])}; ours {median_shown(taken['Structs'])}",
        Bar(45, "at least"),
    )  # fmt: skip


def _with_checkpoints(folder: Path, appends: int) -> Figure:
    """The mean of many appends one after another, each log checkpointing when it would."""
    source = _Source()
    events = [source.sealed(source.payload(), seq) for seq in range(1, appends + 1)]
    rows = [_row(event) for event in events]
    chunk = appends // 10
    ratios = []
    means: dict[str, Nanoseconds] = {"bare": [], "append": []}
    with _pair(folder) as pair:
        pair.bare.execute("PRAGMA wal_autocheckpoint=1000")  # SQLite's default
        for start in range(0, appends, chunk):
            part = range(start, start + chunk)
            began = time.perf_counter_ns()
            for number in part:
                _insert(pair.bare, rows[number])
            between = time.perf_counter_ns()
            for number in part:
                pair.log.append([events[number]])
            ended = time.perf_counter_ns()
            means["bare"].append((between - began) // chunk)
            means["append"].append((ended - between) // chunk)
            ratios.append((ended - between) / (between - began))
    return Figure(
        AREA, "one event to SQLite, mean with checkpoints", Spread.of(ratios), "x bare",
        f"bare {median_shown(means['bare'])}; append {median_shown(means['append'])}",
    )  # fmt: skip


def _jsonl(folder: Path, rounds: int) -> Figure:
    folder.mkdir()
    source = _Source()
    log = LocalFileBackend(folder / "log")
    lock = FileLock(folder / "bare.lock")
    seqs = count(1)
    with (folder / "bare.jsonl").open("ab", buffering=0) as file:
        queue: list[tuple[list[NewEvent], bytes]] = []

        def prepare() -> None:
            events = [source.sealed(source.payload(), next(seqs))]
            queue[:] = [(events, encode_append(events)[0])]

        def bare() -> None:
            lock.acquire()
            file.write(queue[0][1])
            lock.release()

        prepare()
        taken = in_rounds(
            {"bare": bare, "append": lambda: log.append(queue[0][0])}, rounds, between=prepare
        )
    lock.close()
    log.close()
    return Figure(
        AREA, "one event to JSONL", ratio(taken["append"], taken["bare"]), "x bare",
        f"bare flock + write {median_shown(taken['bare'])}; append {median_shown(taken['append'])}",
    )  # fmt: skip
