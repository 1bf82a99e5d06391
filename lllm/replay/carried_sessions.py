"""Takes sessions of a replay along into other processes, where their sub-tactics are answered, too.

What is pickled with a session is where its replay stands: a folder, with the recording in a file.
A process reads that once, whatever number of sessions it is sent.
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
    """What another process continues a replay with."""

    recording: RecordedSession
    folder: str
    done: frozenset[tuple[What, Key]]
    reports: bool
    ignored: Ignored
    live_tools: frozenset[str]
    host: SessionHost | None
    """Where the replay is written; None where other processes can't write there."""
    partition: str
    redact: Redact | None
    prices: PriceTable | None


class CarriedReplay(Protocol):
    """A replay, as far as it goes on in another process."""

    def session_of(self, session_id: str, place: ReplayPlace) -> Replaying:
        """The session of the replay that is answered from a recorded one.

        Args:
            session_id: The id of the recorded one.
            place: Where it stands.
        """


_replays: dict[str, CarriedReplay] = {}  # those that this process knows, by their folder


def carry(
    replay: CarriedReplay, joined: Callable[[ReplayState], object], state: ReplayState
) -> str:
    """Write down what other processes continue with, once for each replay.

    Args:
        replay: The replay.
        joined: Makes it of its state, in another process.
        state: The state.

    Returns:
        The replay's folder.

    Raises:
        ReplayError: The state can't be written, or not pickled.
    """
    import pickle

    file = os.path.join(state.folder, _FILE)
    with _lock.held():
        if not os.path.exists(file):
            try:
                with open(f"{file}.new", "wb") as new:
                    pickle.dump((joined, state), new, pickle.HIGHEST_PROTOCOL)
                os.replace(f"{file}.new", file)
            except Exception as error:  # what pickles a redact of the user's may raise anything
                raise ReplayError(
                    f"The replay of session {state.recording.session_id} can't be sent to another "
                    f"process: {type(error).__name__}: {error}"
                ) from error
        _replays[state.folder] = replay
    return state.folder


def forget(folder: str) -> None:
    """Forget a replay that is over.

    Args:
        folder: Its folder.
    """
    _replays.pop(folder, None)


def session_in_process(folder: str, session_id: str, place: ReplayPlace) -> Replaying:
    """What pickle makes of a session of a replay, in whichever process.

    Args:
        folder: Of the replay.
        session_id: The id of the recorded session that it is answered from.
        place: Where it stands.

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
