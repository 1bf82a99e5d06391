"""A long streamed answer takes little more memory than it must, and leaves none behind."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lllm import LogStore, SQLiteBackend
from lllm.agents.dialog import message_digest
from lllm.events import codec
from lllm.events.long_texts import LONG, JSONPieces
from lllm.events.model import Content, Part, ToolCall, ToolReturned
from lllm.events.recorder import Recorder
from lllm.invokers.dialects.growing_fields import GrowingText
from lllm.invokers.http.secrets import MARK, Secrets
from tests.support import ROOT

MEGABYTE = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("log", ["sqlite", "jsonl"])
def test_a_streamed_answer_is_held_twice_at_most(log: str) -> None:
    """While an answer of 40 MB comes through a captured client, the process holds its text and what
    is written of it, and nothing once it is written. Elsewhere than on Linux, which tells what is
    resident, what Python allocates is counted."""
    counted = "resident" if sys.platform == "linux" else "traced"
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream_worker", "chat", "40", "100000", "captured",
         counted, log],
        check=True, capture_output=True, timeout=120, cwd=ROOT,
    ).stdout  # fmt: skip
    found = json.loads(told)
    assert 40 * MEGABYTE < found["peak"] < 2 * 40 * MEGABYTE + 8 * MEGABYTE
    assert found["left"] < 6 * MEGABYTE


@pytest.mark.parametrize("wide", ["", "é", "\U0001f600", "\ud83d"])
def test_a_text_grows(wide: str) -> None:
    """A text is what its pieces make, whatever they hold, and also when more comes after it was
    asked for."""
    pieces = [f"{number}{wide}" for number in range(30_000)]
    grown = GrowingText()
    for number, piece in enumerate(pieces):
        grown.append(piece)
        if number == 20_000:
            assert grown.text() == "".join(pieces[: number + 1])
    assert grown.text() == grown.text() == "".join(pieces)


TEXTS = [
    "plain " * 400_000, 'a "quoted"\n\\line é 字 \x01 ' * 80_000, "\U0001f600" * 1_100_000,
    "x" * ((1 << 20) + 1),
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=["plain", "escapes", "wide", "just"])
def test_long_texts_are_written_as_others_are(text: str) -> None:
    """What is written in windows is what one encoding of all of it makes, and so is its digest."""
    content = Content(
        "assistant", (Part("text", "short"), Part("text", text), Part("reasoning", text)),
        (ToolCall("c", "t", json.dumps({"a": text})),), "x",
    )  # fmt: skip
    event = ToolReturned(tool=1, message=2, content=content, value=None, elapsed=1)
    plain = codec._encoder.encode(event)
    assert codec.encode(event) == plain
    assert codec.encode(content) == codec._encoder.encode(content)
    assert message_digest(content) == hashlib.sha256(codec._encoder.encode(content)).digest()


def test_a_lone_surrogate_in_a_long_text_is_written() -> None:
    """As its escape, like in a short one."""
    content = Content.of("assistant", "x" * (1 << 20) + "\ud800")
    assert json.loads(codec.encode(content))["parts"][0]["text"].endswith("x\ud800")
    assert message_digest(content) == hashlib.sha256(codec.encode(content)).digest()


def test_a_long_payload_is_text_in_its_row(tmp_path: Path) -> None:
    """SQLite has a payload of some megabytes as text; others of its append stand beside it, and
    a second try to write them is known."""
    path = tmp_path / "runs.db"
    backend = SQLiteBackend(path)
    with LogStore(backend) as store, store.session("s", task="é" * 700_000) as recorder:
        assert isinstance(recorder, Recorder)
        recorder.deliver("y" * 2_000_000)
    rows = (
        sqlite3.connect(path)
        .execute("SELECT typeof(data), json_valid(data), type FROM events ORDER BY position")
        .fetchall()
    )
    assert [row[:2] for row in rows] == [("text", 1)] * len(rows)
    with LogStore(SQLiteBackend(path)) as store:
        (summary,) = store.list_sessions()
        session = store.load_session(summary.session_id)
        assert session.task == "é" * 700_000
        assert session.delivery == "y" * 2_000_000


def test_secrets_are_cut_in_values() -> None:
    """Secrets are cut from texts and names of JSON; a value without them is itself."""
    secrets = Secrets("a-secret-key")
    value = {"a": ["x", {"b": None, "c": 1.5}]}
    assert secrets.cut_values(value) is value
    assert secrets.cut_values({"a-secret-key": ["say a-secret-key", 1]}) == {
        MARK: [f"say {MARK}", 1]
    }


def test_a_long_text_stands_beside_the_json_of_the_rest() -> None:
    """A part without a text stays as it is."""
    long = "x" * (LONG + 1)
    content = Content("user", (Part("text", long), Part("image", None, data={"a": 1})))
    pieces = JSONPieces(content, content, msgspec.json.Encoder())
    assert pieces._texts == [long]
    assert b"".join(pieces) == msgspec.json.encode(content)
