"""Makes the session of a `with` block, or of a decorated function's call."""

from __future__ import annotations

from collections.abc import Mapping

from lllm.replay.active_replay import above_of
from lllm.sessions.budget import Budget
from lllm.sessions.current_session import running_session
from lllm.sessions.host import SessionHost
from lllm.sessions.session import SessionScope


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
    """Make a session as a child of the current one, whose budget it is charged to.

    Args:
        host: The place where it is written. The current session is its parent if it is written to
            the same place.
        path: The stable path; the part after the last `::` is the short name.
        kind: "session" or "tactic".
        task: The input of the session.
        options: The other arguments of a call; None for none.
        tags: Names and values (both str) by which the session can be found in lists.
        metadata: Any value to keep with the session.
        partition: The owner of the session; None for the host's partition.
        budget: The session's own budget, which is part of the current session's.

    Returns:
        The session; it begins when its `with` block is entered.

    Raises:
        TypeError: Tags are not str -> str.
        ValueError: The path has no name.
    """
    name = short_name(path)
    above = running_session()
    budget.above = above.budget if above else None
    replay = above_of(above)
    host = host if replay is None else replay.host
    is_below = above is not None and (above.host is host or above.replaying is not None)
    return SessionScope(
        host, path, name, kind=kind, task=task, options=options, tags=tags, metadata=metadata,
        partition=partition, parent=above if is_below else None, budget=budget,
    )  # fmt: skip


def short_name(path: str) -> str:
    """Read the short name of a session from its stable path.

    Args:
        path: The path; the part after the last `::` is the name.

    Returns:
        The name.

    Raises:
        ValueError: The path has no name.
    """
    name = path.rpartition("::")[2]
    if not name:
        raise ValueError(f"A session needs a name, as 'my_project::script'; not {path!r}.")
    return name
