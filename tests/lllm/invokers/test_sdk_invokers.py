"""What every invoker that calls by a provider's SDK keeps, whoever the provider is: what can fail,
what must not be told, which key is used, and how it goes along with threads, loops and processes.

The real SDKs, sync and async, whole and streamed, against a server on this machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content
from lllm.invokers import Answer, Invoker, Request, Streams
from lllm.invokers.anthropic import AnthropicInvoker
from lllm.invokers.openai import OpenAIInvoker
from tests.support import loopback, loopback_messages
from tests.support.error_contents import everything_about
from tests.support.loopback import Loopback, Received, Reply, Script, cut, drop, hang
from tests.support.loopback_streams import chat

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"

SdkInvoker = OpenAIInvoker | AnthropicInvoker
Call = Callable[[SdkInvoker, Request], Answer]
Make = Callable[..., SdkInvoker]
WAYS = ("invoke", "ainvoke", "stream", "astream")


@dataclass(frozen=True)
class Provider:
    """A provider and its SDK. says: answers with a text, streamed where that is asked for. refuses:
    answers with a status and an error's message. question: reads the first message of a request."""

    sdk: str
    kind: type[SdkInvoker]
    host: str
    model: str
    refused: str  # a param of its own that lllm decides
    url: Callable[[Loopback], str]
    says: Callable[..., Script]
    refuses: Callable[[int, str, str, Mapping[str, str]], Reply]
    question: Callable[[Received], str]

    @property
    def prefix(self) -> str:
        return self.sdk.upper()

    @property
    def ask(self) -> Request:
        return Request(self.model, (Content.of("user", "Hi"),))

    def made(self, server: Loopback, **options: Any) -> SdkInvoker:
        """An invoker of its own; a client takes a while to make."""
        return self.kind(base_url=self.url(server), **({"api_key": KEY} | options))


def chat_says(content: str, **fields: Any) -> Script:
    def reply(received: Received) -> Reply:
        return chat(content) if received.body.get("stream") else loopback.text(content, **fields)

    return reply


def message_says(content: str, **fields: Any) -> Script:
    return loopback_messages.replies(loopback_messages.says(content), **fields)


PROVIDERS = (
    Provider(
        "openai", OpenAIInvoker, "api.openai.com", "gpt-4o-mini", "n",
        url=lambda server: server.url,
        says=chat_says,
        refuses=lambda status, code, said, headers: loopback.failure(
            status, said, code=code, headers=headers
        ),
        question=lambda received: str(received.body["messages"][0]["content"]),
    ),
    Provider(
        "anthropic", AnthropicInvoker, "api.anthropic.com", "claude-haiku-4-5", "system",
        url=loopback_messages.base_url,
        says=message_says,
        refuses=lambda status, code, said, headers: loopback_messages.failure(
            status, code, said, headers=headers
        ),
        question=lambda received: str(received.body["messages"][0]["content"][0]["text"]),
    ),
)  # fmt: skip


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.sdk, scope="module")
def provider(request: pytest.FixtureRequest) -> Provider:
    found: Provider = request.param
    return found


@pytest.fixture
def server(running: Loopback, provider: Provider) -> Loopback:
    """A provider on this machine, as if it were new."""
    running.requests.clear()
    running.answers(provider.says("Hello."))
    return running


@pytest.fixture(scope="module")
def shared(running: Loopback, provider: Provider) -> Iterator[SdkInvoker]:
    """One for the tests that only send and read."""
    invoker = provider.made(running)
    yield invoker
    invoker.close()


@pytest.fixture
def make(server: Loopback, provider: Provider) -> Iterator[Make]:
    """Makes invokers of the test's own."""
    made: list[SdkInvoker] = []

    def fresh(**options: Any) -> SdkInvoker:
        made.append(provider.made(server, **options))
        return made[-1]

    yield fresh
    for invoker in made:
        invoker.close()


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Call:
    """Asks for an answer, in each of the four ways."""
    ways: dict[str, Call] = {
        "invoke": lambda invoker, asked: invoker.invoke(asked),
        "ainvoke": lambda invoker, asked: runner.run(invoker.ainvoke(asked)),
        "stream": lambda invoker, asked: invoker.stream(asked, str),
        "astream": lambda invoker, asked: runner.run(invoker.astream(asked, str)),
    }
    return ways[request.param]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)


