"""Payloads of every kind go in place; digests, and what stands beside them, stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm.events import codec
from lllm.events.backends.jsonl import erasing as jsonl_erasing
from lllm.events.backends.jsonl import read_events
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import decode, erased_line
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.digest import check_digest, erase, seal
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.erasure import erase_events, without_payloads
from lllm.events.integrity.verify import verify
from lllm.events.model import Erased

Log = MemoryBackend | LocalFileBackend | SQLiteBackend
SALT = b"s" * 32
SALTED = codec.encode({"salt": SALT, "x": "SECRET"})
PAYLOADS = [
    SALTED, b"{}", b"1", b'{"elapsed":1}', b'{"a":"SECRET"}', b'  {"SECRET": 1}\n', b"\xff SECRET",
    b'"' + b"SECRET " * 800_000 + b'"',
]  # fmt: skip


@pytest.fixture(params=["memory", "sqlite", "jsonl"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """An empty log of each kind."""
    opened: Log
    if request.param == "memory":
        opened = MemoryBackend()
    elif request.param == "sqlite":
        opened = SQLiteBackend(tmp_path / "runs.db")
    else:
        opened = LocalFileBackend(tmp_path / "logs", segment_bytes=2_000)
    yield opened
    opened.close()


def write(log: Log, stream: str) -> list[Recorded]:
    """A stream with payloads of every kind."""
    for seq, data in enumerate(PAYLOADS, 1):
        log.append([seal(SALT, stream, seq, 5, "any", 1, data)])
    return list(log.read(stream=stream))


def test_every_payload(log: Log, tmp_path: Path) -> None:
    """Of whatever length and form: gone from all files, and each digest still fits."""
    events, others = write(log, "s"), write(log, "other")
    erase_events(log, without_payloads(events))
    log.vacuum()
    after = list(log.read(stream="s"))
    for before, event in zip(events, after, strict=True):
        assert event == erase(before, SALT)
        check_digest(event, b"")
        assert type(codec.decode(event)) is Erased
    assert list(log.read(stream="other")) == others
    assert without_payloads(after) == []
    assert [event.position for event in log.read()] == [one.position for one in events + others]
    erase_events(log, without_payloads(others))
    log.vacuum()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if b"SECRET" in file.read_bytes()]


def test_verify_asks_for_the_reason(log: Log) -> None:
    """An erased payload that no session.erased tells of is named; so is a changed envelope."""
    erase_events(log, without_payloads(write(log, "s")))
    [damage] = verify(log).damages
    assert "no session.erased says so" in damage.what
    event = next(log.read())
    other = Recorded(event.position, "s", 1, 6, event.type, event.version, event.data, event.digest)
    with pytest.raises(LogDamaged):
        check_digest(other, b"")


def test_the_triggers_stay(tmp_path: Path) -> None:
    """Erasing lets nothing else pass: not before, and not afterwards."""
    with SQLiteBackendOf(tmp_path) as log:
        sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name"
        before = log.database.query(sql)
        erase_events(log, without_payloads(write(log, "s")))
        assert log.database.query(sql) == before
        for change in ("UPDATE events SET data = '{}'", "DELETE FROM events"):
            with pytest.raises(Exception, match="events are never"):
                log.database.insert(change, ())


class SQLiteBackendOf:
    """A `with` around an SQLite log in a folder."""

    def __init__(self, folder: Path) -> None:
        self.log = SQLiteBackend(folder / "runs.db")

    def __enter__(self) -> SQLiteBackend:
        return self.log

    def __exit__(self, *_: object) -> None:
        self.log.close()


def test_what_does_not_fit_is_left(log: Log) -> None:
    """An event that is not what was written keeps its payload: nothing could prove it later."""
    events = write(log, "s")
    forged = Recorded(9, "s", 2, 5, "any", 1, b'{"forged":1}', events[1].digest)
    with pytest.raises(LogDamaged, match="can't be erased"):
        without_payloads([events[0], forged])


def test_a_line_that_has_no_room() -> None:
    """The line of an erased event is as long as it was, or there is none."""
    event = erase(seal(SALT, "s", 1, 5, "any", 1, SALTED).at(1), SALT)
    begin, room, end = erased_line(event, 0, 400)
    line = begin + b" " * room + end
    assert len(line) == 400
    assert decode(1, line) == event
    for other in (line[:-1], line.replace(b'"erased":', b'"digest":"","erased":')):
        with pytest.raises(ValueError, match=r"."):
            decode(1, other)
    with pytest.raises(ValueError, match="too short"):
        erased_line(event, 0, 90)
    with pytest.raises(ValueError, match="has its payload"):
        erased_line(seal(SALT, "s", 1, 5, "any", 1, SALTED).at(1), 0, 400)


def test_a_line_that_is_just_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that gets half of a line finds the event as it is afterwards, whether the erasure
    is still at it or has ended meanwhile."""
    log = LocalFileBackend(tmp_path / "logs")
    events = write(log, "s")
    erased = without_payloads(events)
    [file] = (tmp_path / "logs").glob("*.jsonl")
    before = file.read_bytes()
    seen: list[list[Recorded]] = []
    whole = jsonl_erasing._overwrite

    def half(folder: Path, noted: list[object]) -> None:
        file.write_bytes(before.replace(b'"digest"', b'"erased"'))
        seen.append(list(log.read()))
        file.write_bytes(before)
        whole(folder, noted)

    monkeypatch.setattr(jsonl_erasing, "_overwrite", half)
    log.erase_payloads(erased)
    assert seen == [erased]
    after = file.read_bytes()
    real = read_events.decode

    def late(position: int, line: bytes) -> Recorded:
        file.write_bytes(after)
        return real(position, line)

    file.write_bytes(before.replace(b'"digest"', b'"erased"'))
    monkeypatch.setattr(read_events, "decode", late)
    assert list(log.read()) == erased
    log.close()


def test_every_connection_overwrites_what_it_deletes(tmp_path: Path) -> None:
    """Those that read, and those that write."""
    asked = "PRAGMA secure_delete"
    with SQLiteBackendOf(tmp_path) as log:
        with log.database.write() as writing:
            assert writing is not None
            assert writing.execute(asked).fetchone() == (1,)
        with log.database.snapshot() as reading:
            assert reading.execute(asked).fetchone() == (1,)
