"""What the threads of a program wait for, while another is in the middle of a step of a call: each
test fails without the lock that its docstring names. See `test_waiting`."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

import lllm.instrumentation.instruments
import lllm.logging
import lllm.packages.loader
import lllm.sessions.session
import lllm.sessions.unfinished_calls
from lllm import LogStore, ParseError, Prompt, SQLiteBackend, Tactic, tool
from lllm.agents.agent_loop import AgentCall
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.sqlite.database import Database
from lllm.events.errors import LogDamaged, LogError
from lllm.events.model import Content
from lllm.events.recorder import Recorder
from lllm.instrumentation import conversations
from lllm.instrumentation import session_resolver as homes
from lllm.instrumentation.conversations import Conversations
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, tool_call, tool_calls
from lllm.invokers.sdk.clients import Clients
from lllm.packages.loader import Runtime, load_package
from lllm.sessions.current_session import running_session
from lllm.sessions.session import SessionScope
from tests.support.runs import Asking, config
from tests.support.waiting import HANG, Stop, waits_for

# -- what a process has once


def test_calls_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_calls._watching: calls that begin and end wait for whoever lists them, at the exit."""

    class Call:
        def settle(self) -> None: ...
        def settle_at_exit(self) -> None: ...

    call = Call()
    lock = lllm.sessions.unfinished_calls._watching
    waits_for(lock, lambda: lllm.sessions.unfinished_calls.watch(call))
    assert call in lllm.sessions.unfinished_calls._watched
    waits_for(lock, lambda: lllm.sessions.unfinished_calls.unwatch(call))
    assert call not in lllm.sessions.unfinished_calls._watched
    monkeypatch.setattr(lllm.sessions.unfinished_calls, "_watched", WeakSet())
    monkeypatch.setattr(lllm.sessions.unfinished_calls, "_exiting", False)
    waits_for(lock, lllm.sessions.unfinished_calls._at_exit)


