"""`lllm.capture` and calls that are left: when a session ends, each of its calls has its end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from lllm import BudgetExceeded, LogStore, SQLiteBackend, capture
from lllm.events.model import LLMFailed, LLMResponded
from lllm.instrumentation.captured_call import Call
from lllm.sessions.current_session import running_session
from tests.lllm.instrumentation.asking import (
    ASKED,
    CHAT,
    CLAUDE,
    KEY,
    chat_client,
    claude_client,
    leaving_streams,
    only,
    streamed,
    text_of,
)
from tests.support import loopback, loopback_messages
from tests.support.loopback import Loopback, Reply
from tests.support.loopback_streams import chat, chunk, endless, sse
from tests.support.waiting import waits_for

Leaving = Callable[[openai.OpenAI], object]


def never_read(client: openai.OpenAI) -> object:
    """A stream of which nothing is read."""
    return streamed(client)


def broken_off(client: openai.OpenAI) -> object:
    """A loop that is left, with the stream still held."""
    stream = streamed(client)
    for _ in itertools.islice(stream, 4):
        pass
    return stream


def raised_in(client: openai.OpenAI) -> object:
    """An exception within the loop, which somebody catches."""
    stream = streamed(client)
    with suppress(KeyError):
        for number, _ in enumerate(stream):
            if number == 3:
                raise KeyError("of the caller's")
    return stream


def dropped_generator(client: openai.OpenAI) -> object:
    """A generator over a stream that is dropped in a cycle, so nobody closes it yet."""

    def text() -> Iterator[object]:
        yield from streamed(client)

    cycle: list[Any] = [text()]
    for _ in itertools.islice(cycle[0], 4):
        pass
    cycle.append(cycle)
    return None


def raw(client: openai.OpenAI) -> object:
    """A raw response whose parsed stream is left."""
    response: Any = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=ASKED, stream=True
    )
    stream = response.parse()
    for _ in itertools.islice(stream, 4):
        pass
    return response, stream


def managed(client: openai.OpenAI) -> object:
    """A `.stream()` manager that was entered and not left."""
    manager = client.chat.completions.stream(model=CHAT, messages=ASKED)
    stream = manager.__enter__()
    for _ in itertools.islice(stream, 8):
        pass
    return manager, stream


WAYS = [never_read, broken_off, raised_in, dropped_generator, raw, managed]


@leaving_streams
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_left_in_a_session(server: Loopback, store: LogStore, way: Leaving) -> None:
    """However a stream is left: when its session ends, its attempt has failed, cancelled and
    unpriced, with what was heard; nothing runs for ever, and nothing follows later."""
    server.answers(endless(chunk(content="and on ")))
    client = capture(chat_client(server))
    with store.session("short") as recorder:
        held = way(client)
    session = store.load_session(recorder.session_id)
    assert session.state == "success"
    [trace] = session.invoke_traces
    assert (trace.state, trace.price) == ("failure", "unpriced")
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert "session ended" in failed.error.message
    if way is not never_read:
        assert failed.partial.text.startswith("and on and on ")
    before = len(list(store.events(recorder.session_id)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        del held
        gc.collect()
        client.close()
    assert len(list(store.events(recorder.session_id))) == before


@leaving_streams
@pytest.mark.parametrize("step", ["settle", "leave"])
def test_a_step_beside_another(server: Loopback, store: LogStore, step: str) -> None:
    """Call._steps: the end of the session, or of the stream, waits for the step of the call that
    another thread is just at."""
    server.answers(endless(chunk(content="and on ")))
    client = capture(chat_client(server))
    with store.session("short"), streamed(client):
        scope = running_session()
        assert scope is not None
        [call] = [one for one in scope.calls._calls if isinstance(one, Call)]
        work = call.settle if step == "settle" else lambda: call.leave(None)
        waits_for(call._steps, work, lambda: (call._left, len(scope.recorder._pending)))
        assert call._left


@leaving_streams
def test_an_asynchronous_stream_left_in_a_session(server: Loopback, store: LogStore) -> None:
    """The same on an event loop: left, never read, or still read by another task."""
    server.answers(endless(chunk(content="and on ")))

    async def main() -> None:
        client = capture(openai.AsyncOpenAI(base_url=server.url, api_key=KEY))
        reading = asyncio.Event()

        async def read() -> None:
            async for _ in await streamed(client):
                reading.set()

        async with client:
            async with store.session("short"):
                await streamed(client)
                left = await streamed(client)
                async for _ in left:
                    break
                task = asyncio.create_task(read())
                await reading.wait()
            assert [event.cancelled for event in only(store, LLMFailed)] == [True] * 3
            assert [event.price.status for event in only(store, LLMFailed)] == ["unpriced"] * 3
            await asyncio.sleep(0.05)  # the other task reads on, and is not disturbed
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await left.close()

    asyncio.run(main())
    assert len(only(store, LLMFailed)) == 3


def test_a_stream_that_had_all_of_its_answer(server: Loopback, store: LogStore) -> None:
    """A stream that is left behind its last chunk, and not closed, was answered."""
    wait = threading.Event()
    server.answers(sse(chunk(content="Hello."), chunk("stop"), wait, "[DONE]"))
    client = capture(chat_client(server))
    with store.session("short"):
        stream = streamed(client)
        next(stream), next(stream)
    [responded] = only(store, LLMResponded)
    assert responded.content.text == "Hello."
    wait.set()
    stream.close()
    client.close()


def test_claude_left_in_a_session(server: Loopback, store: LogStore) -> None:
    """Anthropic's manager, entered and never left."""
    whole = loopback_messages.message(loopback_messages.says("Never read to its end."))
    wait = threading.Event()
    events = loopback_messages.events_of(whole)[:5]
    server.answers(Reply(pieces=[loopback_messages.stream_of(events).body, wait]))
    url = loopback_messages.base_url(server)
    client = capture(anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0))
    with store.session("short"):
        stream = client.messages.create(model=CLAUDE, max_tokens=9, messages=ASKED, stream=True)
        next(iter(stream))
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert failed.usage.input == 20
    wait.set()
    stream.close()
    client.close()