def fail(call: Call, invoker: SdkInvoker, request: Request) -> InvokeError:
    with pytest.raises(InvokeError) as caught:
        call(invoker, request)
    return caught.value


# What is asked


def test_params_cannot_say_what_the_request_says(
    provider: Provider, shared: SdkInvoker, call: Call
) -> None:
    """A param that lllm decides itself is refused by name."""
    for name in ("model", "messages", "tools", "stream", provider.refused):
        with pytest.raises(ConfigError, match=f"params can't set '{name}'"):
            call(shared, Request("m", (), params={name: 2}))


def test_params_no_json_can_hold_are_an_error(
    server: Loopback, shared: SdkInvoker, call: Call
) -> None:
    """A param with no JSON form fails for good, before anything is sent."""
    error = fail(call, shared, Request("m", (), params={"x": object()}))
    assert not error.retryable
    assert server.requests == []


def test_a_prefix_is_not_sent(server: Loopback, provider: Provider, call: Call, make: Make) -> None:
    """What is put before a model's name to say who serves it stays here."""
    asked = msgspec.structs.replace(provider.ask, model=f"{provider.sdk}/{provider.model}")
    call(make(model_prefix=f"{provider.sdk}/"), asked)
    assert server.requests[0].body["model"] == provider.model


# What fails


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (cut(), None),
        (drop(), None),
        (Reply(body=b"{not json"), 200),
        (Reply(body=b"\xff\xfe"), 200),
        (Reply(body=b"[" * 100_000), 200),
        (Reply(body=b"null"), 200),
        (Reply(body=b"[]"), None),
        (Reply(body=b'{"choices": []}'), None),
        (Reply(body=b'{"error": {"message": "Overloaded", "code": 503}}'), 503),
        (Reply(body=b'{"error": "Overloaded"}'), 500),
        (Reply(body=json.dumps(ERROR).encode()), 529),
    ],
    ids=[
        "cut", "dropped", "no json", "no text", "too deep", "null", "no object", "no message",
        "error in a 200", "error without a status", "error of a type",
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", WAYS[:2], indirect=True)
def test_half_answers_may_be_tried_again(
    reply: Reply,
    status: int | None,
    server: Loopback,
    provider: Provider,
    shared: SdkInvoker,
    call: Call,
) -> None:
    """An answer that is cut, or holds no message, may come whole the next time."""
    server.answers(reply)
    error = fail(call, shared, provider.ask)
    assert (error.retryable, error.status) == (True, status)


def test_a_timeout(server: Loopback, provider: Provider, call: Call, make: Make) -> None:
    """No answer within the time is a failure that may be tried again."""
    server.answers(hang())
    error = fail(call, make(timeout=0.05), provider.ask)
    assert (error.retryable, error.status) == (True, None)
    assert "sent nothing for 0.05 seconds" in str(error)


def test_nobody_there(provider: Provider, call: Call) -> None:
    """A refused connection names where it went, and may be tried again."""
    with Loopback() as gone:
        invoker = provider.made(gone)
    error = fail(call, invoker, provider.ask)
    assert error.retryable
    assert f"127.0.0.1:{gone.port}" in str(error)
    invoker.close()


# What must not be told


@pytest.mark.parametrize(
    "reply",
    ["echo", cut(), Reply(body=f"{{broken {KEY}".encode()), Reply(502, KEY.encode())],
    ids=["echo", "cut", "broken", "page"],
)
def test_no_error_tells_the_key(
    reply: Reply | str, server: Loopback, provider: Provider, shared: SdkInvoker, call: Call
) -> None:
    """Message, code, ids, causes and traceback of a failure are free of the key."""

    def echo(received: Received) -> Reply:
        sent = received.headers["authorization"]
        key = sent.partition(" ")[2]
        headers = {"request-id": f"req_{key}", "x-request-id": f"req_{key}"}
        return provider.refuses(401, f"bad {key}", f"Incorrect: {key}. You sent: {sent}.", headers)

    server.answers(echo if isinstance(reply, str) else reply)
    error = fail(call, shared, provider.ask)
    assert KEY not in everything_about(error)
    assert "Bearer" not in everything_about(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_no_answer_tells_the_key(
    server: Loopback, provider: Provider, shared: SdkInvoker, call: Call
) -> None:
    """A server that echoes the key in its answer does not get it into the log."""

    def echo(received: Received) -> Reply:
        said = f"You sent {received.headers['authorization']}"
        reply = provider.says(said, id=f"id-{KEY}")
        assert callable(reply)
        return reply(received)

    server.answers(echo)
    answer = call(shared, provider.ask)
    assert KEY not in repr(answer)
    assert answer.content.text == "You sent Bearer [api key]"


def test_no_repr_tells_the_key(provider: Provider) -> None:
    """Neither the invoker nor its attributes show the key, or the password of an address."""
    invoker = provider.kind(base_url="https://me:hunter22@example.org/v1", api_key=KEY)
    shown = repr(invoker) + str(invoker) + repr(vars(invoker))
    assert KEY not in shown
    assert "hunter22" not in shown
    where = "(provider='example.org', host='example.org', port=443)"
    assert repr(invoker) == provider.kind.__name__ + where


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"API_KEY {KEY}", f"{KEY}…"])
def test_a_key_no_header_can_carry(key: str, provider: Provider, call: Call, make: Make) -> None:
    """A key with a line break or a space in it is refused without being shown."""
    with pytest.raises(ConfigError, match="characters") as caught:
        call(make(api_key=key), provider.ask)
    assert KEY not in everything_about(caught.value)


