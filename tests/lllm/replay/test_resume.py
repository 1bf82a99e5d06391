"""A fork without a point goes on from where a session broke: the lost run is not paid for again."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lllm import (
    ConfigError,
    Edit,
    InvokeError,
    LogDamaged,
    LogStore,
    Prompt,
    ReplayDivergence,
    ReplayPlace,
    SQLiteBackend,
    capture,
    tool,
)  # fmt: skip
from lllm.events.backends.memory import MemoryBackend
from lllm.events.model import LLMResponded, SessionStarted
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import ScriptedInvoker, bad_request, cut_off, rate_limited, tool_call
from lllm.projections.session.invoke_cost import nanos
from tests.lllm.instrumentation.asking import CHAT, chat_client, close_clients
from tests.support import ROOT
from tests.support.loopback import Loopback, failure, text
from tests.support.replayed import Program, asks, record
from tests.support.runs import payloads

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


def three(tactic: Any, task: object) -> object:
    """Three questions."""
    return [asks(tactic, f"{task} {number}", alias=str(number)) for number in range(3)]


def costs(store: LogStore, session_id: str) -> list[int | None]:
    """What each answer of a session cost."""
    found = payloads(store, session_id)
    return [event.price.nanos for event in found if isinstance(event, LLMResponded)]


def resumed(store: LogStore, recorded: str, do: Any, script: Any, **agent: Any) -> tuple[Any, str]:
    """What a fork from where it broke delivers, and its id."""
    program = Program(do, script, log_store=store, **agent)
    session = program.fork(recorded, return_session=True)
    return session.delivery, session.session_id


@pytest.mark.parametrize("limit", [0, 2])
def test_a_model_that_failed(store: LogStore, limit: int) -> None:
    """The turn that failed is asked anew, with all of its attempts; what came before is free."""
    failing = [bad_request()] if limit == 0 else [rate_limited()] * 3
    script = ["0", "1", *failing]
    recorded = record(Program(three, script, log_store=store, max_llm_recall=limit))
    assert store.load_session(recorded).state == "failure"
    again = [*([rate_limited()] * limit), "new"]
    delivery, fork = resumed(store, recorded, three, again, max_llm_recall=limit)
    assert delivery == ["0", "1", "new"]
    assert costs(store, fork)[:2] == [0, 0]
    assert nanos(store.load_session(fork).total_cost.cost) == costs(store, fork)[2]


def test_code_that_failed(store: LogStore) -> None:
    """Where the code itself failed, all answers are there, and the mended code goes on."""

    def wrong(tactic: Any, task: object) -> object:
        return three(tactic, task) / 0  # type: ignore[operator]

    recorded = record(Program(wrong, ["0", "1", "2"], log_store=store))
    delivery, fork = resumed(store, recorded, three, None)
    assert delivery == ["0", "1", "2"]
    assert costs(store, fork) == [0, 0, 0]

    def more(tactic: Any, task: object) -> object:
        return [*three(tactic, task), asks(tactic, "more", alias="more")]  # type: ignore[misc]

    assert resumed(store, recorded, more, ["new"])[0] == ["0", "1", "2", "new"]


def test_answers_that_were_refused(store: LogStore) -> None:
    """Where the last answer was refused, it is asked for again."""

    def parse(text: str) -> int:
        return int(text)

    def do(tactic: Any, _: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive_prompt(Prompt("number", "A number", parser=parse))
        return agent.respond().parsed

    recorded = record(Program(do, ["x", "y"], log_store=store, max_exception_retry=1))
    delivery, fork = resumed(store, recorded, do, ["5"], max_exception_retry=1)
    assert delivery == 5
    assert costs(store, fork)[0] == 0


def test_code_that_made_another_error_of_it(store: LogStore) -> None:
    """It broke where the model failed last, where nothing came behind it but the program's own
    error; what failed earlier is the past."""

    def wrapped(tactic: Any, _: object) -> object:
        told = []
        for number in range(3):
            try:
                told.append(asks(tactic, str(number), alias=str(number)))
            except InvokeError as error:
                if number:
                    raise RuntimeError("the desk is closed") from error
        return told

    script = [bad_request(), "1", bad_request()]
    recorded = record(Program(wrapped, script, log_store=store))
    assert store.load_session(recorded).state == "failure"
    assert resumed(store, recorded, wrapped, ["new"])[0] == ["1", "new"]


KILLED = """
import os, signal, sys
from lllm import LogStore, SQLiteBackend, tool
from lllm.invokers.scripted import tool_call, tool_calls
from tests.support.replayed import Program, asks

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

@tool(description="Takes a note.")
def note(text: str) -> str:
    return "noted " + text if text != "2" else die()

