"""The viewers as processes: each is given the same sessions, and answers on a loopback port."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec

from benchmarks.environment import as_installed
from benchmarks.peers.environments import Peer, interpreter
from benchmarks.viewers.conversations import Conversation, conversations, spans_of
from benchmarks.web_server import serving
from lllm import LogStore, SQLiteBackend

AGENTSVIEW = Peer("agentsview", "0.46.1", "")
PHOENIX = Peer("arize-phoenix", "20.26.1", "otlp_feeder.py")
_HERE = Path(__file__).parent
_PATIENCE = 900.0  # seconds until a server that does not answer is given up
_PROJECT = "UHJvamVjdDox"  # Phoenix's id of its first project


class NotAnswering(Exception):
    """A viewer that does not start; the message says why."""


class Viewer(msgspec.Struct):
    """A viewer that has all sessions and answers.

    Attributes:
        name: Its name and version.
        process: The id of its process.
        taken_in: The seconds that it took to take in the sessions, its start included.
        started: The seconds until it answered when it was started again.
        home: The address of its list.
        session: Makes the address of a session.
        rows: The CSS selector of the rows of its list.
    """

    name: str
    process: int
    taken_in: float
    started: float
    home: str
    session: Callable[[Conversation], str]
    rows: str

    def memory(self) -> float:
        """The resident memory of its processes, in MB (10^6 bytes)."""
        return sum(map(_resident, _family(self.process)))


# Takes a folder of its own, the transcripts, the number of sessions, and the peer's Python.
Shown = Callable[[Path, Path, int, Path], AbstractContextManager[Viewer]]


@contextmanager
def lllm_viewer(folder: Path, transcripts: Path, count: int) -> Iterator[Viewer]:
    """lllm, which imports the transcripts."""
    path = folder / "runs.db"
    began = time.perf_counter()
    with LogStore(SQLiteBackend(path)) as store:
        store.import_transcripts("claude-code", transcripts)
        ids = {
            str(one.task).partition(":")[0]: one.session_id
            for one in store.list_sessions(limit=count)
        }
    with serving(path) as page:
        taken_in = time.perf_counter() - began
    with serving(path) as page:
        yield Viewer(
            name="lllm", process=page.process_id, taken_in=taken_in, started=page.started / 1e9,
            home=page.url("/"), rows="tbody tr",
            session=lambda one: page.url(f"/sessions/{ids[f'Question {one.number}']}"),
        )  # fmt: skip


@contextmanager
def agentsview_viewer(
    folder: Path, transcripts: Path, count: int, python: Path
) -> Iterator[Viewer]:
    """agentsview, which finds the transcripts below its home, and has a database of its own."""
    del count
    home, port = folder / "home", _free_port()
    (home / ".claude").mkdir(parents=True)
    (home / ".claude" / "projects").symlink_to(transcripts)
    command = [
        python.with_name("agentsview"), "serve", "--no-browser", "--no-update-check",
        "--port", str(port),
    ]  # fmt: skip
    environment = {"HOME": str(home)}
    with _running(command, environment, folder / "first.txt", port) as (_, taken_in):
        pass
    with _running(command, environment, folder / "again.txt", port) as (process, started):
        at = f"http://127.0.0.1:{port}"
        yield Viewer(
            name=f"agentsview {AGENTSVIEW.version}", process=process, taken_in=taken_in,
            started=started, home=f"{at}/", session=lambda one: f"{at}/sessions/{one.session_id}",
            rows=".session-item",
        )  # fmt: skip


@contextmanager
def phoenix_viewer(folder: Path, transcripts: Path, count: int, python: Path) -> Iterator[Viewer]:
    """Phoenix, which is sent the same sessions as spans over OTLP/HTTP."""
    del transcripts
    spans, traces = folder / "spans.jsonl", {}
    with spans.open("wb") as file:
        for one in conversations(count):
            line = msgspec.json.encode(spans_of(one))
            traces[one.number] = hashlib.sha256(line).digest()[:16].hex()
            file.write(line + b"\n")
    port = _free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(_free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }  # fmt: skip
    command = [python.with_name("phoenix"), "serve"]
    at = f"http://127.0.0.1:{port}"
    with _running(command, environment, folder / "first.txt", port) as (_, taken_in):
        began = time.perf_counter()
        feeder = [python, _HERE / PHOENIX.worker, f"{at}/v1/traces", spans]
        subprocess.run(feeder, check=True, timeout=_PATIENCE)
        _wait_for_all(folder / "phoenix.db", count * 4)
        taken_in += time.perf_counter() - began
    with _running(command, environment, folder / "again.txt", port) as (process, started):
        project = f"{at}/projects/{_PROJECT}"
        yield Viewer(
            name=f"Phoenix {PHOENIX.version}", process=process, taken_in=taken_in,
            started=started, home=f"{project}/spans",
            session=lambda one: f"{project}/traces/{traces[one.number]}", rows="tbody tr",
        )  # fmt: skip


def viewers(
    stack: ExitStack, folder: Path, transcripts: Path, count: int, venvs: Path | None
) -> Iterator[tuple[str, Callable[[], Viewer]]]:
    """Name the viewers, and how each is started; peers only where there is a folder for them.

    Starting a peer raises NotInstalled or NotAnswering.
    """

    def ours() -> Viewer:
        return stack.enter_context(lllm_viewer(_new(folder / "lllm"), transcripts, count))

    def theirs(peer: Peer, shown: Shown, venvs: Path) -> Viewer:
        python = interpreter(peer, venvs)
        return stack.enter_context(shown(_new(folder / peer.name), transcripts, count, python))

    yield "lllm", ours
    if venvs is not None:
        yield AGENTSVIEW.name, lambda: theirs(AGENTSVIEW, agentsview_viewer, venvs)
        yield PHOENIX.name, lambda: theirs(PHOENIX, phoenix_viewer, venvs)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _wait_for_all(database: Path, spans: int) -> None:
    """Phoenix writes what it was sent after it has answered."""
    until = time.monotonic() + _PATIENCE
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as rows:
        while rows.execute("SELECT count(*) FROM spans").fetchone()[0] < spans:
            if time.monotonic() > until:
                raise NotAnswering("not all spans are in its database")
            time.sleep(0.2)


@contextmanager
def _running(
    command: list[str | Path], environment: dict[str, str], log: Path, port: int
) -> Iterator[tuple[int, float]]:
    """Run a server until the end of the block; yields its process, and when it answered."""
    began = time.perf_counter()
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
            env=as_installed() | {"DO_NOT_TRACK": "1"} | environment,
        )  # fmt: skip
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
                said = log.read_text(errors="replace").strip().splitlines() or ["nothing said"]
                raise NotAnswering(said[-1])
            time.sleep(0.02)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        except http.client.HTTPException:
            return False


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _family(process: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                after = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after[1]), []).append(int(entry))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


def _resident(process: int) -> float:
    with suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    return 0.0
