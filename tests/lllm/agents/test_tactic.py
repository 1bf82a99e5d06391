"""A call of a tactic: what it returns, what it leaves behind, and however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lllm import (
    ConfigError,
    LocalFileBackend,
    LogStore,
    NoOpBackend,
    Prompt,
    SessionEnded,
    SQLiteBackend,
    Tactic,
    WrongProcess,
    build_tactic,
    tool,
)
from lllm.agents.agent import Agent
from lllm.events import model
from lllm.events.log_context import current_log_context
from lllm.invokers import Request
from lllm.invokers.scripted import (
    Reply,
    ScriptedInvoker,
    bad_request,
    rate_limited,
    tool_call,
    tool_calls,
)
from lllm.projections.session.call_session import TacticCallSession
from lllm.testing.writers import fork
from tests.conftest import OpenBackend
from tests.support.runs import Asking, AsyncAsking, Doing, called, config, failed, payloads, types


def echo(request: Request) -> Reply:
    """Answers with what was said last."""
    return f"re: {request.messages[-1].text}"


# -- the plain case


def test_a_call_returns_what_call_returns(store: LogStore) -> None:
    """tactic(task) returns the live object that `call` returned; the record has its form."""
    result = object()
    tactic = Doing(lambda _: result, log_store=store)
    assert tactic("task") is result
    (summary,) = store.list_sessions()
    delivery = store.load_session(summary.session_id).delivery
    assert cast(dict[str, str], delivery)["$lllm"] == "repr"


def test_a_call_is_a_session(store: LogStore) -> None:
    """A call leaves a session with its task, tags, metadata, delivery and cost."""
    tactic = Asking(config(["hello"]), log_store=store)
    session = called(tactic, {"find": 1}, tags={"env": "prod"}, metadata={"run": (1, 2)})
    assert (session.tactic_name, session.tactic_path, session.state) == (
        "asking", "asking", "success"
    )  # fmt: skip
    assert (session.task, session.delivery, session.metadata) == (
        {"find": 1}, "hello", {"run": (1, 2)}
    )  # fmt: skip
    assert session.total_cost.cost > 0
    assert session.total_cost.prompt_tokens > 0
    (summary,) = store.list_sessions(tags={"env": "prod"})
    assert summary.session_id == session.session_id
    assert session.elapsed is not None
    started = payloads(store, session.session_id)[0]
    assert isinstance(started, model.SessionStarted)
    assert started.producer is not None
    assert (started.kind, started.ancestors, started.ordinal, started.parent_tool) == (
        "tactic", (), None, None
    )  # fmt: skip


def test_options_go_to_call(store: LogStore) -> None:
    """Keyword arguments that are not the call's own are handed to `call`."""

    class Optional(Tactic, register=False):
        name = "optional"

        def call(self, task: object, **options: object) -> object:
            return task, options

    assert Optional(log_store=store)("x", depth=3, tags={"a": "b"}) == ("x", {"depth": 3})


@pytest.mark.parametrize("tags", [{"a": 1}, {1: "a"}, {"a": None}, [("a", "b")], "a"])
def test_wrong_tags_are_a_type_error(store: LogStore, tags: object) -> None:
    """Tags that are not str to str are a TypeError, before anything is written or called."""
    reached: list[int] = []
    tactic = Doing(lambda _: reached.append(1), log_store=store)
    with pytest.raises(TypeError, match="tag"):
        tactic("x", tags=tags)  # type: ignore[arg-type] # that is the point
    assert store.log.head() == 0
    assert not reached


def test_one_object_serves_many_threads(store: LogStore) -> None:
    """A tactic holds no state of a call: 16 threads share one, and each gets its own answer."""
    tactic = Asking(config(echo, tools=[]), log_store=store)
    with ThreadPoolExecutor(16) as pool:
        sessions = list(pool.map(lambda n: called(tactic, f"task {n}"), range(64)))
    assert [session.delivery for session in sessions] == [f"re: task {n}" for n in range(64)]
    assert tactic.agents == {}
    assert len({session.session_id for session in sessions}) == 64
    for session in sessions[:4]:
        seqs = [event.seq for event in store.events(session.session_id)]
        assert seqs == list(range(1, len(seqs) + 1))
    assert types(store).count("agent.defined") == 1