two = tool_calls(tool_call("note", {"text": "1"}), tool_call("note", {"text": "2"}))
answers = iter(["one", None if sys.argv[2] == "model" else two])

def model(request):
    answer = next(answers)
    return answer if answer is not None else die()

def twice(tactic, task):
    return [asks(tactic, task, alias="1"), asks(tactic, task, alias="2")]

at_once = 2 if sys.argv[2] == "tools" else 1
Program(twice, model, tools=[note], max_parallel_tools=at_once,
        log_store=LogStore(SQLiteBackend(sys.argv[1])))("task")
"""


@pytest.mark.parametrize("where", ["model", "tool", "tools"])
def test_a_process_that_was_killed(tmp_path: Path, where: str) -> None:
    """The answers that it had are free, the tools that had ended don't run; the request and the
    tool that were under way are made again."""
    path = tmp_path / "runs.db"
    run = subprocess.run([sys.executable, "-c", KILLED, path, where], check=False, cwd=ROOT)
    assert run.returncode == -signal.SIGKILL

    def twice(tactic: Any, task: object) -> object:
        return [asks(tactic, task, alias="1"), asks(tactic, task, alias="2")]

    with LogStore(SQLiteBackend(path)) as store:
        [summary] = store.list_sessions()
        assert summary.state == "interrupted"
        agent = {"tools": [note], "max_parallel_tools": 2 if where == "tools" else 1}
        delivery, fork = resumed(store, summary.session_id, twice, ["new"], **agent)
        assert delivery == ["one", "new"]
        assert "2" in ran or where == "model"
        assert "1" not in ran or where == "tools"  # of two at once, both may have been under way
        assert costs(store, fork)[:-1] == [0] * (1 if where == "model" else 2)
        assert sum(one or 0 for one in costs(store, fork)) == nanos(
            store.export_cost_summary()["total_cost_usd"]
        ) - sum(one or 0 for one in costs(store, summary.session_id))
        program = Program(twice, ["live"], log_store=store, **agent)
        assert program.replay(summary.session_id, on_divergence="live") == ["one", "live"]


def test_a_result_given_by_hand(store: LogStore) -> None:
    """A tool that hung is given its result."""

    @tool(name="note", description="Takes a note.")
    def stopped(text: str) -> str:
        raise KeyboardInterrupt(text)

    def do(tactic: Any, task: object) -> object:
        return [asks(tactic, task), asks(tactic, task, alias="2")]

    script = ["first", tool_call("note", {"text": "x"}), "done"]
    with suppress(KeyboardInterrupt):
        Program(do, script, tools=[stopped], log_store=store)("task")
    recorded = store.list_sessions(limit=1)[0].session_id
    assert store.load_session(recorded).cancelled
    assert resumed(store, recorded, do, ["new"], tools=[note])[0] == ["first", "new"]
    assert ran == ["x"]
    asked: list[Request] = []

    def model(request: Request) -> str:
        asked.append(request)
        return "told"

    program = Program(do, model, tools=[note], log_store=store)
    assert program.fork(recorded, edit=Edit(tool_result="by hand")) == ["first", "told"]
    assert asked[0].messages[-1].text == "by hand"
    assert ran == ["x"]


def test_a_program_that_was_stopped(store: LogStore) -> None:
    """Ctrl-C and a cancelled task are where it broke, too: what they cut off is asked anew."""

    async def do(tactic: Any, _: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive("one")
        first = (await agent.arespond()).content
        agent.receive("two")
        return [first, (await agent.arespond()).content]

    class Hanging(ScriptedInvoker):
        """Does not answer the second question."""

        async def ainvoke(self, request: Request) -> Answer:
            if request.messages[-1].text == "two":
                asyncio.get_running_loop().call_soon(task.cancel)
                await asyncio.sleep(60)
            return await super().ainvoke(request)

    async def cancelled() -> None:
        nonlocal task
        program = Program(do, ["one"], log_store=store, invoker=Hanging(["one"]))
        task = asyncio.ensure_future(program.acall("task"))
        with suppress(asyncio.CancelledError):
            await task

    task: asyncio.Future[Any]
    asyncio.run(cancelled())
    recorded = store.list_sessions(limit=1)[0].session_id
    assert store.load_session(recorded).cancelled
    program = Program(do, ["new"], log_store=store)
    assert asyncio.run(program.afork(recorded)) == ["one", "new"]


def test_a_child_that_failed(store: LogStore) -> None:
    """It broke where the innermost session did; siblings that had ended are free."""

    class Sub(Program, register=False):
        name = "sub"

    def do(tactic: Any, _: object) -> object:
        first = tactic.sub("good")
        with suppress(InvokeError):
            tactic.sub("bad once")  # the code goes on; this is the past
        return [first, tactic.sub("bad"), asks(tactic, "last")]

    def made(script: Any) -> Program:
        program = Program(do, script, log_store=store)
        vars(program)["sub"] = Sub(lambda tactic, task: asks(tactic, task), script, log_store=store)
        return program

    def then(request: Request) -> Any:
        said = request.messages[-1].text
        return bad_request() if said.startswith("bad") else f"then {said}"

    asked: list[str] = []

    def now(request: Request) -> Any:
        asked.append(request.messages[-1].text)
        return f"now {asked[-1]}"

    recorded = record(made(then))
    session = made(now).fork(recorded, return_session=True)
    assert session.delivery == ["then good", "now bad", "now last"]
    assert asked == ["bad", "last"]
    assert [one.state for one in session.sub_tactic_sessions["sub"]] == [
        "success", "failure", "success",
    ]  # fmt: skip


def test_it_breaks_again(store: LogStore) -> None:
    """A fork that fails is forked from where that broke, and so on."""
    recorded = record(Program(three, ["0", bad_request()], log_store=store))
    with suppress(InvokeError):
        Program(three, ["1", bad_request()], log_store=store).fork(recorded)
    recorded_2 = store.list_sessions(limit=1)[0].session_id
    assert store.load_session(recorded_2).state == "failure"
    delivery, fork = resumed(store, recorded_2, three, ["2"])
    assert delivery == ["0", "1", "2"]
    assert [one == 0 for one in costs(store, fork)] == [True, True, False]
    started = payloads(store, fork)[0]
    assert isinstance(started, SessionStarted)
    assert started.origin is not None
    assert started.origin.session == recorded_2


def test_streams_go_on(store: LogStore) -> None:
    """An answer that broke off within a stream is asked anew, and its pieces come."""

    def do(tactic: Any, _: object) -> object:
        agent = tactic.agents["a"]
        agent.open()
        agent.receive("x")
        pieces: list[str] = []
        agent.respond(pieces.append)
        return "".join(pieces)

    recorded = record(Program(do, [cut_off("half")], log_store=store, max_llm_recall=0))
    assert resumed(store, recorded, do, ["whole"], max_llm_recall=0)[0] == "whole"


def test_threads_go_on(store: LogStore) -> None:
    """Of agents in threads, each goes on where it was; what had not begun begins."""

    def do(tactic: Any, _: object) -> object:
        told: dict[str, str] = {}

        def one(name: str) -> None:
            told[name] = asks(tactic, name, agent=name)

        for name in ("a", "b", "c"):
            thread = threading.Thread(target=store.carry(one), args=(name,))
            thread.start()
            thread.join()
        return [told.get(name) for name in ("a", "b", "c")]

    recorded = record(Program(do, lambda _: "then", "a", "b", "c", log_store=store))
    fork = Program(do, lambda _: "now", "a", "b", "c", log_store=store)
    assert fork.fork(recorded, at=ReplayPlace(agent="b")) == ["then", "now", "now"]


def in_threads(store: LogStore, names: str, work: Callable[[str], None]) -> None:
    """Runs threads one after the other, so that their order is known."""
    for name in names:
        thread = threading.Thread(target=store.carry(work), args=(name,))
        thread.start()
        thread.join()


def test_threads_in_another_order(store: LogStore) -> None:
    """What a thread begins that was not recorded is live, though what another one recorded is left;
    where the session itself runs, another task is a divergence."""
    told: dict[str, object] = {}

    class Sub(Program, register=False):
        name = "sub"

    def made(names: str, script: Any) -> Program:
        def do(tactic: Any, _: object) -> None:
            def work(name: str) -> None:
                told[name] = tactic.sub(name)

            in_threads(store, names, work)

        program = Program(do, script, log_store=store)
        vars(program)["sub"] = Sub(lambda tactic, task: asks(tactic, task), script, log_store=store)
        return program

    recorded = record(made("ab", lambda _: "then"))
    first = store.load_session(recorded).sub_tactic_sessions["sub"][0].session_id
    at = [event.position for event in store.events(first)][-1]
    made("ba", lambda _: "now").fork(recorded, at=at)
    assert told == {"a": "then", "b": "now"}

    def other(tactic: Any, _: object) -> object:
        return tactic.sub("b")

    program = Program(other, log_store=store)
    vars(program)["sub"] = Sub(lambda tactic, task: asks(tactic, task), log_store=store)
    with pytest.raises(ReplayDivergence, match="begins with another task"):
        program.fork(recorded, at=at)


def test_a_damaged_session(tmp_path: Path) -> None:
    """A session that is damaged is not forked."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        recorded = record(Program(three, ["0", bad_request()], log_store=store))
        event = next(one for one in store.events(recorded) if one.type == "llm.responded")
    with sqlite3.connect(path) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(
            "UPDATE events SET data = replace(data, '0', '1') WHERE position = ?", (event.position,)
        )
    connection.close()
    with LogStore(SQLiteBackend(path)) as store, pytest.raises(LogDamaged):
        Program(three, log_store=store).fork(recorded)


