"""A store as a database of sqlite-utils: everything can be asked, and nothing changed."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlite_utils

from lllm import LocalFileBackend, LogReadOnly, LogStore, LogUnavailable, SQLiteBackend, StoreError
from lllm.events.backends.memory import MemoryBackend
from lllm.logging import noop_store, sqlite_store
from tests.events.backends.sqlite.test_read_only import everything
from tests.support.echo import echo


@pytest.fixture(params=["runs.db", "runs"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a store is to be: an SQLite file, a folder."""
    return tmp_path / str(request.param)


@pytest.fixture
def store(path: Path) -> Iterator[LogStore]:
    """A store with two sessions."""
    with LogStore.open(str(path), partition="") as store:
        echo(store)("one", tags={"env": "prod"})
        echo(store)("two")
        yield store


def tasks(database: sqlite_utils.Database) -> list[object]:
    """What the sessions of a database were asked, in order."""
    return [row["task"] for row in database.query("SELECT task FROM sessions ORDER BY number")]


def test_rows_are_up_to_date(store: LogStore, path: Path) -> None:
    """A database has what was written before it was asked for, by whichever store, and what lllm
    writes later shows in the same one."""
    with LogStore.open(str(path), partition="") as other:
        echo(other)("three")
    database = store.database()
    assert isinstance(database, sqlite_utils.Database)
    assert tasks(database) == ["one", "two", "three"]
    echo(store)("four")
    store.list_sessions()
    assert tasks(database) == ["one", "two", "three", "four"]
    assert database["calls"].count == len(store.list_calls())
    assert "sessions" in database.view_names()
    assert database.execute("SELECT count(*) FROM sessions").fetchone() == (4,)


def test_events_of_an_sqlite_store(tmp_path: Path) -> None:
    """The log of an SQLite store can be asked, too, with SQLite's functions for JSON."""
    with sqlite_store(tmp_path / "runs.db") as store:
        echo(store)("one")
        found = store.database().query(
            "SELECT data ->> 'task' AS task FROM events WHERE type = 'session.started'"
        )
        assert [row["task"] for row in found] == ["one"]


WRITES = [
    "DELETE FROM sessions_v1",
    "INSERT INTO checkpoints (view) VALUES ('x')",
    "UPDATE checkpoints SET position = 0",
    "INSERT INTO checkpoints (view) VALUES ('x') RETURNING view",
    "CREATE TABLE mine (a)",
    "CREATE TEMP TABLE mine (a)",
    "CREATE VIRTUAL TABLE mine USING fts5(a)",
    "DROP VIEW sessions",
    "ALTER TABLE checkpoints RENAME TO mine",
    "CREATE INDEX mine ON checkpoints (version)",
    "ATTACH 'mine.db' AS mine",
    "VACUUM",
    "VACUUM INTO 'mine.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "BEGIN EXCLUSIVE",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 9",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA writable_schema = ON",
    "PRAGMA optimize",
    "SELECT load_extension('mine')",
    "EXPLAIN DELETE FROM checkpoints",
    "WITH a AS (SELECT 1) DELETE FROM checkpoints",
]


