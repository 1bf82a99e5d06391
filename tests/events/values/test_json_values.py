"""Whatever a user passes becomes JSON that says all of it, and the value again."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import inspect
import math
import sys
import uuid
import zoneinfo
from collections import OrderedDict, deque
from typing import NamedTuple

import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lllm.events import codec
from lllm.events.values.json_values import MARK, from_plain, to_plain

# Surrogates, too: alone, and side by side.
TEXT = st.text(st.characters() | st.sampled_from("\ud83d\ude00"), max_size=20)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**60, 2**70),
    st.floats(),
    TEXT,
    st.binary(max_size=20),
    st.datetimes(timezones=st.none() | OFFSETS),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
)
HASHABLE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
KEYS = TEXT | st.just(MARK) | HASHABLE
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.binary(max_size=20).map(bytearray),
        st.dictionaries(TEXT, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=10,
)


def same(a: object, b: object) -> bool:
    """Equal, of the same types all through; NaN is NaN, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset) and isinstance(b, set | frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, dict) and isinstance(b, dict):
        return same(list(a.items()), list(b.items()))
    return a == b


def written_and_read(value: object) -> object:
    """A plain form, by way of the bytes that it is stored as."""
    return codec.values(codec.encode(value))


@example({"\ud83d\ude00": "\ud83d\ude00"})
@given(VALUES)
def test_round_trip(value: object) -> None:
    """A value of Python's own types comes back from the log as it was, types and all."""
    assert same(from_plain(written_and_read(to_plain(value))), value)


@given(VALUES)
def test_is_json(value: object) -> None:
    """A plain form is JSON: it is read exactly as it was written."""
    plain = to_plain(value)
    assert same(written_and_read(plain), plain)


@given(VALUES)
def test_marks_are_data_too(value: object) -> None:
    """A plain form can itself be passed by a user, and comes back as the user passed it."""
    assert same(from_plain(written_and_read(to_plain(to_plain(value)))), to_plain(value))


@pytest.mark.parametrize("value", ["text", 1, -1.5, True, None, [1, ["a"]], {"a": {"b": None}}])
def test_json_is_left_alone(value: object) -> None:
    """What JSON can say itself is written without any mark."""
    assert same(to_plain(value), value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (math.nan, {MARK: "float", "value": "nan"}),
        (-math.inf, {MARK: "float", "value": "-inf"}),
        (b"\x00\xff", {MARK: "bytes", "base64": "AP8="}),
        ((1, "a"), {MARK: "tuple", "items": [1, "a"]}),
        (2**64, {MARK: "int", "value": "0x10000000000000000"}),
        ("\ud83d\ude00", {MARK: "str", "base64": "7aC97biA"}),
        ({1: "a"}, {MARK: "dict", "items": [[1, "a"]]}),
        ({MARK: "tuple"}, {MARK: "dict", "items": [[MARK, "tuple"]]}),
        (dt.date(2024, 2, 29), {MARK: "date", "value": "2024-02-29"}),
        (decimal.Decimal("1.10"), {MARK: "decimal", "value": "1.10"}),
        (uuid.UUID(int=1), {MARK: "uuid", "value": "00000000-0000-0000-0000-000000000001"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_marks(value: object, plain: object) -> None:
    """What JSON can't say is a marked object; these forms stand in stored logs and never change."""
    assert to_plain(value) == plain


@pytest.mark.parametrize(
    "value",
    [10**5_000, -(10**5_000), 2**64, -(2**63) - 1],
    ids=["huge", "huge and negative", "65 bits", "65 bits, negative"],
)
def test_huge_integers(value: int) -> None:
    """An integer that JSON readers don't take comes back all the same."""
    assert from_plain(written_and_read(to_plain({"n": [value]}))) == {"n": [value]}


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Shape(msgspec.Struct):
    corners: list[Point]


class Answer(pydantic.BaseModel):
    text: str
    when: dt.date


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, (2,)), {"x": 1, "y": {MARK: "tuple", "items": [2]}}),
        (Shape([Point(1, 2)]), {"corners": [{"x": 1, "y": 2}]}),
        (
            Answer(text="yes", when=dt.date(2024, 1, 1)),
            {"text": "yes", "when": {MARK: "date", "value": "2024-01-01"}},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fields(value: object, plain: object) -> None:
    """A dataclass, Struct or pydantic model is written as its fields."""
    assert to_plain(value) == plain


class Pair(NamedTuple):
    a: int
    b: object


class Rows(list[object]):
    pass


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class OddRepr:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value] # on purpose


class Odd(str):
    """A string that is not quite one."""


class SubclassRepr:
    def __repr__(self) -> str:
        return Odd("odd")


class SurrogateRepr:
    def __repr__(self) -> str:
        return "\ud83d\ude00 \udcff"


class BadDump:
    def model_dump(self, *, mode: str = "") -> dict[str, object]:
        raise ValueError(mode)


@dataclasses.dataclass
class Missing:
    x: int

    def __post_init__(self) -> None:
        del self.x


class BadName(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override] # on purpose
        raise RuntimeError("no")


class Nameless(metaclass=BadName):
    pass


AWKWARD = [
    NoRepr(), OddRepr(), SubclassRepr(), SurrogateRepr(), BadDump(), Missing(1),
    Nameless(), Nameless, object(), type, print, iter([]),
    Ellipsis, msgspec.UNSET, NotImplemented, ValueError("\udcff"),
]  # fmt: skip


@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: type(value).__name__)
def test_no_faithful_form(value: object) -> None:
    """What has no faithful form is a marked repr, or says why there is none, wherever it stands;
    what stands beside it is not harmed."""
    holder = {"beside": 1, "value": [value], 5: (value,), "after": (b"x",)}
    plain = written_and_read(to_plain(holder))
    back = from_plain(plain)
    assert isinstance(back, dict)
    assert (back["beside"], back["after"]) == (1, (b"x",))
    mark = back["value"][0]
    assert mark[MARK] == "repr"
    assert isinstance(mark["type"], str)
    assert ("repr" in mark) != ("error" in mark)


