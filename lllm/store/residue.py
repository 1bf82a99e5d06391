"""Makes the events that record an erasure or archiving, with the facts that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.digest import check_digest
from lllm.events.envelope import Recorded
from lllm.events.errors import ErasureRefused, LogDamaged
from lllm.events.ids import new_salt
from lllm.events.integrity.merkle import root_of
from lllm.events.model import (
    CostCell,
    LLMFailed,
    LLMRefused,
    LLMResponded,
    SessionArchived,
    SessionErased,
    SessionResidue,
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


def archived_at(log: LogBackend, session_id: str, position: int) -> SessionArchived:
    """Read what stays of an archived session.

    Args:
        log: The log of the store.
        session_id: Its id.
        position: The position of its `session.archived`.

    Returns:
        The event.

    Raises:
        LogDamaged: It is not what was written.
    """
    for event in log.read(after=position - 1, upto=position):
        check_digest(event, codec.salt_of(event))
        said = codec.decode(event)
        if isinstance(said, SessionArchived) and said.about == session_id:
            return said
    raise LogDamaged(
        f"Position {position} does not say any more where session {session_id} was archived. "
        "Rebuild the rows with `lllm rebuild`; `lllm verify` lists all damage.",
        position=position,
        stream=session_id,
    )


def archived_residue(
    row: SessionRow,
    events: Sequence[Recorded],
    leaves: Sequence[tuple[int, bytes]],
    *,
    by: str,
    archive: str,
    sha256: bytes,
    tags: dict[str, str],
    definitions: Sequence[str],
    streams: Sequence[str],
) -> SessionArchived:
    """Make the `session.archived` of a session from its row and its events.

    Args:
        row: The session's row.
        events: All its events, in order.
        leaves: The positions and digests of these events, and of those in `streams`, in order.
        by: Who archives it.
        archive: The path of the file.
        sha256: The SHA-256 of the file.
        tags: The session's own tags.
        definitions: The definitions that it uses.
        streams: The other streams that go with it.

    Returns:
        The event.

    Raises:
        ErasureRefused: Its first event is missing, or of a newer lllm.
    """
    left = residue_of(row, events, by=by, reason="", streams=streams)
    shared = {name: getattr(left, name) for name in SessionResidue.__struct_fields__}
    return SessionArchived(
        **shared
        | {
            "digests": root_of(digest for _, digest in leaves).hex(),
            "positions": tuple(_ranges([position for position, _ in leaves])),
        },
        archive=archive,
        sha256=sha256.hex(),
        tags=tags,
        definitions=tuple(definitions),
    )


def erased_residue(
    archived: SessionArchived, *, by: str, reason: str, streams: Sequence[str]
) -> SessionErased:
    """Make the `session.erased` of a session whose events were archived.

    Args:
        archived: What stays of it.
        by: Who erases it.
        reason: Why.
        streams: The other streams that go with it.

    Returns:
        The event.
    """
    shared = {name: getattr(archived, name) for name in SessionResidue.__struct_fields__}
    return SessionErased(
        **shared | {"by": by, "streams": tuple(streams), "salt": new_salt()}, reason=reason
    )


def _ranges(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Join adjacent positions to ranges."""
    begin = 0
    for index in range(1, len(positions) + 1):
        if index == len(positions) or positions[index] != positions[index - 1] + 1:
            yield positions[begin], positions[index - 1]
            begin = index


def _cells(events: Sequence[Recorded]) -> list[CostCell]:
    """Sum the costs of a session in the same groups as the view of costs."""
    cells: dict[tuple[int, str, str], CostTotals] = {}
    for event in events:
        payload = codec.decode(event)
        if isinstance(payload, LLMResponded | LLMFailed | LLMRefused):
            place = (quarter_of(event.time), payload.asked, payload.agent)
            cells.setdefault(place, CostTotals()).count(payload)
    return [totals.cell(*place) for place, totals in cells.items()]
