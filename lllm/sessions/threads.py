"""Continues the current session in threads that the user starts.

A new thread has an empty context, so its code is in no session. Three things carry the session and
its budget into threads: `store.carry(function)`, an Executor, and `instrument("threads")`. They
carry nothing else of the context, which belongs to the program.
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
    """The place of the running code: its session, tool and replay.

    Attributes:
        scope: The session; None outside of any.
        tool: The number of the tool within the session; None outside of any.
        replay: The replay whose block the code is in; None outside of any.
    """

    scope: SessionScope | None
    tool: int | None
    replay: ReplayBlock | None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """A `with` that makes this the place of the code inside, in any thread."""
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

    Each piece of work runs in the session in which `submit` or `map` was called, and is charged to
    its budget. Work that was submitted outside of any session runs outside of any.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run work in a thread, in the session of the code that submits it.

        Args:
            fn: The function to run.
            *args: The arguments for it.
            **kwargs: The keyword arguments for it.

        Returns:
            The future of its result.

        Raises:
            RuntimeError: `shutdown` was called before.
        """
        return super().submit(carry(fn), *args, **kwargs)


class _NewThreads:
    """Replaces the functions that start threads, process-wide, to carry the code's place along.

    Two things can be carried: the session, while `carries_sessions` is True, and the block of a
    replay, while there is one. Threads that begin in such a block must not call its model, so a
    thread without a session still belongs to the block.
    """

    def __init__(self) -> None:
        self.carries_sessions = False
        self._closed = 0  # the number of open replay blocks
        self._lock = ThreadLock()
        self._methods = ReplacedMethods()

    def adapt(self, *, sessions: bool | None = None, closed: int = 0) -> None:
        """Replace the methods if that is needed now, otherwise restore them.

        Args:
            sessions: True to start carrying sessions, False to stop it; None for no change.
            closed: The number of replay blocks that are entered, or -1 for one that is left.
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
        """Get the place that new threads get; None if they get none."""
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

            def put_back() -> None:  # otherwise the thread would refer to itself
                vars(thread).pop("run", None)
                if own is not None:
                    vars(thread)["run"] = own

            def carrying() -> None:
                put_back()
                with here.attached():
                    run()

            # on the object, because a subclass may have its own `run`
            vars(thread)["run"] = carrying
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
            # A worker that is started for this work later runs the work of others.
            with _Here(None, None, None).attached():
                return original(pool, work, *args, **kwargs)

        return submit


_new_threads = _NewThreads()


class ThreadsInstrument:
    """Makes new threads and ThreadPoolExecutors continue the session, process-wide.

    It also affects threads that libraries start.
    """

    def on(self, store: object, provider: object) -> None:
        """Start to carry sessions into threads; a second call does nothing.

        Args:
            store: Not used: threads continue the sessions that are there.
            provider: Not used.
        """
        del store, provider
        _new_threads.adapt(sessions=True)

    def off(self) -> None:
        """Stop carrying sessions into threads; running threads keep their session."""
        _new_threads.adapt(sessions=False)


@contextmanager
def closed_off() -> Iterator[None]:
    """A `with` for the block of a replay: threads that begin in it belong to it, too."""
    _new_threads.adapt(closed=1)
    try:
        yield
    finally:
        _new_threads.adapt(closed=-1)
