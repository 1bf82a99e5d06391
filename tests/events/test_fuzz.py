"""A fuzzer for every reader: bytes, lines, files, structures and values at random.

With LLLM_SURVIVAL_ROUNDS set, each runs as many examples as it says.
"""

from __future__ import annotations

import base64
import dataclasses
import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import typing
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, Runtime, SQLiteBackend
from lllm.cli.open_store import open_store
from lllm.events import codec
from lllm.events import follow as logs
from lllm.events.backends.jsonl import line_format as lines
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogError, StoreError
from lllm.events.model import EVENTS, Event, SessionResidue
from lllm.events.values.json_values import from_plain, to_plain
from lllm.projections.session.fold import fold

ROUNDS = int(os.environ.get("LLLM_SURVIVAL_ROUNDS", "0"))
FEW, SOME, MANY = (ROUNDS or count for count in (25, 60, 300))
# What can't be written any more is told to the user, too; here it is expected.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:lllm can't write its log"),
    pytest.mark.filterwarnings("ignore:lllm could not write"),
]
DEAD = 60.0  # seconds; an example that takes longer hangs
ENDS = st.sampled_from(
    [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 2**70, 10**400, -(10**400)]
)
WORDS = st.sampled_from(["a", "b", "c", "d", "", "\ud800", "x" * 300, "../..", "\0", "'\""])
NUMBERS = st.integers(-1, 4) | st.integers(-(2**63), 2**63 - 1) | ENDS
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.just("$lllm"), inner, max_size=3)
        | st.builds(
            lambda kind, items: {"$lllm": kind, "items": items, "value": items, "base64": items},
            st.sampled_from(["dict", "tuple", "set", "frozenset", "int", "float", "str", "bytes",
                             "datetime", "decimal", "uuid", "complex", "repr", "x"]),
            inner,
        )
    ),
    max_leaves=6,
)  # fmt: skip


def settled(examples: int) -> settings:
    """How a fuzzer runs: with no deadline, a slow machine is no finding."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def stderr(request: pytest.FixtureRequest) -> Iterator[int]:
    """Standard error as it is outside of pytest, which keeps what a test prints for later."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        fd = os.dup(2)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def _watchdog(stderr: int) -> Iterator[None]:
    """An example that hangs ends the test run with every thread's stack, instead of staying."""
    still_alive.file = stderr
    yield
    faulthandler.cancel_dump_traceback_later()


class _StillAlive:
    """Called by each example as it begins; see `_watchdog`."""

    file = 2

    def __call__(self) -> None:
        faulthandler.dump_traceback_later(DEAD, exit=True, file=self.file)


still_alive = _StillAlive()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one example."""
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


# -- payloads


def values_of(kind: object, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[object]:
    """Values of a field's type, few enough that one event's often fit another's, and odd ones."""
    simple: dict[object, st.SearchStrategy[object]] = {
        str: WORDS, int: numbers, bool: st.booleans(), bytes: st.binary(max_size=4), object: JSON,
        type(None): st.none(), float: st.floats(),
    }  # fmt: skip
    inside = typing.get_args(kind)
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return fields_of(kind, numbers)
    match typing.get_origin(kind):
        case typing.Annotated:
            return values_of(inside[0], numbers)
        case typing.Literal:
            return st.sampled_from(inside)
        case typing.Union | types.UnionType:
            return st.one_of(*(values_of(one, numbers) for one in inside))
        case origin if origin is tuple:
            return st.lists(values_of(inside[0], numbers), max_size=3)
        case origin if origin is dict:
            return st.dictionaries(*(values_of(one, numbers) for one in inside), max_size=2)
    raise NotImplementedError(f"no values of {kind!r}")


def fields_of(
    kind: type[msgspec.Struct], numbers: st.SearchStrategy[int]
) -> st.SearchStrategy[object]:
    """A Struct as the JSON that it is written as."""
    fields = msgspec.structs.fields(kind)
    return st.fixed_dictionaries(
        {field.name: values_of(field.type, numbers) for field in fields if field.required},
        optional={
            field.name: values_of(field.type, numbers) for field in fields if not field.required
        },
    )


def as_bytes(value: object) -> bytes:
    return json.dumps(value, default=lambda data: base64.b64encode(data).decode()).encode()


