"""Rollouts of Codex, of our own making, become sessions: each call once, exact money."""

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
from lllm.importing.transcripts.call_owners import CallOwners

DAY = dt.datetime(2026, 10, 5, 8, 0, tzinfo=dt.UTC)
MODEL = "gpt-5"


class Rollout:
    """Writes the lines of one thread as Codex does."""

    def __init__(self, folder: Path, thread: str, start: dt.datetime = DAY, **meta: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rollout-{thread}.jsonl"
        self.now = start
        self.total = [0, 0, 0, 0]
        self.line(
            "session_meta", id=thread, timestamp=start.isoformat(), cwd="/home/ann/desk",
            cli_version="0.150.0", originator="codex_cli", model_provider="openai",
            git={"branch": "main"}, **meta,
        )  # fmt: skip

    def line(self, kind: str, **payload: object) -> None:
        self.now += dt.timedelta(seconds=1)
        when = self.now.isoformat().replace("+00:00", "Z")
        self.raw(json.dumps({"timestamp": when, "type": kind, "payload": payload}))

    def raw(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text + "\n")
        os.utime(self.path, (self.now.timestamp(), self.now.timestamp()))

    def turn(self, turn: str | None, text: str) -> None:
        ids = {} if turn is None else {"turn_id": turn}
        self.line("turn_context", cwd="/home/ann/desk", model=MODEL, **ids)
        self.item("message", role="user", content=[{"type": "input_text", "text": text}])
        self.line("event_msg", type="user_message", message=text)

    def item(self, kind: str, **more: object) -> None:
        self.line("response_item", type=kind, **more)

    def said(self, text: str) -> None:
        self.item("message", role="assistant", content=[{"type": "output_text", "text": text}])
        self.line("event_msg", type="agent_message", message=text)

    def used(self, given: int, cached: int, output: int, reasoning: int = 0) -> None:
        last = [given, cached, output, reasoning]
        self.total = [one + other for one, other in zip(self.total, last, strict=True)]
        self.count(last)

    def count(self, last: list[int]) -> None:
        names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
        info = {
            "total_token_usage": dict(zip(names, self.total, strict=True)),
            "last_token_usage": dict(zip(names, last, strict=True)),
        }
        self.line("event_msg", type="token_count", info=info, rate_limits={})

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def copy(self, lines: list[str]) -> None:
        """The lines of another thread, with new times."""
        for line in lines:
            value = json.loads(line)
            self.line(value["type"], **value["payload"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def test_a_thread_with_tools(store: LogStore, folder: Path) -> None:
    one = Rollout(folder, "t1")
    context = [{"type": "input_text", "text": "<environment_context>\n</environment_context>"}]
    one.item("message", role="user", content=context)
    one.turn("u1", "Which files are here?")
    one.item("reasoning", summary=[{"type": "summary_text", "text": "I look."}])
    one.item("function_call", name="shell", arguments='{"command":"ls"}', call_id="c1")
    one.used(28_739, 28_032, 11)
    one.count([28_739, 28_032, 11, 0])  # the same again, with new limits
    one.item("function_call_output", call_id="c1", output="a.py")
    one.item("custom_tool_call", name="apply_patch", input="*** Begin", call_id="c2")
    one.item("custom_tool_call_output", call_id="c2", output={"content": "no", "success": False})
    one.used(29_000, 0, 100, 40)
    one.line("event_msg", type="token_count", info=None, rate_limits={})
    one.said("There is a.py.")
    one.used(30_000, 0, 10)
    one.line("event_msg", type="thread_name_updated", thread_name="The files")
    found = store.import_transcripts("codex", folder)
    assert (found.sessions, found.left_out, found.unknown) == (1, (), {})
    [listed] = store.list_sessions()
    assert (listed.state, listed.task) == ("success", "Which files are here?")
    assert listed.tags == {
        "source": "codex", "project": "desk", "branch": "main", "title": "The files"
    }  # fmt: skip
    assert store.load_session(listed.session_id).delivery == "There is a.py."
    costs = [round(one.cost * 10**9) for one in reversed(store.list_calls()) if one.cost]
    # 1.25 $, 0.125 $ and 10 $ a million
    assert costs == [
        (28_739 - 28_032) * 1_250 + 28_032 * 125 + 11 * 10_000,
        29_000 * 1_250 + 100 * 10_000,
        30_000 * 1_250 + 10 * 10_000,
    ]
    types = [event.type for event in store.log.read(stream=listed.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "message.added",
        "llm.requested", "llm.responded", "tool.called", "tool.returned",
        "llm.requested", "llm.responded", "tool.called", "tool.failed",
        "llm.requested", "llm.responded", "session.succeeded",
    ]  # fmt: skip
    again = store.import_transcripts("codex", folder)
    assert (again.sessions, again.events, again.known) == (0, 0, 1)
    assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize("turn", ["turns", "sums", "times"])
def test_a_fork_pays_for_its_own_calls(store: LogStore, folder: Path, turn: str) -> None:
    """A copy is told by the turns of the other thread, by its sums, or by the times in the ids."""
    made = [f"{int((DAY.timestamp() + n * 10) * 1_000):012x}" for n in range(9)]
    turns = [f"{one[:8]}-{one[8:]}-7000-8000-000000000000" for one in made]
    ids = iter([None] * 9 if turn == "sums" else turns)
    one = Rollout(folder, "t1", DAY - dt.timedelta(seconds=1))
    one.turn(next(ids), "First")
    one.said("One.")
    one.used(1_000, 0, 10)
    copied = one.lines()
    one.turn(next(ids), "Second")
    one.said("Two.")
    one.used(2_000, 0, 10)
    fork = Rollout(folder, "t2", DAY + dt.timedelta(seconds=15), forked_from_id="t1")
    fork.copy(copied)
    fork.total = [1_000, 0, 10, 0]
    fork.turn(turns[5] if turn != "sums" else None, "Otherwise")
    fork.said("Three.")
    fork.used(3_000, 0, 10)
    if turn == "times":
        one.path.unlink()
    for _ in range(2):
        store.import_transcripts("codex", folder)
        own = 1 if turn == "times" else 3
        assert store.export_cost_summary()["calls"] == own
    newest = store.list_sessions()[0]
    assert (newest.calls, newest.prompt_tokens) == (1, 3_000)


def test_a_subagent_is_a_child(store: LogStore, folder: Path) -> None:
    one = Rollout(folder, "t1")
    one.turn("u1", "Look everywhere")
    one.said("I ask others.")
    one.used(1_000, 0, 10)
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "t1", "depth": 1}}}
    below = Rollout(folder, "t2", one.now, source=source)
    below.copy(one.lines()[:1])
    below.turn("u2", "look")
    below.said("Seen.")
    below.used(500, 0, 5)
    store.import_transcripts("codex", folder)
    [listed] = store.list_sessions()
    [[child]] = store.load_session(listed.session_id).sub_tactic_sessions.values()
    assert (child.tactic_path, child.delivery) == ("codex::subagent", "Seen.")
    assert (listed.calls, listed.prompt_tokens) == (2, 1_500)


def test_an_error_a_compaction_and_a_call_without_usage(store: LogStore, folder: Path) -> None:
    one = Rollout(folder, "t1")
    one.turn("u1", "First")
    one.said("Nobody says what this used.")
    one.line("compacted", message="So far: ...")
    one.turn("u2", "Second")
    one.line("event_msg", type="error", message="stream disconnected")
    one.line("from_the_future", type="x")
    store.import_transcripts("codex", folder)
    [listed] = store.list_sessions()
    assert (listed.state, listed.error) == ("failure", "CodexError: stream disconnected")
    assert (listed.calls, listed.failed_calls, listed.unpriced_calls) == (1, 1, 1)
    (folder / "other.jsonl").write_text('{"type":"user"}\n')
    found = store.import_transcripts("codex", folder)
    assert found.unknown == {"from_the_future": 1, "user": 1}
    assert found.left_out == (f"{folder / 'other.jsonl'}: no line of it is of a session of codex",)


def test_damage_to_the_log_does_not_stop_an_import(store: LogStore, folder: Path) -> None:
    """An answer that can't be read any more is left out where the owners of calls are found."""
    damaged = Rollout(folder, "t-1")
    damaged.turn("u-1", "Hello?")
    damaged.said("Hello.")
    damaged.used(100, 0, 10)
    store.import_transcripts("codex", folder)
    path = str(store.backend.path)  # type: ignore[attr-defined]
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET data = '{}' WHERE type = 'llm.responded'")
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()
    other = Rollout(folder, "t-2")
    other.turn("u-2", "And you?")
    other.said("Well.")
    other.used(100, 0, 10)
    with LogStore(SQLiteBackend(path)) as again:
        owners = CallOwners(again.log)
        assert not owners.is_elsewhere("resp-1", "s-1")
        assert again.import_transcripts("codex", other.path).sessions == 1


def test_sums_of_a_turn_are_not_added_up(store: LogStore, folder: Path) -> None:
    """Lines and events have sums of the turn and of the thread; some have nothing else."""
    one = Rollout(folder, "t1")
    one.turn("u1", "Work")
    sums = (34_823, 70_313, 117_411, 172_933, 234_696)
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    before = 0
    for number, total in enumerate(sums):
        one.item("function_call", name="shell", arguments="{}", call_id=f"c{number}")
        info = {
            "total_token_usage": dict(zip(names, (total, 0, 10 * number, 0), strict=True)),
            "turn_token_usage": {"input_tokens": total},
        }
        if number % 2:
            info["last_token_usage"] = dict(zip(names, (total - before, 0, 10, 0), strict=True))
        one.line("event_msg", type="token_count", info=info)
        one.item("function_call_output", call_id=f"c{number}", output="done")
        before = total
    store.import_transcripts("codex", folder)
    [listed] = store.list_sessions()
    assert (listed.calls, listed.prompt_tokens, listed.completion_tokens) == (5, 234_696, 40)


def test_a_subagent_that_begins_with_the_whole_history(store: LogStore, folder: Path) -> None:
    """A thread that another one began repeats all that was before it, with new times."""
    one = Rollout(folder, "t1")
    for number in range(5):
        one.turn(f"u{number}", "Work")
        one.said("Done.")
        one.used(1_000, 0, 10)
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "t1", "depth": 1}}}
    below = Rollout(folder, "t2", one.now, source=source)
    below.copy(one.lines())
    below.total = list(one.total)
    below.turn("u9", "look")
    below.said("Seen.")
    below.used(500, 0, 5)
    store.import_transcripts("codex", folder)
    [listed] = store.list_sessions()
    assert (listed.calls, listed.prompt_tokens) == (6, 5_500)


