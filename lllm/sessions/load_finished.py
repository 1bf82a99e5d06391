"""Loads a session that has just ended, also if the rows are behind or the log can't be written."""

from __future__ import annotations

from itertools import chain

from lllm.events.buffered import BufferedLog
from lllm.events.errors import SessionNotFound
from lllm.events.recorder import Recorder
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.session.fold import fold


def fold_finished(log: BufferedLog, recorder: Recorder) -> TacticCallSession:
    """Load a session that has just ended, with those below it.

    It is made of what stands in the log from its first event on, then of what still waits in memory
    to be written.

    Args:
        log: Where it was written.
        recorder: What wrote it.

    Returns:
        The session.

    Raises:
        SessionNotFound: So much waited that its beginning was dropped.
    """
    first = recorder.first_position
    stored = log.read(after=first - 1) if first is not None else ()
    session = fold(chain(stored, log.held_as_recorded()), recorder.session_id)
    if session is None:  # its beginning was held, and written since
        session = fold(chain(log.read(), log.held_as_recorded()), recorder.session_id)
    if session is None:
        raise SessionNotFound(
            f"Session {recorder.session_id} could not be written, and more events waited in memory "
            "than fit; its first ones were dropped."
        )
    return session
