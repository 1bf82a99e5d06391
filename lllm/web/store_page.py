"""The page about the store itself: what `lllm doctor` says, and `lllm verify` if it is asked."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages

SIGNS = {"problem": "✗", "warning": "!", "note": "·", "ok": "✓"}


def store_page(pages: StorePages, request: Request) -> Response:
    """Answer with the state of the store.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request. With the parameter `verify`, every event is checked, too.
    """
    from lllm.cli.render.doctor import checkup_rows
    from lllm.doctor.examine import examine

    checkup = examine(pages.store, tz=pages.zone)
    facts = [(name, value) for name, value in checkup_rows(checkup) if value]
    return pages.render(
        request,
        "store.html",
        checkup=checkup,
        facts=facts,
        severity_signs=SIGNS,
        verified=_verified(pages) if "verify" in request.query_params else None,
    )


def _verified(pages: StorePages) -> list[str]:
    """Check every event, and describe the result in the words of `lllm verify`."""
    from lllm.cli.render.verify import verification_lines
    from lllm.events.integrity.verify import verify

    return list(verification_lines(verify(pages.store.backend)))
