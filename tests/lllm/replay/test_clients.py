"""Clients of the official SDKs are answered from the log: no network, and their own types."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

from lllm import LogStore, ReplayDivergence, ReplayError, ReplayInterrupted, capture
from lllm.events.errors import BudgetExceeded
from lllm.events.model import LLMFailed, LLMResponded
from tests.lllm.instrumentation.asking import (
    CHAT,
    CLAUDE,
    KEY,
    chat_client,
    claude_client,
    close_clients,
    text_of,
)
from tests.support import loopback_messages, loopback_responses
from tests.support.loopback import Loopback, drop, embeddings, failure, text, tool_calls
from tests.support.loopback_streams import chat, chunk, sse
from tests.support.runs import payloads

Asks = Callable[[Any], Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Loopback]:
    """One server for all: the answers are each test's own."""
    with Loopback() as opened:
        yield opened


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    """Nobody else closes the clients that a test makes by the way."""
    yield
    close_clients()


class Recorder:
    """Records what a program does with a client, and replays it with sockets forbidden."""

    def __init__(self, server: Loopback, store: LogStore, patch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.store = store
        self._patch = patch
        self.budget_usd: float | None = None

    def _session(self) -> Any:
        return self.store.session("script", budget_usd=self.budget_usd)

    def record(self, program: Callable[[], Any], *replies: Any) -> tuple[str, Any]:
        """Run a program in a session, and give the session's id and what it returned."""
        self.server.answers(*replies)
        with self._session() as session:
            returned = program()
        return session.session_id, returned

    def replay(self, session_id: str, program: Callable[[], Any], **options: Any) -> Any:
        """Run it again, in the replay of that session."""

        def refuse(*_: object) -> None:
            raise AssertionError("a socket is opened in a replay")

        with self._patch.context() as patch:
            patch.setattr(socket.socket, "connect", refuse)
            with self.store.replay(session_id, **options) as self.last, self._session():
                return program()

    def same(self, program: Callable[[], Any], *replies: Any) -> Any:
        """Record and replay it, and find the same result and the same events."""
        session_id, returned = self.record(program, *replies)
        sent = len(self.server.requests)
        assert self.replay(session_id, program) == returned
        assert len(self.server.requests) == sent
        assert {request.verdict for request in self.last.requests} == {"same"}
        assert self.last.session_id is not None
        assert events(self.store, self.last.session_id) == events(self.store, session_id)
        assert self.last.load_session().total_cost.cost == 0
        return returned


# What differs between a session and its replay.
VOLATILE = (
    "elapsed", "first_token", "salt", "digest", "root", "origin", "owner", "host", "process",
    "producer", "price", "traceparent", "started", "definition", "port",
)  # fmt: skip


def events(store: LogStore, session_id: str) -> list[Any]:
    """The events of a session, but for what differs from run to run."""
    found = []
    for event in payloads(store, session_id):
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        found.append({name: fields[name] for name in fields if name not in VOLATILE})
    return found


@pytest.fixture
def recorder(shared: Loopback, store: LogStore, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(shared, store, monkeypatch)


@pytest.fixture
def client(shared: Loopback, store: LogStore) -> openai.OpenAI:
    return capture(chat_client(shared), log_store=store)


@pytest.fixture
def claude(shared: Loopback, store: LogStore) -> anthropic.Anthropic:
    return capture(claude_client(shared), log_store=store)


def ask(client: Any, *messages: str | dict[str, Any], **options: Any) -> Any:
    said = [one if isinstance(one, dict) else {"role": "user", "content": one} for one in messages]
    return client.chat.completions.create(messages=said, **{"model": CHAT} | options)


def ask_claude(client: Any, *messages: Any, **options: Any) -> Any:
    said = [one if isinstance(one, dict) else {"role": "user", "content": one} for one in messages]
    return client.messages.create(model=CLAUDE, max_tokens=99, messages=said, **options)


TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
    }
]


def test_a_loop_of_chat_with_tools(recorder: Recorder, client: openai.OpenAI) -> None:
    """A loop gets the SDK's own types, sends them back, and comes to the same end."""

    def program() -> Any:
        messages: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        while True:
            answer = ask(client, *messages, tools=TOOLS)
            assert type(answer).__name__ == "ChatCompletion"
            message = answer.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                return message.content, answer.id, answer.usage.total_tokens, answer._request_id
            for call in message.tool_calls:
                result = {"role": "tool", "tool_call_id": call.id, "content": "2"}
                messages.append(result)

    returned = recorder.same(program, tool_calls(("add", '{"a": 1}'), ("add", "{}")), text("Two."))
    assert returned[0] == "Two."


