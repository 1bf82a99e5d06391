"""The replay that code runs in, as sessions, agents and captured clients see it.

This is the seam: they ask here, and know nothing of recordings.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import msgspec

from lllm.events.model import (
    DrawnKind,
    LLMFailed,
    LLMRefused,
    LLMResponded,
    Origin,
    SessionStarted,
)
from lllm.replay.divergence import as_exception, elsewhere
from lllm.replay.shared_folder import SharedFolder

if TYPE_CHECKING:
    from lllm.agents.effects import Steps
    from lllm.events.recorder import Recorder
    from lllm.replay.client_requests import ClientRequest
    from lllm.replay.wire.http_answer import HttpAnswer
    from lllm.sessions.budget import Budget
    from lllm.sessions.host import SessionHost

E = TypeVar("E", LLMResponded, LLMFailed, LLMRefused)
T = TypeVar("T")


class AnswersSessions(Protocol):
    """What the sessions below it are answered by: a replay, or one session of it."""

    @property
    def host(self) -> SessionHost:
        """Where the sessions of the replay are written."""

    def begin(self, started: SessionStarted, recorder: Recorder, /) -> Replaying | None:
        """Find what a session that begins below is answered from.

        Args:
            started: How it begins.
            recorder: Writes it.

        Returns:
            What answers it; None where it runs live, as in a recording of a test.

        Raises:
            ReplayDivergence: No such session was recorded here.
        """

    def refuse_captured(self, client: str) -> None:
        """Keep a captured client from a call that is not recorded, and so can't be answered.

        Args:
            client: What it calls.

        Raises:
            ReplayDivergence: Always, but where the model itself is asked.
        """


class Replaying(AnswersSessions, Protocol):
    """What one session of a replay is answered by."""

    @property
    def origin(self) -> Origin | None:
        """The session that this one replays or forks; None where it is new in a fork."""

    def answered(self, steps: Steps[T], agent: str, dialog: str, budget: Budget) -> Steps[T]:
        """Answer the calls of models and the tools of one agent call.

        Args:
            steps: What the agent call does.
            agent: The name of the agent.
            dialog: The alias of the dialog that it answers in.
            budget: The session's; what was spent within a tool comes out of it.

        Returns:
            The same steps, without what is answered.
        """

    def ask_client(self, asked: ClientRequest) -> AnswersClient | None:
        """Answer one call of a captured client.

        Args:
            asked: What is asked.

        Returns:
            What answers its attempts; None where the model itself is to be asked.

        Raises:
            ReplayDivergence: It asks something else than was recorded.
        """

    def drawn(self, kind: DrawnKind, tool: int | None) -> str | float | None:
        """Answer `lllm.now()`, `lllm.uuid4()` or `lllm.random()`.

        Args:
            kind: Which of them.
            tool: The number of the tool call in which it is called, None outside of tools.

        Returns:
            The recorded value; None where another one is to be drawn.

        Raises:
            ReplayDivergence: It is called once more than in the recording.
            ReplayInterrupted: The recording ends before this.
        """

    def unbilled(self, event: E) -> E:
        """What is written of an attempt: it is the recorded one, and costs nothing again.

        Args:
            event: As it would be written of a call of the model.

        Returns:
            The event with the cost 0.
        """

    def leave(self, error: BaseException) -> None:
        """Tell an error that leaves the session.

        Args:
            error: It, once the session has ended.

        Raises:
            Exception: What is raised in its place, where it is about to leave a process that is
                not the replay's own.
        """


class ReplayBlock(AnswersSessions, Protocol):
    """A `with` in which what begins is answered."""

    @property
    def is_closed(self) -> bool:
        """True where nothing that begins in it may ask its model, in whatever thread or process."""

    def elsewhere(self) -> ReplayElsewhere | None:
        """What refuses the calls of a process that is started in it; None if it is not closed.

        Raises:
            ReplayError: There is no place for what processes tell each other.
        """


class AnswersClient(Protocol):
    """What the attempts of one call of a captured client are answered by."""

    def attempt(self, number: int) -> AnsweredAttempt | None:
        """Answer one attempt.

        Args:
            number: Which one of the call, from 1.

        Returns:
            What answers it; None where the model itself is to be asked from here on.

        Raises:
            ReplayDivergence: It was not made.
            ReplayInterrupted: The recording ends here.
        """


class AnsweredAttempt(Protocol):
    """A recorded attempt of an SDK."""

    @property
    def end(self) -> LLMResponded | LLMFailed:
        """What came of it."""

    @property
    def http(self) -> HttpAnswer:
        """The HTTP answer."""

    @property
    def until_cancelled(self) -> int | None:
        """Nanoseconds to wait for a timer that cancels it, as then; None where it is answered."""


class ReplayElsewhere(msgspec.Struct, frozen=True):
    """Refuses all calls of a process that the code of a replay started.

    Attributes:
        session_id: The recorded session that is replayed.
        folder: Of the replay, see SharedFolder.
    """

    session_id: str
    folder: str

    @property
    def is_closed(self) -> bool:
        """See ReplayBlock."""
        return True

    @property
    def host(self) -> SessionHost:
        """Refuse a session. Raises ReplayDivergence."""
        self._refuse("A tactic or captured client")

    def begin(self, started: SessionStarted, _: Recorder, /) -> NoReturn:
        """See AnswersSessions."""
        self._refuse(repr(started.tactic_path))

    def refuse_captured(self, client: str) -> None:
        """See AnswersSessions."""
        self._refuse(client)

    def elsewhere(self) -> ReplayElsewhere:
        """See ReplayBlock."""
        return self

    def _refuse(self, called: str) -> NoReturn:
        divergence = elsewhere(called, self.session_id)
        SharedFolder(self.folder).tell(divergence)
        raise as_exception(divergence)


_VARIABLE = "LLLM_REPLAY_OF"  # of a process's environment: where the replay stands


def environment_of(replay: ReplayElsewhere) -> dict[str, str]:
    """What the environment of a process says that a replay starts.

    Args:
        replay: That refuses its calls.
    """
    return {_VARIABLE: f"{replay.folder}{os.pathsep}{replay.session_id}"}


def close_process(replay: ReplayElsewhere) -> None:
    """Have all calls of this process, and of those it starts, refused while a replay lasts.

    Args:
        replay: The replay.
    """
    os.environ.update(environment_of(replay))


def replay_of_process() -> ReplayElsewhere | None:
    """The replay whose code started this process; None where there is none, or it is over."""
    told = os.environ.get(_VARIABLE)
    if not told:
        return None
    folder, _, session_id = told.rpartition(os.pathsep)
    if SharedFolder(folder).is_open:
        return ReplayElsewhere(session_id, folder)
    os.environ.pop(_VARIABLE, None)
    return None


class HasReplay(Protocol):
    """A session that new ones may stand below."""

    @property
    def replaying(self) -> Replaying | None:
        """What it is answered by, where it is replayed."""


# Of `with store.replay(...)`: what sessions are answered by that begin inside and have no parent.
active_replay: ContextVar[ReplayBlock | None] = ContextVar("lllm_replay", default=None)


def above_of(parent: HasReplay | None) -> AnswersSessions | None:
    """What a session that begins here is answered by.

    Args:
        parent: The session that it stands below.

    Returns:
        None outside of any replay.
    """
    if parent is None or parent.replaying is None:
        return active_replay.get() or replay_of_process()
    return parent.replaying
