"""The OpenAI invoker: the real SDK, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from email.utils import format_datetime

import pytest

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition, Usage
from lllm.invokers import Answer, Invoker, Request
from lllm.invokers.http.endpoint import PROVIDERS
from lllm.invokers.http.errors import retry_after
from lllm.invokers.openai import OpenAIInvoker
from tests.support.loopback import (
    Loopback,
    Received,
    Reply,
    completion,
    cut,
    drop,
    echoing_key,
    failure,
    hang,
    text,
    tool_calls,
)

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"
ASK = Request(model="gpt-4o-mini", messages=(Content.of("user", "Hi"),))

Call = Callable[[OpenAIInvoker, Request], Answer]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Call]:
    made: set[OpenAIInvoker] = set()

    def call_sync(invoker: OpenAIInvoker, asked: Request) -> Answer:
        made.add(invoker)
        return invoker.invoke(asked)

    def call_async(invoker: OpenAIInvoker, asked: Request) -> Answer:
        return runner.run(invoker.ainvoke(asked))

    yield call_sync if request.param == "sync" else call_async
    for invoker in made - set(_shared.values()):
        invoker.close()


# A client takes a while to make, so the tests that only send and read have one between them.
_shared: dict[str, OpenAIInvoker] = {}


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    for invoker in _shared.values():
        invoker.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


def invoker_of(server: Loopback) -> OpenAIInvoker:
    if server.url not in _shared:
        _shared[server.url] = fresh(server)
    return _shared[server.url]


def fresh(server: Loopback, *, timeout: float = 10.0) -> OpenAIInvoker:
    return OpenAIInvoker(base_url=server.url, api_key=KEY, timeout=timeout)


def fail(call: Call, invoker: OpenAIInvoker, request: Request = ASK) -> InvokeError:
    with pytest.raises(InvokeError) as caught:
        call(invoker, request)
    return caught.value


# What is asked


def test_a_request_becomes_its_json(server: Loopback, call: Call) -> None:
    """Messages of every role, tools, params and schema are sent as the API has them."""
    wish = ToolCall("call_7", "look", '{"key": "a"}')
    schema: dict[str, object] = {"title": "Facts, all", "type": "object"}
    request = Request(
        model="gpt-4o-mini",
        messages=(
            Content.of("system", "Be brief."),
            Content.of("user", "Hi"),
            Content("assistant", tool_calls=(wish,)),
            Content("tool", (Part("text", "42"),), call_id="call_7"),
            Content("assistant", (Part("reasoning", "Hm."), Part("refusal", "No."))),
            Content("assistant"),
        ),
        tools=(ToolDefinition("look", "Looks.", {"type": "object"}, strict=True),),
        params={"temperature": 0.2, "top_k": 7},
        output_schema=schema,
        tool_choice="none",
        agent="nobody's business",
    )
    call(invoker_of(server), request)
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_7",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"key": "a"}'},
                    }
                ],
            },
            {"role": "tool", "content": "42", "tool_call_id": "call_7"},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": ""},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Looks.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            }
        ],
        "tool_choice": "none",
        "temperature": 0.2,
        "top_k": 7,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "Facts__all", "schema": schema},
        },
    }


def test_pictures_and_sound_are_sent(server: Loopback, call: Call) -> None:
    """Binary parts go as data URLs or base64, addresses and provider's forms as they are."""
    own: dict[str, object] = {"type": "file", "file": {"file_id": "file-1"}}
    parts = (
        Part("text", "What is this?"),
        Part("image", data=b"png", mime="image/png"),
        Part("image", data="https://example.org/a.png"),
        Part("audio", data="d2F2", mime="audio/wav"),
        Part("file", data=own),
    )
    call(invoker_of(server), Request("m", (Content("user", parts),)))
    assert server.requests[0].body["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
        own,
    ]


def test_a_part_that_cannot_be_sent_is_an_error(server: Loopback, call: Call) -> None:
    """A part with nothing to send fails before anything is sent, and for good."""
    request = Request("m", (Content("user", (Part("image", blob="0" * 64),)),))
    error = fail(call, invoker_of(server), request)
    assert not error.retryable
    assert server.requests == []


@pytest.mark.parametrize("name", ["model", "messages", "tools", "stream", "n"])
def test_params_cannot_say_what_the_request_says(name: str, server: Loopback, call: Call) -> None:
    """A param that lllm decides itself is refused by name."""
    with pytest.raises(ConfigError, match=f"params can't set '{name}'"):
        call(invoker_of(server), Request("m", (), params={name: 2}))


