"""`lllm.instrument("pydantic-ai")`: runs of Pydantic AI, recorded, and otherwise as they were.

These tests need the packages in pydantic_ai.txt; `.ci/run` installs them into an environment of
their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="in an environment of its own: pydantic_ai.txt")

from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import lllm
from lllm import BudgetExceeded, LogStore, SQLiteBackend
from lllm.events.model import (
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    SessionStarted,
    ToolCalled,
    ToolFailed,
)
from lllm.sessions.current_session import running_session
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import Loopback, Received, Reply, failure, hang, text, tool_calls
from tests.support.loopback_streams import chat

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
WANTS = tool_calls(("weather", '{"city": "Berlin"}'), usage=USED)
SUNNY = text("It is sunny.", usage=USED)
LOOP = asyncio.Runner()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which runs are recorded."""
    with recording("pydantic-ai", tmp_path) as opened:
        yield opened


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent(server: Loopback, *tools: Any, **options: Any) -> Agent:
    """An agent at the server, whose client tries nothing again unless it is told to."""
    retries = options.pop("max_retries", 0)
    client = AsyncOpenAI(base_url=server.url, api_key="sk-test", max_retries=retries)
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
    given = {"name": "asker", "instructions": "Be brief.", "tools": [*(tools or [weather])]}
    return Agent(model, **{**given, **options})


def run(built: Agent, how: str = "run") -> Any:
    """Run it in one of Pydantic AI's ways, and return its output."""

    async def on_loop() -> Any:
        if how == "run":
            return (await built.run("How is the weather?")).output
        async with built.run_stream("How is the weather?") as result:
            return await result.get_output()

    # An asyncio.Runner keeps a context of its own, without the session around.
    return LOOP.run(on_loop(), context=contextvars.copy_context())


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("how", ["run", "streamed"])
def test_an_agent(server: Loopback, store: LogStore, how: str, captured: bool) -> None:
    """Its session has its name, steps, the tool, and the exact tokens; each call is there once,
    whether the client is captured or not, and with the SDK's retries where it is."""
    piece = {"index": 0, "id": "call_1", "type": "function"}
    piece["function"] = {"name": "weather", "arguments": '{"city": "Berlin"}'}
    if how == "run":
        server.answers(WANTS, SUNNY)
    else:
        calls = chat({"tool_calls": [piece]}, finish="tool_calls", usage=USED)
        server.answers(calls, chat("It is ", "sunny.", usage=USED))
    built = agent(server)
    if captured:
        lllm.capture(built.model, log_store=store, provider="openai")
    assert run(built, how) == "It is sunny."
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("pydantic-ai::asker", "success")
    assert session.task == "How is the weather?"
    loaded = store.load_session(session.session_id)
    assert loaded.delivery == "It is sunny."
    [call] = loaded.agent_sessions["asker"]
    assert call.state == "success"
    [[called]] = call.interrupts.values()
    assert (called.name, called.told) == ("weather", "sunny in Berlin")
    assert called.arguments == {"city": "Berlin"}
    total = loaded.total_cost
    assert (total.prompt_tokens, total.completion_tokens) == (200, 40)
    assert (total.cached_prompt_tokens, total.reasoning_tokens) == (80, 16)
    assert total.unpriced_calls == 0
    assert [(one.call, one.step) for one in events(store, LLMRequested)] == [(1, 1), (1, 2)]
    said = [one.content.text for one in events(store, MessageAdded)]
    assert said == ["Be brief.", "How is the weather?"]


def test_both_come_to_the_same_cost(server: Loopback, store: LogStore, tmp_path: Path) -> None:
    """The hook's cost is that of a captured client alone, to the nano-dollar."""
    server.answers(WANTS, SUNNY)
    run(agent(server))
    lllm.uninstrument("pydantic-ai")
    with LogStore(SQLiteBackend(tmp_path / "captured.db")) as other:
        server.answers(WANTS, SUNNY)
        built = agent(server)
        lllm.capture(built.model, log_store=other, provider="openai")
        run(built)
        mine, theirs = store.export_cost_summary(), other.export_cost_summary()
        assert mine["total_cost_usd"] == theirs["total_cost_usd"] > 0
        usages = [[one.usage for one in events(each, LLMResponded)] for each in (store, other)]
        assert usages[0] == usages[1]


def test_the_retries_of_the_sdk(server: Loopback, store: LogStore) -> None:
    """A captured client adds the attempts that the hook does not see, to the same step."""
    server.answers(failure(429), WANTS, SUNNY)
    built = agent(server, max_retries=2)
    lllm.capture(built.model, log_store=store, provider="openai")
    run(built)
    requests = events(store, LLMRequested)
    assert [(one.call, one.step, one.attempt) for one in requests] == [
        (1, 1, 1), (1, 1, 2), (1, 2, 1),
    ]  # fmt: skip
    assert len(events(store, LLMFailed)) == 1


