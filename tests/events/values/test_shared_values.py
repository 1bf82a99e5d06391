"""A container that a value holds many times is written once and comes back in every place; only
what holds itself is cut, and says so."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.events import codec
from lllm.events.values.json_values import MARK, from_plain, to_plain


def loaded(value: object) -> object:
    """A value, written and read."""
    return from_plain(codec.values(codec.encode(to_plain(value))))


class Kind(Enum):
    A = "a"


LEAVES = [
    dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.timedelta(1), b"bytes", "x" * 100, 2**70,
    float("inf"), 1.5, (1, 2), frozenset([1]), (), Kind.A,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: type(leaf).__name__)
def test_leaves_never_count(leaf: object) -> None:
    """A value that can't change is there as often as the program had it, wherever it stands."""
    rows = [{"id": number, "day": leaf, 5: [leaf]} for number in range(11_000)]
    (expected,) = loaded([leaf])  # type: ignore[misc] # a list
    back = loaded(rows)
    assert back == [{"id": n, "day": expected, 5: [expected]} for n in range(11_000)]


CONTAINERS = [
    list(range(1_000)), {"a": list(range(1_000))}, {1: "x" * 5_000}, tuple(range(1_000)),
    frozenset(range(1_000)), set(range(1_000)), bytearray(5_000), b"x" * 5_000,
    OrderedDict.fromkeys(range(1_000)), [], {}, [[]], {"a": 1},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: type(one).__name__)
def test_containers_are_written_once(container: object) -> None:
    """A container that is met 11,000 times comes back in each place, and costs one."""
    value = [{"id": number, "same": container} for number in range(11_000)]
    assert len(codec.encode(to_plain(value))) < 11_000 * 100
    back = loaded(value)
    assert back == value
    assert type(back[7]["same"]) is type(container)  # type: ignore[index] # a list


def test_what_was_one_object_is_one_again() -> None:
    """A long container that was met again is one object after loading, too."""
    long = list(range(1_000))
    back = loaded({"a": long, "b": [long]})
    assert isinstance(back, dict)
    assert back["a"] is back["b"][0]


def test_parts_within_parts() -> None:
    """Parts refer to each other in whatever order they were met."""
    inner = {"n": list(range(200))}
    middle = [inner, "m" * 2_000]
    outer = {"middle": middle, "inner": inner, (1, 2): [middle]}
    value = [outer, inner, middle, outer, [inner], {"o": outer}]
    back = loaded(value)
    assert back == value
    assert back[0] is back[3]  # type: ignore[index] # a list
    assert back[0]["middle"][0] is back[1]  # type: ignore[index]


@pytest.mark.parametrize("wrap", ["list", "dict", "pairs", "tuple"])
def test_doubled(wrap: str) -> None:
    """Eighty levels, each of which holds the one below twice, are written and read in no time."""
    value: object = "x"
    for _ in range(80):
        value = {
            "list": [value, value], "tuple": (value, value),
            "dict": {"a": value, "b": value}, "pairs": {1: value, 2: value},
        }[wrap]  # fmt: skip
    plain = to_plain(value)
    assert len(codec.encode(plain)) < 50_000
    back = from_plain(codec.values(codec.encode(plain)))
    for _ in range(80):
        assert isinstance(back, (list, tuple, dict))
        assert len(back) == 2
        back = list(back.values())[1] if isinstance(back, dict) else back[1]
    assert back == "x"


def test_what_holds_itself() -> None:
    """A cycle is cut where it comes round, with the type of what comes again; all else is whole."""
    node: dict[str, object] = {"name": "a", "rows": list(range(500))}
    node["self"] = node
    node["beside"] = [node["rows"], {"deep": node}]
    back = loaded([node, node])
    assert isinstance(back, list)
    assert back[0] is back[1]
    cycle = {MARK: "cycle", "type": "builtins.dict"}
    assert back[0]["self"] == cycle
    assert back[0]["beside"] == [list(range(500)), {"deep": cycle}]


@pytest.mark.parametrize("length", [2, 99, 100, 101, 150, 450])
def test_long_cycles(length: int) -> None:
    """A cycle that is longer than what is written in one piece is cut once, too."""
    first: list[object] = ["first"]
    last = first
    for number in range(length):
        last.append([number])
        last = last[-1]  # type: ignore[assignment] # a list
    last.append(first)
    back: object = loaded(first)
    seen = 0
    while isinstance(back, list):
        back, seen = back[-1], seen + 1
    assert isinstance(back, dict)
    assert back[MARK] == "cycle"
    assert seen >= length + 1


GRAPHS = st.lists(st.lists(st.integers(0, 11), max_size=4), min_size=1, max_size=12)


@given(GRAPHS, st.integers(0, 60))
def test_any_graph(edges: list[list[int]], padding: int) -> None:
    """Whatever refers to whatever, a graph without a cycle comes back equal, and any other comes
    back with marks in it."""
    nodes: list[list[object]] = [["x" * 20] * padding for _ in edges]
    for number, targets in enumerate(edges):
        later = [target for target in targets if number < target < len(nodes)]
        nodes[number] += [nodes[target] for target in later]
    assert loaded(nodes) == nodes
    for number, targets in enumerate(edges):
        nodes[number] += [nodes[target] for target in targets if target < len(nodes)]
    codec.encode(to_plain(loaded(nodes)))


@given(GRAPHS, st.lists(st.integers(-2, 13), max_size=3))
def test_parts_that_nobody_wrote(edges: list[list[int]], value: list[int]) -> None:
    """Parts that refer to themselves, to each other or to nothing are read all the same."""

    def refer(index: int) -> object:
        return {MARK: "part", "index": index}

    parts = [[refer(target) for target in targets] for targets in edges]
    forged = {MARK: "parts", "value": [refer(one) for one in value], "parts": parts}
    codec.encode(to_plain(from_plain([forged, {"again": forged}])))


@pytest.mark.parametrize("kind", ["set", "dict", "frozenset"])
def test_keys_that_would_take_for_ever(kind: str) -> None:
    """A set or dict whose keys' hashes could not be computed in a lifetime stays as it was written,
    and so does one whose hashes need more room than there is."""

    def part(index: int) -> object:
        return {MARK: "part", "index": index}

    doubled = [{MARK: "tuple", "items": []}]
    doubled += [{MARK: "tuple", "items": [part(n), part(n)]} for n in range(90)]
    deep = [{MARK: "tuple", "items": []}]
    deep += [{MARK: "tuple", "items": [part(n)]} for n in range(50_000)]
    for parts in (doubled, deep):
        key = part(len(parts) - 1)
        keys = [[key, 1]] if kind == "dict" else [key]
        forged = {MARK: "parts", "value": {MARK: kind, "items": keys}, "parts": parts}
        back = from_plain(forged)
        assert isinstance(back, dict)
        assert back[MARK] == kind


def test_marks_of_older_versions() -> None:
    """What older versions of lllm cut is shown as they marked it."""
    for mark in (
        {MARK: "again", "type": "builtins.list"},
        {MARK: "deep", "type": "builtins.list", "repr": "[...]"},
        {MARK: "cycle", "type": "builtins.list"},
        {MARK: "repr", "type": "a.B", "repr": "B()"},
        {MARK: "part", "index": 0},
    ):
        assert from_plain([mark, {"a": mark}]) == [mark, {"a": mark}]
