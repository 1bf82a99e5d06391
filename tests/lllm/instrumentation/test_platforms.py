"""`lllm.capture` of the clients for clouds: the model and the wish for a stream may stand in the
address, an answer in Amazon's frames, and what signs a request nowhere in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from lllm import LogStore, capture, release
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded
from tests.lllm.instrumentation.asking import ASKED, CHAT, only
from tests.support import loopback_bedrock, loopback_messages
from tests.support.loopback import Loopback, Received, Reply, Script, text
from tests.support.loopback_bedrock import exception, framed, frames_of
from tests.support.loopback_messages import message, says, wants

PROFILE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
VERTEX = "claude-haiku-4-5@20251001"
ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "FwoGZXIvYXdzEBYaDExampleSessionToken0123456789"
GOOGLE_TOKEN = "ya29.a0AfH6SMExampleAccessToken0123456789"
SAID = message(says("Good day."), wants(1, "weather", city="Berlin"), stop="tool_use")


class Platform(NamedTuple):
    """How a client is made, and what it asks for. paths: of a request and of one for a stream."""

    make: Callable[..., Any]
    options: dict[str, Any]
    model: str
    provider: str
    paths: tuple[str, str]
    base: str = ""


SIGNED = {
    "aws_access_key": ACCESS, "aws_secret_key": SECRET, "aws_session_token": SESSION_TOKEN,
    "aws_region": "us-east-1",
}  # fmt: skip
AT = "/v1/projects/my-project/locations/global/publishers/anthropic/models/"
ON_BEDROCK = (f"/model/{PROFILE}/invoke", f"/model/{PROFILE}/invoke-with-response-stream")
ON_VERTEX = (f"{AT}{VERTEX}:rawPredict", f"{AT}{VERTEX}:streamRawPredict")
GOOGLE = {"region": "global", "project_id": "my-project", "access_token": GOOGLE_TOKEN}
PLATFORMS = {
    "bedrock": Platform(anthropic.AnthropicBedrock, SIGNED, PROFILE, "aws", ON_BEDROCK),
    "async bedrock": Platform(anthropic.AsyncAnthropicBedrock, SIGNED, PROFILE, "aws", ON_BEDROCK),
    "vertex": Platform(anthropic.AnthropicVertex, GOOGLE, VERTEX, "google", ON_VERTEX, "/v1"),
    "async vertex": Platform(
        anthropic.AsyncAnthropicVertex, GOOGLE, VERTEX, "google", ON_VERTEX, "/v1"
    ),
}
# Those that only sign in another way, where the SDK that is installed has them.
_PLAIN = {
    "BedrockMantle": (SIGNED, "/anthropic"),
    "AWS": (SIGNED | {"workspace_id": "w"}, ""),
    "Foundry": ({"api_key": SECRET}, "/anthropic"),
    "GoogleCloud": (
        {"project": "p", "workspace_id": "w", "token_provider": lambda: GOOGLE_TOKEN}, "",
    ),
}  # fmt: skip
for _name, (_options, _base) in _PLAIN.items():
    for _beginning in ("", "Async"):
        _made = getattr(anthropic, f"{_beginning}Anthropic{_name}", None)
        if _made is not None:
            PLATFORMS[f"{_beginning}{_name}"] = Platform(
                _made, _options, "claude-haiku-4-5-20251001", "anthropic",
                (f"{_base}/v1/messages",) * 2, _base,
            )  # fmt: skip
ALL = pytest.mark.parametrize("name", PLATFORMS)
BOTH = pytest.mark.parametrize("name", ["bedrock", "async bedrock"])


def client_of(
    server: Loopback, store: LogStore, name: str, provider: str | None = None, **options: Any
) -> Any:
    """A captured client of a platform, asking the loopback server."""
    found = PLATFORMS[name]
    url = f"http://127.0.0.1:{server.port}{found.base}"
    made = found.make(**{"base_url": url, "max_retries": 0} | found.options | options)
    return capture(made, log_store=store, provider=provider or found.provider)


def replies(whole: dict[str, Any]) -> Script:
    """A message as the platform sends it that is asked."""

    def reply(received: Received) -> Reply:
        if received.path.endswith("/invoke-with-response-stream"):
            return loopback_bedrock.streamed(whole)
        if received.body.get("stream"):
            return loopback_messages.streamed(whole)
        return loopback_messages.sent(whole)

    return reply


def run(client: Any, use: Callable[[Any], Any]) -> Any:
    """What a function of the client gives, awaited where it must be; the client is closed."""

    async def main() -> Any:
        async with client:
            return await use(client)

    if isinstance(client, (anthropic.AsyncAnthropic | anthropic._base_client.AsyncAPIClient)):
        return asyncio.run(main())
    with client:
        return use(client)


def create(client: Any, model: str, **options: Any) -> Any:
    """One call of Messages."""
    return client.messages.create(model=model, max_tokens=64, messages=ASKED, **options)


def read(made: Any) -> Any:
    """The events of a stream, or the answer that is none."""
    if inspect.isawaitable(made):

        async def main() -> Any:
            found = await made
            return [one async for one in found] if hasattr(found, "__aiter__") else found

        return main()
    return list(made) if isinstance(made, Iterator) or hasattr(made, "__stream__") else made


def ask(client: Any, model: str, **options: Any) -> Any:
    """One call, read to its end."""
    return run(client, lambda one: read(create(one, model, **options)))


@pytest.mark.money
@ALL
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_asked_and_answered(
    name: str, stream: bool, server: Loopback, store: LogStore
) -> None:
    """The model, the wish for a stream, text, tools, usage and price are recorded, wherever they
    stand; the caller gets what the bare client gives."""
    found = PLATFORMS[name]
    server.answers(replies(SAID))
    bare = ask(release(client_of(server, store, name)), found.model, stream=stream)
    got = ask(client_of(server, store, name), found.model, stream=stream)
    assert got == bare
    assert server.requests[0].path == server.requests[1].path == found.paths[stream]
    assert server.requests[0].body == server.requests[1].body
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert (requested.model, requested.stream) == (found.model, stream)
    assert requested.provider == found.provider
    assert "model" not in (requested.params or {})
    assert responded.asked == found.model
    assert responded.content.text == "Good day."
    [call] = responded.content.tool_calls
    assert (call.name, call.arguments) == ("weather", '{"city": "Berlin"}')
    assert (responded.usage.input, responded.usage.output) == (20, 5)
    rate = 1100 if found.provider == "aws" else 1000  # a profile of the US is a tenth dearer
    assert responded.price.nanos == 20 * rate + 5 * 5 * rate
    assert (responded.first_token is not None) == stream
    assert store.list_sessions()[0].state == "success"


@BOTH
def test_what_bedrock_says_at_the_end(name: str, server: Loopback, store: LogStore) -> None:
    """Its measurements, which come in the last event, are parts of the answer; so is its id."""
    server.answers(replies(SAID))
    ask(client_of(server, store, name), PROFILE, stream=True)
    [responded] = only(store, LLMResponded)
    parts = {part.kind: part.data for part in responded.content.parts}
    said = "amazon-bedrock-invocationMetrics"
    assert parts[said] == {said: loopback_bedrock.METRICS}
    assert responded.request_id == "req_aws"


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_frames_in_any_pieces(size: int, server: Loopback, store: LogStore) -> None:
    """However the connection cuts the frames, the same is recorded."""
    server.answers(loopback_bedrock.streamed(SAID, size))
    ask(client_of(server, store, "bedrock"), PROFILE, stream=True)
    [responded] = only(store, LLMResponded)
    assert responded.content.text == "Good day."
    assert responded.usage.output == 5


def test_the_helper_and_the_raw_ways(server: Loopback, store: LogStore) -> None:
    """`.stream()`, `.with_raw_response` and `.with_streaming_response` of Bedrock and Vertex."""
    server.answers(replies(message(says("Hello."))))
    asked: Any = {"max_tokens": 9, "messages": ASKED}
    for name in ("bedrock", "vertex"):
        model = PLATFORMS[name].model
        with client_of(server, store, name) as client:
            with client.messages.stream(model=model, **asked) as stream:
                assert stream.get_final_message().content[0].text == "Hello."
            raw = client.messages.with_raw_response.create(model=model, **asked)
            assert raw.parse().content[0].text == "Hello."
            streaming = client.messages.with_streaming_response.create(
                model=model, stream=True, **asked
            )
            with streaming as response:
                assert b"".join(response.iter_bytes())
        assert [one.state for one in store.list_sessions(limit=3)] == ["success"] * 3
        for session in store.list_sessions(limit=3):
            [responded] = only(store, LLMResponded, session.session_id)
            assert (responded.asked, responded.content.text) == (model, "Hello.")


@pytest.mark.money
def test_who_answers_decides_the_price(server: Loopback, store: LogStore) -> None:
    """The rates are those of the inference profile that was asked for, though the answer names the
    model alone; where that can't be told, it is unpriced."""
    server.answers(replies(message(says("Hello."))))
    arn = "arn:aws:bedrock:us-east-1:123456789012:"
    for asked, nanos in (
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", 20 * 1000 + 5 * 5000),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", 20 * 1100 + 5 * 5500),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", 20 * 1100 + 5 * 5500),
        (f"{arn}inference-profile/{PROFILE}", 20 * 1100 + 5 * 5500),
        (f"{arn}application-inference-profile/a1b2c3", None),
        (f"{arn}provisioned-model/a1b2c3", None),
    ):
        ask(client_of(server, store, "bedrock"), asked, stream=asked.endswith("0"))
        [responded] = only(store, LLMResponded)
        assert responded.asked == asked
        assert responded.price.nanos == nanos, asked
        assert (responded.price.status == "unpriced") == (nanos is None)
        assert nanos or asked in responded.price.reason
    today = store.export_cost_summary(prices="current", group_by=["model"])
    assert today["unpriced_calls"] == 2


