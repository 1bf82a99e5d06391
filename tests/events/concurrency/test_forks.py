"""Forks beside other threads: a child waits for no lock of a thread that it has not, and finds
nothing half done."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, Runtime, SQLiteBackend, Tactic, load_package
from lllm.agents import tactic
from lllm.events.backends.sqlite.database import Database
from lllm.events.concurrency.fork_handlers import pause_at_fork
from lllm.events.concurrency.late_imports import importing
from lllm.events.concurrency.robust_locks import ForkSafeLock, ThreadLock
from lllm.store import session_host
from lllm.testing.writers import fork
from tests.support import ROOT
from tests.support.echo import echo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
PATIENCE = 10  # seconds after which a child that waits is ended
ROWS = 2_000

loading, go_on = threading.Event(), threading.Event()  # of the package that is loaded below


class Going:
    """Lets a thread go on when a fork begins, and not before."""

    def __init__(self, on: threading.Event | None = None) -> None:
        self.on = on or threading.Event()
        pause_at_fork(self, order=-1)

    def pause(self) -> bool:
        """See Pausable."""
        self.on.set()
        return False

    def resume(self) -> None:
        """Never called."""


@pytest.fixture
def going() -> Going:
    return Going()


def child(work: Callable[[], object]) -> int:
    """The exit code of a forked child that does some work; it is negative where that hangs."""

    def run() -> None:
        signal.alarm(PATIENCE)
        work()

    return fork(run)


@contextmanager
def beside(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Something is done in another thread, which has come as far as the event says."""
    there = threading.Event()
    thread = threading.Thread(target=work, args=(there,))
    thread.start()
    assert there.wait(PATIENCE)
    try:
        yield
    finally:
        thread.join()


# -- locks


class Homeless(Tactic, register=False):
    """A tactic that warns that it has no store."""

    name = "homeless"

    def call(self, task: object, **_: object) -> object:
        """Nothing to do."""
        return task


def warn(folder: Path) -> None:
    """Call a tactic without a store."""
    del folder
    with pytest.warns(UserWarning, match="no log store"):
        Homeless()("task")


def reopen(folder: Path) -> None:
    """Open the store of a tactic that another process sent."""
    sent = pickle.dumps(LogStore(SQLiteBackend(folder / "runs.db")))
    with pickle.loads(sent) as store:
        assert store.list_sessions() == []


_runtime = Runtime()
_guarded: dict[
    str, tuple[Callable[[], AbstractContextManager[object]], Callable[[Path], object]]
] = {
    "warning": (tactic._warning.held, warn),
    "opening": (session_host._opening.held, reopen),
    "runtime": (lambda: _runtime._lock, lambda _: _runtime.tactics),
}


@pytest.mark.parametrize("what", _guarded)
def test_a_lock_of_another_thread_is_not_the_childs(tmp_path: Path, what: str) -> None:
    """A child that is forked while another thread holds a lock of lllm's needs not wait for it."""
    lock, use = _guarded[what]
    leave = threading.Event()

    def hold(there: threading.Event) -> None:
        with lock():
            there.set()
            leave.wait()

    with beside(hold):
        code = child(lambda: use(tmp_path))
        leave.set()
    assert code == 0


@pytest.mark.parametrize("lock", [ThreadLock(), ForkSafeLock(order=0)])
def test_a_fork_inside_a_lock_leaves_it(lock: ThreadLock) -> None:
    """Where the thread that holds a lock forks, parent and child both leave it for others."""

    def is_free() -> bool:
        def take() -> None:
            with lock.held():
                free.set()

        free = threading.Event()
        threading.Thread(target=take, daemon=True).start()
        return free.wait(PATIENCE)

    with lock.held():
        pid = os.fork()
    free = is_free()
    if pid == 0:
        os._exit(0 if free else 1)
    assert free
    assert os.waitpid(pid, 0)[1] == 0


def test_a_fork_waits_for_a_package_that_is_loaded(tmp_path: Path) -> None:
    """A child that is forked while another thread loads a package finds it loaded."""
    (tmp_path / "lllm.toml").write_text(
        '[package]\nname = "slow"\nversion = "1"\n[tactics]\npaths = ["tactics/"]\n'
    )
    (tmp_path / "tactics").mkdir()
    (tmp_path / "tactics" / "one.py").write_text(
        "from lllm import Tactic\n"
        "from tests.events.concurrency import test_forks\n"
        "test_forks.loading.set()\n"
        "test_forks.go_on.wait()\n"
        "class One(Tactic):\n"
        "    name = 'one'\n"
        "    def call(self, task, **_):\n"
        "        return task\n"
    )
    going = Going(go_on)
    thread = threading.Thread(target=load_package, args=(tmp_path,))
    thread.start()
    assert loading.wait(PATIENCE)

    def load() -> None:
        assert list(load_package(tmp_path).tactics) == ["one"]

    assert child(load) == 0
    thread.join()
    del going