def test_nothing_can_be_written(
    store: LogStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever is more than a question is refused by one error, which says what to do instead, and
    no file is made or changed."""
    monkeypatch.chdir(tmp_path)
    store.list_sessions()
    database = store.database()
    generation = next(name for name in database.table_names() if name.startswith("sessions_v"))
    before = {
        name: content
        for name, (_, _, content) in everything(tmp_path).items()
        if not name.endswith("-shm")
    }
    for sql in WRITES:
        with pytest.raises(LogReadOnly, match=r"is refused.*lllm export --lists"):
            database.execute(sql.replace("sessions_v1", generation)).fetchall()
    for write in (
        lambda: database["mine"].insert({"a": 1}),
        lambda: database["checkpoints"].insert({"view": "x"}),
        lambda: database["checkpoints"].delete_where(),
        lambda: database.executescript("DELETE FROM checkpoints"),
        lambda: database.conn.executemany("DELETE FROM checkpoints WHERE view = ?", [("x",)]),
        lambda: database.attach("mine", "mine.db"),
        lambda: database.vacuum(),
        lambda: database.enable_wal() if database.journal_mode != "wal" else database.disable_wal(),
    ):
        with pytest.raises(LogReadOnly, match="is refused"):
            write()
    after = {name: everything(tmp_path)[name][2] for name in before}
    assert before == after
    assert not (tmp_path / "mine.db").exists()
    assert tasks(database) == ["one", "two"]
    echo(store)("three")  # and nobody is kept from writing
    assert len(store.list_sessions()) == 3


def test_rows_come_one_by_one(store: LogStore) -> None:
    """While some rows are still to be read, others can be asked for, and the store written."""
    database = store.database()
    rows = database.query("SELECT id, number FROM sessions ORDER BY number")
    first = next(rows)
    echo(store)("three")
    assert database["sessions"].count in (2, 3)
    assert next(rows)["number"] > first["number"]
    assert next(rows, None) is None
    with database.atomic():  # one state of the file
        counted = database["sessions"].count
        echo(store)("four")
        store.list_sessions()
        assert database["sessions"].count == counted
    assert database["sessions"].count == 4


def test_closing_closes_nothing_else(tmp_path: Path) -> None:
    """When a database is closed, or dropped, the store's locks stay: another process still sees
    its writer alive, and both can write."""
    path = tmp_path / "runs.db"
    store = sqlite_store(path)
    with store, store.session("job") as recorder:
        database = store.database()
        assert tasks(database)
        database.close()
        database.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.execute("SELECT 1")
        assert tasks(store.database())
        gc.collect()
        program = (
            "import sys; from lllm import LogStore; from tests.support.echo import echo\n"
            "with LogStore.open(sys.argv[1], partition='') as store:\n"
            "    echo(store)('theirs')\n"
            "    print(*(one.state for one in store.list_sessions()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["success", "running"]
        echo(store)("ours")
    with sqlite_store(path) as store:
        assert store.load_session(recorder.session_id).state == "success"
        assert store.rebuild(check=True).difference is None


def test_a_store_that_closes_ends_its_databases(store: LogStore) -> None:
    """A database ends with its store, by an error that says so; one keeps its store open that
    nobody else holds."""
    database = store.database()
    rows = database.query("SELECT * FROM sessions")
    next(rows)
    store.close()
    with pytest.raises(LogUnavailable, match="closed"):
        database.execute("SELECT 1")


def test_a_database_keeps_its_store(path: Path) -> None:
    """`open(...).database()` works: the store lives as long as its database."""
    with LogStore.open(str(path), partition="") as store:
        echo(store)("one")
    database = LogStore.open(str(path), partition="").database()
    gc.collect()
    assert tasks(database) == ["one"]
    database._store.close()  # type: ignore[attr-defined] # nobody else can


def test_forgotten_databases_leave_no_file_open(store: LogStore) -> None:
    """A database that is dropped without `close` lets go of the file."""
    from lllm.events.concurrency import finalizer_work

    open_files = []
    for _ in range(12):
        assert tasks(store.database())
        gc.collect()
        finalizer_work.settle()
        open_files.append(len(os.listdir("/dev/fd")))
    assert max(open_files[4:]) <= open_files[3]


def test_a_fork_opens_anew(store: LogStore) -> None:
    """After a fork parent and child each go on, and neither takes the other's locks away."""
    database = store.database()
    assert len(tasks(database)) == 2
    child = os.fork()
    if child == 0:
        code = 1
        try:
            echo(store)("child")
            store.list_sessions()
            code = 0 if tasks(database) == ["one", "two", "child"] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    echo(store)("parent")
    store.list_sessions()
    assert tasks(database) == ["one", "two", "child", "parent"]


def test_a_fork_in_the_middle_of_rows(tmp_path: Path) -> None:
    """A fork of the thread that is reading costs the child its store, by a clear error, and the
    parent nothing."""
    with sqlite_store(tmp_path / "runs.db") as store:
        for task in ("one", "two", "three"):
            echo(store)(task)
        database = store.database()
        rows = database.query("SELECT task FROM sessions ORDER BY number")
        seen = [next(rows)["task"]]
        child = os.fork()
        if child == 0:
            code = 1
            try:
                try:
                    database.execute("SELECT 1")
                except LogUnavailable:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert [*seen, *(row["task"] for row in rows)] == ["one", "two", "three"]
        echo(store)("four")
        store.list_sessions()
        assert len(tasks(database)) == 4


def test_a_store_that_is_only_read(store: LogStore, path: Path, tmp_path: Path) -> None:
    """A store opened to be read only can be asked as well, nothing is written beside it, and what
    another writes meanwhile is seen."""
    store.close()
    before = everything(tmp_path)
    opens = SQLiteBackend if path.suffix else LocalFileBackend
    with LogStore(opens(path, read_only=True)) as reader:
        database = reader.database()
        assert tasks(database) == ["one", "two"]
        assert everything(tmp_path) == before
        with LogStore.open(str(path), partition="") as writer:
            echo(writer)("three")
            writer.list_sessions()
            assert tasks(database) == ["one", "two", "three"]
        assert tasks(database) == ["one", "two", "three"]
        with pytest.raises(LogReadOnly, match="is refused"):
            database.execute("DELETE FROM checkpoints")


def test_rows_that_are_missing(tmp_path: Path) -> None:
    """Where a store that is only read has no rows, or stale ones, they are made in memory, and the
    database has those beside the events."""
    with sqlite_store(tmp_path / "runs.db") as store:
        echo(store)("one")
        store.list_sessions()
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("UPDATE checkpoints SET version = 0")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        connection.execute(f"DELETE FROM {next(n for n in tables if n.startswith('sessions_v'))}")
    connection.close()
    with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as reader:
        database = reader.database()
        assert tasks(database) == ["one"]
        assert database["events"].count > 3
    with LogStore.open(str(tmp_path / "runs"), partition="") as store:
        echo(store)("one")
    for left in (tmp_path / "runs").glob("rows.sqlite*"):
        left.unlink()
    with LogStore(LocalFileBackend(tmp_path / "runs", read_only=True)) as reader:
        assert tasks(reader.database()) == ["one"]
        with pytest.raises(LogReadOnly, match="is refused"):
            reader.database().execute("CREATE TABLE mine (a)")


def test_a_store_in_memory_has_none() -> None:
    """A store without a file says what to use instead."""
    with noop_store() as nowhere, LogStore(MemoryBackend()) as plain:
        for store in (nowhere, plain, LogStore(SQLiteBackend(":memory:"))):
            with pytest.raises(StoreError, match=r"has no file.*SQLiteBackend\('runs.db'\)"):
                store.database()


def test_a_file_that_was_replaced(store: LogStore, path: Path) -> None:
    """A database says that its file is gone, and reads no other."""
    if not path.suffix:
        path = path / "rows.sqlite"
    database = store.database()
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)
    with pytest.raises(LogUnavailable, match="deleted or moved"):
        tasks(database)


def test_text_that_is_none(tmp_path: Path) -> None:
    """Bytes that are no text, which another program wrote into the file, are shown as escapes."""
    with sqlite_store(tmp_path / "runs.db") as store:
        echo(store)("one")
        found = store.database().query("SELECT CAST(x'61ff' AS TEXT) AS odd")
        assert next(found)["odd"] == "a\\xff"
