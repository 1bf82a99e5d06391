"""An erasure in PostgreSQL: what is left in the files, who may erase, what the guards refuse."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest

from lllm import ErasureRefused, LogStore, LogUnavailable, PostgresBackend, SessionWasErased
from lllm.cli import main
from lllm.events.backends.postgres.binary_values import BIGINT, encode_bigint
from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.digest import erased_payload
from tests.lllm.store.test_erasure import found_in, is_sound, record
from tests.support.postgres import Server, new_schema, server
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


def text() -> str:
    """A text that no other test writes."""
    return f"Zoë lives in {secrets.token_hex(16)}"


def tables_with(on: Server, *texts: str) -> list[str]:
    """The tables, TOAST tables and system catalogs whose files have any of the texts."""
    on.run("CHECKPOINT")  # writes what is in memory, and deletes the files of rewritten tables
    connection = on.connect()
    name = Statement("SELECT pg_filenode_relation(0::oid, $1::oid)::regclass::text", (BIGINT,))
    try:
        return [
            (
                connection.execute(
                    name, (encode_bigint(int(file.split(".")[0])),), time.monotonic() + HANG
                ).get_value(0, 0)
                or b"?"
            ).decode()
            for file in found_in(on.folder / "data" / "base", *texts)
        ]
    finally:
        connection.close()


def test_nothing_is_left_in_the_files(store: LogStore, schema: str) -> None:
    """Short and long payloads, tags, rows, samples of columns: until the VACUUM, and not after."""
    secret, other = text(), text()
    noise = secrets.token_hex(40_000)  # is stored in the TOAST table, and hardly compressed
    gone = [record(store, f"{secret} {noise}"), record(store, secret, tags={"user": secret})]
    store.tag(gone[0], {"note": secret})
    kept = record(store, other)
    server().run(f'ANALYZE "{schema}".payloads; ANALYZE "{schema}".events')
    assert store.vacuum()  # analyses the rows, so there are samples
    assert tables_with(server(), secret)
    for one in gone:
        report = store.erase_session(one, reason="asked to", by="ada")
        assert report.pending
        assert any("write-ahead log" in place for place in report.out_of_reach)
    with pytest.raises(SessionWasErased):
        store.load_session(gone[0])
    assert tables_with(server(), secret)
    assert store.vacuum()
    assert tables_with(server(), secret, noise[-64:]) == []
    assert tables_with(server(), other)
    assert store.load_session(kept).task is not None
    assert is_sound(store)
    assert not store.erase_session(gone[0], reason="again").pending


def test_a_snapshot_that_is_older(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever could still see the texts delays the VACUUM, which says so and rewrites nothing."""
    from lllm.events.backends.postgres import erasing

    monkeypatch.setattr(erasing, "SNAPSHOT_SECONDS", 0.3)
    secret = text()
    gone = record(store, secret)
    dump = server().connect()
    try:
        dump.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", time.monotonic() + HANG)
        store.erase_session(gone, reason="x")
        assert not store.vacuum()
        assert tables_with(server(), secret)
        dump.run("COMMIT", time.monotonic() + HANG)
    finally:
        dump.close()
    assert store.vacuum()
    assert tables_with(server(), secret) == []


