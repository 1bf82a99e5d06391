"""Signal handlers and finalizers that write, wherever they come in: nothing hangs or is lost."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency import finalizer_work
from lllm.testing.writers import batch, without_positions
from tests.conftest import OpenBackend
from tests.events.backends.test_shared_stores import run

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")

_BEGIN = """
import random, signal, sys, threading, time, warnings
warnings.simplefilter("error")
sys.setswitchinterval(1e-6)
from lllm import LocalFileBackend, LogStore, SQLiteBackend, Tactic
from lllm.sessions.current_session import current

path, kind, what, calls = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
open_it = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[kind]
dice = random.Random(7)

class T(Tactic, register=False):
    name = "t"
    def call(self, task, **_):
        return task

store = LogStore(open_it(path), on_error="raise")
other = LogStore(open_it(path))
tactic = T(log_store=store)
tactic("first")  # what is imported late is imported
other.save_error(ValueError("first"))
handled = 0

def next_signal():
    signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 2e-3))

def handler(*_):
    global handled
    handled += 1
    if what == "same":
        store.save_error(ValueError("of a handler"))
    elif what == "other":
        other.save_error(ValueError("of a handler"))
    elif what == "session":
        tactic("of a handler")
    elif what == "recorder":
        scope = current.get()
        if scope is not None and scope.recorder.is_open:
            from lllm.events.model import ErrorRecorded
            from lllm.sessions.error_details import describe
            scope.recorder.ordinal("message")
            scope.recorder.stage(ErrorRecorded(
                error=describe(ValueError("of a handler")), context=None, partition="",
                salt=scope.recorder.salt))
            scope.recorder.commit()
        else:
            handled -= 1
    elif what == "reading":
        store.list_sessions(limit=1)
    elif what == "opening":
        with LogStore(open_it(path)) as third:
            third.save_error(ValueError("of a handler"))
    next_signal()
"""

_SIGNALS = (
    _BEGIN
    + """
signal.signal(signal.SIGALRM, handler)
next_signal()
for call in range(calls):
    if what == "recorder":
        with store.session("main::s") as recorder:
            for _ in range(5):
                recorder.ordinal("message")
                recorder.commit()
    else:
        tactic(str(call))
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
sys.setswitchinterval(0.005)
assert store.log.held == other.log.held == []
sessions = store.list_sessions()
for session in sessions:
    seqs = [event.seq for event in store.events(session.session_id)]
    assert seqs == list(range(1, len(seqs) + 1)), seqs
types = [event.type for event in store.log.read()]
errors, begun = types.count("error.recorded"), types.count("session.started")
assert begun == types.count("session.succeeded")
done = {"session": begun, "reading": begun}.get(what, begun + errors)
extra = {"session": handled + 1, "reading": 1, "recorder": handled + 2}.get(what, handled + 2)
assert done == calls + extra, (begun, errors, handled)
assert {session.state for session in sessions} == {"success"}
assert store.rebuild(check=True).difference is None
print(handled)
other.close()
store.close()
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
@pytest.mark.parametrize("what", ["same", "other", "session", "recorder", "reading"])
def test_a_signal_handler_that_writes(tmp_path: Path, kind: str, what: str) -> None:
    """Whatever a handler interrupts and writes, all of it is in the log, once and in order."""
    calls = 150
    assert int(run(_SIGNALS, tmp_path / "log", kind, what, calls)) > 0


@pytest.mark.parametrize("kind", ["sqlite", "jsonl", "memory"])
def test_an_append_within_an_append(tmp_path: Path, kind: str) -> None:
    """An append that comes in the middle of another of its thread is stored when that has ended."""
    backend = {
        "sqlite": lambda: SQLiteBackend(tmp_path / "runs.db"),
        "jsonl": lambda: LocalFileBackend(tmp_path / "logs"),
        "memory": MemoryBackend,
    }[kind]()
    holding = BufferedLog(backend, on_error="raise")
    inside: list[int] = []

    def come_between(frame: object, event: str, _: object) -> None:
        del frame
        if event == "c_call" and backend.at_write() and len(inside) < 2:
            inside.append(len(inside))
            if len(inside) == 1:
                assert holding.append(batch("held", 0)) == ()
            else:
                assert backend.append(batch("bare", 0)) == ()

    sys.setprofile(come_between)
    try:
        holding.append(batch("outer", 0))
    finally:
        sys.setprofile(None)
    assert inside == [0, 1]
    stored = without_positions(list(backend.read()))
    assert stored == [*batch("outer", 0), *batch("held", 0), *batch("bare", 0)]
    assert holding.held == []
    holding.close()


def test_a_session_that_the_collector_ends(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session in a generator that the collector comes upon is ended by another thread, also where
    this one holds the lock of the log."""
    with LogStore(open_backend()) as store:

        def numbers():  # type: ignore[no-untyped-def] # a generator in a cycle
            with store.session("script"):
                yield from iter(int, 1)

        first = numbers()
        next(first)
        with store._rows.database.write():
            monkeypatch.setattr(finalizer_work._Collection, "is_mine", True)
            first.close()
            monkeypatch.undo()
        finalizer_work.settle()
        (session,) = store.list_sessions()
        assert session.state == "failure"


def test_what_the_collector_left_is_written_before_the_store_closes(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the thread that ends it is at something else."""
    begun = threading.Event()

    def other_work() -> None:
        begun.set()
        time.sleep(0.2)

    finalizer_work.later(other_work)
    begun.wait()
    store = LogStore(open_backend())
    scope = store.session("script")
    scope.__enter__()
    monkeypatch.setattr(finalizer_work._Collection, "is_mine", True)
    scope.__exit__(None, None, None)
    monkeypatch.undo()
    store.close()
    with LogStore(open_backend()) as again:
        (session,) = again.list_sessions()
    assert session.state == "success"