PAYLOADS = {type_: fields_of(kind, NUMBERS).map(as_bytes) for type_, kind in EVENTS.items()}
SOUND = {type_: fields_of(kind, st.integers(-1, 4)).map(as_bytes) for type_, kind in EVENTS.items()}


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with some of them flipped, cut out, doubled or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["flip", "cut", "double", "insert", "fill"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:upto]
            case "double":
                data[at:at] = data[at:upto]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8) | st.sampled_from([
                    b"\n", b"[" * 2_000, b"{" * 2_000, b'"', b',"more":0}\n', b"9" * 5_000,
                    b"-", b"\xff", b"\0" * 50,
                ]))  # fmt: skip
            case "fill":
                data[at:upto] = b"\0" * (upto - at)
            case _:
                pass
    return bytes(data)


ODD_PAYLOADS = st.sampled_from(list(EVENTS)).flatmap(
    lambda type_: st.tuples(st.just(type_), PAYLOADS[type_] | PAYLOADS[type_].flatmap(mutated))
)


@settled(MANY)
@given(ODD_PAYLOADS, st.integers(-2, 3) | ENDS)
def test_payloads(payload: tuple[str, bytes], version: int) -> None:
    """Whatever a payload holds, of whatever version, it decodes to an event."""
    still_alive()
    type_, data = payload
    event = Recorded(1, "s", 1, 0, type_, version, data, b"")
    assert isinstance(codec.decode(event), Event)
    codec.salt_of(event)
    from_plain(codec.values(data))


# -- lines and files of a JSONL log


def some_events() -> list[NewEvent]:
    """A session with another below it."""
    above = {"session_id": "a", "tactic_path": "t"}
    started = {"tactic_path": "t", "name": "t", "salt": ""}
    told = [
        ("a", 1, "session.started", started | {"tags": {"k": "v"}}),
        ("b", 1, "session.started", started | {"ancestors": [above]}),
        ("b", 2, "llm.failed", {"request": 1, "asked": "m", "elapsed": 1,
                                "error": {"type": "E", "message": "m"}, "usage": {"input": 5}}),
        ("b", 3, "session.succeeded", {"elapsed": 1, "delivery": "d"}),
        ("a", 2, "session.succeeded", {"elapsed": 2}),
        ("tagged", 1, "session.tagged", {"about": "a", "set": {"k": "w"}, "salt": ""}),
    ]  # fmt: skip
    return [
        seal(b"", stream, seq, 1_700_000_000_000_000_000 + seq, type_, 1, as_bytes(payload))
        for stream, seq, type_, payload in told
    ]


LINES, _ = lines.encode_append(some_events())


@settled(MANY)
@given(st.binary(max_size=300) | st.sampled_from(LINES.split(b"\n")).flatmap(mutated))
def test_lines(line: bytes) -> None:
    """A line is an event, or ValueError says that it is none."""
    still_alive()
    lines.stream_of(line)
    lines.type_of(line)
    with suppress(ValueError):
        event = lines.decode(1, line)
        assert all(-(2**63) <= number < 2**63 for number in (event.seq, event.time, event.version))
        event.stream.encode()
    list(lines.appends([(len(line), part) for part in line.split(b"\n")], sealed=True))


@settled(SOME)
@given(
    st.lists(st.binary(max_size=200) | mutated(LINES) | st.just(LINES), min_size=1, max_size=3),
    st.data(),
)
def test_files(segments: list[bytes], data: st.DataObject) -> None:
    """Files of a JSONL log that hold anything, under names that fit or don't, are read, or LogError
    says what is wrong; so is what is appended behind them."""
    still_alive()
    with folder() as here:
        path = here / "log"
        LocalFileBackend(path).close()
        begin = 0
        for content in segments:
            (path / f"{begin:020}.jsonl").write_bytes(content)
            begin += len(content) + data.draw(st.sampled_from([0, 0, 0, 1, -1, 10**6]))
            begin = max(begin, 0)
        ask_everything(path)


def ask_everything(path: Path) -> None:
    """Ask a store; nothing but an error of ours is raised."""
    with suppress(LogError, StoreError), open_store(str(path)) as store:
        ask(store)


def ask(store: LogStore) -> None:
    found: list[str] = []
    with suppress(LogError, StoreError):
        found = [one.session_id for one in store.list_sessions()]
    with suppress(LogError, StoreError):
        store.export_cost_summary(group_by="tag:k")
    with suppress(LogError, StoreError):
        store.export_cost_summary(group_by="model", tags={"k": "v"})
    with suppress(LogError, StoreError):
        list(logs.follow(store.log, after=0, stop=lambda: True))
    for session_id in found:
        with suppress(LogError, StoreError):
            json.loads(store.export_session(session_id).encode())
        with suppress(LogError, StoreError):
            store.export_session(session_id, "jsonl").encode()
    with suppress(LogError, StoreError):
        store.tag("a", {"k": "x"})
    with suppress(LogError, StoreError):
        store.rebuild()


