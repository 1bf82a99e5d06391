"""Shows a list of sessions in notebooks, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lllm.cli.render import formats
from lllm.projections.session.notebook_html import table_html

if TYPE_CHECKING:
    from lllm.store.summaries import SessionSummary

_ROWS = 100  # sessions that are shown
_HEADS = (
    "state",
    "what was asked",
    "tactic",
    "started (UTC)",
    "took",
    "calls",
    "cost",
    "tags",
    "id",
)


def sessions_table(sessions: Sequence[SessionSummary]) -> str:
    """Make the HTML table of some sessions.

    Args:
        sessions: The sessions; of more than 100, the first are shown, and the rest is counted.
    """
    table = table_html(_HEADS, map(_row, sessions[:_ROWS]))
    left = len(sessions) - _ROWS
    return table if left <= 0 else f"{table}<p>{left:,} sessions more</p>"


def _row(one: SessionSummary) -> tuple[str, ...]:
    asked = one.task or ""
    return (
        one.state,
        f"{asked}\n{one.error}" if one.error else asked,
        one.tactic_path,
        f"{one.timestamp:%Y-%m-%d %H:%M}",
        "" if one.elapsed is None else formats.duration(one.elapsed),
        f"{one.calls:,} + {one.failed_calls:,} failed" if one.failed_calls else f"{one.calls:,}",
        formats.money(one.total_cost, one.unpriced_calls),
        " ".join(f"{name}={value}" for name, value in one.tags.items()),
        one.session_id,
    )
