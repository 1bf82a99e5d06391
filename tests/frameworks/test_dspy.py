"""`lllm.instrument("dspy")`: programs of DSPy, recorded, and otherwise as they were.

These tests need the packages in dspy.txt; `.ci/run` installs them into an environment of their own.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("dspy", reason="runs in an environment of its own: dspy.txt")

import dspy
from openai import OpenAI

import lllm
from lllm import LogStore, SQLiteBackend
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    SessionStarted,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import Loopback, Received, Reply, failure, text
from tests.support.loopback_streams import chat

pytestmark = pytest.mark.filterwarnings("ignore")


def says(**fields: str) -> str:
    """A text as DSPy expects it."""
    marked = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*marked, "[[ ## completed ## ]]"])


SUNNY = text(says(answer="sunny"), usage=USED)
# What an agent with tools gets: the call of a tool, the end of the calls, and the answer.
REACT = [
    text(says(next_thought=thought, next_tool_name=name, next_tool_args=args), usage=USED)
    for thought, name, args in (("look", "weather", '{"city": "Berlin"}'), ("done", "finish", "{}"))
]
REACT.append(text(says(reasoning="So it is.", answer="sunny"), usage=USED))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which DSPy's programs are recorded."""
    dspy.configure(callbacks=[])
    with recording("dspy", tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def model(server: Loopback) -> Any:
    """The model of all programs, which is at the server, and tries nothing again."""
    found = lm(server)
    dspy.configure(lm=found)
    return found


def lm(server: Loopback, **options: Any) -> Any:
    place = {"api_base": server.url, "api_key": "sk-test", "cache": False, "num_retries": 0}
    return dspy.LM("openai/gpt-4o-mini", **{**place, **options})


class Planner(dspy.Module):
    """A program of two predictors."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan")
        self.write = dspy.Predict("plan -> answer")

    def forward(self, question: str) -> Any:
        """Plan, then answer."""
        return self.write(plan=self.plan(question=question).plan)


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.mark.parametrize("how", ["call", "acall"])
def test_a_program(server: Loopback, store: LogStore, how: str) -> None:
    """Its session has its name, its fields, and its predictors as agents, with exact tokens."""
    program = Planner()
    if how == "acall":
        program = dspy.ChainOfThought("question -> answer")
        server.answers(text(says(reasoning="So it is.", answer="sunny"), usage=USED))
        asyncio.run(program.acall(question="weather?"))
        names = ["ChainOfThought"]
    else:
        server.answers(text(says(reasoning="Well.", plan="look"), usage=USED), SUNNY)
        program(question="weather?")
        names = ["plan", "write"]
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == (f"dspy::{type(program).__name__}", "success")
    assert session.task == '{"question":"weather?"}'
    assert [one.agent for one in events(store, AgentStarted)] == names
    loaded = store.load_session(session.session_id)
    assert loaded.delivery["answer"] == "sunny"
    total = loaded.total_cost
    assert (total.prompt_tokens, total.completion_tokens) == (100 * len(names), 20 * len(names))
    assert (total.cached_prompt_tokens, total.reasoning_tokens) == (40 * len(names), 8 * len(names))
    assert total.unpriced_calls == 0
    [first, *_] = events(store, LLMRequested)
    assert (first.model, first.provider, first.step) == ("gpt-4o-mini", "openai", 1)
    assert "sk-test" not in str(list(store.log.read()))


@pytest.mark.parametrize("engine", ["auto", "litellm"])
def test_what_capture_records_costs_the_same(
    server: Loopback, store: LogStore, tmp_path: Path, engine: str
) -> None:
    """The callback alone, and a captured client alone, come to the same nano-dollar; of LiteLLM's
    logger under DSPy nothing is counted twice."""
    server.answers(SUNNY)
    with (
        lllm.instrument("litellm", log_store=store, provider="openai"),
        dspy.context(lm=lm(server, engine=engine)),
    ):
        dspy.Predict("question -> answer")(question="weather?")
    lllm.uninstrument("dspy")
    with LogStore(SQLiteBackend(tmp_path / "captured.db")) as other:
        client = lllm.capture(
            OpenAI(base_url=server.url, api_key="sk-test"), log_store=other, provider="openai"
        )
        client.chat.completions.create(**server.requests[-1].body)
        mine, captured = store.export_cost_summary(), other.export_cost_summary()
        assert mine["total_cost_usd"] == captured["total_cost_usd"] > 0
        usages = [[one.usage for one in events(each, LLMResponded)] for each in (store, other)]
        assert usages[0] == usages[1]


def test_a_captured_client(server: Loopback, store: LogStore) -> None:
    """Where a model of the user's own has one, each call is recorded once, with its retries."""
    client = lllm.capture(
        OpenAI(base_url=server.url, api_key="sk-test", max_retries=1),
        log_store=store, provider="openai",
    )  # fmt: skip

    class CapturedLM(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:  # noqa: ARG002 - DSPy's
            options = {key: one for key, one in options.items() if one is not None}
            return client.chat.completions.create(model=self.model, messages=messages, **options)

    server.answers(failure(429), SUNNY)
    with warnings.catch_warnings(), dspy.context(lm=CapturedLM("gpt-4o-mini", cache=False)):
        dspy.Predict("question -> answer")(question="weather?")
    assert [one.attempt for one in events(store, LLMRequested)] == [1, 2]
    assert {one.agent for one in events(store, LLMResponded)} == {"Predict"}
    assert len(store.list_sessions()) == 1


def test_an_agent_with_tools(server: Loopback, store: LogStore) -> None:
    """The tool is there with its arguments and its result."""
    server.answers(*REACT)
    assert dspy.ReAct("question -> answer", tools=[weather])(question="weather?").answer == "sunny"
    called, [returned, _] = events(store, ToolCalled)[0], events(store, ToolReturned)
    assert [one.name for one in events(store, ToolCalled)] == ["weather", "finish"]  # as in DSPy
    assert (called.name, called.arguments) == ("weather", {"city": "Berlin"})
    assert (called.request, returned.content.text) == (1, "sunny in Berlin")
    assert [one.agent for one in events(store, AgentStarted)] == ["react", "react", "extract"]


def test_a_tool_that_fails(server: Loopback, store: LogStore) -> None:
    """The program goes on, and the log has the error."""

    def broken(city: str) -> str:
        """Breaks."""
        raise ValueError(f"no weather in {city}")

    broken.__name__ = "weather"
    server.answers(*REACT)
    dspy.ReAct("question -> answer", tools=[broken])(question="weather?")
    [failed] = events(store, ToolFailed)
    assert "no weather in Berlin" in failed.error.message
    assert store.list_sessions()[0].state == "success"


def test_a_program_inside_of_a_tool(server: Loopback, store: LogStore) -> None:
    """It is a session below, and the other's cost includes it."""
    inner = dspy.Predict("question -> answer")
    server.answers(REACT[0], SUNNY, *REACT[1:])
    outer = dspy.ReAct(
        "question -> answer",
        tools=[dspy.Tool(lambda city: inner(question=city).answer, name="weather")],
    )
    outer(question="weather?")
    [session] = store.list_sessions()
    [below] = store.children([session.session_id])[session.session_id].first
    assert (session.tactic_path, below.tactic_path) == ("dspy::ReAct", "dspy::Predict")
    assert session.calls == 4
    assert [one.parent_tool for one in events(store, SessionStarted)] == [None, 1]


@pytest.mark.parametrize("how", ["call", "acall"])
def test_errors_are_the_same(server: Loopback, store: LogStore, how: str) -> None:
    """The caller gets DSPy's exception; the failed attempt is free."""
    server.answers(failure(400))
    predict = dspy.Predict("question -> answer")
    with pytest.raises(Exception, match="It went wrong") as caught:
        predict(question="?") if how == "call" else asyncio.run(predict.acall(question="?"))
    assert type(caught.value).__name__ == "LMInvalidRequestError"
    assert len(store.list_sessions(state="failure")) == 1
    [failed] = events(store, LLMFailed)
    assert (failed.price.status, len(events(store, AgentFailed))) == ("free", 1)


def test_threads_of_dspy(server: Loopback, store: LogStore) -> None:
    """What `dspy.Parallel` runs is in the session around it, each call in its own agent call; so
    are programs that are sessions, as children."""

    class Both(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self) -> Any:
            asked = [(self.ask, {"question": f"{number}?"}) for number in range(4)]
            return dspy.Parallel(num_threads=4, disable_progress_bar=True)(asked)

    server.answers(SUNNY)
    Both()()
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("dspy::Both", 4)
    assert sorted(one.ordinal for one in events(store, AgentStarted)) == [1, 2, 3, 4]
    ask = dspy.Predict("question -> answer")
    with store.session("my::script") as recorder:
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(ask, {"question": "?"})] * 2)
    found = store.children([recorder.session_id])[recorder.session_id].first
    assert [one.tactic_path for one in found] == ["dspy::Predict"] * 2


