"""The tables for analysts say what lists say, for any history and on each kind of store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest

from benchmarks.generate import fill
from lllm import LocalFileBackend, LogStore, PostgresBackend, SQLiteBackend
from lllm.analytics.columns import TABLES
from lllm.events.backends.memory import MemoryBackend
from lllm.events.model import Content, MessageAdded
from tests.support import analyst_data, random_histories
from tests.support.postgres import new_schema, server

NANO = Decimal(10) ** -9


def rows(store: LogStore, table: str, **filters: object) -> list[dict[str, object]]:
    """The rows of a table."""
    found: list[dict[str, object]] = store.to_arrow(table, **filters).to_pylist()  # type: ignore[arg-type]
    return found


def check(store: LogStore) -> None:
    """Check that tables and lists are the same."""
    calls = {(one.session_id, one.request): one for one in store.list_calls()}
    attempts = rows(store, "attempts")
    assert len(attempts) == len(calls)
    for row in attempts:
        call = calls[row["session_id"], row["request"]]  # type: ignore[index]
        for name in (
            "tactic_path", "agent", "call", "step", "attempt", "provider", "asked", "model",
            "state", "status", "error_type", "error_code", "prompt_tokens", "completion_tokens",
            "cached_prompt_tokens", "reasoning_tokens", "price", "price_reason", "wasted",
        ):  # fmt: skip
            assert row[name] == getattr(call, name), name
        assert (row["cost"] is None) == (call.cost is None)
        assert float(row["cost"] or 0) == pytest.approx(call.cost or 0)  # type: ignore[arg-type]
        assert (row["elapsed_ns"] is None) == (call.elapsed is None)
    listed = {one.session_id: one for one in store.list_sessions()}
    sessions = rows(store, "sessions")
    for row in sessions:
        if row["parent_id"] is None:
            one = listed.pop(str(row["session_id"]))
            assert (row["state"], row["task"]) == (one.state, one.task)
            assert row["total_attempts"] == one.calls + one.failed_calls
            assert float(row["total_cost"] or 0) == pytest.approx(one.total_cost)  # type: ignore[arg-type]
    assert not listed
    tags: dict[object, dict[object, object]] = {}
    for row in rows(store, "tags"):
        tags.setdefault(row["session_id"], {})[row["name"]] = row["value"]
    for row in attempts:
        assert tags.get(row["session_id"], {}) == (
            calls[row["session_id"], row["request"]].tags  # type: ignore[index]
        )
    costs = sum(((row["cost"] or 0) for row in rows(store, "costs")), Decimal(0))  # type: ignore[misc]
    summary = store.export_cost_summary()
    assert float(costs) == pytest.approx(summary["total_cost_usd"])


@pytest.mark.parametrize("seed", range(12))
def test_tables_are_what_lists_say(seed: int) -> None:
    """After any history; also those of sessions in each other, and of answers that are rejected."""
    with LogStore(MemoryBackend()) as store:
        random_histories.write(store, random.Random(seed))
        check(store)


@pytest.mark.parametrize("page", [3, 400])
def test_many_sessions_at_once(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions lie between each other in the log; some reach beyond the page that is read."""
    monkeypatch.setattr("lllm.analytics.store_tables.PAGE", page)
    with LogStore(MemoryBackend()) as store:
        made = fill(store.backend, 60)
        check(store)
        assert len(rows(store, "sessions")) == made.sessions
        messages = rows(store, "messages")
        types = [event.type for event in store.backend.read()]
        with_text = ("message.added", "llm.responded", "tool.returned", "tool.failed")
        assert len(messages) == sum(types.count(name) for name in with_text)
        tools = rows(store, "tools")
        assert len(tools) == types.count("tool.called")
        # The same sessions, when few of those that lie between each other are wanted.
        one = store.list_sessions(limit=1)[0]
        tag = (
            {"run_id": one.tags["run_id"]}
            if "run_id" in one.tags
            else dict([*one.tags.items()][-1:])
        )
        ids = {row["session_id"] for row in rows(store, "sessions", tags=tag)}
        assert one.session_id in ids
        for table, whole in (("messages", messages), ("tools", tools)):
            some = [row for row in whole if row["session_id"] in ids]
            assert sorted(map(repr, rows(store, table, tags=tag))) == sorted(map(repr, some))


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[LogStore]:
    """A store of a kind."""
    backend = {
        "sqlite": lambda: SQLiteBackend(folder / "a.db"),
        "jsonl": lambda: LocalFileBackend(folder / "a"),
        "memory": MemoryBackend,
        "postgres": lambda: PostgresBackend(server().url(new_schema())),
    }[kind]()
    with LogStore(backend) as store:
        yield store


@pytest.mark.parametrize("kind", ["sqlite", "jsonl", "postgres"])
def test_each_kind_of_store(kind: str, tmp_path: Path) -> None:
    """The tables of the same sessions are the same, and so are the files."""
    with LogStore(MemoryBackend()) as first, opened(kind, tmp_path) as store:
        analyst_data.fill(first.backend)
        fill(first.backend, 5)
        store.import_sessions(first.backend)
        for table in TABLES:
            tables = [one.to_arrow(table) for one in (first, store)]
            assert sorted(map(repr, tables[0].to_pylist())) == sorted(
                map(repr, tables[1].to_pylist())
            )
        made = store.export_parquet(tmp_path / "tables")
        assert made.rows == {table: len(first.to_arrow(table)) for table in TABLES}
        analyst_data.tag(store.backend, store.list_sessions(limit=1)[0].session_id, "a", "b")
        assert len(store.export_parquet(tmp_path / "tables").written) < len(made.written)


def test_any_text_fits() -> None:
    """A lone surrogate, which UTF-8 can't hold, is escaped; a NUL is a character like others."""
    with LogStore(MemoryBackend()) as store:
        one = analyst_data.Stream(store.backend, "a", analyst_data.at("2026-10-02"), {}, None)
        for number, text in enumerate(("\ud800 x", "a\0b", "😀")):
            content = Content.of("user", text)
            one.add(1, MessageAdded(message=number, dialog=1, why="user", content=content))
        assert [row["text"] for row in rows(store, "messages")] == ["\\ud800 x", "a\0b", "😀"]


def test_a_frame_keeps_the_types() -> None:
    """Integers and dollars, also where some are missing."""
    with LogStore(MemoryBackend()) as store:
        analyst_data.fill(store.backend)
        frame = store.to_pandas("attempts", state="success", after="2026-11-01")
    assert str(frame["status"].dtype) == "int64[pyarrow]"
    assert str(frame["cost"].dtype) == "decimal128(38, 9)[pyarrow]"
    assert str(frame["started"].dtype) == "timestamp[ns, tz=UTC][pyarrow]"
    assert frame["cost"].sum() == Decimal("0.1")
    assert frame["cost"].isna().sum() == 1


def test_a_cost_is_exact() -> None:
    """To the nano-dollar, however large."""
    from lllm.analytics.arrow_batches import batch_of

    schema = pyarrow.schema([("cost", pyarrow.decimal128(38, 9))])
    values = [1, -1, None, 10**15, -(10**15), 0, 2**63 - 1]
    batch = batch_of(schema, [(one,) for one in values])
    assert batch.column(0).to_pylist() == [None if v is None else v * NANO for v in values]
    batch.validate(full=True)
