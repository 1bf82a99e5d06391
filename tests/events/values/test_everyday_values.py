"""What programs pass every day comes back from the log as it was, or as a stand-in that says what
it was; and a model is told the same."""

from __future__ import annotations

import array
import copy
import dataclasses
import datetime as dt
import enum
import io
import ipaddress
import json
import pickle
import re
import subprocess
import sys
import time
import zoneinfo
from collections import (
    ChainMap,
    Counter,
    OrderedDict,
    UserDict,
    UserList,
    UserString,
    defaultdict,
    deque,
    namedtuple,
)
from collections.abc import Iterator
from decimal import Decimal
from email.message import EmailMessage
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.events import codec
from lllm.events.values.arrays import HEAD, MOST_CELLS
from lllm.events.values.json_values import MARK, from_plain, to_plain
from lllm.events.values.stand_ins import StandIn
from lllm.tools.results import result_text


def loaded(value: object) -> object:
    """A value, written and read."""
    return from_plain(codec.values(codec.encode(to_plain(value))))


# -- standard types

TEXT_CODE = "u" if sys.version_info < (3, 13) else "w"  # of an array of characters
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.binary(max_size=5), st.timedeltas(), st.fractions(), st.dates(), st.datetimes(),
    st.decimals(allow_nan=False), st.uuids(), st.complex_numbers(allow_nan=False),
    st.text("ab/.", max_size=5).map(Path), st.text("ab\\:", max_size=5).map(PureWindowsPath),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.ip_addresses(), st.ip_addresses().map(ipaddress.ip_network),
    st.ip_addresses().map(ipaddress.ip_interface),
    st.sampled_from([re.compile(r"a(?P<n>b)+", re.I | re.S), re.compile(b"\xff", re.M), dt.UTC,
                     dt.timezone(dt.timedelta(minutes=-90)), dt.timezone(dt.timedelta(0), "X"),
                     *map(ZoneInfo, ("Asia/Kathmandu", "Europe/Berlin"))]),
    st.datetimes(timezones=st.timezone_keys(allow_prefix=False).map(ZoneInfo)),
    st.times(timezones=st.just(ZoneInfo("Europe/Berlin"))),
    st.times().map(lambda time: time.replace(fold=1)),
    st.lists(st.floats(allow_nan=False)).map(lambda items: array.array("d", items)),
    st.text(max_size=3).map(lambda text: array.array(TEXT_CODE, text)),
    st.binary(max_size=5).map(memoryview),
    st.lists(st.integers(-9, 9), min_size=1).map(lambda items: memoryview(array.array("q", items))),
    st.text(max_size=3).map(UserString),
)  # fmt: skip
KEYS = st.text(max_size=3) | st.integers() | st.tuples(st.integers(), st.dates()) | st.timedeltas()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(lambda items: deque(items, 5)),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
        st.dictionaries(KEYS, inner, max_size=3).map(MappingProxyType),
        st.dictionaries(st.sampled_from("abc"), inner).map(lambda d: SimpleNamespace(**d)),
        st.dictionaries(KEYS, st.integers(), max_size=3).map(Counter),
        st.dictionaries(KEYS, st.lists(inner, max_size=2)).map(lambda d: defaultdict(list, d)),
        st.frozensets(KEYS, max_size=3),
        st.builds(slice, inner, inner, inner),
        st.lists(st.dictionaries(KEYS, inner, max_size=2), max_size=3).map(lambda d: ChainMap(*d)),
        st.dictionaries(KEYS, inner, max_size=3).map(UserDict),
        st.lists(inner, max_size=3).map(UserList),
    ),
    max_leaves=8,
)


@given(VALUES)
def test_standard_values_come_back(value: object) -> None:
    """A value of the standard library's types comes back equal and of the same type, however such
    values are nested."""
    back = loaded(value)
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, dt.datetime | dt.time):
        assert (back.tzinfo, back.fold) == (value.tzinfo, value.fold)  # type: ignore[attr-defined] # the same type
    assert _shown(back) == _shown(value) or isinstance(
        value, (frozenset, list, tuple, dict, deque, slice, ChainMap, UserDict, UserList)
    )


def _shown(value: object) -> str:
    """Its repr, without the places of views of memory."""
    return re.sub("0x[0-9a-f]+", "", repr(value))


