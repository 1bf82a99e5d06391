"""Costs as CSV for other programs: one line for each innermost group, amounts exact."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal, get_args

from lllm.pricing.cost_summary import CostGroup, CostLine, CostSummary
from lllm.projections.session.invoke_cost import nanos
from lllm.terminal_safe import visible_lines

_Amount = Literal["total_cost_usd", "recorded_cost_usd", "wasted_cost_usd", "tool_cost_usd"]
_Count = Literal[
    "calls", "failed_calls", "unpriced_calls", "prompt_tokens", "completion_tokens",
    "cached_prompt_tokens", "cache_write_tokens", "reasoning_tokens", "audio_prompt_tokens",
    "audio_completion_tokens",
]  # fmt: skip
_AMOUNTS: tuple[_Amount, ...] = get_args(_Amount)
_COUNTS: tuple[_Count, ...] = get_args(_Count)


def show_csv(text: str) -> None:
    """Print CSV as it is; on a terminal, what could harm it becomes escapes."""
    sys.stdout.write(visible_lines(text) + "\n" if sys.stdout.isatty() else text)
    sys.stdout.flush()


def as_csv(summary: CostSummary, by: Sequence[str]) -> str:
    """A column for each group, "" for sessions without the tag; then the sums. There is no line of
    totals: a column adds up to it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*by, "session_count", *_AMOUNTS, *_COUNTS))
    for keys, group in _innermost(summary["groups"]):
        missing = [""] * (len(by) - len(keys))
        sessions = "" if group["session_count"] is None else group["session_count"]
        writer.writerow((*keys, *missing, sessions, *_sums(group)))
    return file.getvalue()


def _innermost(
    groups: Sequence[CostGroup], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], CostGroup]]:
    for group in groups:
        keys = (*above, group["key"] or "")
        if group["groups"]:
            yield from _innermost(group["groups"], keys)
        else:
            yield keys, group


def _sums(line: CostLine) -> Iterator[str | int]:
    for amount in _AMOUNTS:
        yield f"{Decimal(nanos(line[amount])).scaleb(-9):f}"
    for count in _COUNTS:
        yield line[count]
