"""`lllm.instrument("langchain")`: LangChain and LangGraph, recorded, and otherwise as they were.

These tests need the packages in langchain.txt; `.ci/run` installs them into an environment of their
own.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai", reason="runs in an environment of its own: langchain.txt")

import langchain_core.caches
import langchain_core.globals
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

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
from lllm.instrumentation.frameworks.langchain_recorder import LangChainRecorder
from lllm.sessions.current_session import running_session
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import USAGE, Loopback, Received, Reply, failure, hang, text, tool_calls
from tests.support.loopback_streams import chat

# The SDKs' clients that LangChain makes are closed by nobody.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
WANTS = tool_calls(("weather", '{"city": "Berlin"}'), usage=USED)
QUESTION: Any = {"messages": [{"role": "user", "content": "How is the weather?"}]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which LangChain's runs are recorded."""
    with recording("langchain", tmp_path) as opened:
        yield opened


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(server: Loopback, **options: Any) -> ChatOpenAI:
    """A model at the server, which tries nothing again unless it is told to."""
    options = {"max_retries": 0, **options}
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.url, api_key="sk-test", **options)


def agent(server: Loopback, *tools: Any, **options: Any) -> Any:
    return create_agent(model(server), tools=[*(tools or [weather])], name="asker", **options)


def sessions(store: LogStore) -> dict[str, Any]:
    """The outermost sessions, by name."""
    return {one.tactic_path: one for one in store.list_sessions()}


def run(built: Any, how: str, asked: Any = QUESTION) -> Any:
    """Run it in one of LangChain's ways."""
    if how == "invoke":
        return built.invoke(asked)
    if how == "stream":
        return list(built.stream(asked))
    if how == "batch":
        return built.batch([asked])

    async def on_loop() -> Any:
        if how == "ainvoke":
            return await built.ainvoke(asked)
        if how == "astream":
            return [one async for one in built.astream(asked)]
        return built.invoke(asked)  # as in a notebook, whose cells run on a loop

    return LOOP.run(on_loop())


# LangChain keeps its asynchronous clients, so all tests share one event loop.
LOOP = asyncio.Runner()
WAYS = ["invoke", "stream", "batch", "ainvoke", "astream", "on a loop"]


@pytest.mark.parametrize("how", WAYS)
def test_an_agent(server: Loopback, store: LogStore, how: str) -> None:
    """Its session has the framework's own name, its steps, the tool, and the exact tokens."""
    server.answers(WANTS, text("It is sunny.", usage=USED))
    run(agent(server), how)
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("langchain::asker", "success")
    assert session.task == "How is the weather?"
    loaded = store.load_session(session.session_id)
    [call] = loaded.agent_sessions["asker"]
    assert call.state == "success"
    [[interrupt_]] = call.interrupts.values()
    assert (interrupt_.name, interrupt_.told) == ("weather", "sunny in Berlin")
    assert interrupt_.arguments == {"city": "Berlin"}
    total = loaded.total_cost
    assert (total.prompt_tokens, total.completion_tokens) == (200, 40)
    assert (total.cached_prompt_tokens, total.reasoning_tokens) == (80, 16)
    assert total.unpriced_calls == 0
    # Each message is written once: the question, and no copy of an answer or of a result.
    assert [one.content.text for one in events(store, MessageAdded)] == ["How is the weather?"]


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_what_capture_records_costs_the_same(
    server: Loopback, store: LogStore, tmp_path: Path, how: str
) -> None:
    """The hook alone, and a captured client alone, come to the same nano-dollar."""
    server.answers(WANTS, text("It is sunny.", usage=USED))
    run(agent(server), how)
    lllm.uninstrument("langchain")
    server.answers(WANTS, text("It is sunny.", usage=USED))
    with LogStore(SQLiteBackend(tmp_path / "captured.db")) as other:
        asked = lllm.capture(model(server), log_store=other, provider="openai")
        run(create_agent(asked, tools=[weather]), how)
        mine, captured = store.export_cost_summary(), other.export_cost_summary()
        assert mine["total_cost_usd"] == captured["total_cost_usd"] > 0
        usages = [[one.usage for one in events(each, LLMResponded)] for each in (store, other)]
        assert usages[0] == usages[1]