# -- captured clients


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    """One server for all."""
    with Loopback() as opened:
        yield opened


@pytest.fixture
def store() -> Iterator[LogStore]:
    """A store in memory, which knows what the model of the loopback server costs."""
    with LogStore(MemoryBackend(), prices={CHAT: {"input": 1, "output": 2}}) as opened:
        yield opened


@pytest.fixture
def client(server: Loopback, store: LogStore) -> Iterator[Any]:
    """A client of the OpenAI SDK."""
    yield capture(chat_client(server), log_store=store)
    close_clients()


def ask(client: Any, *said: str) -> str:
    """What the model says."""
    messages = [{"role": "user", "content": one} for one in said]
    answer = client.chat.completions.create(model=CHAT, messages=messages)
    return str(answer.choices[0].message.content)


def test_a_captured_client_goes_on(server: Loopback, client: Any, store: LogStore) -> None:
    """`store.fork` does the same for a function under `@store.tactic` with a captured client; what
    is changed there is up to the program, so that an edit is refused."""

    @store.tactic("my::job")
    def job(task: str) -> list[str]:
        return [ask(client, task, "1"), ask(client, task, "2")]

    server.answers(text("one"), failure(400))
    with suppress(Exception):
        job("x")
    [summary] = store.list_sessions()
    server.answers(text("two"))
    sent = len(server.requests)
    with store.fork(summary.session_id) as fork:
        assert job("x") == ["one", "two"]
    assert (fork.went_on, len(server.requests)) == (True, sent + 1)
    session = fork.load_session()
    prices = [one.price for one in session.invoke_traces]
    assert prices == ["free", "priced"]
    assert nanos(session.total_cost.cost) == nanos(session.invoke_traces[1].cost.cost) > 0

    @store.tactic("my::job")
    def other(task: str) -> list[str]:
        return [ask(client, task, "1"), ask(client, task, "changed")]

    server.answers(text("three"))
    with store.fork(session.session_id, at=ReplayPlace(client="chat", step=2)):
        assert other("x") == ["one", "three"]
    first = store.diff(session.session_id, store.list_sessions(limit=1)[0].session_id).first
    assert first is not None
    assert (first.kind, first.place.client, first.place.step) == ("request", "chat", 2)
    assert first.diff == "--- A\n+++ B\n [user]\n x\n [user]\n-2\n+changed"
    with pytest.raises(ConfigError, match="edit is for agents"):
        store.fork(
            session.session_id, at=ReplayPlace(client="chat", step=2), edit=Edit(model="gpt-4o")
        )
    with pytest.raises(ReplayDivergence), store.fork(summary.session_id):
        job("y")


