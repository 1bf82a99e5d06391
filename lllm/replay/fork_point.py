"""Finds the point of a fork: which recorded events are its past, and which turn comes next.

The past is all events up to a position of the log. No later event can have caused one of them, even
where threads and tasks ran at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from lllm.events.errors import ReplayError
from lllm.events.model import AgentFailed, LLMFailed, SessionFailed, ToolFailed
from lllm.replay.divergence import ReplayPlace
from lllm.replay.outcome import is_stop
from lllm.replay.recorded_agents import RecordedAttempt, RecordedCall, RecordedTool
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.recorded_session import RecordedSession
from lllm.store.load_as_of import PointInTime, Until

ForkAt: TypeAlias = ReplayPlace | PointInTime | None
_MOST_NAMED = 5  # the most places that the message of an error lists


class ForkPoint(msgspec.Struct, frozen=True):
    """The point at which a session is forked.

    Attributes:
        until: Selects the events that are the past of the fork.
        place: The place that the user named; None if the user named a position, a time or nothing.
    """

    until: Until
    place: ReplayPlace | None = None


def find_point(recording: RecordedSession, at: ForkAt) -> ForkPoint:
    """Find the point that the user names.

    Args:
        recording: The whole recorded session.
        at: A place, a position of the log or a time; None for the point just before the session
            failed.

    Returns:
        The point of the fork.

    Raises:
        ReplayError: The session has no such place, or more than one; or `at` is None and the
            session succeeded.
        TypeError: `at` is neither a place nor a position nor a time.
        ValueError: `at` is a text that can't be read as a time.
    """
    if at is None:
        return ForkPoint(Until(_before_break(recording)))
    if not isinstance(at, ReplayPlace):
        return ForkPoint(Until(at))
    found = [(place, one) for place, one in _places(recording, at) if _fits(at, place)]
    if not found:
        raise ReplayError(
            f"Session {recording.session_id} has no place {_told(at)}; it has "
            f"{_listed([place for place, _ in _places(recording, ReplayPlace())])}."
        )
    if len(found) > 1:
        raise ReplayError(
            f"{_told(at)} names more than one place of session {recording.session_id}: "
            f"{_listed([place for place, _ in found])}. Name one of them."
        )
    [(place, one)] = found
    if isinstance(one, RecordedTool):
        return ForkPoint(Until(one.ended - 1 if one.ended else last_position(recording)), place)
    return ForkPoint(Until(one.position - 1), place)


def _told(place: ReplayPlace) -> str:
    return f"({place})" if str(place) else "(any)"


def _listed(places: Sequence[ReplayPlace]) -> str:
    named = [f"({place})" for place in places[:_MOST_NAMED]]
    if len(places) > _MOST_NAMED:
        named.append(f"and {len(places) - _MOST_NAMED} more")
    return "; ".join(named) or "none at all"


def _fits(wanted: ReplayPlace, place: ReplayPlace) -> bool:
    for name in ReplayPlace.__struct_fields__:
        value = getattr(wanted, name)
        if value is not None and value != getattr(place, name):
            return False
    return wanted.attempt is not None or wanted.tool is not None or place.attempt == 1


def place_of(
    recording: RecordedSession, call: RecordedCall, step: int, attempt: int
) -> ReplayPlace:
    """Build the place of a turn of the model.

    Args:
        recording: The session that is replayed or forked.
        call: The agent call that has the turn.
        step: The number of the turn within the agent call, from 1.
        attempt: The number of the attempt at the turn, from 1.
    """
    session = call.session
    return ReplayPlace(
        tactic=session.tactic_path,
        session_id=session.session_id,
        child=None if session is recording else session.started.ordinal,
        agent=call.started.agent,
        dialog=call.alias,
        respond=call.nth,
        step=step,
        attempt=attempt,
    )


def _places(
    recording: RecordedSession, wanted: ReplayPlace
) -> Iterator[tuple[ReplayPlace, RecordedAttempt | RecordedTool | ClientAttempt]]:
    """Find all turns of the model, or all tool calls if `wanted` names a tool."""
    for session in recording.family():
        for attempt in session.attempts():
            requested = attempt.requested
            place = place_of(recording, attempt.call, requested.step, requested.attempt)
            if wanted.tool is None:
                yield place, attempt
                continue
            for tool in attempt.tools:
                for name in {tool.called.name, tool.called.call_id}:
                    yield msgspec.structs.replace(place, tool=name), tool
        for call in session.captured.values() if wanted.tool is None else ():
            for one in call.attempts.values():
                yield _place_of_client(recording, session, call, one), one


def _place_of_client(
    recording: RecordedSession, session: RecordedSession, call: ClientCall, attempt: ClientAttempt
) -> ReplayPlace:
    return ReplayPlace(
        tactic=session.tactic_path,
        session_id=session.session_id,
        child=None if session is recording else session.started.ordinal,
        client=attempt.requested.operation,
        dialog=call.place,
        step=call.step,
        attempt=attempt.requested.attempt,
    )


# -- where it broke


def _before_break(recording: RecordedSession) -> int:
    """Find the last position before the event that made a session fail."""
    end = recording.end
    if end is None:
        return last_position(recording)
    if not isinstance(end, SessionFailed):
        raise ReplayError(
            f"Session {recording.session_id} succeeded, so there is no place where it broke. Say "
            "where to fork it: at=ReplayPlace(agent=..., step=...), a position or a time."
        )
    began = _last_beginning(recording)
    broken = recording
    while True:
        below = [one for one in broken.children if _broke(one.end, end, _own_last(one) > began)]
        if not below:
            break
        broken = max(below, key=_own_last)
    return _before_break_of(broken, began)


def _last_beginning(recording: RecordedSession) -> int:
    """Find the position of the last child session, model request or client attempt to begin."""
    found = [1]
    for one in recording.family():
        found += [one.first, *(attempt.position for attempt in one.attempts())]
        for client in one.captured.values():
            found += [attempt.position for attempt in client.attempts.values()]
    return max(found)


def _broke(one: object, end: SessionFailed, nothing_began: bool) -> bool:
    """True if the failure of a call or a child session made its session fail.

    That is so if both have the same error or both were cancelled. It is also so if nothing began
    after the failure: then the code turned the error into another one.
    """
    if not isinstance(one, SessionFailed | AgentFailed):
        return False
    same = (one.error.type, one.error.message) == (end.error.type, end.error.message)
    return same or (one.cancelled and end.cancelled) or nothing_began


def last_position(recording: RecordedSession) -> int:
    """Find the position of the last event of a session and all sessions below it."""
    return max(map(_own_last, recording.family()))


def _own_last(session: RecordedSession) -> int:
    return 0 if session.last is None else session.last.position


def _before_break_of(session: RecordedSession, began: int) -> int:
    before_end = _own_last(session) - 1
    end = session.end
    if not isinstance(end, SessionFailed):
        return before_end
    calls = [one for one in session.agent_calls() if _broke(one.end, end, one.ended > began)]
    if calls:
        return _before_break_of_call(max(calls, key=_ended))
    clients = list(session.captured.values())
    attempts = list(clients[-1].attempts.values()) if clients else []
    if attempts and isinstance(attempts[-1].end, LLMFailed) and attempts[-1].position == began:
        return attempts[0].position - 1
    return before_end


def _ended(call: RecordedCall) -> int:
    return call.ended


def _before_break_of_call(call: RecordedCall) -> int:
    """Find the position before the model's turn that failed, or the tool that was stopped."""
    last = call.last
    if last is None:
        return call.ended - 1
    stopped = [
        tool.ended
        for tool in last.tools
        if isinstance(tool.end, ToolFailed) and is_stop(tool.end.error)
    ]
    if stopped:
        return min(stopped) - 1
    failed = last.end is None or isinstance(last.end, LLMFailed)
    error = "" if not isinstance(call.end, AgentFailed) else call.end.error.type
    if failed or (not last.tools and error.endswith("AgentError")):  # the answer was refused
        return call.attempts[last.requested.step, 1].position - 1
    return call.ended - 1