@given(VALUES)
def test_a_value_is_shared_and_nested(value: object) -> None:
    """So it does when it is met many times, and far down."""
    deep: object = value
    for _ in range(150):
        deep = [deep]
    back = loaded({"many": [value] * 50, "deep": deep})
    assert isinstance(back, dict)
    assert back["many"] == [value] * 50
    assert back["deep"] == deep


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (dt.timedelta(days=-1, seconds=5), {MARK: "timedelta", "value": "-PT86395S"}),
        (Path("a/b"), {MARK: type(Path()).__name__, "value": "a/b"}),
        (PurePosixPath("a"), {MARK: "PurePosixPath", "value": "a"}),
        (Fraction(1, 3), {MARK: "fraction", "value": "1/3"}),
        (range(3), {MARK: "range", "start": 0, "stop": 3, "step": 1}),
        (deque([1], 2), {MARK: "deque", "items": [1], "maxlen": 2}),
        (OrderedDict(a=1), {MARK: "OrderedDict", "items": [["a", 1]]}),
        (Counter("aa"), {MARK: "Counter", "items": [["a", 2]]}),
        (defaultdict(int, a=1), {MARK: "defaultdict", "items": [["a", 1]], "factory": "int"}),
        (MappingProxyType({"a": 1}), {MARK: "mappingproxy", "items": [["a", 1]]}),
        (SimpleNamespace(a=1), {MARK: "namespace", "items": [["a", 1]]}),
        (ipaddress.ip_address("::1"), {MARK: "IPv6Address", "value": "::1"}),
        (ipaddress.ip_network("10.0.0.0/8"), {MARK: "IPv4Network", "value": "10.0.0.0/8"}),
        (re.compile("a", re.I), {MARK: "pattern", "pattern": "a", "flags": 34}),
        (slice(1, None), {MARK: "slice", "start": 1, "stop": None, "step": None}),
        (array.array("i", [1]), {MARK: "array", "typecode": "i", "items": [1]}),
        (
            memoryview(b"a"),
            {
                MARK: "memoryview",
                "format": "B",
                "shape": [1],
                "data": {MARK: "bytes", "base64": "YQ=="},
            },
        ),
        (
            memoryview(array.array("i", range(4))).cast("B").cast("i", [2, 2]),
            {MARK: "memoryview", "format": "i", "shape": [2, 2], "items": [0, 1, 2, 3]},
        ),
        (ChainMap({"a": 1}), {MARK: "ChainMap", "maps": [{"a": 1}]}),
        (UserDict(a=1), {MARK: "UserDict", "data": {"a": 1}}),
        (UserList([1]), {MARK: "UserList", "data": [1]}),
        (UserString("x"), {MARK: "UserString", "data": "x"}),
        (
            dt.timezone(dt.timedelta(hours=1), "A"),
            {MARK: "timezone", "offset": {MARK: "timedelta", "value": "PT3600S"}, "name": "A"},
        ),
        (ZoneInfo("UTC"), {MARK: "ZoneInfo", "key": "UTC"}),
        (
            dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            {
                MARK: "datetime",
                "value": "2026-10-25T02:30:00+01:00",
                "key": "Europe/Berlin",
                "fold": 1,
            },
        ),
        (
            dt.datetime(2026, 10, 25, tzinfo=dt.UTC),
            {MARK: "datetime", "value": "2026-10-25T00:00:00+00:00"},
        ),
        (
            dt.time(2, tzinfo=ZoneInfo("UTC")),
            {MARK: "time", "value": "02:00:00+00:00", "key": "UTC"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_marks(value: object, plain: object) -> None:
    """These forms stand in stored logs and never change."""
    assert to_plain(value) == plain
    assert loaded(value) == value


@pytest.mark.parametrize("key", ["Europe/Nowhere", "../x", "decoy", 5, None, "Europe/Berlin"])
def test_a_time_of_a_zone_that_is_not_here(key: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its offset, also where the machine's database gives the zone another one; no module
    and no file is looked for that a log names."""
    monkeypatch.setattr(zoneinfo, "ZoneInfo", None if key != "Europe/Berlin" else ZoneInfo)
    mark = {MARK: "datetime", "value": "2026-07-01T12:00:00+09:30", "key": key}
    back = from_plain(mark)
    assert back == dt.datetime.fromisoformat("2026-07-01T12:00+09:30")
    assert isinstance(back, dt.datetime)
    assert type(back.tzinfo) is dt.timezone


class Lying(dt.tzinfo):
    def utcoffset(self, _: object) -> dt.timedelta:
        raise ValueError("no offset")


def test_a_time_whose_zone_raises() -> None:
    """It is recorded all the same."""
    plain = to_plain([dt.datetime(2026, 1, 1, tzinfo=Lying()), 5])
    assert isinstance(plain, list)
    assert (plain[0][MARK], plain[1]) == ("repr", 5)


class Settings(UserDict[str, object]):
    pass


class Chain(ChainMap[str, int]):
    pass


class Samples(array.array):  # type: ignore[type-arg] # none at run time
    pass


class Numbers(pydantic.RootModel[list[int]]):
    pass


def _noted(value: object, note: str) -> object:
    value.note = note  # type: ignore[attr-defined] # on purpose
    return value


@pytest.mark.parametrize(
    ("value", "content", "fields"),
    [
        (Settings(a=1), {"a": 1}, {}),
        (_noted(Settings(a=(1,)), "x"), {"a": (1,)}, {"note": "x"}),
        (_noted(UserList([1]), "x"), [1], {"note": "x"}),
        (Samples("d", [1.5]), [1.5], {}),
        (Numbers([1, 2]), [1, 2], {}),
        (pydantic.HttpUrl("https://a.b/c"), "https://a.b/c", {}),
        (io.StringIO("abc"), "abc", {}),
        (io.BytesIO(b"abc"), b"abc", {}),
        (msgspec.Raw(b"[1]"), b"[1]", {}),
        (OrderedDict(a=1).keys(), ["a"], {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_one_value(value: object, content: object, fields: dict[str, object]) -> None:
    """A subclass, a model of one value and a file in memory stand for what they hold."""
    back = loaded(value)
    assert isinstance(back, StandIn)
    assert isinstance(back, type(content))
    assert (back, back.fields) == (content, fields)
    assert to_plain(loaded(back)) == to_plain(value)


def test_what_has_only_fields() -> None:
    """A chain of one's own, an e-mail and a time of C's are their fields."""
    chain = loaded(Chain({"a": 1}, {"b": 2}))
    assert isinstance(chain, StandIn)
    assert chain.maps == [{"a": 1}, {"b": 2}]
    mail = EmailMessage()
    mail["Subject"] = "Bärlin"
    mail.set_content("It rained.\n")
    mail.add_attachment(b"\0\1", maintype="image", subtype="png")
    before = mail.as_bytes()
    back = loaded(mail)
    assert isinstance(back, StandIn)
    assert ("Subject", "Bärlin") in back.headers  # type: ignore[operator] # a list
    text, image = back.payload  # type: ignore[misc] # a list
    assert (text.payload, image.payload) == ("It rained.\n", "AAE=\n")
    assert mail.as_bytes() == before
    epoch = loaded(time.gmtime(0))
    assert isinstance(epoch, StandIn)
    assert (epoch, epoch.tm_year) == (tuple(time.gmtime(0)), 1970)


@pytest.mark.parametrize(
    "mark",
    [
        {"pattern": "(", "flags": 0}, {"pattern": "a" * 30_000, "flags": 0},
        {"pattern": "(" * 9_000 + ")" * 9_000, "flags": 0}, {"pattern": 5, "flags": 0},
        {"pattern": "a", "flags": "I"}, {"pattern": "a"},
        {"pattern": "a{99999999999}", "flags": 0},
    ],
    ids=lambda mark: str(mark)[:40],
)  # fmt: skip
def test_patterns_that_nobody_wrote(mark: dict[str, object]) -> None:
    """What is no pattern, or one that takes long, stays as it is."""
    value = {MARK: "pattern", **mark}
    assert from_plain(value) == value


@pytest.mark.filterwarnings("error")
def test_a_pattern_that_would_warn() -> None:
    """Where a program has warnings raised, loading raises none."""
    value = {MARK: "pattern", "pattern": "[[a]", "flags": 0}  # "possible nested set"
    assert from_plain(value) == value


def test_a_pattern_that_would_print(capsys: pytest.CaptureFixture[str]) -> None:
    """The flag that makes Python print a pattern is no pattern's."""
    assert from_plain({MARK: "pattern", "pattern": "a", "flags": int(re.DEBUG)}) == re.compile("a")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "mark",
    [
        {MARK: "array", "typecode": "x", "items": [1]},
        {MARK: "array", "typecode": "b", "items": [1_000]},
        {MARK: "array", "typecode": "d", "items": "abc"},
        {MARK: "memoryview", "format": "P", "shape": [1], "items": [1]},
        {MARK: "memoryview", "format": "i", "shape": [-1], "items": [1]},
        {MARK: "memoryview", "format": "i", "shape": [3], "items": [1]},
        {MARK: "memoryview", "format": "b", "shape": [1], "items": [1_000]},
        {MARK: "memoryview", "format": "B", "shape": [1], "data": "x"},
        {MARK: "ChainMap", "maps": [5]},
        {MARK: "UserDict", "data": [1]},
        {MARK: "UserString"},
        {MARK: "timezone", "offset": 5, "name": None},
        {MARK: "timezone", "offset": {MARK: "timedelta", "value": "P9D"}, "name": None},
        {MARK: "ZoneInfo", "key": "../x"},
        {MARK: "IPv4Address", "value": "999.1.1.1"},
        {MARK: "IPv4Network", "value": "10.0.0.1/8"},
    ],
    ids=str,
)  # fmt: skip
def test_standard_values_that_nobody_wrote(mark: dict[str, object]) -> None:
    """A mark whose members are no value of its kind is shown as it is."""
    assert from_plain(mark) == mark


def test_a_defaultdict_goes_on_making_what_it_made() -> None:
    """It knows its factory where that is a standard type, and else says what it was."""
    back = loaded(defaultdict(list, a=[1]))
    assert isinstance(back, defaultdict)
    assert back["new"] == []
    back = loaded(defaultdict(lambda: 1, a=2))
    assert isinstance(back, StandIn)
    assert back == {"a": 2}
    assert "lambda" in str(back.default_factory)


# -- a program's own types


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: object


Old = namedtuple("Old", ["a", "b"])  # the other way to make one


class Words(str):
    pass


class Number(int):
    pass


class Rows(list[object]):
    pass


class Config(dict[object, object]):
    pass


class When(dt.datetime):
    pass


@dataclasses.dataclass
class Report:
    level: Level
    path: Path
    took: dt.timedelta
    scores: object


OWN = [
    (Level.HIGH, 3, {"name": "HIGH", "value": 3}),
    (Mode.FAST, "fast", {"name": "FAST", "value": "fast"}),
    (Point(1, [2]), (1, [2]), {"x": 1, "y": [2]}),
    (Old(1, 2), (1, 2), {"a": 1, "b": 2}),
    (Words("x"), "x", {}),
    (Number(5), 5, {}),
    (Rows([1, (2,)]), [1, (2,)], {}),
    (Config({1: "a"}), {1: "a"}, {}),
    (When(2024, 1, 2, 3, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC), {}),
]


@pytest.mark.parametrize(("value", "content", "fields"), OWN, ids=lambda v: type(v).__name__)
def test_stand_ins(value: object, content: object, fields: dict[str, object]) -> None:
    """A value of a program's own type comes back equal to its content, read-only, with the name of
    the type and its fields; and it is written again, pickled and copied as such."""
    back = loaded(value)
    assert isinstance(back, StandIn)
    assert isinstance(back, type(content))
    assert back == content
    assert back.type_name == f"{type(value).__module__}.{type(value).__qualname__}"
    assert back.fields == fields
    assert [getattr(back, name) for name in fields] == list(fields.values())
    with pytest.raises(AttributeError, match="read-only"):
        back.x = 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = back.nothing
    assert to_plain(back) == to_plain(value)
    for again in (loaded(back), copy.deepcopy(back), pickle.loads(pickle.dumps(back))):
        assert isinstance(again, StandIn)
        assert again == back
        assert (again.type_name, again.fields) == (back.type_name, fields)


@pytest.mark.parametrize(
    "change",
    ["back.append(1)", "back[0] = 1", "back.sort()", "back += [1]", "del back[0]"],
)
def test_a_list_that_stands_in_is_read_only(change: str) -> None:
    """No method changes a stand-in for a list."""
    with pytest.raises(TypeError, match="Rows is read-only"):
        exec(change, {"back": loaded(Rows([1]))})


@pytest.mark.parametrize(
    "change", ["back['b'] = 1", "back.update(b=1)", "back.pop('a')", "back |= {}", "del back['a']"]
)
def test_a_dict_that_stands_in_is_read_only(change: str) -> None:
    """No method changes a stand-in for a dict."""
    with pytest.raises(TypeError, match="Config is read-only"):
        exec(change, {"back": loaded(Config(a=1))})


def test_members_of_enums() -> None:
    """A member that is no number or text has its name and value; it can be a key, too."""
    red, both = loaded(Color.RED), loaded(Rights.READ | Rights.WRITE)
    assert isinstance(red, StandIn)
    assert isinstance(both, StandIn)
    assert (red.name, red.value, red.type_name) == ("RED", "red", f"{__name__}.Color")
    assert (both.name, both.value) == ("READ|WRITE", 3)
    assert loaded({Color.RED: 1, Level.HIGH: 2}) == {red: 1, 3: 2}
    assert red != both
    assert repr(red) == f"<{__name__}.Color name='RED' value='red'>"


def test_attributes_of_a_subclass() -> None:
    """What a program hung on a text or list of its own is a field."""
    text = Words("x")
    text.source = "wiki"  # type: ignore[attr-defined] # on purpose
    back = loaded(text)
    assert isinstance(back, StandIn)
    assert (back, back.source) == ("x", "wiki")


def test_fields_of_a_dataclass() -> None:
    """The fields of a dataclass may be any of these."""
    report = Report(Level.HIGH, Path("a"), dt.timedelta(1), np.array([1.5, 2.5]))
    back = loaded(report)
    assert back == {
        "level": 3, "path": Path("a"), "took": dt.timedelta(1), "scores": [1.5, 2.5],
    }  # fmt: skip


def test_loading_calls_nothing_that_a_log_names(tmp_path: Path, monkeypatch: object) -> None:
    """A type's name is a text: no module is imported for it and nothing of it is called."""
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "decoy_of_a_log.py").write_text("raise SystemExit('imported')")
    for name in ("decoy_of_a_log.Color", "os.system", "builtins.eval", "decoy_of_a_log"):
        for extra in ({"value": "x"}, {"fields": {"name": "A"}}, {"value": 1, "fields": {"a": 1}}):
            back = from_plain({MARK: "object", "type": name, **extra})
            assert isinstance(back, StandIn)
            assert back.type_name == name
        for kind in (name, "Path", "eval"):
            mark = {MARK: kind, "type": name, "value": "x", "items": [], "factory": name}
            assert from_plain(mark) == mark
    mark = {MARK: "defaultdict", "items": [], "factory": "eval"}
    assert from_plain(mark) == mark
    assert "decoy_of_a_log" not in sys.modules


# -- numpy and pandas


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (np.int64(3), 3),
        (np.uint8(200), 200),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.complex128(1j), 1j),
        (np.longdouble("0.5"), 0.5),
        (np.datetime64("2024-01-01T12:00"), dt.datetime(2024, 1, 1, 12)),
        (np.timedelta64(90, "m"), dt.timedelta(minutes=90)),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(5), 5),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), [(1, 2.0)]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.arange(10)[::3], [0, 3, 6, 9]),
        (pd.Timestamp("2024-01-01T12:00Z"), dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)),
        (pd.Timedelta("90m"), dt.timedelta(minutes=90)),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.Categorical(["a", "b", "a"]), ["a", "b", "a"]),
        (pd.array([1, 2]), [1, 2]),
        (pd.Period("2024-01"), "2024-01"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_and_arrays(value: object, content: object) -> None:
    """A scalar is JSON's own and an array a list of its items, with the type in a mark."""
    plain = to_plain({"v": value})
    assert isinstance(plain, dict)
    assert plain["v"][MARK] == "object"
    assert plain["v"]["type"].startswith(type(value).__module__.partition(".")[0])
    assert plain["v"]["value"] == to_plain(content)
    assert loaded(value) == content


@pytest.mark.parametrize("value", [pd.NaT, pd.NA, np.datetime64("NaT")])
def test_what_is_missing(value: object) -> None:
    """A missing value says which it is, and is no text."""
    back = loaded(value)
    assert isinstance(back, StandIn)
    assert back.fields["value"] is None


def test_more_precise_than_a_datetime() -> None:
    """Nanoseconds, which a datetime has no room for, are kept as text."""
    back = loaded(pd.Timestamp("2024-01-01T00:00:00.123456789"))
    assert isinstance(back, StandIn)
    assert back == dt.datetime(2024, 1, 1, microsecond=123456)
    assert str(back.text).endswith(".123456789")
    assert str(loaded(np.datetime64("2024-01-01T00:00:00.123456789")).text).endswith("789")  # type: ignore[attr-defined] # a stand-in


def frame(rows: int) -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=rows, freq="min")
    return pd.DataFrame({"n": range(rows), "name": [f"r{n}" for n in range(rows)], "day": days})


