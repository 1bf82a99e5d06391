"""Sessions for code without a Tactic: a `with`, or a decorator on a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, ParamSpec, TypeVar

from lllm.replay.active_replay import above_of
from lllm.sessions.budget import Budget, OnUnpriced, budget_of
from lllm.sessions.current_session import running_session
from lllm.sessions.decorator import path_of, session_around
from lllm.sessions.host import SessionHost
from lllm.sessions.session import SessionScope

P = ParamSpec("P")
R = TypeVar("R")

DECORATED = "__lllm_tactic__"  # the attribute of a function


class DecoratedTactic(NamedTuple):
    """What a function under `@store.tactic` is known by."""

    path: str
    """The stable path of its sessions."""
    host: SessionHost
    """Where they are written."""


def open_session(
    host: SessionHost,
    path: str,
    *,
    kind: str = "session",
    task: object = None,
    options: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None,
    metadata: object,
    partition: str | None,
    budget: Budget,
) -> SessionScope:
    """Make a session below the current one, which pays for it.

    Args:
        host: Where it is written. The running session is its parent if it is written there, too.
        path: Its stable path; the part after the last `::` is its short name.
        kind: "session" or "tactic".
        task: See `LogStore.session`, as for the rest.
        options: The other arguments of a call.
        tags: See there.
        metadata: See there.
        partition: See there.
        budget: Its own, which comes out of the running session's.

    Returns:
        The session, which begins when its `with` does.

    Raises:
        TypeError: Tags are not str -> str.
        ValueError: The path has no name.
    """
    name = path.rpartition("::")[2]
    if not name:
        raise ValueError(f"A session has a name, as 'my_project::script'; {path!r} is none.")
    above = running_session()
    budget.above = above.budget if above else None
    replay = above_of(above)
    host = host if replay is None else replay.host
    return SessionScope(
        host, path, name, kind=kind, task=task, options=options, tags=tags, metadata=metadata,
        partition=partition, parent=above if above and above.host is host else None, budget=budget,
    )  # fmt: skip


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
    """See `LogStore.tactic`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        path = path_of(function, name)
        budget_of(budget_usd, budget_unpriced)  # what can't be is told here, not at the first call

        def opening(task: object, options: dict[str, object]) -> SessionScope:
            return open_session(
                host, path, kind="tactic", task=task, options=options, tags=tags,
                metadata=metadata, partition=partition,
                budget=budget_of(budget_usd, budget_unpriced),
            )  # fmt: skip

        decorated = session_around(function, opening)
        vars(decorated)[DECORATED] = DecoratedTactic(path, host)
        return decorated

    return decorate
