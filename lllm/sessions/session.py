"""The life of one session: it begins, is the current one for the code inside, and ends.

Tactics and `store.session(...)` share this. Every way out leaves a finished record: what is raised,
cancellation and Ctrl-C among it, is a failure that says so.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from lllm.events.concurrency import deferred
from lllm.events.concurrency.shielded import in_thread, is_cancelled_task
from lllm.events.errors import LogError, SessionEnded
from lllm.events.log_context import log_context
from lllm.events.model import (
    Ancestor,
    SessionFailed,
    SessionSucceeded,
)
from lllm.events.recorder import Recorder
from lllm.events.redaction.known_secrets import without_secrets
from lllm.sessions import open_sessions
from lllm.sessions.budget import Budget
from lllm.sessions.context_values import during
from lllm.sessions.current_session import current, current_tool
from lllm.sessions.error_details import describe, is_cancellation
from lllm.sessions.generators import frame_of_generator, is_async, warn_of_async_generator
from lllm.sessions.host import CarriedParent, Parent, SessionHost
from lllm.sessions.lost_exits import ExitOf, looked_up_for
from lllm.sessions.open_calls import OpenCalls, exiting
from lllm.sessions.open_sessions import LOST, Watch, delivered, watch_of
from lllm.sessions.session_start import started_event

_DROPPED = "The session was dropped before its end."
_logger = logging.getLogger("lllm.tactic")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler


class SessionScope:
    """One session, as a context manager for threads and for event loops.

    parent: the session that it is called from, None for a root. budget: what it may spend on
    models, None for whatever it takes.
    """

    _exit: Watch | None = None  # what its `with` holds, while that lasts
    looked_up: Watch | None = None
    _over = False

    def __init__(
        self,
        host: SessionHost,
        tactic_path: str,
        name: str,
        *,
        kind: str = "tactic",
        task: object = None,
        options: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        partition: str | None = None,
        parent: Parent | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.host = host
        self.budget = budget or Budget(above=parent.budget if parent else None)
        self.calls = OpenCalls()  # of models, that are under way
        self.thread = 0  # that it began in
        self._kind = kind
        self._began = 0
        self._clean: Callable[[str], str] = str
        self.outer: SessionScope | None = None  # that was current when this one began
        self.outer_tool: int | None = None
        self._outer_log: dict[str, str] | Callable[[], dict[str, str]] | None = None
        self._is_current = False  # of the context that it began in
        self._left = False  # elsewhere than where it began, so a context may still have it
        self._frame: FrameType | None = None  # of the generator that has it in a `with`
        self._in_generator = False
        self._over = False  # its end is told to all that must know
        self.recorder = Recorder(
            host.log,
            tactic_path,
            ancestors=parent.lineage if parent else (),
            redact=host.redact,
            definitions=host.definitions,
        )
        self._started = started_event(
            self.recorder, host, name=name, kind=kind, task=task, options=options, tags=tags,
            metadata=metadata, partition=partition, parent=parent, budget=self.budget.limit,
        )  # fmt: skip

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of its children, root first."""
        return self.recorder.lineage

    def next_child(self) -> int | None:
        """See Parent."""
        return None if self.recorder.in_child else self.recorder.ordinal("child")

    def __reduce__(self) -> tuple[Callable[..., CarriedParent], tuple[object, ...]]:
        """Into another process goes where it is written and what stands above its children."""
        host = self.host if self.host.spans_processes else None
        return CarriedParent, (host, self.lineage, self.budget)

    @property
    def is_of_call(self) -> bool:
        """Whether it is the own session of a single captured call."""
        return self._kind == "call"

    @property
    def log_context(self) -> dict[str, str]:
        """What a line logged inside belongs to."""
        return {"session": self.recorder.session_id}

    @property
    def runs_here(self) -> bool:
        """Whether the code that asks is inside, where this session is its context's current one."""
        # Only the frame of a generator that does not run has nobody above it.
        runs = self._frame is None or self._frame.f_back is not None
        return runs and not self._left and not self.is_lost()

    def is_lost(self) -> bool:
        """Whether its `with` was left, and an interrupt kept that from ending the session."""
        return self._exit is not None and self._exit() is None and not self._over

    @property
    def is_over(self) -> bool:
        """Whether its end is told to all that must know."""
        return self._over

    def __del__(self) -> None:
        if self._exit is not None and not self._over and self.recorder.is_open:
            deferred.later(partial(self.leave, GeneratorExit(_DROPPED), follow=False))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """A `with` around one step of what runs in pieces: inside, it is the current session."""
        with (
            during(current, self),
            during(current_tool, None),
            during(log_context, lambda: self.log_context),
        ):
            yield

    def _begin(self, frame: FrameType) -> None:
        self._exit = looked_up_for(self)
        if self._exit is not None:
            self._exit.session_id = self.recorder.session_id
        self._announce()
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
        current.set(self)
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

    def _end(self, error: BaseException | None) -> None:
        try:
            with suppress(SessionEnded):  # another thread found it lost, and was faster
                self._stage_end(error)
        finally:
            self._detach()

    def _stage_end(self, error: BaseException | None) -> None:
        if self.recorder.is_empty or not self.recorder.is_open:
            return  # it was interrupted before it began, or behind its end
        self.calls.settle()
        elapsed = time.perf_counter_ns() - self._began
        if error is None:
            self.recorder.end(SessionSucceeded(delivery=delivered(self.recorder), elapsed=elapsed))
            self._log(logging.INFO, "%s succeeded in %.1f ms", elapsed / 1_000_000)
        else:
            told = describe(error, self._clean)
            cancelled = is_cancellation(error)
            self.recorder.end(
                SessionFailed(
                    error=told,
                    cancelled=cancelled,
                    elapsed=elapsed,
                    delivery=delivered(self.recorder),
                )
            )
            message = without_secrets(told.message)
            self._log(logging.ERROR, "%s failed: %s: %s", told.type, message)

    def __enter__(self) -> Recorder:
        try:
            open_sessions.settle_lost()
            self._begin(sys._getframe(1))
            self.recorder.commit()
        except BaseException as error:
            self.leave(error)
            raise
        return self.recorder

    def _exit_with(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            self.leave(error)
        except BaseException as cut:
            self.settle(error or cut)
            raise

    if TYPE_CHECKING:

        def __exit__(
            self,
            _: type[BaseException] | None,
            error: BaseException | None,
            __: TracebackType | None,
        ) -> None: ...
    else:
        __exit__ = ExitOf(_exit_with)

    def settle(self, error: BaseException | None) -> None:
        """Do what an interrupt kept `leave` from; where nothing did, this does nothing.

        An interrupt may come before the first step of `__exit__`, so that a `with` alone does not
        end a session whatever comes: who must be sure calls this behind it.

        Args:
            error: What the session failed with, where it has no end yet.
        """
        if not self._over and not isinstance(error, LogError):
            self.leave(error)

    def asettle(self, error: BaseException) -> None:
        """`settle` on an event loop, where a thread may be storing the end."""
        may_wait = isinstance(error, Exception) or is_cancelled_task(error)
        if self._is_current or self.recorder.is_open or not may_wait:
            self.settle(error)

    def begin_apart(self, clean: Callable[[str], str] = str) -> None:
        """Begin it for what no code runs inside of: it becomes nobody's current session. The end is
        `leave` or `aleave`. clean: cuts from an error's text what must not be told."""
        self._clean = clean
        open_sessions.settle_lost_aside()
        self._announce()

    def _announce(self) -> None:
        self._began = time.perf_counter_ns()
        self.thread = threading.get_ident()
        open_sessions.begin(self)
        self.recorder.stage(self._started)
        self._log(logging.INFO, "%s called")

    def _log(self, level: int, text: str, *values: object) -> None:
        # The session by name: no code runs inside of it as it begins, and none when it is apart.
        _logger.log(level, text, self.recorder.tactic_path, *values, extra=self.log_context)

    def leave(self, error: BaseException | None, *, follow: bool = True) -> None:
        """End it, and make that durable.

        error: what it failed with. follow: whether the rows shall follow at once, which may take a
        while.
        """
        if self.recorder.in_child or exiting():
            # A forked child walks out of a session that is its parent's. At the interpreter's exit
            # the stores are closed, and the session is found interrupted.
            self._detach()
            self._over = True
            return
        if deferred.by_collector():  # which came upon a generator with a session inside
            self._detach()
            deferred.later(partial(self.leave, error, follow=follow))
            self._over = True
            return
        self._end(error)
        try:
            if error is None:
                self.recorder.commit()
            else:
                self.recorder.commit_after(error)
        finally:
            if self.recorder.is_written:
                open_sessions.forget(self.recorder)
                self.host.session_ended(root=follow and self._is_root)
        self._over = True

    async def __aenter__(self) -> Recorder:
        try:
            open_sessions.settle_lost_aside()
            self._begin(sys._getframe(1))
            await self.recorder.acommit()
        except BaseException as error:
            await self.aleave(error)
            raise
        return self.recorder

    def _aexit_with(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> Coroutine[object, object, None]:
        leaving = self._aleave_with(error)
        # Which the `with` holds from now on:
        self._exit = watch_of(leaving, self.recorder.session_id)
        return leaving

    async def _aleave_with(self, error: BaseException | None) -> None:
        try:
            await self.aleave(error)
        except BaseException as cut:
            self.asettle(cut)
            raise

    if TYPE_CHECKING:

        async def __aexit__(
            self,
            _: type[BaseException] | None,
            error: BaseException | None,
            __: TracebackType | None,
        ) -> None: ...
    else:
        __aexit__ = ExitOf(_aexit_with)

    async def aleave(self, error: BaseException | None) -> None:
        """`leave` on an event loop."""
        may_wait = error is None or isinstance(error, Exception) or is_cancelled_task(error)
        if not may_wait or self.recorder.in_child or exiting():
            self.leave(error, follow=False)
            return
        self._end(error)
        try:
            if error is None:
                await self.recorder.acommit()
            else:
                await self.recorder.acommit_after(error)
        finally:
            if not self.recorder.is_written:
                pass  # its end can't be told from that of a process that died
            elif self._is_root:
                open_sessions.forget(self.recorder)
                await in_thread(partial(self.host.session_ended, root=True))
            else:
                open_sessions.forget(self.recorder)
                self.host.session_ended(root=False)
        self._over = True

    @property
    def _is_root(self) -> bool:
        return not self.recorder.ancestors
