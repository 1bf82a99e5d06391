"""What a check counted: the totals that the table of `python -m tests.survival` shows."""

from __future__ import annotations

import msgspec


class Figures(msgspec.Struct):
    """The totals of one check.

    faults: harm done: kills, cuts, garbage, endings. acknowledged: events whose append returned.
    lost, doubled: of these, how many the log has not, or more than once. longest_wait: seconds of
    the slowest single append.
    """

    what: str
    rounds: int = 0
    faults: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    longest_wait: float = 0.0
    note: str = ""

    def whole(self) -> Figures:
        """These figures, if nothing was lost or doubled. Raises AssertionError otherwise."""
        assert (self.lost, self.doubled) == (0, 0), self
        return self


HEADER = ("check", "rounds", "faults", "acknowledged", "lost", "doubled", "longest wait", "s", "")


def row(figures: Figures, seconds: float) -> tuple[str, ...]:
    """One line of the table. seconds: that the check took."""
    wait = f"{figures.longest_wait * 1000:.1f} ms" if figures.longest_wait else ""
    numbers = (
        figures.rounds, figures.faults, figures.acknowledged, figures.lost, figures.doubled,
    )  # fmt: skip
    return (figures.what, *map(str, numbers), wait, f"{seconds:.0f}", figures.note)


def table(rows: list[tuple[str, ...]]) -> str:
    """The lines below each other: names to the left, numbers to the right."""
    lines = [HEADER, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    last = len(HEADER) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
