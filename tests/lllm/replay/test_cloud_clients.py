"""Clients for clouds, and LiteLLM, are answered from the log like the others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from lllm import LogStore, capture
from tests.lllm.instrumentation.asking import ASKED
from tests.lllm.instrumentation.test_platforms import (
    PLATFORMS,
    SAID,
    ask,
    client_of,
    fails,
    replies,
)
from tests.lllm.replay.test_clients import events
from tests.support import loopback_bedrock
from tests.support.loopback import Loopback, failure, text
from tests.support.loopback_bedrock import METRICS, exception, framed, frames_of
from tests.support.loopback_streams import chat
from tests.support.replayed import Program, asks

SIX = ("bedrock", "async bedrock", "vertex", "async vertex", "AWS", "Foundry")
BOTH = pytest.mark.parametrize("name", ["bedrock", "async bedrock"])


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    """One server for all."""
    with Loopback() as opened:
        yield opened


@pytest.fixture
def again(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Any]], tuple[Any, Any]]:
    """Runs a program twice, the second time from the log: what came of both."""

    def twice(program: Callable[[], Any]) -> tuple[Any, Any]:
        with store.session("script") as session:
            then = program()

        def refuse(*_: object) -> None:
            raise AssertionError("a socket is opened in a replay")

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            with store.replay(session.session_id) as replay, store.session("script"):
                now = program()
        assert replay.session_id is not None
        assert events(store, replay.session_id) == events(store, session.session_id)
        return then, now

    return twice


@pytest.mark.parametrize("name", [name for name in SIX if name in PLATFORMS])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer(
    name: str, stream: bool, store: LogStore, server: Loopback, again: Callable[..., Any]
) -> None:
    """In the SDK's own types, whole and as events."""
    server.answers(replies(SAID))

    def program() -> Any:
        return ask(client_of(server, store, name), PLATFORMS[name].model, stream=stream)

    then, now = again(program)
    if not stream:
        assert now == then
        return
    assert joined(now) == joined(then) == "Good day."
    assert type(now[-1]) is type(then[-1])
    assert {one.type for one in now} == {one.type for one in then}
    if "bedrock" in name:
        said = "amazon-bedrock-invocationMetrics"
        assert getattr(now[-1], said) == getattr(then[-1], said) == METRICS


def joined(found: Any) -> str:
    """The text of a stream."""
    return "".join(one.delta.text for one in found if getattr(one, "delta", None) and
                   getattr(one.delta, "type", "") == "text_delta")  # fmt: skip


def test_the_helpers(store: LogStore, server: Loopback, again: Callable[..., Any]) -> None:
    """`.stream()` has the whole message, and raw responses their frames."""
    server.answers(replies(SAID))
    asked: Any = {"max_tokens": 9, "messages": ASKED, "model": PLATFORMS["bedrock"].model}

    def program() -> Any:
        with client_of(server, store, "bedrock") as client:
            with client.messages.stream(**asked) as stream:
                whole = stream.get_final_message()
            raw = client.messages.with_raw_response.create(**asked)
            return whole.content, whole.usage, raw.parse().content

    then, now = again(program)
    assert now == then


@BOTH
@pytest.mark.parametrize(
    "sent",
    [
        exception("throttlingException", "Slow down."),
        exception("modelStreamErrorException", "Slow down."),
        loopback_bedrock.error("InternalFailure", "Slow down."),
    ],
)
def test_an_exception_in_the_frames(
    name: str, sent: bytes, store: LogStore, server: Loopback, again: Callable[..., Any]
) -> None:
    """The SDK raises what it raised, after what had come."""
    server.answers(framed(*frames_of(SAID)[:5], sent), framed(sent))

    def program() -> Any:
        found = [fails(client_of(server, store, name), PLATFORMS[name].model, stream=True)
                 for _ in range(2)]  # fmt: skip
        return [(type(error), str(error)) for error in found]

    then, now = again(program)
    assert now == then


@BOTH
def test_attempts_that_fail(
    name: str, store: LogStore, server: Loopback, again: Callable[..., Any]
) -> None:
    """What was tried again is tried again; what was refused is refused."""
    kind, said = "ThrottlingException", "Too many."
    server.answers(
        loopback_bedrock.failure(429, kind, said, **{"retry-after-ms": "1"}), replies(SAID),
        loopback_bedrock.failure(403, "AccessDeniedException", "Not for you."),
    )  # fmt: skip

    def program() -> Any:
        model = PLATFORMS[name].model
        one = ask(client_of(server, store, name, max_retries=1), model)
        error: Any = fails(client_of(server, store, name), model)
        return one, type(error), error.status_code, error.request_id, "Not for you." in str(error)

    then, now = again(program)
    assert now == then


@pytest.mark.parametrize("stream", [False, True])
def test_azure(stream: bool, store: LogStore, server: Loopback, again: Callable[..., Any]) -> None:
    """The model is in the address, as the name of a deployment."""
    server.answers(chat("Hi.") if stream else text("Hi."))

    def program() -> Any:
        client = openai.AzureOpenAI(
            azure_endpoint=f"http://127.0.0.1:{server.port}", api_key="k", max_retries=0,
            api_version="2024-10-21", azure_deployment="mine",
        )  # fmt: skip
        with capture(client, log_store=store, provider="azure") as one:
            made = one.chat.completions.create(model="gpt-4o", messages=ASKED, stream=stream)
            if not stream:
                return made.choices[0].message.content, made.id, made.model
            return "".join(piece.choices[0].delta.content or "" for piece in made if piece.choices)

    then, now = again(program)
    assert now == then


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_agents_that_ask_through_litellm(
    store: LogStore, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their attempts are answered whatever LiteLLM would have done: whole, refused and streamed."""
    from lllm.invokers.litellm import LiteLLMInvoker

    def program(tactic: Any, _: object) -> Any:
        told: list[str] = []
        first = asks(tactic, "Hi")
        agent = tactic.agents["a"]
        agent.open("streamed")
        agent.receive("Hi")
        return first, agent.respond(told.append).content, "".join(told)

    invoker = LiteLLMInvoker(api_base=server.url, api_key="k", timeout=10)
    made = Program(
        program, log_store=store, model="openai/gpt-4o-mini", recall_wait=0, invoker=invoker
    )
    server.answers(failure(429, "Slow down."), text("Hello."), chat("Good", " day."))
    recorded = made("task")
    [session] = store.list_sessions()

    def refuse(*_: object) -> None:
        raise AssertionError("a socket is opened in a replay")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert made.replay(session.session_id) == recorded == ("Hello.", "Good day.", "Good day.")
