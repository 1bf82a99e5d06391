"""Chat Completions as a stream: the real SDK, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend, Tactic
from lllm.events.errors import InvokeError
from lllm.events.model import Content, LLMFailed, LLMRequested, Part, ToolCall, Usage
from lllm.invokers import Answer, OnText, Request
from lllm.invokers.dialects.chat_completions_stream import ChatStream
from lllm.invokers.openai import OpenAIInvoker
from tests.support.loopback import JSON, USAGE, Loopback, Reply, failure, text
from tests.support.loopback_streams import (
    Sent,
    call_piece,
    chat,
    chunk,
    endless,
    sse,
    usage_chunk,
    whole_chunk,
)
from tests.support.runs import payloads

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"
ASK = Request(model="gpt-4o-mini", messages=(Content.of("user", "Hi"),))

Stream = Callable[[OpenAIInvoker, Request, OnText], Answer]


@pytest.fixture(scope="module")
def shared(running: Loopback) -> Iterator[OpenAIInvoker]:
    invoker = OpenAIInvoker(base_url=running.url, api_key=KEY, timeout=10)
    yield invoker
    invoker.close()


@pytest.fixture(params=["sync", "async"])
def stream(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Stream:
    if request.param == "sync":
        return lambda invoker, asked, on_text: invoker.stream(asked, on_text)
    return lambda invoker, asked, on_text: runner.run(invoker.astream(asked, on_text))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def ask(shared: OpenAIInvoker, stream: Stream, told: list[str]) -> Callable[[], Answer]:
    return lambda: stream(shared, ASK, told.append)


@pytest.fixture
def fail(ask: Callable[[], Answer]) -> Callable[[], InvokeError]:
    def failing() -> InvokeError:
        with pytest.raises(InvokeError) as caught:
            ask()
        return caught.value

    return failing


Ask = Callable[[], Answer]
Fail = Callable[[], InvokeError]


def assembled(*events: JSON) -> JSON:
    assembly = ChatStream()
    for event in events:
        assembly.take(event)
    return assembly.body()


# An answer that comes whole


def test_an_answer_comes_in_pieces(server: Loopback, ask: Ask, told: list[str]) -> None:
    """Each piece of text is told as it comes, and the answer is the one that all of them make."""
    server.answers(chat("Hel", "l\u00f6", "."))
    answer = ask()
    first = answer.first_token
    assert told == ["Hel", "l\u00f6", "."]
    assert first is not None
    assert first > 0
    assert answer == Answer(
        content=Content.of("assistant", "Hell\u00f6."),
        finish="stop",
        finish_raw="stop",
        model="gpt-4o-mini-2024-07-18",
        response_id="chatcmpl-1",
        request_id="req_1",
        service_tier="default",
        fingerprint="fp_1",
        usage_raw=USAGE,
        usage=Usage(input=20, output=5),
        first_token=first,
    )


def test_a_stream_asks_for_its_usage(server: Loopback, ask: Ask) -> None:
    """A stream is asked for with its usage, without which no call could be priced."""
    server.answers(chat("Hi"))
    ask()
    assert server.requests[0].body["stream"] is True
    assert server.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("options", "sent"),
    [({"include_obfuscation": False}, {"include_obfuscation": False}), (None, None)],
)
def test_stream_options_are_the_users(
    options: object,
    sent: object,
    server: Loopback,
    shared: OpenAIInvoker,
    stream: Stream,
    told: list[str],
) -> None:
    """Stream options that the user gives are kept, and None sends none; a call in one piece, for
    which the API refuses them, goes without."""
    server.answers(chat("Hi"), text("Hi"))
    asked = Request("m", (), params={"stream_options": options})
    stream(shared, asked, told.append)
    shared.invoke(asked)
    assert server.requests[0].body.get("stream_options") == sent
    assert "stream_options" not in server.requests[1].body


def test_text_is_told_before_the_answer_is_whole(
    server: Loopback, shared: OpenAIInvoker, stream: Stream
) -> None:
    """A piece is handed on while the provider has not sent the next one."""
    heard = threading.Event()
    server.answers(sse(chunk(content="Hel"), heard, chunk("stop", content="lo.")))
    told: list[str] = []

    def on_text(piece: str) -> None:
        told.append(piece)
        heard.set()

    assert stream(shared, ASK, on_text).content.text == "Hello."
    assert told == ["Hel", "lo."]


def test_bytes_may_be_cut_anywhere(server: Loopback, ask: Ask, told: list[str]) -> None:
    """An event, a line end and a letter may come in several pieces."""
    whole = b"".join(p for p in chat("Gr\u00fc\u00df", "e").pieces or () if isinstance(p, bytes))
    ends = whole.replace(b"\n", b"\r\n")
    server.answers(sse(*(ends[place : place + 1] for place in range(len(ends)))))
    assert ask().content.text == "Gr\u00fc\u00dfe"
    assert told == ["Gr\u00fc\u00df", "e"]


def test_parallel_tool_calls(server: Loopback, ask: Ask, told: list[str]) -> None:
    """Calls are told apart by their index, their arguments put together from fragments."""
    server.answers(
        chat(
            call_piece(0, "", id="call_a", name="look"),
            call_piece(0, '{"key": '),
            call_piece(1, "", id="call_b", name="put"),
            call_piece(1, "{}"),
            call_piece(0, '"x"}'),
            finish="tool_calls",
        )
    )
    answer = ask()
    assert answer.finish == "tool_calls"
    assert answer.content.tool_calls == (
        ToolCall("call_a", "look", '{"key": "x"}'),
        ToolCall("call_b", "put", "{}"),
    )
    assert told == []
    assert answer.first_token is not None


@pytest.mark.parametrize(
    "pieces",
    [
        [call_piece(0, "{}", id="a", name="look"), call_piece(0, "[]", id="b", name="put")],
        [call_piece(None, "{}", id="a", name="look"), call_piece(None, "[]", id="b", name="put")],
        [
            call_piece(0, "{", id="a", name="look"),
            call_piece(0, "}", id="other"),
            call_piece(1, "[]", id="b", name="put"),
        ],
        [
            call_piece(0, {}, id="a", name="look"),
            call_piece(1, "[", id="b", name="put"),
            call_piece(1, "", id="b", name="put"),
            call_piece(1, "]", name="put"),
        ],
        [{"tool_calls": [*call_piece(0, "{}", id="a", name="look")["tool_calls"],
                         *call_piece(1, "[]", id="b", name="put")["tool_calls"]]}],
    ],
    ids=["one index", "no index", "an id for each piece", "repeated names", "one chunk"],
)  # fmt: skip
def test_tool_calls_with_an_accent(pieces: list[JSON], server: Loopback, ask: Ask) -> None:
    """Servers that number calls in their own way are understood."""
    server.answers(chat(*pieces, finish="tool_calls"))
    assert ask().content.tool_calls == (ToolCall("a", "look", "{}"), ToolCall("b", "put", "[]"))


SOUND = [b"one ", b"two"]


@pytest.mark.parametrize(
    ("pieces", "parts", "texts"),
    [
        ([{"refusal": "I "}, {"refusal": "can't."}], (Part("refusal", "I can't."),), []),
        (
            [{"reasoning_content": "2 and "}, {"reasoning_content": "2"}, {"content": "4"}],
            (Part("reasoning", "2 and 2"), Part("text", "4")),
            ["4"],
        ),
        (
            [{"reasoning": "Hm", "content": ""}, {"content": "4", "reasoning": None}],
            (Part("reasoning", "Hm"), Part("text", "4")),
            ["4"],
        ),
        (
            [
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
                {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
            (Part("reasoning", "Hm"), Part("text", "ab")),
            ["ab"],
        ),
        (
            [
                {"audio": {"id": "audio_1", "transcript": "1"}},
                {"audio": {"data": base64.b64encode(SOUND[0]).decode(), "transcript": "-"}},
                {"audio": {"data": base64.b64encode(SOUND[1]).decode(), "transcript": "2"}},
                {"audio": {"expires_at": 1_700_000_000}},
            ],
            (
                Part(
                    "audio",
                    "1-2",
                    {
                        "id": "audio_1",
                        "expires_at": 1_700_000_000,
                        "data": base64.b64encode(b"one two").decode(),
                        "transcript": "1-2",
                    },
                ),
            ),
            [],
        ),
    ],
    ids=["refusal", "deepseek", "openrouter", "mistral", "audio"],
)
def test_what_is_not_plain_text(
    pieces: list[JSON],
    parts: tuple[Part, ...],
    texts: list[str],
    server: Loopback,
    ask: Ask,
    told: list[str],
) -> None:
    """Refusals, reasoning, lists of pieces and sound become the parts they are in one piece; only
    text is told."""
    server.answers(chat(*pieces))
    assert ask().content == Content("assistant", parts)
    assert told == texts


@pytest.mark.parametrize(
    ("events", "content"),
    [
        (
            [
                whole_chunk([], id="", model="", prompt_filter_results=[]),
                chunk(content="Hi"),
                chunk("stop"),
                usage_chunk(),
                whole_chunk([{"index": 0, "finish_reason": None}], id="", model=""),
            ],
            "Hi",
        ),
        (
            [
                chunk(content="H") | {"usage": {"prompt_tokens": 20, "completion_tokens": 1}},
                chunk("stop", content="i") | {"usage": USAGE},
            ],
            "Hi",
        ),
        ([chunk(content="Hi"), chunk("stop") | {"x_groq": {"id": "req", "usage": USAGE}}], "Hi"),
        ([chunk("stop", role="assistant", content="Hi") | {"usage": USAGE}], "Hi"),
        (
            [whole_chunk([{"message": {"content": "Hi"}, "finish_reason": "stop"}], usage=USAGE)],
            "Hi",
        ),
        (
            [
                whole_chunk(
                    [{"index": 0, "delta": {"content": "Hi"}, "message": {"content": "Hi"}}]
                ),
                chunk("stop") | {"usage": USAGE},
            ],
            "Hi",
        ),
        ([chunk(content="Hi"), chunk("stop"), usage_chunk() | {"choices": None}], "Hi"),
        (
            [
                chunk(content="Hi"),
                whole_chunk([{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]),
                chunk("stop"),
                usage_chunk(),
            ],
            "Hi",
        ),
    ],
    ids=[
        "azure", "usage in every chunk", "groq", "all at once", "a message", "perplexity",
        "null choices", "other choices",
    ],
)  # fmt: skip
@pytest.mark.parametrize("done", [True, False], ids=["done", "no end mark"])
def test_accents(events: list[Sent], content: str, done: bool, server: Loopback, ask: Ask) -> None:
    """The answer, its usage and its model are the same however a server puts them into chunks."""
    server.answers(sse(*events, *(["[DONE]"] if done else [])))
    answer = ask()
    assert answer.content.text == content
    assert {part.kind for part in answer.content.parts} <= {"text", "choice"}
    assert (answer.finish, answer.usage) == ("stop", Usage(input=20, output=5))
    assert answer.model == "gpt-4o-mini-2024-07-18"


def test_noise_is_passed_over(server: Loopback, ask: Ask) -> None:
    """Comments, empty data, what is no object, and events that are not known change nothing."""
    odd: list[Any] = [[1], "", "null", {"choices": {}}, {"choices": [7]}, {"x": 1}]
    calls = {"tool_calls": [None, {"index": [], "function": 3}]}
    server.answers(
        sse(b": OPENROUTER PROCESSING\n\n", *odd, chunk(content="Hi"), chunk("stop"), "[DONE]")
    )
    assert ask().content == Content.of("assistant", "Hi")
    assert "tool_calls" in assembled(chunk(**calls))["choices"][0]["message"]


def test_a_server_that_does_not_stream(
    server: Loopback, ask: Ask, fail: Fail, told: list[str]
) -> None:
    """A server that sends its answer, or its error, in one piece all the same is understood."""
    server.answers(text("All at once."))
    assert ask().content.text == "All at once."
    assert told == ["All at once."]
    server.answers(Reply(body=b'{"error": {"message": "Overloaded.", "code": 529}}'))
    error = fail()
    assert (error.status, error.retryable) == (529, True)
    assert "Overloaded." in str(error)


def test_a_connection_that_stays_open(server: Loopback, ask: Ask) -> None:
    """After "[DONE]" nothing is waited for, whether or not the server hangs up."""
    server.answers(sse(chunk(content="Hello."), chunk("stop"), "[DONE]", end="hang"))
    assert ask().content.text == "Hello."


def test_an_answer_without_usage_has_none(server: Loopback, ask: Ask) -> None:
    """A server that sends no usage gives an answer whose usage is not known."""
    server.answers(sse(chunk(content="Hi"), chunk("length")))
    answer = ask()
    assert (answer.usage, answer.usage_raw, answer.finish) == (None, None, "length")


def test_what_is_not_known_is_kept() -> None:
    """Fields of a chunk that nobody here knows are in the body that the pieces make."""
    body = assembled(chunk(content="Hi") | {"provider": "Somebody", "citations": ["a"]})
    assert (body["provider"], body["citations"]) == ("Somebody", ["a"])
    assert assembled() == {}


# A stream that fails


def test_a_refused_stream_is_an_error_as_any(server: Loopback, fail: Fail) -> None:
    """A status says what it says of a call in one piece."""
    server.answers(failure(429, "Slow down.", code="rate", headers={"Retry-After": "2"}))
    error = fail()
    assert (error.status, error.retryable, error.retry_after) == (429, True, 2_000_000_000)
    assert "Slow down." in str(error)
    assert (error.partial, error.usage) == (None, None)
    server.answers(failure(400, "Unknown parameter: stream_options."))
    assert not fail().retryable


@pytest.mark.parametrize("end", ["cut", "whole"])
def test_a_cut_stream_keeps_what_came(
    end: Any, server: Loopback, fail: Fail, told: list[str]
) -> None:
    """A stream that ends early, with its connection or without a reason, has with it what came."""
    server.answers(sse(chunk(content="Hel"), chunk(content="lo"), b"data: {", end=end))
    error = fail()
    assert told == ["Hel", "lo"]
    assert (error.retryable, error.status, error.request_id) == (True, None, "req_1")
    assert error.partial == Content.of("assistant", "Hello")
    assert error.usage is None
    assert "127.0.0.1" in str(error)


def test_what_was_used_by_then(server: Loopback, fail: Fail) -> None:
    """A server that counts in every chunk has told what the answer used before it was cut off."""
    usage = {"prompt_tokens": 20, "completion_tokens": 2}
    server.answers(sse(chunk(content="Hel") | {"usage": usage}, end="cut"))
    error = fail()
    assert (error.usage, error.usage_raw) == (Usage(input=20, output=2), usage)


def test_a_cut_tool_call_keeps_its_arguments(server: Loopback, fail: Fail) -> None:
    """Of a call that was cut off, the arguments are there as far as they came."""
    server.answers(
        sse(chunk(**call_piece(0, '{"ke', id="call_a", name="look")), end="cut"),
    )
    error = fail()
    assert error.partial == Content("assistant", (), (ToolCall("call_a", "look", '{"ke'),))


def test_nothing_came(server: Loopback, fail: Fail) -> None:
    """A stream that brings nothing fails, with nothing."""
    server.answers(sse())
    assert fail().partial is None
    server.answers(sse(chunk(role="assistant", content=""), end="cut"))
    assert fail().partial is None


def test_an_answer_that_had_its_end_is_whole(server: Loopback, ask: Ask) -> None:
    """A connection that breaks after the reason why the model stopped has lost nothing of it."""
    server.answers(sse(chunk(content="Hi"), chunk("stop"), end="cut"))
    assert ask().content == Content.of("assistant", "Hi")


def test_a_pause_that_is_too_long(server: Loopback, stream: Stream, told: list[str]) -> None:
    """A server that falls silent in the middle is given up after the timeout, with what came."""
    server.answers(sse(chunk(content="Hel"), end="hang"))
    invoker = OpenAIInvoker(base_url=server.url, api_key=KEY, timeout=0.1)
    with pytest.raises(InvokeError, match=r"sent nothing for 0\.1 seconds") as caught:
        stream(invoker, ASK, told.append)
    invoker.close()
    assert caught.value.retryable
    assert caught.value.partial == Content.of("assistant", "Hel")


@pytest.mark.parametrize(
    ("event", "status", "retryable", "said"),
    [
        ({"error": {"message": "Overloaded", "code": 502}}, 502, True, "Overloaded"),
        (
            whole_chunk([{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}])
            | {"error": {"code": "server_error", "message": "Provider disconnected"}},
            500,
            True,
            "Provider disconnected",
        ),
        ({"error": {"message": "Bad", "type": "invalid_request_error"}}, 400, False, "Bad"),
        ({"error": {"message": "Slow", "code": "rate_limit_exceeded"}}, 429, True, "Slow"),
        ({"error": {"message": "Paid?", "code": "insufficient_quota"}}, 429, False, "Paid?"),
        ({"error": "Went away"}, 500, True, "Went away"),
        ({"x_groq": {"error": "over capacity"}, "choices": []}, 500, True, "over capacity"),
    ],
    ids=["openrouter", "its chunk", "for good", "limit", "quota", "a text", "groq"],
)  # fmt: skip
def test_an_error_in_the_middle(
    event: JSON,
    status: int,
    retryable: bool,
    said: str,
    server: Loopback,
    fail: Fail,
    told: list[str],
) -> None:
    """An error event ends the stream, may be tried again as its status says, and keeps what came
    before it."""
    server.answers(sse(chunk(content="Hel"), event, chunk(content="never"), "[DONE]"))
    error = fail()
    assert (error.status, error.retryable, error.request_id) == (status, retryable, "req_1")
    assert said in str(error)
    assert error.partial == Content.of("assistant", "Hel")
    assert told == ["Hel"]


def test_no_stream_tells_the_key(server: Loopback, ask: Ask, fail: Fail) -> None:
    """A key that comes back in a piece, in two, or in an error event stays here."""
    half = len(KEY) // 2
    server.answers(chat(f"You sent {KEY}", f" and {KEY[:half]}", KEY[half:]))
    assert ask().content.text == "You sent [api key] and [api key]"
    server.answers(sse(chunk(content=KEY), {"error": {"message": f"Bad key {KEY}", "code": KEY}}))
    error = fail()
    assert KEY not in str(error) + repr(vars(error))
    assert error.__cause__ is None
    assert error.__context__ is None


# Who listens


class Enough(Exception):
    """What a listener raises that has heard enough."""


def test_what_a_listener_raises_is_raised(
    server: Loopback, shared: OpenAIInvoker, stream: Stream
) -> None:
    """An exception of on_text comes out as it is, and the connection is closed."""
    server.answers(endless(chunk(content="more ")))

    def on_text(_: str) -> None:
        raise Enough

    with pytest.raises(Enough) as caught:
        stream(shared, ASK, on_text)
    assert caught.value.__cause__ is None
    assert server.left.wait(5)


def test_a_cancelled_stream_is_closed(server: Loopback) -> None:
    """Cancelling the task ends a stream as a cancellation, and closes the connection."""
    server.answers(endless(chunk(content="more ")))
    invoker = OpenAIInvoker(base_url=server.url, api_key=KEY)

    async def cancel() -> None:
        heard = asyncio.Event()
        task = asyncio.create_task(invoker.astream(ASK, lambda _: heard.set()))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert server.left.wait(5)


def test_streams_run_beside_each_other(server: Loopback) -> None:
    """Many streams on one loop each give the answer to their own question."""
    server.answers(lambda got: chat(*got.body["messages"][0]["content"]))
    invoker = OpenAIInvoker(base_url=server.url, api_key=KEY)

    async def ask(number: int) -> str:
        said: list[str] = []
        asked = Request("m", (Content.of("user", f"{number:03}"),))
        answer = await invoker.astream(asked, said.append)
        assert said == list(answer.content.text)
        return answer.content.text

    async def several() -> list[str]:
        return await asyncio.gather(*(ask(number) for number in range(10)))

    assert asyncio.run(several()) == [f"{number:03}" for number in range(10)]


# In a tactic


class Asks(Tactic, register=False):
    """Asks once, and hands on what comes."""

    name = "asks"
    told: list[str]

    def call(self, task: object, **_: object) -> str:
        """One question."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return agent.respond(on_text=self.told.append).content


