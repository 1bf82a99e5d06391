"""What an attempt cost that failed: nothing where it was not served, what its usage says where that
is whole, and otherwise nobody knows.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import openai
import pytest

from lllm import LogStore, SQLiteBackend, capture
from lllm.events.errors import ConfigError, InvokeError, LogUnavailable
from lllm.events.model import LLMFailed, LLMResponded, Price, Usage
from lllm.invokers import Request
from lllm.invokers.dialects.chat_completions import answer as of_chat
from lllm.invokers.openai import OpenAIInvoker
from lllm.pricing.user_prices import PriceTable
from lllm.sessions.attempt import Attempt
from tests.lllm.instrumentation.asking import (
    ASKED,
    CHAT,
    CLAUDE,
    chat_client,
    claude_client,
    only,
    streamed,
)
from tests.support import loopback, loopback_messages
from tests.support.loopback import Loopback, Reply
from tests.support.loopback_streams import chunk, sse

USED = Usage(input=1000, output=10)


@pytest.fixture
def store(tmp_path: Any) -> Any:
    """A store of one test."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def failed(error: BaseException, said: str = "", **how: Any) -> LLMFailed:
    """The event of an attempt at gpt-4o-mini that failed."""
    began = time.perf_counter_ns()
    attempt = Attempt(**{
        "request": 1, "agent": "a", "provider": "openai", "asked": CHAT, "began": began, **how,
    })  # fmt: skip
    return attempt.failed(error, said=said)


def price_of(error: BaseException, said: str = "", **how: Any) -> Price:
    """What it cost."""
    price = failed(error, said, **how).price
    assert price is not None
    return price


def answered(status: int, **more: Any) -> InvokeError:
    """An error with an HTTP status."""
    return InvokeError("No.", retryable=False, status=status, **more)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
def test_what_was_refused_cost_nothing(status: int) -> None:
    """A request that no model saw is not billed, and the price says why."""
    price = price_of(answered(status))
    assert (price.status, price.nanos) == ("free", 0)
    assert "not served" in (price.reason or "")


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_what_may_have_been_served_is_unpriced(status: int) -> None:
    """A model may have worked for what ended with an error of the provider's own."""
    price = price_of(answered(status))
    assert (price.status, price.nanos) == ("unpriced", None)


@pytest.mark.parametrize(
    ("error", "served"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("busy"), False),
        (httpx.ReadTimeout("silent"), True),
        (httpx.WriteTimeout("stuck"), True),
        (httpx.ReadError("gone"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (KeyboardInterrupt(), True),
        (TypeError("no Answer"), True),
        (ConfigError("no key"), False),
        (LogUnavailable("full"), False),
    ],
)
def test_errors_without_a_status(error: BaseException, served: bool) -> None:
    """Without a connection nothing was sent; a timeout afterwards says nothing."""
    price = price_of(error)
    assert (price.nanos is None) == served


def test_what_came_of_a_refused_answer() -> None:
    """A 429 in the middle of an answer does not undo what was used."""
    whole = price_of(answered(429, usage=USED))
    assert whole.nanos == 1000 * 150 + 10 * 600
    assert price_of(answered(429, unfinished=True)).nanos is None


def test_it_is_priced_as_an_answer_is() -> None:
    """By what the provider billed, by its service tier, by the model that answered."""
    billed = answered(500, usage=USED, billed=77)
    assert (price_of(billed).status, price_of(billed).nanos) == ("provider", 77)
    tier = answered(500, usage=USED, service_tier="priority", model="gpt-4o-mini-2024-07-18")
    event = failed(tier)
    assert event.price is not None
    assert event.price.nanos == 1000 * 250 + 10 * 1000
    assert (event.service_tier, event.model) == ("priority", "gpt-4o-mini-2024-07-18")
    assert price_of(answered(500, usage=USED, service_tier="scale")).nanos is None


def test_a_model_of_ones_own_stays_free() -> None:
    """Whatever it used, nobody is billed for it."""
    for how in (
        {"provider": "ollama"},
        {"provider": "localhost", "host": "localhost", "port": 11434},
        {"prices": PriceTable.of({CHAT: 0})},
    ):
        price = price_of(answered(500), **how)
        assert (price.status, price.nanos) == ("free", 0)


# -- of real clients and servers


@pytest.mark.parametrize(
    "choices",
    [[], [{"index": 0, "finish_reason": "content_filter"}], [{"message": None}], None],
)
def test_an_answer_without_a_message(server: Loopback, store: LogStore, choices: Any) -> None:
    """What a 200 used that has no message is billed."""
    body = {
        "id": "c", "object": "chat.completion", "model": CHAT, "choices": choices,
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }  # fmt: skip
    with pytest.raises(InvokeError) as caught:
        of_chat(body, model=CHAT, request_id=None)
    assert caught.value.usage == USED
    server.answers(loopback.Reply(body=loopback.json.dumps(body).encode()))
    client = capture(chat_client(server), log_store=store, provider="openai")
    client.chat.completions.create(model=CHAT, messages=ASKED)
    [event] = only(store, LLMFailed)
    assert event.price.nanos == 1000 * 150 + 10 * 600
    assert store.export_cost_summary()["total_cost_usd"] == 0.000156


def test_an_error_in_a_200_keeps_its_usage(server: Loopback) -> None:
    """So is what one used whose body has an error in it; its status is the error's."""
    body = {
        "error": {"code": 502, "message": "Upstream."},
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "cost": 0.25},
    }
    server.answers(loopback.Reply(body=loopback.json.dumps(body).encode()))
    with pytest.raises(InvokeError) as caught:
        OpenAIInvoker(base_url=server.url, provider="openrouter").invoke(Request(CHAT, ()))
    assert (caught.value.status, caught.value.billed) == (502, 250_000_000)


