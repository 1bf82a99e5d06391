"""The command `lllm`: what a store holds, on a terminal.

The commands are thin: they read their options, ask the store, and hand what it says to a renderer.
Only click is imported at the start; the store and rich come in when a command needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Unpack

import click

from lllm.cli.exits import CommandLine, Finding, run
from lllm.cli.options import (
    Filters,
    as_group,
    as_tags,
    asked_well,
    given_before,
    id_argument,
    json_option,
    named,
    open_named,
    store_option,
    with_filters,
)
from lllm.events.errors import LogUnavailable
from lllm.version import __version__
from lllm.visible import visible


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 where nothing was found, 2 for bad input.

    arguments: without the program's name, None for those of the process.
    """
    return run(cli, arguments)


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@store_option
@click.version_option(__version__, message="lllm %(version)s")
@click.pass_context
def cli(context: click.Context, store: str | None) -> None:
    """Look at what your LLM agents did, and what it cost.

    A store is an SQLite file or a folder of JSONL files that tactics log to. Name it with --store,
    or once and for all with the environment variable LLLM_STORE.

    \b
      lllm demo                        make a store to look at
      lllm ls --state failure          the calls that failed, newest first
      lllm show 01m845q0r4             one call as a tree: agents, tools, retries, costs
      lllm cost --by tag:customer      what was spent, and on whom
      lllm tail                        events as they are written

    An ID may be cut to any beginning that only one session has.
    """
    del store  # commands read it where they open the store
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@store_option
@click.option("--model", metavar="NAME", help="Have this model answer, by the OpenAI API.")
def demo(store: str | None, model: str | None) -> None:
    """Run a small support desk and look at its log.

    An embedded model answers from a script: no key, no network, a few seconds. With OPENAI_API_KEY
    (and OPENAI_BASE_URL for another server) and --model, a real one does. The store is left at
    --store, LLLM_STORE or ./lllm-demo/runs.db; a second run adds to it.
    """
    from lllm.cli import demo_tour

    demo_tour.run(store or given_before(), model)


@cli.command("ls")
@store_option
@with_filters
@click.option("--limit", type=click.IntRange(min=0), metavar="N", default=20, show_default=True,
              help="How many at most; 0 for all.")  # fmt: skip
@click.option("--cursor", metavar="CURSOR", help="Go on behind the last page, which names it.")
@json_option
def ls(
    store: str | None, limit: int, cursor: str | None, as_json: bool, **filters: Unpack[Filters]
) -> None:
    """List sessions, newest first.

    Listed are the calls at the top; with --tactic, the calls of that tactic at any depth. --json
    prints one array with an object for each session.
    """
    with open_named(store) as opened, asked_well():
        found = opened.list_sessions(limit=limit + 1 if limit else None, cursor=cursor, **filters)
        page = found[:limit] if limit else found
        if as_json:
            from lllm.cli.json_output import array, show_json

            show_json(array(page))
        if not page:
            raise Finding("No session fits." if any(filters.values()) or cursor
                          else "The store has no sessions yet.")  # fmt: skip
    if as_json:
        return
    from lllm.cli.render_list import show_list
    from lllm.cli.terminal import stdout

    show_list(stdout(), page)
    if len(found) > len(page):
        click.echo(f"There are more; go on with: --cursor {visible(page[-1].cursor)}", err=True)


@cli.command("show")
@store_option
@id_argument
@click.option("--json", "as_json", is_flag=True, help="Print the exported session instead.")
def show_(store: str | None, prefix: str, as_json: bool) -> None:
    """Show one session as a tree, with what each step cost.

    Agents, attempts to call their models, tools, retries and sub-tactics, each with its time,
    tokens and cost; the traceback of a failed session stands below.
    """
    with open_named(store) as opened:
        session_id = opened.find_id(prefix)
        if as_json:
            from lllm.cli.json_output import show_json

            show_json(opened.export_session(session_id))
            return
        from lllm.cli.render_session import read_retries, show_session
        from lllm.cli.terminal import stdout

        record = opened.load_session_record(session_id)
        show_session(stdout(), record, read_retries(opened, record.session))


@cli.command()
@store_option
@id_argument
@click.option("--json", "as_json", is_flag=True, help="Print them as they were written, JSONL.")
def events(store: str | None, prefix: str, as_json: bool) -> None:
    """Print the events of one session.

    On each line: position in the log, number in the session, local time, type, and the payload in
    short. What was said of the session later, like tags, comes last. ID may also be that of an
    error kept by save_error.
    """
    from lllm.cli.following import session_or_error
    from lllm.cli.json_output import show_json
    from lllm.cli.render_events import show_event
    from lllm.cli.terminal import stdout

    with open_named(store) as opened:
        found = opened.events(session_or_error(opened, prefix))
        if as_json:
            from lllm.export import as_jsonl

            show_json(as_jsonl(list(found)))
            return
        console = stdout()
        for event in found:
            show_event(console, event)


@cli.command()
@store_option
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", default=10,
              show_default=True, help="Begin with the last N events.")  # fmt: skip
@click.option("--session", "prefix", metavar="ID", help="Only this session and those below it.")
@click.option("--json", "as_json", is_flag=True, help="Print them as they are written, JSONL.")
def tail(store: str | None, lines: int, prefix: str | None, as_json: bool) -> None:
    """Print events as they are written, by any process. Ctrl-C ends it."""
    from lllm.cli.following import Family, follow
    from lllm.cli.json_output import show_json
    from lllm.cli.render_events import show_event
    from lllm.cli.terminal import stdout
    from lllm.export import as_jsonl

    with open_named(store) as opened:
        family = None if prefix is None else Family(opened, opened.find_id(prefix))
        console = stdout()
        try:
            for event in follow(opened, lines, family):
                if as_json:
                    show_json(as_jsonl([event]))
                else:
                    show_event(console, event, with_session=True)
        except KeyboardInterrupt:
            return


