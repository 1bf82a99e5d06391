"""What a replay answers, and how: tools, budgets, sub-tactics, event loops, files, redaction."""

from __future__ import annotations

import asyncio
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lllm import (
    EMAIL,
    BudgetExceeded,
    InvokeError,
    LogStore,
    Replay,
    ReplayDivergence,
    ReplayError,
    ReplayInterrupted,
    SQLiteBackend,
    tool,
)  # fmt: skip
from lllm.events import codec
from lllm.events import model as model_events
from lllm.events.backends.memory import MemoryBackend
from lllm.invokers import Request
from lllm.invokers.scripted import bad_request, cut_off, rate_limited, tool_call, tool_calls
from lllm.replay.divergence import ReplayPlace
from tests.support import ROOT
from tests.support.replayed import Program, asks, record

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    """No tool has run yet."""
    ran.clear()


@tool(description="Takes a note.")
def note(text: str) -> str:
    """A tool with an effect."""
    ran.append(text)
    return f"noted {text}"


@tool(description="Takes a note in memory.", replay="run")
def remember(text: str) -> str:
    """A tool that replays run."""
    ran.append(text)
    return f"remembered {text}"


def asking(tactic: Any, task: object) -> object:
    """One question."""
    return asks(tactic, task)


def payloads(store: LogStore, session_id: str) -> list[model_events.Event]:
    """What the events of a session say."""
    return [codec.decode(event) for event in store.events(session_id)]


def test_the_block_and_the_call_are_the_same(store: LogStore) -> None:
    """`store.replay` answers what is called inside; the replay is a session that names its origin
    and costs nothing."""
    recorded = record(Program(asking, [rate_limited(), "hi"], log_store=store), {"q": 1})
    cost = store.load_session(recorded).total_cost.cost
    assert cost > 0
    with store.replay(recorded) as replay:
        assert Program(asking, log_store=store)({"q": 1}) == "hi"
    assert [one.verdict for one in replay.requests] == ["same", "same"]
    assert replay.session_id is not None
    session = store.load_session(replay.session_id)
    assert (session.delivery, session.total_cost.cost) == ("hi", 0)
    started = payloads(store, replay.session_id)[0]
    assert isinstance(started, model_events.SessionStarted)
    assert started.origin == model_events.Origin(recorded, "replay")
    again = Program(asking, log_store=store).replay(recorded, return_session=True)
    assert (again.delivery, again.total_cost.cost) == ("hi", 0)
    assert again.session_id not in (recorded, replay.session_id)


def test_record_false_writes_nothing(store: LogStore) -> None:
    """A replay that is not recorded leaves no event, and can be looked at all the same."""
    recorded = record(Program(asking, ["hi"], log_store=store))
    head = store.log.head()
    session = Program(asking, log_store=store).replay(recorded, record=False, return_session=True)
    assert session.delivery == "hi"
    with store.replay(recorded, record=False) as replay:
        Program(asking, log_store=store)("task")
    assert replay.load_session().delivery == "hi"
    assert store.log.head() == head


def test_waits_are_not_waited(store: LogStore) -> None:
    """What was waited, as the provider asked or at random, is in the replay's record, and is not
    waited."""
    events: list[list[model_events.Event]] = []
    script = [rate_limited(), rate_limited(0.3), "hi"]
    recorded = record(Program(asking, script, log_store=store, recall_wait=0.02))
    began = time.monotonic()
    again = Program(asking, log_store=store, recall_wait=5)
    session = again.replay(recorded, return_session=True)
    assert time.monotonic() - began < 5
    for one in (recorded, session.session_id):
        events.append(
            [e for e in payloads(store, one) if isinstance(e, model_events.RetryScheduled)]
        )
    assert events[0] == events[1]


