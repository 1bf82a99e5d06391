"""Views of a user's own, beside those of the library."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, LogUnavailable, SQLiteBackend, ViewError
from lllm.events.backends.sqlite.database import Value
from lllm.events.concurrency.locks import FileLock
from lllm.events.model import MessageAdded
from lllm.projections.engine import projector
from lllm.projections.engine.rebuild import Difference
from lllm.projections.engine.sqlite import tables as sqlite_tables
from lllm.projections.view import Rows, Table, ViewEvent
from tests.support.echo import echo


class Roles:
    """How many messages each role added."""

    name = "roles"
    version = 1
    types = ("message.added",)
    tables = (Table("roles", {"role": "TEXT", "messages": "INTEGER"}, key=("role",)),)
    broken = False
    asked = 0

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """See View."""
        self.asked += 1
        for happened in batch:
            assert isinstance(happened.payload, MessageAdded)
            rows.add("roles", (happened.payload.content.role,), messages=1)
        if self.broken:
            raise ValueError("a bug")


def rows_of(path: Path) -> list[tuple[str, int]]:
    """The view's rows, as a user's own SQL finds them."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT role, messages FROM roles ORDER BY role").fetchall()


def test_a_view_of_ones_own(tmp_path: Path) -> None:
    """It follows the log like the others, is built from what was there before, and checked."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        echo(store)("before it")
    with LogStore(SQLiteBackend(path), views=[Roles()]) as store:
        assert rows_of(path) == [("user", 1)]
        echo(store)("after it")
        assert rows_of(path) == [("user", 2)]
        assert store.rebuild(check=True).difference is None


def test_a_view_with_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version's table may have another key than the old one, however many rows that has."""
    monkeypatch.setattr(sqlite_tables, "_DROPPED", 2)
    monkeypatch.setattr(sqlite_tables, "_CHUNK", 2)

    class Old(Roles):
        tables = (Table("roles", {"place": "INTEGER", "role": "TEXT"}, key=("place", "role")),)

        def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
            """See View."""
            for happened in batch:
                rows.put("roles", (happened.event.position, "user"))

    class New(Roles):
        version = 2

    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path), views=[Old()]) as store:
        for number in range(9):
            echo(store)(str(number))
    with LogStore(SQLiteBackend(path), views=[New()]) as store:
        assert rows_of(path) == [("user", 9)]
        assert store.rebuild(check=True).difference is None
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 'roles_v*'")
        assert len(names.fetchall()) == 1


@pytest.mark.parametrize("batch", [1, 2, 3, 400])
def test_views_that_have_come_less_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """One that was left behind catches up, wherever a batch ends, and counts no event again for
    those that were ahead of it."""
    monkeypatch.setattr(projector, "BATCH", batch)
    backend, view = SQLiteBackend(tmp_path / "runs.db"), Roles()
    with LogStore(backend, views=[view]) as store:
        echo(store)("before")
        view.broken = True
        echo(store)("meanwhile")
        echo(store)("meanwhile")
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[Roles()]) as store:
        echo(store)("after")
        assert len(store.list_sessions()) == 4
        assert rows_of(tmp_path / "runs.db") == [("user", 4)]
        assert store.rebuild(check=True).difference is None


def test_a_view_that_raises_stops_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged once; calls, lists and the other views go on, and where it is mended
    it goes on from where it was. A rebuild that was asked for says what is wrong."""
    path, view = tmp_path / "runs.db", Roles()
    with LogStore(SQLiteBackend(path), views=[view]) as store:
        echo(store)("one")
        view.broken = True
        with caplog.at_level(logging.ERROR, "lllm.store"):
            echo(store)("two")
            echo(store)("three")
        assert len(store.list_sessions()) == 3
        (told,) = [record.getMessage() for record in caplog.records]
        assert "The view 'roles' could not take the events" in told
        assert "ValueError: a bug" in told
        assert store.lag > 0
        with pytest.raises(ViewError, match="'roles'"):
            store.rebuild()
    assert rows_of(path) == [("user", 1)]
    with LogStore(SQLiteBackend(path), views=[Roles()]) as store:
        assert len(store.list_sessions()) == 3
        assert store.lag == 0
        assert store.rebuild(check=True).difference is None
    assert rows_of(path) == [("user", 3)]


def test_a_view_that_raised_is_left_alone(tmp_path: Path) -> None:
    """It is not tried again at each read, and a read has nothing to wait for because of it."""
    view = Roles()
    view.broken = True
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[view]) as store:
        for number in range(3):
            echo(store)(str(number))
            assert len(store.list_sessions()) == number + 1
        assert view.asked == 1
        with ThreadPoolExecutor(1) as another, store._rows.projector.alone() as mine:
            assert mine
            assert another.submit(store._rows.projector.catch_up, timeout=0).result()


@pytest.mark.parametrize("name", ["events", "no name", "sessions", ""])
def test_names_that_can_not_be(tmp_path: Path, name: str) -> None:
    """A view that would take another's name or table is refused, with what to do."""
    view = Roles()
    view.name = name
    with pytest.raises(ViewError, match=r"use letters|rename"):
        LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[view])


@pytest.mark.parametrize(
    ("change", "role", "stored", "rebuilt"),
    [
        ("UPDATE {} SET messages = 7", "user", 7, 1),
        ("DELETE FROM {}", "user", None, 1),
        ("INSERT INTO {} VALUES ('ghost', 3)", "ghost", 3, None),
    ],
)
def test_the_first_difference(
    tmp_path: Path, change: str, role: str, stored: int | None, rebuilt: int | None
) -> None:
    """A check names the first row that is not what the log says, and both sides of it, of which one
    may be missing; it changes nothing."""

    def side(messages: int | None) -> dict[str, Value] | None:
        return None if messages is None else {"role": role, "messages": messages}

    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path), views=[Roles()]) as store:
        echo(store)("task")
        generation = store._rows.projector.checkpoints()["roles"].generation
        with store._rows.database.write() as connection:
            assert connection is not None
            connection.execute(change.format(f"roles_v{generation}"))
        found = store.rebuild(check=True).difference
        assert found == Difference("roles", "roles", {"role": role}, side(stored), side(rebuilt))
        assert store.rebuild(check=True).difference == found
        store.rebuild()
        assert store.rebuild(check=True).difference is None
        assert rows_of(path) == [("user", 1)]


def test_a_rebuild_that_failed_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others can rebuild at once, though somebody still holds the error. Where old rows can't be
    removed, and no damaged page is the reason, the error is told."""
    view = Roles()
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[view]) as store:
        echo(store)("task")
        view.broken = True
        with pytest.raises(ViewError) as caught:
            store.rebuild()
        lock = FileLock(tmp_path / "runs.db-lllm" / "rebuild.lock")
        assert lock.acquire(wait=False), caught
        lock.close()
        view.broken = False

        def failing(*_: object) -> None:
            raise LogUnavailable("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(sqlite_tables, "_drop", failing)
            with pytest.raises(LogUnavailable, match="disk is full"):
                store.rebuild()
        store.rebuild()
