"""Finds the last event of each stream in a JSONL log.

An append uses it to find out if an event may be stored already. The next event of a stream that
this process has written is new, because a stream has one writer. For any other event, the part of
the log that other processes have added is read first, only the beginning of each line. So (stream,
seq) is unique whatever the name of a stream is.

Known trade-off (accepted): a process reads every byte that others wrote once, about a second for
each gigabyte, before its first append. In return there is no index file that could contradict the
log. If two processes take turns in writing one stream, which is not allowed, this is not detected
here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from lllm.events.backends.jsonl.read_events import blocks
from lllm.events.backends.jsonl.segments import Segment, segments_of
from lllm.events.envelope import NewEvent
from lllm.events.files.own_files import open_to_read

_encode = msgspec.json.Encoder().encode
# Matched only at the beginning of a line: a payload may have fields of the same names.
_LINE = re.compile(rb'\n\{"stream":("[^"\\\n]*(?:\\.[^"\\\n]*)*"),"seq":(\d+),')


class StreamIndex:
    """Knows the last event of each stream, for the part of the log that was read so far.

    Args:
        folder: The folder of the log.

    Attributes:
        upto: The position up to which the log was read.
    """

    def __init__(self, folder: Path) -> None:
        self.upto = 0
        self._folder = folder
        self._last: dict[bytes, tuple[int, int]] = {}  # name as JSON -> (seq, position)
        self._own: dict[str, int] = {}  # streams written by this process -> their last seq

    def are_next(self, events: Sequence[NewEvent]) -> bool:
        """True if these events follow directly on those this process wrote to their streams.

        Args:
            events: The events to append.

        Returns:
            False if they may be stored already.
        """
        last: dict[str, int] = {}
        for event in events:
            before = last.get(event.stream) or self._own.get(event.stream)
            if before is None or event.seq != before + 1:
                return False
            last[event.stream] = event.seq
        return True

    def doubt(self, events: Sequence[NewEvent]) -> None:
        """Forget the streams of events before they are written, in case the write fails.

        Until `note` is called it is unknown whether the events are stored: an interrupt may have
        come in between.

        Args:
            events: The events that are about to be written.
        """
        for event in events:
            self._own.pop(event.stream, None)

    def note(self, events: Sequence[NewEvent], start: int, ends: Sequence[int]) -> None:
        """Remember events that were written.

        Args:
            events: The events, in order.
            start: The position after which they were written.
            ends: For each event, the offset of its end, in bytes from `start`.
        """
        for event, end in zip(events, ends, strict=True):
            self._note(_encode(event.stream), event.seq, start + end)
            self._own[event.stream] = event.seq
        if self.upto == start:
            self.upto = start + ends[-1]

    def last(self, stream: str) -> tuple[int, int]:
        """Find the last event of a stream.

        Args:
            stream: The name of the stream.

        Returns:
            Its seq and its position; (0, 0) if the stream is unknown.
        """
        return self._last.get(_encode(stream), (0, 0))

    def _note(self, name: bytes, seq: int, position: int) -> None:
        if seq > self._last.get(name, (0, 0))[0]:
            self._last[name] = (seq, position)

    def catch_up(self, active: Segment, upto: int) -> None:
        """Read the part of the log that was added, up to a position.

        Args:
            active: The segment that contains the position.
            upto: The position at which to stop; the end of a complete append.

        Raises:
            OSError: The log can't be read.
        """
        if self.upto < active.begin:
            for segment, following in pairwise(segments_of(self._folder)):
                if self.upto < following.begin <= active.begin:
                    self._scan(segment, following.begin)
        self._scan(active, upto)

    def _scan(self, segment: Segment, stop: int) -> None:
        start = max(self.upto, segment.begin)
        if start < stop:
            with open_to_read(segment.path) as file:
                for offset, block in blocks(file, start - segment.begin, stop - segment.begin):
                    self._scan_block(block, segment.begin + offset)
        self.upto = max(self.upto, stop)

    def _scan_block(self, block: bytes, begin: int) -> None:
        # A newline is put in front of the first line too, so every position is shifted by 1.
        block = b"\n" + block
        for match in _LINE.finditer(block):
            end = block.index(b"\n", match.end())
            self._note(match[1], int(match[2]), begin + end)
