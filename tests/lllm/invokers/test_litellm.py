"""The LiteLLM invoker: the real package, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lllm import LocalFileBackend, LogStore
from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import (
    Content,
    LLMRequested,
    LLMResponded,
    Part,
    ToolCall,
    ToolDefinition,
    Usage,
)
from lllm.invokers import Answer, Invoker, Request, Streams
from lllm.invokers.litellm import LiteLLMInvoker
from lllm.invokers.litellm.invoker import provider_of
from lllm.invokers.litellm.library import library
from lllm.pricing.price import price
from tests.support import loopback_messages as claude
from tests.support.loopback import (
    JSON,
    Loopback,
    Received,
    Reply,
    drop,
    failure,
    hang,
    text,
    tool_calls,
)
from tests.support.loopback_streams import call_piece, chat, chunk, sse
from tests.support.runs import Asking, payloads

# LiteLLM has these ignored when it is imported, which pytest undoes.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Accessing the.*attribute on the instance is deprecated",
    "ignore:.*using the `ReadOnly` qualifier:UserWarning",
    "ignore:.*Pydantic serializer warnings:UserWarning",  # for tests that send nonsense
)

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"
HI = (Content.of("user", "Hi"),)
GPT = Request(model="openai/gpt-4o-mini", messages=HI)
CLAUDE = Request(model="anthropic/claude-haiku-4-5", messages=HI)
LOOK = ToolDefinition("look", "Looks.", {"type": "object", "properties": {}})
# Rates of claude-haiku-4-5 in US dollars for a million tokens, from Anthropic's price list
# (https://platform.claude.com/docs/en/about-claude/pricing): what is read, written for 5 minutes
# and for an hour, then input and output.
READ, WRITE_5M, WRITE_1H, INPUT, OUTPUT = 0.10, 1.25, 2.00, 1.00, 5.00

Call = Callable[[LiteLLMInvoker, Request], Answer]
Told = Callable[[LiteLLMInvoker, Request, Callable[[str], object]], Answer]


@pytest.fixture(scope="module", autouse=True)
def _close_clients() -> Iterator[None]:
    """LiteLLM keeps the clients of threads until the process ends."""
    yield
    kept = vars(library())["in_memory_llm_clients_cache"].cache_dict
    for key in [key for key, client in kept.items() if hasattr(client, "close")]:
        if not asyncio.iscoroutinefunction(kept[key].close):
            kept.pop(key).close()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Call:
    if request.param == "sync":
        return LiteLLMInvoker.invoke
    return lambda invoker, asked: runner.run(invoker.ainvoke(asked))


@pytest.fixture(params=["sync", "async"])
def told(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Told:
    if request.param == "sync":
        return LiteLLMInvoker.stream
    return lambda invoker, asked, on_text: runner.run(invoker.astream(asked, on_text))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL"))]:
        monkeypatch.delenv(name)


def gpt(server: Loopback, *, timeout: float = 10.0) -> LiteLLMInvoker:
    return LiteLLMInvoker(api_base=server.url, api_key=KEY, timeout=timeout).for_model(GPT.model)


def haiku(server: Loopback, *, timeout: float = 10.0) -> LiteLLMInvoker:
    base = claude.base_url(server)
    return LiteLLMInvoker(api_base=base, api_key=KEY, timeout=timeout).for_model(CLAUDE.model)


def both(server: Loopback) -> list[tuple[LiteLLMInvoker, Request]]:
    return [(gpt(server), GPT), (haiku(server), CLAUDE)]


def fail(call: Call, invoker: LiteLLMInvoker, request: Request) -> InvokeError:
    with pytest.raises(InvokeError) as caught:
        call(invoker, request)
    return caught.value


USED = {
    "prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
}  # fmt: skip


def _events_of(message: JSON) -> list[JSON]:
    """A message as events. A count that is null in a later one is taken by LiteLLM for 0."""
    events = claude.events_of(message)
    for event in events:
        if event["type"] == "message_delta":
            event["usage"] = {"output_tokens": event["usage"]["output_tokens"]}
    return events


def dollars(usage: Usage) -> float:
    """What a usage of claude-haiku-4-5 costs, worked out by hand."""
    plain = usage.input - usage.cache_read - usage.cache_write_5m - usage.cache_write_1h
    return (
        plain * INPUT
        + usage.cache_read * READ
        + usage.cache_write_5m * WRITE_5M
        + usage.cache_write_1h * WRITE_1H
        + usage.output * OUTPUT
    ) / 1_000_000


# What is asked


def test_it_is_an_invoker_that_streams() -> None:
    """It has what an agent asks of an invoker, and names the provider by the model."""
    invoker = LiteLLMInvoker()
    assert isinstance(invoker, Invoker)
    assert isinstance(invoker, Streams)
    assert (invoker.provider, invoker.api, invoker.host, invoker.port) == (
        "litellm", "litellm", None, None,
    )  # fmt: skip
    assert invoker.for_model("gemini/gemini-2.5-flash").provider == "google"
    assert invoker.provider == "litellm"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gemini/gemini-2.5-flash", "google"),
        ("vertex_ai/gemini-2.5-pro", "google"),
        ("bedrock/anthropic.claude-haiku-4-5", "aws"),
        ("xai/grok-4", "x-ai"),
        ("together_ai/meta-llama/Llama-3.3-70B", "together"),
        ("fireworks_ai/accounts/fireworks/models/x", "fireworks"),
        ("ollama_chat/llama3.2", "ollama"),
        ("groq/llama-3.3-70b", "groq"),
        ("gpt-4o-mini", "litellm"),
    ],
)
def test_the_provider_is_told_by_the_prefix(model: str, provider: str) -> None:
    """LiteLLM's prefixes become the names that the price data has."""
    assert provider_of(model) == provider
    assert LiteLLMInvoker(provider="mine").for_model(model).provider == "mine"