@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_counted_twice(server: Loopback, store: LogStore, how: str) -> None:
    """Where the client is captured, too, each call is recorded once, with the SDK's retries, which
    LangChain does not tell."""
    server.answers(failure(429), WANTS, text("It is sunny.", usage=USED))
    asked = lllm.capture(model(server, max_retries=2), log_store=store, provider="openai")
    run(create_agent(asked, tools=[weather], name="asker"), how)
    [session] = store.list_sessions()
    assert session.tactic_path == "langchain::asker"
    requests = events(store, LLMRequested)
    assert [(one.call, one.step, one.attempt) for one in requests] == [
        (1, 1, 1), (1, 1, 2), (1, 2, 1),
    ]  # fmt: skip
    assert len(events(store, LLMFailed)) == 1
    assert [one.usage.input for one in events(store, LLMResponded)] == [100, 100]
    [call] = store.load_session(session.session_id).agent_sessions["asker"]
    assert call.delivery is not None or call.state == "success"
    assert len(events(store, MessageAdded)) == 1


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("how", ["stream", "astream"])
def test_a_streamed_model(server: Loopback, store: LogStore, how: str, captured: bool) -> None:
    """A model alone is a session of its own, with the time until its first token."""
    server.answers(chat("It is ", "sunny."))
    asked = model(server, stream_usage=True)
    if captured:
        lllm.capture(asked, log_store=store, provider="openai")
    run(asked, how, "How is the weather?")
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("langchain.ChatOpenAI", 1)
    [responded] = events(store, LLMResponded)
    assert responded.content.text == "It is sunny."
    assert responded.usage.input == USAGE["prompt_tokens"]
    assert responded.first_token


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
@pytest.mark.usefixtures("store")
def test_events_are_durable_before_the_model_is_called(
    server: Loopback, tmp_path: Path, how: str
) -> None:
    """Whatever kills the process while it waits, the request is in the log."""
    seen: list[int] = []

    def answer(_: Received) -> Reply:
        with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as reader:
            seen.append(len(events(reader, LLMRequested)))
            seen.append(len(events(reader, ToolReturned)))
        return WANTS if len(seen) == 2 else text("It is sunny.")

    server.answers(answer)
    run(agent(server), how)
    assert seen == [1, 0, 2, 1]


@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
def test_errors_are_the_same(server: Loopback, store: LogStore, how: str) -> None:
    """The exception that the caller gets is the SDK's, and the session says where it came from."""
    server.answers(failure(400))
    with pytest.raises(Exception, match="400"):
        run(agent(server), how)
    [session] = store.list_sessions(state="failure")
    record = store.load_session_record(session.session_id)
    assert "400" in str(record.traceback)
    [failed] = events(store, LLMFailed)
    assert failed.price.status == "free"
    assert len(events(store, AgentFailed)) == 1


def test_a_retry_of_langchain(server: Loopback, store: LogStore) -> None:
    """`with_retry` calls the model again: both calls are there."""
    server.answers(failure(500), text("Again.", usage=USED))
    model(server).with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("?")
    assert len(events(store, LLMFailed)) == len(events(store, LLMResponded)) == 1


def test_a_tool_that_fails(server: Loopback, store: LogStore) -> None:
    """The model is told, and the log has the traceback."""

    @tool
    def broken(city: str) -> str:
        """Breaks."""
        raise ToolException(f"no weather in {city}")

    broken.handle_tool_error = True
    server.answers(tool_calls(("broken", '{"city": "Berlin"}')), text("I don't know."))
    run(agent(server, broken), "invoke")
    returned, failed = events(store, ToolReturned), events(store, ToolFailed)
    assert len(returned) + len(failed) == 1
    assert store.list_sessions()[0].state == "success"


def test_parallel_tools(server: Loopback, store: LogStore) -> None:
    """Whichever returns first, the conversation goes on, and no message is written twice."""
    calls = [("weather", f'{{"city": "City {n}"}}') for n in range(4)]
    server.answers(tool_calls(*calls), text("All sunny."))
    run(agent(server), "ainvoke")
    called = events(store, ToolCalled)
    assert sorted(one.call_id for one in called) == [f"call_{n}" for n in range(1, 5)]
    assert {one.request for one in called} == {1}
    assert len(events(store, MessageAdded)) == 1