def test_tools_are_answered_or_run(store: LogStore) -> None:
    """Tools are answered from the log; one with replay="run", or named in live_tools, runs, and its
    result is compared."""
    script = [tool_calls(tool_call("note", {"text": "a"}), tool_call("remember", {"text": "b"}))]
    given: dict[str, Any] = {"tools": [note, remember], "log_store": store}
    recorded = record(Program(asking, [*script, "done"], **given))
    assert ran == ["a", "b"]
    ran.clear()
    assert Program(asking, **given).replay(recorded) == "done"
    assert ran == ["b"]
    assert Program(asking, max_parallel_tools=2, **given).replay(
        recorded, live_tools={"note"}
    ) == "done"  # fmt: skip
    assert sorted(ran) == ["a", "b", "b"]

    @tool(description="Takes a note in memory.", replay="run", name="remember")
    def forget(text: str) -> str:
        raise KeyError(text)

    for parallel in (1, 2):
        with pytest.raises(ReplayDivergence) as caught:
            Program(
                asking, tools=[note, forget], max_parallel_tools=parallel, log_store=store
            ).replay(recorded)
        assert (caught.value.kind, caught.value.place.tool) == ("tool", "remember")
        assert "-remembered b\n+The tool failed: KeyError: 'b'" in caught.value.diff
    with store.replay(recorded, on_divergence="report") as replay:
        assert Program(asking, tools=[note, forget], log_store=store)("task") == "done"
    assert [one.kind for one in replay.divergences] == ["tool"]


def test_budgets_are_spent_in_recorded_cost(store: LogStore) -> None:
    """A budget is spent by what the calls cost then, also those of sessions within a tool that does
    not run, so that it is exceeded where it was."""
    inner = Program(asking, lambda _: "inner", log_store=store)

    @tool(description="Asks another tactic.")
    def ask_inner(text: str) -> object:
        return inner(text)

    def many(tactic: Any, task: object) -> object:
        return [asks(tactic, task, alias=str(number)) for number in range(50)]

    def script(request: Request) -> Any:
        asked = request.messages[-1].role == "user"
        return tool_call("ask_inner", {"text": "x" * 400}) if asked else "done"

    def made(given: Any) -> Program:
        return Program(many, given, tools=[ask_inner], log_store=store)

    recorded = record(made(script), budget_usd=0.0005)
    first = store.load_session(recorded)
    assert first.error is not None
    assert first.error.type.endswith("BudgetExceeded")
    inner.do = many  # which would fail
    with pytest.raises(BudgetExceeded) as caught:
        made(None).replay(recorded)
    assert str(caught.value) == first.error.message
    assert caught.value.spent_usd >= 0.0005


def test_an_agent_within_a_tool_is_left_out_with_it(store: LogStore) -> None:
    """What an agent of the same tactic says within a tool is not missing where the tool does not
    run, and is asked for where it does."""

    def with_helper(tactic: Any, task: object) -> object:
        found = asks(tactic, task)
        return [found, asks(tactic, "after", agent="b", alias="aside")]

    holder: dict[str, Any] = {}

    @tool(description="Asks the helper.")
    def helper(text: str) -> str:
        helped = asks(holder["tactic"], text, agent="b", alias="aside")
        holder["tactic"].agents["b"].close()
        return helped

    def do(tactic: Any, task: object) -> object:
        holder["tactic"] = tactic
        return with_helper(tactic, task)

    script = {"a": [tool_call("helper", {"text": "x"}), "done"], "b": ["helped", "late"]}
    recorded = record(Program(do, script, "a", "b", tools=[helper], log_store=store))
    again = Program(do, None, "a", "b", tools=[helper], log_store=store)
    assert again.replay(recorded) == ["done", "late"]
    with store.replay(recorded, live_tools=["helper"]) as replay:
        assert again("task") == ["done", "late"]
    assert len(replay.requests) == 4


def test_errors_come_again(store: LogStore) -> None:
    """A failed attempt raises what it raised: retryable or not, with its status, and told the same
    in the record."""

    def kept(tactic: Any, task: object) -> object:
        try:
            return asks(tactic, task)
        except InvokeError as error:
            return [error.status, error.code, error.retryable, str(error)]

    recorded = record(Program(kept, [bad_request()], log_store=store))
    told = store.load_session(recorded).delivery
    assert told == [400, "invalid_request_error", False, str(bad_request())]
    assert Program(kept, log_store=store).replay(recorded) == told

    def odd(_: Request) -> Any:
        raise ZeroDivisionError("the invoker's own")

    recorded = record(Program(asking, odd, log_store=store))
    with pytest.raises(ZeroDivisionError, match="the invoker's own"):
        Program(asking, log_store=store).replay(recorded)


