"""What a store answers beside the lesson's calls, and how it refuses what it can't do."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lllm import (
    AmbiguousId,
    LocalFileBackend,
    LogDamaged,
    LogError,
    LogStore,
    LogTooNew,
    LogUnavailable,
    SessionNotFound,
    SQLiteBackend,
)
from lllm.events import codec
from lllm.events.model import ErrorRecorded, SessionTagged
from lllm.logging import local_store, noop_store, sqlite_store
from lllm.projections.queries import cost_groups, running_sessions, session_lists
from lllm.projections.queries import costs as cost_queries
from lllm.projections.queries import sessions as queries
from lllm.projections.queries.cost_groups import Group
from lllm.projections.queries.filters import Filter
from lllm.projections.views.sessions import SessionsView
from lllm.store.log_store import session_host
from tests.support.echo import echo


def ids(store: LogStore, **filters: object) -> list[str]:
    """The ids of a list."""
    return [one.session_id for one in store.list_sessions(**filters)]  # type: ignore[arg-type] # any


# -- lists


def test_after_and_before(store: LogStore) -> None:
    """`after` is included and `before` is not; a naive datetime is UTC."""
    tactic = echo(store)
    for task in "abc":
        tactic(task)
    newest_first = store.list_sessions()
    middle = newest_first[1].timestamp
    assert ids(store, after=middle + dt.timedelta(microseconds=1)) == [newest_first[0].session_id]
    assert len(ids(store, after=middle)) == 2
    assert ids(store, before=middle) == [newest_first[2].session_id]
    naive = middle.replace(tzinfo=None)
    assert ids(store, after=naive) == ids(store, after=middle)
    elsewhere = middle.astimezone(dt.timezone(dt.timedelta(hours=9)))
    assert ids(store, before=elsewhere) == ids(store, before=middle)
    summary = store.export_cost_summary(after=middle, group_by="day")
    assert summary["session_count"] == 2
    assert [group["key"] for group in summary["groups"]] == [f"{middle:%Y-%m-%d}"]


def test_moments_that_no_log_can_hold(store: LogStore) -> None:
    """The first and last datetime there are select as they read."""
    echo(store)("task")
    assert len(ids(store, after=dt.datetime.min, before=dt.datetime.max)) == 1
    assert ids(store, after=dt.datetime.max) == ids(store, before=dt.datetime.min) == []


def test_what_utf8_cannot_hold_is_found(store: LogStore) -> None:
    """A lone surrogate in a partition, a tag or an id selects what was written with it, or
    nothing."""
    with store.session("my_project::script", tags={"odd": "\udcff"}, partition="\udcff"):
        pass
    assert len(ids(store, partition="\udcff")) == len(ids(store, tags={"odd": "\udcff"})) == 1
    with pytest.raises(SessionNotFound):
        store.load_session("\udcff")
    with pytest.raises(SessionNotFound):
        store.find_id("\udcff")


@pytest.mark.parametrize(
    "made", [local_store, sqlite_store, lambda _, partition: noop_store(partition=partition)]
)
def test_factories_take_a_partition(tmp_path: Path, made: Callable[..., LogStore]) -> None:
    """Whose sessions they are can be said where a store is made in one call."""
    with made(tmp_path / "store", partition="acme") as store:
        assert store.partition == "acme"
        echo(store)("task")
        assert {one.partition for one in store.list_sessions()} <= {"acme"}
        assert len(store.list_sessions(partition="acme")) == int(session_host(store).persists)


def test_partitions_are_apart(tmp_path: Path) -> None:
    """Each store writes into its partition; a list is of one partition or of all."""
    backend = SQLiteBackend(tmp_path / "runs.db")
    with LogStore(backend, partition="acme") as acme:
        echo(acme)("a")
        with acme.session("script", partition="other"):
            pass
        assert len(ids(acme)) == 2
        assert [one.partition for one in acme.list_sessions(partition="acme")] == ["acme"]
        assert acme.export_cost_summary(partition="acme")["session_count"] == 1
        assert acme.export_cost_summary(partition="other")["total_cost_usd"] == 0
        assert ids(acme, partition="nobody") == []


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"state": "done"}, "success, failure, running, interrupted"),
        ({"limit": -1}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": f"{2**63}.id"}, "cursor"),
    ],
)
def test_filters_that_cannot_be(store: LogStore, filters: dict[str, object], said: str) -> None:
    """A filter that can't be is a ValueError that says what can."""
    with pytest.raises(ValueError, match=said):
        ids(store, **filters)


