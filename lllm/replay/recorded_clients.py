"""The recorded calls of captured clients: each with its attempts, as the SDK made them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lllm.events.model import AgentDefined, LLMFailed, LLMRequested, LLMResponded


@dataclass(eq=False, slots=True)
class ClientAttempt:
    """One attempt of the SDK."""

    requested: LLMRequested
    position: int
    """Of its start in the log."""
    end: LLMResponded | LLMFailed | None = None
    ended: int = 0
    """Nanoseconds UTC."""
    after: int = 0
    """Nanoseconds from the session's start to its end."""


@dataclass(eq=False, slots=True)
class ClientCall:
    """One call that an SDK was asked for."""

    step: int
    """Which of the session's, from 1."""
    definition: AgentDefined | None
    """The tools, and what else seldom changes."""
    attempts: dict[int, ClientAttempt] = field(default_factory=dict)

    @property
    def requested(self) -> LLMRequested:
        """What it asked, which all of its attempts ask."""
        return next(iter(self.attempts.values())).requested

    @property
    def dialog(self) -> int:
        """The number of its conversation."""
        return self.requested.dialog or 0

    @property
    def place(self) -> str:
        """Its conversation, as it is called in the log."""
        return f"conversation {self.dialog}"