def test_streams_say_what_was_said(store: LogStore) -> None:
    """A stream gets the recorded text, and what had come of an attempt that was cut off."""

    async def streaming(tactic: Any, task: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive(task)
        stream = agent.stream()
        return [[(str(piece), piece.request) async for piece in stream], stream.message.content]

    script = [cut_off("half an"), "a whole answer"]
    recorded = record(Program(streaming, script, log_store=store))
    pieces, whole = Program(streaming, log_store=store).replay(recorded)
    assert pieces == [("half an", 1), ("a whole answer", 2)]
    assert whole == "a whole answer"


def test_what_was_cancelled_is_cancelled_again(store: LogStore) -> None:
    """A timer of the program that cut an attempt off does so in the replay, too."""

    async def impatient(tactic: Any, task: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive(task)
        try:
            async with asyncio.timeout(0.05):
                return (await agent.arespond()).content
        except TimeoutError:
            return "too slow"

    slow = Program(impatient, ["hi"], log_store=store)
    slow._agent_configs["a"].invoker._delay = 5
    recorded = record(slow)
    assert store.load_session(recorded).delivery == "too slow"
    assert Program(impatient, log_store=store).replay(recorded) == "too slow"


def test_a_block_in_an_event_loop(store: LogStore) -> None:
    """The block holds in its task and the tasks that are made inside, and not in others."""

    async def answering(tactic: Any, task: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive(task)
        await asyncio.sleep(0)
        return (await agent.arespond()).content

    async def once(store: LogStore, session_id: str, task: str) -> object:
        with store.replay(session_id):
            return await asyncio.create_task(Program(answering, log_store=store).acall(task))

    async def live(task: str) -> object:
        return await Program(answering, ["live"], log_store=store).acall(task)

    tasks = [f"task {number}" for number in range(5)]
    recorded = [record(Program(answering, [f"re {one}"], log_store=store), one) for one in tasks]

    async def main() -> list[object]:
        replays = [once(store, *pair) for pair in zip(recorded, tasks, strict=True)]
        return await asyncio.gather(*replays, live("task 0"))

    assert asyncio.run(main()) == [*(f"re {one}" for one in tasks), "live"]


def test_equal_sessions_at_once_get_their_own(store: LogStore) -> None:
    """Sub-tactics with equal prompts and other tasks at the same time each get their own answer."""
    count = 200

    def equal(tactic: Any, task: object) -> object:
        asks(tactic, "the same")
        return [task, tactic.agents["a"].respond().content]

    class Inner(Program, register=False):
        name = "inner"

    answers = iter(range(10**6))
    inner = Inner(equal, lambda _: f"answer {next(answers)}", log_store=store)
    outer = Program(
        lambda self, _: self.inner.bcall(range(count), max_workers=count), log_store=store
    )
    outer.inner = inner  # type: ignore[attr-defined]
    recorded = record(outer)
    told = store.load_session(recorded).delivery
    assert isinstance(told, list)
    assert len({text for _, text in told}) == count
    outer.inner = Inner(equal, log_store=store)  # type: ignore[attr-defined]
    assert outer.replay(recorded) == told


def test_a_long_recording_is_replayed_in_linear_time_and_memory(store: LogStore) -> None:
    """100 tool calls with 200,000 tokens take twice what 50 calls with half of them take: counted
    are calls of functions, and bytes, which are the same in every run."""

    @tool(description="Reads a page.")
    def page(number: int) -> str:
        return f"{number}: " + "word " * 2_000  # tokens

    def made(count: int, *, answered: bool) -> Program:
        script = [*(tool_call("page", {"number": one}) for one in range(count)), "read"]
        return Program(
            lambda self, _: asks(self, "Read all."), None if answered else script,
            log_store=store, tools=[page], max_interrupt_steps=count,
        )  # fmt: skip

    def cost(count: int) -> tuple[int, int]:
        recorded, calls = record(made(count, answered=False)), 0
        again = made(count, answered=True)

        def counted(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(counted)
        try:
            assert again.replay(recorded, record=False) == "read"
        finally:
            sys.setprofile(None)
        tracemalloc.start()
        try:
            assert again.replay(recorded, record=False) == "read"
            return calls, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    cost(2)  # what is imported and made once
    (calls, memory), (twice, double) = cost(50), cost(100)
    assert twice < 2.2 * calls
    assert double < 2.2 * memory


def test_calls_that_a_failure_stops(store: LogStore) -> None:
    """How many calls begin before one that fails stops them is up to the threads: the replay fails
    as the recording did, and neither more of them nor fewer are a difference."""

    class Sub(Program, register=False):
        name = "sub"

    def fails(tactic: Any, task: object) -> object:
        answer = asks(tactic, task)
        if task == 2:
            raise ValueError("two")
        return answer

    def made(script: Any) -> Program:
        program = Program(lambda self, _: self.sub.bcall(range(8), max_workers=3), log_store=store)
        vars(program)["sub"] = Sub(fails, script, log_store=store)
        return program

    def slowly(_: Request) -> str:
        time.sleep(random.random() * 0.002)
        return "ok"

    for _ in range(8):
        recorded = record(made(slowly))
        with pytest.raises(ValueError, match="two") as caught:
            made(None).replay(recorded)
        assert not hasattr(caught.value, "__notes__")


def test_a_child_with_another_task_is_told(store: LogStore) -> None:
    """A sub-tactic that begins with another task is a difference, with both tasks."""

    class Inner(Program, register=False):
        name = "inner"

    def outer(topic: str) -> Any:
        def do(tactic: Any, _: object) -> object:
            return [tactic.inner({"topic": "x"}), tactic.inner({"topic": topic})]

        made = Program(do, log_store=store)
        vars(made)["inner"] = Inner(lambda *_: "ok", log_store=store)
        return made

    recorded = record(outer("y"))
    assert outer("y").replay(recorded) == ["ok", "ok"]
    with pytest.raises(ReplayDivergence) as caught:
        outer("z").replay(recorded)
    assert (caught.value.kind, caught.value.place.child) == ("task", 2)
    assert '-  "topic": "y"\n+  "topic": "z"' in caught.value.diff
    ignoring = [re.compile('"?[yz]"?')]
    with store.replay(recorded, ignore=ignoring):
        outer("z")("task")
    with store.replay(recorded, ignore=["task.topic"]):
        outer("z")("task")


def test_functions_are_tactics_too(store: LogStore) -> None:
    """`@store.tactic` functions and generators run in the block as tactics do."""
    sub = Program(asking, ["one", "two"], log_store=store)

    @store.tactic("streaming")
    def streaming(text: str) -> Any:
        yield sub(text)
        yield sub(text)

    assert list(streaming("go")) == ["one", "two"]
    recorded = store.list_sessions(limit=1)[0].session_id
    sub = Program(asking, log_store=store)
    with store.replay(recorded) as replay:
        assert list(streaming("go")) == ["one", "two"]
    assert replay.load_session().delivery == ["one", "two"]


def test_the_block_is_of_one_session(store: LogStore) -> None:
    """Another tactic in the block, or the same once more, is told; so is none at all. The program
    around is not replayed."""
    recorded = record(Program(asking, ["hi"], log_store=store))

    class Other(Program, register=False):
        name = "other"

    with (
        pytest.raises(ReplayDivergence, match="and nothing else: it is a call of 'program'"),
        store.replay(recorded),
    ):
        Other(asking, ["live"], log_store=store)("task")
    again = Program(asking, log_store=store)
    with pytest.raises(ReplayDivergence, match="already"), store.replay(recorded):
        assert [again(task) for task in ("task", "task")] == []
    with pytest.raises(ReplayDivergence) as caught, store.replay(recorded):
        pass
    assert caught.value.kind == "missing"
    with store.session("around"):
        assert Program(asking, log_store=store).replay(recorded) == "hi"
    assert Program(asking, ["live"], log_store=store)("task") == "live"


def test_a_block_in_one_thread_leaves_others_alone(store: LogStore) -> None:
    """What threads call that were there before calls its model, while a block is open."""
    recorded = record(Program(asking, ["hi"], log_store=store))
    found: list[object] = []
    opened = threading.Event()
    other = Program(asking, ["live"], log_store=store)
    thread = threading.Thread(target=lambda: opened.wait(60) and found.append(other("task")))
    thread.start()
    with store.replay(recorded):
        opened.set()
        thread.join()
        Program(asking, log_store=store)("task")
    assert found == ["live"]


def test_ignored_parts_make_no_difference(store: LogStore) -> None:
    """Key paths and patterns leave volatile parts out, and the verdict says so."""

    def dated(date: str) -> Any:
        return lambda self, _: asks(self, f"It is {date}. What now?")

    recorded = record(Program(dated("2026-01-31"), ["hi"], log_store=store))
    dates = re.compile(r"\d{4}-\d\d-\d\d")
    for ignore in ([dates], ["messages.1.parts.*.text"], ["messages.*"]):
        with store.replay(recorded, ignore=ignore) as replay:
            Program(dated("2027-02-01"), log_store=store)("task")
        assert [one.verdict for one in replay.requests] == ["ignored"]
    with pytest.raises(ReplayDivergence) as caught, store.replay(recorded, ignore=[dates]):
        Program(dated("2027-02-01"), log_store=store, model_args={"seed": 1})("task")
    assert caught.value.differs == ("params",)
    with store.replay(recorded, ignore=[dates, "params.seed", "params"]):
        Program(dated("2027-02-01"), log_store=store, model_args={"seed": 1})("task")


def test_what_is_redacted_is_compared_as_it_was_written() -> None:
    """Texts pass the store's redact before they are compared: the same secret is no difference,
    and nor is another one; a word beside it is."""
    with LogStore(MemoryBackend(), redact=[EMAIL]) as store:

        @tool(description="Finds an address.")
        def find() -> str:
            return "it is b@example.com"

        def do(tactic: Any, task: object) -> object:
            return asks(tactic, f"Write to {task}!")

        key = "sk-proj-" + "a1B2" * 12
        given: dict[str, Any] = {"tools": [find], "log_store": store, "model_args": {"user": key}}
        recorded = record(Program(do, [tool_call("find"), "sent"], **given), "a@example.com")
        assert "example.com" not in store.export_session(recorded, "jsonl")
        with store.replay(recorded):
            assert Program(do, **given)("a@example.com") == "sent"
        with store.replay(recorded):
            assert Program(do, **given)("c@example.org") == "sent"
        with pytest.raises(ReplayDivergence), store.replay(recorded):
            Program(do, **given)("a@example.com now")


def test_an_exported_file_replays_without_a_store(store: LogStore, tmp_path: Path) -> None:
    """The path of an exported session stands for its id, with a store or without."""
    recorded = record(Program(asking, [tool_call("note", {"text": "\ud800"}), "hi \ud800"],
                              tools=[note], log_store=store))  # fmt: skip
    file = tmp_path / "session.jsonl"
    file.write_text(store.export_session(recorded, "jsonl"), encoding="utf-8")
    assert Program(asking, tools=[note]).replay(file) == "hi \ud800"
    assert Program(asking, tools=[note]).replay(str(file), return_session=True).total_cost.cost == 0
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other, other.replay(file) as replay:
        assert Program(asking, tools=[note], log_store=other)("task") == "hi \ud800"
    assert isinstance(replay, Replay)


def test_an_interrupted_session_replays_up_to_where_it_broke(
    store: LogStore, tmp_path: Path
) -> None:
    """Where the recording ends the replay stops, and says so; a program that swallows everything
    gets no further than the block's end."""

    def two(tactic: Any, _: object) -> object:
        return [asks(tactic, "one", alias="1"), asks(tactic, "two", alias="2")]

    recorded = record(Program(two, ["1", "2"], log_store=store))
    lines = store.export_session(recorded, "jsonl").splitlines(keepends=True)
    kinds = [re.findall('"type":"([a-z.]+)"', line)[0] for line in lines]
    second = len(kinds) - kinds[::-1].index("llm.requested")
    for upto, respond in ((second, ("2", 1)), (second - 4, ("2", 1))):
        file = tmp_path / f"{upto}.jsonl"
        file.write_text("".join(lines[:upto]))
        with pytest.raises(ReplayInterrupted) as caught:
            Program(two).replay(file)
        assert (caught.value.place.dialog, caught.value.place.respond) == respond
        assert "ends here, and everything before was the same" in str(caught.value)

        def swallowing(tactic: Any, task: object) -> object:
            try:
                return two(tactic, task)
            except BaseException:
                return "never mind"

        with pytest.raises(ReplayInterrupted), store.replay(file) as replay:
            assert Program(swallowing)("task") == "never mind"
        assert replay.interrupted is caught.value or replay.interrupted is not None
        assert not replay.divergences


KILLED = """
import os, signal, sys
from lllm import LogStore, SQLiteBackend, tool
from lllm.invokers.scripted import tool_call
from tests.support.replayed import Program, asks

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

@tool(description="Ends the process.")
def end() -> str:
    die()

answers = iter(["one", tool_call("end") if sys.argv[2] == "tool" else None])

def model(request):
    answer = next(answers)
    return answer if answer is not None else die()

def two(tactic, task):
    return [asks(tactic, task, alias="1"), asks(tactic, task, alias="2")]

Program(two, model, tools=[end], log_store=LogStore(SQLiteBackend(sys.argv[1])))("task")
"""


@pytest.mark.parametrize("where", ["model", "tool"])
def test_a_session_whose_process_was_killed(tmp_path: Path, where: str) -> None:
    """What a process had recorded when it died is replayed, and the rest is not made up."""
    path = tmp_path / "runs.db"
    run = subprocess.run([sys.executable, "-c", KILLED, path, where], check=False, cwd=ROOT)
    assert run.returncode == -signal.SIGKILL

    @tool(description="Ends the process.")
    def end() -> str:
        raise AssertionError("a tool ran")

    def two(tactic: Any, task: object) -> object:
        return [asks(tactic, task, alias="1"), asks(tactic, task, alias="2")]

    with LogStore(SQLiteBackend(path)) as store:
        (summary,) = store.list_sessions()
        assert summary.state == "interrupted"
        with pytest.raises(
            ReplayInterrupted, match=f"The process ended while the {where}"
        ) as caught:
            Program(two, tools=[end], log_store=store).replay(summary.session_id)
        assert (caught.value.place.dialog, caught.value.place.step) == ("2", 1)
        assert caught.value.place.tool == ("end" if where == "tool" else None)
        other = Program(lambda self, _: asks(self, "other", alias="1"), log_store=store)
        with pytest.raises(ReplayDivergence):
            other.replay(summary.session_id)


def test_a_difference_may_go_live(store: LogStore) -> None:
    """With on_divergence="live" the past comes from the log up to the difference; from there on
    the model is asked and tools run, in the dialog that differs and in all that begins later. The
    session is a fork, which costs what was asked anew."""

    def two(second: str) -> Any:
        def do(tactic: Any, _: object) -> object:
            first = asks(tactic, "first", alias="1")
            other = asks(tactic, second, alias="2")
            return [first, other, asks(tactic, "last", alias="3"), tactic.sub("sub")]

        return do

    class Sub(Program, register=False):
        name = "sub"

    def made(second: str, script: Any) -> Program:
        program = Program(two(second), script, tools=[note], log_store=store)
        vars(program)["sub"] = Sub(asking, script, log_store=store)
        return program

    recorded = record(made("second", lambda _: "then"))
    cost = store.load_session(recorded).total_cost
    assert made("second", None).replay(recorded, on_divergence="live") == ["then"] * 4
    asked: list[str] = []

    def model(request: Request) -> Any:
        said = request.messages[-1]
        asked.append(said.text)
        wants = said.role == "user" and said.text == "changed"
        return tool_call("note", {"text": "x"}) if wants else "now"

    with store.replay(recorded, on_divergence="live") as replay:
        assert made("changed", model)("task") == ["then", "now", "now", "now"]
    assert (asked, ran) == (["changed", "noted x", "last", "sub"], ["x"])
    (difference,) = replay.divergences
    assert (difference.kind, difference.place.dialog) == ("changed", "2")
    session = replay.load_session()
    assert session.total_cost.cost > 0
    assert session.agent_sessions["a"][0].cost.cost == 0 < session.agent_sessions["a"][1].cost.cost
    assert session.total_cost.prompt_tokens > cost.prompt_tokens
    fork = payloads(store, session.session_id)[0]
    assert isinstance(fork, model_events.SessionStarted)
    assert fork.origin == model_events.Origin(recorded, "fork")
    assert session.session_id in [one.session_id for one in store.list_sessions()]


def test_what_may_ask_its_model_stays_in_its_process(store: LogStore) -> None:
    """Such a replay, or a fork, can't be sent to another process; what a replay raises can."""
    recorded = record(Program(asking, ["hi"], log_store=store))

    def sends(tactic: Any, _: object) -> object:
        pickle.dumps(tactic.agents["a"].session)
        return None

    with pytest.raises(ReplayError, match="one process"):
        Program(sends, log_store=store).replay(recorded, on_divergence="live")
    place = ReplayPlace(tactic="t", agent="a", step=2)
    for error in (
        ReplayDivergence("why", kind="changed", place=place, differs=("model",), diff="+x"),
        ReplayInterrupted("why", place=place),
    ):
        assert not isinstance(error, Exception)
        back = pickle.loads(pickle.dumps(error))
        assert (str(back), back.place) == (str(error), place)
