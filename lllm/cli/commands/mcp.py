"""`lllm mcp`: lets a coding agent read the store."""

from __future__ import annotations

import click

from lllm.cli.options import open_named, store_option, zone, zone_options
from lllm.events.errors import MissingExtra


@click.command()
@store_option
@zone_options
def mcp(store: str | None) -> None:
    """Let a coding agent read the store.

    It runs an MCP server on stdin and stdout, which the agent starts. Its tools list,
    show and compare sessions, calls and costs, and write nothing. It needs the extra
    mcp: pip install 'lllm[mcp]'.
    """
    from lllm.mcp_server import make_mcp_server

    with open_named(store) as opened:
        try:
            server = make_mcp_server(opened, zone())
        except ImportError as error:
            raise MissingExtra(
                f"lllm mcp needs {error.name}, which is not installed: pip install 'lllm[mcp]'"
            ) from error
        server.run()
