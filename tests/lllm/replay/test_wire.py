"""What is built of an answer is read as that answer, whole and as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.events.model import Content
from lllm.instrumentation.embeddings import EMBEDDINGS
from lllm.instrumentation.legacy_completions import COMPLETIONS
from lllm.invokers import Answer
from lllm.invokers.dialects.catalog import CHAT, MESSAGES, RESPONSES
from lllm.invokers.dialects.dialect import Dialect
from lllm.replay.wire import chat_completions, completions_and_embeddings, messages, responses

JSON = dict[str, Any]
SOME = settings(max_examples=80, deadline=None)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
WORDS = st.text("abc de\n€", min_size=1, max_size=120)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | WORDS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(["q", "n", "ä"]), VALUES, max_size=2)
NAMES = st.sampled_from(["lookup", "add"])
USAGES = st.fixed_dictionaries({"prompt_tokens": st.just(3), "completion_tokens": st.just(4)})


def lists(of: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, max_size=most)


def fields(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({}, optional=optional)


def merged(*parts: st.SearchStrategy[JSON]) -> st.SearchStrategy[JSON]:
    return st.tuples(*parts).map(lambda found: {key: one[key] for one in found for key in one})


def read(dialect: Dialect, body: object) -> Answer:
    return dialect.answer(json.loads(json.dumps(body)), model="asked", request_id="req_1")


def streamed(dialect: Dialect, events: Iterable[object]) -> tuple[Answer, str]:
    """The answer that a stream holds, and the text that its reader sees come."""
    assembly = dialect.assembly()
    text = "".join(assembly.take(json.loads(json.dumps(event))) for event in events)
    assert assembly.complete
    return read(dialect, assembly.body()), text


def holds(dialect: Dialect, answer: Answer, whole: object, events: Iterable[object]) -> None:
    assert read(dialect, whole) == answer
    again, text = streamed(dialect, events)
    assert again == answer
    assert text == answer.content.text


# -- Chat Completions

CALLS = lists(
    st.builds(
        lambda number, name, text: {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": text},
        },
        st.integers(1, 99),
        NAMES,
        OBJECTS.map(json.dumps) | TEXTS,
    )
)
CHAT_MESSAGES = merged(
    st.just({"role": "assistant"}),
    fields(
        content=WORDS | st.none(),
        reasoning_content=WORDS,
        refusal=WORDS,
        tool_calls=CALLS,
        annotations=st.lists(OBJECTS, min_size=1, max_size=2),
        audio=st.just({"id": "a", "data": "aGk=", "transcript": "hi", "expires_at": 5}),
        reasoning_details=st.lists(
            st.builds(lambda text: {"type": "reasoning.text", "text": text}, WORDS),
            min_size=1,
            max_size=1,
        ),
    ),
)


def choices(least: int, most: int) -> st.SearchStrategy[list[JSON]]:
    choice = merged(
        st.builds(lambda message: {"message": message}, CHAT_MESSAGES),
        st.builds(
            lambda finish: {"finish_reason": finish},
            st.sampled_from(["stop", "length", "tool_calls", "content_filter", "odd"]),
        ),
        fields(logprobs=st.just({"content": [{"token": "a", "logprob": -0.5}]})),
    )
    numbered = st.lists(choice, min_size=least, max_size=most)
    return numbered.map(lambda found: [{"index": n} | one for n, one in enumerate(found)])


CHAT_HEADS = merged(
    st.just({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt", "created": 5}),
    fields(
        usage=USAGES,
        service_tier=st.just("flex"),
        system_fingerprint=st.just("fp"),
        provider=st.just("Someone"),
        citations=st.just(["https://a"]),
    ),
)


@SOME
@given(CHAT_HEADS, choices(1, 1))
def test_chat(head: JSON, found: list[JSON]) -> None:
    """A chat completion is read as the recorded one, whole and streamed."""
    answer = read(CHAT, head | {"choices": found})
    holds(
        CHAT,
        answer,
        chat_completions.body(answer, created=5),
        chat_completions.events(answer, created=5),
    )


@SOME
@given(CHAT_HEADS, choices(2, 3))
def test_several_choices(head: JSON, found: list[JSON]) -> None:
    """The other choices of `n=3` come back, too."""
    answer = read(CHAT, head | {"choices": found})
    assert read(CHAT, chat_completions.body(answer, created=5)) == answer
    _, text = streamed(CHAT, chat_completions.events(answer, created=5))
    assert text == answer.content.text


def test_a_call_of_the_older_form() -> None:
    """A `function_call` comes back as one."""
    message = {"role": "assistant", "function_call": {"name": "lookup", "arguments": "{}"}}
    choice = {"index": 0, "message": message, "finish_reason": "function_call"}
    answer = read(CHAT, {"id": "c", "model": "gpt", "choices": [choice]})
    built = chat_completions.body(answer, created=5)
    assert built["choices"][0]["message"]["function_call"]["name"] == "lookup"  # type: ignore[index]
    holds(CHAT, answer, built, chat_completions.events(answer, created=5))


def test_pieces_of_a_text_that_thinks() -> None:
    """Pieces that are neither text nor thought stay pieces of the message."""
    pieces = [{"type": "text", "text": "So."}, {"type": "reference", "reference_ids": [1]}]
    choice = {"index": 0, "message": {"content": pieces}, "finish_reason": "stop"}
    answer = read(CHAT, {"id": "c", "model": "m", "choices": [choice]})
    holds(
        CHAT,
        answer,
        chat_completions.body(answer, created=5),
        chat_completions.events(answer, created=5),
    )


# -- Messages

THOUGHTS = st.builds(
    lambda text: {"type": "thinking", "thinking": text, "signature": "sig=="}, TEXTS
)
BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, WORDS),
    st.builds(
        lambda text: {
            "type": "text",
            "text": text,
            "citations": [{"type": "c", "cited_text": "x"}],
        },
        WORDS,
    ),
    THOUGHTS,
    st.just({"type": "redacted_thinking", "data": "opaque"}),
    st.builds(
        lambda given: {"type": "server_tool_use", "id": "s1", "name": "web", "input": given},
        OBJECTS,
    ),
    st.just({"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "u"}]}),
)
WISHES = st.builds(
    lambda number, name, given: {
        "type": "tool_use",
        "id": f"toolu_{number}",
        "name": name,
        "input": given,
    },
    st.integers(1, 99),
    NAMES,
    OBJECTS,
)
MESSAGE_HEADS = merged(
    st.just({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}),
    st.sampled_from(
        [
            {"stop_reason": "end_turn"},
            {"stop_reason": "tool_use"},
            {"stop_reason": "pause_turn"},
            {"stop_reason": "refusal"},
            {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "No."}},
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        ]
    ),
    st.sampled_from(
        [
            {"usage": {"input_tokens": 3, "output_tokens": 7, "service_tier": "standard"}},
            {"usage": {"input_tokens": 3, "output_tokens": 7, "speed": "fast"}},
            {"usage": {"output_tokens": 7, "server_tool_use": {"web_search_requests": 1}}},
        ]
    ),
    fields(container=st.just({"id": "c"})),
    fields(context_management=st.just({"applied_edits": [{"type": "clear"}]})),
)


@SOME
@given(MESSAGE_HEADS, lists(BLOCKS | WISHES), lists(WISHES))
def test_messages(head: JSON, blocks: list[JSON], wishes: list[JSON]) -> None:
    """A message is read as the recorded one, with its thoughts and what signs them."""
    answer = read(MESSAGES, head | {"content": [*blocks, *wishes]})
    holds(MESSAGES, answer, messages.body(answer), messages.events(answer))


@SOME
@given(TEXTS)
def test_arguments_that_are_no_object(text: str) -> None:
    """What a model calls a tool with may be no JSON, and stays what it is."""
    wish = {"type": "tool_use", "id": "t", "name": "add", "input": text}
    answer = read(MESSAGES, {"id": "m", "content": [wish], "stop_reason": "tool_use"})
    assert read(MESSAGES, messages.body(answer)) == answer


# -- Responses

ITEMS = st.one_of(
    st.builds(
        lambda texts, more: (
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": one, "annotations": []} for one in texts
                ],
            }
            | more
        ),
        st.lists(WORDS, min_size=1, max_size=2),
        st.sampled_from([{}, {"phase": "commentary"}]),
    ),
    st.builds(
        lambda text, no: {
            "id": "msg_2",
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": text, "annotations": [{"type": "url_citation"}]},
                {"type": "refusal", "refusal": no},
            ],
        },
        TEXTS,
        TEXTS,
    ),
    st.builds(
        lambda no: {"type": "message", "content": [{"type": "refusal", "refusal": no}]}, WORDS
    ),
    st.builds(
        lambda texts: {
            "id": "rs_1",
            "type": "reasoning",
            "encrypted_content": "gAAA",
            "summary": [{"type": "summary_text", "text": one} for one in texts],
        },
        st.lists(WORDS, max_size=2),
    ),
    st.just({"id": "ws_1", "type": "web_search_call", "status": "completed"}),
)
FUNCTIONS = st.builds(
    lambda number, name, text, more: (
        {
            "id": f"fc_{number}",
            "type": "function_call",
            "call_id": f"call_{number}",
            "name": name,
            "arguments": text,
        }
        | more
    ),
    st.integers(1, 99),
    NAMES,
    OBJECTS.map(json.dumps) | TEXTS,
    st.sampled_from([{}, {}, {"namespace": "mcp"}]),
) | st.just(
    {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_0", "name": "sh", "input": "ls"}
)
RESPONSE_HEADS = merged(
    st.just({"id": "resp_1", "object": "response", "created_at": 5, "model": "gpt"}),
    st.sampled_from(
        [
            {"status": "completed"},
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        ]
    ),
    fields(
        usage=st.just({"input_tokens": 3, "output_tokens": 4}),
        service_tier=st.just("flex"),
        conversation=st.just({"id": "conv_1"}),
    ),
)


@SOME
@given(RESPONSE_HEADS, lists(ITEMS | FUNCTIONS), lists(FUNCTIONS))
def test_responses(head: JSON, output: list[JSON], calls: list[JSON]) -> None:
    """A response is read as the recorded one, with its reasoning, encrypted or not."""
    answer = read(RESPONSES, head | {"output": [*output, *calls]})
    whole = responses.body(answer, created=5, asked={"tools": [], "store": False})
    events = responses.events(answer, created=5, asked={})
    assert read(RESPONSES, whole) == answer
    again, _ = streamed(RESPONSES, events)
    assert again == answer


@SOME
@given(RESPONSE_HEADS, lists(ITEMS))
def test_the_pieces_of_a_response(head: JSON, output: list[JSON]) -> None:
    """The text that comes in pieces is the recorded text, though no last event says it."""
    answer = read(RESPONSES, head | {"output": output})
    assembly = RESPONSES.assembly()
    events = responses.events(answer, created=5, asked={}, finished=False)
    text = "".join(assembly.take(event) for event in events)
    assert text == answer.content.text


# -- the others


@SOME
@given(WORDS, st.sampled_from(["stop", "length"]))
def test_completions(text: str, finish: str) -> None:
    """A completion of the older API is read as the recorded one."""
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    answer = read(COMPLETIONS, {"id": "c", "model": "m", "choices": [choice], "usage": usage})
    holds(
        COMPLETIONS,
        answer,
        completions_and_embeddings.completion(answer, created=5),
        completions_and_embeddings.completion_events(answer, created=5),
    )


@SOME
@given(st.lists(st.just("AACAPw==") | st.just([0.5, 1.5]), max_size=3))
def test_embeddings(vectors: list[object]) -> None:
    """Vectors come back as they were sent, in their order."""
    data = [{"index": index, "embedding": one} for index, one in enumerate(vectors)]
    answer = read(EMBEDDINGS, {"data": data, "model": "e", "usage": {"prompt_tokens": 1}})
    assert read(EMBEDDINGS, completions_and_embeddings.embeddings(answer)) == answer


def test_an_answer_that_broke_off() -> None:
    """Of an answer that broke off the text comes, and nothing that says it was whole."""
    answer = Answer(Content.of("assistant", "So far"), "other", "m", usage_raw={"output_tokens": 1})
    made: list[tuple[Dialect, Callable[[], Iterable[JSON]]]] = [
        (CHAT, lambda: chat_completions.events(answer, created=5, finished=False)),
        (MESSAGES, lambda: messages.events(answer, finished=False)),
        (RESPONSES, lambda: responses.events(answer, created=5, asked={}, finished=False)),
        (
            COMPLETIONS,
            lambda: completions_and_embeddings.completion_events(answer, created=5, finished=False),
        ),
    ]
    for dialect, events in made:
        assembly = dialect.assembly()
        assert "".join(assembly.take(event) for event in events()) == "So far"
        assert assembly.begun
        assert not assembly.complete
