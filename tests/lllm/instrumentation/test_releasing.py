"""Which store a captured client writes to: that of the last capture, none once it is released."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest

import lllm
from lllm import ConfigError, LogStore, SQLiteBackend
from tests.lllm.instrumentation.asking import (
    CHAT,
    KEY,
    chat_client,
    claude_client,
    streamed,
    text_of,
)
from tests.support import loopback_messages
from tests.support.loopback import Loopback, embeddings, text
from tests.support.loopback_streams import chat


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LogStore]:
    """A second store."""
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as opened:
        yield opened


def ask(client: Any) -> str:
    """One call, and what came of it."""
    found = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "?"}])
    return str(found.choices[0].message.content)


def counts(*stores: LogStore) -> list[int]:
    """How many sessions each store has."""
    return [len(store.list_sessions()) for store in stores]


def test_the_last_capture_wins(server: Loopback, store: LogStore, other: LogStore) -> None:
    """A client that is captured again writes to the new store only, its copies from before too."""
    client = lllm.capture(chat_client(server), log_store=store)
    copied = client.with_options(timeout=5)
    ask(client)
    lllm.capture(client, log_store=other)
    ask(client)
    ask(copied)
    ask(client.copy())
    assert counts(store, other) == [1, 3]


def test_the_last_capture_decides_about_usage(server: Loopback, store: LogStore) -> None:
    """What else capture is told is the last one's word, too."""
    server.answers(chat("Hi."))
    client = lllm.capture(chat_client(server), log_store=store)
    lllm.capture(client, log_store=store, ask_for_usage=True)
    text_of(streamed(client))
    lllm.capture(client, log_store=store)
    text_of(streamed(client))
    assert ["stream_options" in one.body for one in server.requests] == [True, False]


def test_a_copy_can_have_a_store_of_its_own(
    server: Loopback, store: LogStore, other: LogStore
) -> None:
    """A copy that is captured itself goes its own way from then on."""
    client = lllm.capture(chat_client(server), log_store=store)
    copied = lllm.capture(client.with_options(timeout=5), log_store=other)
    ask(copied)
    ask(client)
    assert counts(store, other) == [1, 1]
    lllm.release(client)
    ask(client)
    ask(copied)
    assert counts(store, other) == [1, 2]


def test_a_released_client_is_what_it_was(server: Loopback, store: LogStore) -> None:
    """Releasing gives a client back its methods and its httpx client; it and the copies it made
    stay open and are recorded no longer."""
    client = chat_client(server)
    before = dict(vars(client))
    copied = lllm.capture(client, log_store=store).with_options(timeout=5)
    assert lllm.release(client) is client
    assert lllm.release(client) is client
    gc.collect()
    assert {name: vars(client)[name] for name in before} == before
    assert not [name for name in vars(client) if "lllm" in name or name in ("request", "copy")]
    assert [ask(client), ask(copied), ask(client.copy())] == ["Hello."] * 3
    assert counts(store) == [0]
    for _ in range(3):
        lllm.release(lllm.capture(client, log_store=store))
        gc.collect()
    lllm.capture(client, log_store=store)
    ask(client)
    ask(client.copy())
    assert counts(store) == [2]


def test_what_others_wrapped_stays(server: Loopback, store: LogStore, other: LogStore) -> None:
    """A method that somebody else has wrapped after capture stays wrapped by them; below it nothing
    is recorded any more, until the client is captured again, and then once."""
    client: Any = lllm.capture(chat_client(server), log_store=store)
    inner, seen = client.request, []

    def wrapped(*args: Any, **how: Any) -> Any:
        seen.append(args)
        return inner(*args, **how)

    client.request = wrapped
    lllm.release(client)
    ask(client)
    assert (counts(store), len(seen)) == ([0], 1)
    lllm.capture(client, log_store=other)
    ask(client)
    assert (counts(store, other), len(seen)) == ([0, 1], 2)


def test_a_call_under_way_is_recorded_to_its_end(server: Loopback, store: LogStore) -> None:
    """A stream that began before the release ends in its session."""
    server.answers(chat("One", " two."), text("Later."))
    client = lllm.capture(chat_client(server), log_store=store)
    stream = streamed(client)
    lllm.release(client)
    assert text_of(stream) == "One two."
    ask(client)
    [summary] = store.list_sessions()
    assert (summary.state, counts(store)) == ("success", [1])


