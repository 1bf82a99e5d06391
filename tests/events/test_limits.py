"""What is larger than any log takes is refused, and read without being read into memory."""

from __future__ import annotations

import sqlite3
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.events import envelope as record
from lllm.events.backends.jsonl import complete_end, read_events
from lllm.events.backends.jsonl import line_format as lines
from lllm.events.backends.jsonl import torn_tail as torn
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.backends.sqlite import (
    append_events as sqlite,
)
from lllm.events.backends.sqlite import (
    connection as readers,
)
from lllm.events.backends.sqlite import (
    rebuilt_file as salvage,
)
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.backends.sqlite.errors import raise_translated
from lllm.events.buffered import BufferedLog
from lllm.events.errors import AppendTooLarge, LogDamaged
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.testing.writers import batch, event, without_positions

MEGABYTE = 1 << 20
KINDS: dict[str, Callable[[Path], LogBackend]] = {
    "sqlite": lambda folder: SQLiteBackend(folder / "runs.db"),
    "jsonl": lambda folder: LocalFileBackend(folder / "logs"),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can reach: 1 MB for an event, 3 MB for an append."""
    for module in (complete_end, lines, read_events, readers, record, salvage, sqlite):
        monkeypatch.setattr(module, "EVENT_BYTES", MEGABYTE)
    for module in (lines, record, sqlite, torn):
        monkeypatch.setattr(module, "APPEND_BYTES", 3 * MEGABYTE)
    monkeypatch.setattr(sqlite, "_FEW_LONGEST", 3)


@contextmanager
def little_memory(most: int = 32 * MEGABYTE) -> Iterator[None]:
    """What is done inside has no more than so many bytes of Python's memory at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def of_size(stream: str, seq: int, size: int) -> record.NewEvent:
    """An event with a payload of about so many bytes."""
    return event(stream, seq, b'"%b"' % (b"x" * size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small")
class TestAppends:
    """Writing."""

    def test_refused(self, kind: str, tmp_path: Path) -> None:
        """An event or append that is too long is refused with its size, and nothing of it stored;
        what is just short enough is stored and read."""
        with closing(KINDS[kind](tmp_path)) as log:
            with pytest.raises(AppendTooLarge, match=r"at most 1,048,576 bytes"):
                log.append([event("s", 1), of_size("s", 2, MEGABYTE)])
            with pytest.raises(AppendTooLarge, match=r"4 events of .* at most 3,145,728 bytes"):
                log.append([of_size("s", n, MEGABYTE - 1_000) for n in range(1, 5)])
            assert list(log.read()) == []
            fits = [of_size("s", n, MEGABYTE - 1_000) for n in range(1, 4)]
            log.append(fits)
            assert without_positions(log.read()) == fits

    def test_a_store_goes_on(self, kind: str, tmp_path: Path) -> None:
        """It is left out with a warning, counted in the log, and keeps nothing else waiting."""
        log = BufferedLog(KINDS[kind](tmp_path))
        with pytest.warns(RuntimeWarning, match=r"can't record 1 events.*at most"):
            log.append([of_size("s", 1, MEGABYTE)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log.append(batch("t", 0))
            (gap, *rest) = log.read()
            assert gap.type == "log.gap"
            assert without_positions(rest) == batch("t", 0)
            log.close()


def sparse(path: Path, hole: int) -> int:
    """Put a hole between two appends of a log, on the line of the second; returns where."""
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("a", 0))
    file = segments_of(path)[0].path
    first = file.read_bytes()
    with file.open("r+b") as opened:
        opened.truncate(len(first) + hole)
        opened.seek(0, 2)
        opened.write(lines.encode_append(batch("b", 0))[0])
        opened.write(lines.encode_append(batch("c", 0))[0])
    return len(first)


def test_just_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest line, and the longest append, that are taken are as long as the limits say."""
    events = [event("s", 1), of_size("s", 2, 100)]
    data, ends = lines.encode_append(events)
    longest = ends[1] - ends[0]
    for name, size in (("EVENT_BYTES", longest), ("APPEND_BYTES", len(data))):
        with monkeypatch.context() as patched:
            patched.setattr(lines, name, size)
            assert lines.encode_append(events) == (data, ends)
            patched.setattr(lines, name, size - 1)
            with pytest.raises(AppendTooLarge, match=f"at most {size - 1} bytes"):
                lines.encode_append(events)


def test_where_a_damage_is(tmp_path: Path) -> None:
    """A damaged line in the middle of an append is told by the byte where the append begins, and by
    the position where it ends."""
    with closing(LocalFileBackend(tmp_path / "logs")) as log:
        log.append(batch("a", 0))
        first = segments_of(log.path)[0].path.stat().st_size
        end = log.append(batch("b", 0))[-1]
        log.append(batch("c", 0))
        file = segments_of(log.path)[0].path
        data = file.read_bytes()
        begin = data.index(b"\n", first) + 1
        file.write_bytes(data[:begin] + data[begin:].replace(b'"seq":2', b'"seq":x', 1))
        with pytest.raises(LogDamaged, match=f"at byte {first}, in an append of 'b' that ends at "):
            list(log.read())
        assert without_positions(log.read(after=end)) == batch("c", 0)


def test_a_hole_before_a_line(tmp_path: Path) -> None:
    """Zeros without end are one damaged line: what is around them is read, in little memory."""
    path = tmp_path / "logs"
    at = sparse(path, 600 * MEGABYTE)
    with closing(LocalFileBackend(path)) as log, little_memory():
        with pytest.raises(LogDamaged, match=r"jsonl is damaged at byte") as met:
            list(log.read())
        found = [*log.read(upto=at), *log.read(after=met.value.position)]
        assert without_positions(found) == [*batch("a", 0), *batch("b", 0)[1:], *batch("c", 0)]
        assert verify(log).damages[0].position == met.value.position
        log.append(batch("d", 0))


@pytest.mark.usefixtures("small")
def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    """A line of more bytes than any that is written is damage, however it begins."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("a", 0))
        with segments_of(path)[0].path.open("ab") as file:
            file.write(b'{"stream":"long","seq":1,"time":1,"type":"t","version":1,')
            file.write(b'"digest":"%b","data":"%b",' % (b"0" * 64, b"x" * 90 * MEGABYTE))
            file.write(b'"more":0}\n')
            file.write(lines.encode_append(batch("b", 0))[0])
        with little_memory():
            verified = verify(log)
        assert (verified.events, len(verified.damages)) == (6, 1)


@pytest.mark.slow
def test_a_hole_at_the_end(tmp_path: Path) -> None:
    """Zeros that the loss of power left are moved aside as a hole; more than an append can have
    are damage, seen without a look at each."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("a", 0))
        file = segments_of(path)[0].path
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.truncate(size + 100 * MEGABYTE)
        with little_memory():
            assert verify(log).torn_bytes == 100 * MEGABYTE
            log.append(batch("b", 0))
        (aside,) = torn.files_set_aside(path)
        assert aside.stat().st_size == 100 * MEGABYTE
        assert aside.stat().st_blocks * 512 < MEGABYTE
        with file.open("r+b") as opened:
            opened.truncate(6_000 * MEGABYTE)
        with little_memory(), pytest.raises(LogDamaged, match="from byte"):
            log.append(batch("c", 0))


@pytest.mark.usefixtures("small")
def test_a_long_row(tmp_path: Path) -> None:
    """A row that is longer than any that is written is an error before it is in memory."""
    path = tmp_path / "runs.db"
    with closing(SQLiteBackend(path)) as log:
        log.append(batch("a", 0))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO events (stream, seq, time, type, version, digest, data) "
            "VALUES ('b', 1, 1, 't', 1, zeroblob(32), zeroblob(?))", (50 * MEGABYTE,)
        )  # fmt: skip
    for read_only in (False, True):
        with closing(SQLiteBackend(path, read_only=read_only)) as log, little_memory():
            with pytest.raises(LogDamaged):
                list(log.read())
            verified = verify(log)
            assert (verified.events, len(verified.damages)) == (3, 1)
            assert "too big" in verified.damages[0].what
    with LogStore(SQLiteBackend(path)) as store:
        assert store.list_sessions() == []


@pytest.mark.parametrize("more", [0, 1 << 8])
def test_a_row_that_sqlite_finds_too_big(tmp_path: Path, more: int) -> None:
    """SQLite's code for it may have an extended one in its upper bytes: that is damage, too."""
    error = sqlite3.DataError("string or blob too big")
    error.sqlite_errorcode = sqlite3.SQLITE_TOOBIG + more
    with pytest.raises(LogDamaged, match="longer than any that lllm writes"):
        raise_translated(error, tmp_path)
