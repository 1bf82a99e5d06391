"""Describes how stored rows differ from the rows that the events give."""

from __future__ import annotations

from lllm.cli.render.formats import shortened
from lllm.projections.engine.rebuild import Difference
from lllm.terminal_safe import visible

_LONG = 80  # characters shown of a value


def difference_text(difference: Difference) -> str:
    """Describe on one line which row differs, and in which columns.

    Args:
        difference: The difference to describe.

    Returns:
        A single line.
    """
    key = ", ".join(f"{name} {shortened(value, _LONG)}" for name, value in difference.key.items())
    row = f"{visible(difference.table)}, row {key}"
    if difference.stored is None:
        return f"{row}: it is missing"
    if difference.rebuilt is None:
        return f"{row}: no event gives it"
    stored, rebuilt = difference.stored, difference.rebuilt
    columns = [
        f"{name} is {shortened(stored.get(name), _LONG)}, by the events {shortened(value, _LONG)}"
        for name, value in rebuilt.items()
        if stored.get(name) != value
    ]
    return f"{row}: {'; '.join(columns)}"