def test_each_call_has_fresh_agents(store: LogStore) -> None:
    """Dialogs of one call are not there in the next."""
    tactic = Asking(config(echo), log_store=store)  # opens "main" each time
    assert [tactic("1"), tactic("2")] == ["re: 1", "re: 2"]


def test_what_call_sets_on_self_is_of_that_call(store: LogStore) -> None:
    """`call` runs on a copy: an attribute it sets is gone afterwards, an object it changes not."""
    seen: list[int] = []

    def do(self: Doing) -> object:
        self.mine = 1  # type: ignore[attr-defined] # a user's own attribute
        seen.append(1)
        return vars(self)["shared"] is shared

    shared: list[int] = [1]
    tactic = Doing(do, log_store=store, shared=shared)
    assert tactic("x") is True
    assert "mine" not in vars(tactic)


# -- without a store


def test_without_a_store_one_warning_says_so() -> None:
    """Without a log store: one UserWarning per tactic class, at the line that calls it."""
    tactic = Asking(config(echo))
    with pytest.warns(UserWarning, match=r"'asking' has no log store.*log_store=") as caught:
        assert tactic("x") == "re: x"
    assert [warning.filename for warning in caught] == [__file__]
    assert tactic("y") == "re: y"  # a second warning would be an error here
    assert Asking(config(echo))("z") == "re: z"  # as in a handler that makes one for each request
    asyncio.run(Asking(config(echo)).acall("x"))
    with pytest.warns(UserWarning, match="'async-asking' has no log store"):
        asyncio.run(AsyncAsking(config(echo)).acall("x"))


def test_threads_warn_once() -> None:
    """Sixteen threads that share a tactic without a store make one warning."""
    tactic = Asking(config(echo))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(tactic, range(64)))
    assert len(caught) == 1


@pytest.mark.parametrize("stores", ["none", "outer", "both"])
def test_return_session_works_without_a_store(stores: str) -> None:
    """return_session works without a store, and with one that keeps nothing (without a warning)."""
    nothing = LogStore(NoOpBackend())
    store = None if stores == "none" else nothing
    inner = Asking(config(echo), log_store=nothing if stores == "both" else None)

    def do(self: Doing) -> object:
        below = cast(Asking, vars(self)["inner"])
        below("one")
        session = below("two", return_session=True)
        assert isinstance(session, TacticCallSession)
        assert session.delivery == "re: two"
        return "done"

    tactic = Doing(do, log_store=store, inner=inner)
    with contextlib.nullcontext() if store else pytest.warns(UserWarning, match="no log store"):
        session = called(tactic, tags={"a": "b"})
    assert (session.state, session.delivery) == ("success", "done")
    assert [one.delivery for one in session.sub_tactic_sessions["asking"]] == ["re: one", "re: two"]
    assert session.total_cost.cost > 0
    assert tactic("x") == "done"


# -- endings


def test_an_error_is_raised_and_recorded(store: LogStore) -> None:
    """What `call` raises is raised as it is; the session has its type, message and traceback."""
    error = ValueError("cannot")

    def do(_: Doing) -> object:
        raise error

    tactic = Doing(do, log_store=store)
    with pytest.raises(ValueError, match="cannot") as caught:
        tactic("x")
    assert caught.value is error
    session = failed(tactic, store)
    assert (session.state, session.cancelled, session.delivery) == ("failure", False, None)
    assert session.error is not None
    assert (session.error.type, session.error.message) == ("ValueError", "cannot")
    record = store.load_session_record(session.session_id)
    assert "raise error" in (record.traceback or "")
    assert "in do" in (record.traceback or "")


