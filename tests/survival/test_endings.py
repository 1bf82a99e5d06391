"""Every way in which a process ends leaves finished records that say what happened."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.survival.endings import PROGRAMS
from tests.survival.figures import Figures
from tests.survival.kept import ended, states
from tests.survival.ledger import audit
from tests.survival.places import KINDS, Kind, Place
from tests.survival.records import (
    CANCELLED,
    EXITED,
    FAILED,
    INTERRUPTED,
    STOPPED,
    SUCCESS,
    Record,
    left_behind,
)  # fmt: skip
from tests.survival.scale import Scale

pytestmark = pytest.mark.slow


class Way(NamedTuple):
    """One way for a program to end: which, by which signal, with which code, and what is left."""

    program: str
    code: int
    left: Record
    by: signal.Signals | None = None


WAYS = [
    Way("in_a_model_call", -signal.SIGINT, STOPPED, signal.SIGINT),
    Way("in_a_model_call_on_a_loop", -signal.SIGINT, CANCELLED, signal.SIGINT),
    Way("in_a_child_session", -signal.SIGINT, STOPPED, signal.SIGINT),
    Way("in_a_model_call", -signal.SIGTERM, INTERRUPTED, signal.SIGTERM),
    Way("in_a_model_call_on_a_loop", -signal.SIGKILL, INTERRUPTED, signal.SIGKILL),
    Way("in_a_child_session", -signal.SIGKILL, INTERRUPTED, signal.SIGKILL),
    Way("unhandled", 1, FAILED),
    Way("exit_in_a_session", 3, EXITED),
    Way("exit_in_a_coroutine", 3, EXITED),
    Way("left_task", 0, CANCELLED),
    Way("thread_goes_on", 0, SUCCESS),
    Way("daemon_thread", 0, INTERRUPTED),
    Way("daemon_loop", 0, INTERRUPTED),
    Way("never_left", 0, INTERRUPTED),
    Way("suspended_generator", 0, INTERRUPTED),
    Way("ended_at_exit", 0, SUCCESS),
    Way("begun_at_exit", 0, SUCCESS),
    Way("hard_exit", 5, INTERRUPTED),
    Way("abort", -signal.SIGABRT, INTERRUPTED),
]


def end(place: Place, way: Way) -> None:
    """Run a program to its end, and read what it leaves."""
    place.folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.survival.endings", way.program, place.kind, place.folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert process.stdout is not None
    if way.by is not None:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(way.by)
    _, said = process.communicate(timeout=60)
    assert process.returncode == way.code, said
    with place.store() as store:
        left_behind(store, way.left, said)
        audit(store.backend, (), Figures(way.program))
        assert states(store) == ended(store)


def endings(_: Scale, folder: Path, kind: Kind) -> Figures:
    """Every way out, of a program each."""
    figures = Figures(f"endings {kind}", rounds=1, faults=len(WAYS))
    with ThreadPoolExecutor(4) as pool:
        places = [Place(kind, folder / str(number)) for number in range(len(WAYS))]
        list(pool.map(end, places, WAYS))
    return figures


def test_all_programs_are_ended() -> None:
    """No program that can end is left out."""
    assert {way.program for way in WAYS} == set(PROGRAMS)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.program}-{way.left.state}")
def test_the_end_of_a_process(tmp_path: Path, way: Way) -> None:
    """Whatever ends a process, each session it had open says so: a failure with its error where
    Python could still write, interrupted where it could not."""
    end(Place(KINDS[WAYS.index(way) % 2], tmp_path), way)
