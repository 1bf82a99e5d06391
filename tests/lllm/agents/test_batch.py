"""Many tasks at once: bcall in threads, ccall on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import cast

import pytest

from lllm import LogStore
from lllm.invokers import Request
from lllm.invokers.scripted import Reply
from lllm.projections.session.call_session import TacticCallSession
from tests.support.runs import Asking, AsyncAsking, Doing, called, config, types


def echo(request: Request) -> Reply:
    """Answers with what was said last; a task that says so fails."""
    text = request.messages[-1].text
    return LookupError(text) if text.startswith("bad") else f"re: {text}"


TASKS = ["one", "bad two", "three", "bad four", "five"]
KINDS = pytest.mark.parametrize("kind", [Asking, AsyncAsking])
Kind = type[Asking] | type[AsyncAsking]


@KINDS
def test_results_come_in_the_order_of_the_tasks(store: LogStore, kind: Kind) -> None:
    """bcall returns the results in the order of the tasks, however many run at once."""
    tactic = kind(config(echo), log_store=store)
    tasks = [str(n) for n in range(20)]
    assert tactic.bcall(tasks, max_workers=4) == [f"re: {n}" for n in tasks]
    assert tactic.bcall(iter(tasks)) == [f"re: {n}" for n in tasks]
    assert tactic.bcall([]) == []
    assert len(store.list_sessions()) == 40


def test_max_workers_bounds_what_runs_at_once(store: LogStore) -> None:
    """No more than max_workers calls run at once, and as many do."""
    running = 0
    most: list[int] = []
    lock = threading.Lock()
    meeting = threading.Barrier(3)

    def do(_: Doing) -> None:
        nonlocal running
        with lock:
            running += 1
            most.append(running)
        meeting.wait(10)
        with lock:
            running -= 1

    Doing(do, log_store=store).bcall(range(9), max_workers=3)
    assert max(most) == 3


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_an_error(store: LogStore, workers: int) -> None:
    """max_workers below one is a ValueError, in threads and on a loop."""
    tactic = Asking(config(echo), log_store=store)
    with pytest.raises(ValueError, match="max_workers is at least 1"):
        tactic.bcall(["x"], max_workers=workers)

    async def main() -> None:
        async for _ in tactic.ccall(["x"], max_workers=workers):
            pass

    with pytest.raises(ValueError, match="max_workers is at least 1"):
        asyncio.run(main())


@KINDS
def test_the_first_error_is_raised(store: LogStore, kind: Kind) -> None:
    """With fail_fast an error is raised, and tasks that have not begun are left."""
    tactic = kind(config(echo), log_store=store)
    with pytest.raises(LookupError, match="bad two"):
        tactic.bcall([*TASKS, *map(str, range(500))], max_workers=1)
    assert len(store.list_sessions()) < 500
    assert all(one.state != "running" for one in store.list_sessions())


@KINDS
def test_errors_may_stand_in_their_place(store: LogStore, kind: Kind) -> None:
    """Without fail_fast every task is called, and an error stands in its task's place."""
    tactic = kind(config(echo), log_store=store)
    results = tactic.bcall(TASKS, fail_fast=False)
    assert results[::2] == ["re: one", "re: three", "re: five"]
    assert [str(error) for error in results[1::2]] == ["bad two", "bad four"]
    assert len(store.list_sessions(state="failure")) == 2


@pytest.mark.parametrize("fail_fast", [True, False])
def test_ctrl_c_stops_a_batch(store: LogStore, fail_fast: bool) -> None:
    """What wants to stop the program is raised either way, and no further task begins."""
    ran: list[object] = []

    def do(self: Doing) -> object:
        ran.append(self.task)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Doing(do, log_store=store).bcall(range(100), max_workers=1, fail_fast=fail_fast)
    assert fail_fast is False or len(ran) < 100


def test_arguments_go_to_every_call(store: LogStore) -> None:
    """tags, metadata, return_session and options go to each call of a batch."""
    tactic = Asking(config(echo), log_store=store)
    sessions = tactic.bcall(["a", "b"], tags={"n": "1"}, metadata="m", return_session=True, depth=2)
    assert [cast(TacticCallSession, one).delivery for one in sessions] == ["re: a", "re: b"]
    assert [cast(TacticCallSession, one).metadata for one in sessions] == ["m", "m"]
    assert len(store.list_sessions(tags={"n": "1"})) == 2


