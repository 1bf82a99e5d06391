"""Sums the costs of sessions, in nested groups."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TypedDict

import msgspec

from lllm.projections.database import RowsConnection
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
        total_cost_usd: The cost of the calls, in US dollars.
        recorded_cost_usd: The cost that the events recorded; it differs from the total if the
            summary uses other prices.
        wasted_cost_usd: The part of the total that was spent on answers that were not used, or did
            not arrive completely.
        tool_cost_usd: The part of the total that are fees for tools run by the provider, such as
            web searches.
        calls: The number of model calls, successful or failed.
        failed_calls: The number of calls that failed.
        unpriced_calls: The number of calls whose cost is unknown; they add nothing to the total.
        prompt_tokens: Input tokens, including cached ones.
        completion_tokens: Output tokens, including reasoning.
        cached_prompt_tokens: Input tokens that were read from a cache.
        cache_write_tokens: Input tokens that were written to a cache.
        reasoning_tokens: Output tokens that were used for reasoning.
        audio_prompt_tokens: Input tokens that were audio.
        audio_completion_tokens: Output tokens that were audio.
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
        key: The tactic, model, agent, day (YYYY-MM-DD in the summary's time zone) or tag value;
            None for sessions without the tag.
        session_count: The number of sessions with the tag value, if all groups around this one are
            tags, too; None otherwise.
        groups: The groups within this one; empty for an innermost group.
    """

    key: str | None
    session_count: int | None
    groups: list[CostGroup]


class CostSummary(CostLine):
    """The cost of the selected sessions and their descendants, in total and for each group.

    Attributes:
        session_count: The number of selected sessions.
        prices: The prices that were used: "recorded", "current" or "given".
        as_model: The model as which all calls were priced; None if each was priced as its own.
        time_zone: The time zone of groups by day; None if there are none.
        archived_count: The number of selected sessions whose events are in an archive.
        archived_cost_usd: What these sessions cost by the recorded prices, in US dollars. It is a
            part of the total; with other prices it is not, since their calls can't be priced anew.
        groups: The outermost groups, the most expensive first.
    """

    session_count: int
    prices: str
    as_model: str | None
    time_zone: str | None
    archived_count: int
    archived_cost_usd: float
    groups: list[CostGroup]


class SummarySums(msgspec.Struct, frozen=True):
    """The exact sums from which a cost summary is made.

    Attributes:
        total: The sums of all selected sessions.
        sessions: The number of selected sessions.
        by: The sums of each innermost group, by its keys from the outermost group inwards.
        counts: The number of sessions with each combination of values of the leading tag groups.
        archived: The number of sessions whose events are in an archive, and their recorded cost in
            nano-dollars.
    """

    total: Sums
    sessions: int
    by: Mapping[Keys, Sums]
    counts: Mapping[Keys, int]
    archived: tuple[int, int] = (0, 0)


def grouping(group_by: str | Sequence[str] | None) -> tuple[Group, ...]:
    """Parse and check the `group_by` argument of a user.

    Args:
        group_by: The name of a group, or several, the outermost first; None for no groups.

    Returns:
        The groups, outermost first.

    Raises:
        ValueError: A name is not a group, or appears twice.
    """
    words = () if group_by is None else (group_by,) if isinstance(group_by, str) else group_by
    groups = tuple(map(_group_of, words))
    if len({*groups}) < len(groups):
        raise ValueError(f"group_by may name each group only once; not {', '.join(words)}")
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
    connection: RowsConnection, wanted: Filter, by: Sequence[Group], zone: dt.tzinfo
) -> SummarySums:
    """Sum the recorded costs of the selected sessions.

    Args:
        connection: A connection to the database of rows.
        wanted: The filter of the sessions.
        by: The groups, outermost first.
        zone: The time zone of groups by day.

    Returns:
        The sums in total and for each innermost group.

    Raises:
        DividedQuarter: A day of the zone begins within a quarter of an hour in which something was
            spent. The rows can't divide that quarter; the events can.
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
    archived = cost_queries.archived_costs(connection, wanted)
    return SummarySums(total, sessions, sums, counts, archived)


def summary_of_costs(
    found: SummarySums,
    by: Sequence[Group],
    zone: dt.tzinfo,
    prices: str = "recorded",
    as_model: str | None = None,
) -> CostSummary:
    """Make a CostSummary from sums, with the most expensive groups first.

    Args:
        found: The sums in total and for each innermost group.
        by: The groups, outermost first.
        zone: The time zone of groups by day.
        prices: The prices that were used: "recorded", "current" or "given".
        as_model: The model as which all calls were priced; None if each was priced as its own.

    Returns:
        The summary with US dollars in place of nano-dollars.
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
        archived_count=found.archived[0],
        archived_cost_usd=dollars(found.archived[1]),
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
