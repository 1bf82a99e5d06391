"""The replay that code runs in, as sessions, agents and captured clients see it.

This is the seam: they ask here, and know nothing of recordings.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from lllm.events.model import (
    DrawnKind,
    LLMFailed,
    LLMRefused,
    LLMResponded,
    Origin,
    SessionStarted,
)

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


class HasReplay(Protocol):
    """A session that new ones may stand below."""

    @property
    def replaying(self) -> Replaying | None:
        """What it is answered by, where it is replayed."""


# Of `with store.replay(...)`: what sessions are answered by that begin inside and have no parent.
active_replay: ContextVar[AnswersSessions | None] = ContextVar("lllm_replay", default=None)


def above_of(parent: HasReplay | None) -> AnswersSessions | None:
    """What a session that begins here is answered by.

    Args:
        parent: The session that it stands below.

    Returns:
        None outside of any replay.
    """
    if parent is None or parent.replaying is None:
        return active_replay.get()
    return parent.replaying
