"""All that an answer says is kept, and a stream says the same as an answer in one piece."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from lllm import LogStore, capture
from lllm.events.model import Content, LLMResponded, MessageAdded, Part, ToolCall
from tests.lllm.instrumentation.asking import ASKED, CHAT, CLAUDE, chat_client, only
from tests.support import loopback_messages, loopback_responses
from tests.support.loopback import JSON, USAGE, Loopback, Reply
from tests.support.loopback_streams import sse, usage_chunk, whole_chunk

LOGPROBS = [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]
CITED = {"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "T"}}


def pieces_of(whole: JSON) -> list[JSON]:
    """The chunks that bring a completion: the choices side by side, texts in halves, lists and
    objects as they are."""
    beside = {
        key: value
        for key, value in whole.items()
        if key not in ("id", "object", "created", "model", "choices", "usage")
    }
    chunks: list[JSON] = []
    for half in (0, 1):
        for choice in whole["choices"]:
            delta: JSON = {"role": "assistant"} if half == 0 else {}
            for key, value in choice["message"].items():
                if isinstance(value, str) and key != "role":
                    middle = len(value) // 2
                    delta[key] = value[:middle] if half == 0 else value[middle:]
                elif key == "function_call":
                    name = {"name": value["name"]} if half == 0 else {}
                    middle = len(value["arguments"]) // 2
                    cut = value["arguments"][:middle] if half == 0 else value["arguments"][middle:]
                    delta[key] = name | {"arguments": cut}
                elif half == 0 and key != "role":
                    delta[key] = value
            more = {} if half else {k: v for k, v in choice.items() if k not in NOT_BESIDE}
            chunks.append(
                whole_chunk(
                    [{"index": choice["index"], "delta": delta, "finish_reason": None} | more],
                    **beside,
                )
            )
    ends = [
        {"index": one["index"], "delta": {}, "finish_reason": one["finish_reason"]}
        for one in whole["choices"]
    ]
    return [*chunks, *(whole_chunk([end]) for end in ends), usage_chunk()]


NOT_BESIDE = ("index", "message", "finish_reason")


def completion(*messages: JSON, **more: Any) -> JSON:
    """A completion with a choice for each message."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": None} | said.get("message", said)}
        | {"finish_reason": said.get("finish", "stop")}
        | said.get("beside", {})
        for n, said in enumerate(messages)
    ]
    whole = whole_chunk(choices, usage=USAGE)
    return whole | {"object": "chat.completion"} | more


CHATS: dict[str, tuple[JSON, list[Part]]] = {
    "choices": (
        completion(
            {"content": "One."}, {"content": "Two."}, {"content": "Three.", "refusal": None}
        ),
        [Part("choice", "Two."), Part("choice", "Three.")],
    ),
    "annotations": (
        completion({"content": "Hi.", "annotations": [CITED, CITED]}),
        [Part("annotations", data={"annotations": [CITED, CITED]})],
    ),
    "logprobs": (
        completion(
            {"message": {"content": "Hi"}, "beside": {"logprobs": {"content": LOGPROBS}}},
        ),
        [Part("logprobs", data={"logprobs": {"content": LOGPROBS}})],
    ),
    "executed tools": (
        completion({"content": "Hi.", "executed_tools": [{"index": 0, "type": "search"}]}),
        [Part("executed_tools", data={"executed_tools": [{"index": 0, "type": "search"}]})],
    ),
    "new fields": (
        completion({"content": "Hi.", "mood": {"kind": "gay"}}, citations=["https://a.example"]),
        [
            Part("mood", data={"mood": {"kind": "gay"}}),
            Part("citations", data={"citations": ["https://a.example"]}),
        ],
    ),
}


def both(client: Any, server: Loopback, store: LogStore, whole: JSON, **asked: Any) -> Content:
    """What is recorded of a completion, the same in one piece and as a stream."""
    server.answers(Reply(body=json.dumps(whole).encode()), sse(*pieces_of(whole), "[DONE]"))
    found: list[LLMResponded] = []
    for stream in (False, True):
        got = client.chat.completions.create(model=CHAT, messages=ASKED, stream=stream, **asked)
        if stream:
            for _ in got:
                pass
        found += only(store, LLMResponded)
    plain, streamed = found
    assert comparable(plain.content) == comparable(streamed.content)
    assert (plain.finish, plain.usage, plain.price) == (
        streamed.finish, streamed.usage, streamed.price,
    )  # fmt: skip
    return plain.content


def comparable(content: Content) -> Any:
    """A content without the fields that say nothing, which only one of the two may have."""
    return json.loads(json.dumps(_dropped(json.loads(_json(content)))))


def _json(content: Content) -> bytes:
    from lllm.events.codec import encode

    return encode(content)