@pytest.mark.parametrize("how", ["run", "streamed"])
def test_errors_are_the_same(server: Loopback, store: LogStore, how: str) -> None:
    """The exception that the caller gets is Pydantic AI's, and the session has it."""
    server.answers(failure(400))
    with pytest.raises(Exception, match="400"):
        run(agent(server), how)
    [session] = store.list_sessions(state="failure")
    assert "400" in str(store.load_session_record(session.session_id).traceback)
    [failed] = events(store, LLMFailed)
    assert failed.price.status == "free"


def test_tools_that_fail(server: Loopback, store: LogStore) -> None:
    """A tool that asks to be called again is a failure in the log, and the run goes on."""

    def broken(city: str) -> str:
        """Breaks."""
        raise ModelRetry(f"no weather in {city}")

    server.answers(tool_calls(("broken", '{"city": "Berlin"}')), SUNNY)
    assert run(agent(server, broken)) == "It is sunny."
    [failed] = events(store, ToolFailed)
    assert "no weather in Berlin" in str(failed.error)


def test_parallel_tools(server: Loopback, store: LogStore) -> None:
    """Whichever returns first, the conversation goes on, and no message is written twice."""
    server.answers(tool_calls(*(("weather", f'{{"city": "City {n}"}}') for n in range(4))), SUNNY)
    run(agent(server))
    assert {one.request for one in events(store, ToolCalled)} == {1}
    assert len(events(store, MessageAdded)) == 2


def test_an_agent_inside_of_a_tool(server: Loopback, store: LogStore) -> None:
    """It is a session below the other, whose cost includes it."""
    inner = agent(server, name="inner")

    async def ask(question: str) -> str:
        """Asks another agent."""
        return str((await inner.run(question)).output)

    server.answers(tool_calls(("ask", '{"question": "Paris?"}')), text("Rain."), SUNNY)
    run(agent(server, ask))
    [session] = store.list_sessions()
    [below] = store.children([session.session_id])[session.session_id].first
    assert (below.tactic_path, session.calls) == ("pydantic-ai::inner", 3)
    assert [one.parent_tool for one in events(store, SessionStarted)] == [None, 1]


def test_a_budget(server: Loopback, store: LogStore) -> None:
    """The budget of the session around stops the run before the next call."""
    server.answers(WANTS)
    with store.session("my::script", budget_usd=0.0000001), pytest.raises(BudgetExceeded):
        run(agent(server))
    assert len(server.requests) == 1
    assert running_session() is None


def test_a_cancelled_task(server: Loopback, store: LogStore) -> None:
    """A run that is cancelled while the model answers ends as cancelled."""

    async def on_loop() -> None:
        task = asyncio.create_task(agent(server).run("How is the weather?"))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.answers(hang())
    LOOP.run(on_loop())
    [session] = store.list_sessions()
    assert session.state == "failure"
    [failed] = events(store, LLMFailed)
    assert failed.cancelled


def test_many_at_once(server: Loopback, store: LogStore) -> None:
    """Runs in parallel do not mix."""

    def answer(received: Received) -> Reply:
        told = [one for one in received.body["messages"] if one["role"] == "tool"]
        asked = next(one for one in received.body["messages"] if one["role"] == "user")["content"]
        if told:
            return text(f"{asked}: {told[0]['content']}")
        return tool_calls(("weather", f'{{"city": "{asked}"}}'))

    async def all_of_them() -> None:
        built = agent(server)
        await asyncio.gather(*(built.run(f"City {n}") for n in range(8)))

    server.answers(answer)
    LOOP.run(all_of_them())
    found = store.list_sessions()
    assert sorted(store.load_session(one.session_id).delivery for one in found) == [
        f"City {n}: sunny in City {n}" for n in range(8)
    ]


@pytest.mark.usefixtures("store")
def test_nothing_is_kept(server: Loopback) -> None:
    """A service that runs for months keeps nothing of the runs that are over."""
    ended: list[weakref.ref[Any]] = []

    def watched(city: str) -> str:
        """The weather."""
        session = running_session()
        assert session is not None
        ended.append(weakref.ref(session))
        return city

    server.answers(tool_calls(("watched", '{"city": "Berlin"}')), SUNNY)
    run(agent(server, watched))
    gc.collect()
    assert [one() for one in ended] == [None]


def test_a_stream_that_is_left(server: Loopback, store: LogStore) -> None:
    """A run whose reader goes away ends, with the tokens that it used."""

    async def on_loop() -> None:
        async with agent(server).run_stream("How is the weather?") as result:
            async for _ in result.stream_text():
                break

    server.answers(chat("It ", "is ", "sunny."))
    LOOP.run(on_loop())
    assert [one.state for one in store.list_sessions()] == ["failure"]
    assert len(events(store, LLMRequested)) == 1


def test_switching_off(server: Loopback, store: LogStore) -> None:
    """After the handle's `with`, nothing more is recorded, and the class is as it was."""
    lllm.uninstrument()
    before = Agent.iter
    with lllm.instrument("pydantic-ai", log_store=store):
        assert Agent.iter is not before
    assert Agent.iter is before
    server.answers(SUNNY)
    run(agent(server))
    assert store.list_sessions() == []
