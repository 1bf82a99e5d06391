"""`lllm.now()`, `lllm.uuid4()` and `lllm.random()`: recorded, and the same in a replay."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import (
    LogStore,
    ReplayDivergence,
    ReplayError,
    ReplayInterrupted,
    SQLiteBackend,
    tool,
)
from lllm.events.model import ValueDrawn
from lllm.invokers.scripted import tool_call, tool_calls
from lllm.sessions import drawn_values
from tests.support.replayed import Program, asks, record
from tests.support.runs import payloads

DRAWS: tuple[Callable[[], object], ...] = (lllm.now, lllm.uuid4, lllm.random)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def drawn_in(store: LogStore, session_id: str) -> list[ValueDrawn]:
    """What a session drew, as recorded."""
    return [one for one in payloads(store, session_id) if isinstance(one, ValueDrawn)]


def test_outside_of_a_session() -> None:
    """Each gives what the standard library gives."""
    before = dt.datetime.now(dt.UTC)
    assert before <= lllm.now() <= dt.datetime.now(dt.UTC)
    assert lllm.now().utcoffset() == dt.timedelta(0)
    assert lllm.uuid4() != lllm.uuid4()
    assert lllm.uuid4().version == 4
    assert 0 <= lllm.random() < 1


def test_a_replay_draws_the_same(store: LogStore) -> None:
    """In a tactic and in what is asked; of the same types; and its own session has them, too."""

    def do(tactic: Any, _: object) -> object:
        values = [draw() for draw in (*DRAWS, *DRAWS)]
        return [*map(repr, values), asks(tactic, f"It is {lllm.now()}.")]

    recorded = record(Program(do, ["hi"], log_store=store))
    told = store.load_session(recorded).delivery
    with store.replay(recorded) as replay:
        assert Program(do, log_store=store)("task") == told
    assert [one.verdict for one in replay.requests] == ["same"]
    assert drawn_in(store, str(replay.session_id)) == drawn_in(store, recorded)
    assert [one.kind for one in drawn_in(store, recorded)] == [
        *("now", "uuid4", "random") * 2,
        "now",
    ]


@pytest.mark.parametrize("exported", [False, True])
def test_functions_and_files(store: LogStore, tmp_path: Path, exported: bool) -> None:
    """A function under @store.tactic, async, from the log or from an exported file."""

    @store.tactic("draws")
    async def draws() -> list[str]:
        await asyncio.sleep(0)
        return [str(draw()) for draw in DRAWS]

    told = asyncio.run(draws())
    recorded: Any = store.list_sessions()[0].session_id
    if exported:
        file = tmp_path / "one.jsonl"
        file.write_text(store.export_session(recorded, "jsonl"))
        recorded = file
    with store.replay(recorded):
        assert asyncio.run(draws()) == told


def test_within_tools(store: LogStore) -> None:
    """What a tool draws is told apart from what its session draws; it is not missed where the tool
    does not run, and answered where it does."""

    def make(kind: str) -> Any:
        @tool(description="The time.", replay=kind)  # type: ignore[arg-type]
        def clock() -> str:
            return f"{lllm.now()} {lllm.random()}"

        return clock

    def do(tactic: Any, _: object) -> object:
        return [str(lllm.now()), asks(tactic, "when?"), str(lllm.now())]

    def program(kind: str, script: Any = None) -> Program:
        return Program(do, script, log_store=store, tools=[make(kind)])

    recorded = record(program("log", [tool_call("clock", {}), "now"]))
    assert [one.tool for one in drawn_in(store, recorded)] == [None, 1, 1, None]
    for kind in ("log", "run"):
        with store.replay(recorded) as replay:
            assert program(kind)("task") == store.load_session(recorded).delivery
        assert not replay.divergences


@pytest.mark.parametrize("at_once", [1, 3])
def test_tools_that_run_beside_tools_that_do_not(store: LogStore, at_once: int) -> None:
    """What a tool draws is found by what the tool was recorded as, whatever ran within others. One
    value less is missing, though the result is the same."""
    counts = {"draws": 2}
    running: list[Any] = []

    @tool(description="Asks an agent, which runs a tool.")
    def inner() -> str:
        return asks(running[-1], "go", "b", "inner")

    @tool(description="The time.", replay="run")
    def clock(number: int) -> str:
        values = [str(lllm.now()) for _ in range(counts["draws"])]
        return f"{number} {values[0]}"

    def do(tactic: Any, _: object) -> object:
        running.append(tactic)
        return asks(tactic, "when?")

    def clocks(*numbers: int) -> Any:
        return tool_calls(*(tool_call("clock", {"number": number}) for number in numbers))

    script = {"a": [tool_call("inner", {}), clocks(0, 1, 2), "now"], "b": [clocks(7, 8), "b"]}

    def program(script: Any = None) -> Program:
        return Program(
            do, script, "a", "b", log_store=store, tools=[inner, clock],
            max_parallel_tools=at_once,
        )  # fmt: skip

    recorded = record(program(script))
    told = store.load_session(recorded).delivery
    assert len(drawn_in(store, recorded)) == 10
    with store.replay(recorded) as replay:
        assert program()("task") == told
    assert not replay.divergences
    counts["draws"] = 1
    with pytest.raises(ReplayDivergence, match="A recorded value was not drawn, and 2 more"):
        program().replay(recorded)


def test_sessions_of_their_own(store: LogStore) -> None:
    """Sub-tactics in threads draw beside each other, each in its own session."""

    class Sub(Program, register=False):
        name = "sub"

    def do(tactic: Any, _: object) -> object:
        return list(tactic.sub.bcall(list("abcdef"), max_workers=3))

    def make() -> Program:
        tactic = Program(do, log_store=store)
        vars(tactic)["sub"] = Sub(lambda _, task: f"{task} {lllm.uuid4()}", log_store=store)
        return tactic

    recorded = record(make())
    with store.replay(recorded):
        assert make()("task") == store.load_session(recorded).delivery


@pytest.mark.parametrize("draw", DRAWS)
def test_one_more_and_one_less(store: LogStore, draw: Callable[[], object]) -> None:
    """Either is a divergence that names the function; `report` goes on with another value."""
    kind = draw.__name__

    def drawing(count: int) -> Callable[[Any, Any], object]:
        return lambda *_: [str(draw()) for _ in range(count)]

    recorded = record(Program(drawing(2), log_store=store))
    told = store.load_session(recorded).delivery
    with pytest.raises(ReplayDivergence, match=rf"calls lllm.{kind}\(\) once more") as caught:
        Program(drawing(3), log_store=store).replay(recorded)
    assert caught.value.kind == "unrecorded"
    assert "the session succeeded" in caught.value.recorded_next
    with pytest.raises(ReplayDivergence, match="A recorded value was not drawn") as caught:
        Program(drawing(1), log_store=store).replay(recorded)
    assert (caught.value.kind, caught.value.place.tactic) == ("missing", "program")
    assert caught.value.recorded_next == f"lllm.{kind}() gave {drawn_in(store, recorded)[1].value}."
    with store.replay(recorded, on_divergence="report") as replay:
        assert Program(drawing(3), log_store=store)("task")[:2] == told
    assert [one.kind for one in replay.divergences] == ["unrecorded"]
    with store.replay(recorded, on_divergence="live") as replay:
        assert len(Program(drawing(4), log_store=store)("task")) == 4


def test_another_kind(store: LogStore) -> None:
    """Kinds are told apart: their order among each other may change."""
    recorded = record(Program(lambda *_: [str(draw()) for draw in DRAWS], log_store=store))
    turned = Program(lambda *_: [str(draw()) for draw in reversed(DRAWS)][::-1], log_store=store)
    assert turned.replay(recorded) == store.load_session(recorded).delivery


def test_an_interrupted_session(store: LogStore) -> None:
    """Its replay draws the same up to where it broke, and says so; a fork goes on from there."""

    def do(tactic: Any, _: object) -> object:
        told = [str(lllm.uuid4()), asks(tactic, "one")]
        if tactic.stops:
            raise KeyboardInterrupt
        return [*told, str(lllm.uuid4())]

    def make(script: Any, *, stops: bool) -> Program:
        tactic = Program(do, script, log_store=store)
        vars(tactic)["stops"] = stops
        return tactic

    with pytest.raises(KeyboardInterrupt):
        make(["1"], stops=True)("task")
    [recorded] = store.list_sessions()
    [first] = drawn_in(store, recorded.session_id)
    fork = make([], stops=False).fork(recorded.session_id, return_session=True)
    assert fork.delivery[:2] == [first.value, "1"]
    assert uuid.UUID(fork.delivery[2]) != uuid.UUID(str(first.value))


def test_a_recording_that_ends(store: LogStore) -> None:
    """What is drawn behind the end of a recording that was cut off interrupts the replay."""
    with store.session("broken") as recorder:
        first = lllm.now()
        recorder.commit()
        again = []

        def replayed() -> None:
            with store.replay(recorder.session_id), store.session("broken"):
                again.append(lllm.now())
                lllm.now()

        with pytest.raises(ReplayInterrupted, match=r"lllm\.now"):
            replayed()
    assert again == [first]


def test_a_value_is_written_at_once(store: LogStore) -> None:
    """Whatever the program does with it next, the log has it."""
    with store.session("drawing") as recorder:
        lllm.uuid4()
        kept = [one.type for one in store.log.read(stream=recorder.session_id)]
    assert kept == ["session.started", "value.drawn"]


def test_values_on_an_event_loop(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the next event of their session, or for that of a session below it; and not
    without end."""
    monkeypatch.setattr(drawn_values, "_AT_ONCE", 10)

    async def kept(session_id: str) -> int:
        return [one.type for one in store.log.read(stream=session_id)].count("value.drawn")

    async def main() -> None:
        async with store.session("many") as recorder:
            for _ in range(25):
                lllm.random()
            assert await kept(recorder.session_id) == 20
            async with store.session("below"):
                assert await kept(recorder.session_id) == 25
            lllm.random()
            with store.session("plainly"):
                assert await kept(recorder.session_id) == 26

    asyncio.run(main())


def test_a_forked_child(store: LogStore) -> None:
    """It draws, and records nothing in the session of its parent."""
    with store.session("parent") as recorder:
        child = os.fork()
        if child == 0:
            os._exit(0 if 0 <= lllm.random() < 1 and lllm.uuid4() else 1)
        assert os.waitpid(child, 0)[1] == 0
        lllm.now()
    assert [one.kind for one in drawn_in(store, recorder.session_id)] == ["now"]


def test_a_value_that_was_redacted(tmp_path: Path) -> None:
    """One clear error says which, and why."""

    def cut(type_: str, data: dict[str, object]) -> dict[str, object]:
        return {**data, "value": "(cut)"} if type_ == "value.drawn" else data

    with LogStore(SQLiteBackend(tmp_path / "runs.db"), redact=[cut]) as store:
        recorded = record(Program(lambda *_: str(lllm.now()), log_store=store))
        with pytest.raises(ReplayError, match=r"value of lllm.now\(\) can't be read: '\(cut\)'"):
            Program(lambda *_: str(lllm.now()), log_store=store).replay(recorded)
