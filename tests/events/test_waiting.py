"""What waits while another thread is in the middle of its step: each test fails without the lock
that its docstring names.

Where only luck would show what goes wrong without a lock, another thread holds it here, as one that
is in the middle of its step does, and what would come between has to wait.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lllm import LocalFileBackend, LogStore, LogUnavailable, SQLiteBackend
from lllm.events.backends.jsonl import appender
from lllm.events.backends.jsonl.line_format import encode_append
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.noop import NoOpBackend
from lllm.events.backends.sharing import Registry
from lllm.events.backends.sqlite import database
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.read_only import ReadOnlyDatabase
from lllm.events.backends.sqlite.salvaged_rows import SalvagedRows
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency import decoders as decoding
from lllm.events.concurrency import finalizer_work, locks
from lllm.events.concurrency.liveness import Liveness
from lllm.events.concurrency.locks import FileLock
from lllm.events.envelope import NewEvent
from lllm.events.errors import AppendTooLarge
from lllm.events.model import DialogOpened
from lllm.events.recorder import Recorder
from lllm.projections.view import Rows, Table, ViewEvent
from lllm.store.projection_scheduler import CatchUp
from lllm.testing.writers import batch, without_positions
from tests.support.echo import echo
from tests.support.waiting import Running, Stop, waits_for

# -- rows


class StopsInApply:
    """A view that is slow in one thread, the first that applies it."""

    name = "slow"
    version = 1
    types = ("message.added",)
    tables = (Table("slow", {"id": "INTEGER", "seen": "INTEGER"}, key=("id",)),)

    def __init__(self) -> None:
        self.stop = Stop()
        self.armed = False

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """See View."""
        rows.add("slow", (1,), seen=len(batch))
        if self.armed:
            self.stop.here()


@pytest.mark.parametrize("check", [False, True])
def test_a_rebuild_beside_who_catches_up(tmp_path: Path, check: bool) -> None:
    """Projector.alone: new rows are not shown, and none compared, while somebody brings the old
    ones up to date; both count every event once."""
    view = StopsInApply()
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[view]) as store:
        echo(store)("before")
        view.armed = True
        with view.stop.reached_by(lambda: echo(store)("meanwhile")):
            rebuilding = Running(lambda: store.rebuild(check=check))
            assert rebuilding.waits()
        rebuilding.end()
        assert store.rebuild(check=True).difference is None


def test_another_process_rebuilds(tmp_path: Path) -> None:
    """The lock file of a rebuild: a second one waits for the first, of whatever process."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        waits_for(FileLock(tmp_path / "runs.db-lllm" / "rebuild.lock"), store.rebuild)


def test_the_folder_of_the_locks_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a lock can't be had, lists are as they were, which is logged, and a rebuild says which
    one it is and what to do."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        echo(store)("before")
        with store.session("a::b"):
            shutil.rmtree(tmp_path / "runs.db-lllm")
            assert len(store.list_sessions()) == 1
            assert "project.lock: No such file or directory." in caplog.text
            with pytest.raises(LogUnavailable, match=r"rebuild\.lock: No such file"):
                store.rebuild()
            (tmp_path / "runs.db-lllm").mkdir()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So, too, where it can't be locked, as on a network without a lock server."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.rebuild()
        number = (tmp_path / "runs.db-lllm" / "rebuild.lock").stat().st_ino
        flock = locks.fcntl.flock

        def failing(fd: int, how: int) -> None:
            if os.fstat(fd).st_ino == number:
                raise OSError(errno.ENOLCK, "No locks available")
            flock(fd, how)

        with monkeypatch.context() as patched:
            patched.setattr(locks.fcntl, "flock", failing)
            with pytest.raises(LogUnavailable, match=r"rebuild\.lock: No locks available"):
                store.rebuild()
        store.rebuild()


class Follows:
    """Rows that follow a log."""

    def __init__(self) -> None:
        self.times = 0
        self.answer = True

    def catch_up(self, *, timeout: float) -> bool:
        """See Projector."""
        assert timeout == 0
        self.times += 1
        return self.answer


