"""The page of search results, and the links from a result to its step."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lllm.events import codec
from lllm.events.errors import SearchQueryError, SearchUnavailable
from lllm.events.model import LLMRequested, MessageAdded
from lllm.search.hits import SearchHits
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages
from lllm.web.session_page import PAGE

SHOWN = 50  # hits of one page


def search_page(pages: StorePages, request: Request) -> Response:
    """Answer with the messages that match a query, newest first.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose address has `q`, `role`, `sort` and filters of sessions.
    """
    asked = request.query_params
    words = asked.get("q", "").strip()
    query = ListQuery.of(pair for pair in asked.multi_items() if pair[0] != "sort")
    sort = "relevance" if asked.get("sort") == "relevance" else "newest"
    hits, problem = SearchHits(), ""
    if words:
        try:
            hits = pages.store.search(
                words,
                role=asked.get("role") or None,
                **query.facets(),
                tz=pages.zone,
                sort="relevance" if sort == "relevance" else "newest",
                limit=SHOWN,
                cursor=query.cursor or None,
            )
        except (SearchQueryError, SearchUnavailable) as error:
            problem = str(error)
    others = {"q": words, "role": asked.get("role", ""), "sort": asked.get("sort", "")}
    more = urlencode({name: value for name, value in others.items() if value})
    return pages.render(
        request,
        "search.html",
        words=words,
        query=query,
        role=asked.get("role", ""),
        sort=sort,
        hits=[(hit, _pieces(hit.snippet, hit.matches)) for hit in hits],
        note=hits.note,
        problem=problem,
        next_page=hits.cursor and f"{query.url('/search', cursor=hits.cursor)}&{more}",
    )


def _pieces(text: str, matches: tuple[tuple[int, int], ...]) -> list[tuple[str, bool]]:
    """Split a snippet into parts that were found and parts that were not."""
    pieces: list[tuple[str, bool]] = []
    shown = 0
    for start, end in matches:
        pieces += [(text[shown:start], False), (text[start:end], True)]
        shown = end
    return [*pieces, (text[shown:], False)]


def place_of_event(pages: StorePages, request: Request) -> Response:
    """Redirect from an event to the step that shows it on the page of its session.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose path has the session's id and the event's position.
    """
    session_id = pages.store.find_id(request.path_params["session_id"])
    number = _request_at(pages, session_id, request.path_params["position"])
    if number is None:
        return RedirectResponse(f"/sessions/{session_id}", 303)
    for place, step in enumerate(pages.opened.open(session_id).steps):
        if step.session_id == session_id and step.trace.request == number:
            page = f"?page={place // PAGE + 1}" if place >= PAGE else ""
            return RedirectResponse(f"/sessions/{session_id}{page}#step-{step.key}", 303)
    return RedirectResponse(f"/sessions/{session_id}", 303)


def _request_at(pages: StorePages, session_id: str, position: int) -> int | None:
    """Return the number of the request that an event belongs to: its own, or the next one."""
    dialog: int | None = None
    sought = False
    last: int | None = None
    for event in pages.store.events(session_id):
        payload = codec.decode(event)
        if event.position == position:
            own = getattr(payload, "request", None)
            if isinstance(own, int):
                return own
            if not isinstance(payload, MessageAdded):
                return last  # a tool that ran behind it
            dialog, sought = payload.dialog, True
        if isinstance(payload, LLMRequested):
            if sought and payload.dialog == dialog:
                return payload.request
            last = payload.request
    return last if sought else None
