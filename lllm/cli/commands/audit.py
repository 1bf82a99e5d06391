"""The command `lllm audit`: a report for people who have to account for what happened."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Unpack

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import (
    Filters,
    as_moment,
    open_named,
    store_option,
    usage_errors,
    with_filters,
    zone,
)
from lllm.terminal_safe import visible

_FILE = click.Path(dir_okay=False, path_type=Path)
_GIVEN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("audit")
@store_option
@click.argument("prefix", metavar="[ID]", required=False)
@with_filters
@click.option("--since", metavar="WHEN", callback=as_moment, help="Another name of --after.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", default=100, show_default=True,
              help="The greatest number of sessions to report, the latest first; 0 for "
              "all.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("text", "markdown", "html")), default="text",
              show_default=True, help="For a terminal, or one self-contained file.",
              )  # fmt: skip
@click.option("-o", "--output", type=_FILE, metavar="FILE",
              help="Write to this file instead of printing.")  # fmt: skip
@click.option("--full", is_flag=True, help="Show long texts in full.")
@click.option("--checkpoint", type=_GIVEN, metavar="FILE",
              help="Prove the sessions with this seal instead of one that is made now.",
              )  # fmt: skip
@click.option("--key", type=_GIVEN, metavar="KEY.pub", help="The key that signed that seal.")
def audit(
    store: str | None,
    prefix: str | None,
    since: dt.datetime | None,
    limit: int,
    form: str,
    output: Path | None,
    full: bool,
    checkpoint: Path | None,
    key: Path | None,
    **filters: Unpack[Filters],
) -> None:
    """Report who ran what, with which result, and how to check it.

    It covers one session and its descendants, or all sessions that match the filters: who ran what
    and when, with which models, prompts and tools in which versions; each decision and tool call
    with its result, also if it failed, was refused or never ended; what people did with the session
    later; its cost, and the calls without a known price; missing events; and the proof.
    """
    if since is not None and filters["after"] is not None:
        raise click.UsageError("Give --since or --after, not both.")
    filters["after"] = filters["after"] or since
    if prefix is not None and any(filters.values()):
        raise click.UsageError("Give one session by its ID, or filters; not both.")
    if key is not None and checkpoint is None:
        raise click.UsageError("--key is of a seal: give --checkpoint, too.")
    from lllm.audit.keys import read_public_key
    from lllm.audit.report import audit_report
    from lllm.audit.report.compose import compose
    from lllm.audit.signed_note import decode_text

    with open_named(store) as opened, usage_errors():
        if prefix is not None:
            chosen, more = [opened.find_id(prefix)], False
            asked = "Asked for: one session, with those below it."
        else:
            found = opened.list_sessions(limit=limit + 1 if limit else None, **filters)
            page = found[:limit] if limit else found
            chosen, more = [one.session_id for one in reversed(page)], len(found) > len(page)
            asked = _asked(filters)
        if not chosen:
            raise Finding("No session matches.")
        report = audit_report(
            opened,
            chosen,
            asked=asked,
            more=more,
            checkpoint=None if checkpoint is None else decode_text(checkpoint.read_bytes()),
            key=None if key is None else read_public_key(key),
        )
    document = compose(report, zone(), full=full)
    if form == "text" and output is None:
        from lllm.cli.render.console import stdout
        from lllm.cli.render.document import show_document

        show_document(stdout(), document)
        return
    from lllm.audit.report.html_page import html_page
    from lllm.audit.report.markdown import markdown
    from lllm.cli.render.document import plain_text
    from lllm.events.files.own_files import open_new_output

    text = {"html": html_page, "markdown": markdown, "text": plain_text}[form](document)
    if output is None:
        click.echo(text, nl=False)
        return
    with open(output, "w", encoding="utf-8", newline="\n", opener=open_new_output) as file:
        file.write(text)
    click.echo(f"{visible(str(output))}: {len(report.sessions):,} sessions.")


def _asked(filters: Filters) -> str:
    """Describe the selection of sessions in a sentence."""
    said = [f"{name} {value}" for name, value in filters.items() if value and name != "tags"]
    said += [f"tag {name}={value}" for name, value in filters["tags"].items()]
    asked = f"sessions with {', '.join(said)}" if said else "all sessions"
    return f"Asked for: {asked}."
