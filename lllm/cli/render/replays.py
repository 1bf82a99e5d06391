"""Prints the results of replaying many sessions."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lllm.cli.render.console import show
from lllm.cli.render.formats import counted
from lllm.events.codec import encode
from lllm.replay.report import DivergedGroup, ReplayReport
from lllm.terminal_safe import visible

_SESSIONS = 5  # listed for each group, and of those that failed; --json has all
_STYLES = {"+": "green", "-": "red"}


def as_report(report: ReplayReport) -> str:
    """Format a report as JSON: counts, groups, and each session's result.

    Args:
        report: The results to format.
    """
    return encode(
        {
            "sessions": len(report.results),
            "same": len(report.of("same")),
            "diverged": len(report.of("diverged")),
            "failed": len(report.of("failed")),
            "erased": report.erased,
            "groups": report.groups,
            "results": report.results,
        }
    ).decode()


def show_report(console: Console, report: ReplayReport) -> None:
    """Print a report.

    Args:
        console: The console to print to.
        report: The results to print.
    """
    same, diverged, failed = (report.of(one) for one in ("same", "diverged", "failed"))
    cut_off = sum(one.cut_off for one in same)
    up_to = f" ({cut_off:,} up to where the recording ends)" if cut_off else ""
    show(
        console,
        Text(
            f"{counted(len(report.results), 'session')}: {len(same):,} same{up_to}, "
            f"{len(diverged):,} diverged, {len(failed):,} failed."
            + (f" {report.erased:,} more erased." if report.erased else "")
        ),
    )
    for group in report.groups:
        _show_group(console, group)
    for one in failed[:_SESSIONS]:
        show(console, Text.assemble("\n", ("failed ", "red"), visible(one.session_id)))
        _show_lines(console, one.message)
    if len(failed) > _SESSIONS:
        show(console, Text(f"\nAnd {len(failed) - _SESSIONS:,} more failed, which --json has."))


def _show_group(console: Console, group: DivergedGroup) -> None:
    differs = f" ({visible(', '.join(group.differs))})" if group.differs else ""
    show(
        console,
        Text.assemble(
            "\n", ("diverged ", "red"), f"{counted(len(group.sessions), 'session')}: "
            f"{group.kind}{differs} at {visible(group.where)}"
        ),
    )  # fmt: skip
    shown = group.sessions[:_SESSIONS]
    left = len(group.sessions) - len(shown)
    more = f" and {left:,} more, which --json has" if left else ""
    show(console, Text(f"  {' '.join(visible(one) for one in shown)}{more}"))
    what, _, recorded_next = group.message.partition("\n")
    for text in (what, group.diff, recorded_next):  # in the order of the error message
        _show_lines(console, text)


def _show_lines(console: Console, text: str) -> None:
    for line in text.rstrip().splitlines():
        show(console, Text(f"  {visible(line)}", _STYLES.get(line[:1], "")))
