"""Sessions of generators: they are current for the generator's own code, and for no other."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events.concurrency import finalizer_work
from lllm.projections.session.call_session import TacticCallSession
from lllm.sessions import generator_sessions as stepwise
from lllm.sessions import with_in_generator
from lllm.sessions.current_session import running_session


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def sessions(store: LogStore) -> dict[str, TacticCallSession]:
    """The top-level sessions, by name."""
    found = [store.load_session(one.session_id) for one in store.list_sessions()]
    return {one.tactic_name: one for one in found}


def called(store: LogStore, name: str) -> str:
    """A session that is begun and left here."""
    with store.session(name):
        return name


def test_a_decorated_generator(store: LogStore) -> None:
    """What it yields is the delivery; calls within its steps are its children, calls of the loop
    over it are not; send, throw and its result work as ever."""

    @store.tactic("stream")
    def stream(text: str) -> Iterator[str]:
        for letter in text:
            yield called(store, f"in {letter}")

    assert inspect.isgeneratorfunction(stream)
    for item in stream("ab"):
        called(store, f"beside {item}")
        assert running_session() is None
    found = sessions(store)
    assert set(found) == {"stream", "beside in a", "beside in b"}
    assert (found["stream"].task, found["stream"].delivery) == ("ab", ["in a", "in b"])
    assert set(found["stream"].sub_tactic_sessions) == {"in a", "in b"}

    @store.tactic("talks")
    def talks(_: str) -> Any:
        got = yield 1
        try:
            yield got
        except KeyError as error:
            yield error.args[0]
        return "result"

    def outer() -> Any:
        return (yield from talks("?"))

    talk = outer()
    assert (next(talk), talk.send("sent"), talk.throw(KeyError("thrown"))) == (1, "sent", "thrown")
    with pytest.raises(StopIteration) as stop:
        next(talk)
    assert stop.value.value == "result"
    assert sessions(store)["talks"].delivery == [1, "sent", "thrown"]


def test_a_decorated_generator_that_is_left(store: LogStore) -> None:
    """Left, closed in another thread or collected: its session has ended, with what it gave."""

    @store.tactic("endless")
    def endless(_: int) -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    for number in endless(1):
        if number == 2:
            break
    left = endless(2)
    next(left)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(left.close).result()  # type: ignore[attr-defined] # a generator has it
    cycle: list[Any] = [endless(3)]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    finalizer_work.settle()
    called(store, "next")
    found = [store.load_session(one.session_id) for one in store.list_sessions()]
    assert {one.tactic_name for one in found} == {"endless", "next"}
    ended = {one.task: one for one in found if one.tactic_name == "endless"}
    assert [(ended[n].state, ended[n].cancelled) for n in (1, 2, 3)] == [("failure", True)] * 3
    assert [ended[n].delivery for n in (1, 2, 3)] == [[0, 1, 2], [0], [0]]


def test_a_decorated_asynchronous_generator(store: LogStore) -> None:
    """The same on an event loop: each step in a task of its own, closed by another task."""

    @store.tactic("stream")
    async def stream(text: str) -> AsyncIterator[str]:
        for letter in text:
            await asyncio.sleep(0)
            yield called(store, f"in {letter}")

    async def step(items: Any) -> object:
        return await anext(items)

    async def main() -> None:
        items = stream("ab")
        assert inspect.isasyncgenfunction(stream)
        assert await asyncio.create_task(step(items)) == "in a"
        called(store, "beside")
        assert await asyncio.create_task(step(items)) == "in b"
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        left: Any = stream("xyz")
        await anext(left)
        await asyncio.create_task(left.aclose())
        called(store, "next")

    asyncio.run(main())
    found = [store.load_session(one.session_id) for one in store.list_sessions()]
    assert sorted(one.tactic_name for one in found) == ["beside", "next", "stream", "stream"]
    whole, left = sorted((one for one in found if one.task), key=lambda one: str(one.task))
    assert (whole.state, whole.delivery) == ("success", ["in a", "in b"])
    assert set(whole.sub_tactic_sessions) == {"in a", "in b"}
    assert (left.state, left.cancelled, left.delivery) == ("failure", True, ["in x"])


def test_a_stream_too_large_to_be_kept(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into a delivery is counted there."""
    monkeypatch.setattr(stepwise, "MOST_BYTES", 10)

    @store.tactic("large")
    def large(_: str) -> Iterator[str]:
        yield from ["four", "more", "than", "fit"]

    assert list(large("?")) == ["four", "more", "than", "fit"]
    assert sessions(store)["large"].delivery == {"items": ["four"], "left_out": 3}


def test_a_with_in_a_plain_generator(store: LogStore) -> None:
    """While a generator is suspended inside of `with store.session()`, that session is nobody's
    current one; within its steps it is."""

    def stream(name: str) -> Iterator[None]:
        with store.session(name):
            called(store, f"first of {name}")
            yield
            called(store, f"second of {name}")
            yield

    one, other = stream("one"), stream("other")
    next(one), next(other)
    called(store, "beside")
    next(one), next(other)
    with store.session("around"):
        one.close()  # type: ignore[attr-defined] # a generator has it
        called(store, "within")
    other.close()  # type: ignore[attr-defined] # as above
    called(store, "last")
    found = sessions(store)
    assert set(found) == {"one", "other", "beside", "around", "last"}
    assert set(found["one"].sub_tactic_sessions) >= {"first of one"}
    assert set(found["around"].sub_tactic_sessions) == {"within"}
    assert running_session() is None


def test_a_context_manager_is_no_generator(store: LogStore) -> None:
    """A session that stands in a `@contextmanager` is current for the code in its `with`."""

    @contextmanager
    def traced() -> Iterator[None]:
        with store.session("traced"):
            yield

    @asynccontextmanager
    async def atraced() -> AsyncIterator[None]:
        async with store.session("atraced"):
            yield

    async def main() -> None:
        async with atraced():
            called(store, "inside")

    with traced():
        called(store, "inside")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    found = sessions(store)
    assert set(found) == {"traced", "atraced"}
    assert all(set(one.sub_tactic_sessions) == {"inside"} for one in found.values())


def test_a_with_in_an_asynchronous_generator(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It warns once, and names the decorator; after another task has closed it, its session is
    nobody's parent."""
    monkeypatch.setattr(with_in_generator, "_warned", False)

    async def stream() -> AsyncIterator[int]:
        async with store.session("stream"):
            yield 1
            yield 2

    async def main() -> None:
        items: Any = stream()
        with pytest.warns(UserWarning, match=r"@store\.tactic"):
            await anext(items)
        await asyncio.create_task(items.aclose())
        called(store, "next")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with aclosing(stream()) as again:  # type: ignore[type-var] # a generator
                await anext(again)

    asyncio.run(main())
    assert set(sessions(store)) == {"stream", "next"}


def test_a_generator_that_ended_leaves_nothing_to_do(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is dropped, nothing is queued for later: its session has its end."""
    queued: list[object] = []
    monkeypatch.setattr(finalizer_work, "later", queued.append)

    @store.tactic("a::counting")
    def counting() -> Iterator[int]:
        yield 1

    steps = counting()
    assert list(steps) == [1]
    del steps
    gc.collect()
    assert queued == []
