"""The loop of `respond()`: attempts, retries, tools, and what is durable when."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lllm import AgentError, InvokeError, LogStore, ParseError, Prompt, SQLiteBackend, tool
from lllm.agents.agent import Agent
from lllm.agents.dialog import Message
from lllm.events import model
from lllm.events.envelope import Recorded
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import (
    Reply,
    ScriptedInvoker,
    bad_request,
    rate_limited,
    server_error,
    timed_out,
    tool_call,
    tool_calls,
)
from lllm.projections.session.call_session import AgentCallSession, TacticCallSession
from tests.support.runs import Asking, Doing, WatchedLog, called, config, full_disk, payloads, types


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """An empty store."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


@tool(description="Look a word up.")
def lookup(word: str) -> dict[str, str]:
    """A tool that finds everything."""
    return {"word": word}


@tool(description="Never works.")
def broken() -> str:
    """A tool that raises."""
    raise KeyError("no such shelf")


def only(session: TacticCallSession) -> AgentCallSession:
    """The one agent call of a session."""
    ((call,),) = session.agent_sessions.values()
    return call


class Remembering:
    """A script that keeps the requests it answers."""

    def __init__(self, *replies: Reply) -> None:
        self.requests: list[Request] = []
        self._replies = iter(replies)

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        return next(self._replies)


# -- answers


def test_an_answer_says_what_it_is_and_what_it_cost(store: LogStore) -> None:
    """respond() returns the text, with the usage and the cost of the attempt it came from."""
    got: list[Message] = []

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive(self.task)
        got.append(agent.respond())
        return None

    session = called(Doing(do, config(["hello"]), log_store=store))
    (message,) = got
    assert (message.role, message.content, message.parsed) == ("assistant", "hello", None)
    assert message.tool_calls == ()
    assert message.usage == model.Usage(input=1, output=2)
    assert message.cost is not None
    assert message.cost.cost == session.total_cost.cost > 0


def test_a_call_says_who_asked_and_what_it_delivered(store: LogStore) -> None:
    """An AgentCallSession has its agent's name, state, delivery, cost and one trace an attempt."""
    call = only(called(Asking(config([server_error(), "hello"]), log_store=store)))
    assert (call.agent_name, call.state, call.delivery) == ("a", "success", "hello")
    assert [trace.state for trace in call.invoke_traces[1]] == ["failure", "success"]
    assert call.invoke_traces[1][1].usage == model.Usage(input=1, output=2)
    assert call.cost == call.invoke_traces[1][1].cost + call.invoke_traces[1][0].cost
    assert call.cost.total_tokens == 3


# -- answers that can't be taken


def asking_for_a_number(self: Doing) -> object:
    """Ask for a number, by way of a parser that takes nothing else."""

    def parser(text: str) -> object:
        if not text.isdigit():
            raise ParseError(f"{text!r} is no number")
        return int(text)

    agent = self.agents["a"]
    agent.open()
    agent.receive_prompt(Prompt("count", "How many {what}?", parser=parser), {"what": self.task})
    return agent.respond().parsed


def test_the_model_is_told_why_its_answer_did_not_parse(store: LogStore) -> None:
    """An answer that does not parse is told to the model and counted; the next one delivers."""
    script = Remembering("many", "some", "7")
    session = called(Doing(asking_for_a_number, config(script), log_store=store), "apples")
    call = only(session)
    assert session.delivery == call.delivery == 7
    assert call.exception_retries == {1: ["'many' is no number"], 2: ["'some' is no number"]}
    assert (call.exception_retries_count, call.llm_recalls_count) == (2, 0)
    said = [message.text for message in script.requests[-1].messages]
    assert said == [
        "How many apples?",
        "many",
        "'many' is no number",
        "some",
        "'some' is no number",
    ]
    added = [p for p in payloads(store, session.session_id) if isinstance(p, model.MessageAdded)]
    assert [one.why for one in added] == ["user", "retry", "retry"]
    assert (added[0].prompt, added[0].prompt_args) == ("count", {"what": "apples"})


