"""One SQLite file for many: waiting, checkpoints and forks."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, LogUnavailable, SQLiteBackend
from lllm.events.backends.sqlite import write_ahead_log
from lllm.events.backends.sqlite.connection import Connection
from lllm.events.backends.sqlite.connection_pool import Readers, Reading
from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.write_connection import Writing
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.locks import FileLock
from lllm.testing.writers import batch

SCHEMA = ("CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT)",)


def open_database(path: Path) -> Database:
    """A file with one table."""
    return Database(path / "a.db", lock=path / "locks" / "write.lock", version=1, schema=SCHEMA)


def insert(database: Database, text: str = "x") -> None:
    """One row, in a transaction of its own."""
    with database.write() as connection:
        assert connection is not None
        connection.execute("INSERT INTO numbers (text) VALUES (?)", (text,))


def in_memory() -> Database:
    """The same in memory."""
    return Database(":memory:", lock=None, version=1, schema=SCHEMA)


def insert_one(database: Database, text: str = "x") -> int:
    """One row, by a statement that commits itself."""
    return database.insert("INSERT INTO numbers (text) VALUES (?)", (text,))


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """What raises within a transaction undoes all of it."""
    database = open_database(tmp_path)

    def fail() -> None:
        with database.write() as connection:
            assert connection is not None
            connection.execute("INSERT INTO numbers (text) VALUES ('x')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.query("SELECT count(*) FROM numbers") == [(0,)]
    database.close()


def test_waiting_for_a_writer_ends(tmp_path: Path) -> None:
    """A writer with a timeout gets None while another writes, between threads and connections."""
    database, other = open_database(tmp_path), open_database(tmp_path)
    with database.write():
        with other.write(timeout=0.01) as connection:
            assert connection is None
        taken: list[object] = []

        def attempt() -> None:
            with database.write(timeout=0) as connection:
                taken.append(connection)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert taken == [None]
    insert(other)
    database.close()
    other.close()


def test_the_write_ahead_log_stays_small(tmp_path: Path) -> None:
    """Checkpoints of our own keep the write-ahead log near its bound, also behind a slow reader."""
    database = open_database(tmp_path)
    log = Path(f"{tmp_path / 'a.db'}-wal")
    largest = 0
    for _ in range(60):
        insert(database, "x" * 500_000)
        largest = max(largest, log.stat().st_size)
    assert largest < 20 << 20
    with database.snapshot() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM numbers").fetchone()
        for _ in range(40):
            insert(database, "x" * 500_000)
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (60,)
    for _ in range(40):
        insert(database, "x" * 500_000)
    assert log.stat().st_size < 20 << 20
    assert database.query("SELECT count(*) FROM numbers") == [(140,)]
    database.close()


def test_an_insert_within_a_transaction(tmp_path: Path) -> None:
    """What the collector writes in the middle of a transaction of the same thread is refused: it
    would go with the transaction where that fails."""
    database = open_database(tmp_path)
    with database.write() as connection:
        assert connection is not None
        with pytest.raises(LogUnavailable, match="this thread is already inside a write"):
            insert_one(database)
    insert_one(database)
    assert database.query("SELECT count(*) FROM numbers") == [(1,)]
    database.close()


def test_an_error_is_not_its_own_cause(tmp_path: Path) -> None:
    """Whoever follows the causes of an error comes to an end."""
    for path in (tmp_path / "a.db", ":memory:"):
        database = in_memory() if path == ":memory:" else open_database(tmp_path)
        database.close()
        with pytest.raises(LogUnavailable, match="closed") as caught:
            database.query("SELECT 1")
        assert caught.value.__cause__ is not caught.value


def test_a_closed_database_in_memory_keeps_no_lock() -> None:
    """Whoever reads from a database in memory that is being closed keeps no other thread out."""
    database = in_memory()
    reading = database.snapshot()
    database.close()
    with pytest.raises(LogUnavailable), reading:
        pass
    free: list[bool] = []
    thread = threading.Thread(
        target=lambda: free.append(database._writer.thread_lock.acquire(timeout=5))
    )
    thread.start()
    thread.join()
    assert free == [True]


def test_who_may_not_wait_leaves_the_checkpoint(tmp_path: Path) -> None:
    """A write without waiting copies the write-ahead log only where nobody else has for long."""
    database = open_database(tmp_path)
    log = Path(f"{tmp_path / 'a.db'}-wal")
    largest = 0
    for _ in range(50):
        with database.write(timeout=0) as connection:
            assert connection is not None
            connection.execute("INSERT INTO numbers (text) VALUES (?)", ("x" * 500_000,))
        largest = max(largest, log.stat().st_size)
    assert 20 << 20 < largest < 80 << 20
    insert(database)
    assert log.stat().st_size < 1 << 20
    database.close()


def test_a_checkpoint_that_cannot_be_is_no_error(tmp_path: Path) -> None:
    """What was written is written, whether or not the write-ahead log can be copied afterwards."""
    database = open_database(tmp_path)
    for _ in range(30):
        insert(database, "x" * 500_000)
    os.rename(tmp_path / "a.db", tmp_path / "elsewhere.db")
    database._writer.checkpoint()  # as after an append in the same moment
    os.rename(tmp_path / "elsewhere.db", tmp_path / "a.db")
    assert database.query("SELECT count(*) FROM numbers") == [(30,)]
    database.close()


def test_automatic_checkpoints_are_off(tmp_path: Path) -> None:
    """SQLite itself never checkpoints: a checkpoint beside a commit can lose it before 3.51.3."""
    database = open_database(tmp_path)
    with database.write() as connection, database.snapshot() as reader:
        assert connection is not None
        for one in (connection, reader):
            assert one.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    database.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_is_what_was_asked(tmp_path: Path, durability: str, synchronous: int) -> None:
    """The loss of power is survived by syncing every commit, kill -9 without."""
    database = Database(
        tmp_path / "a.db",
        lock=tmp_path / "write.lock",
        version=1,
        durability=durability,  # type: ignore[arg-type] # one of the two
    )
    with database.write() as connection:
        assert connection is not None
        assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    with pytest.raises(ValueError, match="process"):
        Database(tmp_path / "a.db", lock=None, version=1, durability="none")  # type: ignore[arg-type] # what is tested


def test_the_write_ahead_log_is_synced_before_the_lock_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow part of a checkpoint happens while others append, by SQLite's own descriptor."""
    database = open_database(tmp_path)
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        name = os.readlink(f"/dev/fd/{descriptor}") if sys.platform == "linux" else "a.db-wal"
        others = threading.Thread(target=lambda: synced.append((name, insert_one(database) > 0)))
        others.start()  # it would wait for the lock
        others.join(30)

    insert(database)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        database._writer._inserts = 0  # so that the insert inside does not checkpoint, too
        for _ in range(2):  # the second knows the descriptor
            database._writer.wal.checkpoint_at = 1
            database._writer.checkpoint()
    assert [(Path(name).name, done) for name, done in synced] == [("a.db-wal", True)] * 2
    assert (tmp_path / "a.db-wal").stat().st_size == 0
    database.close()


