"""Server-sent events, as the HTML standard reads them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.invokers.sse import Decoder

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


LINES = st.sampled_from(
    [
        b"",
        b"data",
        b"data: a",
        b"data:\xe2\x82\xac \xf0\x9f\x98\x80",
        b"data: \xe2",
        b": note",
        b"event: x",
        b"\xef\xbb\xbfdata: c",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.lists(st.integers(0, 200), max_size=20))
def test_cuts_change_nothing(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the bytes are cut into chunks, the same events come out."""
    body = b"".join(line + end for line, end in lines)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(places)]
    assert read(*chunks) == read(body)
