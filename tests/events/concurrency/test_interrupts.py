"""An exception at any bytecode of an append: locks are free, the append is whole or absent.

Python raises exceptions from outside (Ctrl-C, PyThreadState_SetAsyncExc) between two bytecodes; a
RecursionError or MemoryError comes anywhere, too. So each bytecode that lllm runs
in one operation is tried: the exception is raised just before it, by a trace function.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import lllm
from lllm import LocalFileBackend, LogStore, SQLiteBackend, Tactic
from lllm.agents import tactic
from lllm.events import codec
from lllm.events import recorder as recorder_module
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency import fork_handlers
from lllm.events.concurrency.fair_locks import FairFileLock, FairThreadLock
from lllm.events.concurrency.late_imports import importing
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.robust_locks import ForkSafeLock, LockPair, RobustLock
from lllm.events.envelope import NewEvent
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.events.model import LogGap
from lllm.events.recorder import Recorder
from lllm.sessions import (
    current_session,
    decorator,
    error_details,
    session,
    session_start,
    with_in_generator,
)
from lllm.store import closing
from lllm.testing.writers import event

# Python drops, and tells, what is raised while it runs a callback of a weak reference, and a file
# that was opened just before an interrupt, which it closes itself.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}
HANG = 20.0  # seconds that nothing here takes, however slow the machine
_OURS = os.fspath(Path(lllm.__file__).parent)
_EVENTS = lllm.events.__path__[0]


class Interrupt(BaseException):
    """What is raised, as KeyboardInterrupt is none that any `except Exception` takes."""


class Interrupts:
    """Counts the bytecodes of lllm that this thread runs, and raises before some of them."""

    def __init__(
        self, at: int = -1, again_after: int = -1, *, within: tuple[str, ...] = (_OURS, _EVENTS)
    ) -> None:
        self._within = within  # what the paths of modules begin with
        self.at = at
        self.again_after = again_after
        self.seen = 0
        self.raised = 0
        # CPython 3.11 calls a frame's trace function by a reference that may be the last one.
        self._same = self._trace

    def _trace(self, frame: FrameType, what: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._within):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if what == "opcode":
            self.seen += 1
            if self.seen == self.at:
                self.raised += 1
                raise Interrupt
            if self.raised and self.seen == self.at + self.again_after:
                self.raised += 1
                raise Interrupt
        return self._same

    def __enter__(self) -> Interrupts:
        sys.settrace(self._same)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


def interrupted(work: Callable[[], object], at: int, again_after: int = -1) -> int:
    """Do some work that is interrupted before its bytecode number `at`, and perhaps once more so
    many bytecodes later; returns how often it was."""
    interrupts = Interrupts(at, again_after)
    with suppress(Interrupt), interrupts:
        work()
    return interrupts.raised


def in_another_thread(work: Callable[[], object]) -> None:
    """Do some work in another thread, and fail where it hangs."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANG)
    assert not thread.is_alive(), "another thread hangs"
    assert not errors, errors


