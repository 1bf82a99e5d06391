"""Prints the hits of a search: a line that says where, and the part of the text below it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import joined, show
from lllm.search.hits import SearchHit
from lllm.terminal_safe import visible

_INDENT = 4  # columns
_FOUND = "bold yellow"


def show_hits(console: Console, hits: Sequence[SearchHit], zone: dt.tzinfo) -> None:
    """Print hits, in their order.

    Args:
        console: Where to print.
        hits: The hits.
        zone: Of their times.
    """
    offset = formats.one_offset((hit.timestamp for hit in hits), zone)
    if offset is not None:
        show(console, Text(f"times are {offset}", "dim"))
    for hit in hits:
        message = "" if hit.message is None else f"message {hit.message}"
        place = (
            visible(hit.session_id),
            formats.moment_below(hit.timestamp, zone, offset, seconds=True),
            Text(hit.role, "bold"),
            message,
            visible(hit.tactic_path or ""),
        )
        show(console, joined(place, "  "), Padding(_snippet(hit), (0, 0, 0, _INDENT), expand=False))


def _snippet(hit: SearchHit) -> Text:
    """The part of the text, with what was found in colour."""
    line, shown = Text(), 0
    for start, end in hit.matches:
        line.append(visible(hit.snippet[shown:start]))
        line.append(visible(hit.snippet[start:end]), _FOUND)
        shown = end
    line.append(visible(hit.snippet[shown:]))
    return line