def test_an_error_that_can_not_be_told_is_recorded_all_the_same(store: LogStore) -> None:
    """An exception whose __str__ or attributes raise is recorded by its type."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        @property
        def code(self) -> str:
            raise RuntimeError("no")

    def do(_: Doing) -> object:
        raise Hostile

    tactic = Doing(do, log_store=store)
    with pytest.raises(Hostile):
        tactic("x")
    session = failed(tactic, store)
    assert session.error is not None
    assert session.error.type.endswith("Hostile")


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("where", ["tool", "model", "call"])
def test_a_stop_leaves_a_finished_record(store: LogStore, error: BaseException, where: str) -> None:
    """Ctrl-C, exit and cancellation, wherever they are raised, are raised on, and every record that
    was begun says that it was cancelled."""

    @tool(description="stop")
    def stop() -> str:
        raise error

    def script(_: Request) -> Reply:
        return error if where == "model" else tool_call("stop")

    def do(self: Doing) -> object:
        if where == "call":
            raise error
        agent = self.agents["a"]
        agent.open()
        agent.receive("x")
        return agent.respond()

    tactic = Doing(do, config(script, tools=[stop]), log_store=store)
    with pytest.raises(type(error)):
        tactic("x")
    (summary,) = store.list_sessions()
    events = payloads(store, summary.session_id)
    last = events[-1]
    assert isinstance(last, model.SessionFailed)
    assert last.cancelled
    assert last.error.type.endswith(type(error).__name__)
    for event in events:
        if isinstance(event, model.AgentFailed | model.LLMFailed):
            assert event.cancelled
    ended = {"tool": "tool.failed", "model": "llm.failed", "call": "session.started"}[where]
    assert ended in [event.type for event in events]
    session = store.load_session(summary.session_id)
    assert session.cancelled
    assert all(call.state == "failure" for call in session.agent_sessions.get("a", ()))


def test_what_outlives_its_call_is_told(store: LogStore) -> None:
    """A thread that still uses an agent when its call has ended gets SessionEnded, and the record
    stays as it was."""
    done = threading.Event()
    told: list[BaseException] = []

    def late(agent: Agent) -> None:
        done.wait()
        for use in (agent.respond, lambda: agent.receive("x"), lambda: agent.open("other")):
            try:
                use()
            except SessionEnded as error:
                told.append(error)

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive("x")
        thread = threading.Thread(target=late, args=(agent,))
        thread.start()
        return thread

    tactic = Doing(do, config(echo), log_store=store)
    thread = cast(threading.Thread, tactic("x"))
    head = store.log.head()
    done.set()
    thread.join()
    assert len(told) == 3
    assert "has ended" in str(told[0])
    assert store.log.head() == head


def test_the_current_session_ends_with_the_call(store: LogStore) -> None:
    """Inside, the log context names the session and the agent; outside it names nothing."""
    seen: list[dict[str, str]] = []

    @tool(description="look")
    def look() -> str:
        seen.append(current_log_context())
        return "ok"

    def do(self: Doing) -> object:
        seen.append(current_log_context())
        agent = self.agents["a"]
        agent.open()
        agent.receive("x")
        with ThreadPoolExecutor(1) as pool:  # which knows nothing of the caller's context
            pool.submit(agent.respond).result()
        seen.append(current_log_context())
        return None

    session = called(Doing(do, config([tool_call("look"), "ok"], tools=[look]), log_store=store))
    here = {"session": session.session_id}
    assert seen == [here, here | {"agent": "a"}, here]
    assert current_log_context() == {}


def test_a_session_can_be_used_once(store: LogStore) -> None:
    """A session that has ended can't be entered again, and trying leaves nothing behind."""
    scope = store.session("script")
    with scope as recorder:
        recorder.deliver(1)
    with pytest.raises(SessionEnded), scope:
        pass
    assert current_log_context() == {}
    assert types(store) == ["session.started", "session.succeeded"]