def test_captured_for_a_while(server: Loopback, store: LogStore, other: LogStore) -> None:
    """`captured` ends with its `with`, also where something is raised there, and the client goes on
    being what it was before: released, or captured for another store."""
    client = chat_client(server)
    with lllm.captured(client, log_store=store) as same:
        assert same is client
        ask(client)
        with suppress(KeyError), lllm.captured(client, log_store=other):
            ask(client)
            raise KeyError
        ask(client)
    ask(client)
    assert not client.is_closed()
    assert counts(store, other) == [2, 1]


def test_a_fixture_with_a_store_for_each_test(server: Loopback, tmp_path: Path) -> None:
    """A client of a module, captured for each of many stores, writes to each what is its own."""
    client = claude_client(server)
    found = []
    server.answers(loopback_messages.replies(loopback_messages.says("Hi.")))
    for number in range(3):
        with LogStore(SQLiteBackend(tmp_path / f"{number}.db")) as store:
            lllm.capture(client, log_store=store)
            for _ in range(number + 1):
                client.messages.create(
                    model="claude-haiku-4-5",
                    max_tokens=5,
                    messages=[{"role": "user", "content": "?"}],
                )
            found += counts(store)
    assert found == [1, 2, 3]


def test_async_clients(server: Loopback, store: LogStore, other: LogStore) -> None:
    """The same for clients that are awaited."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "?"}]

            async def one() -> None:
                await client.chat.completions.create(model=CHAT, messages=messages)

            lllm.capture(client, log_store=store)
            with lllm.captured(client, log_store=other):
                await one()
            await one()
            lllm.release(client)
            await one()
            assert not client.is_closed()

    asyncio.run(main())
    assert counts(store, other) == [1, 1]


class ChatModel:
    """Has its clients inside, as LangChain's chat models have."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.root_client = client
        self.client = client.chat.completions

    @property
    def root_async_client(self) -> object:
        """Made when it is asked for."""
        raise RuntimeError("no key")


def test_a_client_inside_of_something(server: Loopback, store: LogStore) -> None:
    """What has a client inside is captured by it, and comes back itself; so is what an SDK's client
    is made of."""
    model = ChatModel(chat_client(server))
    assert lllm.capture(model, log_store=store) is model
    ask(model.root_client)
    assert counts(store) == [1]
    lllm.release(model)
    with lllm.captured(model.root_client.chat.completions, log_store=store):
        ask(model.root_client)
    ask(model.root_client)
    assert counts(store) == [2]


class Embedder:
    """Has only the part of a client that it uses, as LangChain's embeddings have."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client.embeddings


def test_a_part_of_a_client_inside(server: Loopback, store: LogStore) -> None:
    """Of what has a part of a client, the client is captured."""
    client = chat_client(server)
    embedder = Embedder(client)
    assert lllm.capture(embedder, log_store=store) is embedder
    server.answers(embeddings([0.5]))
    embedder.client.create(model="text-embedding-3-small", input="?")
    assert counts(store) == [1]
    lllm.release(embedder)
    embedder.client.create(model="text-embedding-3-small", input="?")
    assert counts(store) == [1]


@pytest.mark.parametrize("wrong", [None, {"api_key": KEY}, object()])
def test_what_has_no_client(wrong: object) -> None:
    """What has no client is named by its class, never shown, and the error says what to give."""
    for refused in (lllm.capture, lllm.release):
        with pytest.raises(ConfigError, match=r"\.root_client") as caught:
            refused(wrong)
        assert KEY not in str(caught.value)
        assert type(wrong).__name__ in str(caught.value)


class Agent:
    """Has a model that has a client, as the agents of frameworks have, and knows its team."""

    def __init__(self, model: object) -> None:
        self.key = KEY
        self.team = [self]
        self.settings = ChatSettings(self, model)


class ChatSettings(pydantic.BaseModel):
    """Keeps the model apart, as pydantic's classes do."""

    _model: object = pydantic.PrivateAttr()
    _agent: object = pydantic.PrivateAttr()

    def __init__(self, agent: object, model: object) -> None:
        super().__init__()
        self._agent, self._model = agent, model


def test_what_has_its_client_deeper_inside(server: Loopback, store: LogStore) -> None:
    """What has a client, but not at hand, is refused, and the error says where it is; it looks in
    no class, in no module, and at nothing that is code."""
    model = ChatModel(chat_client(server))
    wanted = r"Agent is neither. Its `\.settings\._model` is such a client"
    with pytest.raises(ConfigError, match=wanted):
        lllm.capture(Agent(model), log_store=store)
    assert lllm.capture(Agent(model).settings._model, log_store=store) is model
    for without in (Agent(object()), Agent(openai), Agent(openai.OpenAI)):
        with pytest.raises(ConfigError, match="may have to be made first"):
            lllm.capture(without, log_store=store)
