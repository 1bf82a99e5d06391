"""Serves the data of the pages as JSON under /api: lists, sessions, searches, costs, comparisons.

It uses the methods of `LogStore`, with the same filters and fields. See `openapi` for the
addresses.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lllm.events.exported_lines import as_jsonl
from lllm.search.hits import SearchHit
from lllm.store.call_records import CallRecord
from lllm.store.hit_names import names_of_places
from lllm.store.summaries import SessionSummary
from lllm.web.call_query import CallQuery
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages
from lllm.web.session_page import exported_session

MOST = 1_000  # sessions or calls of one answer


class SessionPage(msgspec.Struct):
    """One page of a list of sessions.

    Attributes:
        sessions: The sessions, in the requested order.
        next: The cursor of the next page; None if there is none.
    """

    sessions: list[SessionSummary]
    next: str | None


class CallPage(msgspec.Struct):
    """One page of a list of calls.

    Attributes:
        calls: The attempts to call a model, in the requested order.
        next: The cursor of the next page; None if there is none.
    """

    calls: list[CallRecord]
    next: str | None


class SearchPage(msgspec.Struct):
    """One page of the results of a search.

    Attributes:
        hits: The messages that were found, in the requested order.
        steps: The names of the steps that show them, as "#2 writer · step 1, answer", by position.
        next: The cursor of the next page; None if there is none.
        note: What the search left out; None for nothing.
    """

    hits: list[SearchHit]
    steps: dict[str, str]
    next: str | None
    note: str | None


class ApiError(msgspec.Struct):
    """The answer to a request that was refused.

    Attributes:
        error: What was wrong, and what to do.
    """

    error: str


def api_sessions(pages: StorePages, request: Request) -> Response:
    """Answer with sessions; see `LogStore.list_sessions`."""
    query = ListQuery.of(request.query_params.multi_items())
    limit = _limit(request)
    found = pages.store.list_sessions(
        **query.filters(),
        tz=pages.zone,
        sort=query.sort,
        reverse=bool(query.reverse),
        limit=limit + 1,
        cursor=query.cursor or None,
        replays=bool(query.replays),
    )
    page = found[:limit]
    return _json(SessionPage(page, page[-1].cursor if len(found) > limit and page else None))


def api_calls(pages: StorePages, request: Request) -> Response:
    """Answer with attempts to call a model; see `LogStore.list_calls`."""
    limit = _limit(request)
    asked = CallQuery.of_pairs(request.query_params.multi_items())
    found = asked.listed(pages, limit + 1)
    page = found[:limit]
    return _json(CallPage(page, page[-1].cursor if len(found) > limit and page else None))


def api_call_summary(pages: StorePages, request: Request) -> Response:
    """Answer with statistics of calls; see `LogStore.summarize_calls`."""
    asked = CallQuery.of_pairs(request.query_params.multi_items())
    return _json(
        pages.store.summarize_calls(
            **asked.filters(),
            group_by=request.query_params.get("by") or None,  # type: ignore[arg-type]  # the store checks it
            tz=pages.zone,
        )
    )


def api_costs(pages: StorePages, request: Request) -> Response:
    """Answer with sums of costs; see `LogStore.export_cost_summary`."""
    query = ListQuery.of(request.query_params.multi_items())
    by = [one for one in request.query_params.getlist("by") if one]
    as_model = request.query_params.get("as_model") or None
    prices = pages.prices_of(request.query_params.get("prices"))
    return _json(
        pages.store.export_cost_summary(
            **query.filters(), tz=pages.zone, group_by=by, prices=prices, as_model=as_model
        )
    )


def api_search(pages: StorePages, request: Request) -> Response:
    """Answer with messages that a search found; see `LogStore.search`."""
    asked = request.query_params
    query = ListQuery.of(pair for pair in asked.multi_items() if pair[0] != "sort")
    hits = pages.store.search(
        asked.get("q", ""),
        role=asked.get("role") or None,
        session_id=pages.store.find_id(asked["session"]) if asked.get("session") else None,
        **query.facets(),
        tz=pages.zone,
        sort=asked.get("sort") or "newest",  # type: ignore[arg-type]  # the store checks it
        limit=_limit(request),
        cursor=query.cursor or None,
    )
    steps = names_of_places(pages.store, hits)
    named = {str(position): name for position, name in steps.items()}
    return _json(SearchPage(list(hits), named, hits.cursor, hits.note))


def api_store(pages: StorePages, request: Request) -> Response:
    """Answer with the state of the store, as `lllm doctor --json` prints it."""
    from lllm.cli.render.doctor import checkup_as_json
    from lllm.doctor.examine import examine

    del request
    text = checkup_as_json(examine(pages.store, tz=pages.zone))
    return Response(text, media_type="application/json")


def api_session(pages: StorePages, request: Request) -> Response:
    """Answer with one session, as `lllm export` writes it."""
    request.path_params["format"] = "json"
    return exported_session(pages, request)


def api_events(pages: StorePages, request: Request) -> Response:
    """Answer with the stored events of one session, one on each line."""
    session_id = pages.store.find_id(request.path_params["session_id"])
    text = as_jsonl(list(pages.store.events(session_id)))
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/x-ndjson")


def api_compare(pages: StorePages, request: Request) -> Response:
    """Answer with the comparison of two sessions; see `LogStore.diff`."""
    from lllm.cli.render.diff_json import as_object

    a, b = (pages.store.find_id(request.query_params.get(name, "")) for name in ("a", "b"))
    return Response(as_object(pages.store.diff(a, b)), media_type="application/json")


def refusal(status: int, text: str) -> Response:
    """Answer with an error.

    Args:
        status: The HTTP status.
        text: A sentence that says what was wrong.
    """
    answer = _json(ApiError(text))
    answer.status_code = status
    return answer


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _limit(request: Request) -> int:
    text = request.query_params.get("limit") or "50"
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST):
        raise ValueError(f"limit is a number from 1 to {MOST:,}, not {text!r}")
    return int(text)
