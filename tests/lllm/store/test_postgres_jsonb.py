"""Payloads as jsonb, for dashboards on PostgreSQL: what is there, what can't be, when it goes."""

from __future__ import annotations

import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from lllm import ConfigError, LogStore, PostgresBackend, StoreError
from lllm.cli import main
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.postgres.server_url import parse_server_url
from lllm.projections.views.payloads import jsonb_of
from tests.lllm.store.test_erasure import record
from tests.lllm.store.test_postgres_erasure import tables_with
from tests.support.echo import echo
from tests.support.postgres import new_schema, server
from tests.support.waiting import HANG

ODD = (
    b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b'{"a": "\\udc00\\ud800"}', b'{"a": 1e200000}',
    b'{"a": 1e-20000}', b'{"a": -1e131073}', b'{"\\u0000": 1}', b'{"a": "\\\\\\u0000"}',
    b'{"a": ' + b"9" * 131_073 + b"}", b'{"a": 0.' + b"1" * 16_384 + b"}",
)  # fmt: skip
FINE = (
    b'{"a": "\\\\u0000"}', b'{"a": "\\ud83d\\ude00"}', b'{"a": 1e131071}', b'{"a": "\\\\ud800"}',
    b'{"a": "1e200000"}', b'{"a": 0.1, "a": 2}', b'"' + b"7" * 20_000 + b'"', b"[1e-16383]",
    b'{"a": ' + b"9" * 131_072 + b"}",
)  # fmt: skip


@pytest.fixture
def schema() -> str:
    """A schema of the test's own."""
    return new_schema()


