"""Finds the session, and the tool in it, that the running code belongs to.

A context variable has the session. Alone it can't tell: a generator that is left in the middle of a
`with` keeps its session there, and an interrupt may come between any two steps of setting it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, cast

from lllm.events.log_context import log_context
from lllm.events.recorder import Recorder
from lllm.sessions.context_values import during
from lllm.sessions.unfinished_sessions import LOST, Watch
from lllm.sessions.with_in_generator import frame_of_generator, is_async, warn_of_async_generator

if TYPE_CHECKING:
    from lllm.sessions.session import SessionScope

current: ContextVar[SessionScope | None] = ContextVar("lllm_session", default=None)
current_tool: ContextVar[int | None] = ContextVar("lllm_tool", default=None)  # its ordinal
# The session that a thread was told to go on in: it is current there, whatever its generator does.
carried: ContextVar[SessionScope | None] = ContextVar("lllm_carried_session", default=None)


@contextmanager
def outside_of_sessions() -> Iterator[None]:
    """A `with` in which no session is current, whatever is around it."""
    with during(current, None), during(carried, None), during(current_tool, None):
        yield


def running_session() -> SessionScope | None:
    """Find the innermost session that the running code is in.

    Returns:
        The session; None outside of any.
    """
    return running()[0]


def running() -> tuple[SessionScope | None, int | None]:
    """Find the innermost session that the running code is in, and the tool in it.

    Returns:
        The session, None outside of any, and the ordinal of the tool, None outside of one.
    """
    scope, tool = current.get(), current_tool.get()
    while scope is not None and not scope.runs_here and scope is not carried.get():
        tool = scope.outer_tool
        scope = scope.outer
    return scope, tool


class CurrentSession:
    """A session as the current one of a context, and the one that was current before.

    Attributes:
        recorder: Writes it.
        looked_up: See ExitOf.
        outer: The session that was current when this one began.
        outer_tool: The tool that ran in that one.
    """

    recorder: Recorder
    looked_up: Watch | None = None
    outer: SessionScope | None = None
    outer_tool: int | None = None
    _exit: Watch | None = None  # what its `with` holds, while that lasts
    _over = False  # its end is told to all that must know
    _outer_log: dict[str, str] | Callable[[], dict[str, str]] | None = None
    _is_current = False  # of the context that it began in
    _left = False  # elsewhere than where it began, so a context may still have it
    _frame: FrameType | None = None  # of the generator that has it in a `with`
    _in_generator = False

    @property
    def log_context(self) -> dict[str, str]:
        """The fields that log lines inside the session get."""
        return {"session": self.recorder.session_id}

    @property
    def runs_here(self) -> bool:
        """True if the running code is in this session."""
        # Only the frame of a generator that does not run has nobody above it.
        runs = self._frame is None or self._frame.f_back is not None
        return runs and not self._left and not self.is_lost()

    def is_lost(self) -> bool:
        """True if its `with` ended, but an interrupt prevented the session's end."""
        return self._exit is not None and self._exit() is None and not self._over

    @property
    def is_over(self) -> bool:
        """True if the session's end is recorded everywhere it must be."""
        return self._over

    @contextmanager
    def attached(self) -> Iterator[None]:
        """A `with` that makes the session current for one step of a generator."""
        with (
            during(current, cast("SessionScope", self)),
            during(current_tool, None),
            during(log_context, lambda: self.log_context),
        ):
            yield

    def _attach(self, frame: FrameType) -> None:
        """Make this the context's current session. frame: of the code with the `with`."""
        outer = current.get()
        while outer is not None and not outer.runs_here:
            if outer.is_lost():
                outer.leave(KeyboardInterrupt(LOST), follow=False)
            elif not outer._left:
                break
            outer = outer.outer  # or those that are left would be held for ever
        self.outer, self.outer_tool, self._outer_log = outer, current_tool.get(), log_context.get()
        generator = frame_of_generator(frame)
        self._in_generator = generator is not None
        if generator is not None and is_async(generator):
            warn_of_async_generator(generator)
        else:
            self._frame = generator
        self._is_current = True  # before it is: what is done then is undone, wherever it stops
        current.set(cast("SessionScope", self))
        current_tool.set(None)
        log_context.set(self._log_context_here)

    def _log_context_here(self) -> dict[str, str]:
        if self.runs_here:
            return self.log_context
        return {} if self.outer is None else self.outer._log_context_here()

    def _detach(self) -> None:
        self._frame = None
        if not self._is_current:
            return
        # Where another session began here meanwhile, or another task closes a generator, this one
        # stays in a context that nobody can mend.
        self._left = self._in_generator or current.get() is not self
        if current.get() is self:
            outer = self.outer
            while outer is not None and outer._left:
                outer = outer.outer
            current_tool.set(self.outer_tool)
            log_context.set(self._outer_log)
            current.set(outer)  # last, like the mark: an interrupt has it all done once more
        self._is_current = False
