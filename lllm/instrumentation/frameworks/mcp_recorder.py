"""Records calls of MCP's tools: those that clients make, and those that servers answer.

A call of a client is a tool call of the current session. A call that a server answers is a session,
in which the tool's own model calls are recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from lllm.events.model import Content
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import FrameworkSession, ObservedTool
from lllm.instrumentation.frameworks.mcp_results import ToolResult, result_of
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.invokers.dialects.provider_json import mapping
from lllm.sessions.current_session import current_tool, running
from lllm.sessions.error_details import is_cancellation

_CALL = "tools/call"


class MCPToolError(RuntimeError):
    """An MCP tool has answered with an error; only the log has this exception, no caller."""


class MCPRecorder:
    """Records the calls of one process.

    Args:
        host: Begins the sessions.

    Attributes:
        host: Begins the sessions.
    """

    def __init__(self, host: FrameworkHost) -> None:
        self.host = host

    # -- clients

    async def client_call(
        self,
        client: object,
        name: str,
        arguments: object,
        call: Callable[[], Awaitable[object]],
    ) -> object:
        """Record the call of a client as a tool call of the current session.

        A call inside of a running tool is how that tool works: a framework, or a tactic, has
        recorded it already. A call outside of any session is a session of its own.

        Args:
            client: MCP's ClientSession.
            name: The tool's name.
            arguments: The arguments; None for none.
            call: Makes the call.

        Returns:
            What the call returns.
        """
        if not self.host.is_on or _is_in_tool():
            return await call()
        session: FrameworkSession | None = None
        tool: ObservedTool | None = None
        with isolate_recording_errors():
            session = self.host.joined()
            if session is None:
                server = getattr(client, "server_info", None)  # None before it has told
                tags = _tags("client", getattr(server, "name", None))
                session = self.host.begin(name, task=arguments, tags=tags, metadata=None)
        if session is None:
            return await call()
        outer = current_tool.get()
        with isolate_recording_errors(session.scope):
            if session.alone:
                session.scope.hold()
            tool = session.call_tool(name, None, arguments or {})
            current_tool.set(tool.number)
            await session.scope.recorder.acommit()
        try:
            answered = await call()
        except BaseException as error:
            await _end_tool(session, tool, None, error, outer)
            raise
        await _end_tool(session, tool, result_of(answered), None, outer)
        return answered

    # -- servers

    def middleware(
        self, server: object
    ) -> Callable[[object, Callable[[object], Awaitable[object]]], Awaitable[object]]:
        """Make the middleware of a server, which records each call of a tool as a session.

        Args:
            server: MCP's low-level Server.

        Returns:
            The middleware.
        """
        tags = _tags("server", getattr(server, "name", None))

        async def served(ctx: object, call_next: Callable[[object], Awaitable[object]]) -> object:
            if not self.host.is_on or getattr(ctx, "method", None) != _CALL:
                return await call_next(ctx)
            params = mapping(getattr(ctx, "params", None))
            session = await self._begin(params, tags)
            if session is None:
                return await call_next(ctx)
            try:
                answered = await call_next(ctx)
            except BaseException as error:
                await _leave(session, None, error)
                raise
            await _leave(session, result_of(answered), None)
            return answered

        return served

    async def _begin(
        self, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> FrameworkSession | None:
        session: FrameworkSession | None = None
        with isolate_recording_errors():
            session = self.host.begin(
                str(params.get("name") or "tool"), task=params.get("arguments"), tags=tags,
                metadata=None,
            )  # fmt: skip
        if session is not None:
            with isolate_recording_errors(session.scope):
                session.scope.hold()
                await session.scope.recorder.acommit()
        return session


async def _end_tool(
    session: FrameworkSession,
    tool: ObservedTool | None,
    result: ToolResult | None,
    error: BaseException | None,
    outer: int | None,
) -> None:
    """Record the end of a client's call; a cancelled one waits for nothing."""
    current_tool.set(outer)
    with isolate_recording_errors(session.scope, failing=error is not None):
        if tool is not None:
            if result is None:
                tool.failed(error or MCPToolError("It ended without a result."))
            elif result.is_error:
                tool.failed(MCPToolError(result.text), _told(tool, result))
            else:
                tool.returned(_told(tool, result), to_plain(result.value))
    if session.alone:
        await _leave(session, result, error)
        return
    with isolate_recording_errors(session.scope, failing=error is not None):
        if error is not None and is_cancellation(error):
            session.scope.recorder.commit()
        else:
            await session.scope.recorder.acommit()


async def _leave(
    session: FrameworkSession, result: ToolResult | None, error: BaseException | None
) -> None:
    """End the session of a call; a tool's error is the session's, though nobody raises it."""
    with isolate_recording_errors(session.scope, failing=error is not None):
        session.scope.let_go()
        if result is not None and not result.is_error:
            session.scope.recorder.deliver(result.text if result.value is None else result.value)
        if result is not None and result.is_error:
            error = MCPToolError(result.text)
        if error is not None and is_cancellation(error):
            session.scope.leave(error, follow=False)  # every wait would be cancelled, too
        else:
            await session.scope.aleave(error)


def _is_in_tool() -> bool:
    scope, tool = running()
    return scope is not None and tool is not None


def _told(tool: ObservedTool, result: ToolResult) -> Content:
    return Content("tool", Content.of("tool", result.text).parts, call_id=tool.call_id)


def _tags(side: str, server: object) -> dict[str, str]:
    return {"mcp_side": side} | ({"mcp_server": server} if isinstance(server, str) else {})
