"""Sub-tactics: their calls are children of the running call, wherever that runs them."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from lllm import LogStore, SQLiteBackend, Tactic, tool
from lllm.events import model
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, tool_call
from lllm.projections.session.call_session import TacticCallSession
from tests.conftest import OpenBackend
from tests.support.runs import Asking, Doing, called, config, payloads, types


def echo(request: Request) -> Reply:
    """Answers with what was said last."""
    return f"re: {request.messages[-1].text}"


class Echoing(Asking, register=False):
    """A sub-tactic that can be pickled."""

    name = "echoing"

    def __init__(self, *, log_store: LogStore | None = None) -> None:
        super().__init__(config(echo), log_store=log_store)


def started(store: LogStore, session_id: str) -> model.SessionStarted:
    """How a session began."""
    first = payloads(store, session_id)[0]
    assert isinstance(first, model.SessionStarted)
    return first


def children(session: TacticCallSession) -> list[TacticCallSession]:
    """The calls below a session, of any tactic."""
    return [one for calls in session.sub_tactic_sessions.values() for one in calls]


def inner(self: Doing) -> Callable[..., object]:
    """The attribute of a running tactic that the tests call `inner`."""
    return cast(Callable[..., object], vars(self)["inner"])


def test_a_sub_tactic_s_call_is_a_child(store: LogStore) -> None:
    """A tactic assigned to an attribute inherits the log store; its calls are children, by name,
    and their cost is in the parent's total."""
    tactic = Doing(
        lambda self: [inner(self)("a"), inner(self)("b")], log_store=store, inner=Echoing()
    )
    session = called(tactic)
    assert session.delivery == ["re: a", "re: b"]
    assert list(session.sub_tactic_sessions) == ["echoing"]
    one, two = session.sub_tactic_sessions["echoing"]
    assert (one.task, two.task) == ("a", "b")
    begun = started(store, two.session_id)
    assert [above.session_id for above in begun.ancestors] == [session.session_id]
    assert (begun.ordinal, begun.parent_tool) == (2, None)
    assert session.total_cost.cost == pytest.approx(one.total_cost.cost + two.total_cost.cost)
    assert one.total_cost.cost > 0
    assert [summary.session_id for summary in store.list_sessions()] == [session.session_id]
    found = store.list_sessions(tactic_path="echoing")
    assert {summary.session_id for summary in found} == {one.session_id, two.session_id}


def test_the_original_stays_unbound(store: LogStore) -> None:
    """Outside a call, the sub-tactic object is what it was: its own calls are roots."""
    sub = Echoing(log_store=store)
    called(Doing(lambda self: inner(self)("a"), log_store=store, inner=sub))
    sub("alone")
    assert len(store.list_sessions()) == 2


@pytest.mark.parametrize(
    ("hold", "find"),
    [
        (lambda sub: [sub], lambda held: held[0]),
        (lambda sub: (1, sub), lambda held: held[1]),
        (lambda sub: {"a": sub}, lambda held: held["a"]),
        (lambda sub: {"a": [{"b": sub}]}, lambda held: held["a"][0]["b"]),
    ],
)
def test_sub_tactics_may_stand_in_containers(
    store: LogStore, hold: Callable[..., object], find: Callable[..., Tactic]
) -> None:
    """Sub-tactics in lists, tuples and dicts are bound too, so that threads find their parent."""

    def do(self: Doing) -> object:
        with ThreadPoolExecutor() as pool:
            return pool.submit(find(inner(self)), "a").result()

    held = hold(Echoing())
    session = called(Doing(do, log_store=store, inner=held))
    assert [child.delivery for child in children(session)] == ["re: a"]


def test_containers_of_data_stay_what_they_are(store: LogStore) -> None:
    """A container without a tactic is the same object in a call, one that holds itself too."""
    itself: list[object] = [1]
    itself.append(itself)
    data = {"big": list(range(10_000)), "small": [{"a": (1, 2)}], "itself": itself}
    tactic = Doing(lambda self: inner(self) is data, log_store=store, inner=data)
    assert tactic("x") is True


