"""A session whose end could not be stored is not left running: once its process is gone, another
one declares it interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.integrity.verify import verify

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}

_BEGIN = """
import os, resource, signal, sys, threading, warnings
from pathlib import Path
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.errors import LogUnavailable

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
warnings.simplefilter("ignore", RuntimeWarning)
kind, path = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[sys.argv[1]], Path(sys.argv[2])
store = LogStore(kind(path))

def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

def begun():
    scope = store.session("a::script", metadata="x" * 1000)
    scope.__enter__()
    return scope
"""

# How a program ends whose disk is full, or whose log is away, to the very end.
_WAYS = {
    "a full disk, closed": (
        "scope = begun(); full(); scope.__exit__(None, None, None); store.close()"
    ),
    "a full disk, not closed": "scope = begun(); full(); scope.__exit__(None, None, None)",
    "a full disk, a failure": """
with store.session("a::script"):
    full()
    raise KeyError("of the caller's")
""",
    "a full disk, open at the exit": "scope = begun(); full()",
    "a full disk, a decorated generator": """
@store.tactic("a::script")
def work(task):
    yield task
    yield task

going = work("x")
next(going)
full()
""",
    "told to raise": """
store.close()
store = LogStore(kind(path), on_error="raise")
scope = begun()
full()
try:
    scope.__exit__(None, None, None)
except LogUnavailable:
    print("refused")
""",
    "a log that is away": """
scope = begun()
parts = [part for part in path.parent.glob(path.name + "*")]
for part in parts:
    part.rename(path.parent / ("away-" + part.name))
scope.__exit__(None, None, None)
store.close()
for part in parts:
    (path.parent / ("away-" + part.name)).rename(part)
""",
    "memory over its bound": """
store.log._bound = 2_000
scope = begun()
full()
for _ in range(5):
    store.save_error(ValueError("x" * 1_000))
scope.__exit__(None, None, None)
for _ in range(5):
    store.save_error(ValueError("x" * 1_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
""",
    "a daemon thread": """
ready = threading.Event()

def work():
    with store.session("a::script"):
        ready.set()
        threading.Event().wait()

threading.Thread(target=work, daemon=True).start()
ready.wait()
""",
    "a daemon thread, closed": """
ready = threading.Event()

def work():
    with store.session("a::script"):
        ready.set()
        threading.Event().wait()

threading.Thread(target=work, daemon=True).start()
ready.wait()
store.close()
""",
    "a daemon thread with an event loop": """
import asyncio
ready = threading.Event()

async def work():
    async with store.session("a::script"):
        ready.set()
        await asyncio.Event().wait()

threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
ready.wait()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", _WAYS)
def test_another_process_declares_it_interrupted(way: str, kind: str, tmp_path: Path) -> None:
    """However the program ended: its session is in the log, and interrupted for whoever looks."""
    path = tmp_path / "log"
    code = _BEGIN + _WAYS[way]
    command = [sys.executable, "-c", code, kind, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    failed = way == "a full disk, a failure"
    assert ran.returncode == int(failed), ran.stderr
    assert ("KeyError" in ran.stderr) == failed
    assert (ran.stdout == "refused\n") == (way == "told to raise")
    with LogStore(KINDS[kind](path)) as store:
        [session] = store.list_sessions()
        assert session.state == "interrupted"
        events = [event.type for event in store.events(session.session_id)]
        assert events == ["session.started", "session.interrupted"]
        assert verify(store.backend).is_sound
