"""A real PgBouncer between lllm and the server is refused, in each of its modes, for reads, too.

Where PgBouncer is not installed, this is skipped, and `test_a_pooler_is_refused` has a proxy that
does what tells a pooler from a server. `.ci/run` installs it, as apt-get does on Debian.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lllm import LogError, LogStore, PostgresBackend
from lllm.cli import main
from tests.support.postgres import free_port, new_schema, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
if PROGRAM is None and os.environ.get("LLLM_TEST_PGBOUNCER") != "needed":
    pytest.skip("PgBouncer is not installed (apt-get install pgbouncer)", allow_module_level=True)
REFUSED = "leads to a connection pooler, such as PgBouncer"


@pytest.fixture(scope="module", params=["transaction", "session", "statement"])
def pooler(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL, without a schema, of a PgBouncer in one of its modes."""
    with TemporaryDirectory(prefix="lllm-pgbouncer-") as name:
        folder, port = Path(name), free_port()
        users, settings = folder / "users.txt", folder / "settings.ini"
        users.write_text('"postgres" ""\n')
        settings.write_text(
            f"[databases]\npostgres = host={server().folder} port={server().port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = {request.param}\n"
        )
        other: dict[str, object] = {}
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        assert PROGRAM is not None, "LLLM_TEST_PGBOUNCER says that PgBouncer is needed"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [PROGRAM, str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **other
            )
        try:
            _wait_for(port, folder / "log")
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(HANG)


def _wait_for(port: int, log: Path) -> None:
    until = time.monotonic() + HANG
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.01)
        else:
            return


def test_nothing_is_written_or_read(pooler: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A log is neither made nor read through it, and each command says so in one line."""
    there, missing = new_schema(), new_schema()
    with LogStore.open(server().url(there)) as store, store.session("tests::direct"):
        pass
    for url in (f"{pooler}?schema={there}", f"{pooler}?schema={missing}"):
        for read_only in (False, True):
            log = PostgresBackend(url, read_only=read_only)
            for ask in (log.head, log.exists, lambda log=log: list(log.read())):
                with pytest.raises(LogError, match=REFUSED) as error:
                    ask()
                assert "\n" not in str(error.value)
            log.close()
        with pytest.raises(LogError, match=REFUSED):
            LogStore.open(url)
        for command in (["ls"], ["query", "SELECT 1"], ["verify"], ["rebuild"], ["doctor"]):
            code = main([*command, "--store", url])
            said = capsys.readouterr()
            assert code != 0, command
            assert REFUSED in said.err + said.out, command
            assert "Traceback" not in said.err, command
    with LogStore.open(server().url(there)) as store:
        assert [one.tactic_path for one in store.list_sessions()] == ["tests::direct"]
    assert not PostgresBackend(server().url(missing)).exists()
