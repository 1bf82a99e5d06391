"""`lllm.instrument("openai-agents")`: runs of the OpenAI Agents SDK, recorded, and as they were.

These tests need the packages in openai_agents.txt; `.ci/run` installs them into an environment of
their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents.tracing", reason="in an environment of its own: openai_agents.txt")

import agents
import agents.tracing
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner
from openai import AsyncOpenAI

import lllm
from lllm import BudgetExceeded, LogStore, SQLiteBackend
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    SessionStarted,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from lllm.instrumentation.frameworks.openai_agents_recorder import OpenAIAgentsRecorder
from lllm.sessions.current_session import running_session
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import Loopback, Received, Reply, failure, hang, text, tool_calls
from tests.support.loopback_responses import response, says, sent, streamed, wants
from tests.support.loopback_streams import chat

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
OF_RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 8},
    "total_tokens": 120,
}
ASKED: dict[str, Any] = {"instructions": "Be brief.", "usage": OF_RESPONSES}
WANTS = response(wants("weather", '{"city": "Berlin"}'), **ASKED)
SUNNY = response(says("It is sunny."), **ASKED)
LOOP = asyncio.Runner()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which runs are recorded; the SDK's own upload of traces is off."""
    with recording("openai-agents", tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True, scope="module")
def _no_upload() -> None:
    agents.tracing.set_trace_processors([])


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def client(server: Loopback, **options: Any) -> AsyncOpenAI:
    """A client of the server, which tries nothing again unless it is told to."""
    return AsyncOpenAI(base_url=server.url, api_key="sk-test", **{"max_retries": 0, **options})


def agent(server: Loopback, *tools: Any, **options: Any) -> Agent:
    """An agent at the server, over the Responses API."""
    model = OpenAIResponsesModel("gpt-5-mini", options.pop("client", None) or client(server))
    given = {"name": "asker", "instructions": "Be brief.", "tools": [*(tools or [weather])]}
    return Agent(**{**given, "model": model, **options})


def run(built: Agent, how: str = "run", **options: Any) -> Any:
    """Run it in one of the SDK's ways, and return its final output."""

    async def on_loop() -> Any:
        if how == "run":
            return (await Runner.run(built, "How is the weather?", **options)).final_output
        result = Runner.run_streamed(built, "How is the weather?", **options)
        async for _ in result.stream_events():
            pass
        return result.final_output

    # An asyncio.Runner keeps a context of its own, without the session around.
    return LOOP.run(on_loop(), context=contextvars.copy_context())


def replies(how: str, *whole: Any) -> list[Reply]:
    return [(streamed if how == "streamed" else sent)(one) for one in whole]


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("how", ["run", "streamed"])
def test_an_agent(server: Loopback, store: LogStore, how: str, captured: bool) -> None:
    """Its session has its name, steps, the tool, and the exact tokens; each call is there once,
    whether the client is captured or not."""
    server.answers(*replies(how, WANTS, SUNNY))
    asked = client(server)
    if captured:
        lllm.capture(asked, log_store=store, provider="openai")
    assert run(agent(server, client=asked), how) == "It is sunny."
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("openai-agents::asker", "success")
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


@pytest.mark.parametrize("captured", [False, True])
def test_both_come_to_the_same_cost(
    server: Loopback, store: LogStore, tmp_path: Path, captured: bool
) -> None:
    """The hook's cost is that of a captured client alone, to the nano-dollar, in both APIs."""
    use = OpenAIResponsesModel if captured else OpenAIChatCompletionsModel
    given = [sent(SUNNY)] if captured else [text("It is sunny.", usage=USED, model="gpt-5-mini")]
    server.answers(*given)
    run(agent(server, model=use("gpt-5-mini", client(server))))
    lllm.uninstrument("openai-agents")
    with LogStore(SQLiteBackend(tmp_path / "captured.db")) as other:
        server.answers(*given)
        asked = lllm.capture(client(server), log_store=other, provider="openai")
        run(agent(server, model=use("gpt-5-mini", asked)))
        mine, theirs = store.export_cost_summary(), other.export_cost_summary()
        assert mine["total_cost_usd"] == theirs["total_cost_usd"] > 0
        [one], [another] = events(store, LLMResponded), events(other, LLMResponded)
        assert one.usage == another.usage