class Client:
    """What an SDK's client is to its owner."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def platform_headers(self) -> dict[str, str]:
        """See SyncClient."""
        return {}


def test_a_client_that_is_being_made() -> None:
    """Clients._lock: who closes waits for the client that is just being made, and closes that."""
    clients = Clients(Client, Client)  # type: ignore[type-var]
    client = clients.of_threads()
    waits_for(clients._lock, clients.close)
    assert client.closed == 1
    assert clients.of_threads() is not client
    loop = asyncio.new_event_loop()
    waits_for(clients._lock, lambda: clients._make_for(loop), lambda: len(clients._by_loop))
    loop.close()


def test_an_instrument_is_made_once() -> None:
    """instruments._making: all threads switch the same instrument."""
    lock = lllm.instrumentation.instruments._making
    waits_for(lock, lambda: lllm.instrumentation.instruments.uninstrument("threads"))


def test_one_warning_of_what_is_not_recorded(recwarn: pytest.WarningsRecorder) -> None:
    """homes._warning: threads that call at once are told once."""
    home = homes.SessionResolver(None)
    for tell in (
        lambda: home._warn_once("a"),
        lambda: home.tell_of_unrecorded("sdk", "/path"),
        lambda: home._tell_of_lost("a", "b::c"),
    ):
        waits_for(homes._warning, tell)
        tell()
    assert len(recwarn) == 3


@pytest.mark.usefixtures("logging_as_before")
def test_the_terminal_is_set_up_once() -> None:
    """logging._setup: each line is shown once, however many threads set logging up."""
    logger = logging.getLogger("lllm")
    waits_for(lllm.logging._setup, lambda: lllm.logging.setup_logging(stream=StringIO()),
              lambda: list(logger.handlers))  # fmt: skip
    assert len([one for one in logger.handlers if one.get_name() == lllm.logging._HANDLER]) == 2


def test_packages_are_loaded_one_by_one(tmp_path: Path) -> None:
    """packages._one_load: no file of a package is executed by two threads."""
    (tmp_path / "lllm.toml").write_text('[package]\nname = "p"\nversion = "1"\n')
    runtime = Runtime()
    waits_for(lllm.packages.loader._one_load, lambda: load_package(tmp_path, runtime))
    assert [one.name for one in runtime.packages] == ["p"]


def test_names_are_looked_up_beside_no_change() -> None:
    """Runtime._lock: who looks a tactic up waits for who registers one, and the other way round."""
    runtime = Runtime()

    class Named(Tactic, register=False):
        name = "named"

        def call(self, task: object, **_: object) -> object:
            """Nothing."""

    known = runtime._tactics
    waits_for(runtime._lock, lambda: runtime.register(Named), lambda: dict(known))
    waits_for(runtime._lock, lambda: runtime.add({}))
    assert Named in runtime.tactics.values()
    for look in (
        lambda: runtime.tactics,
        lambda: runtime.packages,
        lambda: runtime.defined_in(Path(__file__)),
    ):
        waits_for(runtime._lock, look)


# -- sessions


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def test_rows_move_to_memory_once(store: LogStore) -> None:
    """RowsPlace._moving: of many threads that meet a damaged page, one makes the rows anew."""
    place = store._rows
    damage = LogDamaged("damaged", position=0)
    damage.__cause__ = sqlite3.DatabaseError("malformed")
    left = place.database
    waits_for(place._moving, lambda: place._leave(left, damage), lambda: place.database)
    moved = place.database
    assert moved is not left
    place._leave(left, damage)  # by another that met it, too
    assert place.database is moved

    def rebuilt_meanwhile(database: Database) -> list[tuple[object, ...]]:
        if database is moved:
            store.rebuild()
        return list(database.query("SELECT 1"))

    assert place.ask(rebuilt_meanwhile) == [(1,)]
    assert place.database is left
    with pytest.raises(LogError):
        moved.query("SELECT 1")


def test_rows_in_memory_are_closed_with_their_store(store: LogStore) -> None:
    """And so is the file that was left for them."""
    place = store._rows
    left, damage = place.database, LogDamaged("damaged", position=0)
    damage.__cause__ = sqlite3.DatabaseError("malformed")
    moved = place.in_memory(damage)
    store.close()
    for database in (left, moved):
        with pytest.raises(LogError):
            database.query("SELECT 1")


# -- calls


def test_the_conversations_of_a_session_are_made_once() -> None:
    """conversations._finding: who calls first in a session makes them, while others wait."""
    recorder = Recorder(MemoryBackend(), "a::b")
    made = waits_for(
        conversations._finding,
        lambda: conversations.conversations_of(recorder),
        lambda: recorder in conversations._of_recorders,
    )
    assert made is conversations.conversations_of(recorder)


def test_conversations_go_on_one_by_one() -> None:
    """Conversations._lock: an answer enters a dialog, and a dialog is free again, while nobody
    looks for one."""
    recorder = Recorder(MemoryBackend(), "a::b")
    going = Conversations(recorder)
    told = going.going_on([Content.of("user", "x")])
    lock = going._lock
    answer = Content.of("assistant", "y")
    waits_for(lock, lambda: going.answered(told, 2, answer), lambda: len(told))
    waits_for(lock, lambda: going.left(told), lambda: set(going._waiting))
    again = going.going_on([Content.of("user", "x"), answer])
    assert again is told


class Under:
    """A call of an agent that has stopped where the test says, and what it has staged by then."""

    def __init__(self, store: LogStore, answers: Sequence[Any], stop: Stop, **agent: Any) -> None:
        self.calls: list[AgentCall] = []
        self.scope: SessionScope | None = None
        self._stop = stop
        replies = iter(answers)

        def script(_: Request) -> Reply:
            self.note()
            reply = next(replies)
            found: Reply = reply() if callable(reply) else reply
            return found

        self.tactic = Asking(config(script, max_exception_retry=0, **agent), log_store=store)

    def note(self) -> None:
        """Remember the session and the call that run here."""
        self.scope = running_session()
        assert self.scope is not None
        self.calls = [one for one in self.scope.calls._calls if isinstance(one, AgentCall)]

    def staged(self) -> tuple[int, object]:
        """What must not change while it waits."""
        assert self.scope is not None
        (call,) = self.calls
        return len(self.scope.recorder._pending), call._model._open

    def run(self) -> object:
        """What came of the call: what it delivered, or the error it failed with."""
        try:
            return self.tactic("task")
        except Exception as error:
            return error


def answers(stop: Stop) -> Callable[[], str]:
    """A model that stops before it answers."""

    def answer() -> str:
        stop.here()
        return "yes"

    return answer


def fails(stop: Stop) -> Callable[[], str]:
    """A model that stops before it fails."""

    def fail() -> str:
        stop.here()
        raise RuntimeError("no model")

    return fail


@pytest.mark.parametrize("model", [answers, fails])
def test_an_answer_beside_the_end_of_its_session(
    store: LogStore, model: Callable[[Stop], Callable[[], str]]
) -> None:
    """AgentCall._ending: an answer, or a failure, is not recorded in the middle of what the end of
    the session records of the call."""
    stop = Stop()
    under = Under(store, [model(stop)], stop)
    with stop.reached_by(under.run) as running:
        stop.must_wait(running, under.calls[0]._ending, under.staged)
    assert running.end() == "yes" or isinstance(running.end(), RuntimeError)


def test_the_end_of_a_session_beside_an_answer(store: LogStore) -> None:
    """AgentCall._ending: the end of the session waits for an answer that is just being recorded."""
    stop = Stop()
    under = Under(store, [answers(stop)], stop)
    with stop.reached_by(under.run):
        waits_for(under.calls[0]._ending, under.calls[0].settle, under.staged)


def test_a_failure_beside_the_end_of_its_session(store: LogStore) -> None:
    """AgentCall._ending: so, too, where the answer is there and can't be taken."""
    stop = Stop()

    def parse(_: str) -> object:
        stop.here()
        raise ParseError("no")

    under = Under(store, ["x"], stop, system_prompt=Prompt("a", "p", parser=parse))
    with stop.reached_by(under.run) as running:
        stop.must_wait(running, under.calls[0]._ending, lambda: under.calls[0]._over)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("fail", [False, True])
def test_a_tool_beside_the_end_of_its_session(store: LogStore, at_once: int, fail: bool) -> None:
    """ToolCalls._ending: what a tool brings is not recorded in the middle of what the end of the
    session records of it."""
    stop = Stop()

    @tool(description="works")
    def work(number: int) -> int:
        if number == 0:
            stop.here()
        if fail:
            raise ValueError("no")
        return number

    calls = tool_calls(*[tool_call("work", {"number": number}) for number in range(at_once)])
    under = Under(store, [calls, "done"], stop, tools=[work], max_parallel_tools=at_once)
    with stop.reached_by(under.run) as running:
        interrupts = under.calls[0]._tools
        ran = (
            interrupts._results._of if at_once > 1 else {}
        )  # what another call gets instead of its own
        if at_once > 1:  # the other one has come to its end, and nothing but this changes the state
            until = time.monotonic() + HANG
            ends = {"tool.returned", "tool.failed"}
            while not ends & {one.type for one in store.log.read()} or under.staged()[0]:
                assert time.monotonic() < until
                time.sleep(0.001)
        stop.must_wait(running, interrupts._ending, lambda: (under.staged(), len(ran)))
    assert running.end() == "done"
