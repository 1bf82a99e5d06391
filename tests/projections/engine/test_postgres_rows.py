"""Rows in PostgreSQL are those of SQLite, and kept by one process at a time."""

from __future__ import annotations

import datetime as dt
import logging
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, get_args
from zoneinfo import ZoneInfo

import psycopg
import pytest

from lllm import LogStore, PostgresBackend
from lllm.doctor.age import age_of
from lllm.events.backends.postgres.server_url import parse_server_url
from lllm.events.backends.sqlite.database import Database
from lllm.events.codec import encode
from lllm.events.errors import LogUnavailable, ViewError
from lllm.events.ids import new_id
from lllm.events.model import SessionStarted
from lllm.projections.database import DuplicateRow, RowsConnection
from lllm.projections.engine.postgres.connection import PostgresConnection
from lllm.projections.engine.postgres.database import PostgresRows
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.rebuild import rebuild
from lllm.projections.queries import (
    call_filter_sql,
    erasures,
    running_sessions,
    session_lists,
    sessions,
)
from lllm.projections.queries.call_statistics import call_timings
from lllm.projections.queries.calls import calls_of, list_calls
from lllm.projections.queries.cost_groups import Group, sum_costs_by, sum_costs_by_tags
from lllm.projections.queries.costs import costs_of, count_sessions, sum_costs
from lllm.projections.queries.filters import CallFilter, CallSort, Conditions, Filter, SessionSort
from lllm.projections.queries.selection import Selection
from lllm.projections.queries.session_tags import tags_of
from lllm.projections.view import Index, Rows, Table, View, ViewEvent
from lllm.store.call_records import CALL_SORTS
from lllm.testing.writers import event
from tests.support import random_histories
from tests.support.echo import echo
from tests.support.postgres import new_schema, server
from tests.support.search_stores import LogBeside
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow


@pytest.fixture
def url() -> str:
    """A schema of the test's own."""
    return server().url(new_schema())


@pytest.fixture
def store(url: str) -> Iterator[LogStore]:
    """A store in it."""
    with LogStore(PostgresBackend(url)) as opened:
        yield opened


def rows_of(store: LogStore) -> PostgresRows:
    """Where the rows of a store are."""
    rows = store._rows.database
    assert isinstance(rows, PostgresRows)
    return rows


Ask = Callable[[RowsConnection], object]
CONDITIONS = [
    Conditions(model="M*", agent="one"),
    Conditions(least_nanos=5, most_nanos=10**9, least_elapsed=0, most_elapsed=10**12),
    Conditions(wasted=True),
    Conditions(text="task"),
    Conditions(statuses=(400, 599)),
    Conditions(error="m"),
]
FILTERS = [
    Filter(),
    Filter(replays=True),
    Filter(tags={"env": "x"}),
    Filter(tags={"env": "x", "user": "ada"}, state="success"),
    Filter(tags={"env": "nobody"}),
    Filter(tactic="a", partition="acme"),
    Filter(tactic="p::b", tags={"env": "x"}, state="failure"),
    Filter(partition="", after=1, before=2**62),
    Filter(annotations={"score": None, "kind": '"good"'}),
    *(Filter(conditions=one) for one in CONDITIONS),
    Filter(tactic="a", conditions=CONDITIONS[-1]),
]
CALLS = [
    CallFilter(),
    CallFilter(error="m"),
    CallFilter(statuses=(400, 599), of=Filter(state="failure")),
    CallFilter(model="M*", slower=1),
    CallFilter(provider="Scripted", of=Filter(tags={"env": "x"})),
    CallFilter(of=Filter(state="interrupted", partition="acme")),
    CallFilter(of=Filter(state="running", tactic="a")),
]


