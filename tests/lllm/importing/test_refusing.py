"""What is not as it was written is refused, with its place, and nothing of its session comes in."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lllm import (
    ImportRefused,
    LogReadOnly,
    LogStore,
    NoOpBackend,
    SQLiteBackend,
    StoreError,
    Tactic,
)
from lllm.events import codec
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.model import LogGap
from lllm.events.statements import statement
from lllm.invokers.scripted import ScriptedInvoker
from lllm.logging import sqlite_store


def fill(store: LogStore) -> None:
    """Two sessions, one of which has another below it, a tag, and an error outside of both."""
    with store.session("p::other") as other:
        other.deliver("plain")
    with store.session("p::outer", tags={"env": "test"}) as outer:
        Tactic.quick("Hi", model="m", invoker=ScriptedInvoker(["Hello"]), log_store=store)
    store.tag(outer.session_id, {"late": "yes"})
    store.save_error(ValueError("outside"))


@pytest.fixture(scope="module")
def origin() -> Iterator[LogStore]:
    """A store to import from."""
    with LogStore(MemoryBackend()) as store:
        fill(store)
        yield store


@pytest.fixture(scope="module")
def exported(origin: LogStore) -> tuple[str, ...]:
    """The exports of both sessions, as one file has them."""
    ids = [one.session_id for one in reversed(origin.list_sessions())]
    text = "".join(origin.export_session(one, "jsonl") for one in ids)
    return tuple(text.splitlines(keepends=True))


@pytest.fixture
def lines(exported: tuple[str, ...]) -> list[str]:
    """The same, to be changed."""
    return [*exported]


@pytest.fixture
def here() -> Iterator[LogStore]:
    """The store that is imported into."""
    with LogStore(MemoryBackend()) as store:
        yield store


@pytest.fixture
def file_store(tmp_path: Path) -> Path:
    """The path of a store in a file."""
    with sqlite_store(tmp_path / "origin.db") as store:
        fill(store)
    return tmp_path / "origin.db"


def refusal(here: LogStore, *sources: object) -> ImportRefused:
    """The error of an import."""
    with pytest.raises(ImportRefused) as caught:
        here.import_sessions(*sources)  # type: ignore[arg-type] # whatever a test gives
    return caught.value


def paths(store: LogStore) -> list[str]:
    """The tactics of the sessions at the top, newest first."""
    return [one.tactic_path for one in store.list_sessions()]


def number_of(lines: list[str], type_: str) -> int:
    """The number of the last line with an event of a type, from 1."""
    return max(n for n, line in enumerate(lines, 1) if f'"type":"{type_}"' in line)


def change(lines: list[str], number: int, how: Callable[[dict[str, object]], object]) -> None:
    """Change the fields of a line."""
    fields = json.loads(lines[number - 1])
    how(fields)
    lines[number - 1] = json.dumps(fields, separators=(",", ":")) + "\n"


ALTERED: dict[str, tuple[str, Callable[[dict[str, object]], object]]] = {
    "time": ("its digest does not fit", lambda line: line.update(time=1)),
    "type": ("its digest does not fit", lambda line: line.update(type="llm.failed")),
    "seq": ("its digest does not fit", lambda line: line.update(seq=line["seq"] + 1)),  # type: ignore[operator] # a number
    "data": ("its digest does not fit", lambda line: line["data"].update(model="x")),  # type: ignore[attr-defined] # a dict
    "digest": ("its digest does not fit", lambda line: line.update(digest="00" * 32)),
    "newer version": ("a newer lllm wrote", lambda line: line.update(version=99)),
    "newer type": ("a newer lllm wrote", lambda line: line.update(type="llm.dreamt")),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_event(lines: list[str], here: LogStore, tmp_path: Path, what: str) -> None:
    """It is named by file and line; nothing of the sessions above and below it is imported, all of
    the others is. The whole file completes it."""
    why, how = ALTERED[what]
    number = number_of(lines, "llm.responded")
    file = tmp_path / "f.jsonl"
    file.write_text("".join(lines))
    whole = file.read_text()
    change(lines, number, how)
    file.write_text("".join(lines))
    error = refusal(here, file)
    assert f"{file}, line {number}: " in str(error)
    assert why in str(error)
    assert (error.sessions, len(error.refused)) == (1, 1)
    assert paths(here) == ["p::other"]
    assert not any(here.log.read(stream=json.loads(lines[number - 1])["stream"]))
    file.write_text(whole)
    assert here.import_sessions(file).sessions == 2
    assert paths(here) == ["p::outer", "p::other"]


def test_an_altered_tag_and_an_altered_definition(
    lines: list[str], here: LogStore, tmp_path: Path
) -> None:
    """A session without what was said of it later, or without its agent, is not whole."""
    for type_ in ("session.tagged", "agent.defined"):
        copy, file = [*lines], tmp_path / f"{type_}.jsonl"
        change(copy, number_of(copy, type_), lambda line: line.update(time=1))
        file.write_text("".join(copy))
        assert f"{file}, line {number_of(copy, type_)}: " in str(refusal(here, file))
        assert paths(here) == ["p::other"]


NO_EVENTS = {
    "text": "once upon a time\n",
    "another object": '{"a": 1}\n',
    "a list": "[1, 2]\n",
    "no number": '{"stream":"s","seq":"1","time":1,"type":"t","version":1,"digest":"","data":{}}\n',
    "no payload": '{"stream":"s","seq":1,"time":1,"type":"t","version":1,"digest":""}\n',
    "zero": '{"stream":"s","seq":0,"time":1,"type":"t","version":1,"digest":"","data":{}}\n',
    "no hex": '{"stream":"s","seq":1,"time":1,"type":"t","version":1,"digest":"xy","data":{}}\n',
    "bytes": "\x00\x00\x00\n",
    "deep": "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("what", NO_EVENTS)
def test_a_line_that_is_no_event(
    lines: list[str], here: LogStore, tmp_path: Path, what: str
) -> None:
    """Nobody can tell whose it was, so nothing of the file is imported; other files are."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(lines[0] + lines[1])
    bad.write_text("".join([*lines[2:5], NO_EVENTS[what], *lines[5:]]))
    error = refusal(here, bad, good)
    assert f"{bad}, line 4: this is not an event" in str(error) or "numbered from 1" in str(error)
    assert paths(here) == ["p::other"]


