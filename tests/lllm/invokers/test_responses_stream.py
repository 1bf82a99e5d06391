"""The Responses API as a stream: the real SDK, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lllm.events.errors import InvokeError
from lllm.events.model import Content, Part, ToolCall, Usage
from lllm.invokers import Answer, Request
from lllm.invokers.dialects.responses import answer
from lllm.invokers.dialects.responses_stream import ResponsesStream
from lllm.invokers.openai import OpenAIInvoker
from tests.support.loopback import JSON, Loopback
from tests.support.loopback_responses import (
    USAGE,
    events_of,
    response,
    says,
    streamed,
    thinks,
    wants,
)
from tests.support.loopback_streams import sse

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"
ASK = Request(model="gpt-5-mini", messages=(Content.of("user", "Hi"),))
USED = Usage(input=20, output=9, cache_read=8, reasoning=4)


@pytest.fixture(scope="module")
def invoker(running: Loopback) -> Iterator[OpenAIInvoker]:
    made = OpenAIInvoker(base_url=running.url, api_key=KEY, api="responses")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def told() -> list[str]:
    return []


Ask = Callable[[], Answer]


@pytest.fixture(params=["sync", "async"])
def ask(
    request: pytest.FixtureRequest,
    runner: asyncio.Runner,
    invoker: OpenAIInvoker,
    told: list[str],
) -> Ask:
    if request.param == "sync":
        return lambda: invoker.stream(ASK, told.append)
    return lambda: runner.run(invoker.astream(ASK, told.append))


def fail(ask: Ask) -> InvokeError:
    with pytest.raises(InvokeError) as caught:
        ask()
    return caught.value


def assembled(events: list[JSON]) -> tuple[ResponsesStream, str]:
    assembly = ResponsesStream()
    return assembly, "".join(assembly.take(event) for event in events)


def test_an_answer_comes_in_pieces(server: Loopback, ask: Ask, told: list[str]) -> None:
    """Text is told as it comes, and the answer is the one that is sent in one piece."""
    whole = response(thinks("Hm, hm."), says("Hello, ", "you."), wants("look", '{"key": 1}'))
    server.answers(streamed(whole))
    got = ask()
    assert told == ["Hel", "lo,", " ", "you", "."]
    assert got.first_token is not None
    assert got.content == answer(whole, model="m", request_id=None).content
    assert (got.finish, got.usage, got.usage_raw) == ("tool_calls", USED, USAGE)
    assert (got.response_id, got.request_id) == ("resp_1", "req_1")
    assert server.requests[0].body["stream"] is True
    assert "stream_options" not in server.requests[0].body


def test_an_answer_cut_by_its_limit_is_whole(server: Loopback, ask: Ask) -> None:
    """An incomplete response is an answer whose finish says why."""
    details = {"reason": "max_output_tokens"}
    server.answers(streamed(response(says("Hel"), status="incomplete", incomplete_details=details)))
    got = ask()
    assert (got.finish, got.content.text, got.usage) == ("length", "Hel", USED)


@pytest.mark.parametrize("upto", [2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14])
def test_wherever_it_is_cut(upto: int, server: Loopback, ask: Ask, told: list[str]) -> None:
    """A stream that ends early has with it what came, in the items that it came in."""
    whole = response(thinks("Hmm."), says("Hello"), wants("look", '{"ke'))
    server.answers(streamed(whole, upto=upto, end="cut"))
    error = fail(ask)
    assert (error.retryable, error.status, error.usage) == (True, None, None)
    came = error.partial or Content("assistant")
    assert came.text == "".join(told)
    thoughts = [part.text for part in came.parts if part.kind == "reasoning"]
    assert [part.kind for part in came.parts] == ["reasoning", "text"][: len(came.parts)]
    assert thoughts == ([] if upto < 4 else ["Hmm"] if upto < 5 else ["Hmm."])
    if upto >= 11:
        text = ["", '{"k', '{"ke'][min(upto - 11, 2)]
        assert came.tool_calls == (ToolCall("call_1", "look", text),)


def test_a_reasoning_item_that_is_done_is_kept_whole() -> None:
    """Of a stream that is cut off, items that were done are as they would have been."""
    whole = response(thinks("Hm."), says("Hello"))
    assembly, _ = assembled(events_of(whole)[:-2])
    parts = answer(assembly.body(), model="m", request_id=None).content.parts
    assert parts == (Part("reasoning", "Hm.", thinks("Hm.")), Part("text", "Hello"))
    assert not assembly.complete


def test_refusals_and_open_reasoning() -> None:
    """Refusals and the text of open models' reasoning come in pieces, too, and are no text."""
    place = {"output_index": 0, "content_index": 0}
    refused, told = assembled(
        [
            {"type": "response.refusal.delta", "delta": "I ", **place},
            {"type": "response.refusal.delta", "delta": "can't.", **place},
            {"type": "response.reasoning_text.delta", "delta": "Hm.", **place, "output_index": 1},
        ]
    )
    assert told == ""
    assert refused.begun
    got = answer(refused.body(), model="m", request_id=None)
    assert [(p.kind, p.text) for p in got.content.parts] == [
        ("refusal", "I can't."),
        ("reasoning", "Hm."),
    ]


@pytest.mark.parametrize(
    ("event", "status", "retryable"),
    [
        ({"type": "error", "code": "server_error", "message": "Gone."}, 500, True),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Gone."}, 429, True),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "Gone."}},
         400, False),
        ({"error": {"code": 502, "message": "Gone."}}, 502, True),
        ({"type": "response.failed", "response": response(
            status="failed", error={"code": "server_error", "message": "Gone."})}, 500, True),
        ({"type": "response.failed", "response": response(
            status="failed", error={"code": "invalid_prompt", "message": "Gone."})}, 400, False),
    ],
    ids=["error", "limit", "older", "openrouter", "failed", "failed for good"],
)  # fmt: skip
def test_an_error_in_the_middle(
    event: JSON, status: int, retryable: bool, server: Loopback, ask: Ask, told: list[str]
) -> None:
    """An error event ends the stream, and may be tried again as its code says."""
    begun = events_of(response(says("Hel")))[:4]
    server.answers(sse(*begun, event))
    error = fail(ask)
    assert (error.status, error.retryable, error.request_id) == (status, retryable, "req_1")
    assert "Gone." in str(error)
    assert error.partial == Content.of("assistant", "Hel")
    assert told == ["Hel"]
    assert error.usage == (USED if "response" in event else None)


def test_accents() -> None:
    """A last event without its output has that of the pieces; text that came in none is told with
    the last; what is not known is passed over."""
    events = events_of(response(says("Hello")))
    last = events[-1] | {"response": response()}
    assembly, told = assembled([*events[:-1], last])
    assert (told, answer(assembly.body(), model="m", request_id=None).content.text) == (
        "Hello", "Hello"
    )  # fmt: skip
    assembly, told = assembled([events[-1]])
    assert (told, assembly.begun, assembly.complete) == ("Hello", True, True)
    odd: list[Any] = [
        {"type": "response.queued"},
        {"type": ["x"]},
        {"type": "response.output_text.delta", "output_index": "0", "delta": "x"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": None},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {},
    ]
    assembly, told = assembled(odd)
    assert (told, assembly.body(), assembly.begun, assembly.complete) == ("", {}, False, False)
