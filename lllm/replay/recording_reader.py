"""Builds a recorded session from its events, and refuses one that can't be replayed."""

from __future__ import annotations

from collections.abc import Iterable

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import ReplayError
from lllm.events.model import EVENTS, AgentDefined, SessionErased, SessionStarted, Unknown
from lllm.replay.recorded_session import RecordedSession


def read_recording(
    events: Iterable[Recorded], session_id: str | None, source: str, *, skip_unknown: bool = False
) -> RecordedSession:
    """Build a recorded session, with all sessions below it, from their events.

    Args:
        events: The events of the session and of all sessions below it, and the agent definitions
            that they refer to, in the order of the log.
        session_id: The id of the session; None for the top session among the events.
        source: The store or file that the events come from, for error messages.
        skip_unknown: True to skip events that can't be decoded, as those of a newer lllm; False to
            refuse them.

    Returns:
        The recorded session.

    Raises:
        ReplayError: The session is not among the events, some of its events are missing, erased or
            can't be decoded, or `session_id` is None and there is not exactly one top session.
    """
    definitions: dict[str, AgentDefined] = {}
    sessions: dict[str, RecordedSession] = {}
    last: dict[str, int] = {}
    for event in events:
        payload = codec.decode(event)
        if isinstance(payload, Unknown):
            if not skip_unknown:
                raise _unknown(event, payload, source)
            last[event.stream] = event.seq
            continue
        if isinstance(payload, SessionErased):
            raise ReplayError(
                f"Session {payload.about} in {source} can't be replayed: it was erased by "
                f"{payload.by or 'somebody'} ({payload.reason})."
            )
        if isinstance(payload, AgentDefined):
            definitions[event.stream] = payload
            continue
        if isinstance(payload, SessionStarted):
            sessions.setdefault(event.stream, RecordedSession(event.stream, payload, event.time))
        one = sessions.get(event.stream)
        if one is None:
            if event.seq > 1:
                raise _cut(event.stream, "its beginning is missing", source)
            continue  # a later event about a session that is not read here
        if event.seq != last.get(event.stream, 0) + 1:
            raise _cut(event.stream, f"events before number {event.seq} are missing", source)
        last[event.stream] = event.seq
        one.take(event, payload, definitions)
    return _root(sessions, session_id, source)


def _root(
    sessions: dict[str, RecordedSession], session_id: str | None, source: str
) -> RecordedSession:
    roots = []
    for one in sessions.values():
        above = one.started.ancestors[-1].session_id if one.started.ancestors else ""
        if above in sessions and one.session_id != session_id:
            sessions[above].children.append(one)
            one.parent = sessions[above]
            if one.started.parent_tool is not None:
                within = sessions[above].children_in_tool
                within.setdefault(one.started.parent_tool, []).append(one)
        else:
            roots.append(one)
    if session_id is not None:
        if session_id not in sessions:
            raise ReplayError(f"There is no session {session_id!r} in {source}.")
        return sessions[session_id]
    if len(roots) != 1:
        told = "no session" if not roots else f"{len(roots)} sessions that stand apart"
        raise ReplayError(f"{source} holds {told}; the export of one session holds one.")
    return roots[0]


def _unknown(event: Recorded, payload: Unknown, source: str) -> ReplayError:
    known = EVENTS.get(event.type)
    newer = known is None or event.version > known.version
    why = (
        "a newer version of lllm wrote it. Install that one to replay it"
        if newer
        else "it is damaged"
    )
    return ReplayError(
        f"Session {event.stream} in {source} can't be replayed: its event {event.seq}, "
        f"{event.type!r} in version {event.version}, can't be read ({payload.reason}); {why}."
    )


def _cut(session_id: str, why: str, source: str) -> ReplayError:
    return ReplayError(f"Session {session_id} in {source} can't be replayed: {why}.")