@pytest.mark.money
@pytest.mark.parametrize(("tokens", "priced"), [(200_000, True), (200_001, False)])
def test_long_requests_on_bedrock(
    tokens: int, priced: bool, server: Loopback, store: LogStore
) -> None:
    """A long request of a model that costs more for these with its maker is unpriced where the
    price data does not say it of Bedrock."""
    used = {"input_tokens": tokens, "output_tokens": 1}
    server.answers(replies(message(says("Hello."), usage=used, model="claude-sonnet-4-5-20250929")))
    ask(client_of(server, store, "bedrock"), "global.anthropic.claude-sonnet-4-5-20250929-v1:0")
    [responded] = only(store, LLMResponded)
    assert (responded.price.nanos is not None) == priced
    assert priced or "long requests" in responded.price.reason


@pytest.mark.money
def test_the_region_of_vertex(server: Loopback, store: LogStore) -> None:
    """Of a region's endpoint nobody knows what it costs, behind whatever host it is asked; today's
    prices don't either."""
    server.answers(replies(message(says("Hello."))))
    ask(client_of(server, store, "vertex", region="us-east5"), VERTEX)
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert requested.region == "us-east5"
    assert responded.price.status == "unpriced"
    assert "us-east5" in responded.price.reason
    assert store.export_cost_summary(prices="current")["unpriced_calls"] == 1


