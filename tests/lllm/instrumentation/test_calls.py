"""`lllm.capture`: the official clients, recorded, and otherwise as they were."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import gc
import json
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from lllm import (
    BudgetExceeded,
    ConfigError,
    LogStore,
    LogUnavailable,
    SQLiteBackend,
    capture,
)
from lllm.events.backends.noop import NoOpBackend
from lllm.events.model import (
    AgentDefined,
    DialogOpened,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
)
from tests.lllm.instrumentation.asking import CHAT, CLAUDE, KEY, chat_client, claude_client, only
from tests.support import loopback, loopback_messages, loopback_responses
from tests.support.loopback import Loopback, Reply
from tests.support.runs import payloads
from tests.support.sent_messages import sent_by_request


def says(*texts: str) -> list[dict[str, Any]]:
    """A conversation, the user's turn first."""
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


def ask(client: openai.OpenAI, *texts: str, **options: Any) -> Any:
    """One call of Chat Completions."""
    messages: Any = says(*texts)
    return client.chat.completions.create(model=CHAT, messages=messages, **options)


# -- what is recorded


@pytest.mark.money
def test_a_call_inside_of_a_session(server: Loopback, store: LogStore) -> None:
    """A call inside of a session is written as what was asked, before it is sent, and what came
    back, with its usage and its price; the caller gets what the SDK makes of it."""
    seen: list[list[str]] = []

    def watching(_: object) -> Reply:
        seen.append([event.type for event in store.events(recorder.session_id)])
        return loopback.text("Hello.")

    server.answers(watching)
    client = capture(chat_client(server), provider="openai")
    with store.session("my::script", tags={"env": "test"}) as recorder:
        completion = ask(client, "Hi.", temperature=0.5)
    assert type(completion).__name__ == "ChatCompletion"
    assert completion.choices[0].message.content == "Hello."
    assert seen[0][-3:] == ["dialog.opened", "message.added", "llm.requested"]
    [requested] = only(store, LLMRequested, recorder.session_id)
    [responded] = only(store, LLMResponded, recorder.session_id)
    assert (requested.model, requested.api, requested.host) == (
        CHAT, "chat.completions", "127.0.0.1",
    )  # fmt: skip
    assert requested.params == {"temperature": 0.5}
    assert responded.content.text == "Hello."
    assert (responded.usage.input, responded.usage.output) == (20, 5)
    assert responded.price.nanos == 20 * 150 + 5 * 600  # 0.15 and 0.60 US$ for a million
    assert store.export_cost_summary(tags={"env": "test"})["calls"] == 1


def test_a_call_outside_of_any_session(server: Loopback, store: LogStore) -> None:
    """Outside of any session each call is a session of its own."""
    client = capture(chat_client(server), log_store=store, provider="openai")
    ask(client, "One.")
    ask(client, "Two.")
    sessions = store.list_sessions(state="success")
    assert [one.tactic_path for one in sessions] == ["openai.chat", "openai.chat"]
    assert len(only(store, LLMResponded)) == 1


@pytest.mark.money
def test_messages_of_anthropic(server: Loopback, store: LogStore) -> None:
    """The same for Messages: the system prompt is a message, too, and cached tokens have their own
    price."""
    usage = {
        "input_tokens": 100, "output_tokens": 10,
        "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 500,
        "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200},
    }  # fmt: skip
    server.answers(loopback_messages.replies(loopback_messages.says("Hi."), usage=usage))
    client = capture(claude_client(server), log_store=store, provider="anthropic")
    client.messages.create(
        model=CLAUDE, max_tokens=10, system="Be brief.", messages=[{"role": "user", "content": "?"}]
    )
    added = only(store, MessageAdded)
    assert [(event.content.role, event.content.text) for event in added] == [
        ("system", "Be brief."), ("user", "?"),
    ]  # fmt: skip
    [responded] = only(store, LLMResponded)
    # 1 US$ for a million of input, 0.10 cached, 1.25 and 2 written, 5 of output
    assert responded.price.nanos == 100 * 1000 + 1000 * 100 + 300 * 1250 + 200 * 2000 + 10 * 5000


@pytest.mark.money
def test_embeddings(server: Loopback, store: LogStore) -> None:
    """Each text of an embedding is a message, each vector a part of the answer, as it was sent."""
    vector = base64.b64encode(b"\0" * 8).decode()
    body = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": n, "embedding": vector} for n in range(2)],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    server.answers(Reply(body=json.dumps(body).encode()))
    client = capture(chat_client(server), log_store=store, provider="openai")
    found = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert found.data[0].embedding == [0.0, 0.0]
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert requested.operation == "embeddings"
    assert [event.content.text for event in only(store, MessageAdded)] == ["one", "two"]
    assert [part.data for part in responded.content.parts] == [vector, vector]
    assert responded.price.nanos == 8 * 20  # 0.02 US$ for a million


