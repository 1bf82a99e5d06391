"""Calls the model within one `respond()`, and records the start and end of each attempt.

`llm.requested` is durable before the invoker is called; `llm.responded` or `llm.failed` follows,
with the cost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from lllm.agents.answer_stream import Piece
from lllm.agents.dialog import Dialog
from lllm.agents.effects import Commit, Invoke, Steps
from lllm.events.errors import SessionEnded
from lllm.events.model import LLMRequested, LLMResponded
from lllm.invokers import Answer, OnText, Request, Streams
from lllm.pricing.request_media import sent_in
from lllm.sessions.attempt import Attempt

if TYPE_CHECKING:
    from lllm.agents.agent import Agent

_logger = logging.getLogger("lllm.invoker")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler
OnPiece = Callable[[Piece], object]
ENDED = "The session ended before the call did."


class ModelCalls:
    """Calls the model for one agent call, and records each result.

    Args:
        agent: The agent that calls the model.
        dialog: The dialog that the model answers.
        call: The number of the agent call within its session.
        on_text: A function that is called with each piece of an answer's text; None for none.
        ending: The lock of the agent call; it is held while an end is recorded.
    """

    def __init__(
        self,
        agent: Agent,
        dialog: Dialog,
        call: int,
        on_text: OnPiece | None,
        ending: threading.RLock,
    ) -> None:
        self._agent = agent
        self._config = agent.config
        self._recorder = agent.recorder
        self._dialog = dialog
        self._call = call
        self._on_text = on_text
        self._ending = ending
        self._definition = agent.definition_of(dialog)
        self._output_schema = agent.prompt_of(dialog).output_schema()
        self.definition_stream = self._recorder.define(self._definition)
        self._open: Attempt | None = None  # the attempt that waits for its answer
        self._heard: list[str] = []  # the pieces of its text so far

    def ask(
        self, request: int, step: int, attempt: int, *, tools_forbidden: bool
    ) -> Steps[LLMResponded]:
        """Call the model once.

        Args:
            request: The number of this call within the session.
            step: The number of the answer within the agent call, from 1.
            attempt: The number of tries for that answer so far, including this one.
            tools_forbidden: True if the answer must not call tools any more.

        Returns:
            The answer, as recorded.

        Raises:
            InvokeError: The call failed.
            SessionEnded: The session ended before the model was called, or before it answered.
        """
        forbids = tools_forbidden and self._definition.tools
        tool_choice: Literal["none"] | None = "none" if forbids else None
        self._heard = []
        self._open = self._begin(request, step, attempt, tool_choice)
        try:
            yield Commit(self._recorder)
            with self._ending:
                if self._open is None:
                    raise SessionEnded(f"{ENDED} The model was not called.")
                self._open = msgspec.structs.replace(self._open, began=time.perf_counter_ns())
            answer = yield Invoke(
                self._config.invoker,
                Request(
                    model=self._config.model_name,
                    messages=self._dialog.contents,
                    tools=self._definition.tools,
                    params=self._config.model_args,
                    output_schema=self._output_schema,
                    tool_choice=tool_choice,
                    agent=self._agent.name,
                ),
                self._text_listener(request, attempt),
                step,
                attempt,
            )
            if not isinstance(answer, Answer):
                raise TypeError(
                    f"{self._config.invoker!r} returned a {type(answer).__name__}, not an Answer."
                )
        except BaseException as error:
            self.fail(error)
            raise
        return self._respond(answer)

    def fail(self, error: BaseException) -> None:
        """Record that the pending call failed.

        If no call is pending, its session has ended meanwhile, and has recorded the failure.

        Args:
            error: The error of the call.
        """
        with self._ending:
            attempt, self._open = self._open, None
            if attempt is None:
                return
            failed = attempt.failed(error, said="".join(self._heard))
            self._recorder.stage(self._agent.session.unbilled(failed))
        self._agent.session.budget.charge(failed)

    def _respond(self, answer: Answer) -> LLMResponded:
        """Record the answer, and add it to the dialog."""
        with self._ending:
            attempt, self._open = self._open, None
            if attempt is None:
                raise SessionEnded(f"{ENDED} Its later answer is not recorded.")
            responded = attempt.responded(answer, message=self._recorder.ordinal("message"))
            self._recorder.stage(self._agent.session.unbilled(responded))
        self._agent.session.budget.charge(responded)
        self._dialog.add(responded.message, answer.content)
        _logger.debug(
            "%s answered in %.0f ms (%s)", answer.model, responded.elapsed / 1e6, answer.finish
        )
        return responded

    def _begin(
        self, request: int, step: int, attempt: int, tool_choice: Literal["none"] | None
    ) -> Attempt:
        """Stage `llm.requested`, and return the attempt."""
        config, dialog, invoker = self._config, self._dialog, self._config.invoker
        sent = sent_in(dialog.contents, config.model_args)
        self._recorder.stage(
            LLMRequested(
                request=request,
                call=self._call,
                step=step,
                attempt=attempt,
                provider=config.provider,
                api=invoker.api,
                host=invoker.host,
                port=invoker.port,
                model=config.model_name,
                dialog=dialog.number,
                upto=dialog.last_ordinal,
                definition=self.definition_stream,
                tool_choice=tool_choice,
                service_tier=sent.tier,
                media=sent.media,
                stream=self._on_text is not None and isinstance(invoker, Streams),
                digest=dialog.digest(
                    self._recorder.salt,
                    asked=[config.model_name, self.definition_stream, tool_choice],
                ),
            )
        )
        _logger.debug("asking %s (step %d, attempt %d)", config.model_name, step, attempt)
        return Attempt(
            request=request,
            agent=config.name,
            provider=config.provider,
            asked=config.model_name,
            began=time.perf_counter_ns(),
            prices=self._agent.session.host.prices,
            host=invoker.host,
            port=invoker.port,
            sent=sent,
        )

    def _text_listener(self, request: int, attempt: int) -> OnText | None:
        """Make the callback for each piece of text; None if nobody needs the pieces."""
        on_text, heard = self._on_text, self._heard
        if on_text is None:
            return None

        def listener(text: str) -> None:
            heard.append(text)
            on_text(Piece(text, request=request, attempt=attempt))

        return listener
