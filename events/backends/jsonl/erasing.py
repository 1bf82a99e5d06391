"""Erases payloads in a JSONL log; a line keeps its length, because positions are offsets.

The new lines are first written to `erasing.json` in the lock folder and synced to the disk, so a
crash in the middle of a line loses nothing that has to stay: readers take the event from that file,
and the next process that opens the log for writing finishes the erasure. The file contains no
payload.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import msgspec

from lllm.events.backends.jsonl.erasing_intent import NotedLine, intent_of, read_intent
from lllm.events.backends.jsonl.line_format import erased_line, said_by
from lllm.events.backends.jsonl.segments import Segment, last_newline_before, read_at, segments_of
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import (
    close_own,
    file_id,
    make_new,
    open_own,
    sync,
    sync_folder,
)

_PIECE = 1 << 20  # bytes of spaces written at once


def erase_lines(folder: Path, erased: Sequence[Recorded], *, mode: int) -> None:
    """Overwrite the lines of some events; the caller holds the locks of the log.

    Args:
        folder: The folder of the log.
        erased: The erased events, in the order of the log.
        mode: The permissions of the temporary file.

    Raises:
        OSError: A file can't be written.
        LogDamaged: There is another line at the place of an event.
    """
    finish(folder)
    noted = _look_up(folder, erased)
    intent = intent_of(folder)
    draft = intent.with_suffix(".new")
    with make_new(draft, mode=mode) as file:
        _write_all(file, msgspec.json.encode(noted))
        sync(file)
    draft.rename(intent)
    sync_folder(intent.parent)
    _overwrite(folder, noted)
    intent.unlink()


def finish(folder: Path) -> None:
    """Finish an erasure that a crash interrupted; the caller holds the locks of the log.

    Args:
        folder: The folder of the log.

    Raises:
        OSError: A file can't be read or written.
    """
    intent = intent_of(folder)
    noted = read_intent(intent)
    if noted is not None:
        _overwrite(folder, noted)
        intent.unlink()


def _segment_of(segments: Sequence[Segment], position: int) -> Segment:
    return [one for one in segments if one.begin < position][-1]


def _look_up(folder: Path, erased: Sequence[Recorded]) -> list[NotedLine]:
    segments = segments_of(folder)
    noted: list[NotedLine] = []
    for event in erased:
        segment = _segment_of(segments, event.position)
        end = event.position - segment.begin - 1
        fd = open_own(segment.path, os.O_RDONLY)
        opened = file_id(fd)
        try:
            file = FileIO(fd, "r", closefd=False)
            begin = last_newline_before(file, end)
            line = read_at(file, begin, end - begin)
        finally:
            close_own(fd, opened)
        found, more = _event_of(event.position, line)
        if found is None or (found.stream, found.seq) != (event.stream, event.seq):
            raise LogDamaged(
                f"{segment.path} is damaged at byte {begin}: event {event.seq} of "
                f"{event.stream!r} should be there. Nothing was erased in it; `lllm verify` lists "
                "all damage.",
                position=event.position,
                stream=event.stream,
            )
        noted.append(NotedLine(event, begin, end - begin, more))
    return noted


def _event_of(position: int, line: bytes) -> tuple[Recorded | None, int]:
    found = said_by(line)
    return (None, 0) if found is None else (found[0].at(position), found[1])


def _overwrite(folder: Path, noted: Sequence[NotedLine]) -> None:
    segments = segments_of(folder)
    by_segment: dict[Segment, list[NotedLine]] = {}
    for one in noted:
        by_segment.setdefault(_segment_of(segments, one.event.position), []).append(one)
    for segment, lines in by_segment.items():
        fd = open_own(segment.path, os.O_RDWR)
        opened = file_id(fd)
        try:
            file = FileIO(fd, "r+", closefd=False)
            for one in lines:
                begin, room, end = erased_line(one.event, one.more, one.length)
                file.seek(one.begin)
                if room <= _PIECE:
                    _write_all(file, begin + b" " * room + end)
                    continue
                _write_all(file, begin)
                for at in range(0, room, _PIECE):
                    _write_all(file, b" " * min(_PIECE, room - at))
                _write_all(file, end)
            sync(file)
        finally:
            close_own(fd, opened)


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
