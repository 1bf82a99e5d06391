"""The SQL views for people, read by plain sqlite3, and how they are described to Datasette."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from lllm import LogStore
from lllm.cli import cli
from lllm.projections.table_names import generation_table
from tests.support.web_page import answer_with_tool

VIEWS = {
    "readable_sessions", "readable_child_sessions", "readable_calls", "readable_costs",
    "readable_tag_costs", "readable_annotations",
}  # fmt: skip


@pytest.fixture(scope="module", params=["runs.db", "runs"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a session that called another, and one that failed; a file or a folder."""
    path = tmp_path_factory.mktemp("readable") / str(request.param)
    with LogStore.open(str(path)) as store:
        found = answer_with_tool(store, customer="alice")
        store.annotate(found, name="correct", value=True, by="me")
        with (
            pytest.raises(ValueError, match="no price"),
            store.session("shop::fails", tags={"a": "b"}),
        ):
            raise ValueError("no price")
        store.list_sessions(limit=1)
    return path


@pytest.fixture
def rows(filled: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to the file with the rows."""
    with closing(sqlite3.connect(file_of(filled))) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def file_of(path: Path) -> Path:
    return path / "rows.sqlite" if path.is_dir() else path


def all_of(rows: sqlite3.Connection, view: str) -> list[dict[str, object]]:
    return [dict(row) for row in rows.execute(f"SELECT * FROM {view}")]


def names(rows: sqlite3.Connection, kind: str) -> set[str]:
    found = rows.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))
    return {row[0] for row in found}


def test_sessions_at_the_top_as_lists_have_them(filled: Path, rows: sqlite3.Connection) -> None:
    with LogStore.open(str(filled)) as store:
        listed = {one.session_id: one for one in store.list_sessions()}
    found = all_of(rows, "readable_sessions")
    assert {row["id"] for row in found} == set(listed)
    for row in found:
        one = listed[str(row["id"])]
        started = dt.datetime.fromisoformat(str(row["started_at"]))
        assert abs(started - one.timestamp) <= dt.timedelta(milliseconds=1)
        assert one.elapsed is not None
        assert row["elapsed_ms"] == pytest.approx(one.elapsed * 1000, abs=0.001)
        assert row["cost_usd"] == one.total_cost
        assert row["cost_nanos"] == round(one.total_cost * 1e9)
        assert json.loads(str(row["tags"] or "{}")) == one.tags


def test_children_calls_and_judgements_name_their_sessions(
    filled: Path, rows: sqlite3.Connection
) -> None:
    ids = {row["id"] for row in all_of(rows, "readable_sessions")}
    children = all_of(rows, "readable_child_sessions")
    assert children
    assert {row["parent_id"] for row in children} <= ids
    calls = all_of(rows, "readable_calls")
    assert {row["session_id"] for row in calls} == {row["id"] for row in children}
    assert {row["root_id"] for row in calls} <= ids
    (judged,) = all_of(rows, "readable_annotations")
    assert (judged["name"], judged["value"], judged["step"]) == ("correct", "true", None)
    assert judged["session_id"] in ids
    assert ("readable_events" in names(rows, "view")) is not filled.is_dir()


def test_what_has_no_price_costs_nothing_known(tmp_path: Path) -> None:
    """An amount of which nothing is known is NULL; one that is known in part is that part."""
    path = tmp_path / "runs.db"
    with LogStore.open(str(path)) as store:
        answer_with_tool(store)
        store.list_sessions(limit=1)
    with closing(sqlite3.connect(path)) as rows:
        (table,) = (one for one in names(rows, "table") if one.startswith("session_totals_v"))
        select = "SELECT cost_usd FROM readable_sessions"
        rows.execute(f"UPDATE {table} SET unpriced_calls = 1, cost_nanos = 5")
        assert rows.execute(select).fetchone() == (5e-9,)
        rows.execute(f"UPDATE {table} SET cost_nanos = 0")
        assert rows.execute(select).fetchone() == (None,)
        rows.rollback()


def test_they_change_over_with_the_rows(tmp_path: Path) -> None:
    """After a rebuild they show the new tables; who reads meanwhile sees one state of all."""
    path = tmp_path / "runs.db"
    with LogStore.open(str(path)) as store, closing(sqlite3.connect(path)) as reader:
        answer_with_tool(store)
        store.list_sessions(limit=1)
        before = {view: all_of_plain(reader, view) for view in VIEWS}
        reader.execute("CREATE TABLE readable_notes (mine TEXT)")
        reader.execute("DROP VIEW readable_costs")
        reader.execute("CREATE TABLE readable_costs (mine TEXT)")
        reader.commit()
        reader.execute("BEGIN")
        assert all_of_plain(reader, "readable_sessions") == before["readable_sessions"]
        store.rebuild()
        for view in VIEWS - {"readable_costs"}:
            assert all_of_plain(reader, view) == before[view]
        reader.rollback()
        assert generation_table("sessions", 1) not in names(reader, "table")
        for view in VIEWS - {"readable_costs"}:
            assert all_of_plain(reader, view) == before[view]
        assert {"readable_costs", "readable_notes"} <= names(reader, "table")


def all_of_plain(rows: sqlite3.Connection, view: str) -> list[tuple[object, ...]]:
    return rows.execute(f"SELECT * FROM {view}").fetchall()


def test_datasette_is_told_what_to_show(filled: Path, rows: sqlite3.Connection) -> None:
    done = CliRunner().invoke(cli, ["query", "--store", str(filled), "--datasette"])
    assert done.exit_code == 0
    (name, told), *others = json.loads(done.output)["databases"].items()
    assert (name, others) == (file_of(filled).stem, [])
    tables, views = names(rows, "table"), names(rows, "view")
    hidden = {one for one, said in told["tables"].items() if said.get("hidden")}
    closed = {one for one, said in told["tables"].items() if said.get("allow") is False}
    assert tables <= hidden
    assert views == closed | {one for one in views if one.startswith("readable_")}
    for generation in (1, 2, 3, 4):
        assert generation_table("sessions", generation) in hidden
    for one in views - closed:
        described = told["tables"][one]
        columns = {row[1] for row in rows.execute(f"PRAGMA table_info({one})")}
        assert described["description"]
        assert set(described["columns"]) <= columns
        assert described.get("sort_desc", "state") in columns | {"state"}
    for query in told["queries"].values():
        rows.execute(query["sql"], {"session_id": "x"}).fetchall()
