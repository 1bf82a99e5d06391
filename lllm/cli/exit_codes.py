"""Ends a command with an exit code, and with one line on stderr for an error.

    0    done
    1    nothing was found, or a check failed
    2    what was asked can't be done: an option, a path, a store that can't be opened
    3    `lllm verify` found nothing wrong, and can't know all that it was asked
    125  `lllm replay` has no verdict, which `git bisect run` takes as: skip this commit
    130  stopped with Ctrl-C

A reader that goes away (`lllm ls | head`) ends the command quietly.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from lllm.events.errors import ErasureRefused, LllmError, SessionNotFound, SessionWasErased


class Finding(Exception):
    """Ends a command with exit code 1: nothing was found, or a check failed."""


class NotKnown(Finding):
    """Ends a command with exit code 3: nothing is wrong, and not all can be known."""

    exit_code = 3


class NoVerdict(Exception):
    """A command that judges code for `git bisect run` can't. The message says why."""


class JudgingCommand(click.Command):
    """A command for `git bisect run`: whatever goes wrong is no verdict of the code.

    Git takes 1 to 124 and 126 to 127 as a verdict, and 125 as none
    (https://git-scm.com/docs/git-bisect#_bisect_run).
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """See click.Command."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise NoVerdict(error.format_message()) from error

    def invoke(self, ctx: click.Context) -> object:
        """See click.Command."""
        try:
            result: object = super().invoke(ctx)
            return result
        except click.ClickException as error:
            raise NoVerdict(error.format_message()) from error
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise NoVerdict(_error_text(error)) from error


class _ReaderGone(Exception):
    """The reader of the output has stopped reading."""


class CommandLine(click.Group):
    """A group of commands, which `--help` lists in the order of their definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group, which sorts them."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """See click.Group."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # with which click would end with 1, which is something else here
            raise _ReaderGone from None
        return result


def run(command: click.Command, arguments: Sequence[str] | None) -> int:
    """Run a command; errors are reported on one line of stderr.

    Args:
        command: The command.
        arguments: Without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that can't show a character gets its escape, and never an error.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    with warnings.catch_warnings(), _log_on_stderr():
        warnings.showwarning = _show_warning
        try:
            ended = command.main(arguments, prog_name="lllm", standalone_mode=False)
        except click.ClickException as error:
            _print_error(error.format_message())
            return 2
        except click.Abort:
            return 130
        except _ReaderGone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except NoVerdict as error:
            _print_error(str(error))
            return 125
        except (Finding, SessionNotFound, SessionWasErased, ErasureRefused) as error:
            _print_error(str(error))
            return int(getattr(error, "exit_code", 1))
        except (LllmError, OSError, sqlite3.Error) as error:
            _print_error(_error_text(error))
            return 2
        else:
            return ended if isinstance(ended, int) else 0
    return 0


def _error_text(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, LllmError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _print_error(message: str) -> None:
    from lllm.terminal_safe import visible

    click.echo(f"lllm: {visible(' '.join(message.split()))}", err=True)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Print log lines of a store as lines of the command on stderr."""
    # Without a handler, `logging` would print it as it is, with whatever somebody wrote into the
    # store.
    logger, handler = logging.getLogger("lllm.store"), _StderrHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StderrHandler(logging.Handler):
    """Prints log lines as lines of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        _print_error(record.getMessage())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line, without its place in the code."""
    _print_error(str(message))
