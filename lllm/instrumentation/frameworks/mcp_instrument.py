"""Switches the recording of MCP's tools on and off, in the whole process.

    lllm.instrument("mcp", log_store=store)

A server takes middleware: https://py.sdk.modelcontextprotocol.io/. A client has no hook, so
`ClientSession.call_tool`, through which every call of a tool goes, is replaced.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Protocol

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.mcp_recorder import MCPRecorder
from lllm.store.log_store import LogStore


class _ClientClass(Protocol):
    call_tool: Callable[..., Awaitable[object]]


_INIT = "__init__"


class MCPInstrument:
    """Records all calls of tools that MCP clients make and MCP servers answer in this process.

    A server keeps its middleware, which does nothing while it is off.

    Raises:
        ConfigError: mcp is not installed.
    """

    def __init__(self) -> None:
        self._recorder = MCPRecorder(FrameworkHost("mcp"))
        self._client: _ClientClass = importlib.import_module("mcp").ClientSession
        self._server: type[object] = importlib.import_module("mcp.server.lowlevel").Server
        self._call_tool = self._client.call_tool
        self._init: Callable[..., None] = getattr(self._server, _INIT)
        self._patched: tuple[Callable[..., Awaitable[object]], Callable[..., None]] | None = None

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._recorder.host.turn_on(store, provider)
        if self._patched is None:
            self._call_tool, self._init = self._client.call_tool, getattr(self._server, _INIT)
            self._patched = self._recorded_call(self._call_tool), self._watched_init(self._init)
            self._set(*self._patched)

    def off(self) -> None:
        """Stop recording; calls in progress are recorded to their end."""
        self._recorder.host.turn_off()
        if self._patched is None:
            return
        # If another library has wrapped a method since, it stays, and records nothing.
        if (self._client.call_tool, getattr(self._server, _INIT)) == self._patched:
            self._set(self._call_tool, self._init)
            self._patched = None

    def _set(self, call_tool: Callable[..., Awaitable[object]], init: Callable[..., None]) -> None:
        self._client.call_tool = call_tool
        setattr(self._server, _INIT, init)

    def _recorded_call(
        self, original: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        async def call_tool(
            session: object,
            name: str,
            arguments: dict[str, object] | None = None,
            *args: object,
            **options: object,
        ) -> object:
            async def call() -> object:
                return await original(session, name, arguments, *args, **options)

            return await self._recorder.client_call(session, name, arguments, call)

        update_wrapper(call_tool, original)
        return call_tool

    def _watched_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def init(server: object, *args: object, **options: object) -> None:
            original(server, *args, **options)
            middleware = getattr(server, "middleware", None)
            if isinstance(middleware, list):
                middleware.append(self._recorder.middleware(server))

        update_wrapper(init, original)
        return init
