"""Finds the session and the agent that a log line belongs to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

LogContext = dict[str, str]
# A value may be a function: it is called when a line is logged, to find out who is running then.
log_context: ContextVar[LogContext | Callable[[], LogContext] | None] = ContextVar(
    "lllm_log_context", default=None
)


def current_log_context() -> dict[str, str]:
    """The `session`, and inside an agent's call the `agent`, for a log line."""
    found = log_context.get()
    return found() if callable(found) else found or {}
