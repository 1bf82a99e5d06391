"""Recordings of Gemini CLI, of our own making, become sessions: each call once, exact money."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend

DAY = dt.datetime(2026, 6, 1, 8, 0, tzinfo=dt.UTC)
MODEL = "gemini-2.5-pro"


class Recording:
    """Writes the records of one session as Gemini CLI does."""

    def __init__(self, path: Path, session: str, start: dt.datetime = DAY, **about: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.now, self.number, self.stem = path, start, 0, session
        when = self.when()
        self.record(
            sessionId=session, projectHash="desk", startTime=when, lastUpdated=when, **about
        )

    def when(self, seconds: float = 0) -> str:
        self.now += dt.timedelta(seconds=seconds)
        return self.now.isoformat().replace("+00:00", "Z")

    def record(self, **value: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(value) + "\n")
        os.utime(self.path, (self.now.timestamp(), self.now.timestamp()))

    def message(self, kind: str, content: object, **more: object) -> dict[str, object]:
        self.number += 1
        message = {
            "id": f"{self.stem}-{self.number}", "timestamp": self.when(1), "type": kind,
            "content": content, **more,
        }  # fmt: skip
        self.record(**message)
        self.record(**{"$set": {"lastUpdated": self.when()}})
        return message

    def ask(self, text: str) -> dict[str, object]:
        return self.message("user", [{"text": text}])

    def say(self, text: str, tokens: dict[str, int] | None, **more: object) -> dict[str, object]:
        return self.message("gemini", text, tokens=tokens, **({"model": MODEL} | more))

    def again(self, message: dict[str, object], **more: object) -> dict[str, object]:
        """Write a message again with what is known of it now, under its id."""
        whole = message | more
        self.record(**whole)
        return whole

    def tool(self, call: str, output: str, status: str = "success", **more: object) -> object:
        response = {"id": call, "name": "read_file", "response": {"output": output}}
        return {
            "id": call, "name": "read_file", "args": {"path": "a.py"}, "status": status,
            "timestamp": self.when(1), "result": [{"functionResponse": response}], **more,
        }  # fmt: skip


def tokens(given: int, output: int, cached: int = 0, thoughts: int = 0) -> dict[str, int]:
    total = given + output + thoughts
    return {
        "input": given, "output": output, "cached": cached, "thoughts": thoughts, "tool": 0,
        "total": total,
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / "desk" / "chats"


def events_in(store: LogStore) -> list[tuple[str, str, int]]:
    return [
        (event.stream, event.type, event.time)
        for event in store.log.read()
        if not event.type.startswith("session.tagged")
    ]


def a_session(folder: Path) -> Recording:
    """A session with thoughts, tools, a cache, a title, an error and a message written again."""
    one = Recording(folder / "session-2026-06-01T08-00-s1.jsonl", "s1")
    one.message("user", [{"text": "<session_context>\nToday is Monday."}])
    one.ask("What is in a.py?")
    thoughts = [{"subject": "Reading", "description": "I look.", "timestamp": one.when()}]
    first = one.say("", None, thoughts=thoughts)
    first = one.again(first, tokens=tokens(10_000, 20, 8_000, 30))  # the tokens come later
    tool = one.tool("c1", "x = 1")
    one.again(first, toolCalls=[tool])  # and the tools after that
    assert isinstance(tool, dict)
    one.message("user", tool["result"])  # the result again, as it is sent
    one.say("It sets x.", tokens(11_000, 5))
    one.record(**{"$set": {"summary": "Reading a file"}})
    return one


def test_a_session_with_tools(store: LogStore, folder: Path) -> None:
    """Cached tokens are among the input, thoughts beside the output; the last record is right."""
    a_session(folder)
    (folder.parent / ".project_root").write_text("/home/ann/desk-top\n")
    found = store.import_transcripts("gemini", folder.parent.parent)
    assert (found.files, found.sessions, found.left_out, found.unknown) == (1, 1, (), {})
    [listed] = store.list_sessions()
    assert (listed.state, listed.task) == ("success", "What is in a.py?")
    assert listed.tags == {
        "source": "gemini-cli", "project": "desk-top", "title": "Reading a file",
    }  # fmt: skip
    assert store.load_session(listed.session_id).delivery == "It sets x."
    second, first = store.list_calls()
    # 1.25 $ and 10 $ a million, 0.125 $ for what is cached
    assert first.cost == (2_000 * 1_250 + 8_000 * 125 + 50 * 10_000) / 10**9
    assert second.cost == (11_000 * 1_250 + 5 * 10_000) / 10**9
    types = [event.type for event in store.events(listed.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "message.added", "llm.requested",
        "llm.responded", "tool.called", "tool.returned", "llm.requested", "llm.responded",
        "session.succeeded", "session.tagged",
    ]  # fmt: skip
    again = store.import_transcripts("gemini", folder)
    assert (again.sessions, again.events, again.known) == (0, 0, 1)
    assert store.rebuild(check=True).difference is None


def test_everything_at_once_and_line_by_line(tmp_path: Path, folder: Path) -> None:
    """An import of a file that grows gives the same events as one of the whole file."""
    one = a_session(folder)
    one.ask("And b.py?")
    asked = one.say("I can't.", tokens(12_000, 5), toolCalls=[one.tool("c2", "no", "error")])
    one.record(**{"$rewindTo": f"s1-{one.number - 1}"})
    one.ask("And c.py?")
    one.say("Nothing.", tokens(11_500, 5))
    kept = [{**asked, "id": "new-1", "type": "user", "tokens": None}]
    one.record(**{"$set": {"messages": kept, "lastUpdated": one.when(1)}})
    one.ask("And now?")
    one.say("Done.", tokens(500, 5))
    lines = one.path.read_bytes().splitlines(keepends=True)
    ends = one.path.stat().st_mtime
    with LogStore(SQLiteBackend(tmp_path / "whole.db")) as whole:
        whole.import_transcripts("gemini", folder)
        expected = events_in(whole)
        types = [event[1] for event in expected]
        assert types.count("llm.responded") == 5  # what was taken back was paid, too
        assert types.count("dialog.opened") == 3  # the first, after the rewind, after the change
        assert (types.count("tool.failed"), types.count("tool.returned")) == (1, 1)
    for cut in (0, 7):
        with LogStore(SQLiteBackend(tmp_path / f"grown{cut}.db")) as grown:
            for number in range(1, len(lines) + 1):
                one.path.write_bytes(b"".join(lines[:number])[: -cut or None])
                assert grown.import_transcripts("gemini", folder).left_out == ()
            one.path.write_bytes(b"".join(lines))
            os.utime(one.path, (ends, ends))
            grown.import_transcripts("gemini", folder)
            assert events_in(grown) == expected


def test_tools_that_come_after_their_call_was_written(store: LogStore, folder: Path) -> None:
    """A tool may wait for the user's approval for longer than a call is held back."""
    one = Recording(folder / "session-x.jsonl", "s1", dt.datetime.now(dt.UTC))
    one.now -= dt.timedelta(hours=1)
    one.ask("Read a.py")
    first = one.say("I read it.", tokens(100, 10))
    store.import_transcripts("gemini", folder)
    assert len(store.list_calls()) == 1
    one.again(first, toolCalls=[one.tool("c1", "x = 1")])
    one.say("It sets x.", tokens(200, 10))
    assert store.import_transcripts("gemini", folder).left_out == ()
    types = [event[1] for event in events_in(store)]
    assert types[-4:] == ["tool.called", "tool.returned", "llm.requested", "llm.responded"]