def test_an_error_is_a_failed_attempt(server: Loopback, store: LogStore) -> None:
    """Each attempt of the SDK is an event: those that failed say why; the session is a success
    where the last one was, else a failure with the SDK's own error, which the caller gets."""
    busy = loopback.failure(429, "Slow down.", headers={"retry-after-ms": "1"})
    server.answers(busy, loopback.text("At last."))
    client = capture(chat_client(server, max_retries=1), log_store=store, provider="openai")
    assert ask(client, "?").choices[0].message.content == "At last."
    [failed] = only(store, LLMFailed)
    assert (failed.error.status, failed.retry_after) == (429, 1_000_000)
    assert [event.attempt for event in only(store, LLMRequested)] == [1, 2]
    assert store.list_sessions()[0].state == "success"

    server.answers(busy)
    with pytest.raises(openai.RateLimitError):
        ask(client, "?")
    [session] = store.list_sessions(state="failure")
    record = store.load_session_record(session.session_id)
    assert record.session.error is not None
    assert record.session.error.type == "openai.RateLimitError"
    assert len(record.session.invoke_traces) == 2


def test_no_answer_at_all(server: Loopback, store: LogStore) -> None:
    """A connection that breaks is a failed attempt."""
    server.answers(loopback.drop())
    client = capture(chat_client(server), log_store=store, provider="openai")
    with pytest.raises(openai.APIConnectionError):
        ask(client, "?")
    [failed] = only(store, LLMFailed)
    assert "RemoteProtocolError" in failed.error.type


def test_a_conversation_is_written_once(server: Loopback, store: LogStore) -> None:
    """A conversation that grows by a turn each call is written once, and what each request sent can
    be put together from it; one that goes another way is a fork."""
    server.answers(loopback.text("Yes."))
    client = capture(chat_client(server), provider="openai")
    with store.session("talk") as recorder:
        said = ["Turn 0."]
        for turn in range(1, 10):
            ask(client, *said)
            said += ["Yes.", f"Turn {turn}."]
        ask(client, "Turn 0.", "Yes.", "Another way.")
    events = payloads(store, recorder.session_id)
    added = [event for event in events if isinstance(event, MessageAdded)]
    assert [event.content.text for event in added] == [
        *(f"Turn {turn}." for turn in range(9)), "Another way.",
    ]  # fmt: skip
    sent = [[c.text for c in contents] for contents in sent_by_request(events).values()]
    assert sent[:9] == [said[: 2 * turn + 1] for turn in range(9)]
    assert sent[9] == ["Turn 0.", "Yes.", "Another way."]
    assert len([event for event in events if isinstance(event, DialogOpened)]) == 2


def test_the_same_question_from_several_threads(server: Loopback, store: LogStore) -> None:
    """Who asks the same at the same time gets dialogs apart, each with its answer."""
    arrived = threading.Barrier(3)

    def together(_: object) -> Reply:
        arrived.wait(10)
        return loopback.text("Yes.")

    server.answers(together)
    client = capture(chat_client(server), provider="openai")
    with store.session("talk") as recorder:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(ask, client, "Same?"))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = payloads(store, recorder.session_id)
    sent = [[c.text for c in contents] for contents in sent_by_request(events).values()]
    assert sent == [["Same?"]] * 3
    assert len([event for event in events if isinstance(event, DialogOpened)]) == 3
    assert len([event for event in events if isinstance(event, MessageAdded)]) == 1


def test_tools_are_written_once(server: Loopback, store: LogStore) -> None:
    """Tools and answer formats are a definition, written once for all calls that have them; what a
    tool returned and what an image holds is in the messages."""
    tool: Any = {
        "type": "function",
        "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}},
    }
    server.answers(loopback.tool_calls(("look", "{}")), loopback.text("A cat."))
    client = capture(chat_client(server), provider="openai")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]
    with store.session("tools") as recorder:
        first = client.chat.completions.create(model=CHAT, messages=messages, tools=[tool])
        messages.append(first.choices[0].message)
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": "A cat."})
        client.chat.completions.create(model=CHAT, messages=messages, tools=[tool])
    requests = only(store, LLMRequested, recorder.session_id)
    assert requests[0].definition == requests[1].definition
    defined = payloads(store, recorder.session_id)
    assert not [event for event in defined if isinstance(event, AgentDefined)]  # it stands apart
    [responded, _] = only(store, LLMResponded, recorder.session_id)
    assert [call.name for call in responded.content.tool_calls] == ["look"]
    added = only(store, MessageAdded, recorder.session_id)
    assert [part.kind for part in added[0].content.parts] == ["text", "image"]
    assert added[0].content.parts[1].data == image
    assert (added[-1].content.role, added[-1].content.call_id) == ("tool", "call_1")
    assert len(added) == 2  # the answer that was sent back is known