@pytest.mark.money
def test_tiers_in_headers(server: Loopback, store: LogStore) -> None:
    """What headers ask for, or say that it was, is a tier, which has no rates here."""
    server.answers(replies(message(says("Hello."))))
    latency = {"X-Amzn-Bedrock-PerformanceConfig-Latency": "optimized"}
    dedicated = {"X-Vertex-AI-LLM-Request-Type": "dedicated"}
    for name, headers, tier in (
        ("bedrock", latency, "optimized"),
        ("vertex", dedicated, "dedicated"),
        ("bedrock", {"X-Amzn-Bedrock-Service-Tier": "default"}, "standard"),
    ):
        client = client_of(server, store, name)
        ask(client, PLATFORMS[name].model, stream=True, extra_headers=headers)
        [responded] = only(store, LLMResponded)
        assert responded.service_tier == tier
        assert (responded.price.status == "priced") == (tier == "standard")
    reply = loopback_messages.sent(message(says("Hello.")))
    server.answers(Reply(body=reply.body, headers={"X-Amzn-Bedrock-Service-Tier": "flex"}))
    ask(client_of(server, store, "bedrock"), PROFILE)
    [responded] = only(store, LLMResponded)
    assert (responded.service_tier, responded.price.status) == ("flex", "unpriced")


@pytest.mark.money
def test_a_guardrail_costs_more(server: Loopback, store: LogStore) -> None:
    """What a guardrail did is kept, and it has a fee that nobody here knows."""
    server.answers(replies(message(says("Hello."), **{"amazon-bedrock-guardrailAction": "NONE"})))
    ask(client_of(server, store, "bedrock"), PROFILE)
    [responded] = only(store, LLMResponded)
    assert responded.price.status == "unpriced"
    assert "guardrail" in responded.price.reason


# -- what goes wrong


