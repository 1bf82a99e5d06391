"""What happens in one `respond()`: the loop that calls the model, runs tools and tries again.

It is written as a generator of effects (see `lllm.effects`), so threads and event loops share it.
Every turn of the loop is staged as events before the next call outside begins.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Literal

from lllm.dialog import Dialog, Message
from lllm.effects import Commit, Invoke, Steps, Wait
from lllm.events.errors import AgentError, InvokeError, ParseError
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    Limits,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    RetryScheduled,
)
from lllm.events.plain import to_plain
from lllm.events.recorder import log_context
from lllm.events.secret_patterns import without_keys
from lllm.interrupts import NO_MORE, Interrupts
from lllm.invokers import Answer, Request
from lllm.pricing import believable, price
from lllm.projections.invoke_cost import InvokeCost
from lllm.session import current, describe, during, is_cancellation

if TYPE_CHECKING:
    from lllm.agent import Agent

_agent_logger = logging.getLogger("lllm.agent")
_agent_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler
_invoker_logger = logging.getLogger("lllm.invoker")
_invoker_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler
_LONGEST_WAIT = 60.0  # seconds, of our own backoff; a provider may ask for longer


def respond(agent: Agent, dialog: Dialog) -> Steps[Message]:
    """The steps of one agent call; returns the message that it delivers."""
    # A thread of the user's own knows of no session; what tools do belongs to the agent's.
    session = agent.session
    with during(current, session), during(log_context, session.log_context | {"agent": agent.name}):
        return (yield from _Call(agent, dialog).steps())


class _Call:
    """One agent call, while it runs."""

    def __init__(self, agent: Agent, dialog: Dialog) -> None:
        self.agent = agent
        self.config = agent.config
        self.dialog = dialog
        self.recorder = agent.recorder
        self.prompt = agent.prompt_of(dialog)
        self.interrupts = Interrupts(
            self.recorder, dialog, agent.tools_of(dialog), self.config.max_interrupt_steps
        )
        self.number = self.recorder.ordinal("call")
        self.definition = agent.definition_of(dialog)
        self.definition_stream = self.recorder.define(self.definition)
        self.schema = self.prompt.output_schema()
        self.refused = 0  # answers that did not parse
        self.recalled = 0  # calls that failed and were made again

    def steps(self) -> Steps[Message]:
        began = time.perf_counter_ns()
        self.agent.calls += 1
        config = self.config
        self.recorder.stage(
            AgentStarted(
                call=self.number,
                agent=self.agent.name,
                definition=self.definition_stream,
                dialog=self.dialog.number,
                ordinal=self.agent.calls,
                limits=Limits(
                    config.max_exception_retry, config.max_llm_recall, config.max_interrupt_steps
                ),
            )
        )
        try:
            ordinal, message = yield from self._loop()
        except BaseException as error:
            elapsed = time.perf_counter_ns() - began
            self.recorder.stage(
                AgentFailed(
                    call=self.number,
                    error=describe(error),
                    cancelled=is_cancellation(error),
                    elapsed=elapsed,
                )
            )
            raise
        elapsed = time.perf_counter_ns() - began
        parsed = None if message.parsed is None else to_plain(message.parsed)
        self.recorder.stage(
            AgentSucceeded(call=self.number, answer=ordinal, parsed=parsed, elapsed=elapsed)
        )
        return message

    def _loop(self) -> Steps[tuple[int, Message]]:
        step = 0
        while True:
            step += 1
            request, answer, responded = yield from self._turn(step)
            content = answer.content
            if content.tool_calls:
                yield from self._interrupted(request, content)
                continue
            try:
                parsed = self.prompt.parse(content.text)
            except ParseError as error:
                self._refuse(request, str(error), error)
                self.agent.add(self.dialog, Content.of("user", str(error)), "retry")
                continue
            return responded.message, Message(
                role="assistant",
                content=content.text,
                parsed=parsed,
                usage=responded.usage,
                cost=InvokeCost.of(responded.usage, responded.price),
            )

    def _interrupted(self, request: int, content: Content) -> Steps[None]:
        if self.interrupts.forbidden:
            self.interrupts.refuse(request, content.tool_calls)
            turns = self.config.max_interrupt_steps
            reason = f"It asked for tools again after {turns} turns of them (max_interrupt_steps)."
            self._refuse(request, reason, None)
            return
        yield from self.interrupts.run(request, content.tool_calls)
        if self.interrupts.forbidden:
            self.agent.add(self.dialog, Content.of("user", NO_MORE), "limit")

    # -- calling the model

    def _turn(self, step: int) -> Steps[tuple[int, Answer, LLMResponded]]:
        """One answer of the model, however many attempts it takes."""
        attempt = 0
        while True:
            attempt += 1
            self.agent.session.budget.check(f"the next call of {self.config.model_name}")
            number = self._request(step, attempt)
            began = time.perf_counter_ns()
            try:
                yield Commit(self.recorder)
                began = time.perf_counter_ns()
                answer = self._checked((yield Invoke(self.config.invoker, self._asked())))
            except InvokeError as error:
                wait = self._recall(number, error, time.perf_counter_ns() - began)
            except BaseException as error:
                self._attempt_failed(number, error, time.perf_counter_ns() - began)
                raise
            else:
                elapsed = time.perf_counter_ns() - began
                return number, answer, self._answered(number, answer, elapsed)
            yield Commit(self.recorder)
            yield Wait(wait)

    def _request(self, step: int, attempt: int) -> int:
        number = self.recorder.ordinal("request")
        invoker = self.config.invoker
        asked = [
            self.config.model_name,
            self.definition_stream,
            self._tool_choice(),
        ]
        self.recorder.stage(
            LLMRequested(
                request=number,
                call=self.number,
                step=step,
                attempt=attempt,
                provider=invoker.provider,
                api=invoker.api,
                host=invoker.host,
                port=invoker.port,
                model=self.config.model_name,
                dialog=self.dialog.number,
                upto=self.dialog.last_ordinal,
                definition=self.definition_stream,
                tool_choice=self._tool_choice(),
                digest=self.dialog.digest(self.recorder.salt, asked=asked),
            )
        )
        _invoker_logger.debug(
            "asking %s (step %d, attempt %d)", self.config.model_name, step, attempt
        )
        return number

    def _tool_choice(self) -> Literal["none"] | None:
        return "none" if self.definition.tools and self.interrupts.forbidden else None

    def _asked(self) -> Request:
        return Request(
            model=self.config.model_name,
            messages=self.dialog.contents,
            tools=self.definition.tools,
            params=self.config.model_args,
            output_schema=self.schema,
            tool_choice=self._tool_choice(),
            agent=self.agent.name,
        )

    def _checked(self, answer: object) -> Answer:
        if not isinstance(answer, Answer):
            raise TypeError(f"{self.config.invoker!r} gave a {type(answer).__name__}, no Answer.")
        return answer

    def _answered(self, number: int, answer: Answer, elapsed: int) -> LLMResponded:
        responded = LLMResponded(
            request=number,
            message=self.recorder.ordinal("message"),
            content=answer.content,
            finish=answer.finish,
            finish_raw=answer.finish_raw,
            agent=self.agent.name,
            asked=self.config.model_name,
            model=answer.model,
            response_id=answer.response_id,
            request_id=answer.request_id,
            service_tier=answer.service_tier,
            fingerprint=answer.fingerprint,
            usage_raw=to_plain(answer.usage_raw),
            usage=believable(answer.usage),
            price=price(
                answer.usage,
                provider=self.config.invoker.provider,
                model=answer.model,
                at=time.time_ns() - elapsed,
                service_tier=answer.service_tier,
            ),
            elapsed=elapsed,
        )
        self.recorder.stage(responded)
        self.agent.session.budget.spend(responded.price)
        self.dialog.add(responded.message, answer.content)
        _invoker_logger.debug(
            "%s answered in %.0f ms (%s)", answer.model, elapsed / 1_000_000, answer.finish
        )
        return responded

    def _recall(self, number: int, error: InvokeError, elapsed: int) -> int:
        """Schedule another call after one that failed; returns the wait in nanoseconds."""
        self._attempt_failed(number, error, elapsed)
        if not error.retryable:
            raise error
        limit = self.config.max_llm_recall
        if self.recalled >= limit:
            raise AgentError(
                f"Agent {self.agent.name!r} gave up: the model could not be reached in "
                f"{self.recalled + 1} calls. {error}"
            ) from error
        wait = self._backoff() if error.retry_after is None else max(error.retry_after, 0)
        self.recalled += 1
        self.recorder.stage(
            RetryScheduled(
                call=self.number,
                request=number,
                kind="llm_recall",
                attempt=self.recalled,
                limit=limit,
                wait=wait,
                reason=str(error),
            )
        )
        _agent_logger.warning(
            "calling again in %.2f s (%d of %d): %s",
            wait / 1e9, self.recalled, limit, without_keys(str(error)),
        )  # fmt: skip
        return wait

    def _backoff(self) -> int:
        doubled = self.config.recall_wait * 2.0 ** min(self.recalled, 60)
        seconds = min(doubled, _LONGEST_WAIT)
        return int(seconds * random.uniform(0.5, 1.0) * 1_000_000_000)

    def _attempt_failed(self, number: int, error: BaseException, elapsed: int) -> None:
        told = describe(error)
        self.recorder.stage(
            LLMFailed(
                request=number,
                agent=self.agent.name,
                asked=self.config.model_name,
                error=told,
                cancelled=is_cancellation(error),
                request_id=error.request_id if isinstance(error, InvokeError) else None,
                retry_after=error.retry_after if isinstance(error, InvokeError) else None,
                elapsed=elapsed,
            )
        )

    def _refuse(self, number: int, reason: str, error: Exception | None) -> None:
        """Schedule another answer after one that could not be taken."""
        limit = self.config.max_exception_retry
        if self.refused >= limit:
            raise AgentError(
                f"Agent {self.agent.name!r} gave up: no answer could be taken in "
                f"{self.refused + 1} tries. {reason}"
            ) from error
        self.refused += 1
        self.recorder.stage(
            RetryScheduled(
                call=self.number,
                request=number,
                kind="exception",
                attempt=self.refused,
                limit=limit,
                reason=reason,
            )
        )
        told = without_keys(reason)
        _agent_logger.warning("asking again (%d of %d): %s", self.refused, limit, told)
