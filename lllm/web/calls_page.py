"""The page of calls: single attempts to call a model, with errors, times and tokens."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from lllm.projections.queries.filters import CallSort
from lllm.store.call_records import CALL_SORTS, CallRecord
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages

PAGE = 100  # calls
_FIELDS = ("model", "provider", "error", "slower", "state", "session", "sort")


def calls_page(pages: StorePages, request: Request) -> Response:
    """Answer with the attempts to call a model that the address selects.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request; its parameters are the filters of `LogStore.list_calls`.
    """
    given, query = _asked(request)
    found = listed_calls(pages, request, PAGE + 1)
    page = found[:PAGE]

    def url(**changes: str) -> str:
        pairs = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if name not in changes and name != "cursor" and value
        ]
        pairs += [(name, value) for name, value in changes.items() if value]
        return f"/calls?{urlencode(pairs)}" if pairs else "/calls"

    return pages.render(
        request,
        "calls.html",
        query=query,
        given=given,
        sorts=CALL_SORTS,
        calls=page,
        url=url,
        next_page=url(cursor=page[-1].cursor) if len(found) > PAGE else None,
    )


def listed_calls(pages: StorePages, request: Request, limit: int) -> list[CallRecord]:
    """List the attempts to call a model that an address selects.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose address has the filters.
        limit: The greatest number of attempts.

    Raises:
        ValueError: A parameter in the address has an invalid value.
    """
    given, query = _asked(request)
    filters = query.facets()
    return pages.store.list_calls(
        error=int(given["error"]) if given["error"].isdecimal() else given["error"] or None,
        model=given["model"] or None,
        provider=given["provider"] or None,
        slower=given["slower"] or None,
        state=given["state"] or None,  # type: ignore[arg-type]  # the store checks it
        session_id=given["session"] or None,
        tactic_path=filters["tactic_path"],
        tags=filters["tags"],
        after=filters["after"],
        before=filters["before"],
        partition=filters["partition"],
        tz=pages.zone,
        sort=_as_sort(given["sort"]),
        limit=limit,
        cursor=query.cursor or None,
    )


def _asked(request: Request) -> tuple[dict[str, str], ListQuery]:
    """Split the parameters into those of calls, and those that lists of sessions have, too."""
    given = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    pairs = request.query_params.multi_items()
    query = ListQuery.of(pair for pair in pairs if pair[0] not in ("sort", "state"))
    return given | {"sort": given["sort"] or "started"}, query


def _as_sort(text: str) -> CallSort:
    return text  # type: ignore[return-value]  # the store checks it
