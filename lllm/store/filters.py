"""Checks a user's filters of sessions, and converts them for the queries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from lllm import times
from lllm.events.model import State
from lllm.events.values.json_values import to_plain
from lllm.packages.registry import Runtime
from lllm.projections.queries.filters import Filter
from lllm.projections.view import storable
from lllm.projections.views.annotations import value_text
from lllm.sessions.session_start import check_tags
from lllm.time_zones import zone_of
from lllm.times import Moment, nanoseconds_of

STATES: tuple[State, ...] = ("success", "failure", "running", "interrupted")


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
    )
