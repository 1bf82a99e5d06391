"""What goes wrong between a program and its PostgreSQL server costs no event, and doubles none."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from urllib.parse import quote

import pytest

from lllm import LogError, LogStore, LogUnavailable, PostgresBackend
from lllm.events.backends.postgres.binary_values import decode_bigint
from lllm.events.backends.postgres.connection import Statement
from lllm.events.buffered import BufferedLog
from lllm.testing.writers import batch, event, fork, without_positions
from tests.support.postgres import Server, new_schema, server
from tests.support.postgres_proxy import Proxy
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A network between the test and its server."""
    with Proxy(server()) as made:
        yield made


@pytest.fixture
def url(proxy: Proxy) -> str:
    """A log behind it."""
    return proxy.url(new_schema())


@pytest.fixture
def log(url: str) -> Iterator[PostgresBackend]:
    """The same, which exists."""
    opened = PostgresBackend(url)
    assert opened.head() == 0
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that a test may harm as a whole."""
    made = Server({"wal_level": "replica", "max_wal_senders": "2"})
    yield made
    made.remove()


def test_an_answer_that_is_lost(log: PostgresBackend, proxy: Proxy) -> None:
    """A connection that ends behind the commit: the append is sent again, and recognised."""
    for number in range(3):
        proxy.loses_answers = number
        log.append(batch("s", number))
        assert proxy.loses_answers == 0
    assert without_positions(log.read()) == [one for n in range(3) for one in batch("s", n)]


def test_a_network_that_falls_silent(log: PostgresBackend, url: str, proxy: Proxy) -> None:
    """An append waits for the client's deadline and no longer; then events wait, in order."""
    log.append(batch("s", 0))
    hasty = PostgresBackend(url, timeout=1.0)
    buffered = BufferedLog(hasty)
    assert hasty.head() == log.head()
    proxy.silent.set()
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match="wait in memory.*has not answered in time"):
        buffered.append(batch("s", 1))
    assert 0.9 < time.monotonic() - began < HANG
    began = time.monotonic()
    for number in range(2, 52):
        buffered.append(batch("s", number))
    assert time.monotonic() - began < 5  # of which at most one waits, a second
    assert len(buffered.held) == 51 * 3
    proxy.silent.clear()
    until = time.monotonic() + HANG
    while not buffered.write_held(now=True, within=2.5):
        assert time.monotonic() < until
    hasty.close()
    assert without_positions(log.read()) == [one for n in range(52) for one in batch("s", n)]


def test_a_loop_does_not_wait(url: str, proxy: Proxy) -> None:
    """While an append waits for the server, the event loop runs on."""
    gaps = []

    async def beat() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async def main(store: LogStore) -> None:
        async with store.session("tests::before"):
            pass
        beating = asyncio.create_task(beat())
        await asyncio.sleep(0.05)
        proxy.silent.set()
        async with store.session("tests::silent"):
            pass
        beating.cancel()

    with LogStore(PostgresBackend(url, timeout=1.5)) as store:
        with pytest.warns(RuntimeWarning, match="wait in memory"):
            asyncio.run(main(store))
        proxy.silent.clear()
        until = time.monotonic() + HANG
        while not store.log.write_held(now=True, within=2.5):
            assert time.monotonic() < until
        assert len(store.list_sessions()) == 2
    assert sum(gaps) > 1
    assert max(gaps) < 1.2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_restarts(own: Server, how: signal.Signals) -> None:
    """Writers go on through a restart or a crash; nothing is lost, doubled or in another order."""
    url = own.url(new_schema())
    over, appended = threading.Event(), [0] * 4

    def write(number: int) -> None:
        log = BufferedLog(PostgresBackend(url))
        while not over.is_set():
            log.append(batch(f"w{number}", appended[number]))
            appended[number] += 1
            time.sleep(0.002)
        until = time.monotonic() + HANG
        while not log.write_held(now=True, within=2.5):
            assert time.monotonic() < until
        log.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with ThreadPoolExecutor(4) as threads:
            writers = [threads.submit(write, number) for number in range(4)]
            try:
                time.sleep(0.5)
                own.crash() if how == signal.SIGKILL else own.restart(how)
                time.sleep(0.8)
            finally:
                over.set()
            for writer in writers:
                writer.result(HANG)
    log = PostgresBackend(url)
    found = list(log.read())
    for number, many in enumerate(appended):
        mine = without_positions(one for one in found if one.stream == f"w{number}")
        assert mine == [one for n in range(many) for one in batch(f"w{number}", n)]
        assert many > 10
    log.close()


