"""Finds the replay that code runs in, for sessions, agents and captured clients.

They use only the protocols of this module, and never read a recording themselves.
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
    """A replay, or one session of it, which answers the sessions that begin below it."""

    @property
    def host(self) -> SessionHost:
        """The host that writes the log of the sessions of the replay."""

    def begin(self, started: SessionStarted, recorder: Recorder, /) -> Replaying | None:
        """Find the recorded session that answers a session which now begins below this one.

        Args:
            started: The first event of the session that begins, with its tactic and its task.
            recorder: The recorder that writes the events of the session that begins.

        Returns:
            The object that answers the session; None if the session runs live, as it does while
            a test is recorded.

        Raises:
            ReplayDivergence: No such session was recorded at this place.
        """

    def refuse_captured(self, client: str) -> None:
        """Refuse a call of a captured client that is not recorded, so that nothing can answer it.

        Args:
            client: The SDK, HTTP method and URL of the call, for the message of the error.

        Raises:
            ReplayDivergence: Always, unless calls go to the real model here.
        """


class Replaying(AnswersSessions, Protocol):
    """One session of a replay, which answers the calls that its code makes."""

    @property
    def origin(self) -> Origin | None:
        """The session that this one replays or forks; None if it is new in a fork."""

    def answered(self, steps: Steps[T], agent: str, dialog: str, budget: Budget) -> Steps[T]:
        """Answer the model calls and the tools of one agent call from the recording.

        Args:
            steps: The effects of the agent call: its model calls, tools and waits.
            agent: The name of the agent.
            dialog: The alias of the dialog in which the agent answers.
            budget: The budget of the session; it pays for what was spent within recorded tools.

        Returns:
            The same steps without those that the recording answers.
        """

    def ask_client(self, asked: ClientRequest) -> AnswersClient | None:
        """Answer one call of a captured client.

        Args:
            asked: The request of the client.

        Returns:
            The object that answers the attempts of the call; None if the client shall ask the
            real model.

        Raises:
            ReplayDivergence: The request differs from what was recorded.
        """

    def drawn(self, kind: DrawnKind, tool: int | None) -> str | float | None:
        """Answer `lllm.now()`, `lllm.uuid4()` or `lllm.random()`.

        Args:
            kind: Which of the three functions is called.
            tool: The number of the tool call that calls the function; None outside of tools.

        Returns:
            The recorded value; None if the function shall draw a new one.

        Raises:
            ReplayDivergence: The function is called more often than in the recording.
            ReplayInterrupted: The recording ends before this call.
        """

    def unbilled(self, event: E) -> E:
        """Set the cost of an answered attempt to 0, since no model was called again.

        Args:
            event: The end of the attempt, as it would be logged for a real model call.

        Returns:
            The event with a cost of 0.
        """

    def leave(self, error: BaseException) -> None:
        """Handle an error that leaves the session, after the session has ended.

        Args:
            error: The error that leaves the session.

        Raises:
            Exception: The error is about to leave a process other than the replay's own. Then
                this exception takes its place.
        """


class ReplayBlock(AnswersSessions, Protocol):
    """A `with` block in which the sessions that begin are answered from a recording."""

    @property
    def is_closed(self) -> bool:
        """True if no code in the block may ask a model, in whatever thread or process."""

    def elsewhere(self) -> ReplayElsewhere | None:
        """Give what refuses the calls of a process that is started in the block.

        Returns:
            The object that refuses the calls; None if the block is not closed.

        Raises:
            ReplayError: The folder that the processes share can't be made.
        """


class AnswersClient(Protocol):
    """Answers the attempts of one call of a captured client."""

    def attempt(self, number: int) -> AnsweredAttempt | None:
        """Answer one attempt.

        Args:
            number: The number of the attempt within the call, from 1.

        Returns:
            The recorded attempt; None if the client shall ask the real model from here on.

        Raises:
            ReplayDivergence: The recorded call had no such attempt.
            ReplayInterrupted: The recording ends at this attempt.
        """


class AnsweredAttempt(Protocol):
    """A recorded attempt of an SDK."""

    @property
    def end(self) -> LLMResponded | LLMFailed:
        """The event that ended the attempt: an answer or a failure."""

    @property
    def http(self) -> HttpAnswer:
        """The HTTP answer that the SDK gets."""

    @property
    def until_cancelled(self) -> int | None:
        """Nanoseconds to wait for a timer to cancel the attempt; None if it gets an answer."""


class ReplayElsewhere(msgspec.Struct, frozen=True):
    """Refuses all calls of a process that the code of a replay started.

    Attributes:
        session_id: The id of the recorded session that is replayed.
        folder: The path of the folder that the processes of the replay share; see `SharedFolder`.
    """

    session_id: str
    folder: str

    @property
    def is_closed(self) -> bool:
        """Always True: no call of this process may ask a model; see `ReplayBlock`."""
        return True

    @property
    def host(self) -> SessionHost:
        """Refuse a session: reading this raises ReplayDivergence."""
        self._refuse("A tactic or captured client")

    def begin(self, started: SessionStarted, _: Recorder, /) -> NoReturn:
        """Refuse a session that begins; always raises ReplayDivergence."""
        self._refuse(repr(started.tactic_path))

    def refuse_captured(self, client: str) -> None:
        """Refuse a call of a captured client; always raises ReplayDivergence."""
        self._refuse(client)

    def elsewhere(self) -> ReplayElsewhere:
        """Return itself, to refuse the calls of processes that this process starts."""
        return self

    def _refuse(self, called: str) -> NoReturn:
        divergence = elsewhere(called, self.session_id)
        SharedFolder(self.folder).tell(divergence)
        raise as_exception(divergence)


_VARIABLE = "LLLM_REPLAY_OF"  # names the folder and session of the replay


def environment_of(replay: ReplayElsewhere) -> dict[str, str]:
    """Give the environment variables for a process that the code of a replay starts.

    Args:
        replay: The object that refuses the calls of the process.
    """
    return {_VARIABLE: f"{replay.folder}{os.pathsep}{replay.session_id}"}


def close_process(replay: ReplayElsewhere) -> None:
    """Refuse all calls of this process, and of those it starts, while a replay lasts.

    Args:
        replay: The object that refuses the calls.
    """
    os.environ.update(environment_of(replay))


def replay_of_process() -> ReplayElsewhere | None:
    """Find the replay whose code started this process; None if there is none or it is over."""
    told = os.environ.get(_VARIABLE)
    if not told:
        return None
    folder, _, session_id = told.rpartition(os.pathsep)
    if SharedFolder(folder).is_open:
        return ReplayElsewhere(session_id, folder)
    os.environ.pop(_VARIABLE, None)
    return None


class HasReplay(Protocol):
    """A session that may have children."""

    @property
    def replaying(self) -> Replaying | None:
        """The object that answers the session; None if the session is not replayed."""


# The block of `with store.replay(...)`; it answers sessions that begin in it without a parent.
active_replay: ContextVar[ReplayBlock | None] = ContextVar("lllm_replay", default=None)


def above_of(parent: HasReplay | None) -> AnswersSessions | None:
    """Find what answers a session that begins here.

    Args:
        parent: The parent of the session; None if it has none.

    Returns:
        The object that answers the session; None outside of any replay.
    """
    if parent is None or parent.replaying is None:
        return active_replay.get() or replay_of_process()
    return parent.replaying
