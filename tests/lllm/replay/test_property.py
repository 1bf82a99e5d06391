"""Property: a replay gives the same delivery or error, and the same events, as the recording."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from typing import Any, cast
from unittest import mock

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lllm
from lllm import LogStore, ParseError, Prompt, Tactic, capture, tool
from lllm.events.backends.memory import MemoryBackend
from lllm.invokers import Request
from lllm.invokers.scripted import (
    Reply,
    bad_request,
    cut_off,
    rate_limited,
    reply,
    server_error,
    timed_out,
    tool_call,
    tool_calls,
)  # fmt: skip
from lllm.projections.queries import load_session as loading
from lllm.sessions.threads import Executor
from lllm.store.log_store import session_host
from tests.lllm.instrumentation.asking import (
    CHAT,
    CLAUDE,
    chat_client,
    claude_client,
    close_clients,
    text_of,
)
from tests.support import loopback_messages
from tests.support.loopback import Loopback, Received, failure
from tests.support.loopback import Reply as HttpReply
from tests.support.loopback import text as completed
from tests.support.loopback import tool_calls as tool_calls_sent
from tests.support.loopback_streams import chat as chat_stream
from tests.support.replayed import Program, comparable

runs: list[str] = []  # tools that ran


@tool(description="Says something.")
def say(text: str = "") -> object:
    """A value that is more than its text."""
    runs.append("say")
    return {"said": text, "bytes": b"\x00"}


@tool(description="Raises.")
def fail(text: str = "") -> str:
    """An error of Python's own, or another."""
    runs.append("fail")
    if len(text) % 2:
        raise ParseError(f"parse {text}")
    raise KeyError(text)


@tool(description="Waits a moment.")
async def wait(text: str = "") -> str:
    """On an event loop."""
    runs.append("wait")
    await asyncio.sleep(0)
    return text


TOOLS = [say, fail, wait]
Action = tuple[Any, ...]

texts = st.text("abé\ud800 ", max_size=4)
calls = st.builds(
    lambda name, text: tool_call(name, {"text": text}),
    st.sampled_from(["say", "fail", "wait", "nothing"]), st.text("ab", max_size=2),
)  # fmt: skip
replies = st.one_of(
    st.text("ok ", max_size=4),
    calls,
    st.just(tool_call("say", "no json")),
    st.lists(calls, min_size=2, max_size=3).map(lambda found: tool_calls(*found)),
    st.just(reply("odd", usage=None, model="nobody-knows")),
    st.sampled_from([rate_limited(0), server_error(), timed_out(), bad_request(), cut_off("x")]),
    st.just(ValueError("the invoker's own")),
)
agents = st.sampled_from(["a", "b"])
leaves = st.one_of(
    st.tuples(st.just("ask"), agents, texts),
    st.tuples(st.just("parse"), agents, st.just("")),
    st.tuples(st.just("fork"), agents, texts),
    st.tuples(st.just("stream"), agents, texts),
    st.tuples(st.just("raise"), texts),
)
client_calls = st.tuples(
    st.just("client"),
    st.sampled_from(["chat", "claude"]),
    st.booleans(),
    st.text("ab ", max_size=3),
)  # fmt: skip
draws = st.tuples(st.just("draw"), st.sampled_from([lllm.now, lllm.uuid4, lllm.random]))


def programs(leaves: st.SearchStrategy[Action]) -> st.SearchStrategy[list[Action]]:
    """What a tactic does: leaves, sub-tactics, threads and functions."""
    return st.recursive(
        st.lists(leaves, max_size=3),
        lambda below: st.lists(
            st.one_of(
                leaves,
                st.tuples(st.just("sub"), below),
                st.tuples(st.just("twice"), below),
                st.tuples(st.just("threads"), below, below),
                st.tuples(st.just("function"), below),
            ),
            max_size=3,
        ),
        max_leaves=6,
    )


actions = programs(st.one_of(leaves, draws, client_calls))
repeatable = programs(leaves)  # that do the same each time the model says the same


class Acting(Program, register=False):
    """Does what its task says; below it are more of its kind."""

    name = "acting"

    def __init__(self, script: Any, log_store: LogStore, *, parallel: int = 1) -> None:
        """script: as of Program."""
        super().__init__(
            act, script, "a", "b", log_store=log_store, tools=TOOLS, max_llm_recall=1,
            max_exception_retry=1, max_interrupt_steps=2, max_parallel_tools=parallel,
        )  # fmt: skip


