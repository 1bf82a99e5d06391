"""Programs that end while a session is open, each in another way.

    python -m tests.survival.endings NAME sqlite|jsonl FOLDER

A program says "ready" when its model is being called, so that whoever started it can send it a
signal just then.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lllm import LogStore, Tactic
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import Reply, ScriptedInvoker
from tests.support.runs import Asking, AsyncAsking
from tests.survival.places import Place

Program = Callable[[LogStore], object]
PROGRAMS: dict[str, Program] = {}
_calling = threading.Event()


def program(run: Program) -> Program:
    """Have it found by its name."""
    PROGRAMS[run.__name__] = run
    return run


class _Slow(ScriptedInvoker):
    """A model that answers in an hour."""

    async def ainvoke(self, request: Request) -> Answer:
        ready()
        await asyncio.sleep(3600)
        raise AssertionError(request)


def ready() -> None:
    """Say that the model is being called."""
    _calling.set()
    print("ready", flush=True)


def _in_an_hour(_: Request) -> Reply:
    ready()
    threading.Event().wait(3600)
    return "too late"


def slow(store: LogStore) -> Tactic:
    """A tactic whose model answers in an hour."""
    return Asking(_asks_slowly(), log_store=store)


def slow_on_a_loop(store: LogStore) -> Tactic:
    """The same for event loops."""
    return AsyncAsking(_asks_slowly(), log_store=store)


def _asks_slowly() -> dict[str, object]:
    agent = {"name": "a", "model_name": "gpt-4o-mini", "invoker": _Slow(_in_an_hour)}
    return {"agent_configs": [agent]}


def _started(work: Callable[[], object], *, daemon: bool) -> None:
    threading.Thread(target=work, daemon=daemon).start()
    _calling.wait()


# -- by a signal, which the test sends


@program
def in_a_model_call(store: LogStore) -> None:
    """The main thread waits for a model."""
    slow(store)("task")


@program
def in_a_model_call_on_a_loop(store: LogStore) -> None:
    """The event loop of the main thread waits for a model."""
    asyncio.run(_awaited(slow_on_a_loop(store)))


async def _awaited(tactic: Tactic) -> None:
    await tactic.acall("task")


@program
def in_a_child_session(store: LogStore) -> None:
    """The same, in a session below another."""
    with store.session("survival::parent"):
        slow(store)("task")


# -- by the program itself


@program
def unhandled(store: LogStore) -> None:
    """An exception that nobody catches ends the program."""
    with store.session("survival::unhandled"):
        raise ValueError("nobody catches this")


@program
def exit_in_a_session(store: LogStore) -> None:
    """sys.exit in the main thread."""
    with store.session("survival::exit"):
        sys.exit(3)


@program
def exit_in_a_coroutine(store: LogStore) -> None:
    """sys.exit in a task."""

    async def run() -> None:
        async with store.session("survival::exit"):
            await asyncio.sleep(0)
            sys.exit(3)

    asyncio.run(run())


@program
def left_task(store: LogStore) -> None:
    """The main coroutine returns while a task still waits for its model."""
    tactic = slow_on_a_loop(store)

    async def run() -> None:
        task = asyncio.create_task(tactic.acall("task"))
        while not _calling.is_set():
            await asyncio.sleep(0.001)
        assert not task.done()

    asyncio.run(run())


@program
def thread_goes_on(store: LogStore) -> None:
    """The main thread exits; another one ends its session a little later."""
    main = threading.main_thread()

    def work() -> None:
        with store.session("survival::thread") as recorder:
            ready()
            main.join()
            recorder.deliver("behind the main thread")

    _started(work, daemon=False)
    sys.exit(0)


@program
def daemon_thread(store: LogStore) -> None:
    """The program exits while a daemon thread waits for its model."""
    _started(lambda: slow(store)("task"), daemon=True)


@program
def daemon_loop(store: LogStore) -> None:
    """The program exits while a daemon thread runs an event loop."""
    _started(lambda: asyncio.run(_awaited(slow_on_a_loop(store))), daemon=True)


@program
def never_left(store: LogStore) -> None:
    """A session is entered and never left."""
    scope = store.session("survival::open")
    scope.__enter__()
    atexit.register(lambda: scope)  # nobody collects it meanwhile


@program
def suspended_generator(store: LogStore) -> None:
    """A generator is left in the middle of a session when the interpreter ends."""

    def generate() -> Iterator[int]:
        with store.session("survival::generator"):
            yield 1
            yield 2

    global _kept
    _kept = generate()
    next(_kept)


_kept: Iterator[int]


@program
def ended_at_exit(store: LogStore) -> None:
    """A session is left by a handler of atexit."""
    scope = store.session("survival::atexit")
    scope.__enter__()
    atexit.register(scope.__exit__, None, None, None)


@program
def begun_at_exit(store: LogStore) -> None:
    """A session is begun and left by a handler of atexit."""

    def work() -> None:
        with store.session("survival::atexit") as recorder:
            recorder.deliver("at exit")

    atexit.register(work)


@program
def hard_exit(store: LogStore) -> None:
    """os._exit, which no Python code survives."""
    with store.session("survival::hard"):
        os._exit(5)


@program
def abort(store: LogStore) -> None:
    """A crash of the interpreter."""
    with store.session("survival::abort"):
        os.abort()


if __name__ == "__main__":
    name, kind, folder = sys.argv[1:]
    assert kind in ("sqlite", "jsonl")
    PROGRAMS[name](Place("sqlite" if kind == "sqlite" else "jsonl", Path(folder)).store())
