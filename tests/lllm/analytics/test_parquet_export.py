"""Parquet files: months that change as a whole, what a second run writes, and what is refused."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import CliRunner

from lllm import LogStore, MissingExtra, SQLiteBackend, StoreError
from lllm.analytics import parquet_export, parquet_folder
from lllm.analytics.columns import TABLES
from lllm.analytics.parquet_folder import ParquetFolder
from lllm.cli import cli
from lllm.events.model import SessionInterrupted
from tests.support import analyst_data
from tests.support.analyst_data import CENT, Stream, at
from tests.support.waiting import HANG

OCTOBER, NOVEMBER = "2026-10", "2026-11"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store of some sessions; `ids` names them."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def rows(folder: Path, table: str, month: str = "*") -> list[dict[str, object]]:
    """The rows of a table."""
    files = sorted(folder.glob(f"month={month}/{table}.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_a_second_run_writes_what_has_changed(store: LogStore, tmp_path: Path) -> None:
    """After a tag that is set later, the month of the session alone."""
    ids, folder = analyst_data.fill(store.backend), tmp_path / "tables"
    first = store.export_parquet(folder)
    assert (first.written, first.unchanged) == ((OCTOBER, NOVEMBER), ())
    assert {path.name for path in (folder / f"month={OCTOBER}").iterdir()} == {
        f"{table}.parquet" for table in TABLES
    }
    again = store.export_parquet(folder)
    assert (again.written, again.unchanged) == ((), (OCTOBER, NOVEMBER))

    analyst_data.tag(store.backend, ids["october"], "team", "green")
    assert store.export_parquet(folder).written == (OCTOBER,)
    tags = {(row["session_id"], row["name"]): row for row in rows(folder, "tags", OCTOBER)}
    assert tags[ids["october"], "team"]["value"] == "green"
    child = tags[ids["child"], "team"]
    assert (child["value"], child["inherited"], child["root_id"]) == ("green", True, ids["october"])


def test_a_running_session_goes_on(store: LogStore, tmp_path: Path) -> None:
    """Its month is written when it has, and when it was found dead, and goes on all the same."""
    log, folder = store.backend, tmp_path / "tables"
    one = Stream(log, "shop::answer", at("2026-10-31T23:00:00"), {}, None)
    request = one.ask(at("2026-10-31T23:01:00"), call=None, end=False)
    assert store.export_parquet(folder).written == (OCTOBER,)
    assert store.export_parquet(folder).written == ()
    salt, time = b"s" * 32, at("2026-11-01T00:00:00")
    dead = SessionInterrupted(about=one.id, owner="", last_seq=2, salt=salt)
    log.append([analyst_data.sealed(salt, "interrupted-1", 1, time, dead)])
    assert store.export_parquet(folder).written == (OCTOBER,)
    [attempt] = rows(folder, "attempts")
    assert (attempt["request"], attempt["state"]) == (request, "interrupted")
    one.ask(at("2026-11-01T00:01:00"), call=None)
    assert store.export_parquet(folder).written == (OCTOBER,)
    assert [row["state"] for row in rows(folder, "attempts")] == ["success", "interrupted"]
    one.end(at("2026-11-01T00:02:00"))
    assert store.export_parquet(folder).written == (OCTOBER,)
    assert [row["state"] for row in rows(folder, "sessions")] == ["success"]


def test_everything_of_a_run_is_in_one_month(store: LogStore, tmp_path: Path) -> None:
    """A child changes the month of its root, in which it is."""
    log, folder = store.backend, tmp_path / "tables"
    root = Stream(log, "shop::answer", at("2026-10-31T23:00:00"), {}, None)
    root.end(at("2026-10-31T23:59:00"))
    store.export_parquet(folder)
    child = Stream(log, "shop::lookup", at("2026-11-02T00:00:00"), {}, root)
    child.ask(at("2026-11-02T00:01:00"), call=None, cents=7)
    child.end(at("2026-11-02T00:02:00"))
    assert store.export_parquet(folder).written == (OCTOBER,)
    assert {row["session_id"] for row in rows(folder, "sessions", OCTOBER)} == {root.id, child.id}
    [cost] = rows(folder, "costs", OCTOBER)
    assert cost["session_id"] == root.id
    assert int(cost["cost"] * 10**9) == 7 * CENT  # type: ignore[operator]
    assert store.export_parquet(folder).written == ()


def test_an_erased_text_is_gone(store: LogStore, tmp_path: Path) -> None:
    """At the next run, from all files; what it cost stays."""
    ids, folder = analyst_data.fill(store.backend), tmp_path / "tables"
    store.export_parquet(folder)
    before = rows(folder, "costs", OCTOBER)
    store.erase_session(ids["october"], reason="asked", by="ada")
    made = store.export_parquet(folder)
    assert OCTOBER in made.written
    assert rows(folder, "messages", OCTOBER) == rows(folder, "attempts", OCTOBER) == []
    assert rows(folder, "costs", OCTOBER) == before
    assert {row["erased"] is None for row in rows(folder, "sessions", OCTOBER)} == {False}
    assert not any(".lllm/2" in str(path) for path in folder.rglob("*.parquet"))


def test_a_month_without_sessions_is_removed(store: LogStore, tmp_path: Path) -> None:
    """Where no session fits the filter any more."""
    ids, folder = analyst_data.fill(store.backend), tmp_path / "tables"
    assert store.export_parquet(folder, tags={"team": "blue"}).written == (OCTOBER,)
    analyst_data.tag(store.backend, ids["october"], "team", "green")
    assert store.export_parquet(folder, tags={"team": "blue"}).removed == (OCTOBER,)
    assert not list(folder.glob("month=*"))


def test_prompts_are_numbered_alike_in_all_months(store: LogStore, tmp_path: Path) -> None:
    """After a definition was erased with the last session that used it, the later ones have lower
    numbers, also in months in which nothing else has changed."""
    log, folder = store.backend, tmp_path / "tables"
    ids = analyst_data.fill(log)
    store.export_parquet(folder)
    assert [row["prompt_version"] for row in rows(folder, "calls")] == [1, 2]
    store.erase_session(ids["october"], reason="asked", by="ada")
    store.export_parquet(folder)
    assert [row["prompt_version"] for row in rows(folder, "calls")] == [1]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_failure_leaves_the_old_month(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """Also where the file system can't exchange folders, and the process is killed in between."""
    ids, folder = analyst_data.fill(store.backend), tmp_path / "tables"
    store.export_parquet(folder)
    before = {table: rows(folder, table) for table in TABLES}
    analyst_data.tag(store.backend, ids["october"], "team", "green")
    if not exchanges:
        monkeypatch.setattr(parquet_folder, "_exchange", lambda *_: False)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ParquetFolder, "publish", broken)
        with pytest.raises(KeyboardInterrupt):
            store.export_parquet(folder)
    assert {table: rows(folder, table) for table in TABLES} == before
    if not exchanges:  # as if it had been killed between the two steps
        month = folder / f"month={OCTOBER}"
        month.rename(folder / ".lllm" / f"{OCTOBER}.old")
    assert OCTOBER in store.export_parquet(folder).written
    assert {row["value"] for row in rows(folder, "tags", OCTOBER)} == {"green", "2"}
    assert [path.name for path in (folder / ".lllm").iterdir()] == ["lock"]


