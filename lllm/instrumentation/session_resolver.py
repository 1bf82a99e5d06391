"""Finds the session of a captured call: the current one, or a new one for this call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.instrumentation.frameworks.observed_call import observed
from lllm.replay.active_replay import above_of
from lllm.sessions.current_session import running_session
from lllm.sessions.session import SessionScope
from lllm.sessions.unfinished_sessions import open_elsewhere
from lllm.store.log_store import LogStore, session_host

_warning = ThreadLock()


class SessionResolver:
    """Finds or begins the session in which a client's call is recorded.

    Args:
        store: The store for calls outside of any session; None leaves these unrecorded.
    """

    def __init__(self, store: LogStore | None) -> None:
        self._store = store
        self._warned = False
        self._told_of_lost = False
        self._unrecorded: set[tuple[str, bool]] = set()

    def session_of(
        self, name: str, tags: Mapping[str, str] | None = None
    ) -> tuple[SessionScope | None, bool]:
        """Find or begin the session of a call; a call that a framework's hook reported is in its.

        Args:
            name: The name of the new session, if the call gets one.
            tags: The tags of the new session.

        Returns:
            The session, or None if the call is not recorded; and True if it was begun for this
            call.
        """
        reported = next((one for one in observed.get() if one.is_waiting), None)
        if reported is not None:
            return reported.session, False
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
        return SessionScope(session_host(self._store), name, name, kind="call", tags=tags), True

    def _tell_of_lost(self, name: str, path: str) -> None:
        with _warning.held():
            told, self._told_of_lost = self._told_of_lost, True
            if self._store is None:
                self._warned = True
        if not told:
            becomes = "a session of its own" if self._store is not None else "not recorded"
            warnings.warn(
                f"A call of {name} is outside of session {path}, which is open in another thread, "
                f"so it is {becomes} and counts in no budget. A new thread is in no session "
                "unless one is carried there: with store.carry(function), with "
                "lllm.Executor in place of a ThreadPoolExecutor, or for every thread of the "
                'program with lllm.instrument("threads").',
                UserWarning,
                stacklevel=2,
            )

    def tell_of_unrecorded(self, sdk: str, path: str) -> None:
        """Warn once of calls that are not recorded, and once if a budget misses their cost.

        sdk: The name of the SDK that makes them.
        path: The path of the API that is called.
        """
        above = running_session()
        bounded = above is not None and above.budget.misses(path)
        with _warning.held():
            told = (path, bounded) in self._unrecorded
            self._unrecorded.add((path, bounded))
        if not told:
            unseen = " The session's budget does not include its cost." if bounded else ""
            warnings.warn(
                f"A call of {sdk} to {path} is not recorded; only chat, responses, messages, "
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
    """Where and with which options the calls of a client are recorded.

    Attributes:
        resolver: Finds the session of each call.
        ask_for_usage: True to request the usage of streamed Chat Completions.
        provider: The provider that bills the calls; None to find it by LLLM_PROVIDER or the URL.
    """

    resolver: SessionResolver
    ask_for_usage: bool
    provider: str | None


class ClientFamily:
    """A client and the copies made of it, which are recorded alike.

    Args:
        recording: Where and how their calls are recorded; None to record nothing.
    """

    def __init__(self, recording: Recording | None) -> None:
        self.recording = recording
