"""Compares two recorded sessions: their steps, their deliveries and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from lllm.events.envelope import Recorded
from lllm.events.errors import ReplayError
from lllm.events.model import LLMFailed, LLMResponded, State
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.session.fold import fold
from lllm.replay.comparison import diff_of, json_lines
from lllm.replay.divergence import ReplayPlace
from lllm.replay.recorded_agents import RecordedAttempt
from lllm.replay.recorded_clients import ClientAttempt
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.recording_reader import read_recording
from lllm.replay.session_pairs import client_numbers, paired_children
from lllm.replay.session_steps import Key, Lines, Parts, SessionStep, StepKind, StepReader

Side = Literal["a", "b"]
# How many steps come before the pair, then the step of A and the step of B (None if missing).
_Pair = tuple[int, SessionStep | None, SessionStep | None]
_NAMES = ("A", "B")
_WHAT: dict[StepKind, str] = {
    "session": "the call",
    "request": "the request to the model",
    "answer": "the answer of the model",
    "tool": "the tool",
    "end": "the end of the session",
}


class SessionDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A step at which two sessions differ.

    Attributes:
        kind: What happens at the step: "session" (it begins), "request", "answer", "tool" or "end".
        place: The place of the step, by tactic, agent, dialog and step.
        only_in: "a" or "b" if only that session has the step; None if both have it.
        differs: The names of the parts that differ, such as ("messages", "model").
        message: The difference as a sentence.
        diff: The whole unified diff for the first difference of two sessions. Empty for the later
            ones, which mostly follow from the first.
    """

    kind: StepKind
    place: ReplayPlace
    only_in: Side | None = None
    differs: tuple[str, ...] = ()
    message: str
    diff: str = ""


class SessionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The counts, costs and duration of one session, including the sessions below it.

    Attributes:
        session_id: The id of the session.
        source: The store or the file that holds the session.
        tactic_path: The stable path of the session's tactic.
        state: "success", "failure", "running" or "interrupted".
        sessions: The number of sessions: this one and all below it.
        agent_calls: The number of agent calls (`respond()`).
        messages: The number of messages in all dialogs.
        calls: The number of model calls that were answered.
        failed_calls: The number of model calls that failed.
        tools: The number of tool runs.
        prompt_tokens: The number of input tokens.
        completion_tokens: The number of output tokens.
        cost: The cost in US dollars.
        recorded_cost: For a replay or fork, what the answers from the log first cost, in US
            dollars.
        unpriced_calls: The number of model calls whose price is unknown.
        elapsed: The duration in seconds; None if the session has no end.
        unknown_events: The number of events that a newer lllm wrote; they are not compared.
    """

    session_id: str
    source: str
    tactic_path: str
    state: State
    sessions: int
    agent_calls: int
    messages: int
    calls: int
    failed_calls: int
    tools: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    recorded_cost: float
    unpriced_calls: int
    elapsed: float | None
    unknown_events: int


class SessionDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How two sessions differ.

    Two sessions are the same if their requests, answers and deliveries are the same at the same
    places. Costs, durations, ids, tags and times are not compared.

    Attributes:
        a: The counts, costs and duration of the first session.
        b: The counts, costs and duration of the second session.
        differences: The steps at which the sessions differ, in their order.
        steps: The number of steps that both sessions have, including those that differ.
        delivery: A unified diff of the two deliveries; empty if they are the same.
    """

    a: SessionFigures
    b: SessionFigures
    differences: tuple[SessionDifference, ...]
    steps: int
    delivery: str

    @property
    def same(self) -> bool:
        """True if the two sessions do not differ."""
        return not self.differences

    @property
    def first(self) -> SessionDifference | None:
        """The first difference, from which most others follow; None if there is no difference."""
        return self.differences[0] if self.differences else None


class ReadSession(msgspec.Struct, frozen=True):
    """The events of a session that is to be compared.

    Attributes:
        events: The events of the session and of all sessions below it, and the agent definitions
            that they refer to, in the order of the log.
        session_id: The id of the session; None for the top session among the events.
        source: The store or the file that the events come from, for messages.
    """

    events: Sequence[Recorded]
    session_id: str | None
    source: str


def diff_sessions(a: ReadSession, b: ReadSession) -> SessionDiff:
    """Compare two sessions step by step.

    Args:
        a: The first session, called A in messages.
        b: The second session, called B in messages.

    Returns:
        The differences and the figures of both sessions.

    Raises:
        ReplayError: One of the sessions can't be read.
    """
    try:
        one, other = (
            read_recording(side.events, side.session_id, side.source, skip_unknown=True)
            for side in (a, b)
        )
    except ReplayError as error:
        raise ReplayError(f"The sessions can't be compared. {error}") from error
    steps_a, steps_b = _all_steps(one, other)
    by_key = {step.key: (rank, step) for rank, step in enumerate(steps_b)}
    pairs: list[_Pair] = []
    for rank, step in enumerate(steps_a):
        other_rank, theirs = by_key.pop(step.key, (rank, None))
        pairs.append((max(rank, other_rank), step, theirs))
    common = sum(theirs is not None for _, _, theirs in pairs)
    pairs += [(rank, None, step) for rank, step in by_key.values()]
    pairs.sort(key=_rank)
    found = [(ours, theirs) for _, ours, theirs in pairs if _difference(ours, theirs) is not None]
    differences = [_difference(*pair, with_diff=not at) for at, pair in enumerate(found)]
    before, after = _delivery(one), _delivery(other)
    return SessionDiff(
        a=_figures(a, one),
        b=_figures(b, other),
        differences=tuple(one for one in differences if one is not None),
        steps=common,
        delivery=diff_of(before, after, _NAMES),
    )