def test_a_graph(server: Loopback, store: LogStore) -> None:
    """Nodes that call a model are agents, so that costs are known by node."""

    def node(state: MessagesState) -> Any:
        return {"messages": [model(server).invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("planner", node)
    graph.add_node("writer", node)
    graph.add_node("idle", lambda _: {})
    for one, other in [
        (START, "planner"),
        ("planner", "idle"),
        ("idle", "writer"),
        ("writer", END),
    ]:
        graph.add_edge(one, other)
    server.answers(text("A plan."), text("A text."))
    graph.compile(name="team").invoke(QUESTION)
    [session] = store.list_sessions()
    assert session.tactic_path == "langchain::team"
    assert [one.agent for one in events(store, AgentStarted)] == ["planner", "writer"]
    by_agent = store.export_cost_summary(group_by=["agent"])
    assert {one["key"] for one in by_agent["groups"]} == {"planner", "writer"}


def test_an_agent_inside_of_a_tool(server: Loopback, store: LogStore) -> None:
    """It is a session below the other, and the other's cost includes it."""
    inner = create_agent(model(server), tools=[], name="inner")

    @tool
    def ask(question: str) -> str:
        """Asks another agent."""
        return inner.invoke({"messages": [("user", question)]})["messages"][-1].text

    wants = tool_calls(("ask", '{"question": "And Paris?"}'))
    server.answers(wants, text("Rain."), text("Berlin sunny, Paris rain."))
    run(agent(server, ask), "invoke")
    [session] = store.list_sessions()
    [below] = store.children([session.session_id])[session.session_id].first
    assert below.tactic_path == "langchain::inner"
    assert session.calls == 3
    started = events(store, SessionStarted)
    assert [one.parent_tool for one in started] == [None, 1]


def test_an_interrupt_and_a_resume(server: Loopback, store: LogStore) -> None:
    """Both runs succeed, and share the tag of their thread."""

    def ask(state: MessagesState) -> Any:
        answer = interrupt("Are you sure?")
        return {"messages": [model(server).invoke([*state["messages"], ("user", answer)])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    built = graph.compile(checkpointer=InMemorySaver(), name="careful")
    server.answers(text("Done."))
    config: Any = {"configurable": {"thread_id": "7"}}
    assert "__interrupt__" in built.invoke(QUESTION, config)
    built.invoke(Command(resume="yes"), config)
    found = store.list_sessions(tags={"thread_id": "7"})
    assert [one.state for one in found] == ["success", "success"]
    assert [one.calls for one in found] == [1, 0]


def test_inside_of_a_session(server: Loopback, store: LogStore) -> None:
    """A run is a child of the session around it, and a model alone is a call of it."""
    server.answers(text("Hello."), WANTS, text("It is sunny."))
    with store.session("my::script") as recorder:
        model(server).invoke("Hello?")
        run(agent(server), "invoke")
    [session] = store.list_sessions()
    assert (session.session_id, session.calls) == (recorder.session_id, 3)
    [below] = store.children([session.session_id])[session.session_id].first
    assert below.tactic_path == "langchain::asker"


@pytest.mark.usefixtures("store")
def test_between_the_steps_of_a_stream(server: Loopback) -> None:
    """The caller's code between two steps is not in the session of the run."""
    server.answers(WANTS, text("It is sunny."))
    seen = [running_session() for _ in agent(server).stream(QUESTION)]
    assert len(seen) > 1
    assert set(seen) == {None}

    async def on_loop() -> list[Any]:
        server.answers(WANTS, text("It is sunny."))
        return [running_session() async for _ in agent(server).astream(QUESTION)]

    assert set(LOOP.run(on_loop())) == {None}


def test_a_budget(server: Loopback, store: LogStore) -> None:
    """The budget of the session around stops the run before the next call."""
    server.answers(WANTS)
    with store.session("my::script", budget_usd=0.0000001), pytest.raises(BudgetExceeded):
        run(agent(server), "invoke")
    assert len(server.requests) == 1


def test_langchains_cache(server: Loopback, store: LogStore) -> None:
    """An answer of LangChain's own cache costs nothing."""
    server.answers(text("Hello.", usage=USED))
    langchain_core.globals.set_llm_cache(langchain_core.caches.InMemoryCache())
    try:
        for _ in range(2):
            model(server).invoke("Hello?")
    finally:
        langchain_core.globals.set_llm_cache(None)
    assert len(server.requests) == 1
    assert [one.price.status for one in events(store, LLMResponded)] == ["priced", "free"]


def test_an_unknown_address_is_unpriced(server: Loopback, tmp_path: Path) -> None:
    """Nobody says who bills there, so the call has no price, and not $0."""
    server.answers(text("Hello.", usage=USED))
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with lllm.instrument("langchain", log_store=store):
            model(server).invoke("Hello?")
        assert store.export_cost_summary()["unpriced_calls"] == 1


def test_a_chain(server: Loopback, store: LogStore) -> None:
    """A chain without an agent is a session of model calls."""
    server.answers(text("Hello."))
    chain = RunnableLambda(lambda asked: f"Say {asked}") | model(server)
    chain.with_config(run_name="greeting", tags=["short"], metadata={"user": "ada"}).invoke("hello")
    [session] = store.list_sessions(tags={"short": "true"})
    assert session.tactic_path == "langchain::greeting"
    [started] = events(store, SessionStarted)
    assert (started.task, started.metadata) == ("hello", {"user": "ada"})


@pytest.mark.usefixtures("store")
def test_nothing_is_kept(server: Loopback) -> None:
    """A service that runs for months keeps nothing of the runs that are over."""
    recorders = [one for one in gc.get_objects() if isinstance(one, LangChainRecorder)]
    server.answers(WANTS, text("It is sunny."))
    ended: list[weakref.ref[Any]] = []

    @tool
    def watched(city: str) -> str:
        """The weather."""
        session = running_session()
        assert session is not None
        ended.append(weakref.ref(session))
        return city

    server.answers(tool_calls(("watched", '{"city": "Berlin"}')), text("It is sunny."))
    run(agent(server, watched), "invoke")
    assert not any(one._runs or one.unwritten for one in recorders)
    gc.collect()
    assert [one() for one in ended] == [None]


@pytest.mark.usefixtures("store")
def test_a_log_that_fails(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in lllm is a warning, and the run goes on."""
    monkeypatch.setattr(LangChainRecorder, "_begin_node", lambda *_: 1 / 0)
    server.answers(WANTS, text("It is sunny."))
    with pytest.warns(RuntimeWarning, match="could not be recorded"):
        assert run(agent(server), "invoke")["messages"][-1].text == "It is sunny."


@pytest.mark.parametrize("how", ["stream", "astream"])
def test_a_stream_that_is_left(server: Loopback, store: LogStore, how: str) -> None:
    """A run whose reader goes away ends, as one that was cancelled."""
    server.answers(WANTS, text("It is sunny."))

    async def on_loop() -> None:
        reading = agent(server).astream(QUESTION)
        async for _ in reading:
            break
        await reading.aclose()

    if how == "stream":
        for _ in agent(server).stream(QUESTION):
            break
        gc.collect()
    else:
        LOOP.run(on_loop())
    [session] = store.list_sessions()
    assert session.state in ("failure", "success")
    assert running_session() is None


def test_a_cancelled_task(server: Loopback, store: LogStore) -> None:
    """A task that is cancelled while the model answers ends its session as cancelled."""

    async def on_loop() -> None:
        task = asyncio.create_task(agent(server).ainvoke(QUESTION))
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


def test_a_thread_with_an_empty_context(server: Loopback, store: LogStore) -> None:
    """A run in a thread that knows of nothing is recorded all the same."""
    server.answers(WANTS, text("It is sunny."))
    thread = threading.Thread(target=lambda: run(agent(server), "invoke"))
    thread.start()
    thread.join(60)
    assert [one.state for one in store.list_sessions()] == ["success"]


def test_many_at_once(server: Loopback, store: LogStore) -> None:
    """Runs in parallel, in threads and in tasks, do not mix."""

    def answer(received: Received) -> Reply:
        told = [one for one in received.body["messages"] if one["role"] == "tool"]
        asked = received.body["messages"][0]["content"]
        if told:
            return text(f"{asked} {told[0]['content']}")
        return tool_calls(("weather", f'{{"city": "{asked}"}}'))

    server.answers(answer)
    cities = [f"City {n}" for n in range(12)]
    asked: Any = [{"messages": [("user", city)]} for city in cities]
    agent(server).batch(asked)
    LOOP.run(agent(server).abatch(asked))
    found = store.list_sessions()
    assert len(found) == 24
    for one in found:
        loaded = store.load_session(one.session_id)
        assert loaded.delivery == f"{one.task} sunny in {one.task}"
        assert one.calls == 2


def test_switching_off(server: Loopback, store: LogStore) -> None:
    """After the handle's `with`, or `uninstrument`, nothing more is recorded."""
    with lllm.instrument(log_store=store) as handle:
        assert handle.names == ("langchain",)
    server.answers(text("Hello."))
    model(server).invoke("Hello?")
    assert store.list_sessions() == []