@pytest.mark.parametrize("tags", [{"a": 1}, {1: "a"}, ["a"], {"a": None}])
def test_tags_are_str_to_str(store: LogStore, tags: object) -> None:
    """Anything else is a TypeError, wherever tags are given, before anything is written."""
    tactic = echo(store)
    for use in (
        lambda: tactic("task", tags=tags),  # type: ignore[arg-type] # what is tested
        lambda: store.session("script", tags=tags),  # type: ignore[arg-type] # what is tested
        lambda: store.list_sessions(tags=tags),  # type: ignore[arg-type] # what is tested
        lambda: store.tag("id", tags),  # type: ignore[arg-type] # what is tested
    ):
        with pytest.raises(TypeError, match="tag"):
            use()
    assert store.backend.head() == 0


def test_a_unique_prefix_finds_an_id(store: LogStore) -> None:
    """A prefix that one id has finds it; one that several have, or none, says so."""
    tactic = echo(store)
    tactic("a")
    tactic("b")
    one, other = ids(store)
    assert store.find_id(one[:-1]) == one
    assert store.find_id(one.upper()) == one
    with pytest.raises(AmbiguousId, match=other):
        store.find_id(one[:2])
    with pytest.raises(SessionNotFound):
        store.find_id("zzz")


def test_lists_and_sums_read_rows_and_use_indexes(store: LogStore) -> None:
    """No list or sum reads a payload, and none scans a table for a filter it is given."""
    tactic = echo(store)
    for number in range(5):
        tactic("task", tags={"a": str(number % 2), "b": "x"})
    store.list_sessions()
    filters = [
        Filter(),
        Filter(tags={"a": "1"}),
        Filter(tags={"a": "1", "b": "x"}, state="success"),
        Filter(tactic="echo", partition=""),
        Filter(tactic="echo", tags={"b": "x"}, after=1, before=2**62),
    ]
    database = store.backend.rows_database()  # type: ignore[attr-defined] # both kinds have one
    statements: list[str] = []
    with database.snapshot() as connection:
        connection.set_trace_callback(statements.append)
        running_sessions.running(connection)
        row = session_lists.list_sessions(connection, Filter(), 1, None)[0]
        queries.family(connection, row)
        for wanted in filters:
            session_lists.list_sessions(connection, wanted, 10, None)
            cost_queries.count_sessions(connection, wanted)
            cost_queries.sum_costs(connection, wanted)
            cost_groups.sum_costs_by(connection, wanted, [Group("model")])
            cost_groups.sum_costs_by_tags(connection, wanted, ["a"])
            if wanted != Filter():  # all sessions are what is looked at then
                cost_groups.sum_costs_by(connection, wanted, [Group("", "a"), Group("model")])
                session_lists.sorted_sessions(connection, wanted, 10, None, by="cost", falling=True)
        connection.set_trace_callback(None)
        # Small tables: who runs, the facets' names, and the cells and counts of the cube.
        small = (
            "running",
            "CONSTANT",
            "below",
            "cost_cells",
            "costs",
            "session_counts",
            "facet_numbers",
            "tag_costs",
            "f",  # the sessions that a list by cost has chosen
        )
        below = next(one for one in statements if "RECURSIVE" in one)
        plan_of_family = connection.execute(f"EXPLAIN QUERY PLAN {below}").fetchall()
        assert any("_by_root_parent (root=? AND parent=?)" in str(row[3]) for row in plan_of_family)
        for statement in statements:
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                plan = str(row[3])
                assert " events" not in plan
                scanned = plan.removeprefix("SCAN ").partition("_v")[0].partition(" ")[0]
                in_order = "_by_started" in plan and "LIMIT" in statement
                assert not plan.startswith("SCAN") or scanned in small or in_order, plan


