"""`lllm.instrument("crewai")`: crews, flows and agents of CrewAI, recorded, and otherwise as they
were.

These tests need the packages in crewai.txt; `.ci/run` installs them into an environment of their
own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Nothing is sent anywhere, and nothing is written to the user's folders.
os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false",
    CREWAI_DISABLE_VERSION_CHECK="true", CREWAI_TESTING="true",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
)  # fmt: skip
pytest.importorskip("crewai", reason="runs in an environment of its own: crewai.txt")

from crewai import LLM, Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool

import lllm
from lllm import BudgetExceeded, LogStore, SQLiteBackend
from lllm.events.model import (
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
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import Loopback, Received, Reply, failure, text, tool_calls
from tests.support.loopback_streams import chat

pytestmark = pytest.mark.filterwarnings("ignore")
WANTS = tool_calls(("weather", '{"city": "Berlin"}'), usage=USED)
SUNNY = text("It is sunny.", usage=USED)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogStore]:
    """A store in which CrewAI's crews are recorded."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path / "crewai"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # for the lock files of CrewAI
    with recording("crewai", tmp_path) as opened:
        yield opened


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    if city == "Atlantis":
        raise ValueError(f"no weather in {city}")
    return f"sunny in {city}"


def model(server: Loopback, **options: Any) -> LLM:
    """A model at the server, which tries nothing again unless it is told to."""
    options = {"max_retries": 0, **options}
    return LLM(model="gpt-4o-mini", base_url=server.url, api_key="sk-test", **options)


def agent(llm: LLM, role: str = "guide") -> Agent:
    return Agent(
        role=role, goal="Tell of cities.", backstory="You know Berlin.", llm=llm, tools=[weather],
        max_retry_limit=0, verbose=False,
    )  # fmt: skip


def crew(llm: LLM, *roles: str) -> Crew:
    agents = [agent(llm, role) for role in roles or ("guide",)]
    tasks = [
        Task(name=f"ask {one.role}", description="How is it in {city}?", expected_output="A word",
             agent=one)
        for one in agents
    ]  # fmt: skip
    return Crew(name="trip", agents=agents, tasks=tasks, verbose=False)


def run(built: Crew, how: str) -> Any:
    given = {"city": "Berlin"}
    if how == "kickoff":
        return built.kickoff(inputs=given)
    return asyncio.run(getattr(built, how)(inputs=given))


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff"])
def test_a_crew(server: Loopback, store: LogStore, how: str) -> None:
    """Its session has one below for each task, with its agent, the tool and the exact tokens."""
    server.answers(WANTS, SUNNY)
    assert run(crew(model(server)), how).raw == "It is sunny."
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("crewai::trip", "success")
    [below] = store.children([session.session_id])[session.session_id].first
    assert (below.tactic_path, below.task) == ("crewai::trip::ask guide", "How is it in Berlin?")
    loaded = store.load_session(below.session_id)
    assert loaded.delivery == "It is sunny."
    [call] = loaded.agent_sessions["guide"]
    [[interrupt]] = call.interrupts.values()
    assert (interrupt.name, interrupt.told) == ("weather", "sunny in Berlin")
    assert interrupt.arguments == {"city": "Berlin"}
    total = store.load_session(session.session_id).total_cost
    assert (total.prompt_tokens, total.completion_tokens) == (200, 40)
    assert (total.cached_prompt_tokens, total.reasoning_tokens) == (80, 16)
    assert total.unpriced_calls == 0
    assert {one.role for one in (added.content for added in events(store, MessageAdded))} == {
        "system", "user",
    }  # fmt: skip
    assert "sk-test" not in str(list(store.log.read()))


def test_two_tasks(server: Loopback, store: LogStore) -> None:
    """Costs are known by task and by agent."""
    server.answers(SUNNY)
    crew(model(server), "guide", "poet").kickoff(inputs={"city": "Berlin"})
    assert [one.agent for one in events(store, AgentStarted)] == ["guide", "poet"]
    by_agent = store.export_cost_summary(group_by=["agent"])
    assert {one["key"] for one in by_agent["groups"]} == {"guide", "poet"}


@pytest.mark.parametrize("how", ["kickoff", "akickoff"])
def test_nothing_is_counted_twice(
    server: Loopback, store: LogStore, tmp_path: Path, how: str
) -> None:
    """With a captured client each call is recorded once, with the retries of the SDK, and comes to
    the same nano-dollar as without."""
    server.answers(failure(429), WANTS, SUNNY)
    asked = lllm.capture(model(server, max_retries=1), log_store=store, provider="openai")
    run(crew(asked), how)
    [session] = store.list_sessions()
    assert session.tactic_path == "crewai::trip"
    requests = events(store, LLMRequested)
    assert [(one.step, one.attempt) for one in requests] == [(1, 1), (1, 2), (2, 1)]
    assert {one.agent for one in events(store, LLMResponded)} == {"guide"}
    assert len(events(store, LLMFailed)) == 1
    server.answers(WANTS, SUNNY)
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other:
        lllm.instrument("crewai", log_store=other, provider="openai")
        run(crew(model(server)), how)
        mine, captured = other.export_cost_summary(), store.export_cost_summary()
        assert mine["total_cost_usd"] == captured["total_cost_usd"] > 0
        usages = [[one.usage for one in events(each, LLMResponded)] for each in (other, store)]
        assert usages[0] == usages[1]


