"""An exception at any bytecode of a session's life, in a user's own `with`, `async with`, function
or generator: nothing stays current, no lock is left, and the session has its end in the log when
its store is closed at the latest."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events import recorder
from lllm.events.concurrency import finalizer_work
from lllm.sessions import (
    current_session,
    decorator,
    error_details,
    session,
    session_start,
    unfinished_calls,
    unfinished_sessions,
    with_in_generator,
)
from lllm.sessions import generator_sessions as stepwise
from lllm.sessions.current_session import current, running_session
from tests.events.concurrency.test_interrupts import Interrupt, Interrupts, in_another_thread

# Of a coroutine that an interrupt keeps from its first step.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")

_LIFE = tuple(
    module.__file__
    for module in (
        session,
        session_start,
        current_session,
        error_details,
        stepwise,
        decorator,
        with_in_generator,
        unfinished_calls,
        recorder,
    )
)
_EVERY = 97  # bytecodes; the first of each function's last call is tried, too


class Steps(Interrupts):
    """Interrupts that note which of the bytecodes are the first of a function's last call."""

    def __init__(self, at: int = -1) -> None:
        super().__init__(at, within=_LIFE)
        self.firsts: dict[object, int] = {}

    def _trace(self, frame: FrameType, what: str, argument: object) -> Any:
        if what == "call":
            self.firsts[frame.f_code] = self.seen + 1
        return super()._trace(frame, what, argument)


def with_(store: LogStore, steps: Steps) -> None:
    """A `with` in the function that goes on behind it."""
    try:
        with steps, store.session("with") as recorder:
            recorder.deliver(1)
    except Interrupt:
        pass
    assert running_session() is None


def in_a_stack(store: LogStore, steps: Steps) -> None:
    """A `with` around an ExitStack."""
    with suppress(Interrupt), steps, ExitStack() as stack:
        stack.enter_context(store.session("stack"))


def in_a_manager(store: LogStore, steps: Steps) -> None:
    """A `with` in a context manager of the user's own."""

    @contextmanager
    def managed() -> Iterator[None]:
        with store.session("managed"):
            yield

    with suppress(Interrupt), steps, managed():
        pass


def decorated(store: LogStore, steps: Steps) -> None:
    """A decorated function."""

    @store.tactic("decorated")
    def work(task: str) -> str:
        return task

    with suppress(Interrupt), steps:
        work("x")


def a_generator(store: LogStore, steps: Steps) -> None:
    """The steps of a decorated generator."""

    @store.tactic("generator")
    def work(task: str) -> Iterator[str]:
        yield task
        yield task

    with suppress(Interrupt), steps:
        for _ in work("x"):
            assert running_session() is None


def a_left_generator(store: LogStore, steps: Steps) -> None:
    """One that is left."""

    @store.tactic("left generator")
    def work(task: str) -> Iterator[str]:
        yield task
        yield task

    with suppress(Interrupt), steps:
        for _ in work("x"):
            break


def on_a_loop(work: Callable[[LogStore, Steps], Any]) -> Callable[[LogStore, Steps], None]:
    """Have a coroutine function run on an event loop of its own."""

    def run(store: LogStore, steps: Steps) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(work(store, steps))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    run.__name__ = work.__name__
    return run


@on_a_loop
async def async_with(store: LogStore, steps: Steps) -> None:
    """An `async with` in the coroutine that goes on behind it."""
    try:
        with steps:
            async with store.session("async with") as recorder:
                recorder.deliver(1)
    except Interrupt:
        pass
    assert running_session() is None


@on_a_loop
async def decorated_coroutine(store: LogStore, steps: Steps) -> None:
    """A decorated coroutine function."""

    @store.tactic("coroutine")
    async def work(task: str) -> str:
        return task

    with suppress(Interrupt), steps:
        await work("x")


@on_a_loop
async def an_async_generator(store: LogStore, steps: Steps) -> None:
    """The steps of a decorated asynchronous generator."""

    @store.tactic("async generator")
    async def work(task: str) -> AsyncIterator[str]:
        yield task
        yield task

    with suppress(Interrupt), steps:
        async for _ in work("x"):
            assert running_session() is None


WAYS = [
    with_, in_a_stack, in_a_manager, decorated, a_generator, a_left_generator, async_with,
    decorated_coroutine, an_async_generator,
]  # fmt: skip


@pytest.fixture(autouse=True)
def dropped_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops, and tells, what is raised while a generator is dropped; nobody keeps it."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.fixture(autouse=True)
def in_a_context_of_its_own() -> Iterator[None]:
    """What one test leaves current is no other's."""
    outer = current.get()
    yield
    current.set(outer)


def states(path: Path) -> dict[str, list[str]]:
    """The sessions of a closed store: the states that each kind is in."""
    with LogStore(SQLiteBackend(path)) as store:
        found: dict[str, list[str]] = {}
        for one in store.list_sessions(limit=None):
            found.setdefault(one.state, []).append(one.tactic_name)
        return found


