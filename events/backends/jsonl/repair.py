"""Repairs a JSONL log that another program has changed.

Only two places are changed: a damaged end of the log, because no process appends after it, and an
earlier file if every line of it can be restored. A copy of a file is stored beside it, synced to
the disk, before the file is changed; the repaired file replaces it in one step. So if a repair is
interrupted, no bytes are lost and it can be repeated.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Sequence
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.events import codec
from lllm.events.backends.jsonl import complete_end, segments, torn_tail
from lllm.events.backends.jsonl.lost_end import HighWater
from lllm.events.backends.jsonl.readable_lines import ReadableLines
from lllm.events.backends.jsonl.rewritten_lines import restore
from lllm.events.backends.jsonl.segments import Segment
from lllm.events.concurrency.locks import FileLock
from lllm.events.damage import Damage
from lllm.events.errors import LogDamaged, LogUnavailable
from lllm.events.files.own_files import make_folder, make_new, open_to_read, sync, sync_folder
from lllm.events.files.permissions import folder_mode, mode_like
from lllm.events.integrity.repair import Mended, Repaired

if TYPE_CHECKING:
    from lllm.events.backends.jsonl.backend import LocalFileBackend

SUFFIX = ".damaged"  # the suffix of the copies
_WAIT_SECONDS = 10.0  # to wait for processes that write the log


def repair_folder(log: LocalFileBackend) -> Repaired:
    """Repair a log while nobody writes to it.

    Args:
        log: The log, opened for writing.

    Returns:
        A report of the files that were changed.

    Raises:
        LogUnavailable: Other processes keep writing, or the files can't be written.
    """
    with segments.FolderErrors(log.path):
        make_folder(log.path / "locks", mode=folder_mode(mode_like(log.path / "log.json")))
        lock = FileLock(log.path / "locks" / "write.lock")
        try:
            _take(lock, log.path)
            mended = _mend_all(log)
            begun = _begin_behind(log, HighWater(lock), mended)
        finally:
            lock.close()
        found = ReadableLines(log)
        left = tuple(one.what for one in found if isinstance(one, Damage))
        return Repaired(tuple(mended), left, tuple(torn_tail.files_set_aside(log.path)), begun)


def _take(lock: FileLock, path: Path) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while not lock.acquire(wait=False):
        if time.monotonic() > until:
            raise LogUnavailable(f"{path} is being written to. End the programs that use it first.")
        time.sleep(0.01)


def _mend_all(log: LocalFileBackend) -> list[Mended]:
    salts = _Salts(log)
    mended = []
    files = segments.segments_of(log.path)
    for segment, following in zip_longest(files, files[1:]):
        one = _mend(segment, following, salts)
        if one is not None:
            mended.append(one)
            salts.forget()
    return mended


def _begin_behind(log: LocalFileBackend, noted: HighWater, mended: Sequence[Mended]) -> Path | None:
    """Begin a new segment after a lost end of the log, so that no position is used twice.

    If the last file was repaired, its end is taken as the end of the log.
    """
    end = complete_end.end_of(log.path)
    if end.segment is not None and any(one.path == end.segment.path for one in mended):
        noted.write(end.position, synced=False)
        return None
    try:
        log.check_end()
    except LogDamaged as lost:
        segment = segments.segment_at(log.path, lost.position)
        make_new(segment.path, mode=mode_like(log.path / "log.json")).close()
        sync_folder(log.path)
        # the rows, whose position may have shown the lost end, are built again
        noted.write(lost.position, synced=True)
        return segment.path
    return None


class _Salts:
    """The salts in the first events of streams, read when first needed."""

    def __init__(self, log: LocalFileBackend) -> None:
        self._log = log
        self._salts: dict[str, bytes] | None = None

    def __call__(self, stream: str) -> bytes:
        if self._salts is None:
            self._salts = {
                event.stream: codec.salt_of(event)
                for event in ReadableLines(self._log)
                if not isinstance(event, Damage) and event.seq == 1
            }
        return self._salts.get(stream, b"")

    def forget(self) -> None:
        """Clear the cache, because a repaired file has more salts."""
        self._salts = None


def _mend(segment: Segment, following: Segment | None, salts: _Salts) -> Mended | None:
    """Repair a file that can be restored in full, or the last file if its end is damaged."""
    with open_to_read(segment.path) as file:
        size = file.seek(0, os.SEEK_END)
        begin = complete_end.whole_end(file)
        at_end = following is None and torn_tail.tail_state(file, begin, size).kind == "damaged"
        content = segments.read_at(file, 0, size)
    found = restore(content, salts)
    if not found.changed:
        return None
    good = b""
    is_gap = following is not None and segment.begin + len(found.content) != following.begin
    if found.lost or is_gap:
        if not at_end:
            return None
        good = content[:begin]
        found = restore(content[begin:], salts)
    copy = _keep(segment, size)
    _replace(segment, good + found.content)
    return Mended(segment.path, copy, size, len(good) + len(found.content), found.lost)


def _keep(segment: Segment, size: int) -> Path:
    """Copy a file under a name made from its content, so a repeated copy gets the same name."""
    digest = sha256()
    with open_to_read(segment.path) as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
        copy = segment.path.with_name(f"{segment.path.stem}-{digest.hexdigest()[:16]}{SUFFIX}")
        if os.path.lexists(copy) and os.lstat(copy).st_size == size:
            return copy
        draft = copy.with_name(f"{copy.name}.new")
        file.seek(0)
        with make_new(draft) as kept:
            shutil.copyfileobj(file, kept)
            sync(kept)
    _put(draft, copy, mode_like(segment.path))
    return copy


def _replace(segment: Segment, content: bytes) -> None:
    draft = segment.path.with_name(f"{segment.path.name}.new")
    with make_new(draft) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        sync(file)
    _put(draft, segment.path, stat.S_IMODE(segment.path.stat().st_mode))


def _put(draft: Path, path: Path, mode: int) -> None:
    draft.chmod(mode)
    draft.rename(path)
    sync_folder(path.parent)