def test_sessions_that_end_at_once() -> None:
    """CatchUp._lock: who ends a session, closes the store, or follows in a moment, waits for the
    step of another that decides who brings up the rows."""
    rows = Follows()
    catch_up = CatchUp(rows)
    waits_for(catch_up._lock, catch_up.session_ended)
    assert rows.times == 1
    waits_for(catch_up._lock, catch_up._run)
    assert rows.times == 2
    rows.answer = False  # another is at it
    waits_for(catch_up._lock, catch_up._catch_up)
    later = catch_up._later
    assert later is not None
    rows.answer = True
    waits_for(catch_up._lock, catch_up.close)
    assert later.finished.is_set()  # no thread comes later
    times = rows.times
    catch_up.session_ended()
    catch_up._run()
    assert rows.times == times


def test_nobody_commits_at_once_beside_another() -> None:
    """Recorder._committing: on an event loop, who finds another at it does not wait, and what it
    staged is written by its own commit in a thread."""
    recorder = Recorder(MemoryBackend(), "a::b")
    recorder.stage(DialogOpened(dialog=1, agent="a", alias="main"))
    with ThreadPoolExecutor(1) as other:
        other.submit(recorder._committing.acquire).result(30)
        assert not recorder._commit_at_once()
        assert not list(recorder.log.read())
        other.submit(recorder._committing.release).result(30)
    assert recorder._commit_at_once() or recorder.commit() is None
    assert len(list(recorder.log.read())) == 1


def test_a_store_closes_behind_who_follows() -> None:
    """CatchUp._at_it: whoever closes waits for the thread that is just bringing up the rows, which
    waits for its turn, too."""
    rows = Follows()
    catch_up = CatchUp(rows)
    waits_for(catch_up._at_it, catch_up._run, lambda: rows.times)
    assert rows.times == 1
    waits_for(catch_up._at_it, catch_up.close, lambda: catch_up._closed)
    assert catch_up._closed


# -- what a process has once


class Thing:
    """Something that may be open once in a process."""

    closed = False

    def in_place(self) -> bool:
        """See Shareable."""
        return not self.closed

    def close(self) -> None:
        """See Shareable."""
        self.closed = True


def test_shares_of_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registry._lock: who takes a share or gives one back waits for the step of another that
    counts them, so that what is handed out is not closed by the one that was the last."""
    registry: Registry[Thing] = Registry()
    share = registry.open(tmp_path, self_ := Thing(), Thing, options={})
    again = waits_for(registry._lock, lambda: registry.opened(tmp_path, self_))
    assert again is not None
    waits_for(registry._lock, share.close)
    assert not share.thing.closed
    share.thing.closed = True  # another stands in its place
    looks = Stop()
    with monkeypatch.context() as patched:
        patched.setattr(Thing, "in_place", lambda thing: (looks.here(), not thing.closed)[1])
        with looks.reached_by(lambda: registry.open(tmp_path, self_, Thing, options={})) as running:
            looks.must_wait(running, registry._lock, lambda: list(registry._entries.values()))


def test_msgspec_learns_a_type_in_one_thread() -> None:
    """decoding._one: no two threads let msgspec learn a type, which would crash the process."""
    waits_for(decoding._one, lambda: decoding.decoder(dict[str, int]))


# -- logs


class TooLarge(MemoryBackend):
    """A log that takes nothing."""

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend."""
        raise AppendTooLarge(f"{len(events)} are too many")


def test_what_is_held_and_lost(recwarn: pytest.WarningsRecorder) -> None:
    """BufferedLog._lock: who holds an event, counts a lost one or looks at what is held waits for
    the step of another."""
    log = BufferedLog(TooLarge())

    def state() -> object:
        return len(log._held), log._bytes, log._lost

    waits_for(log._lock, lambda: log.append(batch("a", 0)), state)
    assert [one.category for one in recwarn] == [RuntimeWarning]
    waits_for(log._lock, lambda: log._hold(batch("a", 1), OSError("full")), state)
    assert waits_for(log._lock, lambda: log.held) == batch("a", 1)
    waits_for(log._lock, lambda: log.append(batch("a", 2)), state)
    assert log.held == [*batch("a", 1), *batch("a", 2)]


