"""Arranges the costs of each day by what they are grouped by, for the page of costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from lllm.pricing.cost_summary import CostGroup

KINDS = 5  # groups with a column of their own; the others share one


class DayPart(msgspec.Struct, frozen=True):
    """The cost of one group on one day.

    Attributes:
        cost: US dollars.
        address: The address of its sessions; None if no filter can select them.
        begin: The place of its part in the bar of the day, as a share of the dearest day.
        share: The length of that part.
    """

    cost: float
    address: str | None
    begin: float
    share: float


class Day(msgspec.Struct, frozen=True):
    """The costs of one day.

    Attributes:
        total: The sums of the day.
        parts: The cost of each of the named groups, in their order.
        others: The cost of all other groups.
    """

    total: CostGroup
    parts: list[DayPart]
    others: DayPart


def named_groups(groups: Sequence[CostGroup]) -> list[str]:
    """Return the keys of the groups that have a column of their own: those that cost most.

    Args:
        groups: The groups of the whole summary.
    """
    named = [group for group in groups if group["key"] and group["total_cost_usd"] > 0]
    named.sort(key=lambda group: -group["total_cost_usd"])
    return [group["key"] or "" for group in named[:KINDS]]


def days_of(
    days: Sequence[CostGroup],
    names: Sequence[str],
    address: Callable[[str, CostGroup], str | None],
) -> list[Day]:
    """Arrange the costs of days.

    Args:
        days: The groups of a summary by day, with the groups of each day in them.
        names: The keys with a column of their own.
        address: Returns the address of the sessions of a group on a day.

    Returns:
        The days in their order.
    """
    top = max((day["total_cost_usd"] for day in days), default=0.0)
    return [
        _day(day, names, top, address) for day in sorted(days, key=lambda one: one["key"] or "")
    ]


def _day(
    day: CostGroup,
    names: Sequence[str],
    top: float,
    address: Callable[[str, CostGroup], str | None],
) -> Day:
    within = {group["key"]: group for group in day["groups"]}
    parts: list[DayPart] = []
    begin = 0.0
    for name in names:
        group = within.get(name)
        cost = 0.0 if group is None else group["total_cost_usd"]
        share = cost / top if top else 0.0
        where = None if group is None else address(day["key"] or "", group)
        parts.append(DayPart(cost, where, begin, share))
        begin += share
    cost = day["total_cost_usd"] - sum(part.cost for part in parts)
    left = max(0.0, cost if cost > 1e-9 else 0.0)  # less is a rounding error of the sums
    return Day(day, parts, DayPart(left, None, begin, left / top if top else 0.0))