@cli.command()
@store_option
@click.option("--by", "group_by", metavar="WHAT", default="tactic", show_default=True,
              callback=as_group, help="tactic, model, agent, day or tag:KEY.")  # fmt: skip
@with_filters
@json_option
def cost(store: str | None, group_by: str, as_json: bool, **filters: Unpack[Filters]) -> None:
    """Sum up what sessions cost, with everything below them.

    A call whose price nobody knows counts as unpriced, never as $0. Days are those of UTC.
    """
    with open_named(store) as opened, asked_well():
        summary = opened.export_cost_summary(group_by=group_by, **filters)
    if as_json:
        from lllm.cli.json_output import show_json
        from lllm.events.codec import encode

        show_json(encode(summary).decode())
    if not summary["session_count"]:
        raise Finding("No session fits." if any(filters.values())
                      else "The store has no sessions yet.")  # fmt: skip
    if not as_json:
        from lllm.cli.render_costs import show_costs
        from lllm.cli.terminal import stdout

        show_costs(stdout(), summary, group_by)


@cli.command()
@store_option
@id_argument
@click.option("--format", "format_", type=click.Choice(("json", "jsonl")), default="json",
              show_default=True, help="The loaded session, or its events.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Where to write it, instead of printing it.")  # fmt: skip
def export(store: str | None, prefix: str, format_: str, output: str | None) -> None:
    """Write one session as text that stands alone."""
    with open_named(store) as opened:
        text = opened.export_session(opened.find_id(prefix), format_).rstrip("\n") + "\n"
    if output is None:
        from lllm.cli.json_output import show_json

        show_json(text)
    else:
        with open(output, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


@cli.command()
@store_option
@id_argument
@click.argument("tags", nargs=-1, metavar="K=V...", callback=as_tags)
@click.option("--remove", multiple=True, metavar="K", help="Remove a tag; repeat it for several.")
def tag(store: str | None, prefix: str, tags: dict[str, str], remove: tuple[str, ...]) -> None:
    """Add, change or remove tags of a session.

    The session's own events stay as they are; this is an event beside them.
    """
    if not tags and not remove:
        raise click.UsageError("Which tags? Give some as KEY=VALUE, or --remove KEY.")
    from lllm.cli.shown import tag_list

    with open_named(store, on_error="raise") as opened:  # what is held would end with this process
        session_id = opened.find_id(prefix)
        try:
            opened.tag(session_id, tags, remove=remove)
        except LogUnavailable as error:
            raise Finding(f"The tags were not written. {error}") from error
        now = opened.load_session_record(session_id).tags
    click.echo(f"{visible(session_id)}  {tag_list(now) or 'no tags'}")


@cli.command()
@store_option
@click.option("--check", is_flag=True, help="Replace nothing; compare with what the events say.")
def rebuild(store: str | None, check: bool) -> None:
    """Build lists, tags and costs anew from the events.

    Others may go on reading and writing meanwhile. With --check, exit code 1 says that something
    differs, and the first difference is printed.
    """
    from lllm.cli.rebuilding import explained, progress

    with open_named(store) as opened, progress("Checking" if check else "Rebuilding") as report:
        built = opened.rebuild(check=check, progress=report)
    if not built.views:
        raise Finding("A newer lllm built these rows; upgrade to check them or build them anew.")
    views = ", ".join(built.views)
    if built.difference is not None:
        click.echo(explained(built.difference))
        raise Finding("What is stored is not what the events say; `lllm rebuild` mends it.")
    if check:
        click.echo(f"{views}: as the events say, up to position {built.position}.")
    else:
        click.echo(f"{views}: built anew, up to position {built.position}.")


@cli.command()
@store_option
@json_option
def verify(store: str | None, as_json: bool) -> None:
    """Check that no event was changed or lost.

    Damage is named with its place, and what stands behind it is checked all the same; exit code 1
    says that there is some.
    """
    from lllm.cli.opening import open_log
    from lllm.cli.rebuilding import progress
    from lllm.cli.verifying import show
    from lllm.events.verify import verify as check

    with closing(open_log(named(store))) as log, progress("Verifying") as report:
        verified = check(log, progress=report)
    show(verified, as_json)


@cli.command()
@store_option
@click.option("--thorough", is_flag=True, help="Read the whole log and check the database's pages.")
@json_option
def doctor(store: str | None, thorough: bool, as_json: bool) -> None:
    """Say how the store is, and what to do.

    Size, sessions that run or were interrupted, events that were lost, rows that are behind, room
    on the disk. What is wrong stands first; exit code 1 says that there is a problem. Whether every
    event is what was written is for `lllm verify` to say.
    """
    from lllm.cli.doctoring import show_checkup
    from lllm.doctor import examine

    with open_named(store) as opened:
        found = examine(opened, thorough=thorough)
    show_checkup(found, as_json=as_json)


@cli.command()
@store_option
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
def backup(store: str | None, destination: Path) -> None:
    """Copy the store to DEST, while others go on writing to it.

    DEST is a path where nothing is yet; what has begun is never found there half done. To restore,
    end the programs that use the store, remove it (an SQLite file with its -wal and -shm beside
    it), and copy the backup to its place.
    """
    from lllm.cli.doctoring import show_backup
    from lllm.cli.rebuilding import progress
    from lllm.events.backup import back_up

    with open_named(store) as opened, progress("Backing up") as report:
        made = back_up(opened.backend, destination, progress=report)
    show_backup(made)
