"""`lllm play` shows a session as it happened, and obeys the keys of a terminal."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from lllm import LogStore
from lllm.cli import main
from lllm.cli import player as playing
from lllm.cli.player import Player, events_of
from lllm.cli.render.events import EventLines
from lllm.events import codec
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import seal
from lllm.events.envelope import Recorded
from lllm.events.model import Ancestor, SessionStarted
from lllm.logging import sqlite_store
from lllm.time_zones import zone_of

SALT = b"s" * 32


def write(store: LogStore, *seconds: float) -> None:
    """A session with an event at each of some times, and one below it at the last of them."""
    times = [1_700_000_000 * 10**9 + round(one * 10**9) for one in seconds]
    started = SessionStarted(tactic_path="p::one", name="one", salt=SALT)
    below = SessionStarted(
        tactic_path="p::two", name="two", salt=SALT, ancestors=(Ancestor("one", "p::one"),)
    )
    for seq, at in enumerate(times, 1):
        data = codec.encode(started) if seq == 1 else b"{}"
        type_ = started.type if seq == 1 else f"number.{seq}"
        store.backend.append([seal(SALT, "one", seq, at, type_, 1, data)])
    data = codec.encode(below)
    store.backend.append([seal(SALT, "two", 1, times[-1], below.type, 1, data)])


@pytest.fixture
def events() -> Iterator[list[Recorded]]:
    """Five events: after 10 seconds, a minute, and none at all."""
    with LogStore(MemoryBackend()) as store:
        write(store, 0, 10, 70, 70)
        yield events_of(store, "one")


class Typed:
    """Keys that come when they are waited for, and how long that was."""

    def __init__(self, *keys: playing.Key | None) -> None:
        self.keys = [*keys]
        self.waited: list[float | None] = []

    def __call__(self, seconds: float | None) -> playing.Key | None:
        self.waited.append(seconds)
        return self.keys.pop(0) if self.keys else None


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes as far as it is waited for."""
    now = [0.0]
    monkeypatch.setattr(playing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(playing.time, "sleep", lambda seconds: now.append(now[0] + seconds))
    return now


def shown(events: list[Recorded], keys: Typed | None, clock: list[float], speed: float) -> str:
    """What is printed."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    told = None
    if keys is not None:

        def told(seconds: float | None) -> playing.Key | None:
            key = keys(seconds)
            if key is None and seconds is not None:
                clock[0] += seconds
            return key

    Player(console, EventLines(console, zone_of("UTC"), with_session=True), told, speed).play(
        events
    )
    return out.getvalue()


def test_pauses(events: list[Recorded], clock: list[float]) -> None:
    """They are those between the events, divided by the speed; a long one is cut, which is said."""
    keys = Typed()
    said = shown(events, keys, clock, 20)
    assert keys.waited == [0.5, 3.0, 0.0, 0.0]
    assert "later" not in said
    assert said.startswith("-- 5 events, 20 times as fast as it happened, pauses of at most 3 sec")
    assert [line.split()[4] for line in said.splitlines() if "number" in line] == [
        "number.2", "number.3", "number.4",
    ]  # fmt: skip
    keys = Typed()
    said = shown(events, keys, clock, 1)
    assert keys.waited == [3.0, 3.0, 0.0, 0.0]
    assert [line for line in said.splitlines() if line.endswith("later")] == [
        "-- 10.0 s later", "-- 1 min 00 s later",
    ]  # fmt: skip


def test_keys(events: list[Recorded], clock: list[float]) -> None:
    """Space stops until it comes again, s shows one event and stops, q ends it."""
    said = shown(events, Typed("pause", None, None, "pause", None, "quit"), clock, 20)
    assert said.count("-- stopped") == said.count("-- going on") == 1
    assert "number.2" in said
    assert "number.3" not in said
    keys = Typed("step", None, "step", "step", "quit")
    said = shown(events, keys, clock, 1)
    assert keys.waited == [3.0, None, None, None, None]
    assert "number.4" in said
    assert "two" not in said


def test_a_clock_that_was_set_back(clock: list[float]) -> None:
    """Nothing is waited for then."""
    with LogStore(MemoryBackend()) as store:
        write(store, 50, 0)
        keys = Typed()
        shown(events_of(store, "one"), keys, clock, 1)
    assert keys.waited == [0.0, 0.0]


def test_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All lines are printed at once, with those of the session below."""
    with sqlite_store(tmp_path / "runs.db") as store:
        write(store, 0, 100_000)
    assert main(["play", "one", "--store", str(tmp_path / "runs.db"), "--utc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["one", "one", "two"]
    assert main(["play", "one", "--store", str(tmp_path / "runs.db"), "--speed", "0"]) == 2
    assert main(["play", "no", "--store", str(tmp_path / "runs.db")]) == 1


def test_a_real_terminal(tmp_path: Path) -> None:
    """The keys are those of the terminal, which is as it was when it ends."""
    with sqlite_store(tmp_path / "runs.db") as store:
        write(store, 0, 100_000, 200_000)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "lllm", "play", "one", "--store", str(tmp_path / "runs.db")]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        said = read_until(ours, b"later")
        assert b"s steps" in said
        assert termios.tcgetattr(theirs) != before
        os.write(ours, b" ")
        read_until(ours, b"stopped")
        os.write(ours, b"s")
        read_until(ours, b"number.2")
        os.write(ours, b"q")
        assert process.wait(30) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows, up to some text."""
    said, until = b"", time.time() + 30
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.time()))
        assert ready, said
        said += os.read(terminal, 1024)
    return said
