"""Connecting as libpq does, with TLS and passwords that nobody sees; several logs and roles."""

from __future__ import annotations

import logging
import pickle
import select
import socket
import ssl
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lllm import ConfigError, LogError, LogReadOnly, LogStore, LogUnavailable, PostgresBackend
from lllm.cli import main
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.backends.postgres.schema import ddl, identifier
from lllm.events.envelope import Recorded
from lllm.testing.writers import batch, event, without_positions
from tests.support.certificates import certificate
from tests.support.postgres import Server, free_port, new_schema, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

SECRET = "hush-5%&' \\"
_ASKS_FOR_TLS = (80877103).to_bytes(4, "big")  # the code of the protocol's SSLRequest
ENCODED = "hush-5%25%26%27%20%5C"


@contextmanager
def tls_in_front_of(on: Server, folder: Path) -> Iterator[int]:
    """A port on which TLS is spoken, in front of a server; not every build of it can speak it."""
    certified, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified, key)

    def serve(plain: socket.socket) -> None:
        with plain, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            if plain.recv(8)[4:] != _ASKS_FOR_TLS:
                return
            plain.sendall(b"S")
            server.connect(str(on.folder / f".s.PGSQL.{on.port}"))
            with context.wrap_socket(plain, server_side=True) as client:
                while True:
                    ready = (
                        [client] if client.pending() else select.select([client, server], [], [])[0]
                    )
                    for one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        (server if one is client else client).sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],)).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join(HANG)


class Guarded(Server):
    """A server on a port that asks for passwords."""

    def __init__(self) -> None:
        super().__init__({"listen_addresses": "127.0.0.1", "port": str(free_port())})
        quoted = SECRET.replace("'", "''")
        self.run(f"CREATE ROLE ada LOGIN PASSWORD '{quoted}'; CREATE SCHEMA AUTHORIZATION ada")
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nhost all ada 127.0.0.1/32 scram-sha-256\n")
        self.restart()

    def address(self, schema: str, *, password: str = "", options: str = "") -> str:
        """The URL of a log in a schema, for the role that needs a password."""
        given = f":{password}" if password else ""
        more = f"&{options}" if options else ""
        return f"postgresql://ada{given}@127.0.0.1:{self.port}/postgres?schema={schema}{more}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """That server, for all tests here."""
    made = Guarded()
    yield made
    made.remove()


@pytest.fixture
def schema(guarded: Guarded) -> str:
    """A schema of the role's own."""
    made = new_schema()
    guarded.run(f"CREATE SCHEMA {made} AUTHORIZATION ada")
    return made


def works(url: str) -> PostgresBackend:
    """Append and read."""
    log = PostgresBackend(url)
    log.append(batch("s", 0))
    assert without_positions(log.read()) == batch("s", 0)
    log.close()
    return log


def test_a_password_in_the_url(guarded: Guarded, schema: str) -> None:
    """It is used, and neither shown nor logged."""
    log = works(guarded.address(schema, password=ENCODED))
    shown = f"postgresql://ada@127.0.0.1:{guarded.port}/postgres?schema={schema}"
    assert repr(log) == f"PostgresBackend('{shown}')"
    assert log.path == shown
    again = pickle.loads(pickle.dumps(log))
    assert without_positions(again.read()) == batch("s", 0)
    again.close()


