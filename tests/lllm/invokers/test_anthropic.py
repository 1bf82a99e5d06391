"""The Anthropic invoker: the real SDK, sync and async, whole and streamed, against a server on this
machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from lllm import LogStore, Prompt, SQLiteBackend, tool
from lllm.agents.answer_stream import Piece
from lllm.events.errors import InvokeError
from lllm.events.model import Content, LLMFailed, LLMResponded, RetryScheduled, Usage
from lllm.invokers import Answer, OnText, Request
from lllm.invokers.anthropic import AnthropicInvoker
from tests.support.error_contents import everything_about
from tests.support.loopback import JSON, Loopback, Received, Reply
from tests.support.loopback_messages import (
    LIMITS,
    MODEL,
    USAGE,
    base_url,
    error_event,
    events_of,
    failure,
    message,
    replies,
    says,
    stream_of,
    streamed,
    wants,
)
from tests.support.runs import Doing, called, payloads

KEY = "sk-ant-api03-Zm9vYmFy-0123456789abcdef"
ASK = Request(model="claude-haiku-4-5", messages=(Content.of("user", "Hi"),))
BEGUN = events_of(message(says("Hello.")))[:4]  # a stream up to its first piece, "Hel"

Call = Callable[[AnthropicInvoker, Request], Answer]
Told = Callable[[AnthropicInvoker, Request, OnText], Answer]


@pytest.fixture
def server(running: Loopback) -> Loopback:
    running.requests.clear()
    running.answers(replies(says("Hello.")))
    return running


# A client takes a while to make, so the tests that only send and read have one between them.
_made: list[AnthropicInvoker] = []


@pytest.fixture(scope="module")
def shared(running: Loopback) -> AnthropicInvoker:
    return fresh(running)


@pytest.fixture(scope="module", autouse=True)
def _close_made() -> Iterator[None]:
    yield
    for invoker in _made:
        invoker.close()
    _made.clear()


@pytest.fixture(params=["sync", "async"])
def told(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Told:
    """Streams an answer, either way."""
    if request.param == "sync":
        return lambda invoker, asked, on_text: invoker.stream(asked, on_text)
    return lambda invoker, asked, on_text: runner.run(invoker.astream(asked, on_text))


@pytest.fixture(params=["sync", "async", "sync stream", "async stream"])
def call(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Call:
    """Asks for an answer, in each of the four ways."""
    ways: dict[str, Call] = {
        "sync": lambda invoker, asked: invoker.invoke(asked),
        "async": lambda invoker, asked: runner.run(invoker.ainvoke(asked)),
        "sync stream": lambda invoker, asked: invoker.stream(asked, str),
        "async stream": lambda invoker, asked: runner.run(invoker.astream(asked, str)),
    }
    return ways[request.param]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def fresh(server: Loopback, *, timeout: float = 10.0) -> AnthropicInvoker:
    return kept(AnthropicInvoker(base_url=base_url(server), api_key=KEY, timeout=timeout))


def kept(invoker: AnthropicInvoker) -> AnthropicInvoker:
    _made.append(invoker)
    return invoker


def fail(call: Call, invoker: AnthropicInvoker, request: Request = ASK) -> InvokeError:
    with pytest.raises(InvokeError) as caught:
        call(invoker, request)
    return caught.value


# What is asked and answered


def test_a_request_reaches_the_api(server: Loopback, shared: AnthropicInvoker, call: Call) -> None:
    """The body is the dialect's and nothing else, at the API's path, with the key; once."""
    call(shared, msgspec.structs.replace(ASK, params={"temperature": 0.2, "top_new": 7}))
    (received,) = server.requests
    assert received.path == "/v1/messages"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert "anthropic-version" in received.headers
    assert received.body.pop("stream", True) is True
    assert received.body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": [says("Hi")]}],
        "temperature": 0.2,
        "top_new": 7,
    }


def test_an_answer_is_read(server: Loopback, shared: AnthropicInvoker, call: Call) -> None:
    """An answer is the same whether it came whole or streamed; a stream tells when it began."""
    got = call(shared, ASK)
    assert msgspec.structs.replace(got, first_token=None) == Answer(
        content=Content.of("assistant", "Hello."),
        finish="stop",
        finish_raw="end_turn",
        model=MODEL,
        response_id="msg_1",
        request_id="req_1",
        service_tier="standard",
        usage_raw=USAGE,
        usage=Usage(input=20, output=5),
    )
    assert ("stream" in server.requests[0].body) == ((got.first_token or 0) > 0)


def test_an_old_model_is_asked_without_a_warning(
    server: Loopback, shared: AnthropicInvoker, call: Call
) -> None:
    """The SDK's warnings about models and limits of its own do not stand in the way."""
    params: dict[str, object] = {"max_tokens": 100_000, "thinking": {"type": "enabled"}}
    call(shared, Request("claude-2.1", ASK.messages, params=params))
    assert server.requests[0].body["max_tokens"] == 100_000


