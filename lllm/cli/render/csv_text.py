"""Prints CSV for other programs; on a terminal, dangerous characters are escaped.

Quoting follows RFC 4180 (https://www.rfc-editor.org/rfc/rfc4180); lines end as in all other output.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal

from lllm.projections.session.invoke_cost import nanos
from lllm.terminal_safe import visible_lines


def show_csv(columns: Sequence[object], lines: Iterable[Sequence[object]]) -> int:
    """Print CSV line by line; on a terminal, dangerous characters are escaped.

    Args:
        columns: The names of the columns.
        lines: The cells of each line; None is printed as an empty cell.

    Returns:
        The number of lines, without the header.
    """
    _write(columns)
    count = 0
    for count, cells in enumerate(lines, start=1):  # noqa: B007
        _write(cells)
    sys.stdout.flush()
    return count


def _write(cells: Sequence[object]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    text = file.getvalue()
    sys.stdout.write(f"{visible_lines(text)}\n" if sys.stdout.isatty() else text)


def exact_dollars(amount: float) -> str:
    """Format US dollars exactly, to the nano-dollar.

    Args:
        amount: The amount in US dollars.

    Returns:
        A number with nine decimals.
    """
    return f"{Decimal(nanos(amount)).scaleb(-9):f}"
