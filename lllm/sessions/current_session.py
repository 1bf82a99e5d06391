"""Finds the session, and the tool in it, that the running code belongs to.

A context variable holds the session, but it is not enough. A generator that is suspended inside a
`with` leaves its session there, and an interrupt may prevent the variable from being reset.
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
# the tool's number in its session
current_tool: ContextVar[int | None] = ContextVar("lllm_tool", default=None)
# The session that a thread continues: it is current there, whatever the session's generator does.
carried: ContextVar[SessionScope | None] = ContextVar("lllm_carried_session", default=None)


@contextmanager
def outside_of_sessions() -> Iterator[None]:
    """A `with` in which no session is current."""
    with during(current, None), during(carried, None), during(current_tool, None):
        yield


def running_session() -> SessionScope | None:
    """Find the innermost session that the running code belongs to.

    Returns:
        The session; None outside of any.
    """
    return running()[0]


def running() -> tuple[SessionScope | None, int | None]:
    """Find the innermost session that the running code belongs to, and the tool in it.

    Returns:
        The session, None outside of any; and the number of the tool within it, None outside of any
        tool.
    """
    scope, tool = current.get(), current_tool.get()
    while scope is not None and not scope.runs_here and scope is not carried.get():
        tool = scope.outer_tool
        scope = scope.outer
    return scope, tool


class CurrentSession:
    """A session that is current in a context, and the session that was current before it.

    Attributes:
        recorder: The recorder that writes the session.
        looked_up: A weak reference to the exit callable of its `with`; see ExitOf.
        outer: The session that was current when this one began.
        outer_tool: The number of the tool that was running in that session; None if none was.
    """

    recorder: Recorder
    looked_up: Watch | None = None
    outer: SessionScope | None = None
    outer_tool: int | None = None
    _exit: Watch | None = None  # the weak reference that its `with` keeps alive
    _over = False  # the end is recorded everywhere
    _outer_log: dict[str, str] | Callable[[], dict[str, str]] | None = None
    _is_current = False  # in the context that it began in
    _left = False  # left in another context, so that a context may still hold it
    _frame: FrameType | None = None  # the frame of the generator whose `with` it is
    _in_generator = False
    _is_held = False  # made current by `hold`, in one context or in several

    @property
    def log_context(self) -> dict[str, str]:
        """The fields that log lines inside the session get."""
        return {"session": self.recorder.session_id}

    @property
    def runs_here(self) -> bool:
        """True if the running code is in this session."""
        # Only the frame of a suspended generator has no caller.
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

    def hold(self, generator: FrameType | None = None) -> None:
        """Make a session that was begun apart current for the code that follows in this context.

        It may be called in several contexts; the session stays current in them until `let_go`.

        Args:
            generator: The frame of the generator that runs the session's code. The session is
                current only while it runs. None if no generator does.
        """
        if current.get() is self:
            return
        if not self._is_held:
            self._is_held = True
            self.outer, self.outer_tool = running()
            self._outer_log = log_context.get()
            self._frame = generator
        current.set(cast("SessionScope", self))
        current_tool.set(None)
        log_context.set(self._log_context_here)

    def let_go(self) -> None:
        """Stop being current in every context; `hold` is over."""
        self._left = True
        self._frame = None
        if current.get() is self:
            current_tool.set(self.outer_tool)
            log_context.set(self._outer_log)
            current.set(self.outer)

    def _attach(self, frame: FrameType) -> None:
        """Make this the context's current session. frame: the frame of the code with the `with`."""
        outer = current.get()
        while outer is not None and not outer.runs_here:
            if outer.is_lost():
                outer.leave(KeyboardInterrupt(LOST), follow=False)
            elif not outer._left:
                break
            outer = outer.outer  # otherwise ended sessions would be kept alive
        self.outer, self.outer_tool, self._outer_log = outer, current_tool.get(), log_context.get()
        generator = frame_of_generator(frame)
        self._in_generator = generator is not None
        if generator is not None and is_async(generator):
            warn_of_async_generator(generator)
        else:
            self._frame = generator
        self._is_current = True  # set first: whatever an interrupt prevents from here on is undone
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
        # If another session began here meanwhile, or another task closes the generator, this
        # session stays in a context that can't be repaired.
        self._left = self._in_generator or current.get() is not self
        if current.get() is self:
            outer = self.outer
            while outer is not None and outer._left:
                outer = outer.outer
            current_tool.set(self.outer_tool)
            log_context.set(self._outer_log)
            # last, like the mark, so that an interrupt makes it all be done again
            current.set(outer)
        self._is_current = False