def test_a_thread_that_was_archived_is_known(store: LogStore, folder: Path) -> None:
    one = Rollout(folder / "sessions", "t1", base_instructions={"text": "x" * 27_000})
    one.turn("u1", "Work")
    one.said("Done.")
    one.used(1_000, 0, 10)
    assert store.import_transcripts("codex", folder).sessions == 1
    (folder / "archived_sessions").mkdir()
    one.path.rename(folder / "archived_sessions" / one.path.name)
    found = store.import_transcripts("codex", folder)
    assert (found.sessions, found.events, found.known) == (0, 0, 1)


def test_a_record_says_what_a_call_used(store: LogStore, folder: Path) -> None:
    """Later versions write a line for each call, with its id and the sums of turn and thread."""
    one = Rollout(folder, "t1")
    one.turn("u1", "Work")
    sums = (34_823, 70_313, 117_411, 172_933, 234_696)
    before, long = 0, "x" * 40
    for number, total in enumerate(sums):
        one.item("function_call", name="shell", arguments="{}", call_id=f"c{number}")
        used = {"input_tokens": total - before, "cached_input_tokens": 0, "output_tokens": 10}
        summed = {"input_tokens": total, "output_tokens": 10 * number}
        one.line(
            "token_usage_record", thread_id="t1", turn_id="u1", usage=used,
            response_id=f"resp_{long}{number}", turn_token_usage=summed, thread_token_usage=summed,
        )  # fmt: skip
        one.item("function_call_output", call_id=f"c{number}", output="done")
        one.used(total - before, 0, 10)
        before = total
    fork = Rollout(folder, "t2", one.now)  # a copy that nothing but the ids of the answers tells
    fork.copy(one.lines()[1:])
    found = store.import_transcripts("codex", folder)
    assert found.unknown == {}
    assert store.export_cost_summary()["calls"] == 5
    assert sum(call.prompt_tokens for call in store.list_calls()) == 234_696