def questions() -> Iterator[Ask]:
    """Everything that is asked of rows."""
    for wanted in FILTERS:
        yield lambda to, wanted=wanted: session_lists.list_sessions(to, wanted, None, None)
        yield lambda to, wanted=wanted: session_lists.list_sessions(to, wanted, 3, (2**60, "a"))
        yield lambda to, wanted=wanted: list_in_every_order(to, wanted)
        yield lambda to, wanted=wanted: (count_sessions(to, wanted), sum_costs(to, wanted))
        yield lambda to, wanted=wanted: sum_costs_by_tags(to, wanted, ["env"])
        yield lambda to, wanted=wanted: sum_costs_by(to, wanted, [Group("model"), Group("day")])
        yield lambda to, wanted=wanted: sum_costs_by(
            to, wanted, [Group("", "env"), Group("day")], ZoneInfo("Asia/Kathmandu")
        )
    for one in CALLS:
        for sort in CALL_SORTS:
            yield lambda to, one=one, sort=sort: pages(to, one, sort)
        yield lambda to, one=one: call_timings(to, one, 4)
    yield lambda to: age_of(to, 100, None)
    yield lambda to: (
        erasures.last_erasure(to),
        erasures.held_roots(to),
        running_sessions.running(to),
    )
    yield lambda to: [below(to, row) for row in sessions.sessions_after(to, 0, 50)]


def pages(to: RowsConnection, wanted: CallFilter, sort: CallSort) -> list[object]:
    """A list, and what follows its first three."""
    first = list_calls(to, wanted, 3, None, sort)
    rest = list_calls(to, wanted, None, first[-1].cursor, sort) if first else []
    return [first, rest, list_calls(to, wanted, None, None, sort)]


def below(to: RowsConnection, row: sessions.SessionRow) -> object:
    """What is known of one session."""
    family = sessions.family(to, row)
    numbers = [one.number for one in family]
    of_session = list_calls(to, CallFilter(session=row.id), None, None, "cost")
    return (
        family, tags_of(to, family), list(calls_of(to, numbers)), of_session,
        sorted(costs_of(to, numbers)), erasures.holds_on(to, numbers), sessions.ids_of(to, numbers),
        erasures.definitions_used_by(to, numbers), sessions.find_session(to, row.id),
    )  # fmt: skip


def always(_: RowsConnection, selection: Selection, __: int) -> bool:
    """Looks for sessions in the order of an index, where there is one for them."""
    return selection.size > 0


def in_sqlite(store: LogStore) -> Database:
    """The same rows in SQLite."""
    database = Database(":memory:", lock=None, version=1)
    rebuild(Projector(store.log, database, store._rows.views))
    return database


def written(backend: LogBeside) -> LogStore:
    """A store with sessions of all kinds."""
    store = LogStore(backend)
    tactic = echo(store)
    for number in range(8):
        random_histories.write(store, random.Random(number))
        tactic("task", tags={"env": "x", "user": "ada"})
    found = store.list_sessions()
    for session in found[:4]:
        store.annotate(session.session_id, name="score", value=number / 2)
        store.annotate(session.session_id, name="kind", value="good")
    store.hold(found[0].session_id, reason="a lawsuit")
    return store


@pytest.mark.parametrize("few", [True, False])
def test_the_answers_are_those_of_sqlite(monkeypatch: pytest.MonkeyPatch, few: bool) -> None:
    """Every query has the same answer on both engines, by whichever index; and rows that were
    written in many batches are those of a rebuild."""
    if not few:
        for name in ("_FEW_SESSIONS", "_FEW_KINDS", "_FEW_ROWS"):
            monkeypatch.setattr(call_filter_sql, name, 0)
        monkeypatch.setattr(session_lists, "in_order_is_faster", always)
    with written(LogBeside()) as store, closing(in_sqlite(store)) as other:
        store.list_sessions()
        with sessions.reading(rows_of(store)) as here, sessions.reading(other) as there:
            answers = [ask(here) for ask in questions()]
            assert answers[-1]
            assert answers == [ask(there) for ask in questions()]
        assert store.rebuild(check=True).difference is None


# Small tables, or a handful of rows that were chosen before.
SMALL = (
    "call_kinds", "checkpoints", "cost_cells", "costs", "facet_numbers", "holds",
    "quarter_hour_costs", "running", "session_counts", "tag_costs", "tag_names",
)  # fmt: skip


