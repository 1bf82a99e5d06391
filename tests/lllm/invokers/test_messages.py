"""The dialect of the Messages API: what is asked, what is answered, and what comes in a stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.events import codec
from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, Part, ToolCall, ToolDefinition, Usage
from lllm.invokers import Answer, Finish, Request
from lllm.invokers.dialects.messages import DEFAULT_MAX_TOKENS, answer, payload
from lllm.invokers.dialects.messages_stream import MessagesStream
from tests.support.loopback import JSON
from tests.support.loopback_messages import MODEL, USAGE, events_of, message, says

THOUGHT: JSON = {"type": "thinking", "thinking": "Two and two.", "signature": "c2ln"}
HIDDEN: JSON = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
SEARCH: JSON = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"q": "a"}}
FOUND: JSON = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}
CITED: JSON = {"type": "text", "text": "It rains.", "citations": [{"type": "char_location"}]}


def wish(number: int = 1, **more: object) -> JSON:
    asked = {"type": "tool_use", "id": f"toolu_{number}", "name": "look", "input": {"key": number}}
    return asked | more


def read(body: object) -> Answer:
    return answer(body, model="claude-haiku-4-5", request_id="req_1")


def sent(*contents: Content, **fields: Any) -> Any:
    """The messages that a conversation becomes."""
    return payload(Request("claude-haiku-4-5", contents, **fields))["messages"]


def user(*parts: Part) -> Content:
    return Content("user", parts)


# What is asked


def test_a_request_becomes_its_json() -> None:
    """Messages of every role, tools, params and schema are sent as the API has them."""
    request = Request(
        model="claude-haiku-4-5",
        messages=(
            Content.of("system", "Be brief."),
            Content.of("user", "Hi"),
            Content("assistant", (Part("text", "I look."),), (ToolCall("toolu_1", "look", "{}"),)),
            Content("tool", (Part("text", "42"),), call_id="toolu_1"),
            Content.of("assistant", "It is 42."),
            Content.of("user", "Thanks."),
        ),
        tools=(ToolDefinition("look", "Looks.", {"type": "object"}, strict=True),),
        params={"temperature": 0.2, "max_tokens": 100, "output_config": {"effort": "low"}},
        output_schema={"type": "object"},
        tool_choice="none",
        agent="nobody's business",
    )
    assert payload(request, stream=True) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "42"}],
                    }
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "It is 42."}]},
            {"role": "user", "content": [{"type": "text", "text": "Thanks."}]},
        ],
        "tools": [
            {
                "name": "look",
                "description": "Looks.",
                "input_schema": {"type": "object"},
                "strict": True,
            }
        ],
        "tool_choice": {"type": "none"},
        "temperature": 0.2,
        "output_config": {
            "format": {"type": "json_schema", "schema": {"type": "object"}},
            "effort": "low",
        },
        "stream": True,
    }


def test_results_of_one_turn_go_together() -> None:
    """Tools that were asked for together are answered in one message, before what else is said."""
    results = [Content("tool", (Part("text", str(n)),), call_id=f"toolu_{n}") for n in (1, 2)]
    silent = Content("tool", call_id="toolu_3")
    (told,) = sent(*results, silent, Content.of("user", "Now answer."))
    assert told["role"] == "user"
    assert told["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [says("1")]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [says("2")]},
        {"type": "tool_result", "tool_use_id": "toolu_3"},
        says("Now answer."),
    ]


def test_empty_texts_are_left_out() -> None:
    """A text of nothing but white space, which the API refuses, is not sent, nor its message."""
    contents = (Content.of("user", "Hi"), Content("assistant"), user(Part("text", " \n")))
    assert sent(*contents) == [{"role": "user", "content": [says("Hi")]}]
    assert "system" not in payload(Request("m", (Content.of("system", ""),)))


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            Part("image", data=b"png"),
            {"type": "base64", "media_type": "image/png", "data": "cG5n"},
        ),
        (
            Part("image", data="anBn", mime="image/jpeg"),
            {"type": "base64", "media_type": "image/jpeg", "data": "anBn"},
        ),
        (
            Part("image", data="https://example.org/a.png"),
            {"type": "url", "url": "https://example.org/a.png"},
        ),
        (
            Part("image", data="data:image/gif;base64,Z2lm"),
            {"type": "base64", "media_type": "image/gif", "data": "Z2lm"},
        ),
        (
            Part("image", data="data:image/webp,%77ebp"),
            {"type": "base64", "media_type": "image/webp", "data": "d2VicA=="},
        ),
        (
            Part("file", data=b"%PDF"),
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
        ),
        (
            Part("file", data="https://example.org/a.pdf"),
            {"type": "url", "url": "https://example.org/a.pdf"},
        ),
        (
            Part("file", data="Grüße".encode(), mime="text/markdown"),
            {"type": "text", "media_type": "text/plain", "data": "Grüße"},
        ),
    ],
    ids=["bytes", "base64", "url", "data url", "plain data url", "pdf", "pdf url", "text file"],
)
def test_pictures_and_files_are_sent(part: Part, block: JSON) -> None:
    """Binary parts go as base64, addresses as addresses, texts as texts."""
    kind = "image" if part.kind == "image" else "document"
    (told,) = sent(user(part))
    assert told["content"] == [{"type": kind, "source": block}]


def test_the_providers_own_form_goes_as_it_is() -> None:
    """A part whose data is a dict is sent as that dict, whatever its kind."""
    own = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    told = sent(user(Part("file", data=own), Part("text", "a", {**says("a"), "cache_control": {}})))
    assert told[0]["content"] == [own, {**says("a"), "cache_control": {}}]


@pytest.mark.parametrize(
    "part",
    [
        Part("image", blob="0" * 64),
        Part("image", data=7),
        Part("audio", data=b"wav"),
        Part("file", data=b"\xff", mime="text/plain"),
        Part("file", data="no base64", mime="text/plain"),
    ],
)
def test_a_part_that_cannot_be_sent_is_an_error(part: Part) -> None:
    """A part with nothing to send, or that the API has no block for, fails for good."""
    with pytest.raises(InvokeError, match=f"kind '{part.kind}'") as caught:
        sent(user(part))
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["model", "messages", "system", "tools", "stream"])
def test_params_cannot_say_what_the_request_says(name: str) -> None:
    """A param that lllm decides itself is refused by name."""
    with pytest.raises(ConfigError, match=f"params can't set '{name}'"):
        payload(Request("m", (), params={name: 2}))


def test_an_answer_has_a_limit() -> None:
    """The limit that the API insists on is the caller's, or the default with room to think."""
    thinking = {"type": "enabled", "budget_tokens": 5000}
    assert payload(Request("m", ()))["max_tokens"] == DEFAULT_MAX_TOKENS
    assert payload(Request("m", (), params={"thinking": thinking}))["max_tokens"] == (
        DEFAULT_MAX_TOKENS + 5000
    )
    assert payload(Request("m", (), params={"max_tokens": 7}))["max_tokens"] == 7


