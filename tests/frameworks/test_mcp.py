"""`lllm.instrument("mcp")`: calls of MCP's tools, recorded at both ends, else unchanged."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp")

import uvicorn
from click.testing import CliRunner
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client
from mcp.client.client import Client
from mcp.server.lowlevel import Server

import lllm
from lllm import LogStore, SQLiteBackend
from lllm.cli.program import cli
from lllm.events.model import SessionStarted, ToolCalled, ToolFailed, ToolReturned
from lllm.sessions.context_values import during
from lllm.sessions.current_session import current_tool
from tests.frameworks.mcp_program import made
from tests.frameworks.recorded import events, recording

Work = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which calls are recorded."""
    with recording("mcp", tmp_path) as opened:
        yield opened


def run(target: Any, work: Work) -> Any:
    """Do some work with a client of a server."""

    async def on_loop() -> Any:
        async with Client(target) as client:
            return await work(client)

    return asyncio.run(on_loop())


@contextmanager
def over_http() -> Iterator[str]:
    """The address of a server over streamable HTTP, on loopback."""
    config = uvicorn.Config(made().streamable_http_app(), port=0, log_level="error")
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        while not served.started:
            threading.Event().wait(0.01)
        port = served.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        served.should_exit = True
        thread.join()


async def three_calls(client: Client) -> None:
    """One that answers, one that fails, one that reports progress."""
    told: list[float] = []

    async def progress(done: float, total: float | None, _: str | None) -> None:
        assert total == 2
        told.append(done)

    answered = await client.call_tool("forecast", {"city": "Berlin"})
    assert (answered.content[0].text, answered.is_error) == ("sunny in Berlin", False)
    failed = await client.call_tool("broken", {"city": "Paris"})
    assert failed.is_error
    done = await client.call_tool("slow", {"steps": 2}, progress_callback=progress)
    assert done.structured_content == {"steps": 2}
    assert told == [1, 2]


def check_client(store: LogStore) -> None:
    """The calls of `three_calls` are the tools of the session around."""
    called = events(store, ToolCalled)
    assert [(one.name, one.arguments) for one in called] == [
        ("forecast", {"city": "Berlin"}), ("broken", {"city": "Paris"}), ("slow", {"steps": 2}),
    ]  # fmt: skip
    returned = events(store, ToolReturned)
    assert [one.content.text for one in returned][:1] == ["sunny in Berlin"]
    assert [one.value for one in returned] == [None, {"steps": 2}]
    [failed] = events(store, ToolFailed)
    assert "no weather in Paris" in failed.content.text


def check_server(found: LogStore) -> None:
    """Each call of `three_calls` is a session with its arguments and its result."""
    served = found.list_sessions(tags={"mcp_side": "server"})[::-1]
    assert [(one.tactic_path, one.state) for one in served] == [
        ("mcp::forecast", "success"), ("mcp::broken", "failure"), ("mcp::slow", "success"),
    ]  # fmt: skip
    assert {one.tags["mcp_server"] for one in served} == {"weather-desk"}
    loaded = [found.load_session(one.session_id) for one in served]
    assert [one.task for one in loaded] == [{"city": "Berlin"}, {"city": "Paris"}, {"steps": 2}]
    assert [one.delivery for one in loaded] == ["sunny in Berlin", None, {"steps": 2}]
    record = found.load_session_record(served[1].session_id)
    assert "no weather in Paris" in str(record.traceback)


@pytest.mark.slow
def test_over_stdio(store: LogStore, tmp_path: Path) -> None:
    """The server is another process with a store of its own: both ends have every call once."""
    path = str(tmp_path / "served.db")
    program = [str(Path(__file__).with_name("mcp_program.py")), path]
    root = str(Path(__file__).parents[2])
    params = StdioServerParameters(
        command=sys.executable, args=program, env={"PYTHONPATH": root}, cwd=root
    )
    with store.session("my::script"):
        run(stdio_client(params), three_calls)
    check_client(store)
    [session] = store.list_sessions()
    assert session.tactic_path == "my::script"
    with LogStore(SQLiteBackend(path)) as served:
        check_server(served)


def test_over_http(store: LogStore) -> None:
    """Streamable HTTP; a client that is in no session has one for each call."""
    with over_http() as url:
        run(url, three_calls)
    check_client(store)
    check_server(store)
    mine = store.list_sessions(tags={"mcp_side": "client"})[::-1]
    assert [one.state for one in mine] == ["success", "failure", "success"]
    assert {one.tags["mcp_server"] for one in mine} == {"weather-desk"}


def test_in_memory_the_answer_is_below_the_call(store: LogStore, tmp_path: Path) -> None:
    """A server in the same process is a child of the tool that called it."""

    async def once(client: Client) -> Any:
        return await client.call_tool("forecast", {"city": "Rome"})

    with store.session("my::script"):
        run(made(), once)
    assert len(events(store, ToolCalled)) == 1
    assert [one.tactic_path for one in store.list_sessions()] == ["my::script"]
    assert len(events(store, SessionStarted)) == 2
    [session] = store.list_sessions()
    loaded = store.load_session(session.session_id)
    path = str(tmp_path / "runs.db")
    [tool] = loaded.interrupts
    assert (tool.name, tool.state, tool.told) == ("forecast", "success", "sunny in Rome")
    shown = CliRunner().invoke(cli, ["show", session.session_id, "--store", path])
    assert 'forecast {"city":"Rome"} → sunny in Rome' in shown.output


def test_a_call_that_is_cancelled(store: LogStore) -> None:
    """Both ends say so, and the client goes on."""

    async def left(client: Client) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.call_tool("endless", {})
        again = await client.call_tool("forecast", {"city": "Rome"})
        assert again.content[0].text == "sunny in Rome"

    with over_http() as url, store.session("my::script"):
        run(url, left)
    [failed] = events(store, ToolFailed)
    assert "Cancelled" in failed.error.type
    assert {one.tactic_path: one.state for one in store.list_sessions()} == {
        "my::script": "success", "mcp::endless": "failure", "mcp::forecast": "success",
    }  # fmt: skip


def test_errors_of_the_protocol(store: LogStore) -> None:
    """The exception is MCP's own, and the tool has it."""

    async def timed_out(client: Client) -> None:
        with pytest.raises(MCPError, match=r"(?i)timed out"):
            await client.call_tool("endless", {}, read_timeout_seconds=0.2)

    with store.session("my::script"):
        run(made(), timed_out)
    [failed] = events(store, ToolFailed)
    assert failed.error.type.endswith("MCPError")


def test_inside_of_a_tool(store: LogStore) -> None:
    """A call that a tool of a tactic makes is that tool: it is not there twice."""

    async def once(client: Client) -> Any:
        with during(current_tool, 1):
            return await client.call_tool("forecast", {"city": "Rome"})

    with over_http() as url, store.session("my::script"):
        run(url, once)
    assert events(store, ToolCalled) == []


def test_switching_off(store: LogStore) -> None:
    """After the handle's `with`, nothing more is recorded, and the classes are as they were."""
    lllm.uninstrument()
    before = ClientSession.call_tool, Server.__init__
    with lllm.instrument("mcp", log_store=store):
        assert ClientSession.call_tool is not before[0]
        server = made()
    assert (ClientSession.call_tool, Server.__init__) == before
    run(server, three_calls)
    assert store.list_sessions() == []
