"""Whatever is killed, the sender or the receiver: in the end the receiver has every span."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.otel.span_ids import span_id_of
from tests.lllm.otel.test_send import send
from tests.support import random_histories
from tests.support.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.slow

SESSIONS = 400
SENDER = """
import sys
from lllm.cli import main
import lllm.otel.open_exporter as opened
from lllm.otel.settings import OtelExport
import functools
import lllm.otel.settings
# small requests, so that there are many places to be killed at
made = functools.partial(OtelExport, batch_bytes=4_000)
lllm.otel.settings.OtelExport = made
sys.exit(main(["otel", "send", "--store", "runs.db", "--endpoint", sys.argv[1], *sys.argv[2:]]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with many sessions."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        for number in range(SESSIONS):
            with store.session(f"p::s{number}"):
                pass
    return path


def sender(path: Path, receiver: OtlpReceiver, *options: str) -> subprocess.Popen[bytes]:
    """A sender in a process of its own."""
    command = [sys.executable, "-c", SENDER, receiver.url, *options]
    return subprocess.Popen(command, cwd=path.parent, stderr=subprocess.DEVNULL)


def test_a_sender_that_is_killed_again_and_again(path: Path) -> None:
    """The next one goes on; what comes twice has the same ids, and nothing is missing."""
    chance = random.Random(1)
    kills = 0
    with OtlpReceiver() as receiver:
        for _ in range(30):
            seen = len(receiver.requests)
            process = sender(path, receiver)
            while process.poll() is None and len(receiver.requests) <= seen + 2:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            if kills == 4:
                break
        assert kills
        assert sender(path, receiver).wait() == 0
    spans = receiver.all_spans
    assert {span.name for span in spans} == {f"invoke_workflow s{n}" for n in range(SESSIONS)}
    assert len({(span.trace, span.id) for span in spans}) == SESSIONS
    assert len({(span.id, span.name, span.start, span.end) for span in spans}) == SESSIONS


def test_a_receiver_that_is_killed_is_waited_for(path: Path) -> None:
    """The sender that follows goes on when there is a receiver at that address again."""
    with OtlpReceiver() as first:
        process = sender(path, first, "--follow")
        while len(first.requests) < 3:
            time.sleep(0.005)
    with OtlpReceiver(first.port) as second:
        deadline = time.monotonic() + 120
        names: set[str] = set()
        while len(names) < SESSIONS and time.monotonic() < deadline:
            time.sleep(0.05)
            names = {span.name for span in first.all_spans + second.all_spans}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert len(names) == SESSIONS
    assert len({span.id for span in first.all_spans + second.all_spans}) == SESSIONS


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_arrive_whole(tmp_path: Path, seed: int) -> None:
    """However sessions nest, fail, end and are sent in pieces: each that has ended is there once by
    its id, below its parent, and tokens and costs are those of the store."""
    chance = random.Random(seed)
    path = tmp_path / "runs.db"
    with OtlpReceiver() as receiver, LogStore(SQLiteBackend(path)) as store:
        for _ in range(6):
            random_histories.write(store, chance)
            if chance.random() < 0.5:
                send(path, receiver)
        send(path, receiver)
        first = {span.id: span for span in receiver.all_spans}
        assert len(first) == len(receiver.all_spans)  # nothing came twice
        receiver.requests.clear()
        send(path, receiver, "--again")
        again = {span.id: span for span in receiver.all_spans}
        assert {key: (one.name, one.trace, one.parent) for key, one in first.items()} == {
            key: (one.name, one.trace, one.parent) for key, one in again.items()
        }
        ended = {
            event.stream
            for event in store.log.read()
            if event.type in ("session.succeeded", "session.failed")
        }
        sessions = {
            span.attributes["lllm.session.id"]: span
            for span in again.values()
            if span.name.startswith("invoke_workflow")
        }
        assert sessions.keys() == ended
        streams = {event.stream for event in store.log.read()}
        running = {span_id_of(stream, "session").hex() for stream in streams - ended}
        lost = {span.parent for span in again.values()} - again.keys() - running
        assert lost <= {""}
        calls = [call for call in store.list_calls(limit=None) if call.session_id in ended]
        attempts = [span for span in again.values() if span.kind == 3]
        assert len(attempts) == len(calls)
        cost = sum(span.attributes.get("lllm.price.nanos", 0) for span in attempts)
        assert cost == sum(round((call.cost or 0) * 1e9) for call in calls)
