"""Makes the first event of a session."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from lllm.events.concurrency import liveness
from lllm.events.model import Producer, SessionStarted
from lllm.events.recorder import Recorder
from lllm.events.values.json_values import to_plain
from lllm.sessions.current_session import running
from lllm.sessions.host import Parent, SessionHost
from lllm.sessions.trace_context import current_traceparent
from lllm.version import __version__

_PRODUCER = Producer(__version__, platform.python_version())


def started_event(
    recorder: Recorder,
    host: SessionHost,
    *,
    name: str,
    kind: str,
    task: object,
    options: Mapping[str, object] | None,
    tags: Mapping[str, str] | None,
    metadata: object,
    partition: str | None,
    parent: Parent | None,
    budget: int | None,
) -> SessionStarted:
    """Make the first event of a session.

    Args:
        recorder: The recorder that writes the session.
        host: The place where it is written.
        name: The short name of the session.
        kind: "tactic", "session" or "call".
        task: The input of the session.
        options: The other arguments of the call; None for none.
        tags: Names and values by which the session can be found; None for none.
        metadata: Any value to keep with the session.
        partition: The owner of the session; None for the host's partition.
        parent: The session that it is called from; None for a root.
        budget: The most that it may spend, in nano-dollars; None for no limit.

    Returns:
            The event, to be staged first.

    Raises:
        TypeError: Tags are not str -> str.
    """
    scope, tool = running()
    return SessionStarted(
        tactic_path=recorder.tactic_path,
        name=name,
        kind=kind,
        partition=host.partition if partition is None else partition,
        task=to_plain(task),
        options=to_plain(dict(options)) if options else None,
        tags=check_tags(tags),
        metadata=to_plain(metadata),
        ancestors=recorder.ancestors,
        parent_tool=tool if parent is not None and parent is scope else None,
        ordinal=parent.next_child() if parent else None,
        owner=host.owner(),
        host=liveness.host(),
        pid=os.getpid(),
        producer=_PRODUCER,
        traceparent=current_traceparent(),
        budget=budget,
        salt=recorder.salt,
    )


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """Check tags, and copy them into a new dict.

    Args:
        tags: The tags that a user gave; None for none.

    Returns:
        A new dict with the same tags.

    Raises:
        TypeError: A name or a value is not a str.
    """
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags is a dict of str to str, not {type(tags).__name__}")
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a tag is a str and its value a str; got {name!r}: {value!r}")
    return dict(tags)