def test_a_request_goes_to_the_provider(server: Loopback, call: Call) -> None:
    """Messages, tools and params are sent in the provider's form, with the key, once."""
    wish = ToolCall("call_7", "look", '{"key": "a"}')
    request = Request(
        model=GPT.model,
        messages=(
            Content.of("system", "Be brief."),
            *HI,
            Content("assistant", tool_calls=(wish,)),
            Content("tool", (Part("text", "42"),), call_id="call_7"),
        ),
        tools=(LOOK,),
        params={"temperature": 0.2},
    )
    call(gpt(server), request)
    (sent,) = server.requests
    assert (sent.path, sent.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (sent.body["model"], sent.body["temperature"]) == ("gpt-4o-mini", 0.2)
    assert [one["role"] for one in sent.body["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent.body["tools"][0]["function"]["name"] == "look"
    assert not {"api_key", "num_retries", "_skip_mcp_handler"} & set(sent.body)


def test_params_of_litellms_own(server: Loopback, call: Call) -> None:
    """drop_params in the params drops what the provider does not take."""
    server.answers(claude.replies(claude.says("Hi")))
    odd = {"logit_bias": {"1": 2}, "max_tokens": 9}
    assert not fail(call, haiku(server), msgspec.structs.replace(CLAUDE, params=odd)).retryable
    call(haiku(server), msgspec.structs.replace(CLAUDE, params=odd | {"drop_params": True}))
    (sent,) = server.requests
    assert (sent.path, sent.body["max_tokens"]) == ("/v1/messages", 9)
    assert "logit_bias" not in sent.body


@pytest.mark.parametrize("name", ["num_retries", "max_retries", "fallbacks", "stream", "n"])
def test_what_lllm_decides(server: Loopback, call: Call, name: str) -> None:
    """Params that would make one attempt several calls are refused, by their names."""
    with pytest.raises(ConfigError, match=f"params can't set '{name}'"):
        call(gpt(server), msgspec.structs.replace(GPT, params={name: 3}))
    assert not server.requests


# What comes back


def test_an_answer(server: Loopback, call: Call) -> None:
    """Text, ids, tier and usage are read; the provider's own usage is kept beside ours."""
    details = {"cached_tokens": 8, "audio_tokens": 0}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    server.answers(text("Hello.", usage=usage | {"prompt_tokens_details": details}))
    answer = call(gpt(server), GPT)
    assert (answer.content.text, answer.finish) == ("Hello.", "stop")
    assert (answer.model, answer.response_id) == ("gpt-4o-mini-2024-07-18", "chatcmpl-1")
    assert (answer.request_id, answer.service_tier) == ("req_1", "default")
    assert answer.usage == Usage(input=20, output=5, cache_read=8)
    assert isinstance(answer.usage_raw, dict)
    assert answer.usage_raw["prompt_tokens_details"]["cached_tokens"] == 8
    assert (answer.billed, answer.free) == (None, None)


def test_tool_calls_side_by_side(server: Loopback, call: Call) -> None:
    """Several tool calls come back in their order, in both dialects, their arguments verbatim."""
    server.answers(tool_calls(("look", '{"key": "a"}'), ("look", "{nonsense")))
    answer = call(gpt(server), msgspec.structs.replace(GPT, tools=(LOOK,)))
    assert answer.finish == "tool_calls"
    assert answer.content.tool_calls == (
        ToolCall("call_1", "look", '{"key": "a"}'),
        ToolCall("call_2", "look", "{nonsense"),
    )

    blocks = (claude.says("So."), claude.wants(1, "look", key="a"), claude.wants(2, "look"))
    server.answers(claude.replies(*blocks, stop="tool_use"))
    answer = call(haiku(server), msgspec.structs.replace(CLAUDE, tools=(LOOK,)))
    assert (answer.finish, answer.content.text) == ("tool_calls", "So.")
    assert [json.loads(one.arguments) for one in answer.content.tool_calls] == [{"key": "a"}, {}]
    assert [one.id for one in answer.content.tool_calls] == ["toolu_1", "toolu_2"]


def test_an_answer_that_was_cut_by_its_limit(server: Loopback, call: Call) -> None:
    """max_tokens is visible as such, whatever the provider calls it."""
    server.answers(claude.replies(claude.says("Once upon"), stop="max_tokens"))
    assert call(haiku(server), CLAUDE).finish == "length"


def test_reasoning_is_kept_apart(server: Loopback, call: Call) -> None:
    """What a model thought stands beside what it said."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    server.answers(claude.replies(thought, claude.says("Yes.")))
    parts = call(haiku(server), CLAUDE).content.parts
    said = [(part.kind, part.text) for part in parts[:2]]
    assert said == [("reasoning", "Hm."), ("text", "Yes.")]
    assert Part("thinking_blocks", data={"thinking_blocks": [thought]}) in parts


CACHED = {
    "input_tokens": 10,
    "output_tokens": 17,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
}
COUNTS = Usage(
    input=1_310, output=17, cache_read=1_000, cache_write_5m=100, cache_write_1h=200
)  # fmt: skip


@pytest.mark.money
def test_cached_tokens_cost_what_anthropic_says(server: Loopback, call: Call, told: Told) -> None:
    """Tokens read from the cache, and written for five minutes or an hour, are told apart and
    priced to the nano-dollar, streamed or not."""
    said = claude.message(claude.says("Hi"), usage=CACHED)
    server.answers(claude.sent(said))
    whole = call(haiku(server), CLAUDE)
    server.answers(claude.stream_of(_events_of(said)))
    streamed = told(haiku(server), CLAUDE, lambda _: None)
    for answer in (whole, streamed):
        assert answer.usage == COUNTS
        found = price(
            answer.usage, provider="anthropic", model=answer.model, at=1_770_000_000 * 10**9,
            billed=answer.billed,
        )  # fmt: skip
        assert (found.status, found.nanos) == ("priced", round(dollars(COUNTS) * 1e9))


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": 3}]
)
def test_a_usage_that_was_not_sent(server: Loopback, call: Call, usage: object) -> None:
    """Where the provider sends no usage, or a part of one, there is none: LiteLLM's zeros are not
    taken for it."""
    server.answers(text("Hello.", usage=usage))
    assert call(gpt(server), GPT).usage is None


def test_a_negative_usage(server: Loopback, call: Call) -> None:
    """Counts that can't be leave no usage, and stay in the raw one."""
    usage = {"prompt_tokens": 7, "completion_tokens": -1, "total_tokens": 6}
    server.answers(text("Hello.", usage=usage))
    answer = call(gpt(server), GPT)
    assert answer.usage is None
    assert isinstance(answer.usage_raw, dict)
    assert answer.usage_raw["completion_tokens"] == -1


def test_what_the_provider_bills(server: Loopback, call: Call, told: Told) -> None:
    """A cost in the provider's usage is the bill, as OpenRouter sends it; one that LiteLLM works
    out for a stream is not."""
    usage: JSON = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "cost": 0.0012}
    server.answers(text("Hello.", usage=usage))
    assert call(gpt(server), GPT).billed == 1_200_000
    server.answers(chat("Hel", "lo.", usage=usage))
    assert told(gpt(server), GPT, lambda _: None).billed == 1_200_000
    server.answers(chat("Hel", "lo.", usage=USED))
    assert told(gpt(server), GPT, lambda _: None).billed is None


@pytest.mark.money
def test_ollama_is_free(server: Loopback, call: Call) -> None:
    """A model of Ollama runs on one's own machine, and costs nothing."""
    body = {
        "model": "llama3.2",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "Hello."},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 20,
        "eval_count": 5,
    }
    server.answers(Reply(body=json.dumps(body).encode()))
    model = "ollama_chat/llama3.2"
    invoker = LiteLLMInvoker(api_base=claude.base_url(server)).for_model(model)
    answer = call(invoker, Request(model=model, messages=HI))
    assert answer.usage == Usage(input=20, output=5)
    found = price(answer.usage, provider=invoker.provider, model=answer.model, at=0)
    assert (found.status, found.nanos) == ("free", 0)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's cache in memory, and a stand-in for what its proxy alone needs.

    From 1.102 on LiteLLM asks of a hit whether it is of a class whose module imports the proxy,
    and with it packages that only litellm[proxy] brings along. Versions name that module otherwise.
    """
    library()
    from litellm.caching import caching_handler
    from litellm.caching.caching import Cache

    source = Path(caching_handler.__file__).read_text()
    for name in set(
        re.findall(r"from (litellm\.llms\.anthropic\.\S+\.response_cache) import", source)
    ):
        stand_in = types.ModuleType(name)
        vars(stand_in)["CachedAnthropicMessagesStreamIterator"] = type("Never", (), {})
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr("litellm.cache", Cache())


def test_a_package_that_litellm_does_not_bring_along_is_named(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hit of LiteLLM's cache takes packages of its proxy: the error names the first that is
    missing, says how to get it, and is no reason to ask again."""
    library()
    from litellm.caching.caching import Cache

    monkeypatch.setattr("litellm.cache", Cache())
    monkeypatch.setitem(sys.modules, "fastapi", None)  # as where it is not installed
    for name in [name for name in sys.modules if name.startswith("litellm.proxy")]:
        monkeypatch.delitem(sys.modules, name)
    asked = msgspec.structs.replace(GPT, params={"caching": True, "user": call.__qualname__})
    call(gpt(server), asked)
    with pytest.raises(InvokeError, match="'fastapi' for this request") as told:
        call(gpt(server), asked)
    assert 'pip install "litellm[proxy]"' in str(told.value)
    assert not told.value.retryable


@pytest.mark.usefixtures("cache")
def test_a_hit_of_litellms_cache_is_free(server: Loopback, call: Call) -> None:
    """What LiteLLM serves from its cache costs nothing, and says so."""
    asked = msgspec.structs.replace(GPT, params={"caching": True, "user": call.__qualname__})
    first, second = call(gpt(server), asked), call(gpt(server), asked)
    assert len(server.requests) == 1
    assert (first.free, second.free) == (None, "served from litellm's cache")
    assert first.content == second.content


@pytest.mark.usefixtures("cache")
def test_a_stream_from_litellms_cache_is_free(server: Loopback, told: Told) -> None:
    """The same goes for an answer that is streamed from the cache."""
    server.answers(chat("Hel", "lo.", usage=USED))
    asked = msgspec.structs.replace(GPT, params={"caching": True, "user": told.__qualname__})
    first = told(gpt(server), asked, lambda _: None)
    kept = vars(library())["cache"].cache.cache_dict
    while not kept:
        time.sleep(0.01)  # it is written behind the answer
    pieces: list[str] = []
    second = told(gpt(server), asked, pieces.append)
    assert len(server.requests) == 1
    assert (first.free, second.free) == (None, "served from litellm's cache")
    assert ("".join(pieces), second.content) == ("Hello.", first.content)


# Streams


def test_a_stream_of_openais(server: Loopback, told: Told) -> None:
    """Text is handed on piece by piece; the rest is as if it had not been streamed."""
    server.answers(
        chat(
            "Hel",
            "lo.",
            call_piece(0, "", id="call_1", name="look"),
            call_piece(0, '{"key":'),
            call_piece(0, '"a"}'),
            finish="tool_calls",
            usage=USED,
        )
    )
    pieces: list[str] = []
    answer = told(gpt(server), msgspec.structs.replace(GPT, tools=(LOOK,)), pieces.append)
    assert pieces == ["Hel", "lo."]
    assert answer.content.text == "Hello."
    assert answer.content.tool_calls == (ToolCall("call_1", "look", '{"key":"a"}'),)
    assert (answer.finish, answer.model) == ("tool_calls", "gpt-4o-mini-2024-07-18")
    assert answer.usage == Usage(input=20, output=5, cache_read=8)
    assert answer.request_id == "req_1"
    assert answer.first_token is not None
    assert answer.first_token > 0
    assert server.requests[0].body["stream_options"] == {"include_usage": True}


def test_a_stream_of_anthropics(server: Loopback, told: Told) -> None:
    """The same in Anthropic's dialect."""
    blocks = (claude.says("Hello."), claude.wants(1, "look", key="a"))
    said = claude.message(*blocks, stop="tool_use", usage=CACHED)
    server.answers(claude.stream_of(_events_of(said)))
    pieces: list[str] = []
    answer = told(haiku(server), msgspec.structs.replace(CLAUDE, tools=(LOOK,)), pieces.append)
    assert pieces == ["Hel", "lo."]
    (wanted,) = answer.content.tool_calls
    assert (wanted.id, wanted.name, json.loads(wanted.arguments)) == (
        "toolu_1", "look", {"key": "a"},
    )  # fmt: skip
    assert (answer.finish, answer.usage) == ("tool_calls", COUNTS)


def test_a_stream_without_usage(server: Loopback, told: Told) -> None:
    """LiteLLM's estimate is not taken for a usage that the provider did not send."""
    server.answers(sse(chunk(content="Hel"), chunk(content="lo."), chunk("stop"), "[DONE]"))
    answer = told(gpt(server), GPT, lambda _: None)
    assert (answer.content.text, answer.usage, answer.usage_raw) == ("Hello.", None, None)


@pytest.mark.parametrize("end", ["whole", "cut"])
def test_a_stream_that_breaks_off(server: Loopback, told: Told, end: Any) -> None:
    """What came before a stream broke off is told, whether the connection broke with it or not,
    and another attempt may bring it all."""
    server.answers(sse(chunk(content="Hel"), chunk(content="lo."), end=end))
    pieces: list[str] = []
    with pytest.raises(InvokeError) as caught:
        told(gpt(server), GPT, pieces.append)
    assert caught.value.retryable
    assert pieces == ["Hel", "lo."]
    assert caught.value.partial == Content.of("assistant", "Hello.")
    assert caught.value.usage is None


def test_an_error_in_the_middle_of_a_stream(server: Loopback, told: Told) -> None:
    """An error event is the failure, with what had come, and the usage that had been said."""
    begun = claude.events_of(claude.message(claude.says("Hello."), usage=CACHED))[:4]
    server.answers(claude.stream_of([*begun, claude.error_event()]))
    with pytest.raises(InvokeError, match="Overloaded") as caught:
        told(haiku(server), CLAUDE, lambda _: None)
    assert caught.value.retryable
    assert caught.value.partial == Content.of("assistant", "Hel")
    assert caught.value.usage is not None
    assert (caught.value.usage.input, caught.value.usage.cache_read) == (1_310, 1_000)


def test_what_on_text_raises_ends_the_stream(server: Loopback, told: Told) -> None:
    """An exception of the one who is told comes out as it is."""

    class Enough(Exception):
        pass

    def once(_: str) -> None:
        raise Enough

    server.answers(chat("Hel", "lo.", usage=USED))
    with pytest.raises(Enough) as caught:
        told(gpt(server), GPT, once)
    assert caught.value.__context__ is None


def test_a_stream_that_is_refused(server: Loopback, told: Told) -> None:
    """An error before the first piece is like that of a call that is not streamed."""
    for invoker, asked in both(server):
        server.answers(failure(429, headers={"Retry-After": "2"}))
        with pytest.raises(InvokeError) as caught:
            told(invoker, asked, lambda _: None)
        assert (caught.value.status, caught.value.retry_after) == (429, 2 * 10**9)
        assert caught.value.partial is None


# What fails


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (401, False), (403, False), (404, False), (413, False), (429, True),
     (500, True), (503, True), (529, True)],
)  # fmt: skip
def test_an_error_of_the_provider(
    server: Loopback, call: Call, status: int, retryable: bool
) -> None:
    """The provider's own status, code, message and wait are told, in both dialects."""
    for invoker, asked in both(server):
        server.answers(failure(status, "It broke.", code="broken", headers={"Retry-After": "3"}))
        error = fail(call, invoker, asked)
        assert (error.status, error.retryable) == (status, retryable)
        assert (error.retry_after, error.request_id) == (3 * 10**9, "req_1")
        assert "It broke." in str(error)
        assert str(error).startswith(f"127.0.0.1 answered {status}")
        assert error.__cause__ is None
        assert error.__context__ is None
    assert len(server.requests) == 2


