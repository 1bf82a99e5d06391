"""`lllm.capture(client)` for google-genai: recorded, replayed, and otherwise as it was.

These tests need the packages in genai.txt; `.ci/run` installs them into an environment of their
own.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("google.genai", reason="runs in an environment of its own: genai.txt")

from google import genai
from google.genai import errors, types

import lllm
from lllm import BudgetExceeded, LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded, MessageAdded
from tests.support.loopback import Loopback, Received, Reply, hang
from tests.support.loopback_generate_content import (
    MODEL,
    base_url,
    failure,
    replies,
    says,
    wants,
)

# The SDK closes its connections when the collector finds them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::DeprecationWarning",
)  # fmt: skip
THINKS = {"text": "Let me see.", "thought": True}
HELLO = replies(THINKS, says("Hello, all of you."))
WAYS = ["whole", "stream", "async whole", "async stream", "httpx whole", "httpx stream"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def client(server: Loopback, store: LogStore | None = None, **options: Any) -> genai.Client:
    """A client of the server, captured if there is a store."""
    http = types.HttpOptions(base_url=base_url(server), **options)
    made = genai.Client(api_key="secret-key-1", vertexai=False, http_options=http)
    return made if store is None else lllm.capture(made, log_store=store, provider="google")


def ask(asked: genai.Client, how: str, contents: Any = "Hello?", **config: Any) -> Any:
    """Ask in one of the SDK's ways; returns the texts, and the last answer."""
    given: Any = {"model": MODEL, "contents": contents, "config": config or None}
    if how == "whole":
        answer = asked.models.generate_content(**given)
        return answer.text, answer
    if how == "stream":
        chunks = list(asked.models.generate_content_stream(**given))
        return "".join(one.text or "" for one in chunks), chunks[-1]

    async def on_loop() -> Any:
        try:
            if how.endswith("whole"):
                answer = await asked.aio.models.generate_content(**given)
                return answer.text, answer
            reading = await asked.aio.models.generate_content_stream(**given)
            chunks = [one async for one in reading]
            return "".join(one.text or "" for one in chunks), chunks[-1]
        finally:
            await asked.aio.aclose()

    return asyncio.run(on_loop())


def options_of(how: str) -> dict[str, Any]:
    """With arguments for httpx, the SDK does not use aiohttp."""
    if not how.startswith("httpx"):
        return {}
    import httpx2  # of the SDK's own

    return {"async_client_args": {"transport": httpx2.AsyncHTTPTransport()}}


def events(store: LogStore, kind: type[Any]) -> list[Any]:
    found = (codec.decode(one) for one in store.log.read())
    return [one for one in found if isinstance(one, kind)]


@pytest.mark.parametrize("how", WAYS)
def test_a_call(server: Loopback, store: LogStore, how: str) -> None:
    """It is a session with the answer, the exact tokens and the exact price."""
    server.answers(HELLO)
    said, _ = ask(client(server, store, **options_of(how)), how, system_instruction="Be kind.")
    assert said == "Hello, all of you."
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state, session.calls) == (
        "google-genai.chat",
        "success",
        1,
    )
    [asked], [answered] = events(store, LLMRequested), events(store, LLMResponded)
    assert (asked.model, asked.api, asked.provider) == (MODEL, "generate_content", "google")
    assert asked.stream == how.endswith("stream")
    assert answered.content.text == "Hello, all of you."
    assert [part.kind for part in answered.content.parts] == ["reasoning", "text"]
    assert answered.content.parts[0].text == "Let me see."
    usage = answered.usage
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (100, 28, 40, 8)
    assert (answered.response_id, answered.finish) == ("resp_1", "stop")
    # 60 tokens in at $0.30, 40 cached at $0.03, 28 out at $2.50 a million
    assert answered.price.status == "priced"
    total = store.export_cost_summary()["total_cost_usd"]
    assert Decimal(str(total)) == Decimal("0.0000892")
    added = [(one.content.role, one.content.text) for one in events(store, MessageAdded)]
    assert added == [("system", "Be kind."), ("user", "Hello?")]
    assert b"secret-key-1" not in b"".join(map(repr_of, store.log.read()))
    assert answered.first_token if asked.stream else answered.elapsed


def repr_of(event: object) -> bytes:
    return repr(event).encode()