# -- a first call

_READY = """
import asyncio, sys
from lllm import InvokeError
from lllm.invokers import Request
from lllm.invokers.openai import OpenAIInvoker

started = []
sys.addaudithook(lambda event, _: event == "subprocess.Popen" and started.append(event))
invoker = OpenAIInvoker(base_url="http://127.0.0.1:1", api_key="none")
request = Request("m", ())

async def on_a_loop():
    await invoker._clients.of_running_loop()
    return await compare(lambda: invoker.ainvoke(request))

async def compare(call):
    before = set(sys.modules)
    del started[:]
    try:
        await call()
    except InvokeError:
        return sorted(set(sys.modules) - before) + started
    raise AssertionError("nobody serves it")

async def wait():
    invoker.invoke(request)

invoker._clients.of_threads()
assert asyncio.run(compare(wait)) == []
late = asyncio.run(on_a_loop())
assert late == [], late
"""


def test_a_client_is_ready_for_its_first_call() -> None:
    """The first call of a client imports nothing and runs no program: what it needs was made while
    forks wait."""
    subprocess.run([sys.executable, "-c", _READY], check=True, cwd=ROOT, timeout=60)


# -- the database


@contextmanager
def writing(database: Database, going: Going) -> Iterator[None]:
    """A transaction of many rows, in the middle of which the fork begins."""

    def work(there: threading.Event) -> None:
        with database.write() as connection:
            assert connection is not None
            connection.execute("INSERT INTO numbers (text) VALUES ('theirs')")
            there.set()
            going.on.wait()
            for _ in range(1, ROWS):
                connection.execute("INSERT INTO numbers (text) VALUES ('theirs')")

    with beside(work):
        yield


@contextmanager
def reading(database: Database, going: Going) -> Iterator[None]:
    """A read of many rows, in the middle of which the fork begins."""
    with database.write() as connection:
        assert connection is not None
        connection.executemany(
            "INSERT INTO numbers (text) VALUES (?)", [("theirs",) for _ in range(ROWS)]
        )

    def work(there: threading.Event) -> None:
        with database.snapshot() as connection:
            rows = connection.execute("SELECT text FROM numbers")
            rows.fetchone()
            there.set()
            going.on.wait()
            assert sum(1 for _ in rows) == ROWS - 1

    with beside(work):
        yield


@pytest.mark.parametrize("busy", [writing, reading])
def test_a_fork_waits_for_what_is_done_with_the_database(
    tmp_path: Path,
    going: Going,
    busy: Callable[[Database, Going], AbstractContextManager[None]],
) -> None:
    """A child that is forked while another thread is in the middle of a transaction finds all of
    it; what it writes then, and what its parent goes on to write, stands in the file once."""
    schema = ("CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT)",)
    database = Database(
        tmp_path / "a.db", lock=tmp_path / "locks" / "write.lock", version=1, schema=schema
    )

    def count(text: str) -> int:
        ((found,),) = database.query("SELECT count(*) FROM numbers WHERE text = ?", (text,))
        assert isinstance(found, int)
        return found

    def work() -> None:
        assert count("theirs") == ROWS
        for _ in range(3):
            database.insert("INSERT INTO numbers (text) VALUES (?)", ("child's",))
        assert count("child's") == 3
        database.close()

    with busy(database, going):
        assert child(work) == 0
    for _ in range(3):
        database.insert("INSERT INTO numbers (text) VALUES (?)", ("parent's",))
    assert [count(who) for who in ("theirs", "child's", "parent's")] == [ROWS, 3, 3]
    assert database.query("PRAGMA integrity_check") == [("ok",)]
    database.close()