def _dropped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _dropped(one) for key, one in value.items() if one not in (None, [], {})}
    return [_dropped(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CHATS)
def test_all_of_a_completion(
    case: str, server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """Every choice, and every field that has no words of ours, is a part of its own name."""
    whole, expected = CHATS[case]
    content = both(client, server, store, whole)
    assert content.parts[0] == Part("text", whole["choices"][0]["message"]["content"])
    assert [(one.kind, one.text) for one in content.parts[1:]] == [
        (one.kind, one.text) for one in expected
    ]
    for part, wanted in zip(content.parts[1:], expected, strict=True):
        assert wanted.data is None or part.data == wanted.data
    if case == "choices":
        assert [part.data["message"]["content"] for part in content.parts[1:]] == [  # type: ignore[index]
            "Two.", "Three.",
        ]  # fmt: skip


def test_reasoning_details_in_pieces(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """Details of reasoning that come in pieces by their index are what they are in one piece."""
    details = [
        {"type": "reasoning.text", "text": "Let me think.", "index": 0, "format": "claude"},
        {"type": "reasoning.encrypted", "data": "AAAABBBB", "index": 1, "format": "claude"},
    ]
    whole = completion({"content": "Hi.", "reasoning": "Let me.", "reasoning_details": details})
    first = [details[0] | {"text": "Let me "}, details[1] | {"data": "AAAA"}]
    second = [details[0] | {"text": "think."}, details[1] | {"data": "BBBB"}]
    events = [
        whole_chunk([{"index": 0, "delta": delta, "finish_reason": finish}])
        for delta, finish in (
            ({"reasoning": "Let me.", "reasoning_details": first}, None),
            ({"reasoning_details": second}, None),
            ({"content": "Hi."}, "stop"),
        )
    ]
    server.answers(Reply(body=json.dumps(whole).encode()), sse(*events, usage_chunk(), "[DONE]"))
    client.chat.completions.create(model=CHAT, messages=ASKED)
    [plain] = only(store, LLMResponded)
    for _ in client.chat.completions.create(model=CHAT, messages=ASKED, stream=True):
        pass
    [streamed] = only(store, LLMResponded)
    assert plain.content == streamed.content
    assert plain.content.parts[-1].data == {"reasoning_details": details}


def test_the_older_function_call(server: Loopback, store: LogStore, client: openai.OpenAI) -> None:
    """A function_call is a tool call, its result a tool's message, and the turns one dialog."""
    asked = {"name": "weather", "arguments": '{"city":"Berlin"}'}
    whole = completion({"message": {"function_call": asked}, "finish": "function_call"})
    content = both(client, server, store, whole)
    assert content.tool_calls == (ToolCall("weather", "weather", '{"city":"Berlin"}'),)
    turns: Any = [
        *ASKED,
        {"role": "assistant", "content": None, "function_call": asked},
        {"role": "function", "name": "weather", "content": "Rain."},
    ]
    server.answers(Reply(body=json.dumps(whole).encode()))
    with store.session("my::script") as recorder:
        client.chat.completions.create(model=CHAT, messages=ASKED)
        client.chat.completions.create(model=CHAT, messages=turns)
    added = only(store, MessageAdded, recorder.session_id)
    assert [event.content.role for event in added] == ["user", "tool"]
    assert added[1].content.call_id == "weather"


def test_blocks_that_are_new(
    server: Loopback, store: LogStore, claude: anthropic.Anthropic
) -> None:
    """A block of an unknown kind is kept whole; so is what a message says beside its blocks. In a
    stream the deltas of such a block are joined."""
    compaction = {"type": "compaction", "content": "So far: much."}
    whole = loopback_messages.message(
        compaction, loopback_messages.says("Hi."), stop="stop_sequence", stop_sequence="END",
    )  # fmt: skip
    applied = {"applied_edits": [{"type": "clear_tool_uses_20250919"}]}
    events = loopback_messages.events_of(whole | {"content": whole["content"][1:]})
    for event in events:
        if "index" in event:
            event["index"] += 1
        if event["type"] == "message_delta":
            event["context_management"] = applied
    events[2:2] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction"}},
        {
            "type": "content_block_delta", "index": 0,
            "delta": {"type": "compaction_delta", "content": "So far: "},
        },
        {
            "type": "content_block_delta", "index": 0,
            "delta": {"type": "compaction_delta", "content": "much."},
        },
        {"type": "content_block_stop", "index": 0},
    ]  # fmt: skip
    server.answers(
        loopback_messages.sent(whole | {"context_management": applied}),
        loopback_messages.stream_of(events),
    )
    asked: Any = {"model": CLAUDE, "max_tokens": 5, "messages": ASKED}
    claude.messages.create(**asked)
    [plain] = only(store, LLMResponded)
    for _ in claude.messages.create(stream=True, **asked):
        pass
    [streamed] = only(store, LLMResponded)
    assert plain.content.parts[:2] == (Part("compaction", data=compaction), Part("text", "Hi."))
    assert plain.content.parts[0] == streamed.content.parts[0]
    more = [{one.kind: one for one in event.content.parts} for event in (plain, streamed)]
    assert more[0] == more[1]
    assert more[0]["stop_sequence"].data == {"stop_sequence": "END"}
    assert more[0]["context_management"].data == {"context_management": applied}


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        (
            {"content": [{"type": "output_text", "text": "Hi", "logprobs": LOGPROBS}]},
            "text", "Hi",
        ),
        (
            {"content": [{"type": "refusal", "refusal": "No."}]},
            "refusal", "No.",
        ),
        (
            {"content": [{"type": "output_audio", "data": "AAAA"}]},
            "message", None,
        ),
    ],
    ids=["logprobs", "refusal", "unknown"],
)  # fmt: skip
def test_pieces_of_a_response(
    item: JSON,
    kind: str,
    text: str | None,
    server: Loopback,
    store: LogStore,
    client: openai.OpenAI,
) -> None:
    """A piece of a message that says more than its text is kept with the whole item."""
    whole = loopback_responses.response(loopback_responses.says() | item)
    server.answers(loopback_responses.sent(whole), loopback_responses.streamed(whole))
    client.responses.create(model="gpt-5-mini", input="?")
    [plain] = only(store, LLMResponded)
    for _ in client.responses.create(model="gpt-5-mini", input="?", stream=True):
        pass
    [streamed] = only(store, LLMResponded)
    assert plain.content == streamed.content
    [part] = plain.content.parts
    assert (part.kind, part.text) == (kind, text)
    assert (part.data is None) == (kind == "refusal")


