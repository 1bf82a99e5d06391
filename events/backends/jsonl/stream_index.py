"""Finds the last event of each stream in a JSONL log.

An appender asks it whether an event may be stored already. The next event of a stream that this
process has written is new: a stream has one owner. For any other, what others have added since is
read first, only the beginning of each line, so that (stream, seq) is unique whatever a stream is
called and whoever names it.

Known trade-off (accepted): a process reads every byte that others wrote once, about a second for
each gigabyte, the first time before its first append. In return nothing stands beside the log that
could disagree with it. A stream that two processes write in turns, against the rule, is not
noticed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from lllm.events.backends.jsonl.segments import Segment, blocks, segments_of
from lllm.events.envelope import NewEvent
from lllm.events.files.own_files import open_to_read

_encode = msgspec.json.Encoder().encode
# Only at the beginning of a line: a payload may well have fields of the same names.
_LINE = re.compile(rb'\n\{"stream":("[^"\\\n]*(?:\\.[^"\\\n]*)*"),"seq":(\d+),')


class StreamIndex:
    """The last event of each stream, for the part of the log that was read so far.

    Args:
        folder: The folder of the log.

    Attributes:
        upto: The position that it has been read to.
    """

    def __init__(self, folder: Path) -> None:
        self.upto = 0
        self._folder = folder
        self._last: dict[bytes, tuple[int, int]] = {}  # name as JSON -> (seq, position)
        self._own: dict[str, int] = {}  # streams written by this process -> their last seq

    def are_next(self, events: Sequence[NewEvent]) -> bool:
        """True if these events follow directly on those this process wrote to their streams.

        Args:
            events: What is to be appended.
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

        Until they are noted, an interrupt may have come between, and nobody knows whether they are
        stored.

        Args:
            events: What is about to be written.
        """
        for event in events:
            self._own.pop(event.stream, None)

    def note(self, events: Sequence[NewEvent], start: int, ends: Sequence[int]) -> None:
        """Remember events that were written.

        Args:
            events: In order.
            start: The position that they were written behind.
            ends: How many bytes from there each of them ends.
        """
        for event, end in zip(events, ends, strict=True):
            self._note(_encode(event.stream), event.seq, start + end)
            self._own[event.stream] = event.seq
        if self.upto == start:
            self.upto = start + ends[-1]

    def last(self, stream: str) -> tuple[int, int]:
        """The highest seq of a stream and its position; (0, 0) if the stream is unknown.

        Args:
            stream: The name of the stream.
        """
        return self._last.get(_encode(stream), (0, 0))

    def _note(self, name: bytes, seq: int, position: int) -> None:
        if seq > self._last.get(name, (0, 0))[0]:
            self._last[name] = (seq, position)

    def catch_up(self, active: Segment, upto: int) -> None:
        """Read the events that were added up to a position.

        Args:
            active: The segment that the position lies in.
            upto: The position.

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
        # Every line, the first one too, has a newline in front; so do its positions, shifted by 1.
        block = b"\n" + block
        for match in _LINE.finditer(block):
            end = block.index(b"\n", match.end())
            self._note(match[1], int(match[2]), begin + end)