class Below(Acting, register=False):
    """A sub-tactic."""

    name = "below"


class ActingOnLoop(Acting, register=False):
    """The same on an event loop."""

    name = "on-loop"

    async def call(self, task: Any, **_: object) -> Any:
        """Do it."""
        return [await one for one in (aact(self, action) for action in task)]


def parsed(text: str) -> str:
    """Takes little."""
    if "k" not in text:
        raise ParseError("say ok")
    return text


PROMPT = Prompt(path="p", prompt="say ok", parser=parsed)


def opened(tactic: Any, agent: str) -> Any:
    """The agent, in a dialog of its own."""
    one = tactic.agents[agent]
    tactic.opened = getattr(tactic, "opened", 0) + 1
    one.open(f"{agent}{tactic.opened}")
    return one


def act(tactic: Any, task: Any) -> object:
    """Do each action, and go on whatever Exception comes of an agent."""
    return [one_action(tactic, action) for action in task]


def one_action(tactic: Any, action: Any) -> object:
    """One action."""
    kind, *given = action
    if kind == "raise":
        raise RuntimeError(given[0])
    if kind == "draw":
        return str(given[0]())
    if kind == "client":
        return with_client(*given)
    if kind in ("sub", "twice"):
        below = tactic.sub
        return [below(given[0]) for _ in range(2 if kind == "twice" else 1)]
    if kind == "function":
        return tactic.function(given[0], tactic)
    if kind == "threads":
        with Executor(2) as pool:
            both = [pool.submit(tactic.sub, one) for one in given]
        return [one.result() for one in both]
    try:
        one = opened(tactic, given[0])
        one.receive(given[1])
        if kind == "parse":
            return one.respond(prompt=PROMPT).parsed
        first = one.respond(None if kind != "stream" else (lambda _: None))
        if kind == "fork":
            one.fork(one.current_dialog.alias, f"fork{tactic.opened}")
            one.receive("again")
            return [first.content, one.respond().content]
        return [first.content, first.cost.cost]
    except Exception as error:
        return [type(error).__name__, str(error)]


async def aact(tactic: Any, action: Any) -> object:
    """One action on an event loop."""
    kind, *given = action
    if kind in ("ask", "parse", "stream"):
        try:
            one = opened(tactic, given[0])
            one.receive(given[1])
            if kind == "stream":
                return "".join([piece async for piece in one.stream()])
            return (await one.arespond()).content
        except Exception as error:
            return [type(error).__name__, str(error)]
    if kind == "threads":
        found = [item async for item in tactic.sub.ccall(given, fail_fast=False)]
        return [repr(item) for _, item in sorted(found, key=lambda pair: cast("int", pair[0]))]
    return one_action(tactic, action)


captured: dict[str, Any] = {}  # clients of the SDKs, by name


@pytest.fixture(scope="module", autouse=True)
def _clients() -> Iterator[None]:
    with Loopback() as server:
        server.answers(said_by_provider)
        captured["chat"] = chat_client(server, max_retries=1)
        captured["claude"] = claude_client(server, max_retries=1)
        yield
        close_clients()
    captured.clear()


def said_by_provider(received: Received) -> HttpReply:
    """What the server says: told by what it is asked, as equal requests may come in any order."""
    of = random.Random(json.dumps(received.body["messages"][-1]))
    chat = not received.path.endswith("/messages")
    status = of.choice([200, 200, 200, 200, 400, 500])
    if status != 200:
        return failure(status, "No.", headers={"retry-after-ms": "1"})
    said = of.choice(["Hello.", "", "é and so on, " * 9])
    whole = loopback_messages.message(*([loopback_messages.says(said)] if said else []))
    if received.body.get("stream"):
        return chat_stream(said) if chat else loopback_messages.streamed(whole)
    calls = tool_calls_sent(("look", '{"at": "x"}'))
    if chat:
        return of.choice([completed(said), calls])
    return loopback_messages.sent(whole)


