"""The entry point of the command `lllm`.

The commands are thin: they parse their options, call the store, and pass the result to a renderer.
Only click is imported at the start; the store and rich are imported when a command needs them.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from lllm.cli.commands import (
    annotate,
    archive,
    audit,
    backup,
    calls,
    cost,
    diff,
    doctor,
    erase,
    events,
    export,
    hold,
    importing,
    keygen,
    ls,
    mcp,
    otel,
    play,
    prove,
    query,
    rebuild,
    repair,
    replay,
    retain,
    schema,
    seal,
    search,
    show,
    tag,
    tail,
    vacuum,
    verify,
    web,
)
from lllm.cli.exit_codes import CommandLine, run
from lllm.cli.options import given_before, store_option, zone, zone_options
from lllm.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments without the program's name; None for those of the process.

    Returns:
        The exit code; see `lllm.cli.exit_codes`.
    """
    return run(cli, arguments)


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@store_option
@zone_options
@click.version_option(__version__, message="lllm %(version)s")
@click.pass_context
def cli(context: click.Context, store: str | None) -> None:
    """Look at what your LLM agents did, and what it cost.

    A store is an SQLite file, a folder of JSONL files or a PostgreSQL database to which tactics
    log. Name it with --store, or once for all commands with the environment variable LLLM_STORE.

    \b
      lllm demo                        make a store to look at
      lllm ls --state failure          the sessions that failed, newest first
      lllm show 01m845q0r4             one session as a tree: agents, tools, retries, costs
      lllm diff 01m845q0r4 01m846c2za  where two sessions first differ
      lllm search 'refund OR money'    messages with these words
      lllm calls --sort elapsed        the slowest calls of a model
      lllm cost --by tag:customer      the costs of each customer
      lllm tail                        events as they are written
      lllm web --open                  all of this in a browser
      lllm query --schema              the tables that SQL can query

    You can shorten an ID to its beginning, if no other session has the same one. Times in text are
    local, times in --json and --csv are UTC; --utc and --tz change that.
    """
    del store  # each command reads it when it opens the store
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@store_option
@zone_options
@click.option("--model", metavar="NAME", help="Have this model answer, through the OpenAI API.")
def demo(store: str | None, model: str | None) -> None:
    """Run a small support desk and look at its log.

    An embedded model answers from a script: no key, no network, a few seconds. With --model, a real
    model answers; it needs OPENAI_API_KEY (and OPENAI_BASE_URL for another server). The store is
    written to --store, LLLM_STORE or ./lllm-demo/runs.db; a second run adds to it.
    """
    from lllm.cli.commands import demo as demo_tour

    demo_tour.run(store or given_before(), model, zone())


for command in (
    ls.ls, show.show, search.search, calls.calls, events.events, play.play, diff.diff,
    replay.replay, tail.tail, cost.cost, query.query, export.export, importing.import_, tag.tag,
    annotate.annotate,
    rebuild.rebuild, verify.verify, repair.repair, seal.seal, keygen.keygen, prove.prove,
    audit.audit, doctor.doctor, backup.backup, web.web, mcp.mcp, otel.otel,
    erase.erase, hold.hold, hold.release, retain.retain, archive.archive, vacuum.vacuum,
    schema.schema,
):  # fmt: skip
    cli.add_command(command)
