"""Lists the addresses of the JSON API, and describes them as OpenAPI 3.1.

See https://spec.openapis.org/oas/v3.1.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lllm.pricing.cost_summary import CostSummary
from lllm.projections.queries.call_statistics import CallSummary
from lllm.store.summaries import SORTS
from lllm.version import __version__
from lllm.web import api
from lllm.web.notes import NoteGiven
from lllm.web.pages import StorePages

_FILTERS = (
    ("state", "success, failure, running or interrupted"),
    ("tactic", "the stable path of a tactic"),
    ("tag", "KEY=VALUE; repeat it for several"),
    ("after", "a time: today, 7d, 2026-01-31T18:00"),
    ("before", "a time in the same forms"),
    ("partition", "the name of a partition"),
)
_CONDITIONS = (
    ("model", "a model that was requested in it; * matches anything"),
    ("agent", "an agent that called a model in it; * matches anything"),
    ("error", "an HTTP status, 5xx, or a part of an error's text"),
    ("text", "a part of the task, the error or the tactic"),
    ("min_cost", "US dollars"), ("max_cost", "US dollars"),
    ("slower", "a duration, as 5s"), ("faster", "a duration"),
    ("wasted", "yes for sessions in which money was wasted on answers that were not used"),
    ("note", "NAME or NAME=VALUE of an annotation; repeat it for several"),
)  # fmt: skip
_PAGED = (("limit", f"how many at most, 1 to {api.MOST}"), ("cursor", "`next` of the page before"))
_CALLS = (
    ("model", "of this model; * matches anything"),
    ("provider", "of this provider"),
    ("error", "an HTTP status, 5xx, or a part of the error's text"),
    ("slower", "a duration, as 5s"),
    ("session", "of this session and those below it"),
    ("sort", "started, elapsed, first_token, cost or tokens"),
)
_ID = ("session_id", "the id of a session, or its beginning")


def _description(pages: StorePages, request: Request) -> Response:
    """Answer with the OpenAPI document."""
    del pages, request
    return Response(msgspec.json.encode(openapi()), media_type="application/json")


ANNOTATIONS = "/api/sessions/{session_id}/annotations"
Endpoint = Callable[[StorePages, Request], Response]
ENDPOINTS: dict[str, tuple[Endpoint, str, tuple[tuple[str, str], ...], Any]] = {
    "/api/sessions": (
        api.api_sessions, "List sessions.",
        (*_FILTERS, *_CONDITIONS, *_PAGED, ("sort", "one of " + ", ".join(SORTS)),
         ("reverse", "yes for the opposite order"), ("replays", "yes to list them, too")),
        api.SessionPage,
    ),
    "/api/sessions/{session_id}": (api.api_session, "One session with all in it.", (), None),
    "/api/sessions/{session_id}/events": (api.api_events, "The events of a session.", (), None),
    "/api/calls": (
        api.api_calls, "List attempts to call a model.",
        (*_FILTERS, *_PAGED, *_CALLS), api.CallPage,
    ),
    "/api/calls/summary": (
        api.api_call_summary, "Errors, retries and times of calls.",
        (*(one for one in _FILTERS if one[0] != "state"), *_CALLS[:3],
         ("by", "model, provider, tactic, agent, day or hour")),
        CallSummary,
    ),
    "/api/costs": (
        api.api_costs, "Sum up costs.",
        (*_FILTERS, *_CONDITIONS,
         ("by", "tactic, model, agent, day or tag:KEY; repeat it for groups in groups"),
         ("prices", "recorded, current, or given: those of lllm web --prices"),
         ("as_model", "price all calls as this model's")),
        CostSummary,
    ),
    "/api/search": (
        api.api_search, "Find messages by their words.",
        (("q", "words, as lllm search takes them"),
         ("role", "task, tag, system, user, assistant, tool, error or note"),
         ("session", "of this session and those below it"),
         *_FILTERS, *_PAGED, ("sort", "newest or relevance")),
        api.SearchPage,
    ),
    "/api/store": (api.api_store, "The state of the store, as lllm doctor says it.", (), None),
    "/api/compare": (
        api.api_compare, "Compare two sessions.",
        (("a", "the id of a session"), ("b", "the id of another")), None,
    ),
    "/api/openapi.json": (_description, "This description.", (), None),
}  # fmt: skip


def openapi() -> dict[str, object]:
    """Make the OpenAPI 3.1 document that describes the API.

    Returns:
        The document, to be written as JSON.
    """
    types = [
        api.ApiError,
        NoteGiven,
        *(answer for *_, answer in ENDPOINTS.values() if answer is not None),
    ]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema_of = {id(one): schema for one, schema in zip(types, schemas, strict=True)}
    paths = {
        path: {"get": _operation(path, says, parameters, schema_of.get(id(answer)), schemas[0])}
        for path, (_, says, parameters, answer) in ENDPOINTS.items()
    }
    paths[ANNOTATIONS] = {"post": _posting(ANNOTATIONS, schema_of[id(NoteGiven)], schemas[0])}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lllm", "version": __version__,
                 "description": "What LLM agents did, and what it cost. Only notes are written."},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def _posting(path: str, note: dict[str, Any], error: dict[str, Any]) -> dict[str, object]:
    """Describe how a note is written."""
    operation = _operation(path, "Note or score a session, or a step of it.", (), note, error)
    refused = {"description": "Refused.", "content": {"application/json": {"schema": error}}}
    answers = dict(cast("dict[str, object]", operation["responses"]))
    answers["201"] = answers.pop("200")
    return operation | {
        "operationId": "postSessionAnnotation",
        "requestBody": {"required": True, "content": {"application/json": {"schema": note}}},
        "responses": answers | dict.fromkeys(("413", "415", "503"), refused),
    }


def _operation(
    path: str,
    says: str,
    parameters: tuple[tuple[str, str], ...],
    schema: dict[str, Any] | None,
    error: dict[str, Any],
) -> dict[str, object]:
    several = {"tag", "note"} | ({"by"} if path == "/api/costs" else set())
    asked: list[dict[str, object]] = [
        {
            "name": name, "in": "query", "description": about, "required": name in ("a", "b", "q"),
            "schema": {"type": "array", "items": {"type": "string"}} if name in several
            else {"type": "string"},
        }
        for name, about in parameters
    ]  # fmt: skip
    if "{session_id}" in path:
        name, about = _ID
        asked.append({"name": name, "in": "path", "required": True, "description": about,
                      "schema": {"type": "string"}})  # fmt: skip
    media = "application/x-ndjson" if path.endswith("/events") else "application/json"
    refused = {"description": "Refused.", "content": {"application/json": {"schema": error}}}
    return {
        "summary": says,
        "operationId": "get" + "".join(
            part.strip("{}").capitalize() for part in path.split("/")[2:]
        ).replace(".", ""),
        "parameters": asked,
        "responses": {
            "200": {"description": says, "content": {media: {"schema": schema or {}}}},
            "400": refused,
            "403": {"description": "The token is missing.", "content": {"text/plain": {}}},
            "404": refused,
        },
    }  # fmt: skip
