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

from lllm.sessions.context_values import during
from lllm.sessions.current_session import carried, current_tool, outside_of_sessions, running
from lllm.sessions.session import SessionScope

P = ParamSpec("P")
R = TypeVar("R")


class _Here(msgspec.Struct, frozen=True):
    """Where the code that asks runs: its session, None outside of any, and the tool in it."""

    scope: SessionScope | None
    tool: int | None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Run what is inside there, in whichever thread."""
        scope = self.scope
        if scope is None:
            with outside_of_sessions():
                yield
        else:
            with scope.attached(), during(carried, scope), during(current_tool, self.tool):
                yield


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function run in the current session; see `LogStore.carry`.

    Args:
        function: A function or a coroutine function.

    Returns:
        A function with the same name, arguments, result and errors.
    """
    return _carrying(_Here(*running()), function)


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


class ThreadsInstrument:
    """Makes new threads and ThreadPoolExecutors continue the session, process-wide.

    The two methods are replaced for the whole process, also for libraries. Where another library
    has replaced one on top, ours stays below it and does nothing while this is off.
    """

    def __init__(self) -> None:
        self._on = False
        self._ours: dict[tuple[type, str], tuple[object, object]] = {}  # and what was there

    def on(self) -> None:
        """Start carrying sessions into threads; doing so twice does nothing."""
        self._on = True
        if (threading.Thread, "start") not in self._ours:
            self._replace(threading.Thread, "start", self._start(threading.Thread.start))
        if (ThreadPoolExecutor, "submit") not in self._ours:
            self._replace(ThreadPoolExecutor, "submit", self._submit(ThreadPoolExecutor.submit))

    def off(self) -> None:
        """Stop carrying sessions into threads; running threads keep theirs."""
        self._on = False
        for (kind, name), (ours, before) in list(self._ours.items()):
            if vars(kind)[name] is ours:
                setattr(kind, name, before)
                del self._ours[kind, name]

    def _replace(self, kind: type, name: str, ours: object) -> None:
        self._ours[kind, name] = ours, vars(kind)[name]
        setattr(kind, name, ours)

    def _start(
        self, original: Callable[[threading.Thread], None]
    ) -> Callable[[threading.Thread], None]:
        @wraps(original)
        def start(thread: threading.Thread) -> None:
            here = _Here(*running()) if self._on else None
            if here is None or here.scope is None:
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
            if not self._on:
                return original(pool, fn, *args, **kwargs)
            work = carry(fn)
            # A worker that is started for this one lives on for the work of others.
            with _Here(None, None).attached():
                return original(pool, work, *args, **kwargs)

        return submit