def test_an_evaluation(server: Loopback, store: LogStore) -> None:
    """It is a session, with one below for each example."""
    server.answers(SUNNY)
    examples = [dspy.Example(question="?", answer="sunny").with_inputs("question")] * 2
    evaluate = dspy.Evaluate(
        devset=examples, metric=lambda one, said, _=None: one.answer == said.answer,
        num_threads=2, display_progress=False,
    )  # fmt: skip
    assert evaluate(dspy.Predict("question -> answer")).score == 100
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("dspy::Evaluate", 2)
    below = store.children([session.session_id])[session.session_id].first
    assert [one.tactic_path for one in below] == ["dspy::Predict"] * 2


def test_a_stream(server: Loopback, store: LogStore) -> None:
    """What `streamify` runs in a thread of its own has its tokens, too."""
    pieces = ("[[ ## answer ## ]]\n", "sun", "ny", "\n\n[[ ## completed ## ]]")
    server.answers(chat(*pieces, usage=USED))
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])

    async def read() -> None:
        async with store.session("my::script"):
            async for _ in program(question="weather?"):
                pass

    asyncio.run(read())
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("my::script", 1)
    [responded] = events(store, LLMResponded)
    assert (responded.usage.input, responded.usage.cache_read) == (100, 40)
    assert "sunny" in responded.content.text


