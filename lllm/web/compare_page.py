"""The page that compares two sessions: their first difference, and the figures of each."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages

FIGURES = (
    ("sessions", "sessions"), ("agent calls", "agent_calls"), ("messages", "messages"),
    ("model calls", "calls"), ("failed calls", "failed_calls"), ("tools", "tools"),
    ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens"),
    ("unpriced calls", "unpriced_calls"),
)  # fmt: skip


def compare_page(pages: StorePages, request: Request) -> Response:
    """Answer with the comparison of the sessions `a` and `b`.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. If an id is missing, the page asks for it.
    """
    a, b = (request.query_params.get(name, "").strip() for name in ("a", "b"))
    found = None
    if a and b:
        found = pages.store.diff(pages.store.find_id(a), pages.store.find_id(b))
    return pages.render(request, "compare.html", a=a, b=b, found=found, figures=FIGURES)
