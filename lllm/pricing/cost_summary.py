"""Sums the costs of sessions, in nested groups."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TypedDict

import msgspec

from lllm.projections.queries import cost_groups
from lllm.projections.queries import costs as cost_queries
from lllm.projections.queries.cost_groups import COLUMNS, Group, Keys
from lllm.projections.queries.costs import NOTHING, Sums
from lllm.projections.queries.filters import Filter
from lllm.projections.session.invoke_cost import dollars
from lllm.projections.view import storable
from lllm.time_zones import zone_name


class CostLine(TypedDict):
    """The cost of some calls: US dollars, tokens, and the number of calls without a price.

    Attributes:
        recorded_cost_usd: What the events say, where the total is made with other prices.
        wasted_cost_usd: What those calls cost, among all, whose answer was thrown away or never
            came whole.
        tool_cost_usd: What of the total are fees of tools that the provider ran, as web searches.
    """

    total_cost_usd: float
    recorded_cost_usd: float
    wasted_cost_usd: float
    tool_cost_usd: float
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
    """One group of a cost summary.

    Attributes:
        key: The tactic, model, agent, day (YYYY-MM-DD, of the zone asked for) or tag value; None
            for sessions without the tag.
        session_count: How many sessions have the tag, where it stands within no group of another
            kind; None elsewhere.
        groups: Those within it.
    """

    key: str | None
    session_count: int | None
    groups: list[CostGroup]


class CostSummary(CostLine):
    """The cost of the selected sessions with all below them, and of each requested group.

    Attributes:
        session_count: How many sessions were selected.
        prices: "recorded", "current" or "given", as it was asked for.
        as_model: The model that all calls were priced as, None for their own.
        time_zone: Of the days among the groups, None where there are none.
        groups: The outermost groups, the most expensive first.
    """

    session_count: int
    prices: str
    as_model: str | None
    time_zone: str | None
    groups: list[CostGroup]


class SummarySums(msgspec.Struct, frozen=True):
    """The exact sums of a cost summary.

    Attributes:
        total: Of all.
        sessions: How many there are.
        by: The sums of each innermost group.
        counts: How many sessions have each combination of the tags that stand first among the
            groups.
    """

    total: Sums
    sessions: int
    by: Mapping[Keys, Sums]
    counts: Mapping[Keys, int]


def grouping(group_by: str | Sequence[str] | None) -> tuple[Group, ...]:
    """Parse a user's `group_by`.

    Args:
        group_by: A word or several, None for no groups.

    Returns:
        The groups, outermost first.

    Raises:
        ValueError: A word is no group, or is given twice.
    """
    words = () if group_by is None else (group_by,) if isinstance(group_by, str) else group_by
    groups = tuple(map(_group_of, words))
    if len({*groups}) < len(groups):
        raise ValueError(f"group_by names each group once; not {', '.join(words)}")
    return groups


def _group_of(word: str) -> Group:
    for column in COLUMNS:
        if column == word:
            return Group(column)
    if isinstance(word, str) and word.startswith("tag:") and word != "tag:":
        return Group("", storable(word.removeprefix("tag:")))
    raise ValueError(f"group_by is one of {', '.join(COLUMNS)} or tag:KEY; not {word!r}")


def leading_tags(by: Sequence[Group]) -> list[str]:
    """List the tags at the beginning of the groups, before any other kind of group."""
    return [group.tag for group in takewhile(lambda group: group.tag, by)]


def recorded(
    connection: sqlite3.Connection, wanted: Filter, by: Sequence[Group], zone: dt.tzinfo
) -> SummarySums:
    """Sum the recorded costs of the selected sessions.

    Args:
        connection: To the rows.
        wanted: Which sessions.
        by: The groups, outermost first.
        zone: Of the days among the groups.

    Returns:
        The sums.

    Raises:
        DividedQuarter: Only the events can say what the days of the zone cost.
    """
    total = cost_queries.sum_costs(connection, wanted)
    sessions = cost_queries.count_sessions(connection, wanted)
    tags = leading_tags(by)
    sums: Mapping[Keys, Sums] = {}
    counts: Mapping[Keys, int] = {}
    if tags:
        sums, counts = cost_groups.sum_costs_by_tags(connection, wanted, tags)
    if len(tags) < len(by):
        sums = cost_groups.sum_costs_by(connection, wanted, by, zone)
    return SummarySums(total, sessions, sums, counts)


def summary_of_costs(
    found: SummarySums,
    by: Sequence[Group],
    zone: dt.tzinfo,
    prices: str = "recorded",
    as_model: str | None = None,
) -> CostSummary:
    """Make a CostSummary from sums, with the most expensive groups first.

    Args:
        found: The sums.
        by: The groups, outermost first.
        zone: Of the days among the groups.
        prices: "recorded", "current" or "given".
        as_model: The model that all calls were priced as, None for their own.

    Returns:
        The summary.
    """
    has_days = any(group.column == "day" for group in by)
    root = _Node()
    for keys, sums in found.by.items():
        for node in root.path(keys):
            node.add(sums)
    for keys, sessions in found.counts.items():
        for node in root.path(keys):
            node.sessions = (node.sessions or 0) + sessions
    return CostSummary(
        **line_of(found.total),
        session_count=found.sessions,
        prices=prices,
        as_model=as_model,
        time_zone=zone_name(zone) if has_days else None,
        groups=root.groups(),
    )


def line_of(sums: Sums) -> CostLine:
    """Make a CostLine from sums."""
    return CostLine(
        total_cost_usd=dollars(sums["cost_nanos"]),
        recorded_cost_usd=dollars(sums.get("recorded_nanos", sums["cost_nanos"])),
        wasted_cost_usd=dollars(sums["wasted_nanos"]),
        tool_cost_usd=dollars(sums["tool_nanos"]),
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


class _Node:
    """The sums of a group while it is being built."""

    def __init__(self) -> None:
        self.sums = NOTHING
        self.sessions: int | None = None
        self.within: dict[str | None, _Node] = {}

    def path(self, keys: Keys) -> list[_Node]:
        """Get the nested groups for some keys, creating those that are missing."""
        nodes = [self]
        for key in keys:
            nodes.append(nodes[-1].within.setdefault(key, _Node()))
        return nodes[1:]

    def add(self, sums: Sums) -> None:
        self.sums = {name: self.sums.get(name, 0) + value for name, value in sums.items()}

    def groups(self) -> list[CostGroup]:
        return [
            CostGroup(
                **line_of(node.sums), key=key, session_count=node.sessions, groups=node.groups()
            )
            for key, node in sorted(
                self.within.items(),
                key=lambda item: (-item[1].sums["cost_nanos"], item[0] is not None, item[0] or ""),
            )
        ]
