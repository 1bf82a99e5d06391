"""kill -9 of a process at any moment of a call: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.events.log import LogBackend
from tests.conftest import OpenBackend

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("LLLM_CRASH_ROUNDS", "12"))

# Calls a tactic again and again, and says of each event when its append has returned.
VICTIM = """
import sys
from lllm import LocalFileBackend, LogStore, SQLiteBackend, Tactic, tool
from lllm.invokers.scripted import ScriptedInvoker, rate_limited, tool_call

kind, path = sys.argv[1:]
backend = (SQLiteBackend if kind == "sqlite" else LocalFileBackend)(path)
append = backend.append

def acknowledged(events):
    positions = append(events)
    for event in events:
        print(event.stream, event.seq, event.digest.hex(), flush=True)
    return positions

backend.append = acknowledged

@tool(description="Look a word up.")
def lookup(word: str) -> str:
    return word * 200

def answer(request):
    said = request.messages[-1]
    return tool_call("lookup", {"word": "log"}) if said.role == "user" else "done " * 100

class Inner(Tactic):
    name = "inner"
    def call(self, task):
        agent = self.agents["worker"]
        agent.open("main")
        agent.receive(task)
        return agent.respond().content

class Outer(Inner):
    name = "outer"
    def __init__(self, config, **options):
        super().__init__(config, **options)
        self.inner = Inner(config)
    def call(self, task):
        return super().call(task) + self.inner(task)

agent = {"name": "worker", "model_name": "gpt-4o-mini", "tools": [lookup],
         "invoker": ScriptedInvoker(answer)}
tactic = Outer({"agent_configs": [agent]}, log_store=LogStore(backend))
print("ready", flush=True)
while True:
    tactic("task", tags={"round": "1"})
"""


@pytest.fixture
def start_victim(tmp_path: Path, open_backend: OpenBackend) -> Callable[[], subprocess.Popen[str]]:
    """Starts the process on the test's own log."""
    backend = open_backend()
    kind = "sqlite" if type(backend).__name__ == "SQLiteBackend" else "jsonl"
    path = tmp_path / ("runs.db" if kind == "sqlite" else "logs")
    backend.close()
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), kind, str(path)], stdout=subprocess.PIPE, text=True
        )

    return start


def killed(victim: subprocess.Popen[str], after: float) -> list[tuple[str, int, str]]:
    """Kill a process some seconds after it is ready; returns the events it had acknowledged."""
    assert victim.stdout is not None
    acknowledged: list[tuple[str, int, str]] = []
    deadline = 0.0
    for line in victim.stdout:
        if line == "ready\n":
            deadline = time.monotonic() + after
        elif line.endswith("\n"):  # the last line may be cut by the kill
            stream, seq, digest = line.split()
            acknowledged.append((stream, int(seq), digest))
        if deadline and time.monotonic() >= deadline and victim.poll() is None:
            os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    return acknowledged


def check_log(log: LogBackend, acknowledged: list[tuple[str, int, str]]) -> None:
    """Every acknowledged event once, every stream without holes, positions in order."""
    events = list(log.read())
    stored = Counter((event.stream, event.seq, event.digest.hex()) for event in events)
    assert [one for one in acknowledged if stored[one] != 1] == []
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    last: Counter[str] = Counter()
    for event in events:
        last[event.stream] += 1
        assert event.seq == last[event.stream]


def test_nothing_acknowledged_is_lost(
    start_victim: Callable[[], subprocess.Popen[str]], open_backend: OpenBackend
) -> None:
    """After kill -9 at random points, each acknowledged event is there once and in order, what was
    running is interrupted, and the rows are those of a rebuild."""
    seed = random.randrange(2**32)
    print(f"random seed {seed}")
    times = random.Random(seed)
    acknowledged: list[tuple[str, int, str]] = []
    for _ in range(ROUNDS):
        acknowledged += killed(start_victim(), times.uniform(0, 0.15))
        with LogStore(open_backend()) as store:
            check_log(store.backend, acknowledged)
            assert store.list_sessions(state="running") == []
            for summary in store.list_sessions(state="interrupted", limit=1):
                session = store.load_session(summary.session_id)
                assert session.state == "interrupted"
            assert store.rebuild(check=True).difference is None


def test_a_running_session_shows_as_running_until_its_process_dies(
    start_victim: Callable[[], subprocess.Popen[str]], open_backend: OpenBackend
) -> None:
    """While its process is stopped a session is running; once that is dead it is interrupted, and
    said to be so once."""
    victim = start_victim()
    assert victim.stdout is not None
    with LogStore(open_backend()) as store:
        running = []
        while not running:
            victim.send_signal(signal.SIGSTOP)
            # A process stopped in the middle of a write holds the lock; let it finish.
            running = store.list_sessions(state="running") if _lock_is_free(store) else []
            if not running:
                victim.send_signal(signal.SIGCONT)
                victim.stdout.readline()
        assert store.load_session(running[0].session_id).state == "running"
        victim.kill()
        victim.wait()
        victim.stdout.close()
        assert store.list_sessions(state="running") == []
        assert [one.session_id for one in store.list_sessions(state="interrupted")] == [
            running[0].session_id
        ]
        types = [event.type for event in store.events(running[0].session_id)]
        assert types.count("session.interrupted") == 1


def _lock_is_free(store: LogStore) -> bool:
    database = store.backend.rows_database()  # type: ignore[attr-defined] # both kinds have one
    with database.write(timeout=0.2) as connection:
        return connection is not None
