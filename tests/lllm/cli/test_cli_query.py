"""`lllm query`: questions in SQL, on real stores of both kinds."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlite_utils

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli.open_store import open_store
from lllm.projections.view import Table
from tests.events.backends.sqlite.test_read_only import everything
from tests.lllm.cli.test_cli import Run, on_terminal, run
from tests.support.echo import echo

__all__ = ["run"]


@pytest.fixture(scope="module", params=["runs.db", "runs"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three sessions: an SQLite file, a folder."""
    path = tmp_path_factory.mktemp("query") / str(request.param)
    filled(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An SQLite store of a test's own."""
    filled(tmp_path / "runs.db")
    return tmp_path / "runs.db"


def filled(path: Path) -> None:
    with LogStore.open(str(path), partition="") as store:
        for task in ("one", "two\x1b[31m\nred", 'say "three"'):
            echo(store)(task, tags={"n": task[:1]})


TASKS = "SELECT task FROM sessions ORDER BY number"
ENDLESS = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT "


def test_a_table(path: Path, run: Run) -> None:
    """Rows are a table, harmless to a terminal, with nothing cut."""
    out = run("query", "--store", path, "SELECT number, task, NULL AS none FROM sessions")
    lines = out.splitlines()
    assert lines[0].split() == ["number", "task", "none"]
    assert "two" in lines[2]
    assert lines[2].endswith("NULL")
    assert "\x1b" not in out
    assert len(lines) == 4


def test_rows_are_up_to_date(file: Path, run: Run) -> None:
    """What was written a moment ago, whose rows nobody has made yet, is found."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE checkpoints SET version = 0")  # as an older lllm left it
    connection.close()
    assert json.loads(run("query", "--store", file, "--json", TASKS))[0] == {"task": "one"}


def test_json(path: Path, run: Run) -> None:
    """--json is one array and --nl an object on each line; whatever SQLite holds is in them, as
    sqlite-utils reads it."""
    sql = "SELECT 1 AS a, 2 AS a, 1.5 AS b, x'00ff' AS c, 9e999 AS d, NULL AS e, 'é\"' AS f"
    (row,) = json.loads(run("query", "--store", path, "--json", sql))
    assert row == {
        "a": 1, "a_2": 2, "b": 1.5, "c": {"$base64": True, "encoded": "AP8="},
        "d": float("inf"), "e": None, "f": 'é"',
    }  # fmt: skip
    lines = run("query", "--store", path, "--nl", TASKS).splitlines()
    assert [json.loads(line)["task"][:3] for line in lines] == ["one", "two", "say"]
    array = json.loads(run("query", "--store", path, "--json", TASKS))
    assert array == [json.loads(line) for line in lines]


def test_csv(path: Path, run: Run) -> None:
    """--csv has a heading and whatever quoting it needs."""
    out = run("query", "--store", path, "--csv", "SELECT task, x'0aff' b, NULL n FROM sessions")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["task", "b", "n"]
    assert rows[3] == ['say "three"', "0aff", ""]


def test_parameters(path: Path, run: Run) -> None:
    """-p gives values by name, which never become SQL; a whole number is one."""
    sql = "SELECT task FROM sessions WHERE task = :task OR number = :number LIMIT :most"
    found = run("query", "--store", path, "--nl", sql, "-p", "task", "one", "-p", "number", -1,
                "-p", "most", 5)  # fmt: skip
    assert json.loads(found) == {"task": "one"}
    hostile = "' OR 1=1 --"
    run("query", "--store", path, sql, "-p", "task", hostile, "-p", "number", "x", "-p", "most", 1,
        code=1)  # fmt: skip
    kinds = run("query", "--store", path, "--csv", "SELECT typeof(:a), typeof(:b), typeof(:c)",
                "-p", "a", "7", "-p", "b", "07", "-p", "c", "9" * 30)  # fmt: skip
    assert kinds.splitlines()[1] == "integer,text,text"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["SELECT :a"], "-p a VALUE"),
        (["SELECT ?"], ":name"),
        (["SELECT 1", "-p", "a", "1"], "no :a"),
        (["SELECT :a", "-p", "a", "1", "-p", "a", "2"], "two values"),
        (["SELECT 1; SELECT 2"], "one statement"),
        (["SELEC"], "syntax error"),
        ([""], "no rows to show"),
        (["/* nothing */"], "no rows to show"),
        (["SELECT * FROM nowhere"], "lllm query --schema"),
        (["SELECT taks FROM sessions"], "lllm query --schema"),
        (["SELECT 1", "--json", "--csv"], "Give only one"),
        (["--schema", "--csv"], "--nl"),
        (["SELECT 1", "--schema"], "--schema"),
        ([], "--schema"),
        (["SELECT 1", "--timeout", "-1"], "--timeout"),
        (["DELETE FROM checkpoints"], "is refused"),
        (["ATTACH 'x.db' AS x"], "ATTACH is refused"),
        (["PRAGMA journal_mode = DELETE"], "PRAGMA journal_mode is refused"),
        (["SELECT load_extension('x')"], "load_extension() is refused"),
        (["VACUUM INTO 'x.db'"], "is refused"),
    ],
)
def test_what_can_not_be_asked(path: Path, run: Run, arguments: list[str], says: str) -> None:
    """What can't be is one line that says why, with exit code 2, and nothing on stdout."""
    assert run("query", "--store", path, *arguments, code=2) == ""
    assert says in run.err
    assert run.err.count("\n") == 1
    assert "\x1b" not in run.err


def test_no_rows(path: Path, run: Run) -> None:
    """Where no row is found the exit code is 1, as with other lists; CSV has its heading."""
    sql = "SELECT task FROM sessions WHERE 0"
    assert run("query", "--store", path, sql, code=1) == ""
    assert "no rows" in run.err
    assert run("query", "--store", path, "--csv", sql, code=1) == "task\n"
    assert run("query", "--store", path, "--json", sql, code=1) == "[]\n"
    assert run("query", "--store", path, "--nl", sql, code=1) == ""


def test_a_time_limit(path: Path, run: Run) -> None:
    """A query that takes too long is stopped, before its first row and between two of them, and the
    error says how to give it longer."""
    began = time.monotonic()
    run("query", "--store", path, "--timeout", 0.2, f"{ENDLESS} count(*) FROM a", code=2)
    assert "longer than 0.2 seconds" in run.err
    assert "--timeout" in run.err
    out = run("query", "--store", path, "--timeout", 0.2, "--csv",
              f"{ENDLESS} x FROM a WHERE x < 3 OR x < 0", code=2)  # fmt: skip
    assert out.startswith("x\n1\n")
    assert "longer than 0.2 seconds" in run.err
    assert time.monotonic() - began < 60
    assert run("query", "--store", path, "--timeout", 0, "SELECT 1")


def test_the_limit_is_of_the_database_alone(file: Path) -> None:
    """What the reader of a row does with it takes none of the database's time."""
    from lllm.store.query_timeout import TimedRows

    with open_store(str(file)) as store:
        rows = TimedRows(store.database(), f"{ENDLESS} x FROM a LIMIT 5000", seconds=0.3)
        next(rows)
        time.sleep(0.4)
        assert len(list(rows)) == 4999
        rows.close()


@pytest.mark.parametrize("kind", ["--nl", "--csv"])
def test_rows_are_printed_as_they_come(file: Path, kind: str) -> None:
    """--nl and --csv print rows of a query that never ends, and end quietly with their reader."""
    if kind:
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
             "query", "--store", str(file), kind, "--timeout", "0", f"{ENDLESS} x FROM a"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == ""
        child.stderr.close()
        assert child.wait(60) == 0


def test_a_table_says_what_it_leaves_out(path: Path, run: Run) -> None:
    """A table has a thousand rows, and says so where there are more; --limit is for any output."""
    thousand = (
        "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a LIMIT {}) SELECT x FROM a"
    )
    assert len(run("query", "--store", path, thousand.format(1000)).splitlines()) == 1001
    assert run.err == ""
    assert len(run("query", "--store", path, thousand.format(1001)).splitlines()) == 1001
    assert "the first 1,000" in run.err
    assert "--limit" in run.err
    assert (
        len(run("query", "--store", path, "--limit", 0, thousand.format(1001)).splitlines()) == 1002
    )
    assert run.err == ""
    assert len(run("query", "--store", path, "--nl", thousand.format(1001)).splitlines()) == 1001
    assert run("query", "--store", path, "--csv", "--limit", 2, thousand.format(9)) == "x\n1\n2\n"


def test_a_narrow_terminal(file: Path) -> None:
    """On a terminal without the room for a table each value has a line, and none is cut."""
    long = "x" * 150
    out = on_terminal(60, "query", "--store", file, f"SELECT task, '{long}' AS l FROM sessions")
    assert out.replace("\n", "").count("x" * 150) == 3
    assert "row 2" in out
    assert "\x1b[31m" not in out
    assert "two\\x1b[31m" in out


@pytest.mark.parametrize("kind", ["--csv", "--nl"])
def test_output_for_programs_on_a_terminal(
    file: Path, run: Run, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Texts that could harm a terminal are escapes there, in CSV and JSON too."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = run("query", "--store", file, kind, "SELECT char(27) || '[31m' AS red FROM sessions")
    assert "\x1b" not in out
    assert "1b[31m" in out


def test_sql_from_standard_input(file: Path) -> None:
    """`-` reads the SQL from standard input."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from lllm.cli import main; sys.exit(main())",
         "query", "--store", str(file), "--csv", "-"],
        input=TASKS + ";\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("task\none\n")


def test_the_schema_explains_every_table(path: Path, run: Run) -> None:
    """--schema has every table that lllm makes, with its columns, its rows and what it is for, and
    none of the tables behind them; each can be asked."""
    out = run("query", "--store", path, "--schema")
    found = {
        one["name"]: one for one in json.loads(run("query", "--store", path, "--schema", "--json"))
    }
    with open_store(str(path)) as store:
        tables: list[Table] = [t for view in store._rows.views for t in view.tables]
    assert {table.name for table in tables} <= found.keys()
    assert not [name for name in found if "_v" in name and name[-1].isdigit()]
    for table in tables:
        shown = found[table.name]
        assert table.about.endswith(".")
        assert shown["about"] == table.about
        assert shown["about"] in out
        assert {one["name"]: one["type"] for one in shown["columns"]} == dict(table.columns)
        assert {one["name"] for one in shown["columns"] if one["key"]} == {*table.key}
        assert {tuple(one["columns"]) for one in shown["indexes"]} == {
            index.columns for index in table.indexes if not index.postgres
        }
        counted = json.loads(
            run("query", "--store", path, "--nl", f"SELECT count(*) n FROM {table.name}")
        )
        assert counted["n"] == shown["rows"]
    assert found["sessions"]["rows"] == 3
    assert ("events" in found) == (path.suffix == ".db")
    assert len(run("query", "--store", path, "--schema", "--nl").splitlines()) == len(found)


def test_tables_of_ones_own(file: Path, run: Run) -> None:
    """Tables that a user put beside lllm's are listed and can be asked."""
    with sqlite3.connect(file) as connection:
        connection.execute('CREATE TABLE "my ""notes" (a PRIMARY KEY, b)')
    connection.close()
    found = json.loads(run("query", "--store", file, "--schema", "--json"))
    assert found[-1]["name"] == 'my "notes'
    assert found[-1]["rows"] == 0
    assert 'my "notes' in run("query", "--store", file, "--schema")


def test_a_store_that_can_not_be_written(path: Path, run: Run) -> None:
    """A query writes nothing: neither into the store nor, where it may only be read, beside it."""
    opens = SQLiteBackend if path.suffix else LocalFileBackend
    before = everything(path.parent)
    with LogStore(opens(path, read_only=True)) as reader:
        assert reader.database()["sessions"].count == 3
    assert everything(path.parent) == before
    run("query", "--store", path, TASKS)
    after = everything(path.parent)
    assert {name: one[2] for name, one in after.items() if name in before} == {
        name: one[2] for name, one in before.items()
    }


def test_a_damaged_store(file: Path, run: Run) -> None:
    """Where pages are damaged, what can be read is printed, and the error says what to do."""
    with sqlite3.connect(file) as connection:
        root, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master"
            " WHERE name GLOB 'sessions_v*' AND type = 'table'"
        ).fetchone()
    connection.close()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xff" * size)
    rows = run("query", "--store", file, "--csv", "SELECT type FROM events WHERE seq = 1 LIMIT 1")
    assert rows.startswith("type\n")
    out = run("query", "--store", file, "--csv", TASKS)
    assert out.startswith("task\none\n")
    assert "lllm rebuild" in run.err
    assert run("query", "--store", file, "--schema")


def test_a_damaged_first_page(file: Path, run: Run) -> None:
    """Where SQLite can't open the file, the events of its pages can be asked all the same."""
    with file.open("r+b") as opened:
        opened.write(b"\xff" * 4096)
    out = run("query", "--store", file, "--csv", "SELECT count(*) AS n FROM events")
    assert int(out.splitlines()[1]) > 3
    assert run("query", "--store", file, "--csv", TASKS).startswith("task\n")


def test_rows_go_into_sqlite_utils(file: Path, run: Run) -> None:
    """What --nl prints, bytes too, goes into a database of one's own by sqlite-utils."""
    out = run("query", "--store", file, "--nl", "SELECT position, digest FROM events")
    mine = sqlite_utils.Database(memory=True)
    done = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "insert", str(file.with_name("mine.db")), "e", "-",
         "--nl"],
        input=out, text=True, check=True, env=os.environ,
    )  # fmt: skip
    mine.close()
    assert done.returncode == 0
    ours = sqlite_utils.Database(file.with_name("mine.db"))
    assert len(next(ours["e"].rows)["digest"]) == 32
    ours.close()


def test_the_store_is_not_left_open(file: Path, run: Run) -> None:
    """However a query ends, the store is closed behind it, with nothing left beside the file."""
    queries: Iterator[tuple[str, int]] = iter(
        [("SELECT 1", 0), ("SELECT * FROM events", 0), ("DROP VIEW sessions", 2), ("SELEC", 2)]
    )
    for sql, code in queries:
        run("query", "--store", file, "--limit", 1, sql, code=code)
        assert not file.with_name("runs.db-wal").exists()
