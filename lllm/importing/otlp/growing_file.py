"""Reads the lines of a file of OTLP, which may be compressed, or be written at the same time.

While a file is followed, it stays open. So lines that were written just before it was renamed, as
programs do that rotate their logs, are read from where they are now.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import IO, cast

from lllm.importing.transcripts.transcript_json import Line, TranscriptFile

_GZIP = b"\x1f\x8b"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def is_gzip(path: Path) -> bool:
    """True if a file is compressed by gzip.

    Raises:
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def first_bytes(path: Path, length: int) -> bytes:
    """Read the beginning of a file, which may be compressed; b"" if it is not readable."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(length)
    except (OSError, *_BROKEN):
        return b""


class WholeFile(TranscriptFile):
    """A file that is read once, which may be compressed by gzip.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._is_gzip = is_gzip(path)

    def opened(self) -> AbstractContextManager[IO[bytes]]:
        """Open the file; see `TranscriptFile.opened`."""
        if self._is_gzip:
            return closing(cast("IO[bytes]", gzip.open(self.path)))
        return super().opened()

    def new_lines(self) -> Iterator[Line]:
        """Read the lines; see `TranscriptFile.new_lines`. A broken end of gzip is one more line."""
        number = 0
        try:
            for line in super().new_lines():
                number = line.number
                yield line
        except _BROKEN as error:
            why = f"from here on, the file can't be decompressed ({error})"
            yield Line(number + 1, None, why)

    def rest(self) -> bytes:
        """Read the last line if it has no line break; see `TranscriptFile.rest`."""
        try:
            return super().rest()
        except _BROKEN:
            return b""  # `new_lines` has said so


class GrowingFile(TranscriptFile):
    """A file that another program writes, and may rename or empty meanwhile.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._open: IO[bytes] | None = None

    def opened(self) -> AbstractContextManager[IO[bytes]]:
        """Open the file, or go on with the one that is open; see `TranscriptFile.opened`."""
        if self._open is None:
            self._open = self.path.open("rb")
        return nullcontext(self._open)

    def new_lines(self) -> Iterator[Line]:
        """Read the lines that were completed since the last time, also of a file in its place.

        Yields:
            The lines, in order.

        Raises:
            OSError: The file can't be read.
        """
        try:
            with self.opened() as file:
                was_emptied = os.fstat(file.fileno()).st_size < self.position
            if was_emptied:
                self.close()  # also what of it is still in a buffer
                self.begin_again()
            yield from super().new_lines()
            while self._was_replaced():
                yield from super().new_lines()  # what came before it was renamed
                if self.rest().strip():
                    why = "it was cut off when the file was replaced"
                    yield Line(self.number + 1, None, why)
                self.close()
                self.begin_again()
                yield from super().new_lines()
        except FileNotFoundError:
            return  # it is just being replaced

    def _was_replaced(self) -> bool:
        """True if the path leads to another file than the one that is open."""
        if self._open is None:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._open.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
            self._open = None
