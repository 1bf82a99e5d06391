"""Handles calls of a replayed session that its recording does not have.

A recording may have no such call, or it may end before it. The one is a difference. The other is
none: the recorded process ended there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from lllm.events.model import AgentFailed, SessionSucceeded
from lllm.replay.divergence import ReplayDivergence, ReplayInterrupted, ReplayPlace
from lllm.replay.outcome_text import client_outcome_text, outcome_text
from lllm.replay.recorded_agents import RecordedCall
from lllm.replay.recorded_session import RecordedSession

if TYPE_CHECKING:
    from lllm.replay.replay import Replay


class Unrecorded:
    """Handles what one session of a replay does and its recording does not have.

    Args:
        replay: The replay that the session belongs to.
        recorded: The recorded session; None if none was recorded.
    """

    def __init__(self, replay: Replay, recorded: RecordedSession | None) -> None:
        self._replay = replay
        self._recorded = recorded

    def handle(self, call: RecordedCall | None, place: ReplayPlace, why: str) -> NoReturn:
        """Handle a call that was never recorded.

        Args:
            call: The recorded agent call in which it is made; None if there is none.
            place: The place of the call.
            why: What differs, for the message of the error.

        Raises:
            ReplayDivergence: The recorded code made no such call.
            ReplayInterrupted: The recording ends before this call.
            GoesLive: The call is to be made.
        """
        recorded = self._recorded
        if recorded is not None and recorded.is_stopped:
            self._replay.go_on()
            self._replay.go_live()
            end = None if call is None else call.end
            if end is None or (isinstance(end, AgentFailed) and end.cancelled):
                self.recording_ends(
                    place, "Nothing more was recorded: the session had no end of its own."
                )
        self._replay.differ(
            ReplayDivergence(
                why, kind="unrecorded", place=place, recorded_next=self.recorded_next()
            ),
            can_go_on=self._replay.may_go_live,
        )
        self._replay.go_live()
        raise AssertionError("what was never recorded can't go on")

    def recorded_next(self) -> str:
        """Describe what was recorded next, for the message of an error."""
        recorded = self._recorded
        if recorded is None:
            return "nothing."
        for call in recorded.captured.values():
            if self._replay.missing.of_client(recorded, call) is not None:
                requested = call.requested
                return f"a captured client asked {requested.model}, and {client_outcome_text(call)}"
        left = (one for one in recorded.attempts() if self._replay.missing.is_missing(one))
        attempt = next(left, None)
        if attempt is not None:
            asked = f"agent {attempt.call.started.agent!r} asked {attempt.requested.model}"
            return f"{asked} (step {attempt.requested.step}), and {outcome_text(attempt)}"
        if isinstance(recorded.end, SessionSucceeded):
            return "nothing: the session succeeded."
        return "nothing: the session failed."

    def recording_ends(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle the end of the recording.

        Args:
            place: The place at which the recording ends.
            why: Why it ends there, for the message of the error.

        Raises:
            ReplayInterrupted: The replay can't go on.
            GoesLive: The call is to be made.
        """
        self._replay.go_on()
        self._replay.go_live()
        recorded = self._recorded or self._replay.recording
        self._replay.interrupt(
            ReplayInterrupted(
                f"The recording of session {recorded.session_id} ends here, and everything before "
                f"was the same. {why}",
                place=place,
            )
        )