def test_no_key_is_written(server: Loopback, tmp_path: Path) -> None:
    """The client's key is in no file, not even where the provider quotes it."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    server.answers(loopback.echoing_key)
    client = capture(chat_client(server), log_store=store, provider="openai")
    with pytest.raises(openai.AuthenticationError):
        ask(client, "?", extra_headers={"X-Extra": "also"})
    store.close()
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes()


def test_no_credential_of_a_tool_is_written(server: Loopback, tmp_path: Path) -> None:
    """What a request hands on to servers of tools, for them to be let in, is in no file."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    body = loopback_responses.response(loopback_responses.says("Hello."))
    server.answers(loopback_responses.sent(body))
    tool: Any = {
        "type": "mcp", "server_label": "shop", "server_url": "https://example.org",
        "authorization": "letmein-1234567", "headers": {"X-Pass": "letmein-7654321"},
    }  # fmt: skip
    client = capture(chat_client(server), log_store=store, provider="openai")
    client.responses.create(model="gpt-5-mini", input="?", tools=[tool])
    servers = [{"type": "url", "url": "https://example.org", "authorization_token": "letmein-99"}]
    server.answers(loopback_messages.replies(loopback_messages.says("Hi.")))
    capture(claude_client(server), log_store=store, provider="anthropic").messages.create(
        model=CLAUDE,
        max_tokens=9,
        messages=says("?"),
        extra_body={"mcp_servers": servers},  # type: ignore[arg-type] # as written
    )
    assert [one.state for one in store.list_sessions()] == ["success"] * 2
    store.close()
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"letmein" not in file.read_bytes()


# -- what is not


def test_other_calls_are_not_recorded(server: Loopback, store: LogStore) -> None:
    """Calls that ask no model (files, lists of models, ...) pass by."""
    server.answers(Reply(body=b'{"id": "m", "object": "moderation", "model": "m", "results": []}'))
    client = capture(chat_client(server), log_store=store, provider="openai")
    client.moderations.create(input="?")
    assert store.list_sessions() == []


def test_without_a_store(server: Loopback) -> None:
    """Outside of any session and without a store nothing is recorded, which is said once."""
    client = capture(chat_client(server), provider="openai")
    with pytest.warns(UserWarning, match="log_store=store"):
        ask(client, "?")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(client, "?").choices[0].message.content == "Hello."


@pytest.mark.parametrize("wrong", [None, "client", object(), openai, LogStore(NoOpBackend())])
def test_what_is_no_client(wrong: object) -> None:
    """What is no client of an SDK is refused, with what could be one."""
    with pytest.raises(ConfigError, match="OpenAI\\(\\)"):
        capture(wrong)


# -- what the caller notices


def test_it_is_the_same_client(server: Loopback, store: LogStore) -> None:
    """The same object comes back; to capture it again changes nothing, and what `with_options` and
    `copy` make of it is captured, too. A client beside it is not."""
    client, other = chat_client(server), chat_client(server)
    assert capture(capture(client, log_store=store), log_store=store) is client
    ask(client, "One.")
    ask(client.with_options(timeout=5), "Two.")
    ask(client.copy(), "Three.")
    ask(other, "Not me.")
    assert len(store.list_sessions()) == 3
    assert type(client.with_options(timeout=5)) is openai.OpenAI


def test_a_shared_connection_pool(server: Loopback, store: LogStore) -> None:
    """A client that shares its httpx client with a captured one is not recorded."""
    one = chat_client(server)
    other = one.with_options(timeout=5)
    capture(one, log_store=store)
    ask(other, "Not me.")
    assert store.list_sessions() == []
    ask(one, "Me.")
    assert len(store.list_sessions()) == 1


