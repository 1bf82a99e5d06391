"""Tools that are under way when their session ends have their end in the log, whatever becomes of
what runs them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SessionEnded, SQLiteBackend, Tactic
from lllm.agents.agent import Agent
from lllm.events.integrity.verify import verify
from lllm.events.model import AgentFailed, Event, ToolCalled, ToolFailed, ToolReturned
from lllm.events.recorder import Recorder
from lllm.invokers.scripted import ScriptedInvoker, tool_call, tool_calls
from tests.support.runs import MODEL, payloads, types

HANG = 20.0  # seconds that nothing here takes


class Begins(Tactic, register=False):
    """Begins an agent's call, and returns without it."""

    name = "begins"
    begin: Callable[[Agent], object]

    def call(self, task: object, **_: object) -> object:
        """In a thread."""
        del task
        return type(self).begin(self._ready())

    def _ready(self) -> Agent:
        agent = self.agents["a"]
        agent.open()
        agent.receive("?")
        return agent


class BeginsOnLoop(Begins, register=False):
    """The same on an event loop."""

    name = "begins on a loop"
    begin_async: Callable[[Agent], Any]

    async def call(self, task: object, **_: object) -> object:
        """One call."""
        del task
        return await type(self).begin_async(self._ready())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def config(calls: int, *tools: Any, **more: Any) -> dict[str, Any]:
    """An agent whose model asks for so many calls of its first tool."""
    wanted = [tool_call("waits", {"number": number}) for number in range(calls)]
    model = ScriptedInvoker([tool_calls(*wanted), "Done."])
    agent = {"name": "a", "model_name": MODEL, "invoker": model, "tools": list(tools), **more}
    return {"agent_configs": [agent]}


def ends(store: LogStore) -> list[Event]:
    """The events of the newest session; each of its tools has one end, and its call has one."""
    found = payloads(store, store.list_sessions(limit=1)[0].session_id)
    called = [one.tool for one in found if isinstance(one, ToolCalled)]
    ended = [one.tool for one in found if isinstance(one, ToolReturned | ToolFailed)]
    assert sorted(ended) == called
    assert sum(isinstance(one, AgentFailed) for one in found) == 1
    assert verify(store.backend).is_sound
    return found


def failed(store: LogStore) -> list[ToolFailed]:
    """The tools that failed."""
    return [one for one in ends(store) if isinstance(one, ToolFailed)]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_thread_that_outlives_its_session(store: LogStore, at_once: int) -> None:
    """A thread of the user's own is in the middle of its tools when the session ends. Those have
    failed then, and what they return later is not recorded."""
    running, goes_on = threading.Semaphore(0), threading.Event()
    threads: list[threading.Thread] = []

    def waits(number: int) -> str:
        running.release()
        goes_on.wait(HANG)
        return f"late {number}"

    def begin(agent: Agent) -> str:
        def respond() -> None:
            with suppress(Exception):  # the session has ended
                agent.respond()

        threads.append(threading.Thread(target=respond))
        threads[0].start()
        for _ in range(min(at_once, 2)):
            assert running.acquire(timeout=HANG)
        return "without it"

    Begins.begin = begin
    tactic = Begins(config(2, waits, max_parallel_tools=at_once), log_store=store)
    assert tactic("?") == "without it"
    told = failed(store)
    assert len(told) == (1 if at_once == 1 else 2)  # one by one, the second has not begun
    assert all("session ended" in one.error.message for one in told)
    assert all(one.error.type == "GeneratorExit" for one in told)
    before = len(ends(store))
    goes_on.set()
    threads[0].join(HANG)
    assert len(ends(store)) == before


def left_task(agent: Agent, running: asyncio.Event) -> Any:
    """A task that goes on behind its session."""

    async def begin() -> str:
        task = asyncio.create_task(agent.arespond())
        await running.wait()
        _tasks.append(task)
        return "left"

    return begin()


def cancelled_task(agent: Agent, running: asyncio.Event) -> Any:
    """A task that is cancelled, and the session ends before it hears of that."""

    async def begin() -> str:
        task = asyncio.create_task(agent.arespond())
        await running.wait()
        task.cancel()
        _tasks.append(task)
        return "cancelled"

    return begin()


def timed_out(agent: Agent, running: asyncio.Event) -> Any:
    """A call that is given up."""

    async def begin() -> str:
        task = asyncio.create_task(agent.arespond())
        await running.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(task, 0.001)
        return "timed out"

    return begin()


