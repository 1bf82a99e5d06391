"""A store that is only read: nothing is written, wherever it lies."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogReadOnly, LogStore, LogUnavailable, SQLiteBackend
from lllm.events.backends.sqlite.read_only import ReadOnlyDatabase
from lllm.events.backends.sqlite.schema import FORMAT, SCHEMA
from lllm.events.log import LogBackend
from lllm.logging import local_store, sqlite_store
from tests.support.echo import echo
from tests.support.runs import Doing

Opens = Callable[[bool], LogBackend]  # read_only ->
KINDS = ("sqlite", "jsonl")


@pytest.fixture(params=KINDS)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the test's own log, to write it or to read it only."""
    place = tmp_path / "place"
    place.mkdir()
    if request.param == "sqlite":
        return lambda read_only: SQLiteBackend(place / "runs.db", read_only=read_only)
    return lambda read_only: LocalFileBackend(place / "logs", read_only=read_only)


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file under a folder: when it was changed, its inode, its content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def filled(opens: Opens) -> None:
    """A store with one session in it."""
    with LogStore(opens(False)) as store:
        echo(store)("task", tags={"a": "b"})


def test_nothing_is_written(opens: Opens, tmp_path: Path) -> None:
    """Every question is answered as by a store that may write, and no file is made or changed."""
    filled(opens)
    with LogStore(opens(False)) as store:
        listed = store.list_sessions()
        loaded = store.load_session(listed[0].session_id)
    before = everything(tmp_path)
    with LogStore(opens(True)) as store:
        assert store.read_only
        assert store.list_sessions(tags={"a": "b"}) == listed
        assert store.load_session(listed[0].session_id) == loaded
        assert store.export_cost_summary()["session_count"] == 1
        assert store.lag == 0
        assert len(list(store.events(listed[0].session_id))) > 2
    assert everything(tmp_path) == before


def test_writing_is_refused_at_once(opens: Opens, tmp_path: Path) -> None:
    """A call, a tag, an error or a rebuild is LogReadOnly, before any model is asked."""
    filled(opens)
    before = everything(tmp_path)
    with LogStore(opens(True)) as store:
        (session,) = store.list_sessions()
        begun: list[object] = []
        for write in (
            lambda: Doing(begun.append, log_store=store)("task"),
            lambda: store.tag(session.session_id, {"a": "c"}),
            lambda: store.save_error(ValueError("no")),
            lambda: store.rebuild(),
        ):
            with pytest.raises(LogReadOnly, match="read only"):
                write()
        assert begun == []
    assert everything(tmp_path) == before


def test_a_writer_is_followed(opens: Opens) -> None:
    """What another writes is seen at the next question; a reader keeps nobody from writing."""
    filled(opens)
    with LogStore(opens(True)) as reader:
        assert len(reader.list_sessions()) == 1
        with LogStore(opens(False)) as writer:
            for number in range(2, 5):
                echo(writer)("task")
                while len(reader.list_sessions()) < number:  # their rows follow in a moment
                    time.sleep(0.01)
                assert len(reader.list_sessions()) == number
        assert len(reader.list_sessions()) == 4
        filled(opens)
        assert len(reader.list_sessions()) == 5


def test_on_a_medium_that_can_not_be_written(opens: Opens, tmp_path: Path) -> None:
    """A folder without write permission, read by a user who has none."""
    filled(opens)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for above in tmp_path.parents:
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        found = 9
        try:
            if os.geteuid() == 0:
                os.setuid(65534)  # root may write anywhere; nobody may not
            with LogStore(opens(True)) as store:
                (session,) = store.list_sessions()
                store.load_session(session.session_id)
            found = 0
        finally:
            os._exit(found)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_waits_in_a_write_ahead_log_is_read(tmp_path: Path) -> None:
    """A database copied while in use, or left by a process that died, has changes in a second file:
    they are read too, and nothing is written beside either."""
    code = f"""
import os
import time
from lllm import LogStore, SQLiteBackend
from tests.support.echo import echo
from tests.support.runs import Doing
store = LogStore(SQLiteBackend({str(tmp_path / "runs.db")!r}))
echo(store)("task")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path / 'runs.db'}{suffix}", copy)
    assert (copy / "runs.db-wal").stat().st_size > 0
    before = everything(copy)
    with LogStore(SQLiteBackend(copy / "runs.db", read_only=True)) as store:
        assert len(store.list_sessions()) == 1
    assert everything(copy) == before
    with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as store:
        assert len(store.list_sessions()) == 1


def test_rows_that_are_missing_are_made_in_memory(tmp_path: Path) -> None:
    """A log whose rows are gone, or were built by an older version, is listed all the same."""
    filled(lambda read_only: LocalFileBackend(tmp_path / "logs", read_only=read_only))
    filled(lambda read_only: SQLiteBackend(tmp_path / "runs.db", read_only=read_only))
    for file in (tmp_path / "logs").glob("rows.sqlite*"):
        file.unlink()
    connection = sqlite3.connect(tmp_path / "runs.db")
    connection.execute("UPDATE checkpoints SET version = 0")
    connection.commit()
    connection.close()
    before = everything(tmp_path)
    for store in (
        local_store(tmp_path / "logs", read_only=True),
        sqlite_store(tmp_path / "runs.db", read_only=True),
    ):
        with store:
            assert len(store.list_sessions()) == 1
    assert everything(tmp_path) == before


def test_into_another_process(opens: Opens) -> None:
    """A store that is read only is so in a process that it is sent to."""
    filled(opens)
    with LogStore(opens(True)) as store:
        sent = pickle.loads(pickle.dumps(store))
        with pytest.raises(LogReadOnly):
            sent.save_error(ValueError("no"))
        sent.close()


@pytest.mark.parametrize("kind", [SQLiteBackend, LocalFileBackend])
def test_what_is_not_there(
    kind: type[SQLiteBackend] | type[LocalFileBackend], tmp_path: Path
) -> None:
    """Where there is no log, none is made: LogUnavailable names the path."""
    with pytest.raises(LogUnavailable, match="nothing-here"):
        kind(tmp_path / "nothing-here", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_forking_a_reader(opens: Opens) -> None:
    """A forked child reads on with files of its own, and so does its parent."""
    filled(opens)
    with LogStore(opens(True)) as store:
        assert len(store.list_sessions()) == 1
        pid = os.fork()
        if pid == 0:
            os._exit(len(store.list_sessions()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert len(store.list_sessions()) == 1


def test_a_database_that_is_read_says_so(tmp_path: Path) -> None:
    """It is asked by whoever would make something in it."""
    sqlite_store(tmp_path / "runs.db").close()
    opened = ReadOnlyDatabase(
        tmp_path / "runs.db",
        writers=tmp_path / "runs.db-lllm" / "write.lock",
        version=FORMAT,
        schema=SCHEMA,
    )
    with closing(opened):
        assert opened.read_only