def test_a_schema_is_sent_as_the_api_takes_it(
    server: Loopback, shared: AnthropicInvoker, call: Call
) -> None:
    """Objects of a schema are closed, and bounds that the API refuses are said in words."""
    people: JSON = {"type": "integer", "minimum": 1}
    schema: dict[str, object] = {"type": "object", "properties": {"people": people}}
    call(shared, msgspec.structs.replace(ASK, output_schema=schema))
    assert server.requests[0].body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"people": {"type": "integer", "description": "{minimum: 1}"}},
        },
    }
    error = fail(call, shared, msgspec.structs.replace(ASK, output_schema={"not": {}}))
    assert not error.retryable


# While it comes


def test_text_is_told_as_it_comes(server: Loopback, shared: AnthropicInvoker, told: Told) -> None:
    """on_text gets the text in the pieces that it came in; thoughts and tools are no text."""
    thought: JSON = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    server.answers(replies(thought, says("Hello."), wants(1, "look", key=1), stop="tool_use"))
    pieces: list[str] = []
    got = told(shared, ASK, pieces.append)
    assert pieces == ["Hel", "lo."]
    assert [part.data for part in got.content.parts] == [thought, None]
    assert got.content.tool_calls[0].arguments == '{"key": 1}'


@pytest.mark.usefixtures("server")
def test_what_on_text_raises_ends_the_stream(shared: AnthropicInvoker, told: Told) -> None:
    """An error of the caller's is the caller's, and the invoker goes on working."""

    def refuse(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="Hel"):
        told(shared, ASK, refuse)
    assert told(shared, ASK, str).content.text == "Hello."


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (stream_of([*BEGUN, error_event()]), "overloaded_error", 529),
        (stream_of(BEGUN), None, None),
        (replace(streamed(message(says("Hello." * 99))), end="cut"), None, None),
    ],
    ids=["error", "ended", "cut"],
)  # fmt: skip
def test_a_stream_that_breaks(
    reply: Reply,
    code: str | None,
    status: int | None,
    server: Loopback,
    shared: AnthropicInvoker,
    told: Told,
) -> None:
    """A stream that ends too early says what had come, and may be tried again."""
    server.answers(reply)
    pieces: list[str] = []
    with pytest.raises(InvokeError) as caught:
        told(shared, ASK, pieces.append)
    error = caught.value
    assert (error.retryable, error.code, error.status) == (True, code, status)
    assert error.request_id == "req_1"
    assert error.partial == Content.of("assistant", "".join(pieces))
    assert pieces[0] == "Hel"
    assert error.usage == Usage(input=20, output=1)
    assert error.usage_raw == USAGE | {"output_tokens": 1}
    assert error.__context__ is None


def test_a_stream_that_breaks_before_it_says_anything(
    server: Loopback, shared: AnthropicInvoker, told: Told
) -> None:
    """Where no word had come there is no partial answer, but what was billed is known."""
    server.answers(stream_of(events_of(message(says("Hello.")))[:3]))
    with pytest.raises(InvokeError) as caught:
        told(shared, ASK, str)
    assert caught.value.partial is None
    assert caught.value.usage == Usage(input=20, output=1)


def test_a_stream_that_lacks_only_its_farewell(
    server: Loopback, shared: AnthropicInvoker, told: Told
) -> None:
    """Once it is known why the model stopped, what breaks then takes nothing away."""
    *events, _ = events_of(message(says("Hello.")))
    for end in ([], [error_event()]):
        server.answers(stream_of([*events, *end]))
        assert told(shared, ASK, str).content.text == "Hello."