def test_a_subagent_is_a_child(store: LogStore, folder: Path) -> None:
    one = Recording(folder / "session-x.jsonl", "s1")
    one.ask("Look everywhere")
    below = Recording(folder / "s1" / "a7.jsonl", "a7", one.now, kind="subagent")
    below.ask("look")
    below.say("Seen.", tokens(500, 5))
    tool = one.tool("c1", "Seen.", agentId="a7")
    one.say("", tokens(1_000, 10), toolCalls=[tool])
    store.import_transcripts("gemini", folder)
    [listed] = store.list_sessions()
    [[child]] = store.load_session(listed.session_id).sub_tactic_sessions.values()
    assert (child.tactic_path, child.delivery) == ("gemini-cli::subagent", "Seen.")
    assert (listed.calls, listed.prompt_tokens) == (2, 1_500)
    assert listed.tags["project"] == "desk"


def test_an_old_recording_and_its_copy(store: LogStore, folder: Path) -> None:
    """An old session that is resumed is copied to a file of JSON lines; each call counts once."""
    new = a_session(folder)
    records = [json.loads(line) for line in new.path.read_text().splitlines()]
    messages = {one["id"]: one for one in records if "id" in one}
    old = new.path.with_suffix(".json")
    whole = records[0] | {"messages": list(messages.values()), "summary": "Reading a file"}
    old.write_text(json.dumps(whole, indent=2))
    os.utime(old, (new.now.timestamp(), new.now.timestamp()))
    copied = new.path.read_text()
    new.path.unlink()
    assert store.import_transcripts("gemini", folder).sessions == 1
    [listed] = store.list_sessions()
    assert (listed.calls, listed.tags["title"]) == (2, "Reading a file")
    new.path.write_text(copied)
    new.now += dt.timedelta(days=2)
    new.ask("Again?")
    new.say("Again.", tokens(100, 10))
    found = store.import_transcripts("gemini", folder)
    assert (found.files, found.sessions, found.left_out) == (1, 1, ())
    assert store.export_cost_summary()["calls"] == 3
    copy = folder / "session-copy.jsonl"  # the same messages under another name
    copy.write_text(copied.replace('"sessionId": "s1"', '"sessionId": "s2"'))
    store.import_transcripts("gemini", folder)
    assert store.export_cost_summary()["calls"] == 3


