"""An appender to a JSONL log that comes back to its own end, and what others did meanwhile."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from pathlib import Path

import pytest

from lllm.events.backends.jsonl import complete_end, segments
from lllm.events.backends.jsonl import torn_tail as torn_module
from lllm.events.backends.jsonl.active_segment import Tail
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import encode_append
from lllm.events.errors import LogDamaged, LogUnavailable
from lllm.testing.writers import event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "logs"


def files_of(path: Path) -> list[Path]:
    """The segments of a log."""
    return sorted(path.glob("*.jsonl"))


@pytest.fixture
def log(path: Path) -> Iterator[LocalFileBackend]:
    """A log whose folder is old enough for its time stamp to be trusted."""
    with closing(LocalFileBackend(path)) as log:
        log.append([event("a", 1)])
        aged(path)
        log.append([event("a", 2)])
        log.append([event("a", 3)])
        assert in_place(log)
        yield log


def in_place(log: LocalFileBackend) -> bool:
    """Whether the next append knows where the end is without a look at the folder's names."""
    tail = log._shared.tail
    return tail._size_in_place() == tail._size > 0


def aged(path: Path) -> None:
    """Let the names in the folder have changed ten seconds ago."""
    long_ago = time.time_ns() - 10_000_000_000
    os.utime(path, ns=(long_ago, long_ago))


def test_another_writes(log: LocalFileBackend, path: Path) -> None:
    """What another process wrote meanwhile stays, a torn line of it is moved aside."""
    with closing(LocalFileBackend(path)) as other:
        other.append([event("b", 1)])
        log.append([event("a", 4)])
        assert in_place(log)  # the folder is not looked at again
    with files_of(path)[-1].open("ab") as file:
        file.write(b'{"stream":"torn')
    log.append([event("a", 5)])
    assert [(e.stream, e.seq) for e in log.read()] == [
        ("a", 1), ("a", 2), ("a", 3), ("b", 1), ("a", 4), ("a", 5),
    ]  # fmt: skip


def test_another_begins_a_segment(log: LocalFileBackend, path: Path) -> None:
    """A process that finds the segment full begins another, and this one goes on there."""
    other = Tail(path, 100, durable=False)
    other.write(other.ready(), encode_append([event("b", 1)])[0])
    other.close()
    log.append([event("a", 4)])
    assert len(files_of(path)) == 2
    assert [(e.stream, e.seq) for e in log.read()][-2:] == [("b", 1), ("a", 4)]


def test_the_file_is_moved_or_deleted(log: LocalFileBackend, path: Path) -> None:
    """Nothing is written to a file that is not in its place any more."""
    segment = files_of(path)[-1]
    segment.rename(path / "elsewhere")
    with pytest.raises(LogUnavailable, match="deleted or moved"):
        log.append([event("a", 4)])
    (path / "elsewhere").rename(segment)
    aged(path)
    log.append([event("a", 4)])
    log.append([event("a", 5)])
    segment.unlink()
    with pytest.raises(LogUnavailable, match="deleted or moved"):
        log.append([event("a", 6)])


class Failing:
    """A file whose writes stop after some bytes, as on a full disk, or when Ctrl-C is pressed."""

    def __init__(self, file: FileIO, stops_behind: int) -> None:
        self._file = file
        self._left = stops_behind
        self.fileno, self.truncate = file.fileno, file.truncate

    def write(self, data: memoryview) -> int:
        """All that is left of the bytes."""
        if not self._left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self._left])
        self._left -= written
        if not self._left and written == len(data):
            raise KeyboardInterrupt
        return written


@pytest.mark.parametrize("missing", [1, 20, 0])
def test_a_write_that_fails(log: LocalFileBackend, path: Path, missing: int) -> None:
    """Of an append that fails half way nothing stays in the file; one that was interrupted when all
    of it was written stays, and is found when it is tried again."""
    tail, before = log._shared.tail, files_of(path)[0].read_bytes()
    data, _ = encode_append([event("b", 1)])
    file = tail._file
    assert file is not None
    tail.ready()
    with pytest.raises(OSError if missing else KeyboardInterrupt):  # noqa: PT012
        tail._file = Failing(file, len(data) - missing)  # type: ignore[assignment] # a part of it
        tail.write(len(before), data)
    tail._file = file
    assert files_of(path)[0].read_bytes() == before + (b"" if missing else data)
    log.append([event("b", 1)])
    assert files_of(path)[0].read_bytes() == before + data


@pytest.mark.parametrize("torn", [b"", b'{"stream":"b","seq":1,"ti'])
def test_lines_of_any_length(path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes) -> None:
    """The end of the last whole append is found however its lines lie in the windows that the file
    is looked through with, from its end."""
    monkeypatch.setattr(segments, "WINDOW", 64)
    monkeypatch.setattr(complete_end, "WINDOW", 64)
    with closing(LocalFileBackend(path)) as log:
        log.append([event("a", 1)])
        for size in range(300):
            log.append([event("a", size + 2, b'"%b"' % (b"x" * size))])
            (file,) = files_of(path)
            with file.open("ab") as opened:
                opened.write(torn)
            with file.open("rb", buffering=0) as looked_at:
                assert complete_end.whole_end(looked_at) == log.head(), size
            os.truncate(file, log.head())


@pytest.mark.parametrize("events", [1, 3])
def test_torn_tails_of_any_length(path: Path, monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    """The last whole append is found however much of another one stands behind it."""
    monkeypatch.setattr(segments, "WINDOW", 64)
    monkeypatch.setattr(complete_end, "WINDOW", 64)
    with closing(LocalFileBackend(path)) as log:
        for seq in range(1, events + 1):
            log.append([event("a", seq)])
        head = log.head()
    (file,) = files_of(path)
    torn, _ = encode_append([event("b", 1, b'"%b"' % (b"x" * 600))])
    for length in range(600):
        with file.open("ab") as opened:
            opened.write(torn[:length])
        with file.open("rb", buffering=0) as looked_at:
            assert complete_end.whole_end(looked_at) == head, length
        os.truncate(file, head)


TORN = b'{"stream":"b","seq":1,"time":1,"ty'


@pytest.mark.parametrize("tail", [TORN, b"\0" * 5_000, TORN + b"\0" * 200_000, TORN[:1]])
def test_what_is_moved_aside_is_there(path: Path, tail: bytes) -> None:
    """Every byte of a torn tail is in the file beside the log, zeros included."""
    with closing(LocalFileBackend(path)) as log:
        log.append([event("a", 1)])
    (file,) = files_of(path)
    with file.open("ab") as opened:
        opened.write(tail)
    with closing(LocalFileBackend(path)) as log:
        log.append([event("a", 2)])
        assert [one.seq for one in log.read()] == [1, 2]
    (aside,) = path.glob("*.torn")
    assert aside.read_bytes() == tail


@pytest.mark.parametrize("zeros", [99, 100, 101])
def test_a_tail_is_no_longer_than_an_append(
    path: Path, monkeypatch: pytest.MonkeyPatch, zeros: int
) -> None:
    """What one append can leave is moved aside; anything longer is damage, and stays."""
    monkeypatch.setattr(torn_module, "APPEND_BYTES", 100)
    with closing(LocalFileBackend(path)) as log:
        log.append([event("a", 1)])
    (file,) = files_of(path)
    with file.open("ab") as opened:
        opened.write(b"\0" * zeros)
    with closing(LocalFileBackend(path)) as log:
        if zeros > 100:
            with pytest.raises(LogDamaged):
                log.append([event("a", 2)])
        else:
            log.append([event("a", 2)])
    assert len([*path.glob("*.torn")]) == (zeros <= 100)
