"""`lllm.instrument("litellm")`: the calls of LiteLLM, recorded, and otherwise as they were.

They run with the slow tests, whose environment has LiteLLM; `.ci/run --newest` tries its newest
release by litellm.in.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("litellm")

import litellm
from openai import AsyncOpenAI, OpenAI

import lllm
from lllm import LogStore, SQLiteBackend
from lllm.events.concurrency import finalizer_work
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded, MessageAdded, SessionStarted
from lllm.instrumentation.instruments import _made
from lllm.invokers import Request
from lllm.invokers.litellm import LiteLLMInvoker
from tests.frameworks.recorded import USED, events, recording
from tests.support.loopback import (
    Loopback,
    Received,
    Reply,
    embeddings,
    failure,
    hang,
    text,
    tool_calls,
)
from tests.support.loopback_streams import chat

# The SDKs' clients that LiteLLM makes are closed by nobody.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ASKED = [{"role": "user", "content": "How is the weather?"}]
LOOP = asyncio.Runner()
WAYS = ["completion", "acompletion"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store in which LiteLLM's calls are recorded."""
    with recording("litellm", tmp_path) as opened:
        yield opened


def options(server: Loopback, **more: Any) -> dict[str, Any]:
    """The arguments of a call at the server, which tries nothing again unless it is told to."""
    found = {"model": "openai/gpt-4o-mini", "messages": ASKED, "max_retries": 0}
    return {**found, "api_base": server.url, "api_key": "sk-test", **more}


def call(how: str, server: Loopback, **more: Any) -> Any:
    """Call in one of LiteLLM's ways; of a stream, all pieces."""
    asked = options(server, **more)
    if how == "completion":
        found = litellm.completion(**asked)
        return list(found) if more.get("stream") else found

    async def on_loop() -> Any:
        answer = await litellm.acompletion(**asked)
        if not more.get("stream"):
            return answer
        found = [one async for one in answer]
        until = time.monotonic() + 10  # LiteLLM reports the end from a task of its own
        while not _is_idle() and time.monotonic() < until:
            await asyncio.sleep(0.005)
        return found

    return LOOP.run(on_loop())


def _is_idle() -> bool:
    """Whether no recorded call is in progress."""
    made: Any = _made["litellm"]
    return not made._logger._calls


@pytest.mark.parametrize("how", WAYS)
def test_a_call(server: Loopback, store: LogStore, how: str) -> None:
    """It is a session of its own when the caller has the answer, with its tags and exact tokens."""
    server.answers(text("It is sunny.", usage=USED))
    metadata = {"session_id": "chat-7", "tags": ["demo"]}
    answer = call(how, server, metadata=metadata, temperature=0.5)
    [session] = store.list_sessions(tags={"session_id": "chat-7", "demo": "true"})
    assert (session.tactic_path, session.state) == ("litellm.completion", "success")
    assert answer.choices[0].message.content == "It is sunny."
    [requested], [responded] = events(store, LLMRequested), events(store, LLMResponded)
    assert (requested.model, requested.provider) == ("gpt-4o-mini", "openai")
    assert requested.params == {"temperature": 0.5}
    assert responded.content.text == "It is sunny."
    usage = responded.usage
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (100, 20, 40, 8)
    assert "sk-test" not in str(list(store.log.read()))


