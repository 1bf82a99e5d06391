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
from io import FileIO
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.generated_texts import WORDS
from benchmarks.measure import Bar, Figure, Nanoseconds, Spread, in_rounds, median_shown, ratio
from lllm.events import codec
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import encode_append
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.concurrency.locks import FileLock
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.model import Content, Event, MessageAdded

AREA = "append"
BATCH = 1_000
_CHECKPOINTED_AFTER = 100  # rounds; well before the log checkpoints by itself
_SETTLED = 3.0  # seconds, after which an appender trusts the time stamp of a new folder
_INSERT = (
    "INSERT INTO events (stream, seq, time, type, version, data, digest)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
Row = tuple[str, int, int, str, int, str, bytes]


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """All that is measured of writing."""
    folder.mkdir()
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
        self._texts = [" ".join(chance.choices(WORDS, k=100)) for _ in range(100)]

    def payload(self) -> MessageAdded:
        """The next event, as its Struct."""
        text = self._texts[next(self._seq) % len(self._texts)]
        return MessageAdded(message=1, dialog=1, content=Content.of("user", text), why="user")

    def sealed(self, event: Event, seq: int) -> NewEvent:
        """An event as its Recorder hands it to the log."""
        data = codec.encode(event)
        return seal(self.salt, self.stream, seq, time.time_ns(), event.type, event.version, data)


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
        """Empty the write-ahead logs."""
        for path in self.paths[0].parent.glob("*.db"):
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


class _OneEvent:
    """The same event in every form that an operation takes, a new one for each round."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._source = _Source()
        self._seqs = count(1, 2)
        self.prepare()

    def prepare(self) -> None:
        self._seq = next(self._seqs)
        if self._seq % (2 * _CHECKPOINTED_AFTER) == 1:
            self._pair.checkpoint()
        self._payload = self._source.payload()
        self._events = [self._source.sealed(self._payload, self._seq)]
        self._row = _row(self._events[0])

    def bare(self) -> None:
        _insert(self._pair.bare, self._row)

    def append(self) -> None:
        self._pair.log.append(self._events)

    def from_struct(self) -> None:
        self._pair.log.append([self._source.sealed(self._payload, self._seq + 1)])


def _one_event(folder: Path, rounds: int) -> Iterator[Figure]:
    with _pair(folder) as pair:
        one = _OneEvent(pair)
        operations = {"bare": one.bare, "append": one.append, "Struct": one.from_struct}
        taken = in_rounds(operations, rounds, between=one.prepare)
    beside = f"bare {median_shown(taken['bare'])}; append {median_shown(taken['append'])}"
    yield Figure(
        AREA, "one event to SQLite", ratio(taken["append"], taken["bare"]), "x bare", beside,
        Bar(1.4, "at most"),
    )  # fmt: skip
    yield Figure(
        AREA, "the same from its Struct: encode, seal, append",
        ratio(taken["Struct"], taken["bare"]), "x bare", median_shown(taken["Struct"]),
    )  # fmt: skip


class _Batch:
    """The same thousand events as Structs, as the log takes them and as rows, new ones for each
    round."""

    def __init__(self, pair: _Pair, other: SQLiteBackend) -> None:
        self._pair = pair
        self._other = other
        self._source = _Source()
        self._firsts = count(1, BATCH)
        self.prepare()

    def prepare(self) -> None:
        self._pair.checkpoint()
        self._first = next(self._firsts)
        self._payloads = [self._source.payload() for _ in range(BATCH)]
        self._events = self._sealed()
        self._rows = [_row(event) for event in self._events]

    def _sealed(self) -> list[NewEvent]:
        return [
            self._source.sealed(event, seq) for seq, event in enumerate(self._payloads, self._first)
        ]

    def bare(self) -> None:
        self._pair.bare.execute("BEGIN IMMEDIATE")
        self._pair.bare.executemany(_INSERT, self._rows)
        self._pair.bare.execute("COMMIT")

    def from_structs(self) -> None:
        self._pair.log.append(self._sealed())

    def as_taken(self) -> None:
        self._other.append(self._events)


def _batches(folder: Path, rounds: int) -> Iterator[Figure]:
    with _pair(folder) as pair, closing(SQLiteBackend(folder / "taken.db")) as other:
        batch = _Batch(pair, other)
        operations = {"bare": batch.bare, "Structs": batch.from_structs, "taken": batch.as_taken}
        taken = in_rounds(operations, rounds, between=batch.prepare)
    bare = f"executemany {median_shown(taken['bare'])}"
    for what, name, least in (
        ("from their Structs", "Structs", 50),
        ("sealed before", "taken", 80),
    ):
        yield Figure(
            AREA, f"{BATCH:,} events {what}", ratio(taken["bare"], taken[name]).times(100),
            "% of bare", f"{bare}; append {median_shown(taken[name])}", Bar(least, "at least"),
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


class _OneLine:
    """An event and its line, new ones for each round."""

    def __init__(self, log: LocalFileBackend, file: FileIO, lock: FileLock) -> None:
        self._log = log
        self._file = file
        self._lock = lock
        self._source = _Source()
        self._seqs = count(1)
        self.prepare()

    def prepare(self) -> None:
        self._events = [self._source.sealed(self._source.payload(), next(self._seqs))]
        self._line = encode_append(self._events)[0]

    def bare(self) -> None:
        self._lock.acquire()
        self._file.write(self._line)
        self._lock.release()

    def append(self) -> None:
        self._log.append(self._events)


def _jsonl(folder: Path, rounds: int) -> Figure:
    folder.mkdir()
    lock = FileLock(folder / "bare.lock")
    with (
        closing(LocalFileBackend(folder / "log")) as log,
        closing(lock),
        FileIO(folder / "bare.jsonl", "a") as file,
    ):
        one = _OneLine(log, file, lock)
        one.append()
        time.sleep(_SETTLED)
        taken = in_rounds({"bare": one.bare, "append": one.append}, rounds, between=one.prepare)
    return Figure(
        AREA, "one event to JSONL", ratio(taken["bare"], taken["append"]).times(100), "% of bare",
        f"flock + write {median_shown(taken['bare'])}; append {median_shown(taken['append'])}",
        Bar(30, "at least"),
    )  # fmt: skip