_EXPORT = "import sys, lllm; lllm.LogStore.open(sys.argv[1]).export_parquet(sys.argv[2])"


@pytest.mark.slow
def test_a_killed_export_leaves_whole_months(store: LogStore, tmp_path: Path) -> None:
    """Wherever it is killed, each month has all tables, of one state."""
    log, folder = store.backend, tmp_path / "tables"
    sessions = []
    for number in range(300):
        one = Stream(log, "shop::answer", at("2026-10-02T00:00:00") + number, {"run": "0"}, None)
        one.ask(at("2026-10-02T00:01:00"), call=None)
        one.end(at("2026-10-02T00:02:00"))
        sessions.append(one)
    store.export_parquet(folder)
    for run in range(1, 8):
        for one in sessions[::10]:
            analyst_data.tag(log, one.id, "run", str(run))
        store.list_sessions(limit=1)
        process = subprocess.Popen([sys.executable, "-c", _EXPORT, str(log.path), str(folder)])
        draft = folder / ".lllm" / OCTOBER
        until = time.monotonic() + HANG
        while not draft.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.03 * (run - 1))
        process.send_signal(signal.SIGKILL)
        process.wait(HANG)
        tags = {row["session_id"]: row["value"] for row in rows(folder, "tags")}
        assert len(tags) == len(sessions)
        assert len({tags[one.id] for one in sessions[::10]}) == 1
        assert {len(rows(folder, table)) for table in ("sessions", "attempts")} == {300}
    store.export_parquet(folder)
    assert {row["value"] for row in rows(folder, "tags")} == {"0", "7"}