def test_odd_lines_in_a_stream(server: Loopback, shared: AnthropicInvoker, told: Told) -> None:
    """What is no JSON, or no object, is passed over."""
    body = streamed(message(says("Hello."))).body
    server.answers(Reply(body=b"data: {broken\n\ndata: [1]\n\n: ping\n\n" + body))
    assert told(shared, ASK, str).content.text == "Hello."


# What fails


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "invalid_request_error", False),
        (401, "authentication_error", False),
        (402, "billing_error", False),
        (404, "not_found_error", False),
        (413, "request_too_large", False),
        (429, "rate_limit_error", True),
        (500, "api_error", True),
        (504, "timeout_error", True),
        (529, "overloaded_error", True),
    ],
)
def test_statuses(
    status: int,
    code: str,
    retryable: bool,
    server: Loopback,
    shared: AnthropicInvoker,
    call: Call,
) -> None:
    """A status says whether another attempt makes sense; each call is one request."""
    server.answers(failure(status, code, "It went wrong."))
    error = fail(call, shared)
    assert (error.status, error.code, error.retryable) == (status, code, retryable)
    assert str(error) == f"127.0.0.1 answered {status} ({code}): It went wrong."
    assert error.request_id == "req_1"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 529])
def test_the_wait_that_is_asked_for(
    status: int, server: Loopback, shared: AnthropicInvoker, call: Call
) -> None:
    """What the provider asks to wait is told in nanoseconds, before what its limits say."""
    server.answers(failure(status, headers=LIMITS | {"retry-after": "2"}))
    assert fail(call, shared).retry_after == 2_000_000_000


# In a tactic


@tool(description="Look a word up.")
def look(word: str) -> str:
    """A tool that finds everything."""
    return f"{word}!"


THOUGHT: JSON = {"type": "thinking", "thinking": "Both at once.", "signature": "c2ln"}


def asking(store: LogStore, invoker: AnthropicInvoker, on_text: bool, **agent: object) -> Doing:
    """A tactic whose agent is asked once. on_text: whether it streams."""

    def do(self: Doing) -> object:
        asked = self.agents["a"]
        asked.open()
        asked.receive("Look a and b up.")
        return asked.respond(on_text=pieces.append if on_text else None).content

    pieces: list[Piece] = []
    config: dict[str, object] = {
        "global": {"model_name": "claude-haiku-4-5", "invoker": invoker, "recall_wait": 0},
        "agent_configs": [{"name": "a", **agent}],
    }
    return Doing(do, config, log_store=store)


@pytest.mark.parametrize("on_text", [False, True], ids=["whole", "streamed"])
def test_parallel_tools_in_a_tactic(
    on_text: bool, server: Loopback, shared: AnthropicInvoker, store: LogStore
) -> None:
    """Tools that are asked for at once are run, and go back together, after the thought that asked
    for them as it was signed."""
    hidden: JSON = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
    wishes = [THOUGHT, hidden, wants(1, "look", word="a"), wants(2, "look", word="b")]
    server.answers(replies(*wishes, stop="tool_use"), replies(says("a! and b!")))
    session = called(asking(store, shared, on_text, tools=[look], system_prompt="Look."))
    assert session.delivery == "a! and b!"
    first, second = (received.body for received in server.requests)
    assert first["system"] == [says("Look.")]
    assert [asked["name"] for asked in first["tools"]] == ["look"]
    question, wish, results = second["messages"]
    assert question["content"] == [says("Look a and b up.")]
    assert wish == {"role": "assistant", "content": wishes}
    assert results["role"] == "user"
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [says("a!")]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [says("b!")]},
    ]


