"""Keeps the session that was opened last, so that fetching its parts does not load it again."""

from __future__ import annotations

import gc

from lllm.projections.queries.load_session import FoundSession
from lllm.store.session_reader import SessionReader
from lllm.web.reduced_payloads import ReducedPayloads
from lllm.web.transcript import Transcript, is_arranged, transcript_of

_KEPT = 64 << 20  # bytes of payloads; a session with more is loaded for every request
_LARGE = 4 << 20  # bytes of payloads; worth a run of the garbage collector


class OpenedSession:
    """Loads sessions, and keeps the last one in memory until the log has new events of it.

    After the page of a long session, the browser requests each step that the user unfolds.

    Args:
        reader: Loads the sessions from the log.
    """

    def __init__(self, reader: SessionReader) -> None:
        self._reader = reader
        self._is_large = False
        self._last: tuple[FoundSession, Transcript] | None = None

    def is_kept(self, session_id: str) -> bool:
        """Tell whether a session is in memory, as of some time.

        Args:
            session_id: The whole id of the session.
        """
        last = self._last
        return last is not None and last[0].row.id == session_id

    def open(self, session_id: str) -> Transcript:
        """Return a session, and load it unless it is the one in memory and has not changed.

        Args:
            session_id: The whole id of the session.

        Returns:
            The session, arranged for the page.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            LogDamaged: An event in the log is corrupt.
        """
        last = self._last
        if last is not None and last[0] == self._reader.find(session_id):
            return last[1]
        last = None
        self._drop()
        loaded = self._reader.load_reduced(session_id, ReducedPayloads().of, is_arranged)
        transcript = transcript_of(loaded)
        if loaded.size <= _KEPT:
            self._last = (loaded.found, transcript)
        self._is_large = loaded.size > _LARGE
        return transcript

    def _drop(self) -> None:
        """Forget the last session, so that two long ones are not in memory at once."""
        self._last = None
        if self._is_large:  # the templates' cycles may hold it until the collector runs
            gc.collect()
            self._is_large = False
