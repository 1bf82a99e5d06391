"""Defines the options that several commands share, and parses their values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

if TYPE_CHECKING:
    from lllm.events.buffered import OnError
    from lllm.events.model import State
    from lllm.store.log_store import LogStore

F = TypeVar("F", bound=Callable[..., object])
_STATES = ("success", "failure", "running", "interrupted")
_ZONE = "lllm.zone"  # the key in click's context for the zone and the command that set it
_GROUPS = ("tactic", "model", "agent", "day")


class Filters(TypedDict):
    """The filter arguments of `LogStore.list_sessions`, as the command line gives them."""

    tags: dict[str, str]
    state: State | None
    tactic_path: str | None
    after: dt.datetime | None
    before: dt.datetime | None
    partition: str | None


def as_tags(ctx: click.Context, param: click.Parameter, pairs: Sequence[str]) -> dict[str, str]:
    """Parse tags from texts like KEY=VALUE, as a callback of click.

    Args:
        ctx: The context of the running command.
        param: The option or argument that is parsed.
        pairs: The texts, each KEY=VALUE.

    Returns:
        The tags, by name.

    Raises:
        click.BadParameter: A text is not a tag, or a tag has two values.
    """
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{pair!r} is not a tag; write it as KEY=VALUE.", ctx, param)
        if tags.setdefault(name, value) != value:
            raise click.BadParameter(f"{name!r} has two values.", ctx, param)
    return tags


def as_moment(ctx: click.Context, param: click.Parameter, text: str | None) -> dt.datetime | None:
    """Parse a time, as a callback of click; see `lllm.times.parse_time`.

    Args:
        ctx: The context of the running command.
        param: The option that is parsed.
        text: The value of the option; None if it was not given. A time without an offset is in the
            command's time zone.

    Returns:
        The time; None if the option was not given.

    Raises:
        click.BadParameter: The text is not a time.
    """
    if text is None:
        return None
    from lllm.times import parse_time

    try:
        return parse_time(text, zone())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def as_point(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> int | dt.datetime | None:
    """Parse a position of the log or a time.

    Args:
        ctx: The context of the running command.
        param: The option that is parsed.
        text: The value of the option; None if it was not given. Digits alone are a position,
            anything else is a time as `as_moment` parses it.

    Returns:
        The position or the time; None if the option was not given.

    Raises:
        click.BadParameter: The text is neither a position nor a time.
    """
    if text is not None and text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    return as_moment(ctx, param, text)


def as_groups(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """Check the groups of a cost summary, as a callback of click.

    Args:
        ctx: The context of the running command.
        param: The option that is parsed.
        texts: The names of the groups, the outermost first.

    Returns:
        The same names.

    Raises:
        click.BadParameter: A name is not a group, or appears twice.
    """
    for text in texts:
        if text not in _GROUPS and (text == "tag:" or not text.startswith("tag:")):
            listed = ", ".join(_GROUPS)
            raise click.BadParameter(f"{text!r} is not one of {listed} or tag:KEY.", ctx, param)
        if texts.count(text) > 1:
            raise click.BadParameter(f"{text!r} is given twice.", ctx, param)
    return texts


def _as_zone(ctx: click.Context, param: click.Parameter, given: str | bool | None) -> None:
    """Remember the zone given before or after the command."""
    name = "UTC" if given is True else given
    if not name:
        return
    from lllm.time_zones import zone_of

    before: tuple[click.Context, dt.tzinfo] | None = ctx.meta.get(_ZONE)
    if before is not None and before[0] is ctx:
        raise click.UsageError("Either --utc or --tz; not both.", ctx)
    try:
        ctx.meta[_ZONE] = (ctx, zone_of(name))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def zone(default: dt.tzinfo | None = None) -> dt.tzinfo:
    """Get the time zone in which the running command reads and shows times.

    Args:
        default: The zone to use if the user named none; None for the local one.

    Returns:
        The time zone.
    """
    from lllm.time_zones import local_zone

    asked: tuple[click.Context, dt.tzinfo] | None = click.get_current_context().meta.get(_ZONE)
    return asked[1] if asked is not None else local_zone() if default is None else default


def zone_options(command: F) -> F:
    """Add the options `--utc` and `--tz` to a command; `zone` returns the result.

    Args:
        command: The function of the command.

    Returns:
        The same function.
    """
    return _with_options(
        command,
        click.option("--utc", is_flag=True, is_eager=True, expose_value=False, callback=_as_zone,
                     help="Show and read times and days in UTC."),
        click.option("--tz", metavar="ZONE", is_eager=True, expose_value=False, callback=_as_zone,
                     help="Use this time zone, for example Europe/Berlin.  [default: local]"),
    )  # fmt: skip


def _with_options(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


store_option = click.option(
    "--store",
    metavar="PATH",
    help="An SQLite file, a folder, or a postgresql:// URL.  [default: $LLLM_STORE]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", default=20, show_default=True,
    help="The greatest number of items to list; 0 for all.",
)  # fmt: skip
cursor_option = click.option(
    "--cursor",
    metavar="CURSOR",
    help="Print the next page; the previous page ends with this cursor.",
)
id_argument = click.argument("prefix", metavar="ID")


def with_filters(command: F) -> F:
    """Add the options for `Filters` to a command, such as --tag and --after.

    Args:
        command: The function of the command.

    Returns:
        The same function, with the options.
    """
    command = _with_options(
        command,
        click.option("--tag", "tags", metavar="K=V", multiple=True, callback=as_tags,
                     help="Only sessions with this tag; can be given several times."),
        click.option("--state", metavar="STATE", type=click.Choice(_STATES),
                     help="Only with this state: success, failure, running or interrupted."),
        click.option("--tactic", "tactic_path", metavar="PATH",
                     help="Only calls of this tactic, at any depth."),
        click.option("--after", metavar="WHEN", callback=as_moment,
                     help="Only from this time on: 7d or 12h (ago), today, yesterday, 2026-01-31, "
                     "2026-01-31T18:00 or 2026-01-31T18:00+01:00."),
        click.option("--before", metavar="WHEN", callback=as_moment,
                     help="Only from before this time, in the same forms."),
        click.option("--partition", metavar="NAME", help="Only sessions of this partition."),
    )  # fmt: skip
    return zone_options(command)


def open_named(given: str | None, *, on_error: OnError = "hold") -> LogStore:
    """Open the store that the user named; see `store_location`.

    Args:
        given: The value of --store after the command; None if it was not given.
        on_error: What to do if the log can't be written: "hold" events in memory, or "raise".

    Returns:
        The store; the caller closes it.

    Raises:
        click.UsageError: No store is named.
        StoreError: There is no store at the named place.
        LogError: The store can't be opened.
    """
    from lllm.cli.open_store import open_store

    return open_store(store_location(given), on_error=on_error)


def store_location(given: str | None) -> str:
    """Find the user's store: --store after the command, before it, or LLLM_STORE.

    Args:
        given: The value of --store after the command; None if it was not given.

    Returns:
        The path or URL of the store.

    Raises:
        click.UsageError: No store is named.
    """
    from lllm.cli.open_store import named_in_environment

    path = given or given_before() or named_in_environment()
    if path is None:
        raise click.UsageError("Which store? Give --store PATH, or set LLLM_STORE to its path.")
    return path


def given_before() -> str | None:
    """Get the value of --store before the command; None if it was not given."""
    path: str | None = click.get_current_context().find_root().params.get("store")
    return path


@contextmanager
def usage_errors() -> Iterator[None]:
    """Report an error in the arguments, such as an ambiguous tactic, as a usage error."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def print_next_cursor(cursor: str) -> None:
    """Print on stderr how to get the next page.

    Args:
        cursor: The cursor of the last item on the page.
    """
    from lllm.terminal_safe import visible

    click.echo(f"There are more; continue with: --cursor {visible(cursor)}", err=True)