def test_a_frame_is_its_columns() -> None:
    """Every row of a frame comes back, by column, with dtypes and index."""
    given = frame(5_000)
    back = loaded({"rows": given})["rows"]  # type: ignore[index] # a dict
    assert isinstance(back, StandIn)
    assert back.shape == [5_000, 3]
    assert back.index == range(5_000)
    assert list(back.dtypes) == ["n", "name", "day"]  # type: ignore[call-overload] # a dict
    made = pd.DataFrame(back.columns)
    assert made["n"].tolist() == given["n"].tolist()
    assert made["name"].tolist() == given["name"].tolist()
    assert made["day"].tolist() == [day.to_pydatetime() for day in given["day"]]


def test_a_series() -> None:
    """A series has its name, values and index."""
    back = loaded(pd.Series([1.5, 2.5], index=["a", "b"], name="s"))
    assert isinstance(back, StandIn)
    assert (back.name, back.dtype, back.index, back.values) == (
        "s", "float64", ["a", "b"], [1.5, 2.5],
    )  # fmt: skip


def test_columns_of_one_name() -> None:
    """Columns that have the same name, or names that are no texts, are all there."""
    back = loaded(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert back.columns == [("a", [1]), ("a", [2])]  # type: ignore[attr-defined] # a stand-in
    back = loaded(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])))
    assert back.columns == {("a", 1): [1], ("a", 2): [2]}  # type: ignore[attr-defined] # a stand-in