@pytest.mark.parametrize("how", WAYS[:4])
def test_results_and_errors_are_the_same(server: Loopback, store: LogStore, how: str) -> None:
    """What the caller gets is what the client gives without lllm."""
    plain, captured = client(server), client(server, store)
    server.answers(HELLO)
    results = [
        ask(one, how)[1].model_dump(exclude={"sdk_http_response"}) for one in (plain, captured)
    ]
    assert results[0] == results[1]
    told = []
    for one in (client(server), captured):
        server.answers(failure(429, "RESOURCE_EXHAUSTED", "Too many."))
        with pytest.raises(errors.ClientError) as caught:
            ask(one, how)
        told.append((str(caught.value), caught.value.code, caught.value.status))
    assert told[0] == told[1]
    [failed] = events(store, LLMFailed)
    assert (failed.error.status, failed.price.status) == (429, "free")
    assert "Too many." in failed.error.message
    assert len(store.list_sessions(state="failure")) == 1


@pytest.mark.parametrize("how", ["whole", "async whole"])
def test_retries(server: Loopback, store: LogStore, how: str) -> None:
    """Each attempt of the SDK is there, and one call."""
    server.answers(failure(503), HELLO)
    retry = types.HttpRetryOptions(attempts=2, initial_delay=0.001, max_delay=0.002)
    ask(client(server, store, retry_options=retry), how)
    assert [(one.step, one.attempt) for one in events(store, LLMRequested)] == [(1, 1), (1, 2)]
    assert len(events(store, LLMFailed)) == len(events(store, LLMResponded)) == 1
    assert [one.state for one in store.list_sessions()] == ["success"]


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.mark.parametrize("how", ["whole", "async whole"])
def test_functions_that_the_sdk_calls(server: Loopback, store: LogStore, how: str) -> None:
    """Both calls are counted, of which the SDK's own answer has the last one's usage only."""
    server.answers(replies(wants("weather", city="Berlin")), replies(says("It is sunny.")))
    with store.session("my::script") as session:
        ask(client(server, store), how, "The weather?", tools=[weather])
    loaded = store.load_session(session.session_id)
    assert loaded.total_cost.prompt_tokens == 200
    first, second = events(store, LLMResponded)
    [call] = first.content.tool_calls
    assert (call.name, call.arguments, first.finish) == (
        "weather", '{"city": "Berlin"}', "tool_calls",
    )  # fmt: skip
    assert second.content.text == "It is sunny."
    # The answer that is sent again is not written again.
    added = [(one.content.role, one.content.text) for one in events(store, MessageAdded)]
    assert added == [("user", "The weather?"), ("tool", '{"result": "sunny in Berlin"}')]


def test_a_chat(server: Loopback, store: LogStore) -> None:
    """Signatures of thoughts stay, and a conversation that goes on is written once."""
    signed = {"text": "Hello.", "thoughtSignature": "c2lnbmVk"}
    server.answers(replies(signed), replies(says("Fine.")))
    with store.session("my::script"):
        asked = client(server, store)  # it is closed when nobody has it
        chat = asked.chats.create(model=MODEL)
        chat.send_message("Hello?")
        chat.send_message("How are you?")
    assert server.requests[1].body["contents"][1]["parts"] == [signed]
    added = [one.content.text for one in events(store, MessageAdded)]
    assert added == ["Hello?", "How are you?"]


