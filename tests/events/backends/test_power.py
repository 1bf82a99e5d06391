"""`durability="power"` waits for the disk: each file, and each name of a new one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.files import own_files
from lllm.testing.writers import batch

Synced = Callable[[], list[int]]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    """What was put on the disk since it was asked last, as inode numbers, in order."""
    found: list[int] = []
    fsync = os.fsync

    def counted(fd: int) -> None:
        fsync(fd)
        found.append(os.fstat(fd).st_ino)

    def since() -> list[int]:
        before = found.copy()
        found.clear()
        return before

    monkeypatch.setattr(os, "fsync", counted)
    if sys.platform == "darwin":  # macOS has a call of its own
        monkeypatch.setattr(own_files.fcntl, "fcntl", lambda fd, _: counted(fd))
    return since


def number(path: Path) -> int:
    """The inode number of a file or folder."""
    return path.stat().st_ino


def test_what_syncs(tmp_path: Path, synced: Synced) -> None:
    """A file and a folder are put on the disk when it is asked for."""
    with own_files.make_new(tmp_path / "file") as file:
        own_files.sync(file)
    own_files.sync_folder(tmp_path)
    assert synced() == [number(tmp_path / "file"), number(tmp_path)]


def test_jsonl(tmp_path: Path, synced: Synced) -> None:
    """Opening a new log syncs log.json before its name, and the names of all new folders; an append
    syncs its file once, and the folder where the file is new."""
    path = tmp_path / "new" / "logs"
    with closing(LocalFileBackend(path, durability="power", segment_bytes=1_500)) as log:
        opening = synced()
        assert set(opening) == {
            number(one) for one in (tmp_path, tmp_path / "new", path, path / "log.json")
        }
        assert opening.index(number(path / "log.json")) < len(opening) - 1
        assert opening[-1] == number(path)
        for turn in range(12):
            before = segments_of(path)
            log.append(batch("s", turn))
            after = segments_of(path)
            files = [number(path)] if len(after) > len(before) else []
            assert synced() == [*files, number(after[-1].path)]
        assert len(segments_of(path)) > 2
        log.append(batch("s", 11))  # which may come again because the last fsync failed
        assert synced()[-1] == number(segments_of(path)[-1].path)


def test_jsonl_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append whose file can't be put on the disk is not acknowledged."""
    with closing(LocalFileBackend(tmp_path / "logs", durability="power")) as log:
        log.append(batch("s", 0))

        def failing(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            with pytest.raises(OSError, match="Input/output error"):
                log.append(batch("s", 1))
        assert log.append(batch("s", 1))
        assert len(list(log.read())) == 6


def test_a_torn_tail(tmp_path: Path, synced: Synced) -> None:
    """What is moved aside is on the disk, with its name, before it is cut off, also where appends
    don't wait for the disk."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
    file = segments_of(path)[0].path
    with file.open("ab") as opened:
        opened.write(file.read_bytes()[:50])
    synced()
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 1))
    (aside,) = path.glob("*.torn")
    assert synced() == [number(aside), number(path)]


def test_process(tmp_path: Path, synced: Synced) -> None:
    """Without it nobody waits for the disk."""
    with closing(LocalFileBackend(tmp_path / "logs", segment_bytes=100)) as log:
        log.append(batch("s", 0))
        log.append(batch("s", 1))
    with closing(SQLiteBackend(tmp_path / "new" / "runs.db")) as log_:
        log_.append(batch("s", 0))
    assert synced() == []


def test_sqlite(tmp_path: Path, synced: Synced) -> None:
    """The names of new folders are put on the disk; SQLite itself does the rest: at each commit
    (synchronous=FULL), and with the name of a new -wal, which stands beside the file."""
    path = tmp_path / "new" / "deep" / "runs.db"
    with closing(SQLiteBackend(path, durability="power")) as log:
        assert {number(path.parent), number(path.parent.parent), number(tmp_path)} <= set(synced())
        with log.database.write() as connection:
            assert connection is not None
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            # On macOS, fsync leaves the data in the drive's own cache.
            assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
