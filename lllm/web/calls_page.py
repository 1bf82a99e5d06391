"""The page of calls: single attempts to call a model, with errors, times and tokens."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from lllm.store.call_records import CALL_SORTS
from lllm.web.call_query import CallQuery
from lllm.web.pages import StorePages
from lllm.web.session_titles import session_titles

PAGE = 100  # calls


def calls_page(pages: StorePages, request: Request) -> Response:
    """Answer with the attempts to call a model that the address selects.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request; its parameters are the filters of `LogStore.list_calls`.
    """
    asked = CallQuery.of_pairs(request.query_params.multi_items())
    found = asked.listed(pages, PAGE + 1)
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
        query=asked.of,
        given=asked.given,
        sorts=CALL_SORTS,
        calls=page,
        titles=session_titles(pages.store, [one.session_id for one in page]),
        url=url,
        next_page=url(cursor=page[-1].cursor) if len(found) > PAGE else None,
    )
