"""Reads the outcomes and durations of many attempts to call a model, for statistics."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from operator import attrgetter

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.model import State
from lllm.projections.database import RowsConnection
from lllm.projections.queries import session_tags
from lllm.projections.queries.call_filter_sql import walk
from lllm.projections.queries.filters import CallFilter
from lllm.projections.queries.rows import convert_rows
from lllm.projections.view import storable

_ROW = """SELECT s.number, s.root, s.tactic, k.agent, k.provider,
    CASE WHEN k.model = '' THEN k.asked ELSE k.model END,
    CASE WHEN f.state = 'running' AND s.state <> 'running' THEN 'interrupted' ELSE f.state END,
    f.status, f.attempt, f.started, f.elapsed, f.first_token
FROM (
    SELECT c.session, c.kind, c.state, c.status, c.attempt, c.started, c.elapsed, c.first_token
    {} ORDER BY c.started DESC LIMIT ?
) AS f
CROSS JOIN sessions AS s ON s.number = f.session
CROSS JOIN call_kinds AS k ON k.kind = f.kind"""


@warm_msgspec
class CallTiming(msgspec.Struct, frozen=True, array_like=True):
    """The outcome and the duration of one attempt.

    Attributes:
        number: The number of the attempt's session.
        root: The number of the root session.
        model: The model that answered; the requested model if none did.
        state: "success", "failure", "running" or "interrupted".
        status: The HTTP status of a failed attempt.
        attempt: The number of the attempt within its turn, from 1.
        started: The start of the attempt, nanoseconds UTC.
        elapsed: Nanoseconds from the request to the end of the answer; None if it has not ended.
        first_token: Nanoseconds to the first piece of a stream; None without one.
    """

    number: int
    root: int
    tactic: str
    agent: str
    provider: str
    model: str
    state: State
    status: int | None
    attempt: int
    started: int
    elapsed: int | None
    first_token: int | None


def call_timings(connection: RowsConnection, wanted: CallFilter, limit: int) -> list[CallTiming]:
    """Read the newest attempts that a filter selects.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the attempts.
        limit: The greatest number of attempts.

    Returns:
        The attempts, newest first.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    parts = [
        convert_rows(
            connection.execute(
                _ROW.format(selection.sql), (*selection.parameters, limit)
            ).fetchall(),
            list[CallTiming],
            "calls",
        )
        for selection in walk(connection, wanted, "started", None).selections
    ]
    started = attrgetter("started")
    in_order = merge(
        *(sorted(part, key=started, reverse=True) for part in parts), key=started, reverse=True
    )
    if not wanted.of.tags:
        return list(islice(in_order, limit))
    found = list(in_order)
    tags = session_tags.tags_of(connection, found)
    needed = {storable(name): storable(value) for name, value in wanted.of.tags.items()}.items()
    return [one for one in found if needed <= tags[one.number].items()][:limit]