@pytest.mark.money
def test_a_cut_stream_is_a_failed_attempt(
    server: Loopback, tmp_path: Path, told: list[str]
) -> None:
    """What came of a stream that was cut is in the log, with what it used, and the call is made
    again."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    cut_off = [chunk(content="Hel"), chunk(content="lo") | {"usage": usage}]
    server.answers(sse(*cut_off, end="cut"), chat("Hello", "."))
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    invoker = OpenAIInvoker(base_url=server.url, api_key=KEY, provider="openai")
    tactic = Asks(
        {
            "global": {"model_name": "gpt-4o-mini", "invoker": invoker, "recall_wait": 0},
            "agent_configs": [{"name": "a"}],
        },
        log_store=store,
    )
    tactic.told = told
    session: Any = tactic("Hi", return_session=True)
    invoker.close()
    assert session.delivery == "Hello."
    assert told == ["Hel", "lo", "Hello", "."]
    events = payloads(store, session.session_id)
    [failed] = [event for event in events if isinstance(event, LLMFailed)]
    assert failed.partial == Content.of("assistant", "Hello")
    assert (failed.usage, failed.usage_raw) == (Usage(input=1000, output=10), usage)
    # 1000 tokens at $0.15 and 10 at $0.60 a million: https://openai.com/api/pricing
    assert failed.price is not None
    assert failed.price.nanos == 150_000 + 6_000
    assert [event.attempt for event in events if isinstance(event, LLMRequested)] == [1, 2]
