"""Logs of Inspect, of our own making, become sessions: each call once, exact money, scores."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend

DAY = dt.datetime(2026, 6, 1, 8, tzinfo=dt.UTC)
HEADER: dict[str, object] = {
    "version": 2,
    "status": "success",
    "eval": {"eval_id": "E1", "task": "sums", "model": "openai/gpt-4o-mini", "tags": ["nightly"]},
}
USAGE = {
    "input_tokens": 60, "input_tokens_cache_read": 40, "output_tokens": 20,
    "reasoning_tokens": 5, "total_tokens": 120,
}  # fmt: skip
COST = (60 * 150 + 40 * 75 + 20 * 600) / 10**9  # 0.15 $, 0.075 $ and 0.60 $ a million


def at(second: float) -> str:
    return (DAY + dt.timedelta(seconds=second)).isoformat()


def said(name: str, content: object, *calls: str) -> dict[str, object]:
    wishes = [{"id": one, "function": "add", "arguments": {"a": 1}} for one in calls]
    return {"id": name, "role": "assistant", "content": content, "tool_calls": wishes}


def called(
    second: float, refs: list[list[int]], message: dict[str, object], **more: object
) -> dict[str, object]:
    output = {
        "model": "gpt-4o-mini", "usage": USAGE,
        "choices": [{"message": message, "stop_reason": "stop"}],
    }  # fmt: skip
    return {
        "event": "model", "timestamp": at(second), "completed": at(second + 1), "input": [],
        "input_refs": refs, "model": "openai/gpt-4o-mini", "config": {"temperature": 0.5},
        "output": output, **more,
    }  # fmt: skip


def a_sample(name: int = 1, answer: str = "3") -> dict[str, object]:
    """A sample with a tool, an answer from the cache, one that failed, and a conversation aside."""
    pool = [
        {"id": "a", "role": "system", "content": "Add."},
        {"id": "b", "role": "user", "content": "attachment://x1"},
        said("c", [{"type": "reasoning", "reasoning": "I add."}], "t1"),
        {"id": "d", "role": "tool", "content": "3", "tool_call_id": "t1", "function": "add"},
        {"id": "e", "role": "user", "content": "Is it right?"},
    ]
    tool = {
        "event": "tool", "timestamp": at(3), "completed": at(4), "id": "t1", "function": "add",
        "arguments": {"a": 1}, "result": "3",
    }  # fmt: skip
    failed = called(8, [[0, 4]], said("x", ""), error="overloaded") | {"output": {"choices": []}}
    return {
        "id": name, "epoch": 1, "input": "1 + 2?", "target": "3", "uuid": f"u{name}",
        "started_at": at(0), "completed_at": at(12), "output": {"completion": answer},
        "attachments": {"x1": "1 + 2?"}, "events_data": {"messages": pool},
        "scores": {
            "includes": {"value": "C", "explanation": "It has 3."},
            "unscored": {"value": float("nan")},
        },
        "events": [
            {"event": "sample_init", "timestamp": at(0)},
            called(1, [[0, 2]], pool[2], retries=2),
            tool,
            called(5, [[0, 4]], said("f", answer)),
            called(7, [[0, 2]], said("g", "3"), cache="read"),
            failed,
            called(10, [[4, 5]], said("h", "Yes.")),
        ],
    }  # fmt: skip


def write_eval(path: Path, *samples: dict[str, object], header: object = HEADER) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header))
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_1.json", json.dumps(one))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


def test_a_sample_is_a_session_with_scores(store: LogStore, tmp_path: Path) -> None:
    path = write_eval(tmp_path / "one.eval", a_sample(1), a_sample(2))
    found = store.import_transcripts("inspect", path)
    assert (found.sessions, found.left_out) == (2, ())
    listed = store.list_sessions(tags={"sample": "1"})[0]
    assert (listed.tactic_path, listed.task, listed.state) == ("inspect::sums", "1 + 2?", "success")
    assert listed.tags == {
        "source": "inspect", "model": "openai/gpt-4o-mini", "sample": "1", "epoch": "1",
        "eval": "nightly",
    }  # fmt: skip
    assert (listed.calls, listed.failed_calls) == (3, 1)
    costs = [one.cost for one in store.list_calls(session_id=listed.session_id)]
    assert sorted(filter(None, costs)) == [COST] * 3
    types = [event.type for event in store.log.read(stream=listed.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "message.added", "llm.requested",
        "llm.responded", "tool.called", "tool.returned", "llm.requested", "llm.responded",
        "dialog.opened", "message.added",  # from the cache, not paid
        "dialog.opened", "llm.requested", "llm.failed",
        "dialog.opened", "message.added", "llm.requested", "llm.responded", "session.succeeded",
    ]  # fmt: skip
    judged = [
        json.loads(one.data)
        for one in store.events(listed.session_id)
        if one.type == "session.annotated"
    ]
    assert [(one["name"], one.get("value")) for one in judged] == [
        ("includes", "C"), ("unscored", None)
    ]  # fmt: skip
    whole = {**HEADER, "samples": [a_sample(1), a_sample(2)]}
    (tmp_path / "one.json").write_text(json.dumps(whole))
    again = store.import_transcripts("inspect", path, tmp_path / "one.json")
    assert (again.sessions, again.events, again.left_out) == (0, 0, ())
    assert store.rebuild(check=True).difference is None


def test_a_log_that_is_compressed_with_zstandard(store: LogStore, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "z.eval"
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (("header.json", HEADER), ("samples/1_epoch_1.json", a_sample())):
            data = json.dumps(value).encode()
            packer = zstandard.ZstdCompressor().compressobj()
            archive.writestr(name, packer.compress(data) + packer.flush())
            info = archive.filelist[-1]
            info.compress_type, info.file_size, info.CRC = 93, len(data), zlib.crc32(data)
    found = store.import_transcripts("inspect", path)
    assert (found.sessions, found.left_out) == (1, ())


def test_an_evaluation_that_runs_grows(store: LogStore, tmp_path: Path) -> None:
    path = tmp_path / "one.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(HEADER))
        archive.writestr("samples/1_epoch_1.json", json.dumps(a_sample(1)))
    assert store.import_transcripts("inspect", path).sessions == 1
    with zipfile.ZipFile(path, "a") as archive:
        failure = {"error": {"message": "no sandbox", "traceback": "Traceback ..."}}
        archive.writestr("samples/2_epoch_1.json", json.dumps(a_sample(2) | failure))
    found = store.import_transcripts("inspect", path)
    assert (found.sessions, found.known) == (1, 1)
    assert store.list_sessions(state="failure")[0].error == "SampleError: no sandbox"


def test_what_is_no_log(store: LogStore, tmp_path: Path) -> None:
    good = write_eval(tmp_path / "a.eval", a_sample(1), a_sample(2) | {"id": None})
    half = tmp_path / "b.eval"
    half.write_bytes(good.read_bytes()[:900])
    other = tmp_path / "c.eval"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "Hello.")
    (tmp_path / "d.json").write_text('{"results": []}')
    future = write_eval(tmp_path / "e.eval", a_sample(3), header=HEADER | {"version": 3})
    # the same sample with other events, and one whose time is wrong
    changed = a_sample(1) | {"events": []}
    late = a_sample(4) | {"started_at": "yesterday", "events": []}
    twice = write_eval(tmp_path / "f.eval", changed, late, a_sample(5))
    found = store.import_transcripts(
        "inspect", good, half, other, tmp_path / "d.json", future, twice
    )
    assert found.sessions == 3
    reasons = [why.removeprefix(str(tmp_path)) for why in found.left_out]
    assert [why.partition(" of session")[0] for why in reasons] == [
        "/a.eval: samples/None_epoch_1.json can't be read, or has no valid time; it is left out",
        "/b.eval: it is not a log of Inspect, or only a part of one",
        "/c.eval: it is not a log of Inspect, or only a part of one",
        "/d.json: it is not a log of Inspect, or only a part of one",
        "/e.eval: it has version 3 of the format, and lllm knows 2; parts may be missing",
        "/f.eval: it differs from what was imported of it before, from event 2",
        "/f.eval: samples/4_epoch_1.json can't be read, or has no valid time; it is left out",
    ]
    assert sorted(one.tags["sample"] for one in store.list_sessions()) == ["1", "3", "5"]
