"""An archive file verifies by itself, and is read in place as a store."""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path

import pytest

from lllm import LogDamaged, LogReadOnly, LogStore, LogTooNew, StoreError
from lllm.archive.archive_plan import ArchivePlanner
from lllm.archive.write_archive import write_archive
from lllm.cli import main
from lllm.events import codec
from lllm.events.backends.archive import archive_file
from lllm.events.backends.archive.archive_file import ArchiveFile, ArchiveWriter
from lllm.events.backends.archive.backend import ArchiveBackend
from lllm.events.digest import leaf_digest
from lllm.events.envelope import Recorded
from lllm.events.exported_lines import read_lines
from lllm.events.integrity.verify import verify
from lllm.logging import sqlite_store
from lllm.store.log_store import session_host
from tests.support.random_histories import write


def record(store: LogStore, text: str) -> str:
    """A session with one below it, a tag and a comment."""
    with store.session("p::desk", task=text, tags={"user": text}) as own:
        with store.session("p::below", task=text) as below:
            below.deliver(text)
        own.deliver([text])
    store.tag(own.session_id, {"note": text})
    return own.session_id


def archive(store: LogStore, ids: list[str], path: Path) -> Path:
    """Write some sessions of a store to a file."""
    host = session_host(store)
    found = [ArchivePlanner(host).read(host.reader.find(one)) for one in ids]
    groups = [[*one.related, *one.events] for one in found if one is not None]
    assert len(groups) == len(ids)
    return write_archive(path, groups).path


def sampled(folder: Path, name: str, texts: str) -> Path:
    """An archive file with a session for each letter."""
    with sqlite_store(folder / f"{name}.db") as store:
        ids = [record(store, text) for text in texts]
        (folder / "old").mkdir(exist_ok=True)
        return archive(store, ids, folder / "old" / f"{name}.lllm-archive")


def test_reads_as_the_store(tmp_path: Path) -> None:
    """Lists, sessions, costs, tags, exports and verify say of an archive what the store says."""
    with sqlite_store(tmp_path / "runs.db") as store:
        write(store, random.Random(3))
        write(store, random.Random(4))
        ended = record(store, "Zoë")
        rows = [one for one in store.list_sessions(replays=True) if one.state != "running"]
        (tmp_path / "old").mkdir()
        archive(store, [one.session_id for one in rows], tmp_path / "old" / "1.lllm-archive")
        with LogStore.open(tmp_path / "old") as old:
            assert isinstance(old.backend, ArchiveBackend)
            assert old.list_sessions(replays=True) == rows
            for one in rows:
                assert old.load_session(one.session_id) == store.load_session(one.session_id)
                assert sorted(old.export_session(one.session_id, "json")) == sorted(
                    store.export_session(one.session_id, "json")
                )
            assert verify(old.backend).is_sound
            (found,) = old.list_sessions(tags={"note": "Zoë"})
            assert found.session_id == ended
            assert list(old.search("Zoë"))


def test_several_files(tmp_path: Path) -> None:
    """The files of a folder are one log; a session that stands in two of them is read once."""
    sampled(tmp_path, "1", "ab")
    second = sampled(tmp_path, "2", "cd")
    (tmp_path / "old" / "3.lllm-archive").write_bytes(second.read_bytes())
    log = ArchiveBackend(tmp_path / "old")
    events = list(log.read())
    assert len({(one.stream, one.seq) for one in events}) == len(events) < log.head()
    assert sorted({one.position for one in events}) == [one.position for one in events]
    for after, upto in ((0, 5), (3, 9), (7, 7), (len(events) - 1, None), (-1, 10**9)):
        last = log.head() if upto is None else upto
        assert list(log.read(after=after, upto=upto)) == [
            one for one in events if after < one.position <= last
        ]
    streams = {one.stream for one in events}
    for stream in streams:
        own = [one for one in events if one.stream == stream]
        assert list(log.read(stream=stream)) == own
        assert list(log.read(stream=stream, after=own[0].position)) == own[1:]
    assert list(log.read(stream="none")) == []
    assert pickle.loads(pickle.dumps(log)).head() == log.head()
    log.close()
    with LogStore.open(second) as one:  # a file by itself
        assert len(one.list_sessions()) == 2


