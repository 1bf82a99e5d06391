"""The four ways to call a tactic: one task or many of them, in plain code or on an event loop.

The overloads tell a type checker what a call returns: the value of the tactic's own `call`, or the
session with `return_session=True`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, overload

from lllm.agents import batch
from lllm.events.concurrency.thread_starts import to_thread
from lllm.projections.session.call_session import TacticCallSession
from lllm.sessions.budget import OnUnpriced
from lllm.sessions.session import SessionScope
from lllm.tools.event_loop import arun, run

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _Calls(Protocol[R_co]):
    """For type checkers: a tactic whose calls return what its `call` returns."""

    @property
    def call(self) -> Callable[..., R_co]: ...


class _CallsAsync(Protocol[R_co]):
    """For type checkers: a tactic whose `call` is an `async def`."""

    @property
    def call(self) -> Callable[..., Awaitable[R_co]]: ...


class TacticCalls:
    """The call methods of `Tactic`."""

    if TYPE_CHECKING:
        # A subclass writes `call` with any parameters, and calling the tactic returns what
        # that returns: https://typing.python.org/en/latest/spec/callables.html (`...`).
        call: Callable[..., Any]

        def _scope(
            self,
            task: object,
            options: Mapping[str, object],
            tags: Mapping[str, str] | None,
            metadata: object,
            return_session: bool,
            budget_usd: float | None,
            budget_unpriced: OnUnpriced | None,
        ) -> SessionScope: ...

        def _running(self, scope: SessionScope) -> Self: ...

    @overload
    def __call__(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[True],
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> TacticCallSession: ...

    @overload
    def __call__(
        self: _CallsAsync[R],
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> R: ...

    @overload
    def __call__(
        self: _Calls[R],
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> R: ...

    @overload
    def __call__(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> object: ...

    def __call__(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> object:
        """Call the tactic; the call is recorded as a session.

        Args:
            task: The input: a str, dict, dataclass, Struct or pydantic model.
            tags: Names and values (both str) by which the session can be found in lists.
            metadata: Any value to keep with the session.
            return_session: True to return the session in place of the result of `call`.
            budget_usd: The most that the call may spend on models, in US dollars; None for the
                tactic's own budget.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next one; None for the tactic's own choice.
            **options: Keyword arguments for `call`.

        Returns:
            The result of `call`; with `return_session`, the session.

        Raises:
            TypeError: Tags are not str -> str, or the name of an option is misspelled.
            BudgetExceeded: The budget is spent, and a model was about to be called.
            BaseException: The error that `call` raises.
        """
        scope = self._scope(
            task, options, tags, metadata, return_session, budget_usd, budget_unpriced
        )
        try:
            with scope as recorder:
                result = run(partial(self._running(scope).call, task, **options))
                recorder.deliver(result)
        except BaseException as error:
            scope.settle(error)
            raise
        return scope.host.load_finished(recorder) if return_session else result

    @overload
    async def acall(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[True],
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> TacticCallSession: ...

    @overload
    async def acall(
        self: _CallsAsync[R],
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> R: ...

    @overload
    async def acall(
        self: _Calls[R],
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> R: ...

    @overload
    async def acall(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> object: ...

    async def acall(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> object:
        """Call the tactic on an event loop; a `call` that is not async runs in a thread.

        Args:
            task: The input: a str, dict, dataclass, Struct or pydantic model.
            tags: Names and values (both str) by which the session can be found in lists.
            metadata: Any value to keep with the session.
            return_session: True to return the session in place of the result of `call`.
            budget_usd: The most that the call may spend on models, in US dollars; None for the
                tactic's own budget.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next one; None for the tactic's own choice.
            **options: Keyword arguments for `call`.

        Returns:
            The result of `call`; with `return_session`, the session.

        Raises:
            TypeError: Tags are not str -> str, or the name of an option is misspelled.
            BudgetExceeded: The budget is spent, and a model was about to be called.
            BaseException: The error that `call` raises.
        """
        scope = self._scope(
            task, options, tags, metadata, return_session, budget_usd, budget_unpriced
        )
        try:
            async with scope as recorder:
                call = self._running(scope).call
                result = await arun(
                    partial(call, task, **options), is_async=inspect.iscoroutinefunction(call)
                )
                recorder.deliver(result)
        except BaseException as error:
            scope.asettle(error)
            raise
        if not return_session:
            return result
        return await to_thread(scope.host.load_finished, recorder)

    @overload
    def bcall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        return_sessions: Literal[True],
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[TacticCallSession]: ...

    @overload
    def bcall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[True],
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[TacticCallSession]: ...

    @overload
    def bcall(
        self: _CallsAsync[R],
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[R]: ...

    @overload
    def bcall(
        self: _Calls[R],
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[R]: ...

    @overload
    def bcall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[object]: ...

    def bcall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        return_sessions: object = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> list[Any]:
        """Call the tactic for each of several tasks, in several threads.

        Args:
            tasks: The inputs, one for each call.
            max_workers: The number of threads; None for the default of ThreadPoolExecutor.
            fail_fast: True to raise the first error and skip the tasks that have not begun; False
                to return each error in place of its task's result.
            tags: Names and values (both str) that each session gets.
            metadata: Any value to keep with each session.
            return_session: True to return sessions in place of the results of `call`.
            return_sessions: The same as `return_session`.
            budget_usd: The most that each call may spend on models, in US dollars; None for the
                tactic's own budget.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next one; None for the tactic's own choice.
            **options: Keyword arguments for `call`.

        Returns:
            The results, in the order of the tasks.

        Raises:
            TypeError: `tasks` is a str.
            ValueError: `max_workers` is less than 1.
            BaseException: With `fail_fast`, the error of a call.
        """
        wanted = return_session or bool(return_sessions)
        call = partial(
            self.__call__, tags=tags, metadata=metadata, return_session=wanted,
            budget_usd=budget_usd, budget_unpriced=budget_unpriced, **options,
        )  # fmt: skip
        return batch.in_threads(call, tasks, max_workers=max_workers, fail_fast=fail_fast)

    @overload
    def ccall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[True],
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> AsyncGenerator[tuple[int, TacticCallSession], None]: ...

    @overload
    def ccall(
        self: _CallsAsync[R],
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> AsyncGenerator[tuple[int, R], None]: ...

    @overload
    def ccall(
        self: _Calls[R],
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: Literal[False] = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> AsyncGenerator[tuple[int, R], None]: ...

    @overload
    def ccall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> AsyncGenerator[tuple[int, object], None]: ...

    def ccall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        **options: object,
    ) -> AsyncGenerator[tuple[int, object], None]:
        """Call the tactic for each of several tasks, on the event loop.

        Leaving the loop over the results early cancels the calls that are still running as soon as
        the generator is closed (`contextlib.aclosing` closes it at once).

        Args:
            tasks: The inputs, one for each call.
            max_workers: The number of calls at the same time; None for no limit.
            fail_fast: True to raise the first error; False to yield each error in place of a
                result.
            tags: Names and values (both str) that each session gets.
            metadata: Any value to keep with each session.
            return_session: True to return sessions in place of the results of `call`.
            budget_usd: The most that each call may spend on models, in US dollars; None for the
                tactic's own budget.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next one; None for the tactic's own choice.
            **options: Keyword arguments for `call`.

        Returns:
            An async iterator over the index of each task and its result, in the order in which they
            end. The loop over it raises the errors.
        """
        call = partial(
            self.acall, tags=tags, metadata=metadata, return_session=return_session,
            budget_usd=budget_usd, budget_unpriced=budget_unpriced, **options,
        )  # fmt: skip
        return batch.on_loop(call, tasks, max_workers=max_workers, fail_fast=fail_fast)
