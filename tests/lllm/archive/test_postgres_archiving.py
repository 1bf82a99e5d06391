"""Sessions leave a log in PostgreSQL for an archive, as they leave an SQLite file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, LogUnavailable, PostgresBackend, SessionWasArchived
from lllm.archive import archiver
from lllm.cli import main
from lllm.events.backend import read_digests
from lllm.events.backends.postgres.errors import ServerRefused
from tests.events.backends.postgres.test_postgres_partitions import ask
from tests.lllm.archive.test_archiving import archive, ended, is_sound, record, sums
from tests.support.postgres import new_schema, server
from tests.support.random_histories import write

pytestmark = pytest.mark.slow


@pytest.fixture
def schema() -> str:
    """A schema of the test's own."""
    return new_schema()


@pytest.fixture
def store(schema: str) -> Iterator[LogStore]:
    """A store with some sessions."""
    with LogStore.open(server().url(schema)) as opened:
        write(opened, random.Random(5))
        for text in "abc":
            record(opened, text)
        yield opened


def test_all_that_stays(store: LogStore, schema: str, tmp_path: Path) -> None:
    """Events go; digests, costs, tags and lists stay, and the archive has all of it."""
    digests = [leaf for page in read_digests(store.backend) for leaf in page]
    many, before, bill, going = len(digests), store.list_sessions(), sums(store), ended(store)
    loaded = {one: store.load_session(one) for one in going}
    report = archive(store, tmp_path / "old")
    assert sorted(report.sessions) == sorted(going)
    assert report.pending
    assert is_sound(store) == report.events > 30
    assert [leaf for page in read_digests(store.backend) for leaf in page][:many] == digests
    assert sums(store) == bill
    assert [one.session_id for one in store.list_sessions()] == [one.session_id for one in before]
    with pytest.raises(SessionWasArchived, match="old"):
        store.load_session(going[0])
    for table in ("events", "payloads", "kept_payloads"):
        both = f"{schema}.{table} JOIN {schema}.archived_leaves USING (position)"
        assert ask(f"SELECT count(*) FROM {both}") == [0]
    assert store.vacuum()
    with LogStore.open(report.files[0]) as old:
        for one in old.list_sessions(limit=None):
            assert old.load_session(one.session_id) == loaded[one.session_id]
    assert store.import_sessions(tmp_path / "old").sessions >= len(going)
    assert store.load_session(going[0]) == loaded[going[0]]
    assert sums(store) == bill
    is_sound(store)


@pytest.mark.parametrize("at", ["noted", "named", "said", "rows", "some", "removed"])
def test_what_an_error_interrupts_is_finished(
    store: LogStore, schema: str, tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store is opened again, all sessions stay, or all have left."""
    going, bill = ended(store), sums(store)

    def stop(name: str) -> None:
        if name == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archiver, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            archive(store, tmp_path / "old")
    store.close()
    with LogStore.open(server().url(schema)) as again:
        archived = is_sound(again)
        assert sums(again) == bill
        assert len(list((tmp_path / "old").glob("*"))) == bool(archived)
        assert bool(archived) == (at not in ("noted", "named"))
        if not archived:
            assert again.load_session(going[0]).state in ("success", "failure")


def test_a_backup(schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy says what it lacks; with the archives imported, its lists and sums are those of the
    store."""
    url, copied = server().url(schema), tmp_path / "copy.db"
    with LogStore.open(url) as store:
        record(store, "archived")
        archive(store, tmp_path / "old")
        record(store, "new")
        listed, bill = [one.session_id for one in store.list_sessions()], sums(store)
    assert main(["backup", str(copied), "--store", url]) == 0
    said = capsys.readouterr().out
    assert "may lack these sessions" in said
    assert f"lllm import ARCHIVES --store {copied}" in said
    with LogStore.open(copied) as copy:
        is_sound(copy)
        copy.import_sessions(tmp_path / "old")
        assert [one.session_id for one in copy.list_sessions()] == listed
        assert sums(copy) == bill
        is_sound(copy)


def test_nothing_else_can_be_deleted(store: LogStore, schema: str, tmp_path: Path) -> None:
    """The tables refuse it even to their owner."""
    archive(store, tmp_path / "old")
    for statement in (
        "DELETE FROM {}.events",
        "DELETE FROM {}.payloads",
        "DELETE FROM {}.archived_leaves",
        "UPDATE {}.archived_leaves SET digest = ''",
        "TRUNCATE {}.archived_leaves",
        "INSERT INTO {}.archived_leaves SELECT position, sha256(digest) FROM {}.events LIMIT 1",
    ):
        with pytest.raises(ServerRefused, match=r"never changed|no event with this digest"):
            server().run(statement.format(schema, schema))


def test_a_role_that_may_not(schema: str) -> None:
    """It is told what is missing."""
    with LogStore.open(server().url(schema)) as store:
        record(store, "a")
    server().run(
        f"CREATE ROLE {schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {schema};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {schema}"
    )
    log = PostgresBackend(server().url(schema, user=schema))
    assert "remove_events" in str(log.why_not_removable)
    with pytest.raises(LogUnavailable, match="lacks a privilege"):
        log.remove_events([(1, b"")])
    log.close()
    server().run(f"DROP OWNED BY {schema}; DROP ROLE {schema}")