def test_a_refused_prompt(server: Loopback, store: LogStore) -> None:
    blocked = {"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}
    server.answers(replies(**blocked))
    _, answer = ask(client(server, store), "whole")
    assert answer.prompt_feedback.block_reason == "SAFETY"
    [answered] = events(store, LLMResponded)
    assert (answered.finish, answered.finish_raw) == ("content_filter", "SAFETY")


def test_a_grounded_answer_is_unpriced(server: Loopback, store: LogStore) -> None:
    """A search has a fee that the usage does not tell."""
    grounded = {"webSearchQueries": ["weather Berlin"]}
    candidate = {"content": {"role": "model", "parts": [says("Sunny.")]}, "finishReason": "STOP"}
    server.answers(replies(candidates=[candidate | {"groundingMetadata": grounded}]))
    ask(client(server, store), "whole", tools=[types.Tool(google_search=types.GoogleSearch())])
    [answered] = events(store, LLMResponded)
    assert answered.price.status == "unpriced"
    assert "search" in answered.price.reason


@pytest.mark.parametrize("how", ["stream", "async stream"])
def test_a_stream_that_is_left(server: Loopback, store: LogStore, how: str) -> None:
    """It ends as one that the caller closed, with the part that had arrived."""
    server.answers(HELLO)
    asked = client(server, store)
    if how == "stream":
        reading = asked.models.generate_content_stream(model=MODEL, contents="Hello?")
        next(iter(reading))
        cast("Any", reading).close()
    else:

        async def on_loop() -> None:
            coming = await asked.aio.models.generate_content_stream(model=MODEL, contents="Hello?")
            chunks = cast("AsyncIterator[Any]", coming)
            await anext(chunks)
            await cast("Callable[[], Awaitable[None]]", cast("Any", chunks).aclose)()
            await asked.aio.aclose()

        asyncio.run(on_loop())
    gc.collect()
    waits(lambda: bool(events(store, LLMFailed)))
    [failed] = events(store, LLMFailed)
    assert failed.cancelled
    assert failed.partial is not None


def waits(come: Callable[[], bool]) -> None:
    import time

    until = time.monotonic() + 5
    while not come() and time.monotonic() < until:
        time.sleep(0.01)


def test_a_stream_that_breaks(server: Loopback, store: LogStore) -> None:
    """An error in the middle of a stream is the SDK's, and is recorded."""
    chunk = b'data: {"candidates": [{"content": {"parts": [{"text": "It "}]}}]}\r\n\r\n'
    told = b'data: {"error": {"code": 503, "message": "Gone.", "status": "UNAVAILABLE"}}\r\n\r\n'
    headers = {"Content-Type": "text/event-stream"}
    server.answers(Reply(body=chunk + told, headers=headers))
    with pytest.raises(errors.APIError, match="Gone"):
        ask(client(server, store), "stream")
    [failed] = events(store, LLMFailed)
    assert (failed.error.status, failed.partial.text) == (503, "It ")


def test_a_cancelled_task(server: Loopback, store: LogStore) -> None:
    server.answers(hang())

    async def on_loop() -> None:
        asked = client(server, store)
        task = asyncio.create_task(
            asked.aio.models.generate_content(model=MODEL, contents="Hello?")
        )
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asked.aio.aclose()

    asyncio.run(on_loop())
    [failed] = events(store, LLMFailed)
    assert failed.cancelled


def test_a_budget(server: Loopback, store: LogStore) -> None:
    server.answers(HELLO)
    asked = client(server, store)
    with store.session("my::script", budget_usd=0.00001):
        ask(asked, "whole")
        with pytest.raises(BudgetExceeded):
            ask(asked, "whole")
    assert len(server.requests) == 1


def test_what_is_captured_and_released(server: Loopback, store: LogStore) -> None:
    """A part of the client does, too; what is released is as it was."""
    server.answers(HELLO)
    made = client(server)
    before = dict(vars(made._api_client))
    with lllm.captured(made.aio, log_store=store, provider="google"):
        ask(made, "whole")
    assert len(store.list_sessions()) == 1
    ask(made, "whole")
    assert len(store.list_sessions()) == 1
    assert vars(made._api_client).keys() == before.keys()


@pytest.mark.parametrize("how", WAYS[:4])
def test_a_replay(
    server: Loopback, store: LogStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The client is answered from the log, with the SDK's own types and errors."""

    def program() -> Any:
        asked = client(server, store)
        first, answer = ask(
            asked, how, "The weather?", tools=[types.Tool(function_declarations=[declared])]
        )
        usage = answer.usage_metadata.model_dump()
        try:
            ask(client(server, store), how, "And then?")
        except errors.ServerError as error:
            return (
                first,
                answer.candidates[0].content.parts[-1].function_call,
                usage,
                error.code,
                error.status,
            )
        return None

    declared = types.FunctionDeclaration(name="weather", parameters_json_schema={"type": "object"})
    server.answers(
        replies(THINKS, says("A moment, please."), wants("weather", city="Ulm")), failure(503)
    )
    with store.session("script") as session:
        recorded = program()
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: 1 / 0)
        with store.replay(session.session_id), store.session("script"):
            replayed = program()
    assert recorded == replayed
    assert len(server.requests) == 2


def test_many_at_once(server: Loopback, store: LogStore) -> None:
    """Tasks and threads do not mix."""

    def answer(received: Received) -> Reply:
        said = received.body["contents"][0]["parts"][0]["text"]
        made = replies(says(f"re {said}"))
        return cast("Callable[[Received], Reply]", made)(received)

    server.answers(answer)

    async def on_loop() -> None:
        asked = client(server, store)
        calls = [
            asked.aio.models.generate_content(model=MODEL, contents=f"n{n}") for n in range(10)
        ]
        threads = [
            asyncio.to_thread(asked.models.generate_content, model=MODEL, contents=f"t{n}")
            for n in range(10)
        ]
        await asyncio.gather(*calls, *threads)
        await asked.aio.aclose()

    asyncio.run(on_loop())
    found = store.list_sessions()
    assert len(found) == 20
    texts = {one.content.text for one in events(store, LLMResponded)}
    assert texts == {f"re {kind}{n}" for kind in "nt" for n in range(10)}
