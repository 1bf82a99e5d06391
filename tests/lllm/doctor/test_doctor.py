"""What `lllm doctor` finds of stores that are well and of stores that are not, and what it says."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lllm import LocalFileBackend, LogStore, NoOpBackend, SQLiteBackend
from lllm.cli.exit_codes import Finding
from lllm.cli.program import main
from lllm.cli.render.doctor import show_checkup
from lllm.doctor.advice import diagnosed, has_wal_reset_bug, size
from lllm.doctor.examine import examine
from lllm.doctor.facts import Checkup, Remark, Severity
from lllm.doctor.file_systems import StoreLocation, file_system
from lllm.events.backends.memory import MemoryBackend
from lllm.events.integrity.backup import back_up
from lllm.events.log import LogBackend
from lllm.events.model import LogGap
from lllm.events.statements import append_statement
from tests.events.integrity.test_backup import KINDS, RUNNER, STOPPING, Writer, running
from tests.support.runs import WatchedLog, full_disk


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def path(kind: str, tmp_path: Path) -> Path:
    return tmp_path / "data" / ("runs.db" if kind == "sqlite" else "logs")


@pytest.fixture
def open_log(kind: str, path: Path) -> LogBackend:
    path.parent.mkdir()
    return KINDS[kind](path)


@pytest.fixture
def store(open_log: LogBackend) -> Iterator[LogStore]:
    """A store with some sessions in it."""
    with LogStore(open_log) as opened:
        for number in range(3):
            with opened.session("tests::well") as recorder:
                recorder.deliver(number)
        with pytest.raises(ZeroDivisionError), opened.session("tests::fails"):
            raise ZeroDivisionError("by zero")
        yield opened


def said(checkup: Checkup, about: str, *severities: Severity) -> list[Remark]:
    """The remarks about a part of the store that are worse than ok, or of some severities."""
    wanted = severities or ("problem", "warning", "note")
    return [one for one in checkup.remarks if one.about == about and one.severity in wanted]


def the_one(checkup: Checkup, about: str, severity: Severity) -> Remark:
    (remark,) = said(checkup, about)
    assert remark.severity == severity
    return remark


def bad(checkup: Checkup) -> list[Remark]:
    return [one for one in checkup.remarks if one.severity in ("problem", "warning")]


def test_a_healthy_store(kind: str, path: Path, store: LogStore) -> None:
    """Of a store that is well there is nothing bad to say, and everything is counted."""
    found = examine(store, thorough=True)
    assert bad(found) == []
    log, rows = found.log, found.rows
    assert (log.kind, log.path, log.format, log.durability) == (kind, path, 1, "process")
    assert log.events == len(list(store.log.read()))
    assert (log.head, log.gaps, log.erased, log.held, log.torn_bytes) == (
        store.log.head(), (), 0, 0, 0,
    )  # fmt: skip
    assert log.bytes == sum(
        file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.jsonl"))
    )
    assert rows.sessions == {"success": 3, "failure": 1}
    assert [(view.name, view.lag, view.generation) for view in rows.views] == [
        ("annotations", 0, 1), ("calls", 0, 1), ("costs", 0, 1), ("holds", 0, 1),
        ("merkle", 0, 1), ("messages", 0, 1), ("sessions", 0, 1), ("tags", 0, 1),
    ]  # fmt: skip
    assert found.database is not None
    assert (found.database.version, found.database.journal_mode, found.database.quick_check) == (
        sqlite3.sqlite_version, "wal", (),
    )  # fmt: skip
    assert found.place is not None
    assert found.place.writable
    assert found.place.free_bytes > 0
    assert {one.about for one in found.remarks if one.severity == "ok"} >= {
        "damage", "gaps", "rows", "disk",
    }  # fmt: skip


def test_an_empty_store(open_log: LogBackend) -> None:
    """A store that nothing was written to yet is well."""
    with LogStore(open_log) as store:
        found = examine(store)
        assert bad(found) == []
        assert (found.log.events, found.rows.sessions) == (0, {})


def test_a_store_that_is_written_meanwhile(kind: str, path: Path, store: LogStore) -> None:
    """Beside a busy writer nothing is taken for behind, damaged or cut short for long."""
    writer = Writer(kind, path)
    try:
        for _ in range(5):
            writer.goes_on()
            assert bad(examine(store)) == []
    finally:
        writer.end()


def test_a_process_that_dies(kind: str, path: Path, store: LogStore) -> None:
    """While its process lives a session is running and nothing is said; once that is killed, it is
    interrupted, and the list of such is named."""
    with running(RUNNER, kind, path) as (process, _):
        found = examine(store)
        assert (found.rows.sessions["running"], found.rows.elsewhere) == (1, 0)
        assert said(found, "sessions") == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = examine(store)
    assert found.rows.sessions == {"success": 3, "failure": 1, "interrupted": 1}
    remark = the_one(found, "sessions", "note")
    assert remark.says == "1 session did not end, because the process died."
    assert "lllm ls --state interrupted" in remark.advice


def test_running_sessions_of_a_copy(kind: str, store: LogStore, tmp_path: Path) -> None:
    """Of what ran when a backup was made, the copy says that nobody there can know."""
    with store.session("tests::open"):
        back_up(store.backend, tmp_path / "copy")
        with LogStore(KINDS[kind](tmp_path / "copy")) as copy:
            found = examine(copy)
    assert (found.rows.sessions["running"], found.rows.elsewhere) == (1, 1)
    assert "original of this copy" in the_one(found, "sessions", "note").says
    assert bad(found) == []


def test_gaps(store: LogStore) -> None:
    """Events that were counted instead of written are told: how many, when and why."""
    second = 1_000_000_000
    gap = LogGap(lost=12, first_time=0, last_time=5 * second, reason="no room", salt=b"s" * 32)
    append_statement(store.log, "gap-1", gap, salt=gap.salt)
    late = LogGap(lost=1, first_time=0, last_time=2**63 - 1, reason="later", salt=b"s" * 32)
    append_statement(store.log, "gap-2", late, salt=late.salt)
    found = examine(store)
    assert found.log.gaps is not None
    assert [(one.lost, one.reason) for one in found.log.gaps] == [(12, "no room"), (1, "later")]
    first, second_remark = said(found, "gaps", "warning")
    assert first.says.startswith(
        "12 events from 1970-01-01 00:00:00 UTC to 1970-01-01 00:00:05 UTC could not be written"
    )
    assert first.says.endswith(": no room.")
    assert second_remark.says.startswith("1 event from ")
    assert found.count("problem") == 0


def test_a_large_log_is_read_through_when_asked(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would take long is not done unasked, and that is said."""
    monkeypatch.setattr("lllm.doctor.examine._READ_BYTES", 1)
    found = examine(store)
    assert (found.log.gaps, found.log.erased) == (None, None)
    assert "--thorough" in the_one(found, "gaps", "note").advice
    assert examine(store, thorough=True).log.gaps == ()


