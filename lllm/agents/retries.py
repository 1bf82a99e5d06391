"""Decides whether a failed model call or a rejected answer is tried again.

Each retry is an event (`retry.scheduled`). After an error of the API, such as a 429, lllm waits as
long as the provider says, or else longer with each retry. After a rejected answer, it asks again at
once.
"""

from __future__ import annotations

import logging
import random

from lllm.agents.config import AgentConfig
from lllm.events.errors import AgentError, InvokeError
from lllm.events.model import LLMRefused, LLMResponded, RetryScheduled
from lllm.events.redaction.cut_text import without_secrets
from lllm.replay.outcome import recorded_failure
from lllm.sessions.session import SessionScope

_logger = logging.getLogger("lllm.agent")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler


class Retries:
    """Counts the retries of one agent call, and schedules the next one if any are left.

    Args:
        config: The configuration of the agent, with the limits and waits of retries.
        session: The session in which retries are recorded.
        call: The number of the agent call within its session.
    """

    def __init__(self, config: AgentConfig, session: SessionScope, call: int) -> None:
        self._config = config
        self._session = session
        self._recorder = session.recorder
        self._call = call
        self._recalls = 0  # retries after failed calls
        self._refusals = 0  # retries after rejected answers

    def call_again(self, request: int, error: InvokeError) -> int:
        """Schedule another model call after a failed one.

        Args:
            request: The number of the failed call within the session.
            error: The error of that call.

        Returns:
            The time to wait before the next call, in nanoseconds.

        Raises:
            InvokeError: The given `error`, if a retry would fail, too.
            AgentError: No retries are left, or the provider asks for a longer wait than the agent's
                `max_retry_wait`.
        """
        if not error.retryable:
            raise error
        config, limit = self._config, self._config.max_llm_recall
        if self._recalls >= limit:
            raise self._gave_up(
                f"the model could not be reached in {self._recalls + 1} calls. {error}"
            ) from error
        wait = self._backoff(error) if error.retry_after is None else max(error.retry_after, 0)
        if wait > config.max_retry_wait * 1_000_000_000:
            raise self._gave_up(
                f"the provider asks to wait {wait / 1_000_000_000:,.0f} s before the next call, "
                f"and max_retry_wait of the agent is {config.max_retry_wait:g} s. {error}"
            ) from error
        self._recalls += 1
        self._recorder.stage(
            RetryScheduled(
                call=self._call,
                request=request,
                kind="llm_recall",
                attempt=self._recalls,
                limit=limit,
                wait=wait,
                reason=str(error),
            )
        )
        _logger.warning(
            "calling again in %.2f s (%d of %d): %s",
            wait / 1e9, self._recalls, limit, without_secrets(str(error)),
        )  # fmt: skip
        return wait

    def ask_again(self, answer: LLMResponded, reason: str, error: Exception | None = None) -> None:
        """Record that an answer was rejected, and schedule another one.

        Args:
            answer: The rejected answer.
            reason: The reason, as a sentence for the log and its readers.
            error: The error behind the reason; None if there is none.

        Raises:
            AgentError: No retries are left.
        """
        refused = LLMRefused(
            request=answer.request,
            agent=answer.agent,
            asked=answer.asked,
            cost=answer.price.nanos,
            reason=reason,
        )
        self._recorder.stage(self._session.unbilled(refused))
        limit = self._config.max_exception_retry
        if self._refusals >= limit:
            raise self._gave_up(
                f"no answer was accepted in {self._refusals + 1} tries. {reason}"
            ) from error
        self._refusals += 1
        self._recorder.stage(
            RetryScheduled(
                call=self._call,
                request=answer.request,
                kind="exception",
                attempt=self._refusals,
                limit=limit,
                reason=reason,
            )
        )
        _logger.warning(
            "asking again (%d of %d): %s", self._refusals, limit, without_secrets(reason)
        )

    def _backoff(self, error: InvokeError) -> int:
        """Choose the wait, in nanoseconds, if the provider names none.

        It doubles with each retry, minus a random part of up to a half. A replay uses the recorded
        wait.
        """
        recorded = recorded_failure(error)
        if recorded is not None and recorded.wait is not None:
            return recorded.wait
        doubled = self._config.recall_wait * 2.0 ** min(self._recalls, 60)
        seconds = min(doubled, self._config.max_retry_wait)
        return int(seconds * random.uniform(0.5, 1.0) * 1_000_000_000)

    def _gave_up(self, why: str) -> AgentError:
        return AgentError(f"Agent {self._config.name!r} gave up: {why}")
