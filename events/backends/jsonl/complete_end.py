"""Finds where the last complete append of a JSONL log ends.

An unfinished write may follow it: of a process that is writing now, or of one that died. Readers
take no lock. They read up to this end; the bytes before it never change, whatever others append.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from lllm.events.backends.jsonl.line_format import STREAM, WHOLE, decode
from lllm.events.backends.jsonl.segments import (
    WIDEST,
    WINDOW,
    Segment,
    last_newline_before,
    read_at,
    segments_of,
)
from lllm.events.envelope import EVENT_BYTES
from lllm.events.files.own_files import open_to_read

_LOOKED_AT = 1 << 16  # bytes of a last line that are read to check whether it is an event


class End(NamedTuple):
    """The position at which the last complete append of a log ends.

    Attributes:
        position: The position where the append ends.
        segment: The last segment; None if there is none.
        size: The size of the last segment's file, in bytes.
    """

    position: int
    segment: Segment | None
    size: int


def end_of(folder: Path) -> End:
    """Find the position at which the last complete append of a log ends.

    Args:
        folder: The folder of the log.

    Returns:
        The position, the last segment and its size.

    Raises:
        OSError: The log can't be read.
    """
    segments = segments_of(folder)
    if not segments:
        return End(0, None, 0)
    with open_to_read(segments[-1].path) as file:
        size = file.seek(0, os.SEEK_END)
        return End(segments[-1].begin + whole_end(file), segments[-1], size)


def whole_end(file: FileIO, *, known: bool = False) -> int:
    """Find where the last complete append of a segment ends; an unfinished write may follow it.

    Bytes inside a payload that look like the end of an append are not mistaken for one. Bytes
    before the last complete append are never counted as unfinished.

    Args:
        file: The segment, opened for reading.
        known: True if this process has checked the file before and kept it open since, so no power
            loss can have damaged the middle of a line.

    Returns:
        An offset in the file, in bytes.
    """
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return 0
    if read_at(file, end - len(WHOLE), len(WHOLE)) == WHOLE and (known or _is_event(file, end)):
        return end
    window = WINDOW
    while end > 0:
        begin = max(0, end - window)
        found = _whole_end_within(file, begin, read_at(file, begin, end - begin))
        if found or begin == 0:
            return found
        end = begin + len(WHOLE) - 1
        window = min(2 * window, WIDEST)
    return 0


def _is_event(file: FileIO, end: int) -> bool:
    """True if the line that ends at an offset is an event.

    A loss of power may destroy the first page of a write and keep the second. Only the beginning of
    a long line is checked.
    """
    begin = last_newline_before(file, end - 1)
    if end - begin > _LOOKED_AT:
        return read_at(file, begin, len(STREAM)) == STREAM and end - begin <= EVENT_BYTES
    return _is_line(read_at(file, begin, end - 1 - begin))


def _is_line(line: bytes) -> bool:
    try:
        decode(0, line)
    except ValueError:
        return False
    return True


def _whole_end_within(file: FileIO, begin: int, data: bytes) -> int:
    """Find where the last complete append in some bytes ends; 0 if there is none.

    The bytes are those of the file from `begin` on. Each byte is read once, however many lines look
    like the end of an append.
    """
    at = len(data)
    while (at := data.rfind(WHOLE, 0, at)) >= 0:
        end = at + len(WHOLE)
        line = data[data.rfind(b"\n", 0, at) + 1 : end]
        if len(line) == end and begin > 0:  # all but one of its bytes may lie before this window
            start = last_newline_before(file, begin)
            if begin + end - start > EVENT_BYTES or read_at(file, start, len(STREAM)) != STREAM:
                continue
            line = read_at(file, start, begin - start) + line
        if _is_line(line[:-1]):
            return begin + end
    return 0
