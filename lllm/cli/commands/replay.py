"""`lllm replay`: runs today's code on recorded sessions."""

from __future__ import annotations

import os
import re
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
from lllm.events.errors import ConfigError


def _as_ignored(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> tuple[str | re.Pattern[str], ...]:
    """Parse the values of --ignore: key paths, and patterns between slashes."""
    from lllm.replay.ignored_parts import Ignored

    read: list[str | re.Pattern[str]] = []
    try:
        for one in given:
            between = len(one) > 2 and one.startswith("/") and one.endswith("/")
            read.append(re.compile(one[1:-1]) if between else one)
        Ignored(read)
    except re.error as error:
        raise click.BadParameter(f"{one} is not a pattern: {error}") from None
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None
    return tuple(read)


@click.command("replay", cls=JudgingCommand)
@click.argument("sessions", metavar="[ID|FILE]...", nargs=-1)
@store_option
@click.option("--using", metavar="CODE", required=True,
              help="A function that makes the tactic, for example my_module:make_tactic; or a "
              "tactic, or a function with @store.tactic. Modules in the current folder are "
              "found.")  # fmt: skip
@click.option("--ignore", multiple=True, metavar="WHAT", callback=_as_ignored,
              help="Ignore a part of the requests: a key path such as params.seed, or text that "
              "matches a pattern such as '/[0-9]+ ms/'; can be given several times.")  # fmt: skip
@with_filters
@click.option("--jobs", type=click.IntRange(min=1), metavar="N",
              help="The number of processes.  [default: the number of cores]")  # fmt: skip
@click.option("--junit", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Write a JUnit report to this file, with a test case for each "
              "session.")  # fmt: skip
@json_option
def replay(
    sessions: tuple[str, ...],
    store: str | None,
    using: str,
    ignore: tuple[str | re.Pattern[str], ...],
    jobs: int | None,
    junit: str | None,
    as_json: bool,
    **filters: Unpack[Filters],
) -> int:
    """Run today's code on recorded sessions.

    The code gets its answers from the log: no model is called, no tool runs, and nothing is
    written. Name the sessions by their IDs or by files that `lllm export ID --format jsonl` wrote,
    or select them with filters. If you do neither, all sessions of the tactic that CODE makes are
    replayed.

    Exit code 0 means that all were the same, 1 that at least one diverged, and 125 that something
    else went wrong: no session matches, one can't be replayed, or CODE can't be imported. So `git
    bisect run lllm replay ...` finds the commit that changed the behaviour.
    """
    from lllm.cli.render.junit import write_report
    from lllm.cli.render.progress import progress
    from lllm.cli.render.replays import as_report, show_report
    from lllm.replay.recording_file import is_file
    from lllm.replay.report import ReplayReport
    from lllm.replay.workers import ReplayWorkers

    if junit is not None and not os.path.isdir(os.path.dirname(junit) or "."):
        raise click.BadParameter(f"There is no folder for {junit!r}.", param_hint="--junit")
    location = None if sessions and all(map(is_file, sessions)) else store_location(store)
    with ReplayWorkers(location, using, jobs or os.cpu_count() or 1, ignore) as workers:
        path = workers.tactic_path()
        if sessions:
            found, erased = _named(store, sessions, filters), 0
        else:
            found, erased = _found(store, path, filters)
        with progress("Replaying") as told:
            report = ReplayReport(workers.replay(found, told), erased)
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
    except BrokenPipeError:  # the reader has stopped reading; the exit code stays
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_code


def _named(store: str | None, sessions: tuple[str, ...], filters: Filters) -> list[str]:
    """Find the sessions that the user named."""
    from lllm.replay.recording_file import is_file

    if any(filters.values()):
        raise click.UsageError("Name sessions, or select them by filters; not both.")
    if all(map(is_file, sessions)):
        return list(dict.fromkeys(sessions))
    with open_named(store) as opened:
        whole = [one if is_file(one) else opened.find_id(one) for one in sessions]
    return list(dict.fromkeys(whole))


def _found(store: str | None, path: str | None, filters: Filters) -> tuple[list[str], int]:
    """Find the sessions that fit the filters, of the tactic at `path` if they name no other.

    Those that are erased or archived are left out, and counted: nothing of them is here.
    """
    filters["tactic_path"] = path = filters["tactic_path"] or path
    with open_named(store) as opened, usage_errors():
        found = opened.list_sessions(limit=None, **filters)
    left = [one.session_id for one in found if one.erased is None and one.archived is None]
    if not left:
        of = "" if path is None else f" of {path!r}"
        but = ", but what was erased or archived" if found else ""
        raise click.UsageError(f"No session{of} fits{but}.")
    return left, len(found) - len(left)
