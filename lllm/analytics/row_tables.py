"""Makes the rows of sessions, tags and costs from the store's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lllm.analytics.arrow_batches import TableRow
from lllm.projections.days import QUARTER_HOUR
from lllm.projections.queries.costs import SessionCost
from lllm.projections.queries.sessions import SessionRow
from lllm.projections.views.cost_totals import CostTotals


def session_row(row: SessionRow, ids: Mapping[int, str]) -> TableRow:
    """Make the row of a session.

    Args:
        row: The row of the session in the store.
        ids: The ids of its parent and root, by their numbers.

    Returns:
        The values in the order of the columns of `sessions`.
    """
    unpriced = row.unpriced_calls or 0
    return (
        row.id, ids.get(row.root, row.id), None if row.parent is None else ids.get(row.parent),
        row.tactic, row.name, row.kind, row.partition, row.state, row.task,
        row.started, row.ended, row.elapsed, row.agent_calls or 0,
        (row.calls or 0) + (row.failed_calls or 0), row.failed_calls or 0, unpriced,
        row.input_tokens or 0, row.output_tokens or 0,
        *_amounts(unpriced, row.cost_nanos or 0, row.wasted_nanos or 0),
        row.error_type, row.error_message, row.replays, row.forks, row.erased, row.archived,
    )  # fmt: skip


def tag_rows(
    row: SessionRow, ids: Mapping[int, str], own: Mapping[int, Mapping[str, str]]
) -> Iterator[TableRow]:
    """Make the rows of a session's tags.

    Args:
        row: The row of the session in the store.
        ids: The id of its root, by its number.
        own: The tags that each session has itself, by its number.

    Yields:
        The values in the order of the columns of `tags`.
    """
    root_id, tags = ids.get(row.root, row.id), own[row.number]
    for name, value in tags.items():
        yield (row.id, root_id, name, value, False)
    if row.root != row.number:
        for name, value in own[row.root].items():
            if name not in tags:
                yield (row.id, root_id, name, value, True)


def cost_row(cell: SessionCost, session_id: str) -> TableRow:
    """Make the row of what a session cost in a quarter of an hour, by tactic, agent and model.

    Args:
        cell: The sums in the store.
        session_id: The id of the session.

    Returns:
        The values in the order of the columns of `costs`.
    """
    sums = CostTotals(*cell.sums)
    return (
        session_id, cell.quarter_hour * QUARTER_HOUR, cell.tactic, cell.agent, cell.model,
        sums.calls + sums.failed_calls, sums.failed_calls, sums.unpriced_calls,
        sums.input_tokens, sums.output_tokens, sums.cache_read_tokens, sums.cache_write_tokens,
        sums.reasoning_tokens, sums.audio_input_tokens, sums.audio_output_tokens,
        *_amounts(sums.unpriced_calls, sums.cost_nanos, sums.wasted_nanos, sums.tool_nanos),
    )  # fmt: skip


def _amounts(unpriced: int, *nanos: int) -> Sequence[int | None]:
    """The amounts; None if nothing is known, because all that has a cost has no known price."""
    return [None] * len(nanos) if unpriced and not nanos[0] else nanos