def test_tool_choice_goes_only_with_tools() -> None:
    """The API refuses a tool choice where there are no tools; a param's stands otherwise."""
    one_by_one = {"type": "auto", "disable_parallel_tool_use": True}
    tools = (ToolDefinition("look", "", {}),)
    assert "tool_choice" not in payload(Request("m", (), tool_choice="none"))
    asked = Request("m", (), tools=tools, params={"tool_choice": one_by_one})
    assert payload(asked)["tool_choice"] == one_by_one


@pytest.mark.parametrize("arguments", ['{"broken', "[1]", "NaN", '{"a": NaN}', "[" * 100_000])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """Arguments that were no JSON object go back inside one, since the API takes nothing else."""
    (told,) = sent(Content("assistant", tool_calls=(ToolCall("toolu_1", "look", arguments),)))
    assert told["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_what_another_provider_thought_is_not_sent() -> None:
    """Thoughts and refusals without Anthropic's form: the first stay out, the second are texts."""
    (told,) = sent(Content("assistant", (Part("reasoning", "Hm."), Part("refusal", "No."))))
    assert told["content"] == [says("No.")]


# What is answered


def test_an_answer_is_read() -> None:
    """Text, finish, model, ids, tier and usage are the provider's."""
    assert read(message(says("Hello."))) == Answer(
        content=Content.of("assistant", "Hello."),
        finish="stop",
        finish_raw="end_turn",
        model=MODEL,
        response_id="msg_1",
        request_id="req_1",
        service_tier="standard",
        usage_raw=USAGE,
        usage=Usage(input=20, output=5),
    )


def test_the_fast_mode_is_a_tier() -> None:
    """An answer at the fast mode's price says so where prices are looked up by."""
    usage = {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "speed": "fast"}
    assert read(message(usage=usage)).service_tier == "fast"


def test_parts_of_an_answer() -> None:
    """Thoughts, citations and the provider's own tools keep their blocks as data."""
    content = read(message(THOUGHT, HIDDEN, SEARCH, FOUND, CITED, says("Bye."))).content
    assert content.text == "It rains.Bye."
    assert content.tool_calls == ()
    assert content.parts == (
        Part("reasoning", "Two and two.", THOUGHT),
        Part("reasoning", None, HIDDEN),
        Part("server_tool_use", data=SEARCH),
        Part("web_search_tool_result", data=FOUND),
        Part("text", "It rains.", CITED),
        Part("text", "Bye."),
    )


def test_parallel_tools() -> None:
    """Each wish for a tool is a call with its arguments as JSON text; a plain one is no part."""
    direct = wish(2, caller={"type": "direct"}, input={"ort": "Köln"})
    answered = read(message(says("I look."), wish(), direct, stop="tool_use"))
    assert answered.finish == "tool_calls"
    assert answered.content == Content(
        "assistant",
        (Part("text", "I look."),),
        (ToolCall("toolu_1", "look", '{"key": 1}'), ToolCall("toolu_2", "look", '{"ort": "Köln"}')),
    )


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "other"),
        ("something_new", "other"),
        (None, "other"),
    ],
)
def test_finish_in_our_words(raw: str | None, ours: Finish) -> None:
    """Why the model stopped is told in our words and in the provider's."""
    answered = read(message(says("x"), stop=raw))
    assert (answered.finish, answered.finish_raw) == (ours, raw)