# -- the turn that comes next


def next_turn(whole: RecordedSession, past: RecordedSession, *, of_tool: bool) -> ReplayPlace:
    """Find the first turn of the model after a point, if the user named no place.

    Args:
        whole: The session as it was recorded.
        past: The session as it was at the point.
        of_tool: True if the fork changes the result of a tool. Then the turn must follow an answer
            that calls tools.

    Returns:
        The place of the turn.

    Raises:
        ReplayError: More than one agent was at work at the point, or no agent works after it.
    """
    at_work = [call for one in past.family() for call in one.agent_calls() if call.end is None]
    with_tools = [call for call in at_work if call.last is not None and call.last.tools]
    in_tools = [call for call in with_tools if _has_open_tool(call)]
    found = with_tools if of_tool else [call for call in at_work if call not in in_tools] or at_work
    if len(found) > 1:
        places = [turn_after(past, call) for call in found]
        raise ReplayError(
            f"At the point of the fork, {len(found)} agent calls of session {past.session_id} were "
            f"at work: {_listed(places)}. Name the place that the edit is for: at=ReplayPlace(...)."
        )
    if found:
        return turn_after(past, found[0])
    begun = {
        (one.session_id, call.started.call) for one in past.family() for call in one.agent_calls()
    }
    later = [
        call
        for one in whole.family()
        for call in one.agent_calls()
        if (one.session_id, call.started.call) not in begun
    ]
    if of_tool or not later:
        what = "no tool was called" if of_tool else "no agent was asked"
        raise ReplayError(
            f"Behind the point of the fork {what} in session {past.session_id}, so there is "
            "nothing that the edit could change. Choose another point."
        )
    return place_of(whole, min(later, key=_begun_at), 1, 1)


def _begun_at(call: RecordedCall) -> int:
    return call.position


def _has_open_tool(call: RecordedCall) -> bool:
    return call.last is not None and any(tool.end is None for tool in call.last.tools)


def turn_after(past: RecordedSession, call: RecordedCall) -> ReplayPlace:
    """Find the place of the next turn in an agent call that has not ended.

    Args:
        past: The forked session, as it was at the point; the call is in it or in one below it.
        call: The agent call.
    """
    last = call.last
    if last is None:
        return place_of(past, call, 1, 1)
    step, attempt = last.requested.step, last.requested.attempt
    if last.end is None:
        return place_of(past, call, step, attempt)
    if isinstance(last.end, LLMFailed):
        return place_of(past, call, step, attempt + 1)
    return place_of(past, call, step + 1, 1)