def fails(client: Any, model: str, **options: Any) -> BaseException:
    """What a call raises."""
    try:
        ask(client, model, **options)
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@BOTH
def test_attempts_that_fail(name: str, server: Loopback, store: LogStore) -> None:
    """Each attempt of the SDK is one event; Amazon's kinds and ids of errors are told."""
    server.answers(
        loopback_bedrock.failure(
            429, "ThrottlingException", "Too many.", **{"retry-after-ms": "1"}
        ),
        loopback_bedrock.failure(500, "InternalServerException", "Oh.", **{"retry-after-ms": "1"}),
        replies(SAID),
    )
    ask(client_of(server, store, name, max_retries=2), PROFILE, stream=True)
    requested, failed = only(store, LLMRequested), only(store, LLMFailed)
    assert [one.attempt for one in requested] == [1, 2, 3]
    assert [one.model for one in requested] == [PROFILE] * 3
    assert [one.error.status for one in failed] == [429, 500]
    assert [one.error.code for one in failed] == ["ThrottlingException", "InternalServerException"]
    assert "Too many." in failed[0].error.message
    assert failed[0].request_id == "req_aws"
    assert [one.price.status for one in failed] == ["free", "unpriced"]
    assert only(store, LLMResponded)[0].content.text == "Good day."


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("bedrock", {"Message": "Not for you."}, "AccessDeniedException"),
        ("bedrock", {"message": "Not for you."}, "AccessDeniedException"),
        ("vertex", {"error": {"code": 403, "message": "Not for you."}}, "403"),
        ("vertex", [{"error": {"code": 403, "message": "Not for you."}}], "403"),
    ],
)
def test_how_clouds_word_an_error(
    name: str, body: Any, code: str, server: Loopback, store: LogStore
) -> None:
    """Amazon's and Google's forms of an error, whichever way they write it."""
    kind = {"x-amzn-ErrorType": "AccessDeniedException"} if name == "bedrock" else {}
    server.answers(Reply(403, json.dumps(body).encode(), kind))
    fails(client_of(server, store, name), PLATFORMS[name].model, stream=True)
    [failed] = only(store, LLMFailed)
    assert (failed.error.status, failed.error.code) == (403, code)
    assert "Not for you." in failed.error.message
    assert failed.price.nanos == 0


@BOTH
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (exception("throttlingException", "Slow down."), 429),
        (exception("modelStreamErrorException", "Slow down."), 424),
        (exception("validationException", "Slow down."), 400),
        (exception("somethingNewException", "Slow down."), 500),
        (loopback_bedrock.error("InternalFailure", "Slow down."), 500),
    ],
)
def test_an_exception_in_the_stream(
    name: str, sent: bytes, status: int, server: Loopback, store: LogStore
) -> None:
    """It is the caller's as ever, and a failed attempt with what had come."""
    pieces = [*frames_of(SAID)[:5], sent]
    server.answers(framed(*pieces))
    bare = fails(release(client_of(server, store, name)), PROFILE, stream=True)
    raised = fails(client_of(server, store, name), PROFILE, stream=True)
    assert (type(raised), str(raised)) == (type(bare), str(bare))
    [failed] = only(store, LLMFailed)
    assert failed.error.status == status
    assert "Slow down." in failed.error.message
    assert failed.partial.text == "Good d"
    assert failed.usage.input == 20
    assert failed.price.status == "unpriced"
    assert not failed.cancelled


def test_an_exception_before_the_answer(server: Loopback, store: LogStore) -> None:
    """What was refused before anything came cost nothing."""
    server.answers(framed(exception("throttlingException", "Slow down.")))
    fails(client_of(server, store, "bedrock"), PROFILE, stream=True)
    [failed] = only(store, LLMFailed)
    assert (failed.error.status, failed.price.status) == (429, "free")


@BOTH
def test_a_damaged_frame(name: str, server: Loopback, store: LogStore) -> None:
    """A checksum that is wrong is the caller's error as ever, and a failed attempt that says so."""
    pieces = frames_of(SAID)
    pieces[4] = pieces[4][:-20] + bytes([pieces[4][-20] ^ 1]) + pieces[4][-19:]
    server.answers(framed(*pieces))
    bare = fails(release(client_of(server, store, name)), PROFILE, stream=True)
    raised = fails(client_of(server, store, name), PROFILE, stream=True)
    assert type(raised) is type(bare)
    [failed] = only(store, LLMFailed)
    assert "ChecksumMismatch" in failed.error.message
    assert failed.partial.text == "Goo"
    assert (failed.cancelled, failed.price.status) == (False, "unpriced")


def test_no_frames_at_all(server: Loopback, store: LogStore) -> None:
    """A proxy's page in place of a stream is a failed attempt."""
    page = b"<html>Something is wrong with this proxy, and with its content type.</html>"
    server.answers(Reply(body=page, headers={"Content-Type": loopback_bedrock.KIND}))
    fails(client_of(server, store, "bedrock"), PROFILE, stream=True)
    [failed] = only(store, LLMFailed)
    assert "can't be read" in failed.error.message
    assert failed.price.status == "unpriced"


