"""Rows are the same wherever a batch of events ends: what is added up in one batch, what is known
from the one before, and what is stored already, make one sum."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events.model import (
    Origin,
    SessionErased,
    SessionStarted,
    SessionSucceeded,
    State,
    Usage,
)
from lllm.events.recorder import Recorder
from lllm.events.statements import append_statement
from lllm.projections.engine import projector, rebuild
from lllm.projections.engine.row_changes import Changes
from lllm.projections.engine.sqlite.tables import create_tables
from lllm.projections.queries.rows import rows_by_key
from lllm.projections.table_names import generation_table
from lllm.projections.view import Rows, Table, ViewEvent
from tests.support.histories import Attempt, History, Session

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
    database, generations = store._rows.database, store._rows.projector.checkpoints()
    return {
        table.name: database.query(
            f"SELECT * FROM {generation_table(table.name, generations[view.name].generation)} "
            f"ORDER BY {', '.join(table.key)}"
        )
        for view in store._rows.projector.views
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


@pytest.mark.parametrize("size", SIZES)
def test_replays_in_several_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A replay, which has no facets, leaves the same rows wherever a batch ends, and no number
    for a state, tactic or partition that only it has."""
    monkeypatch.setattr(projector, "BATCH", size)
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        for mode in get_args(get_type_hints(Origin)["mode"]):
            recorder = Recorder(store.log, mode)
            recorder.stage(
                SessionStarted(
                    tactic_path=mode, name=mode, salt=recorder.salt, partition=mode,
                    tags={"env": mode}, origin=Origin(session="a", mode=mode),
                )
            )  # fmt: skip
            recorder.end(SessionSucceeded(elapsed=0))
            recorder.commit()
        listed = {one.tactic_path for one in store.list_sessions(replays=True)}
        assert listed == {"replay", "fork", "import"}
        assert store.rebuild(check=True).difference is None
        kinds = {row[:3] for row in rows_of(store)["facet_numbers"]}
        assert {kind for kind in kinds if "replay" in kind} == {("tag", "env", "replay")}


class Behind:
    """A view that raises at first, and stays behind."""

    name = "behind"
    version = 1
    types = ("session.started",)
    tables = (Table("behind", {"id": "INTEGER", "begun": "INTEGER"}, key=("id",)),)

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
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
        found = rows_by_key(connection, "SELECT number FROM numbers WHERE number", wanted)
        assert sorted(found) == [(number,) for number in sorted(wanted)]


class Plain:
    """A view with a table of columns and one that is all key."""

    name = "plain"
    version = 1
    types = ()
    tables = (
        Table("cells", {"id": "INTEGER", "a": "INTEGER", "b": "INTEGER"}, key=("id",)),
        Table("marks", {"one": "TEXT", "other": "INTEGER"}, key=("other", "one")),
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """See View."""


class Beside:
    """Changes, and what they should make of the tables, which a dict and a set tell."""

    def __init__(self, connection: sqlite3.Connection, seed: int) -> None:
        view = Plain()
        create_tables(connection, view, 3)
        self.changes = Changes({view: 3}, lambda _: iter(()))
        self.changes.connection = connection
        self._chance = random.Random(seed)
        self._cells: dict[int, dict[str, int | None]] = {}
        self._marks: set[tuple[int, str]] = set()

    def change_cells(self) -> None:
        """Put, add, delete or look up one row."""
        chance, changes, cells = self._chance, self.changes, self._cells
        number, columns = chance.randrange(4), chance.choice([("a",), ("b",), ("a", "b")])
        given = {name: chance.randrange(100) for name in columns}
        match chance.randrange(6):
            case 0 | 1:
                changes.put("cells", (number,), **given)
                cells.setdefault(number, {"a": None, "b": None}).update(given)
            case 2 | 3:
                changes.add("cells", (number,), **given)
                row = cells.setdefault(number, {"a": None, "b": None})
                row.update({name: (row[name] or 0) + delta for name, delta in given.items()})
            case 4:
                changes.delete("cells", (number,))
                cells.pop(number, None)
            case _:
                assert changes.get("cells", (number,)) == cells.get(number)

    def change_marks(self) -> None:
        """The same of a row that is all key."""
        chance, changes, marks = self._chance, self.changes, self._marks
        key = (chance.randrange(2), chance.choice("xy"))
        match chance.randrange(4):
            case 0:
                changes.put("marks", key)
                marks.add(key)
            case 1:
                changes.add("marks", key)
                marks.add(key)
            case 2:
                changes.delete("marks", key)
                marks.discard(key)
            case _:
                assert changes.get("marks", key) == ({} if key in marks else None)

    def write(self) -> None:
        """Write everything, which leaves nothing to write."""
        changes, connection = self.changes, self.changes.connection
        for sql, rows in changes.statements():
            connection.executemany(sql, rows)
        assert list(changes.statements()) == []
        if self._chance.random() < 0.5:
            changes.forget()
        cells = connection.execute("SELECT id, a, b FROM cells_v3")
        assert {number: {"a": a, "b": b} for number, a, b in cells} == self._cells
        assert set(connection.execute("SELECT other, one FROM marks_v3")) == self._marks


@pytest.mark.parametrize("seed", range(12))
def test_changes_are_those_of_a_dict(seed: int) -> None:
    """Whatever is put, added, deleted and looked up, in whatever order and however often it is
    written: the rows are those of a dict."""
    with closing(sqlite3.connect(":memory:")) as connection:
        beside = Beside(connection, seed)
        steps = [beside.change_cells] * 12 + [beside.change_marks] * 6 + [beside.write]
        chance = random.Random(seed)
        for _ in range(400):
            chance.choice(steps)()


def test_what_a_view_changed_is_dropped() -> None:
    """Dropping a view's changes leaves what is stored, and those of other tables written once."""
    view = Plain()
    with closing(sqlite3.connect(":memory:")) as connection:
        create_tables(connection, view, 1)
        changes = Changes({view: 1}, lambda _: iter(()))
        changes.connection = connection
        changes.put("cells", (1,), a=1)
        changes.put("marks", (1, "x"))
        assert changes.get("cells", (1,)) == {"a": 1, "b": None}
        changes.drop(view)
        assert changes.get("cells", (1,)) is None
        assert changes.get("marks", (1, "x")) is None
        assert list(changes.statements()) == []


@pytest.mark.parametrize("tactic", ["", "p::t"])
@pytest.mark.parametrize("state", ["running", "success"])
def test_a_session_that_is_erased_twice(tmp_path: Path, tactic: str, state: State) -> None:
    """Rows that followed each event are those of a rebuild, also where a forged start names no
    tactic, as that of an erased session does."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        recorder = History(store).start(tactic, "", {}, None).recorder
        for number in range(3):
            store.list_sessions()
            said = SessionErased(
                about=recorder.session_id, by="me", reason="asked", events=1, tactic_path=tactic,
                state=state, started=0, salt=b"s" * 32,
            )  # fmt: skip
            append_statement(store.log, f"erased-{number}", said, salt=said.salt)
        store.list_sessions()
        assert store.rebuild(check=True).difference is None
