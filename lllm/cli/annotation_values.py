"""Parses the values of annotations on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click


def parse_value(text: str) -> object:
    """Parse a value: a text that is not JSON stands for itself.

    Args:
        text: The text on the command line.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def as_annotations(
    ctx: click.Context, param: click.Parameter, texts: Sequence[str]
) -> dict[str, object]:
    """Parse filters by annotations, written as NAME=VALUE, as a callback of click.

    Args:
        ctx: The running command.
        param: The option.
        texts: The texts; a NAME alone stands for any value.

    Returns:
        The values by the names of the annotations; None for any value.

    Raises:
        click.BadParameter: A text has no name.
    """
    wanted: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise click.BadParameter(f"{text!r} has no name; write NAME=VALUE.", ctx, param)
        wanted[name] = parse_value(value) if equals else None
    return wanted


annotation_option = click.option(
    "--annotation", "annotations", metavar="NAME[=VALUE]", multiple=True, callback=as_annotations,
    help="Only sessions with this annotation; can be given several times.",
)  # fmt: skip
