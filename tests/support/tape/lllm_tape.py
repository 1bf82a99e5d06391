"""A backend in a package of its own: the four methods of `LogBackend`, and how it is recognised.

A tape is one file. A record is what one append wrote:

    length of the body       4 bytes, big-endian
    CRC-32 of the body       4 bytes, big-endian
    how many events it has   4 bytes, big-endian
    body                     MessagePack: a list of events, each a list of its fields

Positions are 1, 2, 3 ... A record that is cut short at the end was never acknowledged; the next
append writes over it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lllm import AppendConflict, LogDamaged, LogReadOnly, LogUnavailable, StoreError
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.log import BackendKind, LogBackend

_HEAD = struct.Struct(">III")
_Fields = tuple[str, int, int, str, int, bytes, bytes]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Fields]).decode


class TapeBackend:
    """A log in one file of records."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path).absolute()
        self.read_only = read_only
        self._threads = threading.RLock()
        self._known: dict[tuple[str, int], tuple[int, bytes]] = {}  # positions and digests
        self._last = 0  # position
        self._end = 0  # of the record that it is in, in bytes
        os.register_at_fork(after_in_child=self._forked)
        try:
            self._file = os.open(self.path, os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise LogUnavailable(f"{self.path} can't be opened: {error.strerror}.") from error

    def _forked(self) -> None:
        self._threads = threading.RLock()

    def __repr__(self) -> str:
        return f"TapeBackend({str(self.path)!r})"

    def __reduce__(self) -> tuple[type[TapeBackend], tuple[str]]:
        return TapeBackend, (str(self.path),)

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Store all of the events or none."""
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        if not events:
            return ()
        with self._alone():
            count = self.head()
            positions: list[int] = []
            new: list[NewEvent] = []
            known = ChainMap({}, self._known)
            for event in events:
                place = event.stream, event.seq
                found = known.get(place)
                if found is None:
                    new.append(event)
                    positions.append(count + len(new))
                    known[place] = positions[-1], event.digest
                elif found[1] == event.digest:
                    positions.append(found[0])
                else:
                    raise AppendConflict(
                        f"Event {event.seq} of {event.stream!r} is another in {self.path}."
                    )
            if new:
                body = _encode([msgspec.structs.astuple(event) for event in new])
                record = _HEAD.pack(len(body), zlib.crc32(body), len(new)) + body
                os.ftruncate(self._file, self._end)
                if os.pwrite(self._file, record, self._end) != len(record):
                    os.ftruncate(self._file, self._end)
                    raise LogUnavailable(f"{self.path} can't be written: the disk is full.")
        return positions

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._threads, open(f"{self.path}.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child has the file open for ever

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """The events in order, up to the last one now."""
        head = self.head()
        return self._between(after, head if upto is None else min(upto, head), stream)

    def _between(self, after: int, upto: int, stream: str | None) -> Iterator[Recorded]:
        position = 0
        for _, body, count in self._records(0):
            if body is None:
                position += count
                if position > after:
                    raise LogDamaged(
                        f"{self.path}: the append that ends with event {position} is damaged.",
                        position=position,
                    )
                continue
            for fields in _decode(body):
                position += 1
                if position > upto:
                    return
                if position > after and stream in (None, fields[0]):
                    yield Recorded(position, *fields)

    def _records(self, at: int) -> Iterator[tuple[int, bytes | None, int]]:
        """Each whole record from a byte on: where it ends, its body (None where that is damaged),
        and how many events it has."""
        size = os.fstat(self._file).st_size
        while len(head := os.pread(self._file, _HEAD.size, at)) == _HEAD.size:
            length, crc, count = _HEAD.unpack(head)
            end = at + _HEAD.size + length
            if end > size:
                return
            body = os.pread(self._file, length, at + _HEAD.size)
            yield end, body if zlib.crc32(body) == crc else None, count
            at = end

    def head(self) -> int:
        """The last position."""
        with self._threads:
            for end, body, count in self._records(self._end):
                for number, fields in enumerate(_decode(body) if body is not None else (), 1):
                    self._known[fields[:2]] = self._last + number, fields[6]
                self._last += count
                self._end = end
            return self._last

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _open(location: str, *, read_only: bool | None, make: bool) -> LogBackend:
    path = Path(location.removeprefix("tape://"))
    if not make and not path.exists():
        raise StoreError(f"There is no tape at {path}.")
    return TapeBackend(path, read_only=bool(read_only))


KIND = BackendKind(name="tape", open=_open, schemes=("tape",), suffixes=(".tape",))
