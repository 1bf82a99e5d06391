"""Payloads by month: where they go, what retention drops, and that every digest stays provable."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lllm import LogStore, PostgresBackend, SessionWasErased
from lllm.cli import main
from lllm.events.backends.postgres.append_call import append_parameters, append_statement
from lllm.events.backends.postgres.binary_values import decode_bigint
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.errors import ConfigError, LogError
from lllm.store import removal_rows
from lllm.testing.writers import batch, event, without_positions
from tests.events.backends.postgres.test_postgres_positions import Hanging
from tests.lllm.store.test_erasure import is_sound, record
from tests.lllm.store.test_postgres_erasure import tables_with
from tests.support.postgres import new_schema, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow


@pytest.fixture
def schema() -> str:
    """A schema of the test's own."""
    return new_schema()


@pytest.fixture
def store(schema: str) -> Iterator[LogStore]:
    """A store in it, by month."""
    with LogStore(PostgresBackend(server().url(schema), partition_by="month")) as opened:
        opened.backend.head()
        yield opened


def ask(sql: str) -> list[int]:
    """The numbers in the first column."""
    connection = server().connect()
    try:
        found = connection.execute(Statement(sql), (), time.monotonic() + HANG)
        return [decode_bigint(found.get_value(row, 0) or b"") for row in range(found.ntuples)]
    finally:
        connection.close()


def partitions(schema: str) -> list[int]:
    """The numbers of the partitions."""
    return ask(f"SELECT number FROM {schema}.payload_partitions ORDER BY 1")


def a_month_passes(store: LogStore, schema: str) -> None:
    """As if all that was written until now had been written before this month."""
    server().run(f"UPDATE {schema}.payload_partitions SET began = began - interval '32 days'")
    assert isinstance(store.backend, PostgresBackend)
    store.backend._months.look(now=True)


def test_each_month_has_a_partition(store: LogStore, schema: str) -> None:
    """Positions jump to the next range, everything is read as before, in one order."""
    for month in range(3):
        store.backend.append(batch("s", month))
        assert partitions(schema) == list(range(month + 2))
        assert ask(f"SELECT count(*) FROM {schema}.payloads_{month}") == [3]
        a_month_passes(store, schema)
    found = list(store.backend.read())
    assert without_positions(found) == [one for n in range(3) for one in batch("s", n)]
    assert [one.position >> 46 for one in found] == [0] * 3 + [1] * 3 + [2] * 3
    assert list(store.backend.append(batch("s", 1))) == [one.position for one in found[3:6]]
    for change in (f"TRUNCATE {schema}.payloads_0", f"DELETE FROM {schema}.payloads_1"):
        with pytest.raises(ServerRefused, match="never changed"):
            server().run(change)


def test_an_append_under_way_when_a_month_begins(store: LogStore, schema: str) -> None:
    """It hides what comes behind it, also in the new range, until it ends."""
    store.backend.append(batch("before", 0))
    hanging = Hanging(schema, batch("hangs", 0))
    a_month_passes(store, schema)
    store.backend.append(batch("behind", 0))
    assert without_positions(store.backend.read()) == batch("before", 0)
    hanging.end("COMMIT")
    assert without_positions(store.backend.read()) == [
        one for stream in ("before", "hangs", "behind") for one in batch(stream, 0)
    ]


def test_many_begin_a_month(store: LogStore, schema: str) -> None:
    """Of many processes that find a new month while others write, one begins it."""
    server().run(f"UPDATE {schema}.payload_partitions SET began = began - interval '32 days'")

    def write(number: int) -> None:
        log = PostgresBackend(server().url(schema))
        for seq in range(1, 30):
            log.append([event(f"w{number}", seq)])
            log._months.look(now=True)
        log.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    assert partitions(schema) == [0, 1, 2]
    assert len(list(store.backend.read())) == 6 * 29