def test_an_answer_of_the_cache(server: Loopback, store: LogStore, tmp_path: Path) -> None:
    """It costs nothing, although DSPy's history has a cost for it."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    server.answers(SUNNY)
    with dspy.context(lm=lm(server, cache=True)):
        for _ in range(2):
            dspy.Predict("question -> answer")(question=f"weather in {tmp_path}?")
    assert len(server.requests) == 1
    assert [one.price.status for one in events(store, LLMResponded)] == ["priced", "free"]


def test_a_model_alone(server: Loopback, store: LogStore) -> None:
    """It is a session of its own, or a call of the session around it."""
    server.answers(text("Hello.", usage=USED))
    asked = dspy.settings.lm
    assert asked("Hello?") == ["Hello."]
    with store.session("my::script"):
        asked(messages=[{"role": "user", "content": "Hello?"}])
    found = {one.tactic_path: one.calls for one in store.list_sessions()}
    assert found == {"my::script": 1, "dspy.LM": 1}


@pytest.mark.usefixtures("store")
def test_events_are_durable_before_the_model_is_called(server: Loopback, tmp_path: Path) -> None:
    """Whatever kills the process while it waits, the request is in the log."""
    seen: list[int] = []

    def answer(_: Received) -> Reply:
        with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as reader:
            seen.append(len(events(reader, LLMRequested)))
        return SUNNY

    server.answers(answer)
    dspy.Predict("question -> answer")(question="?")
    assert seen == [1]


def test_the_handle_undoes_it(server: Loopback, store: LogStore) -> None:
    """Nothing of lllm is left in DSPy, and programs are not recorded any more."""
    predict = dspy.Predict("question -> answer")
    executor = dspy.utils.parallelizer.ParallelExecutor
    server.answers(SUNNY)
    mine = dspy.settings.callbacks
    lllm.uninstrument("dspy")
    before = executor.execute
    predict(question="?")
    assert dspy.settings.callbacks == []
    assert len(mine) == 1
    with lllm.instrument("dspy", log_store=store) as recorded:
        assert recorded.names == ("dspy",)
        predict(question="?")
    assert executor.execute is before
    assert len(events(store, SessionStarted)) == 1
