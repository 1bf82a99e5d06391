"""When rows follow the sessions that end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from lllm import LogStore, SQLiteBackend
from lllm.projections.engine.projector import Projector
from lllm.store.log_store import session_host
from lllm.store.projection_scheduler import CatchUp
from lllm.testing.writers import batch
from lllm.web.live import changes_after
from tests.support.echo import echo


class Slow(Projector):
    """A projector that catches up when it is let go on, and counts how often."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.times = 0
        self.answers: list[bool] = []

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Wait, and count."""
        assert timeout == 0  # nobody who ends a session waits
        self.begun.set()
        self.go_on.wait()
        self.times += 1
        return self.answers.pop(0) if self.answers else True


def test_closing_waits_for_what_is_under_way() -> None:
    """Nobody catches up with a log that is closed: closing waits for who is at it, and nothing
    begins afterwards."""
    projector = Slow()
    catch_up = CatchUp(projector)
    catch_up._next = time.monotonic() + 0.01
    catch_up.session_ended()
    assert projector.begun.wait(10)
    closing = threading.Thread(target=catch_up.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    projector.go_on.set()
    closing.join()
    assert projector.times == 1
    catch_up._run()  # a timer that was cancelled too late
    assert projector.times == 1


def test_who_spares_the_writers(tmp_path: Path) -> None:
    """Who has written rows rests for 200 times as long, and announces nothing that they lack."""
    path = tmp_path / "runs.db"
    with LogStore.open(path) as page, closing(SQLiteBackend(path)) as writer:
        rows = session_host(page).rows
        rows.spares_writers = True
        first = writer.append(batch("s", 0))[-1]
        assert rows.caught_up_to() == first
        rows._resting_until += 60  # a slow machine
        second = writer.append(batch("s", 1))[-1]
        page.list_sessions()
        assert rows.caught_up_to() == first
        assert changes_after(page, first) is None
        assert page.lag == second - first
        rows.end_rest()
        found = changes_after(page, first)
        assert found is not None
        assert found.position == second
        assert page.lag == 0
        assert 0 < rows._resting_until - time.monotonic() < 2.1


def test_closing_does_what_was_to_be_done_soon() -> None:
    """A session that ended a moment before the store is closed is caught up with."""
    projector = Slow()
    projector.go_on.set()
    catch_up = CatchUp(projector)
    catch_up._next = time.monotonic() + 60
    catch_up.session_ended()
    catch_up.session_ended()
    assert projector.times == 0
    catch_up.close()
    assert projector.times == 1


class OneAtATime(Slow):
    """A projector that turns away who comes while another catches up."""

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Wait, and count, unless another does so."""
        if self.begun.is_set() and not self.go_on.is_set():
            return False
        return super().catch_up(timeout=timeout)


def test_closing_includes_what_ended_during_a_run() -> None:
    """A session that ends after a run has read the log is not left to the next reader."""
    projector = OneAtATime()
    catch_up = CatchUp(projector)
    catch_up._next = time.monotonic() + 0.01
    catch_up.session_ended()
    assert projector.begun.wait(10)
    catch_up.session_ended()  # which is to be done soon
    closing = threading.Thread(target=catch_up.close)
    closing.start()
    closing.join(0.05)
    projector.go_on.set()
    closing.join()
    assert projector.times == 2


def test_rows_follow_by_themselves(tmp_path: Path) -> None:
    """Whatever ends in a burst stands in the rows a moment later, though nobody asks."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        for _ in range(5):
            echo(store)("task")
        deadline = time.monotonic() + 10
        while store.lag and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.lag == 0


def ran(script: str) -> str:
    """What a program prints that must end by itself."""
    run = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_session_that_ends_with_the_interpreter(tmp_path: Path) -> None:
    """A session that only the end of the program ends does not wait for a thread, which could not
    begin any more."""
    script = f"""
import time
from lllm import LogStore, SQLiteBackend
store = LogStore(SQLiteBackend({str(tmp_path / "runs.db")!r}))
def unfinished():
    with store.session("a::left"):
        yield
with store.session("a::first"):
    pass
time.sleep(0.3)
with store.session("a::second"):
    pass
generator = unfinished()
next(generator)
print("at the end")
"""
    assert ran(script) == "at the end\n"


def test_a_session_that_the_collector_ends_anywhere(tmp_path: Path) -> None:
    """The collector may end a session while this thread is just having another one followed."""
    script = f"""
import gc, sys, threading, time
from lllm import LogStore, SQLiteBackend
store = LogStore(SQLiteBackend({str(tmp_path / "runs.db")!r}))
class Node: pass
def unfinished():
    with store.session("a::left"):
        yield
gc.disable()
node = Node()
node.generator = unfinished()
thread = threading.Thread(target=next, args=(node.generator,))
thread.start()
thread.join()
node.itself = node
del node
time.sleep(0.3)
with store.session("a::first"):
    pass
def collect(frame, event, _):
    if event == "call" and frame.f_code.co_name == "__init__":
        if "threading" in frame.f_code.co_filename:
            gc.collect()
sys.setprofile(collect)
with store.session("a::second"):
    pass
sys.setprofile(None)
print(sorted(one.state for one in store.list_sessions()))
"""
    assert ran(script) == "['failure', 'success', 'success']\n"


def test_who_is_refused_tries_again() -> None:
    """Where another catches up, who may have begun too early, it is tried again in a moment."""
    projector = Slow()
    projector.go_on.set()
    projector.answers = [False, True]
    catch_up = CatchUp(projector)
    catch_up.session_ended()
    deadline = time.monotonic() + 10
    while projector.times < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert projector.times == 2
    catch_up.close()


def test_the_interpreter_exits(tmp_path: Path) -> None:
    """What is due is done before the files are closed, and nothing warns."""
    script = (
        "import sys, lllm\n"
        "class Echo(lllm.Tactic):\n"
        "    name = 'echo'\n"
        "    def call(self, task):\n"
        "        return task\n"
        "store = lllm.LogStore(lllm.SQLiteBackend(sys.argv[1]))\n"
        "echo = Echo(log_store=store)\n"
        "for number in range(3):\n"
        "    echo(str(number))\n"
    )
    path = tmp_path / "runs.db"
    done = subprocess.run(
        [sys.executable, "-c", script, path], stderr=subprocess.PIPE, text=True, check=True
    )
    assert done.stderr == ""
    with LogStore(SQLiteBackend(path, read_only=True)) as store:
        assert store.lag == 0
