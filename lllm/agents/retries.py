"""Decides if a failed model call or an invalid answer is tried again.

Each retry is an event of its own (`retry.scheduled`). Errors of the API such as a 429 wait as long
as the provider says, or else longer each time; an answer that can't be taken is asked for again
at once.
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
    """Counts the retries of one agent call, and schedules the next one while some are left.

    Args:
        config: The agent; it says how many retries there are of each kind, and how long they wait.
        session: Where retries are recorded.
        call: The number of the agent call in its session.
    """

    def __init__(self, config: AgentConfig, session: SessionScope, call: int) -> None:
        self._config = config
        self._session = session
        self._recorder = session.recorder
        self._call = call
        self._recalls = 0  # calls that were made again, since they failed
        self._refusals = 0  # answers that were asked for again, since they could not be taken

    def call_again(self, request: int, error: InvokeError) -> int:
        """Schedule another model call after a failed one.

        Args:
            request: The number of the call that failed.
            error: What it failed with.

        Returns:
            How long to wait before the next call, in nanoseconds.

        Raises:
            InvokeError: `error`, where another call would fail as well.
            AgentError: No retries are left, or the provider asks for a longer wait than
                `max_retry_wait` of the agent.
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
            answer: The answer.
            reason: Why it could not be taken, as the log and its readers are told.
            error: The error that says the same, if there is one.

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
                f"no answer could be taken in {self._refusals + 1} tries. {reason}"
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
        """Choose a wait if the provider names none, in nanoseconds.

        It doubles each time, less up to a half of it at random. A replay has the recorded one.
        """
        recorded = recorded_failure(error)
        if recorded is not None and recorded.wait is not None:
            return recorded.wait
        doubled = self._config.recall_wait * 2.0 ** min(self._recalls, 60)
        seconds = min(doubled, self._config.max_retry_wait)
        return int(seconds * random.uniform(0.5, 1.0) * 1_000_000_000)

    def _gave_up(self, why: str) -> AgentError:
        return AgentError(f"Agent {self._config.name!r} gave up: {why}")
