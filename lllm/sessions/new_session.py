"""Makes the session of a `with`, or of a decorated function's call, below the running one."""

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
    is_below = above is not None and (above.host is host or above.replaying is not None)
    return SessionScope(
        host, path, name, kind=kind, task=task, options=options, tags=tags, metadata=metadata,
        partition=partition, parent=above if is_below else None, budget=budget,
    )  # fmt: skip
