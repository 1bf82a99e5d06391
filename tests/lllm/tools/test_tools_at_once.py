"""Tools that one answer asks for: async ones run at once on an event loop, plain ones in threads
where `max_parallel_tools` says so."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from lllm import ConfigError, LogStore, SQLiteBackend, Tactic, tool
from lllm.events import codec
from lllm.events.model import ToolCalled, ToolFailed, ToolReturned
from lllm.invokers.scripted import ScriptedInvoker, tool_call, tool_calls
from lllm.sessions.current_session import running_session
from lllm.tools import event_loop
from tests.support.runs import MODEL, Asking, config, payloads

_mark: ContextVar[str] = ContextVar("mark", default="none")


class Asks(Tactic, register=False):
    """Answers one question on an event loop, or in a thread."""

    name = "asks"

    async def call(self, task: object, **_: object) -> object:
        """One question."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return (agent.respond() if task == "plain" else await agent.arespond()).content


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def asks(store: LogStore, calls: Any, *tools: Any, **more: Any) -> Tactic:
    """A tactic whose model asks for these tools."""
    wanted = [tool_call(*call) for call in calls]
    model = ScriptedInvoker([tool_calls(*wanted), "Done."])
    agent = {"name": "a", "model_name": MODEL, "invoker": model, "tools": list(tools), **more}
    return Asks({"agent_configs": [agent]}, log_store=store)


def told(store: LogStore) -> list[str]:
    """What the model was told by the newest session's tools, in the order of the messages."""
    events = payloads(store, store.list_sessions(limit=1)[0].session_id)
    ended = [one for one in events if isinstance(one, ToolReturned | ToolFailed)]
    return [one.content.text for one in sorted(ended, key=lambda one: one.message)]


def test_async_tools_run_at_once(store: LogStore) -> None:
    """Each waits for all of them to run; the results stand in the order of the calls, and one that
    raises, a repeated call and one that is unknown are answered as ever."""
    met: set[str] = set()

    async def meets(name: str) -> str:
        met.add(name)
        while len(met) < 3:
            await asyncio.sleep(0)
        for _ in range(10 * (3 - int(name))):
            await asyncio.sleep(0)
        if name == "2":
            raise KeyError("of the second")
        return f"result {name}"

    names = ["0", "1", "1", "2"]
    calls: Any = [("meets", {"name": name}) for name in names]
    tactic = asks(store, [*calls, ("unknown", {})], meets)
    asyncio.run(tactic.acall("?"))
    texts = told(store)
    assert texts[:2] == ["result 0", "result 1"]
    assert "made before" in texts[2]
    assert "of the second" in texts[3]
    assert "no tool" in texts[4]
    events = payloads(store, store.list_sessions()[0].session_id)
    assert [e.tool for e in events if isinstance(e, ToolCalled)] == [1, 2, 3, 4, 5]
    assert len([e for e in events if isinstance(e, ToolReturned | ToolFailed)]) == 5


def test_plain_tools_in_threads(store: LogStore) -> None:
    """max_parallel_tools plain ones run at once, in the session and context of the caller, with
    `respond()`, too."""
    together = threading.Barrier(3, timeout=20)
    seen: list[tuple[object, str]] = []

    def meets(name: str) -> str:
        together.wait()
        seen.append((running_session(), _mark.get()))
        return name

    calls: Any = [("meets", {"name": name}) for name in "abc"]
    for task in ("plain", "loop"):
        tactic = asks(store, calls, meets, max_parallel_tools=3)
        _mark.set("mine")
        assert tactic(task) == "Done."
        assert told(store) == ["a", "b", "c"]
    assert all(scope is not None and mark == "mine" for scope, mark in seen)
    with pytest.raises(ConfigError, match="max_parallel_tools"):
        asks(store, calls, meets, max_parallel_tools=0)


def test_cancelled_tools(store: LogStore) -> None:
    """A cancellation ends all of them, and each has its end in the log."""

    async def main() -> None:
        running: list[str] = []
        both = asyncio.Event()

        async def waits(name: str) -> None:
            running.append(name)
            if len(running) == 2:
                both.set()
            await asyncio.Event().wait()

        tactic = asks(store, [("waits", {"name": name}) for name in "ab"], waits)
        task = asyncio.create_task(tactic.acall("?"))
        await asyncio.wait_for(both.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    [text, other] = told(store)
    assert "CancelledError" in text
    assert "CancelledError" in other


def test_an_interrupted_notebook_cell(store: LogStore) -> None:
    """Ctrl-C while a loop runs in this thread stops an async tactic that is called plainly."""
    began, cancelled = threading.Event(), threading.Event()

    async def waits() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tactic = asks(store, [("waits", {})], waits)
    main_thread = threading.get_ident()

    def interrupt() -> None:
        began.wait(20)
        signal.pthread_kill(main_thread, signal.SIGINT)

    async def cell() -> None:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            tactic("?")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(cell())
    loop.close()
    assert cancelled.is_set()
    [session] = store.list_sessions()
    assert session.state == "failure"


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_as_the_loop_begins(
    store: LogStore, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    """Ctrl-C at the very start of the other thread's loop stops what runs there, too; and it is not
    waited for where nothing runs."""
    began, cancelled = threading.Event(), threading.Event()

    async def waits() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def interrupted(start: Callable[[], None]) -> None:
        if started:
            start()
            assert began.wait(20)
        raise KeyboardInterrupt

    async def cell() -> None:
        monkeypatch.setattr(event_loop, "starting_threads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            asks(store, [("waits", {})], waits)("?")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(cell())
    loop.close()
    assert cancelled.is_set() == started
    assert [session.state for session in store.list_sessions()] == ["failure"]


def test_a_tool_that_never_ran_took_no_time(tmp_path: Path) -> None:
    """It waits for what the same call gives, which raises: that ends it before it begins."""

    @tool
    def stop(number: int) -> None:
        """Stop."""
        raise KeyboardInterrupt(number)

    calls = tool_calls(tool_call("stop", {"number": 1}), tool_call("stop", {"number": 1}))
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        given = config([calls, "done"], tools=[stop], max_parallel_tools=2)
        with pytest.raises(KeyboardInterrupt):
            Asking(given, log_store=store)("x")
        failed = map(codec.decode, store.log.read())
        first, second = [one for one in failed if isinstance(one, ToolFailed)]
    assert first.elapsed > 0
    assert second.elapsed == 0
