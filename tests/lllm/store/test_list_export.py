"""The lists of a store in a database of one's own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlite_utils

from lllm import LogStore, StoreError
from lllm.logging import sqlite_store
from tests.events.backends.sqlite.test_read_only import everything
from tests.lllm.cli.test_cli import Run, run
from tests.support.echo import echo

__all__ = ["run"]
TABLES = {
    "sessions": ["session_id"],
    "tags": ["session_id", "name"],
    "calls": ["session_id", "request"],
    "costs": ["session_id", "day", "tactic_path", "model", "agent"],
}


@pytest.fixture(params=["runs.db", "runs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """A store with a session that has a child, and one that failed."""
    with LogStore.open(str(tmp_path / str(request.param)), partition="mine") as store:
        with store.session("above", tags={"env": "prod"}):
            echo(store)("one", tags={"child": "yes"})
        with pytest.raises(ZeroDivisionError), store.session("broken"):
            raise ZeroDivisionError("no good")
        yield store


def exported(store: LogStore, path: Path) -> dict[str, list[dict[str, object]]]:
    """The rows of all tables after an export."""
    made = store.export_lists(path)
    database = sqlite_utils.Database(path)
    found = {name: list(database[name].rows) for name in TABLES}
    assert {name: database[name].pks for name in TABLES} == TABLES
    assert {name: len(rows) for name, rows in found.items()} == {
        name: getattr(made, name) for name in TABLES
    }
    database.close()
    return found


def test_the_lists_are_the_stores(store: LogStore, tmp_path: Path) -> None:
    """Sessions at any depth, calls, tags with those of the root, and costs are what the store's own
    lists and summary say."""
    found = exported(store, tmp_path / "lists.db")
    by_id = {row["session_id"]: row for row in found["sessions"]}
    listed = store.list_sessions() + store.list_sessions(tactic_path="echo")
    assert len(by_id) == len(listed) == 3
    for one in listed:
        row = by_id[one.session_id]
        for name in (
            "tactic_name", "tactic_path", "state", "task", "elapsed", "total_cost", "wasted_cost",
            "calls", "failed_calls", "unpriced_calls", "agent_call_count", "prompt_tokens",
            "completion_tokens", "error", "partition",
        ):  # fmt: skip
            assert row[name] == getattr(one, name), name
        assert row["started"] == one.timestamp.isoformat()
        tags = {r["name"]: r["value"] for r in found["tags"] if r["session_id"] == one.session_id}
        assert tags == one.tags
    above, child = (by_id[one.session_id] for one in (listed[1], listed[2]))
    assert (child["parent_id"], child["root_id"]) == (above["session_id"],) * 2
    assert above["parent_id"] is None
    (call,) = store.list_calls()
    (row,) = found["calls"]
    for name in ("session_id", "model", "asked", "state", "elapsed", "cost", "prompt_tokens"):
        assert row[name] == getattr(call, name), name
    summary = store.export_cost_summary()
    assert sum(row["cost_nanos"] for row in found["costs"]) == round(
        summary["total_cost_usd"] * 1_000_000_000
    )
    assert sum(row["calls"] for row in found["costs"]) == summary["calls"] == 1


def test_a_second_run_updates(store: LogStore, tmp_path: Path) -> None:
    """What is new is added, what changed is changed, and a tag that was removed goes."""
    path = tmp_path / "lists.db"
    with store.session("job") as running:
        before = exported(store, path)
    (first,) = (row for row in before["sessions"] if row["session_id"] == running.session_id)
    assert first["state"] == "running"
    (above,) = (one for one in store.list_sessions() if one.tags)
    store.tag(above.session_id, {"reviewed": "yes"}, remove=["env"])
    echo(store)("two")
    after = exported(store, path)
    (second,) = (row for row in after["sessions"] if row["session_id"] == running.session_id)
    assert second["state"] == "success"
    assert len(after["sessions"]) == len(before["sessions"]) + 1
    tags = {(row["name"]) for row in after["tags"] if row["session_id"] == above.session_id}
    assert tags == {"reviewed"}
    assert exported(store, path) == after


def test_more_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions there are, each is there once."""
    monkeypatch.setattr("lllm.store.list_export._PAGE", 2)
    with sqlite_store(tmp_path / "runs.db") as store:
        for number in range(5):
            with store.session("job", tags={"n": str(number)}):
                pass
        found = exported(store, tmp_path / "lists.db")
        assert [row["value"] for row in found["tags"]] == list("01234")


