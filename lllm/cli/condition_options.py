"""Defines the options that select sessions by what they cost, took and called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

import click

from lllm.cli.annotation_values import annotation_option
from lllm.cli.options import Filters, with_filters

F = TypeVar("F", bound=Callable[..., object])


class ConditionOptions(TypedDict):
    """The arguments of `LogStore.list_sessions` for these options."""

    model: str | None
    agent: str | None
    error: str | None
    text: str | None
    min_cost: float | None
    max_cost: float | None
    slower: str | None
    faster: str | None
    wasted: bool


class SessionFilters(Filters, ConditionOptions):
    """All filter arguments of `LogStore.list_sessions` and `export_cost_summary`."""

    annotations: dict[str, object]


def with_session_filters(command: F) -> F:
    """Add the options for `SessionFilters` to a command.

    Args:
        command: The function of the command.

    Returns:
        The same function, with the options.
    """
    command = annotation_option(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return with_filters(command)


def any_given(filters: Mapping[str, object]) -> bool:
    """Return True if the user gave a filter, also one whose value is 0.

    Args:
        filters: The arguments of `SessionFilters`.
    """
    return any(one is not None and one is not False and one != {} for one in filters.values())


_OPTIONS = (
    click.option("--model", metavar="NAME",
                 help="Only sessions in which this model was requested; * matches anything."),
    click.option("--agent", metavar="NAME",
                 help="Only sessions in which this agent called a model; * matches anything."),
    click.option("--error", metavar="WHAT",
                 help="Only sessions that failed with this error, or in which a call did: 429, "
                      "5xx, or a part of the error's text."),
    click.option("--text", metavar="TEXT",
                 help="Only sessions with this text in the task, the error or the tactic."),
    click.option("--min-cost", type=float, metavar="DOLLARS",
                 help="Only sessions that cost this much or more."),
    click.option("--max-cost", type=float, metavar="DOLLARS",
                 help="Only sessions that cost this much or less."),
    click.option("--slower", metavar="TIME",
                 help="Only sessions that took this long or longer: 5s, 500ms, 2min."),
    click.option("--faster", metavar="TIME", help="Only sessions that took this long or less."),
    click.option("--wasted", is_flag=True,
                 help="Only sessions in which money was wasted on answers that were not used."),
)  # fmt: skip
