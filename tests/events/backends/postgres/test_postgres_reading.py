"""A log in PostgreSQL is read in pages, of which the next one is read by a thread meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from lllm import PostgresBackend
from lllm.events.backends.postgres import connection_pool, read_ahead
from lllm.events.backends.postgres.binary_values import decode_bigint
from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.digest import erase
from lllm.events.errors import LogUnavailable
from lllm.events.reads_of_parts import StreamPart
from lllm.testing.writers import event
from tests.support.postgres import new_schema, server
from tests.support.postgres_proxy import Proxy
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

_TYPES = ["session.tagged", "message.added"]
_LONG = b'"' + b"x" * (5 << 20) + b'"'  # two of them fill a page


@pytest.fixture(scope="module")
def url() -> str:
    """The URL of a log with several pages of events."""
    url = server().url(new_schema())
    log = PostgresBackend(url)
    for first in range(1, 6_001, 1_000):
        log.append(
            [
                event("a", seq, b'"%d"' % seq, type_=_TYPES[seq % 2])
                for seq in range(first, first + 1_000)
            ]
        )
    log.append([event("b", seq, _LONG) for seq in range(1, 4)])
    log.erase_payloads([erase(one, b"") for one in log.read(stream="a") if one.seq in (2, 5_000)])
    log.close()
    return url


@pytest.fixture
def log(url: str) -> Iterator[PostgresBackend]:
    """The log."""
    log = PostgresBackend(url)
    yield log
    log.close()


def test_pages(log: PostgresBackend) -> None:
    events = list(log.read())
    assert [(one.stream, one.seq) for one in events] == [
        *(("a", seq) for seq in range(1, 6_001)),
        *(("b", seq) for seq in range(1, 4)),
    ]
    assert [one.data for one in events[2:5]] == [b'"3"', b'"4"', b'"5"']
    assert [one.data for one in events if one.seq in (2, 5_000) and one.stream == "a"] != [
        b'"2"', b'"5000"'
    ]  # fmt: skip
    tagged = [one for one in events if one.type == _TYPES[0]]
    assert list(log.read_types([_TYPES[0]])) == tagged
    assert list(log.read_with_digests([_TYPES[0]])) == [
        one if one.type == _TYPES[0] else (one.position, one.digest) for one in events
    ]
    assert list(log.read_with_digests([])) == [(one.position, one.digest) for one in events]
    assert list(log.read(after=events[9].position, upto=events[4_500].position)) == events[10:4_501]


def test_a_child_reads_the_rest(log: PostgresBackend) -> None:
    events = log.read()
    first = next(events)
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        os._exit(0 if len(list(events)) == 6_002 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert first.seq == 1
    assert len(list(events)) == 6_002


def test_a_server_that_falls_silent_in_the_middle(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (read_ahead, connection_pool):
        monkeypatch.setattr(module, "READING_SECONDS", 0.5)
    with Proxy(server()) as proxy:
        log = PostgresBackend(proxy.url(url.partition("?schema=")[2]))
        events = log.read()
        for _ in range(1_000):  # all of the first page, behind which the thread asks
            next(events)
        proxy.silent.set()
        with pytest.raises(LogUnavailable, match="not answer"):
            list(events)
        proxy.silent.clear()
        log.close()


def test_parts(log: PostgresBackend) -> None:
    """Several streams, and single positions, are read in pages, too."""
    events = list(log.read())
    of_a, of_b = events[:6_000], events[6_000:]
    last = events[-1].position
    parts = [
        StreamPart("b", 0, last),
        StreamPart("nothing", 0, last),
        StreamPart("\udc80", 0, last),
        StreamPart("a", of_a[9].position, of_a[2_500].position),
    ]
    assert list(log.read_streams(parts)) == of_b + of_a[10:2_501]
    assert list(log.read_streams([])) == []
    positions = [one.position for one in events[::2]]
    assert list(log.read_positions([*reversed(positions), 0, -1, last + 1, 7])) == events[::2]
    assert list(log.read_positions([])) == []


def test_a_page_that_comes_at_its_deadline(
    log: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is broken off only while it reads the page, not for who uses it next."""
    monkeypatch.setattr(read_ahead, "READING_SECONDS", 0.3)
    finish = ServerConnection.break_off
    lent: list[ServerConnection] = []

    def break_off_late(connection: ServerConnection) -> None:
        page._thread.join(1)  # the page has come meanwhile
        with log._pool.lend(time.monotonic() + HANG) as other:
            lent.append(other)
            finish(connection)
            other.execute(Statement("SELECT 1::bigint"), (), time.monotonic() + HANG)

    monkeypatch.setattr(ServerConnection, "break_off", break_off_late)
    page = read_ahead.PageAhead(log._pool, Statement("SELECT pg_sleep(0.6)::text, 7::bigint"), ())
    found = page.result()
    assert decode_bigint(found.get_value(0, 1) or b"") == 7
    page._thread.join(HANG)
    assert lent
    for _ in range(3):  # and nobody gets the broken one
        with log._pool.lend(time.monotonic() + HANG) as other:
            other.execute(Statement("SELECT 1::bigint"), (), time.monotonic() + HANG)
