"""When rows follow the sessions that end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lllm import LogStore, SQLiteBackend
from lllm.catching_up import CatchUp
from lllm.projections.projector import Projector
from tests.echo import echo


class Slow(Projector):
    """A projector that catches up when it is let go on, and counts how often."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.times = 0

    def catch_up(self, *, timeout: float = 1.0) -> bool:
        """Wait, and count."""
        assert timeout == 0  # nobody who ends a session waits
        self.begun.set()
        self.go_on.wait()
        self.times += 1
        return True


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


def test_rows_follow_by_themselves(tmp_path: Path) -> None:
    """Whatever ends in a burst stands in the rows a moment later, though nobody asks."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        for _ in range(5):
            echo(store)("task")
        deadline = time.monotonic() + 10
        while store.lag and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.lag == 0
