"""The questions of the guide to analytics, on data whose answers are known; and its tables."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from lllm import LogStore
from lllm.analytics.columns import TABLES
from lllm.events.backends.memory import MemoryBackend
from tests.support import ROOT, analyst_data

GUIDE = (ROOT / "docs" / "analytics.md").read_text()
TYPES = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMPTZ (ns)",
    "nanoseconds": "BIGINT, ns",
    "dollars": "DECIMAL(38,9), dollars",
}
HOUR = dt.datetime(2026, 10, 31, 23, tzinfo=dt.UTC)
CENT = Decimal("0.01")
BY_MODEL = {"gpt-4o": 2.0, "gpt-4o-mini": 7.2, "local": 20.0}

ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "Rate limits by hour": [(HOUR, "openai", 2)],
    "Tokens by version of the prompt": [("clerk", 1, 3, 1_000, 100), ("clerk", 2, 3, 3_000, 300)],
    "The 95th percentile by model": [
        ("local", 1, 20.0), ("gpt-4o-mini", 4, pytest.approx(8.1)), ("gpt-4o", 1, 2.0)
    ],
    "Cost by tag and month": [
        ("2026-10", "blue", CENT, 0),
        ("2026-11", "blue", 50 * CENT, 0),
        ("2026-11", "red", 10 * CENT, 1),
    ],
    "How often a model is asked again": [
        ("gpt-4o-mini", 3, 6, 0.5), ("gpt-4o", 0, 2, 0.0), ("local", 0, 1, 0.0)
    ],
    "The share of the cache": [("gpt-4o-mini", 0.15), ("gpt-4o", 0.0), ("local", 0.0)],
    "The tools that fail most": [("lookup", 3, 2, 0.667), ("add", 1, 0, 0.0)],
    "How long until the first token": [("gpt-4o-mini", 1, 0.4), ("gpt-4o", 1, 0.9)],
    "Wasted money": [("2026-11", "shop::answer", 3 * CENT, 10 * CENT)],
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The tables of the guide, as it names them."""
    folder = tmp_path_factory.mktemp("analytics")
    with LogStore(MemoryBackend()) as store:
        analyst_data.fill(store.backend)
        store.export_parquet(folder / "tables")
    connection = duckdb.connect()
    [(_, views)] = re.findall(r"(name the tables:)\n\n```sql\n(.*?)```", GUIDE, re.DOTALL)
    connection.execute(views.replace("'tables/", f"'{folder}/tables/"))
    return connection


def questions() -> dict[str, str]:
    """The SQL of each question, by its heading."""
    found = re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?```sql\n(.*?)```", GUIDE, re.M | re.S)
    return dict(found)


def test_there_are_ten_questions() -> None:
    """And one of them is checked by itself, because it names sessions."""
    assert len(questions()) == 10
    assert questions().keys() - ANSWERS.keys() == {"The slowest calls"}


@pytest.mark.parametrize("question", ANSWERS)
def test_a_question_of_the_guide(tables: duckdb.DuckDBPyConnection, question: str) -> None:
    """It has the answer that is known."""
    assert tables.execute(questions()[question]).fetchall() == ANSWERS[question]


def test_the_slowest_calls(tables: duckdb.DuckDBPyConnection) -> None:
    """They name the session and the attempt."""
    found = tables.execute(questions()["The slowest calls"]).fetchall()
    assert [row[:2] for row in found[:3]] == [
        ("local", 20.0),
        ("gpt-4o-mini", 9.0),
        ("gpt-4o-mini", 3.0),
    ]
    assert found[1][3] == 3


def test_the_month_is_a_column(tables: duckdb.DuckDBPyConnection) -> None:
    """Of the top-level session, also for the child that goes on in November."""
    sql = "SELECT month, count(*) FROM attempts GROUP BY ALL ORDER BY ALL"
    assert tables.execute(sql).fetchall() == [("2026-10", 4), ("2026-11", 5)]


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_of_the_guide(table: str, tables: duckdb.DuckDBPyConnection) -> None:
    """It has every column in order, with its type and whether it can be NULL."""
    text = GUIDE.partition("## Tables")[2].partition(f"### {table}\n")[2].partition("### ")[0]
    told = re.findall(r"^\| `(\w+)` \| (.+?) \| (yes|no) \| (.+) \|$", text, re.MULTILINE)
    columns = TABLES[table]  # type: ignore[index]
    assert told == [
        (one.name, TYPES[one.kind], "yes" if one.nullable else "no", one.about) for one in columns
    ]
    described = tables.execute(f"DESCRIBE {table}").fetchall()
    found = {name: kind for name, kind, *_ in described}
    for one in columns:
        kind = TYPES[one.kind].split(", ns")[0].split(", dollars")[0]
        expected = {"TIMESTAMPTZ (ns)": "TIMESTAMP"}.get(kind, kind)
        assert found[one.name].startswith(expected), one.name


def test_an_unknown_price_is_null(tables: duckdb.DuckDBPyConnection) -> None:
    """In each table; a session without any call cost nothing."""
    sql = "SELECT count(*) FROM {} WHERE {} IS NULL"
    for table, column, count in (
        ("attempts", "cost", 4), ("costs", "cost", 1), ("sessions", "total_cost", 1)
    ):  # fmt: skip
        assert tables.execute(sql.format(table, column)).fetchone() == (count,)
    assert Path("tables").exists() is False
