"""Answers the agents, captured clients and sub-tactics of one session of a replay."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

import msgspec

from lllm.agents.effects import RunTool, Steps
from lllm.agents.fork_edits import TurnEdit, turn_edit
from lllm.events.model import (
    DrawnKind,
    Error,
    Origin,
    SessionFailed,
    SessionStarted,
)
from lllm.events.recorder import Recorder
from lllm.invokers import Request
from lllm.replay.active_replay import E, Replaying
from lllm.replay.answered_prices import AnsweredPrices
from lllm.replay.answering_agents import answered
from lllm.replay.answering_clients import AnsweredClient
from lllm.replay.answering_values import AnsweredValues
from lllm.replay.carried_sessions import session_in_process
from lllm.replay.child_matching import RecordedChildren
from lllm.replay.client_requests import ClientRequest
from lllm.replay.comparison import Comparing, diff_of, json_lines, task_key
from lllm.replay.divergence import (
    GoesLive,
    ReplayDivergence,
    ReplayInterrupted,
    ReplayPlace,
    as_exception,
)
from lllm.replay.outcome import tool_failure
from lllm.replay.outcome_text import outcome_text
from lllm.replay.recorded_agents import RecordedAttempt, RecordedCall, RecordedTool
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.replayed_clients import ReplayedClients
from lllm.replay.unrecorded import Unrecorded
from lllm.replay.within_tools import WithinTools
from lllm.sessions.budget import Budget
from lllm.sessions.host import SessionHost

if TYPE_CHECKING:
    from lllm.replay.replay import Replay

T = TypeVar("T")


class ReplayedSession:
    """Answers one session of a replay from a recorded session.

    Args:
        replay: The replay that the session belongs to.
        recorded: The recorded session that has the answers; None if none was recorded.
        place: The place of the session in the tree of sessions.
        is_carried: True if the session began in another process, and only continues here.
    """

    def __init__(
        self,
        replay: Replay,
        recorded: RecordedSession | None,
        place: ReplayPlace,
        *,
        is_carried: bool = False,
    ) -> None:
        self._replay = replay
        self._process = 0 if is_carried else os.getpid()
        self._is_outermost = False  # the top session of another process
        self.recorded = recorded
        self.place = place
        self._comparing = Comparing(replay.host.redact, replay.ignored)
        self._made_in = _thread_and_task()
        self._prices = AnsweredPrices(replay)
        self._unrecorded = Unrecorded(replay, recorded)
        self._clients = ReplayedClients(
            replay, recorded, place, self._prices, self._unrecorded, self._is_concurrent
        )
        self._next: dict[tuple[str, str], int] = {}  # index of the next call, by agent and alias
        self._values = AnsweredValues(recorded, self, replay.progress, replay.lock)
        self._children = RecordedChildren(recorded, self._comparing, replay.progress)
        self._within_tools = WithinTools(replay, self._children, self._clients)

    def __reduce__(self) -> tuple[Callable[..., Replaying], tuple[str, str, ReplayPlace]]:
        """Pickle only the place in the replay, so that another process can continue from there."""
        return session_in_process, (self._replay.carried(self), self.recorded_id, self.place)

    @property
    def recorded_id(self) -> str:
        """The id of the recorded session that has the answers, or of the replayed session."""
        return (self.recorded or self._replay.recording).session_id

    def leave(self, error: BaseException) -> None:
        """Raise a divergence as an Exception if it is about to leave this process."""
        plain = not isinstance(error, Exception)
        if self._is_outermost and plain and isinstance(error, ReplayDivergence | ReplayInterrupted):
            raise as_exception(error) from error

    # -- sessions

    @property
    def host(self) -> SessionHost:
        """The host that writes the log of the sessions of the replay."""
        return self._replay.host

    @property
    def origin(self) -> Origin | None:
        """The session that this one replays or forks; None if it is new in a fork."""
        replay, recorded = self._replay, self.recorded
        if replay.goes_on:
            return None if recorded is None else recorded.forked
        one = recorded or replay.recording
        return Origin(one.session_id, "fork" if replay.may_go_live else "replay")

    def begin(self, started: SessionStarted, _: Recorder, /) -> ReplayedSession:
        """Find the recorded session that answers a sub-tactic; see `AnswersSessions.begin`."""
        is_outermost = self._process != os.getpid()
        try:
            replayed = self._begin(started)
        except (ReplayDivergence, ReplayInterrupted) as found:
            if is_outermost:
                raise as_exception(found) from found
            raise
        replayed._is_outermost = is_outermost
        return replayed

    def _begin(self, started: SessionStarted) -> ReplayedSession:
        if self.is_live:
            return ReplayedSession(self._replay, None, ReplayPlace(tactic=started.tactic_path))
        with self._replay.lock.held():
            child, differs = self._child(started)
        number = started.ordinal if child is None else child.started.ordinal
        place = ReplayPlace(
            tactic=started.tactic_path,
            session_id=None if child is None else child.session_id,
            child=number,
        )
        stopped_by = None if child is not None else self._stopped_by()
        if stopped_by is not None:
            raise tool_failure(stopped_by)
        if child is None:
            why = f"A call of {started.tactic_path!r} was never recorded here."
            try:
                self._unrecorded.handle(None, place, why)
            except GoesLive:
                return ReplayedSession(self._replay, None, place)
        replayed = ReplayedSession(self._replay, child, place)
        if differs:
            replayed.compare_task(started)
        return replayed

    def _stopped_by(self) -> Error | None:
        """The error of the recorded concurrent call that ended this session; None if none did.

        The timing of the threads decides how many other calls begin before that error stops them.
        A call that was not recorded for this reason can't be answered, and fails with that error.
        """
        if self.recorded is None or self._made_in == _thread_and_task():
            return None  # a call in the session's own thread and task is not concurrent
        child = self.recorded.stopped_by
        failed = None if child is None else child.end
        return failed.error if isinstance(failed, SessionFailed) else None

    def _child(self, started: SessionStarted) -> tuple[RecordedSession | None, bool]:
        """Find the recorded child for a session that begins, and say if its task differs."""
        child = self._children.take_equal(started)
        if child is not None:
            return child, False
        if self._stopped_by() is not None:
            return None, True
        if self._is_concurrent():
            return None, True
        return self._children.take_other(started), True

    def compare_task(self, started: SessionStarted) -> None:
        """Compare the task of the session with the recorded one.

        Args:
            started: The first event of the session, which has the task.

        Raises:
            ReplayDivergence: The tasks differ, and the replay does not only report differences.
        """
        if self.recorded is None:
            return
        recorded = self._comparing.recorded_task(self.recorded.started.task)
        if task_key(recorded) == task_key(self._comparing.recorded_task(started.task)):
            return
        now = self._comparing.task(started)
        if task_key(recorded) == task_key(now):
            return
        self._replay.differ(
            ReplayDivergence(
                "A session begins with another task than the recorded one.",
                kind="task",
                place=self.place,
                differs=("task",),
                diff=diff_of(json_lines(recorded), json_lines(now)),
            )
        )

    def refuse_captured(self, client: str) -> None:
        """Refuse a call of a captured client that is not recorded; see `Replay.refuse`."""
        self._replay.refuse(client, self.place)

    # -- captured clients

    def ask_client(self, asked: ClientRequest) -> AnsweredClient | None:
        """Answer one call of a captured client; see `Replaying.ask_client`."""
        if self.is_live:
            return None
        try:
            return self._clients.ask(asked)
        except GoesLive:
            return None

    # -- agents

    @property
    def is_live(self) -> bool:
        """True if calls that begin now ask the real model; see `Judge.is_live`."""
        return self._replay.is_live or (self._replay.goes_on and self.recorded is None)

    @property
    def _is_open(self) -> bool:
        """True in a fork that continues within this session, which then has no recorded end."""
        recorded = self.recorded
        return self._replay.goes_on and recorded is not None and recorded.end is None

    def _is_concurrent(self) -> bool:
        """True in an open fork for a call whose order is up to threads or tasks."""
        return self._is_open and self._made_in != _thread_and_task()

    def answered(self, steps: Steps[T], agent: str, dialog: str, budget: Budget) -> Steps[T]:
        """Answer the steps of one agent call; see `Replaying.answered`."""
        verified = self._replay.verified
        if verified is not None:
            place = msgspec.structs.replace(self.place, agent=agent, dialog=dialog)
            steps = verified.verified(steps, place)
        return answered(self, steps, agent, dialog, budget)

    def unbilled(self, event: E) -> E:
        """Set the cost of an answered attempt to 0; see `Replaying.unbilled`."""
        return self._prices.unbilled(event)

    def call(self, agent: str, dialog: str) -> tuple[RecordedCall | None, ReplayPlace]:
        """Find the next recorded `respond()` of an agent in a dialog; see `Judge.call`."""
        key = (agent, dialog)
        calls = [] if self.recorded is None else self.recorded.calls.get(key, [])
        number = self._next.get(key, 0)
        while number < len(calls) and self._within_tools.has(calls[number]):
            number += 1
        self._next[key] = number + 1
        place = msgspec.structs.replace(self.place, agent=agent, dialog=dialog, respond=number + 1)
        return calls[number] if number < len(calls) else None, place

    def ask(
        self, call: RecordedCall | None, place: ReplayPlace, request: Request
    ) -> RecordedAttempt:
        """Find the recorded attempt at a place, and compare the request; see `Judge.ask`."""
        key = (place.step or 0, place.attempt or 0)
        attempt = None if call is None else call.attempts.get(key)
        if call is None or attempt is None:
            self._unrecorded.handle(
                call, place, "The model is asked where it was not asked before."
            )
        if attempt.end is None:
            self._replay.go_on()
        messages = call.session.messages(attempt.requested)
        found = self._comparing.compare(request, attempt, messages)
        self._replay.progress.note("asked", attempt.position)
        self._replay.progress.judge(place, found.verdict)
        if found.verdict == "diverged":
            self._replay.differ(
                ReplayDivergence(
                    "The model is asked something else than in the recording.",
                    kind="changed",
                    place=place,
                    differs=found.differs,
                    diff=found.diff,
                    recorded_next=outcome_text(attempt),
                )
            )
            self._replay.go_live()
        if attempt.end is None and self._replay.may_go_live:
            self._replay.go_live()
        if attempt.end is not None:
            self._prices.give(attempt.end.price)
        return attempt

    def changed(
        self, call: RecordedCall | None, place: ReplayPlace, tool: int | None
    ) -> TurnEdit | None:
        """Give the change that a fork makes at a place; see `Judge.changed`."""
        key = (place.step or 0, place.attempt or 0)
        edited = None if call is None else call.session.edits.get((call.started.call, *key))
        return self._replay.changed(place, tool) if edited is None else turn_edit(edited, tool)

    def broke(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle the end of the recording; see `Judge.broke`."""
        self._unrecorded.recording_ends(place, why)

    # -- values

    def drawn(self, kind: DrawnKind, tool: int | None) -> str | float | None:
        """Answer `lllm.now()`, `lllm.uuid4()` or `lllm.random()`; see `Replaying.drawn`."""
        return None if self.is_live else self._values.next(kind, tool)

    def unrecorded_value(self, called: str) -> None:
        """Handle a value that was never recorded; see `ValueJudge.unrecorded_value`."""
        if self.recorded is None or self.recorded.end is None:
            self.broke(self.place, f"The code calls {called} where no more was recorded.")
        self._replay.differ(
            ReplayDivergence(
                f"The code calls {called} once more than in the recording.",
                kind="unrecorded",
                place=self.place,
                recorded_next=self._unrecorded.recorded_next(),
            )
        )
        self._replay.go_live()

    # -- tools

    def runs(self, run: RunTool, recorded: RecordedTool) -> bool:
        """True if a recorded tool runs again; see `Judge.runs`."""
        if run.tool.replay != "run" and run.tool.name not in self._replay.live_tools:
            return False
        self._values.tool_numbers[run.ordinal] = recorded.called.tool
        self._replay.progress.note("ran", (self.recorded_id, recorded.called.tool))
        return True

    def compare_tool(self, text: str, recorded: RecordedTool, place: ReplayPlace) -> None:
        """Compare the result of a tool that ran with its recorded one; see `Judge`."""
        if recorded.end is None:
            return
        now, then = self._comparing.tool(text, recorded.end)
        if now != then:
            self._replay.differ(
                ReplayDivergence(
                    "A tool that runs gives something else than in the recording.",
                    kind="tool",
                    place=place,
                    differs=("result",),
                    diff=diff_of(then.splitlines(), now.splitlines()),
                )
            )

    def unrecorded_tool(self, call: RecordedCall | None, place: ReplayPlace) -> NoReturn:
        """Handle a tool that was never recorded; see `Judge.unrecorded_tool`."""
        self._unrecorded.handle(call, place, "A tool runs that did not run before.")

    def spend(self, recorded: RecordedTool, budget: Budget) -> None:
        """Charge the recorded cost of the calls within an answered tool; see `Judge.spend`."""
        if self.recorded is not None:
            self._within_tools.leave_out(self.recorded, recorded.called.tool, budget)


def _thread_and_task() -> tuple[int, int | None]:
    """The ids of the thread and of the asyncio task (None without one) that run this code."""
    asyncio = sys.modules.get("asyncio")  # if it is not imported, there is no task
    task = None
    if asyncio is not None:
        with suppress(RuntimeError):
            task = asyncio.current_task()
    return threading.get_ident(), None if task is None else id(task)
