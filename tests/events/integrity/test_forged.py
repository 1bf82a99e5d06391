"""A store that somebody made to do harm: whatever is asked of it, the answer comes, or one clear
error, and never a hang, a crash or a traceback."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

import msgspec
import pytest

from lllm import LocalFileBackend, SQLiteBackend
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.model import EVENTS
from tests.support.watched import Hung, Watched

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("LLLM_SURVIVAL_ROUNDS", "0"))  # 0: a few of each kind
TIME = 1_700_000_000_000_000_000
GOOD = "the-good-one"
KINDS = pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
Json = object
NESTED: Json = json.loads("[" * 700 + "]" * 700)
WRONG: tuple[Json, ...] = (
    None, [], {}, "x", "", "\ud800", -1, 2**63, 2**70, 10**400, 1.5, 1e308, True, NESTED,
    {"$lllm": "tuple", "items": [[]]},
)  # fmt: skip


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """The process that asks."""
    with Watched() as process:
        yield process


def problems_of(watched: Watched, path: Path, *, sessions: int = 2) -> list[str]:
    """What is wrong with the answers to a few questions; that there was none, too."""
    try:
        return watched.ask(path, sessions=sessions, briefly=True).problems
    except Hung as error:
        return [str(error)]


def event(
    stream: str, seq: int, type_: str, payload: Json = None, *, time: int = TIME, version: int = 1
) -> NewEvent:
    """An event; a payload of bytes is taken as it is, any other is given the empty salt."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return seal(b"", stream, seq, time, type_, version, data)


def started(stream: str, *above: str, **fields: Json) -> NewEvent:
    """The first event of a session. above: the ids of its ancestors."""
    ancestors = [{"session_id": one, "tactic_path": "p::t"} for one in above]
    payload = {"tactic_path": "p::t", "name": "t", "salt": "", "ancestors": ancestors}
    return event(stream, 1, "session.started", payload | fields)


def session(stream: str, *events: tuple[str, Json], **fields: Json) -> list[NewEvent]:
    """A session with these events in it."""
    return [
        started(stream, **fields),
        *(event(stream, seq, type_, payload) for seq, (type_, payload) in enumerate(events, 2)),
    ]


def response(**fields: Json) -> tuple[str, Json]:
    """An answer of a model."""
    payload = {
        "request": 1, "message": 1, "content": {"role": "assistant"}, "finish": "stop",
        "asked": "m", "model": "m", "price": {"status": "priced", "nanos": 5}, "elapsed": 1,
    }  # fmt: skip
    return "llm.responded", payload | fields


REQUEST = (
    "llm.requested",
    {"request": 1, "step": 1, "attempt": 1, "provider": "p", "api": "a", "model": "m",
     "digest": "d"},
)  # fmt: skip


def raw(depth: int, before: str = '{"elapsed":1,"delivery":', after: str = "}") -> bytes:
    """A payload with arrays in arrays."""
    return (before + "[" * depth + "]" * depth + after).encode()


def succeeded(**fields: Json) -> tuple[str, Json]:
    """The end of a session."""
    return "session.succeeded", {"elapsed": 1} | fields


def about(stream: str, type_: str, of: str, **fields: Json) -> NewEvent:
    """A statement about a session."""
    return event(stream, 1, type_, {"about": of, "salt": ""} | fields)


PLAIN = {"tactic_path": "t", "name": "t", "salt": ""}
TASK = '{"tactic_path":"t","name":"t","salt":"","task":'
MOST = {"usage": {"input": 2**63 - 1}, "price": {"status": "priced", "nanos": 2**63 - 1}}
PRIME = 2**61 - 1  # by which CPython takes the hash of an int: all multiples have the same
HOST = socket.gethostname()