def claude_broken_off(stream: Any) -> None:
    """A loop over events that is left."""
    for _ in itertools.islice(stream, 4):
        pass


def claude_text(stream: Any) -> None:
    """A loop over the text that is left."""
    next(iter(stream.text_stream))


def claude_raised_in(stream: Any) -> None:
    """An exception within the loop."""
    for _ in stream:
        raise KeyError("of the caller's")


LEFT_CLAUDE = [claude_broken_off, claude_text, claude_raised_in]


@leaving_streams
@pytest.mark.parametrize("kept", ["closed", "held", "collected"])
@pytest.mark.parametrize("way", LEFT_CLAUDE)
def test_claudes_manager_left(server: Loopback, store: LogStore, way: Any, kept: str) -> None:
    """Anthropic's `.stream()`, whose loop was left: closed by its `with`, entered and never left,
    or dropped in a cycle. Its session has one attempt, which failed, cancelled."""
    wait = endless_claude(server)
    client = capture(claude_client(server))
    held: list[Any] = []
    with store.session("short"):
        manager = client.messages.stream(model=CLAUDE, max_tokens=9, messages=ASKED)
        with suppress(KeyError):
            if kept == "closed":
                with manager as stream:
                    way(stream)
            else:
                held += [manager, stream := manager.__enter__()]
                way(stream)
        if kept == "collected":
            held.append(held)
            held = []
            del manager, stream
            gc.collect()
    [failed] = only(store, LLMFailed)
    assert failed.cancelled
    assert failed.usage.input == 20
    assert len(only(store, LLMResponded)) == 0
    wait.set()
    del held


def endless_claude(server: Loopback) -> threading.Event:
    """Have the server begin a message, whose rest comes when the event is set."""
    whole = loopback_messages.message(loopback_messages.says("Never read to its end."))
    wait = threading.Event()
    events = loopback_messages.events_of(whole)[:5]
    server.answers(Reply(pieces=[loopback_messages.stream_of(events).body, wait]))
    return wait


@leaving_streams
@pytest.mark.parametrize("kept", ["closed", "held", "collected", "cancelled"])
@pytest.mark.parametrize("raises", [False, True], ids=["break", "exception"])
def test_claudes_manager_left_on_a_loop(
    server: Loopback, store: LogStore, raises: bool, kept: str
) -> None:
    """The same on an event loop, and of a task that is cancelled in its loop."""
    wait = endless_claude(server)

    async def read(stream: Any, reading: asyncio.Event) -> None:
        async for _ in stream:
            reading.set()
            if kept == "cancelled":
                continue
            if raises:
                raise KeyError("of the caller's")
            break

    async def main() -> None:
        url = loopback_messages.base_url(server)
        client = capture(anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0))
        held: list[Any] = []
        reading = asyncio.Event()
        async with client:
            async with store.session("short"):
                manager = client.messages.stream(model=CLAUDE, max_tokens=9, messages=ASKED)
                with suppress(KeyError):
                    if kept == "closed":
                        async with manager as stream:
                            await read(stream, reading)
                    else:
                        held += [manager, stream := await manager.__aenter__()]
                        task = asyncio.create_task(read(stream, reading))
                        await reading.wait()
                        if kept == "cancelled":
                            task.cancel()
                        with suppress(asyncio.CancelledError):
                            await task
                if kept == "collected":
                    held.append(held)
                    held = []
                    del manager, stream
                    gc.collect()
            [failed] = only(store, LLMFailed)
            assert failed.cancelled
            assert failed.usage.input == 20
            assert len(only(store, LLMResponded)) == 0
            wait.set()
            for stream in held[1:]:
                await stream.close()

    asyncio.run(main())


