"""A fork: the past from the log, one change, then live; what is shared is not billed again."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import (
    EMAIL,
    BudgetExceeded,
    ConfigError,
    Edit,
    LogReadOnly,
    LogStore,
    ReplayDivergence,
    ReplayError,
    ReplayPlace,
    SessionNotFound,
    SessionWasErased,
    SQLiteBackend,
    Tactic,
    TacticCallSession,
    tool,
)  # fmt: skip
from lllm.cli.program import cli
from lllm.cli.render.formats import money
from lllm.events import codec
from lllm.events import model as model_events
from lllm.events.backends.memory import MemoryBackend
from lllm.events.exported_lines import as_jsonl
from lllm.events.statements import append_statement
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, rate_limited, tool_call, tool_calls
from lllm.projections.queries import load_session as loading
from lllm.projections.session.invoke_cost import nanos
from lllm.store.log_store import session_host
from tests.lllm.replay.test_property import Action, outcome, repeatable, replies, tactic_of, tree
from tests.support.replayed import Program, asks, comparable, record

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


@tool(description="Looks something up.")
def look(what: str) -> str:
    """Another one."""
    ran.append(what)
    return f"found {what}"


def asking(tactic: Any, task: object) -> object:
    """One question."""
    return asks(tactic, task)


def twice(tactic: Any, task: object) -> object:
    """Two questions in one dialog."""
    one = tactic.agents["a"]
    one.open()
    one.receive(task)
    first = one.respond().content
    one.receive(f"and then? {first}")
    return [first, one.respond().content]


def noting() -> list[Any]:
    """Two notes and an answer."""
    return [tool_call("note", {"text": "1"}), tool_call("note", {"text": "2"}), "done"]


def both_tools() -> list[Any]:
    """Both tools at once, and an answer."""
    asked = tool_call("note", {"text": "1"}), tool_call("look", {"what": "2"})
    return [tool_calls(*asked), "done"]


class Model:
    """A live model, which remembers what it was asked."""

    def __init__(self, *says: Any) -> None:
        self.says = [*says]
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        return self.says.pop(0)

    @property
    def texts(self) -> list[str]:
        """The last message of each request."""
        return [request.messages[-1].text for request in self.asked]


def payloads(store: LogStore, session_id: str) -> list[model_events.Event]:
    """What the events of a session say."""
    return [codec.decode(event) for event in store.events(session_id)]


def one_of(store: LogStore, session_id: str, kind: type[Any]) -> Any:
    """The only event of a type."""
    [found] = [event for event in payloads(store, session_id) if isinstance(event, kind)]
    return found


def attempts(session: TacticCallSession) -> list[Any]:
    """All attempts of the agent a."""
    calls = session.agent_sessions["a"]
    return [one for call in calls for traces in call.invoke_traces.values() for one in traces]


def seq_of(store: LogStore, session_id: str, type_: str, nth: int = 0) -> Any:
    """The nth event of a type, as it is recorded."""
    return [event for event in store.events(session_id) if event.type == type_][nth]


# -- where


def test_a_fork_at_a_step(store: LogStore) -> None:
    """Before the step all comes from the log and no tool runs; from there on the model is asked,
    and tools do. The fork names its origin, and what they have in common."""
    recorded = record(Program(asking, noting(), tools=[note], log_store=store), tags={"k": "v"})
    ran.clear()
    model = Model(tool_call("note", {"text": "3"}), "other")
    fork = Program(asking, model, tools=[note], log_store=store)
    session = fork.fork(recorded, at=ReplayPlace(step=2), return_session=True, tags={"f": "1"})
    assert (session.delivery, ran) == ("other", ["3"])
    assert model.texts == ["noted 1", "noted 3"]
    started = one_of(store, session.session_id, model_events.SessionStarted)
    last = seq_of(store, recorded, "tool.returned")
    assert started.origin == model_events.Origin(recorded, "fork", at=last.seq)
    assert started.tags == {"k": "v", "f": "1"}
    assert session.session_id in [one.session_id for one in store.list_sessions()]


def test_what_the_past_cost(store: LogStore) -> None:
    """The shared past costs nothing and says what it cost then; what is asked live is billed, to
    the nano-dollar, in the session, in the lists and in the sums."""
    recorded = record(Program(asking, noting(), tools=[note], log_store=store))
    then = [one.price for one in payloads(store, recorded) if hasattr(one, "price")]
    before = nanos(store.export_cost_summary()["total_cost_usd"])
    assert before == sum(one.nanos for one in then) > 0
    fork = Program(asking, Model("other answer"), tools=[note], log_store=store)
    session = fork.fork(recorded, at=ReplayPlace(step=3), return_session=True)
    now = [one.price for one in payloads(store, session.session_id) if hasattr(one, "price")]
    assert [(one.status, one.nanos, one.recorded) for one in now[:2]] == [
        ("free", 0, one.nanos) for one in then[:2]
    ]
    assert (now[2].status, now[2].recorded) == ("priced", None)
    assert nanos(session.total_cost.cost) == now[2].nanos > 0
    after = nanos(store.export_cost_summary()["total_cost_usd"])
    assert after - before == now[2].nanos
    repriced = store.export_cost_summary(prices="current")
    assert nanos(repriced["total_cost_usd"]) == after
    [summary] = store.list_sessions(limit=1)
    assert nanos(summary.total_cost) == now[2].nanos


def test_a_position_and_a_time(store: LogStore) -> None:
    """A position of the log, or a time, is a point, too."""
    recorded = record(Program(twice, ["one", "two"], log_store=store))
    answered = seq_of(store, recorded, "llm.responded")
    moment = dt.datetime.fromtimestamp(answered.time / 1e9 + 1e-5, dt.UTC)
    for at in (answered.position, moment):
        model = Model("new")
        assert Program(twice, model, log_store=store).fork(recorded, at=at) == ["one", "new"]
        assert model.texts == ["and then? one"]
    model = Model("1", "2")
    at = seq_of(store, recorded, "session.started").position
    assert Program(twice, model, log_store=store).fork(recorded, at=at) == ["1", "2"]


def test_before_a_tool(store: LogStore) -> None:
    """A place with a tool is the point before it runs: it runs again, those before it don't."""
    recorded = record(Program(asking, both_tools(), tools=[note, look], log_store=store))
    ran.clear()
    model = Model("other")
    fork = Program(asking, model, tools=[note, look], log_store=store)
    assert fork.fork(recorded, at=ReplayPlace(tool="look")) == "other"
    assert ran == ["2"]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (ReplayPlace(agent="b"), r"has no place \(agent 'b'\); it has \(tactic 'program', agent"),
        (ReplayPlace(step=3), "has no place"),
        (ReplayPlace(), "names more than one place .* and 1 more|more than one place"),
        (ReplayPlace(step=1), "more than one place of session"),
        (ReplayPlace(tool="note"), r"has no place \(tool 'note'\)"),
        (10**9, "had ended by position 1000000000"),
        (0, "had not begun at position 0"),
        ("2001-01-01", "had not begun at 2001"),
        (None, "succeeded, so there is no place where it broke"),
    ],
)
def test_no_such_point(store: LogStore, at: Any, message: str) -> None:
    """A point that is ambiguous, unknown or out of range is one clear error; nothing is written."""
    recorded = record(Program(twice, ["one", "two"], log_store=store))
    head = store.log.head()
    with pytest.raises(ReplayError, match=message):
        Program(twice, log_store=store).fork(recorded, at=at)
    assert store.log.head() == head


