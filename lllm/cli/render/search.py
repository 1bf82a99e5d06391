"""Prints the hits of a search: for each hit, its place and the matching part of its text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import joined, show
from lllm.search.hits import SearchHit
from lllm.terminal_safe import visible

_INDENT = 4  # columns
_FOUND = "bold yellow"


def show_hits(
    console: Console, hits: Sequence[SearchHit], zone: dt.tzinfo, places: Mapping[int, str]
) -> None:
    """Print hits, in their order.

    Args:
        console: The console to print on.
        hits: The hits to print, in this order.
        zone: The time zone in which times are shown.
        places: The names of the places of hits, by position; see `names_of_places`.
    """
    offset = formats.one_offset((hit.timestamp for hit in hits), zone)
    if offset is not None:
        show(console, Text(f"times are {offset}", "dim"))
    for hit in hits:
        place = (
            visible(hit.session_id),
            formats.moment_below(hit.timestamp, zone, offset, seconds=True),
            Text(hit.role, "bold"),
            visible(places.get(hit.position, "")),
            visible(hit.tactic_path or ""),
        )
        show(console, joined(place, "  "), Padding(_snippet(hit), (0, 0, 0, _INDENT), expand=False))


def _snippet(hit: SearchHit) -> Text:
    """Format the part of the text, with the found words in colour."""
    line, shown = Text(), 0
    for start, end in hit.matches:
        line.append(visible(hit.snippet[shown:start]))
        line.append(visible(hit.snippet[start:end]), _FOUND)
        shown = end
    line.append(visible(hit.snippet[shown:]))
    return line
