"""`lllm demo`: everything that can happen to a call happens once, and is shown."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.cli import main
from lllm.cli.open_store import open_store
from lllm.logging import sqlite_store
from tests.support import loopback
from tests.support.loopback import Loopback, Received, Reply


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a folder of its own, and nothing set in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("LLLM_STORE", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def all_types(store: LogStore) -> set[str]:
    return {event.type for event in store.log.read()}


@pytest.mark.parametrize("path", ["demo.db", "demo"])
def test_everything_happens(path: str) -> None:
    """One run has two agents, a tool that fails, both kinds of retry, a sub-tactic, tags and a
    failing call."""
    assert main(["demo", "--store", path]) == 0
    with open_store(path) as store:
        sessions = store.list_sessions()
        assert [one.state for one in sessions] == ["failure", "success", "success", "success"]
        assert {one.tags["customer"] for one in sessions} == {"alice", "bob", "carol"}
        assert all_types(store) >= {"tool.returned", "tool.failed", "llm.failed", "agent.defined"}
        first = store.load_session(sessions[-1].session_id)
        assert list(first.agent_sessions) == ["sorter", "writer"]
        assert first.agent_sessions["sorter"][0].exception_retries_count == 1
        assert first.agent_sessions["writer"][0].llm_recalls_count == 1
        assert list(first.sub_tactic_sessions) == ["proofread"]
        assert first.total_cost.cost > 0
        assert first.total_cost.unpriced_calls == 0


def test_it_says_who_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo says that an embedded model answered, and whose prices were taken."""
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "embedded model" in out
    assert "what gpt-4o-mini would charge" in out
    assert Path("lllm-demo/runs.db").is_file()


def test_it_shows_what_users_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Shown are the list, a tree, the failed call's traceback, and cost by tactic and by tag."""
    main(["demo"])
    out = capsys.readouterr().out
    for command in ("lllm ls", "lllm show", "lllm cost --by tactic", "lllm cost --by tag:customer"):
        assert f"\n$ {command}" in out
    assert "├── agent writer" in out
    assert "\nLookupError: There is no order 'Z-99'." in out


def test_it_ends_with_replays(capfd: pytest.CaptureFixture[str]) -> None:
    """A session is replayed with the same code, and with one word of a prompt changed; the commands
    that are shown print the same, and replays leave nothing in the store."""
    assert main(["demo", "--store", "demo.db"]) == 0
    shown = capfd.readouterr().out
    with open_store("demo.db") as store:
        assert len(store.list_sessions(replays=True)) == 4
    replays = [line[2:] for line in shown.splitlines() if line.startswith("$ lllm replay")]
    codes = []
    for command in replays:
        codes.append(main(shlex.split(command)[1:]))
        assert f"\n$ {command}\n{capfd.readouterr().out}\n" in shown
    assert codes == [0, 1]
    assert "-You answer customers, warmly and briefly." in shown
    assert "+You answer customers, warmly and formally." in shown
    with open_store("demo.db") as store:
        [ticket] = [s for s in store.list_sessions() if s.session_id in replays[0]]
    assert f"\nRecorded: {ticket.calls} calls of a model, ${ticket.total_cost:.6f}.\n" in shown
    assert "\nReplayed: 0 calls, $0, in " in shown
    assert 'prompt says "formally", not "briefly"\n' in shown


def test_the_next_commands_work(capsys: pytest.CaptureFixture[str]) -> None:
    """The three commands that the demo names can be pasted, wherever the store is."""
    assert main(["demo", "--store", "a folder/it's.db"]) == 0
    commands = capsys.readouterr().out.strip().splitlines()[-3:]
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "lllm"
        assert main(arguments) == 0


def test_twice_adds() -> None:
    """A second run adds its sessions to those of the first."""
    assert main(["demo"]) == main(["demo"]) == 0
    with open_store("lllm-demo/runs.db") as store:
        assert len(store.list_sessions()) == 8
        assert store.rebuild(check=True).difference is None


def test_the_environment_names_the_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LLLM_STORE is where the demo goes, unless others' sessions are there: only --store adds the
    demo to those."""
    monkeypatch.setenv("LLLM_STORE", "mine.db")
    assert main(["demo"]) == main(["demo"]) == 0
    with sqlite_store("mine.db") as store, store.session("my::job"):
        pass
    assert main(["demo"]) == 2
    assert "in use for other sessions" in capsys.readouterr().err
    assert main(["demo", "--store", "mine.db"]) == 0


def test_no_network_and_no_sdk() -> None:
    """The embedded demo opens no connection and imports no SDK."""
    source = """
import socket, sys
def refuse(*_): raise AssertionError("the demo used the network")
socket.socket.connect = socket.getaddrinfo = refuse
from lllm.cli import main
code = main(["demo"])
assert "openai" not in sys.modules and "httpx" not in sys.modules
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def answer(received: Received) -> Reply:
    """A model that does what the prompts of the demo ask."""
    messages = received.body["messages"]
    if "sort" in messages[0]["content"]:
        return loopback.text('{"topic": "delivery", "urgent": true}')
    if "answer" in messages[0]["content"] and messages[-1]["role"] == "user":
        return loopback.tool_calls(("track_parcel", '{"order": "A-17"}'))
    return loopback.text("Dear customer.")


def test_a_real_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key and --model the same tactics run on a model behind the OpenAI API: the tool that
    raises still raises, and the failing call still fails."""
    pytest.importorskip("openai")
    with Loopback() as server:
        server.answers(answer)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-demo")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["demo", "--model", "gpt-4o-mini"]) == 0
    assert {request.body["model"] for request in server.requests} == {"gpt-4o-mini"}
    assert "embedded" not in capsys.readouterr().out
    with open_store("lllm-demo/runs.db") as store:
        states = [one.state for one in store.list_sessions()]
        assert states == ["failure", "success", "success", "success"]
        assert "tool.failed" in all_types(store)


def test_a_model_that_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every call is refused, the demo shows the failures, and no key."""
    pytest.importorskip("openai")
    with Loopback() as server:
        server.answers(loopback.echoing_key)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-demo")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["demo", "--model", "gpt-4o-mini"]) == 0
    out = capsys.readouterr().out
    assert "Traceback (most recent call last)" in out
    assert "sk-of-the-demo" not in out


def test_a_model_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """--model without a key is bad input, told in one line, and makes no store."""
    assert main(["demo", "--model", "gpt-4o-mini"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert not Path("lllm-demo").exists()
