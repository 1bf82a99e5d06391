"""Writes and reads one archive file.

An archive file is a sequence of Zstandard frames (RFC 8878). Each but the last decompresses to
lines as `lllm export ID --format jsonl` writes them, so `zstd -dc FILE` shows all events of a file
without lllm. The last one is a skippable frame, which zstd ignores: it has the index, compressed by
itself, then the trailer: its compressed and its full length (8 bytes each, big-endian), the SHA-256
of all that, and MARK.

The index has the SHA-256 of every frame, so the file verifies by itself. Whoever made it could make
another: the digests of the events, and a seal of the store that they came from, prove more.
"""

from __future__ import annotations

import io
import os
import struct
import time
import weakref
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Literal

import msgspec

from lllm.events import codec
from lllm.events.backends.archive.compression import compress, decompress
from lllm.events.concurrency.decoders import decoder
from lllm.events.digest import digest_of
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged, LogError, LogTooNew, LogUnavailable
from lllm.events.exported_lines import NoEvent, as_jsonl, read_lines
from lllm.events.files.own_files import open_own
from lllm.events.model import SessionStarted

SUFFIX = ".lllm-archive"
MARK = b"lllmarch"
FORMAT = 1

# https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2; any of the last 4 bits may be chosen.
_SKIPPABLE = 0x184D2A5E
_HEADER = struct.Struct("<II")
_LENGTHS = struct.Struct(">QQ")
_TRAILER = struct.Struct(">QQ32s8s")
_BLOCK_BYTES = 1 << 20  # of lines; a session is read by decompressing so much for nothing, at most
_INDEX_BYTES = 1 << 30  # the largest index that is believed


class ArchiveBlock(msgspec.Struct, frozen=True):
    """One compressed frame of an archive file.

    Attributes:
        at: The offset of the frame in the file.
        size: Its length, in bytes.
        length: The length of the lines in it, in bytes.
        sha256: The SHA-256 of the frame.
        events: The number of lines.
    """

    at: int
    size: int
    length: int
    sha256: bytes
    events: int


class ArchiveIndex(msgspec.Struct, frozen=True):
    """What an archive file contains.

    Attributes:
        format: The version of the file's format.
        made: The time at which it was made, nanoseconds UTC.
        sessions: The number of sessions, those below others included.
        events: The number of events.
        blocks: The compressed frames, in order.
        streams: The frames that have events of each stream, by their number from 0.
    """

    format: int
    made: int
    sessions: int
    events: int
    blocks: tuple[ArchiveBlock, ...]
    streams: dict[str, tuple[int, ...]]


_index = decoder(ArchiveIndex)


class _Format(msgspec.Struct):
    format: int


_format = decoder(_Format)


