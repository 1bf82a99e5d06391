"""Every alteration of a log is found: by its digests, or against a seal that is kept elsewhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.audit.extension import Extension, check_extension, tree_for
from lllm.audit.sealing import read_anchor
from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.codec import salt_of
from lllm.events.digest import leaf_digest, seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.integrity.verify import Verified, verify
from lllm.events.model import EVENTS
from tests.support import ROOT

RECORDINGS = sorted((ROOT / "tests" / "golden" / "recordings").glob("*.jsonl"))
ENVELOPE = ("stream", "seq", "time", "type", "version", "digest")


def opened(kind: str, path: Path) -> LogBackend:
    """A log at a path."""
    return SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)


def file_of(kind: str, path: Path) -> Path:
    return path if kind == "sqlite" else path / "00000000000000000000.jsonl"


def free(path: Path) -> sqlite3.Connection:
    """A connection to a log without its triggers."""
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.commit()
    return connection


# -- one field of one event


def write_every_type(log: LogBackend) -> None:
    """What real programs recorded, and the types that no single program writes."""
    with LogStore(log) as store:
        store.import_sessions(*RECORDINGS)
        known = {event.type for event in store.log.read()}
        for kind in EVENTS.values():
            if kind.type not in known:
                data = json.dumps(dict.fromkeys(kind.__struct_fields__, 1)).encode()
                new = seal(b"", f"x-{kind.type}", 1, 1, kind.type, kind.version, data)
                store.log.append([new])
        store.log.append([seal(b"", "behind", 1, 1, "new.kind", 1, b"{}")])


def alterations(event: Recorded) -> Iterator[tuple[str, Recorded]]:
    """The event with each field of its envelope and of its payload changed, one at a time."""
    others: dict[str, object] = {
        "stream": f"{event.stream}x", "seq": event.seq + 1_000, "time": event.time + 1,
        "type": f"{event.type}x", "version": event.version + 1,
        "digest": bytes([event.digest[0] ^ 1]) + event.digest[1:],
    }  # fmt: skip
    for field in ENVELOPE:
        yield field, msgspec.structs.replace(event, **{field: others[field]})
    payload = json.loads(event.data)
    fields = (one.encode_name for one in msgspec.structs.fields(EVENTS[event.type]))
    for field in sorted({*fields, *payload}):
        altered = {**payload, field: {"another": payload.get(field)}}
        data = json.dumps(altered).encode()
        yield f"data.{field}", msgspec.structs.replace(event, data=data)


def put_row(connection: sqlite3.Connection, event: Recorded) -> None:
    values = {name: getattr(event, name) for name in (*ENVELOPE, "data")}
    values["data"] = event.data.decode()
    sets = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        f"UPDATE events SET {sets} WHERE position = :position",
        {**values, "position": event.position},
    )
    connection.commit()


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_every_field_of_every_type(kind: str, tmp_path: Path) -> None:
    """Altered once each: all are found, and named with their position or stream."""
    path = tmp_path / "log"
    write_every_type(opened(kind, path))
    with closing(opened(kind, path)) as log:
        events = list(log.read())
        assert not verify(log).damages
        of_types = {event.type: event for event in reversed(events) if event.type in EVENTS}
        assert of_types.keys() == EVENTS.keys()
        done, missed = 0, []
        file = file_of(kind, path)
        content = b"" if kind == "sqlite" else file.read_bytes()
        connection = free(path) if kind == "sqlite" else None
        for event in of_types.values():
            for field, altered in alterations(event):
                if connection is not None:
                    put_row(connection, altered)
                else:
                    file.write_bytes(with_line(content, event, altered))
                if not verify(log).damages:
                    missed.append((event.type, field))
                done += 1
                if connection is not None:
                    put_row(connection, event)
        if connection is not None:
            connection.close()
        else:
            file.write_bytes(content)
        assert not verify(log).damages
    assert missed == []
    assert done > 12 * len(EVENTS), done  # six fields of the envelope, and more of the payload


def with_line(content: bytes, event: Recorded, altered: Recorded) -> bytes:
    """The content of a JSONL file with another event in the place of one."""
    begin = content.rfind(b"\n", 0, event.position - 1) + 1
    line = content[begin : event.position - 1]
    old, more = line.rsplit(b',"more":', 1)
    assert event.data in old
    fields = json.loads(line)
    new = {
        "stream": altered.stream, "seq": altered.seq, "time": altered.time, "type": altered.type,
        "version": altered.version, "digest": altered.digest.hex(),
    }  # fmt: skip
    for name, value in new.items():
        if fields[name] != value:
            written, wanted = (json.dumps(one).encode() for one in (fields[name], value))
            assert (b'"%s":%s' % (name.encode(), written)) in old
            old = old.replace(
                b'"%s":%s' % (name.encode(), written), b'"%s":%s' % (name.encode(), wanted), 1
            )
    old = old.replace(event.data, altered.data, 1)
    return content[:begin] + old + b',"more":' + more + content[event.position - 1 :]


# -- consistent in itself, by somebody who knows all salts


Sessions = list[NewEvent]


def resealed(event: NewEvent, salts: dict[str, bytes], **changes: object) -> NewEvent:
    """The event with other fields and the digest that fits these."""
    new = msgspec.structs.replace(event, **changes)
    digest = leaf_digest(
        salts[new.stream], new.stream, new.seq, new.time, new.type, new.version, new.data
    )
    return msgspec.structs.replace(new, digest=digest)


def swap_streams(events: Sessions, _: dict[str, bytes]) -> Sessions:
    at = next(i for i in range(3, len(events)) if events[i].stream != events[i - 1].stream)
    return [*events[: at - 1], events[at], events[at - 1], *events[at + 1 :]]


def drop_last(events: Sessions, _: dict[str, bytes]) -> Sessions:
    return events[:-1]


def drop_session(events: Sessions, _: dict[str, bytes]) -> Sessions:
    return [event for event in events if event.stream != events[0].stream]


def double_session(events: Sessions, salts: dict[str, bytes]) -> Sessions:
    first = events[0].stream
    salts["copy"] = salts[first]
    copy = [resealed(one, salts, stream="copy") for one in events if one.stream == first]
    return [*events[:-2], *copy[:2], *events[-2:]]


def move_event(events: Sessions, salts: dict[str, bytes]) -> Sessions:
    moved = next(one for one in events if one.type == "error.noted")
    other = next(one.stream for one in events if one.stream != moved.stream and one.seq > 1)
    last = max(one.seq for one in events if one.stream == other)
    return [
        resealed(one, salts, stream=other, seq=last + 1) if one is moved else one for one in events
    ]


def change_payload(events: Sessions, salts: dict[str, bytes]) -> Sessions:
    changed = next(one for one in events if one.type == "error.noted")
    return [resealed(one, salts, data=b'{"x":9}') if one is changed else one for one in events]


def put_in(events: Sessions, salts: dict[str, bytes]) -> Sessions:
    salts["new"] = b""
    return [*events[:4], seal(b"", "new", 1, 1, "error.noted", 1, b"{}"), *events[4:]]


def another_log(events: Sessions, salts: dict[str, bytes]) -> Sessions:
    return [resealed(one, salts, time=one.time + 1) for one in events] + [
        seal(b"", f"later-{number}", 1, 1, "error.noted", 1, b"{}") for number in range(9)
    ]


CONSISTENT: list[Callable[[Sessions, dict[str, bytes]], Sessions]] = [
    swap_streams, drop_last, drop_session, double_session, move_event, change_payload, put_in,
    another_log,
]  # fmt: skip


def interleaved() -> Sessions:
    """Three sessions that are under way at once, as their events stand in the log."""
    salts = {name: name[-1:].encode() * 32 for name in ("s1", "s2", "s3")}
    events = [
        seal(salt, name, 1, 1, "session.began", 1, codec.encode({"salt": salt}))
        for name, salt in salts.items()
    ]
    for seq in range(2, 8):
        events += [
            seal(salt, name, seq, seq, "error.noted", 1, b'{"x":%d}' % seq)
            for name, salt in salts.items()
        ]
    return events


def judged(kind: str, path: Path, kept: Path) -> tuple[Verified, Extension]:
    """What verify says of a log, alone and against a seal."""
    with closing(opened(kind, path)) as log:
        anchors = [read_anchor(kept, [])]
        tree = tree_for(log, anchors)
        assert tree is not None
        verified = verify(log, tree=tree)
        [extension] = check_extension(log, tree, anchors)
    return verified, extension


def write(kind: str, path: Path, events: Sequence[NewEvent]) -> None:
    with closing(opened(kind, path)) as log:
        for event in events:
            log.append([event])


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
@pytest.mark.parametrize("alter", CONSISTENT, ids=lambda one: one.__name__)
def test_a_consistent_forgery(
    alter: Callable[[Sessions, dict[str, bytes]], Sessions], kind: str, tmp_path: Path
) -> None:
    """Nothing in the log tells of it; the seal does."""
    path, kept = tmp_path / "log", tmp_path / "seal"
    events = interleaved()
    write(kind, path, events)
    with LogStore(opened(kind, path)) as store:
        kept.write_text(store.seal())
    verified, extension = judged(kind, path, kept)
    assert (verified.damages, extension.verdict) == ((), "good")
    salts = {event.stream: salt_of(event.at(1)) for event in events if event.seq == 1}
    assert all(salts.values())
    if path.is_dir():
        shutil.rmtree(path)
    else:
        for file in tmp_path.glob("log*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    write(kind, path, alter(events, salts))
    verified, extension = judged(kind, path, kept)
    said = [one.what for one in verified.damages]
    # What is missing in the middle of a stream, the log itself tells, too.
    assert said == [] or alter is move_event
    assert extension.verdict == "wrong"


def test_a_doubled_line(tmp_path: Path) -> None:
    """An SQLite log takes no event twice; in JSON lines it is found with and without a seal."""
    path, kept = tmp_path / "log", tmp_path / "seal"
    write("jsonl", path, interleaved())
    with LogStore(opened("jsonl", path)) as store:
        kept.write_text(store.seal())
    file = file_of("jsonl", path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:6], lines[5], *lines[6:]]))
    verified, extension = judged("jsonl", path, kept)
    assert [one.what for one in verified.damages] == ["it is in the log twice"]
    assert extension.verdict == "wrong"


def test_damage_is_told_from_alteration(tmp_path: Path) -> None:
    """Where an event can't be read, what can't be proven is named, and all else is."""
    path, kept = tmp_path / "log", tmp_path / "seal"
    write("sqlite", path, [
        seal(b"", f"e{number}", 1, 1, "error.noted", 1, b"{}") for number in range(700)
    ])  # fmt: skip
    with LogStore(opened("sqlite", path)) as store:
        kept.write_text(store.seal())
    with closing(free(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE position = 300")
    verified, extension = judged("sqlite", path, kept)
    assert len(verified.damages) == 1
    assert extension.verdict == "unknown"
    assert "but for those at positions 257 to 512, of which 1 can't be read" in extension.says
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE merkle_nodes_v1 SET hash = zeroblob(32) WHERE node = 1")
    _, extension = judged("sqlite", path, kept)
    assert (extension.verdict, extension.says) == (
        "unknown", "1 of its 700 events can't be read, or more",
    )  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE position > 690")
        connection.execute("UPDATE sqlite_sequence SET seq = 690 WHERE name = 'events'")
    _, extension = judged("sqlite", path, kept)
    assert (extension.verdict, extension.says) == (
        "wrong", "10 events are missing: the log had 700, and has 690",
    )  # fmt: skip


# -- directly in SQLite


def test_direct_writes_fail(tmp_path: Path) -> None:
    """An UPDATE, a DELETE and each kind of INSERT OR REPLACE are refused by SQLite itself."""
    path = tmp_path / "log"
    write("sqlite", path, interleaved())
    columns = "stream, seq, time, type, version, digest, data"
    row = "'s1', 2, 1, 't', 1, x'00', '{}'"
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT * FROM events").fetchall()
        for statement in (
            "UPDATE events SET data = '{}'",
            "UPDATE OR REPLACE events SET seq = 1",
            "DELETE FROM events",
            f"INSERT OR REPLACE INTO events ({columns}) VALUES ({row})",
            f"REPLACE INTO events ({columns}) VALUES ({row})",
            f"INSERT OR REPLACE INTO events (position, {columns}) VALUES (3, 'new', 1, 1, 't', 1, "
            "x'00', '{}')",
            f"INSERT INTO events ({columns}) VALUES ({row}) ON CONFLICT DO UPDATE SET data = ''",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="events are never"):
                connection.execute(statement)
        assert connection.execute("SELECT * FROM events").fetchall() == before


def test_an_old_log_gets_the_guard(tmp_path: Path) -> None:
    """At its next open for writing; what only reads it leaves it as it is."""
    path = tmp_path / "log"
    write("sqlite", path, interleaved())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER events_are_never_replaced")
    sql = "SELECT count(*) FROM sqlite_master WHERE name = 'events_are_never_replaced'"
    with closing(SQLiteBackend(path, read_only=True)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(sql).fetchone() == (0,)
    with closing(SQLiteBackend(path)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(sql).fetchone() == (1,)
