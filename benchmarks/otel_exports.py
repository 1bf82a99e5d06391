"""How fast a store is sent to an OpenTelemetry receiver.

The receiver is a server in a process of its own that reads each request and answers; it decodes
nothing, so that the figures are those of the sender: reading the log, making spans, encoding and
compressing them, HTTP, and the position that is stored after each request.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.generate import fill
from benchmarks.measure import Bar, Figure, Spread
from lllm import LogStore, SQLiteBackend
from lllm.otel import OtelExport
from lllm.otel.open_exporter import http_output, open_exporter
from lllm.otel.settings import Protocol
from lllm.store.log_store import session_host

AREA = "otel send"
_SPANS = 10_000  # a second, without messages
_RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def figures(folder: Path, sessions: int, *, quick: bool) -> Iterator[Figure]:
    """The rate of a sender, with and without messages, in protobuf and in JSON."""
    folder.mkdir()
    path = folder / "runs.db"
    log = SQLiteBackend(path)
    fill(log, sessions)
    log.close()
    rounds = 3 if quick else 7
    forms: tuple[tuple[str, Protocol, bool], ...] = (
        ("protobuf", "http/protobuf", False),
        ("protobuf, with messages", "http/protobuf", True),
        ("JSON", "http/json", False),
    )
    with _receiver() as url, LogStore(SQLiteBackend(path)) as store:
        store.list_sessions(limit=1)
        for what, protocol, messages in forms:
            settings = OtelExport(endpoint=url, protocol=protocol, messages=messages)
            rates, cpu_rates, spans = [], [], 0
            for _ in range(rounds):
                seconds, cpu_seconds, spans = _send(store, settings)
                rates.append(spans / seconds)
                cpu_rates.append(spans / cpu_seconds)
            bar = None if messages else Bar(_SPANS, "at least")
            of = f"{spans:,} spans, {Spread.of(cpu_rates).median:,.0f} in a second of CPU time"
            yield Figure(AREA, f"spans sent, {what}", Spread.of(rates), "spans/s", of, bar)


def _send(store: LogStore, settings: OtelExport) -> tuple[float, float, int]:
    """Send a store; return the seconds that passed, those of the CPU, and the number of spans."""
    host = session_host(store)
    exporter, _ = open_exporter(
        host.log, host.rows, settings, http_output(settings), "benchmark",
        wait=lambda _: True, tell=print, from_start=True,
    )  # fmt: skip
    began, cpu_began = time.perf_counter(), time.process_time()
    exporter.send()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return seconds, cpu_seconds, exporter.counts.spans


@contextmanager
def _receiver() -> Iterator[str]:
    command = [sys.executable, "-c", _RECEIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
