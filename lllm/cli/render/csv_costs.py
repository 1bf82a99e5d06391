"""Prints costs as CSV for other programs: one line for each innermost group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from lllm.cli.render.csv_text import exact_dollars, show_csv
from lllm.pricing.cost_summary import CostGroup, CostSummary

_Amount = Literal["total_cost_usd", "recorded_cost_usd", "wasted_cost_usd", "tool_cost_usd"]
_Count = Literal[
    "calls", "failed_calls", "unpriced_calls", "prompt_tokens", "completion_tokens",
    "cached_prompt_tokens", "cache_write_tokens", "reasoning_tokens", "audio_prompt_tokens",
    "audio_completion_tokens",
]  # fmt: skip
_AMOUNTS: tuple[_Amount, ...] = get_args(_Amount)
_COUNTS: tuple[_Count, ...] = get_args(_Count)


def show_costs_as_csv(summary: CostSummary, by: Sequence[str]) -> None:
    """Print a line for each innermost group.

    There is a column for each group, empty for sessions without the tag, then the sums. There is no
    line of totals, because the lines add up to it.

    Args:
        summary: The sums to print.
        by: The names of the groups, the outermost first.
    """
    show_csv((*by, "session_count", *_AMOUNTS, *_COUNTS), _lines(summary, by))


def _lines(summary: CostSummary, by: Sequence[str]) -> Iterator[tuple[str | int, ...]]:
    for keys, group in _innermost(summary["groups"]):
        missing = [""] * (len(by) - len(keys))
        sessions = "" if group["session_count"] is None else group["session_count"]
        amounts = (exact_dollars(group[amount]) for amount in _AMOUNTS)
        yield (*keys, *missing, sessions, *amounts, *(group[count] for count in _COUNTS))


def _innermost(
    groups: Sequence[CostGroup], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], CostGroup]]:
    for group in groups:
        keys = (*above, group["key"] or "")
        if group["groups"]:
            yield from _innermost(group["groups"], keys)
        else:
            yield keys, group
