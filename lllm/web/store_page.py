"""The page about the store itself: what `lllm doctor` says, and `lllm verify` if it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lllm.web.pages import StorePages
from lllm.web.posted_form import posted_form

STORE = "/store"
SIGNS = {"problem": "✗", "warning": "!", "note": "·", "ok": "✓"}


def store_page(pages: StorePages, request: Request) -> Response:
    """Answer with the state of the store.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request.
    """
    return _page(pages, request, None)


async def verify_store(pages: StorePages, request: Request) -> Response:
    """Check every event, and answer with the result in the words of `lllm verify`.

    Only one check runs at a time, since it reads the whole log. It changes nothing, so a page that
    is read only has it, too.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request; its body is the form of the page of the store.
    """
    await posted_form(request, pages.form_token, STORE)
    return await run_in_threadpool(lambda: _page(pages, request, _verified(pages)))


def _verified(pages: StorePages) -> list[str]:
    from lllm.cli.render.verify import verification_lines
    from lllm.events.integrity.verify import verify

    if not pages.verifying.acquire(blocking=False):
        raise HTTPException(
            409, "Every event is being checked already. Try again when that has ended."
        )
    try:
        return list(verification_lines(verify(pages.store.backend)))
    finally:
        pages.verifying.release()


def _page(pages: StorePages, request: Request, verified: Sequence[str] | None) -> Response:
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
        verified=verified,
    )
