"""Makes each call of a decorated function a session."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar, cast

from lllm.events.errors import ConfigError
from lllm.packages.manifest import nearest_manifest
from lllm.packages.registry import file_of_module
from lllm.sessions.budget import OnUnpriced, budget_of
from lllm.sessions.generator_sessions import async_steps, steps
from lllm.sessions.host import SessionHost
from lllm.sessions.new_session import open_session
from lllm.sessions.session import SessionScope

P = ParamSpec("P")
R = TypeVar("R")

# A function that makes the session of one call from its task and its other arguments.
Opening = Callable[[object, dict[str, object]], SessionScope]
DECORATED = "__lllm_tactic__"  # the attribute that marks a decorated function


class DecoratedTactic(NamedTuple):
    """What lllm stores on a function decorated with `@store.tactic`."""

    path: str
    """The stable path of its sessions."""
    host: SessionHost
    """The place where its sessions are written."""


def tactic_decorator(
    host: SessionHost,
    name: str,
    *,
    tags: Mapping[str, str] | None,
    metadata: object,
    partition: str | None,
    budget_usd: float | None,
    budget_unpriced: OnUnpriced,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make the decorator that records each call as a session; see `LogStore.tactic`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        path = _path_of(function, name)
        # invalid options are reported here, not at the first call
        budget_of(budget_usd, budget_unpriced)

        def opening(task: object, options: dict[str, object]) -> SessionScope:
            return open_session(
                host, path, kind="tactic", task=task, options=options, tags=tags,
                metadata=metadata, partition=partition,
                budget=budget_of(budget_usd, budget_unpriced),
            )  # fmt: skip

        decorated = _session_around(function, opening)
        vars(decorated)[DECORATED] = DecoratedTactic(path, host)
        return decorated

    return decorate


def _session_around(function: Callable[P, R], opening: Opening) -> Callable[P, R]:
    """Wrap a function, so that each call of it is a session.

    A generator's session begins with its first step, and is current within its steps only. What
    the generator yields is the delivery.

    Args:
        function: A function, coroutine function or generator function.
        opening: A function that makes the session of one call.

    Returns:
        A function with the same name, arguments, result and errors.
    """
    signature = inspect.signature(function)

    def scope_of(args: tuple[object, ...], kwargs: dict[str, object]) -> SessionScope:
        return opening(*_task_and_options(signature, args, kwargs))

    if inspect.isasyncgenfunction(function):
        return cast("Callable[P, R]", async_steps(function, scope_of))
    if inspect.isgeneratorfunction(function):
        return cast("Callable[P, R]", steps(function, scope_of))

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
            scope = scope_of(args, kwargs)
            try:
                async with scope as recorder:
                    result = await function(*args, **kwargs)
                    recorder.deliver(result)
            except BaseException as error:
                scope.asettle(error)
                raise
            return result

        return cast("Callable[P, R]", awaited)

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = scope_of(args, kwargs)
        try:
            with scope as recorder:
                result = function(*args, **kwargs)
                recorder.deliver(result)
        except BaseException as error:
            scope.settle(error)
            raise
        return result

    return called


def _task_and_options(
    signature: inspect.Signature, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[object, dict[str, object]]:
    """Split the arguments of a call into the task (the first one) and options by name.

    Raises TypeError for arguments that don't fit the signature, as the call itself would.
    """
    named = signature.bind(*args, **kwargs).arguments
    first = next(iter(named), None)
    if first in ("self", "cls"):  # a method: its object is not the task
        del named[first]
        first = next(iter(named), None)
    task = None if first is None else named.pop(first)
    return task, dict(named)


def _path_of(function: Callable[..., object], name: str) -> str:
    """Find the stable path of a function's sessions.

    Args:
        function: The function.
        name: A short name, or a path with `::`.

    Returns:
        `package::name`, by the nearest lllm.toml above the function's file, or only the name if
        there is none.

    Raises:
        ConfigError: The name is not valid.
        PackageError: The lllm.toml is not valid.
    """
    if not isinstance(name, str) or not name.rpartition("::")[2]:
        raise ConfigError(f'A tactic needs a name, as @store.tactic("summarize"); not {name!r}.')
    if "::" in name:
        return name
    file = file_of_module(sys.modules.get(function.__module__))
    manifest = None if file is None else nearest_manifest(file)
    return name if manifest is None else f"{manifest.name}::{name}"
