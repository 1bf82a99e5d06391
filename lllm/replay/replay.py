"""A replay: a block in which one recorded session runs again, answered from the log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from lllm.agents.fork_edits import TurnEdit
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ReplayError
from lllm.events.model import LLMFailed, SessionStarted
from lllm.events.recorder import Recorder
from lllm.projections.session.call_session import TacticCallSession
from lllm.replay.active_replay import active_replay
from lllm.replay.comparison import Verdict
from lllm.replay.divergence import (
    Divergences,
    OnDivergence,
    ReplayDivergence,
    ReplayInterrupted,
    ReplayPlace,
)
from lllm.replay.ignored_parts import Ignore, Ignored
from lllm.replay.outcome_text import outcome_text
from lllm.replay.recorded_agents import RecordedAttempt, RecordedCall, RecordedTool
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.recorded_session import RecordedSession, RecordedValue
from lllm.replay.replayed_session import ReplayedSession
from lllm.replay.verified_shapes import VerifiedShapes
from lllm.sessions.context_values import during
from lllm.sessions.current_session import outside_of_sessions
from lllm.sessions.host import SessionHost

_NOT_ASKED = "A recorded request was not made"


class JudgedRequest(msgspec.Struct, frozen=True):
    """What came of comparing one request of a replay."""

    place: ReplayPlace
    verdict: Verdict
    """same; ignored: the same without what `ignore` names; diverged."""


class Replay(Divergences):
    """What `store.replay` gives; inside of its `with`, sessions are answered from the log.

    Attributes:
        recording: The session that is replayed.
        divergences: Where the code did something else, in the order in which that was found.
        requests: Every request that was compared, with what came of it.
        interrupted: Where the recording ended before the code did; None where it did not.
    """

    def __init__(
        self,
        recording: RecordedSession,
        host: SessionHost,
        *,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> None:
        super().__init__(on_divergence)
        self.recording = recording
        self.host = host
        self.ignored = Ignored(ignore)
        self.live_tools = frozenset([live_tools] if isinstance(live_tools, str) else live_tools)
        self.requests: list[JudgedRequest] = []
        self.verified: VerifiedShapes | None = None  # asks the live model as well
        self.lock = ThreadLock()
        self.begun: set[RecordedSession] = set()
        self.left_out: set[RecordedSession] = set()  # within tools that did not run
        self.within_tools: set[RecordedCall] = set()  # that did not run
        self.asked_by_clients: set[ClientAttempt] = set()
        self.drawn: set[RecordedValue] = set()
        self.ran: set[RecordedTool] = set()  # tools that ran, and were compared
        self._asked: set[RecordedAttempt] = set()
        self._recorder: Recorder | None = None
        self._stack = ExitStack()

    @property
    def session_id(self) -> str | None:
        """The id of the replay's own session; None before it begins."""
        return None if self._recorder is None else self._recorder.session_id

    def load_session(self) -> TacticCallSession:
        """The replay's own session, once it has ended, whether it is kept or not.

        Raises:
            ReplayError: Nothing was called yet.
        """
        if self._recorder is None:
            raise ReplayError("Nothing was called in this replay yet, so it has no session.")
        return self.host.load_finished(self._recorder)

    # -- the block

    def __enter__(self) -> Self:
        self._stack.enter_context(outside_of_sessions())
        self._stack.enter_context(during(active_replay, self))
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self._stack.close()
        goes_on = self._reports or not self.divergences
        if self.interrupted is None and goes_on and not self.is_live:
            self._find_missing()
        found: list[ReplayDivergence | ReplayInterrupted] = []
        if self.interrupted is not None:
            found.append(self.interrupted)
        if not self._reports:
            found += self.divergences
        if not found or isinstance(error, ReplayDivergence | ReplayInterrupted):
            return
        if error is None:
            raise found[0]
        error.add_note(str(found[0]))

    def _find_missing(self) -> None:
        """Find what was recorded and not asked for."""
        missing = list(self._missing())
        if not missing:
            return
        what, place, recorded_next = missing[0]
        others = "".join(f"\n- {other}" for _, other, _ in missing[1:])
        more = f", and {len(missing) - 1} more:{others}" if others else ""
        self.divergences.append(
            ReplayDivergence(
                f"{what}{more}.", kind="missing", place=place, recorded_next=recorded_next
            )
        )

    def _missing(self) -> Iterator[tuple[str, ReplayPlace, str]]:
        """Tell what was not done, where, and what the recording has there."""
        waiting = [self.recording]
        while waiting:
            session = waiting.pop()
            begun = session in self.begun
            if session in self.left_out or (session.is_stopped and not begun):
                continue
            place = ReplayPlace(
                tactic=session.tactic_path,
                session_id=session.session_id,
                child=None if session is self.recording else session.started.ordinal,
            )
            if not begun:
                if not session.may_be_cut_off:
                    yield "A recorded call was not made", place, "a call of the tactic."
                continue
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
                missed = self.missing_of_client(session, client_call)
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
            for value in self._missing_values(session):
                gave = f"lllm.{value.drawn.kind}() gave {value.drawn.value}."
                yield "A recorded value was not drawn", place, gave
            waiting += reversed(session.children)

    def is_missing(self, attempt: RecordedAttempt) -> bool:
        """Tell whether a recorded attempt was not asked for and should have been."""
        end, session = attempt.end, attempt.call.session
        if attempt in self._asked or attempt.call in self.within_tools or session.is_stopped:
            return False
        if end is None or (isinstance(end, LLMFailed) and end.cancelled):
            return False
        return not session.may_be_cut_off

    def missing_of_client(self, session: RecordedSession, call: ClientCall) -> ClientAttempt | None:
        """The first recorded attempt of a client's call that was not made and should have been."""
        if session.is_stopped or session.may_be_cut_off:
            return None
        for attempt in call.attempts.values():
            end = attempt.end
            if end is None or (isinstance(end, LLMFailed) and end.cancelled):
                continue
            if attempt not in self.asked_by_clients:
                return attempt
        return None

    def _missing_values(self, session: RecordedSession) -> Iterator[RecordedValue]:
        """What the code of a session drew, and did not draw now; of tools, of those that ran."""
        if session.is_stopped or session.may_be_cut_off:
            return
        for (_, tool), values in session.values.items():
            if tool is None or session.tools.get(tool) in self.ran:
                yield from (value for value in values if value not in self.drawn)

    # -- sessions

    def begin(self, started: SessionStarted, recorder: Recorder, /) -> ReplayedSession:
        """See AnswersSessions: what is called in the block is the session that is replayed."""
        recording, path = self.recording, started.tactic_path
        with self.lock.held():
            fits = path == recording.tactic_path and recording not in self.begun
            if fits:
                self.begun.add(recording)
                self._recorder = recorder
        if not fits:
            why = (
                f"it is a call of {recording.tactic_path!r}"
                if path != recording.tactic_path
                else "it was called in this block already; open another block for another replay"
            )
            self.differ(
                ReplayDivergence(
                    f"{path!r} is called in a block that replays session {recording.session_id} "
                    f"and nothing else: {why}.",
                    kind="unrecorded",
                    place=ReplayPlace(tactic=path),
                ),
                can_go_on=False,
            )
        place = ReplayPlace(tactic=path, session_id=recording.session_id)
        replayed = ReplayedSession(self, recording, place)
        replayed.compare_task(started)
        return replayed

    def refuse_captured(self, client: str) -> None:
        """See AnswersSessions."""
        self.refuse(client, ReplayPlace(tactic=self.recording.tactic_path))

    def refuse(self, client: str, place: ReplayPlace) -> None:
        """Keep a captured client from a call that is not recorded.

        Args:
            client: What it calls.
            place: Where.

        Raises:
            ReplayDivergence: Always, but where the model itself is asked.
        """
        if self.is_live or self.went_on:
            return
        self.differ(
            ReplayDivergence(
                f"A captured client calls {client} in a replay. Such calls are not recorded, so "
                "the log has no answer, and nothing is called in a replay.",
                kind="unrecorded",
                place=place,
            ),
            can_go_on=self.may_go_live,
        )
        self.is_live = True

    def changed(self, place: ReplayPlace, tool: int | None) -> TurnEdit | None:  # noqa: ARG002
        """What is changed before the model is asked at a place; a replay changes nothing.

        Args:
            place: Where.
            tool: The number of the tool that was answered with another result.
        """
        return None

    # -- verdicts

    def judged(self, attempt: RecordedAttempt, place: ReplayPlace, verdict: Verdict) -> None:
        """Keep what came of comparing a request.

        Args:
            attempt: The recorded one.
            place: Where it is made.
            verdict: What came of it.
        """
        self._asked.add(attempt)
        self.requests.append(JudgedRequest(place, verdict))

    def judge_client(self, place: ReplayPlace, verdict: Verdict) -> None:
        """Keep what came of comparing a request of a captured client.

        Args:
            place: Where it is made.
            verdict: What came of it.
        """
        self.requests.append(JudgedRequest(place, verdict))
