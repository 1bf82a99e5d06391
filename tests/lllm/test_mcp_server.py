"""The MCP server, as a coding agent uses it: a process that is talked to over its pipes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from lllm import LogStore, SQLiteBackend
from tests.support.web_page import answer_with_tool


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a session that succeeded, and one with a failing tool."""
    made = tmp_path_factory.mktemp("mcp") / "runs.db"
    with LogStore(SQLiteBackend(made)) as store:
        answer_with_tool(store, customer="alice")
        answer_with_tool(store, "Z-99", customer="bob")
    return made


def with_client(path: Path, do: Callable[[Client], Awaitable[None]]) -> None:
    """Start `lllm mcp` and talk to it."""

    async def talk() -> None:
        started = StdioServerParameters(
            command=sys.executable, args=["-m", "lllm", "mcp", "--store", str(path)]
        )
        async with Client(started, read_timeout_seconds=60) as client:
            await do(client)

    asyncio.run(talk())


async def said(client: Client, tool: str, **arguments: object) -> str:
    """The text that a tool answers."""
    result = await client.call_tool(tool, arguments)
    return "".join(part.text for part in result.content if part.type == "text")


def test_an_agent_reads_the_store(path: Path) -> None:
    before = path.read_bytes()

    async def do(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [one.name for one in tools] == [
            "list_sessions", "search", "show_session", "read_texts", "list_calls", "costs",
            "compare",
        ]  # fmt: skip
        assert all(one.annotations and one.annotations.read_only_hint for one in tools)
        assert all(one.description for one in tools)
        listed = await said(client, "list_sessions", tags={"customer": "bob"})
        (found,) = [word for word in listed.split() if len(word) == 26]
        hits = await said(client, "search", query='"order Z-99"', role="tool")
        assert "No order Z-99" in hits
        assert "kettle" not in hits
        shown = await said(client, "show_session", session_id=found[:20])
        assert "No order Z-99" in shown
        assert "x $0.15/M" in shown
        assert "Where is the kettle of Z-99?" in await said(client, "read_texts", session_id=found)
        assert "gpt-4o-mini" in await said(client, "list_calls", model="gpt*")
        assert "alice" in await said(client, "costs", by="tag:customer")
        assert "are the same" in await said(client, "compare", a=found, b=found)
        wrong = await client.call_tool("show_session", {"session_id": "odd"})
        assert wrong.is_error
        assert "odd" in wrong.content[0].text  # type: ignore[union-attr]
        assert "limit is a number" in await said(client, "list_sessions", limit=1000)

    with_client(path, do)
    assert path.read_bytes() == before


def test_a_long_session_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        found = answer_with_tool(store, "K" * 50_000)

    async def do(client: Client) -> None:
        read = ""
        while True:
            part = await said(client, "read_texts", session_id=found, offset=len(read))
            text, more, tail = part.rpartition("\n... ")
            if not more or "characters more" not in tail:
                read += part
                break
            read += text
            assert int(tail.rpartition("=")[2]) == len(read)
        assert f"Where is the kettle of {'K' * 50_000}?" in read
        assert read.count("K" * 50_000) == 3  # the question, the tool's argument, the answer
        assert len(read) > 150_000

    with_client(path, do)