@contextmanager
def other_process(kind: str, path: Path) -> Iterator[Callable[[], None]]:
    """Another process that appends an event each time it is asked to, and says when it has."""
    code = f"""
import sys
from lllm import LocalFileBackend, SQLiteBackend
from lllm.events.concurrency import locks
from lllm.agents import tactic
from lllm.sessions import decorator, with_in_generator, session
from lllm.store import closing
from lllm.testing.writers import event
log = {KINDS[kind].__name__}({str(path)!r})
for number, _ in enumerate(sys.stdin, 1):
    log.append([event("other", number, b"1")])
    print(number, flush=True)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask() -> None:
            stdin.write(b"x\n")
            stdin.flush()
            assert stdout.readline().strip().isdigit(), "the other process could not append"

        yield ask
        stdin.close()


def steps(work: Callable[[], object]) -> int:
    """How many bytecodes of lllm some work runs."""
    with Interrupts() as interrupts:
        work()
    return interrupts.seen


def whole_streams(log: LogBackend, size: int) -> None:
    """The log holds appends of so many events whole, and no stream with a hole."""
    seqs: dict[str, list[int]] = {}
    for one in log.read():
        seqs.setdefault(one.stream, []).append(one.seq)
    for stream, found in seqs.items():
        assert found == list(range(1, len(found) + 1)), stream
        assert stream == "other" or len(found) % size == 0, stream


def _events(stream: str, size: int) -> list[NewEvent]:
    return [event(stream, seq, b'{"n":1}') for seq in range(1, size + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_an_append_is_whole_or_absent(kind: str, size: int, tmp_path: Path) -> None:
    """Wherever an append is interrupted, another thread and another process can append at once, the
    events are all there or none, and the same append can be tried again."""
    log = KINDS[kind](tmp_path / "log")
    with other_process(kind, tmp_path / "log") as ask:
        for number in range(40):  # the other's events are known, and connections are open
            log.append(_events(f"first-{number}", size))
        count = steps(lambda: log.append(_events("counted", size)))
        assert count > 100
        for at in range(1, count + 20, 3 if size == 1 else 31):
            events = _events(f"at-{at}", size)
            interrupted(lambda events=events: log.append(events), at)  # type: ignore[misc]
            in_another_thread(lambda at=at: log.append(_events(f"thread-{at}", size)))  # type: ignore[misc]
            if at % 5 == 1:
                ask()
            log.append(events)
        ask()
    whole_streams(log, size)
    log.close()
    assert not verify(KINDS[kind](tmp_path / "log")).damages


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_second_interrupt_the_next_append_repairs(kind: str, tmp_path: Path) -> None:
    """Where the cleaning up is interrupted, too, whoever appends next finds what was left."""
    log = KINDS[kind](tmp_path / "log")
    count = steps(lambda: log.append(_events("counted", 3)))
    for at in range(1, count, 9):
        for again in (1, 5, 23):
            events = _events(f"at-{at}-{again}", 3)
            interrupted(lambda events=events: log.append(events), at, again)  # type: ignore[misc]
            in_another_thread(lambda: log.append([event("t", 1, b"1")]))
    with other_process(kind, tmp_path / "log") as ask:
        ask()
    whole_streams(log, 1)
    log.close()
    assert not verify(KINDS[kind](tmp_path / "log")).damages


def _held(threads: RobustLock, file: FileLock) -> None:
    held = LockPair(threads, file, HANG)
    try:
        with held as mine:
            assert mine
    finally:
        held.exit()


def _fair(lock: RobustLock) -> None:
    with lock, lock:
        pass


@pytest.mark.parametrize("again", [-1, 1, 4])
def test_locks_are_free(again: int, tmp_path: Path) -> None:
    """Wherever the taking or giving back of a lock is interrupted, once or twice, another thread
    has it next, and after one interrupt another process has the file's."""
    file, other = FairFileLock(tmp_path / "a"), FileLock(tmp_path / "a")
    threads = FairThreadLock()
    for work in (lambda: _held(threads, file), lambda: _fair(threads), lambda: _fair(RobustLock())):
        for at in range(1, steps(work) + 5):
            interrupted(work, at, again)
            if again < 0:
                assert other.take(time.monotonic(), 0), at
                other.free()
            in_another_thread(lambda: _held(threads, file))
    file.close()
    other.close()


def test_who_waits_sees_that_the_holder_is_gone() -> None:
    """A lock that is held is waited for, also where its function calls others; one that was left
    behind is not."""
    lock = FairThreadLock()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            inside.set()
            leave.wait(HANG)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(HANG)
    assert not lock.acquire(timeout=0.3)  # several looks find the function at work
    leave.set()
    thread.join()

    def leave_behind(frames: list[FrameType]) -> None:
        frames.append(sys._getframe())
        lock.enter(sys._getframe())

    left: list[FrameType] = []
    in_another_thread(lambda: leave_behind(left))
    assert lock.acquire(timeout=HANG)
    lock.release()
    assert left[0].f_locals["frames"] is left  # a debugger still finds what was there


@pytest.mark.slow
def test_a_recorder_has_no_holes(tmp_path: Path) -> None:
    """Wherever staging and committing are interrupted, what is staged next follows, and all that
    was staged is stored once."""
    log = SQLiteBackend(tmp_path / "log")
    holding = BufferedLog(log)

    def once() -> Recorder:
        recorder = Recorder(holding, "a::b")
        recorder.stage(
            LogGap(lost=1, first_time=1, last_time=1, reason="x", salt=b""),
            LogGap(lost=2, first_time=1, last_time=1, reason="y", salt=b""),
        )
        recorder.commit()
        return recorder

    count = steps(once)
    for at in range(1, count, 3):
        recorder = Recorder(holding, "a::b")

        def both(recorder: Recorder = recorder) -> None:
            recorder.stage(
                LogGap(lost=1, first_time=1, last_time=1, reason="x", salt=b""),
                LogGap(lost=2, first_time=1, last_time=1, reason="y", salt=b""),
            )
            recorder.commit()

        interrupted(both, at)
        recorder.stage(LogGap(lost=3, first_time=1, last_time=1, reason="z", salt=b""))
        in_another_thread(recorder.commit)
        found = [one.seq for one in log.read(stream=recorder.session_id)]
        assert found in ([1], [1, 2, 3]), at
        assert recorder.is_written
    assert not holding.held
    log.close()


