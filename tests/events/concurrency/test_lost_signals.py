"""What a signal handler raises, Ctrl-C above all, reaches the program: Python loses it where it
comes in a finalizer, in the callback of a weak reference or in one of the garbage collector. So no
Python code of lllm runs there, wherever nothing went wrong."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from lllm import LogStore, SQLiteBackend, capture
from lllm.events.concurrency import finalizer_work
from tests.lllm.instrumentation.asking import (
    ASKED,
    CHAT,
    chat_client,
    close_clients,
    streamed,
    text_of,
)
from tests.support.echo import echo
from tests.support.loopback import Loopback, text
from tests.support.loopback_streams import chat

_STORM = """
import gc, signal
from lllm import LogStore

class Hit(BaseException): pass
class Cycle:
    def __init__(self): self.itself = self

def handler(*_):
    global armed, raised
    if armed:
        armed = False
        raised += 1
        raise Hit

armed, raised, caught = False, 0, 0
signal.signal(signal.SIGALRM, handler)
gc.set_threshold(50)
for number in range(300):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + number % 17 * 0.00005)
        while armed:
            [Cycle() for _ in range(200)]
    except Hit:
        caught += 1
print(raised, caught)
"""


def test_no_signal_is_lost_to_the_collector() -> None:
    """However often the collector runs, each exception of a handler arrives."""
    told = subprocess.run(
        [sys.executable, "-c", _STORM], capture_output=True, text=True, timeout=60, check=True
    )
    raised, caught = map(int, told.stdout.split())
    assert raised == caught == 300, told.stderr


def test_who_collects_is_known() -> None:
    """Code that the collector runs knows that it does, and no other code takes itself for that."""
    found: list[bool] = []

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            found.append(finalizer_work.by_collector())

    Cycle().__del__()
    gc.collect()
    assert not finalizer_work.by_collector()
    assert found == [False, False, True] or found == [False, True]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store with some sessions."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        echo(opened)("before")
        yield opened


def a_session(store: LogStore, _: Loopback) -> None:
    """A session of one's own."""
    with store.session("main::s"):
        pass


def a_tactic(store: LogStore, _: Loopback) -> None:
    """A tactic whose agent answers."""
    echo(store)("task")


def a_generator(store: LogStore, _: Loopback) -> None:
    """A decorated generator that is read to its end."""

    @store.tactic("numbers")
    def numbers(task: object) -> Iterator[int]:
        del task
        yield from range(3)

    assert list(numbers("task")) == [0, 1, 2]


def an_async_generator(store: LogStore, _: Loopback) -> None:
    """The same on an event loop."""
    import asyncio

    @store.tactic("numbers")
    async def numbers(task: object) -> AsyncIterator[int]:
        del task
        for number in range(3):
            yield number

    async def read() -> list[int]:
        return [number async for number in numbers("task")]

    assert asyncio.run(read()) == [0, 1, 2]


def a_captured_call(store: LogStore, server: Loopback) -> None:
    """A call of a captured client, and a stream that is read to its end."""
    client = capture(chat_client(server), log_store=store, provider="openai")
    server.answers(text("Hello."), chat("Hel", "lo."))
    client.chat.completions.create(model=CHAT, messages=ASKED)
    assert text_of(streamed(client)) == "Hello."


def a_list(store: LogStore, _: Loopback) -> None:
    """A list, and a loaded session."""
    store.load_session(store.list_sessions()[0].session_id)


def a_query(store: LogStore, _: Loopback) -> None:
    """Rows that are read to their end."""
    database = store.database()
    assert list(database.query("SELECT * FROM sessions"))
    database.close()


@pytest.mark.parametrize(
    "what",
    [a_session, a_tactic, a_generator, an_async_generator, a_captured_call, a_list, a_query],
    ids=lambda what: what.__name__,
)
def test_no_finalizer_runs(
    what: Callable[[LogStore, Loopback], None], store: LogStore, server: Loopback
) -> None:
    """Where all goes well, no code of lllm is run by what drops something of it."""
    what(store, server)  # what is done once only, as imports
    for _ in range(2):  # what earlier tests dropped
        gc.collect()
        finalizer_work.settle()
    gc.freeze()
    found: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_qualname
        if event != "call":
            return
        if name == "finalize.__call__":
            registry = weakref.finalize._registry  # type: ignore[attr-defined]
            module = registry[frame.f_locals["self"]].func.__module__
        else:
            module = frame.f_globals.get("__name__", "") if name.endswith("__del__") else ""
        if module.startswith("lllm"):
            found.add(f"{module}: {name}")

    sys.setprofile(profile)
    try:
        what(store, server)
        gc.collect()
    finally:
        sys.setprofile(None)
        close_clients()
    assert found == set()
