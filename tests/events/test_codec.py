"""Payload to bytes and back, whoever wrote it."""

from __future__ import annotations

import json
import types
import typing
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import Recorded
from lllm.events.model import (
    EVENTS,
    Content,
    Event,
    SessionStarted,
    SessionSucceeded,
    ToolReturned,
    Unknown,
)

# Text as a user may pass it: lone surrogates, too, though not side by side, which JSON can't tell
# from the one character that they make.
TEXT = st.text(max_size=8) | st.text(st.characters(max_codepoint=0xDBFF), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SIMPLE: dict[object, st.SearchStrategy[object]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bytes: st.binary(max_size=40),
    object: JSON,
    type(None): st.none(),
}


def values_of(kind: object) -> st.SearchStrategy[object]:
    """Any value of a field's type."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs_of(kind)
    if origin is typing.Annotated:
        (bounds,) = kind.__metadata__  # type: ignore[attr-defined]
        return st.integers(bounds.ge, bounds.le)
    if origin is typing.Literal:
        return st.sampled_from(inside)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, inside))
    if origin is tuple and inside[-1] is Ellipsis:
        return st.lists(values_of(inside[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inside))
    if origin is dict:
        return st.dictionaries(*map(values_of, inside), max_size=3)
    raise NotImplementedError(f"no values for {kind!r}")


def structs_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[object]:
    """Any Struct of a kind, each optional field given or not."""
    given_fields: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for field in msgspec.structs.fields(kind):
        values = values_of(field.type)
        (given_fields if field.required else optional)[field.name] = values
    return st.fixed_dictionaries(given_fields, optional=optional).map(lambda data: kind(**data))


def recorded(type_: str, data: bytes, version: int = 1) -> Recorded:
    event = seal(b"", "s", 1, 0, type_, version, data)
    return Recorded(1, "s", 1, 0, type_, version, data, event.digest)


@pytest.mark.parametrize("type_", EVENTS)
def test_round_trip(type_: str) -> None:
    """Every event comes back as it was written, whatever its fields hold."""

    @settings(max_examples=40)
    @given(structs_of(EVENTS[type_]))
    def check(event: object) -> None:
        assert isinstance(event, Event)
        data = codec.encode(event)
        assert b"\n" not in data
        assert codec.decode(recorded(type_, data, event.version)) == event

    check()


@given(JSON)
def test_values(value: object) -> None:
    """Any JSON value comes back as it was written."""
    assert codec.values(codec.encode(value)) == value


@pytest.mark.parametrize("type_", EVENTS)
def test_types(type_: str) -> None:
    """Every event has a name of its own, which is never a Python path, and a version from 1."""
    kind = EVENTS[type_]
    assert kind.type == type_
    assert "." in type_
    assert type_ == type_.lower()
    assert kind.version >= 1


def test_lone_surrogate() -> None:
    """A lone surrogate is written as its JSON escape, next to anything else."""
    returned = ToolReturned(tool=1, message=1, content=Content.of("tool", "\udcff ü"), elapsed=1)
    data = codec.encode(returned)
    assert b"\\udcff" in data
    assert data.isascii()
    assert codec.decode(recorded("tool.returned", data)) == returned


def test_unknown_type() -> None:
    """An event of a type that this library doesn't know is kept, with its payload."""
    event = codec.decode(recorded("model.dreamed", b'{"of":["sheep"]}', 3))
    assert isinstance(event, Unknown)
    assert (event.was, event.was_version) == ("model.dreamed", 3)
    assert event.raw == {"of": ["sheep"]}
    assert "no such event" in event.reason


def test_newer_version() -> None:
    """An event of a newer version is kept, and says up to which version it would be read."""
    event = codec.decode(recorded("tool.failed", b'{"tool":1}', 2))
    assert isinstance(event, Unknown)
    assert (event.was, event.was_version, event.raw) == ("tool.failed", 2, {"tool": 1})
    assert "up to version 1" in event.reason


def test_older_version_without_upcaster() -> None:
    """An event of a version that nobody can lift is kept."""
    event = codec.decode(recorded("tool.failed", b"{}", 0))
    assert isinstance(event, Unknown)


def test_newer_fields() -> None:
    """Fields that a newer writer added without a new version are passed over."""
    event = codec.decode(recorded("session.succeeded", b'{"elapsed":5,"mood":"good","delivery":1}'))
    assert event == SessionSucceeded(delivery=1, elapsed=5)


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (b"{}", {}),
        (b'{"elapsed":"soon"}', {"elapsed": "soon"}),
        (b'{"elapsed":"\\ud800"}', {"elapsed": "\ud800"}),
        (b"[1]", [1]),
        (b"null", None),
        (b'{"$lllm":"redacted"}', {"$lllm": "redacted"}),
        (b'{"elapsed":1', None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"elapsed":' + b"1" * 5_000 + b"}", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_payload_that_does_not_fit(data: bytes, raw: object) -> None:
    """A payload that does not fit its type is kept, as JSON values where it is JSON."""
    event = codec.decode(recorded("session.succeeded", data))
    assert isinstance(event, Unknown)
    assert (event.was, event.was_version, event.raw) == ("session.succeeded", 1, raw)
    assert "does not fit" in event.reason


@given(st.sampled_from(list(EVENTS)), st.integers(-1, 3), st.binary() | JSON.map(codec.encode))
def test_never_raises(type_: str, version: int, data: bytes) -> None:
    """Whatever stands in a log decodes to an event."""
    assert isinstance(codec.decode(recorded(type_, data, version)), Event)


class Lifted(Event, frozen=True, kw_only=True):
    """An event that has changed twice: seconds became nanoseconds, and a name was added."""

    type: ClassVar[str] = "test.lifted"
    version: ClassVar[int] = 3
    wait: int
    name: str


def seconds_to_nanoseconds(payload: dict[str, object]) -> dict[str, object]:
    seconds = payload.pop("seconds")
    assert isinstance(seconds, int)
    return payload | {"wait": seconds * 1_000_000_000}


def add_name(payload: dict[str, object]) -> dict[str, object]:
    return {"name": "nobody", **payload}


@pytest.fixture
def _lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENTS, "test.lifted", Lifted)
    monkeypatch.setitem(codec.UPCASTERS, ("test.lifted", 1), seconds_to_nanoseconds)
    monkeypatch.setitem(codec.UPCASTERS, ("test.lifted", 2), add_name)


@pytest.mark.usefixtures("_lifted")
@pytest.mark.parametrize(
    ("version", "payload"),
    [
        (1, {"seconds": 2}),
        (2, {"wait": 2_000_000_000}),
        (3, {"wait": 2_000_000_000, "name": "nobody"}),
    ],
)
def test_upcasters(version: int, payload: object) -> None:
    """An older payload is lifted, one version at a time, to the one that is known."""
    event = codec.decode(recorded("test.lifted", codec.encode(payload), version))
    assert event == Lifted(wait=2_000_000_000, name="nobody")


@pytest.mark.usefixtures("_lifted")
@pytest.mark.parametrize("data", [b"{}", b"[]", b'"x"', b"5", b'{"seconds":"two"}', b"no"])
def test_upcaster_of_an_odd_payload(data: bytes) -> None:
    """A payload that an upcaster can't lift is kept."""
    event = codec.decode(recorded("test.lifted", data, 1))
    assert isinstance(event, Unknown)
    assert event.was_version == 1


def test_salt() -> None:
    """The salt of a stream is the one in its first payload; none where it has none, or where that
    can't be read."""
    salt = bytes(range(32))
    started = SessionStarted(tactic_path="t", name="t", salt=salt)
    data = codec.encode(started)
    assert codec.salt_of(recorded("session.started", data)) == salt
    assert codec.salt_of(recorded("session.started", b"{}")) == b""
    assert codec.salt_of(recorded("from.the.future", data)) == salt
    assert codec.salt_of(recorded("tool.failed", codec.encode({"salt": 5}))) == b""


def test_defaults_are_left_out() -> None:
    """What a field is by default is not written, so that a payload is as small as what it says."""
    started = SessionStarted(tactic_path="t", name="t", salt=b"")
    assert json.loads(codec.encode(started)) == {"tactic_path": "t", "name": "t", "salt": ""}


@pytest.mark.parametrize("type_", EVENTS)
def test_documented(type_: str) -> None:
    """Every event says when it is written."""
    assert len(EVENTS[type_].__doc__ or "") > 20
    assert EVENTS[type_].__doc__ != Event.__doc__
