"""Prints how two sessions differ: the first difference, then their figures side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from lllm.cli.render import formats
from lllm.cli.render.console import joined, plain_table, show, state_text
from lllm.projections.session.invoke_cost import dollars, nanos
from lllm.replay.session_diff import SessionDiff, SessionFigures
from lllm.terminal_safe import visible

_LINES = 30  # lines shown of a diff
_LONGEST = 160  # characters shown of one of its lines
_SAYING_SO = 60  # characters that the note about omitted ones takes
_BEFORE = 60  # characters shown before the first that differs
_IF_ANY = ("failed_calls", "unpriced_calls", "unknown_events")
_STYLES = {"+": "green", "-": "red"}


def show_diff(console: Console, found: SessionDiff, *, full: bool) -> None:
    """Print a comparison.

    Args:
        console: The console to print to.
        found: The comparison to print.
        full: True to print texts in full.
    """
    for name, side in (("A", found.a), ("B", found.b)):
        show(
            console,
            joined(
                (
                    Text.assemble((f"{name} ", "bold"), visible(side.session_id)),
                    Text(visible(side.tactic_path), "bold"),
                    state_text(side.state),
                ),
                "  ",
            ),
        )
    show(console, Text())
    first = found.first
    if first is None:
        steps = formats.counted(found.steps, "step")
        show(console, Text(f"The sessions are the same, in all of their {steps}.", "green"))
    else:
        show(console, Text.assemble(("First difference: ", "bold"), visible(str(first.place))))
        show(console, Text(visible(first.message)))
        _show_text(console, first.diff, full=full)
        more = len(found.differences) - 1
        if more:
            verb = "differs" if more == 1 else "differ"
            show(console, Text(f"{formats.counted(more, 'more step')} {verb}; --json has all."))
        if found.delivery and first.kind != "end":
            show(console, Text.assemble("\n", ("The deliveries differ:", "bold")))
            _show_text(console, found.delivery, full=full)
    show(console, Text())
    _show_figures(console, found.a, found.b)


# -- texts


def _show_text(console: Console, diff: str, *, full: bool) -> None:
    """Print a diff; a note says how much of it is omitted."""
    lines = diff.split("\n") if diff else []
    shown = lines if full else lines[:_LINES]
    for line in shown if full else _cut(shown):
        show(console, Text(f"  {visible(line)}", _STYLES.get(line[:1], "")))
    if len(shown) < len(lines):
        left = formats.counted(len(lines) - len(shown), "line")
        show(console, Text(f"  … (+{left}; --full shows all)", "yellow"))


def _cut(lines: Sequence[str]) -> Iterator[str]:
    """Shorten long lines so that the first character that differs stays visible."""
    at = 0
    while at < len(lines):
        removed = _run(lines, at, "-")
        added = _run(lines, at + len(removed), "+")
        if not removed and not added:
            yield _window(lines[at], 0)
            at += 1
            continue
        starts = [_first_other(one, other) for one, other in zip(removed, added, strict=False)]
        for group in (removed, added):
            for number, line in enumerate(group):
                yield _window(line, starts[number] if number < len(starts) else 0)
        at += len(removed) + len(added)


def _first_other(one: str, other: str) -> int:
    """Find the first character in which two lines differ, ignoring their signs."""
    pairs = zip(one[1:], other[1:], strict=False)
    shorter = min(len(one), len(other))
    return next((at for at, (a, b) in enumerate(pairs, 1) if a != b), shorter)


def _run(lines: Sequence[str], at: int, sign: str) -> Sequence[str]:
    end = at
    while end < len(lines) and lines[end].startswith(sign):
        end += 1
    return lines[at:end]


def _window(line: str, differs: int) -> str:
    """Cut a line to the part that differs, with notes of how much is omitted."""
    if len(line) <= _LONGEST + _SAYING_SO:
        return line
    begin = max(0, min(differs - _BEFORE, len(line) - _LONGEST))
    end = begin + _LONGEST
    before = f"(+{begin:,} characters) …" if begin else ""
    after = f"… (+{len(line) - end:,} characters; --full shows all)" if end < len(line) else ""
    return f"{line[0] if begin else ''}{before}{line[begin or 0 : end]}{after}"


# -- figures


def _show_figures(console: Console, a: SessionFigures, b: SessionFigures) -> None:
    table = plain_table()
    table.add_column("")
    for name in ("A", "B", "B - A"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: list[tuple[str, str, str, str]] = []
    for label, name in (
        ("sessions", "sessions"), ("agent calls", "agent_calls"), ("messages", "messages"),
        ("model calls", "calls"), ("failed calls", "failed_calls"), ("tools", "tools"),
        ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens"),
        ("unpriced calls", "unpriced_calls"), ("events of a newer lllm", "unknown_events"),
    ):  # fmt: skip
        one, other = getattr(a, name), getattr(b, name)
        if one or other or name not in _IF_ANY:
            change = f"{other - one:+,}" if other != one else "="
            rows.append((label, f"{one:,}", f"{other:,}", change))
    unpriced = a.unpriced_calls, b.unpriced_calls
    rows.append(("cost", *_money(a.cost, b.cost, unpriced)))
    if a.recorded_cost or b.recorded_cost:
        rows.append(("cost at first", *_money(a.recorded_cost, b.recorded_cost)))
    rows.append(("time", *_durations(a.elapsed, b.elapsed)))
    for label, *cells in rows:
        table.add_row(Text(label, "dim"), *cells)
    show(console, table)


def _money(one: float, other: float, unpriced: tuple[int, int] = (0, 0)) -> tuple[str, str, str]:
    """Format two costs, and their difference if both are known."""
    change = dollars(nanos(other) - nanos(one))
    sign = "-" if change < 0 else "+"
    change_text = f"{sign}{formats.money(abs(change))}" if change else "="
    return (
        formats.money(one, unpriced[0]), formats.money(other, unpriced[1]),
        "" if any(unpriced) else change_text,
    )  # fmt: skip


def _durations(one: float | None, other: float | None) -> tuple[str, str, str]:
    change = ""
    if one is not None and other is not None:
        change = f"{'-' if other < one else '+'}{formats.duration(abs(other - one))}"
    return formats.duration(one), formats.duration(other), change