def test_params_no_json_can_hold_are_an_error(server: Loopback, call: Call) -> None:
    """A param with no JSON form fails for good."""
    error = fail(call, invoker_of(server), Request("m", (), params={"x": object()}))
    assert not error.retryable


def test_tool_choice_goes_only_with_tools(server: Loopback, call: Call) -> None:
    """The API refuses a tool choice where there are no tools, so none is sent."""
    call(invoker_of(server), Request("m", (), tool_choice="none"))
    assert "tool_choice" not in server.requests[0].body


def test_organization_and_project_are_headers(server: Loopback, call: Call) -> None:
    """Key, organization and project reach the provider."""
    invoker = OpenAIInvoker(
        base_url=server.url, api_key=f" {KEY}\n", organization="org-1", project="proj-1"
    )
    call(invoker, ASK)
    headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["openai-organization"] == "org-1"
    assert headers["openai-project"] == "proj-1"


# What is answered


def test_an_answer_is_read(server: Loopback, call: Call) -> None:
    """Text, finish, model, ids, tier and fingerprint are the provider's."""
    server.answers(text("Hello."))
    assert call(invoker_of(server), ASK) == Answer(
        content=Content.of("assistant", "Hello."),
        finish="stop",
        finish_raw="stop",
        model="gpt-4o-mini-2024-07-18",
        response_id="chatcmpl-1",
        request_id="req_1",
        service_tier="default",
        fingerprint="fp_1",
        usage_raw={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
        usage=Usage(input=20, output=5),
    )


def test_tool_calls_keep_their_text(server: Loopback, call: Call) -> None:
    """Arguments are the text as sent, also where it is no JSON."""
    server.answers(tool_calls(("look", '{"key":  "a"}'), ("put", '{"broken')))
    answer = call(invoker_of(server), ASK)
    assert answer.finish == "tool_calls"
    assert answer.content.tool_calls == (
        ToolCall("call_1", "look", '{"key":  "a"}'),
        ToolCall("call_2", "put", '{"broken'),
    )


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": None, "refusal": "I can't."}, (Part("refusal", "I can't."),)),
        (
            {"content": "4", "reasoning_content": "2 and 2"},
            (Part("reasoning", "2 and 2"), Part("text", "4")),
        ),
        ({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}, (Part("text", "ab"),)),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "Hm"}]}, {"text": "4"}]},
            (Part("reasoning", "Hm"), Part("text", "4")),
        ),
        (
            {"content": None, "audio": {"id": "audio_1", "data": "d2F2", "transcript": "Hi"}},
            (Part("audio", "Hi", {"id": "audio_1", "data": "d2F2", "transcript": "Hi"}),),
        ),
        ({"content": ""}, ()),
    ],
    ids=["refusal", "reasoning", "pieces", "pieces of reasoning", "audio", "empty"],
)
def test_parts_of_an_answer(
    message: dict[str, object], parts: tuple[Part, ...], server: Loopback, call: Call
) -> None:
    """Refusals, reasoning, pieces and audio become parts."""
    server.answers(completion(message))
    assert call(invoker_of(server), ASK).content == Content("assistant", parts)


def test_audio_is_referred_to_when_it_is_sent_back(server: Loopback, call: Call) -> None:
    """What the model said in sound goes back by its id."""
    heard = Content("assistant", (Part("audio", "Hi", {"id": "audio_1", "data": "d2F2"}),))
    call(invoker_of(server), Request("m", (heard,)))
    assert server.requests[0].body["messages"] == [
        {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    ]


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("eos", "other"),
        (None, "other"),
    ],
)
def test_finish_in_our_words(raw: str | None, ours: str, server: Loopback, call: Call) -> None:
    """Why the model stopped is told in our words and in the provider's."""
    server.answers(completion({"content": "x"}, finish=raw))
    answer = call(invoker_of(server), ASK)
    assert (answer.finish, answer.finish_raw) == (ours, raw)


def test_tool_calls_that_finish_with_stop(server: Loopback, call: Call) -> None:
    """Some servers say "stop" with tool calls; an answer that has some finishes for them."""
    wish = {"function": {"name": "look", "arguments": {"key": 1}}}
    server.answers(completion({"tool_calls": [wish]}, finish="stop"))
    answer = call(invoker_of(server), ASK)
    assert (answer.finish, answer.finish_raw) == ("tool_calls", "stop")
    assert answer.content.tool_calls == (ToolCall("call_1", "look", '{"key": 1}'),)


