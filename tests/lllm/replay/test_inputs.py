"""What can't be replayed is refused with one clear error, before anything is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from lllm import (
    ConfigError,
    LocalFileBackend,
    LogDamaged,
    LogReadOnly,
    LogStore,
    ReplayError,
    SessionNotFound,
    SessionWasErased,
    SQLiteBackend,
    tool,
)  # fmt: skip
from lllm.replay.divergence import ReplayDivergence, ReplayInterrupted, ReplayPlace
from lllm.replay.ignored_parts import Ignored
from lllm.replay.recorded_test import RecordedTest
from lllm.replay.target import ReplayTarget
from lllm.replay.workers import replay_one
from tests.support.replayed import Program, asks, record

Lines = list[dict[str, Any]]


def asking(tactic: Any, task: object) -> object:
    """One question."""
    return asks(tactic, str(task))


@pytest.fixture
def recorded(store: LogStore) -> str:
    """A session of `program`."""
    return record(Program(asking, ["hi"], log_store=store))


def exported(store: LogStore, recorded: str) -> list[str]:
    """The lines of its export."""
    return store.export_session(recorded, "jsonl").splitlines(keepends=True)


def test_an_unknown_session(store: LogStore, recorded: str, tmp_path: Path) -> None:
    """An id that is none, a file that is none, and a tactic that has no store to look in."""
    with pytest.raises(SessionNotFound):
        store.replay(recorded[:-1])
    with pytest.raises(ReplayError, match=r"gone\.jsonl can't be read: No such file"):
        store.replay(tmp_path / "gone.jsonl")
    with pytest.raises(ConfigError, match="give the tactic its log_store"):
        Program(asking).replay(recorded)


def test_a_session_of_another_tactic(store: LogStore, recorded: str) -> None:
    """A tactic replays its own sessions."""

    class Other(Program, register=False):
        name = "other"

    with pytest.raises(ReplayError, match="is a call of 'program', not of 'other'"):
        Other(asking, log_store=store).replay(recorded)


def written(lines: Lines) -> str:
    """Lines as an export writes them."""
    return "".join(
        json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines
    )


def change(name: str, **values: object) -> Callable[[Lines], Lines]:
    """An edit of the first line of a type."""

    def changed(lines: Lines) -> Lines:
        line = next(one for one in lines if one["type"] == name)
        line.update(values)
        return lines

    return changed


def without(name: str) -> Callable[[Lines], Lines]:
    """The lines without those of a type."""
    return lambda lines: [line for line in lines if line["type"] != name]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("llm.responded", digest="00" * 32), "its digest does not fit"),
        (change("llm.responded", data={"request": 1}), "its digest does not fit"),
        (change("llm.responded", seq="x"), "this is not an event"),
        (without("llm.requested"), r"events before number \d+ are missing"),
        (without("session.started"), "the first event of .* is missing"),
        (without("agent.defined"), "the definition of agent 'a' is missing"),
        (lambda lines: lines[:1], "holds no session"),
        (lambda lines: lines[:0], "is empty"),
    ],
)
def test_a_damaged_file(
    store: LogStore, recorded: str, tmp_path: Path, edit: Callable[[Lines], Lines], message: str
) -> None:
    """A file that is not what was exported."""
    lines = edit([json.loads(line) for line in exported(store, recorded)])
    file = tmp_path / "session.jsonl"
    file.write_text(written(lines))
    with pytest.raises(ReplayError, match=message):
        store.replay(file)


@pytest.mark.parametrize("cut", [5, 40, 300])
def test_a_file_that_is_cut_in_the_middle(
    store: LogStore, recorded: str, tmp_path: Path, cut: int
) -> None:
    """The line is named."""
    whole = "".join(exported(store, recorded))
    file = tmp_path / "session.jsonl"
    file.write_text(whole[:-cut])
    with pytest.raises(ReplayError, match=r"in line \d+, the file is cut off within this line"):
        store.replay(file)


def plain_program() -> Program:
    """The recorded code, without a store of its own."""
    return Program(asking)


def from_python(file: Path) -> str:
    """What a replay says in a program."""
    with pytest.raises((ReplayError, ReplayInterrupted)) as caught:
        plain_program().replay(file)
    return str(caught.value)


def from_command_line(file: Path) -> str:
    """What `lllm replay` says, whose exit code is 0 for what is cut off, and else 125."""
    found = replay_one(ReplayTarget(plain_program(), "program"), None, str(file))
    assert found.verdict == ("same" if found.cut_off else "failed")
    return found.message


def from_pytest(file: Path) -> str:
    """What a test says that is marked."""
    recording = RecordedTest(file, "replay")
    with pytest.raises(pytest.fail.Exception) as caught, recording.block():
        recording.call(plain_program())
    return str(caught.value)


CUT = "has no end, and all that it has was the same"


@pytest.mark.parametrize("say", [from_python, from_command_line, from_pytest])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-40], "the file is cut off within this line"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), CUT),
        (lambda text: "".join(text.splitlines(keepends=True)[:-2]), CUT),
        (lambda text: "".join(text.splitlines(keepends=True)[:-3]), "The process ended while"),
        (lambda text: text.replace('"hi"', '"ho"'), "its digest does not fit"),
        (lambda _: "[1, 2]\n", "this is not an event"),
        (lambda text: text.replace("program", "another"), "its digest does not fit"),
    ],
)
def test_each_way_in_says_it_once(
    store: LogStore, recorded: str, tmp_path: Path, say: Callable[[Path], str],
    edit: Callable[[str], str], message: str,
) -> None:  # fmt: skip
    """A program, `lllm replay` and a test of pytest say the same of a recording that is damaged,
    or cut in the middle, whether in a line or between two."""
    file = tmp_path / "session.jsonl"
    file.write_text(edit("".join(exported(store, recorded))))
    told = say(file)
    assert message in told
    assert told.count("can't be replayed") + told.count("The recording of") <= 1


@pytest.mark.parametrize("say", [from_python, from_command_line, from_pytest])
def test_each_way_in_says_what_can_not_be_called(
    store: LogStore, tmp_path: Path, say: Callable[[Path], str]
) -> None:
    """Nothing is missed where the call could not be made at all."""

    class Other(Program, register=False):
        name = "other"

    cases = (
        (Program(lambda *_: None, log_store=store), Odd(), "has no JSON form"),
        (Other(asking, ["hi"], log_store=store), "task", "is a call of 'other', not of 'program'"),
    )
    for number, (tactic, task, message) in enumerate(cases):
        file = tmp_path / f"{number}.jsonl"
        file.write_text("".join(exported(store, record(tactic, task))))
        told = say(file)
        assert message in told
        assert "was not made" not in told


@pytest.mark.parametrize(("kind", "version"), [("llm.responded", 99), ("llm.dreamt", 1)])
def test_a_newer_schema(
    store: LogStore, recorded: str, tmp_path: Path, kind: str, version: int
) -> None:
    """What a newer lllm wrote is not guessed at."""
    from lllm.events import codec
    from lllm.events.digest import leaf_digest
    from lllm.events.integrity.session_root import ENDS
    from lllm.replay.recording_file import read_file

    file = tmp_path / "session.jsonl"
    file.write_text("".join(exported(store, recorded)))
    lines = [json.loads(line) for line in exported(store, recorded)]
    events = read_file(file)
    salt = codec.salt_of(next(one for one in events if one.type == "session.started"))
    for line, event in zip(lines, events, strict=True):
        if event.type == "llm.responded":
            line.update(type=kind, version=version)
        elif event.type in ENDS:
            line["data"] = {"elapsed": 1}  # without the root of what stands before it
        else:
            continue
        data = json.dumps(line["data"], separators=(",", ":"), ensure_ascii=False).encode()
        line["digest"] = leaf_digest(
            salt, event.stream, event.seq, event.time, line["type"], line["version"], data
        ).hex()
    file.write_text(written(lines))
    with pytest.raises(ReplayError, match="a newer version of lllm wrote it"):
        store.replay(file)


def test_an_erased_session(tmp_path: Path) -> None:
    """Whatever is to be done with its past says that it was erased, by whom and why."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        tactic = Program(asking, ["hi"], log_store=store)
        recorded = record(tactic)
        store.erase_session(recorded, by="Ada", reason="asked for")
        for call in (
            lambda: tactic.replay(recorded), lambda: tactic.replay(recorded, record=False),
            lambda: store.replay(recorded), lambda: tactic.fork(recorded),
            lambda: store.diff(recorded, recorded),
        ):  # fmt: skip
            with pytest.raises(SessionWasErased, match=r"erased on .* by Ada because: asked for"):
                call()


