"""The view of annotations: the judgements of sessions, by which lists can be filtered."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lllm.events.codec import encode
from lllm.events.model import SessionAnnotated, SessionArchived, SessionErased, SessionResidue
from lllm.projections.view import (
    ARCHIVED,
    ERASED,
    Index,
    Rows,
    SessionContext,
    Table,
    ViewEvent,
    storable,
)
from lllm.projections.views import readable_views
from lllm.projections.views.dispatch import Handlers, hand_out

_ANNOTATIONS = Table(
    "annotations",
    {
        "session": "INTEGER",
        "name": "TEXT",
        "step": "INTEGER",
        "said_by": "TEXT",
        "value": "TEXT",
        "comment": "TEXT",
        "time": "INTEGER",
    },
    key=("session", "name", "step", "said_by"),
    indexes=(Index(("name", "value", "session")),),
    about=(
        "What somebody or something judged of sessions: session is a session's number, step the "
        "number of an attempt in it or 0 for all of it, value JSON, time nanoseconds UTC."
    ),
)


class AnnotationsView:
    """One row for each annotation that was not replaced or removed."""

    name = "annotations"
    version = 1
    tables: Sequence[Table] = (_ANNOTATIONS,)
    readable = readable_views.ANNOTATIONS
    types: Collection[str] = (SessionAnnotated.type, ERASED, ARCHIVED)

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the annotations for some events; see `View.apply`."""

        def say(session: SessionContext, said: SessionAnnotated, one: ViewEvent) -> None:
            key = (session.number, storable(said.name), said.step or 0, storable(said.by or ""))
            if said.value is None and said.comment is None:
                rows.delete(_ANNOTATIONS.name, key)
                return
            rows.put(
                _ANNOTATIONS.name,
                key,
                value=value_text(said.value),
                comment=None if said.comment is None else storable(said.comment),
                time=one.event.time,
            )

        def erase(session: SessionContext, _: SessionResidue, __: ViewEvent) -> None:
            rows.delete_under(_ANNOTATIONS.name, session.number)

        handlers: Handlers = {
            SessionAnnotated: say, SessionErased: erase, SessionArchived: erase
        }  # fmt: skip
        hand_out(batch, handlers)


def value_text(value: object) -> str:
    """Convert an annotation's value to the text in its row, so that 1 and 1.0 are the same.

    Args:
        value: A value of JSON.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return encode(value).decode()