@pytest.mark.parametrize("captured", [False, True])
def test_chat_completions(server: Loopback, store: LogStore, captured: bool) -> None:
    """The same over Chat Completions, also as a stream."""
    asked = client(server)
    if captured:
        lllm.capture(asked, log_store=store, provider="openai")
    built = agent(server, model=OpenAIChatCompletionsModel("gpt-4o-mini", asked))
    server.answers(
        tool_calls(("weather", '{"city": "Berlin"}'), usage=USED), text("Sunny.", usage=USED)
    )
    assert run(built) == "Sunny."
    settings = agents.ModelSettings(include_usage=True)
    server.answers(chat("Sun", "ny."))
    assert run(built, "streamed", run_config=RunConfig(model_settings=settings)) == "Sunny."
    assert [one.usage.input for one in events(store, LLMResponded)] == [100, 100, 20]
    assert [one.usage.cache_read for one in events(store, LLMResponded)] == [40, 40, 0]
    assert len(events(store, ToolReturned)) == 1
    assert [one.calls for one in store.list_sessions()] == [1, 2]


def test_the_retries_of_the_sdk(server: Loopback, store: LogStore) -> None:
    """A captured client adds the attempts that the hook does not see, to the same step."""
    server.answers(failure(429), sent(WANTS), sent(SUNNY))
    asked = lllm.capture(client(server, max_retries=2), log_store=store, provider="openai")
    run(agent(server, client=asked))
    requests = events(store, LLMRequested)
    assert [(one.call, one.step, one.attempt) for one in requests] == [
        (1, 1, 1), (1, 1, 2), (1, 2, 1),
    ]  # fmt: skip
    assert len(events(store, LLMFailed)) == 1


def test_a_handoff(server: Loopback, store: LogStore) -> None:
    """Both agents are in one session, and the handoff is a tool that the first one called."""
    writer = agent(server, name="writer")
    server.answers(sent(response(wants("transfer_to_writer", "{}"), **ASKED)), sent(SUNNY))
    run(
        agent(server, name="planner", handoffs=[writer]),
        run_config=RunConfig(workflow_name="Report"),
    )
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("openai-agents::Report", "success")
    assert [one.agent for one in events(store, AgentStarted)] == ["planner", "writer"]
    [called], [returned] = events(store, ToolCalled), events(store, ToolReturned)
    assert (called.name, called.request) == ("transfer_to_writer", 1)
    assert returned.content.text == '{"assistant": "writer"}'
    assert len(events(store, MessageAdded)) == 2
    costs = store.export_cost_summary(group_by=["agent"])
    assert {one["key"] for one in costs["groups"]} == {"planner", "writer"}


def test_an_agent_as_a_tool(server: Loopback, store: LogStore) -> None:
    """It is a session below the other, whose cost includes it."""
    inner = agent(server, name="inner")
    tool = inner.as_tool("ask", "Asks another agent.")
    server.answers(sent(response(wants("ask", '{"input": "Paris?"}'))), sent(SUNNY), sent(SUNNY))
    run(agent(server, tool))
    [session] = store.list_sessions()
    [below] = store.children([session.session_id])[session.session_id].first
    assert (below.tactic_path, session.calls) == ("openai-agents::inner", 3)
    assert [one.parent_tool for one in events(store, SessionStarted)] == [None, 1]


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("how", ["run", "streamed"])
def test_errors_are_the_same(server: Loopback, store: LogStore, how: str, captured: bool) -> None:
    """The exception that the caller gets is the SDK's, and the session has it."""
    server.answers(failure(400))
    asked = client(server)
    if captured:
        lllm.capture(asked, log_store=store, provider="openai")
    with pytest.raises(Exception, match="400"):
        run(agent(server, client=asked), how)
    [session] = store.list_sessions(state="failure")
    assert "400" in str(store.load_session_record(session.session_id).traceback)
    [failed] = events(store, LLMFailed)
    assert failed.price.status == "free"
    assert len(events(store, LLMRequested)) == 1


def test_a_tool_that_fails(server: Loopback, store: LogStore) -> None:
    """The model is told, the run goes on, and the log has the error."""

    @agents.function_tool
    def broken(city: str) -> str:
        """Breaks."""
        raise ValueError(f"no weather in {city}")

    server.answers(sent(response(wants("broken", '{"city": "Berlin"}'), **ASKED)), sent(SUNNY))
    assert run(agent(server, broken)) == "It is sunny."
    [failed] = events(store, ToolFailed)
    # The SDK hides the exception, from the model and in its traces.
    assert "error occurred while running the tool" in failed.error.message
    assert failed.content.text == failed.error.message
    assert len(events(store, MessageAdded)) == 2
    assert store.list_sessions()[0].state == "success"


def test_parallel_tools(server: Loopback, store: LogStore) -> None:
    """Each has its own arguments and result, whichever returns first."""

    @agents.function_tool
    async def slow(city: str) -> str:
        """The weather, sooner the later it was asked for."""
        await asyncio.sleep(0.05 - int(city) / 100)
        return f"sunny in {city}"

    calls = [wants("slow", f'{{"city": "{n}"}}', number=n) for n in range(1, 5)]
    server.answers(sent(response(*calls, **ASKED)), sent(SUNNY))
    run(agent(server, slow))
    told = {one.tool: one.content.text for one in events(store, ToolReturned)}
    for one in events(store, ToolCalled):
        assert one.call_id == f"call_{one.arguments['city']}"
        assert told[one.tool] == f"sunny in {one.arguments['city']}"


