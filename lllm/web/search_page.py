"""The page of search results, and the links from a result to its step."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lllm.events.errors import SearchQueryError, SearchUnavailable
from lllm.search.hit_places import hit_places
from lllm.search.hits import SearchHits
from lllm.store.hit_names import names_of_places
from lllm.web.list_query import ListQuery
from lllm.web.pages import StorePages
from lllm.web.session_page import PAGE
from lllm.web.session_titles import session_titles

SHOWN = 50  # hits of one page
_ROLES = {
    "task": "what was asked", "system": "system prompts", "user": "messages of users",
    "assistant": "answers", "tool": "results of tools", "error": "errors", "tag": "tags",
    "note": "notes",
}  # fmt: skip
_OUTSIDE = {
    "task": "what was asked", "tag": "tags", "error": "error", "note": "note",
    "tool": "result of a tool", "user": "message of the user", "assistant": "answer",
    "system": "system prompt",
}  # fmt: skip


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
        roles=_ROLES,
        outside=_OUTSIDE,
        sort=sort,
        hits=[(hit, _pieces(hit.snippet, hit.matches)) for hit in hits],
        places=names_of_places(pages.store, hits),
        titles=session_titles(pages.store, [hit.session_id for hit in hits]),
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
    position = request.path_params["position"]
    found = hit_places(pages.store.log, {position: session_id}).get(position)
    if found is not None:
        for place, step in enumerate(pages.opened.open(session_id).steps):
            if step.session_id == session_id and step.trace.request == found.request:
                page = f"?page={place // PAGE + 1}" if place >= PAGE else ""
                return RedirectResponse(f"/sessions/{session_id}{page}#step-{step.key}", 303)
    return RedirectResponse(f"/sessions/{session_id}", 303)
