"""The recorded calls of agents: each with its attempts to call a model, and their tools."""

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
    """A tool that an answer asked for."""

    called: ToolCalled
    end: ToolReturned | ToolFailed | None = None
    ended: int = 0
    """The position of its end in the log; 0 where it has none."""
    is_edited: bool = False
    """True where a fork gave it another result."""


@dataclass(eq=False, slots=True)
class RecordedAttempt:
    """One attempt to call a model."""

    call: RecordedCall
    requested: LLMRequested
    definition: AgentDefined
    position: int
    """Of its start in the log."""
    end: LLMResponded | LLMFailed | None = None
    after: int = 0
    """Nanoseconds from the session's start to the end of the attempt."""
    retry: RetryScheduled | None = None
    """That the model was called again after it failed."""
    tools: list[RecordedTool] = field(default_factory=list)
    """Those that its answer asked for, in the order of the calls."""

    @property
    def retried(self) -> bool | None:
        """True where the failed attempt was taken for one that another mends; None if unknown."""
        if self.retry is not None:
            return True
        end = self.call.end
        if not isinstance(end, AgentFailed):
            return None
        return end.error.type.rpartition(".")[2] == "AgentError"


@dataclass(eq=False, slots=True)
class RecordedCall:
    """One `agent.respond()`."""

    session: RecordedSession
    started: AgentStarted
    alias: str
    nth: int
    """The nth in dialogs of this alias of the agent."""
    definition: AgentDefined
    position: int
    """Of its start in the log."""
    attempts: dict[tuple[int, int], RecordedAttempt] = field(default_factory=dict)
    """By step and attempt."""
    end: AgentSucceeded | AgentFailed | None = None
    ended: int = 0
    """The position of its end in the log; 0 where it has none."""

    @property
    def last(self) -> RecordedAttempt | None:
        """The attempt that began last."""
        return list(self.attempts.values())[-1] if self.attempts else None