def test_a_header_that_cannot_be_sent_is_not_quoted(
    provider: Provider, call: Call, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a header that HTTP can't carry the error says only where to look."""
    name = f"{provider.prefix}_CUSTOM_HEADERS"
    monkeypatch.setenv(name, "X-Gateway-Token: gate-\r-secret-token")
    error = fail(call, make(), provider.ask)
    assert not error.retryable
    assert name in str(error)
    assert "secret-token" not in everything_about(error)


def test_headers_of_the_environment_are_secrets(
    server: Loopback, provider: Provider, call: Call, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the variable for headers sends along does not come back in an error."""
    monkeypatch.setenv(f"{provider.prefix}_CUSTOM_HEADERS", "X-Gateway-Token: gate-secret-token")
    server.answers(
        lambda got: provider.refuses(403, "error", f"No {got.headers['x-gateway-token']}.", {})
    )
    error = fail(call, make(), provider.ask)
    assert "answered 403 (error): No [api key]." in str(error)


# Where it goes, and with which key


def test_the_provider_itself_asks_for_a_key(provider: Provider, call: Call) -> None:
    """Without a key for the provider the error says how to give one; building needs none."""
    invoker = provider.kind()
    assert isinstance(invoker, Invoker)
    assert isinstance(invoker, Streams)
    where = (invoker.provider, invoker.host, invoker.port)
    assert where == (provider.sdk, provider.host, 443)
    with pytest.raises(ConfigError, match=rf"{provider.prefix}_API_KEY.*api_key="):
        call(invoker, provider.ask)


def test_other_servers_need_no_key(
    server: Loopback, provider: Provider, call: Call, make: Make
) -> None:
    """A server of one's own gets a placeholder, which is no secret."""
    server.answers(provider.says("no-key"))
    assert call(make(api_key=None), provider.ask).content.text == "no-key"
    assert server.requests[0].headers["authorization"] == "Bearer no-key"


def test_the_environment_decides(
    server: Loopback, provider: Provider, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's variables for the base URL and the key are used where nothing else is said."""
    monkeypatch.setenv(f"{provider.prefix}_BASE_URL", provider.url(server))
    monkeypatch.setenv(f"{provider.prefix}_API_KEY", f" {KEY}\n")
    invoker = provider.kind()
    call(invoker, provider.ask)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert (invoker.host, invoker.port) == ("127.0.0.1", server.port)
    invoker.close()


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://x/v1", "http://:80", "http://x:y"])
def test_a_base_url_that_is_none(url: str, provider: Provider) -> None:
    """A base URL that is no web address is refused when the invoker is made."""
    with pytest.raises(ConfigError, match="base_url"):
        provider.kind(base_url=url)


def test_without_the_sdk_the_extra_is_named(provider: Provider) -> None:
    """Where the SDK is not installed the error says what to install; importing needs it not."""
    sdk, name = provider.sdk, provider.kind.__name__
    code = (
        "import sys\n"
        "from lllm.events.errors import MissingExtra\n"
        f"from lllm.invokers.{sdk} import {name}\n"
        f"assert '{sdk}' not in sys.modules\n"
        f"sys.modules['{sdk}'] = None\n"
        f"try: {name}()\n"
        f"except MissingExtra as error: assert 'pip install \"lllm[{sdk}]\"' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Threads, loops and processes


def test_threads_share_one_client(server: Loopback, provider: Provider, shared: SdkInvoker) -> None:
    """Many threads ask through one invoker, each getting the answer to its own question."""

    def echo(received: Received) -> Reply:
        reply = provider.says(provider.question(received))
        assert callable(reply)
        return reply(received)

    server.answers(echo)

    def ask(number: int) -> str:
        request = Request("m", (Content.of("user", str(number)),))
        answered = shared.stream(request, str) if number % 2 else shared.invoke(request)
        return answered.content.text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [str(number) for number in range(40)]


def test_loops_have_clients_of_their_own(provider: Provider, make: Make) -> None:
    """One invoker serves loops one after the other and at once, many calls on each."""
    invoker = make()

    async def several() -> int:
        asked = [invoker.ainvoke(provider.ask) for _ in range(5)]
        streamed = [invoker.astream(provider.ask, str) for _ in range(5)]
        return len(await asyncio.gather(*asked, *streamed))

    def run() -> int:
        return asyncio.run(several())

    assert [run(), run()] == [10, 10]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(run) for _ in range(4)]
        assert [job.result() for job in jobs] == [10] * 4
    assert invoker._clients._by_loop == {}


def test_an_invoker_that_is_gone_leaves_no_connection(
    server: Loopback, provider: Provider, runner: asyncio.Runner
) -> None:
    """The clients of an invoker that nobody has any more are closed, those of a live loop too."""
    invoker = provider.made(server)
    invoker.invoke(provider.ask)
    runner.run(invoker.ainvoke(provider.ask))
    clients = invoker._clients
    assert clients._by_loop
    del invoker
    gc.collect()
    for _ in range(1_000):  # the loop gets to it when it runs again, after other callbacks
        if clients._by_loop:
            runner.run(asyncio.sleep(0.001))
    assert clients._of_threads is None
    assert clients._by_loop == {}


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
def test_a_cancelled_call_is_cancelled(
    way: str, server: Loopback, provider: Provider, make: Make
) -> None:
    """Cancelling the task ends the call as a cancellation, not as a failure of the provider."""
    arrived = threading.Event()

    def note(_: Received) -> Reply:
        arrived.set()
        return hang()

    server.answers(note)
    invoker = make()

    async def cancel() -> None:
        streams = way == "astream"
        asked = invoker.astream(provider.ask, str) if streams else invoker.ainvoke(provider.ask)
        task = asyncio.create_task(asked)
        await asyncio.to_thread(arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def answer_text(invoker: SdkInvoker, asked: Request) -> str:
    try:
        return invoker.stream(asked, str).content.text
    finally:
        invoker.close()


@pytest.mark.slow
def test_they_travel_to_a_worker(running: Loopback) -> None:
    """A pickled invoker works in a spawned process, with the key it was given."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:  # one for all: it is slow to start
        for provider in PROVIDERS:
            running.requests.clear()
            running.answers(provider.says("Hello."))
            invoker = provider.made(running)
            invoker.invoke(provider.ask)
            assert pool.submit(answer_text, invoker, provider.ask).result() == "Hello."
            assert running.requests[1].headers["authorization"] == f"Bearer {KEY}"
            invoker.close()


def test_a_key_of_the_environment_is_not_pickled(
    provider: Provider, shared: SdkInvoker, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a key that was given by hand is in a pickle."""
    monkeypatch.setenv(f"{provider.prefix}_API_KEY", KEY)
    invoker = make(api_key=None)
    invoker.invoke(provider.ask)
    assert KEY.encode() not in pickle.dumps(invoker)
    assert KEY.encode() in pickle.dumps(shared)


@pytest.mark.usefixtures("server")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_opens_its_own_connection(provider: Provider, shared: SdkInvoker) -> None:
    """A child asks on a connection of its own, and the parent's goes on as it was."""
    shared.invoke(provider.ask)
    before = shared._clients
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            mine = shared._clients is not before
            said = shared.stream(provider.ask, str).content.text if mine else "inherited"
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "Hello."
    os.waitpid(child, 0)
    shared.invoke(provider.ask)
    assert shared._clients is before
