"""Server-sent events, as the HTML standard reads them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lllm.invokers.http.sse import Decoder

ODD = "h\u00e9\u2028\u0085\x0b\x1c\U0001f600"  # what str.splitlines would cut


def read(*chunks: bytes) -> list[str]:
    decoder = Decoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\r\n\ndata: b\n\r\n", ["a", "b"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data:a\ndata:  b\n\n", ["a\n b"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b": a comment\n\n:data: no\ndata: a\n: more\n\n", ["a"]),
        (b"event: ping\nid: 1\nretry: 5\n\n", []),
        (b"event: delta\ndata: {}\n\n", ["{}"]),
        (b"datum: a\n data: b\nDATA: c\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
        (b"data: \xef\xbb\xbfa\n\n", ["\ufeffa"]),
        (f"data: {ODD}\n\n".encode(), [ODD]),
        (b"data: \xff\xfe\n\n", ["\ufffd\ufffd"]),
        (b"data: a: b\n\n", ["a: b"]),
        (b"data: [DONE]\n\n", ["[DONE]"]),
        (b"data: a\n\ndata: never ended\n", ["a"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
    ids=[
        "LF", "CRLF", "CR", "mixed", "lines", "one space", "empty", "comments", "other fields",
        "names", "unknown fields", "BOM", "BOM later", "other line ends", "no UTF-8", "colon",
        "done", "cut", "blank", "nothing",
    ],
)  # fmt: skip
def test_events_are_those_of_the_standard(body: bytes, events: list[str]) -> None:
    """A body gives the data of its whole events, at once or byte by byte."""
    assert read(body) == events
    assert read(*(body[place : place + 1] for place in range(len(body)))) == events


def test_an_event_is_given_when_its_blank_line_begins() -> None:
    """A carriage return ends a line at once, without waiting for the line feed after it."""
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == ["a"]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\n") == []
    assert decoder.feed(b"\n") == ["b"]


def test_a_line_feed_is_passed_over_only_right_behind_its_carriage_return() -> None:
    """A chunk that ends within a line, behind one that a CR ended, has that CR far behind it."""
    assert read(b"data: a\r\rdata: b", b"\n\n") == ["a", "b"]
    assert read(b"data: a\r\r", b"", b"\ndata: b\r", b"\n\n") == ["a", "b"]


def by_the_standard(body: bytes) -> list[str]:
    """What the HTML standard reads, by its own grammar and in one piece: the body is decoded, then
    cut into lines, then into events."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\n|\r", text)
    events: list[str] = []
    data = ""
    for line in lines:
        if not line and data:
            events.append(data.removesuffix("\n"))
            data = ""
        name, _, value = line.partition(":")
        if name == "data":
            data += value.removeprefix(" ") + "\n"
    return events


# What a boundary can fall into: line ends, the mark, a field's name and its colon, a character.
PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\r", b"\n\n", b"\r\n\r\n"),
        *(
            b"\xef\xbb\xbf",
            b"\xef\xbb",
            b"\xbf",
            b"\xe2\x82\xac",
            b"\xe2",
            b"\xf0\x9f\x98\x80",
            b"\xc2\x85",
        ),
        *(
            b"data",
            b"data:",
            b"data: ",
            b"data: a",
            b"da",
            b":",
            b" ",
            b": note",
            b"event: x",
            b"id",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=3), max_size=25).map(b"".join), st.data())
@example(b"data: a\r\rdata: b\n\n", None)
@example(b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\r\ndata: c\n\r\n", None)
def test_cuts_change_nothing(body: bytes, data: st.DataObject | None) -> None:
    """However the bytes are cut into chunks, empty ones among them, the events of the standard come
    out: in one piece, cut in two at any place, cut at many places, byte by byte."""
    expected = by_the_standard(body)
    assert read(body) == expected
    for place in range(len(body) + 1):
        assert read(body[:place], body[place:]) == expected
    assert read(*(body[place : place + 1] for place in range(len(body)))) == expected
    if data is not None:
        cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12).map(sorted))
        assert read(*(body[a:b] for a, b in pairwise([0, *cuts, len(body)]))) == expected
