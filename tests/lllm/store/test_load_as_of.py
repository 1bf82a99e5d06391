"""A session as it was at a position or a time is what a load at that moment gave."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, Runtime, SessionNotFound, SessionRecord, StoreError
from lllm.cli import main
from lllm.events import codec
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.model import SessionStarted
from lllm.logging import local_store, sqlite_store
from lllm.times import datetime_of
from tests.support.random_histories import write

Seen = dict[int, dict[str, SessionRecord]]


@pytest.fixture(params=["memory", "sqlite", "jsonl"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of each kind."""
    if request.param == "memory":
        opened = LogStore(MemoryBackend(), runtime=Runtime())
    elif request.param == "sqlite":
        opened = sqlite_store(tmp_path / "runs.db")
    else:
        opened = local_store(tmp_path / "logs")
    with opened:
        yield opened


def everything(store: LogStore, ids: list[str]) -> dict[str, SessionRecord]:
    """The sessions that there are, of some."""
    found = {}
    for one in ids:
        with contextlib.suppress(SessionNotFound):
            found[one] = store.load_session_record(one)
    return found


def test_at_every_position(store: LogStore) -> None:
    """Whatever the history, the session as of a position, its tags too, is the one that was loaded
    when the log ended there."""
    with LogStore(MemoryBackend(), runtime=Runtime()) as whole:
        write(whole, random.Random(5))
        write(whole, random.Random(6))
        events = list(whole.log.read())
    ids = [one.stream for one in events if one.type == "session.started"]
    seen: Seen = {}
    for event in events:
        fields = (event.stream, event.seq, event.time, event.type, event.version, event.data)
        [position] = store.backend.append([NewEvent(*fields, event.digest)])
        seen[position] = everything(store, ids)
    for position, then in seen.items():
        for one in ids:
            if one in then:
                assert store.load_session_record(one, at=position) == then[one]
                assert store.load_session(one, at=position) == then[one].session
            else:
                with pytest.raises(StoreError, match=f"{one} had not begun at position {position}"):
                    store.load_session(one, at=position)
    last = max(seen)
    assert everything(store, ids) == {
        one: store.load_session_record(one, at=last + 10**6) for one in ids
    }


def ticking(store: LogStore) -> tuple[str, list[int]]:
    """A session with events a second apart, tags and a child; its id and the times of them all."""
    salt, began = b"s" * 32, 1_700_000_000_123_456_789
    times = [began + second * 10**9 for second in range(4)]
    started = SessionStarted(tactic_path="p::one", name="one", tags={"a": "1"}, salt=salt)
    store.backend.append([seal(salt, "tick", 1, times[0], started.type, 1, codec.encode(started))])
    for seq, time in enumerate(times[1:], 2):
        store.backend.append([seal(salt, "tick", seq, time, "something.new", 1, b"{}")])
    return "tick", times


def test_at_a_time(store: LogStore) -> None:
    """What was written by then counts, to the microsecond that is shown; naive times are UTC."""
    session_id, times = ticking(store)
    for number, time in enumerate(times):
        moment = datetime_of(time)
        for at in (moment, moment.replace(tzinfo=None), moment.isoformat(),
                   moment.astimezone(dt.timezone(dt.timedelta(hours=5)))):  # fmt: skip
            assert store.load_session(session_id, at=at).unknown_events == number
        before = moment - dt.timedelta(microseconds=1)
        if number:
            assert store.load_session(session_id, at=before).unknown_events == number - 1
        else:
            with pytest.raises(StoreError, match=r"had not begun at 2023-.*Z: it began"):
                store.load_session(session_id, at=before)
    assert store.load_session(session_id, at="now").unknown_events == len(times) - 1


def test_a_clock_that_was_set_back() -> None:
    """What follows a later event was written later, whatever its time says."""
    with LogStore(MemoryBackend()) as store:
        session_id, times = ticking(store)
        early = seal(b"s" * 32, session_id, 5, times[1], "something.new", 1, b"{}")
        store.backend.append([early])
        then = store.load_session(session_id, at=datetime_of(times[2]))
        assert (then.unknown_events, then.missing_events) == (2, 0)


def test_tags_of_the_root() -> None:
    """A session below another has the root's tags of that time."""
    with LogStore(MemoryBackend()) as store:
        with (
            store.session("p::outer", tags={"env": "a", "who": "x"}) as outer,
            store.session("p::inner", tags={"own": "1"}) as inner,
        ):
            pass
        before = store.log.head()
        store.tag(outer.session_id, {"env": "b"}, remove=["who"])
        store.tag(inner.session_id, {"own": "2"})
        then = store.load_session_record(inner.session_id, at=before)
        assert then.tags == {"env": "a", "who": "x", "own": "1"}
        now = store.load_session_record(inner.session_id, at=store.log.head())
        assert now == store.load_session_record(inner.session_id)
        assert now.tags == {"env": "b", "own": "2"}


def test_what_is_no_point_in_time(store: LogStore) -> None:
    """It is said as for other times."""
    session_id, _ = ticking(store)
    with pytest.raises(ValueError, match="is not a time"):
        store.load_session(session_id, at="soon")
    with pytest.raises(TypeError):
        store.load_session(session_id, at=True)
    with pytest.raises(TypeError):
        store.load_session(session_id, at=1.5)  # type: ignore[arg-type] # that is the test
    for never in (0, -1):
        with pytest.raises(StoreError, match="had not begun"):
            store.load_session(session_id, at=never)


def test_the_events_and_the_export() -> None:
    """Both end there, too."""
    with LogStore(MemoryBackend()) as store:
        session_id, _ = ticking(store)
        assert [one.seq for one in store.events(session_id, at=2)] == [1, 2]
        assert len(store.export_session(session_id, "jsonl", at=2).splitlines()) == 2
        assert json.loads(store.export_session(session_id, at=2))["unknown_events"] == 1


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lllm show --at` takes a position or a time; one before the session is one line."""
    with sqlite_store(tmp_path / "runs.db") as store:
        session_id, times = ticking(store)

    def show(at: str, *more: str) -> tuple[int, str, str]:
        code = main(["show", session_id, "--store", str(tmp_path / "runs.db"), "--at", at, *more])
        return code, *capsys.readouterr()

    code, out, _ = show("2")
    assert (code, "1 event of a newer lllm" in out) == (0, True)
    moment = datetime_of(times[2])
    assert "2 events of a newer lllm" in show(moment.isoformat())[1]
    assert "2 events of a newer lllm" in show(f"{moment:%Y-%m-%dT%H:%M:%S.%f}", "--utc")[1]
    assert json.loads(show("3", "--json")[1])["unknown_events"] == 2
    code, _, err = show("2020-01-01", "--utc")
    assert (code, err.count("\n")) == (2, 1)
    assert "had not begun at 2020-01-01T00:00:00Z" in err
    assert show("soon")[0] == 2
