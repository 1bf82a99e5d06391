"""`lllm.capture` and streams: read as ever, recorded when they end, however they end."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from lllm import LllmError, LogStore, SQLiteBackend, capture
from lllm.capturing import dropped
from lllm.events.model import Event, LLMFailed, LLMRequested, LLMResponded
from lllm.projections.call_session import TacticCallSession
from tests import loopback_messages, loopback_responses
from tests.loopback import Loopback, Reply
from tests.loopback_streams import chat, chunk, endless, sse
from tests.runs import payloads

KEY = "sk-test-0123456789abcdef"
CHAT = "gpt-4o-mini"
CLAUDE = "claude-haiku-4-5-20251001"
ASKED: Any = [{"role": "user", "content": "?"}]
USAGE_TOO: Any = {"include_usage": True}


# A stream that is dropped unread leaves its socket to the garbage collector, in any client.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


@pytest.fixture
def client(server: Loopback, store: LogStore) -> Iterator[openai.OpenAI]:
    """OpenAI's client, recorded."""
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as made:
        yield capture(made, log_store=store)


@pytest.fixture
def claude(server: Loopback, store: LogStore) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, recorded."""
    url = loopback_messages.base_url(server)
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as made:
        yield capture(made, log_store=store)


def streamed(client: openai.OpenAI, **options: Any) -> Any:
    """A stream of Chat Completions."""
    return client.chat.completions.create(model=CHAT, messages=ASKED, stream=True, **options)


def text_of(stream: Any) -> str:
    """The text of its chunks, read to the end."""
    return "".join(one.choices[0].delta.content or "" for one in stream if one.choices)


def events(store: LogStore, kind: type[Event]) -> list[Any]:
    """The events of a kind in the newest session."""
    [newest] = store.list_sessions(limit=1)
    return [event for event in payloads(store, newest.session_id) if isinstance(event, kind)]


def newest(store: LogStore) -> TacticCallSession:
    """The newest session."""
    return store.load_session(store.list_sessions(limit=1)[0].session_id)


def test_a_stream_of_chat(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A stream is read as ever; when it has ended its answer is in the log, with its usage and the
    time of its first text."""
    server.answers(chat("Hel", "lo ", "there."))
    assert text_of(streamed(client, stream_options=USAGE_TOO)) == "Hello there."
    [requested], [responded] = events(store, LLMRequested), events(store, LLMResponded)
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


def test_without_usage_it_is_unpriced(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """A stream of Chat Completions that nobody asked for its usage is unpriced, not free; a client
    that is captured with ask_for_usage asks for it, where the caller does not."""
    bare = sse(chunk(content="Hello."), chunk("stop"), "[DONE]")
    server.answers(bare)
    text_of(streamed(client))
    [responded] = events(store, LLMResponded)
    assert responded.price.status == "unpriced"
    assert "stream_options" not in server.requests[-1].body

    made = openai.OpenAI(base_url=server.url, api_key=KEY)
    asking = capture(made, log_store=store, ask_for_usage=True)
    server.answers(chat("Hello."))
    text_of(streamed(asking))
    assert server.requests[-1].body["stream_options"] == {"include_usage": True}
    assert events(store, LLMResponded)[0].price.status == "priced"
    text_of(streamed(asking, stream_options={"include_usage": False}))
    assert server.requests[-1].body["stream_options"] == {"include_usage": False}


def test_a_stream_that_is_left(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A caller who leaves in the middle leaves a failed attempt that says so, with what had come;
    and one who drops the stream unread, too."""
    server.answers(endless(chunk(content="and on ")))
    with streamed(client) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    [failed] = events(store, LLMFailed)
    assert failed.cancelled
    assert failed.partial.text.startswith("and on and on and on ")
    assert failed.price.status == "unpriced"
    assert newest(store).state == "failure"
    assert newest(store).cancelled

    stream = streamed(client)
    next(stream)
    del stream
    gc.collect()
    dropped.settle()
    assert [one.state for one in store.list_sessions()] == ["failure"] * 2


def test_a_stream_that_is_cut(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A connection that breaks in the middle is the caller's error as ever, and a failed attempt
    with what had come."""
    server.answers(sse(chunk(content="Half an"), end="cut"))
    with pytest.raises(Exception, match=r"incomplete chunked read|Connection error") as raised:
        text_of(streamed(client))
    assert not isinstance(raised.value, LllmError)
    [failed] = events(store, LLMFailed)
    assert failed.partial.text == "Half an"
    assert not failed.cancelled
    assert newest(store).state == "failure"


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
    [failed] = events(store, LLMFailed)
    assert failed.error.status == 529
    assert failed.partial.text == "Never "
    assert failed.usage.input == 20
    assert failed.price.nanos >= 20_000
    session = newest(store)
    assert session.state == "failure"
    assert session.wasted_cost.cost == session.total_cost.cost > 0


def test_the_helpers_of_the_sdks(
    server: Loopback, store: LogStore, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """`.stream()` of both SDKs, with its events, its text and its final message."""
    server.answers(chat("Hel", "lo."))
    with client.chat.completions.stream(model=CHAT, messages=ASKED) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content == "Hello."
    assert "content.delta" in kinds
    assert events(store, LLMResponded)[0].content.text == "Hello."

    server.answers(loopback_messages.replies(loopback_messages.says("Good day.")))
    with claude.messages.stream(model=CLAUDE, max_tokens=9, messages=ASKED) as talk:
        assert "".join(talk.text_stream) == "Good day."
        assert talk.get_final_message().stop_reason == "end_turn"
    assert events(store, LLMResponded)[0].content.text == "Good day."


def test_responses(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """The Responses API, whole and as a stream."""
    body = loopback_responses.response(loopback_responses.says("Hello."))
    server.answers(loopback_responses.sent(body))
    asked: Any = {"model": "gpt-5-mini", "instructions": "Be brief.", "input": "?"}
    assert client.responses.create(**asked).output_text == "Hello."
    [whole] = events(store, LLMResponded)
    server.answers(loopback_responses.streamed(body))
    kinds = [event.type for event in client.responses.create(**asked, stream=True)]
    assert kinds[-1] == "response.completed"
    [piecewise] = events(store, LLMResponded)
    assert (piecewise.content, piecewise.usage) == (whole.content, whole.usage)
    assert piecewise.price.nanos == 12 * 250 + 8 * 25 + 9 * 2000  # 0.25, 0.025 and 2 US$
    assert events(store, LLMRequested)[0].api == "responses"


def test_a_compressed_stream(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """What a proxy compresses is read all the same."""
    said = [chunk(content="Hello."), chunk("stop")]
    plain = "".join(f"data: {json.dumps(one)}\n\n" for one in said) + "data: [DONE]\n\n"
    headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    server.answers(Reply(body=gzip.compress(plain.encode()), headers=headers))
    assert text_of(streamed(client)) == "Hello."
    assert events(store, LLMResponded)[0].content.text == "Hello."


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
