"""The JSON API: what it answers fits its own description, and what it refuses is told in JSON."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from lllm.web.openapi import ANNOTATIONS, ENDPOINTS, openapi
from tests.support.web_page import Served


def answered(page: Served, path: str) -> tuple[int, object]:
    """The status and the JSON of an answer."""
    status, headers, text = page.get(path)
    assert headers["content-type"] == "application/json", path
    return status, json.loads(text)


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("/api/sessions", "?tag=customer%3Dalice"),
        ("/api/sessions", "?sort=cost&limit=1"),
        ("/api/calls", "?model=gpt*&sort=elapsed"),
        ("/api/calls/summary", "?by=hour&after=1d"),
        ("/api/costs", "?by=tactic&by=model"),
        ("/api/costs", "?as_model=gpt-4o&by=day"),
        ("/api/search", "?q=kettle&role=tool&sort=relevance&limit=1"),
        ("/api/store", ""),
        ("/api/openapi.json", ""),
    ],
)
def test_answers_fit_their_description(page: Served, address: str, query: str) -> None:
    status, found = answered(page, address + query)
    assert status == 200
    document = openapi()
    answer = document["paths"][address]["get"]["responses"]["200"]  # type: ignore[index]
    schema = answer["content"]["application/json"]["schema"]
    jsonschema.validate(found, {**schema, "components": document["components"]})


def test_one_session_its_events_and_a_comparison(page: Served) -> None:
    (listed,) = page.store.list_sessions(tags={"customer": "alice"})
    status, found = answered(page, f"/api/sessions/{listed.session_id[:20]}")
    assert (status, found["session_id"]) == (200, listed.session_id)  # type: ignore[index]
    lines = page.get(f"/api/sessions/{listed.session_id}/events")[2].splitlines()
    assert json.loads(lines[0])["type"] == "session.started"
    _, compared = answered(page, f"/api/compare?a={listed.session_id}&b={listed.session_id}")
    assert compared["same"] is True  # type: ignore[index]


def test_pages_follow_each_other(page: Served) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        _, found = answered(page, f"/api/sessions?limit=1&cursor={cursor}")
        seen += [one["session_id"] for one in found["sessions"]]  # type: ignore[index]
        cursor = found["next"]  # type: ignore[index]
        if cursor is None:
            break
    assert seen == [one.session_id for one in page.store.list_sessions()]


@pytest.mark.parametrize(
    "path",
    [
        "/api/sessions?limit=0", "/api/sessions?limit=x", "/api/sessions?limit=1001",
        "/api/sessions?state=odd", "/api/sessions?cursor=odd", "/api/calls?sort=odd",
        "/api/costs?by=odd", "/api/costs?prices=odd", "/api/search?q=(odd", "/api/search",
        "/api/costs?as_model=odd", "/api/sessions/odd", "/api/compare",
        "/api/compare?a=odd&b=odd", "/api/nothing", "/api/calls?slower=odd",
    ],
)  # fmt: skip
def test_refusals_say_what_was_wrong(page: Served, path: str) -> None:
    status, found = answered(page, path)
    assert status in (400, 404)
    assert isinstance(found, dict)
    assert found["error"]


def test_every_parameter_is_described() -> None:
    described = openapi()["paths"]
    assert set(described) == {*ENDPOINTS, ANNOTATIONS}  # type: ignore[call-overload]
    for path, (_, _, parameters, _) in ENDPOINTS.items():
        names = [one["name"] for one in described[path]["get"]["parameters"]]  # type: ignore[index]
        assert names == [name for name, _ in parameters] + re.findall(r"{(\w+)}", path)
