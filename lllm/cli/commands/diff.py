"""`lllm diff`: where two recorded sessions differ, and what each took."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from lllm.cli.options import json_option, open_named, store_option

if TYPE_CHECKING:
    from lllm.replay.session_diff import SessionDiff


@click.command("diff")
@store_option
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--full", is_flag=True, help="Print long texts in full.")
@json_option
def diff(store: str | None, a: str, b: str, full: bool, as_json: bool) -> int:
    """Show where two sessions first differ, and compare their figures.

    A and B are IDs, or files that `lllm export --format jsonl` wrote. Two sessions are the same if
    their requests, answers and deliveries are the same; ids, times and costs are ignored.

    Exit code 0 means that they are the same, 1 that they differ.
    """
    found = _compared(store, a, b)
    try:
        if as_json:
            from lllm.cli.render.diff_json import as_object
            from lllm.cli.render.json_text import show_json

            show_json(as_object(found))
        else:
            from lllm.cli.render.console import stdout
            from lllm.cli.render.session_diff import show_diff

            show_diff(stdout(), found, full=full)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has stopped reading; the exit code stays
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if found.same else 1


def _compared(store: str | None, a: str, b: str) -> SessionDiff:
    from lllm.events.errors import SessionNotFound
    from lllm.replay.open_replay import read_session
    from lllm.replay.recording_file import is_file
    from lllm.replay.session_diff import ReadSession, diff_sessions
    from lllm.store.log_store import session_host

    with ExitStack() as stack:
        opened = None if is_file(a) and is_file(b) else stack.enter_context(open_named(store))
        host = None if opened is None else session_host(opened)
        try:
            sides = [
                one if opened is None or is_file(one) else opened.find_id(one) for one in (a, b)
            ]
            return diff_sessions(*(ReadSession(*read_session(one, host)) for one in sides))
        # it would end the command with 1, which means that they differ
        except SessionNotFound as error:
            raise click.UsageError(str(error)) from error
