"""Makes the ASGI application of the web pages, with its addresses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lllm.events.errors import (
    AmbiguousId,
    LllmError,
    LogReadOnly,
    LogUnavailable,
    SessionNotFound,
    SessionWasArchived,
    SessionWasErased,
)
from lllm.pricing.repricing import OtherPrices
from lllm.store.log_store import LogStore, session_host
from lllm.time_zones import LOCAL
from lllm.web import live
from lllm.web.access import AccessGuard
from lllm.web.api import refusal
from lllm.web.calls_page import calls_page
from lllm.web.compare_page import compare_page
from lllm.web.cost_page import cost_page
from lllm.web.definition_page import definition_page
from lllm.web.events_page import events_page
from lllm.web.health_page import health_page
from lllm.web.notes import note_from_form, note_from_json
from lllm.web.openapi import ANNOTATIONS, ENDPOINTS
from lllm.web.pages import StorePages
from lllm.web.search_page import place_of_event, search_page
from lllm.web.session_page import exported_session, session_page, step_page, step_text
from lllm.web.sessions_page import sessions_page, sums_part
from lllm.web.store_page import STORE, store_page, verify_store

STATIC = Path(__file__).with_name("static")


def make_app(
    store: LogStore,
    *,
    token: str | None,
    host: str = "127.0.0.1",
    port: int = 8321,
    name: str = "",
    zone: dt.tzinfo = LOCAL,
    read_only: bool = False,
    prices: OtherPrices | None = None,
) -> ASGIApp:
    """Make an ASGI application that shows a store.

    Args:
        store: The open store; the caller closes it.
        token: The random text that every request needs; None to require none.
        host: The address that the server listens on.
        port: The port that the server listens on. A request for another port is refused.
        name: The name of the store on the pages; "" to show its backend.
        zone: The time zone in which times are shown, and times without an offset are read.
        read_only: True to let nobody write notes and scores.
        prices: Prices that the page of costs offers beside the recorded and the current ones.

    Returns:
        The application.
    """
    pages = StorePages(store, name or repr(store.backend), zone, read_only=read_only, prices=prices)

    def route(path: str, page: Callable[[StorePages, Request], Response]) -> Route:
        def answer(request: Request) -> Response:  # a plain function: it runs in a thread
            try:
                return page(pages, request)
            except SessionNotFound:
                session_host(store).rows.end_rest()  # it may be newer than the rows
                return page(pages, request)

        return Route(path, answer, methods=["GET"])

    def posts(path: str, page: Callable[[StorePages, Request], Awaitable[Response]]) -> Route:
        async def answer(request: Request) -> Response:
            return await page(pages, request)

        return Route(path, answer, methods=["POST"])

    async def changes(request: Request) -> Response:
        seen = request.headers.get("last-event-id") or request.query_params.get("after") or ""
        position = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 19 else None
        return StreamingResponse(
            live.messages(store, position, request.is_disconnected),
            media_type="text/event-stream",
        )

    def refuse(request: Request, error: Exception) -> Response:
        status, text = _status_and_text(error)
        if request.url.path.startswith("/api/"):
            return refusal(status, text)
        return pages.error_page(request, status, text)

    app = Starlette(
        routes=[
            route("/", sessions_page),
            route("/sums", sums_part),
            route("/sessions/{session_id}", session_page),
            route("/sessions/{session_id}/events", events_page),
            route("/sessions/{session_id}/at/{position:int}", place_of_event),
            route("/sessions/{session_id}/export.{format}", exported_session),
            route("/sessions/{session_id}/steps/{owner}/{request_number:int}", step_page),
            route("/sessions/{session_id}/steps/{owner}/{request_number:int}/text", step_text),
            route("/sessions/{session_id}/steps/{owner}/{request_number:int}/request", _step_code),
            posts("/sessions/{session_id}/notes", note_from_form),
            posts(ANNOTATIONS, note_from_json),
            route("/definitions/{definition}", definition_page),
            route("/compare", compare_page),
            route("/calls", calls_page),
            route("/cost", cost_page),
            route("/health", health_page),
            route("/search", search_page),
            route(STORE, store_page),
            posts(STORE, verify_store),
            *(route(path, endpoint) for path, (endpoint, *_) in ENDPOINTS.items()),
            Route("/live", changes, methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            HTTPException: refuse, LllmError: refuse, ValueError: refuse, TypeError: refuse,
        },
    )  # fmt: skip
    return AccessGuard(app, token, host, port)


def _step_code(pages: StorePages, request: Request) -> Response:
    from lllm.web.request_code import step_code  # with the formats of every provider

    return step_code(pages, request)


def _status_and_text(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        missing = "There is no such page." if error.status_code == 404 else error.detail
        return error.status_code, missing
    if isinstance(error, SessionNotFound):
        return 404, str(error)
    if isinstance(error, SessionWasErased | SessionWasArchived):
        return 410, str(error)
    if isinstance(error, AmbiguousId | ValueError | TypeError):
        return 400, str(error)
    if isinstance(error, LogReadOnly):
        return 403, str(error)
    return 503 if isinstance(error, LogUnavailable) else 500, str(error)