def test_a_program_without_our_lock(tmp_path: Path) -> None:
    """Another program that writes the file is waited for as SQLite does it."""
    database = open_database(tmp_path)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO numbers (text) VALUES ('theirs')")
    waiting = threading.Thread(target=insert, args=(database, "ours"))
    waiting.start()
    other.execute("COMMIT")
    waiting.join()
    assert database.query("SELECT text FROM numbers") == [("theirs",), ("ours",)]
    other.close()
    database.close()


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    """After close, reading and writing are refused with one clear error."""
    database = open_database(tmp_path)
    database.close()
    for use in (lambda: insert(database), lambda: database.query("SELECT 1")):
        with pytest.raises(LogUnavailable, match="closed"):
            use()


def test_forking_after_an_interrupt(tmp_path: Path) -> None:
    """What an interrupted write left behind does not keep a child from using the file."""
    database = open_database(tmp_path)
    database._readers.under_way[database._writer.use] = threading.get_ident()
    pid = os.fork()
    if pid == 0:
        try:
            insert(database)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert database.query("SELECT count(*) FROM numbers") == [(1,)]
    database.close()


def test_forking_beside_a_long_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked while another thread stays in a transaction can't use the file, and is
    told so; its parent goes on."""
    monkeypatch.setattr("lllm.events.concurrency.fork_handlers._LONGEST_PAUSE", 0.05)
    database = open_database(tmp_path)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with database.write() as connection:
            assert connection is not None
            connection.execute("INSERT INTO numbers (text) VALUES ('long')")
            inside.set()
            leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        try:
            insert(database)
        except LogUnavailable as error:
            os._exit(0 if "a transaction was open" in str(error) else 1)
        os._exit(2)
    leave.set()  # the child waits its turn
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    insert(database)
    assert database.query("SELECT count(*) FROM numbers") == [(2,)]
    database.close()


@pytest.mark.parametrize("what", ["an append", "the rows"])
def test_an_interrupt_where_a_transaction_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An interrupt that comes before the end of the `with` is called leaves no transaction: others
    write, and what was not committed is done again."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.log.append(batch("s", 0))
        log = store.backend
        assert isinstance(log, SQLiteBackend)

        def work() -> object:
            return (
                log.append_within(batch("s", 1), 5)
                if what == "an append"
                else store._reader.catch_up()
            )

        with monkeypatch.context() as patched:
            patched.setattr(Writing, "__exit__", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                work()
        assert not log.database.at_write()
        process = FileLock(tmp_path / "runs.db-lllm" / "write.lock")  # as another one has it
        assert process.acquire(wait=False)
        process.close()
        with ThreadPoolExecutor(1) as other:
            assert other.submit(lambda: log.append_within(batch("other", 0), 0)).result(30)
        work()
        assert store.lag == 0 or what == "an append"
        assert len(list(log.read())) == (9 if what == "an append" else 6)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("by_collector", [False, True])
def test_a_connection_of_before_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_collector: bool
) -> None:
    """One that was in use when all were renewed is dropped then: at once, or by another thread
    where the garbage collector gives it back, in the middle of anything."""
    dropped: list[object] = []
    queued: list[Callable[[], object]] = []
    monkeypatch.setattr(finalizer_work, "by_collector", lambda: by_collector)
    monkeypatch.setattr(finalizer_work, "later", queued.append)
    readers = Readers(
        tmp_path / "x", connect=lambda: Connection(":memory:"), drop=dropped.append,
        check=lambda: None,
    )  # fmt: skip
    with Reading(readers) as connection:
        readers.renew()
    assert dropped == ([] if by_collector else [connection])
    for work in queued:
        work()
    assert dropped == [connection]
    connection.close()


def test_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From some size on; who can't wait leaves it to others until it is some times as large."""
    database = open_database(tmp_path / "x.db")
    wal = tmp_path / "as-large-as"
    monkeypatch.setattr(database._writer.wal, "path", str(wal))
    assert not database._writer.checkpoint_is_due()
    many = write_ahead_log._UNWAITED
    for size, waited, unwaited in (
        (database._writer.wal.checkpoint_at - 1, False, False),
        (database._writer.wal.checkpoint_at, True, False),
        (database._writer.wal.checkpoint_at * many - 1, True, False),
        (database._writer.wal.checkpoint_at * many, True, True),
    ):
        with wal.open("wb") as file:
            file.truncate(size)
        assert database._writer.checkpoint_is_due() == waited
        assert database._writer.checkpoint_is_due(unwaited=True) == unwaited
    database.close()


def steps_to_read(log: SQLiteBackend, stream: str) -> int:
    """How many tens of SQLite's instructions it takes to read a stream."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    with log.database.snapshot() as connection:
        connection.set_progress_handler(counted, 10)
    for _ in log.read(stream=stream):
        pass
    with log.database.snapshot() as connection:
        connection.set_progress_handler(None, 10)
    return count


def test_a_long_stream_is_read_in_time_that_grows_with_its_length(tmp_path: Path) -> None:
    """Each page of a stream is found by the index, and not searched from the stream's begin."""
    with closing(SQLiteBackend(tmp_path / "a.db")) as log:
        for name, events in (("short", 1_000), ("long", 8_000)):
            log.append(batch(name, 0, events))
        short, long = (steps_to_read(log, name) for name in ("short", "long"))
        assert [one.seq for one in log.read(stream="long")] == list(range(1, 8_001))
    assert short > 100
    assert long < 8 * short * 1.2
