"""Loads a session that has just ended, also if the rows are behind or the log can't be written."""

from __future__ import annotations

from itertools import chain

from lllm.events.buffered import BufferedLog
from lllm.events.errors import SessionNotFound
from lllm.events.recorder import Recorder
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.session.fold import fold


def fold_finished(log: BufferedLog, recorder: Recorder) -> TacticCallSession:
    """Load a session that has just ended, with its descendants.

    It is built from its events in the log, and then from the events that still wait in memory.

    Args:
        log: The log that it was written to.
        recorder: The recorder that wrote it.

    Returns:
        The session, with its descendants.

    Raises:
        SessionNotFound: So many events waited in memory that the first ones were dropped.
    """
    first = recorder.first_position
    stored = log.read(after=first - 1) if first is not None else ()
    session = fold(chain(stored, log.held_as_recorded()), recorder.session_id)
    if session is None:  # its beginning waited in memory, and was written meanwhile
        session = fold(chain(log.read(), log.held_as_recorded()), recorder.session_id)
    if session is None:
        raise SessionNotFound(
            f"Session {recorder.session_id} could not be written, and more events waited in memory "
            "than fit; its first ones were dropped."
        )
    return session
