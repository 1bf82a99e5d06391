"""The page of health: how many model calls failed or were retried, and how long they took."""

from __future__ import annotations

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
    shared = urlencode([("after", after), *([("before", query.before)] if query.before else [])])
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
        slowest=max((one.elapsed_p95 or 0.0 for one in times), default=0.0),
        shared=shared,
    )


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
