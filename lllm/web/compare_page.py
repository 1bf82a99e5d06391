"""The page that compares two sessions: their first difference, and the figures of each."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages
from lllm.web.session_titles import session_titles

FIGURES = (
    ("sessions", "sessions"), ("agent calls", "agent_calls"), ("messages", "messages"),
    ("model calls", "calls"), ("failed model calls", "failed_calls"), ("tools", "tools"),
    ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens"),
    ("unpriced calls", "unpriced_calls"),
)  # fmt: skip
_LISTED = 20  # sessions to choose from


def compare_page(pages: StorePages, request: Request) -> Response:
    """Answer with the comparison of the sessions `a` and `b`, or of two named `id`.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. Unless it names two sessions, the page lists some to choose from.
    """
    given = [request.query_params.get(name, "") for name in ("a", "b")]
    given += sorted(request.query_params.getlist("id"))  # the older one first
    asked = list(dict.fromkeys(filter(None, (one.strip() for one in given))))
    both = len(asked) == 1 and len(list(filter(None, given))) == 2  # a session beside itself
    ids = [pages.store.find_id(one) for one in (asked * 2 if both else asked)]
    found = pages.store.diff(*ids) if len(ids) == 2 else None
    return pages.render(
        request,
        "compare.html",
        ids=ids,
        titles=session_titles(pages.store, ids),
        found=found,
        listed=[] if found else pages.store.list_sessions(limit=_LISTED),
        figures=FIGURES,
    )
