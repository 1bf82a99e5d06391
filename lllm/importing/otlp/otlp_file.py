"""Imports files of OTLP as JSON, one request a line, as exporters and the collector write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lllm.events.backend import Progress
from lllm.events.errors import StoreError
from lllm.importing.otlp.decode_json import decode, signals_of
from lllm.importing.otlp.importer import ImportedOtlp, OtlpImporter
from lllm.importing.otlp.signals import SignalError
from lllm.importing.transcripts.transcript_json import TranscriptFile
from lllm.store.methods.store_parts import StoreParts

_AT_ONCE = 256  # lines between two looks for traces that can be written


def is_otlp(path: Path) -> bool:
    """True if the first line of a file is a request of OTLP."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    return start.startswith(b"{") and any(
        name in start for name in (b'"resourceSpans"', b'"resourceLogs"', b'"resourceMetrics"')
    )


def import_files(
    store: StoreParts, paths: Sequence[Path], progress: Progress | None = None
) -> ImportedOtlp:
    """Import files of OTLP as JSON.

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
    for path in paths:
        if not path.is_file():
            raise StoreError(f"There is no file {path}.")
    importer = OtlpImporter(store, settle=float("inf"), idle=float("inf"))
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        size = path.stat().st_size
        for number in _read(path, importer):
            if number % _AT_ONCE == 0:
                importer.write_ready()
        done += size
        if progress is not None:
            progress(done, total)
    importer.write_ready(everything=True)
    return importer.result()


def _read(path: Path, importer: OtlpImporter) -> Iterator[int]:
    """Take the lines of a file, and yield the number of each."""
    file = TranscriptFile(path)
    for line in file.new_lines():
        where = f"{path}, line {line.number}: "
        try:
            if line.value is None:
                raise SignalError(line.fault)
            importer.add(signals_of(line.value), where=where)
        except SignalError as error:
            importer.leave_out(f"{where}{error}; it is left out")
        yield line.number
    rest = file.rest()
    if rest.strip():
        try:
            importer.add(decode(rest), where=f"{path}, last line: ")
        except SignalError as error:
            importer.leave_out(f"{path}: its last line is cut off ({error}); it is left out")
