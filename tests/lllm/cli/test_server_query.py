"""`lllm query` on a store in PostgreSQL: rows of any statement that reads, and none of others."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest

from lllm import LogStore, StoreError
from lllm.cli import main
from lllm.events.backends.postgres.server_url import parse_server_url
from tests.support.echo import echo
from tests.support.postgres import new_schema, server

pytestmark = pytest.mark.slow

Run = Callable[..., str]
ADVICE = "lllm query --schema"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A store with three sessions."""
    address = server().url(new_schema())
    with LogStore.open(address) as store:
        for task in ("one", "two", 'say "three"'):
            echo(store)(task, tags={"env": "prod"})
        store.list_sessions()
        yield address


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a query prints."""

    def asked(*words: object, code: int = 0) -> str:
        assert main(["query", "--store", url, *map(str, words)]) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return asked


def test_rows(run: Run) -> None:
    """As a table, CSV and JSON; types that SQLite does not have are texts."""
    assert "one" in run("SELECT task FROM sessions ORDER BY number LIMIT 1")
    sql = (
        "SELECT 1 AS a, 1 AS a, NULL AS n, 0.5 AS f, true AS t, '\\x0aff'::bytea AS b,"
        " '2026-01-02 03:04:05+00'::timestamptz AT TIME ZONE 'UTC' AS w, ARRAY[1, 2] AS l,"
        " '{\"k\": \"é\"}'::jsonb AS j, 10::bit(4) AS x, '5 % of it' AS p"
    )
    assert json.loads(run(sql, "--nl")) == {
        "a": 1, "a_2": 1, "n": None, "f": 0.5, "t": True,
        "b": {"$base64": True, "encoded": "Cv8="}, "w": "2026-01-02T03:04:05", "l": "[1, 2]",
        "j": '{"k": "é"}', "x": "1010", "p": "5 % of it",
    }  # fmt: skip
    tasks = "SELECT task FROM sessions ORDER BY number"
    assert [row["task"] for row in json.loads(run(tasks, "--json"))] == [
        "one",
        "two",
        'say "three"',
    ]
    assert [*csv.reader(io.StringIO(run(tasks, "--csv")))][3] == ['say "three"']
    assert run("SELECT 1 WHERE false", code=1)
    assert "Seq Scan" in run("EXPLAIN SELECT * FROM pg_class")
    assert len(run("SELECT generate_series(1, 20000)", "--csv").splitlines()) == 20_001


def test_parameters(run: Run) -> None:
    """-p gives values by name; what looks like one in a string, a cast or a comment is none."""
    sql = (
        'SELECT task, \':no\', $$:no$$, ":yes", 1::text /* :no */ FROM (SELECT *, 1 AS ":yes"'
        " FROM sessions) AS s WHERE task = :task AND number > :least -- :no"
    )
    found = json.loads(run(sql, "--nl", "-p", "task", "one", "-p", "least", 0))
    assert found["task"] == "one"
    hostile = "SELECT task FROM sessions WHERE task = :task"
    assert run(hostile, "-p", "task", "' OR true --", code=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["SELECT :a"], "-p a VALUE"),
        (["SELECT 1", "-p", "a", "1"], "no :a"),
        (["SELECT 1; SELECT 2"], "one statement"),
        (["SELEC"], "SELEC is refused"),
        (["SELECT 1 +"], "PostgreSQL can't run this: syntax error"),
        ([""], "no rows to show"),
        (["/* nothing */"], "no rows to show"),
        (["SELECT * FROM nowhere"], ADVICE),
        (["SELECT taks FROM sessions"], ADVICE),
        (["DELETE FROM checkpoints"], "DELETE is refused"),
        (["WITH gone AS (DELETE FROM checkpoints RETURNING 1) SELECT * FROM gone"], "only reads"),
        (["EXPLAIN ANALYZE DELETE FROM checkpoints"], "only reads"),
        (["COPY (SELECT 1) TO PROGRAM 'cat'"], "COPY is refused"),
        (["SET transaction_read_only = off"], "SET is refused"),
        (["SELECT nextval('blocks')"], "only reads"),
        (["SELECT pg_sleep(20)", "--timeout", "0.3"], "longer than 0.3 seconds"),
        (["--datasette"], "lllm backup"),
    ],
)
def test_a_query_that_is_refused(run: Run, arguments: list[str], says: str) -> None:
    """One clear error, and nothing is changed."""
    assert says in " ".join(run(*arguments, code=2).split())
    assert json.loads(run("SELECT count(*) AS n FROM sessions", "--nl")) == {"n": 3}


def test_the_schema(run: Run) -> None:
    """Tables with purpose, columns, keys and indexes; the tables of one generation are hidden."""
    tables = {table["name"]: table for table in json.loads(run("--schema", "--json"))}
    assert [*tables][:2] == ["events", "payloads"]
    assert not [name for name in tables if "_v1" in name]
    sessions = tables["sessions"]
    assert sessions["rows"] == 3
    assert {"name": "number", "type": "bigint", "key": True} in sessions["columns"]
    assert {"columns": ["id"], "unique": True, "partial": False} in sessions["indexes"]
    assert sessions["about"]
    assert tables["readable_sessions"]["about"].startswith("The sessions at the top")
    assert "sessions · 3 rows" in run("--schema") or "3 rows" in run("--schema")


def test_the_database_is_for_sqlite(url: str) -> None:
    """The error says what to use."""
    with LogStore.open(url) as store, pytest.raises(StoreError, match="is for SQLite"):
        store.database()


def test_views_for_people(url: str) -> None:
    """Times are timestamptz, and what a view shows is what lists show."""
    with LogStore.open(url) as store:
        listed = {one.session_id: one for one in store.list_sessions()}
    with psycopg.connect(parse_server_url(url).conninfo) as connection:
        connection.execute(f'SET search_path = "{parse_server_url(url).schema}"')
        found = connection.execute("SELECT id, task, started_at, calls FROM readable_sessions")
        rows = found.fetchall()
        assert len(rows) == len(listed)
        for session_id, task, started, calls in rows:
            assert (task, calls) == (listed[session_id].task, 1)
            assert abs(started - listed[session_id].timestamp) < dt.timedelta(milliseconds=1)
        for name in ("child_sessions", "calls", "costs", "tag_costs", "annotations", "events"):
            connection.execute(f"SELECT * FROM readable_{name}").fetchall()
        [(text,)] = connection.execute(
            "SELECT data::json ->> 'task' FROM readable_events WHERE type = 'session.started'"
            " ORDER BY position LIMIT 1"
        ).fetchall()
        assert text == "one"


def test_the_sql_of_rows_makes_what_a_store_makes(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lllm schema --postgres --rows`: the same columns, types and views, once events are there."""
    assert main(["schema", "--postgres", "--rows"]) == 0
    script = capsys.readouterr().out
    schema, made = parse_server_url(url).schema, new_schema()
    asked = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name NOT IN ('erasures') ORDER BY 1, 2"
    )
    with psycopg.connect(parse_server_url(url).conninfo) as connection:
        connection.execute(f'CREATE SCHEMA "{made}"; SET search_path = "{made}"')
        for table in ("events", "payloads"):
            connection.execute(f'CREATE TABLE {table} (LIKE "{schema}".{table})')
        connection.execute(script.encode())
        rows = dict.fromkeys(row[0] for row in connection.execute(asked, (made,)).fetchall())
        assert {"sessions", "sessions_v1", "readable_calls", "messages_v1_search"} <= rows.keys()
        stored = [
            (re.sub(r"_v\d+", "_v1", name), *column)
            for name, *column in connection.execute(asked, (schema,)).fetchall()
        ]
        found = connection.execute(asked, (made,)).fetchall()
        assert {*found} - {*stored} <= {row for row in found if row[0] == "views_off"}
        connection.rollback()


def test_views_for_people_outlive_a_rebuild(url: str) -> None:
    """With grants; also if the columns of the rows below have changed since, or of the view."""
    with (
        LogStore.open(url) as store,
        psycopg.connect(parse_server_url(url).conninfo, autocommit=True) as connection,
    ):
        connection.execute(f'SET search_path = "{parse_server_url(url).schema}"')
        connection.execute("GRANT SELECT ON readable_sessions TO PUBLIC")
        store.rebuild()
        asked = "SELECT has_table_privilege('pg_monitor', 'readable_sessions', 'SELECT')"
        assert connection.execute(asked).fetchall() == [(True,)]
        connection.execute("DROP VIEW readable_costs; CREATE VIEW readable_costs AS SELECT 1 AS x")
        connection.execute(
            "DROP VIEW sessions CASCADE; CREATE VIEW sessions AS SELECT 1 AS number, 'a' AS id;"
            "CREATE VIEW readable_sessions AS SELECT id FROM sessions"
        )
        store.rebuild()
        assert connection.execute("SELECT count(tactic) FROM readable_sessions").fetchall() == [
            (3,)
        ]
        connection.execute("SELECT date, cost_usd FROM readable_costs")
        connection.execute("SELECT tactic FROM readable_calls")