FULL = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 7, "cache_write_tokens": 9},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 3, "new": None},
    "something_new": [1, 2.50],
}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (FULL, Usage(100, 50, 40, cache_write_5m=9, reasoning=30, audio_in=7, audio_out=3)),
        (
            {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": None},
            Usage(1, 2),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
            Usage(9, 2, 4),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(10, 7, reasoning=5),
        ),
        (None, None),
        ({}, None),
        ("many", None),
        ({"prompt_tokens": None, "completion_tokens": 2}, None),
        ({"prompt_tokens": "7", "completion_tokens": 2}, None),
        ({"prompt_tokens": -7, "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        (FULL | {"prompt_tokens_details": {"cached_tokens": "40"}}, None),
        (FULL | {"completion_tokens_details": {"reasoning_tokens": -1}}, None),
    ],
    ids=[
        "full", "null details", "deepseek", "xai", "null", "empty", "text", "null count",
        "text count", "negative", "bool", "text detail", "negative detail",
    ],
)  # fmt: skip
def test_usage_in_our_terms(raw: object, usage: Usage | None, server: Loopback, call: Call) -> None:
    """Usage is the sum of what was counted, none where it is nonsense, and kept raw as it came."""
    server.answers(text("x", usage=raw))
    answer = call(invoker_of(server), ASK)
    assert answer.usage == usage
    assert json.dumps(answer.usage_raw) == json.dumps(raw)


def test_a_provider_may_say_the_cost(server: Loopback, call: Call) -> None:
    """What the provider itself says that an answer cost is in it, in nano-dollars."""
    # https://openrouter.ai/docs/use-cases/usage-accounting
    server.answers(text("x", usage={"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.00014}))
    assert call(OpenAIInvoker(base_url=server.url, provider="openrouter"), ASK).billed == 140_000


def test_an_answer_without_the_extras(server: Loopback, call: Call) -> None:
    """A server that sends no more than the message is understood."""
    body = {"choices": [{"message": {"content": "Hi"}}]}
    server.answers(Reply(body=json.dumps(body).encode()))
    answer = call(invoker_of(server), ASK)
    assert answer == Answer(Content.of("assistant", "Hi"), "other", "gpt-4o-mini")


# What fails


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "invalid_request_error", False),
        (401, "invalid_api_key", False),
        (403, None, False),
        (404, "model_not_found", False),
        (408, None, True),
        (409, None, True),
        (422, None, False),
        (429, "rate_limit_exceeded", True),
        (429, "insufficient_quota", False),
        (500, "server_error", True),
        (503, None, True),
        (529, None, True),
    ],
)
def test_statuses(
    status: int, code: str | None, retryable: bool, server: Loopback, call: Call
) -> None:
    """A status says whether another attempt makes sense; each call is one request."""
    server.answers(failure(status, "It went wrong.", code=code))
    error = fail(call, invoker_of(server))
    assert (error.status, error.retryable) == (status, retryable)
    assert error.code == (code or "error")  # the type, where there is no code
    assert error.request_id == "req_1"
    assert error.retry_after is None
    assert f"127.0.0.1 answered {status}" in str(error)
    assert "It went wrong." in str(error)
    assert len(server.requests) == 1


def test_an_error_page_is_quoted(server: Loopback, call: Call) -> None:
    """A body that is not JSON, as a proxy sends, is quoted as far as it is useful."""
    server.answers(Reply(502, b"<html>Bad Gateway</html>" + b"x" * 5000))
    error = fail(call, invoker_of(server))
    assert error.retryable
    assert "<html>Bad Gateway</html>" in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "2"}, 2_000_000_000),
        ({"Retry-After": "0.25"}, 250_000_000),
        ({"Retry-After": "60", "Retry-After-Ms": "125"}, 125_000_000),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after(
    headers: dict[str, str], wait: int | None, server: Loopback, call: Call
) -> None:
    """What the provider asks to wait is told in nanoseconds."""
    server.answers(failure(429, headers=headers))
    assert fail(call, invoker_of(server)).retry_after == wait


