"""Tactics and agents on an event loop: nothing blocks it, and cancelling leaves a record."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import cast

import msgspec
import pytest

from lllm import LogStore, SessionEnded, SQLiteBackend, tool
from lllm.agents import effects
from lllm.agents.agent import Agent
from lllm.events import model
from lllm.events.concurrency.shielded import in_thread
from lllm.events.log_context import current_log_context
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker, rate_limited, tool_call
from lllm.projections.session.call_session import TacticCallSession
from tests.support.runs import (
    Asking,
    AsyncAsking,
    Doing,
    WatchedLog,
    config,
    full_disk,
    payloads,
    types,
)
from tests.support.waiting import HANG


def echo(request: Request) -> Reply:
    """Answers with what was said last."""
    return f"re: {request.messages[-1].text}"


def on_main_thread() -> bool:
    """Whether this is where the event loop runs."""
    return threading.current_thread() is threading.main_thread()


async def asession(tactic: Asking | AsyncAsking | Doing, task: object = "x") -> TacticCallSession:
    """The session of one call on the loop."""
    session = await tactic.acall(task, return_session=True)
    assert isinstance(session, TacticCallSession)
    return session


def only_session(store: LogStore) -> TacticCallSession:
    """The one session of a store."""
    (summary,) = store.list_sessions()
    return store.load_session(summary.session_id)


# -- where what runs


def test_an_async_call_runs_on_the_loop(store: LogStore) -> None:
    """A `call` written as async def runs on the event loop of acall."""
    threads: list[threading.Thread] = []

    async def do(_: Doing) -> object:
        threads.append(threading.current_thread())
        return "done"

    class OnLoop(Doing, register=False):
        name = "on-loop"

        async def call(self, _task: object, **_: object) -> object:
            return await cast(Coroutine[object, object, object], self.do(self))

    assert asyncio.run(OnLoop(do, log_store=store).acall("x")) == "done"
    assert threads == [threading.main_thread()]


def test_a_plain_call_runs_in_a_thread(store: LogStore) -> None:
    """A plain `call` runs in a thread, within the session, and the loop goes on meanwhile."""
    begun, released = threading.Event(), threading.Event()
    seen: list[object] = []

    def do(_: Doing) -> object:
        begun.set()
        released.wait()
        seen.append(on_main_thread())
        seen.append("session" in current_log_context())
        return "done"

    async def main() -> object:
        task = asyncio.create_task(Doing(do, log_store=store).acall("x"))
        await asyncio.to_thread(begun.wait)
        released.set()  # the loop gets here while the call waits
        return await task

    assert asyncio.run(main()) == "done"
    assert seen == [False, True]


def test_a_plain_call_that_raises_what_no_future_can_carry(store: LogStore) -> None:
    """A StopIteration, which would have the event loop wait for ever, becomes a RuntimeError."""

    def do(_: Doing) -> object:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        asyncio.run(asyncio.wait_for(Doing(do, log_store=store).acall("x"), HANG))
    assert only_session(store).state == "failure"


@pytest.mark.parametrize("kind", [Asking, AsyncAsking])
def test_both_ways_leave_the_same_record(
    store: LogStore, kind: type[Asking] | type[AsyncAsking]
) -> None:
    """Called plainly or on a loop, a call writes the same events."""
    given = config(lambda _: "ok", system_prompt="Be.")
    tactic = kind(given, log_store=store)
    tactic("x")
    plain = types(store)
    asyncio.run(asession(tactic))
    again = types(store)[len(plain) :]
    assert [one for one in plain if one != "agent.defined"] == again


def test_an_async_call_can_be_called_plainly(store: LogStore) -> None:
    """`tactic(task)` waits for an async `call`, also where a loop is running in this thread."""
    tactic = AsyncAsking(config(echo), log_store=store)
    assert tactic("1") == "re: 1"

    async def main() -> object:
        return tactic("2")

    assert asyncio.run(main()) == "re: 2"
    assert [one.state for one in store.list_sessions()] == ["success", "success"]


def test_tools_of_both_kinds_run_on_the_loop(store: LogStore) -> None:
    """With arespond() an async tool runs on the loop, a plain one in a thread; both know whose
    they are."""
    seen: dict[str, object] = {}

    @tool(description="a")
    async def on_loop() -> str:
        seen["on_loop"] = (on_main_thread(), current_log_context())
        return "1"

    @tool(description="b")
    def in_a_thread() -> str:
        seen["in_a_thread"] = (on_main_thread(), current_log_context())
        return "2"

    script = [tool_call("on_loop"), tool_call("in_a_thread"), "done"]
    tactic = AsyncAsking(config(script, tools=[on_loop, in_a_thread]), log_store=store)
    session = asyncio.run(asession(tactic))
    context = {"session": session.session_id, "agent": "a"}
    assert seen == {"on_loop": (True, context), "in_a_thread": (False, context)}


def test_agents_may_answer_at_the_same_time(store: LogStore) -> None:
    """arespond() of several agents may be gathered; the stream has no hole."""

    class Gathering(AsyncAsking, register=False):
        name = "gathering"

        async def call(self, _task: object, **_: object) -> object:
            for agent in self.agents.values():
                agent.open()
                agent.receive(f"for {agent.name}")
            messages = await asyncio.gather(*(a.arespond() for a in self.agents.values()))
            return [message.content for message in messages]

    names = [f"a{n}" for n in range(20)]
    session = asyncio.run(asession(Gathering(config(echo, *names), log_store=store)))  # type: ignore[arg-type] # names
    assert session.delivery == [f"re: for {name}" for name in names]
    seqs = [event.seq for event in store.events(session.session_id)]
    assert seqs == list(range(1, len(seqs) + 1))


# -- nothing blocks


def test_a_lock_that_is_held_does_not_hold_the_loop(tmp_path: Path) -> None:
    """An append that would wait for a lock leaves the loop: others go on until it is free."""
    backend = SQLiteBackend(tmp_path / "runs.db")
    holds, release = threading.Event(), threading.Event()

    def hold() -> None:
        with other.database.write():
            holds.set()
            release.wait()

    async def main() -> object:
        await asession(tactic)  # so that nothing is done for the first time below
        thread.start()
        await asyncio.to_thread(holds.wait)
        call = asyncio.create_task(tactic.acall("x"))
        for _ in range(50):
            await asyncio.sleep(0)  # the loop turns, and the call can't have gone on
        early = call.done()
        release.set()
        assert not early
        return await call

    other = SQLiteBackend(tmp_path / "runs.db")
    thread = threading.Thread(target=hold)
    with LogStore(backend) as store:
        tactic = AsyncAsking(config(echo), log_store=store)
        assert asyncio.run(main()) == "re: x"
        thread.join()
        assert [one.state for one in store.list_sessions()] == ["success", "success"]
    other.close()


@pytest.mark.parametrize("cancels", [1, 3])
def test_what_is_being_written_is_written(tmp_path: Path, cancels: int) -> None:
    """A task that is cancelled while its last event waits for a lock is cancelled when the event is
    written, however often it is cancelled."""
    log = WatchedLog(tmp_path / "runs.db")
    other = SQLiteBackend(tmp_path / "runs.db")

    async def main(store: LogStore) -> None:
        async def call() -> None:
            async with store.session("script") as recorder:
                recorder.deliver(1)
                lock.__enter__()

        lock = other.database.write()
        task = asyncio.create_task(call())
        while not log.appends:
            await asyncio.sleep(0)
        for _ in range(cancels):
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
        early = task.done()
        lock.__exit__(None, None, None)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not early

    with LogStore(log) as store:
        asyncio.run(main(store))
        assert types(store) == ["session.started", "session.succeeded"]
        assert only_session(store).delivery == 1
    other.close()


def test_work_in_a_thread_is_done_to_its_end() -> None:
    """in_thread does the work whole, then raises what it raised, or the cancellation."""
    begun, release = threading.Event(), threading.Event()
    done: list[int] = []

    def work() -> None:
        begun.set()
        release.wait()
        done.append(1)

    async def cancelled() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        early = task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not early

    asyncio.run(cancelled())
    assert done == [1]

    def fail() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        asyncio.run(in_thread(fail))


# -- cancelling


class Waiting(ScriptedInvoker):
    """A model that never answers, and says when it was asked."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked = asyncio.Event()

    async def ainvoke(self, request: Request) -> object:  # type: ignore[override] # never answers
        del request
        self.asked.set()
        await asyncio.Event().wait()


