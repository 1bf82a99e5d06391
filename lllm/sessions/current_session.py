"""Which session, and which tool in it, the running code is in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lllm.sessions.session import SessionScope

current: ContextVar[SessionScope | None] = ContextVar("lllm_session", default=None)
current_tool: ContextVar[int | None] = ContextVar("lllm_tool", default=None)  # its ordinal
# The session that a thread was told to go on in: it is current there, whatever its generator does.
carried: ContextVar[SessionScope | None] = ContextVar("lllm_carried_session", default=None)


def running_session() -> SessionScope | None:
    """The innermost session that runs the code which asks; None outside of any.

    The context variable alone can't tell: a generator that is left in the middle of a `with` keeps
    its session there.
    """
    return running()[0]


def running() -> tuple[SessionScope | None, int | None]:
    """The same, with the tool that runs in it."""
    scope, tool = current.get(), current_tool.get()
    while scope is not None and not scope.runs_here and scope is not carried.get():
        tool = scope.outer_tool
        scope = scope.outer
    return scope, tool
