"""Iterates over a session and its descendants, without recursion.

A log may have more levels than the stack allows, or levels that form a cycle.
"""

from __future__ import annotations

from collections.abc import Iterator

from lllm.projections.session.call_session import InvokeTrace, TacticCallSession


def family(session: TacticCallSession) -> Iterator[TacticCallSession]:
    """Iterate over a session and its descendants.

    Args:
        session: The session to begin with.

    Yields:
        Each session once, a parent before its children.
    """
    waiting = [session]
    seen: set[str] = set()
    while waiting:
        one = waiting.pop()
        if one.session_id in seen:
            continue
        seen.add(one.session_id)
        yield one
        below = [child for children in one.sub_tactic_sessions.values() for child in children]
        waiting += reversed(below)


def attempts(session: TacticCallSession) -> Iterator[InvokeTrace]:
    """Iterate over the attempts in one session, without the sessions below it.

    Args:
        session: The session to look through.

    Yields:
        The attempts; those of agents come first.
    """
    for calls in session.agent_sessions.values():
        for call in calls:
            for traces in call.invoke_traces.values():
                yield from traces
    yield from session.invoke_traces
