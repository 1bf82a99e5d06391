"""The view of legal holds: the sessions that must not be erased, by whom and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lllm.events.model import (
    SessionArchived,
    SessionErased,
    SessionHeld,
    SessionReleased,
    SessionResidue,
)
from lllm.projections.view import ARCHIVED, ERASED, Rows, SessionContext, Table, ViewEvent, storable
from lllm.projections.views.dispatch import Handlers, hand_out

_HOLDS = Table(
    "holds",
    {
        "session": "INTEGER",
        "hold": "TEXT",
        "placed": "INTEGER",
        "placed_by": "TEXT",
        "reason": "TEXT",
    },
    key=("session", "hold"),
    about=(
        "The legal holds that protect sessions from erasure. session is the session's number, hold "
        "the stream of the hold's statement, placed its time in nanoseconds UTC."
    ),
)


class HoldsView:
    """One row for each legal hold that has not been released."""

    name = "holds"
    version = 1
    tables: Sequence[Table] = (_HOLDS,)
    types: Collection[str] = ("session.held", "session.released", ERASED, ARCHIVED)

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the holds for some events; see `View.apply`."""

        def place(session: SessionContext, held: SessionHeld, one: ViewEvent) -> None:
            rows.put(
                "holds",
                (session.number, storable(one.event.stream)),
                placed=one.event.time,
                placed_by=storable(held.by),
                reason=storable(held.reason),
            )

        def release(session: SessionContext, released: SessionReleased, _: ViewEvent) -> None:
            if released.hold is None:
                rows.delete_under("holds", session.number)
            else:
                rows.delete("holds", (session.number, storable(released.hold)))

        def erase(session: SessionContext, _: SessionResidue, __: ViewEvent) -> None:
            rows.delete_under("holds", session.number)

        handlers: Handlers = {
            SessionHeld: place, SessionReleased: release, SessionErased: erase,
            SessionArchived: erase,
        }  # fmt: skip
        hand_out(batch, handlers)