def test_two_stores_in_one_file(tmp_path: Path) -> None:
    """Lists of several stores go into one file, beside tables of one's own."""
    path = tmp_path / "lists.db"
    mine = sqlite_utils.Database(path)
    mine["notes"].insert({"text": "mine"})
    for name in ("a.db", "b.db"):
        with sqlite_store(tmp_path / name) as store:
            echo(store)("one")
            store.export_lists(path)
    assert mine["sessions"].count == mine["calls"].count == mine["costs"].count == 2
    assert mine["notes"].count == 1
    mine.close()


@pytest.mark.parametrize(
    "name",
    ["runs.db", "other.db", "folder", "folder/log.json", "folder/rows.sqlite", "folder/new.db",
     "folder/locks/write.lock", "runs.db-wal", "runs.db-lllm/write.lock", "link.db", "text",
     "nowhere/lists.db"],
)  # fmt: skip
def test_what_is_no_place_for_lists(tmp_path: Path, run: Run, name: str) -> None:
    """A store, a file of one, and what is no database stay as they are."""
    with sqlite_store(tmp_path / "other.db") as other:
        echo(other)("one")
    with LogStore.open(str(tmp_path / "folder"), partition="") as folder:
        echo(folder)("one")
    (tmp_path / "text").write_text("a text that is no database")
    with sqlite_store(tmp_path / "runs.db") as store:
        echo(store)("one")
        store.list_sessions()
        os.symlink(tmp_path / "runs.db", tmp_path / "link.db")
        before = {path: one[2] for path, one in everything(tmp_path).items()}
        assert (
            run("export", "--store", tmp_path / "runs.db", "--lists", tmp_path / name, code=2) == ""
        )
        assert run.err.count("\n") == 1
        after = {path: one[2] for path, one in everything(tmp_path).items()}
        assert {path: after.get(path) for path in before if "-shm" not in path} == {
            path: one for path, one in before.items() if "-shm" not in path
        }
        assert not (tmp_path / "folder" / "new.db").exists()
        echo(store)("two")
        assert len(store.list_sessions()) == 2


def test_another_table_of_the_name(store: LogStore, tmp_path: Path) -> None:
    """Where another table has the name of a list, nothing in the file changes."""
    path = tmp_path / "mine.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE calls (number TEXT PRIMARY KEY)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another table 'calls'"):
        store.export_lists(path)
    assert path.read_bytes() == before


def test_a_failed_export_leaves_nothing(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that fails half way changes no table, and makes no file."""
    path = tmp_path / "lists.db"

    def broken(*_: object) -> list[object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lllm.store.list_export.call_queries.calls_of", broken)
        with pytest.raises(KeyboardInterrupt):
            store.export_lists(path)
    assert not path.exists()
    full = exported(store, path)
    with monkeypatch.context() as patched:
        patched.setattr("lllm.store.list_export.call_queries.calls_of", broken)
        echo(store)("two")
        with pytest.raises(KeyboardInterrupt):
            store.export_lists(path)
    database = sqlite_utils.Database(path)
    assert list(database["sessions"].rows) == full["sessions"]
    database.close()
    assert path.stat().st_mode & 0o077 == 0


def test_the_command(store: LogStore, tmp_path: Path, run: Run) -> None:
    """`lllm export --lists` says what it wrote; it stands alone, and so does an id."""
    place = getattr(store.backend, "path", None)
    out = run("export", "--store", place, "--lists", tmp_path / "lists.db")
    assert out.endswith("lists.db: 3 sessions, 3 tags, 1 call, 1 cost.\n")
    for arguments in (
        [], ["01", "--lists", "x.db"], ["--lists", "x.db", "--format", "json"],
        ["--lists", "x.db", "--output", "y"],
    ):  # fmt: skip
        run("export", "--store", place, *arguments, code=2)
