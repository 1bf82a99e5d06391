"""A server of MCP over stdio, whose calls are recorded in the store that is named first."""

from __future__ import annotations

import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

import lllm
from lllm import LogStore, SQLiteBackend


def made() -> MCPServer:
    """A server with tools that answer, fail, report progress and never end."""
    server = MCPServer("weather-desk")

    @server.tool()
    def forecast(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    @server.tool()
    def broken(city: str) -> str:
        """Breaks."""
        raise ToolError(f"no weather in {city}")

    @server.tool()
    async def slow(steps: int, ctx: Context) -> dict[str, int]:
        """Reports progress."""
        for step in range(steps):
            await ctx.report_progress(step + 1, steps)
        return {"steps": steps}

    @server.tool()
    async def endless() -> str:
        """Never ends."""
        await anyio.sleep_forever()
        return ""

    return server


if __name__ == "__main__":
    with LogStore(SQLiteBackend(sys.argv[1])) as store, lllm.instrument("mcp", log_store=store):
        made().run("stdio")