PAIRS = [
    Filter(tags={"env": "x"}, state="success"),
    Filter(tags={"env": "x"}, tactic="p::b"),
    Filter(tags={"env": "x"}, partition="acme"),
    Filter(tags={"env": "x", "user": "ada"}),
    Filter(state="success", tactic="p::b"),
    Filter(state="success", partition="acme"),
    Filter(tactic="p::b", partition="acme"),
]


def list_in_every_order(to: RowsConnection, wanted: Filter) -> object:
    """The first pages of a filter."""
    orders = [(by, falling) for by in get_args(SessionSort)[1:] for falling in (True, False)]
    return session_lists.list_sessions(to, wanted, 3, None), [
        session_lists.sorted_sessions(to, wanted, 5, None, by=by, falling=falling)
        for by, falling in orders
    ]


def check_plan(to: RowsConnection, sql: str, parameters: Sequence[Any]) -> None:
    """No table that grows is read whole, and what is to be read in an order is not sorted."""
    plan = [str(line[0]).strip() for line in to.execute(f"EXPLAIN {sql}", parameters).fetchall()]
    scans = [line.partition("Seq Scan on ")[2].split(" ")[0] for line in plan]
    large = [name for name in scans if name and name.partition("_v")[0] not in SMALL]
    assert not large, (sql, plan)
    if f"LIMIT {session_lists.IN_ORDER}" in sql:
        assert not any("Sort" in line for line in plan), (sql, plan)