def test_bad_input(store: LogStore, tmp_path: Path) -> None:
    """An unknown session, one of another tactic, and what is no point or no edit."""
    recorded = record(Program(twice, ["one", "two"], log_store=store))
    program = Program(twice, log_store=store)
    with pytest.raises(SessionNotFound):
        program.fork("gone")
    with pytest.raises(ReplayError, match="can't be read"):
        program.fork(tmp_path / "gone.jsonl")
    with pytest.raises(TypeError, match="not a bool"):
        program.fork(recorded, at=True)
    with pytest.raises(ValueError, match="nonsense"):
        program.fork(recorded, at="nonsense")
    with pytest.raises(ConfigError, match="edit is an Edit"):
        program.fork(recorded, at=ReplayPlace(respond=2), edit={"model": "x"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give the tactic its log_store"):
        Program(twice).fork(recorded)

    class Other(Program, register=False):
        name = "other"

    with pytest.raises(ReplayError, match="is a call of 'program', not of 'other'"):
        Other(twice, log_store=store).fork(recorded, at=ReplayPlace(respond=2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "changes nothing"),
        ({"model": 5}, r"Edit\(model=...\) is a text"),
        ({"parameters": "hot"}, "is a dict"),
        ({"tool": "note"}, "needs tool_result"),
        ({"tool_result": 1, "message": "x"}, "one of them"),
    ],
)
def test_an_edit_that_can_not_be(given: dict[str, Any], message: str) -> None:
    """What can't be changed is said where it is made."""
    with pytest.raises(ConfigError, match=message):
        Edit(**given)


# -- what is changed


def forked(
    store: LogStore, recorded: str, model: Model, at: Any, edit: Edit, do: Any = twice
) -> TacticCallSession:
    """A fork with one change."""
    program = Program(do, model, tools=[note, look], log_store=store)
    session: TacticCallSession = program.fork(recorded, at=at, edit=edit, return_session=True)
    again = Program(do, tools=[note, look], log_store=store).replay(session.session_id)
    assert again == session.delivery  # the change is made again
    return session


def recorded_twice(store: LogStore) -> str:
    """The session that most of these fork."""
    return record(Program(twice, ["one", "two"], tools=[note, look], log_store=store))


def test_another_message(store: LogStore) -> None:
    """The user's message is another one, in what is sent and in the log, and stays so."""
    recorded = recorded_twice(store)
    model = Model("new")
    session = forked(store, recorded, model, ReplayPlace(respond=2), Edit(message="why?"))
    assert session.delivery == ["one", "new"]
    [request] = model.asked
    assert [one.text for one in request.messages] == ["You are an agent.", "task", "one", "why?"]
    edited = one_of(store, session.session_id, model_events.SessionEdited)
    assert (edited.step, edited.message, edited.model) == (1, "why?", None)
    first = Model("a", "b")
    session = forked(store, recorded, first, ReplayPlace(respond=1), Edit(message="other"))
    assert first.texts == ["other", "and then? a"]


def test_another_result_of_a_tool(store: LogStore) -> None:
    """The tool does not run, the model is told another result, and the log says so."""
    recorded = record(Program(asking, noting(), tools=[note, look], log_store=store))
    ran.clear()
    model = Model("new")
    edit = Edit(tool_result={"n": 5})
    session = forked(store, recorded, model, ReplayPlace(step=3), edit, asking)
    assert (session.delivery, model.texts, ran) == ("new", ['{"n":5}'], [])
    tools = session.agent_sessions["a"][0].interrupts
    assert [one.told for tools in tools.values() for one in tools] == ["noted 1", '{"n":5}']
    assert one_of(store, session.session_id, model_events.SessionEdited).tool == 2


def test_the_result_of_one_of_several_tools(store: LogStore) -> None:
    """Which tool is named where the answer asked for several; one that failed then, succeeds."""
    recorded = record(Program(asking, both_tools(), tools=[note, look], log_store=store))
    at = ReplayPlace(step=2)
    with pytest.raises(ReplayError, match=r"there are: note \(.*\), look \(.*\). Name one"):
        forked(store, recorded, Model(), at, Edit(tool_result="x"), asking)
    with pytest.raises(ReplayError, match="tool 'gone'"):
        forked(store, recorded, Model(), at, Edit(tool_result="x", tool="gone"), asking)
    with pytest.raises(ReplayError, match="there are: none"):
        forked(store, recorded, Model(), ReplayPlace(step=1), Edit(tool_result="x"), asking)
    ran.clear()
    model = Model("new")
    forked(store, recorded, model, at, Edit(tool_result="x", tool="note"), asking)
    assert [one.text for one in model.asked[0].messages[-2:]] == ["x", "found 2"]
    place = ReplayPlace(tool="look")
    model = Model("new")
    forked(store, recorded, model, place, Edit(tool_result="y", tool="look"), asking)
    assert [one.text for one in model.asked[0].messages[-2:]] == ["noted 1", "y"]
    assert ran == []


def test_another_model(store: LogStore) -> None:
    """The agent asks the other model from there on, and its answers are priced as that one's."""
    recorded = recorded_twice(store)
    model = Model("new")
    session = forked(store, recorded, model, ReplayPlace(respond=2), Edit(model="gpt-4o"))
    assert [request.model for request in model.asked] == ["gpt-4o"]
    assert [one.asked for one in attempts(session)] == ["gpt-4o-mini", "gpt-4o"]
    rates = [payload.price.rates for payload in payloads(store, session.session_id)
             if isinstance(payload, model_events.LLMResponded)]  # fmt: skip
    assert rates[0] == {}
    assert float(rates[1]["input"]) == 2.5e-6


def test_other_parameters(store: LogStore, tmp_path: Path) -> None:
    """Parameters are added to those that there are; a secret among them is not written."""
    recorded = record(Program(twice, ["1", "2"], log_store=store, model_args={"top_p": 0.5}))
    model = Model("new")
    fork = Program(twice, model, log_store=store, model_args={"top_p": 0.5})
    edit = Edit(parameters={"temperature": 0.1, "api_key": "sk-123456789012345678901234"})
    session = fork.fork(recorded, at=ReplayPlace(respond=2), edit=edit, return_session=True)
    [request] = model.asked
    assert request.params["top_p"] == 0.5
    assert request.params["temperature"] == 0.1
    assert b"sk-1234" not in b"".join(event.data for event in store.events(session.session_id))
    again = Program(twice, log_store=store, model_args={"top_p": 0.5})
    assert again.replay(session.session_id) == session.delivery
    file = tmp_path / "fork.jsonl"  # which holds the other definition, too
    file.write_text(store.export_session(session.session_id, "jsonl"))
    assert again.replay(file) == session.delivery


def test_an_edit_is_redacted() -> None:
    """What the store's `redact` cuts from messages is cut from a changed one, and a replay of the
    fork is the same all the same."""
    with LogStore(MemoryBackend(), redact=[EMAIL]) as store:
        recorded = recorded_twice(store)
        model = Model("new")
        edit = Edit(message="mail me at ann@example.org", prompt="Mail ann@example.org.")
        session = forked(store, recorded, model, ReplayPlace(respond=2), edit)
        assert model.texts == ["mail me at ann@example.org"]
        written = b"".join(event.data for event in store.events(session.session_id))
        assert b"ann@example" not in written
        assert b"mail me at" in written


def test_another_prompt(store: LogStore) -> None:
    """The system prompt is another one from there on, also in dialogs that begin later."""

    def three(tactic: Any, task: object) -> object:
        return [*twice(tactic, task), asks(tactic, "last", alias="other")]  # type: ignore[misc]

    recorded = record(Program(three, ["1", "2", "3"], tools=[note, look], log_store=store))
    model = Model("new", "newer")
    at = ReplayPlace(respond=2)
    session = forked(store, recorded, model, at, Edit(prompt="Be {short}."), three)
    assert session.delivery == ["1", "new", "newer"]
    systems = [request.messages[0].text for request in model.asked]
    assert systems == ["Be {short}.", "Be {short}."]
    assert [one.text for one in model.asked[0].messages[1:]] == ["task", "1", "and then? 1"]
    model = Model("new", "newer")
    forked(store, recorded, model, at, Edit(prompt=""), three)
    assert model.asked[0].messages[0].text == "task"


def test_a_message_that_is_none(store: LogStore) -> None:
    """At a point that answers the result of a tool there is no message of the user to change."""
    recorded = record(Program(asking, noting(), tools=[note, look], log_store=store))
    head = store.log.head()
    with pytest.raises(ReplayError, match="the result of a tool, which tool_result changes"):
        forked(store, recorded, Model(), ReplayPlace(step=2), Edit(message="x"), asking)
    assert store.log.head() == head


def test_a_point_that_is_never_reached(store: LogStore) -> None:
    """Code that does not come to the point is a divergence: the edit was not made."""
    recorded = recorded_twice(store)
    fork = Program(asking, tools=[note, look], log_store=store)
    with pytest.raises(ReplayDivergence, match="never came to the point") as caught:
        fork.fork(recorded, at=ReplayPlace(respond=2), edit=Edit(model="gpt-4o"))
    assert (caught.value.place.respond, caught.value.kind) == (2, "missing")


def test_an_edit_at_a_position(store: LogStore) -> None:
    """Where no place is named, the edit is for the turn of the model that comes next."""
    recorded = recorded_twice(store)
    at = seq_of(store, recorded, "agent.succeeded").position
    model = Model("new")
    session = forked(store, recorded, model, at, Edit(message="why?"))
    assert (session.delivery, model.texts) == (["one", "new"], ["why?"])
    at = seq_of(store, recorded, "llm.requested").position
    model = Model("a", "b")
    assert forked(store, recorded, model, at, Edit(message="x")).delivery == ["a", "b"]
    assert model.texts == ["x", "and then? a"]
    at = seq_of(store, recorded, "agent.succeeded", 1).position
    with pytest.raises(ReplayError, match="no agent was asked"):
        forked(store, recorded, model, at, Edit(message="x"))


def test_an_edit_between_attempts(store: LogStore) -> None:
    """The turn that comes next may be another attempt, or the first of an agent that has begun."""
    script = [rate_limited(), "one"]
    recorded = record(Program(asking, script, tools=[note, look], log_store=store))
    for type_, states in (("llm.failed", ["failure", "success"]), ("agent.started", ["success"])):
        model = Model("new")
        at = seq_of(store, recorded, type_).position
        session = forked(store, recorded, model, at, Edit(message="x"), asking)
        assert model.texts == ["x"]
        assert [one.state for one in attempts(session)] == states


def test_a_tool_that_did_not_run(store: LogStore) -> None:
    """The result of a tool that was refused, or whose earlier result stood for it, is none that
    could be another one."""
    for script in (
        [tool_call("note", "no json"), "done"],
        [tool_call("note", {"text": "1"}), tool_call("note", {"text": "1"}), "done"],
    ):
        recorded = record(Program(asking, script, tools=[note, look], log_store=store))
        at = ReplayPlace(step=len(script))
        with pytest.raises(ReplayError, match="it did not run"):
            forked(store, recorded, Model(), at, Edit(tool_result="x"), asking)


def test_an_edit_of_a_session_that_begins_later(store: LogStore) -> None:
    """Where the next turn is in a session below that has not begun, it has to be named."""

    class Sub(Program, register=False):
        name = "sub"

    def do(tactic: Any, task: object) -> object:
        return tactic.sub(task)

    def made(script: Any) -> Program:
        program = Program(do, script, log_store=store)
        vars(program)["sub"] = Sub(asking, script, log_store=store)
        return program

    recorded = record(made(["one"]))
    at = seq_of(store, recorded, "session.started").position
    with pytest.raises(ReplayError, match=r"begins later, \(tactic 'sub', child 1 .*Name it"):
        made(Model()).fork(recorded, at=at, edit=Edit(message="x"))
    edit = Edit(message="x")
    assert made(Model("new")).fork(recorded, at=ReplayPlace(tactic="sub"), edit=edit) == "new"


# -- the past


def test_the_past_is_strict(store: LogStore) -> None:
    """Code that asks something else before the point diverges; it may go on with what was."""
    recorded = recorded_twice(store)
    at = ReplayPlace(respond=2)
    other = {"tools": [note, look], "log_store": store, "system_prompt": "Other."}
    with pytest.raises(ReplayDivergence, match="system prompt"):
        Program(twice, **other).fork(recorded, at=at)  # type: ignore[arg-type]
    model = Model("new")
    fork = Program(twice, model, **other)  # type: ignore[arg-type]
    assert fork.fork(recorded, at=at, on_divergence="report") == ["one", "new"]
    assert len(model.asked) == 1
    model = Model("a", "b")
    fork = Program(twice, model, **other)  # type: ignore[arg-type]
    assert fork.fork(recorded, at=at, on_divergence="live") == ["a", "b"]


def test_a_fork_of_a_fork(store: LogStore) -> None:
    """The changes that a fork made are made again in what is forked or replayed from it; the past
    of both is free, and says what it cost first."""
    recorded = record(Program(asking, noting(), tools=[note, look], log_store=store))
    first = forked(
        store, recorded, Model(tool_call("look", {"what": "x"}), "one"), ReplayPlace(step=2),
        Edit(tool_result="other", model="gpt-4o", prompt="Be brief."), asking,
    )  # fmt: skip
    model = Model("two")
    second = forked(
        store, first.session_id, model, ReplayPlace(step=3), Edit(tool_result="y"), asking
    )
    assert (second.delivery, model.texts) == ("two", ["y"])
    assert [one.text for one in model.asked[0].messages][:4] == ["Be brief.", "task", "", "other"]
    assert [request.model for request in model.asked] == ["gpt-4o"]
    was = [one.cost.cost for one in attempts(store.load_session(recorded))]
    asked = [one.cost.cost for one in attempts(first)]
    prices = [one.price for one in payloads(store, second.session_id) if hasattr(one, "price")]
    assert [one.recorded for one in prices] == [nanos(was[0]), nanos(asked[1]), None]
    assert nanos(second.total_cost.cost) == prices[2].nanos
    started = one_of(store, second.session_id, model_events.SessionStarted)
    assert started.origin.session == first.session_id
    for session in (first, second):
        program = Program(asking, tools=[note, look], log_store=store)
        again = program.replay(session.session_id, return_session=True)
        assert again.delivery == session.delivery
        told = [comparable([*store.events(one.session_id)]) for one in (session, again)]
        assert told[0] == told[1]


def test_a_budget_counts_the_past(store: LogStore) -> None:
    """The past comes out of a budget as then, in a fork of a fork, too; a fork may have another."""

    def spending(tactic: Any, _: object) -> object:
        return [asks(tactic, "x", alias=str(number)) for number in range(4)]

    probe = record(Program(spending, ["y"] * 4, log_store=store))
    one = store.load_session(probe).total_cost.cost / 4
    recorded = record(Program(spending, ["y"] * 4, log_store=store), budget_usd=2.5 * one)
    assert store.load_session(recorded).state == "failure"
    program = Program(spending, log_store=store)
    with pytest.raises(BudgetExceeded):
        program.fork(recorded)
    broken = store.list_sessions(limit=1)[0].session_id
    model = Model("new")
    with pytest.raises(BudgetExceeded):
        Program(spending, Model(), log_store=store).fork(broken)
    session = Program(spending, model, log_store=store).fork(
        broken, budget_usd=10 * one, return_session=True
    )
    assert session.delivery == ["y", "y", "y", "new"]
    assert nanos(session.total_cost.cost) == nanos(one)


def test_children_and_threads(store: LogStore) -> None:
    """Sessions below come from the log where they had ended, go on where they had not, and are
    new where they had not begun; threads may come in another order."""

    class Sub(Program, register=False):
        name = "sub"

    def many(tactic: Any, _: object) -> object:
        return [*tactic.sub.bcall(["1", "2", "3"], max_workers=3), tactic.sub("4")]

    def made(script: Any) -> Program:
        program = Program(many, script, log_store=store)
        vars(program)["sub"] = Sub(asking, script, log_store=store)
        return program

    recorded = record(made(lambda request: f"then {request.messages[-1].text}"))
    children = store.load_session(recorded).sub_tactic_sessions["sub"]
    answered = {
        one.task: seq_of(store, one.session_id, "llm.responded").position for one in children
    }
    at = sorted(answered.values())[1]  # two of the three that run beside each other
    asked: list[str] = []

    def live(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return f"now {request.messages[-1].text}"

    session = made(live).fork(recorded, at=at, return_session=True)
    past = {task for task, position in answered.items() if position <= at}
    assert session.delivery == [
        f"then {task}" if task in past else f"now {task}" for task in ("1", "2", "3", "4")
    ]
    assert sorted(asked) == sorted({"1", "2", "3", "4"} - past)
    for child in session.sub_tactic_sessions["sub"]:
        origin = one_of(store, child.session_id, model_events.SessionStarted).origin
        if child.task in past:
            assert (origin.mode, child.total_cost.cost) == ("fork", 0)
        else:
            assert child.total_cost.cost > 0
        if child.task == "4":
            assert origin is None


def test_a_step_of_a_child(store: LogStore) -> None:
    """A place may be in a session below."""

    class Sub(Program, register=False):
        name = "sub"

    def do(tactic: Any, _: object) -> object:
        return [asks(tactic, "before"), tactic.sub("x"), asks(tactic, "after", alias="2")]

    def made(script: Any) -> Program:
        program = Program(do, script, log_store=store)
        vars(program)["sub"] = Sub(twice, script, log_store=store)
        return program

    recorded = record(made(lambda request: f"re {request.messages[-1].text}"))
    model = Model("new", "last")
    at = ReplayPlace(tactic="sub", respond=2)
    session = made(model).fork(recorded, at=at, edit=Edit(message="why?"), return_session=True)
    assert session.delivery == ["re before", ["re x", "new"], "last"]
    assert model.texts == ["why?", "after"]


def test_within_a_tool(store: LogStore) -> None:
    """A point within what a tool does: the tool runs again, and what it had from models and
    sub-tactics comes from the log up to there. Behind the tool, it is left out as a whole."""

    class Sub(Program, register=False):
        name = "sub"

    def made(script: Any) -> Program:
        @tool(name="delegate", description="Has others do it.")
        def delegate(text: str) -> str:
            ran.append(text)
            first = sub(text)
            return f"{first}, {asks(running[0], 'helped', agent='b')}"

        running: list[Any] = []

        def do(tactic: Any, task: object) -> object:
            running.append(tactic)
            nonlocal sub
            sub = tactic.sub
            return asks(tactic, task)

        sub: Any = None
        program = Program(do, script, "a", "b", tools=[delegate], log_store=store)
        vars(program)["sub"] = Sub(twice, script, log_store=store)
        return program

    def then(request: Request) -> Any:
        said = request.messages[-1].text
        return tool_call("delegate", {"text": "x"}) if said == "task" else f"<{said[:9]}>"

    recorded = record(made(then))
    ran.clear()
    for at, asked, again in (
        (ReplayPlace(tactic="sub", respond=2), ["and then? <x>", "helped", "result"], ["x"]),
        (ReplayPlace(agent="b"), ["helped", "result"], ["x"]),
        (ReplayPlace(agent="a", step=2), ["result"], []),
    ):
        model = Model(*["new"] * len(asked))
        session = made(model).fork(recorded, at=at, return_session=True)
        assert session.delivery == "new"
        assert [*model.texts[:-1], "result"] == asked
        assert ran == again
        prices = [price for _, price in billed(store, session.session_id)]
        assert sum(price > 0 for price in prices) == len(asked)
        ran.clear()


def test_on_an_event_loop(store: LogStore) -> None:
    """`afork` does the same; tasks beside each other go on where each of them was."""

    async def both(tactic: Any, _: object) -> object:
        barrier = asyncio.Barrier(2)

        async def one(name: str) -> str:
            agent = tactic.agents[name]
            agent.open()
            agent.receive(f"I am {name}")
            first = await agent.arespond()
            await barrier.wait()
            agent.receive("more")
            return f"{first.content} {(await agent.arespond()).content}"

        return await asyncio.gather(one("a"), one("b"))

    recorded = record(Program(both, lambda _: "then", "a", "b", log_store=store))
    fork = Program(both, lambda _: "now", "a", "b", log_store=store)
    at = ReplayPlace(agent="b", respond=2)
    second = [event.position for event in store.events(recorded) if event.type == "llm.responded"]
    told = asyncio.run(fork.afork(recorded, at=at))
    assert told[1] == "then now"
    assert asyncio.run(fork.afork(recorded, at=second[1])) == ["then now", "then now"]
    session = asyncio.run(fork.afork(recorded, at=at, return_session=True))
    assert isinstance(session, TacticCallSession)


def test_forks_beside_each_other(store: LogStore) -> None:
    """Forks run beside each other, and beside a call of the tactic, each with its own past; a
    tactic that is not async runs in a thread."""
    recorded = recorded_twice(store)

    async def main() -> list[Any]:
        program = Program(twice, lambda _: "now", tools=[note, look], log_store=store)
        return await asyncio.gather(
            program.afork(recorded, at=ReplayPlace(respond=2)),
            program.afork(recorded, at=ReplayPlace(respond=1), return_session=True),
            program.acall("task"),
            program.afork(recorded, at=ReplayPlace(respond=2), edit=Edit(message="why?")),
        )

    first, second, third, fourth = asyncio.run(main())
    assert (first, second.delivery) == (["one", "now"], ["now", "now"])
    assert (third, fourth) == (["now", "now"], ["one", "now"])


def test_two_agents_at_work(store: LogStore) -> None:
    """An edit at a position where several agents are at work needs the place."""

    async def both(tactic: Any, _: object) -> object:
        async def one(name: str) -> str:
            agent = tactic.agents[name]
            agent.open()
            agent.receive(f"I am {name}")
            return str((await agent.arespond()).content)

        return await asyncio.gather(one("a"), one("b"))

    recorded = record(Program(both, lambda _: "then", "a", "b", log_store=store))
    at = seq_of(store, recorded, "llm.requested", 1).position
    program = Program(both, lambda _: "now", "a", "b", log_store=store)
    with pytest.raises(ReplayError, match=r"2 agent calls .* were at work: .*agent 'a'.*agent 'b'"):
        program.fork(recorded, at=at, edit=Edit(message="x"))


def test_an_exported_file(store: LogStore, tmp_path: Path) -> None:
    """A fork of an exported session needs no store; a position is the number of a line."""
    recorded = record(Program(twice, ["one", "two"], log_store=store))
    file = tmp_path / "session.jsonl"
    file.write_text(store.export_session(recorded, "jsonl"))
    at = ReplayPlace(respond=2)
    session = Program(twice, Model("new")).fork(file, at=at, return_session=True)
    assert session.delivery == ["one", "new"]
    assert session.total_cost.cost > 0
    lines = file.read_text().splitlines()
    number = next(at for at, line in enumerate(lines, 1) if '"llm.responded"' in line)
    assert Program(twice, Model("new"), log_store=store).fork(file, at=number) == ["one", "new"]


def test_what_the_command_line_says(tmp_path: Path) -> None:
    """Lists mark forks, `lllm show` says what a fork is of and what its past cost, and
    `lllm events` what was changed. So it is after a rebuild."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        recorded = recorded_twice(store)
        session = forked(store, recorded, Model("new"), ReplayPlace(respond=2), Edit(message="?"))
        for _ in range(2):
            told = {one.session_id: one.forks for one in store.list_sessions()}
            assert told == {recorded: None, session.session_id: recorded}
            assert store.rebuild(check=True).difference is None
            store.rebuild()
        first = store.load_session(recorded)
        cost = attempts(first)[0].cost.cost
        assert nanos(session.recorded_cost) == nanos(cost)
        assert first.recorded_cost == 0
        at = seq_of(store, recorded, "llm.requested", 1).seq - 1

    def said(*command: str) -> str:
        return CliRunner().invoke(cli, [*command, "--store", str(path)]).output

    assert said("ls").count(f"fork of {recorded}") == 1
    shown = said("show", session.session_id)
    assert f"fork of {recorded} · from behind its event {at} · the past cost {money(cost)}" in shown
    assert f"is not paid for again. It cost ${cost:.9f}".rstrip("0") in shown
    assert "✎ changed here: message ?" in shown
    assert "fork of" not in said("show", recorded)
    assert "changed here" not in said("show", recorded)
    assert "session.edited     step=1 message=?" in said("events", session.session_id)


def test_an_erased_session(store: LogStore, tmp_path: Path) -> None:
    """What was erased is neither forked nor compared."""
    recorded = recorded_twice(store)
    erased = model_events.SessionErased(
        about=recorded, by="somebody", reason="asked for", events=1, tactic_path="program",
        state="success", started=1, salt=b"s" * 32,
    )  # fmt: skip
    exported = store.export_session(recorded, "jsonl")
    append_statement(store.log, f"erased-{recorded}", erased, salt=erased.salt)
    file = tmp_path / "erased.jsonl"
    statement = as_jsonl([*store.log.read(stream=f"erased-{recorded}")])
    file.write_text(exported + statement)
    with pytest.raises(ReplayError, match="it was erased by somebody"):
        Program(twice, log_store=store).fork(file, at=ReplayPlace(respond=2))
    with pytest.raises(ReplayError, match=r"can't be compared\. .* erased by somebody"):
        store.diff(file, file)
    with pytest.raises(SessionWasErased, match="by somebody because: asked for"):
        store.diff(recorded, file)


def test_a_model_of_another_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is asked follows from the name of the other model, as in a configuration."""
    monkeypatch.setenv("OPENAI_BASE_URL", "")

    class Named(Tactic, register=False):
        name = "named"

        def call(self, _: object) -> object:
            agent = self.agents["a"]
            changed = agent.with_model("groq/llama-3.3-70b")
            return [agent.config.provider, changed.provider, changed.model_name, changed.name]

    config = {"agent_configs": [{"name": "a", "model_name": "gpt-4o"}]}
    with LogStore(MemoryBackend()) as store:
        told = Named(config, log_store=store)("task")
    assert told == ["openai", "groq", "groq/llama-3.3-70b", "a"]


def test_a_read_only_store(tmp_path: Path) -> None:
    """A fork is written, so the store has to be; a file is forked elsewhere."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        recorded = recorded_twice(store)
    with LogStore(SQLiteBackend(path, read_only=True)) as store:
        program = Program(twice, log_store=store)
        with pytest.raises(LogReadOnly, match="no replay or fork can be recorded"):
            program.fork(recorded, at=ReplayPlace(respond=2))


# -- whatever a tactic does


def told_by_request(seed: int, given_replies: list[Reply]) -> Any:
    """What the model says: told by what it is asked alone, so that a fork is told the same."""

    def choose(request: Request) -> Reply:
        return random.Random(f"{seed}{request.agent}{request.messages!r}").choice(given_replies)

    return choose


def plain(value: Any) -> Any:
    """Events without what is up to chance and to the stack, siblings in any order."""
    if isinstance(value, dict):
        chance = ("traceback", "wait")
        return {name: plain(one) for name, one in value.items() if name not in chance}
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], list):
        return [plain(value[0]), sorted((plain(one) for one in value[1]), key=repr)]
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def billed(store: LogStore, session_id: str) -> list[tuple[int, int]]:
    """Where each attempt of a session and of those below it ended, and what it cost."""
    events = loading.read_sessions(store.log, session_host(store).reader.find(session_id))
    prices = [(event.position, getattr(codec.decode(event), "price", None)) for event in events]
    return [(position, price.nanos or 0) for position, price in prices if price is not None]


@settings(max_examples=8, deadline=None)
@given(
    repeatable, st.lists(replies, min_size=1, max_size=6), st.integers(0, 5), st.booleans(),
    st.sampled_from([1, 3]), st.floats(0, 1),
)  # fmt: skip
def test_a_fork_goes_on_anywhere(
    task: list[Action], given_replies: list[Reply], seed: int, on_loop: bool, parallel: int,
    where: float,
) -> None:  # fmt: skip
    """Whatever a tactic does, and wherever it is forked: where the model says the same as then, the
    fork delivers the same, writes the same, and costs exactly what was not answered by then. So it
    is for a session that broke there."""
    with LogStore(MemoryBackend()) as store, TemporaryDirectory() as folder:

        def made() -> Any:
            script = told_by_request(seed, given_replies)
            return tactic_of(store, script, on_loop=on_loop, parallel=parallel)

        told = outcome(lambda: made()(task))
        recorded = store.list_sessions(limit=1)[0].session_id
        whole = plain(tree(store, recorded))
        events = loading.read_sessions(store.log, session_host(store).reader.find(recorded))
        at = events[int(where * (len(events) - 2))].position
        kept = {(event.stream, event.seq) for event in events if event.position <= at}
        lines = store.export_session(recorded, "jsonl").splitlines(keepends=True)
        file = Path(folder, "broken.jsonl")
        read = [(line, json.loads(line)) for line in lines]
        file.write_text("".join(
            line for line, one in read
            if (one["stream"], one["seq"]) in kept or one["type"] == "agent.defined"
        ))  # fmt: skip
        later = sum(nanos for position, nanos in billed(store, recorded) if position > at)
        for opened in (store.fork(recorded, at=at), store.fork(file)):
            tactic = made()
            with opened as fork:
                assert outcome(lambda: tactic(task)) == told  # noqa: B023 - called at once
            assert not fork.divergences
            assert fork.session_id is not None
            assert plain(tree(store, fork.session_id)) == whole
            assert sum(nanos for _, nanos in billed(store, fork.session_id)) == later
            assert store.diff(recorded, fork.session_id).same