class InLocks(Steps):
    """Steps that note the bytecodes with which a recorder gives back the lock on what it stages."""

    def __init__(self, at: int = -1) -> None:
        super().__init__(at)
        self.found: list[int] = []

    def _trace(self, frame: FrameType, what: str, argument: object) -> Any:
        if what == "opcode" and frame.f_code.co_name in ("_stage", "_seal", "_staged"):
            self.found.append(self.seen + 1)
        return super()._trace(frame, what, argument)


def test_a_raise_where_a_lock_is_given_back(tmp_path: Path) -> None:
    """A lock that remembers an interrupted function keeps no session from its end."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        a_left_generator(store, Steps())
        counted = InLocks()
        a_left_generator(store, counted)
        last = counted.found[-60:]
        assert len(last) == 60
        for at in last:
            a_left_generator(store, Steps(at))
    assert set(states(path)) == {"failure"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_any_single_raise(way: Any, tmp_path: Path) -> None:
    """Wherever it comes: no session is current behind it, another thread can work, and when the
    store was closed every session has ended."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        way(store, Steps())  # what is imported and made once
        counted = Steps()
        way(store, counted)
        assert counted.seen > 100
        tried = sorted({*counted.firsts.values(), *range(1, counted.seen, _EVERY)})
        for at in tried:
            way(store, Steps(at))
            if way is in_a_stack and running_session() is not None:
                gc.collect()  # an ExitStack holds what was raised in it in a cycle
            assert running_session() is None, f"{at} of {counted.seen}"
        in_another_thread(lambda: way(store, Steps()))
        gc.collect()
        finalizer_work.settle()
    found = states(path)
    assert set(found) <= {"success", "failure"}, found
    assert len(found["failure"]) > 3
    assert len(found["failure"]) + len(found.get("success", ())) > len(tried) / 4


def test_at_the_latest_at_the_exit(tmp_path: Path) -> None:
    """A session that an interrupt kept from ending, in a program that ends without closing its
    store, has ended all the same."""
    path = tmp_path / "runs.db"
    code = """
import asyncio, sys
from lllm import LogStore, SQLiteBackend
from lllm.sessions.session import SessionScope

store = LogStore(SQLiteBackend(sys.argv[1]))

def interrupt(frame, what, _):
    if frame.f_code.co_name in ("_exit_with", "_aexit_with"):
        raise KeyboardInterrupt

async def on_a_loop():
    async with store.session("async with"):
        sys.settrace(interrupt)

for work in (lambda: asyncio.run(on_a_loop()), None):
    try:
        if work:
            work()
        else:
            with store.session("with"):
                sys.settrace(interrupt)
    except KeyboardInterrupt:
        sys.settrace(None)
        print("interrupted")
"""
    command = [sys.executable, "-c", code, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout.split(), ran.stderr, ran.returncode) == (["interrupted"] * 2, "", 0)
    assert states(path) == {"failure": ["with", "async with"]}


def test_who_looks_at_a_session_ends_nothing(tmp_path: Path) -> None:
    """`__exit__` that is looked at, or called by hand, is no `with` that was left."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        scope = store.session("by hand")
        assert callable(scope.__exit__)
        recorder = scope.__enter__()
        assert callable(scope.__exit__)
        gc.collect()
        assert running_session() is scope
        assert recorder.is_open
        scope.__exit__(None, None, None)
        assert running_session() is None
        with store.session("another") as recorder:
            assert callable(running_session().__exit__)  # type: ignore[union-attr]
            gc.collect()
            assert running_session() is not None
        assert {one.state for one in store.list_sessions()} == {"success"}


def test_a_stack_and_a_session_by_hand(tmp_path: Path) -> None:
    """A session that is entered by hand is not over with the stack that another one is on."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with ExitStack() as stack:
            stack.enter_context(store.session("on the stack"))
            scope = store.session("by hand")
            scope.__enter__()
        assert running_session() is scope
        with store.session("below"):
            pass
        scope.__exit__(None, None, None)
        assert {one.state for one in store.list_sessions()} == {"success"}
        assert {one.tactic_name for one in store.list_sessions()} == {"on the stack"}


def test_a_session_that_is_dropped(tmp_path: Path) -> None:
    """A session in a task that was interrupted ends when nobody has it any more."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:

        def interrupt(frame: FrameType, what: str, _: object) -> None:
            del what
            if frame.f_code.co_name == "_aexit_with":
                raise Interrupt

        async def work() -> None:
            async with store.session("dropped"):
                sys.settrace(interrupt)

        loop = asyncio.new_event_loop()
        with suppress(Interrupt):
            loop.run_until_complete(work())
        sys.settrace(None)
        loop.close()
        del loop
        gc.collect()
        finalizer_work.settle()
        [session] = store.list_sessions()
        assert session.state == "failure"


def test_who_must_not_wait_has_lost_sessions_ended_by_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are none, nothing is queued."""
    queued: list[object] = []
    monkeypatch.setattr(unfinished_sessions.finalizer_work, "later", queued.append)
    unfinished_sessions.settle_lost_aside()
    assert queued == []
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store, store.session("a::script") as said:
        noted = unfinished_sessions.watch_of(said, said.session_id)
        unfinished_sessions._gone.add(noted)
        unfinished_sessions.settle_lost_aside()
        assert queued == [unfinished_sessions.settle_lost]
        unfinished_sessions._gone.discard(noted)
