"""`lllm replay`: recorded sessions through today's code."""

from __future__ import annotations

import os
import sys
from typing import Unpack

import click

from lllm.cli.exit_codes import JudgingCommand
from lllm.cli.options import (
    Filters,
    json_option,
    open_named,
    store_location,
    store_option,
    usage_errors,
    with_filters,
)


@click.command("replay", cls=JudgingCommand)
@store_option
@click.option("--using", metavar="CODE", required=True,
              help="What makes the tactic, as my_module:make_tactic; or a tactic, or a function "
              "under @store.tactic. Modules of this folder are found.")  # fmt: skip
@with_filters
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="How many processes.  [default: one a core]")  # fmt: skip
@click.option("--junit", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Write a JUnit report here, a test case for each session.")  # fmt: skip
@json_option
def replay(
    store: str | None,
    using: str,
    jobs: int | None,
    junit: str | None,
    as_json: bool,
    **filters: Unpack[Filters],
) -> int:
    """Run recorded sessions through today's code.

    They are answered from the log: no model is called, no tool runs, and nothing is written.
    Without --tactic, all sessions of the tactic that CODE makes are replayed that fit.

    Exit code 0 means that all were the same, 1 that at least one diverged, and 125 anything else:
    no session fits, or one can't be replayed, or CODE can't be imported. So `git bisect run lllm
    replay ...` finds the commit that changed the behaviour.
    """
    from lllm.cli.render.junit import write_report
    from lllm.cli.render.progress import progress
    from lllm.cli.render.replays import as_report, show_report
    from lllm.replay.report import ReplayReport
    from lllm.replay.workers import ReplayWorkers

    if junit is not None and not os.path.isdir(os.path.dirname(junit) or "."):
        raise click.BadParameter(f"There is no folder for {junit!r}.", param_hint="--junit")
    with ReplayWorkers(store_location(store), using, jobs or os.cpu_count() or 1) as workers:
        with open_named(store) as opened, usage_errors():
            filters["tactic_path"] = filters["tactic_path"] or workers.tactic_path()
            found = opened.list_sessions(limit=None, **filters)
        if not found:
            path = filters["tactic_path"]
            of = "" if path is None else f" of {path!r}"
            raise click.UsageError(f"No session{of} fits.")
        with progress("Replaying") as told:
            report = ReplayReport(workers.replay([one.session_id for one in found], told))
    if junit is not None:
        write_report(report, junit)
    try:
        if as_json:
            from lllm.cli.render.json_text import show_json

            show_json(as_report(report))
        else:
            from lllm.cli.render.console import stdout

            show_report(stdout(), report)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough; the verdict stays
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_code
