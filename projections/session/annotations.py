"""Reads what was judged of a session from the events about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

import msgspec

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.model import SessionAnnotated
from lllm.events.values.json_values import from_plain

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody or something says of a session, or of an attempt in it.

    Attributes:
        name: What is judged, as "correct".
        value: The verdict; None for a comment alone.
        comment: Why, in words.
        by: Who says so, None where that was not said.
        step: The number of the attempt that is judged, None for the whole session.
        timestamp: The time at which it was said, UTC.
    """

    name: str
    value: object
    comment: str | None
    by: str | None
    step: int | None
    timestamp: dt.datetime


def annotations_in(
    events: Iterable[Recorded],
    session_id: str,
    read_value: Callable[[object], object] = from_plain,
) -> list[Annotation]:
    """Read the annotations of a session.

    Args:
        events: Of the session, and about it, in the order of the log.
        session_id: The session's id.
        read_value: What becomes of a recorded value.

    Returns:
        Those that hold after the last of these events, in the order in which they were first made.
    """
    found: dict[tuple[str, int | None, str | None], Annotation] = {}
    for event in events:
        if event.type != SessionAnnotated.type:
            continue
        said = codec.decode(event)
        if not isinstance(said, SessionAnnotated) or said.about != session_id:
            continue
        key = (said.name, said.step, said.by)
        if said.value is None and said.comment is None:
            found.pop(key, None)
            continue
        found[key] = Annotation(
            name=said.name,
            value=read_value(said.value),
            comment=said.comment,
            by=said.by,
            step=said.step,
            timestamp=_EPOCH + dt.timedelta(microseconds=event.time // 1_000),
        )
    return list(found.values())
