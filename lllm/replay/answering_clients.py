"""Answers the attempts of one call of a captured client from a recorded call."""

from __future__ import annotations

from typing import NoReturn, Protocol

import msgspec

from lllm.events.model import LLMFailed, LLMResponded
from lllm.replay.answering_agents import LEFT
from lllm.replay.client_requests import ClientRequest
from lllm.replay.divergence import GoesLive, ReplayPlace
from lllm.replay.outcome import CANCELLED_TASK, is_stop
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.wire.http_answer import HttpAnswer, WireRequest, of_failure, of_response

_SECOND = 1_000_000_000


class ClientJudge(Protocol):
    """Says what a difference leads to."""

    def unrecorded_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """It was never recorded. Raises ReplayDivergence, ReplayInterrupted or GoesLive."""

    def broke_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """The recording ends here. Raises ReplayInterrupted or GoesLive."""

    def attempted(self, attempt: ClientAttempt) -> None:
        """Note that a recorded attempt was made again."""


class RecordedHttp(msgspec.Struct, frozen=True):
    """See `lllm.replay.active_replay.AnsweredAttempt`."""

    end: LLMResponded | LLMFailed
    http: HttpAnswer
    until_cancelled: int | None = None


class AnsweredClient:
    """See `lllm.replay.active_replay.AnswersClient`.

    Args:
        judge: The session of the replay.
        call: The recorded call.
        asked: What is asked now.
        place: Where.
    """

    def __init__(
        self, judge: ClientJudge, call: ClientCall, asked: ClientRequest, place: ReplayPlace
    ) -> None:
        self._judge = judge
        self._call = call
        self._asked = asked
        self._place = place

    def attempt(self, number: int) -> RecordedHttp | None:
        """See AnswersClient."""
        try:
            return self._attempt(number)
        except GoesLive:
            return None

    def _attempt(self, number: int) -> RecordedHttp:
        place = msgspec.structs.replace(self._place, attempt=number)
        attempt = self._call.attempts.get(number)
        if attempt is None:
            why = "A captured client tries again where it did not try again before."
            self._judge.unrecorded_client(place, why)
        self._judge.attempted(attempt)
        end = attempt.end
        if end is None:
            self._judge.broke_client(place, "The process ended while the model was asked.")
        asked = self._wire(attempt)
        created = attempt.ended // _SECOND
        if isinstance(end, LLMResponded):
            return RecordedHttp(end, of_response(end, asked, created=created))
        retried = number + 1 in self._call.attempts
        http = of_failure(end, asked, created=created, retried=retried)
        stopped = end.cancelled or is_stop(end.error)
        if not stopped or (asked.stream and http.status):
            return RecordedHttp(end, http)
        if end.error.type != CANCELLED_TASK:
            self._judge.broke_client(place, LEFT)
        return RecordedHttp(end, http, until_cancelled=attempt.after)

    def _wire(self, attempt: ClientAttempt) -> WireRequest:
        asked, requested = self._asked, attempt.requested
        return WireRequest(
            api=requested.api,
            operation=requested.operation,
            stream=asked.stream,
            body=asked.body,
            host=requested.host,
            bedrock=asked.bedrock,
        )