@pytest.mark.parametrize("kind", [MemoryBackend, NoOpBackend])
def test_appends_to_memory(kind: Callable[[], MemoryBackend | NoOpBackend]) -> None:
    """The locks of MemoryBackend and NoOpBackend: each append has positions of its own."""
    log = kind()
    assert waits_for(log._lock, lambda: [*log.append(batch("a", 0))]) == [1, 2, 3]
    assert [*log.append(batch("a", 1))] == [4, 5, 6]


def test_a_recorder_in_several_threads() -> None:
    """Recorder._staging and _committing: each event gets its place, each append is made, and what
    was stored is taken off what is pending, one at a time."""
    recorder = Recorder(MemoryBackend(), "a::b")

    def state() -> object:
        return len(recorder._unsealed), len(recorder._pending), recorder._stored_tree.size

    event = DialogOpened(dialog=1, agent="a", alias="main")
    waits_for(recorder._staging, lambda: recorder.stage(event), state)
    waits_for(recorder._committing, recorder.commit, state)
    recorder.stage(event)
    events = waits_for(recorder._staging, recorder._staged)
    assert events == recorder._pending
    waits_for(recorder._staging, lambda: recorder._stored(recorder._pending[:], [2]), state)
    assert recorder.is_written


def test_who_is_alive(tmp_path: Path) -> None:
    """Liveness._thread_lock: stores that are opened, closed or ask for the owner at once."""
    liveness = Liveness(tmp_path / "locks")
    lock = liveness._thread_lock
    waits_for(lock, liveness.use, lambda: liveness._users)
    owner = waits_for(lock, liveness.owner, lambda: [*tmp_path.iterdir()])
    assert owner == liveness.owner()
    waits_for(lock, liveness.close, lambda: liveness._users)
    assert [*(tmp_path / "locks").iterdir()] == []


@pytest.mark.parametrize("seconds", [0.2, 0.0])
@pytest.mark.parametrize("kind", [SQLiteBackend, LocalFileBackend])
def test_a_new_log_is_made_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SQLiteBackend], seconds: float
) -> None:
    """The write lock: whoever finds no log waits for the process that is making one."""
    monkeypatch.setattr(database, "_OPENING_SECONDS", seconds)
    path = tmp_path / "log"
    locked = path / "locks" if kind is LocalFileBackend else tmp_path / "log-lllm"
    locked.mkdir(parents=True)
    log = waits_for(FileLock(locked / "write.lock"), lambda: kind(path))
    assert isinstance(log, kind)
    log.close()


class Other:
    """A program that writes to a file without our lock."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self.close = self._connection.close

    def acquire(self) -> None:
        """Begin."""
        self._connection.execute("BEGIN EXCLUSIVE")

    def release(self) -> None:
        """End."""
        self._connection.execute("ROLLBACK")


def test_another_program_makes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database: a program without our lock file, that writes to the file just then, is waited
    for."""
    path, stop = tmp_path / "log", Stop()
    is_ours = database.is_ours

    def stopped(*arguments: Any) -> bool:
        stop.here()
        return is_ours(*arguments)

    monkeypatch.setattr(database, "is_ours", stopped)
    with stop.reached_by(lambda: SQLiteBackend(path)) as opening, closing(Other(path)) as other:
        stop.must_wait(opening, other)
    log = opening.end()
    assert isinstance(log, SQLiteBackend)
    log.close()


