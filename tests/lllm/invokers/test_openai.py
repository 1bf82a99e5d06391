"""The OpenAI invoker: the real SDK, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterator
from email.utils import format_datetime

import pytest

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition, Usage
from lllm.invokers import Answer, Request
from lllm.invokers.http.retry_after import retry_after
from lllm.invokers.openai import OpenAIInvoker
from lllm.pricing.provider_hosts import PROVIDERS
from tests.support.loopback import (
    Loopback,
    Reply,
    completion,
    failure,
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


# What must not be told


def test_a_masked_key_is_cut_out_too(server: Loopback, call: Call) -> None:
    """OpenAI quotes the ends of a wrong key; those go as well."""
    server.answers(failure(401, "Incorrect API key provided: sk-proj-********cdef. See the page."))
    message = str(fail(call, invoker_of(server)))
    server.answers(failure(403, "The basic organization gave Bearer eyJhbGciOiJIUzI1NiJ9.x.y"))
    assert "The basic organization gave [api key]" in str(fail(call, invoker_of(server)))
    assert "Incorrect API key provided: [api key]" in message
    assert "cdef" not in message


def test_a_short_key_is_no_secret(server: Loopback, call: Call) -> None:
    """The "ollama" that is given as a key where none is needed is not cut out of a text."""
    server.answers(text("Run ollama with no-key."))
    for key in ("ollama", None):
        invoker = OpenAIInvoker(base_url=server.url, api_key=key)
        assert call(invoker, ASK).content.text == "Run ollama with no-key."


# Where it goes, and with which key


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
