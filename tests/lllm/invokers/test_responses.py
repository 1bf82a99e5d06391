"""The Responses API: the real SDK, sync and async, against a server on this machine."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lllm.events import codec
from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition, Usage
from lllm.invokers import Answer, Request
from lllm.invokers.dialects.responses import answer, payload
from lllm.invokers.openai import OpenAIInvoker
from tests.support.loopback import JSON, Loopback, Reply, failure
from tests.support.loopback_responses import MODEL, USAGE, response, says, sent, thinks, wants

KEY = "sk-proj-Zm9vYmFy-0123456789abcdef"
ASK = Request(model="gpt-5-mini", messages=(Content.of("user", "Hi"),))


@pytest.fixture(scope="module")
def invoker(running: Loopback) -> Iterator[OpenAIInvoker]:
    made = OpenAIInvoker(base_url=running.url, api_key=KEY, api="responses")
    yield made
    made.close()


Call = Callable[[Request], Answer]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, runner: asyncio.Runner, invoker: OpenAIInvoker) -> Call:
    if request.param == "sync":
        return invoker.invoke
    return lambda asked: runner.run(invoker.ainvoke(asked))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)


def read(*items: JSON, **fields: Any) -> Answer:
    return answer(response(*items, **fields), model="asked", request_id="req_1")


def items_of(*messages: Content) -> object:
    return payload(Request("m", messages))["input"]


# What is asked


def test_a_request_becomes_its_json(server: Loopback, call: Call) -> None:
    """Messages of every role, tools, params and schema are sent as the API has them."""
    server.answers(sent(response(says("Hello."))))
    schema: dict[str, object] = {"title": "Facts, all", "type": "object"}
    wish = ToolCall("call_7", "look", '{"key": "a"}')
    request = Request(
        model="gpt-5-mini",
        messages=(
            Content.of("system", "Be brief."),
            Content.of("user", "Hi"),
            Content("assistant", (Part("text", "I look."),), (wish,)),
            Content("tool", (Part("text", "42"),), call_id="call_7"),
            Content("assistant", (Part("refusal", "No."),)),
        ),
        tools=(ToolDefinition("look", "Looks.", {"type": "object"}),),
        params={"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "top_k": 7},
        output_schema=schema,
        tool_choice="none",
    )
    call(request)
    assert server.requests[0].path == "/v1/responses"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.requests[0].body == {
        "model": "gpt-5-mini",
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I look."}],
            },
            {
                "type": "function_call",
                "call_id": "call_7",
                "name": "look",
                "arguments": '{"key": "a"}',
            },
            {"type": "function_call_output", "call_id": "call_7", "output": "42"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "No."}],
            },
        ],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "tool_choice": "none",
        "reasoning": {"effort": "low"},
        "top_k": 7,
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "Facts__all", "schema": schema},
        },
    }


def test_strict_tools_and_formats_of_ones_own() -> None:
    """A tool says whether it is strict, and a format of the user's own is the one that is sent."""
    tool = ToolDefinition("look", "Looks.", {}, strict=True)
    params: dict[str, object] = {"text": {"format": {"type": "text"}}, "store": False}
    body: Any = payload(Request("m", (), (tool,), params, output_schema={"type": "object"}))
    assert body["tools"][0]["strict"] is True
    assert body["text"] == {"format": {"type": "text"}}
    assert body["store"] is False
    assert "stream" not in body
    options: dict[str, object] = {"stream_options": {"include_obfuscation": False}}
    assert "stream_options" not in payload(Request("m", (), params=options))
    assert payload(Request("m", (), params=options), stream=True) == {
        "model": "m", "input": [], "stream": True, **options
    }  # fmt: skip


@pytest.mark.parametrize("role", ["user", "tool"])
def test_pictures_and_files_are_sent(role: str) -> None:
    """Binary parts go as data URLs, addresses and provider's forms as they are, also from tools."""
    own: dict[str, object] = {"type": "input_file", "file_id": "file-1"}
    parts = (
        Part("text", "What is this?"),
        Part("image", data=b"png", mime="image/jpeg"),
        Part("image", data="cG5n"),
        Part("image", data="https://example.org/a.png"),
        Part("file", "a.csv", data=b"1,2", mime="text/csv"),
        Part("file", data="data:application/pdf;base64,cGRm"),
        Part("file", data="https://example.org/a.pdf"),
        Part("file", data=own),
    )
    sent_parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/jpeg;base64,cG5n", "detail": "auto"},
        {"type": "input_image", "image_url": "data:image/png;base64,cG5n", "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"},
        {"type": "input_file", "filename": "a.csv", "file_data": "data:text/csv;base64,MSwy"},
        {
            "type": "input_file",
            "filename": "file.pdf",
            "file_data": "data:application/pdf;base64,cGRm",
        },
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        own,
    ]
    expected: dict[str, object] = (
        {"role": "user", "content": sent_parts}
        if role == "user"
        else {"type": "function_call_output", "call_id": "call_1", "output": sent_parts}
    )
    call_id = "call_1" if role == "tool" else None
    assert items_of(Content(role, parts, call_id=call_id)) == [expected]