def test_what_is_not_paid_or_not_known(store: LogStore, folder: Path) -> None:
    one = Recording(folder / "session-x.jsonl", "s1")
    one.ask("First")
    one.message("gemini", "Got it.")  # made by Gemini CLI: neither tokens nor a model
    one.say("Zeros stand for unknown tokens.", tokens(0, 0))
    one.say("Of the future.", tokens(10, 10), model="gemini-99")
    one.message("error", "[API Error: quota exceeded]")
    store.import_transcripts("gemini", folder)
    [listed] = store.list_sessions()
    assert (listed.calls, listed.unpriced_calls) == (2, 2)
    assert (listed.state, listed.error) == ("failure", "GeminiError: [API Error: quota exceeded]")


def test_what_is_no_recording(store: LogStore, folder: Path) -> None:
    one = Recording(folder / "session-x.jsonl", "s1")
    first = one.ask("First \ud800 odd")
    one.record(id="x", timestamp="yesterday", type="user", content="When?")
    one.record(id="y", timestamp=one.when(), type="hologram")
    said = one.say("One.", tokens(10, 10))
    one.again(first, content="Something else")  # a foreign id again, with other content
    one.again(said, content="Two.")
    with one.path.open("a") as file:
        file.write('{broken\n{"id":"z","half')
    os.utime(one.path, (one.now.timestamp(), one.now.timestamp()))
    (folder / "session-half.json").write_text('{"sessionId": "s3", "messages": [')
    (folder / "other.jsonl").write_text('{"type":"assistant"}\n')
    (folder.parent / "logs.json").write_text("[]")
    found = store.import_transcripts("gemini", folder.parent)
    assert found.sessions == 1
    assert found.unknown == {"hologram": 1, "assistant": 1}
    assert sorted(why.partition(str(folder))[2] for why in found.left_out) == [
        "/other.jsonl: no line of it is of a session of gemini",
        "/session-half.json, line 1: it is not JSON; it is left out",
        "/session-x.jsonl, line 10: it is not JSON; it is left out",
        "/session-x.jsonl, record 4: its id or its time can't be read; it is left out",
    ]
    [listed] = store.list_sessions()
    assert (listed.calls, store.load_session(listed.session_id).delivery) == (1, "Two.")
