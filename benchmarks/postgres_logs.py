"""What an append to PostgreSQL costs: beside the bare statement, beside COPY, by many writers.

The server is one of its own, on a Unix socket, with fsync and synchronous_commit on. It is the one
that the machine has, or that of the test extra.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.measure import Bar, Figure, Spread, in_rounds, median_shown, milliseconds, ratio
from lllm import PostgresBackend
from lllm.events.backends.postgres.schema import BLOCK
from lllm.events.envelope import NewEvent
from lllm.testing.writers import event

if TYPE_CHECKING:
    import psycopg

AREA = "postgres"
_SETTINGS = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
_PAYLOAD = b'{"text":"' + b"0123456789" * 70 + b'"}'
_BATCH = 1_000
_WRITERS = 8
_COMMIT = {"commit_delay": "2000", "commit_siblings": "0"}  # every commit takes 2 ms

# The tables of the log without its triggers and functions, and what its function does.
_TABLES = """
CREATE TABLE {0}.bare_events (LIKE {0}.events INCLUDING ALL);
CREATE TABLE {0}.bare_payloads (LIKE {0}.payloads INCLUDING ALL);
CREATE SEQUENCE {0}.bare_blocks;
"""
_STATEMENT = """
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(7, 7)),
first AS MATERIALIZED (SELECT nextval('{0}.bare_blocks') * {1} AS position FROM held),
added AS (
    INSERT INTO {0}.bare_events SELECT position, %s, %s, %s, %s, %s, %s FROM first
    ON CONFLICT DO NOTHING RETURNING position
)
INSERT INTO {0}.bare_payloads SELECT position, %b FROM added RETURNING position
"""
_ENVELOPE = ["int8", "text", "int8", "int8", "text", "int8", "bytea"]


def figures(*, quick: bool) -> Iterator[Figure]:
    """Single appends, batches, and writers at a time."""
    import psycopg

    from tests.support.postgres import Server, new_schema  # an installed lllm has no tests

    server = Server(_SETTINGS)
    try:
        schema = new_schema()
        log = PostgresBackend(server.url(schema))
        log.head()
        server.run(_TABLES.format(schema))
        info = f"host={server.folder} port={server.port} user=postgres dbname=postgres"
        with psycopg.connect(info, autocommit=True) as connection:
            bare = _Bare(connection, schema)
            yield _one(log, bare, 200 if quick else 2_000)
            yield _batch(log, bare, 5 if quick else 30)
        for name, value in _COMMIT.items():
            server.run(f"ALTER SYSTEM SET {name} = {value}")
        server.restart()
        yield from _many(log, 2.0 if quick else 10.0)
        log.close()
    finally:
        server.remove()


class _Bare:
    """The same tables, written to with psycopg alone."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._statement = _STATEMENT.format(schema, BLOCK).encode()

    def append(self, one: NewEvent) -> None:
        """One event, in one statement."""
        values = (one.stream, one.seq, one.time, one.type, one.version, one.digest, one.data)
        self._connection.execute(self._statement, values, prepare=True).fetchone()

    def copy(self, events: Sequence[NewEvent]) -> None:
        """Many events by COPY, in one transaction."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            taken = cursor.execute(f"SELECT nextval('{self._schema}.bare_blocks')".encode())
            [number] = taken.fetchone() or (0,)
            first = number * BLOCK
            table = f"COPY {self._schema}.bare_events FROM STDIN (FORMAT binary)"
            with cursor.copy(table.encode()) as copying:
                copying.set_types(_ENVELOPE)
                for place, one in enumerate(events, first):
                    copying.write_row(
                        (place, one.stream, one.seq, one.time, one.type, one.version, one.digest)
                    )
            table = f"COPY {self._schema}.bare_payloads FROM STDIN (FORMAT binary)"
            with cursor.copy(table.encode()) as copying:
                copying.set_types(["int8", "bytea"])
                for place, one in enumerate(events, first):
                    copying.write_row((place, one.data))


def _events(stream: str, many: int = 1) -> Iterator[list[NewEvent]]:
    for number in count():
        first = number * many + 1
        yield [event(stream, seq, _PAYLOAD) for seq in range(first, first + many)]


def _one(log: PostgresBackend, bare: _Bare, rounds: int) -> Figure:
    ours, theirs = _events("one"), _events("bare")
    taken = in_rounds(
        {"append": lambda: log.append(next(ours)), "bare": lambda: bare.append(next(theirs)[0])},
        rounds,
    )
    beside = f"{median_shown(taken['append'])}, the statement {median_shown(taken['bare'])}"
    what = "append of one event, over the bare statement through psycopg"
    times = ratio(taken["append"], taken["bare"])
    return Figure(AREA, what, times, "x", beside, Bar(1.25, "at most"))


def _batch(log: PostgresBackend, bare: _Bare, rounds: int) -> Figure:
    ours, theirs = _events("batch", _BATCH), _events("copied", _BATCH)
    ready = [next(ours), next(theirs)]

    def make_ready() -> None:
        ready[:] = next(ours), next(theirs)

    taken = in_rounds(
        {"append": lambda: log.append(ready[0]), "COPY": lambda: bare.copy(ready[1])},
        rounds,
        between=make_ready,
    )
    beside = f"{median_shown(taken['append'])}, COPY {median_shown(taken['COPY'])}"
    what = f"append of {_BATCH:,} events, in speed of COPY"
    speed = ratio(taken["COPY"], taken["append"]).times(100)
    return Figure(AREA, what, speed, "%", beside, Bar(60, "at least"))


def _many(log: PostgresBackend, seconds: float) -> Iterator[Figure]:
    alone, together = _written(log, 1, seconds), _written(log, _WRITERS, seconds)
    beside = f"{len(together) / seconds:,.0f} and {len(alone) / seconds:,.0f} appends/s"
    what = f"{_WRITERS} writers over one, where a commit takes 2 ms"
    speed = Spread.of([len(together) / len(alone)])
    yield Figure(AREA, what, speed, "x", beside, Bar(5, "at least"))
    slowest = sorted(together)[int(len(together) * 0.99) :][:1]
    what = f"the 99th of 100 appends of {_WRITERS} writers"
    yield Figure(AREA, what, milliseconds(slowest), "ms", bar=Bar(20, "at most"))


def _written(log: PostgresBackend, writers: int, seconds: float) -> list[int]:
    """What each append took, of some writers at a time."""
    taken: list[int] = []
    end = time.monotonic() + seconds

    def write(events: Iterator[list[NewEvent]]) -> None:
        while time.monotonic() < end:
            given = next(events)
            began = time.perf_counter_ns()
            log.append(given)
            taken.append(time.perf_counter_ns() - began)

    threads = [
        threading.Thread(target=write, args=(_events(f"w{writers}-{n}"),)) for n in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken
