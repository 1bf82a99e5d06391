"""What a replay says of an edit to the code: the verdict, and the place that it names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lllm import AgentError, LogStore, ParseError, Prompt, Tactic, tool
from lllm.invokers import Request
from lllm.invokers.scripted import Script, rate_limited, tool_call
from lllm.replay.divergence import Kind, ReplayDivergence
from lllm.sessions.threads import Executor
from tests.support.replayed import Program, asks, record


@tool(description="Adds two numbers.")
def add(a: int, b: int) -> int:
    """Never runs in a replay."""
    return a + b


@tool(description="Adds numbers.")
def other_add(a: int, b: int) -> int:
    """The same with another description."""
    raise AssertionError(f"a tool ran: {a} + {b}")


other_add.name = "add"


@tool(description="Subtracts.")
def subtract(a: int, b: int) -> int:
    """One tool more."""
    return a - b


def two_questions(tactic: Tactic, _: object) -> object:
    """The program that is recorded: one question with a tool, and another in the same dialog."""
    agent = tactic.agents["a"]
    agent.open()
    agent.receive("What is 1 + 2?")
    first = agent.respond().content
    agent.receive("And what then?")
    return [first, agent.respond().content]


def other_words(tactic: Tactic, _: object) -> object:
    """The second question in other words."""
    agent = tactic.agents["a"]
    agent.open()
    agent.receive("What is 1 + 2?")
    first = agent.respond().content
    agent.receive("And what now?")
    return [first, agent.respond().content]


def one_more(tactic: Tactic, task: object) -> object:
    """A third question."""
    found = two_questions(tactic, task)
    return [found, tactic.agents["a"].respond().content]


def one_less(tactic: Tactic, _: object) -> object:
    """Only the first."""
    return asks(tactic, "What is 1 + 2?")


def swallowing(tactic: Tactic, task: object) -> object:
    """A program that goes on whatever Exception comes."""
    try:
        return other_words(tactic, task)
    except Exception:
        return "never mind"


def swallowing_everything(tactic: Tactic, task: object) -> object:
    """And one that goes on whatever comes."""
    try:
        return other_words(tactic, task)
    except BaseException:
        return "never mind"


SCRIPT: Script = [tool_call("add", {"a": 1, "b": 2}), "three", "four"]
TOOLS = (add, subtract)
Edit = tuple[Callable[[Any, Any], object], dict[str, Any], Kind, str, tuple[str, ...], str]

EDITS: dict[str, Edit] = {
    "a word in the system prompt": (
        two_questions, {"system_prompt": "You are the agent."}, "changed",
        "agent 'a', dialog 'main', respond 1, step 1, attempt 1", ("system prompt",),
        "+You are the agent.",
    ),
    "a word in a user message": (
        other_words, {}, "changed", "agent 'a', dialog 'main', respond 2, step 1, attempt 1",
        ("messages",), "-And what then?\n+And what now?",
    ),
    "a word in a tool's description": (
        two_questions, {"tools": [other_add, subtract]}, "changed", "respond 1, step 1, attempt 1",
        ("tools",), '+    "description": "Adds numbers."',
    ),
    "a tool added": (
        two_questions, {"tools": [add, subtract, tool(name="more")(lambda: 1)]}, "changed",
        "respond 1, step 1, attempt 1", ("tools",), '"name": "more"',
    ),
    "a tool removed": (
        two_questions, {"tools": [add]}, "changed", "respond 1, step 1, attempt 1", ("tools",),
        '-    "name": "subtract"',
    ),
    "tools reordered": (
        two_questions, {"tools": [subtract, add]}, "changed", "respond 1, step 1, attempt 1",
        ("tools",), "Adds two numbers.",
    ),
    "a parameter": (
        two_questions, {"model_args": {"temperature": 0.5}}, "changed",
        "respond 1, step 1, attempt 1", ("params",), '+  "temperature": 0.5',
    ),
    "the model": (
        two_questions, {"model": "gpt-4o"}, "changed", "respond 1, step 1, attempt 1", ("model",),
        "-model: gpt-4o-mini\n+model: gpt-4o",
    ),
    "a call more": (
        one_more, {}, "unrecorded", "agent 'a', dialog 'main', respond 3, step 1, attempt 1", (),
        "",
    ),
    "a call less": (
        one_less, {}, "missing", "agent 'a', dialog 'main', respond 2, step 1, attempt 1", (), "",
    ),
    "a program that swallows every Exception": (
        swallowing, {}, "changed", "respond 2, step 1, attempt 1", ("messages",), "+And what now?",
    ),
    "a program that swallows everything": (
        swallowing_everything, {}, "changed", "respond 2, step 1, attempt 1", ("messages",),
        "+And what now?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_is_found_where_it_is_made(store: LogStore, edit: Edit) -> None:
    """The replay of edited code raises, names the place and shows the difference; that of the same
    code does neither."""
    do, changed, kind, place, differs, diff = edit
    given: dict[str, Any] = {"tools": TOOLS, **changed}
    recorded = record(Program(two_questions, SCRIPT, tools=TOOLS, log_store=store))
    assert Program(two_questions, tools=TOOLS, log_store=store).replay(recorded) == [
        "three", "four",
    ]  # fmt: skip
    with pytest.raises(ReplayDivergence) as caught:
        Program(do, log_store=store, **given).replay(recorded)
    found = caught.value
    assert (found.kind, found.differs) == (kind, differs)
    assert str(found.place).endswith(place)
    assert found.place.tactic == "program"
    assert found.place.session_id == recorded
    assert diff in found.diff
    assert str(found.place) in str(found)


def test_what_was_recorded_next_is_told(store: LogStore) -> None:
    """A divergence says what the recording has there, or that there is nothing."""
    recorded = record(Program(two_questions, SCRIPT, tools=TOOLS, log_store=store))
    for do, told in (
        (other_words, "gpt-4o-mini answered 'four'"),
        (one_more, "nothing: the session succeeded."),
        (one_less, "gpt-4o-mini answered 'four'"),
    ):
        with pytest.raises(ReplayDivergence) as caught:
            Program(do, tools=TOOLS, log_store=store).replay(recorded)
        assert caught.value.recorded_next == told


def test_two_calls_swapped_in_one_agent(store: LogStore) -> None:
    """Dialogs of one agent are places of their own; within one dialog the order counts."""

    def swapped(first: str, second: str, *, alias: bool) -> Callable[[Any, Any], object]:
        def do(tactic: Tactic, _: object) -> object:
            return [
                asks(tactic, text, alias=text if alias else f"{number}")
                for number, text in enumerate((first, second))
            ]

        return do

    def answer(request: Request) -> str:
        return f"re: {request.messages[-1].text}"

    named = record(Program(swapped("x", "y", alias=True), answer, log_store=store))
    again = Program(swapped("y", "x", alias=True), log_store=store)
    assert again.replay(named) == ["re: y", "re: x"]
    numbered = record(Program(swapped("x", "y", alias=False), answer, log_store=store))
    with pytest.raises(ReplayDivergence) as caught:
        Program(swapped("y", "x", alias=False), log_store=store).replay(numbered)
    assert (caught.value.kind, caught.value.place.dialog) == ("changed", "0")


def test_calls_interleaved_differently_are_the_same(store: LogStore) -> None:
    """Threads may come in any order: a place is not told by when it is asked."""

    def at_once(order: list[str]) -> Callable[[Any, Any], object]:
        def do(tactic: Tactic, _: object) -> object:
            turns = {name: threading.Event() for name in order}
            turns[order[0]].set()

            def one(name: str) -> str:
                turns[name].wait(10)
                try:
                    agent = tactic.agents[name]
                    agent.open()
                    agent.receive("go")
                    return " ".join(agent.respond().content for _ in range(2))
                finally:
                    after = order.index(name) + 1
                    if after < len(order):
                        turns[order[after]].set()

            with Executor(3) as pool:
                return list(pool.map(one, ("x", "y", "z")))

        return do

    script = {name: [f"{name}1", f"{name}2"] for name in ("x", "y", "z")}
    first = Program(at_once(["x", "y", "z"]), script, "x", "y", "z", log_store=store)
    recorded = record(first)
    for order in (["z", "y", "x"], ["y", "x", "z"]):
        again = Program(at_once(order), None, "x", "y", "z", log_store=store)
        assert again.replay(recorded) == ["x1 x2", "y1 y2", "z1 z2"]


def test_a_changed_retry_limit(store: LogStore) -> None:
    """Fewer retries than were needed give up, and the error says which request is missing; more
    than were needed ask what was never recorded, where they gave up then. A limit alone is no
    difference."""

    def do(tactic: Tactic, _: object) -> object:
        return asks(tactic, "hello")

    script: Script = [rate_limited(), rate_limited(), "hi"]
    recorded = record(Program(do, script, log_store=store))
    assert Program(do, log_store=store, max_llm_recall=7).replay(recorded) == "hi"
    with pytest.raises(AgentError) as gave_up:
        Program(do, log_store=store, max_llm_recall=1).replay(recorded)
    (note,) = gave_up.value.__notes__
    assert "respond 1, step 1, attempt 3" in note

    gave = record(Program(do, [rate_limited()] * 3, log_store=store, max_llm_recall=2))
    with pytest.raises(AgentError, match="could not be reached in 3 calls"):
        Program(do, log_store=store, max_llm_recall=2).replay(gave)
    with pytest.raises(ReplayDivergence) as caught:
        Program(do, log_store=store, max_llm_recall=3).replay(gave)
    assert (caught.value.kind, caught.value.place.attempt) == ("unrecorded", 4)


def test_a_changed_parser(store: LogStore) -> None:
    """A parser that refuses what it took then asks again, which was never recorded; one that takes
    what it refused asks less."""

    def prompt(accepts: str) -> Prompt[str]:
        def parse(text: str) -> str:
            if text != accepts:
                raise ParseError(f"not {text}")
            return text

        return Prompt(path="p", prompt="go", parser=parse)

    def asking(accepts: str) -> Callable[[Any, Any], object]:
        def do(tactic: Tactic, _: object) -> object:
            agent = tactic.agents["a"]
            agent.open()
            return agent.respond(prompt=prompt(accepts)).parsed

        return do

    recorded = record(Program(asking("two"), ["one", "two"], log_store=store))
    assert Program(asking("two"), log_store=store).replay(recorded) == "two"
    with pytest.raises(ReplayDivergence) as more:
        Program(asking("three"), log_store=store).replay(recorded)
    assert (more.value.kind, more.value.place.step) == ("unrecorded", 3)
    with pytest.raises(ReplayDivergence) as less:
        Program(asking("one"), log_store=store).replay(recorded)
    assert (less.value.kind, less.value.place.step) == ("missing", 2)


def test_report_goes_on_and_collects(store: LogStore) -> None:
    """With on_divergence="report" the recorded answers go on, and every difference is kept."""
    recorded = record(Program(two_questions, SCRIPT, tools=TOOLS, log_store=store))
    edited = Program(other_words, tools=TOOLS, log_store=store, system_prompt="You are new.")
    with store.replay(recorded, on_divergence="report") as replay:
        assert edited("task") == ["three", "four"]
    assert [str(one.place).partition("respond ")[2] for one in replay.divergences] == [
        "1, step 1, attempt 1", "1, step 2, attempt 1", "2, step 1, attempt 1",
    ]  # fmt: skip
    assert [one.verdict for one in replay.requests] == ["diverged"] * 3
    with store.replay(recorded, on_divergence="report") as replay:
        Program(one_less, tools=TOOLS, log_store=store)("task")
    assert [one.kind for one in replay.divergences] == ["missing"]


def test_what_is_missing_is_a_note_on_another_error(store: LogStore) -> None:
    """An error of the program's own goes on its way out, and carries the divergence."""
    recorded = record(Program(two_questions, SCRIPT, tools=TOOLS, log_store=store))

    def fails(tactic: Tactic, task: object) -> object:
        try:
            other_words(tactic, task)
        except BaseException:
            raise KeyError("mine") from None
        return None

    with pytest.raises(KeyError, match="mine") as caught:
        Program(fails, tools=TOOLS, log_store=store).replay(recorded)
    (note,) = caught.value.__notes__
    assert "+And what now?" in note
