"""Records a run of a framework as a session: its agents, model calls and tools.

A framework's hooks report what happens, from any thread. This module knows no framework; each one
has a module of its own, which translates its hooks to the methods here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lllm.agents.tool_calls import failure_text
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    Limits,
    ToolCall,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.conversations import ConversationDigest, conversations_of
from lllm.instrumentation.frameworks.observed_call import Asking, Biller, ObservedCall
from lllm.instrumentation.request_bodies import CapturedRequest
from lllm.invokers import Answer
from lllm.sessions.error_details import describe, is_cancellation
from lllm.sessions.session import SessionScope

_NO_LIMITS = Limits(0, 0, 0)  # a framework's own limits are not known to its hooks
_OUTSIDE = 0  # the request of a tool that no recorded answer asked for


class ObservedAgent:
    """An agent of a framework while it works; it is recorded from its first model call on.

    Args:
        session: The session that it works in.
        name: Its name.
    """

    def __init__(self, session: FrameworkSession, name: str) -> None:
        self.name = name
        self._session = session
        self._began = time.perf_counter_ns()
        self._starting = ThreadLock()
        self._number: int | None = None
        self._steps = 0
        self._answer: int | None = None

    def next_step(self, call: ObservedCall, definition: str) -> Asking:
        """Count a model call of the agent; the first one stages the agent's start.

        Args:
            call: The model call.
            definition: The stream of the agent's definition.

        Returns:
            The agent and its step, for the call's event.
        """
        with self._starting.held():
            if self._number is None:
                self._number = self._session.start_agent(self.name, call, definition)
            self._steps += 1
            return Asking(self.name, self._number, self._steps)

    def answered(self, message: int | None) -> None:
        """Note the message that the model answered last; None leaves it as it was."""
        self._answer = self._answer if message is None else message

    def end(self, error: BaseException | None) -> None:
        """Stage the agent's end; nothing if it has called no model.

        Args:
            error: The error that it ended with; None if it succeeded.
        """
        with self._starting.held():
            number, self._number = self._number, None
        if number is None:
            return
        elapsed = time.perf_counter_ns() - self._began
        recorder = self._session.scope.recorder
        if error is None and self._answer is not None:
            recorder.stage(AgentSucceeded(call=number, answer=self._answer, elapsed=elapsed))
            return
        error = error or RuntimeError("It ended without an answer of a model.")
        recorder.stage(
            AgentFailed(
                call=number,
                error=describe(error),
                cancelled=is_cancellation(error),
                elapsed=elapsed,
            )
        )


class _Answered:
    """The tools that one answer asked for; their results enter the dialog in order.

    Frameworks send the results in the order of the calls, whichever tool returns first.
    """

    def __init__(self, request: int, dialog: ConversationDigest, calls: Sequence[ToolCall]) -> None:
        self.request = request
        self.dialog = dialog
        self.waiting = [call.id for call in calls]
        self.results: dict[str, tuple[int, Content]] = {}


class FrameworkSession:
    """A session whose events the hooks of a framework report.

    Args:
        scope: The session.
        alone: True if it was begun for the run, and ends with it; False if the run joins a session
            of the user's.

    Attributes:
        scope: The session.
        alone: True if it was begun for the run.
    """

    def __init__(self, scope: SessionScope, *, alone: bool) -> None:
        self.scope = scope
        self.alone = alone
        self._conversations = conversations_of(scope.recorder)
        self._lock = ThreadLock()
        self._calls_of_agents: dict[str, int] = {}
        self._answers: dict[str, _Answered] = {}  # by the id of a tool call

    # -- agents and models

    def start_agent(self, name: str, call: ObservedCall, definition: str) -> int:
        """Stage the start of an agent call.

        Args:
            name: The agent's name.
            call: Its first model call.
            definition: The stream of the agent's definition.

        Returns:
            The number of the agent call within the session.
        """
        with self._lock.held():
            ordinal = self._calls_of_agents[name] = self._calls_of_agents.get(name, 0) + 1
        number = self.scope.recorder.ordinal("call")
        self.scope.recorder.stage(
            AgentStarted(
                call=number,
                agent=name,
                definition=definition,
                dialog=call.dialog.number,
                ordinal=ordinal,
                limits=_NO_LIMITS,
            )
        )
        return number

    def ask(
        self,
        body: CapturedRequest,
        biller: Biller,
        *,
        api: str,
        agent: ObservedAgent | None,
        beginnings: list[bytes] | None = None,
    ) -> ObservedCall:
        """Stage a model call that is about to be made.

        Args:
            body: The request.
            biller: Who bills it.
            api: The format that the request is recorded in, such as "chat.completions".
            agent: The agent that asks; None outside of agents.
            beginnings: The digests of the messages before those of `body`; None if there are none.

        Returns:
            The call, which the hook ends.

        Raises:
            BudgetExceeded: The session's budget is spent.
        """
        self.scope.budget.check(f"the next call of {body.model}")
        call = ObservedCall(self.scope, body, biller, api=api, beginnings=beginnings)
        self._begin(call, body, agent, None)
        return call

    def ask_late(
        self,
        body: CapturedRequest,
        biller: Biller,
        *,
        api: str,
        agent: ObservedAgent | None,
        began: int,
        operation: str = "chat",
    ) -> ObservedCall:
        """Stage a model call that is not measured against the budget: it can't be held up any more.

        Args:
            body: The request.
            biller: Who bills it.
            api: The format that the request is recorded in, such as "chat.completions".
            agent: The agent that asked; None outside of agents.
            began: When the call began, as `time.perf_counter_ns` counts.
            operation: The kind of call, such as "embeddings".

        Returns:
            The call, which the hook ends.
        """
        call = ObservedCall(self.scope, body, biller, api=api, operation=operation)
        self._begin(call, body, agent, began)
        return call

    def _begin(
        self,
        call: ObservedCall,
        body: CapturedRequest,
        agent: ObservedAgent | None,
        began: int | None,
    ) -> None:
        if agent is not None:
            definition = call.define(agent.name)
            call.begin(agent.next_step(call, definition), definition, began=began)
            return
        defined = call.define("") if body.tools or body.lasting else None
        asking = Asking("", None, self.scope.recorder.ordinal("captured call"))
        call.begin(asking, defined, began=began)

    def answer(self, call: ObservedCall, answer: Answer, agent: ObservedAgent | None) -> None:
        """Stage the answer to a model call, unless a captured client has recorded it.

        Args:
            call: The call.
            answer: The model's answer.
            agent: The agent that asked; None outside of agents.
        """
        message = call.answered(answer)
        if agent is not None:
            agent.answered(message if message is not None else call.message)
        if answer.content.tool_calls:
            asked = _Answered(call.last_request, call.dialog, answer.content.tool_calls)
            with self._lock.held():
                self._answers |= dict.fromkeys(asked.waiting, asked)

    # -- tools

    def call_tool(
        self, name: str, call_id: str | None, arguments: object, *, request: int = _OUTSIDE
    ) -> ObservedTool:
        """Stage a tool call that is about to run.

        Args:
            name: The tool's name.
            call_id: The provider's id of the call; None if the framework does not tell.
            arguments: The arguments.
            request: The request that it belongs to where no id tells that; 0 for none.

        Returns:
            The tool call, which the hook ends.
        """
        recorder = self.scope.recorder
        number = recorder.ordinal("tool")
        answered = self._answers.get(call_id or "")
        recorder.stage(
            ToolCalled(
                tool=number,
                request=request if answered is None else answered.request,
                call_id=call_id or f"tool-{number}",
                name=name,
                arguments=to_plain(arguments),
            )
        )
        return ObservedTool(self, number, call_id or f"tool-{number}")

    def told(self, call_id: str, message: int, content: Content) -> None:
        """Note the message that a model gets from a tool, so that it is not written again.

        Args:
            call_id: The id of the tool call.
            message: The number of the message within the session.
            content: The message.
        """
        with self._lock.held():
            answered = self._answers.get(call_id)
            if answered is None:
                return
            answered.results[call_id] = message, content
            while answered.waiting and answered.waiting[0] in answered.results:
                first = answered.waiting.pop(0)
                self._answers.pop(first, None)
                self._conversations.answered(answered.dialog, *answered.results.pop(first))


class ObservedTool:
    """A tool of a framework that runs.

    Args:
        session: The session that it runs in.
        number: Its number within the session.
        call_id: The id of the call.

    Attributes:
        number: Its number within the session.
        call_id: The id of the call.
    """

    def __init__(self, session: FrameworkSession, number: int, call_id: str) -> None:
        self.number = number
        self.call_id = call_id
        self._session = session
        self._began = time.perf_counter_ns()

    def returned(self, content: Content, value: object = None) -> None:
        """Stage the result.

        Args:
            content: The message that the model gets.
            value: The value that the tool returned; None if the message says all of it.
        """
        message = self._session.scope.recorder.ordinal("message")
        self._session.scope.recorder.stage(
            ToolReturned(
                tool=self.number,
                message=message,
                content=content,
                value=to_plain(value),
                elapsed=time.perf_counter_ns() - self._began,
            )
        )
        self._session.told(self.call_id, message, content)

    def failed(self, error: BaseException, told: Content | None = None) -> None:
        """Stage the failure.

        Args:
            error: The error that the tool raised.
            told: The message that the model gets; None if the hook does not tell it. Then it comes
                with the next request.
        """
        details = describe(error)
        text = failure_text(error, details)
        content = told or Content("tool", Content.of("tool", text).parts, call_id=self.call_id)
        message = self._session.scope.recorder.ordinal("message")
        self._session.scope.recorder.stage(
            ToolFailed(
                tool=self.number,
                message=message,
                content=content,
                error=details,
                elapsed=time.perf_counter_ns() - self._began,
            )
        )
        if told is not None:
            self._session.told(self.call_id, message, content)
