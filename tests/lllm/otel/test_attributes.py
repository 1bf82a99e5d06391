"""Attributes and messages: safe values, the important ones first, long ones cut and said to be."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lllm.events.model import Content, Part, ToolCall
from lllm.otel.attributes import MOST, cut, ordered
from lllm.otel.json_format import JsonFormat
from lllm.otel.message_attributes import input_messages, output_messages
from lllm.otel.protobuf_format import ProtobufFormat
from lllm.otel.records import SpanRecord
from lllm.otel.span_ids import SpanContext, parse_traceparent, span_id_of, trace_id_of
from tests.support.otlp_receiver import parse_json, read_spans, values

ANY_TEXT = st.text(st.characters(codec=None, categories=None, exclude_categories=()), max_size=40)
PLAIN = st.one_of(
    ANY_TEXT,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(ANY_TEXT, max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(ANY_TEXT, PLAIN, max_size=8))
def test_any_value_can_be_sent(small: dict[str, str | bool | int | float | list[str]]) -> None:
    """Both encodings have the same attributes, whatever they are: lone surrogates, huge numbers."""
    safe = {name.encode("utf-8", "backslashreplace").decode(): one for name, one in small.items()}
    found = ordered(safe).values
    record = SpanRecord(
        context=SpanContext(b"t" * 16, b"s" * 8), parent=None, name="n", kind=1, start=1, end=2,
        attributes=found,
    )  # fmt: skip
    span = Span.FromString(ProtobufFormat({}).span(record))
    sent = values(span.attributes)
    assert sent == {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
    form = JsonFormat({})
    message = parse_json(form.request("traces", [form.span(record)]))
    [read], _ = read_spans(message)  # type: ignore[arg-type]
    assert read.attributes == sent


@settings(max_examples=30, deadline=None)
@given(ANY_TEXT.map(lambda text: text * 9), st.integers(1, 60))
def test_a_long_text_says_what_is_missing(text: str, most: int) -> None:
    """What is kept is a beginning of the text, and the note has the number of the other bytes."""
    whole = text.encode("utf-8", "backslashreplace")
    found = cut(text, most)
    if len(whole) <= most:
        assert found.encode() == whole
        return
    kept, _, note = found.rpartition("… [lllm: ")
    assert whole.startswith(kept.encode())
    assert most - 4 < len(kept.encode()) <= most
    left = len(whole) - len(kept.encode())
    assert note == f"{left:,} of {len(whole):,} bytes left out]"


def test_tags_leave_room_for_the_important_ones() -> None:
    """Of 500 tags some are left out, and their number is said; texts are last."""
    tags = {f"lllm.tag.{number}": "x" for number in range(500)}
    found = ordered({"a": 1, "b": None, "c": 2}, tags=tags, texts={"long": "text", "none": None})
    names = list(found.values)
    assert len(names) == MOST
    assert names[:3] == ["a", "c", "lllm.attributes_left_out"]
    assert names[-1] == "long"
    assert found.dropped == found.values["lllm.attributes_left_out"] == 500 - (MOST - 4)
    few = ordered({"a": 1}, tags={"lllm.tag.x": "y"}, texts={})
    assert (few.values, few.dropped) == ({"a": 1, "lllm.tag.x": "y"}, 0)


CONTENTS = st.builds(
    Content,
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.lists(
        st.builds(
            Part,
            st.sampled_from(["text", "reasoning", "image", "refusal", "thinking"]),
            st.none() | ANY_TEXT.map(lambda text: text * 20),
            data=st.none() | st.just({"a": 1}),
            blob=st.none() | st.just("0f"),
        ),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(ToolCall, st.just("c1"), st.just("t"), ANY_TEXT), max_size=2).map(tuple),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=6), st.integers(200, 3_000))
def test_messages_are_json_of_a_bounded_length(messages: list[Content], most: int) -> None:
    """They are valid JSON; the newest is always there, and the first says how many are not."""
    text = input_messages(messages, most)
    found = json.loads(text)
    notes = [part["content"] for part in found[0]["parts"] if "content" in part]
    if len(found) < len(messages) or any("left out]" in str(note) for note in notes[:1]):
        assert len(text.encode()) < most * 8  # escapes of surrogates and cuts' notes on top
    assert found[-1]["role"] == messages[-1].role
    if any("earlier message" in str(note) for note in notes):
        [count] = [note for note in notes if "earlier message" in note]
        assert int(count.split()[1]) == len(messages) - (len(found) - 1)
    else:
        assert len(found) == len(messages)
    [answer] = json.loads(output_messages(messages[-1], "stop", most))
    assert answer["finish_reason"] == "stop"


def test_ids_are_those_of_the_session() -> None:
    """The same session has the same ids in every version: backends know them by these."""
    assert trace_id_of("01m845q0r4").hex() == "87731b280a48254e70aece82ac2d68ba"
    assert span_id_of("01m845q0r4", "model", 3).hex() == "1d79a3152fd14636"
    kinds = {span_id_of("s", "model", 1), span_id_of("s", "tool", 1), span_id_of("s", "agent", 1)}
    assert len(kinds | {span_id_of("s", "session"), span_id_of("s", "model", 2)}) == 5
    assert trace_id_of("\ud800")


def test_a_trace_context_is_read_as_w3c_has_it() -> None:
    """Zero ids, version ff and other texts are none; a later version may have more fields."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    found = SpanContext(bytes.fromhex(trace), bytes.fromhex(span))
    assert parse_traceparent(f"00-{trace}-{span}-01") == found
    assert parse_traceparent(f"cc-{trace}-{span}-01-more") == found
    for wrong in (None, "", "x", f"ff-{trace}-{span}-01", f"00-{'0' * 32}-{span}-01",
                  f"00-{trace}-{'0' * 16}-01", f"00-{trace.upper()}-{span}-01"):  # fmt: skip
        assert parse_traceparent(wrong) is None