@pytest.mark.parametrize("how", WAYS)
def test_what_capture_records_costs_the_same(
    server: Loopback, store: LogStore, tmp_path: Path, how: str
) -> None:
    """The logger alone, and a captured client alone, come to the same nano-dollar."""
    server.answers(text("Sunny.", usage=USED), chat("Sun", "ny.", usage=USED))
    call(how, server)
    call(how, server, stream=True, stream_options={"include_usage": True})
    lllm.uninstrument("litellm")
    server.answers(text("Sunny.", usage=USED), chat("Sun", "ny.", usage=USED))
    with LogStore(SQLiteBackend(tmp_path / "captured.db")) as other:
        client = lllm.capture(
            OpenAI(base_url=server.url, api_key="sk-test"), log_store=other, provider="openai"
        )
        given: Any = {"model": "gpt-4o-mini", "messages": ASKED}
        client.chat.completions.create(**given)
        list(client.chat.completions.create(
            stream=True, stream_options={"include_usage": True}, **given
        ))  # fmt: skip
        mine, captured = store.export_cost_summary(), other.export_cost_summary()
        assert mine["total_cost_usd"] == captured["total_cost_usd"] > 0
        usages = [[one.usage for one in events(each, LLMResponded)] for each in (store, other)]
        assert usages[0] == usages[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_counted_twice(
    server: Loopback, store: LogStore, how: str, stream: bool
) -> None:
    """Over a captured client each call is recorded once, with the retries of the SDK."""
    answer = chat("Sun", "ny.", usage=USED) if stream else text("Sunny.", usage=USED)
    server.answers(failure(429), answer)
    made = OpenAI if how == "completion" else AsyncOpenAI
    client = made(base_url=server.url, api_key="sk-test", max_retries=1)
    lllm.capture(client, log_store=store, provider="openai")
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    call(how, server, client=client, max_retries=1, **more)
    lllm.uninstrument("litellm")  # waits for LiteLLM's thread
    [session] = store.list_sessions()
    assert (session.tactic_path, session.state) == ("litellm.completion", "success")
    assert [one.attempt for one in events(store, LLMRequested)] == [1, 2]
    assert len(events(store, LLMFailed)) == 1
    assert [one.usage.input for one in events(store, LLMResponded)] == [100]


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("how", WAYS)
def test_a_stream(server: Loopback, store: LogStore, how: str, usage: bool) -> None:
    """Its answer is whole; a usage that LiteLLM has made up is not recorded."""
    server.answers(chat("It is ", "sunny.", usage=USED if usage else None))
    more = {"stream_options": {"include_usage": True}} if usage else {}
    pieces = call(how, server, stream=True, **more)
    said = [one.choices[0].delta.content or "" for one in pieces if one.choices]
    assert "".join(said) == "It is sunny."
    lllm.uninstrument("litellm")  # waits for LiteLLM's thread
    [session] = store.list_sessions()
    assert session.state == "success"
    [responded] = events(store, LLMResponded)
    assert responded.content.text == "It is sunny."
    assert (responded.usage is not None) is usage
    assert (responded.price.status == "priced") is usage


@pytest.mark.parametrize("how", WAYS)
def test_a_session_waits_for_the_end_of_a_stream(
    server: Loopback, store: LogStore, how: str
) -> None:
    """Although LiteLLM reports it from another thread or task, it is in the session."""
    server.answers(chat("It is ", "sunny.", usage=USED))
    asked = options(server, stream=True, stream_options={"include_usage": True})
    if how == "completion":
        with store.session("my::script"):
            list(litellm.completion(**asked))
    else:

        async def script() -> None:
            async with store.session("my::script"):
                async for _ in await litellm.acompletion(**asked):
                    pass

        LOOP.run(script())
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("my::script", 1)
    assert [one.content.text for one in events(store, LLMResponded)] == ["It is sunny."]


def test_a_store_waits_for_the_end_of_a_stream(server: Loopback, tmp_path: Path) -> None:
    """A program that reads a stream and closes its store loses nothing."""
    server.answers(chat("It is ", "sunny."))
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as opened:
        lllm.instrument("litellm", log_store=opened, provider="openai")
        list(litellm.completion(**options(server, stream=True)))
    lllm.uninstrument("litellm")
    with LogStore(SQLiteBackend(path)) as reader:
        assert [one.state for one in reader.list_sessions()] == ["success"]


def test_a_stream_that_is_left(server: Loopback, store: LogStore) -> None:
    """What had arrived is recorded, and its cost is unknown."""
    server.answers(chat("It is ", "sunny."))
    stream: Any = litellm.completion(**options(server, stream=True))
    assert next(one for one in stream if one.choices[0].delta.content)
    del stream
    for _ in range(100):  # LiteLLM's threads hold it for a moment
        gc.collect()
        finalizer_work.settle()
        if events(store, LLMFailed):
            break
        time.sleep(0.02)
    [session] = store.list_sessions()
    assert session.state == "failure"
    [failed] = events(store, LLMFailed)
    assert (failed.cancelled, failed.partial.text) == (True, "It is ")
    assert failed.price.status == "unpriced"


def test_a_call_that_is_cancelled(server: Loopback, store: LogStore) -> None:
    """LiteLLM reports nothing; the end of the task does."""
    server.answers(hang())

    async def impatient() -> None:
        asked = asyncio.ensure_future(litellm.acompletion(**options(server)))
        while not server.requests:
            await asyncio.sleep(0.005)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    LOOP.run(impatient())
    [session] = store.list_sessions()
    assert session.state == "failure"
    assert [one.cancelled for one in events(store, LLMFailed)] == [True]


@pytest.mark.parametrize("how", WAYS)
def test_errors_are_the_same(server: Loopback, store: LogStore, how: str) -> None:
    """The caller gets LiteLLM's exception; the failed attempt is free."""
    server.answers(failure(400))
    with pytest.raises(litellm.BadRequestError):
        call(how, server)
    [session] = store.list_sessions(state="failure")
    assert "It went wrong" in str(store.load_session_record(session.session_id).traceback)
    [failed] = events(store, LLMFailed)
    assert failed.error.type.endswith("BadRequestError")
    assert failed.price.status == "free"


def test_a_fallback_of_a_router(server: Loopback, store: LogStore) -> None:
    """The failed call and the one after it are in the session around them."""
    server.answers(failure(400), text("Sunny.", usage=USED))
    place = {"api_base": server.url, "api_key": "sk-test", "max_retries": 0}
    router = litellm.Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": f"openai/{model}", **place}}
            for name, model in (("small", "gpt-4o-mini"), ("large", "gpt-4o"))
        ],
        fallbacks=[{"small": ["large"]}], num_retries=0,
    )  # fmt: skip
    with store.session("my::script"):
        router.completion(model="small", messages=ASKED)
    [session] = store.list_sessions()
    assert (session.tactic_path, session.calls) == ("my::script", 1)
    assert [one.model for one in events(store, LLMRequested)] == ["gpt-4o-mini", "gpt-4o"]
    assert len(events(store, LLMFailed)) == len(events(store, LLMResponded)) == 1