def left_stream(agent: Agent, running: asyncio.Event) -> Any:
    """`agent.stream()`, left by a break and still held."""

    async def begin() -> str:
        stream = agent.stream()

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await running.wait()
        _tasks.append(task)
        _held.append(stream)
        return "stream"

    return begin()


def closed_stream(agent: Agent, running: asyncio.Event) -> Any:
    """`agent.stream()`, closed while its tools run."""

    async def begin() -> str:
        stream = agent.stream()
        step = asyncio.ensure_future(anext(aiter(stream)))
        await running.wait()
        step.cancel()
        with suppress(asyncio.CancelledError):
            await step
        await stream.aclose()
        return "closed"

    return begin()


def collected_stream(agent: Agent, running: asyncio.Event) -> Any:
    """`agent.stream()`, dropped in a cycle."""

    async def begin() -> str:
        step = asyncio.ensure_future(anext(aiter(agent.stream())))
        await running.wait()
        step.cancel()
        with suppress(asyncio.CancelledError):
            await step
        cycle: list[Any] = [step]
        cycle.append(cycle)
        del step, cycle
        gc.collect()
        return "collected"

    return begin()


def raised(agent: Agent, running: asyncio.Event) -> Any:
    """An exception behind the beginning of a call, which ends the session too."""

    async def begin() -> str:
        _tasks.append(asyncio.create_task(agent.arespond()))
        await running.wait()
        raise KeyError("of the caller's")

    return begin()


_tasks: list[Any] = []
_held: list[Any] = []
WAYS = [
    left_task, cancelled_task, timed_out, left_stream, closed_stream, collected_stream, raised,
]  # fmt: skip


@pytest.mark.parametrize("many", [1, 3])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_a_loop_leaves(store: LogStore, way: Any, many: int) -> None:
    """However a call is left on an event loop while its tools run: when the session ends, each of
    them has failed, cancelled or left, and nothing follows later."""
    _tasks.clear()
    _held.clear()

    async def main() -> None:
        running, goes_on = asyncio.Event(), asyncio.Event()

        async def waits(number: int) -> str:
            running.set()
            await goes_on.wait()
            return f"late {number}"

        async def begin(agent: Agent) -> object:
            return await way(agent, running)

        BeginsOnLoop.begin_async = begin
        tactic = BeginsOnLoop(config(many, waits), log_store=store)
        with suppress(KeyError):
            await tactic.acall("?")
        assert len(failed(store)) == many
        before = len(ends(store))
        goes_on.set()
        for task in _tasks:
            await asyncio.wait([task], timeout=HANG)
            with suppress(asyncio.CancelledError, Exception):
                task.result()
        for stream in _held:
            await stream.aclose()
        assert len(ends(store)) == before

    asyncio.run(main())


def test_an_interrupt_while_tools_run(store: LogStore) -> None:
    """Ctrl-C in one of several tools ends the session, and each tool has its end."""
    others, goes_on = threading.Event(), threading.Event()

    def waits(number: int) -> str:
        if number == 1:
            assert others.wait(HANG)
            raise KeyboardInterrupt
        others.set()
        goes_on.wait(HANG)
        return "late"

    def begin(agent: Agent) -> object:
        return agent.respond()

    Begins.begin = begin
    tactic = Begins(config(3, waits, max_parallel_tools=2), log_store=store)
    with pytest.raises(KeyboardInterrupt):
        tactic("?")
    assert [one.error.type for one in failed(store)] == ["KeyboardInterrupt"] * 3
    goes_on.set()


def test_a_session_that_ends_while_a_request_is_stored(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that has its end before the model is asked has that end alone; the model is not
    called."""

    def begin(agent: Agent) -> object:
        commit = agent.recorder.commit

        def ends_meanwhile(_: Recorder) -> None:
            monkeypatch.undo()
            agent.session.calls.settle()
            commit()

        monkeypatch.setattr(Recorder, "commit", ends_meanwhile)
        with pytest.raises(SessionEnded, match="The model was not called"):
            agent.respond()
        return None

    monkeypatch.setattr(Begins, "begin", staticmethod(begin), raising=False)
    Begins(config(0), log_store=store)("x")
    found = [one for one in types(store) if one.startswith(("llm.", "agent."))]
    assert found == [
        "agent.defined",
        "agent.started",
        "llm.requested",
        "llm.failed",
        "agent.failed",
    ]
