"""A session as a context manager: it begins, is current for the code inside, and ends.

Tactics and `store.session(...)` share this. Every way out of the block leaves a complete record: an
exception, a cancellation and Ctrl-C are recorded as a failure.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import msgspec

from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.shielded import in_thread, is_cancelled_task
from lllm.events.errors import LogError, SessionEnded
from lllm.events.model import Ancestor, SessionFailed, SessionSucceeded
from lllm.events.recorder import Recorder
from lllm.events.redaction.cut_text import without_secrets
from lllm.replay.active_replay import E, Replaying, above_of
from lllm.sessions import unfinished_sessions
from lllm.sessions.budget import Budget
from lllm.sessions.current_session import CurrentSession
from lllm.sessions.error_details import describe, is_cancellation
from lllm.sessions.host import CarriedParent, Parent, SessionHost, carried_parent
from lllm.sessions.lost_exits import ExitOf, looked_up_for
from lllm.sessions.session_start import started_event
from lllm.sessions.unfinished_calls import OpenCalls, exiting
from lllm.sessions.unfinished_sessions import delivered, watch_of

if TYPE_CHECKING:
    from lllm.instrumentation.frameworks.framework_session import FrameworkSession

_DROPPED = "The session was dropped before its end."
_logger = logging.getLogger("lllm.tactic")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler


class SessionScope(CurrentSession):
    """One session, as a context manager for threads and for event loops.

    Args:
        host: The store or memory that the session is written to.
        tactic_path: The stable path of the session.
        name: The short name of the session.
        kind: "tactic", "session" or "call".
        task: The task; the first argument of the call.
        options: The other arguments of the call.
        tags: Names and values by which the session can be found.
        metadata: Any value to keep with the session.
        partition: The owner of the session; None for the host's partition.
        parent: The session that this one is called from; None for a root.
        budget: The budget for model calls; None for no limit.

    Raises:
        TypeError: Tags are not str -> str.
    """

    thread = 0  # the thread that it began in
    hooked: FrameworkSession | None = None  # what the hooks of frameworks record in it
    _began = 0

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
        above = above_of(parent)
        self.host = host = host if above is None else above.host
        self.budget = budget or Budget(above=parent.budget if parent else None)
        self.calls = OpenCalls()  # the model calls in progress
        self._clean: Callable[[str], str] = str
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

        self.replaying: Replaying | None = None
        if above is not None:
            self.replaying = above.begin(self._started, self.recorder)
        if self.replaying is not None:
            self._started = msgspec.structs.replace(self._started, origin=self.replaying.origin)

    def unbilled(self, event: E) -> E:
        """Return the event to record; in a replay it has no cost.

        Args:
            event: The event with its cost, which the budget is charged with.
        """
        return event if self.replaying is None else self.replaying.unbilled(event)

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of the session's children, root first."""
        return self.recorder.lineage

    def next_child(self) -> int | None:
        """Get the number of the next child; see Parent."""
        return None if self.recorder.in_child else self.recorder.ordinal("child")

    def __reduce__(self) -> tuple[Callable[..., CarriedParent], tuple[object, ...]]:
        """Pickle the session as a CarriedParent for another process."""
        host = self.host if self.host.spans_processes else None
        return carried_parent, (host, self.lineage, self.budget, self.replaying)

    @property
    def is_of_call(self) -> bool:
        """True if the session was made for a single captured call."""
        return self._started.kind == "call"

    @property
    def traceparent(self) -> str | None:
        """The OpenTelemetry span around the session, as a W3C trace context; None if none is."""
        return self._started.traceparent

    def _is_told(self) -> None:
        self._over = True
        self.__class__ = SessionScope

    def _begin(self, frame: FrameType) -> None:
        self.__class__ = _EnteredScope
        self._exit = looked_up_for(self)
        if self._exit is not None:
            self._exit.session_id = self.recorder.session_id
        self._announce()
        self._attach(frame)

    def _end(self, error: BaseException | None) -> None:
        try:
            with suppress(SessionEnded):  # another thread found it lost, and has ended it already
                self._stage_end(error)
        finally:
            self._detach()

    def _stage_end(self, error: BaseException | None) -> None:
        if self.recorder.is_empty or not self.recorder.is_open:
            return  # interrupted before it began or after it ended
        self.calls.settle()
        elapsed = time.perf_counter_ns() - self._began
        if error is None:
            self.recorder.end(SessionSucceeded(delivery=delivered(self.recorder), elapsed=elapsed))
            self._log(logging.INFO, "%s succeeded in %.1f ms", elapsed / 1_000_000)
        else:
            details = describe(error, self._clean)
            cancelled = is_cancellation(error)
            self.recorder.end(
                SessionFailed(
                    error=details,
                    cancelled=cancelled,
                    elapsed=elapsed,
                    delivery=delivered(self.recorder),
                )
            )
            message = without_secrets(details.message)
            if self.replaying is not None:
                message = message.partition("\n")[0]  # whoever gets a divergence gets its diff
            self._log(logging.ERROR, "%s failed: %s: %s", details.type, message)

    def __enter__(self) -> Recorder:
        try:
            unfinished_sessions.settle_lost()
            self._begin(sys._getframe(1))
            if self.outer is not None and not self.outer.recorder.is_written:
                # first, because this session may result from events that wait there
                self.outer.recorder.commit()
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
        if error is not None and self.replaying is not None:
            self.replaying.leave(error)

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
        """Finish the work of an interrupted `leave`; otherwise do nothing.

        An interrupt may come before the first step of `__exit__`, so a `with` alone does not always
        end a session. Code that must be sure calls this after the `with`.

        Args:
            error: The error to record if the session has no end yet; None for success.
        """
        if not self._over and not isinstance(error, LogError):
            self.leave(error)

    def asettle(self, error: BaseException) -> None:
        """Finish the work of an interrupted `aleave`, while a thread may be storing the end.

        Args:
            error: The error to record if the session has no end yet.
        """
        may_wait = isinstance(error, Exception) or is_cancelled_task(error)
        if self._is_current or self.recorder.is_open or not may_wait:
            self.settle(error)

    def wait_for_answers(self) -> None:
        """Wait for answers that have arrived, and that another thread is about to report."""
        self.calls.wait_for_late()

    def begin_apart(self, clean: Callable[[str], str] = str) -> None:
        """Begin the session without making it the current session of any code.

        Call `leave` or `aleave` to end it.

        Args:
            clean: A function that removes secrets from an error's text.
        """
        self._clean = clean
        unfinished_sessions.settle_lost_aside()
        self._announce()

    def _announce(self) -> None:
        self._began = time.perf_counter_ns()
        self.thread = threading.get_ident()
        unfinished_sessions.begin(self)
        self.recorder.stage(self._started)
        self._log(logging.INFO, "%s called")

    def _log(self, level: int, text: str, *values: object) -> None:
        # The session is named explicitly, because it is not the current one at its begin or when
        # apart.
        _logger.log(level, text, self.recorder.tactic_path, *values, extra=self.log_context)

    def leave(self, error: BaseException | None, *, follow: bool = True) -> None:
        """End the session, and commit its end.

        Args:
            error: The error of the session; None if it succeeded.
            follow: True to bring the rows of lists up to date at once, which may take a while.

        Raises:
            LogError: The end can't be written, and there is no `error` to which a note could be
                added.
        """
        if self.recorder.in_child or exiting():
            # A forked child leaves a session that belongs to its parent. At the interpreter's exit,
            # the stores are closed, and the session is found interrupted.
            self._detach()
            self._is_told()
            return
        # the garbage collector ended a generator with a session inside
        if finalizer_work.by_collector():
            self._detach()
            finalizer_work.later(partial(self.leave, error, follow=follow))
            self._is_told()
            return
        self._end(error)
        try:
            if error is None:
                self.recorder.commit()
            else:
                self.recorder.commit_after(error)
        finally:
            if self._forget_stored() and follow:
                self.host.session_ended()
        self._is_told()

    async def __aenter__(self) -> Recorder:
        try:
            unfinished_sessions.settle_lost_aside()
            self._begin(sys._getframe(1))
            if self.outer is not None and not self.outer.recorder.is_written:
                await self.outer.recorder.acommit()
            await self.recorder.acommit()
        except BaseException as error:
            await self.aleave(error)
            raise
        return self.recorder

    def _aexit_with(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> Coroutine[object, object, None]:
        leaving = self._aleave_with(error)
        # The object that the `with` holds from now on:
        self._exit = watch_of(leaving, self.recorder.session_id)
        return leaving

    async def _aleave_with(self, error: BaseException | None) -> None:
        try:
            await self.aleave(error)
        except BaseException as cut:
            self.asettle(cut)
            raise
        if error is not None and self.replaying is not None:
            self.replaying.leave(error)

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
        """End the session and commit its end, on an event loop.

        Args:
            error: The error of the session; None if it succeeded.

        Raises:
            LogError: The end can't be written; see `leave`.
        """
        may_wait = error is None or isinstance(error, Exception) or is_cancelled_task(error)
        if not may_wait or self.recorder.in_child or exiting():
            self.leave(error, follow=False)
            return
        await self.calls.await_late()
        self._end(error)
        try:
            if error is None:
                await self.recorder.acommit()
            else:
                await self.recorder.acommit_after(error)
        finally:
            if self._forget_stored():
                await in_thread(self.host.session_ended)
        self._is_told()

    def _forget_stored(self) -> bool:
        """Unregister the session if its end is stored; True if lists have to follow.

        A session whose end is not stored looks like that of a process that died.
        """
        if self.recorder.is_written:
            unfinished_sessions.forget(self.recorder)
        return self.recorder.is_written and not self.recorder.ancestors


class _EnteredScope(SessionScope):
    """A session whose `with` is still open; it is ended if it is garbage-collected.

    It is a class of its own so that no finalizer runs for a session that ended normally: an
    exception that a signal handler raises in a finalizer (Ctrl-C) is lost.
    """

    def __del__(self) -> None:
        if self._exit is not None and not self._over and self.recorder.is_open:
            finalizer_work.later(partial(self.leave, GeneratorExit(_DROPPED), follow=False))
