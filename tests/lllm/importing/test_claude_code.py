"""Transcripts of Claude Code, of our own making, become sessions: each call once, exact money."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.cli import main
from lllm.events.errors import StoreError

DAY = dt.datetime(2026, 10, 5, 8, 0, tzinfo=dt.UTC)
MODEL = "claude-sonnet-4-5-20250929"


class Transcript:
    """Writes the lines of one session as Claude Code does."""

    def __init__(self, path: Path, session: str, start: dt.datetime = DAY) -> None:
        self.path = path
        self.session = session
        self.now = start
        self.parent: str | None = None
        self.number = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def line(self, kind: str, seconds: float = 1, **more: object) -> str:
        self.now += dt.timedelta(seconds=seconds)
        self.number += 1
        uuid = str(more.pop("uuid", f"{self.path.stem}-{self.number}"))
        line: dict[str, object] = {
            "type": kind, "uuid": uuid, "parentUuid": self.parent, "sessionId": self.session,
            "timestamp": self.now.isoformat().replace("+00:00", "Z"), "cwd": "/home/ann/desk",
            "version": "2.1.0", "gitBranch": "main", "isSidechain": False, **more,
        }  # fmt: skip
        self.raw(json.dumps(line))
        self.parent = uuid
        return uuid

    def raw(self, text: str, end: str = "\n") -> None:
        with self.path.open("a") as file:
            file.write(text + end)
        os.utime(self.path, (self.now.timestamp(), self.now.timestamp()))

    def ask(self, text: str, **more: object) -> str:
        return self.line("user", message={"role": "user", "content": text}, **more)

    def block(
        self, message: str, block: dict[str, object], usage: dict[str, object] | None = None,
        stop: str | None = None, **more: object,
    ) -> str:  # fmt: skip
        return self.line(
            "assistant",
            requestId=more.pop("requestId", f"req_{message}"),
            message={
                "id": message, "type": "message", "role": "assistant",
                "model": more.pop("model", MODEL), "content": [block], "stop_reason": stop,
                "usage": usage or {"input_tokens": 10, "output_tokens": 1},
            },
            **more,
        )  # fmt: skip

    def say(self, message: str, text: str, output: int = 20, **more: object) -> str:
        usage = {"input_tokens": 10, "output_tokens": output}
        return self.block(message, {"type": "text", "text": text}, usage, "end_turn", **more)

    def result(self, call: str, text: str, *, error: bool = False, **more: object) -> str:
        block = {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": error}
        return self.line("user", message={"role": "user", "content": [block]}, **more)


def use(call: str, name: str = "Bash", **given: object) -> dict[str, object]:
    return {"type": "tool_use", "id": call, "name": name, "input": given}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "projects" / "-home-ann-desk"


def test_a_session_with_tools(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("Which files are here?")
    one.block(
        "m1", {"type": "thinking", "thinking": "I look.", "signature": "x"}, {"output_tokens": 9}
    )
    one.block("m1", {"type": "text", "text": "I look."}, {"output_tokens": 9})
    one.block(
        "m1", use("t1", command="ls"),
        {
            "input_tokens": 2, "output_tokens": 159, "cache_read_input_tokens": 15_030,
            "cache_creation_input_tokens": 8_655,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 8_655},
        },
        "tool_use",
    )  # fmt: skip
    one.result("t1", "a.py")
    one.say("m2", "There is a.py.")
    found = store.import_transcripts("claude-code", folder)
    assert (found.files, found.sessions, found.known, found.left_out) == (1, 1, 0, ())
    [listed] = store.list_sessions()
    assert listed.state == "success"
    assert listed.tags == {"source": "claude-code", "project": "desk", "branch": "main"}
    record = store.load_session_record(listed.session_id)
    assert record.task == "Which files are here?"
    assert record.session.delivery == "There is a.py."
    second, first = store.list_calls(session_id=listed.session_id)
    # 3 $ and 15 $ a million; a cache of an hour is written for twice the price of input
    nanos = 2 * 3_000 + 15_030 * 300 + 8_655 * 6_000 + 159 * 15_000
    assert first.cost == nanos / 10**9
    assert second.cost == (10 * 3_000 + 20 * 15_000) / 10**9
    types = [event.type for event in store.events(listed.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "llm.requested", "llm.responded",
        "tool.called", "tool.returned", "llm.requested", "llm.responded", "session.succeeded",
    ]  # fmt: skip
    assert store.list_sessions()[0].timestamp == DAY + dt.timedelta(seconds=1)
    assert store.rebuild(check=True).difference is None


def events_in(store: LogStore) -> list[tuple[str, str, int]]:
    """All events of all sessions: their stream, type and time."""
    return [
        (event.stream, event.type, event.time)
        for event in store.log.read()
        if not event.type.startswith("session.tagged")
    ]


def a_long_session(folder: Path) -> Path:
    """A session with all that a transcript can have, and the path of its file."""
    one = Transcript(folder / "long.jsonl", "long")
    one.raw('{"type":"file-history-snapshot"}')
    one.ask("<command-name>/clear</command-name>")
    one.ask("Caveat: what follows is of a command", isMeta=True)
    start = one.ask("Mend the test")
    one.block("m1", use("t1", "Read", path="a.py"))
    one.block("m1", use("t2", "Bash", command="false"), {"output_tokens": "30"}, "tool_use")
    one.result("t2", "exit code 1", error=True)
    one.result("t1", "1 file")
    one.say("m2", "It is mended.")
    one.raw('{"type":"ai-title","aiTitle":"A mended test","sessionId":"long"}')
    one.line("system", subtype="compact_boundary", content="Conversation compacted")
    one.ask("What happened so far: ...", isCompactSummary=True)
    one.ask("Go on")
    one.say("m3", "Nothing is left.")
    one.parent = start
    one.ask("Mend it otherwise")
    one.say("m4", "Done otherwise.")
    one.line(
        "assistant", isApiErrorMessage=True, error="overloaded",
        message={
            "id": "x", "role": "assistant", "model": "<synthetic>",
            "content": [{"type": "text", "text": "API Error: 529 overloaded"}],
        },
    )  # fmt: skip
    return one.path


def test_everything_at_once_and_line_by_line(tmp_path: Path, folder: Path) -> None:
    """An import of a file that grows gives the same events as one of the whole file."""
    path = a_long_session(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    ends = path.stat().st_mtime
    with LogStore(SQLiteBackend(tmp_path / "whole.db")) as whole:
        found = whole.import_transcripts("claude-code", folder)
        assert (found.sessions, found.left_out, found.unknown) == (1, (), {})
        expected = events_in(whole)
        [listed] = whole.list_sessions()
        assert (listed.state, listed.task) == ("failure", "Mend the test")
        assert listed.tags["title"] == "A mended test"
        assert len(whole.list_calls()) == 5
        session = whole.load_session(listed.session_id)
        assert session.delivery == "Done otherwise."
        types = [event[1] for event in expected]
        assert types.count("dialog.opened") == 3
        assert (types.count("tool.failed"), types.count("tool.returned")) == (1, 1)
        again = whole.import_transcripts("claude-code", folder)
        assert (again.sessions, again.events, again.known) == (0, 0, 1)
        assert events_in(whole) == expected
    for cut in (0, 7):
        with LogStore(SQLiteBackend(tmp_path / f"grown{cut}.db")) as grown:
            for number in range(1, len(lines) + 1):
                path.write_bytes(b"".join(lines[:number])[: -cut or None])
                os.utime(path, None if cut or number < len(lines) else (ends, ends))
                assert grown.import_transcripts("claude-code", folder).left_out == ()
            path.write_bytes(b"".join(lines))
            os.utime(path, (ends, ends))
            grown.import_transcripts("claude-code", folder)
            assert events_in(grown) == expected
            assert grown.rebuild(check=True).difference is None


def test_subagents_are_children(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("Look everywhere")
    one.block("m1", use("t1", "Task", prompt="look"), {"output_tokens": 5}, "tool_use")
    below = Transcript(folder / "s1" / "subagents" / "agent-a7.jsonl", "s1", one.now)
    below.ask("look", isSidechain=True, agentId="a7")
    below.say("m2", "Seen.", isSidechain=True, agentId="a7")
    one.result("t1", "Seen.", seconds=9, toolUseResult={"agentId": "a7", "status": "completed"})
    one.say("m3", "All seen.")
    store.import_transcripts("claude-code", folder)
    [listed] = store.list_sessions()
    session = store.load_session(listed.session_id)
    [[child]] = session.sub_tactic_sessions.values()
    assert child.tactic_path == "claude-code::subagent"
    assert store.export_cost_summary()["calls"] == 3
    assert store.export_cost_summary(tactic_path="claude-code::subagent")["calls"] == 1


def test_old_subagents_are_within_the_file(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    main = one.ask("Look everywhere")
    one.parent = None
    one.ask("look", isSidechain=True)
    one.say("m2", "Seen.", isSidechain=True)
    one.parent = main
    one.say("m3", "All seen.")
    store.import_transcripts("claude-code", folder)
    [listed] = store.list_sessions()
    [[child]] = store.load_session(listed.session_id).sub_tactic_sessions.values()
    assert child.delivery == "Seen."


def test_copies_are_paid_once(store: LogStore, folder: Path) -> None:
    """A branch begins with a copy of the session; a question aside copies its messages."""
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First")
    one.say("m1", "One.", 1_000)
    copied = one.path.read_text().replace('"sessionId": "s1"', '"sessionId": "s2"')
    one.say("m2", "Two.", 1_000)
    other = Transcript(folder / "s2.jsonl", "s2", one.now)
    other.raw(copied, end="")
    other.parent = "s1-2"
    other.ask("Otherwise")
    other.say("m3", "Three.", 1_000)
    aside = Transcript(folder / "s1" / "subagents" / "agent-b.jsonl", "s1", one.now)
    aside.ask("First", isSidechain=True)
    aside.say("m1", "One.", 1_000, isSidechain=True, requestId="another")
    aside.say("m4", "Aside.", 1_000, isSidechain=True)
    for _ in range(2):
        store.import_transcripts("claude-code", folder)
        assert store.export_cost_summary()["calls"] == 4
    texts = [
        [one.task, one.calls]
        for one in sorted(store.list_sessions(), key=lambda one: one.timestamp)
    ]
    assert sorted(texts) == [["First", 1], ["First", 3]]


def test_a_session_that_is_resumed_after_days(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First")
    one.say("m1", "One.")
    store.import_transcripts("claude-code", folder)
    one.line("user", seconds=3 * 86_400, message={"role": "user", "content": "Second"})
    one.say("m2", "Two.")
    found = store.import_transcripts("claude-code", folder)
    assert (found.sessions, found.known, found.left_out) == (1, 1, ())
    assert [(one.task, one.state) for one in store.list_sessions()] == [
        ("Second", "success"), ("First", "success"),
    ]  # fmt: skip


def test_what_is_no_transcript(store: LogStore, tmp_path: Path, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First \ud800 odd")
    one.raw("{broken")
    one.raw("[1]")
    one.raw('{"type":"from-the-future"}')
    one.raw('{"type":"user","timestamp":"yesterday"}')
    one.say("m1", "One.", model="claude-of-the-future")
    one.raw('{"type":"assistant","half', end="")
    (folder / "other.jsonl").write_text('{"a":1}\n')
    found = store.import_transcripts("claude-code", folder)
    assert found.sessions == 1
    assert found.unknown == {"from-the-future": 1, "user": 1, "None": 1}
    assert [why.partition(str(folder))[2] for why in found.left_out] == [
        "/s1.jsonl, line 2: it is not JSON; it is left out",
        "/s1.jsonl, line 3: it is not a JSON object; it is left out",
        "/other.jsonl: no line of it is of a session of claude-code",
    ]
    assert store.list_sessions()[0].unpriced_calls == 1
    with pytest.raises(StoreError, match="no file or folder"):
        store.import_transcripts("claude-code", tmp_path / "nothing")
    with pytest.raises(ValueError, match="'claude-code'"):
        store.import_transcripts("clippy", folder)


def test_another_content_and_an_erased_session(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First")
    one.say("m1", "One.")
    store.import_transcripts("claude-code", folder)
    before = events_in(store)
    lines = one.path.read_text().splitlines(keepends=True)
    one.path.write_text(lines[0] + lines[0].replace("First", "More") + lines[1])
    os.utime(one.path, (one.now.timestamp(), one.now.timestamp()))
    found = store.import_transcripts("claude-code", folder)
    assert "differs from what was imported of it before" in found.left_out[0]
    assert events_in(store) == before
    [listed] = store.list_sessions()
    store.erase_session(listed.session_id, reason="asked for")
    found = store.import_transcripts("claude-code", folder)
    assert "was erased here" in found.left_out[0]
    assert (found.sessions, found.events) == (0, 0)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First")
    one.say("m1", "One.")
    one.raw("{broken")
    at = str(tmp_path / "all.db")
    assert main(["import", "--store", at, "claude-code", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == "Imported from 1 file: 1 session, 6 events.\n"
    assert "line 3: it is not JSON; it is left out" in err
    assert main(["import", "--store", at, "--follow", "x.jsonl"]) == 2
    assert "--follow is for transcripts, of claude-code, codex, gemini" in capsys.readouterr().err


@pytest.mark.slow
def test_a_growing_transcript_is_followed(folder: Path, tmp_path: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1", dt.datetime.now(dt.UTC))
    one.ask("First")
    at = str(tmp_path / "all.db")
    command = [sys.executable, "-m", "lllm", "import", "--store", at, "--follow", "claude-code"]
    process = subprocess.Popen([*command, str(folder)], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == b"3 events imported\n"
        one.say("m1", "One.")
        one.ask("Second")
        assert process.stderr.readline() == b"6 events imported\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    with LogStore.open(at) as store:
        [listed] = store.list_sessions()
        assert (listed.state, listed.calls) == ("running", 1)


def test_the_greatest_usage_of_a_message_counts(store: LogStore, folder: Path) -> None:
    """Lines of a message are repeated, also later ones with less; a split can lack a part."""
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First", sessionKind="bg")
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 8_000}
    usage = {
        "input_tokens": 2, "output_tokens": 300, "cache_creation_input_tokens": 8_989,
        "cache_creation": split, "server_tool_use": {"web_search_requests": 3},
    }  # fmt: skip
    text = {"type": "text", "text": "One."}
    one.block("m1", text, {"input_tokens": 2, "output_tokens": 9})
    one.block("m1", text | {"text": "Two."}, usage)
    one.block("m1", text | {"text": "Three."}, usage | {"output_tokens": 9}, "end_turn")
    one.line("continued-in", continuedIn="s2")
    found = store.import_transcripts("claude-code", folder)
    assert found.unknown == {}
    [call] = store.list_calls()
    # the rest of the split is written for 5 minutes; 10 $ for a thousand searches
    nanos = 2 * 3_000 + 8_000 * 6_000 + 989 * 3_750 + 300 * 15_000 + 3 * 10_000_000
    assert call.cost == nanos / 10**9


def test_searches_of_the_tool_are_not_calls(store: LogStore, folder: Path) -> None:
    """The tool WebSearch calls a model of its own, which no transcript has."""
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("Search")
    one.block("m1", use("t1", "WebSearch", query="x"), {"output_tokens": 5}, "tool_use")
    one.result("t1", "Found.", toolUseResult={"searchCount": 2, "query": "x"})
    store.import_transcripts("claude-code", folder)
    assert store.export_cost_summary()["calls"] == 1


@pytest.mark.parametrize(
    ("program", "variable", "below"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", "projects"),
        ("codex", "CODEX_HOME", "archived_sessions"),
        ("gemini", "GEMINI_CLI_HOME", ".gemini/tmp"),
        ("opencode", "XDG_DATA_HOME", "opencode"),
    ],
)
def test_the_folders_of_a_program(
    store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    program: str, variable: str, below: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, str(tmp_path / "home"))
    with pytest.raises(StoreError, match="Give the folder to import"):
        store.import_transcripts(program)
    (tmp_path / "home" / below).mkdir(parents=True)
    assert store.import_transcripts(program).files == 0


@pytest.mark.slow
def test_a_line_that_is_too_long_is_left_out(store: LogStore, folder: Path) -> None:
    one = Transcript(folder / "s1.jsonl", "s1")
    one.ask("First")
    with one.path.open("ab") as file:
        for _ in range(65):
            file.write(b"x" * (1 << 20))
        file.write(b"\n")
    one.say("m1", "One.")
    found = store.import_transcripts("claude-code", folder)
    assert [why.partition(", ")[2] for why in found.left_out] == [
        "line 2: it has more than 67,108,864 bytes; it is left out"
    ]
    assert store.list_sessions()[0].calls == 1
