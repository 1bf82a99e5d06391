"""Statistics of many attempts to call a model: errors, retries, percentiles of their times.

They are made for all attempts that a filter selects, and for groups of them: by model, by day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Literal, get_args

import msgspec

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.dataframe_rows import TableRow
from lllm.events.model import State
from lllm.projections.database import RowsConnection, RowsDatabase
from lllm.projections.days import local_time
from lllm.projections.queries import session_tags
from lllm.projections.queries.call_filter_sql import walk
from lllm.projections.queries.filters import CallFilter
from lllm.projections.queries.removed_calls import removed_calls
from lllm.projections.queries.rows import convert_rows
from lllm.projections.queries.sessions import reading
from lllm.projections.view import storable

CallGroup = Literal["model", "provider", "tactic", "agent", "day", "hour"]
CALL_GROUPS: tuple[CallGroup, ...] = get_args(CallGroup)
MOST = 200_000  # attempts that one summary reads


class CallStatistics(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """Statistics of some attempts to call a model.

    Percentiles are nearest-rank: the shortest time that at least this share of the attempts did not
    exceed. They include only answered attempts, and are None if there is none.

    Attributes:
        key: What the attempts have in common: the model, provider, tactic, agent, day (YYYY-MM-DD)
            or hour (YYYY-MM-DD HH:00); None for all of them.
        calls: The number of attempts.
        failed_calls: The number of attempts that failed.
        rate_limited_calls: The number of attempts that failed with HTTP status 429.
        retries: The number of attempts that were not the first try of their call.
        elapsed_p50: The time, in seconds, within which half of the answers were complete.
        elapsed_p95: The time, in seconds, within which 95 % of the answers were complete.
        elapsed_p99: The time, in seconds, within which 99 % of the answers were complete.
        first_token_p50: The time, in seconds, within which half of the streams sent their first
            piece.
        first_token_p95: The time, in seconds, within which 95 % of the streams sent their first
            piece.
    """

    key: str | None
    calls: int
    failed_calls: int
    rate_limited_calls: int
    retries: int
    elapsed_p50: float | None
    elapsed_p95: float | None
    elapsed_p99: float | None
    first_token_p50: float | None
    first_token_p95: float | None


class CallSummary(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """Statistics of the selected attempts, and of each group of them.

    Attributes:
        total: The statistics of all selected attempts.
        groups: The statistics of each group, the one with the most attempts first; days and hours
            in order of time.
        complete: False if more attempts match than are read at once. Then the statistics are those
            of the newest ones.
        removed_calls: The number of attempts in archived and erased sessions, which the statistics
            leave out: only their number and cost are left. The filters by tags, tactic, time (to
            the quarter of an hour), partition and requested model hold for it; others do not.
    """

    total: CallStatistics
    groups: list[CallStatistics]
    complete: bool
    removed_calls: int = 0


def call_summary(
    wanted: CallFilter, group_by: str | None, zone: dt.tzinfo
) -> Callable[[RowsDatabase], CallSummary]:
    """Check the arguments of a summary of attempts before anything is read.

    Args:
        wanted: The filter of the attempts.
        group_by: What the attempts of a group have in common, for example "model"; None for no
            groups.
        zone: The time zone in which days and hours begin.

    Returns:
        A function that reads the summary from the database of rows.

    Raises:
        ValueError: `group_by` is not one of the known groups.
    """
    if group_by is not None and group_by not in CALL_GROUPS:
        raise ValueError(f"group_by is one of {', '.join(CALL_GROUPS)}; not {group_by!r}")

    def read(database: RowsDatabase) -> CallSummary:
        with reading(database) as connection:
            found = call_timings(connection, wanted, MOST + 1)
            removed = removed_calls(connection, wanted)
        complete = len(found) <= MOST
        found = found[:MOST]
        return CallSummary(
            total=_statistics(None, found),
            groups=[] if group_by is None else _groups(found, group_by, zone),
            complete=complete,
            removed_calls=removed,
        )

    return read


def _groups(found: Sequence[CallTiming], group_by: str, zone: dt.tzinfo) -> list[CallStatistics]:
    by_key: dict[str, list[CallTiming]] = {}
    for one in found:
        by_key.setdefault(_key(one, group_by, zone), []).append(one)
    groups = [_statistics(key, members) for key, members in by_key.items()]
    if group_by in ("day", "hour"):
        return sorted(groups, key=lambda group: group.key or "")
    return sorted(groups, key=lambda group: (-group.calls, group.key or ""))


def _key(one: CallTiming, group_by: str, zone: dt.tzinfo) -> str:
    if group_by == "day":
        return f"{local_time(one.started, zone):%Y-%m-%d}"
    if group_by == "hour":
        return f"{local_time(one.started, zone):%Y-%m-%d %H}:00"
    value: str = getattr(one, group_by)
    return value


def _statistics(key: str | None, members: Sequence[CallTiming]) -> CallStatistics:
    answered = [one for one in members if one.state == "success"]
    elapsed = sorted(one.elapsed for one in answered if one.elapsed is not None)
    first = sorted(one.first_token for one in answered if one.first_token is not None)
    return CallStatistics(
        key=key,
        calls=len(members),
        failed_calls=sum(one.state == "failure" for one in members),
        rate_limited_calls=sum(one.status == 429 for one in members),
        retries=sum(one.attempt > 1 for one in members),
        elapsed_p50=_percentile(elapsed, 50),
        elapsed_p95=_percentile(elapsed, 95),
        elapsed_p99=_percentile(elapsed, 99),
        first_token_p50=_percentile(first, 50),
        first_token_p95=_percentile(first, 95),
    )


def _percentile(ordered: Sequence[int], percent: int) -> float | None:
    """Return the nearest-rank percentile of sorted nanoseconds, in seconds; None without any."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, rank - 1)] / 1_000_000_000