def test_named_zone() -> None:
    """Of a named time zone the offset at that time is written beside the name."""
    moment = dt.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("UTC"))
    back = from_plain(written_and_read(to_plain(moment)))
    assert isinstance(back, dt.datetime)
    assert back == moment
    assert back.utcoffset() == dt.timedelta(0)
    assert back.tzinfo == moment.tzinfo


def test_cycles() -> None:
    """A value that holds itself is marked where it comes round; a short one that is merely there
    twice is written twice."""
    cycle: list[object] = [1]
    cycle.append({"again": cycle})
    assert to_plain(cycle) == [1, {"again": {MARK: "cycle", "type": "builtins.list"}}]
    shared = [1]
    assert to_plain([shared, shared]) == [[1], [1]]
    point = Point(1, None)
    point.y = point
    assert codec.encode(to_plain(point))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: {"a": inner},
        lambda inner: {1: inner},
        lambda inner: frozenset([inner]),
        lambda inner: Point(1, inner),
        lambda inner: OrderedDict({1: 2, 3: inner}),
        lambda inner: deque([inner]),
        lambda inner: Pair(1, inner),
        lambda inner: Rows([inner]),
    ],
    ids=["list", "tuple", "dict", "pairs", "frozenset", "dataclass", "ordered", "deque", "pair",
         "subclass"],
)  # fmt: skip
@pytest.mark.parametrize("above", [0, 1, 2, 3])
def test_deep(wrap: object, above: int) -> None:
    """A value nested beyond all measure is written in parts, none of which is too deep for the
    readers of JSON, and comes back whole."""
    assert callable(wrap)
    value: object = "bottom"
    for _ in range(1_000):
        value = wrap(value)
    for _ in range(above):
        value = [value]
    plain = to_plain(value)
    data = codec.encode({"task": plain})
    assert codec.values(data) == {"task": plain}
    assert b'"deep"' not in data
    assert b'"repr"' not in data
    back = from_plain(written_and_read(plain))
    for _ in range(1_000 + above):
        assert isinstance(back, (list, tuple, dict, frozenset, deque))
        assert not isinstance(back, dict) or MARK not in back
        back = list(back.values() if isinstance(back, dict) else back)[-1]
    assert back == "bottom"


def at_depth(frames: int, value: object) -> object:
    """The form of a value, made by a function that many others wait for."""
    return at_depth(frames - 1, value) if frames else to_plain(value)


@pytest.mark.parametrize("left", [150, 250, 350])
def test_with_little_stack(left: int) -> None:
    """A value is written whole where its program has used up most of the stack."""
    value: object = "bottom"
    for _ in range(99):
        value = ({"a": value},)
    used = len(inspect.stack(0))
    plain = at_depth(sys.getrecursionlimit() - used - left, [value, {"b": 1}])
    assert from_plain(written_and_read(plain)) == [value, {"b": 1}]


@dataclasses.dataclass
class EndlessField:
    x: int

    def __getattribute__(self, name: str) -> object:
        return getattr(self, name + "x")


def test_what_recurs_without_end() -> None:
    """A value whose own code recurs without end is a marked repr; what is beside it is whole."""
    back = from_plain(written_and_read(to_plain([EndlessField(1), (1, 2)])))
    assert isinstance(back, list)
    assert back[0][MARK] == "repr"
    assert back[1] == (1, 2)


@pytest.mark.parametrize("depth", [10, 60])
def test_not_too_deep(depth: int) -> None:
    """Nesting that people really use is kept."""
    value: object = "bottom"
    for _ in range(depth):
        value = {1: [(value,)]} if depth < 20 else [value]
    assert from_plain(written_and_read(to_plain(value))) == value


@pytest.mark.parametrize(
    "value",
    [
        {MARK: "tuple"},
        {MARK: "tuple", "items": 5},
        {MARK: "dict", "items": [[[], 1]]},
        {MARK: "set", "items": [[]]},
        {MARK: "bytes", "base64": "?"},
        {MARK: "bytes", "base64": 5},
        {MARK: "datetime", "value": "yesterday"},
        {MARK: "decimal", "value": "many"},
        {MARK: "int", "value": "many"},
        {MARK: "from the future", "value": 1},
        {MARK: ["list"]},
        {MARK: None},
    ],
    ids=str,
)
def test_marks_that_nobody_wrote(value: object) -> None:
    """A mark that is not understood is shown as it is, and never an error."""
    assert from_plain([value]) == [value]