def test_in_threads_of_one_s_own(store: LogStore) -> None:
    """Calls that `call` runs in its own threads are children, though no context reaches them."""

    def do(self: Doing) -> object:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(inner(self), range(32)))
        thread = threading.Thread(target=inner(self), args=("bare",))
        thread.start()
        thread.join()
        return results

    session = called(Doing(do, log_store=store, inner=Echoing()))
    assert session.delivery == [f"re: {n}" for n in range(32)]
    assert len(children(session)) == 33
    ordinals = sorted(started(store, one.session_id).ordinal or 0 for one in children(session))
    assert ordinals == list(range(1, 34))


def test_calls_of_one_tactic_in_threads_do_not_mix(store: LogStore) -> None:
    """Sixteen calls of one tactic at once, each with sub-calls in threads: each has its own."""

    def do(self: Doing) -> object:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(inner(self), [f"{self.task}.{n}" for n in range(3)]))

    tactic = Doing(do, log_store=store, inner=Echoing())
    with ThreadPoolExecutor(16) as pool:
        sessions = list(pool.map(lambda n: called(tactic, str(n)), range(16)))
    for n, session in enumerate(sessions):
        assert sorted(str(one.task) for one in children(session)) == [f"{n}.{i}" for i in range(3)]


def test_the_innermost_session_is_the_parent(store: LogStore) -> None:
    """A sub-tactic called within a session inside the call is that session's child; one that is
    handed to another tactic is that one's."""

    def hand_over(self: Doing) -> object:
        with store.session("step"):
            inner(self)("in the step")
        return cast(Callable[..., object], vars(self)["other"])(inner(self))

    other = Doing(lambda self: cast(Callable[..., object], self.task)("handed over"))
    session = called(Doing(hand_over, log_store=store, inner=Echoing(), other=other))
    (step,) = session.sub_tactic_sessions["step"]
    (below,) = session.sub_tactic_sessions["doing"]
    assert [one.task for one in children(step)] == ["in the step"]
    assert [one.task for one in children(below)] == ["handed over"]


def test_below_the_below(store: LogStore) -> None:
    """Sub-tactics of sub-tactics name all their ancestors, root first, in threads too."""

    def in_thread(self: Doing) -> object:
        with ThreadPoolExecutor() as pool:
            return pool.submit(inner(self), "x").result()

    middle = Doing(in_thread, inner=Echoing())
    session = called(Doing(in_thread, log_store=store, inner=middle))
    (child,) = children(session)
    (grandchild,) = children(child)
    lineage = [one.session_id for one in started(store, grandchild.session_id).ancestors]
    assert lineage == [session.session_id, child.session_id]
    assert session.total_cost == child.total_cost == grandchild.total_cost


def test_a_tactic_may_call_itself(store: LogStore) -> None:
    """`self(task)` within `call` is a child of the running call."""

    def do(self: Doing) -> object:
        depth = cast(int, self.task)
        return depth if depth == 0 else self(depth - 1)

    session = called(Doing(do, log_store=store), 3)
    for depth in (2, 1, 0):
        (session,) = children(session)
        assert session.task == depth
    assert len(store.list_sessions()) == 1


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_sub_tactic_inside_a_tool(store: LogStore, in_thread: bool) -> None:
    """A tactic called by a tool, an attribute or not, is a child that names the tool; what it calls
    in turn does not."""
    below = Echoing(log_store=store)
    helper = Doing(lambda _: below("deep"), log_store=store)

    @tool(description="ask a colleague", repeat=True)
    def ask() -> str:
        return str(helper("from the tool"))

    def do(self: Doing) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive("x")
        if not in_thread:
            return agent.respond().content
        with ThreadPoolExecutor() as pool:
            return pool.submit(agent.respond).result().content

    script = [tool_call("ask"), tool_call("ask"), "done"]
    session = called(Doing(do, config(script, tools=[ask]), log_store=store))
    assert session.delivery == "done"
    helpers = children(session)
    assert [started(store, one.session_id).parent_tool for one in helpers] == [1, 2]
    for one in helpers:
        (deep,) = children(one)
        assert started(store, deep.session_id).parent_tool is None
    assert len(store.list_sessions()) == 1


