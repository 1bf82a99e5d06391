"""Our own files are regular files: no link, FIFO or device is followed, waited for or written."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.concurrency.locks import FileLock
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import check_by_path, make_folder, make_new, open_own, read_own
from lllm.events.integrity.backup import back_up
from lllm.testing.writers import batch, without_positions

FIRST = f"{0:020}.jsonl"
Plant = Callable[[Path, Path], None]


def a_link(place: Path, decoy: Path) -> None:
    """A symbolic link to another's file."""
    place.symlink_to(decoy)


def a_dangling_link(place: Path, decoy: Path) -> None:
    """A symbolic link to where a file would be made."""
    place.symlink_to(decoy.with_name("made-through-a-link"))


def a_fifo(place: Path, _: Path) -> None:
    """A FIFO that nobody reads or writes."""
    os.mkfifo(place)


def a_device(place: Path, _: Path) -> None:
    """A link to a device; making one takes rights that tests don't have."""
    place.symlink_to("/dev/zero")


def a_socket(place: Path, _: Path) -> None:
    """A socket's name."""
    here = os.getcwd()
    os.chdir(place.parent)  # a socket's path is short
    try:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(place.name)
    finally:
        os.chdir(here)


PLANTED = [a_link, a_dangling_link, a_fifo, a_device, a_socket]


@pytest.fixture
def decoy(tmp_path: Path) -> Path:
    """Another's file, which nothing of ours may touch."""
    file = tmp_path / "decoy"
    file.write_bytes(b"precious\n")
    return file


def untouched(decoy: Path) -> bool:
    """Whether nothing was written to another's file, or through a link beside it."""
    return (
        decoy.read_bytes() == b"precious\n" and not decoy.with_name("made-through-a-link").exists()
    )


@pytest.mark.parametrize("plant", PLANTED)
class TestPlanted:
    """What somebody put in a file's place."""

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])
    def test_opening(self, tmp_path: Path, decoy: Path, plant: Plant, flags: int) -> None:
        """It is refused at once with its path, and no descriptor stays open."""
        plant(tmp_path / "ours", decoy)
        before = len(os.listdir("/dev/fd"))
        with pytest.raises(LogUnavailable, match=f"{tmp_path / 'ours'} is a"):
            open_own(tmp_path / "ours", flags)
        with pytest.raises(LogUnavailable, match="regular files only"):
            check_by_path(tmp_path / "ours")
        assert len(os.listdir("/dev/fd")) == before
        assert untouched(decoy)

    def test_making(self, tmp_path: Path, decoy: Path, plant: Plant) -> None:
        """A file that is made takes its place."""
        plant(tmp_path / "ours", decoy)
        with make_new(tmp_path / "ours") as file:
            file.write(b"mine")
        assert read_own(tmp_path / "ours") == b"mine"
        assert untouched(decoy)

    def test_segment(self, tmp_path: Path, decoy: Path, plant: Plant) -> None:
        """A segment: the log is neither written nor read through it, also when it is the next."""
        path = tmp_path / "log"
        with closing(LocalFileBackend(path, segment_bytes=100)) as log:
            plant(path / FIRST, decoy)
            with pytest.raises(LogUnavailable, match=FIRST):
                log.append(batch("s", 0))
            with pytest.raises(LogUnavailable, match=FIRST):
                list(log.read())
            (path / FIRST).unlink()
            end = log.append(batch("s", 0))[-1]
            plant(path / f"{end:020}.jsonl", decoy)
            with pytest.raises(LogUnavailable, match=f"{end:020}"):
                log.append(batch("s", 1))
            (path / f"{end:020}.jsonl").unlink()
            log.append(batch("s", 1))
            assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
        assert untouched(decoy)

    @pytest.mark.parametrize("name", ["write.lock", "write.queue"])
    def test_lock(self, tmp_path: Path, decoy: Path, plant: Plant, name: str) -> None:
        """A lock of either backend."""
        for make, path, locks in (
            (LocalFileBackend, tmp_path / "log", tmp_path / "log" / "locks"),
            (SQLiteBackend, tmp_path / "runs.db", tmp_path / "runs.db-lllm"),
        ):
            make(path).close()
            for file in locks.iterdir():
                file.unlink()
            plant(locks / name, decoy)
            with pytest.raises(LogUnavailable, match=name), closing(make(path)) as log:
                log.append(batch("s", 0))
        assert untouched(decoy)

    def test_liveness(self, tmp_path: Path, decoy: Path, plant: Plant) -> None:
        """An owner's lock: nobody can know whether its process lives."""
        with closing(LocalFileBackend(tmp_path / "log")) as log:
            place = tmp_path / "log" / "locks" / "new"
            plant(place, decoy)
            owner = f"{'0' * 16}-{place.lstat().st_ino:x}"
            place.rename(place.with_name(f"{owner}.lock"))
            assert not log.liveness.is_dead(owner, os.uname().nodename)
        assert untouched(decoy)

    @pytest.mark.parametrize("name", ["rows.sqlite", "rows.sqlite-wal", "rows.sqlite-shm"])
    def test_rows(self, tmp_path: Path, decoy: Path, plant: Plant, name: str) -> None:
        """The rows of a folder, and what SQLite keeps beside them."""
        with closing(LocalFileBackend(tmp_path / "log")) as log:
            plant(tmp_path / "log" / name, decoy)
            with pytest.raises(LogUnavailable, match=name):
                log.rows_database()
        assert untouched(decoy)

    @pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
    def test_sqlite(self, tmp_path: Path, decoy: Path, plant: Plant, suffix: str) -> None:
        """What SQLite keeps beside a log, also where the log's own path is a link."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "runs.db").symlink_to(tmp_path / "elsewhere" / "runs.db")
        SQLiteBackend(tmp_path / "runs.db").close()
        plant(tmp_path / "elsewhere" / f"runs.db{suffix}", decoy)
        for read_only in (False, True):
            with pytest.raises(LogUnavailable, match=suffix):
                SQLiteBackend(tmp_path / "runs.db", read_only=read_only)
        assert untouched(decoy)

    def test_format(self, tmp_path: Path, decoy: Path, plant: Plant) -> None:
        """log.json, which is not read through it; where the next is drafted, it is removed."""
        LocalFileBackend(tmp_path / "log").close()
        (tmp_path / "log" / "log.json").unlink()
        plant(tmp_path / "log" / "log.json.new", decoy)
        LocalFileBackend(tmp_path / "log").close()
        (tmp_path / "log" / "log.json").unlink()
        plant(tmp_path / "log" / "log.json", decoy)
        with pytest.raises(LogUnavailable, match=r"log\.json is a"):
            LocalFileBackend(tmp_path / "log")
        assert untouched(decoy)

    def test_backup(self, tmp_path: Path, decoy: Path, plant: Plant) -> None:
        """A segment that is copied, and the lock of the folder that the copy grows in."""
        with closing(LocalFileBackend(tmp_path / "log", segment_bytes=100)) as log:
            log.append(batch("s", 0))
            log.append(batch("s", 1))
            (tmp_path / "log" / FIRST).rename(tmp_path / "aside")
            plant(tmp_path / "log" / FIRST, decoy)
            with pytest.raises(LogUnavailable, match=FIRST):
                back_up(log, tmp_path / "copy")
            (tmp_path / "copy.partial").mkdir()
            plant(tmp_path / "copy.partial" / "lock", decoy)
            with pytest.raises(LogUnavailable, match="lock"):
                back_up(log, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        assert untouched(decoy)


class TestFolders:
    """Folders of our own."""

    def test_link_inside(self, tmp_path: Path) -> None:
        """A folder of locks that is a link is refused; the store's own path may be one."""
        (tmp_path / "real").mkdir()
        (tmp_path / "log").symlink_to(tmp_path / "real")
        with closing(LocalFileBackend(tmp_path / "log")) as log:
            log.append(batch("s", 0))
            assert len(list(log.read())) == 3
        for file in (tmp_path / "real" / "locks").iterdir():
            file.unlink()
        (tmp_path / "real" / "locks").rmdir()
        (tmp_path / "real" / "locks").symlink_to(tmp_path / "real")
        with closing(LocalFileBackend(tmp_path / "log")) as log:
            with pytest.raises(LogUnavailable, match="locks is a symbolic link"):
                log.append(batch("s", 1))
            assert len(list(log.read())) == 3

    def test_modes(self, tmp_path: Path) -> None:
        """Files and folders are made with the mode that is asked for, whatever the umask."""
        before = os.umask(0o022)
        try:
            os.close(open_own(tmp_path / "file", os.O_CREAT | os.O_RDWR, mode=0o660))
            make_new(tmp_path / "new", mode=0o606).close()
            make_folder(tmp_path / "folder", mode=0o770)
        finally:
            os.umask(before)
        modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("file", "new", "folder")]
        assert modes == [0o660, 0o606, 0o770]