def with_client(name: str, stream: bool, text: str) -> object:
    """A conversation of two turns with an SDK's client, as its program has it."""
    client = captured[name]
    create = client.messages.create if name == "claude" else client.chat.completions.create
    options = {"max_tokens": 9, "model": CLAUDE} if name == "claude" else {"model": CHAT}
    messages: list[Any] = [{"role": "user", "content": f"a {text}"}]
    told: list[object] = []
    for again in ("and?", "so?"):
        try:
            made = create(messages=messages, stream=stream, **options)
            if stream and name == "claude":
                told.append("".join(one.delta.text for one in made if one.type == _DELTA))
            elif stream:
                told.append(text_of(made))
            else:
                told.append(made.model_dump(exclude={"created"}))
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            told.append([type(error).__name__, error.status_code])
        messages += [{"role": "assistant", "content": repr(told[-1])}]
        messages += [{"role": "user", "content": again + text}]
    return told


_DELTA = "content_block_delta"


def scripted(seed: int, given: list[Reply]) -> Any:
    """What the model says: told by what it is asked and how often, not by when."""
    counts: dict[str, int] = {}

    def choose(request: Request) -> Reply:
        asked = f"{request.agent}{request.messages!r}"
        counts[asked] = counts.get(asked, 0) + 1
        return random.Random(f"{seed}{asked}{counts[asked]}").choice(given)

    return choose


def tactic_of(
    store: LogStore, script: Any, *, on_loop: bool, parallel: int, deep: int = 3
) -> Acting:
    """A tactic with sub-tactics below it."""
    kind: type[Acting] = ActingOnLoop if on_loop else Acting
    made = kind(script, store, parallel=parallel)
    one: Any = made
    for _ in range(deep):
        one.sub = Below(script, store, parallel=parallel)
        one.function = store.tactic("acted")(acted)
        one = one.sub
    one.sub = lambda _: "too deep"
    one.function = lambda *_: "too deep"
    return made


def acted(task: object, tactic: Any) -> object:
    """A function that is a tactic, and calls one."""
    return tactic.sub(task)


def outcome(call: Any) -> object:
    """What a call delivers, or raises."""
    try:
        return call()
    except Exception as error:
        return [type(error).__name__, str(error)]


def tree(store: LogStore, session_id: str) -> list[Any]:
    """The events of a session, with those of the sessions below it, siblings in any order."""
    reader = session_host(store).reader
    events: dict[str, list[Any]] = {}
    for event in loading.read_sessions(store.log, reader.find(session_id)):
        events.setdefault(event.stream, []).append(event)

    def below(one: str) -> list[Any]:
        children = [below(other) for other, found in events.items() if parent_of(found) == one]
        return [comparable(events[one]), sorted(children, key=repr)]

    return below(session_id)


def parent_of(events: list[Any]) -> str | None:
    """The id of the session above."""
    from lllm.events import codec

    above = cast("Any", codec.decode(events[0])).ancestors
    return above[-1].session_id if above else None


@settings(max_examples=12, deadline=None)
@given(
    actions, st.lists(replies, min_size=1, max_size=6), st.integers(0, 5), st.booleans(),
    st.sampled_from([1, 3]),
)  # fmt: skip
def test_a_replay_is_the_recording(
    task: list[Action], given_replies: list[Reply], seed: int, on_loop: bool, parallel: int
) -> None:
    """Whatever a tactic does, its replay does the same and writes the same, with no model called
    and no tool run."""
    with LogStore(MemoryBackend()) as store:
        script = scripted(seed, given_replies)
        tactic = tactic_of(store, script, on_loop=on_loop, parallel=parallel)
        for client in captured.values():
            capture(client, log_store=store)
        told = outcome(lambda: tactic(task))
        recorded = store.list_sessions(limit=1)[0].session_id
        runs.clear()
        again = tactic_of(store, None, on_loop=on_loop, parallel=parallel)
        refuse = AssertionError("a socket is opened in a replay")
        with (
            mock.patch.object(socket.socket, "connect", side_effect=refuse),
            store.replay(recorded) as replay,
        ):
            assert outcome(lambda: again(task)) == told
        assert runs == []
        assert not replay.divergences
        assert replay.session_id is not None
        assert tree(store, replay.session_id) == tree(store, recorded)
        assert replay.load_session().total_cost.cost == 0
        assert isinstance(again, Tactic)
