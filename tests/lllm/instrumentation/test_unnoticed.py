"""`lllm.capture` where things are odd: callers get what the SDK gives, the log gets the truth."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from lllm import LogStore, SQLiteBackend, capture
from lllm.events.concurrency import finalizer_work
from lllm.events.envelope import NewEvent
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded
from lllm.instrumentation.conversations import conversations_of
from tests.lllm.instrumentation.asking import (
    ASKED,
    KEY,
    chat_client,
    leaving_streams,
    only,
    streamed,
    text_of,
)
from tests.support import loopback, loopback_responses
from tests.support.loopback import Loopback, Reply
from tests.support.loopback_streams import chat, chunk, endless, sse
from tests.support.runs import payloads


def states(store: LogStore) -> list[str]:
    """Those of all sessions."""
    return [one.state for one in store.list_sessions()]


# -- streams


@leaving_streams
def test_a_stream_that_nobody_reads(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """A stream that is dropped before its first chunk ends its session all the same, on an event
    loop, too."""
    server.answers(chat("Hello."))
    streamed(client)
    gc.collect()
    finalizer_work.settle()
    assert states(store) == ["failure"]

    async def main() -> None:
        other = capture(openai.AsyncOpenAI(base_url=server.url, api_key=KEY), log_store=store)
        async with other:
            await streamed(other)
            gc.collect()

    asyncio.run(main())
    finalizer_work.settle()
    assert states(store) == ["failure"] * 2
    assert only(store, LLMFailed)[0].cancelled


class Collecting(SQLiteBackend):
    """A log in the middle of whose appends garbage is collected."""

    def append(self, events: Sequence[NewEvent]) -> Any:
        gc.collect()
        return super().append(events)


@leaving_streams
def test_a_stream_found_by_the_garbage_collector(server: Loopback, tmp_path: Path) -> None:
    """A stream that is collected while its own session is written stops nothing."""
    server.answers(endless(chunk(content="and on ")))
    store = LogStore(Collecting(tmp_path / "runs.db"))
    client = capture(chat_client(server))

    def reading() -> Iterator[object]:
        with streamed(client) as stream:
            yield from stream

    def work() -> None:
        with store.session("many") as recorder:
            for _ in range(2):
                cycle: list[Any] = [reading()]
                next(cycle[0])
                cycle.append(cycle)
                del cycle
            ended = 0
            while ended < 2:  # another thread may be collecting just now, and then this one can't
                gc.collect()
                finalizer_work.settle()
                found = store.log.read(stream=recorder.session_id)
                ended = sum(event.type == "llm.failed" for event in found)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert [event.cancelled for event in only(store, LLMFailed)] == [True, True]


def test_a_stream_that_outlives_its_session(server: Loopback, store: LogStore) -> None:
    """A stream that is read behind the end of its session is read as ever; the log says that the
    session ended first."""
    server.answers(chat("Hel", "lo."))
    client = capture(chat_client(server))
    with store.session("short"):
        stream = streamed(client)
    assert text_of(stream) == "Hello."
    [failed] = only(store, LLMFailed)
    assert failed.cancelled


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_a_stream(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """A forked child may close its parent's stream; the parent records it."""
    server.answers(chat("Hel", "lo."))
    stream = streamed(client)
    next(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            stream.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert text_of(stream) == "Hello."
    assert states(store) == ["success"]


def test_a_cancelled_stream(server: Loopback, store: LogStore) -> None:
    """A task that is cancelled in the middle of a stream leaves an attempt that was cancelled."""
    server.answers(endless(chunk(content="and on ")))

    async def main() -> None:
        client = capture(openai.AsyncOpenAI(base_url=server.url, api_key=KEY), log_store=store)
        reads = asyncio.Event()

        async def read() -> None:
            async for _ in await streamed(client):
                reads.set()

        async with client:
            task = asyncio.create_task(read())
            await reads.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert failed.partial.text.startswith("and on ")
    assert states(store) == ["failure"]


def test_a_stream_without_its_end(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A stream that the provider ends too early is his failure, not the caller's wish."""
    server.answers(sse(chunk(content="Half an")))
    for _ in range(2):
        assert text_of(streamed(client)) == "Half an"
        [failed] = only(store, LLMFailed)
        assert not failed.cancelled
        assert "ended before the answer did" in failed.error.message
        assert failed.partial.text == "Half an"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", ""])
def test_a_stream_by_another_name(
    server: Loopback, store: LogStore, client: openai.OpenAI, kind: str
) -> None:
    """A stream that the server calls something else is read, so it is recorded."""
    said = [chunk(content="Hello."), chunk("stop")]
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in said) + "data: [DONE]\n\n"
    server.answers(Reply(body=body.encode(), headers={"Content-Type": kind}))
    assert text_of(streamed(client)) == "Hello."
    assert only(store, LLMResponded)[0].content.text == "Hello."


def test_a_stream_that_ends_with_a_failure(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """An answer whose last event says that it failed is a failed attempt of a session that ends."""
    body = loopback_responses.response(loopback_responses.says("Never.")) | {
        "status": "failed", "error": {"code": "server_error", "message": "Broken."},
    }  # fmt: skip
    server.answers(sse({"type": "response.completed", "response": body, "sequence_number": 1}))
    list(client.responses.create(model="m", input="?", stream=True))
    assert "Broken." in only(store, LLMFailed)[0].error.message
    assert states(store) == ["failure"]


# -- errors, keys, other calls


@pytest.mark.parametrize("status", [300, 304])
def test_a_status_between(
    server: Loopback, store: LogStore, client: openai.OpenAI, status: int
) -> None:
    """A status that is neither an answer nor an error is an error for the SDK, so for the log."""
    server.answers(Reply(status))
    with pytest.raises(openai.APIStatusError):
        streamed(client)
    assert only(store, LLMFailed)[0].error.status == status
    assert states(store) == ["failure"]


def test_an_error_that_is_cut(server: Loopback, store: LogStore) -> None:
    """Where the body of an error breaks off the SDK raises what it would have raised, and each
    attempt has its end."""
    server.answers(Reply(500, loopback.text("?").body, {"retry-after-ms": "1"}, end="cut"))
    bare = chat_client(server, max_retries=1)
    with pytest.raises(Exception, match=r"peer closed|Error code") as raised:
        streamed(bare)
    heard = capture(chat_client(server, max_retries=1), log_store=store)
    with pytest.raises(type(raised.value)) as noticed:
        streamed(heard)
    assert str(noticed.value) == str(raised.value)
    assert [event.error.status for event in only(store, LLMFailed)] == [500, 500]
    assert len(only(store, LLMRequested)) == 2


@pytest.mark.parametrize("way", ["function", "header", "azure"])
def test_a_key_that_the_client_did_not_have(server: Loopback, store: LogStore, way: str) -> None:
    """No key is written that a function gave, or a header of one call: its header tells it."""
    secret = "Zk9token_secret_value"
    server.answers(loopback.echoing_key)
    made = (
        openai.AzureOpenAI(
            azure_endpoint=server.url, api_version="2024-10-21", max_retries=0,
            azure_ad_token_provider=lambda: secret,
        )
        if way == "azure"
        else openai.OpenAI(
            base_url=server.url, api_key=KEY if way == "header" else lambda: secret, max_retries=0
        )
    )  # fmt: skip
    more: Any = {"Authorization": f"Bearer {secret}"} if way == "header" else None
    with made, pytest.raises(openai.AuthenticationError, match=secret):
        capture(made, log_store=store).chat.completions.create(
            model="m", messages=ASKED, extra_headers=more
        )
    [session] = store.list_sessions(state="failure")
    assert secret not in repr(payloads(store, session.session_id))


def test_messages_of_a_thread(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A message that is added to a thread of OpenAI's is no call of a model."""
    server.answers(Reply(body=b'{"id": "m", "object": "thread.message", "content": []}'))
    client.post("/threads/t/messages", body={"role": "user", "content": "?"}, cast_to=object)
    assert states(store) == []


def test_a_tool_call_without_arguments(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """What a body lacks is no reason not to record it."""
    server.answers(loopback_responses.sent(loopback_responses.response()))
    item: Any = {"type": "function_call", "call_id": "c", "name": "f"}
    client.responses.create(model="m", input=[item])
    assert len(only(store, LLMResponded)) == 1


def test_what_was_said_is_not_kept(store: LogStore, client: openai.OpenAI) -> None:
    """A session that lasts keeps in memory no text that it has written."""
    said = "a text that is nowhere else " * 2
    with store.session("long") as recorder:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": said}])
        found, todo = set[int](), [conversations_of(recorder)]
        while todo:
            one: Any = todo.pop()
            if id(one) not in found and not isinstance(one, type | type(gc)):
                found.add(id(one))
                assert one != said
                todo += gc.get_referents(one) if one is not recorder else []
