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
    """Decides what happens where a captured client differs from its recording."""

    def unrecorded_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle an attempt that was never recorded.

        Args:
            place: The place of the attempt.
            why: What differs, for the message of the error.

        Raises:
            ReplayDivergence: The recorded client made no such attempt.
            ReplayInterrupted: The recording ends before this attempt.
            GoesLive: The real model is to be asked.
        """

    def broke_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle the end of the recording.

        Args:
            place: The place at which the recording ends.
            why: Why it ends there, for the message of the error.

        Raises:
            ReplayInterrupted: The replay can't go on.
            GoesLive: The real model is to be asked.
        """

    def attempted(self, attempt: ClientAttempt) -> None:
        """Note that the client made a recorded attempt again."""


class RecordedHttp(msgspec.Struct, frozen=True):
    """A recorded attempt of an SDK; see `lllm.replay.active_replay.AnsweredAttempt`."""

    end: LLMResponded | LLMFailed
    http: HttpAnswer
    until_cancelled: int | None = None


class AnsweredClient:
    """Answers the attempts of one call; see `lllm.replay.active_replay.AnswersClient`.

    Args:
        judge: The session of the replay; it decides what a difference leads to.
        call: The recorded call that answers.
        asked: The request that the client makes now.
        place: The place of the call in the session.
    """

    def __init__(
        self, judge: ClientJudge, call: ClientCall, asked: ClientRequest, place: ReplayPlace
    ) -> None:
        self._judge = judge
        self._call = call
        self._asked = asked
        self._place = place

    def attempt(self, number: int) -> RecordedHttp | None:
        """Answer one attempt; see `AnswersClient.attempt`."""
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
