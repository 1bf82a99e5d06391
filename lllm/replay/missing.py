"""Finds recorded calls, requests and values that the code of a replay did not repeat."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lllm.events.model import LLMFailed
from lllm.replay.divergence import ReplayDivergence, ReplayPlace
from lllm.replay.outcome_text import outcome_text
from lllm.replay.progress import Progress
from lllm.replay.recorded_agents import RecordedAttempt
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.recorded_session import RecordedSession, RecordedValue

_NOT_ASKED = "A recorded request was not made"


class Missing:
    """Finds what a session has recorded and its replay did not repeat.

    Args:
        recording: The recorded session that is replayed.
        progress: Knows what the replay has repeated.
    """

    def __init__(self, recording: RecordedSession, progress: Progress) -> None:
        self._recording = recording
        self._progress = progress

    def divergence(self) -> ReplayDivergence | None:
        """Make one divergence of all that is missing.

        Returns:
            The divergence, at the place of the first missing step; None if nothing is missing.
        """
        missing = list(self._found())
        if not missing:
            return None
        what, place, recorded_next = missing[0]
        others = "".join(f"\n- {other}" for _, other, _ in missing[1:])
        more = f", and {len(missing) - 1} more:{others}" if others else ""
        return ReplayDivergence(
            f"{what}{more}.", kind="missing", place=place, recorded_next=recorded_next
        )

    def _found(self) -> Iterator[tuple[str, ReplayPlace, str]]:
        """Find what is missing, each with its place and the text of what was recorded there."""
        waiting = [self._recording]
        while waiting:
            session = waiting.pop()
            begun = self._progress.has("begun", session.session_id)
            left_out = self._progress.has("left out", session.session_id)
            if left_out or (session.is_stopped and not begun):
                continue
            place = ReplayPlace(
                tactic=session.tactic_path,
                session_id=session.session_id,
                child=None if session is self._recording else session.started.ordinal,
            )
            if not begun:
                if not session.may_be_cut_off:
                    yield "A recorded call was not made", place, "a call of the tactic."
                continue
            yield from self._in_session(session, place)
            waiting += reversed(session.children)

    def _in_session(
        self, session: RecordedSession, place: ReplayPlace
    ) -> Iterator[tuple[str, ReplayPlace, str]]:
        for attempt in session.attempts():
            if self.is_missing(attempt):
                call, requested = attempt.call, attempt.requested
                yield (
                    _NOT_ASKED,
                    msgspec.structs.replace(
                        place, agent=call.started.agent, dialog=call.alias,
                        respond=call.nth, step=requested.step, attempt=requested.attempt,
                    ),
                    outcome_text(attempt),
                )  # fmt: skip
        for client_call in session.captured.values():
            missed = self.of_client(session, client_call)
            if missed is not None:
                requested = missed.requested
                yield (
                    _NOT_ASKED,
                    msgspec.structs.replace(
                        place, client=requested.operation, dialog=client_call.place,
                        step=client_call.step, attempt=requested.attempt,
                    ),
                    outcome_text(missed),
                )  # fmt: skip
        for value in self._values(session):
            gave = f"lllm.{value.drawn.kind}() gave {value.drawn.value}."
            yield "A recorded value was not drawn", place, gave

    def is_missing(self, attempt: RecordedAttempt) -> bool:
        """True if the replay should have repeated a recorded attempt, and did not.

        Args:
            attempt: The recorded attempt of an agent.
        """
        end, session = attempt.end, attempt.call.session
        if self._progress.has("asked", attempt.position) or session.is_stopped:
            return False
        if self._progress.has("within tool", attempt.call.position):
            return False
        if end is None or (isinstance(end, LLMFailed) and end.cancelled):
            return False
        return not session.may_be_cut_off

    def of_client(self, session: RecordedSession, call: ClientCall) -> ClientAttempt | None:
        """Find the first attempt of a client's call that the replay should have repeated.

        Args:
            session: The recorded session that made the call.
            call: The recorded call of a captured client.

        Returns:
            The first missing attempt; None if none is missing.
        """
        if session.is_stopped or session.may_be_cut_off:
            return None
        for attempt in call.attempts.values():
            end = attempt.end
            if end is None or (isinstance(end, LLMFailed) and end.cancelled):
                continue
            if not self._progress.has("asked", attempt.position):
                return attempt
        return None

    def _values(self, session: RecordedSession) -> Iterator[RecordedValue]:
        """Find the recorded values that were not drawn; for tools, only for those that ran."""
        if session.is_stopped or session.may_be_cut_off:
            return
        for (_, tool), values in session.values.items():
            if tool is None or self._progress.has("ran", (session.session_id, tool)):
                for value in values:
                    if not self._progress.has("drawn", value.position):
                        yield value