@pytest.fixture
def away(own: Server) -> Iterator[Callable[[bool], None]]:
    """Makes the server wait for a standby that is away; False: no longer."""

    def is_away(wanted: bool) -> None:
        name = "'nobody'" if wanted else "DEFAULT"
        own.run(f"ALTER SYSTEM SET synchronous_standby_names = {name}")
        own.run("SELECT pg_reload_conf()")

    yield is_away
    is_away(False)


def append_until_refused(log: PostgresBackend) -> int:
    """Append until a setting of the server has taken effect. Returns the number of the append."""
    until = time.monotonic() + HANG
    for number in count(1):
        assert time.monotonic() < until
        try:
            log.append(batch("s", number))
        except LogUnavailable:
            return number
    raise AssertionError


def test_a_standby_that_says_nothing(own: Server, away: Callable[[bool], None]) -> None:
    """A commit that waits for a standby is not acknowledged; when one comes, it is recognised."""
    log = PostgresBackend(own.url(new_schema()))
    log.append(batch("s", 0))
    hasty = PostgresBackend(own.url(log.schema), timeout=0.5)
    away(True)
    number = append_until_refused(hasty)
    with pytest.raises(LogUnavailable, match="not known whether the events were stored"):
        hasty.append(batch("s", number))
    hasty.close()
    before = [one for n in range(number) for one in batch("s", n)]
    assert without_positions(log.read()) == before
    away(False)
    for more in (number, number + 1):
        last = log.append(batch("s", more))[-1]
        before += batch("s", more)
    # Readers see nothing behind an append that is still under way: the one that was given up.
    until = time.monotonic() + HANG
    while log.head() < last and time.monotonic() < until:
        time.sleep(0.01)
    assert without_positions(log.read()) == before
    log.close()


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_a_standby_that_is_cancelled(
    own: Server, away: Callable[[bool], None], how: str
) -> None:
    """A commit that is cancelled there is a success for the server, and of one whose backend ends
    it says nothing. Neither is acknowledged, nor is the same append again, which the server has
    stored but its standby has not."""
    log = PostgresBackend(own.url(new_schema()))
    log.append(batch("s", 0))
    hasty = PostgresBackend(own.url(log.schema), timeout=0.5)
    away(True)
    append_until_refused(hasty)
    over = threading.Event()

    def cancel() -> None:
        while not over.wait(0.05):
            own.run(f"SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    with ThreadPoolExecutor(1) as threads:
        cancelling = threads.submit(cancel)
        try:
            for _ in range(2):
                with pytest.raises(LogUnavailable, match="not known whether the events were"):
                    hasty.append(batch("t", 0))
        finally:
            over.set()
        cancelling.result(HANG)
    hasty.close()
    assert without_positions(log.read(stream="t")) == batch("t", 0)
    away(False)
    log.append(batch("t", 0))
    assert without_positions(log.read(stream="t")) == batch("t", 0)
    log.close()


def test_a_backend_that_is_killed_in_its_commit(own: Server, away: Callable[[bool], None]) -> None:
    """It takes the server down, which recovers the commit; appended again, it is recognised."""
    log = BufferedLog(PostgresBackend(own.url(new_schema()), timeout=2.0))
    log.append(batch("s", 0))
    with warnings.catch_warnings(), ThreadPoolExecutor(1) as threads:
        warnings.simplefilter("ignore", RuntimeWarning)
        away(True)
        appended = [0]

        def write() -> None:
            while not log.is_holding:
                appended[0] += 1
                log.append(batch("s", appended[0]))
                time.sleep(0.01)

        writing = threads.submit(write)
        pid = waiting_for_a_standby(own)
        os.kill(pid, signal.SIGKILL)
        writing.result(HANG)
        until = time.monotonic() + HANG
        while True:
            assert time.monotonic() < until
            with suppress(LogUnavailable):
                away(False)
                break
            time.sleep(0.05)
        while not log.write_held(now=True, within=2.5):
            assert time.monotonic() < until
    expected = [one for n in range(appended[0] + 1) for one in batch("s", n)]
    assert without_positions(log.read()) == expected
    log.close()


def waiting_for_a_standby(server: Server) -> int:
    """The process of the server whose commit waits for a standby."""
    connection = server.connect()
    find = Statement(
        "SELECT coalesce(min(pid), 0)::bigint FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    )
    until = time.monotonic() + HANG
    try:
        while True:
            found = decode_bigint(connection.execute(find, (), until).get_value(0, 0) or b"")
            if found:
                return found
            time.sleep(0.02)
    finally:
        connection.close()


def test_a_standby_takes_over() -> None:
    """The primary is killed and its synchronous standby promoted; writers go on, nothing is lost,
    doubled or in another order."""
    replicated = {"wal_level": "replica", "max_wal_senders": "4"}
    primary = Server(replicated)
    standby = Server(replicated, standby_of=primary)
    primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.run("SELECT pg_reload_conf()")
    schema = new_schema()
    hosts = quote(f"{primary.folder},{standby.folder}", safe="")
    url = f"postgresql:///postgres?host={hosts}&user=postgres&target_session_attrs=read-write"
    made = PostgresBackend(url, schema=schema)
    made.append(batch("first", 0))
    made.close()
    over, appended = threading.Event(), [0] * 3

    def write(number: int) -> None:
        log = BufferedLog(PostgresBackend(url, schema=schema))
        while not over.is_set():
            log.append(batch(f"w{number}", appended[number]))
            appended[number] += 1
            time.sleep(0.002)
        until = time.monotonic() + HANG
        while not log.write_held(now=True, within=2.5):
            assert time.monotonic() < until
        log.close()

    with warnings.catch_warnings(), ThreadPoolExecutor(3) as threads:
        warnings.simplefilter("ignore", RuntimeWarning)
        writers = [threads.submit(write, number) for number in range(3)]
        try:
            time.sleep(0.5)
            primary.stop(signal.SIGQUIT)
            standby.run("SELECT pg_promote()")
            time.sleep(0.5)
        finally:
            over.set()
        for writer in writers:
            writer.result(HANG)
    log = PostgresBackend(standby.url(schema))
    found = list(log.read())
    for number, many in enumerate(appended):
        mine = without_positions(one for one in found if one.stream == f"w{number}")
        assert mine == [one for n in range(many) for one in batch(f"w{number}", n)]
        assert many > 10
    log.close()
    for one in (standby, primary):
        one.remove()


def test_a_commit_that_is_never_put_off(own: Server) -> None:
    """A server that acknowledges what is not on its disk is asked to do better."""
    own.run("ALTER ROLE postgres SET synchronous_commit = off")
    try:
        log = PostgresBackend(own.url(new_schema()))
        found = log._pool.ask(Statement("SELECT current_setting('synchronous_commit')"), ())
        assert found.get_value(0, 0) == b"on"
        log.close()
    finally:
        own.run("ALTER ROLE postgres RESET synchronous_commit")


def test_a_fork_uses_no_connection_of_its_parent(log: PostgresBackend) -> None:
    """A child connects anew, and its end does not end the connections of its parent."""
    backend = Statement("SELECT pg_backend_pid()::bigint")

    def pid() -> int:
        return decode_bigint(log._pool.ask(backend, ()).get_value(0, 0) or b"")

    before = pid()

    def child() -> None:
        assert pid() != before
        log.append([event("child", 1)])

    assert fork(child) == 0
    assert pid() == before
    assert without_positions(log.read()) == [event("child", 1)]


def test_a_pooler_is_refused(url: str, proxy: Proxy) -> None:
    """Behind PgBouncer the server's process is another than was announced."""
    proxy.other_pid = True
    with pytest.raises(LogError, match="leads to a connection pooler, such as PgBouncer") as error:
        PostgresBackend(url).head()
    assert "\n" not in str(error.value)


def test_more_threads_than_connections(log: PostgresBackend, proxy: Proxy) -> None:
    """A process has a bounded number of connections, for which its threads take turns."""
    with ThreadPoolExecutor(30) as threads:
        tasks = [threads.submit(log.append, [event(f"s{n}", 1)]) for n in range(300)]
        assert len({task.result(HANG)[0] for task in tasks}) == 300
    assert proxy.connections <= 9


def test_a_forgotten_log_closes_its_connections() -> None:
    """A log that nobody refers to any more leaves no connection on the server."""
    log: PostgresBackend | None = PostgresBackend(server().url(new_schema()))
    assert log is not None
    log.append([event("s", 1)])
    found = log._pool.ask(Statement("SELECT pg_backend_pid()::bigint"), ()).get_value(0, 0)
    pid = decode_bigint(found or b"")
    del log, found
    until = time.monotonic() + HANG
    while _is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
