"""Ways out of a session that its process outlives: each leaves a finished record, too."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import LogStore, Prompt, tool
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, tool_call
from tests.support.echo import echo
from tests.support.runs import Asking, Doing, config
from tests.survival.endings import slow_on_a_loop
from tests.survival.places import KINDS, Kind, Place
from tests.survival.records import CANCELLED, EXITED, FAILED, STOPPED, SUCCESS, Record, left_behind

pytestmark = pytest.mark.slow


def keyboard_interrupt_in_a_tool(store: LogStore) -> None:
    """Somebody presses Ctrl-C while a tool runs."""

    @tool(description="stop")
    def stop() -> str:
        signal.raise_signal(signal.SIGINT)
        return "not reached"

    Asking(config([tool_call("stop")], tools=[stop]), log_store=store)("task")


def exit_in_a_tool(store: LogStore) -> None:
    """A tool wants the program to end."""

    @tool(description="stop")
    def stop() -> str:
        sys.exit(2)

    Asking(config([tool_call("stop")], tools=[stop]), log_store=store)("task")


def handler_that_raises(store: LogStore) -> None:
    """A signal's handler raises in the middle of a model call."""

    def expire(*_: object) -> None:
        raise TimeoutError("the handler's")

    def answer(_: Request) -> Reply:
        signal.raise_signal(signal.SIGUSR1)
        return "not reached"

    before = signal.signal(signal.SIGUSR1, expire)
    try:
        Asking(config(answer), log_store=store)("task")
    finally:
        signal.signal(signal.SIGUSR1, before)


def parser_that_raises(store: LogStore) -> None:
    """A prompt's parser raises what is no ParseError."""

    def parse(_: str) -> object:
        raise RuntimeError("the parser's")

    def ask(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive_prompt(Prompt("p", "Say it.", parser=parse))
        return agent.respond().content

    Doing(ask, config(["said"]), log_store=store)("task")


def thread_that_raises(store: LogStore) -> None:
    """A tactic fails in a thread."""

    def fail(_: Doing) -> object:
        raise ValueError("in a thread")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(Doing(fail, log_store=store), "task").result()


def cancelled_task(store: LogStore) -> None:
    """The task of a call is cancelled."""

    async def run() -> None:
        task = asyncio.create_task(slow_on_a_loop(store).acall("task"))
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    asyncio.run(run())


def timed_out(store: LogStore) -> None:
    """A call takes longer than asyncio.timeout lets it."""

    async def run() -> None:
        async with asyncio.timeout(0.05):
            await slow_on_a_loop(store).acall("task")

    asyncio.run(run())


def failing_group(store: LogStore) -> None:
    """Another task of the same TaskGroup fails."""

    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise ValueError("another task's")

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(slow_on_a_loop(store).acall("task"))
            group.create_task(fail())

    asyncio.run(run())


def closed_generator(store: LogStore) -> None:
    """A generator with a session inside is closed."""

    def generate() -> Iterator[int]:
        with store.session("survival::generator"):
            yield 1

    generator = generate()
    next(generator)
    generator.close()  # type: ignore[attr-defined] # an Iterator here, a generator in truth


def callback_that_raises(store: LogStore) -> None:
    """A callback of the event loop raises while a call waits; asyncio tells its own handler."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        told: list[object] = []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def fail() -> None:
            raise ValueError("the callback's")

        loop.call_soon(fail)
        assert await echo(store).acall("task") == "task"
        assert [type(error) for error in told] == [ValueError]

    asyncio.run(run())


OUTLIVED: list[tuple[Callable[[LogStore], None], type[BaseException] | None, Record]] = [
    (keyboard_interrupt_in_a_tool, KeyboardInterrupt, STOPPED),
    (exit_in_a_tool, SystemExit, EXITED),
    (handler_that_raises, TimeoutError, Record("failure", "TimeoutError")),
    (parser_that_raises, RuntimeError, Record("failure", "RuntimeError")),
    (thread_that_raises, ValueError, FAILED),
    (cancelled_task, asyncio.CancelledError, CANCELLED),
    (timed_out, TimeoutError, CANCELLED),
    (failing_group, ExceptionGroup, CANCELLED),
    (closed_generator, None, Record("failure", "GeneratorExit", cancelled=True)),
    (callback_that_raises, None, SUCCESS),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("run", "raised", "left"), OUTLIVED, ids=[run.__name__ for run, *_ in OUTLIVED]
)
def test_an_end_that_the_process_outlives(
    tmp_path: Path,
    kind: Kind,
    run: Callable[[LogStore], None],
    raised: type[BaseException] | None,
    left: Record,
) -> None:
    """What is raised inside a session is raised on, and its record says what it was."""
    with Place(kind, tmp_path).store() as store:
        if raised is None:
            run(store)
        else:
            with pytest.raises(raised):
                run(store)
        left_behind(store, left)


@pytest.mark.parametrize("kind", KINDS)
def test_progress_that_raises(tmp_path: Path, kind: Kind) -> None:
    """A rebuild whose progress callback raises stops there, and the rows are as they were."""

    def fail(_reached: int, _upto: int) -> None:
        raise ValueError("the callback's")

    with Place(kind, tmp_path).store() as store:
        echo(store)("task")
        before = store.list_sessions()
        for check in (False, True):
            with pytest.raises(ValueError, match="the callback's"):
                store.rebuild(check=check, progress=fail)
        assert store.list_sessions() == before
        assert store.rebuild(check=True).difference is None
