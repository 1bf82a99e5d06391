"""The page of the stored events of a session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lllm.events.codec import decode
from lllm.events.envelope import Recorded
from lllm.events.errors import SessionNotFound
from lllm.events.model import LLMRequested
from lllm.web.pages import StorePages

_EVENTS = 500  # events of one page


def events_page(pages: StorePages, request: Request) -> Response:
    """Answer with the stored events of a session, 500 on each page.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose path has the session's id. Its parameter `from` is the
            number of the first event to show; or `request` is the number of an attempt, whose
            request is then the first.
    """
    session_id = pages.store.find_id(request.path_params["session_id"])
    first = int(request.query_params.get("from", "1"))
    if "request" in request.query_params:
        first = _event_of(pages, session_id, int(request.query_params["request"]))
    shown: list[Recorded] = []
    more = False
    for number, event in enumerate(pages.store.events(session_id), 1):
        if number < first:
            continue
        if len(shown) == _EVENTS:
            more = True
            break
        shown.append(event)
    return pages.render(
        request, "events.html", session_id=session_id, events=shown,
        first=first, next_from=first + _EVENTS if more else None, cut=2_000,
    )  # fmt: skip


def _event_of(pages: StorePages, session_id: str, attempt: int) -> int:
    """Return the number of the event that requests an attempt, from 1."""
    for number, event in enumerate(pages.store.events(session_id), 1):
        if event.type == "llm.requested":
            payload = decode(event)
            if isinstance(payload, LLMRequested) and payload.request == attempt:
                return number
    raise SessionNotFound(f"The session {session_id} has no request {attempt}.")