def test_a_budget_sees_what_was_left(server: Loopback, store: LogStore) -> None:
    """A stream that is left in a child session counts for the budget of its parent."""
    server.answers(endless(chunk(content="and on ")))
    client = capture(chat_client(server))
    with store.session("outer", budget_usd=1):
        scope = store.session("inner")
        with scope:
            stream = streamed(client)
            next(stream)
        assert scope.budget.unpriced == 1
        assert scope.budget.above is not None
        assert scope.budget.above.unpriced == 1
    stream.close()
    client.close()


# -- what the caller gets


class Waits:
    """Answers when it is told to."""

    def __init__(self, *replies: Reply) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self._replies = list(replies)

    def __call__(self, _: object) -> Reply:
        self.asked.set()
        self.go_on.wait(20)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def test_a_call_that_outlives_its_session(server: Loopback, store: LogStore) -> None:
    """A call in another thread gets its answer, and its SDK's retries, when its session is over;
    the log says that it had not ended by then."""
    waits = Waits(loopback.failure(500, headers={"retry-after-ms": "1"}), loopback.text("Late."))
    server.answers(waits)
    client = capture(chat_client(server, max_retries=1))
    answers: list[Any] = []
    scope = store.session("short")
    with scope:

        def ask() -> None:
            answers.append(client.chat.completions.create(model=CHAT, messages=ASKED))

        thread = threading.Thread(target=copy_context().run, args=(ask,))
        thread.start()
        assert waits.asked.wait(20)
    waits.go_on.set()
    thread.join(20)
    assert answers[0].choices[0].message.content == "Late."
    [failed] = only(store, LLMFailed)
    assert (failed.cancelled, failed.price.status) == (True, "unpriced")
    client.close()


@pytest.mark.parametrize("end", ["cut", "drop"])
def test_an_error_behind_the_end(server: Loopback, store: LogStore, end: Any) -> None:
    """A call that fails behind the end of its session fails with the SDK's own error."""
    waits = Waits(Reply(200, loopback.text("?").body, end=end))
    server.answers(waits)
    client = capture(chat_client(server))
    raised: list[BaseException] = []
    with store.session("short"):

        def ask() -> None:
            try:
                client.chat.completions.create(model=CHAT, messages=ASKED)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=copy_context().run, args=(ask,))
        thread.start()
        assert waits.asked.wait(20)
    waits.go_on.set()
    thread.join(20)
    assert isinstance(raised[0], openai.APIConnectionError)
    client.close()


def test_a_cancelled_call_behind_the_end(server: Loopback, store: LogStore) -> None:
    """A task that is cancelled behind the end of its session gets its CancelledError."""
    server.answers(loopback.hang())

    async def main() -> None:
        client = capture(openai.AsyncOpenAI(base_url=server.url, api_key=KEY))
        async with client:
            async with store.session("short"):
                task = asyncio.create_task(
                    client.chat.completions.create(model=CHAT, messages=ASKED)
                )
                while not server.requests:
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert [event.cancelled for event in only(store, LLMFailed)] == [True]


@pytest.mark.parametrize("state", ["closed", "read only", "no store", "a handler that raises"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_ours_replaces_the_sdk(
    server: Loopback, tmp_path: Path, state: str, fails: bool
) -> None:
    """Whatever state the store is in, and where warnings are errors: the caller gets what the SDK
    gives, answers, streams and errors alike."""
    LogStore(SQLiteBackend(tmp_path / "runs.db")).close()
    store = LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=state == "read only"))
    made = chat_client(server)
    client = capture(made, log_store=None if state == "no store" else store)

    class Raises(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            raise RuntimeError("a handler of the user's")

    handler = Raises()
    logger = logging.getLogger("lllm.invoker")
    if state == "a handler that raises":
        logger.addHandler(handler)
    if state in ("closed", "a handler that raises"):
        store.close()
    server.answers(loopback.failure(400) if fails else chat("Hel", "lo."))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                if fails:
                    with pytest.raises(openai.BadRequestError):
                        streamed(client)
                else:
                    assert text_of(streamed(client)) == "Hello."
            if not fails:
                server.answers(loopback.text("Hi."))
                answer = client.chat.completions.create(model=CHAT, messages=ASKED)
                assert answer.choices[0].message.content == "Hi."
    finally:
        logger.removeHandler(handler)
        client.close()
        if state != "closed":
            store.close()


def test_a_budget_still_stops(server: Loopback, store: LogStore) -> None:
    """A spent budget is the caller's wish, and stops the next call."""
    server.answers(loopback.text("Hello.", usage=loopback.USAGE | {"prompt_tokens": 10**7}))
    client = capture(chat_client(server), provider="openai")
    with store.session("short", budget_usd=1):
        client.chat.completions.create(model=CHAT, messages=ASKED)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(model=CHAT, messages=ASKED)
    client.close()
