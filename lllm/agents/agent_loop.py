"""Runs one `respond()`: a loop that calls the model, runs its tools and asks again.

It is a generator of effects (see `lllm.agents.effects`), so that threads and event loops share it.
The events of each turn are staged before the next model call or tool begins.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from lllm.agents.dialog import Dialog, Message
from lllm.agents.effects import BeginTurn, Commit, Steps, Wait
from lllm.agents.fork_edits import TurnEdit, apply_edit
from lllm.agents.model_calls import ENDED, ModelCalls, OnPiece
from lllm.agents.retries import Retries
from lllm.agents.tool_calls import NO_MORE, ToolCalls
from lllm.events.errors import InvokeError, ParseError
from lllm.events.log_context import log_context
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    Limits,
    LLMResponded,
    SessionEdited,
)
from lllm.events.values.json_values import to_plain
from lllm.invokers.secret_params import without_secrets
from lllm.projections.session.invoke_cost import InvokeCost
from lllm.sessions.context_values import during
from lllm.sessions.current_session import current, running
from lllm.sessions.error_details import describe, is_cancellation

if TYPE_CHECKING:
    from lllm.agents.agent import Agent


def respond(
    agent: Agent, dialog: Dialog, on_text: OnPiece | None = None, *, on_loop: bool = False
) -> Steps[Message]:
    """Ask an agent to answer a dialog; yields steps for `drive` or `adrive`.

    Args:
        agent: The agent that answers.
        dialog: The dialog to answer.
        on_text: A function that is called with each piece of the answer's text; None for none.
        on_loop: True if an event loop runs the steps.

    Returns:
        The answer of the agent.
    """
    # A thread that the user started has no current session; tools belong to the agent's session.
    session = agent.session
    above, tool = running()
    with during(current, session), during(log_context, session.log_context | {"agent": agent.name}):
        call = AgentCall(agent, dialog, on_text, on_loop=on_loop)
        steps = call.steps(parent_tool=tool if above is session else None)
        if session.replaying is not None:
            steps = session.replaying.answered(steps, agent.name, dialog.alias, session.budget)
        return (yield from steps)


class AgentCall:
    """One agent call in progress.

    It is an OpenCall: its session or the interpreter may end while the call is running in a thread
    or a task, or has been abandoned.
    """

    def __init__(
        self, agent: Agent, dialog: Dialog, on_text: OnPiece | None, *, on_loop: bool
    ) -> None:
        config, recorder = agent.config, agent.recorder
        self._agent = agent
        self._dialog = dialog
        self._recorder = recorder
        self._prompt = agent.prompt_of(dialog)
        self._tools = ToolCalls(
            recorder, dialog, agent.tools_of(dialog), config.max_interrupt_steps,
            at_once=config.max_parallel_tools, on_loop=on_loop,
        )  # fmt: skip
        self._on_text = on_text
        self._number = recorder.ordinal("call")
        self._retries = Retries(config, agent.session, self._number)
        self._ending = threading.RLock()
        self._model = ModelCalls(agent, dialog, self._number, on_text, self._ending)
        self._over = False
        self._began = time.perf_counter_ns()

    def steps(self, *, parent_tool: int | None = None) -> Steps[Message]:
        """Run the whole call, step by step; returns the answer message.

        parent_tool: the number of the tool, in the same session, that makes the call.
        """
        config = self._agent.config
        self._agent.calls += 1
        self._recorder.stage(
            AgentStarted(
                call=self._number,
                agent=self._agent.name,
                definition=self._model.definition_stream,
                dialog=self._dialog.number,
                ordinal=self._agent.calls,
                limits=Limits(
                    config.max_exception_retry, config.max_llm_recall, config.max_interrupt_steps
                ),
                parent_tool=parent_tool,
            )
        )
        self._agent.session.calls.add(self)
        try:
            ordinal, message = yield from self._loop()
            self._recorder.stage(
                AgentSucceeded(
                    call=self._number,
                    answer=ordinal,
                    parsed=None if message.parsed is None else to_plain(message.parsed),
                    elapsed=time.perf_counter_ns() - self._began,
                )
            )
            self._over = True
        except BaseException as error:
            if not self._over:
                self._tools.settle(error, tell=True)
            self._fail(error)
            raise
        finally:
            self._agent.session.calls.remove(self)
        return message

    def _fail(self, error: BaseException) -> None:
        with self._ending:
            if self._over:
                return
            self._over = True
            self._recorder.stage(
                AgentFailed(
                    call=self._number,
                    error=describe(error),
                    cancelled=is_cancellation(error),
                    elapsed=time.perf_counter_ns() - self._began,
                )
            )

    def settle(self) -> None:
        """Record the end of the call because its session ends; see OpenCall."""
        left = GeneratorExit(ENDED)
        with self._ending:
            if self._over or self._recorder.in_child:
                return
            self._model.fail(left)
            self._tools.settle(left)
            self._fail(left)

    def settle_at_exit(self) -> None:
        """Record the end of the call because the program exits; see OpenCall."""
        self.settle()
        if not self._recorder.in_child:
            self._recorder.commit()

    def _loop(self) -> Steps[tuple[int, Message]]:
        """Ask until an answer is accepted; returns its number in the session and the answer."""
        step = 0
        while True:
            step += 1
            answer = yield from self._answer(step)
            content = answer.content
            if content.tool_calls:
                yield from self._run_tools(answer)
                continue
            try:
                parsed = self._prompt.parse(content.text)
            except ParseError as error:
                self._retries.ask_again(answer, str(error), error)
                self._agent.add(self._dialog, Content.of("user", str(error)), "retry")
                continue
            return answer.message, Message(
                role="assistant",
                content=content.text,
                parsed=parsed,
                usage=answer.usage,
                cost=InvokeCost.of(answer.usage, answer.price),
            )

    def _answer(self, step: int) -> Steps[LLMResponded]:
        """Get one answer of the model, in as many attempts as allowed."""
        session = self._agent.session
        attempt = 0
        while True:
            attempt += 1
            if session.replaying is not None:
                changed = yield BeginTurn(step, attempt)
                if isinstance(changed, TurnEdit):
                    self._change(changed, step, attempt)
            session.budget.check(f"the next call of {self._agent.config.model_name}")
            request = self._recorder.ordinal("request")
            try:
                answer = yield from self._model.ask(
                    request, step, attempt, tools_forbidden=self._tools.forbidden
                )
            except InvokeError as error:
                wait = self._retries.call_again(request, error)
            else:
                return answer
            yield Commit(self._recorder)
            yield Wait(wait)

    def _change(self, changed: TurnEdit, step: int, attempt: int) -> None:
        """Apply the change that a fork makes at this point."""
        edit = changed.edit
        event = SessionEdited(call=self._number, step=step, attempt=attempt, tool=changed.tool)
        if edit is None:
            self._recorder.stage(event)
            return
        params = edit.parameters
        self._recorder.stage(
            msgspec.structs.replace(
                event,
                message=edit.message,
                model=edit.model,
                params=None if params is None else to_plain(without_secrets(dict(params))),
                prompt=edit.prompt,
            )
        )
        apply_edit(self._agent, self._dialog, edit)
        self._prompt = self._agent.prompt_of(self._dialog)
        self._model = ModelCalls(
            self._agent, self._dialog, self._number, self._on_text, self._ending
        )

    def _run_tools(self, answer: LLMResponded) -> Steps[None]:
        request, calls = answer.request, answer.content.tool_calls
        if self._tools.forbidden:
            self._tools.refuse(request, calls)
            turns = self._agent.config.max_interrupt_steps
            self._retries.ask_again(
                answer,
                f"It asked for tools again after {turns} turns of them (max_interrupt_steps).",
            )
            return
        yield from self._tools.run(request, calls)
        if self._tools.forbidden:
            self._agent.add(self._dialog, Content.of("user", NO_MORE), "limit")