LARGE = {
    "array": lambda n: np.arange(MOST_CELLS + n),
    "transposed": lambda n: np.arange(2 * MOST_CELLS + 2 * n).reshape(2, -1).T,
    "objects": lambda n: np.array([str(i) for i in range(MOST_CELLS)] + [str(n)], dtype=object),
    "series": lambda n: pd.Series(range(MOST_CELLS + n)),
    "frame": lambda n: frame(MOST_CELLS // 3 + n),
    "frame without columns": lambda n: pd.DataFrame(index=range(MOST_CELLS + n)),
    "index": lambda n: pd.Index(range(MOST_CELLS + n)),
    "texts": lambda n: pd.Series([f"{n}"] * (MOST_CELLS + 1)),
    "nullable": lambda n: pd.Series([n, None] * MOST_CELLS, dtype="Int64"),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_ones_are_described(name: str) -> None:
    """Above the stated size there are shape, types, head and a digest of all of it, which is the
    same for the same content and another for any other."""
    one, same, other = (loaded(LARGE[name](n)) for n in (7, 7, 8))
    assert isinstance(one, StandIn)
    assert isinstance(other, StandIn)
    assert one == same
    assert one.digest != other.digest
    assert str(one.digest).startswith("sha256:")
    assert {"shape", "head"} <= set(one.fields)
    assert len(codec.encode(to_plain(LARGE[name](7)))) < 10_000
    assert HEAD <= 20


def test_neither_library_is_imported() -> None:
    """Writing and reading values imports neither numpy nor pandas."""
    program = (
        "import sys; from lllm.events.values.json_values import to_plain, from_plain;"
        "from_plain({'$lllm': 'object', 'type': 'numpy.ndarray', 'value': [1]});"
        "import enum; to_plain([object(), enum.Enum('E', 'A').A]);"
        "print({'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# -- what a model is told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float64(1.5), 1.5),
        ({"score": np.int64(3)}, {"score": 3}),
        ({np.int64(3): {1: (2,)}, (1, 2): 3}, {"3": {"1": [2]}, "[1,2]": 3}),
        (np.array([[1, 2]]), [[1, 2]]),
        (Path("a/b"), "a/b"),
        ([Color.RED, Level.HIGH, Mode.FAST], ["red", 3, "fast"]),
        (Rights.READ | Rights.WRITE, 3),
        (dt.timedelta(hours=1), "PT3600S"),
        (pd.Timestamp("2024-01-01"), "2024-01-01T00:00:00"),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (range(10**9), "range(0, 1000000000, 1)"),
        (Fraction(1, 2), "1/2"),
        (Decimal("1.10"), "1.10"),
        (1 + 2j, "(1+2j)"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (re.compile("a+"), "a+"),
        (slice(1, None, 2), "slice(1, None, 2)"),
        (array.array("d", [1.5]), [1.5]),
        (memoryview(b"a"), "YQ=="),
        (ChainMap({"a": 1}, {"a": 2, "b": 3}), {"a": 1, "b": 3}),
        ([UserDict(a=(1,)), UserList([1]), UserString("x")], [{"a": [1]}, [1], "x"]),
        ([ZoneInfo("Asia/Kathmandu"), dt.UTC], ["Asia/Kathmandu", "P0D"]),
        ([dt.timezone(dt.timedelta(hours=1), "A")], ["A"]),
        (io.StringIO("abc"), "abc"),
        (Numbers([1, 2]), [1, 2]),
        (Counter("aab"), {"a": 2, "b": 1}),
        ([Words("x"), Number(2)], ["x", 2]),
        ({"a": 1}.items(), [["a", 1]]),
        (pd.Series([1, 2], name="s"),
         {"name": "s", "dtype": "int64", "index": [0, 1], "values": [1, 2]}),
        (pd.DataFrame({"a": [1, 2]}),
         {"shape": [2, 1], "dtypes": {"a": "int64"}, "index": [0, 1], "columns": {"a": [1, 2]}}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_a_model_is_told(value: object, told: object) -> None:
    """What a tool returns is told as JSON's own values, and a frame with all its rows."""
    assert json.loads(result_text(value)) == told
    assert MARK not in result_text(value)


def test_a_text_of_ones_own_is_told_as_text() -> None:
    """A subclass of str, such as an enum's member, is no JSON."""
    assert result_text(Mode.FAST) == "fast"
    assert type(result_text(Words("x"))) is str


def test_a_model_is_told_no_end() -> None:
    """A value whose parts meet on more paths than anybody could write out is told in its parts."""
    value: object = "x" * 100
    for _ in range(80):
        value = [value, value]
    assert len(result_text(value)) < 20_000


# -- values that misbehave


class Hostile:
    """Raises whatever it is asked."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return hash(MARK)

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("iter")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class Anything:
    """Has every attribute that it is asked for, as a mock has."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: {}


class LyingList(list[object]):
    def __iter__(self) -> Iterator[object]:
        while True:
            yield 1

    def __len__(self) -> int:
        return -1


class LyingDict(dict[object, object]):
    def items(self) -> object:  # type: ignore[override] # on purpose
        raise OSError("gone")

    def __contains__(self, key: object) -> bool:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no")


class LyingText(str):
    def __str__(self) -> str:
        raise RuntimeError("no")

    def encode(self, *_: object) -> bytes:  # type: ignore[override] # on purpose
        raise RuntimeError("no")


class LyingNumber(int):
    def __int__(self) -> int:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (LyingList([1, 2]), [1, 2]),
        (LyingDict({"a": 1, 2: 3}), {"a": 1, 2: 3}),
        (LyingText("x"), "x"),
        (LyingNumber(5), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_overridden_methods_are_not_asked(value: object, content: object) -> None:
    """What a subclass holds is recorded, whatever its methods say."""
    assert loaded({"v": [value]}) == {"v": [content]}
    result_text([value])


@pytest.mark.parametrize("make", [Hostile, Anything])
def test_objects_that_answer_anything(make: type) -> None:
    """An object that raises, or that has every attribute, is a marked repr; the rest is whole."""
    value = make()
    back = loaded({"v": [value], "after": Path("a"), "as key": {1: value, make(): 2}})
    assert isinstance(back, dict)
    assert back["v"][0][MARK] == "repr"
    assert back["after"] == Path("a")
    result_text(value)
    result_text([value])


def test_iterators_are_not_consumed() -> None:
    """Recording a generator, an iterator or a file takes nothing out of it."""
    generator, iterator, mapped = (n for n in (1, 2)), iter([1, 2]), map(str, [1, 2])
    value = [generator, iterator, mapped, zip([1], [2], strict=True)]
    to_plain(value)
    result_text(value)
    assert [list(one) for one in value] == [[1, 2], [1, 2], ["1", "2"], [(1, 2)]]  # type: ignore[call-overload] # iterators
