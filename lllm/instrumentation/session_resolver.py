"""Finds the session of a captured call: the one that is running, or a new one for this call."""

from __future__ import annotations

import warnings

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.replay.active_replay import above_of
from lllm.sessions.current_session import running_session
from lllm.sessions.session import SessionScope
from lllm.sessions.unfinished_sessions import open_elsewhere
from lllm.store.log_store import LogStore, session_host

_warning = ThreadLock()


class SessionResolver:
    """Finds or begins the session in which a client's call is recorded.

    Args:
        store: For calls outside of any session, None where these are not recorded.
    """

    def __init__(self, store: LogStore | None) -> None:
        self._store = store
        self._warned = False
        self._told_of_lost = False
        self._unrecorded: set[tuple[str, bool]] = set()

    def session_of(self, name: str) -> tuple[SessionScope | None, bool]:
        """Find or begin the session of a call.

        Args:
            name: Of the session, if it is the call's own.

        Returns:
            The session, None for none; and whether it is the call's own.
        """
        above = running_session()
        replay = above_of(above)
        if replay is not None and (above is None or not above.recorder.is_open):
            return SessionScope(replay.host, name, name, kind="call"), True
        if above is not None and above.recorder.is_open:
            return above, False
        lost = None
        if not self._told_of_lost and above is None:
            lost = open_elsewhere(None if self._store is None else session_host(self._store))
        if lost is not None:
            self._tell_of_lost(name, lost.recorder.tactic_path)
        if self._store is None:
            self._warn_once(name)
            return None, False
        return SessionScope(session_host(self._store), name, name, kind="call"), True

    def _tell_of_lost(self, name: str, path: str) -> None:
        with _warning.held():
            told, self._told_of_lost = self._told_of_lost, True
            if self._store is None:
                self._warned = True
        if not told:
            becomes = "a session of its own" if self._store is not None else "not recorded"
            warnings.warn(
                f"A call of {name} in a thread of its own is outside of session {path}, which is "
                f"open in another thread, so it is {becomes} and counts in no budget. A new thread "
                "is in no session until one is carried there: with store.carry(function), with "
                "lllm.Executor in place of a ThreadPoolExecutor, or for every thread of the "
                'program with lllm.instrument("threads").',
                UserWarning,
                stacklevel=2,
            )

    def tell_of_unrecorded(self, sdk: str, path: str) -> None:
        """Warn once of calls that are not recorded, and once if a budget misses their cost.

        Args:
            sdk: That makes them.
            path: Of the API.
        """
        above = running_session()
        bounded = above is not None and above.budget.misses(path)
        with _warning.held():
            told = (path, bounded) in self._unrecorded
            self._unrecorded.add((path, bounded))
        if not told:
            unseen = " The budget of the session does not see what it costs." if bounded else ""
            warnings.warn(
                f"A call of {sdk} to {path} is not recorded: chat, responses, messages, "
                f"completions and embeddings are.{unseen}",
                UserWarning,
                stacklevel=2,
            )

    def _warn_once(self, name: str) -> None:
        with _warning.held():
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(
                f"A call of {name} outside of any session is not recorded. Make it inside "
                "`with store.session(...)`, or say where such calls go: "
                "capture(client, log_store=store).",
                UserWarning,
                stacklevel=2,
            )


class Recording(msgspec.Struct, frozen=True):
    """How the calls of a client are recorded: where, and with which options.

    Attributes:
        resolver: Finds the session of each.
        ask_for_usage: See `capture`.
        provider: See `capture`.
    """

    resolver: SessionResolver
    ask_for_usage: bool
    provider: str | None


class ClientFamily:
    """A client and the copies made of it, which are recorded alike.

    Args:
        recording: How, None for not at all.
    """

    def __init__(self, recording: Recording | None) -> None:
        self.recording = recording