STORIES: dict[str, list[NewEvent]] = {
    "nesting bomb": session("a", ("session.succeeded", raw(100_000))),
    "nesting bomb first": [event("a", 1, "session.started", raw(100_000, TASK))],
    **{
        f"nested {depth}": [
            event("a", 1, "session.started", raw(depth, TASK)),
            event("a", 2, "session.failed", raw(depth, '{"elapsed":1,"error":{"type":', "}}")),
            event("a", 3, "unheard.of", raw(depth)),
            event("a", 4, "session.succeeded", raw(depth)),
        ]
        for depth in (150, 400, 600, 900)
    },
    "elapsed beyond 64 bits": session("a", succeeded(elapsed=2**70)),
    "elapsed of 4,000 digits": session("a", succeeded(elapsed=10**4_000)),
    "integer of 10,000 digits": session(
        "a", ("session.succeeded", b'{"elapsed":' + b"1" * 10_000 + b"}")
    ),
    "1e999999": session("a", ("session.succeeded", b'{"elapsed":1e999999,"delivery":1e999999}')),
    "ordinal beyond 64 bits": [started("a"), started("b", "a", ordinal=2**70)],
    "tokens beyond 64 bits": session("a", REQUEST, response(usage={"input": 2**70})),
    "money beyond 64 bits": session(
        "a", REQUEST, response(price={"status": "priced", "nanos": 2**70})
    ),
    "money of 400 digits": session(
        "a", REQUEST, response(price={"status": "priced", "nanos": 10**400})
    ),
    "a sum beyond 64 bits": session("a", REQUEST, response(**MOST), response(**MOST)),
    "a sum of sessions beyond 64 bits": [
        *session("a", REQUEST, response(**MOST)), *session("b", REQUEST, response(**MOST)),
        *session("c", REQUEST, response(**MOST)),
    ],
    "negative amounts": session(
        "a", REQUEST,
        response(usage={"input": -5}, price={"status": "priced", "nanos": -5}, elapsed=-5),
        succeeded(elapsed=-(2**62)),
    ),
    "rates that are no numbers": session(
        "a", REQUEST, response(price={"status": "priced", "nanos": 1, "rates": {"input": "much"}})
    ),
    "rates beyond numbers": session(
        "a", REQUEST,
        response(
            price={"status": "priced", "nanos": 1, "rates": {"input": "1e999", "output": "nan"}}
        ),
    ),
    "parts of 400 digits": session(
        "a", REQUEST,
        response(price={"status": "priced", "nanos": 1, "parts": {"output": 10**400}}),
    ),
    "times at the ends": [
        event("a", 1, "session.started", PLAIN, time=2**63 - 1),
        event("b", 1, "session.started", PLAIN, time=-(2**63)),
        event("b", 2, "session.succeeded", {"elapsed": 1}, time=2**63 - 1),
    ],
    "its own ancestor": [started("a", "a")],
    "its own ancestor, twice": [started("a", "a", "a", "b", "a")],
    "two in a ring": [started("a", "b"), started("b", "a")],
    "three in a ring": [started("a", "c"), started("b", "a"), started("c", "b")],
    "a ring below a root": [started("r"), started("a", "r", "b"), started("b", "r", "a")],
    "5,000 ancestors": [started("a", *(f"x{number}" for number in range(5_000)))],
    "unknown sessions": [
        about("t1", "session.tagged", "nobody", set={"a": "b"}),
        about("t2", "session.interrupted", "nobody", owner="x", last_seq=1),
        event("t3", 1, "llm.failed", {"request": 1, "asked": "m", "elapsed": 1, "error":
                                      {"type": "E", "message": "m"}}),
        *(event("t4", seq, type_, {}) for seq, type_ in enumerate(EVENTS, 1)),
    ],
    "statements about statements": [
        started("a"),
        about("t1", "session.tagged", "a", set={"a": "b"}),
        about("t2", "session.tagged", "t1", set={"a": "b"}),
        about("t3", "session.tagged", "t3", set={"a": "b"}),
        about("t4", "session.interrupted", "t4", owner="../../x", last_seq=2**70),
        about("t5", "session.interrupted", "a", owner="x" * 10_000, last_seq=-1),
    ],
    "no beginning": [
        event("a", 2, "session.succeeded", {"elapsed": 1}),
        event("b", 7, "session.started", PLAIN),
        event("c", 0, "session.started", PLAIN),
        event("d", -(2**63), "session.started", PLAIN),
        event("d", 2**63 - 1, "session.succeeded", {"elapsed": 1}),
    ],
    "begun twice": [
        *session("a", succeeded()),
        event("a", 3, "session.started", {"tactic_path": "u", "name": "u", "salt": "AAAA"}),
        event("a", 4, "session.failed", {"elapsed": 2, "error": {"type": "E", "message": "m"}}),
        event("a", 5, "session.succeeded", {"elapsed": 3}),
    ],
    "a tool that answers itself": session(
        "a", REQUEST, ("tool.called", {"tool": 1, "request": 1, "call_id": "c", "name": "n"}),
        ("tool.returned", {"tool": 1, "message": 1, "content": {"role": "tool"}, "repeats": 1,
                           "elapsed": 2**70}),
        ("tool.called", {"tool": 1, "request": 1, "call_id": "c", "name": "n"}),
    ),
    "no text": session(
        "a", ("session.succeeded", b"\xff\xfe"), ("x.y", b'{\n "a": 1}'), ("x.y", b"no JSON"),
        ("x.y", b""), ("x.y", b" 1 "), ("x.y", b'{"a":1,"a":2}'), ("x.y", b'"\x00\x1b[31m"'),
    ),
    "names that act": [
        event("\x1b]0;owned\x07\x9b2J\u202e", 1, "session.started",
              {"tactic_path": "\x1b[31m", "name": "\x07", "salt": ""}),
        event("\x1b]0;owned\x07\x9b2J\u202e", 2, "type\x1b[31m\x9b", {"name\x1b": "\x1b"}),
        event("'; DROP TABLE events; --", 1, "'; DROP TABLE events; --", {}),
        event("", 1, "session.started", {"tactic_path": "", "name": "", "salt": ""}),
        event("../../../pwned", 1, "session.started",
              {"tactic_path": "../x", "name": "/etc", "salt": "", "partition": "../.."}),
    ],
    "owners that are paths": [
        started("a", owner="../../../../etc/passwd", host=HOST),
        started("b", owner="/dev/zero\0", host=HOST),
        started("c", owner="0-0", host=HOST),
        started("d", owner="a" * 5_000 + "-1", host=HOST),
    ],
    "a salt of its own": [started("a", salt="AAAA" * 100)],
    "marks of nobody": session(
        "a",
        task={"$lllm": "dict", "items": [[{"$lllm": "tuple", "items": [[]]}, 1]]},
        metadata={"$lllm": "decimal", "value": "1e999999999"},
        options=[
            {"$lllm": kind, "value": value, "items": value, "base64": value}
            for kind in ("dict", "tuple", "set", "bytes", "str", "int", "float", "datetime", "date",
                         "time", "decimal", "uuid", "complex", "repr", "cycle", "nothing")
            for value in WRONG
        ],
    ),
    "a dear set": session(
        "a", task={"$lllm": "set",
                   "items": [{"$lllm": "int", "value": hex(n * PRIME)} for n in range(1, 12_000)]},
    ),
    "many facets": [started("a", tags={f"k{number}": "v" for number in range(1_000)})],
}  # fmt: skip