def test_what_is_staged_is_staged_once() -> None:
    """Wherever staging is interrupted, what is staged next gives no event a second place, and ends
    the session at most once."""

    def numbers(recorder: Recorder) -> list[tuple[int, int]]:
        recorder.commit()
        gaps = [(one.seq, codec.decode(one)) for one in recorder.log.read()]
        return [(seq, gap.lost) for seq, gap in gaps if isinstance(gap, LogGap)]

    def gap(number: int) -> LogGap:
        return LogGap(lost=number, first_time=1, last_time=1, reason="x", salt=b"")

    within = (recorder_module.__file__,)
    for stage in (lambda one: one.stage(gap(1), gap(2)), lambda one: one.end(gap(1))):
        at = 0
        while True:
            at += 1
            recorder = Recorder(MemoryBackend(), "a::b")
            interrupts = Interrupts(at, within=within)
            with suppress(Interrupt), interrupts:
                stage(recorder)
            if not interrupts.raised:
                break
            if recorder.is_open:
                recorder.end(gap(3))
            found = numbers(recorder)
            assert [seq for seq, _ in found] == [*range(1, len(found) + 1)], at
            assert [lost for _, lost in found] in ([3], [1, 2, 3], [1]), at
        assert at > 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_signals(kind: str, tmp_path: Path) -> None:
    """Real signals, up to a thousand, while two threads append: none hangs, every append is
    whole."""
    log = KINDS[kind](tmp_path / "log")
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            log.append(_events(f"thread-{written}", 2))
            written += 1

    armed = False

    def raise_one(*_: object) -> None:
        nonlocal armed
        if armed:  # once for each try below
            armed = False
            raise Interrupt

    thread = threading.Thread(target=write, daemon=True)
    before = signal.signal(signal.SIGALRM, raise_one)
    hits = number = 0
    until = time.monotonic() + HANG / 4
    try:
        thread.start()
        while hits < 1_000 and time.monotonic() < until:
            number += 1
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + number % 17 * 0.00005, 0.01)
                # What a finalizer or a callback of the collector raises goes nowhere.
                while armed:
                    number += 1
                    log.append(_events(f"main-{number}", 2))
            except Interrupt:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        # One that is on its way would end the process, were nobody there to take it.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, before)
        stop.set()
    thread.join(HANG)
    assert not thread.is_alive()
    assert hits > 10
    with other_process(kind, tmp_path / "log") as ask:
        ask()
    whole_streams(log, 2)
    log.close()


def test_an_import_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose import is interrupted can be imported the next time, with its parts."""
    package = tmp_path / "halfway"
    package.mkdir()
    (package / "part.py").write_text("value = 1\n")
    (package / "__init__.py").write_text(
        "import builtins\nfrom .part import *\nbuiltins.halfway()\nvalue = part.value\n"
    )
    monkeypatch.syspath_prepend(os.fspath(tmp_path))

    def once() -> None:
        monkeypatch.setattr("builtins.halfway", lambda: None)
        raise Interrupt

    monkeypatch.setattr("builtins.halfway", once, raising=False)
    with pytest.raises(Interrupt), importing():
        import halfway  # type: ignore[import-not-found]
    with importing():
        import halfway
    assert halfway.value == 1


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


def _with_a_session(store: LogStore) -> None:
    with store.session("a::script") as recorder:
        recorder.deliver(1)


def _decorated(store: LogStore) -> None:
    @store.tactic("a::decorated")
    def work(task: str) -> str:
        return task

    work("x")


CALLS: dict[str, Callable[[LogStore], object]] = {
    "tactic": lambda store: Answers(log_store=store)("x"),
    "decorated": _decorated,
    "with": _with_a_session,
}


# What the life of a session is made of; the appends in it are interrupted above.
_LIFE = tuple(
    module.__file__
    for module in (
        session,
        session_start,
        current_session,
        error_details,
        tactic,
        decorator,
        with_in_generator,
        closing,
        recorder_module,
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("again", [-1, 2, 31])
@pytest.mark.parametrize("what", CALLS)
def test_a_call_leaves_no_session_behind(what: str, again: int, tmp_path: Path) -> None:
    """Wherever a call is interrupted, once or twice, the next one is a root that succeeds, and no
    session goes on running."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:

        def call(at: int = -1) -> int:
            with suppress(Interrupt), Interrupts(at, again, within=_LIFE) as interrupts:
                CALLS[what](store)
            return interrupts.seen

        call()
        tried = range(1, call() + 1, 7 if again < 0 else 29)
        for at in tried:
            call(at)
            with store.session(f"a::after-{at}"):
                pass
        after = [one for one in store.list_sessions(limit=None) if "after-" in one.tactic_path]
        assert len(after) == len(tried)
        assert {one.state for one in after} == {"success"}
        assert store.list_sessions(state="running") == []


def test_a_fork_that_is_interrupted_ends_what_it_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the pausing before a fork is interrupted, what has paused goes on behind it."""
    # What other tests left in this process would make it hundreds of times as long.
    monkeypatch.setattr(fork_handlers, "_pausable", {})
    lock = ForkSafeLock(0)
    for at in range(1, steps(fork_handlers._pause_all)):
        interrupted(fork_handlers._pause_all, at)
        fork_handlers._resume_all()
        in_another_thread(lambda: _fair(lock))
    for at in range(1, steps(fork_handlers._resume_all)):
        fork_handlers._pause_all()
        interrupted(fork_handlers._resume_all, at)
        fork_handlers._resume_all()
        in_another_thread(lambda: _fair(lock))


@pytest.mark.slow
def test_a_rebuild_that_is_interrupted_keeps_no_other_away(tmp_path: Path) -> None:
    """Whoever rebuilds next does not wait for one that was interrupted."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with store.session("a::script"):
            pass
        count = steps(store.rebuild)
        for at in range(1, count, count // 40):
            interrupted(store.rebuild, at)
            in_another_thread(store.rebuild)
        assert store.rebuild(check=True).difference is None
