"""What waits while another thread is in the middle of its step: each test fails without the lock
that its docstring names.

Where only luck would show what goes wrong without a lock, another thread holds it here, as one that
is in the middle of its step does, and what would come between has to wait.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

import lllm.instruments
import lllm.open_calls
from lllm import LogStore, LogUnavailable, SQLiteBackend
from lllm.capturing import homes
from lllm.catching_up import CatchUp
from lllm.events import decoding, locks
from lllm.events.locks import FileLock
from lllm.events.sharing import Registry
from lllm.invokers.sdk_clients import Clients
from lllm.projections.view import Happened, Rows, Table
from tests.echo import echo
from tests.waiting import Running, Stop, waits_for

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

    def apply(self, rows: Rows, batch: Sequence[Happened]) -> None:
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


def test_shares_of_a_place(tmp_path: Path) -> None:
    """Registry._lock: who takes a share or gives one back waits for the step of another that
    counts them, so that what is handed out is not closed by the one that was the last."""
    registry: Registry[Thing] = Registry()
    share = registry.open(tmp_path, self_ := Thing(), Thing, options={})
    again = waits_for(registry._lock, lambda: registry.opened(tmp_path, self_))
    assert again is not None
    waits_for(registry._lock, share.close)
    assert not share.thing.closed
    share.thing.closed = True  # another stands in its place
    opened = waits_for(registry._lock, lambda: registry.open(tmp_path, self_, Thing, options={}))
    assert opened is not None


def test_calls_that_are_under_way() -> None:
    """open_calls._watching: calls that begin and end wait for whoever lists them, at the exit."""

    class Call:
        def settle(self) -> None: ...
        def settle_at_exit(self) -> None: ...

    call = Call()
    lock = lllm.open_calls._watching
    waits_for(lock, lambda: lllm.open_calls.watch(call))
    assert call in lllm.open_calls._watched
    waits_for(lock, lambda: lllm.open_calls.unwatch(call))
    assert call not in lllm.open_calls._watched


class Client:
    """What an SDK's client is to its owner."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def platform_headers(self) -> dict[str, str]:
        """See SyncClient."""
        return {}


def test_a_client_that_is_being_made() -> None:
    """Clients._lock: who closes waits for the client that is just being made, and closes that."""
    clients = Clients(Client, Client)  # type: ignore[type-var]
    client = clients.of_threads()
    waits_for(clients._lock, clients.close)
    assert client.closed == 1
    assert clients.of_threads() is not client


def test_msgspec_learns_a_type_in_one_thread() -> None:
    """decoding._one: no two threads let msgspec learn a type, which would crash the process."""
    waits_for(decoding._one, lambda: decoding.decoder(dict[str, int]))


def test_an_instrument_is_made_once() -> None:
    """instruments._making: all threads switch the same instrument."""
    lock = lllm.instruments._making
    waits_for(lock, lambda: lllm.instruments.uninstrument("threads"))


def test_one_warning_of_what_is_not_recorded(recwarn: pytest.WarningsRecorder) -> None:
    """homes._warning: threads that call at once are told once."""
    home = homes.Homes(None)
    for tell in (
        lambda: home._warn_once("a"),
        lambda: home.tell_of_unrecorded("sdk", "/path"),
        lambda: home._tell_of_lost("a", "b::c"),
    ):
        waits_for(homes._warning, tell)
        tell()
    assert len(recwarn) == 3
