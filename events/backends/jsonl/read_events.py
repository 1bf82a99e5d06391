"""Reads the events of a JSONL log, and raises an error for the first damage.

`readable_lines` goes on after damage. Both read only complete appends; see `complete_end`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import FileIO
from itertools import zip_longest
from pathlib import Path

from lllm.events.backends.jsonl.erasing_intent import noted_event
from lllm.events.backends.jsonl.line_format import (
    STREAM,
    Append,
    Line,
    appends,
    decode,
    stream_of,
    stream_prefix,
)
from lllm.events.backends.jsonl.segments import (
    Segment,
    last_newline_before,
    read_at,
    segments_of,
)
from lllm.events.codec import is_utf8
from lllm.events.envelope import EVENT_BYTES, Recorded
from lllm.events.errors import LogDamaged
from lllm.events.files.own_files import open_to_read

# Small at first: reading starts again after each damage, of which there may be thousands.
_FIRST_PAGE = 2 << 10
_PAGE = 1 << 20  # bytes that are read at once
_MANY = 100  # so many lines without an event after a damage are counted as part of it
_KEPT = 64  # a line of so many bytes can't be an event


def blocks(file: FileIO, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Read whole lines between two offsets of a file, many at a time.

    If the last line lacks its newline, and `stop` is the offset just after where that would be, a
    newline is added. Lines that can't be events, because of their beginning or length, are
    shortened to their end: a damaged file may contain gigabytes of zeros.

    Args:
        file: The segment, opened for reading.
        start: The offset at which a line begins.
        stop: The offset after the last line.

    Yields:
        The offset at which some lines begin, and these lines.
    """
    rest, size = b"", _FIRST_PAGE
    while start < stop and (page := read_at(file, start, min(max(size, len(rest)), stop - start))):
        size = min(2 * size, _PAGE)
        cut = page.rfind(b"\n") + 1
        if cut:
            yield start - len(rest), rest + page[:cut]
            rest = page[cut:]
        else:
            rest += page
        start += len(page)
        del page
        if len(rest) > _PAGE and rest.startswith(STREAM):  # a long event is read in one piece
            begin = start - len(rest)
            if end := _end_of_line(file, start, min(stop, begin + EVENT_BYTES)):
                rest, start = b"", end
                yield begin, read_at(file, begin, end - begin)
        if len(rest) > EVENT_BYTES or (len(rest) > _PAGE and not rest.startswith(STREAM)):
            rest = b"\0" + rest[-_KEPT:]  # bytes that begin no event
    if rest and start == stop - 1:  # the caller asked for the last line, which lacks its newline
        yield start - len(rest), rest + b"\n"


def _end_of_line(file: FileIO, start: int, stop: int) -> int:
    """Find the offset after the next newline between two offsets; 0 if there is none."""
    while start < stop and (page := read_at(file, start, min(_PAGE, stop - start))):
        found = page.find(b"\n")
        if found >= 0:
            return start + found + 1
        start += len(page)
    return 0


def _lines(file: FileIO, segment: Segment, start: int, stop: int) -> Iterator[Line]:
    for offset, block in blocks(file, start - segment.begin, stop - segment.begin):
        position = segment.begin + offset
        is_one = len(block) > _PAGE and block.find(b"\n") == len(block) - 1
        lines = [block[:-1]] if is_one else block[:-1].split(b"\n")
        del block  # free each line as it is read: one may be long
        lines.reverse()
        while lines:
            position += len(lines[-1]) + 1
            yield position, lines.pop()


def _everything(_line: bytes) -> bool:
    return True


def events_between(
    folder: Path,
    after: int,
    upto: int,
    wanted: Callable[[bytes], bool] = _everything,
    *,
    concerned: Callable[[bytes], bool] = _everything,
) -> Iterator[Recorded]:
    """Read the events of all complete appends with after < position <= upto.

    Args:
        folder: The folder of the log.
        after: The position after which the reading begins.
        upto: The last position to read.
        wanted: A function that is true for the lines to decode.
        concerned: A function that is true for lines for whose damage LogDamaged is raised; other
            damage is skipped.

    Returns:
        The events, in order.

    Raises:
        LogDamaged: A line differs from what was written.
        OSError: The log can't be read.
    """
    segments = segments_of(folder)
    whole = 0  # the log is complete up to here, or was read up to here
    for segment, following in zip_longest(segments, segments[1:]):
        is_missing = segment.begin > max(whole, after)
        if segment.begin > upto or (segment.begin == upto and not is_missing):
            return
        if is_missing:
            raise _missing(segment, whole, segment.begin)
        whole = following.begin if following else upto
        if whole <= after:
            continue
        with open_to_read(segment.path) as file:
            start = max(after, segment.begin)
            start = segment.begin + last_newline_before(file, start - segment.begin)
            sealed = following is not None and whole <= upto
            lines = _lines(file, segment, start, min(whole, upto))
            for append in appends(lines, sealed=sealed):
                try:
                    yield from _events_of(append, segment, wanted, concerned)
                except LogDamaged as damage:
                    raise _with_what_follows(damage, lines) from damage
            size = file.seek(0, os.SEEK_END)
            if sealed and segment.begin + size != whole:
                raise _missing(segment, segment.begin + size, whole)