def test_a_spent_quota_is_not_tried_again(server: Loopback, call: Call) -> None:
    """A 429 that says there is no credit is no reason to wait."""
    server.answers(failure(429, "No credit.", code="insufficient_quota"))
    error = fail(call, gpt(server), GPT)
    assert (error.code, error.retryable) == ("insufficient_quota", False)


def test_no_error_tells_a_key(
    server: Loopback, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were given, or stand in the environment, are cut from errors and answers."""
    other = "gsk_0123456789abcdefgh"
    monkeypatch.setenv("GROQ_API_KEY", other)

    def quoting(_: Received) -> Reply:
        return failure(401, f"Bad key {KEY} or {other}.", code=f"bad {KEY}")

    for invoker, asked in both(server):
        server.answers(quoting)
        error = fail(call, invoker, asked)
        told_of_it = f"{error} {error!r} {error.code} {invoker!r} {vars(error)}"
        assert KEY not in told_of_it
        assert other not in told_of_it
    server.answers(text(f"Your key is {KEY}."))
    assert call(gpt(server), GPT).content.text == "Your key is [api key]."


def test_a_connection_that_breaks(server: Loopback, call: Call) -> None:
    """No status is made up for an answer that never came; another attempt may bring one."""
    for invoker, asked in both(server):
        server.answers(drop())
        error = fail(call, invoker, asked)
        assert (error.status, error.retryable) == (None, True)


def test_a_provider_that_says_nothing(call: Call) -> None:
    """The timeout is the invoker's, and the call may be made again."""
    with Loopback() as silent:
        silent.answers(hang())
        error = fail(call, gpt(silent, timeout=0.2), GPT)
        assert (error.status, error.retryable) == (None, True)
        assert "timed out" in str(error).lower()
        assert len(silent.requests) == 1


@pytest.mark.parametrize("body", [b"not json", b"{}", b"[]", b'{"choices": []}'])
def test_a_body_that_is_no_answer(server: Loopback, call: Call, body: bytes) -> None:
    """Whatever LiteLLM makes of nonsense is an InvokeError, in one line."""
    for invoker, asked in both(server):
        server.answers(Reply(body=body))
        error = fail(call, invoker, asked)
        assert "Traceback" not in str(error)
        assert "answered 500" not in str(error)


def test_a_model_that_litellm_does_not_know(call: Call) -> None:
    """A model without a provider is told in LiteLLM's words, and not tried again."""
    error = fail(call, LiteLLMInvoker(), Request(model="nobody-knows", messages=HI))
    assert not error.retryable
    assert "LLM Provider NOT provided" in str(error)


def test_nothing_is_printed(
    server: Loopback, call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    """LiteLLM's advertisements of failed calls are kept off the terminal."""
    server.answers(failure(500))
    fail(call, gpt(server), GPT)
    fail(call, LiteLLMInvoker(), Request(model="nobody-knows", messages=HI))
    assert capfd.readouterr() == ("", "")


# Loops, forks, processes


def test_the_connections_of_a_loop_are_closed_with_it(server: Loopback) -> None:
    """Nothing of a loop is left for another that gets its place in memory."""

    async def ask() -> str:
        server.answers(text("Hello."))
        await gpt(server).ainvoke(GPT)
        server.answers(claude.replies(claude.says("Hello.")))
        await haiku(server).astream(CLAUDE, lambda _: None)
        return str(id(asyncio.get_running_loop()))

    for _ in range(3):
        loop = asyncio.run(ask())
        kept = vars(library())["in_memory_llm_clients_cache"].cache_dict
        assert not [key for key in kept if key.endswith(f"-{loop}")]
        gc.collect()


def test_a_call_that_is_cancelled() -> None:
    """Cancelling the call cancels the request, and nothing is left behind."""

    async def ask(silent: Loopback) -> None:
        silent.answers(hang())
        asked = asyncio.create_task(gpt(silent).ainvoke(GPT))
        while not silent.requests:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    with Loopback() as silent:
        asyncio.run(ask(silent))


def test_threads_share_an_invoker(server: Loopback) -> None:
    """Any number of threads may ask at once."""
    invoker = gpt(server)
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(invoker.invoke(GPT).content.text))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["Hello."] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_its_own_connection(server: Loopback) -> None:
    """A child asks on a connection of its own, and the parent's goes on as it was."""
    invoker = gpt(server)
    invoker.invoke(GPT)
    kept = vars(library())["in_memory_llm_clients_cache"].cache_dict
    before = dict(kept)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = invoker.invoke(GPT).content.text if not kept else "inherited"
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "Hello."
    os.waitpid(child, 0)
    invoker.invoke(GPT)
    assert all(kept[key] is client for key, client in before.items())


def test_it_goes_to_another_process() -> None:
    """It is pickled with the key that it was given, and no repr shows that."""
    invoker = LiteLLMInvoker(api_base="http://127.0.0.1:1/v1", api_key=KEY).for_model(GPT.model)
    copied = pickle.loads(pickle.dumps(invoker))
    assert repr(copied) == repr(invoker)
    assert KEY not in repr(vars(copied))
    assert (copied.provider, copied.host, copied.port) == ("openai", "127.0.0.1", 1)


def test_nothing_is_imported_before_the_first_call() -> None:
    """An invoker is made without LiteLLM, which takes seconds to import, and without network."""
    code = (
        "import sys; from lllm.invokers.litellm import LiteLLMInvoker; LiteLLMInvoker();"
        "print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_api_base_that_is_none() -> None:
    """What is no web address is told when the invoker is made."""
    with pytest.raises(ConfigError, match="no web address"):
        LiteLLMInvoker(api_base="localhost")


# In a tactic


@pytest.mark.money
def test_each_agent_has_the_provider_of_its_model(server: Loopback, tmp_path: Path) -> None:
    """One invoker serves agents of several providers; events and prices name each one's own."""
    invoker = LiteLLMInvoker(api_base=server.url, api_key=KEY)
    agent = {"name": "a", "model_name": GPT.model, "invoker": invoker}
    with LogStore(LocalFileBackend(tmp_path / "logs")) as store:
        Asking({"agent_configs": [agent]}, log_store=store)("Hi")
        written = payloads(store, store.list_sessions()[0].session_id)
    (asked,) = [data for data in written if isinstance(data, LLMRequested)]
    (answered,) = [data for data in written if isinstance(data, LLMResponded)]
    assert (asked.provider, asked.api, asked.host) == ("openai", "litellm", "127.0.0.1")
    # gpt-4o-mini: 0.15 and 0.60 US dollars for a million tokens; 20 went in, 5 came out.
    assert answered.price.nanos == 20 * 150 + 5 * 600
