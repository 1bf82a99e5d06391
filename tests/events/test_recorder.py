"""The one writer of a session: what it stages, when that is durable, and who may not write."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from lllm import LogUnavailable, SessionEnded, WrongProcess
from lllm.events import codec, model
from lllm.events import recorder as recorder_module
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.definitions import Definitions
from lllm.events.digest import check_digest
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.ids import new_id
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import payload, without_content
from lllm.events.statements import append_statement
from lllm.testing.writers import fork
from tests.support.runs import WatchedLog, full_disk

DEFINED = model.AgentDefined(name="a", system="Be.", model="m")


def opened(number: int) -> model.DialogOpened:
    """Some event."""
    return model.DialogOpened(dialog=number, agent="a", alias="main")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    """A log that remembers its appends."""
    made = WatchedLog(tmp_path / "runs.db")
    yield made
    made.close()


def events_of(log: WatchedLog, recorder: Recorder) -> list[Recorded]:
    """The stream of a recorder."""
    return list(log.read(stream=recorder.session_id))


def test_ids_sort_by_time() -> None:
    """Ids are 26 letters and digits, safe anywhere; they sort by the millisecond they were made."""
    times = [n * 1_000_000 for n in (0, 1, 1_000_000, 1_700_000_000_000, (1 << 48) - 1)]
    ids = [new_id(time) for time in times]
    assert ids == sorted(ids)
    assert all(len(one) == 26 and one.isalnum() and one == one.lower() for one in ids)
    assert len({new_id(0) for _ in range(1000)}) == 1000
    letters = "0123456789abcdefghjkmnpqrstvwxyz"
    for time, one in zip(times, ids, strict=True):  # as every reader of a ULID finds the time
        number = sum(letters.index(letter) << 5 * at for at, letter in enumerate(reversed(one)))
        assert number >> 80 == time // 1_000_000


def test_what_is_staged_is_committed_in_one_append(log: WatchedLog) -> None:
    """stage() fixes place and time; nothing is written before commit(), which is one append."""
    recorder = Recorder(log, "t")
    recorder.stage(opened(1), opened(2))
    recorder.stage(opened(3))
    assert log.head() == 0
    recorder.commit()
    recorder.commit()
    assert log.types() == [["dialog.opened"] * 3]
    assert [event.seq for event in events_of(log, recorder)] == [1, 2, 3]
    for event in events_of(log, recorder):
        check_digest(event, recorder.salt)


def test_nothing_is_kept_of_what_was_written(log: WatchedLog) -> None:
    """Behind a commit the recorder holds no event, and no frame that refers to one; it knows that
    it is not empty, also where nothing is staged after that."""
    recorder = Recorder(log, "t")
    assert recorder.is_empty
    recorder.stage(opened(1))
    recorder.commit()
    asyncio.run(recorder.acommit())
    recorder.stage()
    assert not recorder.is_empty
    assert recorder.is_written
    for nesting in (recorder._seals, recorder._commits):
        assert nesting._inside == {}
    recorder.commit()
    assert log.head() == 1


def test_ordinals_count_by_kind(log: WatchedLog) -> None:
    """ordinal() counts from 1 for each kind."""
    recorder = Recorder(log, "t")
    assert [recorder.ordinal(kind) for kind in "aabab"] == [1, 2, 1, 3, 2]


def test_many_threads_make_one_stream(log: WatchedLog) -> None:
    """Threads that stage and commit at once leave a stream without a hole; what a thread staged is
    durable when its commit returns."""
    recorder = Recorder(log, "t")

    def write(_: int) -> None:
        for _ in range(25):
            number = recorder.ordinal("dialog")
            recorder.stage(opened(number))
            recorder.commit()
            assert any(b'"dialog":%d,' % number in e.data for e in events_of(log, recorder))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert [event.seq for event in events_of(log, recorder)] == list(range(1, 201))


def test_behind_the_last_event_there_is_nothing(log: WatchedLog) -> None:
    """After end() every stage raises SessionEnded and writes nothing, however threads race."""
    for _ in range(20):
        recorder = Recorder(log, "t")
        go = threading.Barrier(5)

        def write(mine: Recorder = recorder, go: threading.Barrier = go) -> int:
            go.wait()
            for count in range(100):
                try:
                    mine.stage(opened(1))
                except SessionEnded:
                    return count
            return 100

        with ThreadPoolExecutor(4) as pool:
            counts = [pool.submit(write) for _ in range(4)]
            go.wait()
            recorder.end(model.SessionSucceeded(elapsed=1))
        recorder.commit()
        written = events_of(log, recorder)
        assert written[-1].type == "session.succeeded"
        assert len(written) == 1 + sum(count.result() for count in counts)


def test_what_could_not_be_written_stays_staged(log: WatchedLog) -> None:
    """A commit that raises leaves what was staged for the next one, in order."""
    recorder = Recorder(BufferedLog(log, on_error="raise"), "t")
    recorder.define(DEFINED)
    recorder.stage(opened(1))
    log.error = full_disk()
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            recorder.commit()
        with pytest.raises(LogUnavailable):
            asyncio.run(recorder.acommit())
    recorder.stage(opened(2))
    log.error = None
    recorder.commit()
    assert log.types() == [["agent.defined"], ["dialog.opened", "dialog.opened"]]
    assert [event.seq for event in events_of(log, recorder)] == [1, 2]


def test_what_is_staged_meanwhile_comes_behind(tmp_path: Path) -> None:
    """What is staged while an append is failing is written behind what it failed to write."""

    class Failing(WatchedLog):
        def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
            if recorder.ordinal("append") == 1:
                recorder.stage(opened(2))
                raise full_disk()
            return super().append(events)

    log = Failing(tmp_path / "failing.db")
    recorder = Recorder(log, "t")
    recorder.stage(opened(1))
    with pytest.raises(LogUnavailable):
        recorder.commit()
    recorder.commit()
    assert [[event.seq for event in events] for events in log.appends] == [[1, 2]]
    log.close()


def test_an_append_of_unclear_outcome_is_not_stored_twice(log: WatchedLog) -> None:
    """Events that were stored although the append raised are not stored again."""

    class Unclear(WatchedLog):
        def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
            positions = super().append(events)
            if len(self.appends) == 1:
                raise full_disk()
            return positions

    unclear = Unclear(Path(log.path))
    recorder = Recorder(BufferedLog(unclear, on_error="raise"), "t")
    recorder.stage(opened(1))
    with pytest.raises(LogUnavailable):
        recorder.commit()
    recorder.stage(opened(2))
    recorder.commit()
    assert [event.seq for event in events_of(log, recorder)] == [1, 2]
    unclear.close()


def test_acommit_waits_for_what_another_is_writing(tmp_path: Path) -> None:
    """acommit() returns when what was staged is durable, also where another thread took it along
    and is not done."""
    writing, release = threading.Event(), threading.Event()

    class Slow(WatchedLog):
        def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
            writing.set()
            release.wait()
            return super().append(events)

    log = Slow(tmp_path / "slow.db")
    recorder = Recorder(log, "t")
    recorder.stage(opened(1))
    thread = threading.Thread(target=recorder.commit)
    thread.start()
    writing.wait()

    async def main() -> None:
        commit = asyncio.create_task(recorder.acommit())
        for _ in range(20):
            await asyncio.sleep(0)
        early = commit.done()
        release.set()
        await commit
        assert not early
        assert log.head() == 1

    asyncio.run(main())
    thread.join()
    log.close()


def test_a_definition_is_written_with_the_events_that_refer_to_it(
    log: WatchedLog, tmp_path: Path
) -> None:
    """define() names a stream by its content, under a secret that processes share; the definition
    is written before the events that follow, once for each log, and not at all where none follow.
    """
    secret = tmp_path / "definitions.key"
    definitions = Definitions(secret)
    one = Recorder(log, "t", definitions=definitions)
    stream = one.define(DEFINED)
    one.commit()
    assert log.head() == 0
    one.stage(opened(1))
    one.commit()
    two = Recorder(log, "t", definitions=definitions)
    stranger = Recorder(log, "t", definitions=Definitions(secret))
    for recorder in (two, stranger):
        assert recorder.define(DEFINED) == stream
        recorder.stage(opened(1))
        recorder.commit()
    assert one.define(model.AgentDefined(name="b", system="Be.", model="m")) != stream
    (defined,) = log.read(stream=stream)
    found = codec.decode(defined)
    assert isinstance(found, model.AgentDefined)
    assert msgspec.structs.replace(found, salt=b"") == DEFINED
    assert len(found.salt) == 32
    check_digest(defined, found.salt)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert Recorder(log, "t").define(DEFINED) != stream
    stranger.definitions.renew()
    assert one.define(DEFINED) == two.define(DEFINED) != stream
    assert log.types() == [["agent.defined"], *[["dialog.opened"]] * 3]


def test_acommit_writes_at_once_what_needs_no_wait(
    log: WatchedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """acommit() takes a thread only where something has to be waited for: for a log that knows no
    append without, and for a definition, which stands before the events that refer to it."""
    threads: list[object] = []

    async def noted(work: Callable[[], object]) -> object:
        threads.append(work)
        return await asyncio.to_thread(work)

    monkeypatch.setattr(recorder_module, "in_thread", noted)

    async def written(recorder: Recorder) -> list[str]:
        recorder.stage(opened(1))
        await recorder.acommit()
        return [event.type for event in recorder.log.read()]

    assert asyncio.run(written(Recorder(log, "t"))) == ["dialog.opened"]
    assert threads == []
    defining = Recorder(log, "t")
    defining.define(DEFINED)
    assert asyncio.run(written(defining))[1:] == ["agent.defined", "dialog.opened"]
    assert len(threads) == 1

    class Waiting(MemoryBackend):
        try_append = None  # type: ignore[assignment] # which it can't do

    waiting = BufferedLog(Waiting())
    assert asyncio.run(written(Recorder(waiting, "t"))) == ["dialog.opened"]
    assert len(threads) == 2


def test_a_statement_is_made_once(log: WatchedLog) -> None:
    """state() says whether it was the first to write its stream."""
    assert append_statement(log, "definition-x", DEFINED)
    assert not append_statement(log, "definition-x", DEFINED)
    assert log.head() == 1


def test_a_child_must_not_write_its_parent_s_session(log: WatchedLog) -> None:
    """In a forked child stage() raises WrongProcess, and what the parent staged is not written by
    it; the parent goes on."""
    recorder = Recorder(log, "t")
    recorder.define(DEFINED)
    recorder.stage(opened(1))

    def in_child() -> None:
        with pytest.raises(WrongProcess, match="belongs to the process that began it"):
            recorder.stage(opened(2))
        recorder.commit()
        assert log.head() == 0

    assert fork(in_child) == 0
    recorder.stage(opened(2))
    recorder.commit()
    assert [event.seq for event in events_of(log, recorder)] == [1, 2]


def test_a_fork_beside_threads_that_write(log: WatchedLog) -> None:
    """A child that is forked while other threads of the parent write can write at once."""
    recorder = Recorder(log, "t")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            recorder.stage(opened(1))
            recorder.commit()

    def in_child() -> None:
        own = Recorder(log, "t")
        own.stage(opened(1))
        own.commit()
        assert len(events_of(log, own)) == 1

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = [fork(in_child) for _ in range(10)]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 10
    written = events_of(log, recorder)
    assert [event.seq for event in written] == list(range(1, len(written) + 1))


# -- redaction


SECRET = "4111"
_CONTENT = model.Content(
    "tool", (model.Part("text", SECRET),), (model.ToolCall("1", "t", SECRET),), "c"
)
_ERROR = model.Error("E", SECRET, SECRET, "code", 400)
_TOOL = model.ToolDefinition(SECRET, SECRET, SECRET)
_FREE: dict[object, object] = {
    "object": {"any": [SECRET]}, "Content": _CONTENT, "Content | None": _CONTENT, "Error": _ERROR,
    "dict[str, str]": {SECRET: SECRET}, "tuple[ToolDefinition, ...]": (_TOOL,),
    "tuple[str, ...]": (SECRET,),
}  # fmt: skip
_QUOTING = {
    ("agent.defined", "system"),
    ("llm.refused", "reason"),
    ("retry.scheduled", "reason"),
}
_KINDS = {  # words of lllm's own
    ("llm.requested", "media"): ("audio",),
    ("session.erased", "streams"): ("tagged-1",),
    ("session.archived", "streams"): ("tagged-1",),
    ("session.archived", "definitions"): ("definition-1",),
}
_PLAIN: dict[str, object] = {
    "str": "s", "Number": 7, "str | None": "s", "Number | None": 7, "Amount | None": 7,
    "bool": True,
    "bytes": b"\x01" * 32, "bytes | None": b"\x02" * 32,
    "State": "success", "Limits": model.Limits(1, 2, 3), "Price": model.Price("free", 0),
    "Price | None": model.Price("free", 0), "Usage | None": model.Usage(1, 2),
    "Origin | None": None, "Producer | None": model.Producer("1", "3"),
    "tuple[Ancestor, ...]": (model.Ancestor("id", "path"),), "tuple[Range, ...]": ((1, 2),),
    "tuple[tuple[Number, Number], ...]": ((1, 2),), "tuple[CostCell, ...]": (),
    "Literal['exception', 'llm_recall']": "exception",
    "DrawnKind": "now", "str | float": 0.5,
}  # fmt: skip


def filled(kind: type[model.Event]) -> model.Event:
    """An event with something in every field, and the secret wherever someone may be quoted."""
    hints = {
        name: hint
        for base in reversed(kind.__mro__)
        for name, hint in vars(base).get("__annotations__", {}).items()
    }
    values = {}
    for name in kind.__struct_fields__:
        hint = hints[name]
        if (kind.type, name) in _KINDS:
            values[name] = _KINDS[kind.type, name]
        elif hint in _FREE:
            values[name] = _FREE[hint]
        else:
            values[name] = SECRET if (kind.type, name) in _QUOTING else _PLAIN[hint]
    return kind(**values)  # type: ignore[return-value] # an Event


@pytest.mark.parametrize("kind", model.EVENTS.values(), ids=list(model.EVENTS))
def test_without_content_nothing_is_quoted(kind: type[model.Event]) -> None:
    """Of every kind of event, what is left without its content quotes nobody, can be decoded as
    what it is, and keeps its ordinals, states, prices and salt."""
    event = filled(kind)
    bare = without_content(event, "KeyError")
    data = codec.encode(bare)
    assert SECRET.encode() not in data
    assert (SECRET.encode() in codec.encode(event)) == (bare != event)
    assert codec.decode(Recorded(1, "s", 1, 1, event.type, 1, data, b"")) == bare
    for name in ("salt", "price", "usage", "elapsed", "request", "message", "ancestors", "about"):
        assert getattr(bare, name, None) == getattr(event, name, None)


def test_redact_sees_json(log: WatchedLog) -> None:
    """redact gets plain JSON values, and may change them in place if it returns them."""

    def redact(type_: str, values: object) -> object:
        assert type_ == "dialog.opened"
        assert isinstance(values, dict)
        values["alias"] = "***"
        return values

    recorder = Recorder(log, "t", redact=redact)
    recorder.stage(opened(1))
    recorder.commit()
    (event,) = events_of(log, recorder)
    assert event.data == b'{"dialog":1,"agent":"a","alias":"***"}'
    check_digest(event, recorder.salt)
    assert payload(opened(1), None) == b'{"dialog":1,"agent":"a","alias":"main"}'
