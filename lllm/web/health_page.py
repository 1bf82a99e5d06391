"""The page of health: how many model calls failed or were retried, and how long they took."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from lllm.cli.render.formats import counted
from lllm.projections.queries.call_statistics import CALL_GROUPS, CallGroup, CallSummary
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages


def health_page(pages: StorePages, request: Request) -> Response:
    """Answer with statistics of the calls that the address selects, by model and in time.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose address has filters of sessions, `model` and `by`. Without
            `after`, it covers the last seven days.
    """
    query = ListQuery.of(request.query_params.multi_items())
    model = request.query_params.get("model", "").strip()
    by = request.query_params.get("by") or "model"
    after = query.after or "7d"

    def summarized(group_by: str) -> CallSummary:
        return pages.store.summarize_calls(
            group_by=_as_group(group_by),
            model=model or None,
            tactic_path=query.tactic or None,
            tags=query.facets()["tags"],
            after=after,
            before=query.before or None,
            tz=pages.zone,
            partition=query.partition or None,
        )

    summary = summarized(by)
    times = summarized("hour" if after in ("1d", "today", "yesterday") else "day").groups
    chosen = [("model", model), ("tactic", query.tactic), *(("tag", pair) for pair in query.tag)]
    chosen += [("partition", query.partition), ("after", after), ("before", query.before)]
    chosen = [(name, value) for name, value in chosen if value]

    def calls_with(*changes: tuple[str, str]) -> str:
        """Make the address of the calls that the page sums up, with other filters besides."""
        names = {name for name, _ in changes}
        kept = [(name, value) for name, value in chosen if name not in names]
        return f"/calls?{urlencode([*changes, *kept])}"

    def calls_of(group: str | None) -> str | None:
        if by in ("day", "hour") and group:
            return calls_with(("sort", "elapsed"), *_span(group))
        if by not in ("model", "provider", "tactic") or not group:
            return None  # the list of calls has no such filter
        return calls_with((by, group), ("sort", "elapsed"))

    return pages.render(
        request,
        "health.html",
        query=query,
        model=model,
        by=by,
        after=after,
        period=_period(after, query.before),
        all_groups=CALL_GROUPS,
        groups=summary.groups,
        total=summary.total,
        complete=summary.complete,
        removed=summary.removed_calls,
        times=times,
        calls_of=calls_of,
        calls_at=lambda time: calls_with(*_span(time)),
        failed_calls=calls_with(("state", "failure")),
        limited_calls=calls_with(("error", "429")),
        slowest=max((one.elapsed_p95 or 0.0 for one in times), default=0.0),
    )


def _span(began: str) -> list[tuple[str, str]]:
    """Return the filters for a day, as "2026-01-31", or an hour, as "2026-01-31 18:00"."""
    begin = dt.datetime.fromisoformat(began)
    if " " not in began:
        return [("after", began), ("before", f"{begin + dt.timedelta(days=1):%Y-%m-%d}")]
    end = begin + dt.timedelta(hours=1)
    return [("after", f"{begin:%Y-%m-%dT%H:%M}"), ("before", f"{end:%Y-%m-%dT%H:%M}")]


def _period(after: str, before: str) -> str:
    """Say in words which time the figures cover."""
    ago = re.fullmatch(r"([0-9]+)([dh])", after)
    until = f" until {before}" if before else ""
    if ago is None:
        return f"since {after}{until}"
    number = int(ago[1])
    return f"in the last {counted(number, 'day' if ago[2] == 'd' else 'hour')}{until}"


def _as_group(text: str) -> CallGroup:
    return text  # type: ignore[return-value]  # the store checks it