def test_a_wish_for_tools_finishes_for_them() -> None:
    """An answer that asks for tools finishes for them, whatever the server calls it."""
    assert read(message(wish(), stop="end_turn")).finish == "tool_calls"


def test_a_refusal() -> None:
    """What the provider refuses keeps its text, says why, and does not say so to the model."""
    why = {"type": "refusal", "category": "bio", "explanation": "Too dangerous."}
    answered = read(message(says("First, "), stop="refusal", stop_details=why))
    assert answered.finish == "content_filter"
    assert answered.content.parts == (
        Part("text", "First, "),
        Part("refusal", "Too dangerous.", why),
    )
    assert sent(answered.content) == [{"role": "assistant", "content": [says("First, ")]}]
    assert read(message(stop="refusal")).content.parts == (Part("refusal"),)


def test_usage_in_our_terms() -> None:
    """Input includes what the cache gave and got, five minutes and an hour apart; raw stays raw."""
    raw = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
        "server_tool_use": {"web_search_requests": 1},
    }
    answered = read(message(usage=raw))
    assert answered.usage == Usage(160, 7, 100, cache_write_5m=20, cache_write_1h=30, reasoning=3)
    assert answered.usage_raw == raw


def test_an_answer_without_the_extras() -> None:
    """A server that sends no more than the content is understood."""
    assert read({"content": [says("Hi")]}) == Answer(
        Content.of("assistant", "Hi"), "other", "claude-haiku-4-5", request_id="req_1"
    )


@pytest.mark.parametrize("body", [None, [], {}, {"content": None}, {"content": "Hi"}])
def test_a_body_without_a_message(body: object) -> None:
    """What holds no message is a failure that may be tried again."""
    with pytest.raises(InvokeError, match="no message") as caught:
        read(body)
    assert caught.value.retryable
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize("block", [None, 7, {}, {"type": 7}, {"type": "text", "text": 7}])
def test_a_block_that_is_nonsense_says_nothing(block: object) -> None:
    """A block of no known form adds no text, and breaks nothing."""
    assert read({"content": [block, says("Hi")]}).content.text == "Hi"


# And back

_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_words, inner, max_size=2),
    max_leaves=4,
)
_inputs = st.dictionaries(_words, _values, max_size=3)
_callers = st.sampled_from([{"type": "code_execution_20260120", "tool_id": "srv_1"}])
_plain = st.builds(lambda said: says(said), _words)
_others = st.sampled_from([THOUGHT, HIDDEN, SEARCH, FOUND, CITED]) | _plain
_wishes = st.builds(
    lambda given, caller: {"input": given} | ({"caller": caller} if caller else {}),
    _inputs,
    st.none() | _callers,
)


@st.composite
def _contents(draw: st.DrawFn) -> list[JSON]:
    blocks = draw(st.lists(_others | _wishes, max_size=6))
    return [
        wish(number, **block) if "type" not in block else block
        for number, block in enumerate(blocks, 1)
    ]


