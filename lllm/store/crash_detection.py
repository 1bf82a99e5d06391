"""Finds sessions whose process died, and records once that they were interrupted.

A process that writes to another log can't be checked here: the process of an imported session, or
of the original of a copied store. Such a session counts as interrupted after a day without an
event. If it continues there and is imported again, its own end replaces the interruption.
"""

from __future__ import annotations

import time

from lllm.events.buffered import BufferedLog
from lllm.events.concurrency.liveness import WriterLiveness
from lllm.events.errors import AppendConflict, LogError
from lllm.events.ids import new_salt
from lllm.events.model import SessionInterrupted
from lllm.events.redaction.redact import Redact
from lllm.events.statements import statement
from lllm.projections.database import RowsDatabase
from lllm.projections.engine.skip_damage import skip_corrupt_events_of
from lllm.projections.queries import running_sessions

_PATIENCE = 0.5  # seconds that a reader waits for writers
# nanoseconds without an event, for a session that is written elsewhere
_SILENCE = 24 * 3600 * 10**9


def interrupt_dead(
    log: BufferedLog,
    database: RowsDatabase,
    liveness: WriterLiveness,
    *,
    redact: Redact | None,
    behind: bool,
) -> bool:
    """Record an interruption for every running session whose process is known to be dead.

    Sessions of another host that writes to this log are left alone, because their processes can't
    be checked from here.

    Args:
        log: The log to which interruptions are written.
        database: The rows, which tell which sessions are running.
        liveness: Tells which processes are dead.
        redact: The redaction of the events that are written.
        behind: True if the rows are not up to date; dead processes are then remembered until they
            are up to date.

    Returns:
        True if any interrupted session was found.
    """
    with database.snapshot() as connection:
        running = running_sessions.running(connection)
    owners = {(session.owner, session.host) for session in running}
    dead = {owner for owner, host in owners if liveness.is_dead(owner, host)}
    silent = [one for one in running if liveness.is_elsewhere(one.owner) and _is_silent(log, one)]
    for session in [*(one for one in running if one.owner in dead), *silent]:
        if not interrupt(log, session, redact):
            return False  # the log can't be written now; the next reader records it
    if not log.held and not behind:
        for owner in dead:
            liveness.forget(owner)
    return bool(dead or silent)


_heard_of: dict[str, int] = {}  # by session: the time of the last event that was looked at


def _is_silent(log: BufferedLog, session: running_sessions.Running) -> bool:
    """True if a session has written nothing for a day."""
    latest = time.time_ns() - _SILENCE
    if max(session.started, _heard_of.get(session.id, 0)) > latest:
        return False
    heard = session.started
    for recorded in skip_corrupt_events_of(log, session.id, session.number - 1):
        heard = max(heard, recorded.time)
    _heard_of[session.id] = heard
    return heard <= latest


def interrupt(log: BufferedLog, session: running_sessions.Running, redact: Redact | None) -> bool:
    """Record that a session was interrupted.

    Args:
        log: The log of the session.
        session: The session.
        redact: The redaction of the event that is written.

    Returns:
        False if the log can't be written now.
    """
    last_seq = 0
    for recorded in skip_corrupt_events_of(log, session.id, session.number - 1):
        last_seq = recorded.seq
    event = SessionInterrupted(
        about=session.id, owner=session.owner, last_seq=last_seq, salt=new_salt()
    )
    # The stream is named after the interruption, so only one of several finders writes it, and the
    # others see that it is recorded.
    stream = f"interrupted-{session.id}-{last_seq}"
    interrupted = statement(stream, event, salt=event.salt, redact=redact)
    try:
        return log.append_within([interrupted], _PATIENCE) is not None
    except AppendConflict:
        return True
    except LogError:
        return False
