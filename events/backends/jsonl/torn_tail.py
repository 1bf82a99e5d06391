"""Handles an unfinished append at the end of a JSONL log, which a killed process leaves.

A process that dies in the middle of a write leaves the beginning of one append. The loss of power
may leave zeros in place of what had not reached the disk. Both are torn: nothing that was written
to its end is among them, so they are moved into a file beside the log, and writing goes on. Nothing
is deleted, for the same bytes stay where somebody cut off the end of a whole append.

An append that lacks nothing but its last newline is kept: the newline is added.

Anything else, such as lines that an editor changed, is damage. Whoever is about to write refuses,
as the events may all be there; `repair` mends it.
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

_BLOCK = 1 << 20  # bytes read at once
SUFFIX = ".torn"  # not .jsonl: whoever reads all files of a log does not meet it


class TailState(NamedTuple):
    """The kind of bytes that follow the last complete append.

    Attributes:
        kind: "torn"; "unended", a whole append without its last newline; "damaged"; or "none".
        end: The offset in the file where the bytes begin that are not to stay.
    """

    kind: Literal["none", "torn", "unended", "damaged"]
    end: int


def tail_state(file: FileIO, end: int, size: int) -> TailState:
    """Classify the bytes of a segment that follow its last complete append.

    Args:
        file: The segment, open to read.
        end: The offset where the last whole append ends.
        size: Of the file, in bytes.
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
        return TailState("damaged", end)  # before much is read
    *whole, rest = read_at(file, end, written - end).split(b"\n")
    due: int | None = None  # what the next line's `more` must be
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
    """The offset at which the trailing zeros of a part of a file begin."""
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
        codecs.getincrementaldecoder("utf-8")().decode(line)  # a character may be cut
    except UnicodeDecodeError:
        return False
    return line_format.is_beginning(line)


def damaged_tail(segment: Segment, end: int, size: int) -> LogDamaged:
    """Make the error for a log with damage after its last complete append.

    Args:
        segment: The last file of the log.
        end: The offset where the last whole append ends.
        size: Of the file, in bytes.
    """
    return LogDamaged(
        f"{segment.path} is damaged from byte {end} on: what stands there is neither whole events "
        "nor the beginning of one append. Events before it can be read; nothing is written behind "
        f"it. `lllm repair --store {segment.path.parent}` keeps a copy and mends what it can.",
        position=segment.begin + size,
    )


def set_aside(file: FileIO, segment: Segment, begin: int, size: int) -> Path:
    """Move the end of a segment into a separate file beside the log.

    The file is whole, and on the disk, before anything is cut off. Its name says the position and
    the content, so that doing it again after a crash makes no second one.

    Args:
        file: The segment, open to be written.
        segment: Its path and position.
        begin: The offset of the first byte that is moved.
        size: The size of the segment.

    Returns:
        The path of the file that has the bytes now.

    Raises:
        OSError: That can't be done. The bytes stay where they are.
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
                if block.strip(b"\0"):  # zeros take no room
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
    """List the files with bytes that were moved aside and not yet removed by somebody.

    Args:
        folder: The folder of the log.

    Raises:
        OSError: The folder can't be read.
    """
    return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(SUFFIX)]
