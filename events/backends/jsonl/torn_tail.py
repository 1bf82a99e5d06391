"""Handles an unfinished append at the end of a JSONL log, which a killed process leaves.

If a process dies while it writes, the beginning of one append remains. A loss of power may leave
zeros in place of bytes that had not reached the disk. Both are torn writes: none of these events
was acknowledged. So the bytes are moved into a file beside the log, and writing continues. They are
not deleted, because the bytes look the same if somebody has cut off the end of a complete append.

An append that lacks only its last newline is kept, and the newline is added.

All other bytes, such as lines changed by an editor, are damage. An append then raises, because the
events may all be there; `repair` restores them.
"""

from __future__ import annotations

import codecs
import os
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Literal, NamedTuple

from lllm.events.backends.jsonl import line_format
from lllm.events.backends.jsonl.segments import Segment, read_at
from lllm.events.envelope import APPEND_BYTES
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import make_new, sync, sync_folder
from lllm.events.files.permissions import mode_like_found

_BLOCK = 1 << 20  # bytes that are read at once
SUFFIX = ".torn"  # not .jsonl, so that tools which read all .jsonl files skip it


class TailState(NamedTuple):
    """The kind of bytes that follow the last complete append.

    Attributes:
        kind: "torn", a write that was cut short; "unended", a complete append without its last
            newline; "damaged"; or "none".
        end: The offset in the file of the first byte that has to be removed.
    """

    kind: Literal["none", "torn", "unended", "damaged"]
    end: int


def tail_state(file: FileIO, end: int, size: int) -> TailState:
    """Classify the bytes of a segment that follow its last complete append.

    Args:
        file: The segment, opened for reading.
        end: The offset where the last complete append ends.
        size: The size of the file, in bytes.

    Returns:
        The kind of the bytes after `end`.
    """
    if end >= size:
        return TailState("none", size)
    if size - end > APPEND_BYTES:
        return TailState("damaged", end)
    written = _before_nuls(file, end, size)
    if written == end:
        return TailState("torn", end)
    begin = read_at(file, end, min(len(line_format.STREAM), written - end))
    if not line_format.STREAM.startswith(begin):
        return TailState("damaged", end)  # checked first, before many bytes are read
    *whole, rest = read_at(file, end, written - end).split(b"\n")
    due: int | None = None  # the number that `more` of the next line must be
    for line in whole:
        more = line_format.more_of(line)
        if not more or (due is not None and more != due):
            return TailState("damaged", end)
        due = more - 1
    if not rest:
        return TailState("torn", end)
    more = line_format.more_of(rest)
    if more is not None:
        if due is not None and more != due:
            return TailState("damaged", end)
        return TailState("torn", end) if more else TailState("unended", written)
    return TailState("torn" if _is_beginning(rest) else "damaged", end)


def _before_nuls(file: FileIO, begin: int, end: int) -> int:
    """Find the offset at which the trailing zeros of a part of a file begin."""
    while end > begin:
        start = max(begin, end - _BLOCK)
        found = len(read_at(file, start, end - start).rstrip(b"\0"))
        if found:
            return start + found
        end = start
    return begin


def _is_beginning(line: bytes) -> bool:
    """True if a text is the beginning of a line, but not a complete line."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return line_format.is_beginning(line)


def damaged_tail(segment: Segment, end: int, size: int) -> LogDamaged:
    """Make the error for a log with damage after its last complete append.

    Args:
        segment: The last segment of the log.
        end: The offset where the last complete append ends.
        size: The size of the file, in bytes.

    Returns:
        The error, to be raised by the caller.
    """
    return LogDamaged(
        f"{segment.path} is damaged from byte {end} on: the bytes are neither complete events nor "
        "the beginning of an append. Events before them can be read; nothing can be appended. "
        f"`lllm repair --store {segment.path.parent}` makes a copy and repairs what it can.",
        position=segment.begin + size,
    )


def set_aside(file: FileIO, segment: Segment, begin: int, size: int) -> Path:
    """Move the end of a segment into a separate file beside the log.

    The new file is complete and synced to the disk before the segment is cut. Its name contains the
    position and a digest of the content, so repeating this after a crash creates no second file.

    Args:
        file: The segment, opened for writing.
        segment: The path and the position of the segment.
        begin: The offset of the first byte that is moved.
        size: The size of the segment, in bytes.

    Returns:
        The path of the new file.

    Raises:
        OSError: The bytes can't be moved; they stay where they are.
    """
    digest = sha256()
    for offset in range(begin, size, _BLOCK):
        digest.update(read_at(file, offset, min(_BLOCK, size - offset)))
    name = f"{segment.begin + begin:020}-{digest.hexdigest()[:16]}{SUFFIX}"
    path = segment.path.with_name(name)
    if not os.path.lexists(path):
        draft = path.with_name(f"{name}.new")
        mode = mode_like_found(os.fstat(file.fileno()).st_mode)
        with make_new(draft, mode=mode) as copy:
            for offset in range(begin, size, _BLOCK):
                block = read_at(file, offset, min(_BLOCK, size - offset))
                if block.strip(b"\0"):  # zeros are stored as a hole, which takes no disk space
                    copy.seek(offset - begin)
                    _write_all(copy, block)
            copy.truncate(size - begin)
            sync(copy)
        draft.rename(path)
        sync_folder(path.parent)
    file.truncate(begin)
    return path


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def files_set_aside(folder: Path) -> list[Path]:
    """List the files of moved bytes that nobody has removed yet.

    Args:
        folder: The folder of the log.

    Returns:
        The paths, in order of their names.

    Raises:
        OSError: The folder can't be read.
    """
    return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(SUFFIX)]
