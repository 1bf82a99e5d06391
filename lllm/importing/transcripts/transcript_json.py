"""Reads the lines of a transcript, and the values in them that differ between versions."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from lllm.events import codec
from lllm.events.ids import id_of
from lllm.events.model import ToolCall
from lllm.times import nanoseconds_of

LONGEST = 64 << 20  # bytes of a line; a longer one is left out, so that memory stays bounded
_PIECE = 1 << 20


class Line(NamedTuple):
    """One line of a transcript.

    Attributes:
        number: The number of the line, from 1.
        value: The JSON object; None if the line can't be read.
        fault: Why it can't be read; "" if it can.
    """

    number: int
    value: Mapping[str, object] | None
    fault: str = ""


class TranscriptFile:
    """A file of JSON lines that another program may still be writing.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._number = 0

    def opened(self) -> AbstractContextManager[IO[bytes]]:
        """Open the file for reading.

        Raises:
            OSError: The file can't be read.
        """
        return self.path.open("rb")

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._offset

    @property
    def number(self) -> int:
        """How many lines were read."""
        return self._number

    def begin_again(self) -> None:
        """Read from the beginning of the file the next time."""
        self._offset = self._number = 0

    def new_lines(self) -> Iterator[Line]:
        """Read the lines that were completed since the last time.

        A last line without a line break is being written, and is left for the next time.

        Yields:
            The lines, in order.

        Raises:
            OSError: The file can't be read.
        """
        with self.opened() as file:
            file.seek(self._offset)
            while True:
                line = file.readline(LONGEST)
                if not line.endswith(b"\n"):
                    if len(line) < LONGEST:
                        return
                    while not line.endswith(b"\n"):
                        line = file.readline(_PIECE)
                        if not line:
                            return
                    line = b""
                self._offset = file.tell()
                self._number += 1
                if line == b"":
                    yield Line(self._number, None, f"it has more than {LONGEST:,} bytes")
                elif line.strip():
                    yield json_object(self._number, line)

    def rest(self) -> bytes:
        """Read the last line if it has no line break; b"" if there is none, or if it is too long.

        Raises:
            OSError: The file can't be read.
        """
        with self.opened() as file:
            file.seek(self._offset)
            found = file.read(LONGEST + 1)
        return found if len(found) <= LONGEST else b""


def json_object(number: int, line: bytes) -> Line:
    """Decode a line.

    Args:
        number: The number of the line.
        line: Its bytes.

    Returns:
        The line with its object, or with the reason why it has none.
    """
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:  # lone surrogates, which JavaScript writes
            value = json.loads(line)
        except (ValueError, RecursionError):
            return Line(number, None, "it is not JSON")
    if not isinstance(value, dict):
        return Line(number, None, "it is not a JSON object")
    return Line(number, value)


def time_of(value: object) -> int | None:
    """Read a time in ISO 8601 with an offset, as nanoseconds UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None or not 1970 <= moment.year <= 2261:
        return None
    return nanoseconds_of(moment)


def first_time(path: Path) -> int:
    """Find the time of the first line of a file that has one; 0 if there is none."""
    try:
        for line in TranscriptFile(path).new_lines():
            value = line.value or {}
            found = time_of(value.get("timestamp")) or time_of(value.get("startTime"))
            if found is not None:
                return found
    except OSError:
        pass
    return 0


def arguments_of(call: ToolCall) -> object:
    """Read the arguments of a tool call as JSON; None if they are not valid JSON."""
    try:
        found: object = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return None
    return found


def number_in(value: object) -> int:
    """Read a whole number; 0 for anything else."""
    return value if isinstance(value, int) else 0


def tags_of(program: str, folder: str | None, branch: str | None) -> dict[str, str]:
    """Make the tags of an imported session.

    Args:
        program: The program that wrote the transcript.
        folder: The folder that it worked in, by the rules of its system; None if unknown.
        branch: The branch of Git; None if unknown.

    Returns:
        The tags: source, and as far as they are known, project and branch.
    """
    tags = {"source": program}
    if folder:
        tags["project"] = folder.replace("\\", "/").rstrip("/").rpartition("/")[2] or folder
    if branch:
        tags["branch"] = branch
    return tags


def derived_id(time: int, *names: str) -> str:
    """Make the id of an imported session, the same at each import.

    Args:
        time: The time of its first entry, nanoseconds UTC; ids sort by it.
        *names: What identifies it, such as the name of the program and the foreign id.

    Returns:
        The id, 26 characters.
    """
    digest = hashlib.sha256(codec.encode(names)).digest()
    return id_of(time, int.from_bytes(digest[:10]))