def test_rows_follow_without_a_reader(tmp_path: Path) -> None:
    """What is closed is up to date for programs that only read the rows; sessions that end fast one
    after another are taken together."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        for number in range(20):
            echo(store)(str(number))
    with closing(sqlite3.connect(path)) as connection:
        (followed,) = connection.execute(
            "SELECT count(*) FROM sessions WHERE state = 'success'"
        ).fetchone()
    assert followed == 20


# -- single sessions


def test_unknown_ids(store: LogStore) -> None:
    """Everything that takes an id says when there is no such session; it is a KeyError too."""
    for use in (
        store.load_session,
        store.load_session_record,
        store.events,
        store.export_session,
        store.tag,
    ):
        with pytest.raises(SessionNotFound, match="nothing") as caught:
            use("nothing")
        assert isinstance(caught.value, KeyError)


def test_missing_events_are_counted(tmp_path: Path) -> None:
    """A session that lost events in the middle says how many; a whole one says none."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        echo(store)("task")
        session_id = ids(store)[0]
        assert store.load_session(session_id).missing_events == 0
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER events_are_never_deleted")
        connection.execute("DELETE FROM events WHERE stream = ? AND seq IN (3, 4)", (session_id,))
        trigger = "CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events "
        connection.execute(f"{trigger} BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END")
    with LogStore(SQLiteBackend(path)) as store:
        assert store.load_session(session_id).missing_events == 2


def test_tags_change_later(store: LogStore) -> None:
    """Tags change by events of their own; the session's stay as they were."""
    echo(store)("task", tags={"env": "prod", "old": "1"})
    session_id = ids(store)[0]
    before = list(store.events(session_id))
    store.tag(session_id, {"env": "test", "new": "2"}, remove=["old"], by="alice")
    assert ids(store, tags={"env": "test", "new": "2"}) == [session_id]
    assert ids(store, tags={"env": "prod"}) == ids(store, tags={"old": "1"}) == []
    assert store.load_session_record(session_id).tags == {"env": "test", "new": "2"}
    events = list(store.events(session_id))
    assert events[:-1] == before
    tagged = codec.decode(events[-1])
    assert isinstance(tagged, SessionTagged)
    assert (tagged.about, tagged.by, tagged.removed) == (session_id, "alice", ("old",))


def test_exports(store: LogStore) -> None:
    """json is the folded session, jsonl its events, verbatim, with what they refer to."""
    echo(store)({"say": "Grüße"}, tags={"env": "prod"})
    session_id = ids(store)[0]
    folded = json.loads(store.export_session(session_id))
    assert folded["delivery"] == "{'say': 'Grüße'}"
    assert folded["tags"] == {"env": "prod"}
    assert folded["total_cost"]["cost"] == store.load_session(session_id).total_cost.cost
    lines = store.export_session(session_id, format="jsonl").splitlines()
    recorded = {event.position: event for event in store.backend.read()}
    assert len(lines) == len(recorded)
    for line in lines:
        event = recorded[json.loads(line)["position"]]
        assert f'"data":{event.data.decode()}}}' in line
    assert {json.loads(line)["type"] for line in lines} >= {"agent.defined", "session.succeeded"}
    with pytest.raises(ValueError, match="json, jsonl"):
        store.export_session(session_id, format="xml")


def test_errors_outside_any_session(store: LogStore) -> None:
    """save_error records a failure with its traceback and context, found by the id it returns."""
    try:
        raise RuntimeError("the queue is gone")
    except RuntimeError as error:
        error_id = store.save_error(error, context={"queue": b"jobs"})
    [event] = store.events(error_id)
    recorded = codec.decode(event)
    assert isinstance(recorded, ErrorRecorded)
    assert recorded.error.type == "RuntimeError"
    assert "the queue is gone" in (recorded.error.traceback or "")
    assert ids(store) == []