def test_spent_retries_are_an_agent_error(store: LogStore) -> None:
    """After max_exception_retry the agent gives up: AgentError, caused by the last ParseError."""
    tactic = Doing(
        asking_for_a_number, config(["a", "b", "c"], max_exception_retry=1), log_store=store
    )
    with pytest.raises(AgentError, match=r"was accepted in 2 tries.*'b'") as caught:
        tactic("apples")
    assert isinstance(caught.value.__cause__, ParseError)
    (summary,) = store.list_sessions()
    call = only(store.load_session(summary.session_id))
    assert (call.state, call.exception_retries_count) == ("failure", 1)
    assert call.error is not None
    assert call.error.type == "lllm.events.errors.AgentError"
    assert len(call.invoke_traces) == 2


def test_a_bug_in_a_parser_is_raised(store: LogStore) -> None:
    """What a parser raises that is no ParseError or ValueError is a bug, and not retried."""

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive_prompt(Prompt("p", "?", parser=lambda text: {}[text]))
        return agent.respond().parsed

    with pytest.raises(KeyError):
        Doing(do, config(["a"]), log_store=store)("x")


# -- calls that fail


def test_a_failed_call_is_made_again(store: LogStore) -> None:
    """429, 5xx and timeouts are tried again, the wait and the reason are recorded."""
    script = [rate_limited(0.01), server_error(503), timed_out(), "hello"]
    session = called(Asking(config(script), log_store=store))
    call = only(session)
    assert call.delivery == "hello"
    assert call.llm_recalls_count == 3
    assert [len(reasons) for reasons in call.llm_recalls.values()] == [3]
    events = payloads(store, session.session_id)
    retries = [p for p in events if isinstance(p, model.RetryScheduled)]
    assert [(p.kind, p.attempt, p.limit) for p in retries] == [
        ("llm_recall", n, 3) for n in (1, 2, 3)
    ]
    assert retries[0].wait == 10_000_000
    failures = [p for p in events if isinstance(p, model.LLMFailed)]
    assert [(p.error.status, p.retry_after) for p in failures] == [
        (429, 10_000_000), (503, None), (None, None)
    ]  # fmt: skip
    asked = [p for p in events if isinstance(p, model.LLMRequested)]
    assert [(p.step, p.attempt, p.request) for p in asked] == [(1, n, n) for n in (1, 2, 3, 4)]
    assert len({p.digest for p in asked}) == 1


