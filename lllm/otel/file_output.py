"""Writes OTLP in JSON to a file, one request a line, as the OTLP file exporter does.

https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/. Each batch is on the disk before
the store remembers it as sent.
"""

from __future__ import annotations

import os
from pathlib import Path

from lllm.events.files.own_files import open_new_output
from lllm.otel.json_format import JsonFormat
from lllm.otel.otlp_format import Rejected, Resource, Signal

_STEP = 65_536  # bytes that are read at once, from the end of the file


class FileOutput:
    """Appends requests to a file; a last line that a crash cut off is removed first.

    Args:
        path: The file; it is created, readable by its owner alone, if it does not exist.
        about: What is written about the program.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(self, path: Path, about: Resource) -> None:
        self.form = JsonFormat(about)
        self._file = open(path, "ab+", opener=open_new_output)  # noqa: SIM115 # see `close`
        _remove_torn_line(self._file.fileno())

    def send(self, signal: Signal, records: list[bytes]) -> Rejected:
        """Append records as one line.

        Args:
            signal: What they are.
            records: The encoded records.

        Returns:
            Nothing is ever refused.

        Raises:
            OSError: The disk is full, for example.
        """
        self._file.write(self.form.request(signal, records) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return Rejected()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _remove_torn_line(file: int) -> None:
    """Cut a file after its last line break."""
    end = size = os.fstat(file).st_size
    while end:
        start = max(0, end - _STEP)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