def test_a_file_of_passwords(
    guarded: Guarded, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPASSFILE has the password, as for psql."""
    file = tmp_path / "passwords"
    escaped = SECRET.replace("\\", "\\\\")
    file.write_text(f"127.0.0.1:{guarded.port}:*:ada:{escaped}\n")
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    monkeypatch.setenv("PGPASSFILE", str(file))
    works(guarded.address(schema))


def test_a_service(
    guarded: Guarded, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service file has everything but the schema."""
    file = tmp_path / "services"
    lines = ["[logs]", "host=127.0.0.1", f"port={guarded.port}", "user=ada", "dbname=postgres"]
    file.write_text("\n".join([*lines, f"password={SECRET}", ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    log = works(f"postgresql://?service=logs&schema={schema}")
    assert SECRET not in repr(log)


def test_tls(tmp_path: Path) -> None:
    """A certificate is checked as libpq checks it."""
    schema = new_schema()
    with tls_in_front_of(server(), tmp_path / "tls") as port:
        base = f"postgresql://postgres@127.0.0.1:{port}/postgres?schema={schema}"
        works(f"{base}&sslmode=verify-full&sslrootcert={tmp_path / 'tls' / 'server.crt'}")
        other, _ = certificate(tmp_path / "other")
        with pytest.raises(LogUnavailable, match="certificate verify failed"):
            works(f"{base}&sslmode=verify-full&sslrootcert={other}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:{secret}@127.0.0.1:{port}/postgres",  # the password is wrong
        "postgresql://ada:{secret}@127.0.0.1:1/postgres",  # nobody listens
        "postgresql://ada:{secret}@127.0.0.1:{port}/nowhere?schema=x",
        "postgresql://ada:{secret}%zz@127.0.0.1/postgres",
        "postgresql://ada:a/{secret}@127.0.0.1/postgres",
        "postgresql://ada:{secret}@[127.0.0.1/postgres",
        "postgresql://ada:{secret}@127.0.0.1:{port}/postgres?nonsense={secret}",
        "postgresql://127.0.0.1:{port}/postgres?user=ada&password={secret}",
        "postgresql://127.0.0.1:1/postgres?sslpassword={secret}&password={secret}",
        "postgresql://ada:{secret}@127.0.0.1:{port}/postgres?schema=" + "x" * 60,
        "POSTGRES://ada:{secret}@127.0.0.1:1/",
    ],
)
def test_no_error_shows_a_password(
    guarded: Guarded,
    url: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong with a URL, no error, log line or command repeats the password in it."""
    caplog.set_level(logging.DEBUG)
    given = url.format(secret="wrong-s3cret", port=guarded.port)
    with pytest.raises((ConfigError, LogError)) as error:
        PostgresBackend(given).head()
    told = "".join(traceback.format_exception(error.value))
    assert str(error.value) in told
    for command in (["ls"], ["verify"], ["seal", "--out", "/nowhere/at/all"]):
        assert main([*command, "--store", given]) != 0
    said = capsys.readouterr()
    places = [line for line in told.splitlines() if "postgresql://ada:{secret}" not in line]
    for text in ("\n".join(places), caplog.text, said.out, said.err):
        assert "s3cret" not in text
    assert "Traceback" not in said.err


def test_several_logs_in_one_database() -> None:
    """Each schema has a log of its own, whatever its name."""
    names = [new_schema(), f"{new_schema()} with 'quotes\" and ü", f"{new_schema()}%"]
    logs = [PostgresBackend(server().url("x"), schema=name) for name in names]
    for number, log in enumerate(logs):
        log.append([event(f"s{number}", 1)])
        log.append([event(f"s{number}", 2)])
    for number, log in enumerate(logs):
        assert [(one.stream, one.seq) for one in log.read()] == [(f"s{number}", n) for n in (1, 2)]
        with pickle.loads(pickle.dumps(LogStore(log))) as store:
            assert store.backend.schema == names[number]
        log.close()


def test_tables_made_by_many_at_once() -> None:
    """All that open a log that is not there yet find one, whoever makes it."""
    url = server().url(new_schema())

    def write(number: int) -> None:
        log = PostgresBackend(url)
        log.append([event(f"s{number}", 1)])
        log.close()

    with ThreadPoolExecutor(8) as threads:
        for task in [threads.submit(write, number) for number in range(16)]:
            task.result(HANG)
    log = PostgresBackend(url)
    assert len(list(log.read())) == 16
    log.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {}.events SET type = 'x'",
        "DELETE FROM {}.events",
        "TRUNCATE {}.events",
        "UPDATE {}.payloads SET data = ''",
        "DELETE FROM {}.payloads WHERE position > 0",
        "TRUNCATE {}.payloads",
    ],
)
def test_events_stay_as_they_are(change: str) -> None:
    """Nobody changes or deletes an event, not even the superuser."""
    schema = new_schema()
    log = works(server().url(schema))
    with pytest.raises(ServerRefused, match="never changed or deleted"):
        server().run(change.format(identifier(schema)))
    log = PostgresBackend(server().url(schema))
    assert without_positions(log.read()) == batch("s", 0)
    log.close()


def role(schema: str, *grants: str) -> str:
    """A role with some privileges. Returns its name."""
    name = f"r{new_schema()}"
    server().run(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {name}")
    for grant in grants:
        server().run(f"GRANT {grant.format(schema)} TO {name}")
    return name


def test_roles(capsys: pytest.CaptureFixture[str]) -> None:
    """A role that only writes, and one that only reads, do that and nothing else."""
    schema = new_schema()
    server().run(ddl(schema))
    writes = role(schema, "EXECUTE ON FUNCTION {}.append")
    server().run(f"REVOKE ALL ON FUNCTION {schema}.writer_lives FROM PUBLIC")
    reads = role(schema, "SELECT ON {0}.events, {0}.payloads")
    writer = PostgresBackend(server().url(schema, user=writes))
    reader = PostgresBackend(server().url(schema, user=reads))
    positions = writer.append(batch("s", 0))
    assert list(writer.append(batch("s", 0))) == list(positions)
    with pytest.raises(LogUnavailable, match=r"permission denied.*schema --postgres"):
        list(writer.read())
    assert without_positions(reader.read()) == batch("s", 0)
    with pytest.raises(LogUnavailable, match="permission denied for function append"):
        reader.append(batch("s", 1))
    for own in (writer, reader):
        assert "no EXECUTE on the function `erase`" in (own.why_not_erasable or "")
        with pytest.raises(LogUnavailable, match="permission denied for function erase"):
            own.erase_payloads([Recorded(positions[0], "s", 1, 0, "x", 1, b"", b"")])
        with pytest.raises(LogUnavailable, match="permission denied"):
            own.vacuum()
    until = time.monotonic() + HANG
    for user in (writes, reads):
        connection = server().connect(user)
        for table in ("events", "payloads"):
            with pytest.raises(ServerRefused, match="permission denied"):
                connection.run(f"INSERT INTO {schema}.{table} DEFAULT VALUES", until)
        connection.close()
    with LogStore(writer, on_error="raise") as store:
        with store.session("tests::only_written"):
            pass
        assert store.lag > 0
        for ask in (store.list_sessions, store.list_calls, store.rebuild):
            with pytest.raises(LogUnavailable, match="may write to this store, and not read it"):
                ask()
        assert main(["ls", "--store", server().url(schema, user=writes)]) == 2
        assert "may write to this store, and not read it" in capsys.readouterr().err
    with LogStore(reader) as store:
        assert [one.tactic_path for one in store.list_sessions()] == ["tests::only_written"]


def test_a_role_that_may_make_no_tables() -> None:
    """It is told what an administrator runs; and where that was run, it works."""
    name = f"r{new_schema()}"
    server().run(f"CREATE ROLE {name} LOGIN")
    schema = new_schema()
    with pytest.raises(LogUnavailable, match="`lllm schema --postgres` prints") as error:
        PostgresBackend(server().url(schema, user=name)).head()
    assert schema in str(error.value)


def test_read_only() -> None:
    """A log that is opened to be read is not written to, nor made."""
    url = server().url(new_schema())
    with pytest.raises(LogUnavailable, match="There is no log in"):
        PostgresBackend(url, read_only=True).head()
    works(url)
    log = PostgresBackend(url, read_only=True)
    assert without_positions(log.read()) == batch("s", 0)
    with pytest.raises(LogReadOnly):
        log.append(batch("s", 1))
    log.close()


def test_a_newer_format() -> None:
    """Tables of a newer lllm are refused with one clear error."""
    schema = new_schema()
    works(server().url(schema))
    server().run(f"UPDATE {schema}.format SET version = 99")
    with pytest.raises(LogError, match="format 99, written by a newer lllm"):
        PostgresBackend(server().url(schema)).head()
