"""Archived sessions leave a store whole, and everything about it stays provable and summed up."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lllm import (
    ArchiveRefused,
    ErasureRefused,
    ImportRefused,
    LogStore,
    LogUnavailable,
    Runtime,
    SessionWasArchived,
    SessionWasErased,
)
from lllm.archive import archiver
from lllm.archive.archive_report import ArchivedSessions
from lllm.audit.extension import check_extension, tree_for
from lllm.audit.sealing import read_anchor
from lllm.cli import main
from lllm.events.backend import read_digests
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.integrity.verify import verify
from lllm.logging import local_store, sqlite_store
from tests.support import ROOT
from tests.support.echo import echo
from tests.support.random_histories import write

LATER = "2100-01-01"


def record(store: LogStore, text: str) -> str:
    """A session with costs, one below it, tags, a comment and a definition of an agent."""
    with store.session("p::desk", task=text, tags={"user": text, "env": "prod"}) as own:
        echo(store)(text)
        own.deliver([text])
    store.tag(own.session_id, {"note": text}, remove=["env"])
    store.annotate(own.session_id, name="quality", value=0.5)
    return own.session_id


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with some sessions, which is made once."""
    path = tmp_path_factory.mktemp("recorded") / "runs.db"
    with sqlite_store(path) as opened:
        write(opened, random.Random(5))
        for text in "abc":
            record(opened, text)
        opened.list_sessions()
    return path


@pytest.fixture
def store(recorded: Path, tmp_path: Path) -> Iterator[LogStore]:
    """A store with some sessions."""
    shutil.copy(recorded, tmp_path / "runs.db")
    with sqlite_store(tmp_path / "runs.db") as opened:
        yield opened


def archive(store: LogStore, folder: Path, **options: object) -> ArchivedSessions:
    return store.archive(before=LATER, to=folder, by="ada", **options)  # type: ignore[arg-type]


def is_sound(store: LogStore) -> int:
    """Check that the log is whole and the rows are what it says; return the archived events."""
    checked = verify(store.backend)
    assert checked.damages == ()
    rebuilt = store.rebuild(check=True)
    assert rebuilt.difference is None
    return checked.archived


def sums(store: LogStore) -> list[object]:
    """All that a bill is made of."""
    found: list[object] = []
    for group in (None, "tactic", "model", "agent", "day", "tag:user", "tag:note", "tag:env"):
        summary = dict(store.export_cost_summary(group_by=group))
        found.append({key: value for key, value in summary.items() if "archived" not in key})
    return found


def ended(store: LogStore) -> list[str]:
    return [one.session_id for one in store.list_sessions(replays=True) if one.state != "running"]


def test_all_that_stays(store: LogStore, tmp_path: Path) -> None:
    """Events go, with those of sub-tactics and statements; digests, costs, tags and lists stay."""
    digests = [leaf for page in read_digests(store.backend) for leaf in page]
    before, bill, going = store.list_sessions(), sums(store), ended(store)
    events = {one: list(store.events(one)) for one in going}
    loaded = {one: store.load_session(one) for one in going}

    report = archive(store, tmp_path / "old")
    assert sorted(report.sessions) == sorted(going)
    assert is_sound(store) == report.events > 30
    assert [leaf for page in read_digests(store.backend) for leaf in page][
        : len(digests)
    ] == digests
    assert sums(store) == bill
    after = store.list_sessions()
    assert [(one.session_id, one.state, one.tags, one.total_cost, one.timestamp) for one in after
            ] == [(one.session_id, one.state, one.tags, one.total_cost, one.timestamp)
                  for one in before]  # fmt: skip
    assert all(one.archived and str(tmp_path / "old") in one.archived for one in after
               if one.session_id in going)  # fmt: skip
    streams = {event.stream for event in store.backend.read()}
    assert not streams & set(going)
    about = [event.type for event in store.backend.read()
             if any(f'"about":"{one}"'.encode() in event.data for one in going)]  # fmt: skip
    assert set(about) == {"session.archived"}
    store.rebuild()
    assert sums(store) == bill
    with LogStore.open(tmp_path / "old") as old:
        assert is_sound(old) == 0
        for one in going:
            assert old.load_session(one) == loaded[one]
            assert [event.digest for event in old.events(one)] == [
                event.digest for event in events[one]
            ]