def test_content_that_is_switched_off(server: Loopback, store: LogStore) -> None:
    """Without content in the SDK's traces, the usage is there, and no price is made up."""
    server.answers(sent(SUNNY))
    run(agent(server), run_config=RunConfig(trace_include_sensitive_data=False))
    [responded] = events(store, LLMResponded)
    assert (responded.usage.input, responded.usage.cache_read) == (100, 40)
    assert responded.price.status == "unpriced"


def test_around_and_below(server: Loopback, store: LogStore) -> None:
    """A run inside of a session is its child, and several runs of one trace are one session."""
    server.answers(sent(SUNNY))
    with store.session("my::script"):
        run(agent(server))
    [session] = store.list_sessions()
    [below] = store.children([session.session_id])[session.session_id].first
    assert below.tactic_path == "openai-agents::asker"

    async def twice() -> None:
        with agents.trace("Both", group_id="7", metadata={"user": "ada"}):
            await Runner.run(agent(server), "One?")
            await Runner.run(agent(server), "Two?")

    LOOP.run(twice(), context=contextvars.copy_context())
    [both] = store.list_sessions(tags={"group_id": "7"})
    assert (both.tactic_path, both.calls) == ("openai-agents::Both", 2)
    assert running_session() is None


def test_a_budget_stops_a_captured_client(server: Loopback, store: LogStore) -> None:
    """The next call is not made."""
    server.answers(sent(WANTS))
    asked = lllm.capture(client(server), log_store=store, provider="openai")
    with store.session("my::script", budget_usd=0.0000001), pytest.raises(BudgetExceeded):
        run(agent(server, client=asked))
    assert len(server.requests) == 1
    assert len(events(store, AgentFailed)) == 1


def test_many_at_once(server: Loopback, store: LogStore) -> None:
    """Runs in parallel do not mix."""

    def answer(received: Received) -> Reply:
        given = received.body["input"]
        if any(one.get("type") == "function_call_output" for one in given):
            return sent(response(says(f"{given[0]['content']}: {given[-1]['output']}")))
        return sent(response(wants("weather", f'{{"city": "{given[0]["content"]}"}}')))

    async def all_of_them() -> None:
        built = agent(server)
        await asyncio.gather(*(Runner.run(built, f"City {n}") for n in range(8)))

    server.answers(answer)
    LOOP.run(all_of_them())
    found = store.list_sessions()
    assert sorted(store.load_session(one.session_id).delivery for one in found) == [
        f"City {n}: sunny in City {n}" for n in range(8)
    ]
    assert {one.calls for one in found} == {2}


@pytest.mark.parametrize("captured", [False, True])
def test_a_cancelled_task(server: Loopback, store: LogStore, captured: bool) -> None:
    """A run that is cancelled while the model answers ends as cancelled, and nothing is kept."""

    async def on_loop() -> None:
        asked = client(server)
        if captured:
            lllm.capture(asked, log_store=store, provider="openai")
        task = asyncio.create_task(Runner.run(agent(server, client=asked), "How?"))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.answers(hang())
    LOOP.run(on_loop())
    assert [one.state for one in store.list_sessions()] == ["failure"]
    [failed] = events(store, LLMFailed)
    assert failed.cancelled
    recorders = [one for one in gc.get_objects() if isinstance(one, OpenAIAgentsRecorder)]
    assert recorders
    assert not any(one._traces or one._spans for one in recorders)


def test_a_guardrail(server: Loopback, store: LogStore) -> None:
    """The agent of a guardrail is in the session; what stops the run is the session's error."""
    checker = agent(server, name="checker")

    @agents.input_guardrail(run_in_parallel=False)
    async def check(_: Any, __: Any, given: Any) -> agents.GuardrailFunctionOutput:
        found = await Runner.run(checker, given)
        return agents.GuardrailFunctionOutput(found.final_output, tripwire_triggered=True)

    server.answers(sent(response(says("Bad."), **ASKED)))
    with pytest.raises(agents.InputGuardrailTripwireTriggered):
        run(agent(server, input_guardrails=[check]))
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("openai-agents::asker", "failure")
    assert [one.agent for one in events(store, AgentStarted)] == ["checker"]


def test_switching_off(server: Loopback, store: LogStore) -> None:
    """After the handle's `with`, nothing more is recorded."""
    with lllm.instrument(log_store=store) as handle:
        assert "openai-agents" in handle.names
    lllm.uninstrument()
    server.answers(sent(SUNNY))
    run(agent(server))
    assert store.list_sessions() == []