def test_a_session_without_a_tactic(store: LogStore) -> None:
    """Code without a Tactic has sessions too; a tactic called inside is a child."""
    with store.session("my_project::script", tags={"by": "hand"}, task=[1]) as recorder:
        echo(store)("inside")
        recorder.deliver({"done": True})
    summary = store.list_sessions(tactic_path="my_project::script")[0]
    assert (summary.tactic_name, summary.state, summary.tags) == (
        "script",
        "success",
        {"by": "hand"},
    )
    session = store.load_session(recorder.session_id)
    assert (session.task, session.delivery) == ([1], {"done": True})
    assert [child.delivery for child in session.sub_tactic_sessions["echo"]] == ["inside"]
    assert session.total_cost.cost == summary.total_cost > 0
    assert ids(store) == [recorder.session_id]
    with pytest.raises(ZeroDivisionError), store.session("my_project::script"):
        _ = 1 / 0
    assert "ZeroDivisionError" in str(store.list_sessions(state="failure")[0].error)


def test_following_a_store(store: LogStore) -> None:
    """follow gives the events of all sessions as they are written, once each, in order."""
    seen: list[str] = []

    def look(events: Iterator[object]) -> None:
        for event in events:
            seen.append(event.type)  # type: ignore[attr-defined] # Recorded
            if event.type == "session.succeeded":  # type: ignore[attr-defined] # Recorded
                return

    echo(store)("before")
    reader = threading.Thread(
        target=look, args=(store.follow(after=store.backend.head(), poll=0.01),)
    )
    reader.start()
    echo(store)("meanwhile")
    reader.join(10)
    assert (seen[0], seen[-1]) == ("session.started", "session.succeeded")