def test_the_commands(store: LogStore, schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They say what is pending, what lllm can't reach, what is locked, and that it is done."""
    url, secret = server().url(schema), text()
    gone = record(store, secret)
    given = ["--store", url, "--reason", "asked", "--by", "ada", "--yes"]
    assert main(["erase", gone, *given]) == 0
    said = capsys.readouterr().out
    assert "Pending: copies may stay in gaps of files until `lllm vacuum` has run." in said
    assert "standbys, and base backups" in said
    assert main(["vacuum", "--store", url]) == 0
    said = capsys.readouterr().out
    assert f"Rewriting {schema}.payloads," in said
    assert "no copy of what was erased is left" in said
    assert tables_with(server(), secret) == []
    assert main(["retain", "--days", "1", "--store", url]) == 0


def refused(script: str, user: str = "postgres") -> str:
    """Run SQL that the server refuses. Returns its words."""
    connection = server().connect(user)
    try:
        with pytest.raises(ServerRefused) as error:
            connection.run(script, time.monotonic() + HANG)
        return str(error.value)
    finally:
        connection.close()


def test_only_an_erasure_changes_payloads(store: LogStore, schema: str) -> None:
    """The owner of the tables is refused, too, whatever would not fit the digests."""
    record(store, "here")
    before = list(store.log.read())
    fake = erased_payload(b"\0" * 32).hex()
    at, q = before[0].position, f'"{schema}"'
    kept = f"INSERT INTO {q}.kept_payloads VALUES ({at}, "
    for script, words in (
        (f"UPDATE {q}.payloads SET data = 'x'", "never changed"),
        (f"DELETE FROM {q}.payloads", "never changed"),
        (f"TRUNCATE {q}.payloads", "never changed"),
        (f"TRUNCATE {q}.kept_payloads", "never changed"),
        (f"{kept} 'x')", "does not fit the digest"),
        (f"{kept} '\\x{fake}')", "does not fit the digest"),
        (f"SELECT {q}.erase(ARRAY[{at}], ARRAY['\\x{fake}'::bytea])", "does not fit the digest"),
    ):
        assert words in refused(script)
    store.erase_session(store.list_sessions()[0].session_id, reason="x")
    for script in (f"DELETE FROM {q}.kept_payloads", f"UPDATE {q}.kept_payloads SET data = 'x'"):
        refused(script)
    assert [one.digest for one in store.log.read()][: len(before)] == [one.digest for one in before]
    assert is_sound(store)


def test_who_may_erase(store: LogStore, schema: str) -> None:
    """A role that writes and reads may not; one with the privilege may; the owner vacuums."""
    role, q = f"role_{schema}", f'"{schema}"'
    server().run(
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {q} TO {role};"
        f"GRANT EXECUTE ON FUNCTION {q}.append TO {role};"
        f"GRANT SELECT ON {q}.events, {q}.payloads, {q}.kept_payloads TO {role}"
    )
    gone = record(store, "here")
    own = PostgresBackend(server().url(schema, user=role))
    [first, *_] = own.read(stream=gone)
    with pytest.raises(LogUnavailable, match="lacks a privilege"):
        own.erase_payloads([first])
    with pytest.raises(LogUnavailable, match="lacks a privilege"):
        own.vacuum()
    store.erase_session(gone, reason="x")
    server().run(
        f"GRANT EXECUTE ON FUNCTION {q}.erase TO {role}; GRANT SELECT ON {q}.unvacuumed TO {role}"
    )
    own.erase_payloads(list(store.log.read(stream=gone)))
    with pytest.raises(LogUnavailable, match="does not own the table"):
        own.vacuum()
    own.close()
    assert store.vacuum()
    server().run(f"REVOKE EXECUTE ON FUNCTION {q}.erase FROM {role}")
    other = record(store, "there")
    with (
        LogStore.open(server().url(schema, user=role)) as weak,
        pytest.raises(ErasureRefused, match="no EXECUTE"),
    ):
        weak.erase_session(other, reason="x")
    assert store.load_session(other).task is not None
    server().run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def format_of(store: LogStore) -> int:
    """The format of its tables."""
    assert isinstance(store.backend, PostgresBackend)
    health = store.backend.health(store.backend.head(), read_bytes=None)
    assert health.bytes > 0
    return health.format


def test_tables_of_an_earlier_version(store: LogStore, schema: str) -> None:
    """They are read and written. Their owner brings them up to date by opening the log to write;
    others are told how that is done."""
    gone, q = record(store, "here"), f'"{schema}"'
    server().run(
        f"DROP TABLE {q}.kept_payloads, {q}.unvacuumed, {q}.archived_leaves;"
        f"DROP FUNCTION {q}.erase, {q}.remove_events;"
        f"DROP TRIGGER events_go_archived ON {q}.events;"
        f"CREATE OR REPLACE TRIGGER events_stay BEFORE UPDATE OR DELETE ON {q}.events"
        f" FOR EACH ROW EXECUTE FUNCTION {q}.refuse_change();"
        f"UPDATE {q}.format SET version = 1; CREATE ROLE {schema} LOGIN;"
        f"GRANT USAGE ON SCHEMA {q} TO {schema};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA {q} TO {schema};"
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {q} TO {schema}"
    )
    with LogStore.open(server().url(schema, user=schema)) as other:
        assert other.load_session(gone).task is not None
        with pytest.raises(ErasureRefused, match="lllm schema --postgres"):
            other.erase_session(gone, reason="x")
        assert other.load_session(gone).task is not None
        assert format_of(other) == 1
    with LogStore.open(server().url(schema), read_only=True) as reader:
        assert format_of(reader) == 1
    with LogStore.open(server().url(schema)) as again:
        assert format_of(again) == 2
        again.erase_session(gone, reason="x")
        assert is_sound(again)
    server().run(f"DROP OWNED BY {schema}; DROP ROLE {schema}")