def forge(kind: str, folder: Path, events: list[NewEvent]) -> Path:
    """A store of these events, and of one good session behind them."""
    path = folder / ("runs.db" if kind == "sqlite" else "runs")
    log = SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)
    if events:
        log.append(events)
    log.append(session(GOOD, succeeded(delivery="good")))
    log.close()
    return path


@KINDS
@pytest.mark.parametrize("story", STORIES)
def test_events(tmp_path: Path, watched: Watched, kind: str, story: str) -> None:
    """Events that no writer of ours would write harm nothing, and hide no other session."""
    # The command line does not know which backend it shows.
    answer = watched.ask(
        forge(kind, tmp_path, STORIES[story]), sessions=5, briefly=kind == "jsonl" and not ROUNDS
    )
    assert answer.problems == []
    assert GOOD in answer.listed


@KINDS
def test_many_levels(tmp_path: Path, watched: Watched, kind: str) -> None:
    """Sessions may stand below each other in more levels than Python has frames on its stack."""
    levels = 600 if kind == "sqlite" else 200  # each reads a folder's log to its end
    events = [
        started(f"s{number:03}", *([f"s{number - 1:03}"] if number else ()))
        for number in range(levels)
    ]
    answer = watched.ask(forge(kind, tmp_path, events), sessions=2, briefly=True)
    assert answer.problems == []
    assert set(answer.listed) == {GOOD, "s000"}


# -- every field of every event, wrong in every way


def sample(kind: object) -> Json:
    """Some value of a field's type, as JSON."""
    plain: dict[object, Json] = {str: "s", int: 1, bool: False, bytes: "", object: {"a": [1]}}
    if kind in plain:
        return plain[kind]
    inside = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.name: sample(field.type) for field in msgspec.structs.fields(kind)}
    match typing.get_origin(kind):
        case typing.Annotated:
            return sample(inside[0])
        case typing.Literal:
            return inside[0]
        case typing.Union | types.UnionType:
            return sample(inside[0])
        case origin if origin is tuple:
            return [sample(inside[0])]
        case origin if origin is dict:
            return {"k": sample(inside[1])}
    raise NotImplementedError(f"no sample of {kind!r}")


