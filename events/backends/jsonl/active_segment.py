"""Writes to the last segment of a JSONL log.

Every function here is called under the log's locks. If another process has appended since, the last
bytes are checked first: an unfinished write of a dead process is moved aside, and nothing is
written after damage (`torn_tail` tells the two apart). An append is one write; if it fails half
way, the file is cut back to its previous size.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from lllm.events.backends.jsonl.complete_end import whole_end
from lllm.events.backends.jsonl.lost_end import HighWater, lost_end
from lllm.events.backends.jsonl.segments import Segment, segment_at, segments_of
from lllm.events.backends.jsonl.torn_tail import damaged_tail, set_aside, tail_state
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import (
    FileId,
    close_own,
    file_id,
    has_mark,
    is_at,
    leads_to,
    mark_descriptor,
    only_name,
    open_own,
    sync,
    sync_folder,
)
from lllm.events.files.permissions import FILE_MODE

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND

_COARSEST = 2_500_000_000  # nanoseconds; FAT has the coarsest time stamps, two seconds apart

_MOST = 1024  # the number of pieces that every system accepts in one write (IOV_MAX)

_log = logging.getLogger("lllm.store")


class Tail:
    """The segment that this process has open for appends.

    Args:
        folder: The folder of the log.
        segment_bytes: The size in bytes from which a segment is followed by a new one.
        durable: True if `sync` waits until the disk has the data.
        mode: The permissions of new segments, as 0o600.
    """

    def __init__(
        self, folder: Path, segment_bytes: int, *, durable: bool, mode: int = FILE_MODE
    ) -> None:
        self.segment = segment_at(folder, 0)
        self._folder = folder
        self._folder_name = os.fspath(folder)  # os.stat is twice as fast with a str as with a Path
        self.segment_bytes = segment_bytes
        self._durable = durable
        self._mode = mode
        self._fd = -1
        self._file: FileIO | None = None
        self._opened: FileId | None = None  # the file that was opened as _fd
        self._mark = -1  # an offset by which our descriptor is recognised
        self._size = -1  # the size of the segment after our last write; -1 if it must be checked
        # the note of the log's end, written under the write lock
        self.high_water: HighWater | None = None
        # the last change of names in the folder, nanoseconds; -1 if it was just now
        self._named = -1

    def __del__(self) -> None:
        self.close()

    def in_place(self) -> bool:
        """False if the path of the open segment now leads to another file."""
        return self._file is None or is_at(self.segment.path, self._opened)

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        self._size = -1
        if self._file is not None:
            self._file = None
            close_own(self._fd, self._opened)

    def ready(self) -> int:
        """Open the active segment, move a torn tail aside, and begin a new segment if it is due.

        Returns:
            The position where the next append begins.

        Raises:
            OSError: The segment can't be opened or changed.
            LogDamaged: The log ends in damage, or before an event that was acknowledged.
        """
        self._let_go_of_others()
        before, size = self._file, self._size_in_place()
        if size is not None and size == self._size:
            return self.segment.begin + size  # no other process has written since
        self._size = -1
        if before is None or size is None:
            self._named = self._last_named()
            file = self._active()
            size = os.fstat(file.fileno()).st_size
        else:
            file = before
        end = whole_end(file, known=file is before)
        if end < size:
            end = self._mend(file, end, size)
        elif self.segment.begin + end < (reached := self._reached()):
            self._enter_later(end, reached)
            return self.ready()
        elif before is None:
            self._tell_of_lost_power(self.segment.begin + end)
        if end >= self.segment_bytes:
            self._enter(segment_at(self._folder, self.segment.begin + end))
            end = 0
        return self.segment.begin + end

    def _reached(self) -> int:
        """Read the highest position that is noted as written."""
        noted = None if self.high_water is None else self.high_water.read()
        return noted or 0

    def _tell_of_lost_power(self, end: int) -> None:
        lost = 0 if self.high_water is None else self.high_water.lost_with_power(end)
        if lost:
            _log.warning(
                "%s: the last %d bytes of the log are missing, and the machine was started again "
                "since they were written: power was lost before they were on the disk. The log "
                "goes on. durability=\"power\" waits for the disk at each append.",
                self._folder, lost,
            )  # fmt: skip

    def _enter_later(self, end: int, reached: int) -> None:
        """Switch to a segment that a repair has begun after a lost end.

        Raises:
            LogDamaged: There is no such segment, so the end of the log is lost.
        """
        last = segments_of(self._folder)[-1]
        if last.begin <= self.segment.begin:
            self.close()  # forget the file, so that a restored one is found
            raise lost_end(self._folder, last.path, self.segment.begin + end, reached)
        self._enter(last)

    def _mend(self, file: FileIO, end: int, size: int) -> int:
        """Move an unfinished write aside, and return the new end of the log.

        Raises:
            LogDamaged: The bytes are not an unfinished write.
        """
        state = tail_state(file, end, size)
        if state.kind == "damaged":
            self.close()  # forget the file, so that a repaired one is found
            raise damaged_tail(self.segment, end, size)
        if state.end < size:
            aside = set_aside(file, self.segment, state.end, size)
            if self.high_water is not None and self._reached() > self.segment.begin + state.end:
                # Acknowledged events were cut off with it, as by the loss of power. Known trade-off
                # (accepted): their positions are given again.
                self.high_water.write(self.segment.begin + state.end, synced=False)
            _log.warning(
                "%s: moved %d bytes behind offset %d to %s. They are the beginning of an append, "
                "or zeros: a process died while it wrote, power was lost, or somebody cut the "
                "file. Look at them; `lllm verify` reports the file until it is removed.",
                self.segment.path, size - state.end, state.end, aside.name,
            )  # fmt: skip
        if state.kind == "unended":
            _log.warning("%s: the newline at its end was missing.", self.segment.path)
            file.write(b"\n")
            return state.end + 1
        return state.end

    def _let_go_of_others(self) -> None:
        """Forget our descriptor if other code closed it, since it may now be another file.

        It is recognised by its file offset, which an append does not use. fstat would take four
        times as long, and would slow down the following write, for which Linux then makes a new
        time stamp.
        """
        if self._file is None or has_mark(self._fd, self._mark):
            return
        if not leads_to(self._fd, self._opened):
            self._file = None
            self._size = -1

    def _size_in_place(self) -> int | None:
        """The size of the open segment; None if the folder must be searched again.

        The size is known if no file in the folder was created, moved or deleted since the last
        search.
        """
        if self._file is None or self._named < 0:
            return None
        if self._folder_changed() != self._named:
            return None
        return os.lseek(self._fd, 0, os.SEEK_END)

    def _last_named(self) -> int:
        """The time of the last change of names in the folder; -1 if it was just now.

        In nanoseconds. A second change shortly afterwards could get the same time stamp, so a
        recent time is not used.
        """
        changed = self._folder_changed()
        return changed if time.time_ns() - changed > _COARSEST else -1

    def _folder_changed(self) -> int:
        try:
            return os.stat(self._folder_name).st_mtime_ns
        except FileNotFoundError:  # whoever looks for the segment tells
            return -1

    def _active(self) -> FileIO:
        if self._file is None:
            return self._enter_last()
        found = os.fstat(self._file.fileno())
        if found.st_nlink == 0 or not _is_at(found, self.segment.path):
            if self._is_replaced():
                self.close()
                return self._enter_last()
            raise LogUnavailable(
                f"{self.segment.path} was deleted or moved while this process wrote it. Put it "
                f"back; if it is gone for good, `lllm repair --store {self._folder}` goes on "
                "behind it. Where the folder was removed, open the store again to begin a new log."
            )
        following = self.segment.begin + found.st_size
        if found.st_size and os.path.exists(f"{self._folder}/{following:020}.jsonl"):
            return self._enter_last()  # another process found that this segment is full
        return self._file

    def _is_replaced(self) -> bool:
        """True if another file has replaced the open segment, or follows it.

        The note of the log's end must still exist.
        """
        if self.high_water is None or not self.high_water.in_place():
            return False
        last = segments_of(self._folder)[-1:]
        return bool(last) and last[0].begin >= self.segment.begin

    def _enter_last(self) -> FileIO:
        found = segments_of(self._folder)
        if not found and (reached := self._reached()):
            raise lost_end(self._folder, None, 0, reached)
        return self._enter(found[-1] if found else segment_at(self._folder, 0))

    def _enter(self, segment: Segment) -> FileIO:
        is_new = not segment.path.exists()
        self.close()
        self.segment = segment
        # A raw descriptor: a log that is never closed then causes no ResourceWarning.
        self._fd = open_own(segment.path, _APPEND, mode=self._mode)
        self._opened = file_id(self._fd)
        self._mark = mark_descriptor(self._fd)
        self._file = FileIO(self._fd, "r+", closefd=False)
        try:
            only_name(self._fd, segment.path)
        except BaseException:
            self.close()  # forget the file, so that a copy in its place is found
            raise
        if is_new and self._durable:
            sync_folder(self._folder)
        return self._file

    def write(self, position: int, *pieces: bytes) -> None:
        """Append all of the given pieces to the segment, or none of them.

        Args:
            position: The position where the log ends, as `ready` returned it.
            *pieces: The bytes to write, one after another.

        Raises:
            OSError: The segment can't be written.
        """
        file = self._file
        assert file is not None
        begin = position - self.segment.begin
        end = begin + sum(map(len, pieces))
        self._size = -1
        try:
            self._write_all(file, pieces)
        except BaseException:
            # Ask for the file's size: an interrupt may come after the write and before its return.
            with suppress(OSError):
                if os.fstat(file.fileno()).st_size != end:
                    file.truncate(begin)
            raise
        os.lseek(self._fd, self._mark, os.SEEK_SET)
        if self._named >= 0 and end < self.segment_bytes:
            self._size = end

    def _write_all(self, file: FileIO, pieces: Sequence[bytes]) -> None:
        """Write all pieces, in one system call if possible."""
        rest = [memoryview(piece) for piece in pieces if piece]
        while rest:
            some = rest[:_MOST]
            written = os.writev(self._fd, some) if len(some) > 1 else file.write(some[0])
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if written:
                rest[0] = rest[0][written:]

    def sync(self) -> None:
        """Flush what was written to the disk, if the log's durability asks for it.

        Known trade-off (accepted): if this fails, the written bytes stay. Readers may have seen
        them already, and a repeated append recognises them.
        """
        if self._durable and self._file is not None:
            sync(self._file)

    def note(self, end: int) -> None:
        """Note the new end of the log after `sync`.

        Args:
            end: The position where the append ended.
        """
        if self.high_water is not None:
            self.high_water.write(end, synced=self._durable)


def _is_at(opened: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(opened, os.stat(path))
    except FileNotFoundError:
        return False