def test_a_part_that_cannot_be_sent_is_an_error(server: Loopback, call: Call) -> None:
    """A part with nothing to send fails before anything is sent, and for good."""
    request = Request("m", (Content("user", (Part("image", blob="0" * 64),)),))
    with pytest.raises(InvokeError, match="'image'") as caught:
        call(request)
    assert not caught.value.retryable
    assert server.requests == []


@pytest.mark.parametrize("name", ["model", "input", "tools", "stream", "background"])
def test_params_cannot_say_what_the_request_says(name: str) -> None:
    """A param that lllm decides itself is refused by name."""
    with pytest.raises(ConfigError, match=f"params can't set '{name}'"):
        payload(Request("m", (), params={name: 2}))


# What is answered


def test_an_answer_is_read(server: Loopback, call: Call) -> None:
    """Text, finish, model, ids, tier and usage are the provider's."""
    server.answers(sent(response(says("Hello."))))
    assert call(ASK) == Answer(
        content=Content.of("assistant", "Hello."),
        finish="stop",
        finish_raw="completed",
        model=MODEL,
        response_id="resp_1",
        request_id="req_1",
        service_tier="default",
        usage_raw=USAGE,
        usage=Usage(input=20, output=9, cache_read=8, reasoning=4),
    )


def test_parallel_tool_calls() -> None:
    """Each call keeps the id that its output must name, and its arguments as sent."""
    got = read(wants("look", '{"a":  1}'), wants("put", "{broken", number=2))
    assert (got.finish, got.finish_raw) == ("tool_calls", "completed")
    assert got.content == Content(
        "assistant",
        (),
        (ToolCall("call_1", "look", '{"a":  1}'), ToolCall("call_2", "put", "{broken")),
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("new", "other")],
)
def test_an_incomplete_answer(reason: str, finish: str) -> None:
    """An answer that was cut by a limit or a filter says so, in our words and the provider's."""
    got = read(says("Hel"), status="incomplete", incomplete_details={"reason": reason})
    assert (got.finish, got.finish_raw) == (finish, reason)
    assert got.content.text == "Hel"


def test_refusals_and_several_messages() -> None:
    """A refusal is a part of its own; the texts of all messages are the text."""
    refused = says() | {"content": [{"type": "refusal", "refusal": "I can't."}]}
    assert read(refused).content == Content("assistant", (Part("refusal", "I can't."),))
    assert read(says("a", "b"), says("c")).content.text == "abc"
    mixed = says("Well. ") | {"content": [*says("Well. ")["content"], *refused["content"]]}
    assert read(mixed).content.parts == (Part("text", "Well. "), Part("refusal", "I can't."))


def test_a_server_that_says_little() -> None:
    """What is optional may be missing, null or odd."""
    body = {"output": [{"type": "message", "content": [{"text": "Hi"}, None]}, 7, {}]}
    got = answer(body, model="asked", request_id=None)
    assert got.content.text == "Hi"
    assert (got.model, got.finish, got.usage) == ("asked", "other", None)
    assert read(wants("look", "{}", call_id=None)).content.tool_calls[0].id == "call_1"


# What goes back


def both_ways(*items: JSON, results: tuple[str, ...] = ()) -> tuple[Content, list[JSON]]:
    """The answer that items make, through the log, and the items that the next request sends."""
    content = read(*items).content
    logged = msgspec.convert(codec.values(codec.encode(content)), Content)
    outputs = (Content("tool", (Part("text", "42"),), call_id=result) for result in results)
    sent_items: Any = items_of(logged, *outputs)
    return content, json.loads(json.dumps(sent_items))


