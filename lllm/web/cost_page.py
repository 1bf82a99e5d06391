"""The page of costs: the money spent by day, tactic, model, agent or tag, and wasted money."""

from __future__ import annotations

import datetime as dt

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lllm.pricing.cost_summary import CostGroup
from lllm.web.cost_over_time import days_of, named_groups
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages

_GROUPS = ("tactic", "model", "agent", "day")
# What the table counts, by its groups.
_COUNTED = {
    "tactic": (
        "Each call of a model counts once, for the tactic that made it itself. What its "
        "sub-tactics spent stands in their own rows, so the sessions that a row leads to, which "
        "count everything below them, may have cost more."
    ),
    "model": (
        "Each call counts once, for the model that was called. The sessions that a row leads to "
        "called other models, too, perhaps, and count them."
    ),
    "agent": (
        "Each call counts once, for the agent that made it. The sessions that a row leads to count "
        "their other agents, too."
    ),
    "day": "Each call counts once, on the day on which it was made, also in sub-tactics.",
    "tag": (
        "Each call counts once, for the value that the tag has in its top-level session, which "
        "counts with everything below it. So the rows make up the whole; a tag that only a "
        "sub-tactic has divides nothing here."
    ),
}
_DAYS = 30
_SHOWN = 200  # groups; how many more there are is said


def cost_page(pages: StorePages, request: Request) -> Response:
    """Answer with the costs of the sessions that the address selects.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose address has filters, `by`, `as_model` and `prices`.
    """
    query = ListQuery.of(request.query_params.multi_items())
    by = request.query_params.get("by") or "tactic"
    as_model = request.query_params.get("as_model") or None
    asked = request.query_params.get("prices") or "recorded"
    prices = pages.prices_of(asked)
    filters = query.filters()
    summary = pages.store.export_cost_summary(
        **filters,
        tz=pages.zone,
        group_by=by,
        prices=prices,
        as_model=as_model,
    )
    # The sums by day of all sessions are ready, in UTC. With a filter, each session is read, and
    # for the days of a tag even more of it: these are made only if they are asked for.
    ready = pages.zone is dt.UTC and not query.chips()
    divided = by != "day" and (not by.startswith("tag:") or "each_day" in request.query_params)
    days = pages.store.export_cost_summary(
        **filters | ({} if filters["after"] or ready else {"after": "30d"}),
        tz=pages.zone,
        group_by=["day", by] if divided else "day",
        prices=prices,
        as_model=as_model,
    )["groups"]
    if ready:
        days = sorted(days, key=lambda day: day["key"] or "")[-_DAYS:]
    names = named_groups(summary["groups"]) if divided else []
    dearest = pages.store.list_sessions(**filters, tz=pages.zone, sort="cost", limit=10)
    return pages.render(
        request,
        "cost.html",
        query=query,
        by=by,
        counted=_COUNTED.get(by.partition(":")[0], ""),
        groups=_GROUPS,
        summary=summary,
        shown=summary["groups"][:_SHOWN],
        most=max((group["total_cost_usd"] for group in summary["groups"]), default=0.0),
        names=names,
        days_words=""
        if query.after
        else f", the last {_DAYS} days{' with calls' if ready else ''}",
        each_day=by.startswith("tag:") and not divided,
        days=days_of(days, names, lambda day, group: _sessions_of(_on(query, day), by, group)),
        dearest=dearest,
        day_link=lambda day: query.url(after=day, before=_next_day(day)),
        as_model=as_model or "",
        chosen_prices=asked,
        all_prices=list(pages.prices),
        repriced=as_model is not None or asked != "recorded",
        link=lambda group: _sessions_of(query, by, group),
    )


def _sessions_of(query: ListQuery, by: str, group: CostGroup) -> str | None:
    """Return the address of the sessions in a group; None if no filter can select them."""
    key = group["key"]
    if key is None:
        return None
    if by == "tactic":
        return query.url(tactic=key)
    if by.startswith("tag:"):
        return query.with_tag(by.removeprefix("tag:"), key)
    if by == "day":
        return query.url(after=key, before=_next_day(key))
    if by == "model":
        return query.url(model=key)
    return query.url(agent=key) if key else None  # calls outside of agents have no name for one


def _days_words(query: ListQuery, *, ready: bool) -> str:
    if query.after:
        return ""
    return f", the last {_DAYS} days{' with calls' if ready else ''}"


def _on(query: ListQuery, day: str) -> ListQuery:
    return msgspec.structs.replace(query, after=day, before=_next_day(day), cursor="")


def _next_day(day: str) -> str:
    return str(dt.date.fromisoformat(day) + dt.timedelta(days=1))