# -- reading the attempts

_ROW = """SELECT s.number, s.root, s.tactic, k.agent, k.provider,
    CASE WHEN k.model = '' THEN k.asked ELSE k.model END,
    CASE WHEN f.state = 'running' AND s.state <> 'running' THEN 'interrupted' ELSE f.state END,
    f.status, f.attempt, f.started, f.elapsed, f.first_token
FROM (
    SELECT c.session, c.kind, c.state, c.status, c.attempt, c.started, c.elapsed, c.first_token
    {} ORDER BY c.started DESC LIMIT ?
) AS f
CROSS JOIN sessions AS s ON s.number = f.session
CROSS JOIN call_kinds AS k ON k.kind = f.kind"""


@warm_msgspec
class CallTiming(msgspec.Struct, frozen=True, array_like=True):
    """The outcome and the duration of one attempt.

    Attributes:
        number: The number of the attempt's session.
        root: The number of the root session.
        model: The model that answered; the requested model if none did.
        state: "success", "failure", "running" or "interrupted".
        status: The HTTP status of a failed attempt.
        attempt: The number of the attempt within its turn, from 1.
        started: The start of the attempt, nanoseconds UTC.
        elapsed: Nanoseconds from the request to the end of the answer; None if it has not ended.
        first_token: Nanoseconds to the first piece of a stream; None without one.
    """

    number: int
    root: int
    tactic: str
    agent: str
    provider: str
    model: str
    state: State
    status: int | None
    attempt: int
    started: int
    elapsed: int | None
    first_token: int | None


def call_timings(connection: RowsConnection, wanted: CallFilter, limit: int) -> list[CallTiming]:
    """Read the newest attempts that a filter selects.

    Args:
        connection: A connection to the database of the rows.
        wanted: The filter of the attempts.
        limit: The greatest number of attempts.

    Returns:
        The attempts, newest first.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    parts = [
        convert_rows(
            connection.execute(
                _ROW.format(selection.sql), (*selection.parameters, limit)
            ).fetchall(),
            list[CallTiming],
            "calls",
        )
        for selection in walk(connection, wanted, "started", None).selections
    ]
    started = attrgetter("started")
    in_order = merge(
        *(sorted(part, key=started, reverse=True) for part in parts), key=started, reverse=True
    )
    if not wanted.of.tags:
        return list(islice(in_order, limit))
    found = list(in_order)
    tags = session_tags.tags_of(connection, found)
    needed = {storable(name): storable(value) for name, value in wanted.of.tags.items()}.items()
    return [one for one in found if needed <= tags[one.number].items()][:limit]
