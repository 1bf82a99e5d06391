"""What a user filters sessions by, checked and in the terms of the rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from lllm.events.model import State
from lllm.projections.selection import Filter
from lllm.runtime import Runtime
from lllm.session import check_tags
from lllm.summaries import nanoseconds_of

STATES: tuple[State, ...] = ("success", "failure", "running", "interrupted")


def filter_of(
    runtime: Runtime,
    tags: Mapping[str, str] | None,
    state: str | None,
    tactic_path: str | None,
    after: dt.datetime | None,
    before: dt.datetime | None,
    partition: str | None,
) -> Filter:
    """The filter of a list or a sum; `tactic_path` in any form that `runtime` resolves.

    Raises TypeError for tags that are not str -> str, ValueError for a state that there isn't.
    """
    if state is not None and state not in STATES:
        raise ValueError(f"state is one of {', '.join(STATES)}; not {state!r}")
    return Filter(
        tags=check_tags(tags),
        state=state,
        tactic=None if tactic_path is None else runtime.resolve(tactic_path),
        partition=partition,
        after=None if after is None else nanoseconds_of(after),
        before=None if before is None else nanoseconds_of(before),
    )