def test_a_cancelled_call_is_a_finished_record(store: LogStore) -> None:
    """Cancelling a call in the middle of an attempt leaves an attempt, an agent call and a session
    that failed and say that they were cancelled."""

    async def main() -> None:
        invoker = Waiting()
        given = {"agent_configs": [{"name": "a", "model_name": "m", "invoker": invoker}]}
        task = asyncio.create_task(AsyncAsking(given, log_store=store).acall("x"))
        await invoker.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    session = only_session(store)
    assert (session.state, session.cancelled) == ("failure", True)
    ended = payloads(store, session.session_id)[-3:]
    assert [event.type for event in ended] == ["llm.failed", "agent.failed", "session.failed"]
    for event in ended:
        assert isinstance(event, model.LLMFailed | model.AgentFailed | model.SessionFailed)
        assert event.cancelled


def test_a_timeout_is_the_user_s_to_catch(store: LogStore) -> None:
    """An answer that a timeout cuts off fails, and the session goes on to its own end."""

    class Hurried(AsyncAsking, register=False):
        name = "hurried"

        async def call(self, task: object, **_: object) -> object:
            agent = self.agents["a"]
            agent.open()
            agent.receive(task)
            try:
                async with asyncio.timeout(0.01):
                    await agent.arespond()
            except TimeoutError:
                return "too late"
            return "in time"

    async def main() -> TacticCallSession:
        given = {"agent_configs": [{"name": "a", "model_name": "m", "invoker": Waiting()}]}
        return await asession(Hurried(given, log_store=store))

    session = asyncio.run(main())
    assert (session.state, session.delivery) == ("success", "too late")
    (call,) = session.agent_sessions["a"]
    assert (call.state, call.invoke_traces[1][0].state) == ("failure", "failure")