@pytest.mark.parametrize("in_order", [True, False])
def test_no_list_reads_a_whole_table(monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    """Every table that grows is read by an index, for any filter, pair and order; and no query
    reads events."""
    if in_order:
        monkeypatch.setattr(session_lists, "in_order_is_faster", always)
    asked: dict[str, Sequence[Any]] = {}
    execute = PostgresConnection.execute

    def noting(self: PostgresConnection, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        asked[sql] = parameters
        return execute(self, sql, parameters)

    with written(LogBeside()) as store:
        store.list_sessions()
        with sessions.reading(rows_of(store)) as connection:
            with monkeypatch.context() as patched:
                patched.setattr(PostgresConnection, "execute", noting)
                for wanted in [*FILTERS, *PAIRS]:
                    list_in_every_order(connection, wanted)
                for wanted in FILTERS[2:7]:
                    count_sessions(connection, wanted)
                    sum_costs(connection, wanted)
                    sum_costs_by_tags(connection, wanted, ["env"])
                    sum_costs_by(connection, wanted, [Group("model")])
                [row] = sessions.sessions_after(connection, 0, 1)
                below(connection, row)
                for one in CALLS:
                    for sort in ("started", "elapsed", "cost"):
                        list_calls(connection, one, 3, None, sort)  # type: ignore[arg-type] # words
            for one in ("seqscan", "sort", "incremental_sort"):  # else it reads a small table whole
                connection.execute(f"SET enable_{one} = off")
            for statement, parameters in asked.items():
                sql = statement.partition(" CURSOR FOR ")[2] or statement
                if not sql.startswith(("FETCH", "SET")):
                    check_plan(connection, sql, parameters)


def test_what_postgres_can_not_hold(store: LogStore) -> None:
    """NUL is escaped, in rows as in what is asked; lone surrogates are, as in SQLite."""
    echo(store)("a\0b", tags={"a\0": "b\0", "c": "\udc80"})
    [found] = store.list_sessions(tags={"a\0": "b\0", "c": "\udc80"})
    assert found.tags == {"a\\x00": "b\\x00", "c": "\\udc80"}
    assert found.task == "a\\x00b"
    assert store.load_session(found.session_id).task == "a\0b"
    assert store.rebuild(check=True).difference is None


def test_another_machine_reads_the_rows(store: LogStore, url: str) -> None:
    """What one process projected is there for the next, which reads no events to list."""
    for number in range(3):
        echo(store)(f"task {number}")
    store.list_sessions()
    with LogStore.open(url) as other:
        assert (
            rows_of(other).query("SELECT min(position) FROM checkpoints")[0][0] == store.log.head()
        )
        assert [one.task for one in other.list_sessions()] == ["task 2", "task 1", "task 0"]
    with LogStore(PostgresBackend(url, read_only=True)) as reader:
        assert len(reader.list_sessions()) == 3
        assert reader.lag == 0
        echo(store)("later")
        store.list_sessions()
        assert len(reader.list_sessions()) == 4


@contextmanager
def held(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock of the rows until it is killed."""
    at = parse_server_url(url)
    script = (
        "import sys; from lllm.projections.engine.postgres.database import PostgresRows\n"
        f"rows = PostgresRows({at.conninfo!r}, {at.schema!r}, 'rows')\n"
        f"rows.process_lock({name!r}).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=HANG)


def test_one_projector_at_a_time(store: LogStore, url: str) -> None:
    """While another process projects, reads have the rows that there are, and do not wait long;
    when it is killed, its lock is free at once."""
    echo(store)("before")
    assert len(store.list_sessions()) == 1
    with held(url, "project.lock") as other:
        echo(store)("meanwhile")
        assert not store._rows.catch_up(timeout=0.05)
        assert store.lag > 0
        other.kill()
        other.wait(HANG)
        store._rows.projector._unawaited_until = 0.0
        assert store._rows.catch_up(timeout=HANG)
    assert len(store.list_sessions()) == 2


def test_a_lock_frees_no_other_of_its_name(url: str) -> None:
    """What a thread closes late does not free what the next thread has taken meanwhile."""
    at = parse_server_url(url)
    with (
        closing(PostgresRows(at.conninfo, at.schema, at.shown)) as rows,
        closing(PostgresRows(at.conninfo, at.schema, at.shown)) as others,
    ):
        first, second = rows.process_lock("a.lock"), rows.process_lock("a.lock")
        assert first.acquire(wait=False)
        assert not others.process_lock("a.lock").acquire(wait=False)
        first.free()
        assert second.acquire(wait=False)
        first.close()
        assert not others.process_lock("a.lock").acquire(wait=False)
        second.close()
        until = (
            time.monotonic() + HANG
        )  # the server frees it when it sees that the connection ended
        while not others.process_lock("a.lock").acquire(wait=False):
            assert time.monotonic() < until


def test_one_thread_writes_at_a_time(store: LogStore) -> None:
    """A write keeps other threads from the connection until it has ended."""
    rows = rows_of(store)
    found: list[object] = []

    def write() -> None:
        with rows.write(timeout=0.3) as connection:
            found.append(connection)

    other = threading.Thread(target=write)
    with rows.write() as mine, rows.snapshot() as reader:
        assert mine is not None
        assert rows.at_write()
        with rows.write(timeout=0.0) as nested:
            assert nested is None  # as in a signal handler
        other.start()
        other.join(HANG)
        assert reader is not mine
    assert found == [None]
    write()
    assert found[1] is mine
    assert not rows.at_write()


def test_many_projectors(url: str) -> None:
    """Stores of several threads append and read all the time: each event counts once."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with LogStore(PostgresBackend(url)) as mine:
                for _ in range(5):
                    echo(mine)("task", tags={"by": str(number)})
                    mine.list_sessions(limit=1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not errors
    with LogStore(PostgresBackend(url)) as store:
        assert len(store.list_sessions()) == 20
        assert len(store.list_sessions(tags={"by": "1"})) == 5
        assert store.rebuild(check=True).difference is None


def kill_connections(url: str) -> None:
    """End all connections to the rows, as a restart of the server does."""
    with psycopg.connect(parse_server_url(url).conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def delete_and_lose(rows: PostgresRows, url: str) -> None:
    """Delete all checkpoints in a transaction whose connection ends before it does."""
    with rows.write() as connection:
        assert connection is not None
        connection.execute("DELETE FROM checkpoints")
        kill_connections(url)


def read_alone(rows: PostgresRows) -> None:
    """Use the connection that writes."""
    with rows.write() as connection:
        assert connection is not None
        connection.execute("SELECT 1")


def test_a_lost_connection(store: LogStore, url: str) -> None:
    """Without its connection a process has no lock, so it writes nothing until it has a new one;
    what it reads next is right."""
    echo(store)("one")
    store.list_sessions()
    rows = rows_of(store)
    projector = store._rows.projector
    with projector.alone(1.0) as mine:
        assert mine
        kill_connections(url)
        with pytest.raises(LogUnavailable, match=r"lost|terminating"):
            read_alone(rows)
    echo(store)("two")
    assert [one.task for one in store.list_sessions()] == ["two", "one"]
    with pytest.raises(LogUnavailable):
        delete_and_lose(rows, url)
    assert len(store.list_sessions()) == 2


def test_no_reader_leaves_a_transaction_open(store: LogStore, url: str) -> None:
    """What is sent without waiting is done: the end of a transaction, and the end of a lock."""
    echo(store)("one")
    store.list_sessions()
    rows = rows_of(store)
    left = (
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock')"
    )
    until = time.monotonic() + HANG
    with psycopg.connect(parse_server_url(url).conninfo, autocommit=True) as other:
        while other.execute(left).fetchall() != [(0, 0)]:
            assert time.monotonic() < until
    with sessions.reading(rows) as connection:
        kill_connections(url)
        with pytest.raises(LogUnavailable):
            connection.execute("SELECT 1")
    assert len(store.list_sessions()) == 1


def test_many_rows_at_once(store: LogStore) -> None:
    """Rows that are copied are added to those that are there, also behind a rollback, and none of
    them stays in a temporary table."""
    store.list_sessions()
    upsert = (
        "INSERT INTO tag_costs_v1 (name, value, partition, calls) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name, value, partition) DO UPDATE"
        " SET calls = coalesce(tag_costs_v1.calls, 0) + excluded.calls"
    )
    staged = (
        "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relname LIKE 'staged%'"
        " AND pg_relation_size(oid) > 0"
    )
    added = [("a\0", str(number), "\t\\N", 2**62) for number in range(200)]
    rows = rows_of(store)
    for fails in (True, False, False):
        with suppress(ZeroDivisionError), rows.write() as connection:
            assert connection is not None
            connection.executemany(upsert, added[:100])
            connection.executemany(upsert, [(*row[:3], -1) for row in added])
            assert connection.execute(staged).fetchall() == []
            if fails:
                raise ZeroDivisionError
    found = rows.query("SELECT name, partition, count(*), sum(calls) FROM tag_costs GROUP BY 1, 2")
    assert found == [("a\\x00", "\t\\N", 200, 2 * (100 * 2**62 - 200))]


def test_rows_are_vacuumed(store: LogStore) -> None:
    """Deleted rows leave the files of the tables, and the others are still there."""
    echo(store)("task")
    store.list_sessions()
    rows = rows_of(store)
    with rows.write() as connection:
        assert connection is not None
        connection.execute(
            "INSERT INTO statements_v1 SELECT 0, n, repeat('x', 100) FROM generate_series(1, 500) n"
        )
        connection.execute("DELETE FROM statements_v1 WHERE session = 0")
    size = "SELECT pg_relation_size('statements_v1')"
    assert rows.query(size)[0][0] > 0
    rows.vacuum()
    assert rows.query(size) == [(0,)]
    assert rows.empty_write_ahead_log()
    assert len(store.list_sessions()) == 1


def test_a_silent_server(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer holds nobody for longer than the deadline, and is asked anew
    on another connection."""
    echo(store)("task")
    store.list_sessions()
    rows = rows_of(store)
    with rows.snapshot() as connection:
        [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
        monkeypatch.setattr("lllm.projections.engine.postgres.connection.ANSWER_SECONDS", 0.5)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LogUnavailable, match=r"0\.5 seconds"):
                connection.execute("SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    assert len(store.list_sessions()) == 1


def write_all(rows: PostgresRows, *added: tuple[int, int, str], silent: bool = False) -> None:
    """Write rows of a table in one pipeline; silent: the server stands still meanwhile."""
    into = "INSERT INTO statements_v1 (session, position, stream) VALUES (?, ?, ?)"
    with rows.write() as connection:
        assert isinstance(connection, PostgresConnection)
        [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
        if silent:
            os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute_all([*((into, [row]) for row in added), ("COMMIT", [()])])
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_batch_that_fails(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is committed, and the next one is written; a silent server is given up."""
    store.list_sessions()
    rows = rows_of(store)
    with pytest.raises(DuplicateRow):
        write_all(rows, (1, 1, "a"), (1, 1, "a"))
    write_all(rows, (2, 1, "a\0"), (2, 2, "b"))
    monkeypatch.setattr("lllm.projections.engine.postgres.connection.ANSWER_SECONDS", 0.5)
    with pytest.raises(LogUnavailable, match=r"0\.5 seconds"):
        write_all(rows, (3, 1, "a"), silent=True)
    found = rows.query("SELECT session, stream FROM statements_v1 WHERE session < 3 ORDER BY 2")
    assert found == [(2, "a\\x00"), (2, "b")]


def test_grants_and_views_on_rows_outlive_a_rebuild(store: LogStore, url: str) -> None:
    """What an administrator builds on the plain names, as for Grafana, stays."""
    echo(store)("task")
    store.list_sessions()
    at = parse_server_url(url)
    with psycopg.connect(at.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {at.schema}_grafana LOGIN".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {at.schema} TO {at.schema}_grafana".encode())
        admin.execute(f"GRANT SELECT ON {at.schema}.sessions TO {at.schema}_grafana".encode())
        admin.execute(
            f"CREATE VIEW {at.schema}.mine AS SELECT task FROM {at.schema}.sessions".encode()
        )
    generation = store._rows.projector.checkpoints()["sessions"].generation
    store.rebuild()
    assert store._rows.projector.checkpoints()["sessions"].generation > generation
    grafana = server().url(at.schema, user=f"{at.schema}_grafana")
    with psycopg.connect(parse_server_url(grafana).conninfo) as connection:
        found = connection.execute(f"SELECT task FROM {at.schema}.sessions".encode()).fetchall()
        assert found == [("task",)]
    assert rows_of(store).query("SELECT task FROM mine") == [("task",)]


def test_a_role_that_may_only_read(store: LogStore, url: str) -> None:
    """It lists by the rows that others keep, and says how far these are behind."""
    echo(store)("task")
    store.list_sessions()
    at = parse_server_url(url)
    with psycopg.connect(at.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {at.schema}_reader LOGIN".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {at.schema} TO {at.schema}_reader".encode())
        admin.execute(
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {at.schema} TO {at.schema}_reader".encode()
        )
    reading = server().url(at.schema, user=f"{at.schema}_reader")
    with LogStore(PostgresBackend(reading)) as reader:
        assert rows_of(reader).read_only
        assert [one.task for one in reader.list_sessions()] == ["task"]
        store.backend.append([event("a", 1)])
        assert len(reader.list_sessions()) == 1
        assert reader.lag > 0


def test_a_rebuild_that_was_killed(store: LogStore, url: str) -> None:
    """Its tables disturb nothing, and the next rebuild removes them."""
    echo(store)("task")
    store.list_sessions()
    script = (
        "import os, sys; from lllm import LogStore\n"
        "from lllm.projections.engine import rebuild\n"
        "rebuild.store_checkpoint = lambda *_: os._exit(9)\n"
        f"LogStore.open({url!r}).rebuild()"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=HANG, check=False).returncode == 9
    rows = rows_of(store)
    names = (
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema"
        " AND tablename LIKE 'sessions_v%' ORDER BY 1"
    )
    assert rows.query(names) == [("sessions_v1",), ("sessions_v2",)]
    assert [one.task for one in store.list_sessions()] == ["task"]
    store.rebuild()
    assert len(rows.query(names)) == 1
    assert [one.task for one in store.list_sessions()] == ["task"]


def test_an_old_table_that_somebody_uses(store: LogStore, caplog: pytest.LogCaptureFixture) -> None:
    """It stays, with a warning, and the rebuild succeeds."""
    echo(store)("task")
    store.list_sessions()
    with rows_of(store).write() as connection:
        assert connection is not None
        connection.execute("CREATE VIEW mine AS SELECT task FROM sessions_v1")
    with caplog.at_level(logging.WARNING, "lllm.store"):
        store.rebuild()
    assert "sessions_v1 stays" in caplog.text
    assert [one.task for one in store.list_sessions()] == ["task"]


ABOUT = "Is it 'right'? 100 % of it \\ is."


class Wrong:
    """A view that gives a column a value of another type, or a number of too many bits."""

    name = "wrong"
    version = 1
    types = ("session.started",)
    tables: Sequence[Table] = (
        Table("wrong", {"key": "INTEGER", "text": "TEXT", "number": "INTEGER", "part": "REAL",
                        "raw": "BLOB"}, key=("key",), indexes=(Index(("text",)),), about=ABOUT),
    )  # fmt: skip

    def __init__(self) -> None:
        self.put: dict[str, Any] = {"text": 1, "number": True, "part": 1, "raw": b"\0"}

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """See View."""
        for one in batch:
            rows.put("wrong", (one.event.position,), **self.put)


@pytest.mark.parametrize(
    ("put", "said"),
    [({"number": 2**63}, "larger"), ({"number": "many"}, "type")],
)
def test_a_view_of_ones_own(url: str, put: dict[str, Any], said: str) -> None:
    """Its rows have their types, and what a column can't hold is an error that says so."""
    view = Wrong()
    views: list[View] = [view]
    with LogStore(PostgresBackend(url), views=views) as store:
        echo(store)("task")
        store.list_sessions()
        found = rows_of(store).query("SELECT text, number, part, raw FROM wrong")
        assert found == [("1", 1, 1.0, b"\0")]
        comment = rows_of(store).query("SELECT obj_description(to_regclass('wrong'))")
        assert comment == [(ABOUT,)]
        view.put = put
        echo(store)("another")
        with pytest.raises(ViewError, match=said):
            store.list_sessions()


@pytest.mark.parametrize("many", [1, 3, 60])
def test_values_of_a_view_of_ones_own(url: str, many: int) -> None:
    """What is put is what is stored, however many rows are written by one statement."""
    view = Wrong()
    views: list[View] = [view]
    put = {"text": "\0\\ '\"\n\u2028", "number": -(2**63), "part": math.inf, "raw": b"\0\\\xff"}
    view.put = put
    with LogStore(PostgresBackend(url), views=views) as store:
        append_together(store, many)
        store.list_sessions()
        asked = "SELECT text, number, part, raw FROM wrong"
        stored = ("\\x00\\ '\"\n\u2028", *[*put.values()][1:])
        assert rows_of(store).query(asked) == [stored] * many
        view.put = dict.fromkeys(put)
        append_together(store, many)
        store.list_sessions()
        assert rows_of(store).query(f"{asked} WHERE raw IS NULL") == [(None,) * 4] * many
        assert store.rebuild().difference is None
        assert rows_of(store).query(asked) == [(None,) * 4] * (2 * many)


def append_together(store: LogStore, many: int) -> None:
    """Some sessions that begin in one append."""
    started = SessionStarted(tactic_path="a::b", name="b", salt=b"s" * 32)
    store.log.append([event(new_id(), 1, encode(started), type_=started.type) for _ in range(many)])


def test_rows_are_looked_up_again_if_others_wrote_them(url: str) -> None:
    """What a process has cached of rows is of no use when another one has brought them on."""
    with LogStore.open(url) as one, LogStore.open(url) as other:
        for store in (one, one, other, one, other, other, one):
            echo(store)("task", tags={"by": "1"})
            store.list_sessions()
        assert len(one.list_sessions(tags={"by": "1"})) == 7
        assert one.rebuild(check=True).difference is None


def test_dates_of_a_session_in_a_row(store: LogStore) -> None:
    """Times are nanoseconds UTC, for programs that read the rows themselves."""
    before = dt.datetime.now(dt.UTC).timestamp()
    echo(store)("task")
    store.list_sessions()
    [(started,)] = rows_of(store).query("SELECT started FROM sessions")
    assert isinstance(started, int)
    assert before - 1 < started / 1e9 < dt.datetime.now(dt.UTC).timestamp() + 1


def test_a_forked_child(store: LogStore) -> None:
    """It connects anew, and the parent's connections go on when it ends."""
    echo(store)("task")
    store.list_sessions()
    child = os.fork()
    if not child:
        code = 1
        try:
            echo(store)("in the child")
            code = len(store.list_sessions())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert len(store.list_sessions()) == 2
