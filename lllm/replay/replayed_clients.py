"""Answers the calls of captured clients in one session of a replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lllm.replay.answered_prices import AnsweredPrices
from lllm.replay.answering_clients import AnsweredClient
from lllm.replay.client_call_matching import ClientCalls
from lllm.replay.client_requests import ClientComparing, ClientRequest
from lllm.replay.divergence import ReplayDivergence, ReplayPlace
from lllm.replay.outcome_text import client_outcome_text
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.unrecorded import Unrecorded
from lllm.sessions.budget import Budget

if TYPE_CHECKING:
    from lllm.replay.replay import Replay


class ReplayedClients:
    """Answers the calls of captured clients from a recorded session.

    Args:
        replay: The replay that the session belongs to.
        recorded: The recorded session that has the answers; None if none was recorded.
        place: The place of the session in the tree of sessions.
        prices: The prices of answered attempts.
        unrecorded: Handles calls that were never recorded.
        is_concurrent: A function that tells whether the order of the present call is up to threads,
            so that only an equal recorded call can answer it.
    """

    def __init__(
        self,
        replay: Replay,
        recorded: RecordedSession | None,
        place: ReplayPlace,
        prices: AnsweredPrices,
        unrecorded: Unrecorded,
        is_concurrent: Callable[[], bool],
    ) -> None:
        self._replay = replay
        self._recorded = recorded
        self._place = place
        self._prices = prices
        self._unrecorded = unrecorded
        self._is_concurrent = is_concurrent
        self._left: ClientCalls | None = None  # None before the first call of a client

    def ask(self, asked: ClientRequest) -> AnsweredClient:
        """Answer one call of a captured client.

        Args:
            asked: The request of the client.

        Returns:
            The object that answers the attempts of the call.

        Raises:
            ReplayDivergence: The request differs from what was recorded.
            ReplayInterrupted: The recording ends before this call.
            GoesLive: The real model is to be asked.
        """
        place = msgspec.structs.replace(self._place, client=asked.client)
        call, found, again = self._calls().serve(asked, only_equal=self._is_concurrent())
        if call is None:
            why = (
                "A captured client asks the same once more than in the recording."
                if again
                else "A captured client asks where nothing more was recorded."
            )
            self.unrecorded_client(place, why)
        place = msgspec.structs.replace(place, dialog=call.place, step=call.step)
        self._replay.progress.judge(place, found.verdict)
        if found.verdict == "diverged":
            for attempt in call.attempts.values():
                self.attempted(attempt)
            self._replay.differ(
                ReplayDivergence(
                    "A captured client asks something else than in the recording.",
                    kind="changed",
                    place=msgspec.structs.replace(place, attempt=1),
                    differs=found.differs,
                    diff=found.diff,
                    recorded_next=client_outcome_text(call),
                )
            )
            self._replay.go_live()
        return AnsweredClient(self, call, asked, place)

    def _calls(self) -> ClientCalls:
        with self._replay.lock.held():
            if self._left is None:
                comparing = ClientComparing(self._replay.host.redact, self._replay.ignored)
                recorded = self._recorded or self._replay.recording
                self._left = ClientCalls(recorded, comparing)
            return self._left

    def attempted(self, attempt: ClientAttempt) -> None:
        """Note that a recorded attempt of a captured client was made; see `ClientJudge`."""
        self._replay.progress.note("asked", attempt.position)
        if attempt.end is not None:
            self._prices.give(attempt.end.price)

    def unrecorded_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle a call of a captured client that was never recorded; see `ClientJudge`."""
        self._unrecorded.handle(None, place, why)

    def broke_client(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle the end of the recording in a captured client's call; see `ClientJudge`."""
        self._unrecorded.recording_ends(place, why)

    def leave_out(self, call: ClientCall, budget: Budget) -> None:
        """Skip and charge a call that was made within a tool which the log answers.

        Args:
            call: The recorded call.
            budget: The budget of the session, which pays its recorded cost.
        """
        self._calls().set_aside(call)
        for attempt in call.attempts.values():
            if self._replay.progress.has("asked", attempt.position):
                continue
            self.attempted(attempt)
            if attempt.end is not None and attempt.end.price is not None:
                budget.spend(attempt.end.price)