# -- what is returned and what is loaded

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer", "tools", "broken", "unknown", "malformed", "recall", "refuse", "sub", "fork"]
        ),
        st.integers(1, 3),
    ),
    max_size=5,
)
ENDS = st.sampled_from(["deliver", "raise", "bad request", "cancel", "used up"])


@tool(description="Twice a number.")
def double(n: int) -> int:
    """A tool that works."""
    return 2 * n


@tool(description="Never works.")
def never(n: int) -> int:
    """A tool that raises."""
    raise RuntimeError(f"never {n}")


def replies_to(step: Step) -> list[Reply]:
    """What a model says in one step of a generated run."""
    kind, n = step
    calls = {
        "tools": tool_calls(*[tool_call("double", {"n": i}) for i in range(n)], text="calling"),
        "broken": tool_call("never", {"n": n}),
        "unknown": tool_call("nothing", {"n": n}),
        "malformed": tool_call("double", "{" * n),
    }
    if kind in calls:
        return [calls[kind], "7"]
    if kind == "recall":
        return [*[rate_limited(0)] * n, "7"]
    if kind == "refuse":
        return [*["seven"] * n, "7"]
    return ["7"]


class Generated(Tactic, register=False):
    """Does the steps of its task, each with an answer or a sub-tactic's."""

    name = "generated"

    def __init__(self, inner: Asking, given: dict[str, object], store: LogStore | None) -> None:
        super().__init__(given, log_store=store)
        self.inner = inner

    def call(self, task: object, **_: object) -> object:
        """Do the steps, then end as told."""
        steps, end = cast(tuple[list[Step], str], task)
        agent = self.agents["a"]
        agent.open("0")
        delivered: list[object] = []
        for number, (kind, n) in enumerate(steps, 1):
            if kind == "sub":
                delivered += [self.inner(f"sub {i}") for i in range(n)]
                continue
            if kind == "fork":
                agent.fork(
                    str(number - 1) if str(number - 1) in agent._dialogs else "0", str(number)
                )
            agent.receive_prompt(NUMBER)
            delivered.append(agent.respond().parsed)
        if end == "raise":
            raise LookupError("as told")
        if end in ("bad request", "cancel", "used up"):
            agent.receive("and?")
            agent.respond()
        return {"delivered": delivered, "as": (1, b"\x00")}


def parse(text: str) -> object:
    """An int or a ValueError."""
    return int(text)


NUMBER = Prompt("number", "Which number?", parser=parse)


def session_of(store: LogStore | None, steps: list[Step], end: str) -> TacticCallSession | None:
    """The session that a generated run returns; None where it raises."""
    script: list[Reply] = [
        reply for step in steps if step[0] != "sub" for reply in replies_to(step)
    ]
    script += {"bad request": [bad_request()], "cancel": [KeyboardInterrupt()]}.get(end, [])
    inner = Asking(config(echo))
    tactic = Generated(inner, config(script, tools=[double, never], system_prompt="Be."), store)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if store is None else "error")
            session = tactic((steps, end), return_session=True, metadata={"n": len(steps)})
    except BaseException:
        return None
    assert isinstance(session, TacticCallSession)
    return session


def timeless(value: object) -> object:
    """A session without its ids and times, for comparing two runs. Each log names definitions in
    its own way."""
    if isinstance(value, dict):
        varying = ("session_id", "started", "elapsed", "traceback", "first_token", "definition")
        return {key: timeless(item) for key, item in value.items() if key not in varying}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, end=ENDS)
