"""The page about the store itself, with the results of `lllm doctor`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages

SIGNS = {"problem": "✗", "warning": "!", "note": "·", "ok": "✓"}


def store_page(pages: StorePages, request: Request) -> Response:
    """Answer with the state of the store.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request.
    """
    from lllm.doctor.examine import examine

    checkup = examine(pages.store, tz=pages.zone)
    return pages.render(request, "store.html", checkup=checkup, severity_signs=SIGNS)