def test_a_hard_link_is_read_and_not_written(tmp_path: Path) -> None:
    """What has another name is read; writing it would change the file that somebody else knows."""
    path = tmp_path / "log"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
    os.link(path / FIRST, tmp_path / "snapshot")
    content = (path / FIRST).read_bytes()
    with closing(LocalFileBackend(path)) as log:
        with pytest.raises(LogUnavailable, match="hard link"):
            log.append(batch("s", 1))
        assert without_positions(log.read()) == batch("s", 0)
        assert (tmp_path / "snapshot").read_bytes() == content
        (tmp_path / "copy").write_bytes(content)
        (tmp_path / "copy").rename(path / FIRST)  # as the error says
        log.append(batch("s", 1))
        assert without_positions(log.read()) == batch("s", 0) + batch("s", 1)
    assert (tmp_path / "snapshot").read_bytes() == content


def _taken_by(decoy: Path, path: Path) -> list[int]:
    """Close every descriptor that leads into a folder, and take their numbers for another file."""
    taken = []
    for number in map(int, os.listdir("/dev/fd")):
        try:
            leads_to = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if leads_to.startswith(str(path)):
            os.close(number)
            other = os.open(decoy, os.O_RDWR | os.O_APPEND)
            if other != number:
                os.dup2(other, number)
                os.close(other)
            taken.append(number)
    return taken


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names descriptors")
def test_a_descriptor_that_was_closed_and_used_again(tmp_path: Path, decoy: Path) -> None:
    """Nothing is written to, and nobody closes, the file that has the number of ours now; the log
    goes on, under its own lock."""
    path = tmp_path / "log"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 0))
        taken = _taken_by(decoy, path)
        assert len(taken) >= 2  # the segment and the lock
        log.append(batch("s", 1))
        other = FileLock(path / "locks" / "write.lock")
        assert other.acquire(wait=False)
        assert log.try_append(batch("s", 2)) is None
        other.close()
        assert log.append(batch("s", 2))
        for number in taken:  # those between belong to others
            os.close(number)
        log.append(batch("s", 3))
        assert without_positions(log.read()) == [one for n in range(4) for one in batch("s", n)]
    assert untouched(decoy)