def test_the_wait_is_that_of_the_provider(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent waits as the provider says, else twice as long each time, with jitter."""
    waits: list[float] = []
    monkeypatch.setattr("lllm.agents.effects.time.sleep", waits.append)
    monkeypatch.setattr(random, "uniform", lambda low, _: low)
    script = [server_error(), rate_limited(7), server_error(), server_error(), "ok"]
    called(Asking(config(script, max_llm_recall=9, recall_wait=4), log_store=store))
    assert waits == [2.0, 7.0, 8.0, 16.0]
    waits.clear()
    script = [*[server_error()] * 9, "ok"]
    called(Asking(config(script, max_llm_recall=9, recall_wait=40), log_store=store))
    assert max(waits) == 30.0


@pytest.mark.parametrize(("asked", "longest"), [(3600, None), (2, 1), (61, 60.5)])
def test_a_wait_beyond_the_limit_is_not_waited_for(
    store: LogStore, monkeypatch: pytest.MonkeyPatch, asked: float, longest: float | None
) -> None:
    """A provider that asks for more than max_retry_wait (60 s unless set) ends the agent's call,
    which says so; nothing is waited for or scheduled."""
    waits: list[float] = []
    monkeypatch.setattr("lllm.agents.effects.time.sleep", waits.append)
    limit = {} if longest is None else {"max_retry_wait": longest}
    tactic = Asking(config([rate_limited(asked), "never"], **limit), log_store=store)
    with pytest.raises(AgentError, match=r"asks to wait .* max_retry_wait") as caught:
        tactic("x")
    assert f"wait {asked:,.0f} s" in str(caught.value)
    assert isinstance(caught.value.__cause__, InvokeError)
    assert waits == []
    assert types(store).count("llm.failed") == 1
    assert "retry.scheduled" not in types(store)


def test_backoff_of_our_own_stays_below_the_limit(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the provider does not say how long, waits grow up to max_retry_wait."""
    waits: list[float] = []
    monkeypatch.setattr("lllm.agents.effects.time.sleep", waits.append)
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    script = [*[server_error()] * 4, "ok"]
    given = config(script, max_llm_recall=9, recall_wait=1, max_retry_wait=3)
    assert Asking(given, log_store=store)("x") == "ok"
    assert waits == [1.0, 2.0, 3.0, 3.0]


def test_a_wait_in_the_past_is_no_wait(store: LogStore) -> None:
    """A provider that asks to wait until a moment gone by is asked again at once."""
    assert Asking(config([rate_limited(-3), "ok"]), log_store=store)("x") == "ok"


def test_spent_recalls_are_an_agent_error(store: LogStore) -> None:
    """After max_llm_recall the agent gives up: AgentError, caused by the last InvokeError."""
    tactic = Asking(config([server_error()] * 5, max_llm_recall=2), log_store=store)
    with pytest.raises(AgentError, match="could not be reached in 3 calls") as caught:
        tactic("x")
    assert isinstance(caught.value.__cause__, InvokeError)
    assert types(store).count("llm.failed") == 3


def test_what_no_retry_mends_fails_at_once(store: LogStore) -> None:
    """A 400 is raised as InvokeError, without another attempt."""
    with pytest.raises(InvokeError, match="400"):
        Asking(config([bad_request(), "never"]), log_store=store)("x")
    assert types(store).count("llm.requested") == 1
    assert "retry.scheduled" not in types(store)


def test_a_bug_in_an_invoker_is_a_failed_attempt(store: LogStore) -> None:
    """Whatever an invoker raises, or an answer that is none, ends the attempt and is raised."""
    with pytest.raises(ZeroDivisionError):
        Asking(config([ZeroDivisionError("1/0")]), log_store=store)("x")

    class Wrong(ScriptedInvoker):
        def invoke(self, request: Request) -> Answer:
            del request
            return "hello"  # type: ignore[return-value] # that is the point

    given = {"agent_configs": [{"name": "a", "model_name": "m", "invoker": Wrong(["x"])}]}
    with pytest.raises(TypeError, match="returned a str, not an Answer"):
        Asking(given, log_store=store)("x")
    assert types(store).count("llm.failed") == 2


# -- tools


def test_a_tool_is_an_interrupt(store: LogStore) -> None:
    """The tools that an answer asks for run, their results are added, and the model goes on."""
    script = Remembering(
        tool_calls(tool_call("lookup", {"word": "a"}), tool_call("lookup", {"word": "b"})),
        tool_call("lookup", {"word": "c"}),
        "done",
    )
    session = called(Asking(config(script, tools=[lookup]), log_store=store))
    call = only(session)
    assert {step: [t.arguments for t in ran] for step, ran in call.interrupts.items()} == {
        1: [{"word": "a"}, {"word": "b"}],
        2: [{"word": "c"}],
    }
    assert len(call.interrupts) == 2
    first = call.interrupts[1][0]
    assert (first.name, first.state, first.value) == ("lookup", "success", {"word": "a"})
    assert first.told == '{"word":"a"}'
    roles = [(m.role, m.call_id) for m in script.requests[-1].messages]
    assert roles == [
        ("user", None), ("assistant", None), ("tool", "call_1"), ("tool", "call_2"),
        ("assistant", None), ("tool", "call_3"),
    ]  # fmt: skip
    assert script.requests[0].tools[0].name == "lookup"


def test_tools_of_prompts_join_those_of_the_agent(store: LogStore) -> None:
    """The tools of the agent, of its system prompt and of the prompt received may all be used."""

    @tool(description="more")
    def more() -> str:
        return "more"

    @tool(description="most")
    def most() -> str:
        return "most"

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive_prompt(Prompt("p", "Go.", tools=[most]))
        return agent.respond().content

    script = Remembering(tool_calls(tool_call("more"), tool_call("most")), "done")
    system = Prompt("s", "Be.", tools=[more])
    given = config(script, tools=[lookup], system_prompt=system)
    session = called(Doing(do, given, log_store=store))
    assert [t.name for t in script.requests[0].tools] == ["lookup", "more", "most"]
    assert [t.value or t.told for t in only(session).interrupts[1]] == ["more", "most"]


def test_a_tool_that_raises_is_an_answer(store: LogStore) -> None:
    """The model gets the error, the log gets the traceback, and the call goes on."""
    script = Remembering(tool_call("broken"), "sorry")
    session = called(Asking(config(script, tools=[broken]), log_store=store))
    assert session.delivery == "sorry"
    (ran,) = only(session).interrupts[1]
    assert ran.state == "failure"
    assert ran.told == script.requests[1].messages[-1].text == (
        "The tool failed: KeyError: 'no such shelf'"
    )  # fmt: skip
    assert ran.error is not None
    assert 'raise KeyError("no such shelf")' in (ran.error.traceback or "")


@pytest.mark.parametrize(
    ("call", "told", "arguments"),
    [
        (
            tool_call("nothing", {"x": 1}),
            "There is no tool 'nothing'; there are: lookup.",
            {"x": 1},
        ),
        (tool_call("lookup", "{oops"), "The arguments for lookup are wrong", None),
        (tool_call("lookup", {"wrod": "a"}), "It takes: word (required).", {"wrod": "a"}),
        (tool_call("lookup", "[1]"), "The arguments for lookup are wrong", [1]),
        (tool_call("lookup", '{"word": NaN}'), "The arguments for lookup are wrong", ...),
        (tool_call("lookup", '"\ud800"'), "The arguments for lookup are wrong", "\ud800"),
    ],
)
def test_a_wrong_call_is_told_to_the_model(
    store: LogStore, call: model.ToolCall, told: str, arguments: object
) -> None:
    """Malformed arguments and unknown tools are told to the model, not raised; the arguments are
    recorded as far as they are JSON."""
    session = called(Asking(config([call, "sorry"], tools=[lookup]), log_store=store))
    (ran,) = only(session).interrupts[1]
    assert ran.state == "failure"
    assert told in (ran.told or "")
    assert arguments is ... or ran.arguments == arguments


def test_the_same_call_is_not_run_twice(store: LogStore) -> None:
    """The same call with the same arguments in one respond() is not run again; the model is told
    so, and the record says whose result stands."""
    ran: list[object] = []

    @tool(description="count")
    def count(a: int, b: int = 2) -> str:
        ran.append((a, b))
        return f"ran {len(ran)}"

    script = [
        tool_call("count", '{"a": 1, "b": 2}'),
        tool_call("count", '{"b":2,"a":1}'),
        tool_call("count", {"a": 2}),
        "done",
    ]
    session = called(Asking(config(script, tools=[count]), log_store=store))
    assert ran == [(1, 2), (2, 2)]
    again = only(session).interrupts[2][0]
    assert again.repeats == 1
    assert again.told == (
        "This call was made before, with this result, and is not made again: ran 1"
    )
    assert only(session).interrupts[3][0].repeats is None


def test_the_next_respond_may_repeat_a_call(store: LogStore) -> None:
    """Calls are compared within one respond(), not across the dialog."""
    ran: list[int] = []

    @tool(description="count")
    def count() -> int:
        ran.append(1)
        return len(ran)

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive("one")
        agent.respond()
        agent.receive("two")
        agent.respond()
        return len(ran)

    script = [tool_call("count"), "1", tool_call("count"), "2"]
    assert Doing(do, config(script, tools=[count]), log_store=store)("x") == 2


def test_a_tool_that_polls_may_run_again(store: LogStore) -> None:
    """`@tool(repeat=True)` runs as often as the model asks."""
    numbers = itertools.count(1)

    @tool(description="poll", repeat=True)
    def poll() -> int:
        return next(numbers)

    session = called(
        Asking(config([tool_call("poll")] * 3 + ["done"], tools=[poll]), log_store=store)
    )
    assert [ran[0].value for ran in only(session).interrupts.values()] == [1, 2, 3]


def test_a_call_that_failed_may_be_made_again(store: LogStore) -> None:
    """A call that raised has no result that could stand for the next, so it runs again."""
    attempts: list[int] = []

    @tool(description="flaky")
    def flaky() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("try again")
        return "worked"

    session = called(
        Asking(config([tool_call("flaky")] * 2 + ["ok"], tools=[flaky]), log_store=store)
    )
    assert [ran[0].state for ran in only(session).interrupts.values()] == ["failure", "success"]


def test_after_the_last_interrupt_the_model_answers_without_tools(store: LogStore) -> None:
    """After max_interrupt_steps turns with tools the model is asked to answer without them."""
    script = Remembering(
        tool_call("lookup", {"word": "a"}), tool_call("lookup", {"word": "b"}), "done"
    )
    session = called(Asking(config(script, tools=[lookup], max_interrupt_steps=2), log_store=store))
    assert [request.tool_choice for request in script.requests] == [None, None, "none"]
    assert "No more tools" in script.requests[2].messages[-1].text
    assert script.requests[2].messages[-1].role == "user"
    assert script.requests[2].tools == script.requests[0].tools
    events = payloads(store, session.session_id)
    assert [p.tool_choice for p in events if isinstance(p, model.LLMRequested)][-1] == "none"
    assert [p.why for p in events if isinstance(p, model.MessageAdded)] == ["user", "limit"]
    assert session.delivery == "done"


def test_a_model_that_asks_all_the_same_is_refused(store: LogStore) -> None:
    """A model that asks for tools after that is told so, which counts as an answer refused; no tool
    runs."""
    script = Remembering(*[tool_call("lookup", {"word": w}) for w in "abc"], "done")
    given = config(script, tools=[lookup], max_interrupt_steps=1, max_exception_retry=2)
    call = only(called(Asking(given, log_store=store)))
    assert call.delivery == "done"
    assert [ran[0].state for ran in call.interrupts.values()] == ["success", "failure", "failure"]
    assert call.exception_retries_count == 2
    assert script.requests[-1].messages[-1].text.startswith("No more tools")
    stubborn = config(
        [tool_call("lookup", {"word": w}) for w in "abcdef"],
        tools=[lookup], max_interrupt_steps=1, max_exception_retry=2,
    )  # fmt: skip
    with pytest.raises(AgentError, match="asked for tools"):
        Asking(stubborn, log_store=store)("x")


def test_no_interrupts_at_all(store: LogStore) -> None:
    """With max_interrupt_steps=0 no tool ever runs: the first request says so already."""
    script = Remembering(tool_call("lookup", {"word": "a"}), "done")
    given = config(script, tools=[lookup], max_interrupt_steps=0)
    call = only(called(Asking(given, log_store=store)))
    assert script.requests[0].tool_choice == "none"
    assert [ran[0].state for ran in call.interrupts.values()] == ["failure"]


def test_a_model_without_tools_that_asks_for_some_is_stopped(store: LogStore) -> None:
    """A model that goes on inventing tools is refused after the same limits."""
    given = config(lambda _: tool_call("invented"), max_interrupt_steps=3, max_exception_retry=1)
    with pytest.raises(AgentError):
        Asking(given, log_store=store)("x")
    assert types(store).count("llm.requested") == 5


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_limits_are_independent(store: LogStore, steps: int) -> None:
    """Recalls, refused answers and interrupts are counted apart, over the whole respond()."""
    script: list[Reply] = []
    for n in range(steps):
        script += [server_error(), tool_call("lookup", {"word": str(n)})]
    given = config(
        [*script, "done"], tools=[lookup], max_llm_recall=steps, max_interrupt_steps=steps
    )
    call = only(called(Asking(given, log_store=store)))
    assert (call.llm_recalls_count, len(call.interrupts)) == (steps, steps)


# -- what is durable when


def test_which_events_make_which_appends(tmp_path: Path) -> None:
    """Events of one moment are one append: 23 events of a session with a tool, a failure, a retry
    and two answers make ten, and one more writes the definition."""
    log = WatchedLog(tmp_path / "runs.db")

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive_prompt(Prompt("p", "How many?", parser=int))
        agent.respond()
        agent.receive("and more?")
        return agent.respond().parsed

    script = [tool_call("lookup", {"word": "a"}), rate_limited(0.001), "x", "1", "2"]
    given = config(script, tools=[lookup], system_prompt="Count.")
    with LogStore(log) as store:
        Doing(do, given, log_store=store)("x")
    assert log.types() == [
        ["session.started"],
        ["agent.defined"],
        ["dialog.opened", "message.added", "message.added", "agent.started", "llm.requested"],
        ["llm.responded", "tool.called"],
        ["tool.returned", "llm.requested"],
        ["llm.failed", "retry.scheduled"],
        ["llm.requested"],
        ["llm.responded", "llm.refused", "retry.scheduled", "message.added", "llm.requested"],
        ["llm.responded", "agent.succeeded"],
        ["message.added", "agent.started", "llm.requested"],
        ["llm.responded", "agent.succeeded"],
        ["session.succeeded"],
    ]


@pytest.mark.parametrize("on_loop", [False, True])
def test_what_led_to_a_call_is_durable_when_it_begins(tmp_path: Path, on_loop: bool) -> None:
    """Inside a model or a tool, and during a wait, the log ends with the request, the call or the
    retry; when respond() returns, with its success."""
    seen: list[tuple[str, str]] = []
    path = tmp_path / "runs.db"

    def look(where: str) -> None:
        reader = SQLiteBackend(path)
        (*_, last) = reader.read()
        reader.close()
        seen.append((where, last.type))

    @tool(description="look")
    def peek() -> str:
        look("tool")
        return "seen"

    def script(_: Request) -> Reply:
        look("model")
        return replies.pop(0)

    async def acall(agent: Agent) -> None:
        agent.open()
        agent.receive("x")
        await agent.arespond()
        look("caller")

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        if on_loop:
            return acall(agent)
        agent.open()
        agent.receive("x")
        agent.respond()
        look("caller")
        return None

    replies: list[Reply] = [tool_call("peek"), server_error(), "done"]
    with LogStore(SQLiteBackend(path)) as store:
        tactic = Doing(do, config(script, tools=[peek]), log_store=store)
        if on_loop:
            asyncio.run(tactic.acall("x"))
        else:
            tactic("x")
        look("user")
    assert seen == [
        ("model", "llm.requested"),
        ("tool", "tool.called"),
        ("model", "llm.requested"),
        ("model", "llm.requested"),
        ("caller", "agent.succeeded"),
        ("user", "session.succeeded"),
    ]


@pytest.mark.parametrize("on_loop", [False, True])
def test_what_a_failure_brought_is_durable_when_it_is_raised(
    store: LogStore, on_loop: bool
) -> None:
    """Who catches what respond() raises finds its end in the log already."""
    seen: list[str] = []

    async def acall(agent: Agent) -> None:
        with pytest.raises(InvokeError):
            await agent.arespond()
        seen.extend(types(store)[-2:])

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive("x")
        if on_loop:
            return acall(agent)
        with pytest.raises(InvokeError):
            agent.respond()
        seen.extend(types(store)[-2:])
        return None

    Doing(do, config([bad_request()]), log_store=store)("x")
    assert seen == ["llm.failed", "agent.failed"]


@pytest.mark.parametrize("at", ["llm.requested", "tool.called", "retry.scheduled"])
def test_where_the_log_must_be_written_nothing_is_called_without_it(
    tmp_path: Path, at: str
) -> None:
    """With on_error="raise" LogUnavailable is raised before the model or the tool is called, and is
    never taken for a failure of theirs."""
    log = WatchedLog(tmp_path / "runs.db")
    reached: list[str] = []

    @tool(description="t")
    def touch() -> str:
        reached.append("tool.called")
        return "ok"

    def script(_: Request) -> Reply:
        reached.append("llm.requested")
        return replies.pop(0)

    original = log._append

    def failing(events: list[Recorded], *, timeout: float | None) -> object:
        if events[-1].type == at:
            log.error = full_disk()
        return original(events, timeout=timeout)

    log._append = failing  # type: ignore[method-assign, assignment] # it fails from here on
    replies: list[Reply] = [tool_call("touch"), server_error(), "done"]
    store = LogStore(log, on_error="raise")
    with pytest.raises(OSError, match="disk is full"):
        Asking(config(script, tools=[touch]), log_store=store)("x")
    assert (
        reached
        == {
            "llm.requested": [],
            "tool.called": ["llm.requested"],
            "retry.scheduled": ["llm.requested", "tool.called", "llm.requested"],
        }[at]
    )
    store.close()


# -- content once


def test_a_conversation_of_n_turns_costs_n(tmp_path: Path) -> None:
    """n turns make O(n) events and O(n) bytes: no message is written twice."""

    def sizes(turns: int) -> tuple[int, int]:
        log = WatchedLog(tmp_path / f"{turns}.db")

        def do(self: Doing) -> object:
            agent = self.agents["a"]
            agent.open()
            for _ in range(turns):
                agent.receive("x" * 500)
                agent.respond()
            return None

        with LogStore(log) as store:
            Doing(do, config(lambda _: "y" * 500), log_store=store)("x")
        events = [event for events in log.appends for event in events]
        return len(events), sum(len(event.data) for event in events)

    few, many = sizes(10), sizes(100)
    assert many[0] - few[0] == 90 * 5
    assert (many[1] - few[1]) / 90 < few[1] / 10


# -- secrets


def test_credentials_among_the_parameters_are_not_written(store: LogStore) -> None:
    """API keys and headers among model_args reach the model and never the log."""
    script = Remembering("ok")
    given = config(
        script,
        model_args={
            "temperature": 0.5,
            "max_tokens": 5,
            "api_key": "sk-verysecret",
            "extra_headers": {"X-Anything": "verysecret"},
            "extra_body": {"auth": {"X-API-Key": "verysecret", "kept": 1}},
            "response_format": {"properties": {"password": {"type": "string"}}},
        },
    )
    Asking(given, log_store=store)("x")
    assert script.requests[0].params["api_key"] == "sk-verysecret"
    assert not [event for event in store.log.read() if b"verysecret" in event.data]
    (defined,) = [event for event in store.log.read() if event.type == "agent.defined"]
    for kept in (b'"temperature":0.5', b'"max_tokens":5', b'"kept":1', b'{"type":"string"}'):
        assert kept in defined.data


# -- several agents and threads


def test_agents_of_one_call_may_run_in_threads(store: LogStore) -> None:
    """Two agents of one call in two threads share its stream: no hole, no ordinal twice."""

    def ask(agent: Agent) -> str:
        for n in range(10):
            agent.open(str(n))
            agent.receive("x")
            agent.respond()
        return agent.name

    def do(self: Doing) -> object:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(ask, self.agents.values()))

    names = ("a", "b", "c", "d")
    given = config(once_a_tool, *names, tools=[lookup])
    session = called(Doing(do, given, log_store=store))
    recorded = list(store.events(session.session_id))
    assert [event.seq for event in recorded] == list(range(1, len(recorded) + 1))
    events = payloads(store, session.session_id)
    for kind, ordinals in {
        model.LLMRequested: [p.request for p in events if isinstance(p, model.LLMRequested)],
        model.ToolCalled: [p.tool for p in events if isinstance(p, model.ToolCalled)],
        model.DialogOpened: [p.dialog for p in events if isinstance(p, model.DialogOpened)],
        model.AgentStarted: [p.call for p in events if isinstance(p, model.AgentStarted)],
    }.items():
        assert sorted(ordinals) == list(range(1, len(ordinals) + 1)), kind
    assert {len(calls) for calls in session.agent_sessions.values()} == {10}
    assert all(len(c.interrupts) == 1 for calls in session.agent_sessions.values() for c in calls)


def once_a_tool(request: Request) -> Reply:
    """A script that has a tool run before each answer."""
    if request.messages[-1].role == "tool":
        return "done"
    return tool_call("lookup", {"word": request.agent})