def test_a_fork_beside_calls(tmp_path: Path) -> None:
    """Children that are forked while other threads call a tactic call it, too; every call, theirs
    and the parent's, stands in the log once and succeeds."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    tactic = echo(store)
    stop, done = threading.Event(), []

    def call(there: threading.Event) -> None:
        while not stop.is_set():
            tactic("parent's")
            done.append(1)
            there.set()

    with beside(call):
        try:
            codes = [child(lambda: tactic("child's")) for _ in range(5)]
        finally:
            stop.set()
    assert codes == [0] * 5
    listed = store.list_sessions()
    assert len(listed) == len(done) + 5
    assert {one.state for one in listed} == {"success"}
    assert store.rebuild(check=True).difference is None
    store.close()


def test_a_read_in_the_middle_of_a_fork(tmp_path: Path) -> None:
    """A hook of the program's own that reads while its thread forks is told, and does not hang."""
    script = f"""
import os
opened = []
def before():
    if opened:
        try:
            opened[0].list_sessions()
        except Exception as error:
            print(error, flush=True)
os.register_at_fork(before=before)
from lllm import LogStore, SQLiteBackend
opened.append(LogStore(SQLiteBackend({str(tmp_path / "runs.db")!r})))
child = os.fork()
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    run = [sys.executable, "-W", "ignore", "-c", script]
    told = subprocess.run(run, check=True, capture_output=True, text=True, timeout=PATIENCE * 3)
    assert "can't be read while this thread forks" in told.stdout
    assert told.stdout.endswith("\n0\n")


def test_a_fork_in_the_middle_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits a second for an import of another thread, and goes on; the child imports anew
    what it finds half done."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "slowly_imported"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from slowly_imported import first\nfrom slowly_imported import second\n"
    )
    (package / "first.py").write_text("value = 1\n")
    (package / "second.py").write_text(
        "from tests.events.concurrency import test_forks\n"
        "test_forks.loading.set()\n"
        "test_forks.go_on.wait()\n"
        "value = 2\n"
    )
    loading.clear()
    go_on.clear()

    def work() -> None:
        with importing():
            importlib.import_module("slowly_imported")

    def anew() -> None:
        go_on.set()
        work()
        first, second = (sys.modules[f"slowly_imported.{name}"] for name in ("first", "second"))
        assert vars(sys.modules["slowly_imported"])["first"] is first
        assert (first.value, second.value) == (1, 2)

    thread = threading.Thread(target=work)
    thread.start()
    assert loading.wait(PATIENCE)
    code = child(anew)
    go_on.set()
    thread.join()
    assert code == 0


# -- writers that wait


@pytest.mark.parametrize("kind", [SQLiteBackend, LocalFileBackend])
def test_a_fork_does_not_wait_for_who_waits(
    tmp_path: Path, kind: type[SQLiteBackend] | type[LocalFileBackend]
) -> None:
    """While another process has the lock of the log, and a thread waits for it, a fork goes on. The
    child reads at once, and writes when the lock is free; nothing is lost, or there twice."""
    store = LogStore(kind(tmp_path / "log"))
    tactic = echo(store)
    tactic("first")
    (lock,) = tmp_path.rglob("write.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    thread = threading.Thread(target=tactic, args=("waits",))
    thread.start()
    before, after = os.pipe()

    def work() -> None:
        assert [one.state for one in store.list_sessions()][-1:] == ["success"]
        os.write(after, b"read")
        tactic("child's")

    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE * 3)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.read(before, 4) == b"read"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    os.close(before)
    os.close(after)
    listed = store.list_sessions()
    assert [one.state for one in listed] == ["success"] * 3
    assert store.rebuild(check=True).difference is None
    store.close()


_HOLD = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_forks_beside_stores_that_come_and_go(tmp_path: Path, number: int) -> None:
    """A child that is forked while other threads open, use, close and drop stores of one path works
    with a store of its own, and with its parent's."""
    del number
    path = tmp_path / "runs.db"
    stop = threading.Event()

    def come_and_go(there: threading.Event) -> None:
        while not stop.is_set():
            store = LogStore(SQLiteBackend(path))
            echo(store)("theirs")
            there.set()
            if len(store.list_sessions(limit=2)) % 2:
                store.close()

    def work() -> None:
        echo(parents)("child's")
        with LogStore(SQLiteBackend(path)) as own:
            echo(own)("child's")
            assert own.list_sessions(limit=1)

    parents = LogStore(SQLiteBackend(path))
    with beside(come_and_go), beside(come_and_go):
        try:
            codes = [child(work) for _ in range(5)]
        finally:
            stop.set()
    assert codes == [0] * 5
    listed = parents.list_sessions()
    assert {one.state for one in listed} == {"success"}
    assert parents.backend.database.query("PRAGMA integrity_check") == [("ok",)]
    parents.close()