def test_retry_after_a_date() -> None:
    """A date is as far away as it is from now."""
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    header = format_datetime(now + dt.timedelta(seconds=90), usegmt=True)
    assert retry_after({"retry-after": header}, now=now) == 90_000_000_000
    unzoned = header.replace("GMT", "-0000")
    assert retry_after({"retry-after": unzoned}, now=now) == 90_000_000_000


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (cut(), None),
        (drop(), None),
        (Reply(body=b"{not json"), 200),
        (Reply(body=b"\xff\xfe"), 200),
        (Reply(body=b"["* 100_000), 200),
        (Reply(body=b"null"), 200),
        (Reply(body=b"[]"), None),
        (Reply(body=b'{"choices": []}'), None),
        (Reply(body=b'{"error": {"message": "Overloaded", "code": 503}}'), 503),
        (Reply(body=b'{"error": "Overloaded"}'), 500),
    ],
    ids=[
        "cut", "dropped", "no json", "no text", "too deep", "null", "no object", "no choice",
        "error in a 200", "error without a status",
    ],
)  # fmt: skip
def test_half_answers_may_be_tried_again(
    reply: Reply, status: int | None, server: Loopback, call: Call
) -> None:
    """An answer that is cut, or holds no message, may come whole the next time."""
    server.answers(reply)
    error = fail(call, invoker_of(server))
    assert (error.retryable, error.status) == (True, status)


def test_a_timeout(server: Loopback, call: Call) -> None:
    """No answer within the time is a failure that may be tried again."""
    server.answers(hang())
    error = fail(call, fresh(server, timeout=0.05))
    assert error.retryable
    assert error.status is None
    assert "sent nothing for 0.05 seconds" in str(error)


def test_nobody_there(call: Call) -> None:
    """A refused connection names where it went, and may be tried again."""
    with Loopback() as gone:
        invoker = fresh(gone)
    error = fail(call, invoker)
    assert error.retryable
    assert f"127.0.0.1:{gone.port}" in str(error)


# What must not be told


def everything_about(error: BaseException) -> str:
    """All that anyone could record of an error, its causes and their attributes included."""
    told = "".join(traceback.format_exception(error, chain=True))
    stack = traceback.TracebackException.from_exception(error, capture_locals=True)
    link: BaseException | None = error
    while link is not None:
        told += repr(link) + repr(link.args) + repr(vars(link))
        link = link.__cause__ or link.__context__
    ours = [frame for frame in stack.stack if "/openai/" not in frame.filename]
    return told + "".join(repr(frame.locals) for frame in ours if "test_" not in frame.filename)


@pytest.mark.parametrize(
    "reply",
    [echoing_key, cut(), Reply(body=f"{{broken {KEY}".encode()), Reply(502, KEY.encode())],
    ids=["echo", "cut", "broken", "page"],
)
def test_no_error_tells_the_key(
    reply: Reply | Callable[[Received], Reply], server: Loopback, call: Call
) -> None:
    """Message, code, ids, causes and traceback of a failure are free of the key."""
    server.answers(reply)
    error = fail(call, invoker_of(server))
    assert KEY not in everything_about(error)
    assert "Bearer" not in everything_about(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_masked_key_is_cut_out_too(server: Loopback, call: Call) -> None:
    """OpenAI quotes the ends of a wrong key; those go as well."""
    server.answers(failure(401, "Incorrect API key provided: sk-proj-********cdef. See the page."))
    message = str(fail(call, invoker_of(server)))
    server.answers(failure(403, "The basic organization gave Bearer eyJhbGciOiJIUzI1NiJ9.x.y"))
    assert "The basic organization gave [api key]" in str(fail(call, invoker_of(server)))
    assert "Incorrect API key provided: [api key]" in message
    assert "cdef" not in message


def test_no_answer_tells_the_key(server: Loopback, call: Call) -> None:
    """A server that echoes the key in its answer does not get it into the log."""
    server.answers(lambda got: text(f"You sent {got.headers['authorization']}", id=f"id-{KEY}"))
    answer = call(invoker_of(server), ASK)
    assert KEY not in repr(answer)
    assert answer.content.text == "You sent Bearer [api key]"


def test_a_short_key_is_no_secret(server: Loopback, call: Call) -> None:
    """The "ollama" that is given as a key where none is needed is not cut out of a text."""
    server.answers(text("Run ollama with no-key."))
    for key in ("ollama", None):
        invoker = OpenAIInvoker(base_url=server.url, api_key=key)
        assert call(invoker, ASK).content.text == "Run ollama with no-key."


def test_no_repr_tells_the_key() -> None:
    """Neither the invoker nor its attributes show the key, or the password of an address."""
    invoker = OpenAIInvoker(base_url="https://me:hunter22@example.org/v1", api_key=KEY)
    shown = repr(invoker) + str(invoker) + repr(vars(invoker))
    assert KEY not in shown
    assert "hunter22" not in shown
    assert repr(invoker) == "OpenAIInvoker(provider='example.org', host='example.org', port=443)"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"OPENAI_API_KEY {KEY}", f"{KEY}…"])