def test_reasoning_goes_back_with_its_tool_output() -> None:
    """The reasoning before a call is sent again as it came, encrypted text and id included, before
    the call and its output."""
    thought = thinks("Two and two.", "Four.")
    content, items = both_ways(thought, wants("look", "{}"), results=("call_1",))
    assert content.parts == (Part("reasoning", "Two and two.\n\nFour.", thought),)
    assert items == [
        thought,
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]


def test_the_order_of_items_is_kept() -> None:
    """Calls between which something else stands go back where they stood, once."""
    first, second = wants("look", "{}"), wants("look", "{}", number=2)
    items = [thinks("a"), first, thinks("b", id="rs_2"), second]
    content, again = both_ways(*items)
    assert again == items
    assert [call.id for call in content.tool_calls] == ["call_1", "call_2"]


@pytest.mark.parametrize(
    "item",
    [
        says("Looking.", phase="commentary"),
        says() | {"content": [{"type": "output_text", "text": "A", "annotations": [{"url": "b"}]}]},
        wants("look", "{}", namespace="crm"),
        wants("look", "{}", caller={"type": "program", "caller_id": "call_0"}),
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "run", "input": "ls"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}},
    ],
    ids=["phase", "citation", "namespace", "caller", "custom", "search"],
)
def test_items_that_say_more_go_back_whole(item: JSON) -> None:
    """An item that our words can't hold is kept, and is sent again as it came."""
    _, again = both_ways(item, says("Done."))
    assert again[0] == item
    assert len(again) == 2


def test_a_custom_call_is_a_call() -> None:
    """The input of a tool that takes any text is the arguments of its call."""
    item = {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "ls"}
    assert read(item).content.tool_calls == (ToolCall("c", "run", "ls"),)


def test_reasoning_that_led_to_nothing_stays_here() -> None:
    """The API refuses reasoning without what followed it, so that of an answer cut off is not
    sent; nor is that of another provider."""
    assert both_ways(thinks("Hm.")) == (read(thinks("Hm.")).content, [])
    foreign = Part("reasoning", "Hm.", {"type": "thinking", "thinking": "Hm."})
    said = Content("assistant", (foreign, Part("text", "Hi")))
    assert len(payload(Request("m", (said,)))["input"]) == 1  # type: ignore[arg-type] # a list


# What fails


def test_a_failed_response(server: Loopback, call: Call) -> None:
    """A response that failed is an error, to be tried again as its code says."""
    error = {"code": "server_error", "message": "It went wrong."}
    server.answers(sent(response(status="failed", error=error)))
    with pytest.raises(InvokeError, match=r"server_error.*It went wrong\.") as caught:
        call(ASK)
    assert (caught.value.retryable, caught.value.status) == (True, 500)
    error = {"code": "invalid_prompt", "message": "No."}
    server.answers(sent(response(status="failed", error=error)))
    with pytest.raises(InvokeError) as caught:
        call(ASK)
    assert (caught.value.retryable, caught.value.status) == (False, 400)


def test_a_failed_response_tells_what_it_used() -> None:
    """The tokens of a response that failed are counted."""
    with pytest.raises(InvokeError) as caught:
        read(status="failed", error={"code": "server_error", "message": "No."})
    assert caught.value.usage == Usage(input=20, output=9, cache_read=8, reasoning=4)
    assert caught.value.usage_raw == USAGE


@pytest.mark.parametrize("body", [b"{}", b'{"output": null}', b"[]", b'{"status": "cancelled"}'])
def test_half_answers_may_be_tried_again(body: bytes, server: Loopback, call: Call) -> None:
    """An answer without an output may come whole the next time."""
    server.answers(Reply(body=body))
    with pytest.raises(InvokeError) as caught:
        call(ASK)
    assert caught.value.retryable


def test_statuses(server: Loopback, call: Call) -> None:
    """A status says whether another attempt makes sense."""
    server.answers(failure(400, "Bad.", code="invalid_request_error"), failure(529))
    with pytest.raises(InvokeError) as caught:
        call(ASK)
    assert not caught.value.retryable
    with pytest.raises(InvokeError) as caught:
        call(ASK)
    assert caught.value.retryable


def test_an_api_that_is_none() -> None:
    """An API that is not known is refused when the invoker is made, with those that are."""
    with pytest.raises(ConfigError, match=r"'completions'.*'chat\.completions' and 'responses'"):
        OpenAIInvoker(api="completions")  # type: ignore[arg-type] # what a configuration may say
