"""A body that begins as an earlier one is read as if it was the first."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lllm import LogStore, capture
from lllm.events.backends.memory import MemoryBackend
from lllm.events.model import Content
from lllm.events.recorder import Recorder
from lllm.instrumentation import body_prefixes as bodies_begun
from lllm.instrumentation.conversations import ConversationDigest, Conversations
from lllm.instrumentation.recorded_endpoints import Operation, operation_of
from lllm.instrumentation.resent_answers import chained, digests_of
from lllm.pricing.request_media import sent_in
from tests.lllm.instrumentation.asking import chat_client
from tests.support import loopback
from tests.support.loopback import Loopback
from tests.support.runs import payloads
from tests.support.sent_messages import sent_by_request

LONG = "and so on, to be longer than what is not worth a comparison; " * 40
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def written(body: Mapping[str, object]) -> bytes:
    """A body as the SDKs write it."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def the_operation(path: str) -> Operation:
    """What is asked for at a path."""
    found = operation_of("post", path)
    assert found is not None
    return found


CHAT = the_operation("/chat/completions")
MESSAGES = the_operation("/v1/messages")
RESPONSES = the_operation("/responses")


class Reading:
    """The bodies of one session, each read as a later one and as the first."""

    def __init__(self) -> None:
        self.recorder = Recorder(MemoryBackend(), "t")
        self.conversations = Conversations(self.recorder)

    def read(self, content: bytes, operation: Operation) -> int:
        """Read a body both ways, which must be the same; returns how many messages were not read
        before."""
        whole = operation.reads(json.loads(content))
        body = self.conversations.bodies.read(content, operation, "/x")
        new = len(body.asked.contents)
        assert body.asked.contents == whole.contents[len(whole.contents) - new :]
        sent = sent_in(body.asked.contents, body.asked.params, before=body.media)
        assert sent == sent_in(whole.contents, whole.params)
        self.conversations.left(self.conversations.going_on(body.asked.contents, body.beginnings))
        assert body.beginnings == beginnings(whole.contents)
        self.conversations.bodies.remember(body)
        for name in ("model", "tools", "lasting", "params", "stream"):
            assert getattr(body.asked, name) == getattr(whole, name)
        return new


def beginnings(contents: Sequence[Content]) -> list[bytes]:
    """What stands for each beginning of a conversation."""
    found = [b""]
    for content in contents:
        found.append(chained(found[-1], digests_of(content)[1]))
    return found


def chat(*said: object, **more: object) -> dict[str, object]:
    """A body of Chat Completions; every second message is an answer."""
    messages = [
        {"role": "assistant" if place % 2 else "user", "content": text}
        for place, text in enumerate(said)
    ]
    return {"messages": messages, "model": "m", **more}


def test_what_follows_alone_is_read() -> None:
    """A conversation that grows, changes its end, or goes back is read from where it is new."""
    reading = Reading()
    said: list[object] = [f"{n}: {LONG}" for n in range(12)]
    assert reading.read(written(chat(*said)), CHAT) == 12
    assert reading.read(written(chat(*said)), CHAT) == 0
    assert reading.read(written(chat(*said, "And?", temperature=0.5)), CHAT) == 1
    assert reading.read(written(chat(*said, "Or?")), CHAT) == 1
    assert reading.read(written(chat(*said[:5], "Or?", *said[5:])), CHAT) == 8
    assert reading.read(written(chat(*said[:3])), CHAT) == 0


def test_conversations_in_turns() -> None:
    """Several conversations may go on in turns."""
    reading = Reading()
    told = [[f"{who}, {n}: {LONG}" for n in range(4)] for who in range(3)]
    for said in told:
        reading.read(written(chat(*said)), CHAT)
    for turn in range(3):
        for said in told:
            said += ["Yes.", f"{turn}?"]
            assert reading.read(written(chat(*said)), CHAT) == 2


def test_media_of_what_was_read_before() -> None:
    """An image that was sent before is sent again."""
    reading = Reading()
    assert reading.read(written(chat(LONG, LONG, [IMAGE])), CHAT) == 3
    assert reading.read(written(chat(LONG, LONG, [IMAGE], "A cat.", "Sure?")), CHAT) == 2


