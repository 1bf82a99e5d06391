"""What sessions cost, summed and grouped."""

from __future__ import annotations

import sqlite3
from typing import TypedDict

from lllm.projections import cost_queries
from lllm.projections.cost_queries import GroupBy, Sums
from lllm.projections.invoke_cost import dollars
from lllm.projections.selection import Filter


class CostLine(TypedDict):
    """What some calls cost: US dollars, tokens, and how many calls have no known price."""

    total_cost_usd: float
    calls: int
    failed_calls: int
    unpriced_calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    audio_prompt_tokens: int
    audio_completion_tokens: int


class CostGroup(CostLine):
    """One group of a summary. key: the tactic, model, agent, day (YYYY-MM-DD, UTC) or tag value,
    None for sessions without the tag. session_count: how many sessions have it, for tags only."""

    key: str | None
    session_count: int | None


class CostSummary(CostLine):
    """What the selected sessions cost with all below them, and by group where that was asked."""

    session_count: int
    groups: list[CostGroup]


def line_of(sums: Sums) -> CostLine:
    """Sums of the cost cube in a user's words."""
    return CostLine(
        total_cost_usd=dollars(sums["cost_nanos"]),
        calls=sums["calls"],
        failed_calls=sums["failed_calls"],
        unpriced_calls=sums["unpriced_calls"],
        prompt_tokens=sums["input_tokens"],
        completion_tokens=sums["output_tokens"],
        cached_prompt_tokens=sums["cache_read_tokens"],
        cache_write_tokens=sums["cache_write_tokens"],
        reasoning_tokens=sums["reasoning_tokens"],
        audio_prompt_tokens=sums["audio_input_tokens"],
        audio_completion_tokens=sums["audio_output_tokens"],
    )


class Grouping(TypedDict):
    """How a summary is grouped: by a column of the cube, or by the value of a tag."""

    column: GroupBy | None
    tag: str | None


def grouping(group_by: str | None) -> Grouping:
    """`group_by` as it is asked of a store. Raises ValueError for a word that it has not."""
    if group_by is None:
        return Grouping(column=None, tag=None)
    if group_by.startswith("tag:") and group_by != "tag:":
        return Grouping(column=None, tag=group_by.removeprefix("tag:"))
    for column in cost_queries.GROUPS:
        if column == group_by:
            return Grouping(column=column, tag=None)
    raise ValueError(
        f"group_by is one of {', '.join(cost_queries.GROUPS)} or tag:KEY; not {group_by!r}"
    )


def cost_summary(connection: sqlite3.Connection, wanted: Filter, by: Grouping) -> CostSummary:
    """The sums of the sessions that a filter selects, and its groups, dearest first."""
    total = cost_queries.sum_costs(connection, wanted)
    sessions = cost_queries.count_sessions(connection, wanted)
    groups: list[CostGroup] = []
    if by["tag"] is not None:
        sums, counts = cost_queries.sum_costs_by_tag(connection, wanted, by["tag"])
        groups = [_group(key, sums.get(key, cost_queries.NOTHING), n) for key, n in counts.items()]
    elif by["column"] is not None:
        found = cost_queries.sum_costs_by(connection, wanted, by["column"])
        groups = [_group(key, line, None) for key, line in found.items()]
    groups.sort(key=lambda group: (-group["total_cost_usd"], group["key"] or ""))
    return CostSummary(**line_of(total), session_count=sessions, groups=groups)


def _group(key: str | None, sums: Sums, sessions: int | None) -> CostGroup:
    return CostGroup(**line_of(sums), key=key, session_count=sessions)
