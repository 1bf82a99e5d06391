"""Captured calls of the Responses API whose input is a list of items."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import LogStore, capture
from lllm.events.model import DialogOpened, MessageAdded, Part, ToolCall
from tests.lllm.instrumentation.asking import chat_client
from tests.support import loopback_responses
from tests.support.loopback import JSON, Loopback
from tests.support.loopback_responses import response, says, sent, thinks, wants
from tests.support.runs import payloads
from tests.support.sent_messages import sent_by_request

IMAGE = {"type": "input_image", "image_url": "https://example.org/cat.png", "detail": "low"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"}
ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Plain."},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Typed."}, IMAGE],
    },
    THOUGHT,
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": 1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "A cat."},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hm."}]},
]


def test_each_item_is_a_message(server: Loopback, store: LogStore) -> None:
    """Texts, parts, calls of tools and their results stand in the log as they were sent, behind the
    instructions."""
    said = loopback_responses.response(loopback_responses.says("Hello."))
    server.answers(loopback_responses.sent(said))
    client = capture(chat_client(server), provider="openai")
    with store.session("talk") as recorder:
        client.responses.create(model="gpt-5-mini", instructions="Be kind.", input=ITEMS)  # type: ignore[arg-type] # as JSON
    added = [
        event.content
        for event in payloads(store, recorder.session_id)
        if isinstance(event, MessageAdded)
    ]
    text = lambda said: (Part("text", said),)  # noqa: E731
    assert [(one.role, one.parts, one.tool_calls, one.call_id) for one in added] == [
        ("system", text("Be kind."), (), None),
        ("system", text("Be brief."), (), None),
        ("user", text("Plain."), (), None),
        ("user", (*text("Typed."), Part("image", data=IMAGE)), (), None),
        ("assistant", (Part("reasoning", data=THOUGHT),), (), None),
        ("assistant", (), (ToolCall("c1", "look", '{"at": 1}'),), None),
        ("tool", text("A cat."), (), "c1"),
        ("assistant", text("Hm."), (), None),
    ]


@pytest.mark.parametrize(
    "output",
    [
        (wants("look", "{}"), wants("look", '{"a": 1}', number=2)),
        (says("Let me see."), wants("look", "{}")),
        (thinks("Hm."), wants("look", "{}"), wants("look", '{"a": 1}', number=2)),
        (wants("look", "{}"), says("I look."), wants("look", '{"a": 1}', number=2)),
        (thinks("Hm."), says("Let me see.")),
    ],
)
def test_items_of_an_answer_are_sent_back(
    server: Loopback, store: LogStore, output: tuple[JSON, ...]
) -> None:
    """An answer of several items is not written again with the next requests; nor are results."""
    client = capture(chat_client(server), provider="openai")
    items: list[Any] = [{"role": "user", "content": "Hi"}]
    with store.session("talk") as recorder:
        for said in (output, (says("Done."),), output, (says("Bye."),)):
            server.answers(sent(response(*said)))
            answer = client.responses.create(model="gpt-5-mini", input=items)
            items += answer.output
            items += [
                {"type": "function_call_output", "call_id": one.call_id, "output": "42"}
                for one in answer.output
                if one.type == "function_call"
            ]
    events = payloads(store, recorder.session_id)
    results = [item for item in items if isinstance(item, dict)]
    added = [event.content.text for event in events if isinstance(event, MessageAdded)]
    assert added == [str(item.get("content", "42")) for item in results]
    assert len([event for event in events if isinstance(event, DialogOpened)]) == 1


def test_a_list_that_grows_is_written_once(server: Loopback, store: LogStore) -> None:
    """With each turn only what is new is written, and all that was sent can be put together."""
    said = loopback_responses.response(loopback_responses.says("Yes."))
    server.answers(loopback_responses.sent(said))
    client = capture(chat_client(server), provider="openai")
    items: list[Any] = []
    with store.session("talk") as recorder:
        for turn in range(4):
            items.append({"role": "user", "content": f"Turn {turn}."})
            client.responses.create(model="gpt-5-mini", input=list(items))
            items.append({"role": "assistant", "content": "Yes."})
    events = payloads(store, recorder.session_id)
    added = [event.content.text for event in events if isinstance(event, MessageAdded)]
    assert added == [f"Turn {turn}." for turn in range(4)]
    assert len([event for event in events if isinstance(event, DialogOpened)]) == 1
    sent = [[one.text for one in contents] for contents in sent_by_request(events).values()]
    assert sent == [[item["content"] for item in items[: 2 * turn + 1]] for turn in range(4)]
