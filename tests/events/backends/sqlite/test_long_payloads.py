"""Payloads of many megabytes are written by pieces, and are events like any other."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lllm import AppendConflict, LocalFileBackend, SQLiteBackend
from lllm.events.backends.jsonl import line_format as lines
from lllm.events.backends.sqlite import long_payloads
from lllm.events.backends.sqlite.repair import repair_database
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.integrity.backup import back_up
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend

LONG = b'{"said":"%b","n":7}' % ("é".encode() * (long_payloads.LONGEST_TEXT // 2))
OTHERS = {
    "text": LONG,
    "spaced": b' {"said":"%b"}\n' % (b"x" * long_payloads.LONGEST_TEXT),
    "bytes": b"\xff" * (long_payloads.LONGEST_TEXT + 1),
}
MAKE: dict[str, Callable[[Path], LogBackend]] = {
    "sqlite": SQLiteBackend, "jsonl": LocalFileBackend,
}  # fmt: skip


def event(seq: int, data: bytes) -> NewEvent:
    return seal(b"", "s", seq, 1, "t", 1, data)


def payloads(log: LogBackend) -> list[bytes]:
    return [one.data for one in log.read(stream="s")]


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_they_come_back(kind: str, data: bytes, tmp_path: Path) -> None:
    """A long payload is read as it was written, between short ones and alone, and known again."""
    with closing(MAKE[kind](tmp_path / "log")) as log:
        events = [event(1, b"1"), event(2, data), event(3, b"3")]
        positions = list(log.append(events))
        assert list(log.append([events[1]])) == positions[1:2]
        with pytest.raises(AppendConflict):
            log.append([event(2, data + b" ")])
        log.append([event(4, data)])
        assert payloads(log) == [b"1", data, b"3", data]
        assert [one.data for one in log.read(after=positions[0], upto=positions[1])] == [data]
    with closing(MAKE[kind](tmp_path / "log")) as log:
        assert [one.digest for one in log.read()][:3] == [one.digest for one in events]


def test_sqlite_has_them_as_a_blob(tmp_path: Path) -> None:
    """SQL reads such a payload as JSON all the same, `verify` finds nothing wrong, and it is in a
    backup and in a repaired file."""
    path = tmp_path / "runs.db"
    with closing(SQLiteBackend(path)) as log:
        log.append([event(1, b"{}"), event(2, LONG)])
        assert log.database.query(
            "SELECT typeof(data), length(data), json_extract(data, '$.n') FROM events "
            "WHERE position = 2"
        ) == [("blob", len(LONG), 7)]  # fmt: skip
        assert verify(log).damages == ()
        back_up(log, tmp_path / "copy.db")
    with closing(SQLiteBackend(tmp_path / "copy.db", read_only=True)) as log:
        assert payloads(log) == [b"{}", LONG]
    assert [one.events for one in repair_database(path).mended] == [2]
    with closing(SQLiteBackend(path)) as log:
        assert payloads(log) == [b"{}", LONG]
        assert list(log.append([event(3, LONG)])) == [3]


@pytest.mark.parametrize(
    "added",
    [
        "CREATE TABLE seen (data); CREATE TRIGGER look AFTER INSERT ON events "
        "BEGIN INSERT INTO seen VALUES (new.data); END",
        "CREATE TABLE seen (data); CREATE INDEX said ON events (length(data))",
        "CREATE TABLE seen (data); ALTER TABLE events ADD n AS (length(data))",
    ],
    ids=["trigger", "index", "column"],
)
def test_what_a_user_adds_sees_them(added: str, tmp_path: Path) -> None:
    """A trigger, an index or a column of the user's own gets the payload itself."""
    path = tmp_path / "runs.db"
    with closing(SQLiteBackend(path)) as log:
        log.append([event(1, b"{}")])
        with closing(sqlite3.connect(path)) as others:
            others.executescript(added)
        log.append([event(2, LONG)])
        found = log.database.query("SELECT typeof(data) FROM events WHERE position = 2")
        assert found == [("text",)]
        seen = log.database.query("SELECT data FROM seen WHERE length(data) > 2")
        assert seen == ([(LONG.decode(),)] if "TRIGGER" in added else [])
        assert payloads(log) == [b"{}", LONG]