def test_what_is_refused(store: LogStore, tmp_path: Path) -> None:
    """Another store, other filters, an older state, a folder or file of something else."""
    analyst_data.fill(store.backend)
    folder = tmp_path / "tables"
    store.export_parquet(folder)
    with pytest.raises(StoreError, match=r"other filters \(state\)"):
        store.export_parquet(folder, state="success")
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other:
        analyst_data.fill(other.backend)
        with pytest.raises(StoreError, match="another store"):
            other.export_parquet(folder)
    with pytest.raises(StoreError, match="is a file"):
        store.export_parquet(tmp_path / "runs.db")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(StoreError, match=r"something else already \(letter.txt\)"):
        store.export_parquet(tmp_path / "mine")
    with ParquetFolder(folder).locked(), pytest.raises(StoreError, match="Another process"):
        store.export_parquet(folder)
    with pytest.raises(ValueError, match="table is one of sessions, calls"):
        store.to_arrow("events")


def test_a_missing_library_is_named(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that has it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"'pyarrow'.*lllm\[analytics\]"):
        store.export_parquet("tables")
    with pytest.raises(MissingExtra, match="'pyarrow'"):
        store.to_arrow("tags")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="'pandas'"):
        store.to_pandas("tags")


def test_an_empty_store_has_typed_tables(store: LogStore, tmp_path: Path) -> None:
    """And a folder in which the next run puts months."""
    assert store.export_parquet(tmp_path / "tables").written == ()
    assert store.to_arrow("costs").schema.field("cost").type == pyarrow.decimal128(38, 9)
    assert len(store.to_pandas("costs")) == 0
    analyst_data.fill(store.backend)
    assert store.export_parquet(tmp_path / "tables").written == (OCTOBER, NOVEMBER)


def test_the_command(store: LogStore, tmp_path: Path) -> None:
    """It takes the filters of lists, and says what it wrote."""
    analyst_data.fill(store.backend)
    folder = str(tmp_path / "tables")
    run = ["export", "--store", str(tmp_path / "runs.db"), "--parquet", folder]
    result = CliRunner().invoke(cli, [*run, "--model", "gpt-4o-m*", "--tactic", "shop::answer"])
    assert "2 months written (3 sessions, 2 calls, 7 attempts, " in result.output
    result = CliRunner().invoke(cli, [*run, "--model", "gpt-4o-m*", "--tactic", "shop::answer"])
    assert "0 months written, 2 unchanged." in result.output
    for wrong, said in (
        (["--output", "x"], "not for --parquet"), (["--dataset"], "Export one session")
    ):  # fmt: skip
        result = CliRunner().invoke(cli, [*run, *wrong])
        assert result.exit_code == 2
        assert said in result.output
    result = CliRunner().invoke(cli, ["export", "--dataset", "--replays"])
    assert "--replays is of --parquet files" in result.output


def test_row_groups_are_written_as_they_fill(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with a month."""
    monkeypatch.setattr(parquet_export, "_GROUP_ROWS", 2)
    monkeypatch.setattr("lllm.analytics.store_tables._ROWS", 1)
    monkeypatch.setattr("lllm.analytics.store_tables.PAGE", 1)
    analyst_data.fill(store.backend)
    store.export_parquet(tmp_path / "tables")
    file = tmp_path / "tables" / f"month={NOVEMBER}" / "messages.parquet"
    written = pyarrow.parquet.ParquetFile(file).metadata
    assert (written.num_rows, written.num_row_groups) == (9, 5)


@pytest.mark.parametrize("before", [True, False])
def test_the_garbage_collector_is_left_as_it_was(
    store: LogStore, tmp_path: Path, before: bool
) -> None:
    """It does not run by itself during an export, and does again after a failure, if it did."""
    analyst_data.fill(store.backend)
    during: list[bool] = []

    def fail(*_: int) -> None:
        during.append(gc.isenabled())
        raise KeyboardInterrupt

    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.export_parquet(tmp_path / "out", progress=fail)
        assert during == [False]
        assert gc.isenabled() is before
    finally:
        gc.enable()
