"""Sessions of opencode, in databases and files of our own making: each call once, exact money."""

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

DAY = int(dt.datetime(2026, 6, 1, 8, 0, tzinfo=dt.UTC).timestamp() * 1_000)
# The columns that the importer reads, as opencode's migrations make them.
SCHEMA = """
CREATE TABLE session (
    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, parent_id TEXT, slug TEXT NOT NULL,
    directory TEXT NOT NULL, title TEXT NOT NULL, version TEXT NOT NULL,
    time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL
);
CREATE TABLE message (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, time_created INTEGER NOT NULL,
    time_updated INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE TABLE part (
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL, session_id TEXT NOT NULL,
    time_created INTEGER NOT NULL, time_updated INTEGER NOT NULL, data TEXT NOT NULL
);
"""
SONNET = ("anthropic", "claude-sonnet-4-5")
GPT = ("openai", "gpt-5")


def tokens(given: int, output: int, **more: int) -> dict[str, object]:
    found: dict[str, object] = {
        "input": given, "output": output, "reasoning": more.get("reasoning", 0),
        "cache": {"read": more.get("read", 0), "write": more.get("write", 0)},
    }  # fmt: skip
    return found | ({"total": more["total"]} if "total" in more else {})


class Opencode:
    """Writes sessions as opencode does."""

    def __init__(self, folder: Path, name: str = "opencode.db", start: int = DAY) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.now, self.number = folder / name, start, 0
        self.run(SCHEMA)

    def run(self, script: str = "", *rows: tuple[str, tuple[object, ...]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(script)
            for sql, values in rows:
                connection.execute(sql, values)
        os.utime(self.path, (self.now / 1_000, self.now / 1_000))

    def tick(self, seconds: float = 1) -> int:
        self.now += int(seconds * 1_000)
        return self.now

    def session(self, name: str, title: str = "New session - x", parent: str | None = None) -> None:
        sql = "INSERT INTO session VALUES (?, 'p', ?, 's', '/home/ann/desk', ?, '1.2', ?, ?)"
        self.run("", (sql, (name, parent, title, self.tick(), self.now)))

    def message(
        self, session: str, info: dict[str, object], parts: list[dict[str, object]], name: str = ""
    ) -> str:
        self.number += 1
        name = name or f"msg_{self.path.stem}_{self.number:04}"
        times = info["time"]
        assert isinstance(times, dict)
        created = times.get("created")
        rows: list[tuple[str, tuple[object, ...]]] = [(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?)",
            (name, session, created if isinstance(created, int) else 0, self.now, json.dumps(info)),
        )]  # fmt: skip
        for at, part in enumerate(parts):
            values = (f"prt_{name}_{at:04}", name, session, self.now, self.now, json.dumps(part))
            rows.append(("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", values))
        self.run("", *rows)
        return name

    def ask(self, session: str, text: str, **part: object) -> str:
        info = {"role": "user", "time": {"created": self.tick()}, "agent": "build"}
        return self.message(session, info, [{"type": "text", "text": text, **part}])

    def said(
        self, model: tuple[str, str], used: dict[str, object], **more: object
    ) -> dict[str, object]:
        created = self.tick()
        return {
            "role": "assistant", "time": {"created": created, "completed": self.tick(5)},
            "providerID": model[0], "modelID": model[1], "tokens": used, "cost": 0.01, **more,
        }  # fmt: skip

    def step(
        self, used: dict[str, object] | None, *parts: dict[str, object]
    ) -> list[dict[str, object]]:
        finish = [] if used is None else [{"type": "step-finish", "tokens": used, "cost": 0.01}]
        return [{"type": "step-start"}, *parts, *finish]

    def tool(self, call: str, status: str = "completed", **state: object) -> dict[str, object]:
        times = {"start": self.now + 1_000, "end": self.now + 2_000}
        return {
            "type": "tool", "callID": call, "tool": "bash",
            "state": {
                "status": status, "input": {"command": "ls"}, "output": "a.py", "error": "no",
                "time": times, **state,
            },
        }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "opencode"


def events_in(store: LogStore) -> list[tuple[str, str, int]]:
    return [
        (event.stream, event.type, event.time)
        for event in store.log.read()
        if not event.type.startswith("session.tagged")
    ]


def text_part(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def a_session(one: Opencode) -> None:
    """A session with two steps in one message, a cache, tools and reasoning."""
    one.session("ses_1", "The files")
    one.ask("ses_1", "Which files are here?")
    first = tokens(100, 20, read=8_000, write=1_000)
    second = tokens(50, 10, read=9_000)
    thought = {"type": "reasoning", "text": "I look."}
    one.message("ses_1", one.said(SONNET, second), [
        *one.step(first, thought, one.tool("c1"), one.tool("c2", "error")),
        *one.step(second, text_part("There is a.py.")),
    ])  # fmt: skip


def test_a_session_with_tools(store: LogStore, folder: Path) -> None:
    """A message can have several calls; its own tokens are those of the last one alone."""
    a_session(Opencode(folder))
    found = store.import_transcripts("opencode", folder)
    assert (found.files, found.sessions, found.left_out, found.unknown) == (1, 1, (), {})
    [listed] = store.list_sessions()
    assert (listed.state, listed.task) == ("success", "Which files are here?")
    assert listed.tags == {"source": "opencode", "project": "desk", "title": "The files"}
    assert store.load_session(listed.session_id).delivery == "There is a.py."
    second, first = store.list_calls()
    # 3 $ and 15 $ a million; 0.3 $ from the cache, 3.75 $ into it
    assert first.cost == (100 * 3_000 + 8_000 * 300 + 1_000 * 3_750 + 20 * 15_000) / 10**9
    assert second.cost == (50 * 3_000 + 9_000 * 300 + 10 * 15_000) / 10**9
    types = [event.type for event in store.events(listed.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "llm.requested", "llm.responded",
        "tool.called", "tool.called", "tool.returned", "tool.failed", "llm.requested",
        "llm.responded", "session.succeeded", "session.tagged",
    ]  # fmt: skip
    again = store.import_transcripts("opencode", folder)
    assert (again.sessions, again.events, again.known) == (0, 0, 1)
    assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize(
    ("model", "used", "output"),
    [
        (GPT, tokens(10, 100, reasoning=60), 100),  # old: among the output
        (("google", "gemini-2.5-pro"), tokens(10, 100, reasoning=60), 160),  # old: beside it
        (GPT, tokens(10, 40, reasoning=60, total=110), 100),  # new: beside it, as the total says
        (GPT, tokens(10, 100, reasoning=60, total=110), 100),
    ],
)
def test_reasoning_is_counted_once(
    store: LogStore, folder: Path, model: tuple[str, str], used: dict[str, object], output: int
) -> None:
    one = Opencode(folder)
    one.session("ses_1")
    one.ask("ses_1", "Why?")
    one.message("ses_1", one.said(model, used), [text_part("So.")])
    store.import_transcripts("opencode", folder)
    [call] = store.list_calls()
    assert call.cost == (10 * 1_250 + output * 10_000) / 10**9


def test_backups_old_files_and_forks_are_counted_once(store: LogStore, folder: Path) -> None:
    one = Opencode(folder)
    a_session(one)
    (folder / "opencode-backup.db").write_bytes(one.path.read_bytes())
    one.ask("ses_1", "And now?")
    one.message("ses_1", one.said(SONNET, tokens(10, 10)), [text_part("Now.")])
    one.session("ses_2", "The files (fork #1)")
    with closing(sqlite3.connect(one.path)) as connection:
        rows = connection.execute("SELECT id, data FROM message ORDER BY id").fetchall()[:2]
        parts = {
            name: [json.loads(data) for (data,) in connection.execute(
                "SELECT data FROM part WHERE message_id = ? ORDER BY id", (name,)
            )] for name, _ in rows
        }  # fmt: skip
    for name, data in rows:  # a fork has copies under new ids
        one.message("ses_2", json.loads(data), parts[name])
    for kind, name, value in (
        ("session/p", "ses_1", {"directory": "/home/ann/desk", "time": {"created": DAY}}),
        ("message/ses_1", rows[0][0], json.loads(rows[0][1])),
        ("message/ses_1", rows[1][0], json.loads(rows[1][1])),
    ):
        (folder / "storage" / kind).mkdir(parents=True, exist_ok=True)
        (folder / "storage" / kind / f"{name}.json").write_text(json.dumps(value))
    for _ in range(2):
        found = store.import_transcripts("opencode", folder)
        assert (found.files, found.left_out) == (3, ())
        assert store.export_cost_summary()["calls"] == 3
    assert len(store.list_sessions()) == 2


def test_the_files_of_older_versions(store: LogStore, folder: Path) -> None:
    one = Opencode(folder)
    a_session(one)
    storage = folder / "storage"
    with closing(sqlite3.connect(one.path)) as connection:
        messages = connection.execute("SELECT id, data FROM message").fetchall()
        parts = connection.execute("SELECT message_id, id, data FROM part").fetchall()
    one.path.unlink()
    session = {"directory": "/home/ann/desk", "title": "Files", "time": {"created": DAY}}
    files = [("session/p", "ses_1", json.dumps(session))]
    files += [("message/ses_1", name, data) for name, data in messages]
    files += [(f"part/{above}", name, data) for above, name, data in parts]
    for kind, name, data in files:
        (storage / kind).mkdir(parents=True, exist_ok=True)
        (storage / kind / f"{name}.json").write_text(data)
    found = store.import_transcripts("opencode", folder)
    assert (found.files, found.sessions, found.left_out) == (1, 1, ())
    [listed] = store.list_sessions()
    assert (listed.calls, listed.tags["title"]) == (2, "Files")
    assert store.import_transcripts("opencode", storage).events == 0


def test_everything_at_once_and_while_it_grows(tmp_path: Path, folder: Path) -> None:
    """A subagent, retries, an error, a compaction: the same events, however often it is read."""
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1_000) - 60_000
    one = Opencode(folder, start=now)
    stores = [LogStore(SQLiteBackend(tmp_path / f"{name}.db")) for name in ("grown", "again")]
    grown, again = stores
    from lllm.importing.transcripts.import_transcripts import open_transcripts

    following = open_transcripts(grown, "opencode", [folder])

    def look() -> None:
        assert following.read().left_out == ()
        assert again.import_transcripts("opencode", folder).left_out == ()

    a_session(one)
    look()
    one.ask("ses_1", "Look everywhere")
    created = one.tick()
    info = {
        "role": "assistant", "time": {"created": created}, "providerID": "anthropic",
        "modelID": SONNET[1], "tokens": tokens(0, 0),
    }  # fmt: skip
    task = one.tool("c3", "running", metadata={"sessionId": "ses_2"})
    name = one.message("ses_1", info, one.step(None, task))
    look()  # not yet complete
    one.session("ses_2", parent="ses_1")
    one.ask("ses_2", "look")
    one.message("ses_2", one.said(SONNET, tokens(10, 10)), [text_part("Seen.")])
    state = task["state"]
    assert isinstance(state, dict)
    finished = [task | {"state": state | {"status": "completed"}}]
    info |= {"time": {"created": created, "completed": one.tick()}, "tokens": tokens(20, 5)}
    one.run("", ("DELETE FROM part WHERE message_id = ?", (name,)))
    one.run("", ("DELETE FROM message WHERE id = ?", (name,)))
    one.message("ses_1", info, one.step(tokens(20, 5), *finished), name)
    look()
    failure = {"name": "APIError", "data": {"message": "overloaded", "statusCode": 529}}
    retry = {"type": "retry", "attempt": 1, "error": failure, "time": {"created": one.now + 500}}
    summary = one.said(SONNET, tokens(30, 5), summary=True)
    one.message("ses_1", summary, [retry, text_part("So far.")])
    one.ask("ses_1", "Continue if you have next steps", synthetic=True)
    look()
    one.message("ses_1", one.said(SONNET, tokens(0, 0), error=failure), [])
    look()
    for store in stores:
        [listed] = store.list_sessions()
        [[child]] = store.load_session(listed.session_id).sub_tactic_sessions.values()
        assert (child.tactic_path, child.partition) == ("opencode::subagent", "")
        assert (listed.calls, listed.failed_calls) == (5, 2)
        types = [event[1] for event in events_in(store)]
        assert types.count("dialog.opened") == 3
    assert sorted(events_in(grown)) == sorted(events_in(again))
    for store in stores:
        store.close()


def test_what_is_not_of_opencode(store: LogStore, folder: Path) -> None:
    one = Opencode(folder)
    one.session("ses_1")
    one.ask("ses_1", "First \ud800 odd")
    one.message("ses_1", {"role": "user", "time": {"created": "yesterday"}}, [text_part("When?")])
    one.message("ses_1", one.said(("zen", "model-99"), tokens(10, 10)), [
        text_part("One."), {"type": "hologram"},
    ])  # fmt: skip
    insert = "INSERT INTO message VALUES ('msg_x', 'ses_1', 5, 5, '{half')"
    one.run(insert)
    with closing(sqlite3.connect(folder / "opencode-other.db")) as other:
        other.execute("CREATE TABLE notes (x)")
    (folder / "opencode-text.db").write_text("This is no database. " * 100)
    (folder / "opencode-half.db").write_bytes(one.path.read_bytes()[:5_000])
    found = store.import_transcripts("opencode", folder)
    assert (found.sessions, found.unknown) == (1, {"part hologram": 1})
    reasons = sorted(why.replace(str(folder), "") for why in found.left_out)
    assert [why.partition(":")[0] for why in reasons] == [
        "/opencode-half.db", "/opencode-other.db", "/opencode-text.db", "/opencode.db",
        "/opencode.db",
    ]  # fmt: skip
    assert "it is not a database of opencode" in reasons[1]
    assert "file is not a database" in reasons[2]
    [listed] = store.list_sessions()
    assert (listed.calls, listed.unpriced_calls) == (1, 1)
