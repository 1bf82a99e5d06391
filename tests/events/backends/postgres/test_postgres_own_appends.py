"""Who appends can read it at once, or is told why not, whatever other appends are under way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from lllm import LogStore, PostgresBackend
from lllm.events.backends.postgres.append_call import append_parameters, append_statement
from lllm.testing.writers import batch, event, without_positions
from tests.events.backends.postgres.test_postgres_positions import Hanging
from tests.support.postgres import new_schema, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow


@pytest.fixture
def schema() -> str:
    """A schema of the test's own."""
    return new_schema()


@pytest.fixture
def store(schema: str) -> Iterator[LogStore]:
    """A store in it."""
    with LogStore.open(server().url(schema)) as opened:
        yield opened


def say(store: LogStore) -> str:
    """A session. Returns its id."""
    with store.session("p::own") as own:
        own.deliver("x")
    return own.session_id


def test_it_waits_for_appends_that_end_soon(store: LogStore, schema: str) -> None:
    """A list, and a read of the log, have what this process has appended meanwhile."""
    hanging = Hanging(schema, batch("other", 0))
    later = threading.Timer(0.3, hanging.end, ["COMMIT"])
    later.start()
    mine = say(store)
    assert [one.session_id for one in store.list_sessions()] == [mine]
    later.join()
    hanging = Hanging(schema, batch("other", 1))
    later = threading.Timer(0.3, hanging.end, ["ROLLBACK"])
    later.start()
    store.backend.append([event("mine", 1)])
    assert [one.stream for one in store.backend.read()][-1] == "mine"
    later.join()


def test_a_backend_that_is_paused(
    store: LogStore, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits once for about a second, says what is hidden, and has it when that has ended."""
    paused = server().connect()
    paused.run("BEGIN", time.monotonic() + HANG)
    given = append_parameters(batch("paused", 0))
    paused.execute(append_statement(f'"{schema}"'), given, time.monotonic() + HANG)
    os.kill(paused.backend_pid(), signal.SIGSTOP)
    try:
        mine = say(store)
        began = time.monotonic()
        assert store.list_sessions() == []
        assert 0.5 < time.monotonic() - began < HANG
        began = time.monotonic()
        for _ in range(5):
            assert store.list_sessions() == []
        assert time.monotonic() - began < 2.5  # five seconds, if it waited each time
        assert store.lag > 0
        assert sum("has not ended" in one.message for one in caplog.records) == 1
        with LogStore.open(server().url(schema)) as other:  # has appended nothing
            assert other.list_sessions() == []
    finally:
        os.kill(paused.backend_pid(), signal.SIGCONT)
    paused.run("COMMIT", time.monotonic() + HANG)
    paused.close()
    assert [one.session_id for one in store.list_sessions()] == [mine]
    assert store.lag == 0


def test_what_a_new_primary_lost(store: LogStore) -> None:
    """An append that nobody has any more is not waited for."""
    log = store.backend
    assert isinstance(log, PostgresBackend)
    log.append(batch("s", 0))
    log._own.last += 1 << 20  # as if a standby had taken over without the last appends
    began = time.monotonic()
    assert without_positions(log.read()) == batch("s", 0)
    assert time.monotonic() - began < 0.9
    assert log.last_appended() == log.head()