def test_captured_clients_in_threads(server: Loopback, client: Any, store: LogStore) -> None:
    """A call that was not recorded is live, though another thread comes to a recorded one later."""
    told: dict[str, str] = {}

    def job(names: str) -> str:
        def work(name: str) -> None:
            told[name] = ask(client, name)

        with store.session("job") as session:
            in_threads(store, names, work)
        return session.session_id

    server.answers(text("then"), text("then"))
    recorded = job("ab")
    ends = [event.position for event in store.events(recorded) if event.type == "llm.responded"]
    server.answers(text("now"))
    with store.fork(recorded, at=ends[0]) as fork:
        job("ba")
    assert told == {"a": "then", "b": "now"}
    found = store.diff(recorded, str(fork.session_id))
    [difference] = found.differences  # whichever came first
    assert (difference.kind, difference.place.client, found.steps) == ("answer", "chat", 6)


@pytest.mark.usefixtures("client")
def test_between_the_attempts_of_a_client(server: Loopback, store: LogStore) -> None:
    """What an SDK tried is tried no more; the attempt at the point goes to the model."""
    patient = capture(chat_client(server, max_retries=2), log_store=store)
    busy = failure(500, headers={"retry-after-ms": "1"})
    server.answers(busy, busy, text("then"))
    with store.session("job") as session:
        assert ask(patient, "x") == "then"
    server.answers(text("now"))
    sent = len(server.requests)
    at = ReplayPlace(client="chat", attempt=3)
    with store.fork(session.session_id, at=at) as fork, store.session("job"):
        assert ask(patient, "x") == "now"
    assert len(server.requests) == sent + 1
    assert [one.state for one in fork.load_session().invoke_traces] == [
        "failure", "failure", "success",
    ]  # fmt: skip