def test_a_wait_can_be_cancelled(store: LogStore) -> None:
    """Cancelling during a backoff ends it at once."""

    async def main() -> None:
        tactic = AsyncAsking(config([rate_limited(3600)], max_retry_wait=9999), log_store=store)
        task = asyncio.create_task(tactic.acall("x"))
        while "retry.scheduled" not in types(store):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert only_session(store).cancelled


def test_a_cancelled_plain_call_can_write_no_more(store: LogStore) -> None:
    """A plain `call` goes on in its thread when acall is cancelled; its agents raise
    SessionEnded."""
    begun, released, over = threading.Event(), threading.Event(), threading.Event()
    told: list[BaseException] = []

    def do(self: Doing) -> object:
        begun.set()
        released.wait()
        try:
            self.agents["a"].open()
        except SessionEnded as error:
            told.append(error)
        over.set()
        return None

    async def main() -> None:
        task = asyncio.create_task(Doing(do, config(echo), log_store=store).acall("x"))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        await asyncio.to_thread(over.wait)

    asyncio.run(main())
    assert len(told) == 1
    assert only_session(store).cancelled


def closed_in_the_middle(store: LogStore) -> None:
    """A coroutine that is closed while it awaits a model."""
    given = {"agent_configs": [{"name": "a", "model_name": "m", "invoker": Waiting()}]}

    async def main() -> None:
        coroutine = AsyncAsking(given, log_store=store).acall("x")
        step: Callable[[], object] = lambda: coroutine.send(None)  # noqa: E731 # one step
        while True:
            waits_for = step()
            if "llm.requested" in types(store):  # what it waits for now may be the model
                break
            if waits_for is not None:
                await asyncio.wait([cast(asyncio.Future[object], waits_for)])
        coroutine.close()

    asyncio.run(main())


def dropped_generator(store: LogStore) -> None:
    """An async generator with a session inside, which nobody reads to its end."""

    async def numbers() -> AsyncGenerator[int, None]:
        async with store.session("script"):
            yield 1
            yield 2

    async def main() -> None:
        async for _ in numbers():
            break

    with warnings.catch_warnings():  # told once, of the first one in this process
        warnings.filterwarnings("ignore", "(?s).*around a yield")
        asyncio.run(main())


