"""Calls beside chats: which are recorded, and what is said of those that are not; bodies that were
read before, and errors that come with a status of 200."""

from __future__ import annotations

import gzip
import json
import warnings
from typing import Any

import httpx
import openai
import pytest

from lllm import BudgetExceeded, LogStore, capture
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded, MessageAdded, Part
from tests.lllm.instrumentation.asking import ASKED, CHAT, chat_client, only, streamed, text_of
from tests.support.loopback import USAGE, Loopback, Reply, failure, text
from tests.support.loopback_streams import chat, sse

OLD = "gpt-3.5-turbo-instruct"


def completion(*texts: str, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A body of the older completions API, or a chunk of one."""
    choices = [
        {"index": n, "text": said, "logprobs": None, "finish_reason": finish}
        for n, said in enumerate(texts)
    ]
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": OLD}
    return body | {"choices": choices} | more


def test_older_completions(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """Completions are recorded, every text of them, alike in one piece and as a stream."""
    server.answers(
        Reply(body=json.dumps(completion("Once upon", "In old", usage=USAGE)).encode()),
        sse(
            completion("Once ", "In ", finish=None),
            completion("upon", "old", finish="stop"),
            completion(usage=USAGE),
            "[DONE]",
        ),
    )
    client.completions.create(model=OLD, prompt="Begin.", n=2)
    [plain] = only(store, LLMResponded)
    [added] = only(store, MessageAdded)
    assert added.content.text == "Begin."
    assert [one.operation for one in only(store, LLMRequested)] == ["completion"]
    for _ in client.completions.create(model=OLD, prompt="Begin.", n=2, stream=True):
        pass
    [again] = only(store, LLMResponded)
    for responded in (plain, again):
        assert responded.content.parts[0] == Part("text", responded.content.text)
        assert [part.kind for part in responded.content.parts] == ["text", "choice"]
        assert responded.usage.input == 20
        assert responded.finish == "stop"
    assert [plain.content.text, again.content.text] == ["Once upon", "Once upon"]


def test_a_compaction(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """responses.compact() is recorded, with what it was given and what it made of it."""
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    body = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [item]}
    server.answers(Reply(body=json.dumps(body | {"usage": usage}).encode()))
    client.responses.compact(model="gpt-5-mini", input="A long talk.")
    [requested], [responded] = only(store, LLMRequested), only(store, LLMResponded)
    assert requested.operation == "compact"
    assert responded.content.parts == (Part("compaction", data=item),)
    assert responded.usage.input == 9


def test_what_is_not_recorded_says_so_once(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """A call that may run a model and is not recorded says so, once for each kind of call."""
    server.answers(Reply(body=b'{"data": [], "results": [], "created": 1}'))
    calls: dict[str, Any] = {
        "/images/generations": lambda: client.images.generate(prompt="A cat."),
        "/moderations": lambda: client.moderations.create(input="?"),
        "/rerank": lambda: client.post("/rerank", cast_to=object, body={"query": "?"}),
        "/audio/speech": lambda: client.audio.speech.create(
            model="tts-1", voice="alloy", input="A"
        ),
    }
    for path, call in calls.items():
        with pytest.warns(UserWarning, match=f"{path} is not recorded"):
            call()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call()
    assert store.list_sessions() == []


def test_what_runs_no_model_says_nothing(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """Calls that keep something, or end it, are no calls of a model."""
    server.answers(Reply(body=b"{}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.conversations.create()
        client.vector_stores.create()
        client.batches.cancel("batch_1")
        client.post("/responses/input_tokens", cast_to=object, body={})
    assert store.list_sessions() == []


@pytest.mark.money
def test_a_budget_names_what_it_does_not_see(server: Loopback, store: LogStore) -> None:
    """Under a budget the warning says that it does not see the call, and so does its end."""
    server.answers(Reply(body=b'{"data": []}'), text("Hi.", usage=USAGE | {"cost": 1}))
    client = capture(chat_client(server), provider="openai")
    with store.session("my::script", budget_usd=0.000_001):
        with pytest.warns(UserWarning, match="session's budget does not include"):
            client.images.generate(prompt="A cat.")
        client.chat.completions.create(model=CHAT, messages=ASKED)
        with pytest.raises(BudgetExceeded, match="/images/generations"):
            client.chat.completions.create(model=CHAT, messages=ASKED)


# -- bodies that were read before


def reading(response: httpx.Response) -> None:
    """A hook that reads every body."""
    response.read()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_stream_that_a_hook_has_read(compressed: bool, server: Loopback, store: LogStore) -> None:
    """A stream that a hook of httpx has read before the SDK is recorded all the same."""
    whole = chat("One", " two.")
    body = b"".join(piece for piece in whole.pieces or () if isinstance(piece, bytes))
    headers = {"Content-Type": "text/event-stream"}
    if compressed:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
    server.answers(Reply(body=body, headers=headers))
    with httpx.Client(event_hooks={"response": [reading]}) as http:
        client = capture(chat_client(server, http_client=http), log_store=store)
        assert text_of(streamed(client)) == "One two."
        with client.chat.completions.with_streaming_response.create(
            model=CHAT, messages=ASKED, stream=True
        ) as raw:
            assert b"One" in raw.read()
    assert [one.state for one in store.list_sessions()] == ["success", "success"]
    [responded] = only(store, LLMResponded)
    assert responded.content.text == "One two."
    assert responded.usage.input == 20


def refusing(response: httpx.Response) -> None:
    """A hook that raises for an error before the SDK sees it."""
    response.raise_for_status()


@pytest.mark.parametrize(("status", "cost"), [(429, 0), (500, None)])
def test_an_error_that_a_hook_raises(
    status: int, cost: int | None, server: Loopback, store: LogStore
) -> None:
    """A hook's own error for a status has that status, and so has the session; where a provider
    refused the request it cost nothing."""
    server.answers(failure(status))
    with httpx.Client(event_hooks={"response": [refusing]}) as http:
        client = capture(chat_client(server, http_client=http), log_store=store)
        with pytest.raises((httpx.HTTPStatusError, openai.APIConnectionError)):
            client.chat.completions.create(model=CHAT, messages=ASKED)
    [failed] = only(store, LLMFailed)
    assert (failed.error.status, failed.price.nanos) == (status, cost)


# -- errors with a status of 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "Slow down.", "code": 429}}, 429),
        ({"error": {"message": "Slow down.", "code": "429"}}, 429),
        ({"error": {"message": "Slow down.", "status": 503}}, 503),
        ({"error": "Slow down.", "status_code": 502}, 502),
        ({"object": "error", "message": "Slow down.", "code": 400}, 400),
        ({"code": 401, "message": "Slow down."}, 401),
        ({"error": {"message": "Slow down."}}, 500),
    ],
)
def test_an_error_in_a_body(
    body: dict[str, Any], status: int, server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """An error that comes with 200 has the status that its body names."""
    server.answers(Reply(body=json.dumps(body).encode()))
    client.chat.completions.create(model=CHAT, messages=ASKED)
    [failed] = only(store, LLMFailed)
    assert failed.error.status == status
    assert "Slow down." in failed.error.message
