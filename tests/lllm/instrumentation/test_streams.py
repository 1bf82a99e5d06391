"""`lllm.capture` and streams: read as ever, recorded when they end, however they end."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
from typing import Any

import anthropic
import openai
import pytest

from lllm import LogStore, capture
from lllm.events.concurrency import finalizer_work
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded
from lllm.projections.session.call_session import TacticCallSession
from tests.lllm.instrumentation.asking import (
    ASKED,
    CHAT,
    CLAUDE,
    KEY,
    chat_client,
    leaving_streams,
    only,
    streamed,
    text_of,
)
from tests.support import loopback_messages, loopback_responses
from tests.support.loopback import Loopback, Reply
from tests.support.loopback_streams import chat, chunk, endless, sse

USAGE_TOO: Any = {"include_usage": True}


def newest(store: LogStore) -> TacticCallSession:
    """The newest session."""
    return store.load_session(store.list_sessions(limit=1)[0].session_id)


@pytest.mark.money
def test_a_stream_of_chat(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A stream is read as ever; when it has ended its answer is in the log, with its usage and the
    time of its first text."""
    server.answers(chat("Hel", "lo ", "there."))
    assert text_of(streamed(client, stream_options=USAGE_TOO)) == "Hello there."
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert requested.stream
    assert responded.content.text == "Hello there."
    assert responded.price.nanos == 20 * 150 + 5 * 600
    assert 0 < responded.first_token <= responded.elapsed
    assert newest(store).state == "success"