def test_a_failing_sub_tactic_is_the_caller_s_to_catch(store: LogStore) -> None:
    """A child that fails is recorded as failed; the parent goes on if it catches the error."""

    def fail(_: Doing) -> object:
        raise LookupError("below")

    def do(self: Doing) -> object:
        with pytest.raises(LookupError):
            inner(self)("x")
        return "went on"

    session = called(Doing(do, log_store=store, inner=Doing(fail)))
    (child,) = children(session)
    assert (session.state, child.state) == ("success", "failure")


def test_a_store_of_its_own_is_a_tree_of_its_own(store: LogStore, tmp_path: Path) -> None:
    """A sub-tactic with another store writes roots there, which that store lists."""
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other:
        sub = Echoing(log_store=other)
        session = called(Doing(lambda self: inner(self)("a"), log_store=store, inner=sub))
        assert children(session) == []
        (root,) = other.list_sessions()
        assert started(other, root.session_id).ancestors == ()
        assert other.load_session(root.session_id).delivery == "re: a"


def test_a_parent_without_a_store_does_not_silence_its_children(store: LogStore) -> None:
    """A sub-tactic with a store, in a call without one, is kept as a root."""
    tactic = Doing(lambda self: inner(self)("a"), inner=Echoing(log_store=store))
    with pytest.warns(UserWarning, match="'doing' has no log store"):
        tactic("x")
    assert [one.tactic_path for one in store.list_sessions()] == ["echoing"]


def in_pool(
    method: str, work: Callable[..., object], *tasks: object, workers: int = 1
) -> list[object]:
    """What some work returns in other processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(pool.map(work, tasks))


def pooled(self: Doing) -> object:
    """Call the sub-tactic in a pool of processes."""
    return in_pool(str(self.task), inner(self), "a", "b")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_in_another_process(store: LogStore, method: str) -> None:
    """A sub-tactic pickled into another process writes to the parent's store, as a child of the
    running call, with its cost in the parent's total."""
    session = called(Doing(pooled, log_store=store, inner=Echoing()), method)
    assert session.delivery == ["re: a", "re: b"]
    pids = {started(store, one.session_id).pid for one in children(session)}
    assert len(pids) == 1
    assert pids != {started(store, session.session_id).pid}
    assert session.total_cost.cost > 0
    assert store.load_session(session.session_id) == session
    ordinals = {started(store, one.session_id).ordinal for one in children(session)}
    assert ordinals == {None}


class Pooling(Tactic, register=False):
    """A tactic whose own method runs in another process."""

    name = "pooling"

    def __init__(self, *, log_store: LogStore | None = None) -> None:
        super().__init__(log_store=log_store)
        self.inner = Echoing()

    def call(self, task: object, **_: object) -> object:
        """Run `step` elsewhere."""
        return in_pool(str(task), self.step, "a")

    def step(self, task: object) -> object:
        """Use the sub-tactic there."""
        return self.inner(task)


def test_a_method_in_another_process(store: LogStore) -> None:
    """The running tactic itself may be pickled: what its methods call there are its children."""
    session = called(Pooling(log_store=store), "fork")
    assert [one.delivery for one in children(session)] == ["re: a"]


def test_a_store_in_memory_can_not_travel() -> None:
    """With a store in memory, a child process says that it has no store, and still works."""
    with LogStore(SQLiteBackend(":memory:")) as store:
        kept: list[Tactic] = []
        tactic = Doing(
            lambda self: kept.append(cast(Tactic, inner(self))), log_store=store, inner=Echoing()
        )
        called(tactic)
        arrived = pickle.loads(pickle.dumps(kept[0]))
        with pytest.warns(UserWarning, match="'echoing' has no log store"):
            assert arrived("x") == "re: x"


@pytest.mark.slow
def test_two_processes_write_a_definition_once(open_backend: OpenBackend) -> None:
    """A definition is written once for each log, by whichever process is first."""
    with LogStore(open_backend()) as store:
        tactic = Echoing(log_store=store)
        pickled = pickle.dumps(tactic)
        in_pool("spawn", call_pickled, pickled, pickled, workers=2)
        tactic("here")
        assert types(store).count("agent.defined") == 1
        assert types(store).count("session.succeeded") == 3


def call_pickled(pickled: bytes) -> object:
    """Call a tactic that another process sent."""
    return pickle.loads(pickled)("there")