def test_a_turn_with_a_tool(server: Loopback, store: LogStore) -> None:
    """The second request continues the dialog: no message is written twice."""
    wants = tool_calls(("weather", '{"city": "Berlin"}'), usage=USED)
    server.answers(wants, text("It is sunny.", usage=USED))
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    with store.session("my::script"):
        said = litellm.completion(**options(server, tools=tools)).choices[0].message
        result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "sunny"}
        litellm.completion(**options(server, tools=tools, messages=[*ASKED, said, result]))
    added = events(store, MessageAdded)
    assert [one.content.text for one in added] == ["How is the weather?", "sunny"]
    assert {one.dialog for one in events(store, LLMRequested)} == {1}


def test_other_providers(server: Loopback, store: LogStore) -> None:
    """The counts of Anthropic's own body are recorded, which name the caches by their lifetime."""
    usage = {
        "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
    }  # fmt: skip
    body = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Sunny."}], "stop_reason": "end_turn", "usage": usage,
    }  # fmt: skip
    server.answers(Reply(body=json.dumps(body).encode()))
    call("completion", server, model="anthropic/claude-sonnet-4-5", api_base=server.url)
    [responded] = events(store, LLMResponded)
    assert responded.usage.input == 20
    assert (responded.usage.cache_write_5m, responded.usage.cache_write_1h) == (2, 5)


def test_embeddings(server: Loopback, store: LogStore) -> None:
    """They are calls, too, with their price."""
    server.answers(embeddings([0.1, 0.2]))
    with store.session("my::script"):
        litellm.embedding(
            model="openai/text-embedding-3-small", input=["a"], api_base=server.url, api_key="sk"
        )
    [requested], [responded] = events(store, LLMRequested), events(store, LLMResponded)
    assert requested.operation == "embeddings"
    assert (responded.usage.input, responded.price.status) == (4, "priced")


def test_threads(server: Loopback, store: LogStore) -> None:
    """Threads in a session are told apart, and one without a session makes its own."""
    server.answers(text("Sunny.", usage=USED))
    with store.session("my::script"):
        threads = [
            threading.Thread(target=store.carry(lambda: call("completion", server)))
            for _ in range(4)
        ]
        threads.append(threading.Thread(target=call, args=("completion", server)))
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    found = {one.tactic_path: one.calls for one in store.list_sessions()}
    assert found == {"my::script": 4, "litellm.completion": 1}


@pytest.mark.usefixtures("store")
def test_events_are_durable_before_the_model_is_called(server: Loopback, tmp_path: Path) -> None:
    """Whatever kills the process while it waits, the request is in the log."""
    seen: list[int] = []

    def answer(_: Received) -> Reply:
        with LogStore(SQLiteBackend(tmp_path / "runs.db", read_only=True)) as reader:
            seen.append(len(events(reader, LLMRequested)))
        return text("Sunny.")

    server.answers(answer)
    call("completion", server)
    assert seen == [1]


def test_an_agent_of_lllm_records_its_calls_itself(server: Loopback, store: LogStore) -> None:
    """The invoker that calls LiteLLM is not recorded a second time."""
    server.answers(text("Sunny.", usage=USED))
    invoker = LiteLLMInvoker(api_base=server.url, api_key="sk-test")
    asked = Request(model="openai/gpt-4o-mini", messages=())
    with store.session("my::script"):
        invoker.invoke(asked)
    assert events(store, LLMRequested) == []


def test_the_handle_undoes_it(server: Loopback, store: LogStore) -> None:
    """Nothing of lllm is left in LiteLLM's lists, and calls are not recorded any more."""
    server.answers(text("Sunny."))
    call("completion", server)
    lllm.uninstrument("litellm")
    call("completion", server)
    assert len(events(store, SessionStarted)) == 1
    lists = (litellm.callbacks, litellm.success_callback, litellm._async_success_callback)
    assert not any(lists)
    with lllm.instrument("litellm", log_store=store):
        call("completion", server)
    assert len(events(store, SessionStarted)) == 2