def test_a_loop_of_messages_with_thoughts(recorder: Recorder, claude: Any) -> None:
    """The signature of a thought and the wish for a tool come back, and go back."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig=="}
    wish = loopback_messages.wants(1, "add", a=1)

    def program() -> Any:
        messages: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        first = ask_claude(claude, *messages)
        assert isinstance(first, anthropic.types.Message)
        assert first.stop_reason == "tool_use"
        messages.append({"role": "assistant", "content": first.content})
        result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "2"}
        messages.append({"role": "user", "content": [result]})
        second = ask_claude(claude, *messages)
        return first.model_dump(), second.model_dump()

    first, second = recorder.same(
        program,
        *loopback_messages_of(thought, wish, stop="tool_use"),
        *loopback_messages_of(loopback_messages.says("Two.")),
    )
    assert first["content"][0]["signature"] == "sig=="
    assert second["content"][0]["text"] == "Two."


def loopback_messages_of(*blocks: Any, **options: Any) -> list[Any]:
    return [loopback_messages.sent(loopback_messages.message(*blocks, **options))]


def test_a_loop_of_responses(recorder: Recorder, client: openai.OpenAI) -> None:
    """Encrypted reasoning and calls come back with their ids, and go back."""
    first = loopback_responses.response(
        loopback_responses.thinks("So.", encrypted_content="gAAA"),
        loopback_responses.wants("add", '{"a": 1}'),
    )
    second = loopback_responses.response(loopback_responses.says("Two."))

    def program() -> Any:
        given: list[Any] = [{"role": "user", "content": "1 + 1?"}]
        answer = client.responses.create(model=CHAT, input=given, store=False)
        assert type(answer).__name__ == "Response"
        given += answer.output
        reasoning, call = answer.output
        given.append({"type": "function_call_output", "call_id": call.call_id, "output": "2"})
        last = client.responses.create(model=CHAT, input=given, store=False)
        return reasoning.encrypted_content, call.arguments, last.output_text, answer.id

    sent = [loopback_responses.sent(one) for one in (first, second)]
    assert recorder.same(program, *sent)[:3] == ("gAAA", '{"a": 1}', "Two.")


# -- streams


def test_streams_of_chat(recorder: Recorder, client: openai.OpenAI) -> None:
    """Chunks come, whose texts joined are the recorded one, by `create` and by `.stream()`."""
    words = "Hello there, this is a text of more than one piece. " * 3

    def program() -> Any:
        usage: Any = {"include_usage": True}
        chunks = list(ask(client, "a", stream=True, stream_options=usage))
        pieces = [one.choices[0].delta.content for one in chunks if one.choices]
        joined = "".join(piece for piece in pieces if piece)
        with client.chat.completions.stream(
            model=CHAT, messages=[{"role": "user", "content": "b"}], stream_options=usage
        ) as stream:
            final = stream.get_final_completion()
        assert len(chunks) > 3
        return joined, chunks[-1].usage.total_tokens, final.choices[0].message.content

    assert recorder.same(program, chat(words), chat("Hel", "lo."))[::2] == (words, "Hello.")


def test_streams_of_messages(recorder: Recorder, claude: Any) -> None:
    """The SDK's helper puts the recorded message together from the dialect's own events."""
    thought = {"type": "thinking", "thinking": "Let me see.", "signature": "sig=="}
    wish = loopback_messages.wants(1, "add", a=1, b=[2])
    whole = loopback_messages.message(
        thought, loopback_messages.says("Adding now. " * 4), wish, stop="tool_use"
    )

    def program() -> Any:
        messages: Any = [{"role": "user", "content": "?"}]
        with claude.messages.stream(model=CLAUDE, max_tokens=9, messages=messages) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message().model_dump()
        kinds = {event.type for event in ask_claude(claude, "?", stream=True)}
        return text, final, kinds

    text, final, kinds = recorder.same(program, loopback_messages.streamed(whole))
    assert text == "Adding now. " * 4
    assert final["content"][0]["signature"] == "sig=="
    assert final["content"][2]["input"] == {"a": 1, "b": [2]}
    assert {"message_start", "content_block_delta", "message_delta", "message_stop"} <= kinds


def test_streams_of_responses(recorder: Recorder, client: openai.OpenAI) -> None:
    """The events of a response come in their sequence, and the last has all of it."""
    whole = loopback_responses.response(
        loopback_responses.thinks("So.", encrypted_content="gAAA"),
        loopback_responses.says("A text in pieces. " * 3),
        loopback_responses.wants("add", '{"a": 1}'),
    )

    asked: Any = {"model": CHAT, "input": "?"}

    def program() -> Any:
        seen = list(client.responses.create(stream=True, **asked))
        deltas = [one.delta for one in seen if one.type == "response.output_text.delta"]
        return "".join(deltas), seen[-1].type, seen[-1].response.output_text

    def with_helper() -> Any:
        with client.responses.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        last = [one.arguments for one in final.output if one.type == "function_call"]
        return final.output_text, last, kinds

    text = "A text in pieces. " * 3
    reply = loopback_responses.streamed(whole)
    assert recorder.same(program, reply) == (text, "response.completed", text)
    session_id, _ = recorder.record(program, reply)
    said, arguments, kinds = recorder.replay(session_id, with_helper)
    assert (said, arguments) == (text, ['{"a": 1}'])
    assert kinds.index("response.content_part.added") < kinds.index("response.output_text.delta")


def test_a_stream_that_is_left(recorder: Recorder, client: openai.OpenAI) -> None:
    """A stream that its caller left has what had come, and is left again."""

    def program() -> Any:
        with ask(client, "a", stream=True) as stream:
            for one in stream:
                if one.choices[0].delta.content:
                    return one.choices[0].delta.content
        return None

    session_id, returned = recorder.record(program, chat("Hel", "lo", " there."))
    assert recorder.replay(session_id, program)
    assert returned == "Hel"


def test_a_stream_that_breaks_off(recorder: Recorder, client: openai.OpenAI, claude: Any) -> None:
    """What had come of a stream comes again, then the same error: of the network, and of the
    provider."""

    def program() -> Any:
        said: list[str] = []
        try:
            for one in ask(client, "a", stream=True):
                said.append(one.choices[0].delta.content or "")
        except Exception as error:
            said.append(type(error).__name__)
        try:
            for event in ask_claude(claude, "b", stream=True):
                said.append(event.delta.text if event.type == "content_block_delta" else "")
        except anthropic.APIStatusError as error:
            said.append(str(error.body))
        return [one for one in "|".join(said).split("|") if one][-1], len("".join(said)) > 20

    begun = loopback_messages.events_of(loopback_messages.message(loopback_messages.says("So")))[:3]
    recorder.same(
        program,
        sse(chunk(content="Hel"), chunk(content="lo"), end="cut"),
        loopback_messages.stream_of([*begun, loopback_messages.error_event()]),
    )


# -- on event loops


def test_async_clients(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """Clients of event loops are answered alike, whole and in pieces, many at once."""

    def program() -> Any:
        async def run() -> Any:
            url = loopback_messages.base_url(shared)
            async with (
                openai.AsyncOpenAI(base_url=shared.url, api_key=KEY, max_retries=0) as one,
                anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as other,
            ):
                client, claude = capture(one, log_store=store), capture(other, log_store=store)
                asked = [ask(client, f"Say {number}") for number in range(5)]
                answers = [one.choices[0].message.content for one in await asyncio.gather(*asked)]
                chunks = [c async for c in await ask(client, "stream", stream=True)]
                messages: Any = [{"role": "user", "content": "?"}]
                async with claude.messages.stream(
                    model=CLAUDE, max_tokens=9, messages=messages
                ) as stream:
                    final = await stream.get_final_message()
                return answers, text_of(chunks), final

        return asyncio.run(run())

    def reply(received: Any) -> Any:
        if "messages" in received.path:
            said = loopback_messages.says("Ja.")
            return loopback_messages.streamed(loopback_messages.message(said))
        last = received.body["messages"][-1]["content"]
        return chat("Hel", "lo.", usage=None) if received.body.get("stream") else text(last[4:])

    session_id, (answers, streamed, final) = recorder.record(program, reply)
    assert recorder.replay(session_id, program) == (answers, streamed, final)
    assert answers == ["0", "1", "2", "3", "4"]


def test_a_call_that_was_cancelled(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """A timer cancels a call again that it cancelled then."""
    from tests.support.loopback import hang

    def program() -> Any:
        async def run() -> str:
            async with openai.AsyncOpenAI(base_url=shared.url, api_key=KEY) as one:
                assert one.chat.completions  # which is imported here, and not when time runs
                try:
                    async with asyncio.timeout(0.2):
                        await ask(capture(one, log_store=store), "a")
                except TimeoutError:
                    return "timeout"
            return "answered"

        return asyncio.run(run())

    session_id, returned = recorder.record(program, hang())
    assert returned == recorder.replay(session_id, program) == "timeout"


# -- failures


def test_retries_and_failures(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """What the SDK tried again it tries again, without a wait; what it gave up with it raises."""
    client = capture(chat_client(shared, max_retries=2), log_store=store)
    claude = capture(claude_client(shared), log_store=store)

    def program() -> Any:
        said = [ask(client, "a").choices[0].message.content]
        try:
            ask(client, "b")
        except openai.BadRequestError as error:
            said += [error.status_code, error.code, str(error.body), error.request_id]
        try:
            ask_claude(claude, "c")
        except anthropic.APIStatusError as error:
            said += [error.status_code, str(error.body), type(error).__name__]
        return said

    session_id, returned = recorder.record(
        program,
        failure(429, code="rate_limit_exceeded", headers={"retry-after-ms": "1"}),
        failure(500, headers={"retry-after-ms": "1"}),
        text("Done."),
        failure(400, code="context_length_exceeded", message="Too long."),
        loopback_messages.failure(529, "overloaded_error", "Overloaded"),
    )
    began = time.perf_counter()
    again = recorder.replay(session_id, program)
    assert time.perf_counter() - began < 5
    assert again[:3] == returned[:3]
    assert "Too long." in again[3]
    assert again[5] == 529
    assert "Overloaded" in again[6]
    assert again[7] == returned[7]
    mine, theirs = (
        [one for one in payloads(store, which) if isinstance(one, LLMFailed | LLMResponded)]
        for which in (session_id, str(recorder.last.session_id))
    )
    assert [type(one) for one in mine] == [type(one) for one in theirs]
    assert [getattr(one, "error", None) for one in mine] == [
        getattr(one, "error", None) for one in theirs
    ]


def test_a_status_that_is_tried_again_by_a_header(
    recorder: Recorder, shared: Loopback, store: LogStore
) -> None:
    """What a provider's header had the SDK try again it tries again, whatever its status."""
    client = capture(chat_client(shared, max_retries=2), log_store=store)
    refused = failure(400, headers={"retry-after-ms": "1", "x-should-retry": "true"})
    again = recorder.same(lambda: ask(client, "a").choices[0].message.content, refused, text("b"))
    assert again == "b"


