"""The home page: the list of sessions, newest first, with their costs and states."""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lllm.events.model import State
from lllm.pricing.cost_summary import CostSummary
from lllm.projections.queries.filters import SessionSort
from lllm.store.summaries import SessionSummary
from lllm.web.list_query import COLUMNS, ListQuery
from lllm.web.pages import FRAGMENT, StorePages

PAGE = 50  # sessions
_CHILDREN = 20  # sessions below one that its row unfolds
# The order of each column; ids sort by start.
_SORTS: dict[str, SessionSort] = {
    "tactic": "tactic",
    "started": "started",
    "took": "elapsed",
    "calls": "calls",
    "tokens": "tokens",
    "cost": "cost",
    "id": "started",
}
_RUNNING = 10  # sessions that stand above the list while they run


def sessions_page(pages: StorePages, request: Request) -> Response:
    """Answer with the list of sessions that the address selects.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. If it has the header `FRAGMENT`, only the rows are sent.
    """
    began = time.perf_counter()
    position = pages.position()  # first, so that what comes meanwhile is announced
    query = ListQuery.of(request.query_params.multi_items())
    found = _listed(pages, query, query.state or None, PAGE + 1, query.cursor or None)
    page = found[:PAGE]
    running: list[SessionSummary] = []
    if not query.state and not query.cursor and query.sort == "started" and not query.reverse:
        listed = {one.session_id for one in page}
        above = _listed(pages, query, "running", _RUNNING, None)
        running = [one for one in above if one.session_id not in listed]
    sessions = running + page
    only_rows = request.headers.get(FRAGMENT) == "rows"
    return pages.render(
        request,
        "_session_rows.html" if only_rows else "sessions.html",
        query=query,
        sessions=sessions,
        below=pages.store.children([one.session_id for one in sessions], limit=_CHILDREN),
        notes=pages.store.annotations([one.session_id for one in sessions]),
        values=None if only_rows else pages.store.filter_values(),
        sort_keys=_SORTS,
        next_page=query.url(cursor=page[-1].cursor) if len(found) > PAGE else None,
        columns=[column for column in COLUMNS if column not in query.hide],
        all_columns=COLUMNS,
        position=position,
        took_ms=(time.perf_counter() - began) * 1000,
    )


def _listed(
    pages: StorePages, query: ListQuery, state: str | None, limit: int, cursor: str | None
) -> list[SessionSummary]:
    filters = query.filters() | {"state": _as_state(state)}
    return pages.store.list_sessions(
        **filters,
        tz=pages.zone,
        sort=query.sort,
        reverse=bool(query.reverse),
        limit=limit,
        cursor=cursor,
        replays=bool(query.replays),
    )


def _as_state(text: str | None) -> State | None:
    return text  # type: ignore[return-value]  # the store checks it


def sums_part(pages: StorePages, request: Request) -> Response:
    """Answer with sums over the selected sessions: costs, failures and states.

    The page requests them after it shows its rows, because sums of many sessions take longer.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose address has the filters.
    """
    query = ListQuery.of(request.query_params.multi_items())

    def summed(**changes: str) -> CostSummary:
        filters = msgspec.structs.replace(query, **changes).filters()
        return pages.store.export_cost_summary(**filters, tz=pages.zone)

    whole = summed()
    spans: list[tuple[str, str, CostSummary, bool]] = []  # name, address, sums, chosen
    for name, after in (("today", "today"), ("7 days", "7d"), ("all", "")):
        chosen = (query.after, query.before) == (after, "")
        sums = whole if chosen else summed(after=after, before="")
        spans.append((name, query.url(after=after, before=""), sums, chosen))
    if not any(chosen for *_, chosen in spans):
        spans.append(("selected", query.url(), whole, True))
    states = {
        state: (whole if query.state == state else summed(state=state))["session_count"]
        for state in ("failure", "running", "interrupted")
    }
    only_part = request.headers.get(FRAGMENT) == "sums"
    template = "_sums.html" if only_part else "sums.html"
    return pages.render(request, template, query=query, whole=whole, spans=spans, states=states)
