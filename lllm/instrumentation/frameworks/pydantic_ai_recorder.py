"""Records the runs of Pydantic AI by the hooks of a capability.

Each run of an agent is a session; a run that a tool of another agent makes is a session below.
https://ai.pydantic.dev/capabilities/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.framework_session import (
    FrameworkSession,
    ObservedAgent,
    ObservedTool,
)
from lllm.instrumentation.frameworks.observed_call import (
    ClientSends,
    ObservedCall,
    observed,
)
from lllm.instrumentation.frameworks.pydantic_ai_messages import (
    answer_of,
    arguments_of,
    biller_of,
    instructions_of,
    request_of,
    task_of,
    tool_message,
)
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.sessions.current_session import current_tool
from lllm.sessions.error_details import is_cancellation
from lllm.sessions.session import SessionScope

_API = "pydantic-ai"


class _CallOfRun:
    """The model call that a run is making, if any; a captured client finds it in the run's context.

    A stream is opened in another context than the one of the hook that reports it, so the calls
    themselves are not found there. A run makes one call at a time.

    Args:
        session: The session of the run.

    Attributes:
        session: The session of the run.
        call: The call in progress, or the last one; None before the first one.
        is_over: True if the run has ended.
    """

    def __init__(self, session: SessionScope) -> None:
        self.session = session
        self.call: ObservedCall | None = None
        self.is_over = False

    @property
    def is_waiting(self) -> bool:
        """True if a call is in progress, and no captured client has taken it over."""
        return self.call is not None and self.call.is_waiting

    def taken_by(self, sent: ClientSends) -> ObservedCall | None:
        """Let a captured client record the call; see ReportedCall."""
        return None if self.call is None else self.call.taken_by(sent)


class PydanticAIRecorder:
    """The capability that records the runs of one process; each run has a copy of it.

    Args:
        host: Begins the sessions.
        tool_return: Pydantic AI's ToolReturnPart.
    """

    _safe_at_runtime = True  # it adds no tools, and may be given to a single run

    def __init__(self, host: FrameworkHost, tool_return: type[object]) -> None:
        self._host = host
        self._tool_return = tool_return
        self._session: FrameworkSession | None = None
        self._agent: ObservedAgent | None = None
        self._current: _CallOfRun | None = None

    async def for_run(self, _: object) -> Self:
        """Make the copy for a run."""
        return type(self)(self._host, self._tool_return)

    async def wrap_run(self, ctx: object, *, handler: Callable[[], Awaitable[object]]) -> object:
        """Record a run as a session."""
        name = getattr(getattr(ctx, "agent", None), "name", None) or "agent"
        with isolate_recording_errors():
            await self._begin(str(name), ctx)
        session = self._session
        if session is None:
            return await handler()
        try:
            result = await handler()
        except BaseException as error:
            await self._end(session, error)
            raise
        with isolate_recording_errors(session.scope):
            session.scope.recorder.deliver(getattr(result, "output", None))
        await self._end(session, None)
        return result

    async def _begin(self, name: str, ctx: object) -> None:
        conversation = getattr(ctx, "conversation_id", None)
        metadata = getattr(ctx, "metadata", None)
        self._session = session = self._host.begin(
            name, task=task_of(getattr(ctx, "prompt", None)),
            tags={} if conversation is None else {"conversation_id": str(conversation)},
            metadata=metadata or None,
        )  # fmt: skip
        if session is None:
            return
        self._agent = ObservedAgent(session, name)
        session.scope.hold()
        self._current = _CallOfRun(session.scope)
        observed.set((*(one for one in observed.get() if not one.is_over), self._current))
        await session.scope.recorder.acommit()

    async def _end(self, session: FrameworkSession, error: BaseException | None) -> None:
        if self._current is not None:
            self._current.is_over = True
        with isolate_recording_errors(session.scope, failing=error is not None):
            if self._agent is not None:
                self._agent.end(error)
            session.scope.let_go()
            await session.scope.aleave(error)

    # -- models

    async def prepare_model_request(self, _: object, request_context: object) -> object:
        """Record that a model is asked; each attempt of a request comes here."""
        session, current = self._session, self._current
        if session is None or current is None:
            return request_context
        with isolate_recording_errors(session.scope):
            asked = request_of(request_context, instructions_of(request_context))
            model = getattr(request_context, "model", None)
            current.call = session.ask(
                asked, biller_of(model, self._host.provider), api=_API, agent=self._agent
            )
            await session.scope.recorder.acommit()
        return request_context

    async def after_model_request(
        self,
        _: object,
        *,
        request_context: object,  # noqa: ARG002 - the hook's
        response: object,
    ) -> object:
        """Record the answer of a model."""
        session, call = self._session, self._call_in_progress()
        if session is not None and call is not None:
            with isolate_recording_errors(session.scope):
                session.answer(call, answer_of(response, call.model), self._agent)
                await session.scope.recorder.acommit()
        return response

    async def wrap_model_request(
        self,
        _: object,
        *,
        request_context: object,
        handler: Callable[[object], Awaitable[object]],
    ) -> object:
        """Record that a model failed, or that nobody waits for its answer any more."""
        try:
            return await handler(request_context)
        except BaseException as error:
            await self._left(error)
            raise

    async def on_model_request_error(
        self,
        _: object,
        *,
        request_context: object,  # noqa: ARG002 - the hook's
        error: Exception,
    ) -> object:
        """Record that an attempt failed."""
        await self._left(error)
        raise error

    def _call_in_progress(self) -> ObservedCall | None:
        call = None if self._current is None else self._current.call
        return None if call is None or call.is_over else call

    async def _left(self, error: BaseException) -> None:
        session, call = self._session, self._call_in_progress()
        if session is None or call is None:
            return
        with isolate_recording_errors(session.scope, failing=True):
            if is_cancellation(error):
                call.settle()
            else:
                # The error of the SDK says whether the provider bills the attempt.
                call.failed(error.__cause__ or error)
            await session.scope.recorder.acommit()

    # -- tools

    async def wrap_tool_execute(
        self,
        _: object,
        *,
        call: object,
        tool_def: object,  # noqa: ARG002 - the hook's
        args: object,
        handler: Callable[[object], Awaitable[object]],
    ) -> object:
        """Record a tool call and its result."""
        session = self._session
        if session is None:
            return await handler(args)
        name, call_id = str(getattr(call, "tool_name", "")), str(getattr(call, "tool_call_id", ""))
        outer = current_tool.get()
        tool: ObservedTool | None = None
        with isolate_recording_errors(session.scope):
            tool = session.call_tool(name, call_id, arguments_of(args))
            session.scope.hold()
            current_tool.set(tool.number)
            await session.scope.recorder.acommit()
        try:
            value = await handler(args)
        except BaseException as error:
            with isolate_recording_errors(session.scope, failing=True):
                if tool is not None:
                    tool.failed(error)
            raise
        finally:
            current_tool.set(outer)
        with isolate_recording_errors(session.scope):
            if tool is not None:
                tool.returned(tool_message(name, call_id, value, self._tool_return))
        return value