def test_a_connection_that_fails(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """A lost connection is lost again, and the retry after one is not waited for."""
    client = capture(chat_client(shared, max_retries=1), log_store=store)
    once = capture(chat_client(shared), log_store=store)

    def program() -> Any:
        said = ask(client, "a").choices[0].message.content
        with pytest.raises(openai.APIConnectionError):
            ask(once, "b")
        return said

    session_id, returned = recorder.record(program, drop(), text("Done."), drop())
    began = time.perf_counter()
    assert recorder.replay(session_id, program) == returned == "Done."
    assert time.perf_counter() - began < 0.4  # an SDK backs off half a second


# -- differences


def two(
    client: Any, first: str = "a", second: str = "b", system: str = "Be precise.", **options: Any
) -> list[Any]:
    """A conversation of two turns."""
    begun = [{"role": "system", "content": system}, first]
    one = ask(client, *begun, **options).choices[0].message.content
    said: Any = [*begun, {"role": "assistant", "content": one}, second]
    return [one, ask(client, *said, **options).choices[0].message.content]


def begin(client: Any) -> Any:
    """The first turn of it alone."""
    return ask(client, {"role": "system", "content": "Be precise."}, "a", **GIVEN)


def described(name: str, description: str) -> dict[str, Any]:
    """A tool with a description."""
    schema = {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


ADD, SUBTRACT = described("add", "Adds."), described("sub", "Subtracts.")
GIVEN: dict[str, Any] = {"tools": [ADD, SUBTRACT]}


@pytest.mark.parametrize(
    ("edit", "kind", "differs", "step", "diff"),
    [
        (lambda c: two(c, first="x", **GIVEN), "changed", ("messages",), 1, "-a\n+x"),
        (lambda c: two(c, second="x", **GIVEN), "changed", ("messages",), 2, "-b\n+x"),
        (
            lambda c: two(c, system="Be exact.", **GIVEN), "changed", ("system prompt",), 1,
            "+Be exact.",
        ),
        (
            lambda c: two(c, temperature=0.5, **GIVEN), "changed", ("params",), 1,
            '+  "temperature": 0.5',
        ),
        (
            lambda c: two(c, response_format={"type": "json_object"}, **GIVEN), "changed",
            ("params",), 1, '"json_object"',
        ),
        (
            lambda c: two(c, tools=[described("add", "Sums."), SUBTRACT]), "changed", ("tools",), 1,
            '+    "description": "Sums."',
        ),
        (
            lambda c: two(c, tools=[ADD, SUBTRACT, described("new", "?")]), "changed", ("tools",),
            1, '+    "name": "new"',
        ),
        (lambda c: two(c, tools=[ADD]), "changed", ("tools",), 1, '-    "name": "sub"'),
        (lambda c: two(c, tools=[SUBTRACT, ADD]), "changed", ("tools",), 1, '"Adds."'),
        (
            lambda c: two(c, model="gpt-4o", **GIVEN), "changed", ("model",), 1,
            f"-model: {CHAT}\n+model: gpt-4o",
        ),
        (lambda c: two(c, stream=True, **GIVEN), "changed", ("stream",), 1, ""),
        (lambda c: [begin(c), begin(c)], "unrecorded", (), None, ""),
        (lambda c: [*two(c, **GIVEN), ask(c, "more")], "unrecorded", (), None, ""),
        (lambda c: begin(c), "missing", (), 2, ""),
        (lambda c: swapped(c), "changed", ("messages",), 1, "-a\n+b"),
    ],
)  # fmt: skip
def test_what_differs(
    recorder: Recorder, client: openai.OpenAI, edit: Asks, kind: str, differs: tuple[str, ...],
    step: int | None, diff: str,
) -> None:  # fmt: skip
    """The first request that differs raises, says what differs, and names its place."""
    session_id, _ = recorder.record(lambda: two(client, **GIVEN), text("one"), text("two"))
    with pytest.raises(ReplayDivergence) as caught:
        recorder.replay(session_id, lambda: edit(client))
    assert caught.value.kind == kind
    assert caught.value.differs == differs
    assert diff in caught.value.diff
    place = caught.value.place
    assert place.client
    assert (place.step, place.dialog) == (step, None if step is None else "conversation 1")
    assert str(place) in str(caught.value)


def swapped(client: Any) -> Any:
    """Its two questions in the other order."""
    return two(client, first="b", second="a", **GIVEN)


def test_differences_are_collected(recorder: Recorder, client: openai.OpenAI) -> None:
    """`report` goes on with the answers that the conversation has, and names each difference."""
    session_id, returned = recorder.record(lambda: two(client), text("one"), text("two"))
    again = recorder.replay(session_id, lambda: two(client, first="x"), on_divergence="report")
    assert again == returned
    assert [one.place.step for one in recorder.last.divergences] == [1, 2]
    assert "-a" in recorder.last.divergences[0].diff
    assert "+x" in recorder.last.divergences[0].diff


def test_the_model_is_asked_from_the_first_difference_on(
    recorder: Recorder, client: openai.OpenAI, store: LogStore
) -> None:
    """`live` answers what is the same from the log, and asks the model itself from there on."""
    session_id, _ = recorder.record(lambda: two(client), text("one"), text("two"))
    recorder.server.answers(text("new"), text("newer"))
    sent = len(recorder.server.requests)
    with store.replay(session_id, on_divergence="live") as replay, store.session("script"):
        said = [*two(client, second="x"), ask(client, "y").choices[0].message.content]
    assert said == ["one", "new", "newer"]
    assert len(recorder.server.requests) == sent + 2
    assert [one.kind for one in replay.divergences] == ["changed"]


def test_what_is_ignored(recorder: Recorder, client: openai.OpenAI) -> None:
    """What `ignore` names is left out of the comparison, and that is said."""
    session_id, returned = recorder.record(lambda: two(client, seed=1), text("one"), text("two"))
    again = recorder.replay(session_id, lambda: two(client, seed=2), ignore=["params.seed"])
    assert again == returned
    assert {one.verdict for one in recorder.last.requests} == {"ignored"}


def test_more_attempts_than_recorded(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """An SDK that tries again where it did not is told so; one that gives up earlier, too."""
    patient = capture(chat_client(shared, max_retries=3), log_store=store)
    hasty = capture(chat_client(shared), log_store=store)

    def failing(client: Any) -> Any:
        with pytest.raises(openai.InternalServerError):
            ask(client, "a")

    busy = failure(500, headers={"retry-after-ms": "1"})
    session_id, _ = recorder.record(lambda: failing(hasty), busy)
    with pytest.raises(ReplayDivergence) as caught:
        recorder.replay(session_id, lambda: failing(patient))
    assert (caught.value.kind, caught.value.place.attempt) == ("unrecorded", 2)
    session_id, _ = recorder.record(lambda: ask(patient, "a"), busy, text("b"))
    with pytest.raises(ReplayDivergence) as caught:
        recorder.replay(session_id, lambda: failing(hasty))
    assert (caught.value.kind, caught.value.place.attempt) == ("missing", 2)


def test_a_program_that_swallows_everything(recorder: Recorder, client: openai.OpenAI) -> None:
    """No `except Exception`, of the program or of the SDK, takes a difference for an answer."""
    session_id, _ = recorder.record(lambda: two(client), text("one"), text("two"))

    def careless(swallowed: type[BaseException]) -> None:
        for first in ("x", "a"):
            try:
                two(client, first=first)
            except swallowed:
                continue

    for swallowed in (Exception, BaseException):
        with pytest.raises(ReplayDivergence) as caught:
            recorder.replay(session_id, lambda kind=swallowed: careless(kind))
        assert (caught.value.kind, caught.value.place.step) == ("changed", 1)


def test_independent_calls_in_another_order(
    recorder: Recorder, client: openai.OpenAI, claude: Any, store: LogStore
) -> None:
    """Calls are found by what they send: swapped, in threads or interleaved between two clients
    they are the same, and each gets its own answer."""

    def program(*, turned: bool, at_once: bool) -> dict[str, str]:
        def one(question: str) -> str:
            found = ask(client, question).choices[0].message.content
            return f"{found}, {ask_claude(claude, question).content[0].text}"

        questions = [f"question {number}" for number in range(6)]
        questions = questions[::-1] if turned else questions
        if not at_once:
            return {question: one(question) for question in questions}
        with ThreadPoolExecutor(6) as pool:
            return dict(zip(questions, pool.map(store.carry(one), questions), strict=True))

    def echo(received: Any) -> Any:
        said = f"re {received.body['messages'][-1]['content']}"
        if "messages" in received.path:
            return loopback_messages.sent(loopback_messages.message(loopback_messages.says(said)))
        return text(said)

    session_id, returned = recorder.record(lambda: program(turned=False, at_once=False), echo)
    for turned in (False, True):
        for at_once in (False, True):
            again = recorder.replay(
                session_id, lambda t=turned, a=at_once: program(turned=t, at_once=a)
            )
            assert again == returned


def test_a_changed_parser_of_a_program(recorder: Recorder, client: openai.OpenAI) -> None:
    """What a program makes of an answer is no difference by itself: what it asks next is."""

    def program(wanted: str) -> str:
        answer = ask(client, "a number").choices[0].message.content
        return str(
            answer if wanted in answer else ask(client, "a number!").choices[0].message.content
        )

    session_id, _ = recorder.record(lambda: program("1"), text("12"))
    assert recorder.replay(session_id, lambda: program("2")) == "12"
    with pytest.raises(ReplayDivergence) as caught:
        recorder.replay(session_id, lambda: program("3"))
    assert caught.value.kind == "unrecorded"


def test_equal_requests_are_each_served_once(
    recorder: Recorder, client: openai.OpenAI, store: LogStore
) -> None:
    """Of equal requests in threads each gets an answer of its own."""

    def program() -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(store.carry(ask), client, "same") for _ in range(16)]
            return sorted(one.result().choices[0].message.content for one in work)

    replies = [text(f"answer {number:02}") for number in range(16)]
    session_id, returned = recorder.record(program, *replies)
    assert len(set(returned)) == 16
    assert recorder.replay(session_id, program) == returned


# -- what else


def test_embeddings_and_completions(recorder: Recorder, client: openai.OpenAI) -> None:
    """Vectors and the older completions are answered, too."""

    def program() -> Any:
        found = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        return [one.embedding for one in found.data], found.usage.total_tokens

    assert len(recorder.same(program, embeddings([0.5, 1.5], [2.5, 3.5]))[0]) == 2


def test_other_calls_are_refused(recorder: Recorder, client: openai.OpenAI) -> None:
    """What is not recorded can't be answered, and nothing is called."""
    session_id, _ = recorder.record(lambda: ask(client, "a"), text("b"))

    def program() -> None:
        ask(client, "a")
        client.models.list()

    with pytest.raises(ReplayDivergence, match="GET /models"):
        recorder.replay(session_id, program)


def test_a_call_of_its_own(recorder: Recorder, client: openai.OpenAI, store: LogStore) -> None:
    """A call outside of any session is a session, and is replayed as one."""
    recorder.server.answers(text("Hi."))
    assert ask(client, "a").choices[0].message.content == "Hi."
    session_id = store.list_sessions(limit=1)[0].session_id
    sent = len(recorder.server.requests)
    with store.replay(session_id):
        assert ask(client, "a").choices[0].message.content == "Hi."
    with pytest.raises(ReplayDivergence, match="messages"), store.replay(session_id):
        ask(client, "b")
    assert len(recorder.server.requests) == sent


def test_secrets_and_redaction(
    shared: Loopback, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is compared as it was written: with its secrets cut, by whatever pattern."""
    from lllm import EMAIL
    from lllm.events.backends.memory import MemoryBackend

    with LogStore(MemoryBackend(), redact=[EMAIL]) as store:
        recorder = Recorder(shared, store, monkeypatch)

        def program() -> Any:
            return two(client, first="Write to ann@example.com.", second="sk-ant-api03-" + "a" * 90)

        recorder.same(program, text("one"), text("two"))


def test_a_budget_is_spent_again(recorder: Recorder, shared: Loopback, store: LogStore) -> None:
    """A budget ends a replay where it ended the recorded session, though it costs nothing."""
    client = capture(chat_client(shared), log_store=store, provider="openai")
    recorder.budget_usd = 0.00001

    def program() -> int:
        for number in range(9):
            try:
                ask(client, str(number))
            except BudgetExceeded:
                return number
        return 9

    assert 0 < recorder.same(program, text("x")) < 9


def test_an_export_is_enough(recorder: Recorder, client: openai.OpenAI, tmp_path: Any) -> None:
    """An exported session has all that the replay of a client needs: the tools, too."""

    def program() -> Any:
        return ask(client, "a", tools=TOOLS).choices[0].message.content

    session_id, returned = recorder.record(program, text("b"))
    path = tmp_path / "session.jsonl"
    path.write_text(recorder.store.export_session(session_id, format="jsonl"))
    assert recorder.replay(str(path), program) == returned


def test_what_an_export_holds(recorder: Recorder, client: openai.OpenAI, tmp_path: Any) -> None:
    """A recording whose definition is missing is refused with a clear error."""
    session_id, _ = recorder.record(lambda: ask(client, "a", tools=TOOLS), text("b"))
    exported = recorder.store.export_session(session_id, format="jsonl")
    lines = [
        line for line in exported.splitlines() if "agent.defined" not in json.loads(line)["type"]
    ]
    path = tmp_path / "session.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ReplayError, match="definition"):
        recorder.store.replay(str(path))


def test_a_recording_that_ends_early(
    recorder: Recorder, client: openai.OpenAI, tmp_path: Any
) -> None:
    """A session whose process died replays up to there, and says so."""
    session_id, _ = recorder.record(lambda: two(client), text("one"), text("two"))
    exported = recorder.store.export_session(session_id, format="jsonl").splitlines()
    kinds = [json.loads(line)["type"] for line in exported]
    path = tmp_path / "session.jsonl"
    path.write_text("\n".join(exported[: kinds.index("llm.responded") + 1]) + "\n")
    with pytest.raises(ReplayInterrupted):
        recorder.replay(str(path), lambda: two(client))
    assert len(recorder.last.requests) == 1
