"""Answers that are read while they come: `respond(on_text=...)`, and `async for` over a stream."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from lllm import ConfigError, LogStore, Piece, SQLiteBackend, Tactic
from lllm.agents.agent import Agent
from lllm.agents.dialog import Message
from lllm.events.model import LLMFailed, LLMRequested, LLMResponded, Usage
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import Script, ScriptedInvoker, cut_off, rate_limited, tool_call
from tests.support.runs import MODEL, payloads

Body = Callable[[Agent], Any]


class Talks(Tactic, register=False):
    """Has its agent answer, in the way that a test says."""

    name = "talks"
    body: Body

    def call(self, task: object, **_: object) -> object:
        """One question."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return self.body(agent)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def talk(store: LogStore, script: Script | object, body: Body, **agent: object) -> Any:
    """Run a tactic with that agent; returns its session."""
    invoker = script if hasattr(script, "invoke") else ScriptedInvoker(script)  # type: ignore[arg-type] # a script then
    tactic = Talks(
        {
            "global": {"model_name": MODEL, "invoker": invoker, "recall_wait": 0},
            "agent_configs": [{"name": "a", **agent}],
        },
        log_store=store,
    )
    tactic.body = body
    return tactic("?", return_session=True)


def test_text_comes_in_pieces(store: LogStore) -> None:
    """on_text gets each piece of the text as it comes; together they are the answer, and the log
    says that it was streamed, and how long the first piece took."""
    pieces: list[Piece] = []
    session = talk(store, ["Three little words."], lambda a: a.respond(pieces.append).content)
    assert pieces == ["Three", " little", " words."]
    assert session.delivery == "Three little words."
    events = payloads(store, session.session_id)
    [requested] = [event for event in events if isinstance(event, LLMRequested)]
    [responded] = [event for event in events if isinstance(event, LLMResponded)]
    assert requested.stream
    assert responded.first_token is not None
    assert 0 <= responded.first_token <= responded.elapsed
    [trace] = session.agent_sessions["a"][0].invoke_traces[1]
    assert trace.first_token == responded.first_token


def test_without_on_text_nothing_is_streamed(store: LogStore) -> None:
    """An answer that nobody reads while it comes is asked for as a whole."""
    session = talk(store, ["Hello."], lambda a: a.respond().content)
    events = payloads(store, session.session_id)
    [requested] = [event for event in events if isinstance(event, LLMRequested)]
    assert not requested.stream


def test_what_a_cut_stream_said_is_kept(store: LogStore) -> None:
    """A stream that is cut leaves a failed attempt with what had come and what it cost; the next
    attempt begins anew, and its pieces say so."""
    pieces: list[Piece] = []
    script = [cut_off("Half an", usage=Usage(input=1_000_000)), "A whole answer."]
    session = talk(store, script, lambda a: a.respond(pieces.append).content)
    assert [(str(piece), piece.attempt) for piece in pieces] == [
        ("Half", 1), (" an", 1), ("A", 2), (" whole", 2), (" answer.", 2),
    ]  # fmt: skip
    assert pieces[0].request != pieces[-1].request
    [failed] = [e for e in payloads(store, session.session_id) if isinstance(e, LLMFailed)]
    assert failed.partial is not None
    assert failed.partial.text == "Half an"
    assert failed.price is not None
    assert failed.price.nanos == 150_000_000  # 0.15 US$ for a million tokens
    assert session.total_cost.cost >= 0.15


def test_a_cut_stream_without_usage_is_unpriced(store: LogStore) -> None:
    """What a cut stream cost is unknown where nobody said what it used; a failure before anything
    came cost nothing."""
    script = [rate_limited(0), cut_off("Half"), "Whole."]
    session = talk(store, script, lambda a: a.respond(lambda _: None).content)
    assert session.total_cost.unpriced_calls == 1
    assert store.export_cost_summary()["unpriced_calls"] == 1


def test_on_text_may_stop_it(store: LogStore) -> None:
    """What on_text raises ends the call, which is written as a failure."""

    def stop(_: Piece) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        talk(store, ["Many words to come."], lambda a: a.respond(stop))
    [failed] = store.list_sessions(state="failure")
    [attempt] = [e for e in payloads(store, failed.session_id) if isinstance(e, LLMFailed)]
    assert attempt.partial is not None
    assert attempt.partial.text == "Many"
    assert attempt.price is not None
    assert attempt.price.status == "unpriced"