def test_the_answer_is_written_before_the_loop_is_left(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """While a stream comes its session is running; the last chunk read, it has ended."""
    go_on = threading.Event()
    server.answers(sse(chunk(content="A"), go_on, chunk(content="B"), chunk("stop"), "[DONE]"))
    stream = streamed(client)
    next(stream)
    assert newest(store).state == "running"
    go_on.set()
    assert text_of(stream) == "B"
    assert newest(store).state == "success"


@pytest.mark.money
def test_without_usage_it_is_unpriced(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """A stream of Chat Completions that nobody asked for its usage is unpriced, not free; a client
    that is captured with ask_for_usage asks for it, where the caller does not."""
    bare = sse(chunk(content="Hello."), chunk("stop"), "[DONE]")
    server.answers(bare)
    text_of(streamed(client))
    [responded] = only(store, LLMResponded)
    assert responded.price.status == "unpriced"
    assert "stream_options" not in server.requests[-1].body

    made = openai.OpenAI(base_url=server.url, api_key=KEY)
    asking = capture(made, log_store=store, ask_for_usage=True, provider="openai")
    server.answers(chat("Hello."))
    text_of(streamed(asking))
    assert server.requests[-1].body["stream_options"] == {"include_usage": True}
    assert only(store, LLMResponded)[0].price.status == "priced"
    text_of(streamed(asking, stream_options={"include_usage": False}))
    assert server.requests[-1].body["stream_options"] == {"include_usage": False}


@pytest.mark.money
@leaving_streams
def test_a_stream_that_is_left(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A caller who leaves in the middle leaves a failed attempt that says so, with what had come;
    and one who drops the stream unread, too."""
    server.answers(endless(chunk(content="and on ")))
    with streamed(client) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert failed.partial.text.startswith("and on and on and on ")
    assert failed.price.status == "unpriced"
    assert newest(store).state == "failure"
    assert newest(store).cancelled

    stream = streamed(client)
    next(stream)
    del stream
    gc.collect()
    finalizer_work.settle()
    assert [one.state for one in store.list_sessions()] == ["failure"] * 2


def test_a_stream_that_is_cut(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A connection that breaks in the middle is the caller's error as ever, and a failed attempt
    with what had come."""
    server.answers(sse(chunk(content="Half an"), end="cut"))
    with (
        chat_client(server) as bare,
        pytest.raises(Exception, match=r"incomplete|Connection error") as expected,
    ):
        text_of(streamed(bare))
    with pytest.raises(type(expected.value)) as raised:
        text_of(streamed(client))
    assert str(raised.value) == str(expected.value)
    [failed] = only(store, LLMFailed)
    assert failed.partial.text == "Half an"
    assert not failed.cancelled
    assert newest(store).state == "failure"


@pytest.mark.money
def test_an_error_in_the_middle(
    server: Loopback, store: LogStore, claude: anthropic.Anthropic
) -> None:
    """An error that the provider sends in the middle of a stream is a failed attempt, with what the
    provider had said that it used."""
    whole = loopback_messages.message(loopback_messages.says("Never read to its end."))
    sent = [*loopback_messages.events_of(whole)[:5], loopback_messages.error_event()]
    server.answers(loopback_messages.stream_of(sent))
    stream = claude.messages.create(model=CLAUDE, max_tokens=9, messages=ASKED, stream=True)
    with pytest.raises(anthropic.APIStatusError):
        list(stream)
    [failed] = only(store, LLMFailed)
    assert failed.error.status == 529
    assert failed.partial.text == "Never "
    assert failed.usage.input == 20
    assert (
        failed.price.status == "unpriced"
    )  # the output that a message begins with is a placeholder
    session = newest(store)
    assert session.state == "failure"
    assert (session.total_cost.cost, session.total_cost.unpriced_calls) == (0, 1)


def test_the_helpers_of_the_sdks(
    server: Loopback, store: LogStore, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """`.stream()` of both SDKs, with its events, its text and its final message."""
    server.answers(chat("Hel", "lo."))
    with client.chat.completions.stream(model=CHAT, messages=ASKED) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content == "Hello."
    assert "content.delta" in kinds
    assert only(store, LLMResponded)[0].content.text == "Hello."

    server.answers(loopback_messages.replies(loopback_messages.says("Good day.")))
    with claude.messages.stream(model=CLAUDE, max_tokens=9, messages=ASKED) as talk:
        assert "".join(talk.text_stream) == "Good day."
        assert talk.get_final_message().stop_reason == "end_turn"
    assert only(store, LLMResponded)[0].content.text == "Good day."


@pytest.mark.money
def test_responses(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """The Responses API, whole and as a stream."""
    body = loopback_responses.response(loopback_responses.says("Hello."))
    server.answers(loopback_responses.sent(body))
    asked: Any = {"model": "gpt-5-mini", "instructions": "Be brief.", "input": "?"}
    assert client.responses.create(**asked).output_text == "Hello."
    [whole] = only(store, LLMResponded)
    server.answers(loopback_responses.streamed(body))
    kinds = [event.type for event in client.responses.create(**asked, stream=True)]
    assert kinds[-1] == "response.completed"
    [piecewise] = only(store, LLMResponded)
    assert (piecewise.content, piecewise.usage) == (whole.content, whole.usage)
    assert piecewise.price.nanos == 12 * 250 + 8 * 25 + 9 * 2000  # 0.25, 0.025 and 2 US$
    assert only(store, LLMRequested)[0].api == "responses"


def test_a_compressed_stream(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """What a proxy compresses is read all the same."""
    said = [chunk(content="Hello."), chunk("stop")]
    plain = "".join(f"data: {json.dumps(one)}\n\n" for one in said) + "data: [DONE]\n\n"
    headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    server.answers(Reply(body=gzip.compress(plain.encode()), headers=headers))
    assert text_of(streamed(client)) == "Hello."
    assert only(store, LLMResponded)[0].content.text == "Hello."


def test_streams_on_an_event_loop(server: Loopback, store: LogStore) -> None:
    """Asynchronous streams, many at once, some left in the middle."""
    server.answers(chat("Hel", "lo."))

    async def main() -> None:
        client = capture(openai.AsyncOpenAI(base_url=server.url, api_key=KEY), log_store=store)

        async def one(number: int) -> None:
            stream: Any = await client.chat.completions.create(
                model=CHAT, messages=ASKED, stream=True, stream_options=USAGE_TOO
            )
            async for _ in stream:
                if number % 2:
                    await stream.close()
                    break

        async with client:
            await asyncio.gather(*map(one, range(10)))

    asyncio.run(main())
    states = [found.state for found in store.list_sessions()]
    assert len(states) == 10
    assert states.count("success") >= 5
    assert "running" not in states


@leaving_streams
def test_a_stream_that_the_loop_ends(server: Loopback, store: LogStore) -> None:
    """A stream that is left when its loop ends makes asyncio say what it says of the bare client,
    and nothing more: nothing of lllm's is among what the loop closes."""
    server.answers(endless(chunk(content="and on ")))
    told: list[Any] = []
    closed: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        client = openai.AsyncOpenAI(base_url=server.url, api_key=KEY)
        capture(client, log_store=store)
        stream = await client.chat.completions.create(model=CHAT, messages=ASKED, stream=True)
        async for _ in stream:
            break
        generators = loop._asyncgens  # type: ignore[attr-defined] # of BaseEventLoop
        closed.extend(one.ag_frame.f_globals["__name__"] for one in generators)

    asyncio.run(main())
    gc.collect()
    finalizer_work.settle()
    assert len(closed) > 2
    assert not [name for name in closed if name.startswith("lllm.")]
    assert not [one for one in told if "already running" not in str(one["exception"])]
    [failed] = only(store, LLMFailed)
    assert failed.partial.text.startswith("and on ")
    assert newest(store).state == "failure"