@pytest.mark.parametrize("end", ["whole", "cut"])
@BOTH
def test_a_stream_that_is_cut(name: str, end: Any, server: Loopback, store: LogStore) -> None:
    """A stream that ends within a frame is a failed attempt, whether the SDK notices or not."""
    pieces = frames_of(SAID)
    server.answers(framed(*pieces[:5], pieces[5][:30], end=end))
    with suppress(Exception):
        ask(client_of(server, store, name), PROFILE, stream=True)
    [failed] = only(store, LLMFailed)
    assert failed.partial.text == "Good d"
    assert (failed.cancelled, failed.price.status) == (False, "unpriced")
    assert store.list_sessions()[0].state == "failure"


def test_a_stream_that_is_left(server: Loopback, store: LogStore) -> None:
    """A caller who wants no more leaves an attempt that was cancelled, with what had come."""
    server.answers(framed(*frames_of(SAID)[:5], threading.Event(), end="hang"))
    with client_of(server, store, "bedrock") as client:
        stream = create(client, PROFILE, stream=True)
        for _, event in zip(range(4), stream, strict=False):
            assert event.type
        stream.close()
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert failed.partial.text.startswith("Goo")
    assert failed.price.status == "unpriced"


def test_without_botocore(
    server: Loopback, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that nobody here can read are the caller's as ever; the log says what is missing."""
    monkeypatch.setitem(sys.modules, "botocore.eventstream", None)
    server.answers(replies(SAID))
    unsigned = dict.fromkeys(("aws_access_key", "aws_secret_key", "aws_session_token"))
    key = "bedrock-api-key-0123456789"
    made = client_of(server, store, "bedrock", api_key=key, **unsigned)
    with made as client:
        raw = client.messages.with_streaming_response.create(
            model=PROFILE, max_tokens=9, messages=ASKED, stream=True
        )
        with raw as response:
            assert b"".join(response.iter_bytes()) == b"".join(frames_of(SAID))
    [failed] = only(store, LLMFailed)
    assert "anthropic[bedrock]" in failed.error.message
    assert failed.price.status == "unpriced"


# -- what must not be told


@ALL
def test_no_credential_is_written(name: str, server: Loopback, store: LogStore) -> None:
    """Signatures, keys and tokens that a provider quotes are in no event."""
    found = PLATFORMS[name]
    held = [one for one in found.options.values() if isinstance(one, str) and len(one) >= 20]
    quoted = list(held)  # a proxy may have them, too

    def quoting(received: Received) -> Reply:
        headers = received.headers
        names = ("authorization", "x-api-key", "api-key", "x-amz-security-token")
        quoted.extend(headers[one] for one in names if one in headers)
        quoted.extend(
            part.partition("=")[2].partition("/")[0]
            for part in headers.get("authorization", "").replace(",", " ").split()
            if part.startswith(("Credential=", "Signature="))
        )
        said = " and ".join(["The request had", *quoted, *(one.split()[-1] for one in quoted)])
        return loopback_messages.failure(403, "permission_error", said)

    server.answers(quoting)
    fails(client_of(server, store, name), found.model, stream=True)
    [failed] = only(store, LLMFailed)
    assert failed.error.status == 403
    session = store.list_sessions()[0].session_id
    written = store.export_session(session, format="jsonl")
    assert len(quoted) > len(held)
    for secret in (*quoted, ACCESS, SECRET, SESSION_TOKEN, GOOGLE_TOKEN):
        assert secret not in written
        assert secret.split()[-1] not in written


# -- Azure


@pytest.mark.money
@pytest.mark.parametrize("make", [openai.AzureOpenAI, openai.AsyncAzureOpenAI])
@pytest.mark.parametrize("deployment", [None, "prod-1"])
def test_azure(
    make: Callable[..., Any], deployment: str | None, server: Loopback, store: LogStore
) -> None:
    """A deployment in the address: what was asked for is what the caller says, and the price is of
    the model that answers."""
    server.answers(text("Hello."))
    url = f"http://127.0.0.1:{server.port}"
    made = make(
        azure_endpoint=url, azure_deployment=deployment, api_key=SECRET, api_version="2024-10-21",
        max_retries=0,
    )  # fmt: skip
    client = capture(made, log_store=store, provider="azure")

    def use(one: Any) -> Any:
        return one.chat.completions.create(model="my-deployment", messages=ASKED)

    async def amain() -> Any:
        async with client:
            return await use(client)

    if make is openai.AsyncAzureOpenAI:
        asyncio.run(amain())
    else:
        with client:
            use(client)
    where = deployment or "my-deployment"
    assert server.requests[0].path.startswith(f"/openai/deployments/{where}/chat/completions")
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert (requested.model, requested.provider) == ("my-deployment", "azure")
    assert responded.model.startswith(CHAT)
    assert responded.price.nanos == 20 * 150 + 5 * 600