class _Whole:
    """An invoker that can't stream."""

    provider, api, host, port = "own", "own", None, None

    def invoke(self, request: Request) -> Answer:
        """A whole answer."""
        return ScriptedInvoker(["All at once."]).invoke(request)

    async def ainvoke(self, request: Request) -> Answer:
        """The same."""
        return self.invoke(request)


def test_an_invoker_that_cannot_stream(store: LogStore) -> None:
    """Where the invoker can't stream, on_text gets the whole text at once."""
    pieces: list[str] = []
    session = talk(store, _Whole(), lambda a: a.respond(pieces.append).content)
    assert pieces == ["All at once."]
    [requested] = [e for e in payloads(store, session.session_id) if isinstance(e, LLMRequested)]
    assert not requested.stream


def test_an_async_for_gives_pieces_then_the_message(store: LogStore) -> None:
    """`async for` gives the pieces, tools run in between, and the message stands at its end."""

    def now() -> str:
        return "noon"

    async def body(agent: Agent) -> object:
        answer = agent.stream()
        with pytest.raises(RuntimeError, match="still coming"):
            _ = answer.message
        pieces = [piece async for piece in answer]
        message: Message = answer.message
        assert "".join(pieces) == message.content
        return message.content

    script = [tool_call("now"), "It is noon."]
    session = talk(store, script, body, tools=[now])
    assert session.delivery == "It is noon."


def test_an_async_for_raises_what_the_call_raises(store: LogStore) -> None:
    """The loop raises what the call does, after the pieces that came."""

    async def body(agent: Agent) -> None:
        answer = agent.stream()
        pieces = aiter(answer)
        assert await anext(pieces) == "Half"
        with pytest.raises(Exception, match="gave up"):
            await anext(pieces)

    talk(store, [cut_off("Half")], body, max_llm_recall=0)


def test_leaving_an_async_for_cancels_the_call(store: LogStore) -> None:
    """Who leaves the loop early cancels what has not come, and the log says so."""

    class Slow(ScriptedInvoker):
        async def astream(self, _: Request, on_text: Any) -> Answer:
            on_text("One")
            await asyncio.Event().wait()
            raise AssertionError("never reached")

    async def body(agent: Agent) -> str:
        async with aclosing(agent.stream()) as answer:
            async for piece in answer:
                return str(piece)
        return ""

    session = talk(store, Slow([]), body)
    assert session.delivery == "One"
    [failed] = [e for e in payloads(store, session.session_id) if isinstance(e, LLMFailed)]
    assert failed.cancelled
    assert failed.partial is not None
    assert failed.partial.text == "One"


@pytest.mark.parametrize("way", ["held", "raised", "collected"])
def test_an_async_for_that_is_left_has_its_end(store: LogStore, way: str) -> None:
    """However the loop is left, and whoever still holds the stream: when the session ends, the
    attempt has failed, cancelled, with what had come."""
    held: list[Any] = []

    class Slow(ScriptedInvoker):
        async def astream(self, _: Request, on_text: Any) -> Answer:
            on_text("One")
            await asyncio.Event().wait()
            raise AssertionError("never reached")

    async def body(agent: Agent) -> str:
        stream = agent.stream()
        with suppress(KeyError):
            async for _ in stream:
                if way == "raised":
                    raise KeyError("of the caller's")
                break
        if way == "collected":
            cycle: list[Any] = [stream]
            cycle.append(cycle)
            del stream, cycle
            gc.collect()
        else:
            held.append(stream)
        return "left"

    session = talk(store, Slow([]), body)
    assert session.delivery == "left"
    found = payloads(store, session.session_id)
    [failed] = [e for e in found if isinstance(e, LLMFailed)]
    assert failed.cancelled
    assert failed.partial is not None
    assert failed.partial.text == "One"
    assert [type(e).__name__ for e in found[-3:]] == [
        "LLMFailed",
        "AgentFailed",
        "SessionSucceeded",
    ]


def test_on_text_is_a_plain_function(store: LogStore) -> None:
    """A coroutine function for on_text would never run; it is refused, with what to do instead."""

    async def wrong(_: Piece) -> None:
        """Never awaited."""

    with pytest.raises(ConfigError, match="async for"):
        talk(store, ["Hello."], lambda a: a.respond(wrong))