@given(_contents())
@settings(max_examples=150, deadline=None)
def test_what_was_answered_goes_back_as_it_was(blocks: list[JSON]) -> None:
    """An answer that was recorded and read again is sent as the blocks that it came as, in their
    order."""
    content = read(message(*blocks, stop="tool_use")).content
    kept = msgspec.json.decode(codec.encode(content), type=Content)
    told = sent(Content.of("user", "Hi"), kept)
    assert [block for spoken in told[1:] for block in spoken["content"]] == blocks


# What comes in a stream


def taken(events: list[JSON]) -> tuple[MessagesStream, str]:
    stream = MessagesStream()
    return stream, "".join([stream.take(event) for event in events])


@given(_contents(), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_stream_gives_the_same_message(blocks: list[JSON], size: int) -> None:
    """The pieces of a stream come together to the message as it would have come at once."""
    body = message(*blocks, stop="tool_use")
    stream, said = taken(events_of(body, size))
    assert stream.complete
    assert stream.body() == body
    assert said == read(body).content.text


def test_a_stream_from_its_beginning() -> None:
    """It is nothing, then a message without content, then what came, and complete when it is told
    why it stopped."""
    events = events_of(message(says("Hello.")))
    stream = MessagesStream()
    assert stream.body() == {}
    assert stream.take(events[0]) == ""
    assert stream.body()["content"] == []
    stream, _ = taken(events[:3])
    assert not stream.begun
    stream, said = taken(events[:4])
    assert said == "Hel"
    assert read(stream.body()).content == Content.of("assistant", "Hel")
    assert (stream.begun, stream.complete) == (True, False)
    stream, _ = taken(events[:-1])
    assert stream.complete
    stream, _ = taken(events_of(message(wish()))[:3])
    assert stream.begun


def test_arguments_that_were_cut_off() -> None:
    """Arguments that end before their JSON does are kept as the text that came."""
    events = events_of(message(wish(input={"key": "value"})), size=8)
    stream, _ = taken(events[:4])
    assert read(stream.body()).content.tool_calls == (ToolCall("toolu_1", "look", '{"key": '),)


def test_usage_of_a_stream_is_what_was_told_last() -> None:
    """Totals of the end override those of the beginning; what is not told again stands."""
    cached = {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 9}}
    events = events_of(message(usage={"input_tokens": 20, "output_tokens": 5} | cached))
    events[-2]["usage"]["input_tokens"] = 30  # a search of the provider's own brought more
    stream, _ = taken(events)
    assert read(stream.body()).usage == Usage(39, 5, cache_write_1h=9)


def test_what_is_new_says_nothing() -> None:
    """Events of unknown kinds, or out of place, are passed over; a delta of an unknown kind stands
    under its kind in the block."""
    odd: list[JSON] = [
        {},
        {"type": "something_new", "text": "x"},
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_delta", "index": [], "delta": {}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "text": "x"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
        {"type": "message_delta", "delta": None, "usage": None},
    ]
    *events, stop = events_of(message(says("Hello.")))
    stream, said = taken([*events, *odd, stop])
    assert said == "Hello."
    assert stream.body() == message(says("Hello.") | {"new_delta": {"text": "x"}})


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        ("overloaded_error", 529, True),
        ("rate_limit_error", 429, True),
        ("api_error", 500, True),
        ("timeout_error", 504, True),
        ("invalid_request_error", 400, False),
        ("authentication_error", 401, False),
        ("billing_error", 402, False),
        ("something_new", 500, True),
    ],
)
def test_an_error_in_a_stream(code: str, status: int, retryable: bool) -> None:
    """An error in a stream is what it would have been as a status."""
    error = {"type": code, "message": "It broke."}
    with pytest.raises(InvokeError, match=rf"\({code}\): It broke\.") as caught:
        MessagesStream().take({"type": "error", "error": error})
    raised = caught.value
    assert (raised.code, raised.status, raised.retryable) == (code, status, retryable)


@pytest.mark.parametrize("usage", [None, {"input_tokens": 5, "output_tokens": 7}])
def test_what_holds_no_message_may_say_its_usage(usage: dict[str, int] | None) -> None:
    """What it used was used, message or not."""
    with pytest.raises(InvokeError, match="no message in it") as caught:
        answer({"usage": usage}, model="claude-haiku-4-5", request_id=None)
    assert caught.value.usage == (Usage(input=5, output=7) if usage else None)