def test_events_that_wait(tmp_path: Path) -> None:
    """Events held in memory are a problem, and what ends it is said."""
    backend = WatchedLog(tmp_path / "runs.db")
    with LogStore(backend) as store:
        backend.error = full_disk()
        with pytest.warns(RuntimeWarning, match="can't write"), store.session("tests::held"):
            pass
        found = examine(store)
        backend.error = None
    assert found.log.held == 2
    remark = the_one(found, "log", "problem")
    assert "2 events of this process wait in memory" in remark.says
    assert remark.advice.startswith("Make room on the disk")
    assert found.remarks[0] is remark


def test_rows_of_a_newer_lllm(kind: str, path: Path, store: LogStore) -> None:
    """Rows that a newer lllm built are left alone; how far behind they are is said."""
    store.close()
    rows = path if path.is_file() else path / "rows.sqlite"
    with sqlite3.connect(rows) as connection:
        connection.execute("UPDATE checkpoints SET version = 99 WHERE view IN ('tags', 'costs')")
    connection.close()
    with LogStore(KINDS[kind](path)) as older:
        with older.session("tests::more"):
            pass
        found = examine(older)
        lag = older.log.head() - min(view.position for view in found.rows.views)
    assert {view.name: view.newer for view in found.rows.views} == {
        "annotations": False, "calls": False, "costs": True, "holds": False,
        "merkle": False, "messages": False, "sessions": False, "tags": True,
    }  # fmt: skip
    remark = the_one(found, "rows", "warning")
    unit = "event" if kind == "sqlite" else "byte"
    assert "of costs, tags, so" in remark.says
    assert f" {lag:,} {unit}s behind" in remark.says
    assert remark.advice == "Upgrade lllm here."