@pytest.mark.parametrize("close", [closed_in_the_middle, dropped_generator])
def test_a_closed_coroutine_leaves_a_finished_record(
    store: LogStore, close: Callable[[LogStore], None]
) -> None:
    """GeneratorExit in a coroutine or async generator, in whatever context it is closed, ends the
    session as cancelled."""
    close(store)
    session = only_session(store)
    assert (session.state, session.cancelled) == ("failure", True)
    assert current_log_context() == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_ctrl_c_on_a_loop_leaves_a_finished_record(store: LogStore, error: BaseException) -> None:
    """Ctrl-C and exit inside a tool on the loop end the session as cancelled."""

    @tool(description="stop")
    async def stop() -> str:
        raise error

    with pytest.raises(type(error)):
        asyncio.run(
            AsyncAsking(config([tool_call("stop")], tools=[stop]), log_store=store).acall("x")
        )
    session = only_session(store)
    assert (session.state, session.cancelled) == ("failure", True)


# -- a log that can't be written


def test_on_a_loop_too_nothing_is_called_without_the_log(tmp_path: Path) -> None:
    """With on_error="raise", acall raises LogUnavailable before the model is called."""
    log = WatchedLog(tmp_path / "runs.db")
    asked: list[Request] = []

    class Breaking(AsyncAsking, register=False):
        name = "breaking"

        async def call(self, task: object, **_: object) -> object:
            agent: Agent = self.agents["a"]
            agent.open()
            agent.receive(task)
            log.error = full_disk()
            return (await agent.arespond()).content

    store = LogStore(log, on_error="raise")
    tactic = Breaking(config(lambda request: asked.append(request) or "ok"), log_store=store)  # type: ignore[func-returns-value] # None
    with pytest.raises(OSError, match="disk is full"):
        asyncio.run(tactic.acall("x"))
    assert not asked
    log.error = None
    store.close()


def test_on_a_loop_events_are_held_too(tmp_path: Path) -> None:
    """Where the log can't be written, an async call goes on, and its events are written later."""
    log = WatchedLog(tmp_path / "runs.db")
    with LogStore(log) as store:
        tactic = AsyncAsking(config(echo), log_store=store)
        log.error = full_disk()
        with pytest.warns(RuntimeWarning, match="can't write its log"):
            session = asyncio.run(asession(tactic))
        assert session.delivery == "re: x"
        log.error = None
        assert store.log.write_held(now=True)
        assert only_session(store) == session


def test_a_store_s_session_works_on_a_loop(store: LogStore) -> None:
    """`async with store.session(...)` is a session, and tactics called inside are its children."""

    async def main() -> None:
        async with store.session("pkg::script", tags={"a": "b"}) as recorder:
            recorder.deliver(await AsyncAsking(config(echo), log_store=store).acall("x"))
        with contextlib.suppress(LookupError):
            async with store.session("pkg::script"):
                raise LookupError("no")

    asyncio.run(main())
    wrong, right = store.list_sessions()
    assert (wrong.state, right.state) == ("failure", "success")
    session = store.load_session(right.session_id)
    assert (session.tactic_name, session.delivery) == ("script", "re: x")
    assert [one.delivery for one in session.sub_tactic_sessions["async-asking"]] == ["re: x"]


def test_effects_say_what_to_do_and_never_change() -> None:
    """An effect is carried out by whoever gets it, perhaps twice: nobody may change it."""
    for kind in vars(effects).values():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            assert kind.__struct_config__.frozen, kind


def test_after_a_tool_no_tool_is_the_current_one() -> None:
    """Whatever runs next in the same task is no part of the tool."""

    @tool
    def nothing() -> None:
        """Nothing."""

    run = effects.RunTool(tool=nothing, arguments={}, ordinal=7)

    async def both() -> None:
        await run.arun()
        assert effects.current_tool.get() is None

    asyncio.run(both())
    run.run()
    assert effects.current_tool.get() is None