class ArchiveWriter:
    """Writes events to a new archive file, which has to be finished and synced.

    Args:
        file: The file, open at its beginning.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = io.BufferedWriter(file)
        self._lines: list[bytes] = []
        self._length = 0
        self._at = 0
        self._sessions = self._events = 0
        self._blocks: list[ArchiveBlock] = []
        self._streams: dict[str, list[int]] = {}

    def add(self, events: Iterable[Recorded]) -> None:
        """Write the next events.

        Args:
            events: The events; those of one stream are in order, and in no other stream's `add`.

        Raises:
            OSError: The file can't be written.
            MissingExtra: The extra `archive` is not installed.
        """
        for event in events:
            line = as_jsonl([event]).encode()
            if self._lines and self._length + len(line) > _BLOCK_BYTES:
                self._end_block()
            self._lines.append(line)
            self._length += len(line)
            blocks = self._streams.setdefault(event.stream, [])
            if not blocks or blocks[-1] != len(self._blocks):
                blocks.append(len(self._blocks))
            self._events += 1
            self._sessions += event.seq == 1 and event.type == SessionStarted.type

    def has(self, stream: str) -> bool:
        """True if events of a stream were written.

        Args:
            stream: The name of the stream.

        Returns:
            False if none was.
        """
        return stream in self._streams

    def finish(self) -> ArchiveIndex:
        """Write the rest and the index.

        Returns:
            The index.

        Raises:
            OSError: The file can't be written.
            MissingExtra: The extra `archive` is not installed.
        """
        if self._lines:
            self._end_block()
        streams = {name: tuple(blocks) for name, blocks in self._streams.items()}
        index = ArchiveIndex(
            FORMAT, time.time_ns(), self._sessions, self._events, tuple(self._blocks), streams
        )
        text = codec.encode(index)
        packed = compress(text)
        lengths = _LENGTHS.pack(len(packed), len(text))
        body = packed + lengths + sha256(packed + lengths).digest() + MARK
        self._file.write(_HEADER.pack(_SKIPPABLE, len(body)) + body)
        self._file.flush()
        self._file.detach()
        return index

    def _end_block(self) -> None:
        lines = b"".join(self._lines)
        frame = compress(lines)
        self._file.write(frame)
        self._blocks.append(
            ArchiveBlock(self._at, len(frame), len(lines), sha256(frame).digest(), len(self._lines))
        )
        self._at += len(frame)
        self._lines.clear()
        self._length = 0


class ArchiveFile:
    """One archive file, open for reading.

    Args:
        path: The file.

    Attributes:
        path: The file.
        size: Its length, in bytes.
        index: What it contains.

    Raises:
        LogUnavailable: It can't be opened.
        LogTooNew: A newer lllm wrote it.
        LogDamaged: It is no archive file, or its end is damaged or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = open_own(path, os.O_RDONLY)
        except OSError as error:
            if isinstance(error, LogUnavailable):
                raise
            raise LogUnavailable(f"{path} can't be opened: {error.strerror}.") from error
        self._close = weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size
        try:
            self.index = self._read_index()
        except BaseException:
            self._close()
            raise
        self.lines = lru_cache(maxsize=2)(self._lines)

    def _read_index(self) -> ArchiveIndex:
        trailer = self._bytes(max(0, self.size - _TRAILER.size), _TRAILER.size)
        if len(trailer) < _TRAILER.size or not trailer.endswith(MARK):
            raise self._damaged("it is no archive, or its end is cut off", 0)
        size, length, digest, _ = _TRAILER.unpack(trailer)
        begin = self.size - _TRAILER.size - size
        packed = self._bytes(begin, size) if begin >= _HEADER.size else b""
        if length > _INDEX_BYTES or sha256(packed + trailer[:16]).digest() != digest:
            raise self._damaged("its index is not what was written", 0)
        try:
            text = decompress(packed, length)
            found = _format.decode(text).format
            if found > FORMAT:
                raise LogTooNew(
                    f"{self.path} has format {found}; this lllm knows formats up to {FORMAT}. "
                    "Upgrade lllm to open it."
                )
            index = _index.decode(text)
        except (msgspec.DecodeError, LogError) as error:
            if isinstance(error, LogTooNew):
                raise
            raise self._damaged(f"its index can't be read: {error}", 0) from error
        places = [0, *(block.at + block.size for block in index.blocks)]
        if [block.at for block in index.blocks] != places[:-1] or places[
            -1
        ] + _HEADER.size != begin:
            raise self._damaged("its index and its length contradict each other", 0)
        return index

    def _bytes(self, at: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, at)
        except OSError as error:
            raise LogUnavailable(f"{self.path} can't be read: {error.strerror}.") from error

    def _lines(self, number: int) -> list[Recorded]:
        """Read the events of a block, whose positions are those of their lines, from 1."""
        block = self.index.blocks[number]
        frame = self._bytes(block.at, block.size)
        if sha256(frame).digest() != block.sha256:
            raise self._damaged(f"its part {number + 1} is not what was written", number)
        try:
            lines = decompress(frame, block.length)
            events = list(read_lines(io.BytesIO(lines), len(lines)))
        except (LogError, NoEvent) as error:
            raise self._damaged(f"its part {number + 1} can't be read: {error}", number) from error
        if len(events) != block.events:
            raise self._damaged(f"its part {number + 1} has other events than it says", number)
        return events

    def _damaged(self, what: str, position: int) -> LogDamaged:
        return LogDamaged(
            f"{self.path} is damaged: {what}. Restore a copy of it.", position=position
        )

    def sha256(self) -> bytes:
        """Compute the SHA-256 of the whole file.

        Returns:
            The digest, 32 bytes.

        Raises:
            LogUnavailable: The file can't be read.
        """
        found = sha256()
        for at in range(0, self.size, _BLOCK_BYTES):
            found.update(self._bytes(at, _BLOCK_BYTES))
        return found.digest()

    def check(self) -> None:
        """Read the whole file, and check every event against its digest.

        Raises:
            LogDamaged: The file is not as it was written.
            LogUnavailable: It can't be read.
        """
        salts: dict[str, bytes] = {}
        for number in range(len(self.index.blocks)):
            for event in self.lines(number):
                if event.stream not in salts:
                    salts[event.stream] = codec.salt_of(event)
                if digest_of(event, salts[event.stream]) != event.digest:
                    raise self._damaged(
                        f"event {event.seq} of {event.stream} is not what was written", number
                    )

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._close()


Verdict = Literal["whole", "missing", "other"]


def state_of(path: Path, digest: bytes) -> Verdict:
    """Tell whether a file is the archive that it was when it was made.

    Args:
        path: The file.
        digest: The SHA-256 of the whole file.

    Returns:
        "missing" if there is no such file or it can't be read, "other" if it has another content.
    """
    try:
        file = ArchiveFile(path)
    except LogDamaged:
        return "other"
    except LogError:
        return "missing"
    try:
        return "whole" if file.sha256() == digest else "other"
    finally:
        file.close()


def files_in(folder: Path) -> Sequence[Path]:
    """List the archive files in a folder, in the order in which they were made.

    Args:
        folder: The folder.

    Returns:
        The files, sorted by name.

    Raises:
        OSError: The folder can't be read.
    """
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