_KILLED = """
import os, signal, sys
from lllm import SQLiteBackend
from lllm.events.backends.sqlite.connection import Connection
from lllm.events.digest import seal

class Blob:
    def __init__(self, blob): self.blob, self.written = blob, 0
    def __enter__(self): return self
    def __exit__(self, *_): self.blob.close()
    def write(self, data):
        self.blob.write(data)
        self.written += 1
        if self.written == 3:
            os.kill(os.getpid(), signal.SIGKILL)

log = SQLiteBackend(sys.argv[1])
data = b'"%b"' % (b"x" * 6_000_000)
log.append([seal(b"", "s", 1, 1, "t", 1, b"1")])
opened = Connection.blobopen
Connection.blobopen = lambda self, *a, **k: Blob(opened(self, *a, **k))
log.append([seal(b"", "s", 2, 1, "t", 1, b"2"), seal(b"", "s", 3, 1, "t", 1, data)])
"""


def test_one_half_written_is_not_there(tmp_path: Path) -> None:
    """Killed while it writes the pieces, a process leaves nothing of the append."""
    path = tmp_path / "runs.db"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with closing(SQLiteBackend(path)) as log:
        assert payloads(log) == [b"1"]
        assert list(log.append([event(2, LONG)])) == [2]
        assert payloads(log) == [b"1", LONG]
        assert verify(log).damages == ()


def test_no_room_for_all_of_it(tmp_path: Path) -> None:
    """Where the disk is full in the middle, nothing of the append is there, and it can be tried
    again."""
    with closing(SQLiteBackend(tmp_path / "runs.db")) as log:
        log.append([event(1, b"1")])
        with log.database.write() as connection:
            assert connection is not None
            connection.execute("PRAGMA max_page_count=500")
        with pytest.raises(Exception, match="full"):
            log.append([event(2, b"2"), event(3, LONG)])
        assert payloads(log) == [b"1"]
        with log.database.write() as connection:
            assert connection is not None
            connection.execute("PRAGMA max_page_count=1000000")
        log.append([event(2, b"2"), event(3, LONG)])
        assert payloads(log) == [b"1", b"2", LONG]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"more":0}', b'"more":0} '), (b'"seq":2', b'"seq": 2'), (b'"data":', b'"data": '),
        (b'},"more"', b'} ,"more"'), (b',"more":0', b',"text":"x","more":0'),
        (b'"data":', b'"data":1,"data":'), (b'"stream":"s"', b'"stream":"\\u0073"'),
        (b"0a", b"0A"),
    ],
)  # fmt: skip
def test_a_long_line_is_written_in_one_way(before: bytes, after: bytes) -> None:
    """A long line that says the same in other bytes is none of the log's, as a short one."""
    stored = msgspec.structs.replace(event(2, LONG), digest=bytes([10]) * 32)
    line = lines.encode_append([stored])[0][:-1]
    assert lines.decode(7, line).data == LONG
    assert before in line
    with pytest.raises(ValueError, match="not written as lllm writes one"):
        lines.decode(7, line.replace(before, after, 1))


def test_a_write_that_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system takes a part of an append at a time, all of it is written, once."""
    write = os.writev

    def some(descriptor: int, pieces: list[memoryview]) -> int:
        return write(descriptor, [pieces[0][:1_000_003], *pieces[1:2]][: 1 + (len(pieces[0]) < 99)])

    monkeypatch.setattr(os, "writev", some)
    with closing(LocalFileBackend(tmp_path / "log")) as log:
        log.append([event(1, b"1"), event(2, LONG), event(3, b"3"), event(4, LONG)])
        assert payloads(log) == [b"1", LONG, b"3", LONG]
        assert verify(log).damages == ()