def test_a_damaged_store(tmp_path: Path) -> None:
    """What is stored is checked against its digest."""
    path = tmp_path / "logs"
    with LogStore(LocalFileBackend(path)) as store:
        recorded = record(Program(asking, ["hello there"], log_store=store))
    (segment,) = path.glob("0*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b"hello there", b"hello where", 1))
    with LogStore(LocalFileBackend(path)) as store, pytest.raises(LogDamaged):
        Program(asking, log_store=store).replay(recorded)


class Odd:
    """A task without a JSON form."""


@dataclass
class Ticket:
    """A task that is a dataclass,"""

    number: int


class Struct(msgspec.Struct):
    """a Struct,"""

    number: int


class Model(BaseModel):
    """or a model."""

    number: int


def test_a_task_without_a_form(store: LogStore) -> None:
    """A task of which only a repr is kept can't be made again; the block takes it from the
    program."""
    odd = Odd()
    program = Program(lambda self, _: asks(self, "go"), ["hi"], log_store=store)
    recorded = record(program, odd)
    again = Program(lambda self, _: asks(self, "go"), log_store=store)
    with pytest.raises(ReplayError, match="has no JSON form, and only its repr was recorded"):
        again.replay(recorded)
    with store.replay(recorded):
        assert again(odd) == "hi"


@pytest.mark.parametrize("task", [Ticket(1), Struct(1), Model(number=1)])
def test_a_task_of_a_type(store: LogStore, task: object) -> None:
    """A task that was recorded as its fields is made of them again, by the hint of `call`."""
    kind = type(task)

    class Typed(Program, register=False):
        name = "typed"

        def call(self, task: Any, **_: object) -> Any:
            return [type(task) is kind, task.number]

    Typed.call.__annotations__["task"] = kind
    recorded = record(Typed(asking, [], log_store=store), task)
    assert Typed(asking, log_store=store).replay(recorded) == [True, 1]
    Typed.call.__annotations__["task"] = type("Renamed", (msgspec.Struct,), {"__annotations__": {
        "name": str}})  # fmt: skip
    with pytest.raises(ReplayError, match="any more"):
        Typed(asking, log_store=store).replay(recorded)


def test_options_that_can_not_be(store: LogStore, recorded: str, tmp_path: Path) -> None:
    """Options are checked when the replay is opened."""
    with pytest.raises(ConfigError, match='"raise", "report" or "live"'):
        store.replay(recorded, on_divergence="never")  # type: ignore[arg-type] # that is the test
    for wrong in ("a..b", "", 3):
        with pytest.raises(ConfigError, match="ignore is a list"):
            Ignored([wrong])  # type: ignore[list-item] # that is the test
    with pytest.raises(ConfigError, match="replay of a tool"):
        tool(name="x", replay="never")(lambda: 1)  # type: ignore[call-overload] # that is the test
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as writable:
        recorded = record(Program(asking, ["hi"], log_store=writable))
    with LogStore(SQLiteBackend(path, read_only=True)) as readable:
        program = Program(asking, log_store=readable)
        with pytest.raises(LogReadOnly, match="record=False"):
            program.replay(recorded)
        assert program.replay(recorded, record=False) == "hi"


def test_diff_without_an_empty_end() -> None:
    """What was recorded next follows the diff at once, even where that ends in an empty line."""
    place = ReplayPlace(tactic="desk")
    divergence = ReplayDivergence(
        "It differs.", kind="changed", place=place, diff="-a\n+b\n c\n ", recorded_next="an answer"
    )
    assert str(divergence).endswith("+b\n c\nRecorded next: an answer")
