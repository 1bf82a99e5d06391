"""Logs of the tool llm, of our own making, become sessions: each call once, exact money."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend

# The tables and columns that are read, as llm's migrations make them: of 0.32, and older.
SCHEMA = """
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT);
CREATE TABLE turns (
    id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT,
    model TEXT, resolved_model TEXT, options_json TEXT, input_tokens INTEGER,
    output_tokens INTEGER, token_details TEXT, duration_ms INTEGER, datetime_utc TEXT,
    response_json TEXT
);
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT);
CREATE TABLE parts (
    id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, text TEXT, payload TEXT
);
CREATE TABLE fragments (id INTEGER PRIMARY KEY, content TEXT);
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (
    id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, options_json TEXT, response TEXT,
    response_json TEXT, conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT,
    input_tokens INTEGER, output_tokens INTEGER, token_details TEXT
);
CREATE TABLE tool_calls (
    id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, arguments TEXT, tool_call_id TEXT
);
CREATE TABLE tool_results (
    id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, output TEXT, tool_call_id TEXT,
    exception TEXT
);
"""
DAY = dt.datetime(2026, 6, 1, 8, tzinfo=dt.UTC)
CACHED = {"prompt_tokens_details": {"cached_tokens": 40}}
COST = (60 * 150 + 40 * 75 + 20 * 600) / 10**9  # 0.15 $, 0.075 $ and 0.60 $ a million


class Log:
    """Writes calls as llm does."""

    def __init__(self, path: Path, start: dt.datetime = DAY) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.number, self.now = path, 0, start
        self.run(SCHEMA)

    def run(self, script: str, *rows: tuple[str, dict[str, object]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(script)
            for table, row in rows:
                names = ", ".join(row)
                marks = ", ".join("?" for _ in row)
                sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"
                connection.execute(sql, tuple(row.values()))

    def when(self) -> str:
        self.now += dt.timedelta(seconds=1)
        return self.now.replace(tzinfo=None).isoformat()

    def message(self, parent: str | None, role: str, *parts: dict[str, object]) -> str:
        self.number += 1
        name = f"b2:{self.number:04}"
        rows: list[tuple[str, dict[str, object]]] = [
            ("messages", {"hash": name, "parent_hash": parent, "role": role})
        ]
        for position, part in enumerate(parts):
            payload = {key: one for key, one in part.items() if key not in ("type", "text")}
            rows.append(("parts", {
                "message_hash": name, "position": position, "type": part["type"],
                "text": part.get("text"), "payload": json.dumps(payload) if payload else None,
            }))  # fmt: skip
        self.run("", *rows)
        return name

    def turn(self, thread: str, parent: str, *parts: dict[str, object], **more: object) -> str:
        tip = self.message(parent, "assistant", *parts)
        row: dict[str, object] = {
            "id": f"turn{self.number:04}", "thread_id": thread, "parent_message_hash": parent,
            "tip_message_hash": tip, "model": "mini", "input_tokens": 100, "output_tokens": 20,
            "token_details": json.dumps(CACHED), "duration_ms": 500,
            "datetime_utc": f"{self.when()}+00:00",
            "response_json": json.dumps({"model": "gpt-4o-mini", "id": f"chatcmpl-{tip}"}),
        }  # fmt: skip
        self.run("", ("turns", row | more))
        return tip


def said(text: str, kind: str = "text") -> dict[str, object]:
    return {"type": kind, "text": text}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


def test_conversations_with_tools_fragments_and_branches(store: LogStore, tmp_path: Path) -> None:
    log = Log(tmp_path / "llm" / "logs.db", dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    log.run("INSERT INTO fragments VALUES (1, 'A novel.')")
    log.run("INSERT INTO threads VALUES ('t1', 'Sum up', NULL, NULL)")
    system = log.message(None, "system", said("Be short."))
    text = [{"fragment": 1}, {"literal": " Sum up."}]
    asked = log.message(system, "user", {"type": "text", "text_ref": text})
    call = {"type": "tool_call", "name": "count", "arguments": {}, "tool_call_id": "c1"}
    first = log.turn("t1", asked, said("I count.", "reasoning"), call)
    result = {"type": "tool_result", "name": "count", "output": "2", "tool_call_id": "c1"}
    second = log.turn("t1", log.message(first, "tool", result), said("Two words."))
    path = log.path.parent
    assert store.import_transcripts("llm", path).sessions == 1
    [listed] = store.list_sessions()
    assert (listed.task, listed.tags) == ("A novel. Sum up.", {"source": "llm"})
    assert [one.cost for one in store.list_calls()] == [COST, COST]
    assert listed.state == "running"
    # the conversation goes on, goes on from the middle, and is forked into another one
    log.turn("t1", log.message(second, "user", said("Why?")), said("So."))
    log.turn("t1", log.message(first, "tool", result), said("2."))
    log.turn("t2", log.message(second, "user", said("And?")), said("No."), input_tokens=None)
    found = store.import_transcripts("llm", path)
    assert (found.sessions, found.known, found.left_out) == (1, 1, ())
    assert store.export_cost_summary()["calls"] == 5
    assert store.export_cost_summary()["unpriced_calls"] == 1
    again = store.import_transcripts("llm", path)
    assert (again.sessions, again.events) == (0, 0)
    assert store.rebuild(check=True).difference is None


def test_the_log_of_an_older_version(store: LogStore, tmp_path: Path) -> None:
    log = Log(tmp_path / "logs.db")
    for table in ("turns", "threads", "messages", "parts", "fragments"):
        log.run(f"DROP TABLE {table}")
    row: dict[str, object] = {
        "model": "gpt-4o-mini", "conversation_id": "v1", "duration_ms": 500,
        "input_tokens": 100, "output_tokens": 20, "token_details": json.dumps(CACHED),
    }  # fmt: skip
    call = {"response_id": "r1", "name": "count", "arguments": "{}", "tool_call_id": "c1"}
    wrong = {
        "response_id": "r2", "name": "count", "output": "", "tool_call_id": "c1",
        "exception": "ValueError: no",
    }  # fmt: skip
    log.run(
        "",
        ("conversations", {"id": "v1", "name": "Count", "model": "gpt-4o-mini"}),
        ("responses", row | {
            "id": "r1", "prompt": "Count", "system": "Be short.", "response": "",
            "datetime_utc": log.when(),
        }),
        ("tool_calls", call),
        ("responses", row | {"id": "r2", "response": "I can't.", "datetime_utc": log.when()}),
        ("tool_results", wrong),
        ("responses", row | {"id": "r3", "response": "?", "datetime_utc": "yesterday"}),
    )  # fmt: skip
    found = store.import_transcripts("llm", log.path)
    assert found.sessions == 1
    assert found.left_out == (f"{log.path}: call r3 has no valid time; it is left out",)
    [listed] = store.list_sessions()
    types = [event.type for event in store.events(listed.session_id)]
    assert types[-5:] == [
        "tool.called", "tool.failed", "llm.requested", "llm.responded", "session.succeeded",
    ]  # fmt: skip
    assert [one.cost for one in store.list_calls()] == [COST, COST]


def test_what_is_no_log(store: LogStore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes (x)")
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    log = Log(tmp_path / "logs.db")
    half = tmp_path / "half.db"
    half.write_bytes(log.path.read_bytes()[: os.path.getsize(log.path) // 2])
    found = store.import_transcripts(
        "llm", tmp_path / "other.db", tmp_path / "text.db", half, log.path
    )
    assert found.sessions == 0
    assert [why.partition(": ")[2] for why in found.left_out] == [
        "it is not a log of llm: it has no table turns or responses",
        "the database can't be read: file is not a database",
        "the database can't be read: database disk image is malformed",
    ]


def test_a_conversation_that_can_not_go_on_stops_no_other(store: LogStore, tmp_path: Path) -> None:
    """What was added to a conversation after its session had ended, within a day, can't be told."""
    log = Log(tmp_path / "logs.db")
    first = log.turn("t1", log.message(None, "user", said("One?")), said("One."))
    store.import_transcripts("llm", log.path)
    assert store.list_sessions()[0].state == "success"
    log.turn("t1", log.message(first, "user", said("Two?")), said("Two."))
    log.turn("t2", log.message(None, "user", said("Three?")), said("Three."))
    found = store.import_transcripts("llm", log.path)
    [why] = found.left_out
    assert "differs from what was imported of it before" in why
    assert sorted(one.task or "" for one in store.list_sessions()) == ["One?", "Three?"]
