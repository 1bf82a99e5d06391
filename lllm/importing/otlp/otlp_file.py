"""Imports files of OTLP as JSON, one request a line, as exporters and the collector write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lllm.events.backend import Progress
from lllm.events.errors import StoreError
from lllm.importing.otlp.decode_json import decode, signals_of
from lllm.importing.otlp.growing_file import GrowingFile, WholeFile, first_bytes, is_gzip
from lllm.importing.otlp.importer import ImportedOtlp, OtlpImporter
from lllm.importing.otlp.signals import SignalError
from lllm.importing.transcripts.transcript_json import TranscriptFile
from lllm.store.methods.store_parts import StoreParts

_AT_ONCE = 256  # lines between two looks for traces that can be written


def is_otlp(path: Path) -> bool:
    """True if the first line of a file, which may be compressed, is a request of OTLP."""
    start = first_bytes(path, 4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"{") and any(
        name in start for name in (b'"resourceSpans"', b'"resourceLogs"', b'"resourceMetrics"')
    )


def import_files(
    store: StoreParts, paths: Sequence[Path], progress: Progress | None = None
) -> ImportedOtlp:
    """Import files of OTLP as JSON, which may be compressed by gzip.

    Args:
        store: The store.
        paths: The files.
        progress: A function that is called with the bytes read so far and all bytes.

    Returns:
        What was imported, and what was left out.

    Raises:
        StoreError: A file does not exist.
        LogError: The store can't be read or written.
    """
    _check(paths)
    importer = OtlpImporter(store, settle=float("inf"), idle=float("inf"))
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        size = path.stat().st_size
        file = WholeFile(path)
        _take(file, importer)
        _take_rest(file, importer)
        done += size
        if progress is not None:
            progress(done, total)
    importer.write_ready(everything=True)
    return importer.result()


class FollowedFiles:
    """Imports files of OTLP while other programs write them.

    A trace is written when it has its root and nothing more came of it for some seconds. A last
    line without a line break is being written. Files may be renamed or emptied meanwhile.

    Args:
        store: The store.
        paths: The files.

    Raises:
        StoreError: A file does not exist, or is compressed.
        LogReadOnly: The store was opened for reading only.
    """

    def __init__(self, store: StoreParts, paths: Sequence[Path]) -> None:
        _check(paths)
        for path in paths:
            if is_gzip(path):
                raise StoreError(
                    f"{path} is compressed, and does not grow; import it without --follow."
                )
        self._importer = OtlpImporter(store)
        self._files = [GrowingFile(path) for path in paths]

    def read(self) -> ImportedOtlp:
        """Take what is new in the files, and write the traces that are complete.

        Returns:
            All that was imported since this object was made.

        Raises:
            LogError: The store can't be read or written.
        """
        for file in self._files:
            _take(file, self._importer)
        self._importer.write_ready()
        return self._importer.result()

    def finish(self) -> ImportedOtlp:
        """Write what still waits, and close the files.

        Returns:
            All that was imported since this object was made.

        Raises:
            LogError: The store can't be read or written.
        """
        for file in self._files:
            file.close()
        self._importer.write_ready(everything=True)
        return self._importer.result()


def _check(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise StoreError(f"There is no file {path}.")


def _take(file: TranscriptFile, importer: OtlpImporter) -> None:
    """Take the new lines of a file."""
    for number, line in enumerate(file.new_lines(), 1):
        where = f"{file.path}, line {line.number}: "
        try:
            if line.value is None:
                raise SignalError(line.fault)
            importer.add(signals_of(line.value), where=where)
        except SignalError as error:
            importer.leave_out(f"{where}{error}; it is left out")
        if number % _AT_ONCE == 0:
            importer.write_ready()


def _take_rest(file: TranscriptFile, importer: OtlpImporter) -> None:
    """Take the last line if it has no line break."""
    rest = file.rest()
    if rest.strip():
        try:
            importer.add(decode(rest), where=f"{file.path}, last line: ")
        except SignalError as error:
            importer.leave_out(f"{file.path}: its last line is cut off ({error}); it is left out")
