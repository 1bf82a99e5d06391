"""Positions in PostgreSQL grow in the order in which events become visible, in any storm."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lllm.events.backends.postgres.append_call import append_parameters, append_statement
from lllm.events.backends.postgres.backend import PostgresBackend
from lllm.events.backends.postgres.binary_values import decode_bigint
from lllm.events.backends.postgres.connection import Statement
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogUnavailable
from lllm.events.log import follow
from lllm.testing.writers import batch, event, without_positions
from tests.support.postgres import Server, new_schema, server
from tests.support.waiting import HANG

STORM = 4.0  # seconds


@pytest.fixture
def schema() -> str:
    """A schema of the test's own."""
    return new_schema()


@pytest.fixture
def log(schema: str) -> Iterator[PostgresBackend]:
    """A log in it, which exists."""
    opened = PostgresBackend(server().url(schema))
    assert opened.head() == 0
    yield opened
    opened.close()


class Hanging:
    """An append of another client, which is not committed yet."""

    def __init__(self, schema: str, events: Sequence[NewEvent]) -> None:
        self._connection = server().connect()
        self._run("BEGIN")
        until = time.monotonic() + HANG
        statement = append_statement(f'"{schema}"')
        self._connection.execute(statement, append_parameters(events), until)

    def _run(self, script: str) -> None:
        self._connection.run(script, time.monotonic() + HANG)

    def end(self, how: str) -> None:
        """Commit it, roll it back, or let its client vanish."""
        if how != "VANISH":
            self._run(how)
        self._connection.close()


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK", "VANISH"])
def test_no_hole_is_filled_later(log: PostgresBackend, schema: str, how: str) -> None:
    """What is committed behind an append that hangs is not visible before that has ended."""
    log.append(batch("before", 0))
    hanging = Hanging(schema, batch("hangs", 0))
    try:
        log.append(batch("behind", 0))
        seen = list(log.read())
        assert without_positions(seen) == batch("before", 0)
        assert log.head() == seen[-1].position
    finally:
        hanging.end(how)
    until = time.monotonic() + HANG
    while without_positions(log.read())[-3:] != batch("behind", 0):
        assert time.monotonic() < until  # the server has not noticed that the client is gone
        time.sleep(0.01)
    between = batch("hangs", 0) if how == "COMMIT" else []
    assert without_positions(log.read(after=seen[-1].position)) == between + batch("behind", 0)


@pytest.mark.slow
def test_an_append_that_began_later_shows_nothing_of_an_earlier_one(
    log: PostgresBackend, schema: str
) -> None:
    """Two appends that hang end in the other order; each is seen whole, the first one first."""
    first = Hanging(schema, batch("first", 0))
    second = Hanging(schema, batch("second", 0))
    second.end("COMMIT")
    assert list(log.read()) == []
    first.end("COMMIT")
    assert without_positions(log.read()) == batch("first", 0) + batch("second", 0)


@pytest.mark.slow
def test_positions_around_the_end_of_a_lock_key(log: PostgresBackend, schema: str) -> None:
    """A lock has 32 bits of a number with more; the rest is known from the last number drawn."""
    for last in (2**31 - 3, 2**32 - 3, 3 * 2**32 - 3):
        server().run(f"SELECT setval('\"{schema}\".blocks', {last})")
        log.append([event(f"before{last}", 1)])
        head = log.head()
        hanging = Hanging(schema, [event(f"hangs{last}", 1)])
        for number in range(4):
            log.append([event(f"behind{last}-{number}", 1)])
            assert log.head() == head
        hanging.end("COMMIT")
        assert len(list(log.read(after=head))) == 5


@pytest.mark.slow
def test_a_snapshot_of_others_stops_nobody(log: PostgresBackend) -> None:
    """A dump that holds a snapshot for hours keeps neither writers nor readers."""
    log.append(batch("s", 0))
    dump = server().connect()
    try:
        dump.run(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()", time.monotonic() + HANG
        )
        log.append(batch("s", 1))
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
    finally:
        dump.close()


