"""What happens in one `respond()`: the loop that calls the model, runs tools and tries again.

It is written as a generator of effects (see `lllm.agents.effects`), so threads and event loops
share it. Every turn of the loop is staged as events before the next call outside begins.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from lllm.agents.dialog import Dialog, Message, Piece
from lllm.agents.effects import Commit, Invoke, Steps, Wait
from lllm.agents.tool_calls import NO_MORE, Interrupts
from lllm.events.errors import AgentError, InvokeError, ParseError, SessionEnded
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    Limits,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    Price,
    RetryScheduled,
)
from lllm.events.recorder import log_context
from lllm.events.redaction.known_secrets import without_secrets
from lllm.events.values.json_values import to_plain
from lllm.invokers import Answer, OnText, Request, Streams
from lllm.pricing.priced_requests import Sent, sent_in
from lllm.projections.session.invoke_cost import InvokeCost
from lllm.sessions.attempt import Attempt
from lllm.sessions.context_values import during
from lllm.sessions.session import current, describe, is_cancellation

if TYPE_CHECKING:
    from lllm.agents.agent import Agent

_agent_logger = logging.getLogger("lllm.agent")
_agent_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler
_invoker_logger = logging.getLogger("lllm.invoker")
_invoker_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler
OnPiece = Callable[[Piece], object]
_ENDED = "The session ended before the call did."
_UNKNOWN = Price("unpriced", reason="It was left before the provider said what it used.")


def respond(
    agent: Agent, dialog: Dialog, on_text: OnPiece | None = None, *, on_loop: bool = False
) -> Steps[Message]:
    """The steps of one agent call; returns the message that it delivers.

    on_text: gets what the model says while it comes. on_loop: whether an event loop drives it.
    """
    # A thread of the user's own knows of no session; what tools do belongs to the agent's.
    session = agent.session
    with during(current, session), during(log_context, session.log_context | {"agent": agent.name}):
        return (yield from _Call(agent, dialog, on_text, on_loop=on_loop).steps())


class _Call:
    """One agent call, while it runs. It is an OpenCall: its session, or the interpreter, may end
    while a thread or a task of the user's own still runs it, or nobody goes on with it."""

    def __init__(
        self, agent: Agent, dialog: Dialog, on_text: OnPiece | None, *, on_loop: bool
    ) -> None:
        self.agent = agent
        self.on_text = on_text
        self.said: list[str] = []  # by the attempt that is under way
        self.config = agent.config
        self.dialog = dialog
        self.recorder = agent.recorder
        self.prompt = agent.prompt_of(dialog)
        self.interrupts = Interrupts(
            self.recorder, dialog, agent.tools_of(dialog), self.config.max_interrupt_steps,
            at_once=self.config.max_parallel_tools, on_loop=on_loop,
        )  # fmt: skip
        self.number = self.recorder.ordinal("call")
        self.definition = agent.definition_of(dialog)
        self.definition_stream = self.recorder.define(self.definition)
        self.schema = self.prompt.output_schema()
        self.refused = 0  # answers that did not parse
        self.recalled = 0  # calls that failed and were made again
        self.began = time.perf_counter_ns()
        self._trying: Attempt | None = None  # the attempt that waits for its answer
        self._over = False
        self._ending = threading.RLock()

    def steps(self) -> Steps[Message]:
        self.began = time.perf_counter_ns()
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
        self.agent.session.calls.add(self)
        try:
            ordinal, message = yield from self._loop()
            self._delivered(ordinal, message)
        except BaseException as error:
            if not self._over:
                for told in self.interrupts.settle(error):
                    self.dialog.add(*told)
            self._failed(error)
            raise
        finally:
            self.agent.session.calls.remove(self)
        return message

    def _delivered(self, ordinal: int, message: Message) -> None:
        elapsed = time.perf_counter_ns() - self.began
        parsed = None if message.parsed is None else to_plain(message.parsed)
        self.recorder.stage(
            AgentSucceeded(call=self.number, answer=ordinal, parsed=parsed, elapsed=elapsed)
        )
        self._over = True

    def _failed(self, error: BaseException) -> None:
        with self._ending:
            if self._over:
                return
            self._over = True
            self.recorder.stage(
                AgentFailed(
                    call=self.number,
                    error=describe(error),
                    cancelled=is_cancellation(error),
                    elapsed=time.perf_counter_ns() - self.began,
                )
            )

    def settle(self) -> None:
        """See OpenCall."""
        left = GeneratorExit(_ENDED)
        with self._ending:
            if self._over or self.recorder.in_child:
                return
            trying, self._trying = self._trying, None
            if trying is not None:
                failed = trying.failed(left, said="".join(self.said))
                failed = msgspec.structs.replace(failed, price=failed.price or _UNKNOWN)
                self.recorder.stage(failed)
                self.agent.session.budget.charge(failed)
            self.interrupts.settle(left)
            self._failed(left)

    def settle_at_exit(self) -> None:
        """See OpenCall."""
        self.settle()
        if not self.recorder.in_child:
            self.recorder.commit()

    def _loop(self) -> Steps[tuple[int, Message]]:
        step = 0
        while True:
            step += 1
            responded = yield from self._turn(step)
            content = responded.content
            if content.tool_calls:
                yield from self._interrupted(responded)
                continue
            try:
                parsed = self.prompt.parse(content.text)
            except ParseError as error:
                self._refuse(responded, str(error), error)
                self.agent.add(self.dialog, Content.of("user", str(error)), "retry")
                continue
            return responded.message, Message(
                role="assistant",
                content=content.text,
                parsed=parsed,
                usage=responded.usage,
                cost=InvokeCost.of(responded.usage, responded.price),
            )

    def _interrupted(self, answer: LLMResponded) -> Steps[None]:
        request, wanted = answer.request, answer.content.tool_calls
        if self.interrupts.forbidden:
            self.interrupts.refuse(request, wanted)
            turns = self.config.max_interrupt_steps
            reason = f"It asked for tools again after {turns} turns of them (max_interrupt_steps)."
            self._refuse(answer, reason, None)
            return
        yield from self.interrupts.run(request, wanted)
        if self.interrupts.forbidden:
            self.agent.add(self.dialog, Content.of("user", NO_MORE), "limit")

    # -- calling the model

    def _turn(self, step: int) -> Steps[LLMResponded]:
        """One answer of the model, however many attempts it takes."""
        attempt = 0
        while True:
            attempt += 1
            self.agent.session.budget.check(f"the next call of {self.config.model_name}")
            sent = sent_in(self.dialog.contents, self.config.model_args)
            number = self._request(step, attempt, sent)
            self._trying = self._attempt(number, sent)
            try:
                yield Commit(self.recorder)
                self._trying = self._attempt(number, sent)
                invoke = Invoke(self.config.invoker, self._asked(), self._told(number, attempt))
                answer = self._checked((yield invoke))
            except InvokeError as error:
                wait = self._recall(number, error)
            except BaseException as error:
                self._attempt_failed(error)
                raise
            else:
                return self._answered(answer)
            yield Commit(self.recorder)
            yield Wait(wait)

    def _request(self, step: int, attempt: int, sent: Sent) -> int:
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
                provider=self.config.provider,
                api=invoker.api,
                host=invoker.host,
                port=invoker.port,
                model=self.config.model_name,
                dialog=self.dialog.number,
                upto=self.dialog.last_ordinal,
                definition=self.definition_stream,
                tool_choice=self._tool_choice(),
                service_tier=sent.tier,
                media=sent.media,
                stream=self.on_text is not None and isinstance(invoker, Streams),
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

    def _told(self, request: int, attempt: int) -> OnText | None:
        on_text = self.on_text
        if on_text is None:
            return None
        self.said = []

        def told(text: str) -> None:
            self.said.append(text)
            on_text(Piece(text, request=request, attempt=attempt))

        return told

    def _checked(self, answer: object) -> Answer:
        if not isinstance(answer, Answer):
            raise TypeError(f"{self.config.invoker!r} gave a {type(answer).__name__}, no Answer.")
        return answer

    def _attempt(self, number: int, sent: Sent) -> Attempt:
        return Attempt(
            request=number,
            agent=self.agent.name,
            provider=self.config.provider,
            asked=self.config.model_name,
            began=time.perf_counter_ns(),
            prices=self.agent.session.host.prices,
            host=self.config.invoker.host,
            port=self.config.invoker.port,
            sent=sent,
        )

    def _answered(self, answer: Answer) -> LLMResponded:
        with self._ending:
            attempt, self._trying = self._trying, None
            if attempt is None:
                raise SessionEnded(f"{_ENDED} What came of it later is not recorded.")
            responded = attempt.responded(answer, message=self.recorder.ordinal("message"))
            self.recorder.stage(responded)
        self.agent.session.budget.charge(responded)
        self.dialog.add(responded.message, answer.content)
        _invoker_logger.debug(
            "%s answered in %.0f ms (%s)", answer.model, responded.elapsed / 1e6, answer.finish
        )
        return responded

    def _recall(self, request: int, error: InvokeError) -> int:
        """Schedule another call after one that failed; returns the wait in nanoseconds."""
        self._attempt_failed(error)
        if not error.retryable:
            raise error
        limit = self.config.max_llm_recall
        if self.recalled >= limit:
            raise AgentError(
                f"Agent {self.agent.name!r} gave up: the model could not be reached in "
                f"{self.recalled + 1} calls. {error}"
            ) from error
        wait = self._backoff() if error.retry_after is None else max(error.retry_after, 0)
        longest = self.config.max_retry_wait
        if wait > longest * 1_000_000_000:
            raise AgentError(
                f"Agent {self.agent.name!r} gave up: the provider asks to wait "
                f"{wait / 1_000_000_000:,.0f} s before the next call, and max_retry_wait of the "
                f"agent is {longest:g} s. {error}"
            ) from error
        self.recalled += 1
        self.recorder.stage(
            RetryScheduled(
                call=self.number,
                request=request,
                kind="llm_recall",
                attempt=self.recalled,
                limit=limit,
                wait=wait,
                reason=str(error),
            )
        )
        _agent_logger.warning(
            "calling again in %.2f s (%d of %d): %s",
            wait / 1e9, self.recalled, limit, without_secrets(str(error)),
        )  # fmt: skip
        return wait

    def _backoff(self) -> int:
        doubled = self.config.recall_wait * 2.0 ** min(self.recalled, 60)
        seconds = min(doubled, self.config.max_retry_wait)
        return int(seconds * random.uniform(0.5, 1.0) * 1_000_000_000)

    def _attempt_failed(self, error: BaseException) -> None:
        with self._ending:
            attempt, self._trying = self._trying, None
            if attempt is None:
                return  # its session has ended meanwhile, and has said so
            failed = attempt.failed(error, said="".join(self.said))
            self.recorder.stage(failed)
        self.agent.session.budget.charge(failed)

    def _refuse(self, answer: LLMResponded, reason: str, error: Exception | None) -> None:
        """Schedule another answer after one that could not be taken."""
        self.recorder.stage(
            LLMRefused(
                request=answer.request,
                agent=answer.agent,
                asked=answer.asked,
                cost=answer.price.nanos,
                reason=reason,
            )
        )
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
                request=answer.request,
                kind="exception",
                attempt=self.refused,
                limit=limit,
                reason=reason,
            )
        )
        told = without_secrets(reason)
        _agent_logger.warning("asking again (%d of %d): %s", self.refused, limit, told)
