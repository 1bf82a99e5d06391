"""Reads the pages of an SQLite file without SQLite, which stops at a damaged page.

It reads copies of the file and of its write-ahead log; pages that are committed in the log replace
those of the file. The formats are described in https://sqlite.org/fileformat2.html, sections 1.3
(header), 1.6 (pages and cells), 2.1 (records) and 4 (write-ahead log).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lllm.events.files.own_files import open_to_read

Value = str | int | float | bytes | None

_MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100  # bytes of the file's header, at the beginning of the first page
_TABLE_LEAF = 0x0D
_LEAF_HEADER = 8
# the possible page sizes in bytes, the usual one first
_SIZES = [4096, 512, 1024, 2048, 8192, 16384, 32768, 65536]

_WAL_HEADER, _FRAME_HEADER = 32, 24
# the magic number tells the byte order of the checksums
_WAL_LITTLE, _WAL_BIG = 0x377F0682, 0x377F0683
_MASK = 0xFFFFFFFF


class Cell(NamedTuple):
    """A row in a leaf page of a table; its payload may continue on other pages.

    Attributes:
        rowid: The rowid of the row.
        size: The size of the payload, in bytes.
        local: The bytes of the payload that are on this page.
        overflow: The number of the page with the next bytes; 0 for none.
    """

    rowid: int
    size: int
    local: bytes
    overflow: int


class Pages:
    """A context manager for the pages of a copy of an SQLite file that nobody writes to.

    Args:
        path: The copy of the file.
        wal: The copy of its write-ahead log, which need not exist.
        page_size: The size of a page in bytes; None for the size in the file's header.

    Raises:
        OSError: A file can't be read.
    """

    def __init__(self, path: Path, wal: Path, *, page_size: int | None = None) -> None:
        self._file = open_to_read(path)
        self._wal = open_to_read(wal) if wal.exists() else None
        self._reserved = 0
        # page number -> the offset of the page in the write-ahead log
        self._in_wal: dict[int, int] = {}
        begin = self._file.read(HEADER_BYTES) or b""
        size = _page_size(begin)
        if size is not None:
            self._reserved = begin[20]
        self.said_size = size or self._wal_page_size()
        self.page_size = page_size or self.said_size or _SIZES[0]
        if self._wal is not None:
            self._index_wal()
        self.count = max([os.fstat(self._file.fileno()).st_size // self.page_size, *self._in_wal])

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._wal is not None:
            self._wal.close()

    def sizes(self) -> list[int]:
        """The page sizes to try: the one in the header, or all if the header is damaged."""
        return [self.said_size] if self.said_size else _SIZES

    def page(self, number: int) -> bytes:
        """Read a page; it is shorter if the file ends within it.

        Args:
            number: The number of the page, from 1.

        Returns:
            The bytes of the page.
        """
        at = self._in_wal.get(number)
        if at is not None and self._wal is not None:
            self._wal.seek(at)
            return self._wal.read(self.page_size) or b""
        self._file.seek((number - 1) * self.page_size)
        return self._file.read(self.page_size) or b""

    def cells(self, number: int) -> Iterator[Cell]:
        """Read the rows in a leaf page of a table; none for any other page.

        Args:
            number: The number of the page, from 1.

        Yields:
            The rows that can be parsed.
        """
        page = self.page(number)
        begin = HEADER_BYTES if number == 1 else 0
        if len(page) < self.page_size or page[begin] != _TABLE_LEAF:
            return
        count = int.from_bytes(page[begin + 3 : begin + 5], "big")
        first = begin + _LEAF_HEADER
        for at in range(first, min(first + 2 * count, len(page) - 1), 2):
            cell = self._cell(page, int.from_bytes(page[at : at + 2], "big"))
            if cell is not None:
                yield cell

    def _cell(self, page: bytes, at: int) -> Cell | None:
        usable = self.page_size - self._reserved
        try:
            size, at = varint(page, at)
            rowid, at = varint(page, at)
        except IndexError:
            return None
        most = usable - 35
        local = size
        if size > most:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            local = least if local > most else local
        overflow = 0
        end = at + local
        if local < size:
            overflow = int.from_bytes(page[end : end + 4], "big")
            end += 4
        if end > usable:
            return None
        return Cell(signed(rowid), size, page[at : at + local], overflow)

    def payload(self, cell: Cell) -> bytes | None:
        """Read the whole payload of a row; None if one of its pages is missing.

        Args:
            cell: A row that `cells` returned.

        Returns:
            The payload; None if one of its pages is missing.
        """
        parts, missing, number = [cell.local], cell.size - len(cell.local), cell.overflow
        usable = self.page_size - self._reserved
        while missing > 0:
            if not 1 < number <= self.count:
                return None
            page = self.page(number)[:usable]
            if len(page) < usable:
                return None
            parts.append(page[4 : 4 + missing])
            missing -= len(parts[-1])
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)

    # -- The write-ahead log

    def _wal_page_size(self) -> int | None:
        if self._wal is None:
            return None
        header = self._wal.read(_WAL_HEADER) or b""
        if len(header) < _WAL_HEADER:
            return None
        magic, _, size = struct.unpack(">III", header[:12])
        return size if magic in (_WAL_LITTLE, _WAL_BIG) and size in _SIZES else None

    def _index_wal(self) -> None:
        """Index the pages of all committed transactions in the write-ahead log.

        The log ends at the first frame that belongs to an older log or is incomplete.
        """
        assert self._wal is not None
        self._wal.seek(0)
        header = self._wal.read(_WAL_HEADER) or b""
        if len(header) < _WAL_HEADER or struct.unpack(">I", header[8:12])[0] != self.page_size:
            return
        order = ">" if struct.unpack(">I", header[:4])[0] == _WAL_BIG else "<"
        salts = header[16:24]
        sums = _checksum(order, header[:24], (0, 0))
        if struct.pack(">II", *sums) != header[24:32]:
            return
        pending: dict[int, int] = {}
        at = _WAL_HEADER
        while True:
            frame = self._wal.read(_FRAME_HEADER + self.page_size) or b""
            if len(frame) < _FRAME_HEADER + self.page_size or frame[8:16] != salts:
                return
            sums = _checksum(order, frame[_FRAME_HEADER:], _checksum(order, frame[:8], sums))
            if struct.pack(">II", *sums) != frame[16:24]:
                return
            number, committed = struct.unpack(">II", frame[:8])
            pending[number] = at + _FRAME_HEADER
            if committed:
                self._in_wal.update(pending)
                pending = {}
            at += len(frame)


def _page_size(begin: bytes) -> int | None:
    """Read the page size from the header of a file; None if there is no header."""
    if len(begin) < HEADER_BYTES or not begin.startswith(_MAGIC):
        return None
    said = int.from_bytes(begin[16:18], "big")
    size = 65536 if said == 1 else said
    return size if size in _SIZES else None


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """Compute the checksum of a frame (section 4.2 of the format)."""
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & _MASK
        two = (two + odd + one) & _MASK
    return one, two


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode an integer of one to nine bytes (https://sqlite.org/fileformat2.html#varint).

    Args:
        data: The bytes of a page.
        at: The offset of the number.

    Returns:
        The number, unsigned, and the offset just after it.

    Raises:
        IndexError: The data ends before the number does.
    """
    value = 0
    for count in range(8):
        byte = data[at + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    return value << 8 | data[at + 8], at + 9


def signed(value: int) -> int:
    """Convert an unsigned 64-bit integer to a signed one (two's complement).

    Args:
        value: An unsigned integer below 2^64.

    Returns:
        The signed integer with the same bits.
    """
    return value - (1 << 64) if value >> 63 else value


def kinds_of(record: bytes) -> tuple[list[int], int] | None:
    """Decode the header of a record into its serial types.

    Args:
        record: The payload of a cell.

    Returns:
        The serial types of the columns, and the offset at which their values begin; None if the
        header is invalid.
    """
    try:
        end, at = varint(record, 0)
        kinds = []
        while at < end:
            kind, at = varint(record, at)
            kinds.append(kind)
    except IndexError:
        return None
    return (kinds, end) if at == end else None


def size_of(kind: int) -> int:
    """Return the size in bytes of a value (https://sqlite.org/fileformat2.html#record_format).

    Args:
        kind: The serial type of the value.

    Returns:
        The size in bytes.
    """
    return (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]


def values_of(record: bytes, kinds: list[int], at: int) -> list[Value] | None:
    """Decode the values of a record; a text that is not UTF-8 is returned as bytes.

    Args:
        record: The payload of a cell.
        kinds: The serial types of the columns.
        at: The offset at which the values begin.

    Returns:
        The values; None if their sizes do not add up to the record.
    """
    values: list[Value] = []
    for kind in kinds:
        end = at + size_of(kind)
        part = record[at:end]
        at = end
        values.append(_value(kind, part))
    return values if at == len(record) else None


def _value(kind: int, part: bytes) -> Value:
    if kind in (8, 9):
        return kind - 8
    if 1 <= kind <= 6:
        return int.from_bytes(part, "big", signed=True)
    if kind == 7:
        return float(struct.unpack(">d", part)[0]) if len(part) == 8 else None
    if kind >= 13 and kind % 2:
        try:
            return part.decode()
        except UnicodeDecodeError:
            return part
    return part if kind >= 12 else None