# -- what a client sends again


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ('{"city":"Berlin"}', '{"city": "Berlin"}'),
        ('{"city": "Köln", "n": 1}', '{"n": 1, "city": "K\\u00f6ln"}'),
        ("", ""),
        ("{", "{"),
    ],
)
def test_arguments_are_compared_as_json(
    first: str, again: str, server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """Arguments that a framework writes in another way are the same ones; they are recorded as the
    model wrote them, and the turn goes on with its dialog."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": first}}
    whole = completion(
        {"message": {"tool_calls": [call], "reasoning_content": "Hm."}, "finish": "tool_calls"}
    )
    server.answers(Reply(body=json.dumps(whole).encode()))
    resent = call | {"function": {"name": "f", "arguments": again}}
    turns: Any = [
        *ASKED,
        {"role": "assistant", "content": "", "tool_calls": [resent]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    with store.session("my::script") as recorder:
        client.chat.completions.create(model=CHAT, messages=ASKED)
        client.chat.completions.create(model=CHAT, messages=turns)
    added = only(store, MessageAdded, recorder.session_id)
    assert [event.content.role for event in added] == ["user", "tool"]
    assert {event.dialog for event in added} == {1}
    [answer, _] = only(store, LLMResponded, recorder.session_id)
    assert answer.content.tool_calls[0].arguments == first


@pytest.mark.parametrize("again", ['{"city": "Bonn"}', '{"city": "Berlin", "city": "Berlin"}', "{"])
def test_other_arguments_are_another_turn(
    again: str, server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """What a client changed in what it sends again is recorded as it sent it."""
    call = {
        "id": "call_1", "type": "function",
        "function": {"name": "f", "arguments": '{"city":"Berlin"}'},
    }  # fmt: skip
    whole = completion({"message": {"tool_calls": [call]}, "finish": "tool_calls"})
    server.answers(Reply(body=json.dumps(whole).encode()))
    resent = call | {"function": {"name": "f", "arguments": again}}
    turns: Any = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [resent]}]
    with store.session("my::script") as recorder:
        client.chat.completions.create(model=CHAT, messages=ASKED)
        client.chat.completions.create(model=CHAT, messages=turns)
    added = only(store, MessageAdded, recorder.session_id)
    assert [event.content.role for event in added] == ["user", "assistant"]
    assert added[1].content.tool_calls[0].arguments == again


# -- how a stream may end


def test_a_stream_that_ends_with_its_mark_alone(
    server: Loopback, store: LogStore, client: openai.OpenAI
) -> None:
    """Some servers never say why the model stopped: [DONE] behind words is an answer."""
    said = whole_chunk([{"index": 0, "delta": {"content": "Hi."}, "finish_reason": None}])
    server.answers(sse(said, usage_chunk(), "[DONE]"))
    for _ in client.chat.completions.create(model=CHAT, messages=ASKED, stream=True):
        pass
    [responded] = only(store, LLMResponded)
    assert (responded.content, responded.finish) == (Content.of("assistant", "Hi."), "other")
    assert responded.usage.input == 20
    [summary] = store.list_sessions()
    assert summary.state == "success"


def test_nothing_but_the_mark_is_no_answer(server: Loopback, store: LogStore) -> None:
    """[DONE] behind nothing is a stream that ended early."""
    client = capture(chat_client(server), log_store=store)
    server.answers(sse("[DONE]"))
    for _ in client.chat.completions.create(model=CHAT, messages=ASKED, stream=True):
        pass
    assert only(store, LLMResponded) == []