def test_a_file_that_is_cut(lines: list[str], here: LogStore, tmp_path: Path) -> None:
    """Within a line, that is said; between two, what is there of a session is a part of it, which
    the whole file completes."""
    file = tmp_path / "f.jsonl"
    whole = "".join(lines)
    file.write_text(whole[: len(whole) * 2 // 3])
    cut = file.read_text().count("\n") + 1
    assert f"{file}, line {cut}: the file is cut off within this line" in str(refusal(here, file))
    assert paths(here) == []
    file.write_text("".join(lines[: number_of(lines, "llm.requested")]))
    assert here.import_sessions(file).sessions == 3
    assert [one.state for one in here.list_sessions()] == ["running", "success"]
    file.write_text(whole)
    done = here.import_sessions(file)
    assert (done.sessions, done.known) == (0, 3)
    assert [one.state for one in here.list_sessions()] == ["success", "success"]
    assert here.import_sessions(file).events == 0


def test_lines_that_are_missing(lines: list[str], here: LogStore, tmp_path: Path) -> None:
    """A hole in a session is found, at its beginning too; so is the end of a file without its
    beginning."""
    number = number_of(lines, "llm.requested")
    file = tmp_path / "f.jsonl"
    file.write_text("".join(lines[: number - 1] + lines[number:]))
    assert f"line {number}: event " in str(refusal(here, file))
    assert "missing before" in str(refusal(here, file))
    file.write_text("".join(lines[number:]))
    assert "the first events of session" in str(refusal(here, file))
    assert paths(here) == ["p::other"]


def test_the_rest_of_a_session_that_is_here(
    lines: list[str], here: LogStore, tmp_path: Path
) -> None:
    """The end of a file completes what its beginning brought."""
    number = number_of(lines, "llm.requested")
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_text("".join(lines[:number]))
    second.write_text("".join(lines[number:]))
    here.import_sessions(first, second)
    assert [one.state for one in here.list_sessions()] == ["success", "success"]


def test_events_that_were_never_written(here: LogStore, tmp_path: Path) -> None:
    """What the origin itself tells of lost events is exported, and no reason to refuse the
    rest."""
    with LogStore(MemoryBackend()) as origin:
        with origin.session("p::one") as session:
            session.stage(LogGap(lost=0, first_time=0, last_time=0, reason="", salt=b""))
        events = list(origin.log.read())
        lost = events[1]
        gap = LogGap(lost=1, first_time=0, last_time=lost.time, reason="full", salt=b"s" * 32)
    left = MemoryBackend()
    left.append([written(events[0])])
    left.append([statement("gap-1", gap, salt=gap.salt)])
    left.append([written(events[-1])])
    with LogStore(left) as holed:
        (summary,) = holed.list_sessions()
        file = tmp_path / "f.jsonl"
        file.write_text(holed.export_session(summary.session_id, "jsonl"))
        assert here.import_sessions(file).events == 3
        assert here.load_session(summary.session_id) == holed.load_session(summary.session_id)
        assert here.load_session(summary.session_id).missing_events == 1
        assert here.import_sessions(left).events == 0


def written(event: Recorded) -> NewEvent:
    """An event as it was appended."""
    return NewEvent(*msgspec.structs.astuple(event)[1:7], event.digest)


def forked(origin: LogStore, folder: Path) -> Path:
    """The export of a session that went on otherwise in another store, under its own salt."""
    (summary, *_) = origin.list_sessions(tactic_path="p::other")
    first, last = origin.events(summary.session_id)
    new = seal(
        codec.salt_of(first), last.stream, last.seq, last.time + 1, last.type, last.version,
        last.data,
    )  # fmt: skip
    copy = MemoryBackend()
    copy.append([written(first), new])
    with LogStore(copy) as store:
        file = folder / "forked.jsonl"
        file.write_text(store.export_session(summary.session_id, "jsonl"))
    return file


def test_two_versions_of_a_session(
    origin: LogStore, here: LogStore, lines: list[str], tmp_path: Path
) -> None:
    """The one that is here stays; of a file with both, neither comes in."""
    file, other = tmp_path / "f.jsonl", forked(origin, tmp_path)
    file.write_text("".join(lines))
    here.import_sessions(file)
    before = list(here.log.read())
    error = refusal(here, other)
    assert "there are two versions of it" in str(error)
    assert f"{other}, line 2: " in str(error)
    assert list(here.log.read()) == before
    both = tmp_path / "both.jsonl"
    both.write_text(other.read_text() + file.read_text())
    with LogStore(MemoryBackend()) as third:
        assert "there are two versions of it" in str(refusal(third, both))
        assert paths(third) == ["p::outer"]
        assert len(refusal(third, other, file).refused) == 1  # the first one is there by then


def test_a_store_with_damage(file_store: Path, here: LogStore) -> None:
    """The session of a damaged event is refused with its position; the others come in."""
    with closing(sqlite3.connect(file_store)) as connection:
        [(position, stream)] = connection.execute(
            "SELECT position, stream FROM events WHERE type = 'llm.responded'"
        )
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET data = '{}' WHERE position = ?", (position,))
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()
    error = refusal(here, file_store)
    assert f"origin.db, position {position}: event " in str(error)
    assert paths(here) == ["p::other"]
    assert not any(here.log.read(stream=stream))


def test_a_session_below_another_that_comes_too_late(
    origin: LogStore, here: LogStore, tmp_path: Path
) -> None:
    """One that was exported by itself stands alone. The one above it can't be put above it later,
    since a log has a session before those that it called; in one import both can come in any
    order."""
    outer = origin.load_session(origin.list_sessions(tactic_path="p::outer")[0].session_id)
    [[inner]] = outer.sub_tactic_sessions.values()
    below, whole = tmp_path / "below.jsonl", tmp_path / "whole.jsonl"
    below.write_text(origin.export_session(inner.session_id, "jsonl"))
    whole.write_text(origin.export_session(outer.session_id, "jsonl"))
    here.import_sessions(below)
    assert here.load_session(inner.session_id) == inner
    error = refusal(here, whole)
    assert f"was imported before without its ancestor {outer.session_id}" in str(error)
    assert len(paths(here)) == 1
    with LogStore(MemoryBackend()) as third:
        third.import_sessions(below, whole)
        assert third.load_session(outer.session_id) == outer
        assert paths(third) == ["p::outer"]


def test_what_is_about_nothing_here(lines: list[str], here: LogStore, tmp_path: Path) -> None:
    """A tag of a session that is neither here nor in the file waits for nobody."""
    file = tmp_path / "f.jsonl"
    tag = lines[number_of(lines, "session.tagged") - 1]
    file.write_text(tag)
    assert "which is neither here nor there" in str(refusal(here, file))
    file.write_text("".join([tag, *lines]))
    here.import_sessions(file)
    assert here.list_sessions()[0].tags == {"env": "test", "late": "yes"}


def test_what_can_not_be_imported_at_all(file_store: Path, tmp_path: Path) -> None:
    """It is said before anything is imported."""
    with sqlite_store(tmp_path / "here.db") as here:
        for missing in ("no.jsonl", "no.db", "no"):
            with pytest.raises(StoreError, match="There is no"):
                here.import_sessions(file_store, tmp_path / missing)
        (tmp_path / "link.db").symlink_to(tmp_path / "here.db")
        for itself in (tmp_path / "here.db", tmp_path / "link.db", here.backend):
            with pytest.raises(StoreError, match="is the store that it would be imported into"):
                here.import_sessions(file_store, itself)
        assert paths(here) == []
        assert here.import_sessions().events == 0
    with (
        LogStore(SQLiteBackend(tmp_path / "here.db", read_only=True)) as closed,
        pytest.raises(LogReadOnly),
    ):
        closed.import_sessions(file_store)


def test_a_file_under_any_name(lines: list[str], here: LogStore, tmp_path: Path) -> None:
    """With a mark of its encoding, other line ends, empty lines and another name it is read; so
    are the lines of a JSONL store."""
    file = tmp_path / "session"
    text = "\ufeff" + "\r\n".join(line.strip() for line in lines) + "\r\n\r\n  \r\n"
    file.write_bytes(text.encode())
    assert here.import_sessions(file).sessions == 3


def test_the_error_is_pickled(lines: list[str], here: LogStore, tmp_path: Path) -> None:
    """It comes home from a worker process."""
    file = tmp_path / "f.jsonl"
    file.write_text("".join(lines[1:]))
    error = refusal(here, file)
    home = pickle.loads(pickle.dumps(error))
    assert (str(home), vars(home)) == (str(error), vars(error))


def test_killed_in_between(origin: LogStore) -> None:
    """Whatever an import left when it ended early, another completes."""
    events = list(origin.log.read())
    for count in range(len(events) + 1):
        copy = MemoryBackend()
        if count:
            copy.append([written(one) for one in events[:count]])
        with LogStore(copy) as store:
            store.import_sessions(origin.backend)
            assert list(store.log.read()) == events


def test_into_a_store_that_keeps_nothing(origin: LogStore) -> None:
    """It takes everything, and forgets it."""
    with LogStore(NoOpBackend()) as store:
        store.import_sessions(origin.backend)


def test_an_import_never_waits_in_memory(
    origin: LogStore, here: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log can't be written, the import fails, and holds nothing back."""

    def full(_: object) -> list[int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(here.backend, "append", full)
    with pytest.raises(OSError, match="No space left"):
        here.import_sessions(origin.backend)
    assert isinstance(here.log, BufferedLog)
    assert here.log.held == []


def test_the_origin_is_only_read(file_store: Path, here: LogStore) -> None:
    """Nothing of it changes."""
    before = file_store.read_bytes()
    here.import_sessions(file_store)
    assert file_store.read_bytes() == before