# -- structures


IDS = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def histories(draw: st.DrawFn) -> list[NewEvent]:
    """Events of a few sessions in any order. Most payloads fit their types, some almost do; most
    stand where they belong in their streams, which mostly begin as sessions do."""
    events: dict[tuple[str, int], NewEvent] = {}
    salts: dict[str, bytes] = {}
    for _ in range(draw(st.integers(4, 25))):
        stream = draw(IDS)
        seq = sum(1 for name, _ in events if name == stream) + 1
        type_ = draw(st.sampled_from(list(EVENTS)))
        if seq == 1 and draw(st.integers(0, 5)):
            type_ = "session.started"
        data = draw(SOUND[type_])
        match draw(st.integers(0, 11)):
            case 0:
                data = draw(PAYLOADS[type_])
            case 1:
                data = draw(mutated(data))
            case 2:
                seq = draw(st.integers(0, 9) | st.sampled_from([-(2**63), 2**63 - 1]))
            case _:
                pass
        if stream not in salts:
            salts[stream] = codec.salt_of(Recorded(1, stream, seq, 0, type_, 1, data, b""))
        time = draw(st.integers(0, 10**18) | st.sampled_from([-(2**63), 2**63 - 1]))
        event = seal(salts[stream], stream, seq, time, type_, 1, data)
        events.setdefault((stream, seq), event)
    return list(events.values())


@settled(SOME)
@given(histories())
def test_histories(events: list[NewEvent]) -> None:
    """Any events in any order are projected; a rebuild gives the same rows; every session that a
    list shows can be loaded, or LogError says why not. Lists have sessions that began, or of which
    an erasure or an archive says so."""
    still_alive()
    with LogStore(SQLiteBackend(":memory:"), runtime=Runtime()) as store:
        for first in range(0, len(events), 7):
            store.log.append(events[first : first + 7])
            listed = store.list_sessions()
        assert store.rebuild(check=True).difference is None
        residues = (codec.decode(one) for one in store.log.read())
        named = {one.about for one in residues if isinstance(one, SessionResidue)}
        assert {one.session_id for one in listed} <= {"a", "b", "c", "d"} | named
        ask(store)


@settled(SOME)
@given(histories(), st.randoms(use_true_random=False))
def test_folds(events: list[NewEvent], random: typing.Any) -> None:
    """Any events fold to a session or to none: in any order, twice, with gaps and with rings of
    ancestors."""
    still_alive()
    recorded = [
        Recorded(number, *msgspec.structs.astuple(event)) for number, event in enumerate(events, 1)
    ]
    recorded += recorded[::3]
    random.shuffle(recorded)
    for session_id in ("a", "b", "c", "d"):
        session = fold(recorded, session_id)
        if session is not None:
            assert session.session_id == session_id
            assert session.total_cost.total_tokens is not None
            codec.encode(to_plain(session))


# -- SQLite files


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with a log and its rows."""
    path = tmp_path_factory.mktemp("fuzz") / "runs.db"
    with LogStore(SQLiteBackend(path), runtime=Runtime()) as store:
        store.log.append(some_events())
        assert [one.session_id for one in store.list_sessions()] == ["a"]
    return path.read_bytes()


@pytest.mark.parametrize("where", ["header", "schema", "anywhere"])
def test_flipped_bytes(sqlite_file: bytes, where: str) -> None:
    """A database some of whose bytes are others is read, or LogError says that it can't be."""
    size = {"header": 100, "schema": 4096, "anywhere": len(sqlite_file)}[where]
    places = st.tuples(st.integers(0, size - 1), st.integers(1, 255))

    @settled(FEW)
    @given(st.lists(places, min_size=1, max_size=8))
    def check(flips: list[tuple[int, int]]) -> None:
        still_alive()
        data = bytearray(sqlite_file)
        for at, bits in flips:
            data[at] ^= bits
        with folder() as here:
            path = here / "runs.db"
            path.write_bytes(data)
            ask_everything(path)

    check()


