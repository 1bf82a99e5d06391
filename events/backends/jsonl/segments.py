"""Finds the segment files of a JSONL log, and reads bytes from them.

A position is the offset just after an event's newline, in bytes, counted over all segments. A
segment is named after the offset at which it begins, and no append spans two segments. So the names
alone tell which file holds a position, and whether bytes are missing between two files.
"""

from __future__ import annotations

import os
import re
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from lllm.events.errors import LogError, LogUnavailable
from lllm.events.files.error_advice import advice

WINDOW = 1 << 14  # bytes that are read first when searching backwards from a file's end
WIDEST = 1 << 24  # bytes that are read at most in one such step
_NAME = re.compile(r"\d{20}\.jsonl")


class Segment(NamedTuple):
    """One file of the log.

    Attributes:
        path: The path of the file.
        begin: The position at which the file begins.
    """

    path: Path
    begin: int


def segment_at(folder: Path, begin: int) -> Segment:
    """Make the Segment that begins, or would begin, at a position.

    Args:
        folder: The folder of the log.
        begin: The position in the log, in bytes.

    Returns:
        The segment; its file need not exist.
    """
    return Segment(folder / f"{begin:020}.jsonl", begin)


def segments_of(folder: Path) -> list[Segment]:
    """List the segments of a log, in order.

    Args:
        folder: The folder of the log.

    Returns:
        The segments; an empty list if there are none.

    Raises:
        OSError: The folder can't be read.
    """
    names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    return [Segment(folder / name, int(name[:20])) for name in names]


class FolderErrors:
    """A context manager that turns errors of the file system into lllm's, with path and advice.

    Args:
        path: The folder of the log.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, LogError):
            do = advice(error.errno, "Is it writable, and is there space left?")
            raise LogUnavailable(f"{self._path}: {error.strerror or error}. {do}") from error


def read_at(file: FileIO, offset: int, count: int) -> bytes:
    """Read bytes from the middle of a file.

    Args:
        file: The file, opened for reading.
        offset: The offset of the first byte.
        count: The number of bytes; fewer are returned only at the end of the file.

    Returns:
        The bytes.
    """
    file.seek(max(0, offset))
    data = file.read(count)
    while 0 < len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def last_newline_before(file: FileIO, end: int) -> int:
    """Find the offset at which a line begins, from the offset of its end.

    Args:
        file: The segment, opened for reading.
        end: The offset at which the line ends, without its newline; or any offset within it.

    Returns:
        The offset after the last newline that ends at or before `end`; 0 if there is none.
    """
    window = WINDOW
    while end > 0:
        begin = max(0, end - window)
        found = read_at(file, begin, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
        window = min(2 * window, WIDEST)
    return 0