def test_raw_answers_and_parsing(server: Loopback, store: LogStore) -> None:
    """`.with_raw_response`, `.with_streaming_response` and `.parse()` work as ever, and are
    recorded."""
    import pydantic

    class Verdict(pydantic.BaseModel):
        score: int

    client = capture(chat_client(server), log_store=store, provider="openai")
    messages: Any = says("?")
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=messages)
    assert raw.headers["x-request-id"] == "req_1"
    assert raw.parse().choices[0].message.content == "Hello."
    with client.chat.completions.with_streaming_response.create(
        model=CHAT, messages=messages
    ) as streamed:
        assert json.loads(streamed.read())["choices"][0]["message"]["content"] == "Hello."
    server.answers(loopback.text('{"score": 8}'))
    parsed = client.chat.completions.parse(model=CHAT, messages=messages, response_format=Verdict)
    assert parsed.choices[0].message.parsed == Verdict(score=8)
    assert [one.state for one in store.list_sessions()] == ["success"] * 3
    assert {len(only(store, LLMResponded, one.session_id)) for one in store.list_sessions()} == {1}


@pytest.mark.money
def test_a_spent_budget(server: Loopback, store: LogStore) -> None:
    """The call after the one that crosses the session's budget is not sent, and not tried again."""
    server.answers(loopback.text("Dear.", usage={"prompt_tokens": 10**6, "completion_tokens": 0}))
    client = capture(chat_client(server, max_retries=2), provider="openai")
    with store.session("frugal", budget_usd=0.10):
        ask(client, "?")
        with pytest.raises(BudgetExceeded, match="did not happen"):
            ask(client, "?")
    assert len(server.requests) == 1
    [trace] = store.load_session(store.list_sessions()[0].session_id).invoke_traces
    assert trace.state == "success"


class _Unwritable(NoOpBackend):
    """A log that can't be written."""

    def append(self, _: Any) -> Any:
        """Never."""
        raise LogUnavailable("no space left")


def test_an_unwritable_log(server: Loopback) -> None:
    """A log that can't be written stops no call, unless it was told to raise; then nothing is sent,
    and nothing tried again."""
    strict = LogStore(_Unwritable(), on_error="raise")
    client = capture(chat_client(server, max_retries=2), log_store=strict, provider="openai")
    with pytest.raises(LogUnavailable):
        ask(client, "?")
    assert server.requests == []
    held = LogStore(_Unwritable())
    client = capture(chat_client(server), log_store=held, provider="openai")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ask(client, "?").choices[0].message.content == "Hello."
        held.close()


def test_a_session_that_has_ended(server: Loopback, store: LogStore) -> None:
    """A thread that outlives its session goes on, with sessions of its own."""
    client = capture(chat_client(server), log_store=store, provider="openai")
    with store.session("short"):
        context = contextvars.copy_context()
    context.run(ask, client, "?")
    assert {one.tactic_path for one in store.list_sessions()} == {"short", "openai.chat"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child(server: Loopback, store: LogStore) -> None:
    """A forked child inside of a session has sessions of its own: the parent's is the parent's."""
    with store.session("parent"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if child == 0:
            client = capture(chat_client(server), log_store=store, provider="openai")
            try:
                ask(client, "?")
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    paths = [one.tactic_path for one in store.list_sessions()]
    assert sorted(paths) == ["openai.chat", "parent"]


@pytest.mark.parametrize("make", [openai.AsyncOpenAI, anthropic.AsyncAnthropic])
def test_on_an_event_loop(server: Loopback, store: LogStore, make: Callable[..., Any]) -> None:
    """The asynchronous clients, too, many calls at once."""
    is_openai = make is openai.AsyncOpenAI
    url = server.url if is_openai else loopback_messages.base_url(server)
    whole = loopback_messages.replies(loopback_messages.says("Hello."))
    server.answers(loopback.text("Hello.") if is_openai else whole)

    async def main() -> list[Any]:
        client = capture(make(base_url=url, api_key=KEY, max_retries=0), log_store=store)
        asked = client.chat.completions.create if is_openai else client.messages.create
        model = CHAT if is_openai else CLAUDE
        async with client, store.session("many"):
            calls = [
                asked(model=model, max_tokens=9, messages=says(f"Question {n}?")) for n in range(20)
            ]
            return await asyncio.gather(*calls)

    assert len(asyncio.run(main())) == 20
    [session] = store.list_sessions(state="success")
    loaded = store.load_session(session.session_id)
    assert [trace.state for trace in loaded.invoke_traces] == ["success"] * 20


def test_an_ended_session_is_freed(client: openai.OpenAI, store: LogStore) -> None:
    """A service that runs for months keeps nothing of the sessions that its calls were in."""
    with store.session("freed") as recorder:
        ask(client, "?")
        kept = weakref.ref(recorder)
    ask(client, "And outside of a session?")
    del recorder
    gc.collect()
    assert kept() is None