def test_rows_of_another_program_s_views(path: Path, store: LogStore) -> None:
    """Views that only another program has are shown, and judged by nobody."""
    rows = path if path.is_file() else path / "rows.sqlite"
    with sqlite3.connect(rows) as connection:
        connection.execute("INSERT INTO checkpoints VALUES ('theirs', 3, 2, 1, '[]')")
    connection.close()
    found = examine(store)
    (theirs,) = [view for view in found.rows.views if view.name == "theirs"]
    assert (theirs.version, theirs.built_by, theirs.generation) == (None, 3, 2)
    assert bad(found) == []


def test_a_stopped_rebuild(path: Path, store: LogStore) -> None:
    """Tables that a killed rebuild left are named, until the next one removes them; while one is
    under way, that is said instead."""
    rows = path if path.is_file() else path / "rows.sqlite"
    with sqlite3.connect(rows) as connection:
        connection.execute("CREATE TABLE sessions_v9 (number INTEGER)")
        connection.execute("CREATE TABLE mine_v9 (number INTEGER)")  # of a user
    connection.close()
    found = examine(store)
    assert found.rows.leftovers == ("sessions_v9",)
    remark = the_one(found, "rows", "note")
    assert "left sessions_v9" in remark.says
    assert remark.advice == "`lllm rebuild` removes them."
    meanwhile: list[Checkup] = []
    store.rebuild(progress=lambda *_: meanwhile.append(examine(store)))
    assert [one.says for one in said(meanwhile[0], "rows")] == ["A rebuild is under way."]
    assert said(examine(store), "rows") == []


def test_a_damaged_line(tmp_path: Path) -> None:
    """A line in the middle that is no event is a problem with its place, and the rest is told."""
    with LogStore(LocalFileBackend(tmp_path / "logs")) as store:
        for _ in range(3):
            with store.session("tests::well"):
                pass
        store.list_sessions()  # brings the rows up to date
        segment = tmp_path / "logs" / f"{0:020}.jsonl"
        lines = segment.read_bytes().split(b"\n")
        lines[2] = b"#" * len(lines[2])
        segment.write_bytes(b"\n".join(lines))
        found = examine(store)
    remark = the_one(found, "damage", "problem")
    assert "is damaged at byte" in remark.says
    assert "lllm verify" in remark.advice
    assert found.rows.sessions == {"success": 3}