@settled(FEW)
@given(st.integers(0, 2**32 - 1), st.data())
def test_pages_moved(number: int, data: st.DataObject) -> None:
    """A database whose pages were zeroed, swapped or cut off is read, or LogError says so."""
    still_alive()
    with folder() as here:
        path = here / "runs.db"
        with LogStore(SQLiteBackend(path), runtime=Runtime()) as store:
            store.log.append(some_events())
            store.list_sessions()
        pages = [path.read_bytes()[at : at + 4096] for at in range(0, path.stat().st_size, 4096)]
        one = number % len(pages)
        other = data.draw(st.integers(0, len(pages) - 1))
        match data.draw(st.sampled_from(["zero", "swap", "copy", "cut"])):
            case "zero":
                pages[one] = bytes(4096)
            case "swap":
                pages[one], pages[other] = pages[other], pages[one]
            case "copy":
                pages[one] = pages[other]
            case _:
                del pages[max(1, one) :]
        path.write_bytes(b"".join(pages))
        ask_everything(path)


# -- values of a user's


class Rude:
    """Raises whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return hash("$lllm")

    def __bool__(self) -> bool:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no")


class NoClass:
    """Does not say what it is."""

    @property  # type: ignore[misc] # on purpose
    def __class__(self) -> type:
        raise RuntimeError("no")


class NoDict:
    """Has no __dict__ to speak of."""

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override] # on purpose
        raise RuntimeError("no")


class Words(str):
    """Text that is not what it says."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")

    def encode(self, *_: object) -> bytes:
        raise RuntimeError("no")


class Many(int):
    """A number that does not convert."""

    def __int__(self) -> int:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")


class Lists(list[object]):
    """A list that can't be walked."""

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no")


class Dicts(dict[object, object]):
    """A dict that has no end."""

    def items(self) -> typing.Any:
        raise RuntimeError("no")

    def __contains__(self, key: object) -> bool:
        raise RuntimeError("no")


@dataclasses.dataclass
class Node:
    """A dataclass that may hold itself."""

    value: object
    next: object = None


def ring(value: object) -> Node:
    node = Node(value)
    node.next = [node, {"again": node}]
    return node


def deep(kind: int, inner: object) -> object:
    for _ in range(10_000):
        inner = [inner] if kind == 0 else {"a": inner} if kind == 1 else Node(inner)
    return inner


LEAVES = (
    st.none() | st.booleans() | st.floats() | NUMBERS | st.binary(max_size=5) | WORDS
    | st.integers(10**4_000, 10**4_400) | st.decimals() | st.complex_numbers() | st.timedeltas()
    | st.sampled_from([Rude, NoClass, Words("x"), Many(3), object, len, type, ..., NotImplemented])
    | st.builds(Rude) | st.builds(NoClass) | st.builds(NoDict) | st.builds(Lists, st.just([1]))
    | st.builds(Dicts, st.just({1: 2})) | st.builds(iter, st.just([1]))
    | st.binary().map(lambda data: memoryview(data))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(st.tuples(WORDS | st.just("$lllm"), inner), max_size=3).map(dict)
        | st.lists(st.tuples(st.builds(Rude) | st.integers() | st.binary(), inner), max_size=1).map(
            dict
        )
        | st.lists(st.tuples(WORDS, inner), max_size=3).map(OrderedDict)
        | st.builds(Node, inner, inner)
        | st.builds(ring, inner)
        | st.builds(deep, st.integers(0, 2), inner)
    ),
    max_leaves=5,
)


@settled(MANY)
@given(VALUES)
def test_values(value: object) -> None:
    """Any value at all becomes JSON, and something again; neither way raises."""
    still_alive()
    plain = to_plain(value)
    data = codec.encode(plain)
    from_plain(codec.values(data))
    from_plain(plain)


@settled(MANY)
@given(JSON)
def test_marks(value: object) -> None:
    """Any JSON is read as a value, whatever marks it has, and what is read can be written."""
    still_alive()
    codec.encode(to_plain(from_plain(value)))


@pytest.mark.parametrize(
    "program",
    [
        # Each level holds the one below twice: 2 ** 80 paths through it.
        "value = 'x'\nfor _ in range(80): value = [value, value]",
        # Thirty nodes, each of which knows all others.
        "nodes = [{} for _ in range(30)]\nfor a in nodes: a['all'] = nodes\nvalue = nodes",
    ],
    ids=["doubled", "graph"],
)
def test_values_that_meet_themselves(program: str) -> None:
    """A value whose parts meet again on many paths is written in no time and little space."""
    bound = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))"
    write = "from lllm.events.values.json_values import to_plain; print(len(str(to_plain(value))))"
    done = subprocess.run(
        [sys.executable, "-c", f"{bound}\n{program}\n{write}"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) < 50_000_000
