"""Options that several commands of the command line share, and what is made of their texts."""

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
_ZONE = "lllm.zone"  # where a context keeps it, and who asked
_GROUPS = ("tactic", "model", "agent", "day")


class Filters(TypedDict):
    """Which sessions are meant, in the words of `LogStore.list_sessions`."""

    tags: dict[str, str]
    state: State | None
    tactic_path: str | None
    after: dt.datetime | None
    before: dt.datetime | None
    partition: str | None


def as_tags(ctx: click.Context, param: click.Parameter, pairs: Sequence[str]) -> dict[str, str]:
    """Texts like KEY=VALUE as tags. Raises click.BadParameter for what is none."""
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{pair!r} is no tag; write it as KEY=VALUE.", ctx, param)
        if tags.setdefault(name, value) != value:
            raise click.BadParameter(f"{name!r} is given two values.", ctx, param)
    return tags


def as_moment(ctx: click.Context, param: click.Parameter, text: str | None) -> dt.datetime | None:
    """What `lllm.times.parse_time` reads, of the zone that the command is asked for. Raises
    click.BadParameter."""
    if text is None:
        return None
    from lllm.times import parse_time

    try:
        return parse_time(text, zone())
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def as_groups(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """What to sum up by, each once. Raises click.BadParameter."""
    for text in texts:
        if text not in _GROUPS and (text == "tag:" or not text.startswith("tag:")):
            listed = ", ".join(_GROUPS)
            raise click.BadParameter(f"{text!r} is not one of {listed} or tag:KEY.", ctx, param)
        if texts.count(text) > 1:
            raise click.BadParameter(f"{text!r} is given twice.", ctx, param)
    return texts


def _as_zone(ctx: click.Context, param: click.Parameter, given: str | bool | None) -> None:
    """Keep the zone that is asked for, behind the command or before it. Raises click.BadParameter
    for one that there isn't, click.UsageError where there are two."""
    name = "UTC" if given is True else given
    if not name:
        return
    from lllm.times import zone_of

    before: tuple[click.Context, dt.tzinfo] | None = ctx.meta.get(_ZONE)
    if before is not None and before[0] is ctx:
        raise click.UsageError("Either --utc or --tz; not both.", ctx)
    try:
        ctx.meta[_ZONE] = (ctx, zone_of(name))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def zone(default: dt.tzinfo | None = None) -> dt.tzinfo:
    """The zone in which the running command reads and shows times.

    default: where none is asked for; None for the local one.
    """
    from lllm.times import LOCAL

    asked: tuple[click.Context, dt.tzinfo] | None = click.get_current_context().meta.get(_ZONE)
    return asked[1] if asked is not None else LOCAL if default is None else default


def zone_options(command: F) -> F:
    """Give a command `--utc` and `--tz`; `zone` says what they ask for."""
    options = (
        click.option("--utc", is_flag=True, is_eager=True, expose_value=False, callback=_as_zone,
                     help="Times and days of UTC."),
        click.option("--tz", metavar="ZONE", is_eager=True, expose_value=False, callback=_as_zone,
                     help="Times and days of this zone, as Europe/Berlin.  [default: local]"),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


store_option = click.option(
    "--store", metavar="PATH", help="An SQLite file or a folder.  [default: $LLLM_STORE]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
id_argument = click.argument("prefix", metavar="ID")


def with_filters(command: F) -> F:
    """Give a command the options that `Filters` names."""
    options = (
        click.option("--tag", "tags", metavar="K=V", multiple=True, callback=as_tags,
                     help="Only sessions with this tag; repeat it for several."),
        click.option("--state", metavar="STATE", type=click.Choice(_STATES),
                     help="Only success, failure, running or interrupted ones."),
        click.option("--tactic", "tactic_path", metavar="PATH",
                     help="Only calls of this tactic, at any depth."),
        click.option("--after", metavar="WHEN", callback=as_moment,
                     help="Only what began then or later: 7d or 12h ago, today, yesterday, "
                     "2026-01-31, 2026-01-31T18:00, 2026-01-31T18:00+01:00."),
        click.option("--before", metavar="WHEN", callback=as_moment,
                     help="Only what began earlier than then."),
        click.option("--partition", metavar="NAME", help="Only sessions of this partition."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return zone_options(command)


def open_named(given: str | None, *, on_error: OnError = "hold") -> LogStore:
    """The store of a --store behind the command, or before it, or of LLLM_STORE.

    on_error: as LogStore's. Raises click.UsageError where none is named, StoreError and LogError
    as `open_store`.
    """
    from lllm.cli.open_store import open_store

    return open_store(named(given), on_error=on_error)


def named(given: str | None) -> str:
    """The path of that store. Raises click.UsageError where none is named."""
    from lllm.cli.open_store import named_in_environment

    path = given or given_before() or named_in_environment()
    if path is None:
        raise click.UsageError("Which store? Give --store PATH, or set LLLM_STORE to its path.")
    return path


def given_before() -> str | None:
    """The path of a --store that stands before the command."""
    path: str | None = click.get_current_context().find_root().params.get("store")
    return path


@contextmanager
def asked_well() -> Iterator[None]:
    """What the store refuses (a cursor, a tactic that may be several) was asked wrongly."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error
