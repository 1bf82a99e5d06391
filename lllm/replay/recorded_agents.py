"""Holds the recorded calls of agents: each with its attempts to call a model and its tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from lllm.events.model import (
    AgentDefined,
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    RetryScheduled,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)

if TYPE_CHECKING:
    from lllm.replay.recorded_session import RecordedSession

MessageEvent: TypeAlias = MessageAdded | LLMResponded | ToolReturned | ToolFailed


@dataclass(eq=False, slots=True)
class RecordedTool:
    """A recorded run of a tool that a model's answer called."""

    called: ToolCalled
    end: ToolReturned | ToolFailed | None = None
    ended: int = 0
    """The position in the log at which the tool ended; 0 if it has no end."""
    is_edited: bool = False
    """True if a fork replaced the result of the tool."""


@dataclass(eq=False, slots=True)
class RecordedAttempt:
    """One recorded attempt to call a model."""

    call: RecordedCall
    requested: LLMRequested
    definition: AgentDefined
    position: int
    """The position in the log at which the attempt began."""
    end: LLMResponded | LLMFailed | None = None
    after: int = 0
    """Nanoseconds from the start of the session to the end of the attempt."""
    retry: RetryScheduled | None = None
    """The event that scheduled another attempt after this one failed; None if there is none."""
    tools: list[RecordedTool] = field(default_factory=list)
    """The tools that the answer called, in the order of the calls."""

    @property
    def retried(self) -> bool | None:
        """True if the agent tried again, or would have, after the failure; None if unknown."""
        if self.retry is not None:
            return True
        end = self.call.end
        if not isinstance(end, AgentFailed):
            return None
        return end.error.type.rpartition(".")[2] == "AgentError"


@dataclass(eq=False, slots=True)
class RecordedCall:
    """One recorded call of `agent.respond()`."""

    session: RecordedSession
    started: AgentStarted
    alias: str
    nth: int
    """The number of the call among those of the agent in dialogs with this alias, from 1."""
    definition: AgentDefined
    position: int
    """The position in the log at which the call began."""
    attempts: dict[tuple[int, int], RecordedAttempt] = field(default_factory=dict)
    """The attempts by the numbers of their step and of the attempt at it."""
    end: AgentSucceeded | AgentFailed | None = None
    ended: int = 0
    """The position in the log at which the call ended; 0 if it has no end."""

    @property
    def last(self) -> RecordedAttempt | None:
        """The attempt that began last; None if there was no attempt."""
        return list(self.attempts.values())[-1] if self.attempts else None
