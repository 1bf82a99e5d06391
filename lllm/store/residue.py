"""Makes the event that records an erasure, with the facts about the session that stay."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.errors import ErasureRefused
from lllm.events.ids import new_salt
from lllm.events.integrity.merkle import root_of
from lllm.events.model import (
    CostCell,
    LLMFailed,
    LLMRefused,
    LLMResponded,
    SessionErased,
    SessionStarted,
)
from lllm.projections.days import quarter_of
from lllm.projections.queries.sessions import SessionRow
from lllm.projections.views.cost_totals import CostTotals


def residue_of(
    row: SessionRow,
    events: Sequence[Recorded],
    *,
    by: str,
    reason: str,
    streams: Sequence[str],
) -> SessionErased:
    """Make the `session.erased` event of a session from its row and its events.

    Args:
        row: The row of the session.
        events: All events of the session, in order. None is erased yet.
        by: The name of the person or program that erases it.
        reason: The reason for the erasure.
        streams: The names of other event streams that are erased together with it.

    Returns:
        The event, to be written to the log.

    Raises:
        ErasureRefused: The first event of the session is missing, or a newer lllm wrote it.
    """
    started = codec.decode(events[0]) if events else None
    if not isinstance(started, SessionStarted):
        raise ErasureRefused(
            f"Session {row.id} can't be erased: its first event can't be read, so nobody could "
            "tell later what it was. `lllm verify` tells more; if a newer lllm wrote it, upgrade."
        )
    return SessionErased(
        about=row.id,
        by=by,
        reason=reason,
        events=len(events),
        tactic_path=started.tactic_path,
        state=row.state,
        started=row.started,
        ended=row.ended,
        cost=tuple(_cells(events)),
        name=started.name,
        kind=started.kind,
        partition=started.partition,
        elapsed=row.elapsed,
        ancestors=started.ancestors,
        ordinal=started.ordinal,
        origin=started.origin,
        digests=root_of(event.digest for event in events).hex(),
        streams=tuple(streams),
        salt=new_salt(),
    )


def _cells(events: Sequence[Recorded]) -> list[CostCell]:
    """Sum the costs of a session in the same groups as the view of costs."""
    cells: dict[tuple[int, str, str], CostTotals] = {}
    for event in events:
        payload = codec.decode(event)
        if isinstance(payload, LLMResponded | LLMFailed | LLMRefused):
            place = (quarter_of(event.time), payload.asked, payload.agent)
            cells.setdefault(place, CostTotals()).count(payload)
    return [totals.cell(*place) for place, totals in cells.items()]