def test_a_key_no_header_can_carry(key: str, server: Loopback, call: Call) -> None:
    """A key with a line break or a space in it is refused without being shown."""
    with pytest.raises(ConfigError, match="characters") as caught:
        call(OpenAIInvoker(base_url=server.url, api_key=key), ASK)
    assert KEY not in everything_about(caught.value)


def test_a_header_that_cannot_be_sent_is_not_quoted(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a header that HTTP can't carry the error says only where to look."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Token: gate-\r-secret-token")
    error = fail(call, fresh(server))
    assert not error.retryable
    assert "OPENAI_CUSTOM_HEADERS" in str(error)
    assert "secret-token" not in everything_about(error)


def test_headers_of_the_environment_are_secrets(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OPENAI_CUSTOM_HEADERS sends along does not come back in an error."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Token: gate-secret-token")
    server.answers(lambda got: failure(403, f"No {got.headers['x-gateway-token']}."))
    error = fail(call, fresh(server))
    assert "answered 403 (error): No [api key]." in str(error)


# Where it goes, and with which key


def test_openai_asks_for_a_key(call: Call) -> None:
    """Without a key for OpenAI itself the error says how to give one; building needs none."""
    invoker = OpenAIInvoker()
    assert isinstance(invoker, Invoker)
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY.*api_key="):
        call(invoker, ASK)


def test_other_servers_need_no_key(server: Loopback, call: Call) -> None:
    """A server of one's own gets a placeholder."""
    call(OpenAIInvoker(base_url=server.url), ASK)
    assert server.requests[0].headers["authorization"] == "Bearer no-key"


def test_the_environment_decides(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY are used where nothing else is said."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    invoker = OpenAIInvoker()
    call(invoker, ASK)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert (invoker.host, invoker.port) == ("127.0.0.1", server.port)


@pytest.mark.parametrize(
    ("base_url", "provider", "host", "port"),
    [
        (None, "openai", "api.openai.com", 443),
        ("https://eu.api.openai.com/v1", "openai", "eu.api.openai.com", 443),
        ("https://mine.openai.azure.com/openai/v1/", "azure", "mine.openai.azure.com", 443),
        ("https://openrouter.ai/api/v1", "openrouter", "openrouter.ai", 443),
        ("http://localhost:11434/v1", "localhost", "localhost", 11434),
        ("http://models.example.org/v1", "models.example.org", "models.example.org", 80),
        ("https://notopenrouter.ai/v1", "notopenrouter.ai", "notopenrouter.ai", 443),
    ],
)
def test_who_answers(base_url: str | None, provider: str, host: str, port: int) -> None:
    """Provider, host and port are those of the base URL."""
    invoker = OpenAIInvoker(base_url=base_url)
    assert (invoker.provider, invoker.host, invoker.port) == (provider, host, port)


def test_a_provider_of_ones_own(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers, which variable has the key, and what of a model's name is not sent can be
    said."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    invoker = OpenAIInvoker(
        base_url=server.url, provider="groq", api_key_env="GROQ_API_KEY", model_prefix="groq/"
    )
    server.answers(text("Hi", model=None))
    answer = call(invoker, Request("groq/openai/gpt-oss-20b", ()))
    assert invoker.provider == "groq"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.requests[0].body["model"] == answer.model == "openai/gpt-oss-20b"


@pytest.mark.parametrize("host", ["api.groq.com/openai", "openrouter.ai/api"])
def test_known_providers_ask_for_a_key(host: str, call: Call) -> None:
    """A provider that is known is not called without a key, and the error names its variable."""
    invoker = OpenAIInvoker(base_url=f"https://{host}/v1", api_key_env="THEIR_API_KEY")
    with pytest.raises(ConfigError, match=r"set THEIR_API_KEY, or give .*api_key="):
        call(invoker, ASK)


def test_providers_are_named_as_in_the_price_data() -> None:
    """Each host that is known by name is the same provider's in genai-prices."""
    from genai_prices.data import providers

    patterns = {known.id: known.api_pattern for known in providers}
    for host, name in PROVIDERS.items():
        assert re.match(patterns[name], f"https://{host}/v1")


@pytest.mark.parametrize("base_url", ["localhost:11434", "ftp://x/v1", "http://:80", "http://x:y"])
def test_a_base_url_that_is_none(base_url: str) -> None:
    """A base URL that is no web address is refused when the invoker is made."""
    with pytest.raises(ConfigError, match="base_url"):
        OpenAIInvoker(base_url=base_url)


def test_without_the_sdk_the_extra_is_named() -> None:
    """Where openai is not installed the error says what to install; importing needs it not."""
    code = (
        "import sys\n"
        "from lllm.events.errors import MissingExtra\n"
        "from lllm.invokers.openai import OpenAIInvoker\n"
        "assert 'openai' not in sys.modules\n"
        "sys.modules['openai'] = None\n"
        "try: OpenAIInvoker()\n"
        "except MissingExtra as error: assert 'pip install \"lllm[openai]\"' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Threads, loops and processes


def test_threads_share_one_client(server: Loopback) -> None:
    """Many threads ask through one invoker, each getting the answer to its own question."""
    server.answers(lambda got: text(got.body["messages"][0]["content"]))
    invoker = fresh(server)

    def ask(number: int) -> str:
        return invoker.invoke(Request("m", (Content.of("user", str(number)),))).content.text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [str(number) for number in range(40)]
    invoker.close()


def test_loops_have_clients_of_their_own(server: Loopback) -> None:
    """One invoker serves loops one after the other and at once, many calls on each."""
    invoker = fresh(server)

    async def several() -> int:
        answers = await asyncio.gather(*(invoker.ainvoke(ASK) for _ in range(10)))
        return len(answers)

    def run() -> int:
        return asyncio.run(several())

    assert [run(), run()] == [10, 10]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(run) for _ in range(4)]
        assert [job.result() for job in jobs] == [10] * 4
    assert invoker._clients._by_loop == {}


def test_an_invoker_that_is_gone_leaves_no_connection(
    server: Loopback, runner: asyncio.Runner
) -> None:
    """The clients of an invoker that nobody has any more are closed, those of a live loop too."""
    invoker = fresh(server)
    invoker.invoke(ASK)
    runner.run(invoker.ainvoke(ASK))
    clients = invoker._clients
    assert clients._by_loop
    del invoker
    gc.collect()
    for _ in range(1_000):  # the loop gets to it when it runs again, after other callbacks
        if clients._by_loop:
            runner.run(asyncio.sleep(0.001))
    assert clients._of_threads is None
    assert clients._by_loop == {}


def test_a_cancelled_call_is_cancelled(server: Loopback) -> None:
    """Cancelling the task ends the call as a cancellation, not as a failure of the provider."""
    arrived = threading.Event()

    def note(_: Received) -> Reply:
        arrived.set()
        return hang()

    server.answers(note)
    invoker = fresh(server)

    async def cancel() -> None:
        task = asyncio.create_task(invoker.ainvoke(ASK))
        await asyncio.to_thread(arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def answer_text(invoker: OpenAIInvoker) -> str:
    try:
        return invoker.invoke(ASK).content.text
    finally:
        invoker.close()


def test_it_travels_to_a_worker(server: Loopback) -> None:
    """A pickled invoker works in a spawned process, with the key it was given."""
    invoker = fresh(server)
    invoker.invoke(ASK)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(answer_text, invoker).result() == "Hello."
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"
    invoker.close()


def test_a_key_of_the_environment_is_not_pickled(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a key that was given by hand is in a pickle."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    invoker = OpenAIInvoker(base_url=server.url)
    invoker.invoke(ASK)
    invoker.close()
    assert KEY.encode() not in pickle.dumps(invoker)
    assert KEY.encode() in pickle.dumps(fresh(server))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_opens_its_own_connection(server: Loopback) -> None:
    """A child asks on a connection of its own, and the parent's goes on as it was."""
    invoker = fresh(server)
    invoker.invoke(ASK)
    before = invoker._clients
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            mine = invoker._clients is not before
            said = invoker.invoke(ASK).content.text if mine else "inherited"
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "Hello."
    os.waitpid(child, 0)
    invoker.invoke(ASK)
    assert invoker._clients is before
    invoker.close()