def test_never_written_to(tmp_path: Path) -> None:
    """What would write to an archive raises, and its files stay as they were."""
    file = sampled(tmp_path, "1", "a")
    before = file.read_bytes()
    with LogStore.open(tmp_path / "old") as old, pytest.raises(LogReadOnly, match="archive"):
        old.tag(old.list_sessions()[0].session_id, {"x": "y"})
    assert [one.name for one in (tmp_path / "old").iterdir()] == [file.name]
    assert file.read_bytes() == before


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_every_byte_is_checked(tmp_path: Path) -> None:
    """A change of any byte is found by reading the file alone, and so is a cut."""
    file = sampled(tmp_path, "1", "a")
    data = file.read_bytes()
    for at in range(0, len(data), 29):
        file.write_bytes(changed(data, at))
        # the magic number and the length of the frame around the index are for other programs
        if not _is_skipped(data, at):
            with pytest.raises(LogDamaged, match="damaged"):
                read_whole(file)
    for size in (0, 10, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        with pytest.raises(LogDamaged, match="damaged"):
            read_whole(file)
    file.write_bytes(data)
    read_whole(file)


def read_whole(path: Path) -> None:
    file = ArchiveFile(path)
    try:
        file.check()
    finally:
        file.close()


def _is_skipped(data: bytes, at: int) -> bool:
    begin = data.rindex(archive_file._HEADER.pack(archive_file._SKIPPABLE, 0)[:4])
    return begin <= at < begin + archive_file._HEADER.size


def test_damage_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one part of a file is damaged, the others are still read, and verify names the file."""
    monkeypatch.setattr(archive_file, "_BLOCK_BYTES", 2_000)
    file = sampled(tmp_path, "1", "abc")
    opened = ArchiveFile(file)
    damaged = opened.index.blocks[1]
    opened.close()
    file.write_bytes(changed(file.read_bytes(), damaged.at + damaged.size // 2))
    log = ArchiveBackend(file)
    found = verify(log)
    assert found.events == log.head() - damaged.events
    assert any(str(file) in one.what for one in found.damages)
    log.close()


def test_another_programs_change(tmp_path: Path) -> None:
    """A file that was made anew with another payload fits itself, but not the digests in it."""
    path = tmp_path / "forged.lllm-archive"
    event = Recorded(1, "s", 1, 1, "t", 1, b"{}", leaf_digest(b"", "s", 1, 1, "t", 1, b"{}"))
    for data in (b"{}", b'{"a":1}'):
        with path.open("wb", buffering=0) as file:
            writer = ArchiveWriter(file)
            writer.add([Recorded(1, "s", 1, 1, "t", 1, data, event.digest)])
            writer.finish()
        if data == b"{}":
            read_whole(path)
    with pytest.raises(LogDamaged, match="event 1 of s is not what was written"):
        read_whole(path)


def test_read_without_lllm(tmp_path: Path) -> None:
    """Any Zstandard program decompresses a file to the lines of an export."""
    zstandard = pytest.importorskip("zstandard")
    file = sampled(tmp_path, "1", "a")
    lines = zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO(file.read_bytes()), read_across_frames=True
    ).read()  # fmt: skip
    events = list(read_lines(io.BytesIO(lines), len(lines)))
    assert [one.digest for one in events] == [one.digest for one in ArchiveBackend(file).read()]


def test_newer_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a newer lllm is refused with one clear error."""
    monkeypatch.setattr(archive_file, "FORMAT", 2)
    file = tmp_path / "n.lllm-archive"
    with file.open("wb", buffering=0) as opened:
        ArchiveWriter(opened).finish()
    monkeypatch.setattr(archive_file, "FORMAT", 1)
    with pytest.raises(LogTooNew, match="format 2"):
        ArchiveFile(file)


def test_no_archive(tmp_path: Path) -> None:
    """What is no archive, or not there, is said so."""
    with pytest.raises(StoreError, match="no store at"):
        LogStore.open(tmp_path / "none.lllm-archive")
    (tmp_path / "x.lllm-archive").write_bytes(os.urandom(1000))
    with pytest.raises(LogDamaged, match=r"x\.lllm-archive is damaged: it is no archive"):
        LogStore.open(tmp_path / "x.lllm-archive")


def test_imported_again(tmp_path: Path) -> None:
    """`lllm import` takes the sessions of an archive into another store."""
    sampled(tmp_path, "1", "ab")
    assert main(["import", str(tmp_path / "old"), "--store", str(tmp_path / "new.db")]) == 0
    with sqlite_store(tmp_path / "new.db") as new, LogStore.open(tmp_path / "old") as old:
        assert [one.session_id for one in new.list_sessions()] == [
            one.session_id for one in old.list_sessions()
        ]
        assert verify(new.backend).is_sound


@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["cost"], ["search", "a"], ["verify"], ["doctor"], ["show", "{id}"],
     ["export", "{id}", "--format", "jsonl"], ["events", "{id}"]],
    ids=lambda one: str(one[0]),
)  # fmt: skip
def test_commands(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that reads takes an archive as its store."""
    sampled(tmp_path, "1", "a")
    with LogStore.open(tmp_path / "old") as old:
        session_id = old.list_sessions()[0].session_id
    given = [one.format(id=session_id) for one in arguments]
    assert main([*given, "--store", str(tmp_path / "old")]) == 0
    assert capsys.readouterr().out


def test_index_is_small(tmp_path: Path) -> None:
    """The index says where each stream is, so one session is read without the others."""
    file = ArchiveFile(sampled(tmp_path, "1", "ab"))
    assert file.index.sessions == 4
    assert set(file.index.streams) == {one.stream for one in file.lines(0)}
    assert codec.encode(file.index)
    file.close()
