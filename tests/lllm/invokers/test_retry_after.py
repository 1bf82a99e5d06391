"""What a provider's error says: how long to wait, whether to try again, which request it was."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from lllm.invokers.http.errors import from_event, from_response
from lllm.invokers.http.retry_after import reset_after
from lllm.invokers.http.secrets import Secrets

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def anthropic(limit: str, remaining: str, reset: str) -> dict[str, str]:
    name = f"anthropic-ratelimit-{limit}"
    return {f"{name}-remaining": remaining, f"{name}-reset": reset}


def openai(limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {f"x-ratelimit-remaining-{limit}": remaining, f"x-ratelimit-reset-{limit}": reset}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (anthropic("requests", "0", "2026-01-01T12:00:30Z"), 30.0),
        (anthropic("tokens", "0", "2026-01-01T13:01:00.5+01:00"), 60.5),
        (anthropic("requests", "0", "2026-01-01T11:59:00Z"), 0.0),
        (anthropic("requests", "5", "2026-01-01T12:00:30Z"), None),
        (anthropic("requests", "0", "soon"), None),
        (anthropic("requests", "0", "2026-01-01T12:00:30"), None),
        (
            anthropic("requests", "9", "2026-01-01T12:09:00Z")
            | anthropic("input-tokens", "0", "2026-01-01T12:00:10Z")
            | anthropic("output-tokens", "0", "2026-01-01T12:00:20Z"),
            20.0,
        ),
        (openai("requests", "0", "1s"), 1.0),
        (openai("requests", "0", "6m0s"), 360.0),
        (openai("tokens", "0", "1h2m3.5s"), 3723.5),
        (openai("tokens", "0", "120ms"), 0.12),
        (openai("tokens", "7", "6m0s") | openai("requests", "0", "2s"), 2.0),
        (openai("tokens", "0", ""), None),
        (openai("tokens", "0", "1 minute"), None),
        (openai("tokens", "0", "-1s"), None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({}, None),
    ],
)
def test_the_wait_until_a_limit_is_reset(headers: dict[str, str], seconds: float | None) -> None:
    """The wait is that of the last limit to be reset of those that are used up."""
    assert reset_after(headers, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, openai("requests", "0", "6m0s"), 360_000_000_000),
        (429, openai("requests", "0", "6m0s") | {"retry-after": "1"}, 1_000_000_000),
        (500, openai("requests", "0", "6m0s"), None),
        (429, anthropic("requests", "0", "1999-01-01T00:00:00Z"), 0),
        (429, anthropic("requests", "0", "9999-01-01T00:00:00Z"), None),
    ],
    ids=["limit", "retry-after", "no limit", "passed", "centuries"],
)
def test_who_says_the_wait(status: int, headers: dict[str, str], wait: int | None) -> None:
    """Retry-After comes first; limits count where a 429 comes without one."""
    error = from_response(status, headers, "", host="h", secrets=Secrets())
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "invalid_request_error", False),
        (413, "request_too_large", False),
        (429, "rate_limit_error", True),
        (500, "api_error", True),
        (529, "overloaded_error", True),
    ],
)
def test_errors_of_anthropic(status: int, kind: str, retryable: bool) -> None:
    """Anthropic's form of an error, and its header with the id of the request, are read; in the
    middle of a stream the type alone says as much."""
    body = {"type": "error", "error": {"type": kind, "message": "It is so."}}
    got = from_response(
        status, {"request-id": "req_1"}, json.dumps(body), host="h", secrets=Secrets()
    )
    assert str(got) == f"h answered {status} ({kind}): It is so."
    assert (got.code, got.request_id, got.retryable) == (kind, "req_1", retryable)
    streamed = from_event(body)
    assert (streamed.status, streamed.code, streamed.retryable) == (status, kind, retryable)
