"""Holds the recorded calls of captured clients: each with the attempts that the SDK made."""

from __future__ import annotations

from dataclasses import dataclass, field

from lllm.events.model import AgentDefined, LLMFailed, LLMRequested, LLMResponded


@dataclass(eq=False, slots=True)
class ClientAttempt:
    """One recorded attempt of an SDK to call a model."""

    requested: LLMRequested
    position: int
    """The position in the log at which the attempt began."""
    end: LLMResponded | LLMFailed | None = None
    ended: int = 0
    """The time of the end in nanoseconds UTC since 1970; 0 if the attempt has no end."""
    after: int = 0
    """Nanoseconds from the start of the session to the end of the attempt."""


@dataclass(eq=False, slots=True)
class ClientCall:
    """One recorded call of an SDK's method, with all of its attempts."""

    step: int
    """The number of the call among those of clients in the session, from 1."""
    definition: AgentDefined | None
    """The tools and settings that the call shares with others; None if it has none."""
    attempts: dict[int, ClientAttempt] = field(default_factory=dict)

    @property
    def requested(self) -> LLMRequested:
        """The request of the first attempt; all attempts make the same request."""
        return next(iter(self.attempts.values())).requested

    @property
    def dialog(self) -> int:
        """The number of the conversation that the call belongs to."""
        return self.requested.dialog or 0

    @property
    def place(self) -> str:
        """The name of the conversation, such as "conversation 2"."""
        return f"conversation {self.dialog}"
