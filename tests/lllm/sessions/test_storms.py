"""Many exceptions that another thread raises in those that run sessions, one upon the other: no
session is left without an end, no lock is left, and nothing hangs."""

from __future__ import annotations

import _thread
import asyncio
import ctypes
import faulthandler
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend, Tactic
from lllm.events.concurrency import thread_starts
from lllm.events.concurrency.shielded import in_thread
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.events.recorder import Recorder
from lllm.sessions.session import SessionScope
from tests.events.concurrency.test_interrupts import HANG, Interrupt
from tests.support import ROOT

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}
_ENDS = {"session.succeeded", "session.failed"}


def raise_in(thread: threading.Thread, error: type[BaseException] | None) -> None:
    """Have an exception raised in a thread before its next step; None takes back what is not."""
    ident, what = (
        ctypes.c_ulong(thread.ident or 0),
        None if error is None else ctypes.py_object(error),
    )
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, what)


def storm(works: Sequence[Callable[[], object]], seconds: float) -> None:
    """Do some works again and again, each in a thread, and raise many exceptions in them."""
    going = True

    def shielded(work: Callable[[], object], depth: int) -> None:
        while going:
            with suppress(Interrupt):
                if depth:
                    shielded(work, depth - 1)
                else:
                    work()

    threads = [threading.Thread(target=shielded, args=(work, 5), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    chance = random.Random(1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(chance.random() * 0.002)
        thread = chance.choice(threads)
        for _ in range(chance.choice((1, 1, 2, 3))):
            raise_in(thread, Interrupt)
            time.sleep(chance.random() * 0.0001)
    going = False
    for thread in threads:
        raise_in(thread, None)
        thread.join(HANG)
        if thread.is_alive():
            faulthandler.dump_traceback()
            os._exit(3)


def sessions(log: LogBackend) -> tuple[set[str], set[str]]:
    """The sessions that have begun, and those of them that have not ended."""
    begun, ended = set(), set()
    for one in log.read():
        if one.type == "session.started":
            begun.add(one.stream)
        elif one.type in _ENDS:
            ended.add(one.stream)
    return begun, begun - ended


def without_end(log: LogBackend) -> set[str]:
    """The sessions that have begun and not ended."""
    return sessions(log)[1]


class Answers(Tactic, register=False):
    """One that calls another."""

    name = "answers"

    def call(self, task: str) -> str:
        """Have it shouted."""
        return Shouts()(task) + "!"


class Shouts(Tactic, register=False):
    """One that is called."""

    name = "shouts"

    def call(self, task: str) -> str:
        """Shout."""
        return task.upper()


def with_(store: LogStore) -> None:
    """A `with` in another."""
    with store.session("outer"), store.session("inner") as recorder:
        recorder.deliver(1)


def generator(store: LogStore) -> None:
    """A decorated generator that is left."""

    @store.tactic("generator")
    def work(task: str) -> Iterator[str]:
        yield task
        yield task

    for _ in work("x"):
        break


def async_with(store: LogStore) -> None:
    """An `async with` on an event loop of its own."""

    async def work() -> None:
        async with store.session("async with"):
            pass

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


def tactic(store: LogStore) -> None:
    """A tactic that calls another."""
    Answers(log_store=store)("x")


def batch(store: LogStore) -> None:
    """A tactic for several tasks, in threads."""
    Answers(log_store=store).bcall(["x", "y"], max_workers=2)


WAYS: list[Callable[[LogStore], None]] = [with_, generator, async_with, tactic, batch]


def run(kind: str, path: Path) -> None:
    """A storm over some threads, each with its way to run sessions. Prints how many began, and how
    many of them have no end in the log, before and behind the end of their store."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None  # what is raised in a finalizer goes nowhere
    warnings.simplefilter("ignore")  # of coroutines that an interrupt keeps from their first step
    with LogStore(KINDS[kind](path)) as store:
        storm([partial(way, store) for way in WAYS], 0.8)
        for way in WAYS:
            way(store)
    log = KINDS[kind](path)
    begun, left = sessions(log)
    print(json.dumps([len(begun), len(left), verify(log).is_sound]))
    log.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_session_has_its_end(kind: str, tmp_path: Path) -> None:
    """Behind a storm, the next session and the end of the store write what is missing."""
    code = "import sys; from tests.lllm.sessions.test_storms import run; run(*sys.argv[1:])"
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, kind, str(tmp_path / "log")],
        cwd=ROOT, capture_output=True, text=True, timeout=2 * HANG,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    begun, left, is_sound = json.loads(ran.stdout)
    assert begun > 20
    assert left == 0
    assert is_sound


def interrupted(*_: object, **__: object) -> None:
    """What is interrupted whenever it begins."""
    raise Interrupt


def at_first_step(frame: FrameType, *_: object) -> None:
    """A trace function that interrupts the `__exit__` of a session before its first step."""
    if frame.f_code.co_name == "_exit_with":
        raise Interrupt


# Where every try to end a session is cut: before it begins, before its end is fixed, and before
# what is fixed is stored.
CUTS = {
    "__exit__": [],
    "leave": [(SessionScope, "leave")],
    "the end": [(SessionScope, "_stage_end")],
    "commit": [(Recorder, "commit"), (Recorder, "commit_after")],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("follows", ["a session", "a reader", "a store's end"])
def test_what_comes_next_ends_it(
    cut: str, follows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session whose every try to end was interrupted ends when the next one begins, when somebody
    reads, or with its store."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    left = store.session("left")  # held, or a thread would end it at once
    with monkeypatch.context() as patched, suppress(Interrupt), left:
        for owner, name in CUTS[cut]:
            patched.setattr(owner, name, interrupted)
        if not CUTS[cut]:
            sys.settrace(at_first_step)
    sys.settrace(None)
    assert len(without_end(store.backend)) == 1
    if follows == "a session":
        with store.session("next"):
            assert len(without_end(store.backend)) == 1
    elif follows == "a reader":
        assert store.list_sessions(state="running") == []
    else:
        store.close()
        store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    assert without_end(store.backend) == set()
    store.close()


def test_the_store_ends_those_of_threads_that_are_gone(tmp_path: Path) -> None:
    """What holds on to a session that was never left, in a thread that is gone, keeps it from no
    end: the store writes that as it closes."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    kept = []

    def enter() -> None:
        kept.append(store.session("by hand"))
        kept[0].__enter__()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    store.close()
    log = SQLiteBackend(tmp_path / "runs.db")
    assert without_end(log) == set()
    log.close()


def test_a_session_that_goes_on_is_not_ended(tmp_path: Path) -> None:
    """Neither the next session, nor a reader, nor the store's end ends one that still runs."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    scope = store.session("goes on")
    recorder = scope.__enter__()
    with store.session("inside"):
        pass
    store.list_sessions()
    assert recorder.is_open
    store.close()
    assert recorder.is_open
    with pytest.warns(RuntimeWarning, match="has been closed"):
        scope.__exit__(None, None, None)
    log = SQLiteBackend(tmp_path / "runs.db")
    assert without_end(log) == {recorder.session_id}
    log.close()


@pytest.fixture
def lost_thread(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The next thread that is started ends before its first step, as what is raised in its creator
    may have it. A list of those that were."""
    start, begun = _thread.start_new_thread, list[object]()

    def first_is_lost(*how: Any) -> int:
        begun.append(how)
        return 0 if len(begun) == 1 else start(*how)

    monkeypatch.setattr(_thread, "start_new_thread", first_is_lost)
    monkeypatch.setattr(thread_starts, "_BEARS_CREATORS_NUMBER", True)
    return begun


def test_a_thread_that_never_begins(lost_thread: list[object]) -> None:
    """Where it was to do something for an event loop, another one does it."""
    done: list[int] = []

    async def wait() -> None:
        await asyncio.wait_for(in_thread(lambda: done.append(1)), HANG)

    asyncio.run(wait())
    assert done == [1]
    assert len(lost_thread) == 2


def test_a_thread_that_starts_no_other(lost_thread: list[object]) -> None:
    """Where it was to start others, another one does it, once."""
    started: list[int] = []
    assert thread_starts.starting_threads(lambda: started.append(1)) is None
    assert started == [1]
    assert len(lost_thread) == 2
    with pytest.raises(KeyError):
        thread_starts.starting_threads(lambda: {}["x"])


def test_what_is_done_in_a_thread_raises_here() -> None:
    """An error of the work is raised where it is waited for; a cancellation, when the work is
    done."""
    done = threading.Event()

    def fails() -> None:
        raise KeyError("x")

    async def wait() -> None:
        with pytest.raises(KeyError):
            await in_thread(fails)
        going = threading.Event()
        task = asyncio.ensure_future(in_thread(lambda: (going.wait(HANG), done.set())[1]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        going.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    asyncio.run(wait())


def test_a_finalizer_that_starts_a_thread() -> None:
    """A collection that comes while the frames of threads are looked at deadlocks nothing."""
    code = """
import _thread, gc, threading
from lllm.events.concurrency.thread_frames import thread_frames

class Dropped:
    def __init__(self):
        self.me = self
    def __del__(self):
        _thread.start_new_thread(len, ("",))

wait = threading.Event()
threads = [threading.Thread(target=wait.wait, daemon=True) for _ in range(20)]
for thread in threads:
    thread.start()
gc.set_threshold(1)
for _ in range(300):
    Dropped()
    assert len(thread_frames()) > 20
assert gc.isenabled()
gc.disable()
thread_frames()
print("done", gc.isenabled())
wait.set()
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert (ran.stdout, ran.stderr) == ("done False\n", "")
