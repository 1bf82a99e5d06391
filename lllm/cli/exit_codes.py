"""Ends a command with an exit code, and with one line on stderr for an error.

    0    done
    1    nothing was found, or a check failed
    2    the command can't be done: a wrong option or path, a store that can't be opened
    3    `lllm verify` found nothing wrong, but could not check everything
    125  `lllm replay` has no verdict; `git bisect run` then skips the commit
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

from lllm.events.errors import (
    ErasureRefused,
    LllmError,
    SessionNotFound,
    SessionWasArchived,
    SessionWasErased,
)


class Finding(Exception):
    """Ends a command with exit code 1: nothing was found, or a check failed."""


_FINDINGS = (Finding, SessionNotFound, SessionWasErased, SessionWasArchived, ErasureRefused)


class NotKnown(Finding):
    """Ends a command with exit code 3: nothing is wrong, but not everything could be checked."""

    exit_code = 3


class NoVerdict(Exception):
    """Ends a command with exit code 125: it could not judge the code. The message says why."""


class JudgingCommand(click.Command):
    """A command for `git bisect run`: an error of the command is no verdict on the code.

    Git takes exit codes 1 to 124, 126 and 127 as "bad", and 125 as "skip"
    (https://git-scm.com/docs/git-bisect#_bisect_run).
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments; wrong ones end the command with exit code 125."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            raise NoVerdict(error.format_message()) from error

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error ends it with exit code 125."""
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
        """List the commands in the order of their definition; click.Group sorts them by name."""
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # click would end with exit code 1, which has another meaning here
            raise _ReaderGone from None
        return result


def run(command: click.Command, arguments: Sequence[str] | None) -> int:
    """Run a command; errors are reported on one line of stderr.

    Args:
        command: The command to run.
        arguments: The arguments without the program's name; None for those of the process.

    Returns:
        The exit code, as listed at the top of this module.
    """
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal or pipe can't show is replaced by its escape.
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
        except _FINDINGS as error:
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
    # Without a handler, `logging` would print the text unescaped, and it may hold anything that was
    # written into the store.
    logger, handler = logging.getLogger("lllm.store"), _StderrHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StderrHandler(logging.Handler):
    """Prints log lines as lines of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log line as a line of the command on stderr."""
        _print_error(record.getMessage())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line, without its place in the code."""
    _print_error(str(message))