def test_what_is_returned_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], end: str
) -> None:
    """For any run, what return_session returns equals what load_session loads, from either log; and
    without a store it is the same but for ids and times."""
    folder = tmp_path_factory.mktemp("runs")
    seen = []
    for backend in (SQLiteBackend(folder / "runs.db"), LocalFileBackend(folder / "logs")):
        with LogStore(backend) as store:
            returned = session_of(store, steps, end)
            (summary,) = store.list_sessions()
            loaded = store.load_session(summary.session_id)
            assert loaded.state == ("success" if end == "deliver" else "failure")
            if returned is not None:
                assert returned == loaded
                assert summary.total_cost == pytest.approx(returned.total_cost.cost)
            assert {call.state for call in loaded.agent_sessions.get("a", ())} <= {
                "success", "failure"
            }  # fmt: skip
            seen.append(timeless(msgspec.to_builtins(loaded)))
    assert seen[0] == seen[1]
    homeless = session_of(None, steps, end)
    assert (homeless is None) == (end != "deliver")
    if homeless is not None:
        assert timeless(msgspec.to_builtins(homeless)) == seen[0]


# -- whatever users pass


class Point(msgspec.Struct):
    """A Struct."""

    x: int
    y: float


@dataclasses.dataclass
class Thing:
    """A dataclass."""

    name: str
    inner: object = None


class Shape(pydantic.BaseModel):
    """A pydantic model."""

    corners: int
    tags: set[str] = set()


class Unprintable:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def cycle() -> object:
    """A list that holds itself."""
    items: list[object] = [1]
    items.append(items)
    return items