@pytest.mark.money
@pytest.mark.parametrize("on_text", [False, True], ids=["whole", "streamed"])
def test_what_a_cached_answer_costs(on_text: bool, server: Loopback, store: LogStore) -> None:
    """Each kind of token has its price: what the cache gave, and what it got for five minutes or
    an hour."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 7,
        "service_tier": "standard",
    }
    server.answers(replies(says("Hello."), usage=usage))
    invoker = kept(AnthropicInvoker(base_url=base_url(server), api_key=KEY, provider="anthropic"))
    session = called(asking(store, invoker, on_text))
    events = payloads(store, session.session_id)
    (responded,) = [event for event in events if isinstance(event, LLMResponded)]
    assert responded.usage_raw == usage
    # $1 a million tokens in, 0.10 from the cache, 1.25 and 2 into it, 5 out:
    # https://platform.claude.com/docs/en/about-claude/pricing
    assert responded.price.parts == {
        "input": 10 * 1_000,
        "cache_read": 100 * 100,
        "cache_write": 20 * 1_250 + 30 * 2_000,
        "output": 7 * 5_000,
    }
    assert responded.price.nanos == 140_000


def test_a_stream_that_breaks_is_a_failed_attempt(
    server: Loopback, shared: AnthropicInvoker, store: LogStore
) -> None:
    """What came of a stream that was cut is recorded with what it used, and the call made again."""
    broken = stream_of([*BEGUN, error_event()])
    server.answers(broken, replies(says("Hello.")))
    session = called(asking(store, shared, True))
    assert session.delivery == "Hello."
    (failed,) = [
        event for event in payloads(store, session.session_id) if isinstance(event, LLMFailed)
    ]
    assert failed.partial == Content.of("assistant", "Hel")
    assert failed.usage == Usage(input=20, output=1)
    assert (failed.error.code, failed.error.status) == ("overloaded_error", 529)
    assert failed.request_id == "req_1"


def test_a_tactic_waits_as_it_is_told(
    server: Loopback, shared: AnthropicInvoker, store: LogStore
) -> None:
    """Where there is too much to do the call is made again, after the wait that was asked for."""
    busy = failure(429, "rate_limit_error", headers=LIMITS | {"retry-after": "0.002"})
    overloaded = failure(529, "overloaded_error", headers={"retry-after": "0.001"})
    server.answers(busy, overloaded, replies(says("Hello.")))
    session = called(asking(store, shared, False))
    assert session.delivery == "Hello."
    events = payloads(store, session.session_id)
    waits = [event.wait for event in events if isinstance(event, RetryScheduled)]
    assert waits == [2_000_000, 1_000_000]


def test_a_format_is_asked_for_and_read(
    server: Loopback, shared: AnthropicInvoker, store: LogStore
) -> None:
    """A prompt's format goes as the schema of the answer."""
    server.answers(replies(says('{"name": "Bern", "people": 7}')))
    prompt = Prompt("city", "Name a city.", format=City)
    session = called(asking(store, shared, False, system_prompt=prompt))
    assert session.delivery == '{"name": "Bern", "people": 7}'
    schema = server.requests[0].body["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["name", "people"]


class City(msgspec.Struct):
    """What an answer is made of."""

    name: str
    people: int


# What must not be told


def echoing(received: Received) -> Reply:
    """A 401 that quotes the credentials it was sent, in its message, code and headers."""
    sent = received.headers["authorization"]
    key = sent.partition(" ")[2]
    return failure(401, f"bad {key}", f"You sent: {sent}.", headers={"request-id": f"req_{key}"})


def echoing_in_a_stream(received: Received) -> Reply:
    """A stream that quotes them, and breaks."""
    sent = received.headers["authorization"]
    events = events_of(message(says(f"You sent {sent}.")), size=9)
    return stream_of([*events[:-4], error_event(message=f"You sent {sent}.")])


def test_no_broken_stream_tells_the_key(
    server: Loopback, shared: AnthropicInvoker, told: Told
) -> None:
    """A key that a stream quotes in pieces is cut out of what is kept of it."""
    server.answers(echoing_in_a_stream)
    error = fail(lambda invoker, asked: told(invoker, asked, str), shared)
    assert error.partial is not None
    assert KEY not in everything_about(error)


# Where it goes, and with which key


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ANTHROPIC_API_KEY": f" {KEY}\n"}, KEY),
        ({"ANTHROPIC_AUTH_TOKEN": f"token-{KEY}"}, f"token-{KEY}"),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": f"token-{KEY}"}, KEY),
    ],
    ids=["key", "token", "both"],
)
def test_the_environment_decides(
    variables: dict[str, str],
    key: str,
    server: Loopback,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and then ANTHROPIC_AUTH_TOKEN are used where nothing
    else is said, and are no less secret."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", base_url(server))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    invoker = kept(AnthropicInvoker())
    assert (invoker.provider, invoker.port) == ("127.0.0.1", server.port)
    server.answers(echoing)
    assert key not in everything_about(fail(call, invoker))
    assert server.requests[0].headers["authorization"] == f"Bearer {key}"
    given = kept(AnthropicInvoker(api_key="given-by-hand"))
    fail(call, given)
    assert server.requests[1].headers["authorization"] == "Bearer given-by-hand"