def test_a_batch_inside_a_call_is_of_its_session(store: LogStore) -> None:
    """The calls of a batch within a call are its children, attribute or not."""
    attribute, other = Asking(config(echo)), Asking(config(echo), log_store=store)

    def do(self: Doing) -> object:
        inner = cast(Asking, vars(self)["inner"])
        return [inner.bcall(["a", "b"]), other.bcall(["c", "d"])]

    session = called(Doing(do, log_store=store, inner=attribute))
    assert session.delivery == [["re: a", "re: b"], ["re: c", "re: d"]]
    children = session.sub_tactic_sessions["asking"]
    assert sorted(str(one.task) for one in children) == ["a", "b", "c", "d"]
    assert session.total_cost.cost == pytest.approx(sum(one.total_cost.cost for one in children))
    assert len(store.list_sessions()) == 1


# -- on a loop


async def gathered(tactic: Asking | AsyncAsking, **options: object) -> dict[int, object]:
    """The results of ccall by their index."""
    return {index: result async for index, result in tactic.ccall(TASKS[::2], **options)}  # type: ignore[arg-type] # ccall's own


@KINDS
@pytest.mark.parametrize("workers", [None, 1, 2])
def test_results_come_with_their_index(store: LogStore, kind: Kind, workers: int | None) -> None:
    """ccall yields (index of the task, result)."""
    tactic = kind(config(echo), log_store=store)
    results = asyncio.run(gathered(tactic, max_workers=workers))
    assert results == {0: "re: one", 1: "re: three", 2: "re: five"}


def test_results_come_as_they_are_ready(store: LogStore) -> None:
    """ccall yields what is ready first, first."""
    gates = [threading.Event() for _ in range(3)]

    def do(self: Doing) -> object:
        gates[cast(int, self.task)].wait()
        return self.task

    async def main() -> list[int]:
        seen = []
        gates[2].set()
        async for index, _ in Doing(do, log_store=store).ccall([0, 1, 2]):
            seen.append(index)
            gates[{2: 0, 0: 1, 1: 2}[index]].set()
        return seen

    assert asyncio.run(main()) == [2, 0, 1]


def test_the_first_error_on_a_loop_cancels_the_rest(store: LogStore) -> None:
    """With fail_fast the first error is raised from ccall, and what still runs is cancelled."""

    class Mixed(AsyncAsking, register=False):
        name = "mixed"

        async def call(self, task: object, **_: object) -> object:
            if task == "bad":
                raise LookupError("bad")
            await asyncio.Event().wait()
            return None

    async def main() -> None:
        async for _ in Mixed(config(echo), log_store=store).ccall(["wait", "bad", "wait"]):
            pass

    with pytest.raises(LookupError, match="bad"):
        asyncio.run(main())
    sessions = [store.load_session(one.session_id) for one in store.list_sessions()]
    assert sorted((one.state, one.cancelled) for one in sessions) == [
        ("failure", False), ("failure", True), ("failure", True),
    ]  # fmt: skip


@KINDS
def test_errors_on_a_loop_may_come_as_results(store: LogStore, kind: Kind) -> None:
    """Without fail_fast an error comes as its task's result."""
    tactic = kind(config(echo), log_store=store)

    async def main() -> dict[int, object]:
        return {i: result async for i, result in tactic.ccall(TASKS, fail_fast=False)}

    results = asyncio.run(main())
    assert len(results) == len(TASKS)
    assert [str(results[index]) for index in (1, 3)] == ["bad two", "bad four"]


def test_leaving_the_loop_cancels_the_rest(store: LogStore) -> None:
    """Breaking out of ccall cancels what still runs; every session is finished."""

    class Slow(AsyncAsking, register=False):
        name = "slow"

        async def call(self, task: object, **_: object) -> object:
            if task:
                await asyncio.Event().wait()
            return task

    async def main() -> None:
        results = Slow(config(echo), log_store=store).ccall([0, 1, 2])
        async with contextlib.aclosing(results):
            async for index, _ in results:
                assert index == 0
                break

    asyncio.run(main())
    assert sorted(one.state for one in store.list_sessions()) == ["failure", "failure", "success"]


def test_a_batch_on_a_loop_inside_a_call_is_of_its_session(store: LogStore) -> None:
    """The calls of ccall within a call are its children."""
    inner = AsyncAsking(config(echo), log_store=store)

    class Outer(AsyncAsking, register=False):
        name = "outer"

        async def call(self, _task: object, **_: object) -> object:
            return dict(sorted([pair async for pair in inner.ccall(["a", "b"])]))

    asyncio.run(Outer(log_store=store).acall("x"))
    (summary,) = store.list_sessions()
    session = store.load_session(summary.session_id)
    assert session.delivery == {0: "re: a", 1: "re: b"}
    assert len(session.sub_tactic_sessions["async-asking"]) == 2
    assert types(store).count("session.started") == 3