def _rank(pair: _Pair) -> int:
    return pair[0]


def _all_steps(
    a: RecordedSession, b: RecordedSession
) -> tuple[list[SessionStep], list[SessionStep]]:
    """List the steps of two sessions and of the sessions below them, in the order of the log."""
    readers = StepReader(a), StepReader(b)
    steps: tuple[list[SessionStep], list[SessionStep]] = ([], [])
    waiting: list[tuple[RecordedSession | None, RecordedSession | None, Key]] = [(a, b, ())]
    while waiting:
        one, other, path = waiting.pop()
        numbers = client_numbers((readers[0], one), (readers[1], other))
        for side, session in enumerate((one, other)):
            if session is not None:
                steps[side].extend(readers[side].steps_of(session, path, numbers[side]))
        pairs = paired_children(one, other)
        waiting += [(*pair, (*path, number)) for number, pair in enumerate(pairs)]
    for found in steps:
        found.sort(key=_position)
    return steps


def _position(step: SessionStep) -> int:
    return step.position


# -- one step


def _difference(
    a: SessionStep | None, b: SessionStep | None, *, with_diff: bool = False
) -> SessionDifference | None:
    """Describe how one step differs between two sessions; None if it does not."""
    step = a or b
    assert step is not None
    ours, theirs = ({} if one is None else one.parts() for one in (a, b))
    differs = [name for name in (ours or theirs) if ours.get(name, []) != theirs.get(name, [])]
    if a is not None and b is not None and not differs:
        return None
    what = _WHAT[step.kind]
    only_in: Side | None = "a" if b is None else "b" if a is None else None
    if only_in is None:
        which = "" if differs == [step.kind] else f": {', '.join(differs)}"
        message = f"{what.capitalize()} differs{which}."
    else:
        message = f"Only {only_in.upper()} has {what} there."
    return SessionDifference(
        kind=step.kind,
        place=step.place,
        only_in=only_in,
        differs=() if only_in else tuple(differs),
        message=message,
        diff=_diff(ours, theirs, differs) if with_diff else "",
    )


def _diff(ours: Parts, theirs: Parts, differs: Sequence[str]) -> str:
    before: list[str] = []
    after: list[str] = []
    for name in differs:
        one, other = ours.get(name, []), theirs.get(name, [])
        same = _same_beginning(one, other)
        before += [line for lines in one[same:] for line in lines]
        after += [line for lines in other[same:] for line in lines]
    return diff_of(before, after, _NAMES)


def _same_beginning(a: Sequence[Lines], b: Sequence[Lines]) -> int:
    """Count the equal messages at the beginning; the last equal one is still shown, for context."""
    pairs = zip(a, b, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(a), len(b)))
    return max(same - 1, 0)


def _delivery(session: RecordedSession) -> list[str]:
    delivery = None if session.end is None else session.end.delivery
    return [] if delivery is None else json_lines(delivery)


# -- figures


def _unknown_events(session: TacticCallSession) -> int:
    count, waiting = 0, [session]
    while waiting:  # a log may hold more levels than a stack
        one = waiting.pop()
        count += one.unknown_events
        for below in one.sub_tactic_sessions.values():
            waiting += below
    return count


def _figures(side: ReadSession, recording: RecordedSession) -> SessionFigures:
    session = fold(side.events, recording.session_id)
    assert session is not None  # it is recorded, so that it began
    family = list(recording.family())
    attempts: list[RecordedAttempt | ClientAttempt] = []
    for one in family:
        attempts += one.attempts()
        for call in one.captured.values():
            attempts += call.attempts.values()
    cost = session.total_cost
    return SessionFigures(
        session_id=recording.session_id,
        source=side.source,
        tactic_path=recording.tactic_path,
        state=session.state,
        sessions=len(family),
        agent_calls=sum(1 for one in family for _ in one.agent_calls()),
        messages=sum(one.message_count for one in family),
        calls=sum(isinstance(one.end, LLMResponded) for one in attempts),
        failed_calls=sum(isinstance(one.end, LLMFailed) for one in attempts),
        tools=sum(len(one.tools) for one in family),
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
        cost=cost.cost,
        recorded_cost=session.recorded_cost,
        unpriced_calls=cost.unpriced_calls,
        elapsed=None if session.elapsed is None else session.elapsed / 1_000_000_000,
        unknown_events=_unknown_events(session),
    )
