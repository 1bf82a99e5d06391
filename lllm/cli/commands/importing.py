"""The command `lllm import`: imports sessions from exported files and other stores."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from lllm.cli.exit_codes import Finding
from lllm.cli.options import json_option, store_location, store_option
from lllm.terminal_safe import visible

if TYPE_CHECKING:
    from lllm.importing.otlp.importer import ImportedOtlp
    from lllm.store.log_store import LogStore

_POLL = 1.0  # seconds between two looks at the transcripts
_LINES = 20  # refused items that are printed; --json has all


@click.command("import")
@store_option
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--follow",
    is_flag=True,
    help="For transcripts and files of OpenTelemetry: keep running, and import what is added to "
    "them. Ctrl-C ends it.",
)
@json_option
def import_(store: str | None, sources: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Append sessions that were recorded elsewhere.

    FILE is the output of `lllm export ID --format jsonl`, which may hold several exports, or the
    path or URL of another store, which is only read. Events that the store has already are not
    stored twice, so you can merge the logs of several machines. Every event is checked. A session
    with an event that was changed is not imported; the exit code is 1 then.

    `lllm import claude-code [FOLDER...]` imports the transcripts that Claude Code keeps, also again
    when they have grown; without a folder, those in ~/.claude/projects. `lllm import codex`,
    `gemini` and `opencode` do the same for Codex, Gemini CLI and opencode, `lllm import llm` for
    the log of the tool llm, and `lllm import inspect` for logs of Inspect.

    FILE can also have spans and log records of OpenTelemetry: OTLP as JSON, one request a line, and
    may be compressed by gzip.
    """
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress
    from lllm.events.errors import ImportRefused
    from lllm.importing.merge import ImportedSessions
    from lllm.importing.otlp.otlp_file import is_otlp
    from lllm.importing.transcripts.import_transcripts import PROGRAMS
    from lllm.store.log_store import LogStore

    if sources[0] in PROGRAMS and not os.path.exists(sources[0]):
        _import_transcripts(store, sources[0], sources[1:], follow=follow, as_json=as_json)
        return
    otlp = [one for one in sources if os.path.isfile(one) and is_otlp(Path(one))]
    if otlp:
        if len(otlp) < len(sources):
            raise click.UsageError(
                f"{otlp[0]} has spans of OpenTelemetry, and others do not; import them separately."
            )
        _import_otlp(store, otlp, follow=follow, as_json=as_json)
        return
    if follow:
        raise click.UsageError(
            f"--follow is for transcripts, of {', '.join(PROGRAMS)}, and for files of "
            "OpenTelemetry."
        )
    refused: tuple[str, ...] = ()
    # Events held in memory would be lost with this process.
    with (
        LogStore.open(store_location(store), on_error="raise") as opened,
        progress("Importing") as report,
    ):
        try:
            imported = opened.import_sessions(*sources, progress=report)
        except ImportRefused as error:
            imported = ImportedSessions(error.sessions, error.events, error.known)
            refused = error.refused
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(asdict(imported) | {"refused": refused}).decode())
    else:
        new = f"{counted(imported.sessions, 'session')}, {counted(imported.events, 'event')}"
        here = f"; {counted(imported.known, 'session')} already here" if imported.known else ""
        click.echo(f"Imported: {new}{here}.")
    _report(refused)


def _report(refused: Sequence[str]) -> None:
    """Print what was not imported. Raises Finding if there is any."""
    if not refused:
        return
    *others, last = refused[:_LINES]
    for why in others:
        click.echo(f"lllm: {visible(why)}", err=True)
    left = len(refused) - _LINES
    more = f" And {left:,} more, which --json has." if left > 0 else ""
    raise Finding(f"{last}{more}")


def _import_transcripts(
    store: str | None, program: str, places: Sequence[str], *, follow: bool, as_json: bool
) -> None:
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress
    from lllm.importing.transcripts.import_transcripts import open_transcripts
    from lllm.store.log_store import LogStore

    with LogStore.open(store_location(store), on_error="raise") as opened:
        with progress("Importing") as report:
            importing = open_transcripts(opened, program, places)
            found = importing.read(report)
        with suppress(KeyboardInterrupt):
            while follow:
                click.echo(f"{counted(found.events, 'event')} imported", err=True)
                last = found
                while found == last:
                    time.sleep(_POLL)
                    found = importing.read()
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(asdict(found)).decode())
    else:
        new = f"{counted(found.sessions, 'session')}, {counted(found.events, 'event')}"
        here = f"; {counted(found.known, 'session')} already here" if found.known else ""
        click.echo(f"Imported from {counted(found.files, 'file')}: {new}{here}.")
        if found.unknown:
            kinds = ", ".join(f"{n:,} {visible(kind)!r}" for kind, n in found.unknown.items())
            click.echo(f"Lines of kinds that this version does not know: {kinds}.", err=True)
    _report(found.left_out)


def _follow_otlp(opened: LogStore, paths: Sequence[str]) -> ImportedOtlp:
    """Import files while they grow, until Ctrl-C."""
    from lllm.cli.render.formats import counted
    from lllm.importing.otlp.otlp_file import FollowedFiles

    following = FollowedFiles(opened, [Path(one) for one in paths])
    events = 0
    with suppress(KeyboardInterrupt):
        while True:
            found = following.read()
            if found.events != events:
                events = found.events
                click.echo(f"{counted(events, 'event')} imported", err=True)
            time.sleep(_POLL)
    return following.finish()


def _import_otlp(store: str | None, paths: Sequence[str], *, follow: bool, as_json: bool) -> None:
    from lllm.cli.render.formats import counted
    from lllm.cli.render.progress import progress
    from lllm.store.log_store import LogStore

    with LogStore.open(store_location(store), on_error="raise") as opened:
        if follow:
            found = _follow_otlp(opened, paths)
        else:
            with progress("Importing") as report:
                found = opened.import_otlp(*paths, progress=report)
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(asdict(found)).decode())
    else:
        new = f"{counted(found.sessions, 'session')}, {counted(found.events, 'event')}"
        here = f"; {counted(found.known, 'span')} already here" if found.known else ""
        click.echo(f"Imported from {counted(found.spans, 'new span')}: {new}{here}.")
        if found.repeated_calls:
            click.echo(f"{counted(found.repeated_calls, 'call')} counted in other sessions.")
    _report(found.left_out)
