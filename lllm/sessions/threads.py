"""Continues the current session in threads that the user starts.

A new thread begins with an empty context, so code in it is in no session. Three ways take the
session along, and its budget with it: `store.carry(function)`, an Executor, and
`instrument("threads")`. Nothing else of the context goes with it: that is the program's own affair.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.replay.active_replay import ReplayBlock, active_replay
from lllm.sessions.context_values import during
from lllm.sessions.current_session import carried, current_tool, outside_of_sessions, running
from lllm.sessions.replaced_methods import ReplacedMethods
from lllm.sessions.session import SessionScope

P = ParamSpec("P")
R = TypeVar("R")


class _Here(msgspec.Struct, frozen=True):
    """Where the code that asks runs.

    Attributes:
        scope: Its session, None outside of any.
        tool: The tool in it.
        replay: The replay whose block it is in, None outside of any.
    """

    scope: SessionScope | None
    tool: int | None
    replay: ReplayBlock | None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Run what is inside there, in whichever thread."""
        scope = self.scope
        with during(active_replay, self.replay):
            if scope is None:
                with outside_of_sessions():
                    yield
            else:
                with scope.attached(), during(carried, scope), during(current_tool, self.tool):
                    yield


def _here() -> _Here:
    return _Here(*running(), active_replay.get())


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function run in the current session; see `LogStore.carry`.

    Args:
        function: A function or a coroutine function.

    Returns:
        A function with the same name, arguments, result and errors.
    """
    return _carrying(_here(), function)


def _carrying(here: _Here, function: Callable[P, R]) -> Callable[P, R]:
    if inspect.iscoroutinefunction(function):
        awaited = cast("Callable[P, Awaitable[object]]", function)

        @wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> object:
            with here.attached():
                return await awaited(*args, **kwargs)

        return cast("Callable[P, R]", run_async)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with here.attached():
            return function(*args, **kwargs)

    return run


class Executor(ThreadPoolExecutor):
    """A ThreadPoolExecutor that runs work in the session of the code that submitted it.

    Each piece of work has the session of its own `submit` or `map`, and spends of its budget; one
    that was submitted outside of any session runs outside of any.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run work in a thread, in the session of the code that submits it.

        Args:
            fn: What to run.
            *args: Its arguments.
            **kwargs: Its arguments by name.

        Returns:
            Its future.

        Raises:
            RuntimeError: After `shutdown`.
        """
        return super().submit(carry(fn), *args, **kwargs)


class _NewThreads:
    """Replaces what starts threads, process-wide, by what takes along where the code runs.

    Two things can be taken along: the session, while `carries_sessions`, and the block of a replay
    that is closed, while there are any: what begins there must not ask its model, so a thread that
    is in no session is in that block.
    """

    def __init__(self) -> None:
        self.carries_sessions = False
        self._closed = 0  # blocks of replays that are open
        self._lock = ThreadLock()
        self._methods = ReplacedMethods()

    def adapt(self, *, sessions: bool | None = None, closed: int = 0) -> None:
        """Replace the methods where that is needed, or put them back.

        Args:
            sessions: True to take sessions along, False to stop that; None for as it is.
            closed: Blocks of replays that are opened, or -1 for one that is left.
        """
        with self._lock.held():
            self.carries_sessions = self.carries_sessions if sessions is None else sessions
            self._closed += closed
            if self.carries_sessions or self._closed:
                self._methods.replace(threading.Thread, "start", self._start)
                self._methods.replace(ThreadPoolExecutor, "submit", self._submit)
            else:
                self._methods.put_back()

    def _taken(self) -> _Here | None:
        """Where new threads go on; None where they go on nowhere."""
        replay = active_replay.get()
        replay = replay if replay is not None and replay.is_closed else None
        scope, tool = running() if self.carries_sessions else (None, None)
        return None if scope is None and replay is None else _Here(scope, tool, replay)

    def _start(self, original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def start(thread: threading.Thread) -> object:
            here = self._taken()
            if here is None:
                return original(thread)
            run, own = thread.run, vars(thread).get("run")

            def put_back() -> None:  # or the thread would hold itself
                vars(thread).pop("run", None)
                if own is not None:
                    vars(thread)["run"] = own

            def carrying() -> None:
                put_back()
                with here.attached():
                    run()

            vars(thread)["run"] = carrying  # a subclass has a `run` of its own
            try:
                return original(thread)
            except BaseException:
                if vars(thread).get("run") is carrying:
                    put_back()
                raise

        return start

    def _submit(self, original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def submit(
            pool: object, fn: Callable[..., object], /, *args: object, **kwargs: object
        ) -> object:
            here = self._taken()
            if here is None and not self.carries_sessions:
                return original(pool, fn, *args, **kwargs)
            work = _carrying(here or _here(), fn)
            # A worker that is started for this one lives on for the work of others.
            with _Here(None, None, None).attached():
                return original(pool, work, *args, **kwargs)

        return submit


_new_threads = _NewThreads()


class ThreadsInstrument:
    """Makes new threads and ThreadPoolExecutors continue the session, process-wide.

    It is for libraries, too.
    """

    def on(self) -> None:
        """Start carrying sessions into threads; doing so twice does nothing."""
        _new_threads.adapt(sessions=True)

    def off(self) -> None:
        """Stop carrying sessions into threads; running threads keep theirs."""
        _new_threads.adapt(sessions=False)


@contextmanager
def closed_off() -> Iterator[None]:
    """A `with` for the block of a replay: threads that begin in it are in the block, too."""
    _new_threads.adapt(closed=1)
    try:
        yield
    finally:
        _new_threads.adapt(closed=-1)