def places(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in a JSON value: every key and index, at any depth."""
    inside = value.items() if isinstance(value, dict) else ()
    for key, item in [*inside, *(enumerate(value) if isinstance(value, list) else ())]:
        yield (*path, key)
        yield from places(item, (*path, key))


def replaced(value: Json, path: tuple[str | int, ...], by: Json) -> Json:
    """A JSON value with one thing in it replaced."""
    if not path:
        return by
    first, *rest = path
    if isinstance(value, dict):
        return value | {first: replaced(value[first], tuple(rest), by)}
    assert isinstance(value, list)
    return [
        replaced(item, tuple(rest), by) if index == first else item
        for index, item in enumerate(value)
    ]


def wrong_payloads(type_: str, wrong: Json) -> list[Json]:
    """The payload of an event of a type, with each thing in it replaced in turn."""
    whole = sample(EVENTS[type_])
    return [replaced(whole, place, wrong) for place in places(whole)]


@KINDS
def test_every_field(tmp_path: Path, watched: Watched, kind: str) -> None:
    """Every field of every event may hold null, nothing, another type, a number beyond all bounds
    or nested arrays."""
    forged: list[NewEvent] = []
    for number, wrong in enumerate(WRONG):
        sound = [
            (type_, sample(EVENTS[type_])) for type_ in EVENTS
            if type_ not in ("session.started", "session.succeeded", "session.failed")
        ]  # fmt: skip
        broken = [
            (type_, payload)
            for type_ in EVENTS
            if type_ != "session.started"
            for payload in wrong_payloads(type_, wrong)
        ]
        forged += session(f"a{number}", *sound, *broken)
        for second, payload in enumerate(wrong_payloads("session.started", wrong)):
            forged.append(event(f"b{number}-{second}", 1, "session.started", payload))
            forged.append(event(f"b{number}-{second}", 2, "session.succeeded", {"elapsed": 1}))
    answer = watched.ask(forge(kind, tmp_path, forged), sessions=25)
    assert answer.problems == []
    assert GOOD in answer.listed


# -- lines of a JSONL log


LINE: dict[str, Json] = {
    "stream": "a", "seq": 1, "time": TIME, "type": "session.started", "version": 1,
    "digest": started("a").digest.hex(),
    "data": {"tactic_path": "p::t", "name": "t", "salt": "", "ancestors": []},
    "more": 0,
}  # fmt: skip


def line_of(fields: dict[str, Json]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def bomb(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


LINES: dict[str, bytes] = {
    "sound": line_of(LINE),
    **{
        f"{name} is {type(wrong).__name__} {number}": line_of(LINE | {name: wrong})
        for name in LINE
        for number, wrong in enumerate((*WRONG, -(2**63) - 1))
    },
    **{f"no {name}": line_of({k: v for k, v in LINE.items() if k != name}) for name in LINE},
    **{f"data nested {n}": line_of(LINE).replace(b'"data":{', b'"data":%b,"x":{' % bomb(n))
       for n in (700, 100_000)},
    "another field nested": line_of(LINE).replace(b'"more"', b'"x":%b,"more"' % bomb(100_000)),
    "seq of 10,000 digits": line_of(LINE).replace(b'"seq":1', b'"seq":' + b"1" * 10_000),
    "seq 1e999999": line_of(LINE).replace(b'"seq":1', b'"seq":1e999999'),
    "time 1e999999": line_of(LINE).replace(b'"time":17', b'"time":1e999999,"x":17'),
    "keys twice": line_of(LINE).replace(b'"seq":1', b'"seq":1,"seq":2,"stream":"b"'),
    "no UTF-8": line_of(LINE).replace(b'"stream":"a"', b'"stream":"\xff\xfe"'),
    "no UTF-8 in data": line_of(LINE).replace(b"p::t", b"\xff\xc3"),
    "NUL": line_of(LINE).replace(b"p::t", b"\0"),
    "a lone surrogate": line_of(LINE).replace(b'"stream":"a"', b'"stream":"\\ud800"'),
    "base64 that is none": line_of(LINE).replace(b'"data"', b'"base64":"?","x"'),
    "text and base64": line_of(LINE).replace(b'"data"', b'"text":"{}","base64":"AAAA","x"'),
    "more than there are": line_of(LINE | {"more": 5}),
    "more than any": line_of(LINE | {"more": 999_999_999}),
    "10 MB of one line": line_of(LINE | {"x": "y" * 10_000_000, "more": 0}),
    "only ends": b',"more":0}\n' * 50_000 + b"x",
    "not JSON": b"\x00" * 5_000,
    "an empty line": b"",
    "CR LF": line_of(LINE) + b"\r",
}  # fmt: skip


TELLING = {  # tried each time
    "sound", "time is int 8", "version is int 15", "data nested 100000", "another field nested",
    "seq of 10,000 digits", "no UTF-8", "more than there are", "10 MB of one line", "only ends",
}  # fmt: skip


def lines_store(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "runs"
    LocalFileBackend(path).close()
    (path / f"{0:020}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def good_lines(folder: Path) -> list[bytes]:
    """The lines of a good session."""
    path = forge("jsonl", folder, [])
    lines = (path / f"{0:020}.jsonl").read_bytes().split(b"\n")[:-1]
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()
    return lines


@pytest.mark.parametrize("where", ["in the middle", "at the end"])
def test_lines(tmp_path: Path, watched: Watched, where: str) -> None:
    """A line of a JSONL log may be anything, in the middle or at the end."""
    problems: list[str] = []
    some = list(LINES.items())
    chosen = [one for n, one in enumerate(some) if ROUNDS or one[0] in TELLING or n % 19 == 0]
    for number, (name, line) in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        good = good_lines(folder)
        after = good if where == "in the middle" else []
        path = lines_store(folder, [*([] if after else good), line, *after])
        problems += [f"{name}: {one}" for one in problems_of(watched, path)[:1]]
    assert problems == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b'{"format":-1}', b'{"format":true}', b'{"format":1e999}',
     b'{"format":' + b"9" * 10_000 + b"}", b'{"format":"1"}', b"\xff\xfe", bomb(100_000),
     b'{"format":' + bomb(100_000) + b"}"],
    ids=lambda content: repr(content)[:30],
)  # fmt: skip
def test_the_format(tmp_path: Path, watched: Watched, content: bytes) -> None:
    """What log.json says may be anything."""
    path = forge("jsonl", tmp_path, [])
    (path / "log.json").write_bytes(content)
    assert watched.ask(path, briefly=True).problems == []


@pytest.mark.parametrize(
    "name",
    ["00000000000000000001", "99999999999999999999", "09223372036854775807",
     "00000000000000000000\n", "\uff10" * 20],
)  # fmt: skip
def test_names_of_segments(tmp_path: Path, watched: Watched, name: str) -> None:
    """A segment may begin anywhere, or have a name that is almost one."""
    path = forge("jsonl", tmp_path, [])
    (path / f"{name}.jsonl").write_bytes(line_of(LINE) + b"\n")
    assert watched.ask(path, briefly=True).problems == []


def test_a_log_in_two_files_twice(tmp_path: Path, watched: Watched) -> None:
    """A session that stands in the log twice, byte for byte, is there once, or there is damage."""
    good = good_lines(tmp_path)
    assert watched.ask(lines_store(tmp_path, good + good), briefly=True).problems == []


# -- SQLite files


def tampered(folder: Path, *statements: str, kind: str = "sqlite") -> Path:
    """A store with some sessions, its rows built, to which somebody did something else."""
    from lllm.cli.open_store import open_store

    below = [started("a2", "a1"), event("a2", 2, *succeeded())]
    path = forge(kind, folder, [*session("a1", REQUEST, response(), tags={"k": "v"}), *below])
    with open_store(str(path)) as store:
        store.list_sessions()
    file = path if kind == "sqlite" else path / "rows.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA trusted_schema = ON")
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.executescript(statement)
        connection.commit()
    return path


FREE = "".join(
    f"DROP TRIGGER events_are_never_{done};" for done in ("changed", "deleted", "replaced")
)
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT"
COLUMNS = "position, stream, seq, time, type, version, digest, data"

SCHEMAS: dict[str, str] = {
    "events is a view": "ALTER TABLE events RENAME TO e; CREATE VIEW events AS SELECT * FROM e;",
    "events is an endless view": (
        "ALTER TABLE events RENAME TO e; CREATE VIEW events AS "
        f"{ENDLESS} x AS position, 'a' AS stream, x AS seq, 1 AS time, 't' AS type, "
        "1 AS version, x'' AS digest, '{}' AS data FROM c;"
    ),
    "events has other columns": f"{FREE} DROP TABLE events; CREATE TABLE events (x);",
    "events has no types": (
        f"{FREE} ALTER TABLE events RENAME TO e; CREATE TABLE events ({COLUMNS});"
        f"INSERT INTO events SELECT {COLUMNS} FROM e; INSERT INTO events VALUES ('x', 1, 2, 3, 4, "
        "5, 6, 7), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (x'ff', x'ff', 'x', 'x', "
        "x'ff', 'x', 'x', 1.5), (1e300, 'a', 1e300, 1e300, 't', 1e300, x'', '{}');"
    ),
    "events is gone": f"{FREE} DROP TABLE events;",
    "events is computed without end": (
        f"{FREE} ALTER TABLE events RENAME TO e; CREATE TABLE events (position INTEGER PRIMARY KEY,"
        " stream TEXT, seq INT, time INT, type TEXT, version INT, digest BLOB,"
        " data TEXT GENERATED ALWAYS AS (zeroblob(900000000)));"
        "INSERT INTO events (stream, seq, time, type, version, digest) SELECT stream, seq, time,"
        " type, version, digest FROM e; "
        "INSERT INTO events (stream, seq, time, type, version, digest) SELECT stream || 'x', seq,"
        " time, type, version, digest FROM events;"
    ),
    "a trigger on an append": (
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN "
        f"INSERT INTO checkpoints (view) {ENDLESS} x FROM c; END;"
    ),
    "a trigger that deletes": (
        f"{FREE} CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END;"
    ),
    "a trigger on the rows": (
        "CREATE TRIGGER t AFTER UPDATE ON checkpoints BEGIN "
        f"INSERT INTO checkpoints (view) {ENDLESS} x FROM c; END;"
    ),
    "checkpoints is a view": (
        "DROP TABLE checkpoints; CREATE VIEW checkpoints AS SELECT 'sessions' AS view, 1 AS"
        " version, 1 AS generation, 1 AS position, '[]' AS known;"
    ),
    "checkpoints is an endless view": (
        f"DROP TABLE checkpoints; CREATE VIEW checkpoints AS {ENDLESS} x AS view, 1 AS version,"
        " 1 AS generation, 1 AS position, '[]' AS known FROM c;"
    ),
    "checkpoints has other columns": "DROP TABLE checkpoints; CREATE TABLE checkpoints (x);",
    "sessions is a table": "DROP VIEW sessions; CREATE TABLE sessions (x);",
    "sessions is an endless view": (
        f"DROP VIEW sessions; CREATE VIEW sessions AS {ENDLESS} x FROM c;"
    ),
    "running is an endless view": (
        f"DROP VIEW running; CREATE VIEW running AS {ENDLESS} 1 AS session, 'o' AS owner,"
        " 'h' AS host FROM c;"
    ),
    "facets has other columns": "DROP VIEW facets; CREATE VIEW facets AS SELECT 1 AS x;",
    "tables with names like ours": (
        "CREATE TABLE sessions_v999999999999999999999 (x); CREATE TABLE sessions_v007 (x);"
        "CREATE VIEW facets_v77 AS SELECT 1; CREATE TABLE costs_v2 (x);"
        "CREATE TABLE sessions_v2 (x); CREATE TABLE tags_v2 (x);"
    ),
    "the schema is no SQL": (
        "UPDATE sqlite_master SET sql = 'CREATE TABLE events (((' WHERE name = 'events';"
    ),
    "the schema refers to itself": (
        "DROP VIEW sessions; CREATE VIEW sessions AS SELECT * FROM running;"
        "DROP VIEW running; CREATE VIEW running AS SELECT * FROM sessions;"
    ),
    "another encoding": "PRAGMA user_version = -1;",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(tmp_path: Path, watched: Watched, name: str) -> None:
    """A table of ours may be a view, have other columns, or triggers that run what they like."""
    assert watched.ask(tampered(tmp_path, SCHEMAS[name]), sessions=3).problems == []


VALUES = ("NULL", "'x'", "''", "x'ff'", "-1", "9223372036854775807", "-9223372036854775808",
          "1e300", "9e999", "1.5", "CAST(x'ff' AS TEXT)")  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS.split(", "))
def test_values_of_events(tmp_path: Path, watched: Watched, column: str) -> None:
    """A column of an event may hold whatever SQLite lets one put there."""
    problems: list[str] = []
    for number, value in enumerate(VALUES):
        folder = tmp_path / str(number)
        folder.mkdir()
        update = f"UPDATE OR IGNORE events SET {column} = {value} WHERE position = 2;"
        try:
            path = tampered(folder, FREE, update)
        except sqlite3.Error:
            continue
        problems += [f"{value}: {one}" for one in problems_of(watched, path)[:1]]
    assert problems == []


@KINDS
def test_values_of_rows(tmp_path: Path, watched: Watched, kind: str) -> None:
    """A column of the rows of any view may hold anything: answers are wrong at worst."""
    path = tampered(tmp_path, kind=kind)
    file = path if kind == "sqlite" else path / "rows.sqlite"
    saved = file.read_bytes()
    odd = list(product(columns_of_rows(file), VALUES))
    problems: list[str] = []
    for (table, column), value in odd[:: 1 if ROUNDS else 53]:
        for extra in ("-wal", "-shm"):
            Path(f"{file}{extra}").unlink(missing_ok=True)
        file.write_bytes(saved)
        connection = sqlite3.connect(file)
        with suppress(sqlite3.IntegrityError), connection:  # a key takes less
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {value}")
        connection.close()
        problems += [f"{table}.{column} {value}: {one}" for one in problems_of(watched, path)[:1]]
    assert problems == []


def columns_of_rows(file: Path) -> list[tuple[str, str]]:
    """The columns of every table that a projection writes."""
    connection = sqlite3.connect(file)
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB '*_v1'"
        " OR name = 'checkpoints'"
    ).fetchall()
    found = [
        (table, column)
        for (table,) in tables
        for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
    ]
    connection.close()
    return found


@KINDS
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoints SET position = 1 << 62",
        'UPDATE checkpoints SET known = \'[["x", "y"]]\'',
        "UPDATE checkpoints SET known = '{'",
        f"UPDATE checkpoints SET known = '{'[' * 5_000}'",
        "UPDATE checkpoints SET generation = 'v1; DROP TABLE events'",
        "UPDATE sessions_v1 SET parent = number, root = number",
        "UPDATE sessions_v1 SET parent = (SELECT max(number) FROM sessions_v1)",
        "UPDATE sessions_v1 SET last_position = 1",
        "UPDATE sessions_v1 SET state = 'asleep'",
        "UPDATE session_totals_v1 SET calls = -5, cost_nanos = -5",
        "DELETE FROM sessions_v1",
        "DELETE FROM session_totals_v1",
        "DELETE FROM facet_numbers_v1",
        "DELETE FROM tag_names_v1",
        "UPDATE session_tags_v1 SET facets = ' 1 x 77 '",
        "UPDATE OR REPLACE facets_v1 SET session = 77",
        "INSERT OR REPLACE INTO statements_v1 VALUES (1, 77, 'x'), (1, 1, 'a1'), (1, -1, '')",
        "INSERT OR REPLACE INTO running_v1 VALUES (1, '../../x', 'h'), (2, NULL, NULL)",
    ],
    ids=lambda statement: statement[:50],
)
def test_rows(tmp_path: Path, watched: Watched, kind: str, statement: str) -> None:
    """Rows that were tampered with give wrong answers at worst."""
    assert watched.ask(tampered(tmp_path, statement, kind=kind), sessions=3).problems == []


Tamper = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: data[:100],
        lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
        lambda data: data[:16] + b"\x00\x01" + data[18:],
        lambda data: data[:28] + b"\xff\xff\xff\xff" + data[32:],
        lambda data: data[:56] + b"\x00\x00\x00\x02" + data[60:],
        lambda data: data.replace(b"session.succeeded", b"\xff" * 17),
        lambda data: data.replace(b"CREATE TABLE", b"CREATE \xff\xffBLE"),
    ],
    ids=["cut", "filled", "page size", "page count", "UTF-16", "types", "schema"],
)
def test_files(tmp_path: Path, watched: Watched, tamper: Tamper) -> None:
    """A database whose pages lie about themselves is damaged, or works."""
    path = tampered(tmp_path)
    path.write_bytes(tamper(path.read_bytes()))
    assert watched.ask(path, briefly=True).problems == []