@pytest.fixture
def asked(schema: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Someone who asks in SQL, as a dashboard does."""
    at = parse_server_url(server().url(schema))
    with closing(psycopg.connect(at.conninfo, autocommit=True)) as connection:
        connection.execute(f'SET search_path = "{schema}"')
        yield connection


@pytest.mark.slow
def test_a_dashboard_asks_for_fields(
    schema: str, asked: psycopg.Connection[tuple[object, ...]]
) -> None:
    """All machines keep it once one has asked; NULL where jsonb can't hold it; off removes it."""
    url = server().url(schema)
    secret = secrets.token_hex(16)
    with LogStore.open(url) as store:
        record(store, "before it was asked for")
    with LogStore(PostgresBackend(url, jsonb=True)) as store:
        first = record(store, f"say {secret}")
        odd = record(store, "a NUL: \0")
    with LogStore.open(url) as store:  # says nothing of it
        record(store, "another machine")
        echo(store)("a call")
        assert store.list_sessions()
        tasks = asked.execute(
            "SELECT payload->'task'->>'ask' FROM readable_payloads JOIN sessions ON id = session_id"
            " WHERE type = 'session.started' AND parent IS NULL ORDER BY position"
        ).fetchall()
        assert [task for (task,) in tasks] == [
            "before it was asked for", f"say {secret}", None, "another machine", None
        ]  # fmt: skip
        store.tag(first, {"env": "prod"})  # one row is not written as many are
        assert store.list_sessions()
        [(tags,)] = asked.execute(
            "SELECT payload->'set'->>'env' FROM readable_payloads WHERE type = 'session.tagged'"
        ).fetchall()
        assert tags == "prod"
        models = asked.execute(
            "SELECT payload->>'model' AS model, count(*) FROM readable_payloads"
            " WHERE type = 'llm.requested' AND time_at > now() - interval '1 day' GROUP BY 1"
        ).fetchall()
        assert models == [("gpt-4o-mini", 1)]
        lost = asked.execute(
            "SELECT DISTINCT session_id FROM readable_payloads WHERE payload IS NULL"
        ).fetchall()
        assert (odd,) in lost
        assert (first,) not in lost
        store.tag(first, {"note": secret})
        assert store.list_sessions()
        assert f"{schema}.event_payloads_v1" in tables_with(server(), secret)
        store.erase_session(first, reason="asked to")
        left = asked.execute(
            "SELECT type FROM readable_payloads WHERE session_id = %s", (first,)
        ).fetchall()
        assert left == [("session.erased",)]
        assert store.rebuild(check=True).difference is None
        assert store.vacuum()
        assert tables_with(server(), secret) == []
        assert "event_payloads" in store.rebuild().views
        assert store.rebuild(check=True).difference is None
        assert store.rebuild(jsonb=False).views == ()
        found = asked.execute("SELECT to_regclass('event_payloads_v2')::text").fetchone()
        assert found == (None,)
    with LogStore.open(url) as store:
        assert "event_payloads" not in store.rebuild().views
        assert store.rebuild(jsonb=True).views == ("event_payloads",)
        count = asked.execute("SELECT count(payload) FROM event_payloads").fetchone()
        assert count is not None
        assert count[0]


@pytest.mark.slow
def test_the_store_knows_whether_it_is_on(
    schema: str,
    asked: psycopg.Connection[tuple[object, ...]],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stores that are open follow it, and URLs that contradict it change nothing but warn."""
    url = server().url(schema)

    def built() -> object:
        """The generation of the copies, and the number of `record`s in it."""
        row = asked.execute("SELECT to_regclass('event_payloads')").fetchone()
        if row == (None,):
            return None
        return asked.execute(
            "SELECT (SELECT generation FROM checkpoints WHERE view = 'event_payloads'),"
            " count(DISTINCT session) / 2 FROM event_payloads"  # each has one below it
        ).fetchone()

    with LogStore.open(url) as early, LogStore.open(url) as other:
        record(early, "before")
        assert built() is None
        assert early.rebuild().views
        assert built() is None  # a rebuild does not begin it
        assert main(["rebuild", "--jsonb", "on", "--store", url]) == 0
        assert built() == (1, 1)
        for number, store in enumerate((early, other)):  # open before, and they keep it up
            record(store, "after")
            assert store.list_sessions()
            assert built() == (1, 2 + number)
            assert store.rebuild(check=True).difference is None
        for says in ("on", "off", "on", "off"):  # nobody builds or removes it again
            with LogStore.open(f"{url}&jsonb={says}") as store:
                assert store.list_sessions()
            assert built() == (1, 3)
        assert caplog.text.count("jsonb=off, but this was turned on for the store") == 2
        assert main(["rebuild", "--jsonb", "off", "--store", url]) == 0
        assert "`lllm rebuild --jsonb on` copies them" in capsys.readouterr().out
        record(early, "without")
        assert early.list_sessions()
        assert "event_payloads" not in other.rebuild().views
        with LogStore.open(f"{url}&jsonb=on"):
            assert built() is None
        assert "jsonb=on, but this was turned off for the store" in caplog.text
        assert other.rebuild(jsonb=True).views == ("event_payloads",)
        record(early, "again")
        assert early.list_sessions()
        assert built() == (1, 5), "of a new table"


@pytest.mark.slow
def test_many_ask_at_once(schema: str, asked: psycopg.Connection[tuple[object, ...]]) -> None:
    """Processes that open a new store with jsonb=on make the copies together, and agree later."""
    url = f"{server().url(schema)}&jsonb=on"
    program = (
        "import sys, lllm\n"
        "with lllm.LogStore.open(sys.argv[1]) as store:\n"
        "    with store.session('tests::one'): pass\n"
        "    store.list_sessions()\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
    assert [one.wait(HANG) for one in started] == [0, 0, 0]
    with LogStore.open(url) as store:
        assert len(store.list_sessions()) == 3
        assert store.rebuild(check=True).difference is None
        assert "event_payloads" in store.rebuild().views
    assert asked.execute("SELECT count(DISTINCT session) FROM event_payloads").fetchone() == (3,)


def test_other_stores_have_none() -> None:
    """A store that is not in PostgreSQL says so."""
    with LogStore(MemoryBackend()) as store:
        for jsonb in (True, False):
            with pytest.raises(StoreError, match="only a store in PostgreSQL can"):
                store.rebuild(jsonb=jsonb)
        with pytest.raises(ValueError, match="give one of them"):
            store.rebuild(check=True, jsonb=True)


@pytest.mark.slow
def test_the_server_agrees(asked: psycopg.Connection[tuple[object, ...]]) -> None:
    """What is left out is what jsonb refuses, and nothing else."""
    for data in (*ODD, *FINE):
        try:
            asked.execute("SELECT %s::jsonb", (data.decode(),))
            refused = False
        except psycopg.Error:
            refused = True
        assert (jsonb_of(data) is None) is refused is (data in ODD), data[:40]
    deep = b"[" * 100_000 + b"]" * 100_000
    assert jsonb_of(deep + b'"\\ud83d"') is None


def test_how_it_is_asked_for() -> None:
    """In the URL or as an option, which another process gets, too."""
    assert PostgresBackend("postgresql:///logs").jsonb is None
    assert PostgresBackend("postgresql:///logs?jsonb=off").jsonb is False
    backend = PostgresBackend("postgresql:///logs?jsonb=off", jsonb=True)
    assert pickle.loads(pickle.dumps(backend)).jsonb is True
    with pytest.raises(ConfigError, match="on or off"):
        PostgresBackend("postgresql:///logs?jsonb=yes")