def test_connections_are_closed_beside_no_write(tmp_path: Path) -> None:
    """Writer.thread_lock: a checkpoint, and the end of a connection or of all, wait for the
    write that is under way."""
    db = Database(tmp_path / "db", lock=tmp_path / "lock", version=1)
    waits_for(db._writer.thread_lock, db._writer.checkpoint)
    with db.snapshot() as connection:
        pass
    waits_for(db._writer.thread_lock, lambda: db._drop(connection))
    waits_for(db._writer.thread_lock, db.close, lambda: db._writer.connection is None)
    assert db._writer.connection is None


def test_a_reader_looks_alone(tmp_path: Path) -> None:
    """Writer.thread_lock of a reader: one thread at a time sees that the file has changed, and
    copies what waits in its write-ahead log."""
    path = tmp_path / "log"
    Database(path, lock=tmp_path / "lock", version=1, schema=["CREATE TABLE t (x)"]).close()
    with closing(ReadOnlyDatabase(path, writers=tmp_path / "lock", version=1)) as db:
        waits_for(db._writer.thread_lock, db._look)
        (tmp_path / "log-wal").touch()
        copy = waits_for(db._writer.thread_lock, db._copied, lambda: db._copy)
        assert copy == db._copied()


def test_the_rows_of_a_folder(tmp_path: Path) -> None:
    """LocalFileBackend._rows_lock: the database of the rows is opened once, and closed if it is."""
    log = LocalFileBackend(tmp_path / "log")
    rows = waits_for(log._rows_lock, log.rows_database, lambda: log._rows)
    assert rows is log.rows_database()
    waits_for(log._rows_lock, log.close, lambda: log._rows)


def test_a_folder_is_closed_beside_no_append(tmp_path: Path) -> None:
    """JSONLFolder.thread_lock: the last to close waits for the append of another thread."""
    log = LocalFileBackend(tmp_path / "log")
    log.append(batch("a", 0))
    tail = log._shared.tail
    waits_for(log._shared.thread_lock, log.close, tail.in_place)
    assert tail._file is None


def test_much_that_others_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSONLFolder.thread_lock: one thread at a time reads what other processes wrote."""
    monkeypatch.setattr(appender, "_NEAR", 0)
    with closing(LocalFileBackend(tmp_path / "log")) as log:
        log.append(batch("a", 0))
        (file,) = (tmp_path / "log").glob("*.jsonl")
        with file.open("ab") as opened:  # by another process
            opened.write(encode_append(batch("b", 0))[0])
        streams, stop = log._shared.streams, Stop()
        catch_up = streams.catch_up

        def stopped(*arguments: Any) -> None:
            stop.here()
            catch_up(*arguments)

        monkeypatch.setattr(streams, "catch_up", stopped)
        with stop.reached_by(lambda: log.append(batch("c", 0))):
            other = Running(lambda: log.append(batch("d", 0)))
            assert other.waits()
        other.end()
        assert without_positions(log.read(stream="b")) == batch("b", 0)


def test_damaged_pages_are_looked_through_once(tmp_path: Path) -> None:
    """SalvagedRows._lock: threads that meet a damaged page share what is read from the pages."""
    path = tmp_path / "log"
    with closing(SQLiteBackend(path)) as log:
        log.append(batch("a", 0))
    rows = SalvagedRows(path)
    found = waits_for(rows._lock, lambda: rows.query("SELECT seq FROM events WHERE position = ?",
                                                     (2,), upto=3))  # fmt: skip
    assert found == [(2,)]
    assert waits_for(rows._lock, rows.all_of) is rows.all_of()
    waits_for(rows._lock, rows.close, lambda: rows._database)
    assert rows._database is None


def test_deferred_work_is_waited_for() -> None:
    """By everybody but the thread that does it, which would wait for itself."""
    begun, go_on = threading.Event(), threading.Event()
    took: list[float] = []

    def work() -> None:
        begun.set()
        go_on.wait(20)
        before = time.monotonic()
        finalizer_work._queue.wait(20)
        took.append(time.monotonic() - before)

    finalizer_work.later(work)
    assert begun.wait(20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(finalizer_work._queue.wait, 20)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        go_on.set()
        waiting.result(20)
    assert took
    assert took[0] < 5