@pytest.mark.parametrize(
    "content",
    [
        written(chat("Other.", LONG, LONG, LONG)),
        written(chat(LONG, LONG, "Other.", LONG)),
        json.dumps(chat(LONG, LONG, LONG, LONG, "?")).encode(),
        written({"model": "m"} | chat(LONG, LONG, LONG, LONG, "?")),
        written(chat(LONG, LONG, LONG, LONG))[:-1] + b',"messages":[]}',
        written(chat(LONG, LONG, LONG, LONG))[:-1] + b',"messages":[{"content":"0"}]}',
        written(chat(LONG, LONG, LONG, LONG))[:-1] + b',"messages":"none"}',
        written({"metadata": {"messages": [1]}} | chat(LONG, LONG, LONG, LONG)),
        written({"note": '{"messages":['} | chat(LONG, LONG, LONG, LONG)),
        written({"messages": [LONG, LONG, LONG, 1, 12, None]}),
        written({"messages": LONG + LONG}),
    ],
)
def test_bodies_that_are_not_alike(content: bytes) -> None:
    """What only looks like an earlier body is read as it is, whichever comes first."""
    alike = written(chat(LONG, LONG, LONG, LONG))
    for order in ((alike, content, content), (content, alike, content)):
        reading = Reading()
        for one in order:
            reading.read(one, CHAT)


def test_what_stands_elsewhere() -> None:
    """Messages that a body has beside its list, before or behind it, may change."""
    turns = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1, "a": LONG}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": LONG},
            {"type": "text", "text": "So?"},
        ]},
    ]  # fmt: skip
    more = {"role": "assistant", "content": "So."}
    body = {"max_tokens": 9, "messages": turns, "model": "m", "system": "One."}
    longer = body | {"messages": [*turns, more]}
    reading = Reading()
    assert reading.read(written(body), MESSAGES) == 5
    assert reading.read(written(longer), MESSAGES) == 1
    assert reading.read(written(longer | {"system": "Two."}), MESSAGES) == 6
    assert reading.read(written(longer | {"system": ""}), MESSAGES) == 5
    assert reading.read(written(longer), MESSAGES) == 0
    assert reading.read(written(longer | {"max_tokens": 8}), MESSAGES) == 6


def test_items_of_responses() -> None:
    """The Responses API, with and without instructions."""
    items: list[Any] = [
        {"role": "user", "content": LONG},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": LONG},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": LONG},
    ]
    reading = Reading()
    body = {"input": items[:3], "instructions": "One.", "model": "m"}
    assert reading.read(written(body), RESPONSES) == 4
    assert reading.read(written(body | {"input": items}), RESPONSES) == 1
    assert reading.read(written(body | {"input": items, "instructions": None}), RESPONSES) == 4
    assert reading.read(written(body | {"input": LONG + LONG}), RESPONSES) == 2


def test_another_api() -> None:
    """The same bytes mean something else to another API."""
    reading = Reading()
    said = {"role": "user", "content": [{"type": "tool_result", "content": LONG + LONG}]}
    body = written({"messages": [said, said], "model": "m"})
    for operation in (CHAT, MESSAGES, CHAT):
        reading.read(body, operation)


def test_any_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent after whatever, it is read as if it was the first."""
    monkeypatch.setattr(bodies_begun, "_SHORT", 0)
    chosen = random.Random(7)
    reading, known = Reading(), list[list[object]]([[]])
    texts: list[object] = ["", "a", "é", '"messages":[', "]}", "\\", None, [IMAGE], {"a": 1}]
    for _ in range(400):
        said = list(chosen.choice(known[-6:]))
        del said[len(said) - chosen.choice((0, 0, 0, 1, 2, 5)) :]
        said += chosen.choices(texts, k=chosen.choice((0, 1, 2)))
        known.append(said)
        reading.read(written(chat(*said, n=chosen.choice((1, 2)))), CHAT)


def test_a_long_conversation_of_a_client(server: Loopback, store: LogStore) -> None:
    """What each request of a session sent stands in the log, once."""
    server.answers(loopback.text("Yes."))
    client = capture(chat_client(server), provider="openai")
    said = [f"0: {LONG}{LONG}"]
    sent = []
    with store.session("talk") as recorder:
        for turn in range(1, 6):
            sent.append(list(said))
            client.chat.completions.create(model="m", messages=chat(*said)["messages"])  # type: ignore[call-overload] # as users write them
            said += ["Yes.", f"{turn}: {LONG}"]
    events = payloads(store, recorder.session_id)
    told = sent_by_request(events).values()
    assert [[content.text for content in contents] for contents in told] == sent
    assert len([event for event in events if event.type == "message.added"]) == 5


def test_a_fork_has_the_digest_of_its_messages() -> None:
    """What a request is known by says its messages, and nothing of what a fork left behind."""
    whole, first = ConversationDigest(1), ConversationDigest(2)
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    for ordinal, digest in enumerate(digests, 1):
        whole.add(ordinal, digest)
    first.add(1, digests[0])
    forked = whole.forked(3, upto=1)
    assert forked.digest(b"salt", asked={}) == first.digest(b"salt", asked={})
    assert (len(forked), forked.last_ordinal) == (1, 1)
