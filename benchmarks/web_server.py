"""`lllm web` in a process of its own, as a user runs it, and what it uses."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.environment import as_installed

_TICK = os.sysconf("SC_CLK_TCK")


class Page:
    """A server that answers, in a process of its own.

    started: nanoseconds from its start to its first list. host: with the port. token: what requests
    need.
    """

    def __init__(self, process: subprocess.Popen[str], host: str, token: str, began: int) -> None:
        self._process = process
        self.process_id = process.pid
        self.host = host
        self.token = token
        self._headers = {"Authorization": f"Bearer {token}"}
        self._connection = http.client.HTTPConnection(host, timeout=120)
        self.get("/")
        self.started = time.perf_counter_ns() - began

    def get(self, address: str, headers: Mapping[str, str] | None = None) -> str:
        """The text of an answer, which must be a good one."""
        asked = self._headers | dict(headers or {})
        try:
            self._connection.request("GET", address, headers=asked)
            answer = self._connection.getresponse()
        except http.client.RemoteDisconnected:  # it was silent for longer than the server waits
            self._connection.request("GET", address, headers=asked)
            answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} for {address}: {text[:500]}")
        return text

    def url(self, path: str) -> str:
        """The address of a page for a browser that has no cookie yet."""
        return f"http://{self.host}{path}{'&' if '?' in path else '?'}token={self.token}"

    def cpu(self) -> float:
        """The seconds of processor time that the server has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self, name: str = "VmRSS") -> float:
        """Its resident memory in MB (10^6 bytes), now or, as VmHWM, at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e6

    @contextmanager
    def listening(self) -> Iterator[Callable[[], None]]:
        """Follow the store as an open tab does; what is yielded waits for the next message."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request("GET", "/live", headers=self._headers)
        answer = connection.getresponse()

        def wait() -> None:
            while not answer.readline().startswith(b"data:"):
                pass

        answer.readline()  # it follows from here on
        try:
            yield wait
        finally:
            connection.close()


@contextmanager
def serving(path: Path) -> Iterator[Page]:
    """`lllm web` of a store, from its first list to the end of the block."""
    command = ["-c", "from lllm.cli import main; main()", "web", "--store", str(path)]
    began = time.perf_counter_ns()
    with subprocess.Popen(
        [sys.executable, *command, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=as_installed(),
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            host, token = address.removeprefix("http://").split("/?token=")
            yield Page(process, host, token, began)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
