"""`lllm.capture` however the SDK is asked for an answer, and whatever brings it: a server, a client
of httpx of the user's own, a hook that reads every body first, a transport that answers by itself.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from lllm import LogStore, capture, release
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded
from tests.lllm.instrumentation.asking import ASKED, CHAT, CLAUDE, KEY, only
from tests.support import loopback_bedrock, loopback_messages, loopback_responses
from tests.support.loopback import Loopback, Received, Reply, text
from tests.support.loopback_streams import chat

MESSAGE = loopback_messages.message(loopback_messages.says("Hello."))
RESPONSE = loopback_responses.response(loopback_responses.says("Hello."))


class Api(NamedTuple):
    """One API: how its client is made for a server and on which loop, whom to ask what, and what
    comes back whole and as a stream."""

    makes: tuple[Callable[..., Any], Callable[..., Any]]
    options: dict[str, Any]
    versioned: bool  # whether its base URL has the version
    of: Callable[[Any], Any]
    asked: dict[str, Any]
    whole: Callable[[], Reply]
    stream: Callable[[], Reply]

    def answers(self, received: Received) -> Reply:
        """What the API says to a request."""
        in_path = "response-stream" in received.path  # as Bedrock has it
        return self.stream() if in_path or received.body.get("stream") else self.whole()


MESSAGES = {"model": CLAUDE, "max_tokens": 9, "messages": ASKED}
APIS = {
    "chat": Api(
        (openai.OpenAI, openai.AsyncOpenAI), {"api_key": KEY}, True,
        lambda client: client.chat.completions, {"model": CHAT, "messages": ASKED},
        lambda: text("Hello."), lambda: chat("Hel", "lo."),
    ),
    "responses": Api(
        (openai.OpenAI, openai.AsyncOpenAI), {"api_key": KEY}, True,
        lambda client: client.responses, {"model": "gpt-5-mini", "input": "?"},
        lambda: loopback_responses.sent(RESPONSE), lambda: loopback_responses.streamed(RESPONSE),
    ),
    "messages": Api(
        (anthropic.Anthropic, anthropic.AsyncAnthropic), {"api_key": KEY}, False,
        lambda client: client.messages, MESSAGES,
        lambda: loopback_messages.sent(MESSAGE), lambda: loopback_messages.streamed(MESSAGE),
    ),
    "bedrock": Api(
        (anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock),
        {"api_key": KEY, "aws_region": "us-east-1"}, False,
        lambda client: client.messages, MESSAGES,
        lambda: loopback_messages.sent(MESSAGE), lambda: loopback_bedrock.streamed(MESSAGE),
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", APIS)


def httpx_of(api: Api) -> Any:
    """The httpx that the SDK is made for, whichever of its names it has."""
    kinds = importlib.import_module(api.makes[0].__module__.partition(".")[0]).DefaultHttpxClient
    names = (kind.__module__.partition(".")[0] for kind in kinds.__mro__)
    return importlib.import_module(next(name for name in names if name.startswith("httpx")))


def reading(response: Any) -> None:
    """A hook that reads every body."""
    response.read()


async def areading(response: Any) -> None:
    """The same on an event loop."""
    await response.aread()


async def one_by_one(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body on an event loop."""
    for piece in pieces:
        yield piece


def body_of(reply: Reply) -> bytes:
    """All that a reply has."""
    pieces = reply.pieces or [reply.body]
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def transports(api: Api, *, awaited: bool) -> dict[str, Any]:
    """What may bring the answer: None for the SDK's own client, or a client of httpx."""
    httpx = httpx_of(api)
    hook = {"response": [areading if awaited else reading]}

    def answering(*, at_once: bool) -> Any:
        def answered(request: Any) -> Any:
            asked = Received(request.url.path, request.headers, json.loads(request.content))
            reply = api.answers(asked)
            kind = "application/json" if reply.pieces is None else "text/event-stream"
            body = body_of(reply)
            pieces = [body[:9], body[9:]]
            content = body if at_once else one_by_one(pieces) if awaited else iter(pieces)
            headers = {"content-type": kind, **reply.headers}
            return httpx.Response(reply.status, content=content, headers=headers)

        return httpx.MockTransport(answered)

    def client(**options: Any) -> Any:
        made = httpx.AsyncClient if awaited else httpx.Client
        return made(verify=False, **options)

    return {
        "the SDK's own": None,
        "a client of one's own": client(timeout=30),
        "a hook that reads": client(event_hooks=hook),
        "a transport that answers": client(transport=answering(at_once=True)),
        "one that answers in pieces": client(transport=answering(at_once=False)),
        "a hook on such a transport": client(transport=answering(at_once=False), event_hooks=hook),
    }