def _events_of(
    append: Append,
    segment: Segment,
    wanted: Callable[[bytes], bool],
    concerned: Callable[[bytes], bool],
) -> list[Recorded]:
    lines, damage = append
    start = lines[0][0] - len(lines[0][1]) - 1
    if damage:
        if any(concerned(line) for _, line in lines):
            raise _damaged(segment, lines, start, damage)
        return []
    events = []
    try:
        for index, (position, line) in enumerate(lines):
            if wanted(line):
                events.append(_event_of(segment, position, line))
            if len(line) > _PAGE:
                lines[index] = position, b""  # the decoded event has a copy
            del line
    except ValueError as error:
        why = f"this is not the line of an event: {error}"
        raise _damaged(segment, lines, start, why) from error
    return events


def _event_of(segment: Segment, position: int, line: bytes) -> Recorded:
    """Decode a line; one that is being overwritten is known without it, or can be read again.

    Raises:
        ValueError: The line is not one as `encode_append` writes it.
    """
    try:
        return decode(position, line)
    except ValueError:
        event = noted_event(segment.path.parent, position)
        if event is not None:
            return event
        end = position - segment.begin - 1
        with open_to_read(segment.path) as file:
            again = read_at(file, end - len(line), len(line))
        if again == line:
            raise
        return decode(position, again)


def _with_what_follows(damage: LogDamaged, following: Iterable[Line]) -> LogDamaged:
    """Extend a damage by the lines after it that begin no event.

    Otherwise each of these lines would be an error of its own.
    """
    end, number = damage.position, 0
    lost = [*damage.lost]
    for position, line in following:
        if line.startswith(STREAM):
            break
        end, number = position, number + 1
        lost.append(position)
    if number < _MANY:
        return damage
    told = f"{damage} The {number:,} lines behind it, up to position {end}, are no events either."
    return LogDamaged(told, position=end, stream=damage.stream, lost=lost)


def events_of_stream(folder: Path, stream: str, after: int, upto: int) -> Iterator[Recorded]:
    """Read the events of one stream with after < position <= upto.

    Args:
        folder: The folder of the log.
        stream: The name of the stream.
        after: The position after which the reading begins.
        upto: The last position to read.

    Returns:
        The events, in order.

    Raises:
        LogDamaged: A line that may belong to the stream differs from what was written.
        OSError: The log can't be read.
    """
    if not is_utf8(stream):
        return iter(())  # no stream can have this name
    prefix = stream_prefix(stream)
    return events_between(
        folder, after, upto, lambda line: line.startswith(prefix), concerned=_of_no_other(prefix)
    )


def _of_no_other(prefix: bytes) -> Callable[[bytes], bool]:
    """Make a function that is true for damaged lines that may belong to a stream.

    Args:
        prefix: The beginning of the stream's lines; see `line_format.stream_prefix`.

    Returns:
        The function.
    """
    return lambda line: line.startswith(prefix) or not (line.startswith(STREAM) and stream_of(line))


def _damaged(segment: Segment, lines: Sequence[Line], start: int, why: str) -> LogDamaged:
    position = lines[-1][0]
    stream = next(filter(None, (stream_of(line) for _, line in lines)), "")
    of = f" of {stream!r}" if stream else ""
    return LogDamaged(
        f"{segment.path} is damaged at byte {start - segment.begin}, in an append{of} that ends at "
        f"position {position}: {why}. Restore the file from a backup. A read after this position "
        "continues after the damage.",
        position=position,
        stream=stream,
        lost=[position for position, _ in lines],
    )


def _missing(segment: Segment, found: int, begin: int) -> LogDamaged:
    what = (
        f"the bytes from position {found} to {begin} are missing"
        if found < begin
        else f"{found - begin} bytes follow its end, position {begin}"
    )
    return LogDamaged(
        f"{segment.path} is damaged: {what}. Restore the log from a backup. A read after position "
        f"{begin} continues after the damage.",
        position=begin,
    )