def test_errors_are_the_same(server: Loopback, store: LogStore) -> None:
    """The caller gets the SDK's exception; although CrewAI reports it twice, it is there once."""
    server.answers(failure(400))
    with pytest.raises(Exception, match="It went wrong") as caught:
        crew(model(server)).kickoff(inputs={"city": "Berlin"})
    assert type(caught.value).__module__.startswith("openai")
    [session] = store.list_sessions(state="failure")
    assert "It went wrong" in str(store.load_session_record(session.session_id).traceback)
    [failed] = events(store, LLMFailed)
    assert failed.price.status == "free"
    states = [one.state for one in store.children([session.session_id])[session.session_id].first]
    assert states == ["failure"]


def test_a_tool_that_fails(server: Loopback, store: LogStore) -> None:
    """The model is told, and the log has the error."""
    server.answers(tool_calls(("weather", '{"city": "Atlantis"}'), usage=USED), SUNNY)
    crew(model(server)).kickoff(inputs={"city": "Atlantis"})
    failed = [one.error.message for one in events(store, ToolFailed)]
    assert failed == ["no weather in Atlantis"]
    assert len(events(store, ToolCalled)) == len(events(store, ToolReturned)) + 1
    assert store.list_sessions()[0].state == "success"


def test_a_stream(server: Loopback, store: LogStore) -> None:
    """It has its usage, and the time until its first token."""
    server.answers(chat("It is ", "sunny.", usage=USED))
    crew(model(server, stream=True)).kickoff(inputs={"city": "Berlin"})
    [responded] = events(store, LLMResponded)
    assert responded.content.text == "It is sunny."
    assert (responded.usage.input, responded.usage.cache_read) == (100, 40)
    assert responded.first_token


def test_an_agent_and_a_model_alone(server: Loopback, store: LogStore) -> None:
    """Both are sessions, or belong to the one around them."""
    server.answers(SUNNY)
    llm = model(server)
    agent(llm).kickoff("How is it in Berlin?")
    llm.call("Hello?")
    found = {one.tactic_path: one.calls for one in store.list_sessions()}
    assert found == {"crewai::guide": 1, "crewai.LLM": 1}
    with store.session("my::script") as recorder:
        agent(llm).kickoff("How is it in Berlin?")
        llm.call("Hello?")
    assert store.load_session(recorder.session_id).total_cost.prompt_tokens == 200
    below = store.children([recorder.session_id])[recorder.session_id].first
    assert [one.tactic_path for one in below] == ["crewai::guide"]


def test_a_flow(server: Loopback, store: LogStore) -> None:
    """It is a session, and the crews and models in its methods are below it."""
    server.answers(SUNNY)
    llm = model(server)

    class Trip(Flow):
        _skip_auto_memory = True  # it would take seconds

        @start()
        def plan(self) -> Any:
            return llm.call("Where to?")

        @listen(plan)
        def go(self) -> Any:
            return crew(llm).kickoff(inputs={"city": "Berlin"}).raw

    assert Trip(suppress_flow_events=True).kickoff() == "It is sunny."
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("crewai::Trip", 2)
    [below] = store.children([session.session_id])[session.session_id].first
    assert below.tactic_path == "crewai::trip"


def test_threads_of_crewai(server: Loopback, store: LogStore) -> None:
    """A task that runs in a thread of its own is in the session of its crew."""
    server.answers(SUNNY)
    built = crew(model(server), "guide", "poet")
    built.tasks[0].async_execution = True
    built.kickoff(inputs={"city": "Berlin"})
    [session] = store.list_sessions()
    assert session.calls == 2
    below = store.children([session.session_id])[session.session_id].first
    assert sorted(one.tactic_path for one in below) == [
        "crewai::trip::ask guide", "crewai::trip::ask poet",
    ]  # fmt: skip


def test_a_budget_stops_a_crew(server: Loopback, store: LogStore) -> None:
    """No model is called once it is spent."""
    server.answers(WANTS)
    with pytest.raises(BudgetExceeded), store.session("my::script", budget_usd=0.00001):
        crew(model(server)).kickoff(inputs={"city": "Berlin"})
    assert len(server.requests) == 1


@pytest.mark.usefixtures("store")
def test_events_are_durable_before_the_model_is_called(server: Loopback, tmp_path: Path) -> None:
    """Whatever kills the process while it waits, the request is in the log."""
    seen: list[int] = []

    def answer(_: Received) -> Reply:
        with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as reader:
            seen.append(len(events(reader, LLMRequested)))
            seen.append(len(events(reader, ToolReturned)))
        return WANTS if len(seen) == 2 else SUNNY

    server.answers(answer)
    crew(model(server)).kickoff(inputs={"city": "Berlin"})
    assert seen == [1, 0, 2, 1]


def test_the_handle_undoes_it(server: Loopback, store: LogStore) -> None:
    """CrewAI's bus is as it was, and crews are not recorded any more."""
    server.answers(SUNNY)
    lllm.uninstrument("crewai")
    before = crewai_event_bus.emit
    with lllm.instrument("crewai", log_store=store):
        assert crewai_event_bus.emit != before
    assert crewai_event_bus.emit == before
    model(server).call("Hello?")
    assert events(store, SessionStarted) == []