WAYS = ("create", "with_raw_response", "with_streaming_response")
CALLS = [(way, stream) for way in WAYS for stream in (False, True)]


def used(resource: Any, way: str, **asked: Any) -> None:
    """One call, read to its end."""
    if way == "with_streaming_response":
        with resource.with_streaming_response.create(**asked) as response:
            assert b"".join(response.iter_bytes())
        return
    raw = way == "with_raw_response"
    made = resource.with_raw_response.create(**asked).parse() if raw else resource.create(**asked)
    if asked["stream"]:
        assert list(made)


async def aused(resource: Any, way: str, **asked: Any) -> None:
    """The same on an event loop."""
    if way == "with_streaming_response":
        async with resource.with_streaming_response.create(**asked) as response:
            assert [one async for one in response.iter_bytes()]
        return
    raw = way == "with_raw_response"
    made = await (resource.with_raw_response if raw else resource).create(**asked)
    if raw:
        made = made.parse()
        made = await made if inspect.isawaitable(made) else made
    if asked["stream"]:
        assert [one async for one in made]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_client_that_gets_another(awaited: bool, server: Loopback, store: LogStore) -> None:
    """A client whose client of httpx is replaced after it was captured is recorded as before, as
    some frameworks do with each event loop; released, it keeps the new one."""
    api = APIS["chat"]
    server.answers(api.answers)
    made = api.makes[awaited](base_url=server.url, max_retries=0, **api.options)
    client = capture(made, log_store=store)

    def replaced() -> Any:
        client._client = transports(api, awaited=awaited)["a client of one's own"]
        return client._client

    async def amain() -> None:
        for _ in range(2):
            await aused(api.of(client), "create", stream=True, **api.asked)
            await client._client.aclose()
            replaced()
        await client.close()

    if awaited:
        asyncio.run(amain())
        assert [one.calls for one in store.list_sessions()] == [1, 1]
        return
    used(api.of(client), "create", stream=True, **api.asked)
    client.close()
    new = replaced()
    used(api.of(client), "create", stream=True, **api.asked)
    assert [one.calls for one in store.list_sessions()] == [1, 1]
    release(client)
    assert client._client is new
    used(api.of(client), "create", stream=True, **api.asked)
    assert len(store.list_sessions()) == 2
    client.close()


@EACH
@pytest.mark.parametrize("awaited", [False, True])
def test_every_way_and_transport(
    name: str, awaited: bool, server: Loopback, store: LogStore
) -> None:
    """Each call is recorded once, with its text, usage and state, as it was asked and answered."""
    api = APIS[name]
    server.answers(api.answers)

    def client_of(http: Any) -> Any:
        url = server.url if api.versioned else loopback_messages.base_url(server)
        make = api.makes[awaited]
        return capture(
            make(base_url=url, max_retries=0, http_client=http, **api.options), log_store=store
        )

    def recorded(kind: str, way: str, stream: bool) -> None:
        [session] = store.list_sessions(limit=1)
        assert session.state == "success", (kind, way, stream)
        [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
        assert requested.stream == stream
        assert responded.content.text == "Hello.", (kind, way, stream)
        assert responded.usage.input == 20, (kind, way, stream)
        assert only(store, LLMFailed) == []

    async def amain() -> None:
        for kind, http in transports(api, awaited=True).items():
            async with client_of(http) as client:
                for way, stream in CALLS:
                    await aused(api.of(client), way, stream=stream, **api.asked)
                    recorded(kind, way, stream)

    if awaited:
        asyncio.run(amain())
    else:
        for kind, http in transports(api, awaited=False).items():
            with client_of(http) as client:
                for way, stream in CALLS:
                    used(api.of(client), way, stream=stream, **api.asked)
                    recorded(kind, way, stream)
    assert len(store.list_sessions(limit=100)) == 6 * len(CALLS)