def test_a_damaged_page(tmp_path: Path) -> None:
    """A page of the database that is overwritten is found when that is asked for."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        for _ in range(30):
            with store.session("tests::well"):
                pass
    connection = sqlite3.connect(path)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_events_1'"
    ).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\0" * size)
    with LogStore(SQLiteBackend(path)) as store:
        found = examine(store, thorough=True)
    assert said(found, "damage", "problem")
    assert found.rows.sessions == {"success": 30}


def test_a_torn_tail(tmp_path: Path) -> None:
    """Bytes behind the last whole append are told."""
    with LogStore(LocalFileBackend(tmp_path / "logs")) as store:
        with store.session("tests::well"):
            pass
        with (tmp_path / "logs" / f"{0:020}.jsonl").open("ab") as file:
            file.write(b'{"stream":"cut')
        found = examine(store)
    assert found.log.torn_bytes == 14
    assert the_one(found, "log", "note").says.startswith(
        "14 bytes at the end are not a complete append"
    )


def test_a_stopped_backup(kind: str, path: Path, store: LogStore) -> None:
    """What a killed backup left beside the store is told, and not while it is under way."""
    with running(STOPPING, kind, path, path.with_name("copy")):
        assert said(examine(store), "backup") == []
    remark = the_one(examine(store), "backup", "note")
    assert str(path.with_name("copy.partial")) in remark.says


def test_a_store_that_is_read_only(kind: str, path: Path, store: LogStore) -> None:
    """A look at a store that may only be read changes nothing in it, and says that rows stay as
    they are."""
    store.close()
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    backend = (SQLiteBackend if kind == "sqlite" else LocalFileBackend)(path, read_only=True)
    with LogStore(backend) as reading:
        found = examine(reading, thorough=True)
    assert bad(found) == []
    assert "read only" in the_one(found, "log", "note").says
    assert found.rows.sessions == {"success": 3, "failure": 1}
    assert before == {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}


@pytest.mark.parametrize("make", [MemoryBackend, NoOpBackend, lambda: SQLiteBackend(":memory:")])
def test_stores_in_no_file(make: type[MemoryBackend]) -> None:
    """A log in memory is said to be one; there is no disk to speak of."""
    with LogStore(make()) as store:
        with store.session("tests::well"):
            pass
        found = examine(store, thorough=True)
    assert found.log.path is None
    assert (found.place, found.database) == (None, None)
    assert bad(found) == []
    assert "in no file" in the_one(found, "log", "note").says


@pytest.mark.parametrize(
    ("free", "severity"), [(5_000_000, "problem"), (50_000_000, "warning"), (10**9, "ok")]
)
def test_room_on_the_disk(store: LogStore, free: int, severity: Severity) -> None:
    """Little room is a warning, next to none a problem; both say what happens then."""
    found = examine(store)
    assert found.place is not None
    place = msgspec.structs.replace(found.place, free_bytes=free)
    (remark,) = said(diagnosed(msgspec.structs.replace(found, place=place)), "disk", severity)
    assert ("Make room." in remark.advice) == (severity != "ok")


def test_a_network_file_system(store: LogStore) -> None:
    """A store that other machines can write is warned of, with the way out."""
    place = StoreLocation("/srv", 10**12, "nfs4", writable=True)
    found = diagnosed(msgspec.structs.replace(examine(store), place=place))
    (remark,) = said(found, "disk")
    assert "network file system (nfs4)" in remark.says
    assert "`lllm backup`" in remark.advice
    assert not StoreLocation("/", 1, "ext4", writable=True).networked
    assert not StoreLocation("/", 1, None, writable=True).networked
    assert StoreLocation("/", 1, "fuse.sshfs", writable=True).networked


def test_a_store_that_this_user_can_not_write(store: LogStore) -> None:
    """A folder that may not be written is warned of."""
    place = StoreLocation("/srv", 10**12, "ext4", writable=False)
    (remark,) = said(diagnosed(msgspec.structs.replace(examine(store), place=place)), "disk")
    assert "can't write /srv" in remark.says
    assert "write permission" in remark.advice


def test_file_systems(tmp_path: Path) -> None:
    """Of the mounts above a folder the nearest counts, and of two on one point the last; spaces in
    names are understood."""
    folder = tmp_path / "with space" / "inner"
    folder.mkdir(parents=True)
    point = str(folder.parent).replace(" ", "\\040")
    mounts = f"/dev/a / ext4 rw 0 0\nserver:/x {point} nfs4 rw 0 0\nbroken\n"
    assert file_system(folder, mounts) == "nfs4"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(folder, f"{mounts}/dev/b {point} xfs rw 0 0\n") == "xfs"
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert file_system(link, mounts) == "nfs4"
    assert file_system(folder, "") is None


def test_which_sqlite_has_the_bug() -> None:
    """The WAL-reset bug came with 3.7.0 and went with 3.51.3, 3.50.7 and 3.44.6."""
    ill = ("3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2")
    well = ("3.6.23", "3.44.6", "3.50.7", "3.51.3", "3.53.0", "4.0.0")
    assert [has_wal_reset_bug(version) for version in ill] == [True] * len(ill)
    assert [has_wal_reset_bug(version) for version in well] == [False] * len(well)


def test_what_sqlite_is_asked(store: LogStore) -> None:
    """A journal mode other than WAL, a log that grew without end, and the bug are each told with
    what to do."""
    found = examine(store)
    assert found.database is not None
    odd = msgspec.structs.replace(
        found.database, version="3.40.1", journal_mode="delete", wal_bytes=200_000_000
    )
    told = said(diagnosed(msgspec.structs.replace(found, database=odd)), "SQLite")
    assert [one.severity for one in told] == ["warning", "warning", "note"]
    assert "PRAGMA journal_mode=WAL" in told[0].advice
    assert "grown to 200.0 MB" in told[1].says
    assert "https://sqlite.org/wal.html#walresetbug" in told[2].advice
    assert "no other program" in told[2].advice


def test_what_is_shown(store: LogStore, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong stands first, every remark with its advice; texts of others are harmless."""
    evil = LogGap(lost=3, first_time=0, last_time=0, reason="\x1b[31mred", salt=b"s" * 32)
    append_statement(store.log, "gap-1", evil, salt=evil.salt)
    found = examine(store)
    show_checkup(found, as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("! gaps: 3 events from 1970")
    assert "\\x1b[31mred" in out
    assert "\x1b" not in out
    for remark in found.remarks:
        assert remark.advice in out
        assert f"{remark.about}: " in out
    assert str(found.log.path) in out
    assert "1 failure, 3 success" in out
    assert "3 lost" in out


def test_the_exit_code_of_a_problem(store: LogStore, capsys: pytest.CaptureFixture[str]) -> None:
    """A problem ends the command with a finding, once all is printed; JSON is JSON all the same."""
    trouble = msgspec.structs.replace(examine(store), troubles=("It hurts.", "Here too."))
    found = diagnosed(trouble)
    for as_json in (False, True):
        with pytest.raises(Finding, match=r"The store has 2 problems\."):
            show_checkup(found, as_json=as_json)
    out = capsys.readouterr().out
    assert out.startswith("✗ damage: It hurts.\n    `lllm verify`")
    told = json.loads(out.splitlines()[-1])
    assert told["remarks"][0]["says"] == "It hurts."
    assert told["rows"]["sessions"] == {"failure": 1, "success": 3}


def test_a_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is not UTF-8 is shown, also as JSON."""
    path = tmp_path / os.fsdecode(b"runs-\xff.db")
    with LogStore(SQLiteBackend(path)) as store:
        show_checkup(examine(store), as_json=True)
        show_checkup(examine(store), as_json=False)
    assert json.loads(capsys.readouterr().out.splitlines()[0])["log"]["path"] == str(path)


def test_what_a_backup_shows(
    path: Path, store: LogStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup says where it lies, how large it is, and how far it goes."""
    copy = path.parent / "copy"
    assert main(["backup", "--store", str(path), str(copy)]) == 0
    files = [copy] if copy.is_file() else [one for one in copy.rglob("*") if one.is_file()]
    shown = size(sum(file.stat().st_size for file in files))
    assert capsys.readouterr().out == f"{copy}: {shown}, up to position {store.log.head():,}.\n"


def test_age_and_erasures(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """How old the oldest content is, how much could go, how the log grows, and that copies of what
    was erased may still be there."""
    young = examine(store).rows.age
    assert young.oldest is not None
    assert (young.oldest > time.time_ns() - 10**12, young.older) == (True, 0)
    with monkeypatch.context() as long_ago:
        then = time.time_ns() - 200 * 86_400 * 10**9
        long_ago.setattr("time.time_ns", lambda: then)
        ids = []
        for _ in range(3):
            with store.session("tests::old") as session:
                ids.append(session.session_id)
    with store.session("tests::new"):
        pass
    store.hold(ids[0], reason="case 7")
    age = examine(store).rows.age
    assert (age.oldest, age.older, age.held) == (then, 3, 1)
    assert age.growth is not None
    assert 0 < age.growth < (examine(store).log.bytes or 0)
    store.erase_session(ids[1], reason="x", defer_vacuum=True)
    found = examine(store)
    assert (found.rows.age.older, found.rows.unvacuumed) == (2, True)
    assert "lllm vacuum" in the_one(found, "erasure", "warning").advice
    store.vacuum()
    assert not examine(store).rows.unvacuumed
