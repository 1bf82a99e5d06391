"""The life of one session: it begins, is the current one for the code inside, and ends.

Tactics and `store.session(...)` share this. Every way out leaves a finished record: what is raised,
cancellation and Ctrl-C among it, is a failure that says so.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from lllm.agents.effects import current_tool
from lllm.events.concurrency import deferred, liveness
from lllm.events.concurrency.shielded import in_thread, is_cancelled_task
from lllm.events.errors import LogError, SessionEnded
from lllm.events.log_context import log_context
from lllm.events.model import (
    Ancestor,
    Error,
    Producer,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
)
from lllm.events.recorder import Recorder
from lllm.events.redaction.known_secrets import without_secrets
from lllm.events.values.json_values import to_plain
from lllm.pricing.failed_attempts import http_status
from lllm.sessions import open_sessions
from lllm.sessions.budget import Budget
from lllm.sessions.context_values import during
from lllm.sessions.generators import frame_of_generator, is_async
from lllm.sessions.host import CarriedParent, Parent, SessionHost
from lllm.sessions.lost_exits import ExitOf, looked_up_for
from lllm.sessions.open_calls import OpenCalls, exiting
from lllm.sessions.open_sessions import LOST, Watch, delivered, watch_of
from lllm.version import __version__

_DROPPED = "The session was dropped before its end."
_PRODUCER = Producer(__version__, platform.python_version())
_logger = logging.getLogger("lllm.tactic")
_logger.addHandler(logging.NullHandler())  # silent until setup_logging, or a root handler


current: ContextVar[SessionScope | None] = ContextVar("lllm_session", default=None)
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


def lost_session(host: SessionHost | None) -> SessionScope | None:
    """A session that is open in another thread than this one, which code here may have lost; None
    for the main thread, and for one where sessions of its own are open.

    host: where the session is written, None for anywhere.
    """
    here = threading.get_ident()
    if here == threading.main_thread().ident:
        return None
    found = [
        scope
        for scope in open_sessions.scopes()
        if isinstance(scope, SessionScope)
        and not scope.is_of_call
        and (host is None or scope.host is host)
        and scope.recorder.is_open
    ]
    if any(one.thread == here for one in found):
        return None
    return found[0] if found else None


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """The tags as a dict of their own. Raises TypeError where one is not str -> str."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags is a dict of str to str, not {type(tags).__name__}")
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a tag is a str and its value a str; got {name!r}: {value!r}")
    return dict(tags)


def describe(error: BaseException, clean: Callable[[str], str] = str) -> Error:
    """An exception as an event holds it, with its traceback. clean: cuts from its texts what must
    not be told."""
    try:
        message = str(error)
    except Exception:  # a user's __str__ may raise anything
        message = "(its message could not be made)"
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    code, status = _attribute(error, "code"), _attribute(error, "status")
    return Error(
        name,
        clean(message),
        clean(_traceback(error)),
        clean(code) if isinstance(code, str) else None,
        status if isinstance(status, int) else http_status(error),
    )


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # a user's __notes__ or __cause__ may raise anything
        return "".join(traceback.format_tb(error.__traceback__))


def _attribute(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except Exception:  # a property of the user's
        return None


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is not a fault of the program but the wish to stop it."""
    if isinstance(error, Exception):
        return False
    ends = KeyboardInterrupt | SystemExit | GeneratorExit
    return isinstance(error, ends) or is_cancelled_task(error)


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
        here = running()
        self._started = SessionStarted(
            tactic_path=tactic_path,
            name=name,
            kind=kind,
            partition=host.partition if partition is None else partition,
            task=to_plain(task),
            options=to_plain(dict(options)) if options else None,
            tags=check_tags(tags),
            metadata=to_plain(metadata),
            ancestors=self.recorder.ancestors,
            parent_tool=here[1] if parent is not None and parent is here[0] else None,
            ordinal=parent.next_child() if parent else None,
            owner=host.owner(),
            host=liveness.host(),
            pid=os.getpid(),
            producer=_PRODUCER,
            budget=self.budget.limit,
            salt=self.recorder.salt,
        )

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
            _warn_of_async_generator(generator)
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


_warned = False


def _warn_of_async_generator(frame: FrameType) -> None:
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"{frame.f_code.co_qualname} has `with store.session(...)` around a yield. Nobody can tell "
        "when an asynchronous generator is not running, so while it waits at the yield its session "
        "gets the calls of its caller's code. Put @store.tactic(...) above it instead: that "
        "attaches the session for each step.",
        UserWarning,
        stacklevel=4,
    )