class Storm:
    """Backends of appends that are stopped for a moment, or ended, while writers write.

    A writer appends an event again and again until it is stored.
    """

    def __init__(self, on: Server, schema: str, writers: int) -> None:
        self._server = on
        self._schema = schema
        self._writers = writers
        self.over = threading.Event()
        self.written = threading.Event()  # the last writer has ended
        self.harmed = 0

    def log(self) -> PostgresBackend:
        """The log, with connections of its own."""
        return PostgresBackend(self._server.url(self._schema))

    def write(self, stream: str) -> list[NewEvent]:
        """Append until it is over. Returns what was acknowledged."""
        log, stored, chance = self.log(), [], random.Random(stream)
        while not self.over.is_set():
            first = len(stored) + 1
            events = [event(stream, first + n) for n in range(chance.randrange(1, 5))]
            with suppress(LogUnavailable):
                log.append(events)
                stored += events
        log.close()
        return stored

    def read(self) -> list[Recorded]:
        """Read what comes, until nothing comes any more."""
        log = self.log()
        seen: list[Recorded] = []
        while True:
            ended = self.written.is_set()
            after = seen[-1].position if seen else 0
            with suppress(LogUnavailable):
                news = list(log.read(after=after))
                seen += news
                if ended and not news:
                    log.close()
                    return seen

    def harm(self) -> None:
        """Stop or end backends of the writers, one after the other."""
        chance = random.Random(7)
        connection = self._server.connect()
        appending = Statement(
            "SELECT pid::bigint FROM pg_stat_activity WHERE query LIKE '%append%'"
            " AND pid != pg_backend_pid() AND state = 'active' ORDER BY random() LIMIT 1"
        )
        while not self.over.wait(0.005):
            found = connection.execute(appending, (), time.monotonic() + HANG)
            if not found.ntuples:
                continue
            pid = decode_bigint(found.get_value(0, 0) or b"")
            with suppress(ProcessLookupError):
                if chance.random() < 0.2:
                    os.kill(pid, signal.SIGTERM)
                else:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(chance.choice([0.002, 0.02, 0.1]))
                    os.kill(pid, signal.SIGCONT)
                self.harmed += 1
        connection.close()


@pytest.mark.slow
def test_storm(log: PostgresBackend, schema: str) -> None:
    """Readers see each event once, in order, and nothing comes at a position that they passed."""
    storm = Storm(server(), schema, 6)
    with ThreadPoolExecutor(12) as threads:
        writers = [threads.submit(storm.write, f"w{n}") for n in range(6)]
        readers = [threads.submit(storm.read) for _ in range(3)]
        harm = threads.submit(storm.harm)
        time.sleep(STORM)
        storm.over.set()
        try:
            stored = [writer.result(HANG) for writer in writers]
        finally:
            storm.written.set()
        seen = [reader.result(HANG) for reader in readers]
        harm.result(HANG)
    found = list(log.read())
    for passed in seen:
        missed = {one.position for one in found} - {one.position for one in passed}
        assert missed == set()
        assert passed == found
    for number, acknowledged in enumerate(stored):
        mine = without_positions(one for one in found if one.stream == f"w{number}")
        assert mine[: len(acknowledged)] == acknowledged
        assert [one.seq for one in mine] == list(range(1, len(mine) + 1))
    assert storm.harmed > 5
    assert len(found) > 100


@pytest.mark.slow
def test_followers_are_told(log: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower at the end of the log waits for a notification, and does not look meanwhile."""
    log.append(batch("s", 0))
    looks = []
    monkeypatch.setattr(log, "head", lambda: looks.append(1) or PostgresBackend.head(log))
    news = follow(log, after=0, poll=0.01)
    assert without_positions(next(news) for _ in range(3)) == batch("s", 0)
    before = len(looks)
    writer = PostgresBackend(server().url(log.schema))
    later = threading.Timer(0.15, writer.append, [batch("s", 1)])
    later.start()
    assert next(news).seq == 4
    assert len(looks) - before <= 4
    later.join()
    news.close()
    writer.close()