def test_marked_in_costs(
    store: LogStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cost summary says what of it is archived, and what other prices leave out."""
    assert store.export_cost_summary()["archived_count"] == 0
    all_of = {"tags": {"user": "a"}}
    calls = store.export_cost_summary(**all_of)["calls"]  # type: ignore[arg-type]
    assert calls > 0
    every = store.summarize_calls()
    assert every.removed_calls == 0
    archive(store, tmp_path / "old", tags={"user": "a"})
    left = store.summarize_calls()
    assert (left.total.calls + calls, left.removed_calls) == (every.total.calls, calls)
    assert store.summarize_calls(tags={"user": "a"}, model="*", after="1h").removed_calls == calls
    for other in ({"tags": {"user": "b"}}, {"model": "no"}, {"before": "1h"}, {"partition": "no"}):
        assert store.summarize_calls(**other).removed_calls == 0  # type: ignore[arg-type]
    record(store, "d")
    for _ in range(2):
        assert store.export_cost_summary()["archived_count"] == 1
        assert store.export_cost_summary(tags={"user": "d"})["archived_count"] == 0
        found = store.export_cost_summary(**all_of)  # type: ignore[arg-type]
        assert (found["archived_count"], found["calls"]) == (1, calls)
        anew = store.export_cost_summary(prices="current", tags={"user": "a"})
        assert (anew["archived_count"], anew["calls"]) == (1, 0)
        store.rebuild()
    assert main(["cost", "--store", str(tmp_path / "runs.db")]) == 0
    assert "by 1 archived session." in capsys.readouterr().out
    assert main(["cost", "--prices", "current", "--store", str(tmp_path / "runs.db")]) == 0
    assert "Left out: 1 archived session" in capsys.readouterr().out
    assert main(["calls", "--by", "model", "--store", str(tmp_path / "runs.db")]) == 0
    assert f"Without {calls} call" in capsys.readouterr().out


def test_command(store: LogStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lllm archive` counts and asks first; --dry-run and a refusal change nothing."""
    asked = ["archive", "--before", LATER, str(tmp_path / "old"), "--store",
             str(tmp_path / "runs.db")]  # fmt: skip
    assert main([*asked, "--dry-run"]) == 0
    assert "Would be archived: " in capsys.readouterr().out
    assert main(asked) != 0  # there is nobody to say yes
    assert not (tmp_path / "old").exists()
    assert main([*asked, "--yes", "--json"]) == 0
    assert str(tmp_path / "old") in capsys.readouterr().out
    assert main([*asked, "--yes"]) == 1
    gone = ended(store)[0]
    for command in (["show", gone], ["export", gone], ["events", gone]):
        assert main([*command, "--store", str(tmp_path / "runs.db")]) != 0
        assert "archived on" in capsys.readouterr().err
    for command in (["ls"], ["verify"], ["doctor"], ["audit"], ["search", "a"], ["calls"]):
        main([*command, "--store", str(tmp_path / "runs.db")])
        assert "Traceback" not in capsys.readouterr().err
    assert main(["verify", "--store", str(tmp_path / "runs.db")]) == 0
    assert "left the log for an archive" in capsys.readouterr().out


def test_every_reader_says_so(store: LogStore, tmp_path: Path) -> None:
    """Whatever needs the events of an archived session names the file that has them."""
    gone = ended(store)[0]
    archive(store, tmp_path / "old")
    (file,) = (tmp_path / "old").iterdir()
    asks: list[Callable[[], object]] = [
        lambda: store.load_session(gone), lambda: store.load_session_record(gone),
        lambda: store.events(gone), lambda: store.export_session(gone),
        lambda: store.tag(gone, {"a": "b"}), lambda: store.annotate(gone, name="x", value=1),
        lambda: store.hold(gone, reason="case"), lambda: store.replay(gone).__enter__(),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(SessionWasArchived, match=file.name):
            ask()


def test_seals_and_proofs(store: LogStore, tmp_path: Path) -> None:
    """A seal from before, and the tree after a rebuild, are those of the log with all events."""
    seal = tmp_path / "seal"
    seal.write_text(store.seal())
    archive(store, tmp_path / "old")
    record(store, "new")
    for _ in range(2):
        anchors = [read_anchor(seal, [])]
        tree = tree_for(store.backend, anchors)
        assert tree is not None
        assert verify(store.backend, tree=tree).is_sound
        assert [one.verdict for one in check_extension(store.backend, tree, anchors)] == ["good"]
        now = store.seal()
        store.rebuild()
        assert store.seal() == now


@pytest.mark.parametrize("what", ["changed", "swapped", "removed", "event", "reinserted"])
def test_alterations(store: LogStore, tmp_path: Path, what: str) -> None:
    """A digest that was left behind and changed is found by the log alone, and so is a removal."""
    archive(store, tmp_path / "old")
    path = tmp_path / "runs.db"
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        for name, sql in connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            if what == "event" or "archived_leaves" in sql:
                connection.execute(f"DROP TRIGGER {name}")
        first, digests = connection.execute(
            "SELECT first, digests FROM archived_leaves WHERE length(digests) > 64 LIMIT 1"
        ).fetchone()
        new = {
            "changed": bytes([digests[0] ^ 1]) + digests[1:],
            "swapped": digests[32:64] + digests[:32] + digests[64:],
        }.get(what)
        if new is not None:
            connection.execute("UPDATE archived_leaves SET digests = ? WHERE first = ?",
                               (new, first))  # fmt: skip
        elif what == "removed":
            connection.execute("DELETE FROM archived_leaves WHERE first = ?", (first,))
        elif what == "event":
            connection.execute("DELETE FROM events WHERE type = 'session.archived' AND position = ("
                               "SELECT max(position) FROM events)")  # fmt: skip
        else:
            connection.execute(
                "INSERT INTO events SELECT ?, 'x', 1, time, type, version, digest, data FROM events"
                " LIMIT 1", (first,)
            )  # fmt: skip
        connection.commit()
    (found, *_) = verify(SQLiteBackend(path, read_only=True)).damages
    if what in ("changed", "swapped"):
        assert "are not those of its events" in found.what


def test_guarded(store: LogStore, tmp_path: Path) -> None:
    """The digests of archived events are never changed, deleted or replaced, as events are."""
    archive(store, tmp_path / "old")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        for sql in (
            "UPDATE archived_leaves SET last = 0",
            "DELETE FROM archived_leaves",
            "INSERT OR REPLACE INTO archived_leaves SELECT * FROM archived_leaves",
            "DELETE FROM events",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(sql)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_stays(store: LogStore, tmp_path: Path) -> None:
    """Sessions that run or are held, what a running replay needs, and newer ones, are left."""
    held, used, *_ = going = ended(store)
    store.hold(held, reason="case 7")
    running = store.session("p::runs")
    with running as own:
        report = store.archive(before=LATER, to=tmp_path / "old", dry_run=True)
        assert own.session_id in report.running
        assert held in report.held
        assert not (tmp_path / "old").exists()
        assert is_sound(store) == 0
        assert store.archive(before="2000-01-01", to=tmp_path / "old").sessions == []
        report = archive(store, tmp_path / "old", tags={"user": "a"})
        assert len(report.sessions) == 1
        report = archive(store, tmp_path / "old")
        assert held not in report.sessions
        assert store.load_session(own.session_id).state == "running"
    assert is_sound(store) > 0
    assert store.load_session(held).session_id == held
    assert {used} <= set(going)
    assert len(list((tmp_path / "old").iterdir())) == 2
    assert archive(store, tmp_path / "old").sessions == [own.session_id]  # none twice


@pytest.mark.parametrize("times", [1, 2])
def test_brought_back(store: LogStore, tmp_path: Path, times: int) -> None:
    """`import` brings archived sessions back as they were; they can be archived again."""
    going = ended(store)
    loaded, bill = {one: store.load_session(one) for one in going}, sums(store)
    tags = {one.session_id: one.tags for one in store.list_sessions()}
    for _ in range(times):
        archive(store, tmp_path / "old")
        assert store.import_sessions(tmp_path / "old").sessions > 0
        assert store.import_sessions(tmp_path / "old").sessions == 0
    assert {one: store.load_session(one) for one in going} == loaded
    assert sums(store) == bill
    assert {one.session_id: one.tags for one in store.list_sessions()} == tags
    assert is_sound(store) > 0
    assert not any(one.archived for one in store.list_sessions(replays=True))
    report = archive(store, tmp_path / "old")
    assert sorted(report.sessions) == sorted(going)
    assert is_sound(store) > report.events
    with LogStore.open(tmp_path / "old") as old:
        assert sorted(ended(old)) == sorted(going)
        assert is_sound(old) == 0


def test_erased_in_the_store(store: LogStore, tmp_path: Path) -> None:
    """What the store has of an archived session is erased; the file is named as out of reach."""
    gone = store.list_sessions(tags={"user": "a"})[0].session_id
    archive(store, tmp_path / "old")
    report = store.erase_session(gone, reason="asked to")
    assert any(one.startswith("the archive ") for one in report.out_of_reach)
    assert store.list_sessions(tags={"user": "a"}) == []
    assert is_sound(store) > 0
    with pytest.raises(SessionWasErased):
        store.load_session(gone)
    with pytest.raises(ImportRefused, match="was erased"):
        store.import_sessions(tmp_path / "old")
    assert is_sound(store) > 0
    for event in store.backend.read():
        assert b'"a"' not in event.data or event.type != "session.archived"


def test_erased_when_brought_back(store: LogStore, tmp_path: Path) -> None:
    """An erasure finds what was said of a session when it was archived before."""
    gone = store.list_sessions(tags={"user": "a"})[0].session_id
    archive(store, tmp_path / "old")
    store.import_sessions(tmp_path / "old")
    store.erase_session(gone, reason="asked to")
    assert is_sound(store) > 0
    assert not any(
        event.type == "session.archived" and gone.encode() in event.data
        for event in store.backend.read()
    )


def test_an_archive_is_not_erased_from(store: LogStore, tmp_path: Path) -> None:
    """An archive says that nothing can be erased in it."""
    gone = ended(store)[0]
    archive(store, tmp_path / "old")
    with (
        LogStore.open(tmp_path / "old") as old,
        pytest.raises(ErasureRefused, match="never changed"),
    ):
        old.erase_session(gone, reason="asked to")


def test_other_stores_refuse(tmp_path: Path) -> None:
    """A store whose events can't be removed says so, and stays as it is."""
    for opened in (
        LogStore(MemoryBackend(), runtime=Runtime()),
        local_store(tmp_path / "logs"),
    ):
        with opened as other:
            record(other, "x")
            with pytest.raises(ArchiveRefused, match="lllm import"):
                archive(other, tmp_path / "old")
            assert not (tmp_path / "old").exists()


def test_places_that_are_refused(store: LogStore, tmp_path: Path) -> None:
    """A file, the store itself and other stores are no places for archives."""
    (tmp_path / "file").write_text("x")
    with local_store(tmp_path / "logs"):
        pass
    for place in ("file", "runs.db", "runs.db-lllm", "runs.db-lllm/old", "logs", "logs/old"):
        with pytest.raises(ArchiveRefused):
            archive(store, tmp_path / place)
    assert is_sound(store) == 0


def test_no_space(store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file can't be written whole, no session leaves, and no file is left."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lllm.archive.write_archive.sync", full)
    with pytest.raises(LogUnavailable, match="space"):
        archive(store, tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []
    assert is_sound(store) == 0
    monkeypatch.undo()
    assert archive(store, tmp_path / "old").sessions


def test_log_is_full(store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log can't say what was archived, the file is removed again."""

    def full(_: object) -> None:
        raise LogUnavailable("full")

    monkeypatch.setattr(store.backend, "append", full)
    with pytest.raises(LogUnavailable, match="full"):
        archive(store, tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []
    monkeypatch.undo()
    assert is_sound(store) == 0
    assert archive(store, tmp_path / "old").sessions


_DYING = """
import os, signal, sys
from lllm.archive import archiver
from lllm.logging import sqlite_store
wanted, archiver._AT_ONCE = sys.argv[2], 7
def step(name):
    if name == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
archiver.step = step
with sqlite_store(sys.argv[1] + "/runs.db") as store:
    store.archive(before="2100-01-01", to=sys.argv[1] + "/old")
"""
STEPS = ("noted", "written", "named", "said", "rows", "some", "removed", "done")


def die(folder: Path, step: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _DYING, str(folder), step], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == -signal.SIGKILL, found.stderr


def test_steps_are_all_named() -> None:
    """The steps at which a process is killed below are all that there are."""
    text = Path(archiver.__file__).read_text()
    assert {one.split('"')[1] for one in text.split("step(")[1:] if one.startswith('"')} == set(
        STEPS
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed(tmp_path: Path, step: str) -> None:
    """Killed at any step, the next open finishes or undoes it: nothing is lost or doubled."""
    with sqlite_store(tmp_path / "runs.db") as opened:
        write(opened, random.Random(5))
        ids = [record(opened, text) for text in "ab"]
        loaded = {one: opened.load_session(one) for one in ids}
        bill = sums(opened)
        opened.list_sessions()
    die(tmp_path, step)
    with sqlite_store(tmp_path / "runs.db") as store:
        assert sums(store) == bill
        archived = is_sound(store)
        here = {one.session_id for one in store.list_sessions() if not one.archived}
        files = list((tmp_path / "old").iterdir()) if (tmp_path / "old").exists() else []
        if step in ("noted", "written", "named"):
            assert (archived, files) == (0, [])
            assert here >= set(ids)
            archive(store, tmp_path / "old")
        else:
            assert archived > 0
            assert not here & set(ids)
        streams = {event.stream for event in store.backend.read()}
        assert not streams & set(ids)
    with LogStore.open(tmp_path / "old") as old:
        assert {one: old.load_session(one) for one in ids} == loaded


@pytest.mark.slow
def test_killed_and_the_file_is_gone(tmp_path: Path) -> None:
    """Events are not removed while their archive is missing; they are when it is there again."""
    with sqlite_store(tmp_path / "runs.db") as opened:
        record(opened, "a")
    die(tmp_path, "said")
    os.rename(tmp_path / "old", tmp_path / "elsewhere")
    with sqlite_store(tmp_path / "runs.db") as store:
        assert is_sound(store) == 0
        with pytest.raises(LogUnavailable, match="is not there"):
            archive(store, tmp_path / "new")
    os.rename(tmp_path / "elsewhere", tmp_path / "old")
    with sqlite_store(tmp_path / "runs.db") as store:
        assert is_sound(store) > 0


@pytest.mark.parametrize("times", [1, 9])
def test_tagged_meanwhile(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A tag that somebody sets while the file is written goes with the session; whoever never
    stops setting them keeps the sessions where they are."""
    gone, left = ended(store)[0], list(range(times))

    def tag(name: str) -> None:
        if name == "named" and left:
            store.tag(gone, {"late": str(left.pop())})

    monkeypatch.setattr(archiver, "step", tag)
    if times > 1:
        with pytest.raises(LogUnavailable, match="keep tagging"):
            archive(store, tmp_path / "old")
        assert list((tmp_path / "old").iterdir()) == []
        assert is_sound(store) == 0
        return
    report = archive(store, tmp_path / "old")
    assert gone in report.sessions
    assert len(report.sessions) == len(set(report.sessions))
    assert [one.session_id for one in store.list_sessions(tags={"late": "0"})] == [gone]
    assert is_sound(store) == report.events
    with LogStore.open(tmp_path / "old") as old:
        assert [one.session_id for one in old.list_sessions(tags={"late": "0"})] == [gone]


def test_damaged_session_stays(store: LogStore, tmp_path: Path) -> None:
    """A session with an event that was changed stays, is listed, and the others go."""
    gone, *others = ended(store)
    store.close()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        connection.execute("DROP TRIGGER events_are_never_changed")
        connection.execute(
            "UPDATE events SET time = time + 1 WHERE stream = ? AND seq = 2", (gone,)
        )
        connection.commit()
    with sqlite_store(tmp_path / "runs.db") as opened:
        report = archive(opened, tmp_path / "old")
        assert report.damaged == [gone]
        assert sorted(report.sessions) == sorted(others)
        assert len(verify(opened.backend).damages) == 1