def test_retention_drops_what_is_over(store: LogStore, schema: str) -> None:
    """A month whose sessions are erased goes at once; one with a held session, in the VACUUM."""
    secret = f"Zoë lives in {secrets.token_hex(16)}"
    gone = [record(store, f"{secret} {number}") for number in range(3)]
    seal = store.seal()
    digests = [one.digest for one in store.backend.read()]
    a_month_passes(store, schema)
    held = record(store, secrets.token_hex(100_000))
    other = record(store, secret)
    store.hold(held, reason="case 7")
    a_month_passes(store, schema)
    kept = record(store, "kept")
    assert partitions(schema) == [0, 1, 2, 3]
    for one in gone:
        report = store.erase_session(one, reason="too old")
    assert report.pending  # because of the rows
    assert partitions(schema) == [1, 2, 3]
    assert [one.digest for one in store.backend.read()][: len(digests)] == digests
    report = store.erase(before="2100-01-01", reason="too old")
    assert report.held == [held]
    assert partitions(schema) == [1, 2, 3]
    assert tables_with(server(), secret)
    assert store.vacuum()
    assert tables_with(server(), secret) == []
    assert is_sound(store)
    assert store.load_session(held).task is not None
    assert {one.session_id for one in store.list_sessions()} == {*gone, held, other, kept}
    with LogStore.open(server().url(schema)) as again:
        assert again.rebuild(check=True).difference is None
        assert again.seal() != seal
    store.release(held, reason="over")
    store.erase_session(held, reason="too old")
    assert partitions(schema) == [2, 3]
    assert is_sound(store)


def test_a_partition_in_use_stays(
    store: LogStore, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append of the month before that is under way, and the running month, keep a partition."""
    monkeypatch.setattr(removal_rows, "_FOLLOW_SECONDS", 1.0)  # they can't pass that append
    gone = record(store, "here")
    store.erase_session(gone, reason="x")
    assert partitions(schema) == [0, 1]
    again = record(store, "there")
    hanging = Hanging(schema, batch("hangs", 0))
    a_month_passes(store, schema)
    hanging.end("COMMIT")
    hanging = Hanging(schema, batch("hangs", 1))
    try:
        store.erase_session(again, reason="x")
    finally:
        hanging.end("ROLLBACK")
    assert without_positions(store.backend.read(stream="hangs")) == batch("hangs", 0)
    late = append_parameters(batch("late", 0))
    connection = server().connect()
    connection.execute(append_statement(f'"{schema}"'), late, time.monotonic() + HANG)
    connection.close()
    assert is_sound(store)


def test_how_it_is_asked_for(schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the URL, by the command's DDL; a log that was made without it says so."""
    with LogStore.open(f"{server().url(schema)}&partition_by=month") as store:
        record(store, "x")
    assert partitions(schema) == [0, 1]
    other = new_schema()
    assert main(["schema", "--postgres", "--schema", other, "--partition-by", "month"]) == 0
    server().run(capsys.readouterr().out)
    assert partitions(other) == [0, 1]
    whole = new_schema()
    log = PostgresBackend(server().url(whole))
    log.append(batch("s", 0))
    log.close()
    assert partitions(whole) == []
    with pytest.raises(LogError, match="was made without partition_by"):
        PostgresBackend(server().url(whole), partition_by="month").head()
    with pytest.raises(ConfigError, match="partition_by is"):
        PostgresBackend(f"{server().url(whole)}&partition_by=day")


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_running_session_is_kept_whole(store: LogStore, schema: str, length: int) -> None:
    """One that began in a month that is over goes on, whether its content is moved or stays."""
    secret, text = f"Zoë lives in {secrets.token_hex(16)}", secrets.token_hex(length)
    gone = [record(store, f"{secret} {number}") for number in range(3)]
    with store.session("p::runs", task=text) as own:
        for _ in range(2):
            a_month_passes(store, schema)
            report = store.erase(before="2100-01-01", reason="too old")
            assert own.session_id not in report.sessions
            assert store.load_session(own.session_id).task == text
        assert (0 in partitions(schema)) is (length > 10)  # a long one is not moved
        own.deliver("at last")
    assert store.vacuum()
    assert tables_with(server(), secret) == []
    loaded = store.load_session(own.session_id)
    assert (loaded.state, loaded.task, loaded.delivery) == ("success", text, "at last")
    assert {one.session_id for one in store.list_sessions()} == {*gone, own.session_id}
    assert is_sound(store)
    store.erase(before="2100-01-01", reason="too old")
    with pytest.raises(SessionWasErased):
        store.load_session(own.session_id)
    assert is_sound(store)
