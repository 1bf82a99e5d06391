"""Checks a user's filters of sessions, and converts them for the queries."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TypedDict

from lllm import times
from lllm.durations import Duration, duration_nanoseconds
from lllm.events.model import State
from lllm.events.values.json_values import to_plain
from lllm.packages.registry import Runtime
from lllm.projections.queries.filters import NO_CONDITIONS, Conditions, Filter
from lllm.projections.view import storable
from lllm.projections.views.annotations import value_text
from lllm.sessions.session_start import check_tags
from lllm.time_zones import zone_of
from lllm.times import Moment, nanoseconds_of

STATES: tuple[State, ...] = ("success", "failure", "running", "interrupted")


class ListFilters(TypedDict, total=False):
    """The filters of `LogStore.list_sessions`, as arguments of methods that take all of them."""

    tags: Mapping[str, str] | None
    state: State | None
    tactic_path: str | None
    after: Moment | None
    before: Moment | None
    tz: str | dt.tzinfo
    partition: str | None
    replays: bool
    annotations: Mapping[str, object] | None
    model: str | None
    agent: str | None
    error: int | str | None
    text: str | None
    min_cost: float | None
    max_cost: float | None
    slower: Duration | None
    faster: Duration | None
    wasted: bool


def filter_from(runtime: Runtime, given: ListFilters) -> Filter:
    """Make the filter that some arguments say; see `LogStore.list_sessions`.

    Args:
        runtime: Resolves the tactic's path.
        given: The arguments; those that are left out select nothing.

    Returns:
        The filter, as queries of the rows need it.

    Raises:
        TypeError: Tags are not str -> str, or a cost or duration is not one.
        ValueError: A state, a time, a zone, a cost or a duration is invalid.
    """
    conditions = conditions_of(
        model=given.get("model"), agent=given.get("agent"), error=given.get("error"),
        text=given.get("text"), min_cost=given.get("min_cost"), max_cost=given.get("max_cost"),
        slower=given.get("slower"), faster=given.get("faster"), wasted=given.get("wasted", False),
    )  # fmt: skip
    return filter_of(
        runtime, given.get("tags"), given.get("state"), given.get("tactic_path"),
        given.get("after"), given.get("before"), given.get("partition"), given.get("tz", dt.UTC),
        given.get("replays", False), given.get("annotations"), conditions,
    )  # fmt: skip


def filter_of(
    runtime: Runtime,
    tags: Mapping[str, str] | None,
    state: str | None,
    tactic_path: str | None,
    after: Moment | None,
    before: Moment | None,
    partition: str | None,
    tz: str | dt.tzinfo = dt.UTC,
    replays: bool = False,
    annotations: Mapping[str, object] | None = None,
    conditions: Conditions = NO_CONDITIONS,
) -> Filter:
    """Make the filter of a list or a sum; see `LogStore.list_sessions`.

    Args:
        runtime: Resolves the tactic's path.
        tags: Tags that a session must have.
        state: The state that a session must have; None for any.
        tactic_path: The tactic of the sessions, in any form that `runtime` resolves.
        after: Only sessions that began at this time or later.
        before: Only sessions that began before this time.
        partition: The partition of the sessions; None for all.
        tz: The time zone of `after` and `before` if they have no offset.
        replays: True to select replays, too.
        annotations: Names and values of annotations that a session must have; None for any value.
        conditions: The conditions of `conditions_of`.

    Returns:
        The filter, as queries of the rows need it.

    Raises:
        TypeError: Tags are not str -> str.
        ValueError: A state, a time or a zone is invalid.
    """
    zone, at = zone_of(tz), times.now()  # one present for both
    if state is not None and state not in STATES:
        raise ValueError(f"state is one of {', '.join(STATES)}; not {state!r}")
    return Filter(
        tags=check_tags(tags),
        state=state,
        tactic=None if tactic_path is None else runtime.resolve(tactic_path),
        partition=partition,
        after=None if after is None else nanoseconds_of(after, zone, at=at),
        before=None if before is None else nanoseconds_of(before, zone, at=at),
        replays=replays,
        annotations={
            storable(name): None if value is None else value_text(to_plain(value))
            for name, value in (annotations or {}).items()
        },
        conditions=conditions,
    )


def conditions_of(
    *,
    model: str | None = None,
    agent: str | None = None,
    error: int | str | None = None,
    text: str | None = None,
    min_cost: float | None = None,
    max_cost: float | None = None,
    slower: Duration | None = None,
    faster: Duration | None = None,
    wasted: bool = False,
) -> Conditions:
    """Make the conditions that are checked for each session; see `LogStore.list_sessions`.

    Args:
        model: A model that was requested; `*` matches anything.
        agent: An agent that called a model; `*` matches anything.
        error: An HTTP status, or a part of an error's text.
        text: A part of the task, of the error or of the tactic's path.
        min_cost: The lowest cost, in US dollars.
        max_cost: The highest cost, in US dollars.
        slower: The shortest duration.
        faster: The longest duration.
        wasted: True for sessions that have a wasted cost.

    Returns:
        The conditions, as queries of the rows need them.

    Raises:
        TypeError: A duration or a cost is not one.
        ValueError: A duration, a cost or the error is invalid.
    """
    statuses, said = (None, None) if error is None else error_of(error)
    return Conditions(
        model=model,
        agent=agent,
        error=said,
        statuses=statuses,
        text=None if not text else in_small_letters(text),
        least_nanos=None if min_cost is None else _nanos("min_cost", min_cost),
        most_nanos=None if max_cost is None else _nanos("max_cost", max_cost),
        least_elapsed=None if slower is None else duration_nanoseconds(slower),
        most_elapsed=None if faster is None else duration_nanoseconds(faster),
        wasted=wasted,
    )


def _nanos(name: str, cost: float) -> int:
    if not isinstance(cost, int | float) or isinstance(cost, bool):
        raise TypeError(f"{name} is an amount of dollars, not {cost!r}")
    if not 0 <= cost < 1e9:
        raise ValueError(f"{name} is an amount of dollars from 0 on, not {cost!r}")
    return round(cost * 1_000_000_000)


def error_of(error: int | str) -> tuple[tuple[int, int] | None, str | None]:
    """Split a user's filter of errors into the first and the last status, or a text.

    Args:
        error: An HTTP status, "5xx" for all from 500 on, or a part of an error's text.

    Returns:
        The statuses or None, and the text in small letters or None.

    Raises:
        ValueError: The error is neither.
    """
    if isinstance(error, int) and not isinstance(error, bool):
        return (error, error), None
    if not isinstance(error, str) or not error.strip():
        raise ValueError(f"error is an HTTP status, 5xx, or part of an error's text; not {error!r}")
    text = error.strip()
    if re.fullmatch(r"[1-9][0-9]{2}", text):
        return (int(text), int(text)), None
    if re.fullmatch(r"[1-9][xX]{2}", text):
        return (int(text[0]) * 100, int(text[0]) * 100 + 99), None
    return None, in_small_letters(text)


def in_small_letters(text: str) -> str:
    """Write the letters A to Z of a text as small ones, as SQLite's lower() does."""
    return re.sub("[A-Z]+", lambda upper: upper[0].lower(), text)