def test_a_body_that_cannot_be_read(server: Loopback, store: LogStore) -> None:
    """A 200 that is no JSON may have cost something."""
    server.answers(Reply(body=b"<html>"))
    client = capture(chat_client(server), log_store=store, provider="openai")
    client.chat.completions.with_raw_response.create(model=CHAT, messages=ASKED)
    [event] = only(store, LLMFailed)
    assert event.price.status == "unpriced"
    assert store.export_cost_summary()["unpriced_calls"] == 1


def test_no_connection(store: LogStore) -> None:
    """Nothing was sent to a port that nobody listens at."""
    with Loopback() as gone:
        url = gone.url
    client = openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        capture(client, log_store=store).chat.completions.create(model=CHAT, messages=ASKED)
    [event] = only(store, LLMFailed)
    assert (event.price.status, event.price.nanos) == ("free", 0)
    summary = store.export_cost_summary()
    assert (summary["failed_calls"], summary["unpriced_calls"]) == (1, 0)


def test_a_stream_of_claude_that_is_cut(server: Loopback, store: LogStore) -> None:
    """The output that a message begins with is a placeholder: what is known is kept."""
    whole = loopback_messages.message(loopback_messages.says("Never read to its end."))
    server.answers(loopback_messages.stream_of(loopback_messages.events_of(whole)[:5]))
    client = capture(claude_client(server), log_store=store, provider="anthropic")
    list(client.messages.create(model=CLAUDE, max_tokens=9, messages=ASKED, stream=True))
    [event] = only(store, LLMFailed)
    assert event.usage.input > 0
    assert (event.price.status, event.price.nanos) == ("unpriced", None)
    assert "broke off" in event.price.reason


@pytest.mark.parametrize("growing", [True, False])
def test_a_chat_that_is_cut(server: Loopback, store: LogStore, growing: bool) -> None:
    """Counts that come with every piece, from the first, may still grow; one that comes alone is
    the last."""
    usage = {"usage": {"prompt_tokens": 1000, "completion_tokens": 10}}
    first = chunk(content="Hel") | (usage if growing else {})
    server.answers(sse(first, chunk(content="lo") | usage, end="cut"))
    client = capture(chat_client(server), log_store=store, provider="openai")
    with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
        list(streamed(client))
    [event] = only(store, LLMFailed)
    assert event.usage == USED
    assert event.price.nanos == (None if growing else 156_000)


def test_what_a_gateway_says_in_a_header(server: Loopback, store: LogStore) -> None:
    """LiteLLM's proxy says what an answer cost; nothing is no answer to that."""
    whole = loopback.text("Hi.")
    client = capture(chat_client(server), log_store=store)
    for said, status, nanos in (("0.00123", "provider", 1_230_000), ("0.0", "unpriced", None),
                                ("x", "unpriced", None)):  # fmt: skip
        server.answers(Reply(body=whole.body, headers={"x-litellm-response-cost": said}))
        client.chat.completions.create(model=CHAT, messages=ASKED)

        [event] = only(store, LLMResponded)
        assert (event.price.status, event.price.nanos) == (status, nanos)
