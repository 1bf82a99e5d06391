"""Reads the annotations of a session from the events about it."""

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
    """A judgement of a session, or of an attempt in it, by a person or a program.

    Attributes:
        name: The name of the judgement, for example "correct".
        value: The verdict; None for a comment alone.
        comment: The reason, in words; None without one.
        by: The name of the person or program that judged; None if it is unknown.
        step: The number of the judged attempt; None for the whole session.
        timestamp: The time of the judgement, UTC.
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
        events: The events of the session and the statements about it, in log order.
        session_id: The session's id.
        read_value: A function that converts a recorded value to the value to return.

    Returns:
        The annotations that were not replaced or removed by later events, in the order in which
        they were first made.
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
