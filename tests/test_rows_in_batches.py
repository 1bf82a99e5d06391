"""Rows are the same wherever a batch of events ends: what is added up in one batch, what is known
from the one before, and what is stored already, make one sum."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events.model import Usage
from lllm.projections import projector, rebuild
from lllm.projections.rows import physical
from lllm.projections.rows import rows_of as rows_by_numbers
from lllm.projections.view import Happened, Rows, Table
from tests.histories import Attempt, History, Session

SIZES = (1, 2, 3, 4, 5, 7, 11)


def attempt(nanos: int | None, *, failed: bool = False, refused: bool = False) -> Attempt:
    """One call of a model."""
    return Attempt("m1", "one", nanos, failed, Usage(input=3, output=5), refused)


def filled(history: History) -> None:
    """Sessions whose tags move to and fro while they and their children spend."""
    first = history.start("a", "", {"env": "x"}, None)
    history.attempt(first, attempt(1))
    history.tag(first, {"env": "y"}, ())
    history.attempt(first, attempt(10))
    second = history.start("a", "acme", {"env": "x", "user": "u"}, None)
    child = history.start("b", "acme", {"env": "z"}, second)
    history.attempt(child, attempt(100))
    history.tag(first, {"env": "x"}, ())
    history.tag(second, {}, ("env",))
    history.tag(child, {"env": "y"}, ())
    history.attempt(child, attempt(None))
    history.attempt(child, attempt(1_000, failed=True))
    inner = history.start("a", "acme", {}, child)
    history.attempt(inner, attempt(10_000, refused=True))
    history.finish(inner, False)
    history.finish(child, True)
    history.tag(second, {"env": "x"}, ("user",))
    history.attempt(second, attempt(100_000))
    history.finish(second, True)
    history.tag(second, {"env": "y"}, ())
    history.tag(first, {"env": "y", "user": "v"}, ())
    history.attempt(first, attempt(1_000_000))


def rows_of(store: LogStore) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all views."""
    database, generations = store._database, store._projector.checkpoints()
    return {
        table.name: database.query(
            f"SELECT * FROM {physical(table.name, generations[view.name].generation)} "
            f"ORDER BY {', '.join(table.key)}"
        )
        for view in store._projector.views
        for table in view.tables
    }


def spent(sessions: list[Session], name: str, value: str) -> tuple[int, int, int]:
    """What sessions with a tag cost and wasted, and how many of their calls have no price."""
    attempts = [
        attempt
        for one in sessions
        if one.parent is None and one.tags.get(name) == value
        for _, attempt in one.all_attempts()
    ]
    return (
        sum(one.cost for one in attempts),
        sum(one.wasted for one in attempts),
        sum(one.unpriced for one in attempts),
    )


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """A store in which all that happened."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield History(store)


def check(history: History) -> None:
    """Sums by tag are those of a reader who remembers everything."""
    for name, value in (("env", "x"), ("env", "y"), ("user", "u"), ("user", "v")):
        summary = history.store.export_cost_summary(tags={name: value})
        cost, wasted, unpriced = spent(history.sessions, name, value)
        assert round(summary["total_cost_usd"] * 10**9) == cost
        assert round(summary["wasted_cost_usd"] * 10**9) == wasted
        assert summary["unpriced_calls"] == unpriced


@pytest.mark.parametrize("size", SIZES)
def test_a_rebuild_in_several_batches(
    history: History, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """It makes the rows that one batch makes."""
    filled(history)
    history.store.rebuild()
    in_one = rows_of(history.store)
    monkeypatch.setattr(rebuild, "_BATCH", size)
    history.store.rebuild()
    assert rows_of(history.store) == in_one
    check(history)


@pytest.mark.parametrize("size", SIZES)
def test_following_the_log_in_several_batches(
    history: History, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Rows that follow the log are those of a rebuild, row by key."""
    monkeypatch.setattr(projector, "BATCH", size)
    filled(history)
    check(history)
    assert history.store.rebuild(check=True).difference is None
    followed = rows_of(history.store)
    history.store.rebuild()
    assert rows_of(history.store) == followed


class Behind:
    """A view that raises at first, and stays behind."""

    name = "behind"
    version = 1
    types = ("session.started",)
    tables = (Table("behind", {"id": "INTEGER", "begun": "INTEGER"}, key=("id",)),)

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken

    def apply(self, rows: Rows, batch: Sequence[Happened]) -> None:
        """See View."""
        if self.broken:
            raise ValueError("a bug")
        rows.add("behind", (1,), begun=len(batch))


def test_a_batch_that_begins_where_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that catches up takes a batch that begins with the last event of the others, and that
    event costs nothing twice."""
    monkeypatch.setattr(projector, "BATCH", 1)
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[Behind(broken=True)]) as store:
        history = History(store)
        history.attempt(history.start("a", "", {}, None), attempt(5))
        assert store.export_cost_summary()["calls"] == 1
    with LogStore(SQLiteBackend(tmp_path / "runs.db"), views=[Behind(broken=False)]) as store:
        assert store.export_cost_summary()["calls"] == 1
        assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1000, 1203])
def test_rows_that_are_asked_for_by_many_numbers(count: int) -> None:
    """Each is found once, however many go into one statement."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in range(2000)])
        wanted = set(range(0, 3 * count, 3)) & set(range(2000)) | set(range(count))
        found = rows_by_numbers(connection, "SELECT number FROM numbers WHERE number", wanted)
        assert sorted(found) == [(number,) for number in sorted(wanted)]
