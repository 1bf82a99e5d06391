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
    from lllm.cli.render.doctor import checkup_rows
    from lllm.doctor.examine import examine

    checkup = examine(pages.store, tz=pages.zone)
    facts = [(name, value) for name, value in checkup_rows(checkup) if value]
    return pages.render(request, "store.html", checkup=checkup, facts=facts, severity_signs=SIGNS)