def test_a_changed_payload_is_noticed(tmp_path: Path) -> None:
    """Loading checks every digest, and names the position and the session of what was changed."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        echo(store)("task")
        session_id = ids(store)[0]
        connection = sqlite3.connect(tmp_path / "runs.db")
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute("UPDATE events SET data = '{}'")
        connection.execute("DROP TRIGGER events_are_never_changed")
        connection.execute("UPDATE events SET data = replace(data, 'task', 'tusk') WHERE seq = 3")
        connection.commit()
        connection.close()
        with pytest.raises(LogDamaged, match="not what was written") as caught:
            store.load_session(session_id)
        assert caught.value.stream == session_id
        assert caught.value.position > 0


# -- opening and closing


def test_paths_that_cannot_be_a_store(tmp_path: Path) -> None:
    """A path that can't be opened, or is something else, is one clear error at construction."""
    text = tmp_path / "notes.txt"
    text.write_text("this is no database, " * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE events (mine)")
    connection.close()
    for opened, error in (
        (lambda: SQLiteBackend(text), LogError),
        (lambda: SQLiteBackend(other), LogError),
        (lambda: SQLiteBackend(tmp_path), LogUnavailable),
        (lambda: SQLiteBackend(text / "runs.db"), LogUnavailable),
        (lambda: LocalFileBackend(text), LogError),
    ):
        with pytest.raises(error, match=str(tmp_path)):
            opened()
    assert text.read_text().startswith("this is no database")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A log that a newer lllm wrote is one clear error that says to upgrade."""
    SQLiteBackend(tmp_path / "runs.db").close()
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(LogTooNew, match=r"99.*Upgrade"):
        SQLiteBackend(tmp_path / "runs.db")


def test_an_unwritable_folder(tmp_path: Path) -> None:
    """A folder that this user can't write is LogUnavailable at construction."""
    tmp_path.chmod(0o555)
    pid = os.fork()
    if pid == 0:
        refused = 0
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere; nobody may not
        for kind, name in ((SQLiteBackend, "runs.db"), (LocalFileBackend, "logs")):
            try:
                kind(tmp_path / name)
            except LogUnavailable as error:
                refused += name in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2


def test_rows_that_are_thrown_away_come_back(tmp_path: Path) -> None:
    """Rows are no truth: a JSONL log whose rows were deleted lists what it listed before."""
    with LogStore(LocalFileBackend(tmp_path / "logs")) as store:
        echo(store)("task", tags={"a": "b"})
        before = store.list_sessions()
    for file in (tmp_path / "logs").glob("rows.sqlite*"):
        file.unlink()
    with LogStore(LocalFileBackend(tmp_path / "logs")) as store:
        assert store.list_sessions() == before


def test_stale_rows_are_built_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that open a store after an upgrade build its rows anew once, not each; the older library
    leaves them to the newer one."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        echo(store)("task")
    together = threading.Barrier(4)

    def open_and_look() -> None:
        together.wait()
        with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
            assert len(opened.list_sessions()) == 1

    def generations() -> dict[object, object]:
        with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
            return dict(connection.execute("SELECT view, generation FROM checkpoints").fetchall())

    names = (
        "sessions", "tags", "costs", "calls", "holds", "annotations", "merkle", "messages",
    )  # fmt: skip
    built_once = dict.fromkeys(names, 1)
    assert generations() == built_once
    with monkeypatch.context() as newer, ThreadPoolExecutor(4) as pool:
        newer.setattr(SessionsView, "version", SessionsView.version + 1)
        for opened in [pool.submit(open_and_look) for _ in range(4)]:
            opened.result()
    assert generations() == built_once | {"sessions": 2}
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        assert store.rebuild().views == names[1:]
        assert store.rebuild(check=True).difference is None
    assert generations() == dict.fromkeys(built_once, 2)


def test_a_closed_store(store: LogStore) -> None:
    """Closing twice does nothing; using a closed store is one clear error."""
    store.close()
    store.close()
    with pytest.raises(LogUnavailable, match="closed"):
        store.list_sessions()


def test_leaving_without_closing(tmp_path: Path) -> None:
    """A process that never closes its store leaves nothing unsaid: its finished sessions are there,
    one that it left open is interrupted, and no lock file stays behind it."""
    script = f"""
from lllm import LogStore, SQLiteBackend
store = LogStore(SQLiteBackend({str(tmp_path / "runs.db")!r}))
with store.session("finished"):
    pass
if {{unfinished}}:
    store.session("open").__enter__()
"""
    run = [sys.executable, "-W", "error", "-c"]
    subprocess.run([*run, script.format(unfinished=False)], check=True)
    locks = tmp_path / "runs.db-lllm"
    assert [file.name for file in locks.iterdir() if file.name not in KNOWN_LOCKS] == []
    subprocess.run([*run, script.format(unfinished=True)], check=True)
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        assert [one.state for one in store.list_sessions()] == ["interrupted", "success", "success"]
        assert [file.name for file in locks.iterdir() if file.name not in KNOWN_LOCKS] == []


KNOWN_LOCKS = {
    "write.lock", "write.queue", "project.lock", "rebuild.lock", "erase.lock", "definitions.key",
}  # fmt: skip


def test_the_file_reads_well_in_sqlite_utils(tmp_path: Path) -> None:
    """sqlite-utils opens the file and counts what is in it; payloads are JSON text."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        echo(store)("task")
    run = [sys.executable, "-m", "sqlite_utils"]
    path = str(tmp_path / "runs.db")
    tables = subprocess.run([*run, "tables", path, "--counts"], check=True, capture_output=True)
    counts = {row["table"]: row["count"] for row in json.loads(tables.stdout)}
    assert counts["events"] == 9
    query = "select json_extract(data, '$.delivery') as said from events order by position desc"
    rows = subprocess.run([*run, path, query], check=True, capture_output=True)
    assert json.loads(rows.stdout)[0] == {"said": "task"}


def test_exporting_what_utf8_cannot_hold(store: LogStore) -> None:
    """A session with lone surrogates in it is exported all the same, with escapes."""
    echo(store)("a\udc80b", metadata={"file": "\ud800"})
    session_id = ids(store)[0]
    for format_ in ("json", "jsonl"):
        text = store.export_session(session_id, format=format_)
        text.encode()
        assert "\\udc80" in text
    assert store.load_session(session_id).delivery == "a\udc80b"


def test_the_options_of_a_call_are_kept(store: LogStore) -> None:
    """Keyword arguments of a call beside its task stand in its record."""
    session = echo(store)("task", return_session=True, depth=3, style=(1, 2))
    assert session.options == {"depth": 3, "style": (1, 2)}  # type: ignore[attr-defined] # a session
    assert echo(store)("task", return_session=True).options is None  # type: ignore[attr-defined] # a session