HOSTILE: dict[str, Callable[[], object]] = {
    "bytes": lambda: b"\x00\xff",
    "nan": lambda: [float("nan"), float("inf")],
    "surrogate": lambda: "\ud800 lone",
    "surrogate key": lambda: {"\udfff": "\ud800"},
    "cycle": cycle,
    "unprintable": Unprintable,
    "huge": lambda: "x" * 5_000_000,
    "struct": lambda: Point(1, 2.5),
    "dataclass": lambda: Thing("a", Thing("b", (1, 2))),
    "pydantic": lambda: Shape(corners=3, tags={"a"}),
    "int keys": lambda: {1: "a", (2, 3): "b"},
    "marked": lambda: {"$lllm": "bytes", "base64": "!"},
    "big int": lambda: 2**200,
    "lock": threading.Lock,
    "exception": lambda: ValueError("x"),
    "generator": lambda: (n for n in range(3)),
    "nul": lambda: "a\x00b",
}
FAITHFUL: dict[str, object] = {
    "bytes": b"\x00\xff",
    "surrogate": "\ud800 lone",
    "surrogate key": {"\udfff": "\ud800"},
    "huge": "x" * 5_000_000,
    "struct": {"x": 1, "y": 2.5},
    "dataclass": {"name": "a", "inner": {"name": "b", "inner": (1, 2)}},
    "pydantic": {"corners": 3, "tags": {"a"}},
    "int keys": {1: "a", (2, 3): "b"},
    "marked": {"$lllm": "bytes", "base64": "!"},
    "big int": 2**200,
    "nul": "a\x00b",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_is_recorded(store: LogStore, name: str) -> None:
    """Whatever a user passes as task or metadata, or a tool or `call` returns, is recorded
    faithfully or as a marked repr, and never an exception."""
    value = HOSTILE[name]()

    @tool(description="give")
    def give() -> object:
        return value

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive(self.task)
        agent.respond()
        return value

    tactic = Doing(do, config([tool_call("give"), "done"], tools=[give]), log_store=store)
    assert tactic(value, metadata=value) is value
    (summary,) = store.list_sessions()
    session = store.load_session(summary.session_id)
    assert session.unknown_events == 0
    (ran,) = session.agent_sessions["a"][0].interrupts[1]
    assert ran.state == "success"
    returned = ran.told if ran.value is None else ran.value
    got = [session.task, session.metadata, session.delivery, returned]
    if name in FAITHFUL:
        assert got == [FAITHFUL[name]] * 4


def test_a_clock_that_jumps_back_changes_no_duration(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durations come from a monotonic clock: a wall clock that jumps back a day changes none."""
    clock = time.time_ns
    behind = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time_ns", lambda: clock() - next(behind) * 10**9)
    given = config([tool_call("double", {"n": 1}), rate_limited(0), "ok"], tools=[double])
    session = called(Asking(given, log_store=store))
    assert session.elapsed is not None
    assert 0 < session.elapsed < 60 * 10**9
    (call,) = session.agent_sessions["a"]
    assert call.elapsed is not None
    assert 0 < call.elapsed <= session.elapsed
    (ran,) = call.interrupts[1]
    assert ran.elapsed is not None
    assert 0 <= ran.elapsed <= call.elapsed
    assert store.load_session(session.session_id) == session


# -- redact

# Long enough that no digest or id of an event holds it by chance.
_CARD = "411141114111"


def test_what_redact_returns_is_written(store: LogStore, open_backend: OpenBackend) -> None:
    """redact sees every payload before it is written, and what it returns is."""
    seen: set[str] = set()

    def redact(type_: str, payload: object) -> object:
        seen.add(type_)
        return json.loads(json.dumps(payload).replace(_CARD, "****"))

    with LogStore(open_backend(), redact=redact) as redacting:
        tactic = Asking(config(echo, system_prompt=f"never say {_CARD}"), log_store=redacting)
        assert (
            tactic(f"card {_CARD}", tags={"card": _CARD}, metadata=[_CARD]) == f"re: card {_CARD}"
        )
        (summary,) = redacting.list_sessions(tags={"card": "****"})
        assert redacting.load_session(summary.session_id).delivery == "re: card ****"
    assert not [event for event in store.log.read() if _CARD.encode() in event.data]
    assert seen == set(types(store))


@pytest.mark.parametrize("wrong", ["raises", "forgets to return", "returns nonsense"])
def test_a_redact_that_fails_leaves_marks(open_backend: OpenBackend, wrong: str) -> None:
    """Where redact raises, or returns what is no payload, nothing that a user, model or tool said
    is written; the session can still be loaded, and its bill adds up."""

    def redact(type_: str, _: object) -> object:
        if wrong == "raises":
            raise KeyError(type_)
        return None if wrong == "forgets to return" else {"message": "what?"}

    with LogStore(open_backend(), redact=redact) as store:
        given = config([tool_call("double", {"n": int(_CARD)}), _CARD], tools=[double])
        tactic = Asking(given, log_store=store)
        session = called(tactic, _CARD, tags={"card": _CARD}, metadata=_CARD)
        assert not [event for event in store.log.read() if _CARD.encode() in event.data]
        assert (session.state, session.unknown_events) == ("success", 0)
        assert session.total_cost.cost > 0
        assert cast(dict[str, str], session.task)["$lllm"] == "redacted"
        (call,) = session.agent_sessions["a"]
        assert "redacted" in str(call.delivery)
        assert store.load_session(session.session_id) == session
        (summary,) = store.list_sessions()
        assert (summary.state, summary.tags) == ("success", {})
        failed(Asking(config([bad_request(_CARD)]), log_store=store), store)
        assert not [event for event in store.log.read() if _CARD.encode() in event.data]


@pytest.mark.parametrize("changes", [{}, {"salt": "AAAA"}])
def test_the_salt_is_not_redact_s_to_change(
    open_backend: OpenBackend, changes: dict[str, str]
) -> None:
    """A redact that drops or changes the salt does not make the session unreadable."""

    def redact(_: str, payload: object) -> object:
        assert isinstance(payload, dict)
        return {key: value for key, value in payload.items() if key != "salt"} | changes

    with LogStore(open_backend(), redact=redact) as store:
        session = called(Asking(config(echo), log_store=store))
        assert (session.task, session.delivery) == ("task", "re: task")


# -- names, pickles, forks


def test_named_tactics_register_themselves(store: LogStore) -> None:
    """A subclass with a name is found by build_tactic; register=False opts out; an unknown name is
    a ConfigError that lists what there is."""

    class Listed(Tactic):
        name = "test-tactic-listed"

        def call(self, task: object, **_: object) -> object:
            return f"did {task}"

    class Unlisted(Tactic, register=False):
        name = "test-tactic-unlisted"

    built = build_tactic(name="test-tactic-listed", log_store=store)
    assert isinstance(built, Listed)
    assert built("x") == "did x"
    with pytest.raises(ConfigError, match=r"no tactic 'test-tactic-unlisted'\. Registered are:"):
        build_tactic(name="test-tactic-unlisted")


def test_a_quick_question(store: LogStore) -> None:
    """Tactic.quick asks one agent once; with a store it is a session, without one no warning."""
    invoker = ScriptedInvoker(echo)
    answer = Tactic.quick("why?", model="gpt-4o-mini", invoker=invoker, system_prompt="Be.")
    assert answer == "re: why?"
    Tactic.quick("how?", model="gpt-4o-mini", invoker=invoker, log_store=store, tags={"a": "b"})
    (summary,) = store.list_sessions(tags={"a": "b"})
    assert summary.tactic_path == "quick"


class Keeping(Asking, register=False):
    """A tactic that says itself what of it can be pickled."""

    def __init__(self, given: dict[str, object], *, log_store: LogStore | None = None) -> None:
        super().__init__(given, log_store=log_store)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in cast(dict, super().__getstate__()).items() if k != "lock"}  # type: ignore[type-arg] # a state

    def call(self, task: object, **options: object) -> object:
        """With the lock, where there is one."""
        with self.lock:
            return super().call(task, **options)


def test_what_pickle_leaves_out_is_there_in_a_call(store: LogStore) -> None:
    """The copy that a call runs on has what a subclass's __getstate__ leaves out."""
    tactic = Keeping(config(["one", "two"]), log_store=store)
    assert tactic("x") == "one"
    outer = Doing(lambda self: cast(Keeping, vars(self)["inner"])("x"), inner=tactic)
    with pytest.warns(UserWarning, match="'doing' has no log store"):
        assert outer("x") == "two"
    assert "lock" not in vars(pickle.loads(pickle.dumps(tactic)))


def run_elsewhere(pickled: bytes) -> tuple[object, str]:
    """Call a pickled tactic in this process; its result, and the session's id."""
    tactic = pickle.loads(pickled)
    result = tactic("from elsewhere")
    (summary,) = tactic.log_store.list_sessions(limit=1)
    tactic.log_store.close()
    return result, summary.session_id


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_tactic_goes_to_another_process(store: LogStore, method: str) -> None:
    """A pickled tactic takes along where its sessions are kept."""
    tactic = Asking(config(["hello"]), log_store=store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            result, session_id = pool.apply(run_elsewhere, (pickle.dumps(tactic),))
    assert result == "hello"
    assert store.load_session(session_id).task == "from elsewhere"


def test_a_forked_child_leaves_the_session_alone(store: LogStore) -> None:
    """In a child that is forked in the middle of a call, the parent's agents raise WrongProcess, a
    tactic is recorded as a child session, and the parent goes on unharmed."""
    inner = Asking(config(echo))

    def in_child(agent: Agent, below: Asking) -> None:
        for use in (agent.respond, lambda: agent.receive("x")):
            with pytest.raises(WrongProcess, match="Call a tactic in the forked process"):
                use()
        assert below("from the child") == "re: from the child"

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive("before")
        assert fork(lambda: in_child(agent, cast(Asking, vars(self)["inner"]))) == 0
        return agent.respond().content

    session = called(Doing(do, config(echo), log_store=store, inner=inner))
    assert session.delivery == "re: before"
    (child,) = session.sub_tactic_sessions["asking"]
    assert child.delivery == "re: from the child"
    events = payloads(store, child.session_id)
    assert isinstance(events[0], model.SessionStarted)
    assert [one.session_id for one in events[0].ancestors] == [session.session_id]
    assert events[0].ordinal is None  # children in several processes have no common order
    seqs = [event.seq for event in store.events(session.session_id)]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("error", [None, SystemExit(0)])
def test_a_forked_child_may_walk_out_of_the_call(
    store: LogStore, error: BaseException | None
) -> None:
    """A child that leaves the call it was forked in, by returning or raising, writes nothing, and
    what it raises is not replaced."""
    scope = store.session("script")
    with scope as recorder:
        kind = None if error is None else type(error)
        assert fork(lambda: scope.__exit__(kind, error, None)) == 0
        recorder.deliver("parent")
    assert types(store) == ["session.started", "session.succeeded"]


# -- names of the system that Lesson 7 comes from, and names that are mistyped


def test_a_session_counts_its_calls(store: LogStore) -> None:
    """agent_cost and sub_tactic_cost are the total's two parts; summary() has five fields."""
    tactic = Doing(
        lambda self: [vars(self)["inner"](n) for n in range(3)],
        log_store=store,
        inner=Asking(config(echo)),
    )
    session = called(tactic)
    assert (session.agent_call_count, session.sub_tactic_call_count) == (0, 3)
    below = session.sub_tactic_sessions["asking"][0]
    assert (below.agent_call_count, below.sub_tactic_call_count) == (1, 0)
    assert below.agent_cost == below.total_cost
    assert session.agent_cost.cost == 0
    assert session.sub_tactic_cost == session.total_cost
    assert session.summary() == {
        "tactic": "doing",
        "state": "success",
        "agent_calls": 0,
        "sub_tactic_calls": 3,
        "total_cost": session.total_cost.cost,
    }


def test_the_traceback_has_two_names(store: LogStore) -> None:
    """error_traceback is the traceback of a failed call."""
    session = failed(Doing(lambda _: 1 / 0, log_store=store), store)
    assert session.error_traceback == session.traceback
    assert "ZeroDivisionError" in str(session.error_traceback)


def test_return_sessions(store: LogStore) -> None:
    """bcall takes return_sessions, too."""
    sessions = Asking(config(echo), log_store=store).bcall(["a", "c"], return_sessions=True)
    assert [session.delivery for session in sessions] == ["re: a", "re: c"]


class Narrow(Tactic, register=False):
    """Takes one option of its own."""

    name = "narrow"

    def call(self, task: object, tagged: bool = False) -> object:
        """Says what it got."""
        return tagged and task is not None


class Unmade(Tactic, register=False):
    """A tactic whose __init__ leaves that of Tactic out."""

    name = "unmade"

    def __init__(self) -> None:
        pass

    def call(self, task: str) -> str:
        """Never gets here."""
        return task


def test_a_tactic_that_was_not_made_whole() -> None:
    """Where its own __init__ forgot to call Tactic's, a call says so."""
    with pytest.raises(ConfigError, match=r"Unmade\.__init__ must call super\(\)\.__init__"):
        Unmade()("x")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("retrun_session", "return_session"), ("tag", "tags"), ("meta_data", "metadata"),
     ("budget_us", "budget_usd")],
)  # fmt: skip
def test_a_mistyped_option_is_told(store: LogStore, given: str, meant: str) -> None:
    """Where `call` takes any keyword, a warning tells; where it does not, a TypeError, and no
    session begins."""
    with pytest.warns(UserWarning, match=f"'{given}'.* did you mean '{meant}'") as caught:
        assert Asking(config(echo), log_store=store)("x", **{given: True}) == "re: x"
    assert caught[0].filename == __file__
    before = len(store.list_sessions())
    with pytest.raises(TypeError, match=f"'{given}'.* did you mean '{meant}'"):
        Narrow(log_store=store)("x", **{given: True})
    assert len(store.list_sessions()) == before


def test_an_option_of_call_is_not_taken_for_another(store: LogStore) -> None:
    """A parameter of `call` may look like an option of lllm's."""
    assert Narrow(log_store=store)("x", tagged=True) is True
