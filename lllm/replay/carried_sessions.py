"""Carries sessions of a replay into other processes, so that sub-tactics are answered there, too.

A session is pickled with the path of its replay's folder, which has the recording in a file. Each
process reads that file once, however many sessions it is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ReplayError
from lllm.events.redaction.redact import Redact
from lllm.pricing.user_prices import PriceTable
from lllm.replay.active_replay import Replaying
from lllm.replay.divergence import ReplayPlace
from lllm.replay.ignored_parts import Ignored
from lllm.replay.progress import Key, What
from lllm.replay.recorded_session import RecordedSession
from lllm.sessions.host import SessionHost

_FILE = "replay"

_lock = ThreadLock()


class ReplayState(msgspec.Struct, frozen=True):
    """All that another process needs to continue a replay.

    Attributes:
        recording: The recorded session that is replayed.
        folder: The path of the folder that the processes of the replay share.
        done: The recorded steps that were replayed before the state was written.
        reports: True if differences are collected, False if the first one is raised.
        ignored: The parts of requests that comparisons leave out.
        live_tools: The names of the tools that run again instead of being answered.
        partition: The partition of the host that writes the replay.
        redact: The store's filter of what is logged; None if it has none.
        prices: The user's own prices; None if there are none.
    """

    recording: RecordedSession
    folder: str
    done: frozenset[tuple[What, Key]]
    reports: bool
    ignored: Ignored
    live_tools: frozenset[str]
    host: SessionHost | None
    """The host that writes the log of the replay; None if other processes can't use it."""
    partition: str
    redact: Redact | None
    prices: PriceTable | None


class CarriedReplay(Protocol):
    """A replay that goes on in another process."""

    def session_of(self, session_id: str, place: ReplayPlace) -> Replaying:
        """Give the session of the replay that a recorded session answers.

        Args:
            session_id: The id of the recorded session.
            place: The place of the session in the replay, for messages.
        """


_replays: dict[str, CarriedReplay] = {}  # the replays that this process knows, by folder


def carry(
    replay: CarriedReplay, joined: Callable[[ReplayState], object], state: ReplayState
) -> str:
    """Write the state of a replay to its folder, so that other processes can continue it.

    The file is written once for each replay.

    Args:
        replay: The replay of this process.
        joined: A function that makes the replay from its state in another process; it is pickled.
        state: The state to write.

    Returns:
        The path of the replay's folder.

    Raises:
        ReplayError: The state can't be pickled or written.
    """
    import pickle

    file = os.path.join(state.folder, _FILE)
    with _lock.held():
        if not os.path.exists(file):
            try:
                with open(f"{file}.new", "wb") as new:
                    pickle.dump((joined, state), new, pickle.HIGHEST_PROTOCOL)
                os.replace(f"{file}.new", file)
            except Exception as error:  # pickling the user's redact may raise anything
                raise ReplayError(
                    f"The replay of session {state.recording.session_id} can't be sent to another "
                    f"process: {type(error).__name__}: {error}"
                ) from error
        _replays[state.folder] = replay
    return state.folder


def forget(folder: str) -> None:
    """Forget a replay that is over.

    Args:
        folder: The path of the replay's folder.
    """
    _replays.pop(folder, None)


def session_in_process(folder: str, session_id: str, place: ReplayPlace) -> Replaying:
    """Unpickle a session of a replay, in whichever process.

    Args:
        folder: The path of the replay's folder.
        session_id: The id of the recorded session that answers it.
        place: The place of the session in the replay, for messages.

    Returns:
        The session of the replay, which answers calls in this process.

    Raises:
        ReplayError: The replay is over.
    """
    import pickle

    with _lock.held():
        replay = _replays.get(folder)
        if replay is None:
            for other in [one for one in _replays if not os.path.isdir(one)]:
                del _replays[other]
            try:
                with open(os.path.join(folder, _FILE), "rb") as file:
                    joined, state = pickle.load(file)
            except FileNotFoundError as error:
                raise ReplayError(
                    f"The replay of session {session_id} is over, so nothing answers this call."
                ) from error
            replay = _replays[folder] = joined(state)
    return replay.session_of(session_id, place)
